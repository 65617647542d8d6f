"""`ctrail sync`: bring in everything that is new, once or again and again; or only estimate it.

Not here: how rounds follow each other and how they are shown (`sync_rounds`), and what a sync does
(`core.run.sync`).
"""

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from ctrail_pipeline.cli.exit_codes import EXIT_FAILED, EXIT_OK
from ctrail_pipeline.cli.options import Command, add_selection, selection_of

if TYPE_CHECKING:
    from ctrail_pipeline.core.listing.selection import Selection
    from ctrail_pipeline.core.settings import Settings

_DESCRIPTION = """\
Brings in everything that is new, newest first. It is safe to stop at any moment and to
run as often as you like: log files that are done are not fetched again.
"""
_EPILOG = """\
Progress and problems go to the standard error (on a terminal: a live display). The outcome goes to
the standard output. Stop with Ctrl-C: what is committed stays, and the next sync goes on from
there.

  ctrail sync --since 6h --account 111122223333     an incident: what matters first
  ctrail sync --region 'eu-*' --exclude-trail test  a part; a later sync brings the rest
  ctrail sync --watch 5m --json >> syncs.jsonl      for ever, a line of JSON each round
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_selection(parser, "what to bring in")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--dry-run",
        action="store_true",
        help="only list: say what there is, and what a sync would cost",
    )
    often = how.add_mutually_exclusive_group()
    often.add_argument("--once", action="store_true", help="one round, the default")
    often.add_argument(
        "--watch",
        metavar="5m",
        help="again and again: a round begins so long after the last round began",
    )
    how.add_argument(
        "--json", dest="as_json", action="store_true", help="the outcome as a line of JSON"
    )
    how.add_argument("--plain", action="store_true", help="log lines instead of a live display")


def _run(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.config.times import parse_duration

    watch = None if options.watch is None else parse_duration("--watch", options.watch)
    settings = load_config().settings
    select = partial(selection_of, options)
    if options.dry_run:
        return _dry_run(settings, select(), show_json=options.as_json)
    from ctrail_pipeline.cli.sync_rounds import OutcomeForm, run_sync

    live = not (options.quiet or options.plain or options.as_json) and _is_terminal()
    return run_sync(settings, select, OutcomeForm(options.as_json, live), watch)


def _dry_run(settings: "Settings", selection: "Selection", *, show_json: bool) -> int:
    """Say what a sync would bring in and cost; returns the exit code."""
    import json

    from ctrail_pipeline.core.listing.problem import Problem
    from ctrail_pipeline.core.run.dry_run import estimate
    from ctrail_pipeline.reports.sentences import estimate_line, problem_line
    from ctrail_pipeline.reports.sync_json import estimates_as_json

    problems: list[Problem] = []
    estimates = estimate(settings, selection, problems.append)
    if show_json:
        print(json.dumps(estimates_as_json(estimates, problems)), flush=True)
    else:
        for trail_estimate in estimates:
            print(estimate_line(trail_estimate))
        for problem in problems:
            print(problem_line(problem), file=sys.stderr)
    return EXIT_FAILED if problems else EXIT_OK


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


COMMAND: Final = Command(
    name="sync",
    summary="bring in everything that is new",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
