"""An output in a bucket keeps the promises of one in folders, on both engines."""

import json
import shutil
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from ctrail_pipeline.cli.events_view import connect, files_to_query
from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.audit.explain import explainer
from ctrail_pipeline.core.audit.findings import FindingKind
from ctrail_pipeline.core.audit.manifest import manifest
from ctrail_pipeline.core.audit.sought import Sought
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.output.bucket.conditions import Conditions
from ctrail_pipeline.core.output.bucket.object_store import Found, ObjectStore
from ctrail_pipeline.core.output.bucket.staging import MERGED
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline.core.upkeep.ledger_copy import copy_ledger
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline_tests.support.engines import ENGINES, with_ledger_in
from ctrail_pipeline_tests.support.oracle import Expectation
from ctrail_pipeline_tests.support.output_buckets import keys_in, seaweedfs_bucket
from ctrail_pipeline_tests.support.s3_server import ACCESS_KEY, SECRET_KEY
from ctrail_pipeline_tests.support.seaweedfs import s3_client
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    let_a_minute_pass,
    run_sync,
    sample_settings,
    start_sync,
)
from ctrail_pipeline_tests.support.thorough import thorough

SAMPLE = {"log_files": 60, "days": 1}
REAL = {name: getattr(ObjectStore, name) for name in ("put", "copy", "head")}
NEVER = datetime(2100, 1, 1, tzinfo=UTC)


on_both_engines = pytest.mark.parametrize("settings", ENGINES, indirect=True)
"""Where the engines differ most. All other tests try PostgreSQL in the thorough tier."""


