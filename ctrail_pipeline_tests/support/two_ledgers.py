"""Two ledgers side by side, one in SQLite and one in PostgreSQL, which must answer alike.

Whatever is asked or changed runs on both, and the answers are compared, with their types. What is
asked and changed is in `ledger_questions` and `ledger_actions`.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, Final
from unittest import mock

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger import ledger as ledger_module
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.rows import SegmentGone, StaleBatch
from ctrail_pipeline.core.ledger_address import LedgerAddress

ROOM: Final = Path(ledger_module.__file__).parent
_STATEMENTS: Final = ("rows", "stream", "execute", "execute_many")
_REFUSALS: Final = (StaleBatch, SegmentGone, LedgerError)

Line = tuple[str, int]
"""A file of the room `ledger`, and a line."""


class TwoLedgers:
    """The two ledgers, and a clock for both."""

    def __init__(self, file: Path, database: LedgerAddress) -> None:
        self.ledgers = (Ledger(file), Ledger(database))
        self.now = 1_768_500_000
        self._is_pipelined = False
        self.called: tuple[set[Line], set[Line]] = (set(), set())
        """For each ledger, the lines of the room that had a statement run."""
        for ledger, called in zip(self.ledgers, self.called, strict=True):
            for name in _STATEMENTS:
                setattr(ledger, name, _noting(getattr(ledger, name), called))

    def close(self) -> None:
        """Close both ledgers."""
        for ledger in self.ledgers:
            ledger.close()

    def both(
        self, ask: Callable[..., Any], *values: Any, in_order: bool = True, **options: Any
    ) -> Any:
        """Ask both ledgers, compare the answers, and return SQLite's.

        Iterators are read to their ends. Without `in_order`, the order of rows is free.
        """
        answers = []
        for ledger in self.ledgers:
            with mock.patch("time.time", return_value=float(self.now)):
                answer = _answer(ask, ledger, *values, **options)
            answers.append(answer if in_order else sorted(answer, key=repr))
        what = f"{ask.__name__}{values!r} {options!r}"
        assert answers[0] == answers[1], f"{what}\nSQLite: {answers[0]}\nPostgreSQL: {answers[1]}"
        kinds = [_kinds(answer) for answer in answers]
        assert kinds[0] == kinds[1], f"{what}\nSQLite: {kinds[0]}\nPostgreSQL: {kinds[1]}"
        return answers[0]

    def write(self, change: Callable[..., Any], *values: Any) -> Any:
        """Change both ledgers, each in a transaction, and compare what the changes return.

        Every other change awaits no answer before one is needed.
        """
        self._is_pipelined = not self._is_pipelined

        def in_transaction(ledger: Ledger) -> Any:
            pipeline = ledger.pipelined() if self._is_pipelined else nullcontext()
            with ledger.transaction(), pipeline:
                return change(ledger, *values)

        return self.both(in_transaction)


def method(of: Callable[[Ledger], Any], name: str) -> Callable[..., Any]:
    """Return a function over a ledger that calls a method of an object made for the ledger."""

    def call(ledger: Ledger, *values: Any) -> Any:
        return getattr(of(ledger), name)(*values)

    call.__name__ = name
    return call


def _answer(ask: Callable[..., Any], ledger: Ledger, *values: Any, **options: Any) -> Any:
    try:
        answer = ask(ledger, *values, **options)
        return list(answer) if isinstance(answer, Iterator) else answer
    except StaleBatch as refusal:
        return "StaleBatch", str(refusal), sorted(refusal.taken)
    except _REFUSALS as refusal:
        return (type(refusal).__name__,)


def _kinds(answer: Any) -> Any:
    """Return the types in an answer: a Decimal is no int. A bool is SQLite's 0 or 1."""
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        return type(answer), _kinds(list(vars_of(answer)))
    if isinstance(answer, dict):
        return type(answer), [
            (_kinds(key), _kinds(answer[key])) for key in sorted(answer, key=repr)
        ]
    if isinstance(answer, list | tuple):
        return type(answer), [_kinds(item) for item in answer]
    return int if isinstance(answer, bool) else type(answer)


def vars_of(value: Any) -> Iterator[Any]:
    """Yield the values of a dataclass's fields."""
    return (getattr(value, field.name) for field in dataclasses.fields(value))


def _noting(run: Callable[..., Any], called: set[Line]) -> Callable[..., Any]:
    def noted(sql: str, *values: Any) -> Any:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not _is_of_the_room(frame):
            frame = frame.f_back
        if frame is not None:
            called.add((Path(frame.f_code.co_filename).name, frame.f_lineno))
        return run(sql, *values)

    return noted


def _is_of_the_room(frame: FrameType) -> bool:
    path = Path(frame.f_code.co_filename)
    return path.parent == ROOM and path.name != "ledger.py"
