"""The PostgreSQL server that holds the ledgers of a campaign, and what happens to the server.

Debian's server is taken where it is installed, with an ICU collation and `repeatable read` as its
default; otherwise the wheel's. Without a server, ledgers are SQLite files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ctrail_pipeline_tests.support.postgres_server import (
    PostgresServer,
    debian_server,
    wheel_server,
)

LEDGERS: Final = ("sqlite", "postgres")


@contextmanager
def ledger_server(ledger: str) -> Iterator[PostgresServer | None]:
    """Start the server that a campaign needs, and close the server at the end."""
    if ledger == "sqlite":
        yield None
        return
    server = debian_server("repeatable read") or wheel_server()
    try:
        yield server
    finally:
        server.close()
