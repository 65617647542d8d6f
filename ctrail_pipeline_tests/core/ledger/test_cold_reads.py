"""Whoever reads hot and cold rows finds all of them, at whatever instant they move."""

from collections.abc import Callable
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from ctrail_pipeline.core.ledger.batch_commit import commit_batch
from ctrail_pipeline.core.ledger.batches import register_batch
from ctrail_pipeline.core.ledger.engine import Row
from ctrail_pipeline.core.ledger.known_identities import KnownIdentities
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import LedgerLogFiles
from ctrail_pipeline.core.ledger.queries_compare import first_days, known_by_name
from ctrail_pipeline.core.ledger.queries_explain import segments_of_events, with_duplicates
from ctrail_pipeline.core.ledger.queries_lineage import batch_origin
from ctrail_pipeline.core.ledger.rows import StaleBatch
from ctrail_pipeline.core.ledger.segment_building import build_segment
from ctrail_pipeline.core.ledger.segments import LedgerSegments
from ctrail_pipeline_tests.support.cold_rows import TODAY, add_rows, move_all
from ctrail_pipeline_tests.support.engines import new_address
from ctrail_pipeline_tests.support.thorough import thorough

STATEMENTS: Final = 6
"""Statements of a question that are looked at: some ask each cold file, of which there are more."""


class Moving(NamedTuple):
    """What moves: the newest log file and the newest segment."""

    day: int
    partition: str
    segment: int
    batch: int


def known_identities(ledger: Ledger, moving: Moving) -> set[bytes]:
    known = KnownIdentities(LedgerSegments(ledger))
    known.begin()
    known.look_ahead([moving.partition])
    return known.partition(moving.partition).known_among({b"20" * 8})


QUESTIONS: dict[str, Callable[[Ledger, Moving], object]] = {
    "known_log_files": lambda ledger, moving: list(
        LedgerLogFiles(ledger).known_log_files(1, moving.day, "", "z")
    ),
    "known_by_name": lambda ledger, moving: list(known_by_name(ledger, 1, moving.day, ["name"])),
    "known_identities": known_identities,
    "segments": lambda ledger, moving: [
        segment.id for segment in LedgerSegments(ledger).segments(moving.partition, 0)
    ],
    "all_newer": lambda ledger, moving: list(LedgerSegments(ledger).all_newer(moving.partition, 0)),
    "segment_identities": lambda ledger, moving: LedgerSegments(ledger).segment_identities(
        moving.segment
    ),
    "first_days": lambda ledger, _: first_days(ledger),
    "batch_origin": lambda ledger, moving: batch_origin(ledger, moving.batch),
    "segments_of_events": lambda ledger, _: set(segments_of_events(ledger)),
    "with_duplicates": lambda ledger, moving: {
        origin.row for origin in with_duplicates(ledger, 1, (moving.day, moving.day + 1))
    },
}


def add(ledger: Ledger, day: int) -> Moving:
    hour = f"{date(1970, 1, 1) + timedelta(day):%Y/%m/%d}/05"
    add_rows(ledger, [day], [hour])
    with ledger.transaction():
        ledger.execute("UPDATE log_file SET duplicates = 1")
        ledger.execute("UPDATE batch SET sources = ? WHERE sources = '[]'", f"[[1, {day}]]")
    [(segment, batch)] = ledger.rows(
        "SELECT max(s.id), max(b.id) FROM segment s JOIN batch b ON b.id = s.batch"
    )
    return Moving(day, f"a/r/{hour}", segment, batch)


@pytest.mark.parametrize(
    "days_between", [1, *thorough(40)]
)  # rows of the same month, and of another one
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("engine", ["sqlite", *thorough("postgres")])
def test_rows_that_move_while_a_question_is_asked_are_found(
    engine: str,
    question: str,
    days_between: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They move before the first statement of the question, then before the second, and so on."""
    address = new_address(engine, tmp_path)
    ask = QUESTIONS[question]
    with closing(Ledger(address)) as ledger, closing(Ledger(address)) as mover:
        asked: list[str] = []
        at = 0

        def before(statement: Callable[..., list[Row]]) -> Callable[..., list[Row]]:
            def moved_before(*values: object) -> list[Row]:
                if len(asked) == at:
                    assert move_all(mover)
                asked.append(str(values[0]))
                return statement(*values)

            return moved_before

        for at in range(STATEMENTS):
            moving = add(mover, TODAY - 100 - at * days_between)
            expected = ask(ledger, moving)
            asked.clear()
            with monkeypatch.context() as patch:
                patch.setattr(ledger._engine, "rows", before(ledger._engine.rows))
                if engine == "sqlite":
                    patch.setattr(ledger.cold_reader, "ask", before(ledger.cold_reader.ask))
                assert ask(ledger, moving) == expected, f"moved before statement {at} of {asked}"
            if len(asked) <= at:
                break
        assert at > 0


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("engine", ["sqlite", *thorough("postgres")])
def test_a_segment_that_moves_while_another_one_comes_is_found(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """As many hot segments are there afterwards as before."""
    address = new_address(engine, tmp_path)
    with closing(Ledger(address)) as ledger, closing(Ledger(address)) as other:
        moving = add(other, TODAY - 100)
        assert known_identities(ledger, moving)
        asked: list[str] = []
        rows = ledger._engine.rows

        def change_before(sql: str, *values: object) -> list[Row]:
            if len(asked) == at:
                assert move_all(other)
                add_segment(other, moving.partition)
            asked.append(sql)
            return rows(sql, *values)

        with monkeypatch.context() as patch:
            patch.setattr(ledger._engine, "rows", change_before)
            assert known_identities(ledger, moving)


@pytest.mark.parametrize("engine", ["sqlite", *thorough("postgres")])
def test_a_newer_segment_that_is_cold_makes_a_batch_stale(engine: str, tmp_path: Path) -> None:
    """Another run wrote the event, and the segment became cold before this batch is committed."""
    with closing(Ledger(new_address(engine, tmp_path))) as ledger:
        moving = add(ledger, TODAY - 100)
        assert move_all(ledger)
        batch = register_batch(ledger, "token", "", [])
        new = build_segment(moving.partition, [b"20" * 8], (), 0.001)
        with pytest.raises(StaleBatch), ledger.transaction():
            commit_batch(ledger, batch, [], [], [new], {moving.partition: 0})
        with ledger.transaction():  # this batch had seen the segment
            commit_batch(ledger, batch, [], [], [new], {moving.partition: moving.segment})


def add_segment(ledger: Ledger, partition: str) -> None:
    with ledger.transaction():
        ledger.execute(
            "INSERT INTO dedup_partition (name) VALUES (?) ON CONFLICT DO NOTHING", partition
        )
        ledger.execute(
            "INSERT INTO segment (dedup_partition, batch, count, identities, event_keys)"
            " SELECT id, 0, 1, ?, ? FROM dedup_partition WHERE name = ?",
            b"x" * 16,
            b"x" * 6,
            partition,
        )
