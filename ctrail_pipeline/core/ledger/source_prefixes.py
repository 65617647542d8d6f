"""The rows of source prefixes: their ids, totals and coverage, and when they were last listed.

Functions over a `Ledger`. A source prefix gets its id when it is seen first, and keeps it for ever.
What coverage means, and how ranges are merged, is in `core.keys.coverage`.
"""

from collections.abc import Iterable, Mapping, Sequence

from ctrail_pipeline.core.keys.coverage import Range, merged, uncovered
from ctrail_pipeline.core.keys.log_file_key import LISTING_RULE
from ctrail_pipeline.core.keys.minutes import Minute
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix

from .bulk import rows_of_keys
from .ledger import Ledger
from .rows import SourceTotals


def source_ids(ledger: Ledger) -> dict[SourcePrefix, int]:
    """Return the ids of all source prefixes that were ever seen."""
    return {
        SourcePrefix(*values): id_
        for id_, *values in ledger.rows(
            "SELECT id, bucket, prefix, organization, account, region, kind FROM source_prefix"
        )
    }


def register_sources(ledger: Ledger, sources: Sequence[SourcePrefix]) -> dict[SourcePrefix, int]:
    """Return the ids of source prefixes; those that were not seen before get one."""
    known = source_ids(ledger)
    missing = [source for source in sources if source not in known]
    if missing:
        with ledger.transaction():
            ledger.execute_many(
                "INSERT INTO source_prefix (bucket, prefix, organization, account, region, kind)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [
                    (s.bucket, s.prefix, s.organization, s.account, s.region, s.kind)
                    for s in missing
                ],
            )
        known = source_ids(ledger)
    return {source: known[source] for source in sources}


def source_totals(ledger: Ledger) -> dict[int, SourceTotals]:
    """Return the totals of every source prefix, by id."""
    return {
        id_: SourceTotals(*values)
        for id_, *values in ledger.rows(
            "SELECT id, log_files, events, first_event, last_event, reported_at FROM source_prefix"
        )
    }


def note_reported(ledger: Ledger, source_ids: Iterable[int], at: int) -> None:
    """Note that Dagster was told of new events of these source prefixes."""
    with ledger.transaction():
        ledger.execute_many(
            "UPDATE source_prefix SET reported_at = ? WHERE id = ?",
            [(at, source_id) for source_id in source_ids],
        )


def covered_ranges(ledger: Ledger) -> dict[int, list[Range]]:
    """Return the ranges of every source prefix that are covered by today's listing rule, in order.

    What was listed by an older rule only counts as uncovered: see `formerly_covered`.
    """
    return _ranges_by_source(ledger, "listing_rule = ?")


def formerly_covered(ledger: Ledger) -> dict[int, list[Range]]:
    """Return the ranges that only an older listing rule covered: not all is listed again yet."""
    return _ranges_by_source(ledger, "listing_rule < ?")


def _ranges_by_source(ledger: Ledger, condition: str) -> dict[int, list[Range]]:
    ranges: dict[int, list[Range]] = {}
    for id_, start, end in ledger.rows(
        "SELECT source_prefix, start_minute, end_minute FROM coverage"
        f" WHERE {condition} ORDER BY 1, 2",
        LISTING_RULE,
    ):
        ranges.setdefault(id_, []).append(Range(Minute(start), Minute(end)))
    return ranges


def cover(ledger: Ledger, added: Mapping[int, Iterable[Range]]) -> None:
    """Add ranges of key time to the coverage of source prefixes. Inside a transaction.

    A range of an older listing rule is forgotten once all of it is covered by today's.
    """
    present: dict[int, list[tuple[int, Range]]] = {}
    for id_, rule, start, end in rows_of_keys(
        ledger,
        "c.source_prefix, c.listing_rule, c.start_minute, c.end_minute",
        "coverage c WHERE c.source_prefix = k.column1 ORDER BY 1, 2, 3",
        [(source_id,) for source_id in added],
    ):
        present.setdefault(id_, []).append((rule, Range(Minute(start), Minute(end))))
    old_rows, new_rows = [], []
    for source_id, ranges in added.items():
        by_rule = present.get(source_id, [])
        old = [item for rule, item in by_rule if rule == LISTING_RULE]
        new = merged([*old, *ranges])
        if new == old:
            continue
        old_rows += [
            (source_id, rule, item.start)
            for rule, item in by_rule
            if (item not in new if rule == LISTING_RULE else not uncovered(item, new))
        ]
        new_rows += [
            (source_id, LISTING_RULE, item.start, item.end) for item in new if item not in old
        ]
    ledger.execute_many(
        "DELETE FROM coverage WHERE source_prefix = ? AND listing_rule = ? AND start_minute = ?",
        old_rows,
    )
    ledger.execute_many(
        "INSERT INTO coverage (source_prefix, listing_rule, start_minute, end_minute)"
        " VALUES (?, ?, ?, ?)",
        new_rows,
    )


def deep_listed_at(ledger: Ledger) -> dict[int, int]:
    """Return when each source prefix was last listed deeply (seconds since 1970; 0: never)."""
    return dict(ledger.rows("SELECT id, deep_listed_at FROM source_prefix"))


def listed_at(ledger: Ledger) -> dict[int, int]:
    """Return when each source prefix of a trail with a queue was last listed (0: never)."""
    return dict(ledger.rows("SELECT id, listed_at FROM source_prefix"))


def note_listings(ledger: Ledger, source_ids: Iterable[int], at: int) -> None:
    """Note that listings behind the cursor are complete. Inside a transaction."""
    ledger.execute_many(
        "UPDATE source_prefix SET listed_at = ? WHERE id = ?",
        [(at, source_id) for source_id in source_ids],
    )


def note_missed(ledger: Ledger, missed: Mapping[int, int], at: int) -> None:
    """Add log files that were found by listing, not by notification. Inside a transaction."""
    ledger.execute_many(
        "UPDATE source_prefix SET missed = missed + ?, missed_at = ? WHERE id = ?",
        [(log_files, at, source_id) for source_id, log_files in missed.items()],
    )


def missed_by_source(ledger: Ledger) -> dict[int, tuple[int, int]]:
    """Return how many log files no notification named, and when the last of them was found."""
    return {
        id_: (missed, at)
        for id_, missed, at in ledger.rows(
            "SELECT id, missed, missed_at FROM source_prefix WHERE missed > 0"
        )
    }


def note_deep_listings(ledger: Ledger, source_ids: Iterable[int], at: int) -> None:
    """Note that deep listings of source prefixes are complete. Inside a transaction."""
    ledger.execute_many(
        "UPDATE source_prefix SET deep_listed_at = ? WHERE id = ?",
        [(at, source_id) for source_id in source_ids],
    )
