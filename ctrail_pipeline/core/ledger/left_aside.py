"""The rows of what was seen and is not brought in: tallies that are replaced by newer listings.

Functions over a `Ledger`. Nothing is written where nothing changed. What counts as left aside is in
`core.keys.left_aside`.
"""

from collections.abc import Iterable, Mapping

from ctrail_pipeline.core.keys.left_aside import (
    LeftAside,
    ListedFolders,
    Outside,
    Tally,
    outside_listed_again,
    replaced,
)

from .bulk import rows_of_keys
from .ledger import Ledger
from .portable_sql import upsert


def left_aside_by_source(ledger: Ledger) -> dict[int, Tally]:
    """Return the tallies of every source prefix, by folder."""
    tallies: dict[int, Tally] = {}
    for id_, folder, objects, example in ledger.rows(
        "SELECT source_prefix, folder, objects, example FROM left_aside ORDER BY 1, 2"
    ):
        tallies.setdefault(id_, {})[folder] = LeftAside(objects, example)
    return tallies


def replace_left_aside(
    ledger: Ledger, listed: Mapping[int, Iterable[tuple[ListedFolders, Tally]]]
) -> None:
    """Replace the tallies of folders that were listed again, by source prefix.

    Inside a transaction.
    """
    tallies: dict[int, Tally] = {}
    for id_, folder, objects, example in rows_of_keys(
        ledger,
        "l.source_prefix, l.folder, l.objects, l.example",
        "left_aside l WHERE l.source_prefix = k.column1",
        [(source_id,) for source_id in listed],
    ):
        tallies.setdefault(id_, {})[folder] = LeftAside(objects, example)
    gone, changed = [], []
    for source_id, listings in listed.items():
        old = tallies.get(source_id, {})
        new = old
        for folders, tally in listings:
            if new or tally:
                new = replaced(new, folders, tally)
        gone += [(source_id, folder) for folder in old.keys() - new.keys()]
        changed += [
            (source_id, folder, *tally) for folder, tally in new.items() if old.get(folder) != tally
        ]
    ledger.execute_many("DELETE FROM left_aside WHERE source_prefix = ? AND folder = ?", gone)
    ledger.execute_many(
        upsert("left_aside", "source_prefix, folder, objects, example", "source_prefix, folder"),
        changed,
    )


def left_aside_outside(ledger: Ledger, bucket: str, prefix: str) -> Outside:
    """Return what is left aside under a trail's prefix outside of all source prefixes."""
    outside: dict[str, Tally] = {}
    for folder, why, objects, example in ledger.rows(
        "SELECT folder, why, objects, example FROM left_aside_outside"
        " WHERE bucket = ? AND prefix = ? ORDER BY folder, why",
        bucket,
        prefix,
    ):
        outside.setdefault(folder, {})[why] = LeftAside(objects, example)
    return outside


def replace_left_aside_outside(
    ledger: Ledger, bucket: str, prefix: str, listed: Outside, unlisted: Iterable[str]
) -> None:
    """Replace what is left aside under a trail's prefix outside of all source prefixes.

    `listed` and `unlisted` are those of `outside_listed_again`.
    """
    old = left_aside_outside(ledger, bucket, prefix)
    new = outside_listed_again(old, listed, unlisted)
    if new == old:
        return
    with ledger.transaction():
        ledger.execute(
            "DELETE FROM left_aside_outside WHERE bucket = ? AND prefix = ?", bucket, prefix
        )
        ledger.execute_many(
            "INSERT INTO left_aside_outside (bucket, prefix, folder, why, objects, example)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [
                (bucket, prefix, folder, why, *tally)
                for folder, tallies in new.items()
                for why, tally in tallies.items()
            ],
        )
