"""What the ledger notes of stretches of key time that are done: coverage, and what is left aside.

Both are noted in one transaction, so that nothing which is covered is forgotten. Not here: when a
stretch is done (`sources.Stretch`).
"""

from collections.abc import Iterable

from ctrail_pipeline.core.keys.coverage import Range
from ctrail_pipeline.core.keys.left_aside import ListedFolders, Tally
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.left_aside import replace_left_aside
from ctrail_pipeline.core.ledger.source_prefixes import cover

from .sources import Stretch


def note_finished(ledger: Ledger, finished: Iterable[Stretch]) -> None:
    """Note stretches that are wholly listed and settled. Inside a transaction."""
    covered: dict[int, list[Range]] = {}
    listed: dict[int, list[tuple[ListedFolders, Tally]]] = {}
    for stretch in finished:
        covered.setdefault(stretch.source.id, []).append(stretch.covers)
        if stretch.folders is not None:
            tally = stretch.folders, stretch.left_aside
            listed.setdefault(stretch.source.id, []).append(tally)
    cover(ledger, covered)
    replace_left_aside(ledger, listed)
