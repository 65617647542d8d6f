"""`ctrail accept`: settle a log file that stands open and can never be brought in.

Not here: what may be accepted, and how (`core.upkeep.accept`).
"""

import argparse
from typing import Final

from ctrail_pipeline.cli.exit_codes import EXIT_OK
from ctrail_pipeline.cli.options import Command

_DESCRIPTION = """\
Settles log files that stand open and are lost for good: failed, damaged or gone.
They fail no sync any more and are not tried again, but they never count as proved.
"""
_EPILOG = """\
First try the rest: restore a sound version in the bucket, or give the missing permission.
A new version of a log file is brought in as always. It ends the acceptance.

  ctrail accept 's3://my-logs/AWSLogs/1111/CloudTrail/eu-west-1/2026/01/13/x.json.gz' \\
    --reason 'cut off on upload; no other copy, see ticket 17'
  ctrail accept 's3://my-logs/*/2024/*' --damaged-before 2025-01-01 --reason 'bad disk' --dry-run
  ctrail accept --list
  ctrail accept --undo 's3://my-logs/*/2024/*'
Addresses are those that messages print. Wildcards stand for any text, also for slashes.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "address",
        nargs="*",
        metavar="s3://BUCKET/KEY",
        help="a log file as messages name it; * and ? are wildcards",
    )
    parser.add_argument("--reason", metavar="TEXT", help="why it is settled: one line")
    parser.add_argument(
        "--damaged-before",
        metavar="DATE",
        help="only damaged log files of days before this one, by their keys",
    )
    parser.add_argument(
        "--by", metavar="NAME", help="who settles it; by default the system's user and host"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="only show what is accepted")
    what.add_argument(
        "--undo", action="store_true", help="take it back: the next sync tries these log files"
    )
    what.add_argument("--dry-run", action="store_true", help="only say what would be accepted")


def _run(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.config.times import parse_time
    from ctrail_pipeline.core.exceptions import ConfigurationError
    from ctrail_pipeline.core.untrusted_text import printable
    from ctrail_pipeline.core.upkeep.accept import accept, accepted, undo
    from ctrail_pipeline.core.upkeep.accept_choice import Chosen
    from ctrail_pipeline.reports.accept import settled_lines

    before = options.damaged_before
    chosen = Chosen(
        options.address, None if before is None else parse_time("--damaged-before", before)
    )
    settings = load_config().settings
    if options.list:
        for address, acceptance in accepted(settings, chosen):
            print(printable(f"{address}: {acceptance}"))
        return EXIT_OK
    if options.undo:
        settled = undo(settings, chosen, options.reason, options.by)
    elif options.reason is None:
        raise ConfigurationError("accept: give a --reason")
    else:
        settled = accept(settings, chosen, options.reason, options.by, dry_run=options.dry_run)
    lines = settled_lines(settled, undone=options.undo, dry_run=options.dry_run)
    print("\n".join(lines))
    return EXIT_OK


COMMAND: Final = Command(
    name="accept",
    summary="settle a log file that is lost for good",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
