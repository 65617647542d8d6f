"""Runs, rebuilds and moves keep apart, with locked folders and without, on both engines."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.core.batch.recovery import recover
from ctrail_pipeline.core.claims import at_work, lock_alone
from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger import leases, machine
from ctrail_pipeline.core.ledger.batches import open_batches
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.run_files import RunFile, is_held
from ctrail_pipeline.core.matching_ledger import open_ledger
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline.core.upkeep.ledger_copy import copy_ledger
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline.core.upkeep.restage import restaging
from ctrail_pipeline_tests.support.engines import ENGINES, new_address, with_ledger_in
from ctrail_pipeline_tests.support.oracle import Expectation
from ctrail_pipeline_tests.support.output_buckets import seaweedfs_bucket
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.sync_process import assert_exact, sample_settings
from ctrail_pipeline_tests.support.unlocked_output import UnlockedOutput

SAMPLE = {"log_files": 40, "days": 1}
STEPS = ("registered", "staged", "committed", "marked", "linked", "published")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["locked", "unlocked", "bucket"])
def either(
    request: pytest.FixtureRequest,
    engine: str,
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """Settings of an output whose folders are locked, or not, or which has no folders."""
    changes: dict[str, Any] = {}
    if request.param == "unlocked":
        unlock(monkeypatch)
    elif request.param == "bucket":
        changes["output"] = seaweedfs_bucket(monkeypatch)
    return with_ledger_in(engine, sample_settings(sample, tmp_path, **changes))


@pytest.fixture
def settings(
    engine: str, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings of an output whose folders are not locked."""
    unlock(monkeypatch)
    return with_ledger_in(engine, sample_settings(sample, tmp_path))


def unlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctrail_pipeline.core.output.open_output.LocalOutput", UnlockedOutput)


def run_at_work(settings: Settings) -> ExitStack:
    """Be a run that is at work, as every command is."""
    with ExitStack() as stack:
        output = stack.enter_context(closing(open_output(settings)))
        ledger = stack.enter_context(closing(open_ledger(settings.ledger, output)))
        stack.enter_context(at_work(ledger, output))
        return stack.pop_all()


# --- rebuilds and moves ---------------------------------------------------------------------------


def test_runs_keep_a_rebuild_out_and_a_rebuild_keeps_runs_out(either: Settings) -> None:
    assert sync(either).ok
    output = open_output(either)
    first, second = run_at_work(either), run_at_work(either)
    with pytest.raises(LedgerError, match=r"a run is at work in .*stop it, then rebuild"):
        lock_alone(either.ledger, output, "rebuild")
    first.close()
    with pytest.raises(LedgerError, match="a run is at work"):
        lock_alone(either.ledger, output, "rebuild")
    second.close()
    alone = lock_alone(either.ledger, output, "rebuild")
    with pytest.raises(LedgerError, match="a run is at work"):
        lock_alone(either.ledger, output, "copy")
    for command in (sync, compact, lambda s: prune(s, datetime.now(UTC))):
        with pytest.raises(LedgerError, match="is being rebuilt or moved: run again when"):
            command(either)
    alone.close()
    assert sync(either).ok


def test_a_rebuild_is_refused_while_a_run_is_at_work(either: Settings) -> None:
    assert sync(either).ok
    with run_at_work(either), pytest.raises(LedgerError, match="a run is at work"):
        rebuild(either, force=True)


def test_a_rebuild_of_a_ledger(either: Settings, expectation: Expectation) -> None:
    assert sync(either).ok
    rebuild(either, force=True)
    assert sync(either).ok
    assert_exact(either, expectation)


@pytest.mark.parametrize("target", ENGINES)
def test_a_ledger_is_moved(
    either: Settings, expectation: Expectation, target: str, tmp_path: Path
) -> None:
    assert sync(either).ok
    new = new_address(target, tmp_path, "new.db")
    with run_at_work(either), pytest.raises(LedgerError, match="a run is at work"):
        copy_ledger(either, either.ledger, new)
    copy_ledger(either, either.ledger, new)
    moved = either.with_ledger(new)
    assert sync(moved).progress.log_files == 0
    assert_exact(moved, expectation)


