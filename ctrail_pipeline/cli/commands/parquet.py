"""`ctrail parquet`: Parquet for the events that came before Parquet was switched on.

Not here: which events these are, and how they become rows (`core.upkeep.parquet_fill`).
"""

import argparse
from typing import Final

from ctrail_pipeline.cli.exit_codes import EXIT_FAILED, EXIT_OK
from ctrail_pipeline.cli.options import Command, add_json

_EPILOG = """\
The rows are made of the JSONL, which is compared with what was written. No log file is fetched.
Events that are in Parquet already are left alone. It is safe to stop at any moment and to run
beside syncs: the next call goes on. Once is enough: as long as output_formats names parquet, each
sync writes Parquet itself.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be written")
    add_json(parser, "the outcome as a line of JSON")


def _run(options: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.core.upkeep.parquet_fill import fill_parquet
    from ctrail_pipeline.reports.sentences import filled_line

    filled = fill_parquet(load_config().settings, dry_run=options.dry_run)
    is_well = not filled.problems
    if options.as_json:
        print(json.dumps({"ok": is_well, "dry_run": options.dry_run, **asdict(filled)}))
    else:
        print(filled_line(filled, dry_run=options.dry_run))
    return EXIT_OK if is_well else EXIT_FAILED


COMMAND: Final = Command(
    name="parquet",
    summary="write Parquet for events that came before it was switched on",
    description="Writes the events that are in the JSONL and not in Parquet as Parquet, too.",
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