@pytest.fixture(params=["sqlite", *thorough("postgres")])
def settings(
    request: pytest.FixtureRequest, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    changes = {"output": seaweedfs_bucket(monkeypatch), "jsonl_compression": "gzip"}
    return with_ledger_in(request.param, sample_settings(sample, tmp_path, **changes))


@on_both_engines
def test_a_sync_into_a_bucket_is_exact_and_leaves_nothing_on_the_disk(
    settings: Settings, expectation: Expectation
) -> None:
    assert sync(replace(settings, process_workers=1)).ok
    assert_exact(settings, expectation)
    assert sync(settings).progress.log_files == 0
    assert not settings.events_dir.exists()
    assert not settings.quarantine_dir.exists()


def test_worker_processes_stage_into_a_bucket(settings: Settings, expectation: Expectation) -> None:
    ended = run_sync(replace(settings, process_workers=2), in_workers=True)
    assert ended.returncode == 0, ended
    assert_exact(settings, expectation)


@pytest.mark.parametrize(
    "step", ["committed", "linked", *thorough("registered", "staged", "marked", "published")]
)
def test_whatever_step_a_run_is_killed_at_the_next_one_finishes(
    settings: Settings, expectation: Expectation, step: str
) -> None:
    settings = replace(settings, process_workers=1)
    ended = run_sync(settings, kill_at=(step, 2))
    assert ended.returncode == -9, ended
    let_a_minute_pass(settings)
    again = run_sync(settings)
    assert again.returncode == 0, again
    assert_exact(settings, expectation)


@on_both_engines
def test_runs_at_once_write_each_event_once(settings: Settings, expectation: Expectation) -> None:
    settings = replace(settings, process_workers=1, batch_log_files=5)
    runs = [start_sync(settings) for _ in range(3)]
    assert [run.wait().returncode for run in runs] == [0, 0, 0]
    assert_exact(settings, expectation)


def test_verify_manifest_and_explain_read_a_bucket(
    settings: Settings, expectation: Expectation
) -> None:
    assert sync(settings).ok
    report = compare(settings, deep=True)
    assert (report.findings, report.output.lines) == ([], len(expectation.lines))
    entries = [json.loads(line) for line in manifest(settings, Sought())]
    paths = {entry["path"] for entry in entries if entry["kind"] == "file"}
    assert paths == event_files(settings)
    with explainer(settings) as explain:
        path = min(paths)
        line = explain.line_at(f"{settings.events}/{path}:1")
        assert explain.line_at(f"{path}:1").data == line.data
        assert line.data in expectation.lines


def test_a_query_reads_a_bucket(settings: Settings, expectation: Expectation) -> None:
    assert sync(settings).ok
    output = open_output(settings)
    folder = min(event_files(settings)).rpartition("/")[0]
    account, region, year, month, day, hour = folder.split("/")
    where = f"account = '{account}' AND region = '{region}' AND date = '{year}-{month}-{day}'"
    with closing(output), connect(output, files_to_query(settings)) as connection:
        counts = connection.execute(
            f"SELECT count(*), count(*) FILTER ({where} AND hour = {int(hour)}) FROM events"
        ).fetchall()
    in_hour = sum(folder in line.folders for line in expectation.lines.values())
    assert counts == [(len(expectation.lines), in_hour)]
    with connect(output) as connection:  # without a ledger
        [(count,)] = connection.execute("SELECT count(*) FROM events").fetchall()
    assert count == len(expectation.lines)


def test_verify_finds_what_is_altered_missing_or_foreign(settings: Settings) -> None:
    assert sync(settings).ok
    assert settings.output is not None
    bucket, root = settings.output.bucket, settings.output.events.prefix
    client = s3_client(str(settings.output.endpoint_url))
    altered, missing = sorted(event_files(settings))[:2]
    client.put_object(Bucket=bucket, Key=f"{root}/{altered}", Body=b"x")
    client.delete_object(Bucket=bucket, Key=f"{root}/{missing}")
    foreign = f"{missing.rpartition('/')[0]}/events_00077.jsonl"
    client.put_object(Bucket=bucket, Key=f"{root}/{foreign}", Body=b"{}")
    found = {(finding.kind, finding.where) for finding in compare(settings).findings}
    assert found == {
        (FindingKind.OUTPUT_ALTERED, f"{settings.events}/{altered}"),
        (FindingKind.OUTPUT_MISSING, f"{settings.events}/{missing}"),
        (FindingKind.OUTPUT_FOREIGN, f"{settings.events}/{foreign}"),
    }


def test_a_compaction_and_a_prune_wait_an_hour(
    settings: Settings, expectation: Expectation
) -> None:
    settings = replace(settings, batch_log_files=4, output_formats=("jsonl", "parquet"))
    assert sync(settings).ok
    before = event_files(settings)
    assert compact(settings).folders == 0
    prune(settings, NEVER)
    assert event_files(settings) == before
    pass_hours(settings)
    assert compact(settings).folders > 0
    assert len(event_files(settings)) < len(before)
    assert_exact(settings, expectation)
    assert compare(settings, deep=True).findings == []
    pass_hours(settings)
    prune(settings, NEVER)
    assert event_files(settings) == set()


def test_merged_files_say_so_in_their_metadata(settings: Settings) -> None:
    settings = replace(settings, batch_log_files=4, output_formats=("jsonl", "parquet"))
    assert sync(settings).ok
    assert merged_keys(settings) == set()
    before = keys_of(settings)
    pass_hours(settings)
    assert compact(settings).folders > 0
    assert merged_keys(settings) == keys_of(settings) - before
    assert {key.rpartition(".")[2] for key in merged_keys(settings)} == {"gz", "parquet"}


def test_a_file_costs_a_put_a_copy_and_a_head(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[str] = []
    for name in ("put", "copy", "head"):

        def counted(
            store: ObjectStore, key: str, *values: Any, name: str = name, **options: Any
        ) -> Any:
            if not any(part in f"{key}{values}" for part in (".probes", ".ctrail")):
                requests.append(name)  # many threads do so at once
            return REAL[name](store, key, *values, **options)

        monkeypatch.setattr(ObjectStore, name, counted)
    assert sync(replace(settings, process_workers=1)).ok
    files = len(event_files(settings))
    assert files > 20
    assert Counter(requests) == {"put": files, "copy": files, "head": files}


def test_another_machine_finishes_what_a_run_had_committed(
    sample: Path, expectation: Expectation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of the first machine but the database and the bucket."""
    output = seaweedfs_bucket(monkeypatch)
    (tmp_path / "first").mkdir()
    settings = sample_settings(sample, tmp_path / "first", output=output, process_workers=1)
    settings = with_ledger_in("postgres", settings)
    ended = run_sync(settings, kill_at=("committed", 1))
    assert ended.returncode == -9, ended
    assert event_files(settings) == set()
    let_a_minute_pass(settings)
    shutil.rmtree(tmp_path / "first")
    monkeypatch.setattr("ctrail_pipeline.core.ledger.machine._machine", lambda: "another")
    other = replace(settings, state_db=tmp_path / "second" / "ledger.db")
    assert sync(other).ok
    assert_exact(other, expectation)


def test_the_ledger_of_a_bucket_moves(
    settings: Settings, expectation: Expectation, tmp_path: Path
) -> None:
    assert sync(settings).ok
    (tmp_path / "moved").mkdir()
    moved = settings.with_ledger(tmp_path / "moved" / "state.db")
    copy_ledger(settings, settings.ledger, moved.ledger)
    assert sync(moved).progress.log_files == 0
    assert_exact(moved, expectation)


def test_a_rebuilt_ledger_knows_what_is_there(settings: Settings, expectation: Expectation) -> None:
    settings = replace(settings, output_formats=("jsonl", "parquet"))
    assert sync(settings).ok
    before = event_files(settings)
    assert rebuild(settings, force=True).events == len(expectation.lines)
    assert sync(settings).ok
    assert event_files(settings) == before
    assert_exact(settings, expectation)


# --- vanished objects -----------------------------------------------------------------------------


class Died(BaseException):
    """Stands for the end of the process."""


def die_at(settings: Settings, step: str) -> None:
    """Sync, and die at a step."""

    def die(at: str) -> None:
        if at == step:
            raise Died

    with pytest.raises(Died):
        sync(settings, observe=die)


def delete(settings: Settings, part_of_key: str) -> int:
    """Delete all objects whose keys contain a text; return how many they are."""
    assert settings.output is not None
    client, bucket = s3_client(str(settings.output.endpoint_url)), settings.output.bucket
    keys = [key for key in keys_in(settings.output) if part_of_key in key]
    for key in keys:
        client.delete_object(Bucket=bucket, Key=key)
    return len(keys)


@pytest.mark.parametrize("vanished", [".part", "00001.part"])
def test_staged_objects_that_vanish_are_made_again(
    settings: Settings, expectation: Expectation, vanished: str
) -> None:
    settings = replace(settings, output_formats=("jsonl", "parquet"), process_workers=1)
    die_at(settings, "committed")
    assert delete(settings, vanished)
    assert sync(settings).ok
    assert_exact(settings, expectation)
    assert compare(settings, deep=True).findings == []


@pytest.mark.parametrize("step", ["restaged", "noted", "linked", "recovered"])
def test_killed_while_they_are_made_again(
    settings: Settings, expectation: Expectation, step: str
) -> None:
    settings = replace(settings, process_workers=1)
    die_at(settings, "committed")
    assert delete(settings, ".part")
    die_at(settings, step)
    assert sync(settings).ok
    assert_exact(settings, expectation)


def test_merged_objects_that_vanish_are_merged_once_more(
    settings: Settings, expectation: Expectation
) -> None:
    settings = replace(settings, batch_log_files=4, output_formats=("jsonl", "parquet"))
    assert sync(settings).ok
    pass_hours(settings)

    def die(at: str) -> None:
        if at == "committed":
            raise Died

    with pytest.raises(Died):
        compact(settings, observe=die)
    assert delete(settings, ".part")
    before = event_files(settings)
    assert sync(settings).ok
    assert len(event_files(settings)) < len(before)
    assert_exact(settings, expectation)
    assert compare(settings, deep=True).findings == []


# --- a run that is paused amid its COPYs ----------------------------------------------------------


def pass_hours(settings: Settings) -> None:
    """Have leases lapse, and have what is published be published for two hours."""
    with closing(Ledger(settings.ledger)) as ledger, ledger.transaction():
        ledger.execute("UPDATE batch SET published_at = published_at - 7200")
        ledger.execute("UPDATE lease SET renewed_at = renewed_at - 7200")


@pytest.mark.parametrize("paused", ["sync", "compaction"])
def test_a_run_that_is_paused_before_a_copy_brings_nothing_back(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paused: str
) -> None:
    """Another machine publishes its batch, merges it and prunes everything, within two hours."""
    changes = {"output": seaweedfs_bucket(monkeypatch), "batch_log_files": 20}
    settings = with_ledger_in("postgres", sample_settings(sample, tmp_path, **changes))
    settings = replace(settings, process_workers=1)
    if paused == "compaction":
        assert sync(settings).ok
        pass_hours(settings)
    copy, turn = Conditions.copy, Lock()
    copies: list[str] = []

    def pause(conditions: Conditions, source: str, target: str) -> Found | None:
        with turn:
            is_second = len(copies) == 1
            copies.append(target)
        if is_second:
            monkeypatch.undo()
            finish_and_prune()
        return copy(conditions, source, target)

    def finish_and_prune() -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, {"AWS_ACCESS_KEY_ID": ACCESS_KEY}.get(name, SECRET_KEY))
        for _ in range(3):
            pass_hours(settings)
            compact(settings)
        pass_hours(settings)
        assert prune(settings, NEVER).files > 0
        assert event_files(settings) == set()

    monkeypatch.setattr(Conditions, "copy", pause)
    (sync if paused == "sync" else compact)(settings)
    assert len(copies) > 1
    pass_hours(settings)
    compact(settings)
    pass_hours(settings)
    prune(settings, NEVER)
    assert event_files(settings) == set()
    assert sync(settings).progress.log_files == 0


def keys_of(settings: Settings) -> set[str]:
    """Keys of the files of events and Parquet."""
    assert settings.output is not None
    return {key for key in keys_in(settings.output) if key.endswith((".gz", ".parquet"))}


def merged_keys(settings: Settings) -> set[str]:
    """Keys of the files whose metadata says that they take the place of others."""
    assert settings.output is not None
    client, bucket = s3_client(str(settings.output.endpoint_url)), settings.output.bucket
    return {
        key
        for key in keys_of(settings)
        if MERGED in client.head_object(Bucket=bucket, Key=key)["Metadata"]
    }


def event_files(settings: Settings) -> set[str]:
    """Paths of the files of events, below their root."""
    assert settings.output is not None
    root = f"{settings.output.events.prefix}/"
    keys = (key for key in keys_in(settings.output) if key.startswith(root))
    return {key.removeprefix(root) for key in keys if not key.endswith(".ctrail")}
