"""`ctrail query`: SQL over the events on disk, through DuckDB (an extra).

Not here: the view `events` (`events_view`), and how rows are printed (`query_output`).
"""

import argparse
import sys
from typing import TYPE_CHECKING, Final

from ctrail_pipeline.cli.exit_codes import EXIT_OK
from ctrail_pipeline.cli.options import Command

if TYPE_CHECKING:
    from ctrail_pipeline.core.settings import Settings

_EPILOG = """\
The view `events` has a column for each field of a CloudTrail record (nested ones as JSON), and
account, region, date and hour from the path. Conditions on these read only the files they need.

  ctrail query "SELECT eventName, count(*) AS n FROM events
                WHERE date = '2026-01-15' AND region = 'eu-west-1' GROUP BY 1 ORDER BY n DESC"
  ctrail query --csv "SELECT eventTime, userIdentity->>'arn' FROM events WHERE errorCode <> ''"
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sql", nargs="?", metavar="SQL", help="by default it is read from the standard input"
    )
    form = parser.add_mutually_exclusive_group()
    for name in ("csv", "json"):
        form.add_argument(
            f"--{name}", dest="form", action="store_const", const=name, help=f"as {name.upper()}"
        )
    parser.set_defaults(form="table")


def _run(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config

    sql = options.sql if options.sql is not None else sys.stdin.read()
    lines = run_query(load_config().settings, sql, options.form)
    if lines:
        are = "is" if lines == 1 else "are"
        print(
            f"ctrail: {lines:,} of the lines that the query read {are} not strict JSON, and a row"
            " of NULLs each; the files hold what AWS wrote",
            file=sys.stderr,
        )
    return EXIT_OK


def run_query(settings: "Settings", sql: str, form: str) -> int:
    """Run SQL and print its last result, as a `table`, `csv` or `json` (an object a line).

    Returns how many lines were no strict JSON. Raises ConfigurationError for SQL that cannot be
    right, OutputError for what fails.
    """
    from ctrail_pipeline.cli.events_view import (
        Unreadable,
        connect,
        files_to_query,
        lines_not_read,
    )
    from ctrail_pipeline.cli.query_output import print_result
    from ctrail_pipeline.core.exceptions import OutputError
    from ctrail_pipeline.core.output.open_output import open_output

    files = files_to_query(settings)
    while True:
        try:
            with connect(open_output(settings), files) as connection:
                print_result(connection, sql, form)
                return lines_not_read(connection)
        except Unreadable as error:  # nothing is printed yet, so the query may begin anew
            before, files = files, files_to_query(settings)
            if files == before:
                raise OutputError(f"query: {error}") from error


COMMAND: Final = Command(
    name="query",
    summary="SQL over the events, through DuckDB (an extra)",
    description="Runs SQL over the events on disk. Needs the extra: pip install"
    " 'ctrail-pipeline[query]'",
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
