"""`ctrail sample`: write sample buckets to try the program with.

Not here: what they hold (`ctrail_pipeline.sample`).
"""

import argparse
from pathlib import Path
from typing import Final

from ctrail_pipeline.cli.options import Command

_DESCRIPTION = """\
Writes a folder with two buckets of an invented organization. They are always the same.
Without a config.json, `ctrail sync` brings them in.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("sample"), help="by default sample"
    )
    parser.add_argument(
        "--log-files", type=int, default=1500, metavar="N", help="how many log files (1500)"
    )
    parser.add_argument("--force", action="store_true", help="replace a folder that is there")


def _run(options: argparse.Namespace) -> int:
    from ctrail_pipeline.sample.bucket import main as write_sample

    arguments = [str(options.folder), "--log-files", str(options.log_files)]
    return write_sample(arguments + (["--force"] if options.force else []))


COMMAND: Final = Command(
    name="sample",
    summary="write sample buckets to try ctrail with",
    description=_DESCRIPTION,
    add_options=_add_options,
    run=_run,
)
