"""Ledgers of every released version are brought up to date, once a copy is kept."""

import errno
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.keys.coverage import Range
from ctrail_pipeline.core.keys.minutes import Minute
from ctrail_pipeline.core.ledger.accepted import acceptances
from ctrail_pipeline.core.ledger.cold_months import COLD_TABLES
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import LedgerLogFiles
from ctrail_pipeline.core.ledger.migrations import APPLICATION_ID, SCHEMA_VERSION
from ctrail_pipeline.core.ledger.postgres_schema import in_postgres
from ctrail_pipeline.core.ledger.queries_prune import files_to_remove, prunable
from ctrail_pipeline.core.ledger.queries_reports import output_sizes
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.ledger.source_prefixes import (
    cover,
    covered_ranges,
    formerly_covered,
    source_ids,
)
from ctrail_pipeline.core.ledger_address import LedgerAddress, PostgresAddress
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline_tests.support.engines import new_address

psycopg = pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")

FIXTURES = {
    version: Path(__file__).parent / f"ledger_version_{version}.sql" for version in (1, 2, 3, 4, 5)
}

POSTGRES_VERSIONS = [version for version in FIXTURES if version >= 4]
"""Ledgers in PostgreSQL begin at version 4."""
COLD_TABLES_FROM = 5
"""The version from which on a ledger in PostgreSQL has tables that SQLite has not."""


def ledger_of(version: int, path: Path) -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.executescript(FIXTURES[version].read_text())
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {version}")
    return path


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as database:
        tables = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in tables}


