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
    instance: DagsterInstance, evaluations: Sequence[AssetCheckEvaluation], interval: float
) -> Iterator[AssetCheckEvaluation]:
    """Yield the evaluations that differ from the last noted one, or if that is `interval` s old.

    An evaluation costs Dagster's database about a kilobyte, and a sync may run every few minutes.
    Dagster hides an evaluation from before the asset's last materialization: such an evaluation is
    noted again, too.
    """
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [evaluation.asset_check_key for evaluation in evaluations]
    )
    materialized = _last_materializations(
        instance, {evaluation.asset_key for evaluation in evaluations}
    )
    for evaluation in evaluations:
        record = records.get(evaluation.asset_check_key)
        last = _evaluation_of(record)
        is_same = last is not None and (last.passed, last.severity, last.description) == (
            evaluation.passed,
            evaluation.severity,
            evaluation.description,
        )
        if (
            record is None
            or not is_same
            or time.time() - record.create_timestamp >= interval
            or _is_hidden(record, materialized.get(evaluation.asset_key))
        ):
            yield evaluation


def last_noted(instance: DagsterInstance, key: AssetKey, name: str) -> list[AssetCheckEvaluation]:
    """Return the evaluation of a check that was noted last, as a list; empty if there is none.

    A run that has nothing new to say of a check repeats it.
    """
    check = AssetCheckKey(key, name)
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key([check])
    last = _evaluation_of(records.get(check))
    if last is None:
        return []
    return [
        make_evaluation(
            key,
            name,
            passed=last.passed,
            severity=last.severity,
            description=last.description or "",
            metadata=last.metadata,
        )
    ]


def _evaluation_of(record: AssetCheckExecutionRecord | None) -> AssetCheckEvaluation | None:
    """Return the evaluation of a record.

    None if the record holds only a plan: its run is at work, or ended before the check.
    """
    noted = record.evaluation if record is not None else None
    return noted if isinstance(noted, AssetCheckEvaluation) else None


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


def make_evaluation(
    key: AssetKey,
    name: str,
    *,
    passed: bool,
    description: str,
    severity: AssetCheckSeverity = AssetCheckSeverity.WARN,
    metadata: Mapping[str, MetadataValue] | None = None,
) -> AssetCheckEvaluation:
    """Return what a check says of an asset."""
    return AssetCheckEvaluation(
        asset_key=key,
        check_name=name,
        passed=passed,
        severity=severity,
        description=description,
        metadata=metadata,
    )


def error_if(is_error: bool) -> AssetCheckSeverity:
    """Return the severity of an error, or of a warning."""
    return AssetCheckSeverity.ERROR if is_error else AssetCheckSeverity.WARN
