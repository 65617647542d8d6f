"""`ctrail`: the same core without Dagster, for a shell, cron, or a person in a hurry.

Exit codes: 0 everything that was asked for was brought in; 1 something failed, and is named; 2 the
configuration or the call cannot be right. Not here: what a sync does (`core`).
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .config import load_config, parse_time, window_start
from .core.estimate import describe, estimate
from .core.exceptions import ConfigurationError, CtrailError
from .core.interrupts import stop_on_signals
from .core.selection import Problem, Selection
from .core.settings import Settings
from .core.sync import sync
from .reports import failure_message, problem_line, summary_line

EXIT_OK, EXIT_FAILED, EXIT_CONFIGURATION = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    _log_to_stderr(options.quiet, options.verbose)
    try:
        if options.command == "generate-config":
            return _generate_config(options)
        settings = load_config().settings
        selection = Selection(
            trails=options.trail,
            partitions=options.partition,
            start=window_start(options.start, options.since),
            end=None if options.end is None else parse_time("--end", options.end),
            exclude_trails=options.exclude_trail,
            accounts=options.account,
            exclude_accounts=options.exclude_account,
            regions=options.region,
            exclude_regions=options.exclude_region,
        )
        if options.dry_run:
            return _dry_run(settings, selection)
        return _sync(settings, selection)
    except ConfigurationError as error:
        print(f"ctrail: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except CtrailError as error:
        print(f"ctrail: {error}", file=sys.stderr)
        return EXIT_FAILED


def _sync(settings: Settings, selection: Selection) -> int:
    with stop_on_signals() as stop:
        summary = sync(settings, selection, run_id="ctrail", stop=stop)
    print(summary_line(summary))
    if summary.failures:
        print(failure_message(summary), file=sys.stderr)
    return EXIT_OK if summary.ok else EXIT_FAILED


def _generate_config(options: argparse.Namespace) -> int:
    from .generate_config import generate_config

    trails, unasked = generate_config(
        options.path, force=options.force, profile=options.profile, regions=options.region
    )
    for trail in trails:
        print(trail)
    print(f"{options.path}: written. What it would bring in and cost: ctrail sync --dry-run")
    return EXIT_FAILED if unasked else EXIT_OK


def _dry_run(settings: Settings, selection: Selection) -> int:
    problems: list[Problem] = []
    for one in estimate(settings, selection, problems.append):
        print(describe(one))
    for problem in problems:
        print(problem_line(problem), file=sys.stderr)
    return EXIT_FAILED if problems else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ctrail",
        description="Brings AWS CloudTrail log files out of S3: every event once, byte for byte.",
        epilog="Trails are read from config.json, or the file that CTRAIL_CONFIG names.",
    )
    parser.add_argument("--version", action="version", version=f"ctrail {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "sync",
        help="bring in everything that is new",
        description="Brings in everything that is new, newest first. Safe to stop at any moment and"
        " to run as often as you like: what is there already is not fetched again.",
    )
    chosen = command.add_argument_group(
        "what to bring in",
        "By default everything. Each may be given several times; * and ? are wildcards. A later"
        " sync of more fetches what is missing, and nothing twice.",
    )
    _add_list(chosen, "--trail", "NAME", "only these trails", default=None)
    _add_list(chosen, "--exclude-trail", "NAME", "not these")
    _add_list(chosen, "--account", "ACCOUNT", "only these accounts")
    _add_list(chosen, "--exclude-account", "ACCOUNT", "not these")
    _add_list(chosen, "--region", "REGION", "only these regions, such as 'eu-*'")
    _add_list(chosen, "--exclude-region", "REGION", "not these")
    _add_list(chosen, "--partition", "ACCOUNT/REGION", "only these pairs", default=None)
    chosen.add_argument("--since", metavar="6h", help="log files of the last 90m, 6h, 2d or 1w")
    chosen.add_argument("--start", metavar="TIME", help="log files from this time on (UTC)")
    chosen.add_argument("--end", metavar="TIME", help="log files before this time (plus an hour)")
    command.add_argument(
        "--dry-run", action="store_true", help="only list: what there is, and what it would cost"
    )
    _add_loudness(command)
    command = commands.add_parser(
        "generate-config",
        help="write config.json from the trails of your account",
        description="Asks CloudTrail, in every region, which trails there are, and writes a"
        " configuration file. Needs cloudtrail:DescribeTrails.",
    )
    command.add_argument(
        "path", nargs="?", type=Path, default=Path("config.json"), help="default: config.json"
    )
    command.add_argument("--force", action="store_true", help="replace a file that is there")
    command.add_argument("--profile", metavar="NAME", help="a profile of ~/.aws/config")
    _add_list(command, "--region", "REGION", "ask only there; may be given several times")
    _add_loudness(command)
    return parser


def _add_loudness(command: argparse.ArgumentParser) -> None:
    loudness = command.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="store_true", help="say more")
    loudness.add_argument("-q", "--quiet", action="store_true", help="warnings and errors only")


def _add_list(
    group: "argparse._ActionsContainer",
    option: str,
    metavar: str,
    text: str,
    default: tuple[str, ...] | None = (),
) -> None:
    group.add_argument(option, action=_Append, metavar=metavar, help=text, default=default)


class _Append(argparse.Action):
    """`append`, which cannot have a tuple as its default."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or ()), values])


def _log_to_stderr(quiet: bool, verbose: bool) -> None:
    handler = logging.StreamHandler()
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logger = logging.getLogger("ctrail_pipeline")
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
