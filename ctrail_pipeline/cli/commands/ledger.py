"""`ctrail ledger copy`: move the ledger to another place, such as a PostgreSQL database.

Not here: how a ledger is copied and compared (`core.upkeep.ledger_copy`).
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ctrail_pipeline.cli.exit_codes import EXIT_OK
from ctrail_pipeline.cli.options import Command

if TYPE_CHECKING:
    from ctrail_pipeline.core.ledger_address import LedgerAddress

_EPILOG = """\
FROM and TO are files, or URLs of PostgreSQL databases; TO is a new file or an empty database.
The ledger is that of the configured events_dir. Stop all runs before. The old ledger is closed
first, so nothing can use it any more; it stays where it is until you remove it. Every row is
compared. Run the same command again if it was stopped: it goes on. Name TO in state_db afterwards.

  ctrail ledger copy state.db postgresql://ctrail@db.internal/ledger
  ctrail ledger copy postgresql://ctrail@db.internal/ledger state-2.db
"""


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("copy",), help="copy FROM to TO, and go on with TO")
    parser.add_argument("old", metavar="FROM", help="the ledger that is in use")
    parser.add_argument("new", metavar="TO", help="where the ledger shall be")


def _address(name: str, text: str) -> "LedgerAddress":
    """Return what an argument names; paths are relative to the folder that the command runs in."""
    from ctrail_pipeline.config.checks import Unfit, check_ledger_address
    from ctrail_pipeline.core.exceptions import ConfigurationError
    from ctrail_pipeline.core.ledger_address import ledger_address

    try:
        address = ledger_address(check_ledger_address(text))
    except Unfit as error:
        raise ConfigurationError(f"{name} must be {error}") from error
    return Path(os.path.normpath(Path.cwd() / address)) if isinstance(address, Path) else address


def _run(options: argparse.Namespace) -> int:
    from ctrail_pipeline.config.file import load_config
    from ctrail_pipeline.core.upkeep.ledger_copy import copy_ledger
    from ctrail_pipeline.reports.sentences import copied_line

    settings = load_config().settings
    old, new = _address("FROM", options.old), _address("TO", options.new)
    copied = copy_ledger(settings, old, new)
    print(copied_line(copied, old, new))
    return EXIT_OK


COMMAND: Final = Command(
    name="ledger",
    summary="move the ledger to another file or database",
    description="Moves the ledger to another file or database. No event is read or written.",
    epilog=_EPILOG,
    add_options=_add_options,
    run=_run,
)
