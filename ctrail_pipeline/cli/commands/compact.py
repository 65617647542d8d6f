"""`ctrail compact`: merge the many small files of hours and days that are over.

Not here: which files are merged, and how (`core.upkeep.compaction`).
"""

import argparse
from typing import Final

from ctrail_pipeline.cli.exit_codes import EXIT_FAILED, EXIT_OK
from ctrail_pipeline.cli.options import Command, add_json

_EPILOG = """\
The JSONL files of an hour that ended 26 hours ago or earlier become one file, or as few as
events_per_file allows. The Parquet files of such a day become files of about 128 MB. Lines are
copied byte for byte and compared with what was written. The merged file is there before the old
files are removed: a reader who lists a folder in that moment may see events twice, but never misses
an event. It is safe to stop at any moment and to run beside syncs. Once a day is often enough.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be merged")
    add_json(parser, "the outcome as a line of JSON")


def _run(options: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.core.upkeep.compaction import compact
    from ctrail_pipeline.reports.sentences import compaction_line

    compaction = compact(load_config().settings, dry_run=options.dry_run)
    is_well = not compaction.problems
    if options.as_json:
        print(json.dumps({"ok": is_well, "dry_run": options.dry_run, **asdict(compaction)}))
    else:
        print(compaction_line(compaction, dry_run=options.dry_run))
    return EXIT_OK if is_well else EXIT_FAILED


COMMAND: Final = Command(
    name="compact",
    summary="merge the small files of hours that are over",
    description="Merges the many small files of hours and days that are over. No event is changed.",
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
