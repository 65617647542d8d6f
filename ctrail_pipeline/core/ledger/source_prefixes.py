"""The rows of source prefixes: their ids, totals and coverage, and when they were last listed.

Functions over a `Ledger`. A source prefix gets its id when it is seen first, and keeps it for ever.
What coverage means, and how ranges are merged, is in `core.keys.coverage`.
"""

from collections.abc import Iterable, Sequence

from ctrail_pipeline.core.keys.coverage import Range, merged
from ctrail_pipeline.core.keys.minutes import Minute
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix

from .ledger import Ledger
from .rows import SourceTotals


def source_ids(ledger: Ledger) -> dict[SourcePrefix, int]:
    """Return the ids of all source prefixes that were ever seen."""
    return {
        SourcePrefix(*values): id_
        for id_, *values in ledger.rows(
            "SELECT id, bucket, prefix, organization, account, region FROM source_partition"
        )
    }


def register_sources(ledger: Ledger, sources: Sequence[SourcePrefix]) -> dict[SourcePrefix, int]:
    """Return the ids of source prefixes; those that were not seen before get one."""
    known = source_ids(ledger)
    missing = [source for source in sources if source not in known]
    if missing:
        with ledger.transaction():
            ledger.execute_many(
                "INSERT OR IGNORE INTO source_partition"
                " (bucket, prefix, organization, account, region) VALUES (?, ?, ?, ?, ?)",
                [(s.bucket, s.prefix, s.organization, s.account, s.region) for s in missing],
            )
        known = source_ids(ledger)
    return {source: known[source] for source in sources}


def source_totals(ledger: Ledger) -> dict[int, SourceTotals]:
    """Return the totals of every source prefix, by id."""
    return {
        id_: SourceTotals(*values)
        for id_, *values in ledger.rows(
            "SELECT id, log_files, events, first_event, last_event, reported_at"
            " FROM source_partition"
        )
    }


def note_reported(ledger: Ledger, source_ids: Iterable[int], at: int) -> None:
    """Note that Dagster was told of new events of these source prefixes."""
    with ledger.transaction():
        ledger.execute_many(
            "UPDATE source_partition SET reported_at = ? WHERE id = ?",
            [(at, source_id) for source_id in source_ids],
        )


def covered_ranges(ledger: Ledger) -> dict[int, list[Range]]:
    """Return the covered ranges of every source prefix, in order."""
    ranges: dict[int, list[Range]] = {}
    for id_, start, end in ledger.rows(
        "SELECT source_partition, start_minute, end_minute FROM coverage ORDER BY 1, 2"
    ):
        ranges.setdefault(id_, []).append(Range(Minute(start), Minute(end)))
    return ranges


def cover(ledger: Ledger, source_id: int, ranges: Iterable[Range]) -> None:
    """Add ranges of key time to the coverage of a source prefix. Inside a transaction."""
    old = [
        Range(Minute(start), Minute(end))
        for start, end in ledger.rows(
            "SELECT start_minute, end_minute FROM coverage WHERE source_partition = ?",
            source_id,
        )
    ]
    new = merged([*old, *ranges])
    if new != old:
        ledger.execute("DELETE FROM coverage WHERE source_partition = ?", source_id)
        ledger.execute_many(
            "INSERT INTO coverage (source_partition, start_minute, end_minute) VALUES (?, ?, ?)",
            [(source_id, item.start, item.end) for item in new],
        )


def deep_listed_at(ledger: Ledger) -> dict[int, int]:
    """Return when each source prefix was last listed deeply (seconds since 1970; 0: never)."""
    return dict(ledger.rows("SELECT id, deep_listed_at FROM source_partition"))


def note_deep_listing(ledger: Ledger, source_id: int, at: int) -> None:
    """Note that a deep listing of this source prefix is complete. Inside a transaction."""
    ledger.execute("UPDATE source_partition SET deep_listed_at = ? WHERE id = ?", at, source_id)