def test_a_killed_rebuild_keeps_nobody_out_for_long(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlock(monkeypatch)
    settings = with_ledger_in("postgres", sample_settings(sample, tmp_path))
    assert sync(settings).ok
    killed = lock_alone(settings.ledger, open_output(settings), "rebuild")
    with closing(Ledger(settings.ledger)) as ledger:
        for seconds in (leases.LAPSES_AFTER_SECONDS - 20, 21):
            with pytest.raises(LedgerError, match="is being rebuilt or moved"):
                sync(settings)
            ledger.execute("UPDATE lease SET renewed_at = renewed_at - ?", seconds)
    assert sync(settings).ok
    killed.close()


def test_of_a_run_and_a_rebuild_that_begin_at_once_not_both_begin(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its lease before it looks for the other: at worst, both are refused."""
    unlock(monkeypatch)
    settings = with_ledger_in("postgres", sample_settings(sample, tmp_path))
    assert sync(settings).ok
    looks = leases._names
    refused = []

    def look_late(*values: object) -> object:
        monkeypatch.setattr(leases, "_names", looks)
        try:
            lock_alone(settings.ledger, open_output(settings), "rebuild").close()
        except LedgerError as error:
            refused.append(str(error))
        return looks(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(leases, "_names", look_late)
    assert sync(settings).ok
    assert len(refused) == 1


# --- batches --------------------------------------------------------------------------------------


class Died(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", STEPS)
def test_what_a_run_that_died_left_is_finished_by_the_next(
    settings: Settings, expectation: Expectation, step: str
) -> None:
    def die(at: str) -> None:
        if at == step:
            raise Died

    with pytest.raises(Died):
        sync(settings, observe=die)
    assert sync(settings).ok
    assert_exact(settings, expectation)


@pytest.mark.parametrize("step", ["registered", "committed", "linked"])
def test_what_a_run_that_lives_has_begun_is_left_alone(
    settings: Settings, expectation: Expectation, step: str
) -> None:
    others: list[int] = []

    def observe(at: str) -> None:
        if at == step and not others:
            with closing(Ledger(settings.ledger)) as ledger:
                before = open_batches(ledger)
                others.append(sync(settings).progress.log_files)
                assert before[-1] in open_batches(ledger)

    assert sync(settings, observe=observe).ok
    assert others[0] > 0
    assert_exact(settings, expectation)


def test_a_run_that_is_paused_for_long_loses_its_batch(
    sample: Path, tmp_path: Path, expectation: Expectation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it brings nothing twice when it goes on."""
    unlock(monkeypatch)
    settings = with_ledger_in("postgres", sample_settings(sample, tmp_path))
    steps: list[str] = []

    def observe(at: str) -> None:
        steps.append(at)
        if steps.count(at) == 1 and at in STEPS:
            with (
                closing(Ledger(settings.ledger)) as ledger,
                closing(open_output(settings)) as output,
            ):
                ledger.execute("UPDATE lease SET renewed_at = renewed_at - 91")
                recover(ledger, output, restaging(ledger, output, settings), lambda _step: None)
                assert open_batches(ledger) == []

    assert sync(settings, observe=observe).ok
    assert set(STEPS) <= set(steps)
    assert_exact(settings, expectation)


HOLDER = """
import sys
from pathlib import Path
from typing import Any
from ctrail_pipeline.core.ledger.run_files import RunFile
file = RunFile(Path(sys.argv[1]))
print(file.name, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[], "subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []

    def start() -> "subprocess.Popen[str]":
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", HOLDER, str(tmp_path / "state.db")],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_run_file_is_held_until_its_process_is_killed(
    tmp_path: Path, holder: Callable[[], "subprocess.Popen[str]"]
) -> None:
    state_db = tmp_path / "state.db"
    process = holder()
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    assert is_held(state_db, name)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.iterdir()) == [tmp_path / f"state.db.run-{name}"]
    with closing(RunFile(state_db)) as file:
        assert not is_held(state_db, name)
        assert is_held(state_db, file.name)
        assert list(tmp_path.iterdir()) == [tmp_path / f"state.db.run-{file.name}"]
    assert list(tmp_path.iterdir()) == []
    assert not is_held(state_db, file.name)


# --- machines -------------------------------------------------------------------------------------


def test_an_output_that_moved_to_a_bucket_belongs_to_no_machine(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_ledger_in("postgres", sample_settings(sample, tmp_path))
    machine_id = tmp_path / "machine-id"
    machine_id.write_text("first")
    monkeypatch.setattr(machine, "MACHINE_ID", machine_id)
    assert sync(settings).ok
    machine_id.write_text("second")
    with pytest.raises(LedgerError, match="local folder of the machine"):
        sync(settings)
    with monkeypatch.context() as patch:
        unlock(patch)
        assert sync(settings).ok
    with closing(Ledger(settings.ledger)) as ledger:
        assert ledger.rows("SELECT 1 FROM meta WHERE name = 'machine'") == []
    assert sync(settings).ok, "a local output again, of this machine"
