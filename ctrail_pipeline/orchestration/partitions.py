"""Names of trails in Dagster: asset keys, and the partition set of each asset.

A partition is called `account/region`. Not here: the assets themselves (`assets`).
"""

import re
from collections.abc import Iterable

from dagster import AssetKey, DagsterInstance, DynamicPartitionsDefinition

from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.keys.source_prefix import is_plausible_folder
from ctrail_pipeline.core.settings import Trail

ASSET_PREFIX = "cloudtrail"


def asset_keys(trails: Iterable[Trail]) -> dict[str, AssetKey]:
    """Return the asset key of each trail, by the trail's name: `cloudtrail/<trail>`.

    Dagster allows letters, digits and underscores only; other characters become underscores. Raises
    ConfigurationError if two trails would then share a key.
    """
    keys: dict[str, AssetKey] = {}
    for trail in trails:
        key = AssetKey([ASSET_PREFIX, re.sub(r"[^A-Za-z0-9_]", "_", trail.name)])
        twin = next((name for name, used_key in keys.items() if used_key == key), None)
        if twin is not None:
            raise ConfigurationError(
                f"trails: {twin!r} and {trail.name!r} would both be the asset"
                f" {key.to_user_string()}: rename one of them"
            )
        keys[trail.name] = key
    return keys


def partitions_of(key: AssetKey) -> DynamicPartitionsDefinition:
    """Return the partition set of a trail's asset."""
    return DynamicPartitionsDefinition(name="_".join(key.path))


def register_partitions(instance: DagsterInstance, key: AssetKey, partitions: Iterable[str]) -> int:
    """Tell Dagster of accounts and regions of a trail; returns how many are new.

    Only names that may be a partition key are registered. Discovery reports what else a bucket
    holds.
    """
    unregistered = new_partitions(instance, key, partitions)
    if unregistered:
        instance.add_dynamic_partitions(partitions_of(key).name or "", unregistered)
    return len(unregistered)


def new_partitions(
    instance: DagsterInstance, key: AssetKey, partitions: Iterable[str]
) -> list[str]:
    """Return the accounts and regions of a trail that Dagster does not know yet."""
    registered = set(instance.get_dynamic_partitions(partitions_of(key).name or ""))
    return sorted(set(filter(is_partition_key, partitions)) - registered)


def is_partition_key(text: str) -> bool:
    """Whether a text is an `account/region` that a bucket may hold."""
    account, slash, region = text.partition("/")
    return bool(slash) and is_plausible_folder(account) and is_plausible_folder(region)
