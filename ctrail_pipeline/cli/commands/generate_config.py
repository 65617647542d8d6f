"""`ctrail generate-config`: write config.json from the trails that CloudTrail describes.

Not here: what CloudTrail is asked, and what the file says (`config.generate`).
"""

import argparse
import os
from pathlib import Path
from typing import Final

from ctrail_pipeline.cli.exit_codes import EXIT_FAILED, EXIT_OK
from ctrail_pipeline.cli.options import Command, Repeatable

_DESCRIPTION = """\
Asks CloudTrail in every region for its trails, and writes a configuration file. Needs
the permission cloudtrail:DescribeTrails.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", nargs="?", type=Path, help="by default what CTRAIL_CONFIG names, or config.json"
    )
    parser.add_argument("--force", action="store_true", help="replace a file that is there")
    parser.add_argument("--profile", metavar="NAME", help="a profile of ~/.aws/config")
    parser.add_argument(
        "--region",
        action=Repeatable,
        metavar="REGION",
        default=(),
        help="ask only this region; may be given several times",
    )


def _run(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.generate import generate_config

    path = options.path or Path(os.environ.get("CTRAIL_CONFIG") or "config.json")
    trails, silent_regions = generate_config(
        path, force=options.force, profile=options.profile, regions=options.region
    )
    for trail in trails:
        print(trail)
    print(f"{path}: written. See what it would bring in and cost: ctrail sync --dry-run")
    return EXIT_FAILED if silent_regions else EXIT_OK


COMMAND: Final = Command(
    name="generate-config",
    summary="write config.json from the trails of your account",
    description=_DESCRIPTION,
    add_options=_add_options,
    run=_run,
)