def schema(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return columns and indexes as the database has them, not as the SQL text has them."""
    with closing(sqlite3.connect(path)) as database:
        names = [
            name
            for (name,) in database.execute(
                "SELECT name FROM sqlite_master WHERE name NOT LIKE 's%'"
            )
        ]
        return {
            name: database.execute("SELECT * FROM pragma_table_xinfo(?)", (name,)).fetchall()
            + database.execute("SELECT * FROM pragma_index_xinfo(?)", (name,)).fetchall()
            for name in names
        }


TAKEN_BACK = 6
"""The state of log files whose batch was taken back, up to version 5."""
RENAMED = {
    "source_partition": "source_prefix",
    "archive_file": "cold_file",
}
"""Names of tables and columns, earlier and now."""


def copy_of(path: Path, version: int) -> Path:
    return path.with_name(f"{path.name}.version-{version}")


def columns_of(path: Path, table: str) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def rows_of(path: Path, table: str, columns: list[str]) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()


def without_visits(
    table: str, columns: list[str], rows: list[tuple[object, ...]]
) -> set[tuple[object, ...]]:
    """Leave out what a migration changes on purpose: visits of log files, names, a state."""
    changed = {"log_file": "next_visit", "meta": "name"}.get(table)
    states = {"log_file", "accepted_log_file"}
    return {
        tuple(value for column, value in zip(columns, row, strict=True) if column != changed)
        for row in rows
        if (table not in states or row[columns.index("state")] != TAKEN_BACK)
        and row[0] != "segments_removed"
    }


def test_every_earlier_version_has_a_fixture() -> None:
    assert set(FIXTURES) == set(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize("version", FIXTURES)
def test_an_older_ledger_becomes_one_of_this_version_and_a_copy_is_kept(
    tmp_path: Path, version: int
) -> None:
    path = ledger_of(version, tmp_path / "state.db")
    before = contents(path)
    with closing(Ledger(path)) as ledger:
        assert sum(size.lines for size in output_sizes(ledger, Kind.EVENTS)) > 0
        assert prunable(ledger, "2099/01/01/00").files > 0
    new = tmp_path / "new.db"
    Ledger(new).close()
    assert schema(path) == schema(new)
    after = contents(path)
    assert after.keys() == contents(new).keys()
    for table, rows in before.items():
        new_name = RENAMED.get(table, table)
        columns = columns_of(copy_of(path, version), table)
        kept = rows_of(path, new_name, [RENAMED.get(column, column) for column in columns])
        assert without_visits(table, columns, kept) >= without_visits(table, columns, rows), table
        assert len(kept) == len(rows) or table == "meta"
    copy = copy_of(path, version)
    assert contents(copy) == before
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    Ledger(path).close()


def test_two_runs_may_find_an_old_ledger_at_once(tmp_path: Path) -> None:
    path = ledger_of(1, tmp_path / "state.db")
    failed: list[BaseException] = []

    def open_it() -> None:
        try:
            Ledger(path).close()
        except BaseException as error:  # noqa: BLE001 - the test's thread raises it
            failed.append(error)

    threads = [Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with closing(Ledger(path)) as ledger:
        assert files_to_remove(ledger, 1) == []


def test_a_ledger_stays_as_it_is_where_no_copy_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ledger_of(1, tmp_path / "state.db")
    before = contents(path)

    def no_space(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(LedgerError, match="no copy of it could be made beside it"):
        Ledger(path)
    assert contents(path) == before
    monkeypatch.undo()
    Ledger(path).close()
    assert (tmp_path / "state.db.version-1").exists()


def test_a_copy_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    path = ledger_of(1, tmp_path / "state.db")
    before = contents(path)
    (tmp_path / "state.db.version-1.part").write_bytes(b"half a copy")
    Ledger(path).close()
    assert contents(tmp_path / "state.db.version-1") == before
    assert not (tmp_path / "state.db.version-1.part").exists()


def test_what_an_older_listing_rule_covered_is_listed_once_more(tmp_path: Path) -> None:
    with closing(Ledger(ledger_of(3, tmp_path / "state.db"))) as ledger:
        ids = source_ids(ledger)
        assert {prefix.kind for prefix in ids} == {"CloudTrail"}
        assert sorted(ids.values()) == [1, 2]
        assert covered_ranges(ledger) == {}
        before = formerly_covered(ledger)
        assert before == {
            1: [Range(Minute(0), Minute(29474541))],
            2: [Range(Minute(0), Minute(29474526))],
        }
        with ledger.transaction():
            cover(ledger, {1: [Range(Minute(0), Minute(29474540))]})
        assert formerly_covered(ledger) == before
        with ledger.transaction():
            cover(ledger, {1: [Range(Minute(29474540), Minute(29474600))]})
        assert covered_ranges(ledger) == {1: [Range(Minute(0), Minute(29474600))]}
        assert formerly_covered(ledger) == {2: before[2]}


def test_log_files_with_quarantined_records_are_due_once(tmp_path: Path) -> None:
    with closing(Ledger(ledger_of(3, tmp_path / "state.db"))) as ledger:
        visits = LedgerLogFiles(ledger).due_visits(1796000000, 20468, (0, ""), 10)
        assert [visit.name for visit in visits] == ["1010BBBBBBBBBBBBBBBB", "1015CCCCCCCCCCCCCCCC"]


def test_log_files_whose_batch_was_taken_back_are_tried_again(tmp_path: Path) -> None:
    path = ledger_of(5, tmp_path / "state.db")
    with closing(Ledger(path)) as ledger:
        [visit] = LedgerLogFiles(ledger).due_visits(1796000000, 20468, (0, ""), 10)
        assert (visit.source_id, visit.known.state) == (1, LogFileState.FAILED)
        [accepted] = acceptances(ledger)
        assert (accepted.source_id, accepted.state) == (2, LogFileState.FAILED)
        assert not ledger.rows("SELECT 1 FROM log_file WHERE state = 3 AND position >= 0")


# --- PostgreSQL -----------------------------------------------------------------------------------


def postgres_ledger_of(version: int, path: Path) -> LedgerAddress:
    """Return a database with the tables and rows of a fixture."""
    address = new_address("postgres", path.parent)
    assert isinstance(address, PostgresAddress)
    with (
        closing(sqlite3.connect(ledger_of(version, path))) as source,
        psycopg.connect(address.url) as target,
    ):
        tables = source.execute(
            "SELECT name, sql FROM sqlite_master"
            " WHERE sql IS NOT NULL AND name != 'sqlite_sequence' ORDER BY type DESC, name"
        ).fetchall()
        for name, statement in tables:
            target.execute(in_postgres(statement))
            if not statement.startswith("CREATE TABLE"):
                continue
            rows = source.execute(f"SELECT * FROM {name}").fetchall()
            marks = ", ".join("%s" for _ in columns_of(path, name))
            with target.cursor() as cursor:
                cursor.executemany(
                    f"INSERT INTO {name} OVERRIDING SYSTEM VALUE VALUES ({marks})", rows
                )
        for statement in COLD_TABLES if version >= COLD_TABLES_FROM else ():
            target.execute(in_postgres(statement))
        target.execute(
            "INSERT INTO meta (name, value) VALUES ('version', %s), ('writer', '')", (str(version),)
        )
    path.unlink()
    return address


def postgres_schema_of(address: LedgerAddress) -> list[tuple[object, ...]]:
    assert isinstance(address, PostgresAddress)
    with psycopg.connect(address.url) as db:
        columns = db.execute(
            "SELECT table_name, column_name, data_type, collation_name, is_nullable,"
            " column_default, identity_generation FROM information_schema.columns"
            " WHERE table_schema = 'public' ORDER BY 1, 2"
        ).fetchall()
        indexes = db.execute(
            "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2"
        ).fetchall()
    return [*columns, *indexes]


@pytest.mark.parametrize("version", POSTGRES_VERSIONS)
def test_an_older_ledger_in_postgres_becomes_one_of_this_version(
    tmp_path: Path, version: int
) -> None:
    address = postgres_ledger_of(version, tmp_path / "old.db")
    before = contents(ledger_of(version, tmp_path / "same.db"))
    with closing(Ledger(address)) as ledger:
        assert ledger.meta("version") == str(SCHEMA_VERSION)
        assert sum(size.lines for size in output_sizes(ledger, Kind.EVENTS)) > 0
        assert prunable(ledger, "2099/01/01/00").files > 0
        for table in ("batch", "log_file", "output_file", "segment", "source_prefix"):
            columns = ", ".join(columns_of(tmp_path / "same.db", table))
            kept = ledger.rows(f"SELECT {columns} FROM {table}")
            of_table = columns_of(tmp_path / "same.db", table)
            was = before[table]
            assert without_visits(table, of_table, kept) >= without_visits(table, of_table, was)
            assert len(kept) == len(was)
    new = new_address("postgres", tmp_path)
    Ledger(new).close()
    assert postgres_schema_of(address) == postgres_schema_of(new)
    Ledger(address).close()
