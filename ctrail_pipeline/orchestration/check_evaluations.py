"""Evaluations of asset checks: how one is made, and when it is worth a note in Dagster's database.

Not here: which checks there are and what they say (`checks`, `complete_check`).
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckSeverity,
    AssetKey,
    DagsterInstance,
    EventLogEntry,
    MetadataValue,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord


def worth_noting(
    instance: DagsterInstance, found: Sequence[AssetCheckEvaluation], interval: float
) -> Iterator[AssetCheckEvaluation]:
    """Those that say something else than the last of their kind, or the last is `interval` old.

    An evaluation costs Dagster's database about a kilobyte, and a sync may run every few minutes.
    One from before the asset's last materialization is no longer shown: it is noted again, too.
    """
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [one.asset_check_key for one in found]
    )
    materialized = _last_materializations(instance, {one.asset_key for one in found})
    for one in found:
        record = records.get(one.asset_check_key)
        last = _evaluation_of(record)
        said = last is not None and (last.passed, last.severity, last.description) == (
            one.passed,
            one.severity,
            one.description,
        )
        if (
            record is None
            or not said
            or time.time() - record.create_timestamp >= interval
            or _is_hidden(record, materialized.get(one.asset_key))
        ):
            yield one


def last_noted(instance: DagsterInstance, key: AssetKey, name: str) -> list[AssetCheckEvaluation]:
    """What was noted last of a check that this run has nothing new to say of, if anything was."""
    check = AssetCheckKey(key, name)
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])
    last = _evaluation_of(records.get(check))
    if last is None:
        return []
    return [
        evaluation(
            key,
            name,
            passed=last.passed,
            severity=last.severity,
            description=last.description or "",
            metadata=last.metadata,
        )
    ]


def _evaluation_of(record: AssetCheckExecutionRecord | None) -> AssetCheckEvaluation | None:
    """The last evaluation; None if what is there is a plan, of a run at work or ended before it."""
    found = record.evaluation if record is not None else None
    return found if isinstance(found, AssetCheckEvaluation) else None


def _last_materializations(
    instance: DagsterInstance, keys: Iterable[AssetKey]
) -> dict[AssetKey, EventLogEntry]:
    return {
        record.asset_entry.asset_key: record.asset_entry.last_materialization
        for record in instance.get_asset_records(list(keys))
        if record.asset_entry.last_materialization is not None
    }


def _is_hidden(record: AssetCheckExecutionRecord, materialized: EventLogEntry | None) -> bool:
    """Whether Dagster shows "not evaluated", since the asset was materialized later."""
    return (
        materialized is not None
        and materialized.run_id != record.run_id
        and materialized.timestamp >= record.create_timestamp
    )


def evaluation(
    key: AssetKey,
    name: str,
    *,
    passed: bool,
    description: str,
    severity: AssetCheckSeverity = AssetCheckSeverity.WARN,
    metadata: Mapping[str, MetadataValue] | None = None,
) -> AssetCheckEvaluation:
    """What a check says of an asset."""
    return AssetCheckEvaluation(
        asset_key=key,
        check_name=name,
        passed=passed,
        severity=severity,
        description=description,
        metadata=metadata,
    )


def error_if(is_error: bool) -> AssetCheckSeverity:
    """An error, or a warning."""
    return AssetCheckSeverity.ERROR if is_error else AssetCheckSeverity.WARN
