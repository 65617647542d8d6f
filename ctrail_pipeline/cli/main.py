"""`ctrail`: the same core without Dagster, for a shell, for cron, or for a person in a hurry.

Here are the list of commands, the log on the standard error, and the exit codes of errors. Each
command is a file below `commands`. That file imports the core only when the command runs, so that
`ctrail --help` is there at once.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from ctrail_pipeline import __version__

from .commands import (
    accept,
    compact,
    explain,
    generate_config,
    ledger,
    manifest,
    parquet,
    prune,
    query,
    queue,
    rebuild,
    sample,
    status,
    sync,
    verify,
)
from .exit_codes import EXIT_CONFIGURATION, EXIT_FAILED

_DESCRIPTION = """\
Brings AWS CloudTrail log files out of S3 and onto disk as JSON Lines:
every event once, byte for byte.

  ctrail generate-config      write config.json from the trails of your account
  ctrail sync --dry-run       what there is, and what bringing it in would cost
  ctrail sync --since 6h      the last hours first
  ctrail sync                 then everything; run it as often as you like
  ctrail status               how far each trail is, and what is still open
  ctrail verify               whether everything is here, as it was written
  ctrail explain EVENTID      where an event came from
  ctrail query "SELECT eventName, count(*) FROM events GROUP BY 1 ORDER BY 2 DESC LIMIT 20"

No AWS account at hand?  ctrail sample && ctrail sync
"""
_EPILOG = """\
The configuration is config.json, or the file that CTRAIL_CONFIG names. Without a configuration the
sample is used. Credentials are found as the AWS CLI finds them.
Exit codes: 0 everything is done; 1 something failed, and is named; 2 the configuration or the call
cannot be right.
ctrail COMMAND --help says more.
"""

COMMANDS: Final = (
    sync.COMMAND,
    status.COMMAND,
    verify.COMMAND,
    accept.COMMAND,
    explain.COMMAND,
    manifest.COMMAND,
    query.COMMAND,
    prune.COMMAND,
    rebuild.COMMAND,
    compact.COMMAND,
    parquet.COMMAND,
    ledger.COMMAND,
    queue.COMMAND,
    sample.COMMAND,
    generate_config.COMMAND,
)
"""All commands, in the order in which the help names them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    options = command_parser().parse_args(arguments)
    _log_to_stderr(options.quiet, options.verbose)
    from ctrail_pipeline.core.exceptions import ConfigurationError, CtrailError

    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except ConfigurationError as error:
        print(f"ctrail: {error}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except CtrailError as error:
        print(f"ctrail: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:  # `ctrail … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of `ctrail` with all its commands."""
    parser = argparse.ArgumentParser(
        prog="ctrail",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ctrail {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        added = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.description,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        loudness = added.add_mutually_exclusive_group()
        loudness.add_argument("-v", "--verbose", action="store_true", help="say more")
        loudness.add_argument("-q", "--quiet", action="store_true", help="warnings and errors only")
        command.add_options(added)
        added.set_defaults(run=command.run)
    return parser


def _log_to_stderr(quiet: bool, verbose: bool) -> None:
    handler = logging.StreamHandler()
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logger = logging.getLogger("ctrail_pipeline")
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
