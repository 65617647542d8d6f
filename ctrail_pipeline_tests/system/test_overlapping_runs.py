"""Overlapping runs and trails, late and healed log files: every event is there once.

Each test compares the whole output with what the oracle reads from the buckets.
"""

import gzip
import os
import signal
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.sample.bucket import (
    ORGANIZATION,
    ORGANIZATION_BUCKET,
    PAYMENTS_ACCOUNT,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    SampleObject,
    generate_log_files,
)
from ctrail_pipeline_tests.support.engines import with_ledger_in
from ctrail_pipeline_tests.support.late_log_files import NOON, event, put_log_file
from ctrail_pipeline_tests.support.oracle import Expectation, read_buckets, snapshot
from ctrail_pipeline_tests.support.standing import standing
from ctrail_pipeline_tests.support.sync_process import (
    Ended,
    assert_exact,
    let_a_minute_pass,
    local_trail,
    put_object,
    run_sync,
    settings_in,
    start_sync,
)
from ctrail_pipeline_tests.support.thorough import thorough

KILLS = int(os.environ.get("CTRAIL_KILLS", "12"))
"""The number of random kills (`CTRAIL_KILLS`)."""
KILL_SEED = int(os.environ.get("CTRAIL_KILL_SEED", "1"))


def put(buckets: Path, objects: Sequence[SampleObject]) -> None:
    for sample_object in objects:
        put_object(
            buckets / sample_object.bucket,
            sample_object.key,
            sample_object.body,
            sample_object.last_modified,
        )


def is_log_file(sample_object: SampleObject) -> bool:
    return "/CloudTrail/" in sample_object.key


@pytest.fixture(scope="module")
def objects() -> list[SampleObject]:
    return list(generate_log_files(log_files=160, days=2))


@pytest.fixture(scope="module")
def buckets(objects: list[SampleObject], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("buckets")
    put(folder, objects)
    return folder


@pytest.fixture(scope="module")
def expectation(buckets: Path) -> Expectation:
    return read_buckets(
        [(buckets / ORGANIZATION_BUCKET, ""), (buckets / PAYMENTS_BUCKET, PAYMENTS_PREFIX)]
    )


def sample_trails(buckets: Path) -> tuple[Trail, Trail]:
    return (
        local_trail(buckets / ORGANIZATION_BUCKET, name="org"),
        local_trail(buckets / PAYMENTS_BUCKET, PAYMENTS_PREFIX, name="payments"),
    )


@pytest.fixture(params=["sqlite", *thorough("postgres")])
def settings(request: pytest.FixtureRequest, buckets: Path, tmp_path: Path) -> Settings:
    return with_ledger_in(request.param, settings_in(tmp_path, sample_trails(buckets)))


def synced(settings: Settings, selection: Selection | None = None) -> Summary:
    summary = sync(settings, selection)
    assert summary.ok, summary.problems
    return summary


# --- several runs at once ---------------------------------------------------------------------


@pytest.mark.parametrize("step_seconds", [0, 0.01])
@pytest.mark.parametrize("runs", [2, *thorough(4)])
def test_runs_at_once_on_the_same_trails(
    settings: Settings, expectation: Expectation, runs: int, step_seconds: float
) -> None:
    """The runs begin together, so they also make the ledger and the output folder at once."""
    processes = [start_sync(settings, step_seconds=step_seconds) for _ in range(runs)]
    ended = [process.wait() for process in processes]
    assert [sync_end.returncode for sync_end in ended] == [0] * runs, ended
    assert_exact(settings, expectation)
    assert sum(sync_end.summary["events"] for sync_end in ended) == len(expectation.lines)


@pytest.mark.parametrize(
    "selections",
    [
        (Selection(trails=["org"]), Selection(trails=["payments"])),
        *thorough(
            [
                Selection(trails=["org"]),
                Selection(trails=["payments"]),
                Selection(partitions=[f"{PAYMENTS_ACCOUNT}/*"]),
                Selection(start=datetime(2026, 1, 15, tzinfo=UTC)),
            ]
        ),
    ],
    ids=["two trails", "two trails, an account, a day"],
)
def test_runs_at_once_on_overlapping_trails(
    settings: Settings, expectation: Expectation, selections: Sequence[Selection]
) -> None:
    processes = [start_sync(settings, selection, step_seconds=0.01) for selection in selections]
    ended = [process.wait() for process in processes]
    assert {sync_end.returncode for sync_end in ended} == {0}, ended
    assert_exact(settings, expectation)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(3))
