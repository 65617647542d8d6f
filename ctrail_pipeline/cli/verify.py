"""`ctrail verify`: compare buckets, ledger and output; say it, and write the page.

Not here: the options (`cli`), what is compared (`core.proof`), and its words
(`verify_report`).
"""

import json
import sys
from pathlib import Path

from ctrail_pipeline.core.audit.verify import verify
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.reports.private_files import write_private
from ctrail_pipeline.reports.verify import (
    as_json,
    as_table,
    finding_lines,
    notes,
    output_line,
    summary_line,
)
from ctrail_pipeline.reports.verify_html import as_html

from .exit_codes import EXIT_FAILED, EXIT_OK


def run_verify(
    settings: Settings,
    selection: Selection,
    *,
    deep: bool,
    show_json: bool,
    html: Path | None,
) -> int:
    """Verify, and say what was found; the exit code."""
    report = verify(settings, selection, deep=deep)
    if html is not None:
        write_private(html, as_html(report), replace=True)
    if show_json:
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
