"""`ctrail verify`: whether everything is here, as it was written; on the screen, as JSON or HTML.

Not here: what is compared (`core.audit`), and the words and the page (`reports`).
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from ctrail_pipeline.cli.exit_codes import EXIT_FAILED, EXIT_OK
from ctrail_pipeline.cli.options import Command, add_selection, selection_of

_DESCRIPTION = """\
Lists the buckets and compares them with the ledger by account, region and day. Compares
the ledger with the output on disk. Says what is missing, failed, damaged or altered.
"""
_EPILOG = """\
Days are UTC, by the time in the keys of log files. A window is widened to whole days. The next sync
fetches log files that are missing. Log files of the last hour do not count as missing.
Exit codes: 0 all is complete; 1 something is missing, failed, damaged, altered, or was not listed.

  ctrail verify --since 7d                      the last week's log files and events
  ctrail verify --deep --html report.html       every byte of the output, and a page with a calendar
  ctrail sync && ctrail verify --json > verify.json
A LIST request shows 1,000 log files (a million log files: $0.005). --deep reads all output.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_selection(parser, "what to compare")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--deep", action="store_true", help="read every output file: its SHA-256 and its lines"
    )
    how.add_argument("--json", dest="as_json", action="store_true", help="as one JSON object")
    how.add_argument(
        "--html", type=Path, metavar="FILE", help="also write a page with a calendar of days"
    )


def _run(options: argparse.Namespace) -> int:
    import json

    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.core.audit.verify import verify
    from ctrail_pipeline.reports.private_files import write_private
    from ctrail_pipeline.reports.verify_html import as_html
    from ctrail_pipeline.reports.verify_json import as_json
    from ctrail_pipeline.reports.verify_table import as_table
    from ctrail_pipeline.reports.verify_text import (
        finding_lines,
        notes,
        output_line,
        summary_line,
    )

    settings = load_config().settings
    report = verify(settings, selection_of(options), deep=options.deep)
    if options.html is not None:
        write_private(options.html, as_html(report), replace=True)
    if options.as_json:
        print(json.dumps(as_json(report)))
    else:
        from rich.console import Console

        console = Console() if sys.stdout.isatty() else Console(width=200)
        if report.prefixes:
            console.print(as_table(report))
        lines = [*finding_lines(report), *notes(report), output_line(report), summary_line(report)]
        for line in lines:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return EXIT_OK if report.is_complete else EXIT_FAILED


COMMAND: Final = Command(
    name="verify",
    summary="whether everything is here, as it was written",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
