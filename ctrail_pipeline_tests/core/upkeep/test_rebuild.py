"""A ledger that is lost, damaged or too old is made anew from the output; no event is doubled."""

import gzip
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import polars
import pytest

from ctrail_pipeline.cli.main import main
from ctrail_pipeline.core.audit.explain import explainer
from ctrail_pipeline.core.audit.manifest import manifest
from ctrail_pipeline.core.audit.sought import Sought
from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.output_numbers import next_number
from ctrail_pipeline.core.ledger.queries_prune import files_to_remove
from ctrail_pipeline.core.output.local.folders import OutputFolders
from ctrail_pipeline.core.output.local.staging import LocalStaging
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline.core.upkeep.rebuild_result import Rebuilt
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.oracle import Expectation, snapshot
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.sync_process import assert_exact, sample_settings
from ctrail_pipeline_tests.support.synced_copies import SyncedCopies
from ctrail_pipeline_tests.support.thorough import thorough


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "buckets"
    write_sample(folder, log_files=160, days=2)
    [first, second, *_] = sorted(folder.rglob("*_CloudTrail_*.json.gz"))
    first.write_bytes(gzip.compress(b'{"Records":[{"eventName":"WithoutTime"},17]}'))
    second.write_bytes(b"\xff\xfeno gzip")
    return folder


@pytest.fixture
def settings(synced_copies: SyncedCopies, sample: Path, tmp_path: Path) -> Settings:
    return synced_copies.of_sample(sample, tmp_path, problems=2)


def remove_ledger(settings: Settings) -> None:
    for path in settings.state_db.parent.glob(f"{settings.state_db.name}*"):
        path.unlink()


def rebuilt(settings: Settings, expectation: Expectation) -> Rebuilt:
    """Rebuild, sync, and check that nothing is doubled or missing."""
    result = rebuild(settings)
    sync(settings)
    assert_exact(settings, expectation)
    return result


def test_a_lost_ledger(settings: Settings, expectation: Expectation) -> None:
    remove_ledger(settings)
    with pytest.raises(LedgerError, match="make a new one of the output with `ctrail rebuild`"):
        sync(settings)
    result = rebuilt(settings, expectation)
    assert (result.events, result.doubled, result.problems) == (len(expectation.lines), 0, [])
    assert result.quarantined > 0
    assert sync(settings).progress.log_files == 2  # the damaged log files, again


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: os.truncate(path, path.stat().st_size // 2),
        lambda path: path.write_bytes(b"no database"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(
            path.read_bytes()[:8192] + b"\xff" * 65536 + path.read_bytes()[73728:]
        ),
    ],
    ids=["cut off", "another file", "empty", "overwritten inside"],
)
def test_a_damaged_ledger_is_set_aside(
    settings: Settings, expectation: Expectation, harm: Callable[[Path], None]
) -> None:
    harm(settings.state_db)
    damaged = settings.state_db.read_bytes()
    rebuilt(settings, expectation)
    [set_aside] = settings.state_db.parent.glob(f"{settings.state_db.name}.before-rebuild-*")
    assert set_aside.read_bytes() == damaged


def test_an_older_copy_of_the_ledger(
    sample: Path, tmp_path: Path, expectation: Expectation
) -> None:
    settings = sample_settings(sample, tmp_path)
    with closing(Ledger(settings.state_db)):
        pass
    shutil.copy(settings.state_db, tmp_path / "copy")
    sync(settings)
    shutil.copy(tmp_path / "copy", settings.state_db)
    with pytest.raises(LedgerError, match="an older copy was restored"):
        sync(settings)
    rebuilt(settings, expectation)


def test_a_sound_ledger_is_not_set_aside_unless_one_insists(
    settings: Settings, expectation: Expectation
) -> None:
    with pytest.raises(ConfigurationError, match="nothing to rebuild"):
        rebuild(settings)
    assert rebuild(settings, force=True).events == len(expectation.lines)
    sync(settings)
    assert_exact(settings, expectation)


def test_the_sound_ledger_of_another_folder_is_not_set_aside(
    settings: Settings, sample: Path, tmp_path: Path
) -> None:
    neighbour = sample_settings(sample, tmp_path / "other")
    sync(neighbour)
    shutil.copy(neighbour.state_db, settings.state_db)
    with pytest.raises(ConfigurationError, match="the ledger of another folder"):
        rebuild(settings)


def test_no_output_folder_no_ledger(sample: Path, tmp_path: Path) -> None:
    settings = sample_settings(sample, tmp_path)
    with pytest.raises(ConfigurationError, match="no output folder of this program"):
        rebuild(settings)
    assert not settings.state_db.exists()


