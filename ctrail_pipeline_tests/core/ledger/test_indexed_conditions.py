"""Statements that a partial index must answer do use it, and so do not read whole tables."""

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ctrail_pipeline.core.ledger import indexed_conditions
from ctrail_pipeline.core.ledger.accepted import unsettled_log_files
from ctrail_pipeline.core.ledger.batches import open_batches, register_batch
from ctrail_pipeline.core.ledger.engine import ROWS_AT_ONCE, Row
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import (
    LedgerLogFiles,
    found_log_files,
    waiting_by_source,
)
from ctrail_pipeline.core.ledger.queries_compaction import publish_compaction
from ctrail_pipeline.core.ledger.queries_compare import open_log_files, quarantined_log_files
from ctrail_pipeline.core.ledger.queries_open import (
    TriesOfRuns,
    archived_days,
    open_rows,
    open_rows_of_tries,
    sources_with_failed,
    visit_again,
    visit_failed,
)
from ctrail_pipeline.core.ledger.queries_prune import files_to_remove
from ctrail_pipeline.core.ledger.queries_reports import (
    open_by_source,
    quarantined_by_source,
    read_health,
)
from ctrail_pipeline.core.ledger.queries_restage import lost_files, replaced_files
from ctrail_pipeline.core.ledger.rows import BatchState
from ctrail_pipeline.core.ledger_address import LedgerAddress
from ctrail_pipeline_tests.support.engines import new_address

NOW = 1_700_000_000
TRIES = TriesOfRuns(("run",), 1)
TO_VISIT = "log_file_to_visit"
UNSETTLED = "log_file_unsettled"
REMARKABLE = "log_file_remarkable"
REPLACED = "output_file_replaced"


class Recording(Ledger):
    """A connection that keeps the plan of every statement."""

    explained_by = "EXPLAIN QUERY PLAN"

    def __init__(self, path: LedgerAddress) -> None:
        self.plans: list[tuple[str, str]] = []
        super().__init__(path)

    def rows(self, sql: str, *values: object) -> list[tuple]:  # type: ignore[type-arg]
        self.explain(sql, values)
        return super().rows(sql, *values)

    def execute(self, sql: str, *values: object) -> int:
        self.explain(sql, values)
        return super().execute(sql, *values)

    def stream(
        self, sql: str, *values: object, at_once: int = ROWS_AT_ONCE
    ) -> Generator[Row, None, None]:
        self.explain(sql, values)
        yield from super().stream(sql, *values, at_once=at_once)

    def explain(self, sql: str, values: tuple[object, ...]) -> None:
        if sql.startswith(("SELECT", "UPDATE", "DELETE")):
            plan = super().rows(f"{self.explained_by} {sql}", *values)
            self.plans.append((sql, "; ".join(row[-1] for row in plan)))


class RecordingPostgres(Recording):
    """The same for a ledger in PostgreSQL."""

    explained_by = "EXPLAIN"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Recording]:
    with closing(Recording(tmp_path / "ledger.db")) as opened:
        yield opened


def committed_batch(ledger: Ledger) -> int:
    batch = register_batch(ledger, "token", "run", [])
    ledger.execute("UPDATE batch SET state = ? WHERE id = ?", BatchState.COMMITTED, batch)
    return batch


