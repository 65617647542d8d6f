"""Ledger and output, opened together for one command and closed when it ends.

Whether the two belong together is checked in `core.matching_ledger`. What an earlier run left
unfinished is recovered (see `recovery`) before the command begins.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from ctrail_pipeline.core.batch.recovery import recover
from ctrail_pipeline.core.claims import at_work
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.matching_ledger import claim_parquet, open_ledger
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.settings import Settings

from .restage import restaging


@contextmanager
def opened_output(
    settings: Settings,
    *,
    observe: Callable[[str], None] = lambda _step: None,
    recovers: bool = True,
    claims_parquet: bool = False,
) -> Iterator[tuple[Ledger, Output]]:
    """Open the ledger and the output that are configured; close both at the end.

    `settings` name all trails: a vanished file is made again of its log files. `observe` is told
    each step of the recovery. A dry run recovers nothing, since it must not change anything.
    Whoever writes Parquet claims its root. Raises LedgerError or OutputError.
    """
    with (
        closing(open_output(settings)) as output,
        closing(open_ledger(settings.ledger, output)) as ledger,
    ):
        if claims_parquet:  # before recovery, which publishes there
            claim_parquet(ledger, output)
        if not recovers:
            yield ledger, output
            return
        with at_work(ledger, output):
            recover(ledger, output, restaging(ledger, output, settings), observe)
            yield ledger, output
