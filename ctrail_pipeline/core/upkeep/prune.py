"""Pruning (`ctrail prune`): removing old output on purpose, so that nothing brings it back.

The ledger decides first: in one transaction the rows of the files say that the files are to be
removed. Then they are removed. If a run is killed in between, the next run removes the rest. The
ledger keeps the log files and the identities of their events. So no listing, no copy of an event
and no log file that is written again can bring the events back. Quarantine is not touched.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from ctrail_pipeline.core.batch.commit_outcome import note_generation
from ctrail_pipeline.core.batch.recovery import finish_pruning
from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.queries_prune import decide_pruning, prunable
from ctrail_pipeline.core.ledger.rows import OutputSize
from ctrail_pipeline.core.settings import Settings

from .opened_output import opened_output

_DECIDED_AT_ONCE: Final = 1_000


def prune(
    settings: Settings,
    before: datetime,
    *,
    dry_run: bool = False,
    observe: Callable[[str], None] = lambda _step: None,
) -> OutputSize:
    """Remove the output of all whole hours before a moment; return what was removed.

    A dry run removes nothing, and returns what would be removed. Output that a run at work has not
    published yet stays; so does what was published a moment ago, where `Output.late_copy_seconds`
    says so. `observe` is told each step: decided, marked, removed. Raises LedgerError or
    OutputError; ConfigurationError if there is no ledger.
    """
    if not ledger_exists(settings.ledger):
        raise ConfigurationError(f"{settings.ledger}: there is no ledger, so nothing to prune")
    hour = before.strftime("%Y/%m/%d/%H")
    with opened_output(settings, observe=observe, recovers=not dry_run) as (ledger, output):
        found = prunable(ledger, hour, output.late_copy_seconds)
        if dry_run:
            return found
        reached = 0
        while True:
            with ledger.transaction():
                decided, reached = decide_pruning(
                    ledger, hour, _DECIDED_AT_ONCE, reached, output.late_copy_seconds
                )
            if not decided:
                return found
            observe("decided")
            # Written before any file goes: a copy of the ledger that still expects it is refused.
            note_generation(ledger, output)
            observe("marked")
            finish_pruning(ledger, output, observe)
