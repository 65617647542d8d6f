"""A log file too large to be held at once goes through in rounds; nothing else is different."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.core.batch import content
from ctrail_pipeline.core.output.local.folders import STAGING
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output.local.staging import LocalStaging
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.large_log_files import ACCOUNT, NOON, REGION, put_log_file
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.parquet_rows import assert_rows
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.sync_process import (
    TIMEOUT_SECONDS,
    assert_exact,
    let_a_minute_pass,
    local_trail,
    plain_of,
    settings_in,
)

PIECES = 7
IN_ROUNDS = """
import os, signal
from pathlib import Path
from ctrail_pipeline.core.batch import content
from ctrail_pipeline.core.output.local.staging import LocalStaging
content.PIECES_AT_ONCE = int(os.environ["PIECES"])
write, written = LocalStaging.write, 0
def write_and_die(staging, *arguments, **more):
    global written
    staged = write(staging, *arguments, **more)
    written += 1
    if written == int(os.environ["KILL_AFTER"]) and not Path(os.environ["ONCE"]).exists():
        Path(os.environ["ONCE"]).touch()
        for pid in eval(os.environ["WHO_DIES"]):
            os.kill(pid, signal.SIGKILL)
    return staged
LocalStaging.write = write_and_die
"""
"""Runs before a sync or a worker process: rounds of a few records, and an end after some rounds."""
WORKER = f"""
import json, sys
sys.path[:] = json.loads(sys.argv[2])
{IN_ROUNDS}
from ctrail_pipeline.core.run.worker_process import main
main(int(sys.argv[1]))
"""
SYNC = """
import json, os, sys
from ctrail_pipeline.core.run import sync as sync_module, worker_handle
from ctrail_pipeline_tests.support.sync_process import leave_all_to_workers, settings_of
settings = settings_of(json.loads(sys.argv[1]))
if settings.process_workers > 1:
    sync_module._Run._process = leave_all_to_workers
    worker_handle.START = os.environ["WORKER"]
sync_module.sync(settings)
"""


def record(number: int, **fields: Any) -> dict[str, Any]:
    at = NOON + timedelta(minutes=7 * number % 180)
    return {
        "eventTime": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "eventID": f"id-{number}",
        "eventName": f"Name{number % 3}",
        "awsRegion": REGION,
        "recipientAccountId": ACCOUNT,
        **fields,
    }


def log_file(records: Sequence[object], tail: str = "]}") -> bytes:
    return ('{"Records":[' + ",".join(map(json.dumps, records)) + tail).encode()


def fill(bucket: Path) -> None:
    """Put copies near and far, eventIDs taken near and far, and what cannot be an event."""
    many: list[object] = [record(number) for number in range(20)]
    many += [record(0), record(19), record(19)]
    many += [record(1, forged=1), record(1, forged=2), record(18, forged=1)]
    many += [{"eventTime": "yesterday"}, "no object", record(3, eventTime="2026-13-01T00:00:00Z")]
    many += [record(number) for number in range(15, 25)]
    put_log_file(bucket, 0, log_file(many))
    put_log_file(bucket, 1, log_file(many[5:17], ',{"cut":'))
    put_log_file(bucket, 2, log_file([record(number) for number in range(22, 40)], '],\n"b":1}'))
    path = next(bucket.rglob("*0002.json.gz"))
    broken = path.with_name(path.name.replace("0002.json", "0003.json"))
    broken.write_bytes(path.read_bytes()[:-3])


def synced(settings: Settings) -> tuple[Summary, dict[str, list[bytes]]]:
    summary = sync(settings)
    lines: dict[str, list[bytes]] = {}
    for root in (settings.events_dir, settings.quarantine_dir):
        for path in sorted(root.rglob("*.jsonl")):
            folder = str(path.parent.relative_to(settings.events_dir.parent))
            lines.setdefault(folder, []).extend(path.read_bytes().splitlines())
    return summary, lines


@pytest.mark.parametrize("pieces", [1, 3, 7, 20])
def test_rounds_make_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    bucket = tmp_path / "bucket"
    fill(bucket)
    expected, lines = synced(settings_in(tmp_path / "at once", [local_trail(bucket)]))
    monkeypatch.setattr(content, "PIECES_AT_ONCE", pieces)
    settings = replace(
        settings_in(tmp_path / "in rounds", [local_trail(bucket)]),
        output_formats=("jsonl", "parquet"),
    )
    found, found_lines = synced(settings)
    assert {folder: sorted(folder_lines) for folder, folder_lines in found_lines.items()} == {
        folder: sorted(folder_lines) for folder, folder_lines in lines.items()
    }
    assert [astuple(counts) for counts in found.partitions.values()] == [
        astuple(counts) for counts in expected.partitions.values()
    ]
    (counts,) = found.partitions.values()
    assert min(counts.events, counts.duplicates, counts.conflicts, counts.quarantined) > 0
    assert found.events_by_hour == expected.events_by_hour
    assert found.events_by_name == expected.events_by_name
    assert_exact(settings, read_buckets([(bucket, "")]))
    assert_rows(settings)

    put_log_file(bucket, 9, log_file([record(number) for number in range(40)]))
    again, _ = synced(settings)
    assert again.progress.events == 0
    assert_exact(settings, read_buckets([(bucket, "")]))


def test_a_log_file_is_scattered_over_all_its_rounds_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = tmp_path / "bucket"
    days = (NOON - timedelta(days=back) for back in range(10))
    records = [record(0, eventTime=f"{day:%Y-%m-%dT%H:%M:%SZ}") for day in days]
    put_log_file(bucket, 0, log_file(records))
    monkeypatch.setattr(content, "PIECES_AT_ONCE", 3)
    settings = settings_in(tmp_path, [local_trail(bucket)], max_hours_per_log_file=5)
    summary, lines = synced(settings)
    assert summary.progress.events == 5
    assert (
        sum(len(folder_lines) for folder, folder_lines in lines.items() if folder.startswith("q"))
        == 5
    )


# --- killed between two rounds ----------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    bucket = tmp_path / "bucket"
    fill(bucket)
    formats = ("jsonl", "parquet")
    return settings_in(tmp_path, [local_trail(bucket)], output_formats=formats, process_workers=1)


def sync_in_rounds(settings: Settings, kill_after: int = 0, who_dies: str = "[os.getpid()]") -> int:
    """Sync in a process that is killed after so many rounds of all; return its exit code."""
    environment = {
        "PIECES": str(PIECES),
        "KILL_AFTER": str(kill_after),
        "WHO_DIES": who_dies,
        "ONCE": str(settings.state_db.with_name("killed")),
        "WORKER": WORKER,
    }
    script = SYNC if settings.process_workers > 1 else IN_ROUNDS + SYNC
    return subprocess.run(
        [sys.executable, "-c", script, json.dumps(plain_of(settings))],
        cwd=PROJECT,
        env={**os.environ, **environment},
        timeout=TIMEOUT_SECONDS,
        check=False,
    ).returncode


def rounds_of(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many rounds an undisturbed sync takes."""
    rounds = 0
    write = LocalStaging.write

    def counting(staging: LocalStaging, *arguments: Any, **options: Any) -> Any:
        nonlocal rounds
        rounds += 1
        return write(staging, *arguments, **options)

    elsewhere = settings_in(settings.events_dir.parent / "undisturbed", settings.trails)
    with monkeypatch.context() as patch:
        patch.setattr(content, "PIECES_AT_ONCE", PIECES)
        patch.setattr(LocalStaging, "write", counting)
        sync(replace(elsewhere, output_formats=settings.output_formats, process_workers=1))
    return rounds


