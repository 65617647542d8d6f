"""What reports ask of the ledger: how much of everything there is, and how much stands open.

Functions over a `Ledger`: for `ctrail status`, the summary of a run and Dagster's asset checks.
Nothing is decided by these, and nothing is changed.
"""

import json
from collections.abc import Iterable
from typing import Final, NamedTuple

from ctrail_pipeline.core.output_files import Kind

from .ledger import Ledger
from .rows import LogFileState, OutputSize

_HOUR_FOLDER: Final = "/YYYY/MM/DD/HH"
_DATE_FOLDER: Final = "/date=YYYY-MM-DD"
_SIZED_FOLDER: Final = {
    Kind.EVENTS: f"substr(p.folder, 1, length(p.folder) - {len(_HOUR_FOLDER)})",
    Kind.PARQUET: (
        f"replace(replace(substr(p.folder, 1, length(p.folder) - {len(_DATE_FOLDER)}),"
        " 'account=', ''), 'region=', '')"
    ),
    Kind.QUARANTINE: "''",
}


class Health(NamedTuple):
    """What is wrong with the log files of a trail."""

    open: dict[LogFileState, int]
    """Log files that are neither committed nor just found, by state."""
    quarantined: int
    """Records and rests of log files that are in quarantine."""
    conflicts: int
    """Events that share their eventID with another event, but not their bytes."""
    new_quarantined: int
    new_conflicts: int


def read_health(ledger: Ledger, source_ids: Iterable[int], since: int) -> Health:
    """What is wrong with the log files of some source partitions; `since` says what is new."""
    ids = json.dumps(list(source_ids))
    open_rows = ledger.rows(
        "SELECT state, count(*) FROM log_file WHERE state NOT IN (?, ?)"
        " AND source_partition IN (SELECT value FROM json_each(?)) GROUP BY state",
        LogFileState.COMMITTED,
        LogFileState.FOUND,
        ids,
    )
    remarkable = ledger.row(
        "SELECT coalesce(sum(quarantined), 0), coalesce(sum(conflicts), 0),"
        " coalesce(sum(iif(batch > old, quarantined, 0)), 0),"
        " coalesce(sum(iif(batch > old, conflicts, 0)), 0)"
        " FROM log_file, (SELECT coalesce(max(id), 0) AS old FROM batch WHERE committed_at < ?)"
        " WHERE quarantined + conflicts > 0"
        " AND source_partition IN (SELECT value FROM json_each(?))",
        since,
        ids,
    )
    return Health({LogFileState(state): count for state, count in open_rows}, *remarkable)


def count_by_state(ledger: Ledger) -> dict[LogFileState, int]:
    """How many log files stand open: neither committed nor just found."""
    return {
        LogFileState(state): count
        for state, count in ledger.rows(
            "SELECT state, count(*) FROM log_file WHERE state != 1 AND state != ? GROUP BY state",
            LogFileState.FOUND,
        )
    }


def open_by_source(ledger: Ledger) -> dict[int, dict[LogFileState, int]]:
    """Log files that are not committed, by source partition and state."""
    found: dict[int, dict[LogFileState, int]] = {}
    for id_, state, count in ledger.rows(
        "SELECT source_partition, state, count(*) FROM log_file WHERE state != 1 GROUP BY 1, 2"
    ):
        found.setdefault(id_, {})[LogFileState(state)] = count
    return found


def quarantined_by_source(ledger: Ledger) -> dict[int, int]:
    """How many records of each source partition are in quarantine."""
    return dict(
        ledger.rows(
            "SELECT source_partition, sum(quarantined) FROM log_file"
            " WHERE quarantined + conflicts > 0 GROUP BY 1"
        )
    )


def output_sizes(ledger: Ledger, kind: Kind) -> list[OutputSize]:
    """What there is of the output, by account and region (of quarantine: in all)."""
    return [
        OutputSize(*row)
        for row in ledger.rows(
            f"SELECT {_SIZED_FOLDER[kind]},"
            " sum(f.pruned = 0), sum(f.lines * (f.pruned = 0)), sum(f.bytes * (f.pruned = 0)),"
            " sum(f.pruned != 0) FROM output_partition p"
            " JOIN output_file f ON f.output_partition = p.id WHERE p.kind = ?"
            # What a compaction has merged counts as the merged file.
            " AND f.replaced_by IS NULL GROUP BY 1 ORDER BY 1",
            kind,
        )
    ]
