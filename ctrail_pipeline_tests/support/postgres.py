"""The PostgreSQL server that the tests of a process share, and an empty database for each ledger.

The server comes with a wheel; tests that need it skip visibly where the wheel is not installed. It
stops when the process of pytest ends.
"""

import atexit
import os
from functools import cache
from typing import Final

from ctrail_pipeline.core.ledger_address import PostgresAddress

from .postgres_server import PostgresServer, debian_server, wheel_server

ISOLATION: Final = "CTRAIL_TEST_POSTGRES_ISOLATION"
"""The variable that has tests use Debian's server, with this default isolation level."""


@cache
def server() -> PostgresServer:
    """Start the server that the tests of this process share, unless it runs."""
    started = _started()
    atexit.register(started.close)
    return started


def _started() -> PostgresServer:
    isolation = os.environ.get(ISOLATION)
    if isolation is None:
        return wheel_server()
    debian = debian_server(isolation)
    assert debian is not None, "Debian's server is not installed"
    return debian


def server_url() -> str:
    """Return the URL of the shared server's first database."""
    return server().url


def empty_database(options: str = "") -> PostgresAddress:
    """Make a database of the shared server, with the options of CREATE DATABASE."""
    return server().empty_database(options)