def assert_left_amid_a_batch(settings: Settings) -> None:
    """There is a staging folder with parts of rounds, of every kind, and no output."""
    for kind, root in LocalOutput.of(settings).roots.items():
        parts = [*root.glob(".staging/*/*.part")]
        assert parts or kind is Kind.QUARANTINE, kind
        assert [path for path in root.rglob("*.*") if path.suffix in (".jsonl", ".parquet")] == []


def wait_until_nobody_lives(settings: Settings) -> None:
    """The workers of a run that was killed end by themselves, and let go of their locks."""
    output = LocalOutput.of(settings)
    deadline = time.monotonic() + 10
    for path in (settings.events_dir / STAGING).iterdir():
        staging = output.staging_of(path.name)
        while staging.owner_lives():
            assert time.monotonic() < deadline, "a worker outlives its run"
            time.sleep(0.01)
        staging.close()


def assert_recovers(settings: Settings) -> None:
    """A sync in a fresh process makes all of it right, and another one finds nothing to do."""
    let_a_minute_pass(settings)
    assert sync_in_rounds(settings) == 0
    expectation = read_buckets([(settings.events_dir.parent / "bucket", "")])
    assert_exact(settings, expectation)
    assert_rows(settings)
    assert sync(settings).progress.events == 0
    assert_exact(settings, expectation)


@pytest.mark.parametrize(
    "before_the_last", [1, *(pytest.param(at, marks=pytest.mark.thorough) for at in (None, 0))]
)
def test_killed_between_two_rounds(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, before_the_last: int | None
) -> None:
    """The last round counts, too: then everything is staged and nothing is committed."""
    rounds = rounds_of(settings, monkeypatch)
    assert rounds > 3
    kill_after = 1 if before_the_last is None else rounds - before_the_last
    assert sync_in_rounds(settings, kill_after) == -signal.SIGKILL
    assert_left_amid_a_batch(settings)
    assert_recovers(settings)


@pytest.mark.thorough
def test_killed_between_two_rounds_again_and_again(settings: Settings) -> None:
    for kill_after in (2, 1, 3):
        assert sync_in_rounds(settings, kill_after) == -signal.SIGKILL
        assert_left_amid_a_batch(settings)
        settings.state_db.with_name("killed").unlink()
    assert_recovers(settings)


@pytest.mark.thorough
def test_a_worker_killed_between_two_rounds(settings: Settings) -> None:
    """The run gives its log files to another worker, and drops what the first one had staged."""
    settings = replace(settings, process_workers=2)
    assert sync_in_rounds(settings, 2) == 0
    assert settings.state_db.with_name("killed").exists()
    expectation = read_buckets([(settings.events_dir.parent / "bucket", "")])
    assert_exact(settings, expectation)
    assert_rows(settings)


@pytest.mark.thorough
def test_a_run_killed_between_two_rounds_of_its_worker(settings: Settings) -> None:
    settings = replace(settings, process_workers=2)
    returncode = sync_in_rounds(settings, 2, "[os.getppid(), os.getpid()]")
    assert returncode == -signal.SIGKILL
    assert_left_amid_a_batch(settings)
    wait_until_nobody_lives(settings)
    assert_recovers(settings)