ASKED: list[tuple[str, int, Callable[[Ledger], object]]] = [
    (TO_VISIT, 1, lambda ledger: LedgerLogFiles(ledger).newest_due_day(NOW, 20_000)),
    (TO_VISIT, 1, lambda ledger: LedgerLogFiles(ledger).due_visits(NOW, 19_000, (0, ""), 10)),
    (TO_VISIT, 1, lambda ledger: waiting_by_source(ledger, NOW)),
    (UNSETTLED, 1, lambda ledger: found_log_files(ledger, [1, 2], 10)),
    (UNSETTLED, 1, lambda ledger: list(open_rows(ledger, NOW))),
    (UNSETTLED, 1, lambda ledger: list(open_rows_of_tries(ledger, TRIES, NOW))),
    (UNSETTLED, 1, lambda ledger: list(archived_days(ledger))),
    (UNSETTLED, 1, sources_with_failed),
    (UNSETTLED, 1, lambda ledger: visit_failed(ledger, [1, 2], (19_000, 19_001), NOW)),
    (UNSETTLED, 1, lambda ledger: visit_again(ledger, TRIES, NOW)),
    (UNSETTLED, 1, open_by_source),
    (UNSETTLED, 5, lambda ledger: list(unsettled_log_files(ledger))),
    (UNSETTLED, 4, lambda ledger: list(open_log_files(ledger, 1, (0, 20_000)))),
    (REMARKABLE, 1, lambda ledger: read_health(ledger, [1, 2], NOW)),
    (REMARKABLE, 1, quarantined_by_source),
    (REMARKABLE, 1, lambda ledger: list(quarantined_log_files(ledger))),
    ("batch_open", 1, open_batches),
    ("output_file_to_remove", 1, lambda ledger: files_to_remove(ledger, 10)),
    (REPLACED, 3, lambda ledger: publish_compaction(ledger, committed_batch(ledger))),
    (REPLACED, 1, lambda ledger: replaced_files(ledger, 1)),
    ("batch_open", 1, lost_files),
]


@pytest.mark.parametrize(("index", "statements", "ask"), ASKED)
def test_a_statement_uses_its_partial_index(
    ledger: Recording, index: str, statements: int, ask: Callable[[Ledger], object]
) -> None:
    ask(ledger)
    using = [sql for sql, plan in ledger.plans if f"INDEX {index}" in plan]
    assert len(using) == statements, ledger.plans
    assert not [sql for sql, plan in ledger.plans if "SCAN log_file" in plan.split("; ")]


@pytest.fixture(scope="module")
def full_database(tmp_path_factory: pytest.TempPathFactory) -> LedgerAddress:
    """A ledger with many settled rows: PostgreSQL reads a small table as a whole."""
    address = new_address("postgres", tmp_path_factory.mktemp("none"))
    with closing(Ledger(address)) as ledger:
        with ledger.transaction():
            ledger.execute(
                "INSERT INTO log_file (source_prefix, day, name, etag, size, records, duplicates,"
                " quarantined, conflicts, state, attempts, batch, position)"
                " SELECT i % 50, 19000 + i % 30, i::text, ''::bytea, 1, 8, 0, 0, 0, 1, 0, i / 400,"
                " 0 FROM generate_series(1, 50000) AS i"
            )
            ledger.execute(
                "INSERT INTO batch (token, state, run_id, created_at)"
                " SELECT i::text, 2, '', 0 FROM generate_series(1, 20000) AS i"
            )
            ledger.execute(
                "INSERT INTO output_file (output_partition, number, batch, part, lines, bytes,"
                " sha256, lineage) SELECT i, 1, i, 0, 1, 1, ''::bytea, ''::bytea"
                " FROM generate_series(1, 50000) AS i"
            )
        ledger.execute("ANALYZE")
    return address


@pytest.mark.parametrize(("index", "statements", "ask"), ASKED)
def test_so_it_does_in_postgres(
    full_database: LedgerAddress, index: str, statements: int, ask: Callable[[Ledger], object]
) -> None:
    with closing(RecordingPostgres(full_database)) as ledger:
        ask(ledger)
        using = [sql for sql, plan in ledger.plans if index in plan]
        assert len(using) == statements, ledger.plans
        assert not [sql for sql, plan in ledger.plans if "Seq Scan on log_file" in plan]


def test_every_partial_index_is_asked_for(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.db").close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as database:
        partial = database.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'"
        ).fetchall()
    assert {name for name, _ in partial} == {index for index, _, _ in ASKED}
    conditions = {sql.partition(" WHERE ")[2] for _, sql in partial}
    named = {value for name, value in vars(indexed_conditions).items() if name.isupper()}
    assert conditions == named | {"replaced_by IS NOT NULL"}  # `replaced_by = ?` implies it
