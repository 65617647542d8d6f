"""`ctrail manifest`: write the list of output files for a case file.

Not here: what stands in the list (`core.audit.manifest`).
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from ctrail_pipeline.cli.exit_codes import EXIT_OK
from ctrail_pipeline.cli.options import Command, add_events, events_of

_DESCRIPTION = """\
Writes a list (JSON Lines) of output files with their hashes, counts and the log
files that their lines came from, as the ledger has them at one moment.
"""
_EPILOG = """\
  ctrail manifest --account 111122223333 --start 2026-01-13 --end 2026-01-14 --output case-17.jsonl
The last line has the SHA-256 over all bytes before it. Sign it, or write it down elsewhere, to
detect any change of the list. To check the list: head -n -1 case-17.jsonl | sha256sum
The hashes are those of the files as they were written. ctrail verify --deep compares them.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_events(parser, "which output files, by whole hours")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="a new file to write; by default the standard output",
    )


def _run(options: argparse.Namespace) -> int:
    """Write the manifest to a new private file, or to the standard output."""
    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.core.audit.manifest import manifest
    from ctrail_pipeline.reports.private_files import write_private

    lines = manifest(load_config().settings, events_of(options))
    if options.output is not None:
        write_private(options.output, lines, replace=False)
        return EXIT_OK
    for line in lines:
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    return EXIT_OK


COMMAND: Final = Command(
    name="manifest",
    summary="a list of output files, hashes and sources for a case file",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
