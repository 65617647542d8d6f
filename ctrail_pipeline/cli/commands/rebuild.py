"""`ctrail rebuild`: make a new ledger from the output that lies on disk.

Not here: how a ledger is made from output files (`core.upkeep.rebuild`).
"""

import argparse
import sys
from typing import Final

from ctrail_pipeline.cli.exit_codes import EXIT_FAILED, EXIT_OK
from ctrail_pipeline.cli.options import Command

_EPILOG = """\
Use this if the ledger is lost or damaged and there is no backup. A damaged file is kept beside the
new one, and what a PostgreSQL database held is kept in a file beside events_dir. What only the old
ledger knew is lost:
- which log file each line came from;
- which log files are done: the next sync reads all of them again and adds what is missing;
- what was pruned: set `start` before the next sync, or pruned events come back.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="even if the ledger that is there is sound"
    )


def _run(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.core.upkeep.rebuild import rebuild

    settings = load_config().settings
    rebuilt = rebuild(settings, force=options.force)
    for problem in rebuilt.problems:
        print(problem, file=sys.stderr)
    if rebuilt.problem_count > len(rebuilt.problems):
        print(f"… and {rebuilt.problem_count - len(rebuilt.problems):,} more", file=sys.stderr)
    findings = f"; {rebuilt.doubled:,} lines are there twice" if rebuilt.doubled else ""
    if rebuilt.left_over:
        findings += (
            f"; removed {rebuilt.left_over:,} files that an interrupted compaction left: other"
            " files hold all their lines"
        )
    if rebuilt.parquet_repaired:
        findings += f"; the Parquet of {rebuilt.parquet_repaired:,} dates holds their events again"
    if rebuilt.accepted:
        findings += f"; {rebuilt.accepted:,} log files are accepted if they still are as they were"
    print(
        f"{settings.ledger}: rebuilt from {rebuilt.files:,} files with {rebuilt.events:,} events"
        f" and {rebuilt.quarantined:,} entries of quarantine{findings}. Now run `ctrail sync`: it"
        " reads all log files once more and adds what is missing"
    )
    return EXIT_FAILED if rebuilt.problem_count or rebuilt.doubled else EXIT_OK


COMMAND: Final = Command(
    name="rebuild",
    summary="make a new ledger from the output, if the ledger is lost",
    description="Makes a new ledger from the files in events_dir and quarantine_dir.",
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
