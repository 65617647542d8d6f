"""What reports ask of the ledger: how much of everything there is, and how much is not done yet.

Functions over a `Ledger`, for `ctrail status`, the summary of a run and Dagster's asset checks.
They decide nothing, and change nothing.
"""

import json
from collections.abc import Iterable
from typing import Final, NamedTuple

from ctrail_pipeline.core.output_files import Kind

from .indexed_conditions import IS_NOT_COMMITTED, IS_REMARKABLE
from .ledger import Ledger
from .rows import LogFileState, OutputSize, Pruned

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
    """What is wrong with what a trail's log files hold."""

    quarantined: int
    """Records and rests of log files that are in quarantine."""
    conflicts: int
    """Events that share their eventID with another event, but not their bytes."""
    new_quarantined: int
    new_conflicts: int


def read_health(ledger: Ledger, source_ids: Iterable[int], since: int) -> Health:
    """Return what is wrong with what log files hold; `since` (seconds since 1970): what is new."""
    ids = json.dumps(list(source_ids))
    remarkable = ledger.row(
        "SELECT coalesce(sum(quarantined), 0), coalesce(sum(conflicts), 0),"
        " coalesce(sum(quarantined) FILTER (WHERE batch > old), 0),"
        " coalesce(sum(conflicts) FILTER (WHERE batch > old), 0)"
        " FROM log_file,"
        " (SELECT coalesce(max(id), 0) AS old FROM batch WHERE committed_at < ?) AS earlier"
        f" WHERE {IS_REMARKABLE} AND +source_prefix IN ({ledger.numbers})",
        since,
        ids,
    )
    return Health(*remarkable)


def open_by_source(ledger: Ledger) -> dict[int, dict[LogFileState, int]]:
    """Return how many log files are neither committed nor accepted, by source prefix and state."""
    found: dict[int, dict[LogFileState, int]] = {}
    for id_, state, count in ledger.rows(
        "SELECT source_prefix, state, count(*) FROM log_file"
        f" WHERE {IS_NOT_COMMITTED} AND accepted = 0 GROUP BY 1, 2"
    ):
        found.setdefault(id_, {})[LogFileState(state)] = count
    return found


def quarantined_by_source(ledger: Ledger) -> dict[int, int]:
    """Return how many records of each source prefix are in quarantine."""
    return dict(
        ledger.rows(
            "SELECT +source_prefix, sum(quarantined) FROM log_file"
            f" WHERE {IS_REMARKABLE} GROUP BY +source_prefix"
        )
    )


def output_sizes(ledger: Ledger, kind: Kind) -> list[OutputSize]:
    """Return the size of the output, by account and region; of quarantine, in all."""
    # A merged file that is lost stands for the files that it is to be merged from once more.
    is_kept = f"(f.pruned = {Pruned.NO:d} OR f.pruned = {Pruned.LOST:d} AND f.merged = 1)"
    is_pruned = f"f.pruned IN ({Pruned.DECIDED:d}, {Pruned.REMOVED:d})"
    return [
        OutputSize(*row)
        for row in ledger.rows(
            f"SELECT {_SIZED_FOLDER[kind]},"
            f" count(*) FILTER (WHERE {is_kept}),"
            f" coalesce(sum(f.lines) FILTER (WHERE {is_kept}), 0),"
            f" coalesce(sum(f.bytes) FILTER (WHERE {is_kept}), 0),"
            f" count(*) FILTER (WHERE {is_pruned}) FROM output_partition p"
            " JOIN output_file f ON f.output_partition = p.id WHERE p.kind = ?"
            # Files that a compaction has merged count as the merged file.
            " AND f.replaced_by IS NULL GROUP BY 1 ORDER BY 1",
            kind,
        )
    ]
