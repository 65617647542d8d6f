"""PgBouncer in transaction mode: each transaction may get another session of the server.

PgBouncer is a package of Debian's. Its few sessions take turns, so what a program keeps in a
session is not there when the program asks for it.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.ledger_address import PostgresAddress

from .postgres_server import PostgresServer, server_user

PROGRAM: Final = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
_PORT: Final = 6432  # a part of the socket's name


@contextmanager
def pooled(server: PostgresServer, sessions: int = 3) -> Iterator["Pool"]:
    """Run PgBouncer in front of a server."""
    assert PROGRAM is not None
    folder = server.folder / "pool"
    folder.mkdir()
    (folder / "users.txt").write_text('"postgres" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={server.folder}\n[pgbouncer]\nlisten_addr =\n"
        f"listen_port = {_PORT}\nunix_socket_dir = {folder}\nauth_type = trust\n"
        f"auth_file = {folder / 'users.txt'}\npool_mode = transaction\nserver_round_robin = 1\n"
        f"default_pool_size = {sessions}\nmin_pool_size = {sessions}\nlogfile = {folder / 'log'}\n"
    )
    user = server_user()
    for path in (folder, *folder.iterdir()):
        if user:
            shutil.chown(path, user)
    process = subprocess.Popen(
        [PROGRAM, "--quiet", str(folder / "pgbouncer.ini")], user=user, cwd=folder
    )
    try:
        _wait_for(folder / f".s.PGSQL.{_PORT}")
        yield Pool(folder)
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


class Pool:
    """A running PgBouncer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def address_of(self, address: PostgresAddress) -> PostgresAddress:
        """Return the address of the same database behind the pool."""
        start = address.url.partition("?")[0]
        return PostgresAddress(f"{start}?host={self._folder}&port={_PORT}")


def _wait_for(path: Path) -> None:
    for _ in range(500):
        with socket.socket(socket.AF_UNIX) as connection:
            if not connection.connect_ex(str(path)):
                return
        time.sleep(0.01)
    raise AssertionError("PgBouncer does not answer")