def test_what_is_not_as_it_was_written_is_named_and_fetched_again(
    settings: Settings, expectation: Expectation
) -> None:
    [file, *_] = sorted(settings.events_dir.rglob("*.jsonl"))
    [line, *lines] = file.read_bytes().split(b"\n")
    file.write_bytes(b"\n".join([line[:-9], *lines]))
    foreign = settings.events_dir / "notes.txt"
    foreign.write_text("not ours")
    remove_ledger(settings)
    result = rebuild(settings)
    assert result.problem_count == len(result.problems) == 2
    assert f"{foreign}: not a file of this program; it is left alone" in result.problems
    assert f"{file}:1: not as it was written" in result.problems
    assert sync(settings).progress.events == 1
    assert snapshot(settings.events_dir) == set(expectation.lines) | {line[:-9]}


def test_lines_that_somebody_else_doubled_stay(settings: Settings) -> None:
    first = max(settings.events_dir.rglob("*.jsonl"), key=lambda path: path.stat().st_size)
    lines = first.read_bytes().splitlines(keepends=True)
    doubled = first.with_name("events_00099.jsonl")
    doubled.write_bytes(lines[0] + lines[0].replace(b"eventTime", b"eventTime ", 1))
    remove_ledger(settings)
    result = rebuild(settings)
    assert (result.doubled, result.left_over) == (1, 0)
    assert first.exists()
    assert doubled.exists()


def test_files_get_no_name_twice(settings: Settings) -> None:
    before = {path: path.read_bytes() for path in settings.events_dir.rglob("*.jsonl")}
    remove_ledger(settings)
    rebuild(settings)
    with closing(Ledger(settings.state_db)) as ledger, ledger.transaction():
        for path in before:
            folder = path.parent.relative_to(settings.events_dir).as_posix()
            _, number = next_number(ledger, Kind.EVENTS, folder, 0)
            assert not (path.parent / f"events_{number:05d}.jsonl").exists()


def test_parquet_stays_and_gets_no_row_twice(
    sample: Path, tmp_path: Path, expectation: Expectation
) -> None:
    settings = replace(sample_settings(sample, tmp_path), output_formats=("jsonl", "parquet"))
    sync(settings)
    parquet = settings.events_dir.parent / "parquet"

    def rows() -> list[str]:
        frame = polars.read_parquet(parquet / "**/*.parquet", hive_partitioning=False)
        return sorted(frame["eventID"].to_list())

    before = rows()
    assert len(before) == len(expectation.lines)
    remove_ledger(settings)
    assert rebuilt(settings, expectation).problems == []
    assert rows() == before
    [first, *_] = sorted(parquet.rglob("*.parquet"))
    first.unlink()
    remove_ledger(settings)
    [problem] = rebuild(replace(settings, output_formats=("jsonl",))).problems
    assert problem.startswith(f"{first.parent}: ")
    assert "rows too few" in problem
    assert len(rows()) < len(before), "without Parquet in the configuration, it is only said"
    result = rebuild(settings, force=True)
    assert (result.parquet_repaired, result.problems) == (1, [])
    assert rows() == before


def test_a_line_from_before_a_rebuild_says_that_nobody_knows_its_log_file(
    settings: Settings,
) -> None:
    remove_ledger(settings)
    rebuild(settings)
    [path, *_] = sorted(settings.events_dir.rglob("*.jsonl"))
    event_id = json.loads(path.read_bytes().split(b"\n")[0])["eventID"]
    with explainer(settings) as found:
        [line, *_] = found.lines(Sought(event_id=event_id))
        with pytest.raises(LedgerError, match="before the ledger was rebuilt"):
            found.explain(line)
    assert (
        len(list(manifest(settings, Sought())))
        == len(list(settings.events_dir.rglob("*.jsonl"))) + 2
    )


@pytest.mark.parametrize(
    ("step", "count", "already_removed"),
    [
        *(("linked", 2, 0), ("published", 1, 1), ("published", 1, 3)),
        *thorough(("committed", 1, 0), ("linked", 1, 0), ("linked", 9, 0)),
        *thorough(*(("published", 1, removed) for removed in (0, 2, 7))),
    ],
)
@pytest.mark.parametrize("events_per_file", [7, 10_000])
def test_a_ledger_lost_amid_a_compaction(
    synced_copies: SyncedCopies,
    sample: Path,
    tmp_path: Path,
    expectation: Expectation,
    step: str,
    count: int,
    already_removed: int,
    events_per_file: int,
) -> None:
    """Merged files and old ones lie side by side, and nobody says which of them count."""

    class Killed(BaseException):
        pass

    times = 0

    def observe(at: str) -> None:
        nonlocal times
        times += at == step
        if times == count:
            raise Killed

    settings = synced_copies.of_sample(
        sample, tmp_path, problems=2, batch_log_files=4, events_per_file=events_per_file
    )
    with pytest.raises(Killed):
        compact(settings, observe=observe)
    if step == "published":  # then the old files go, one by one
        with closing(Ledger(settings.state_db)) as ledger:
            replaced = {
                settings.events_dir / file.folder / file.name
                for file in files_to_remove(ledger, 1000)
            }
        for path in sorted(replaced)[:already_removed]:
            path.unlink()
    remove_ledger(settings)
    result = rebuilt(settings, expectation)
    assert result.doubled == 0
    assert bool(result.left_over) == (step != "committed")
    assert compact(settings).problems == []
    assert_exact(settings, expectation)