def test_kills_among_runs_at_once(settings: Settings, expectation: Expectation, seed: int) -> None:
    rng = Random(seed)
    kills = [("staged", 2), ("committed", rng.randint(1, 3)), ("linked", rng.randint(1, 20)), None]
    for _ in range(2):
        processes = [start_sync(settings, kill_at=kill, step_seconds=0.005) for kill in kills]
        ended = [process.wait() for process in processes]
        assert {sync_end.returncode for sync_end in ended} <= {0, -signal.SIGKILL}, ended
        assert ended[-1].returncode == 0, ended
    let_a_minute_pass(settings)
    synced(settings)
    assert_exact(settings, expectation)


@pytest.mark.thorough
def test_random_kills_among_runs_at_once(
    buckets: Path, expectation: Expectation, tmp_path: Path
) -> None:
    """Three runs at a time, two or all of which die, until one ends by itself. Then a clean run."""
    rng = Random(KILL_SEED)
    kills = rounds = 0
    while kills < max(4, KILLS // 3):
        rounds += 1
        settings = settings_in(tmp_path / str(rounds), sample_trails(buckets), batch_log_files=8)
        done = False
        while not done:
            processes = [start_sync(settings, step_seconds=0.003) for _ in range(3)]
            for process in processes:
                process.wait_until_ready()
            for process in rng.sample(processes, 2 if rng.random() < 0.5 else 3):
                time.sleep(rng.uniform(0, 0.15))
                process.signal(signal.SIGKILL)
            ended = [process.wait().returncode for process in processes]
            assert set(ended) <= {0, -signal.SIGKILL}
            kills += ended.count(-signal.SIGKILL)
            done = 0 in ended
        let_a_minute_pass(settings)
        synced(settings)
        assert_exact(settings, expectation)
    print(f"{kills} kills in {rounds} rounds of three runs at once: all compared")


@pytest.mark.parametrize(
    "step", ["committed", "marked", *thorough("registered", "staged", "published")]
)
def test_another_run_begins_the_output_folder_while_we_look_at_it(
    settings: Settings, expectation: Expectation, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    is_unused = Ledger.is_unused
    killed_runs: list[Ended] = []

    def is_unused_after_another_run(ledger: Ledger) -> bool:
        if not killed_runs:
            killed_runs.append(run_sync(settings, kill_at=(step, 1)))
        return is_unused(ledger)

    monkeypatch.setattr(Ledger, "is_unused", is_unused_after_another_run)
    synced(settings)
    monkeypatch.undo()
    assert killed_runs[0].returncode == -signal.SIGKILL
    let_a_minute_pass(settings)
    synced(settings)
    assert_exact(settings, expectation)


@pytest.mark.parametrize("look", range(3))
def test_another_run_makes_the_ledger_while_we_open_it(
    settings: Settings, expectation: Expectation, monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    settings = with_ledger_in("sqlite", settings)
    settings.state_db.parent.mkdir(exist_ok=True)
    looks = 0

    class Connection(sqlite3.Connection):
        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            nonlocal looks
            looks += 1
            if looks == look + 1:
                Ledger(settings.state_db).close()
            return super().execute(*arguments)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Connection))
    synced(settings)
    monkeypatch.undo()
    assert_exact(settings, expectation)


# --- trails that hold the same events ---------------------------------------------------------


def test_a_second_trail_with_the_same_events_is_added_later(
    settings: Settings, buckets: Path, expectation: Expectation
) -> None:
    synced(settings, Selection(trails=["org"]))
    lines = snapshot(settings.events_dir)
    payments = read_buckets([(buckets / PAYMENTS_BUCKET, PAYMENTS_PREFIX)])
    later = synced(settings)
    assert later.progress.log_files == payments.log_files
    assert later.progress.duplicates == payments.records
    assert snapshot(settings.events_dir) == lines
    assert_exact(settings, expectation)


def test_two_prefixes_of_one_bucket_in_waves(objects: list[SampleObject], tmp_path: Path) -> None:
    """Each wave is a few hours of both prefixes. The runs take turns with one prefix or both."""
    bucket = tmp_path / "both"
    prefixes = {ORGANIZATION_BUCKET: "first", PAYMENTS_BUCKET: "second/of two"}
    trails = [local_trail(bucket, prefix, name=prefix) for prefix in prefixes.values()]
    settings = settings_in(tmp_path, trails)
    copies = sorted(
        (log_file for log_file in objects if f"/{PAYMENTS_ACCOUNT}/CloudTrail/" in log_file.key),
        key=lambda log_file: log_file.last_modified,
    )
    assert {log_file.bucket for log_file in copies} == set(prefixes)
    waves = [copies[at : at + 9] for at in range(0, len(copies), 9)]
    assert len(waves) > 5
    turns: list[list[str] | None] = [["first"], None, ["second/of two"]]
    for number, wave in enumerate(waves):
        for log_file in wave:
            key = f"{prefixes[log_file.bucket]}/{log_file.key[log_file.key.index('AWSLogs/') :]}"
            put_object(bucket, key, log_file.body, log_file.last_modified)
        synced(settings, Selection(trails=turns[number % len(turns)]))
    synced(settings)
    assert_exact(settings, read_buckets([(bucket, prefix) for prefix in prefixes.values()]))


def test_organizations_and_plain_accounts_in_one_bucket(
    objects: list[SampleObject], tmp_path: Path
) -> None:
    """Two organizations and their accounts themselves deliver the same log files."""
    bucket = tmp_path / "shared"
    log_files = [
        log_file
        for log_file in objects
        if log_file.bucket == ORGANIZATION_BUCKET and is_log_file(log_file)
    ]
    owners = (f"{ORGANIZATION}/", "o-another2org/", "")
    for number, log_file in enumerate(log_files):
        for owner in (owners[number % 3], owners[number // 3 % 3]):
            key = log_file.key.replace(f"{ORGANIZATION}/", owner)
            put_object(bucket, key, log_file.body, log_file.last_modified)
    settings = settings_in(tmp_path, [local_trail(bucket)])
    synced(settings)
    everything = read_buckets([(bucket, "")])
    assert everything.log_files > len(log_files)
    assert_exact(settings, everything)


def test_copies_in_several_accounts_of_a_record_without_an_account_of_its_own(
    tmp_path: Path,
) -> None:
    """There is one line. The first log file decides which account's folder it lies in."""
    bucket = tmp_path / "bucket"
    records = [event(number) for number in range(50)]
    for record in records:
        del record["recipientAccountId"]
    accounts = ("111122223333", "222233334444", "333344445555")
    for number, account in enumerate(accounts):
        for part in range(3):
            at = NOON + timedelta(minutes=5 * part)
            put_log_file(bucket, account, at, records[part * 10 : part * 10 + 30], number)
    settings = settings_in(tmp_path, [local_trail(bucket)], batch_log_files=2)
    for account in reversed(accounts):
        synced(settings, Selection(partitions=[f"{account}/*"]))
    assert_exact(settings, read_buckets([(bucket, "")]))
    assert len(snapshot(settings.events_dir)) == len(records)


# --- log files that come after the sync has passed their time ---------------------------------


def test_log_files_stamped_in_hours_that_were_processed(tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    settings = settings_in(tmp_path, [local_trail(bucket)])
    for number in range(12):
        put_log_file(bucket, "111122223333", NOON + timedelta(minutes=5 * number), [event(number)])
    synced(settings)
    for number in range(12):
        at = NOON + timedelta(minutes=5 * number)
        put_log_file(bucket, "111122223333", at, [event(100 + number), event(number)], 1)
    later = synced(settings)
    assert (later.progress.log_files, later.progress.events) == (12, 12)
    assert_exact(settings, read_buckets([(bucket, "")]))


@pytest.mark.parametrize("hours_late", [0.1, 1, 6, 20])
def test_keys_that_sort_before_processed_ones(tmp_path: Path, hours_late: float) -> None:
    """Three log files stamped 11:55 after one stamped 12:00, and later ones still."""
    bucket = tmp_path / "bucket"
    settings = settings_in(tmp_path, [local_trail(bucket)])
    put_log_file(bucket, "111122223333", NOON, [event(0)])
    synced(settings)
    for number in range(1, 4):
        at = NOON - timedelta(hours=hours_late)
        arrives = NOON + timedelta(minutes=number)
        put_log_file(bucket, "111122223333", at, [event(number)], number, arrives=arrives)
        synced(settings)
        assert_exact(settings, read_buckets([(bucket, "")]))


def test_a_key_of_the_far_future_hides_nothing(tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    settings = settings_in(tmp_path, [local_trail(bucket)])
    planted = datetime(2099, 1, 1, tzinfo=UTC)
    put_log_file(bucket, "111122223333", planted, [event(0)], arrives=NOON)
    put_log_file(bucket, "111122223333", NOON, [event(1)])
    synced(settings)
    for number in range(2, 5):
        put_log_file(bucket, "111122223333", NOON + timedelta(hours=number), [event(number)])
        synced(settings)
    assert_exact(settings, read_buckets([(bucket, "")]))


@pytest.mark.parametrize("damage", ["cut", "flipped", "json"])
@pytest.mark.parametrize("between", [0, 40], ids=["at once", "when the cursor is days ahead"])
def test_a_damaged_object_that_heals(tmp_path: Path, damage: str, between: int) -> None:
    """A sync takes nothing of the log file while it is damaged, and all of it once it is sound."""
    bucket = tmp_path / "bucket"
    settings = settings_in(tmp_path, [local_trail(bucket)])
    records = [event(number) for number in range(20)]
    key = put_log_file(bucket, "111122223333", NOON, records)
    sound = (bucket / key).read_bytes()
    put_log_file(bucket, "111122223333", NOON, [event(100)], 1)
    put_object(bucket, key, damaged(sound, damage), NOON)
    summary = sync(settings)
    assert [problem.state for problem in summary.problems] == ["damaged"]
    assert_exact(settings, read_buckets([(bucket, "")]))
    if damage != "json":
        assert len(snapshot(settings.events_dir)) == 1
    for number in range(between):
        at = NOON + timedelta(hours=3 * number)
        put_log_file(bucket, "111122223333", at, [event(200 + number)], 2)
    if between:
        sync(settings)
    put_object(bucket, key, sound, NOON + timedelta(hours=1))
    make_visits_due(settings)
    synced(settings)
    healed = read_buckets([(bucket, "")])
    assert len(healed.lines) == 21 + between
    assert_exact(settings, healed)
    assert not standing(synced(settings))


@pytest.mark.thorough
def test_runs_at_once_over_an_object_that_heals_meanwhile(tmp_path: Path) -> None:
    bucket = tmp_path / "bucket"
    settings = settings_in(tmp_path, [local_trail(bucket)], batch_log_files=3)
    keys = [
        put_log_file(bucket, "111122223333", NOON + timedelta(minutes=n), [event(n)])
        for n in range(30)
    ]
    sound = {key: (bucket / key).read_bytes() for key in keys[::3]}
    for key, body in sound.items():
        put_object(bucket, key, damaged(body, "cut"), NOON)
    first = start_sync(settings, step_seconds=0.02)
    first.wait_until_ready()
    for key, body in sound.items():
        put_object(bucket, key, body, NOON + timedelta(hours=1))
    second = start_sync(settings, step_seconds=0.01)
    assert first.wait().returncode in (0, 1)
    assert second.wait().returncode in (0, 1)
    assert run_sync(settings).returncode == 0
    assert_exact(settings, read_buckets([(bucket, "")]))


# --- log files of this module -----------------------------------------------------------------


def damaged(sound: bytes, damage: str) -> bytes:
    if damage == "cut":
        return sound[: len(sound) // 2]
    if damage == "flipped":
        middle = len(sound) // 2
        return sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :]
    return gzip.compress(gzip.decompress(sound)[:-40], mtime=0)


def make_visits_due(settings: Settings) -> None:
    """Make every visit due, as if the time until the next try had passed."""
    with closing(Ledger(settings.ledger)) as ledger, ledger.transaction():
        ledger.execute("UPDATE log_file SET next_visit = 0 WHERE next_visit IS NOT NULL")
