"""Parquet files belong to their batch: they come and go with it, each event in one of them.

The tests kill a run at each step and run again, remove parts, run two syncs at once, use worker
processes, and prune. A folder that holds the files of another ledger is refused.
"""

import shutil
import signal
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger.batches import open_batches
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.output_numbers import published_files
from ctrail_pipeline.core.ledger.queries_reports import output_sizes
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline.reports.status import read_status
from ctrail_pipeline.reports.status_json import as_json
from ctrail_pipeline.reports.status_prometheus import as_prometheus
from ctrail_pipeline_tests.support.kills import KILLS, SEED
from ctrail_pipeline_tests.support.oracle import Expectation, snapshot
from ctrail_pipeline_tests.support.parquet_rows import assert_rows, parquet_files
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    let_a_minute_pass,
    run_sync,
    sample_settings,
    start_sync,
)
from ctrail_pipeline_tests.support.thorough import thorough

JSONL_AND_PARQUET = ("jsonl", "parquet")

SAMPLE = {"log_files": 80, "days": 2}


@pytest.fixture
def settings(sample: Path, tmp_path: Path) -> Settings:
    return sample_settings(sample, tmp_path, output_formats=JSONL_AND_PARQUET)


@pytest.fixture(scope="module")
def steps(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The steps of a sync that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    seen: list[str] = []
    assert sync(
        sample_settings(sample, folder, output_formats=JSONL_AND_PARQUET), observe=seen.append
    ).ok
    return seen


def assert_whole(settings: Settings, expectation: Expectation) -> None:
    assert_exact(settings, expectation)
    assert_rows(settings)
    with closing(Ledger(settings.state_db)) as ledger:
        of_ledger = output_sizes(ledger, Kind.PARQUET)
    assert sum(size.files for size in of_ledger) == len(parquet_files(settings))
    assert sum(size.bytes for size in of_ledger) == sum(
        path.stat().st_size for path in parquet_files(settings)
    )


def assert_recovers(settings: Settings, expectation: Expectation) -> None:
    let_a_minute_pass(settings)
    recovered = sync(settings)
    assert recovered.ok, recovered.problems
    assert_whole(settings, expectation)
    before = parquet_files(settings)
    assert sync(settings).progress.log_files == 0
    assert parquet_files(settings) == before


@pytest.mark.parametrize(
    "occurrence",
    ["middle", *thorough("first", "last")],
)
@pytest.mark.parametrize(
    "step", ["committed", *thorough("registered", "staged", "linked", "marked", "published")]
)
def test_killed_at_a_step_of_the_protocol(
    settings: Settings, expectation: Expectation, steps: list[str], step: str, occurrence: str
) -> None:
    count = {"first": 1, "middle": steps.count(step) // 2, "last": steps.count(step)}[occurrence]
    ended = run_sync(settings, kill_at=(step, count))
    assert ended.returncode == -signal.SIGKILL, ended
    assert_recovers(settings, expectation)


@pytest.mark.thorough
def test_killed_while_it_recovers_from_a_kill(settings: Settings, expectation: Expectation) -> None:
    for kill_at in (("committed", 2), ("linked", 5), ("recovered", 1)):
        assert run_sync(settings, kill_at=kill_at).returncode == -signal.SIGKILL
    assert_recovers(settings, expectation)


@pytest.mark.parametrize("vanished", ["part", *thorough("staging")])
def test_parquet_that_vanished_is_made_again(
    settings: Settings, expectation: Expectation, vanished: str
) -> None:
    assert run_sync(settings, kill_at=("committed", 2)).returncode == -signal.SIGKILL
    (staging,) = (settings.events_dir.parent / "parquet" / ".staging").iterdir()
    parts = sorted(staging.glob("*.part"))
    assert parts
    if vanished == "staging":
        shutil.rmtree(staging)
    else:
        parts[-1].unlink()
    assert_recovers(settings, expectation)


def test_jsonl_that_vanished_is_made_again_and_its_parquet_stays(
    settings: Settings, expectation: Expectation, steps: list[str]
) -> None:
    """The batch's Parquet files are published already, and are not made twice."""
    links = steps[: steps.index("published")].count("linked")
    assert run_sync(settings, kill_at=("linked", links)).returncode == -signal.SIGKILL
    assert parquet_files(settings)
    path = next(settings.events_dir.rglob("*.jsonl"))
    (part,) = [staged for staged in settings.events_dir.rglob("*.part") if staged.samefile(path)]
    part.unlink()
    path.unlink()
    assert_recovers(settings, expectation)


def test_parquet_is_published_though_it_is_switched_off_meanwhile(
    settings: Settings, expectation: Expectation
) -> None:
    assert run_sync(settings, kill_at=("committed", 1)).returncode == -signal.SIGKILL
    let_a_minute_pass(settings)
    assert run_sync(replace(settings, output_formats=("jsonl",))).returncode == 0
    assert_exact(settings, expectation)
    assert len(parquet_files(settings)) > 0
    assert not list((settings.events_dir.parent / "parquet" / ".staging").iterdir())


@pytest.mark.parametrize("in_workers", [False, pytest.param(True, marks=pytest.mark.thorough)])
@pytest.mark.thorough
def test_two_runs_at_once(settings: Settings, expectation: Expectation, in_workers: bool) -> None:
    running = [start_sync(settings, in_workers=in_workers, step_seconds=0.02) for _ in range(2)]
    assert [process.wait().returncode for process in running] == [0, 0]
    assert_whole(settings, expectation)


@pytest.mark.thorough
def test_killed_with_its_workers(settings: Settings, expectation: Expectation) -> None:
    for kill_at in (("staged", 1), ("committed", 1), ("linked", 30)):
        ended = run_sync(settings, kill_at=kill_at, in_workers=True)
        assert ended.returncode == -signal.SIGKILL, ended
        let_a_minute_pass(settings)
    assert_recovers(settings, expectation)


@pytest.mark.thorough
def test_killed_at_random_instants(sample: Path, expectation: Expectation, tmp_path: Path) -> None:
    rng = Random(SEED)
    kills = rounds = 0
    while kills < KILLS // 3:
        rounds += 1
        settings = sample_settings(sample, tmp_path / str(rounds), output_formats=JSONL_AND_PARQUET)
        returncode = -signal.SIGKILL
        while returncode == -signal.SIGKILL and kills < KILLS // 3:
            process = start_sync(settings, in_workers=rounds % 2 == 0)
            process.wait_until_ready()
            time.sleep(rng.uniform(0, 0.8))
            process.signal(signal.SIGKILL)
            ended = process.wait()
            returncode = ended.returncode
            assert returncode in (0, -signal.SIGKILL), ended
            kills += returncode == -signal.SIGKILL
        assert_recovers(settings, expectation)
        shutil.rmtree(tmp_path / str(rounds))


def test_a_name_that_is_taken_by_a_foreign_file_is_left_alone(
    settings: Settings, expectation: Expectation
) -> None:
    assert run_sync(settings, kill_at=("committed", 1)).returncode == -signal.SIGKILL
    with closing(Ledger(settings.state_db)) as ledger:
        (batch,) = open_batches(ledger)
        file = next(f for f in published_files(ledger, batch.id) if f.kind is Kind.PARQUET)
    foreign = settings.events_dir.parent / "parquet" / file.folder / file.name
    foreign.write_bytes(b"mine")
    assert run_sync(settings).returncode == 0
    assert foreign.read_bytes() == b"mine"
    foreign.unlink()
    assert_whole(settings, expectation)


def test_pruning_takes_the_dates_that_are_over(settings: Settings) -> None:
    assert sync(settings).ok
    before = datetime(2026, 1, 15, 6, 30, tzinfo=UTC)
    files = parquet_files(settings)
    gone = [path for path in files if path.parent.name < "date=2026-01-15"]
    assert 0 < len(gone) < len(files)
    events = list(settings.events_dir.rglob("*.jsonl"))
    old = [path for path in events if "/".join(path.parts[-5:-1]) < "2026/01/15/06"]
    lines = sum(path.read_bytes().count(b"\n") for path in old)
    size = sum(path.stat().st_size for path in [*gone, *old])
    plan = prune(settings, before, dry_run=True)
    assert parquet_files(settings) == files
    done = prune(settings, before)
    assert done == plan
    assert (done.files, done.lines, done.bytes) == (len(gone) + len(old), lines, size)
    assert parquet_files(settings) == [path for path in files if path not in gone]
    assert not list((settings.events_dir.parent / "parquet").rglob("date=2026-01-14"))
    assert sync(settings).progress.events == 0
    assert prune(settings, before).files == 0


def test_status_counts_parquet_as_disk_use(settings: Settings) -> None:
    assert sync(settings).ok
    status = read_status(settings)
    sizes = Counter[tuple[str, str]]()
    numbers = Counter[tuple[str, str]]()
    for path in parquet_files(settings):
        account, region = (part.partition("=")[2] for part in path.parts[-4:-2])
        sizes[account, region] += path.stat().st_size
        numbers[account, region] += 1
    output = as_json(status)["output"]
    assert {(o["account"], o["region"]): o["parquet_bytes"] for o in output} == sizes
    assert {(o["account"], o["region"]): o["parquet_files"] for o in output} == numbers
    metrics = [line for line in as_prometheus(status).splitlines() if "ctrail_parquet_b" in line]
    assert sum(int(line.split()[-1]) for line in metrics if line[0] != "#") == sum(sizes.values())


def refused(settings: Settings, **changes: Any) -> str:
    with pytest.raises(LedgerError) as caught:
        sync(replace(settings, **changes))
    return str(caught.value)


def test_a_folder_with_files_of_somebody_else_is_refused(settings: Settings) -> None:
    folder = settings.events_dir.parent / "parquet"
    folder.mkdir(mode=0o700)
    (folder / "mine.txt").write_text("mine")
    assert f"{folder} holds files that are not of" in refused(settings)
    assert not list(settings.events_dir.rglob("*.jsonl"))
    assert sync(replace(settings, output_formats=("jsonl",))).ok


def test_a_folder_of_another_ledger_is_refused(
    sample: Path, settings: Settings, tmp_path: Path
) -> None:
    """Otherwise readers of the folder would find every event twice."""
    assert sync(settings).ok
    other_settings = sample_settings(sample, tmp_path / "other", output_formats=JSONL_AND_PARQUET)
    parquet_dir = settings.events_dir.parent / "parquet"
    assert "belongs to another ledger" in refused(other_settings, parquet_dir=parquet_dir)
    assert not list(other_settings.events_dir.rglob("*.jsonl"))


def test_a_folder_that_was_moved_must_be_named(
    settings: Settings, expectation: Expectation, tmp_path: Path
) -> None:
    assert sync(settings).ok
    (tmp_path / "parquet").rename(tmp_path / "elsewhere")
    assert "name the folder that they are in" in refused(settings)
    settings = replace(settings, parquet_dir=tmp_path / "elsewhere")
    assert sync(settings).ok
    assert_whole(settings, expectation)


def test_lines_are_the_same_as_without_parquet(
    settings: Settings, sample: Path, tmp_path: Path
) -> None:
    plain = sample_settings(sample, tmp_path / "plain")
    assert sync(settings).ok
    assert sync(plain).ok
    assert snapshot(settings.events_dir) == snapshot(plain.events_dir)
