"""What a user reads when PostgreSQL fails: no connection, no permission, no space, no server."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import psycopg

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger_address import PostgresAddress

LOCK_SECONDS: Final = 120
"""Seconds that a run waits for another run's transaction before it gives up."""

_A_PART_IS_GONE: Final = (
    "a part of the ledger is gone: restore it from a backup. Without it, old log files and events"
    " would be taken for new ones"
)
_ADVICE: Final = {
    "08": "check that the server can be reached, then run again; nothing is lost",
    "28": "the server refuses this user: check user, PGPASSWORD, PGPASSFILE and pg_hba.conf",
    "3D": "there is no such database: create it, or correct `state_db`",
    "42501": "this user may not do that: make the user the owner of the database's tables",
    "53": "the server lacks disk, memory or connections: make room, then run again",
    "55P03": f"another run has held it for {LOCK_SECONDS} s: try again when it is done",
    "57014": "somebody cancelled the statement, or the user's statement_timeout is too short:"
    " run again; nothing is lost",
    "25P03": "the run was paused in a transaction: run again; nothing is lost",
    "57": "the server was stopped or ended the connection: run again; nothing is lost",
    "23514": _A_PART_IS_GONE,  # a month was detached, and rows are to come into it
    "42P01": _A_PART_IS_GONE,
    "25006": "it can only be read: name the primary server in `state_db`",
    "XX": "its data are damaged: restore it from a backup that is as new as the output",
}
"""By the beginning of an SQLSTATE (PostgreSQL manual, appendix A)."""


class Farewell(NamedTuple):
    """What a server says as it ends a connection."""

    state: str
    """An SQLSTATE."""
    text: str


def ledger_error(
    address: PostgresAddress, error: psycopg.Error, farewells: Sequence[Farewell] = ()
) -> LedgerError:
    """Say what failed, and what to do about it.

    `farewells` say why the connection ended, if the error itself does not know. The server's
    details and context are left out: they may hold a row's values.
    """
    if farewells and not error.sqlstate:
        state, text = farewells[-1]
    else:
        state = error.sqlstate or _state_of_refusal(str(error))
        text = " ".join((error.diag.message_primary or str(error)).split())
    found = [advice for start, advice in _ADVICE.items() if state.startswith(start)]
    return LedgerError(f"{address}: the ledger failed ({text}): {[*found, 'see the error'][0]}")


def _state_of_refusal(text: str) -> str:
    """Return the SQLSTATE of a refused connection, of which libpq tells the text only."""
    if "No space left" in text:
        return "53100"
    if "does not exist" in text and "database" in text:
        return "3D000"
    if any(word in text for word in ("authentication", "password", "pg_hba.conf", "role")):
        return "28000"
    return "08006"
