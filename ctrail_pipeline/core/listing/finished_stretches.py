"""What the ledger notes of stretches of key time that are done: coverage, and what is left aside.

Both are noted in one transaction, so that nothing which is covered is forgotten. Not here: when a
stretch is done (`sources.Stretch`).
"""

from collections.abc import Iterable
from itertools import groupby

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.left_aside import replace_left_aside
from ctrail_pipeline.core.ledger.source_prefixes import cover

from .sources import Stretch


def note_finished(ledger: Ledger, finished: Iterable[Stretch]) -> None:
    """Note stretches that are wholly listed and settled. Inside a transaction."""
    by_source = sorted(finished, key=lambda stretch: stretch.source.id)
    for source_id, group in groupby(by_source, key=lambda stretch: stretch.source.id):
        stretches = list(group)
        cover(ledger, source_id, [stretch.covers for stretch in stretches])
        replace_left_aside(
            ledger,
            source_id,
            [
                (stretch.folders, stretch.left_aside)
                for stretch in stretches
                if stretch.folders is not None
            ],
        )
