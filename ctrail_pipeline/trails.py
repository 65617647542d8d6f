"""Trails as Dagster sees them: the asset key of each.

Not here: where a trail's log files lie (`config`) and how they are brought in (`core`).
"""

import re
from collections.abc import Iterable

from dagster import AssetKey

from .core.exceptions import ConfigurationError
from .core.settings import Trail

ASSET_PREFIX = "cloudtrail"


def asset_keys(trails: Iterable[Trail]) -> dict[str, AssetKey]:
    """The asset key of each trail by its name: `cloudtrail/<trail>`.

    Dagster allows letters, digits and underscores only; other characters become underscores. Raises
    ConfigurationError if two trails would then share a key.
    """
    keys: dict[str, AssetKey] = {}
    for trail in trails:
        key = AssetKey([ASSET_PREFIX, re.sub(r"[^A-Za-z0-9_]", "_", trail.name)])
        twin = next((name for name, other in keys.items() if other == key), None)
        if twin is not None:
            raise ConfigurationError(
                f"trails: {twin!r} and {trail.name!r} would both be the asset"
                f" {key.to_user_string()}: rename one of them"
            )
        keys[trail.name] = key
    return keys
