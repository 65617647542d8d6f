"""`ctrail status`: how far each trail is, from the ledger alone.

Not here: reading the status, and its forms (`reports`).
"""

import argparse
import sys
from typing import Final

from ctrail_pipeline.cli.exit_codes import EXIT_FAILED, EXIT_OK
from ctrail_pipeline.cli.options import Command

_DESCRIPTION = """\
Shows how far each account and region of each trail is, from the ledger alone. Lists
nothing and writes nothing. Lag is the age of the newest log file that is done.
Exit codes: 0 nothing stands open; 1 log files are failed, damaged, gone, or wait for a
sync. With --prometheus 0, whatever the metrics say.
"""
_EPILOG = """\
  ctrail status --prometheus > ctrail.prom.new && mv ctrail.prom.new ctrail.prom
writes a file for node_exporter's textfile collector. mv makes sure that it never reads half a file.
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="as_json", action="store_true", help="as one JSON object")
    form.add_argument("--prometheus", action="store_true", help="as Prometheus metrics")


def _run(options: argparse.Namespace) -> int:
    import json

    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.reports.status import read_status

    status = read_status(load_config().settings)
    if options.as_json:
        from ctrail_pipeline.reports.status_json import as_json

        print(json.dumps(as_json(status)))
    elif options.prometheus:
        from ctrail_pipeline.reports.status_prometheus import as_prometheus

        print(as_prometheus(status), end="")
    else:
        from rich.console import Console

        from ctrail_pipeline.reports.status_table import as_table, notes

        console = Console() if sys.stdout.isatty() else Console(width=200)
        if status.partitions:
            console.print(as_table(status))
        for note in notes(status):
            console.print(note, markup=False, highlight=False)
    # A file of metrics is moved into place only if the command that writes it succeeds.
    return EXIT_FAILED if status.open_log_files.counts and not options.prometheus else EXIT_OK


COMMAND: Final = Command(
    name="status",
    summary="how far each trail is, and what is still open",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
