"""`ctrail prune`: remove old output from the disk, for good.

Not here: what is removed, and how (`core.upkeep.prune`).
"""

import argparse
from typing import Final

from ctrail_pipeline.cli.exit_codes import EXIT_OK
from ctrail_pipeline.cli.options import Command

_EPILOG = """\
Only whole hours before the date are removed, by the time of the events. No sync brings them back:
the ledger still knows which log files are done and which events there were. To have them again,
name a new events_dir and state_db. Quarantine stays.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--before", metavar="DATE", required=True, help="a date or time (UTC), such as 2026-01-31"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _run(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.config.times import parse_time
    from ctrail_pipeline.core.upkeep.prune import prune
    from ctrail_pipeline.reports.units import size

    before = parse_time("--before", options.before)
    pruned = prune(load_config().settings, before, dry_run=options.dry_run)
    verb = "would be removed" if options.dry_run else "removed"
    print(
        f"{verb}: {pruned.files:,} output files, {pruned.lines:,} events, {size(pruned.bytes)}, of"
        f" hours before {before:%Y-%m-%d %H:00} UTC"
    )
    return EXIT_OK


COMMAND: Final = Command(
    name="prune",
    summary="remove old output, for good",
    description="Removes the events of hours before a date from the disk and notes the removal in\n"
    "the ledger.",
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