def test_it_waits_for_a_run_that_is_at_work(settings: Settings) -> None:
    remove_ledger(settings)
    folders = OutputFolders(settings.events_dir, settings.quarantine_dir)
    staging = LocalStaging(folders, "token")
    staging.open()
    try:
        with pytest.raises(LedgerError, match="a run is at work"):
            rebuild(settings)
    finally:
        staging.remove()
        folders.close()
    assert rebuild(settings).problem_count == 0


@pytest.mark.parametrize("step", ["registered", "published"])
def test_it_waits_for_a_run_that_has_nothing_staged_just_now(
    sample: Path, tmp_path: Path, expectation: Expectation, step: str
) -> None:
    """Such a run would go on with the ledger that is set aside."""
    settings = sample_settings(sample, tmp_path, batch_log_files=10, process_workers=1)
    steps: list[str] = []

    def observe(done: str) -> None:
        steps.append(done)
        if done == step and steps.count(step) == 3:
            with pytest.raises(LedgerError, match="a run is at work"):
                rebuild(settings, force=True)

    sync(settings, observe=observe)
    assert steps.count(step) > 3
    sync(settings)
    assert_exact(settings, expectation)
    assert rebuild(settings, force=True).doubled == 0


def test_a_run_that_begins_meanwhile_is_refused(
    settings: Settings, expectation: Expectation
) -> None:
    messages: list[str] = []

    def observe(_step: str) -> None:
        with pytest.raises(LedgerError) as refused:
            sync(settings)
        messages.append(str(refused.value))

    rebuild(settings, force=True, observe=observe)
    assert any("is being rebuilt" in message for message in messages)
    sync(settings)
    assert_exact(settings, expectation)


_KILLED_COMPACTION = """
import os, pickle, signal, sys
from ctrail_pipeline.core.upkeep.compaction import compact
def observe(step):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
compact(pickle.loads(bytes.fromhex(sys.argv[1])), observe=observe)
"""


@pytest.mark.parametrize("step", ["linked", "published"])
def test_a_ledger_lost_in_the_middle_of_a_compaction(
    synced_copies: SyncedCopies,
    sample: Path,
    tmp_path: Path,
    expectation: Expectation,
    step: str,
) -> None:
    """Merged files lie beside those that they replace: every line of both is there twice."""
    settings = synced_copies.of_sample(
        sample, tmp_path, problems=2, batch_log_files=4, process_workers=1
    )
    arguments = [sys.executable, "-c", _KILLED_COMPACTION, pickle.dumps(settings).hex(), step]
    process = subprocess.run(arguments, cwd=PROJECT, check=False)
    assert process.returncode == -signal.SIGKILL
    remove_ledger(settings)
    rebuilt(settings, expectation)


_KILLED = """
import os, pickle, signal, sys
from ctrail_pipeline.core.upkeep.rebuild import rebuild
at = 0
def observe(step):
    global at
    at += 1
    if at == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
rebuild(pickle.loads(bytes.fromhex(sys.argv[1])), observe=observe)
"""


@pytest.mark.thorough
def test_killed_at_any_step_it_is_begun_again(settings: Settings, expectation: Expectation) -> None:
    for step in range(1, 20):
        remove_ledger(settings)
        arguments = [sys.executable, "-c", _KILLED, pickle.dumps(settings).hex(), str(step)]
        process = subprocess.run(arguments, cwd=PROJECT, check=False)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        try:
            sync(settings)  # the ledger may be whole; if it is not, it is refused
        except LedgerError:
            rebuild(settings)
            sync(settings)
        assert_exact(settings, expectation)
    assert step == 6


def test_the_command(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctrail_pipeline.config.file.load_config", lambda: _Loaded(settings))
    remove_ledger(settings)
    assert main(["rebuild"]) == 0
    assert "rebuilt from" in capsys.readouterr().out
    assert main(["rebuild"]) == 2
    assert "nothing to rebuild" in capsys.readouterr().err


class _Loaded:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
