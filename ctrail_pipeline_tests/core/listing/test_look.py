"""What looks at the buckets find is fetched by runs that list nothing, each event once."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrail_pipeline.config.dagster_settings import DagsterSettings
from ctrail_pipeline.core.bucket.local import LocalBucket
from ctrail_pipeline.core.keys.coverage import EVERYTHING, Lookback, Range
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, Minute
from ctrail_pipeline.core.keys.source_prefix import KINDS, SourcePrefix
from ctrail_pipeline.core.listing import look as watch
from ctrail_pipeline.core.listing.look import Look, look
from ctrail_pipeline.core.listing.look_cursor import LookCursor, in_turn
from ctrail_pipeline.core.listing.look_frequency import (
    MOST_IDLE_ROUNDS,
    affordable_lists,
    idle_rounds,
    is_due_for_discovery,
    is_idle,
    rests_this_round,
)
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.listing.sources import Source
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, PAYMENTS_BUCKET, PAYMENTS_PREFIX
from ctrail_pipeline_tests.support.fault_server import FaultServer
from ctrail_pipeline_tests.support.growing_bucket import day_of_deliveries, deliver, settings_of
from ctrail_pipeline_tests.support.new_log_files import NOW, put
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    local_trail,
    settings_in,
    start_sync,
)
from ctrail_pipeline_tests.support.thorough import thorough

SECONDS = 20.0
LISTED = Selection(listed=True)


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    bucket = tmp_path / "logs"
    bucket.mkdir()
    return bucket


@pytest.fixture
def settings(tmp_path: Path, bucket: Path) -> Settings:
    return settings_in(tmp_path, [local_trail(bucket, name="main")])


def looked(settings: Settings, cursor: LookCursor | None = None) -> Look:
    result = look(settings, cursor or LookCursor(), SECONDS)
    assert result.problems == []
    return result


def listed_run(settings: Settings) -> Summary:
    summary = sync(settings, LISTED)
    assert summary.ok, summary.problems
    return summary


def test_what_is_new_since_the_last_run_is_found_once_and_fetched_without_listing(
    settings: Settings, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hours in range(3):
        put(bucket, "111122223333", "eu-west-1", NOW - timedelta(hours=hours), "A")
    assert sync(settings).progress.log_files == 3
    assert looked(settings).found == 0
    put(bucket, "111122223333", "eu-west-1", NOW - timedelta(hours=2), "B")  # late
    put(bucket, "111122223333", "eu-west-1", NOW, "B")
    result = looked(settings)
    assert (result.found, len(result.looked_at)) == (2, 1)
    assert (result.not_reached, result.backlog) == (set(), [])
    assert result.waiting["main", "111122223333/eu-west-1"].log_files == 2
    assert looked(settings).found == 0
    with monkeypatch.context() as patched:
        patched.setattr("ctrail_pipeline.core.bucket.local.LocalBucket.list_page", None)
        patched.setattr("ctrail_pipeline.core.bucket.local.LocalBucket.list_folder", None)
        assert listed_run(settings).progress.log_files == 2
    assert looked(settings).waiting == {}
    assert listed_run(settings).progress.log_files == 0
    assert_exact(settings, read_buckets([(bucket, "")]))
    assert sync(settings).progress.log_files == 0


def test_a_new_account_is_found_and_its_past_is_backlog(settings: Settings, bucket: Path) -> None:
    put(bucket, "111122223333", "eu-west-1", NOW, "A")
    assert sync(settings).ok
    put(bucket, "444455556666", "us-east-1", NOW, "A")
    put(bucket, "444455556666", "us-east-1", NOW - timedelta(days=400), "A")
    result = looked(settings)
    assert result.partitions == {"main": ["111122223333/eu-west-1", "444455556666/us-east-1"]}
    assert list(result.waiting) == [("main", "444455556666/us-east-1")]
    assert result.backlog == [("main", "444455556666/us-east-1")]
    assert listed_run(settings).progress.log_files == 1
    assert sync(settings, Selection(partitions=["444455556666/us-east-1"])).ok
    result = looked(settings)
    assert (result.found, result.waiting, result.backlog) == (0, {}, [])
    assert_exact(settings, read_buckets([(bucket, "")]))


def test_a_widened_window_is_backlog(settings: Settings, bucket: Path) -> None:
    put(bucket, "111122223333", "eu-west-1", NOW, "A")
    put(bucket, "111122223333", "eu-west-1", NOW - timedelta(days=60), "A")
    narrow = replace(settings, start=NOW - timedelta(days=10))
    assert sync(narrow).progress.log_files == 1
    assert looked(narrow).backlog == []
    assert looked(settings).backlog == [("main", "111122223333/eu-west-1")]


def test_a_source_prefix_with_very_many_new_log_files_is_noted_in_part(
    settings: Settings, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FOUND_A_SOURCE_PREFIX", 20)
    monkeypatch.setattr(watch, "FEW_AT_ONCE", 2)  # names that are asked for together come in whole
    put(bucket, "111122223333", "eu-west-1", NOW - timedelta(days=20), "A")
    assert sync(settings).ok
    for days in range(15):
        for suffix in "BCD":
            put(bucket, "111122223333", "eu-west-1", NOW - timedelta(days=days), suffix)
    result = looked(settings)
    assert 20 <= result.found < 45
    listed_run(settings)
    assert looked(settings).backlog == [("main", "111122223333/eu-west-1")]
    assert sync(settings).ok
    assert looked(settings).backlog == []
    assert_exact(settings, read_buckets([(bucket, "")]))


@pytest.mark.parametrize("seed", [1, *thorough(2)])
@pytest.mark.thorough
def test_looks_and_listed_runs_over_a_day_end_as_one_sync(tmp_path: Path, seed: int) -> None:
    """Each time, log files are late, accounts are new, and cursors are lost."""
    settings = settings_of(tmp_path)
    objects = day_of_deliveries(seed)
    for at in range(0, len(objects), 20):
        deliver(tmp_path, objects[at : at + 20])
        result = looked(settings)
        if result.waiting:
            listed_run(settings)
        if result.backlog:
            partitions = [key for _, key in result.backlog]
            assert sync(settings, Selection(partitions=partitions)).ok
        assert looked(settings).waiting == {}
    buckets = [(tmp_path / ORGANIZATION_BUCKET, ""), (tmp_path / PAYMENTS_BUCKET, PAYMENTS_PREFIX)]
    assert_exact(settings, read_buckets(buckets))
    assert sync(settings).progress.log_files == 0


def test_a_look_between_the_steps_of_a_run_costs_no_event(settings: Settings, bucket: Path) -> None:
    for number in range(60):
        put(bucket, "111122223333", "eu-west-1", NOW - timedelta(minutes=number), "A")
    running = start_sync(settings, step_seconds=0.05)
    running.wait_until_ready()
    while running._process.poll() is None:
        looked(settings)
    assert running.wait().returncode == 0
    listed_run(settings)
    assert_exact(settings, read_buckets([(bucket, "")]))
    ledger = sqlite3.connect(settings.state_db)
    assert ledger.execute("SELECT count(*) FROM log_file WHERE state != 1").fetchone() == (0,)
    ledger.close()


def test_a_trail_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path, bucket: Path) -> None:
    put(bucket, "111122223333", "eu-west-1", NOW, "A")
    missing_bucket = Trail("gone", (tmp_path / "gone").as_uri())
    settings = settings_in(tmp_path, [missing_bucket, local_trail(bucket, name="main")])
    result = look(settings, LookCursor(), SECONDS)
    assert [(problem.trail, problem.state) for problem in result.problems] == [
        ("gone", "not listed")
    ]
    assert result.found == 1


def test_a_listed_run_says_what_is_denied_and_leaves_it_to_the_next(
    settings: Settings, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [
        put(bucket, "111122223333", "eu-west-1", NOW - timedelta(minutes=number), "A")
        for number in range(20)
    ]
    with FaultServer(bucket.parent) as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        trail = Trail("main", bucket.name, "", "us-east-1", server.endpoint_url)
        served = replace(settings, trails=(trail,))
        assert look(served, LookCursor(), SECONDS).found == len(keys)
        lists = server.counts.requests["list"]
        server.faults.denied = set(keys)
        summary = sync(served, LISTED)
        assert [problem.state for problem in summary.problems] == ["not readable"]
        server.heal()
        assert sync(served, LISTED).progress.log_files == len(keys)
        assert server.counts.requests["list"] == lists


@pytest.fixture
def many(tmp_path: Path, bucket: Path) -> Settings:
    for number in range(150):
        put(bucket, f"{number:012}", "eu-west-1", NOW, "A")
    return settings_in(tmp_path, [local_trail(bucket, name="main")])


def test_a_look_out_of_time_goes_on_where_it_stopped(
    many: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_CHUNK", 40)
    cursor, found, not_reached = LookCursor(), [], []
    for _ in range(5):
        result = look(many, cursor, 0)
        cursor = LookCursor.parse(result.cursor.dump())
        found.append(result.found)
        not_reached.append(len(result.not_reached))
    assert (found, not_reached) == ([40, 40, 40, 30, 0], [110, 110, 110, 110, 110])


@given(st.lists(st.text("abc", min_size=1), unique=True), st.text("abc"))
def test_a_turn_is_once_around(names: Sequence[str], after: str) -> None:
    turn = in_turn(names, after)
    assert sorted(turn) == sorted(names)
    behind = [name for name in turn if name > after]
    assert turn[: len(behind)] == sorted(behind)


@given(st.text() | st.none())
def test_no_text_is_too_odd_for_a_cursor(text: str | None) -> None:
    LookCursor.parse(text)


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"round": "x"}', '{"round": 1, "after": 2, "discovered": []}', "[" * 100_000],
)
def test_a_wrong_cursor_is_a_fresh_start(text: str) -> None:
    assert LookCursor.parse(text) == LookCursor()


def test_a_cursor_is_read_as_it_was_written() -> None:
    cursor = LookCursor(3, "main: AWSLogs/ü", {"main": 1.5})
    assert LookCursor.parse(cursor.dump()) == cursor


def test_a_source_prefix_is_idle_after_a_day_without_a_log_file() -> None:
    now = Minute(100 * MINUTES_PER_DAY)
    assert is_idle(Minute(now - MINUTES_PER_DAY), now)
    assert not is_idle(Minute(now - MINUTES_PER_DAY + 1), now)
    assert not is_idle(None, now)


def test_300_accounts_and_regions_with_all_kinds_never_rest_by_default() -> None:
    dagster = DagsterSettings()
    lists = affordable_lists(dagster.listing_budget, dagster.sensor_interval)
    source_prefixes = 300 * len(KINDS)
    assert idle_rounds(source_prefixes, source_prefixes, lists) == 1


@given(st.integers(1, 100_000), st.floats(0, 1), st.floats(0, 100_000))
def test_idle_source_prefixes_rest_as_little_as_the_budget_allows(
    source_prefixes: int, share: float, lists: float
) -> None:
    idle = int(source_prefixes * share)
    rounds = idle_rounds(source_prefixes, idle, lists)

    def requests(in_one_of: int) -> float:
        return source_prefixes - idle + idle / in_one_of

    assert 1 <= rounds <= MOST_IDLE_ROUNDS
    assert requests(rounds) <= lists + 1e-6 or rounds == MOST_IDLE_ROUNDS or not idle
    assert rounds == 1 or requests(rounds - 1) > lists - 1e-6


@pytest.mark.parametrize("rounds", [1, 5, 12])
def test_an_idle_source_prefix_has_its_turn_once_in_so_many_rounds(rounds: int) -> None:
    for name in ("main: a", "main: b"):
        turns = [not rests_this_round(name, number, rounds) for number in range(2 * rounds)]
        assert turns == turns[:rounds] * 2
        assert sum(turns) == 2


def test_idle_source_prefixes_rest_where_all_would_cost_too_much(
    settings: Settings, bucket: Path
) -> None:
    long_ago = NOW - timedelta(days=3)
    for number in range(24):
        put(bucket, f"{number:012}", "eu-west-1", long_ago, "A")
    put(bucket, "111122223333", "eu-west-1", NOW, "A")
    assert sync(settings).ok
    assert looked(settings).idle == set()
    seen: set[tuple[str, str]] = set()
    cursor = LookCursor()
    for _ in range(4):
        result = look(settings, cursor, SECONDS, lists_a_look=7)
        cursor = result.cursor
        assert result.idle_rounds == 4
        assert ("main", "111122223333/eu-west-1") in result.looked_at
        seen |= result.looked_at
    assert len(seen) == 25


def test_discovery_is_rarer_the_more_it_costs() -> None:
    assert is_due_for_discovery(None, 1, 0)
    assert not is_due_for_discovery(1_000, 1, 1_011)
    assert is_due_for_discovery(1_000, 1, 1_012)
    assert not is_due_for_discovery(1_000, 100, 2_199)
    assert is_due_for_discovery(1_000, 100, 2_200)
    assert is_due_for_discovery(1_000, 5_000, 4_600)
    assert is_due_for_discovery(10_000, 1, 0)  # the clock was set back


def test_what_is_recent_ends_at_the_clock_even_if_a_cursor_is_ahead(tmp_path: Path) -> None:
    now, ahead = Minute(1_000_000), Minute(2_000_000)
    source_prefix = SourcePrefix("logs", "", "", "111122223333", "eu-west-1")
    covered = [Range(Minute(0), ahead)]
    source = Source(
        1, source_prefix, "main", LocalBucket(tmp_path), covered, EVERYTHING, deep=False
    )
    assert watch.recent_range(source, Lookback(24, 35), now).start == now - MINUTES_PER_DAY
