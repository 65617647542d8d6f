"""Faults of the real world in fetching and listing lose nothing.

docs/architecture.md, "Damage and errors", has the table of what a sync does about each fault.

Each test syncs the sample's two trails from a server that misbehaves as told, lets it heal, and
syncs once more. Then it compares the output with the oracle: nothing is missing, doubled or
altered. In between it checks what the first run reported. `pytest -s` shows the numbers as a table.
Requests, injected faults and reported problems are those of the first run. Missing, doubled and
altered lines are those after the last run.

A LIST does not say whether an archived log file was restored. So a GET finds out.
"""

import gzip
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Timer
from typing import Final, cast

import pytest

from ctrail_pipeline.core.batch.fetch import fetch_log_file
from ctrail_pipeline.core.bucket import s3_retry
from ctrail_pipeline.core.bucket.etag import pack_etag
from ctrail_pipeline.core.bucket.interface import Bucket, Fetched
from ctrail_pipeline.core.bucket.s3_retry import ATTEMPTS, TIMEOUTS
from ctrail_pipeline.core.keys.coverage import EVERYTHING
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.listing.sources import LogFileRef, Source
from ctrail_pipeline.core.log_file.decompress import Decompressed
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.sample.bucket import (
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    write_sample,
)
from ctrail_pipeline_tests.support.fault_server import Counts, Faults, FaultServer
from ctrail_pipeline_tests.support.oracle import Expectation, Report, check_output, read_buckets
from ctrail_pipeline_tests.support.standing import standing
from ctrail_pipeline_tests.support.sync_process import settings_in

LOG_FILES: Final = 120
STATES: Final = {"failed", "damaged", "not listed"}
PREFIXES: Final = {ORGANIZATION_BUCKET: "", PAYMENTS_BUCKET: PAYMENTS_PREFIX}


@dataclass(frozen=True)
class Sample:
    """A sample bucket, and the output that it must give."""

    root: Path
    expectation: Expectation
    keys: list[str]
    """Log files of the organization's trail outside of the payments account, whose events are in
    both trails. So only one log file holds the events of each of these keys."""


@dataclass
class World:
    """A server with faults, and settings to sync from it."""

    server: FaultServer
    settings: Settings
    expectation: Expectation

    def sync(self, **changes: float) -> Summary:
        return sync(replace(self.settings, **changes))  # type: ignore[arg-type]

    def check(self) -> Report:
        """Compare what is on disk now with the expectation."""
        return check_output(
            self.settings.events_dir, self.settings.quarantine_dir, self.expectation
        )

    def assert_whole(self, summary: Summary) -> None:
        """Assert that the run reports no problem, nothing stands open, and all is there once."""
        assert summary.problems == []
        assert summary.ok
        assert standing(summary) == {}
        self.check().assert_clean()

    def assert_whole_but(self, log_files: int) -> None:
        """Assert that nothing is doubled or altered, and at most so many log files are missing."""
        report = self.check()
        assert set(report.violations) <= {"missing"}
        assert len({line.rpartition(" of ")[2] for line in report.missing}) <= log_files

    def make_all_visits_due(self) -> None:
        """Make every visit due, as if a day had passed since the last run."""
        self.change_ledger("UPDATE log_file SET next_visit = 0 WHERE next_visit IS NOT NULL")

    def change_ledger(self, sql: str) -> None:
        with closing(sqlite3.connect(self.settings.state_db)) as ledger, ledger:
            ledger.execute(sql)

    def covered_partitions(self) -> set[tuple[str, str, str]]:
        """Bucket, account and region of every source prefix with coverage."""
        with closing(sqlite3.connect(self.settings.state_db)) as ledger:
            return set(
                ledger.execute(
                    "SELECT bucket, account, region FROM coverage"
                    " JOIN source_prefix ON id = source_prefix"
                )
            )


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    root = tmp_path_factory.mktemp("faults") / "sample"
    # One day, so that every listing of the default look-back sees every log file.
    write_sample(root, log_files=LOG_FILES, days=1)
    organization = root / ORGANIZATION_BUCKET
    keys = [
        path.relative_to(organization).as_posix()
        for path in sorted(organization.glob("**/CloudTrail/**/*.json.gz"))
    ]
    return Sample(root, expect(root), [key for key in keys if "/444455556666/" not in key])


def expect(root: Path) -> Expectation:
    return read_buckets((root / bucket, prefix) for bucket, prefix in PREFIXES.items())


@pytest.fixture
def make_world(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., World]]:
    """A function that starts a server with faults and returns its world."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    # Retries as in production, ten times as fast.
    monkeypatch.setattr(s3_retry, "FIRST_PAUSE_SECONDS", s3_retry.FIRST_PAUSE_SECONDS / 10)
    servers: list[FaultServer] = []

    def make(
        faults: Faults | None = None, *, page_keys: int = 1000, root: Path | None = None
    ) -> World:
        server = FaultServer(root or sample.root, faults, page_keys=page_keys)
        servers.append(server.__enter__())
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        trails = tuple(
            Trail(bucket, bucket, prefix, "us-east-1", server.endpoint_url)
            for bucket, prefix in PREFIXES.items()
        )
        folder = tmp_path / f"output-{len(servers)}"
        settings = Settings(
            trails,
            folder / "events",
            folder / "quarantine",
            folder / "ctrail.db",
            download_workers=16,
            connect_timeout=10,
            client_timeout=10,
        )
        return World(server, settings, expect(root) if root else sample.expectation)

    yield make
    for server in servers:
        server.__exit__(None, None, None)


# --- rates: the table -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row of the table: a fault and its rate."""

    name: str
    rate: str
    faults: Faults
    heals_at_once: bool = True
    """Whether retries within the run are enough (with this seed)."""
    page_keys: int = 1000
    client_timeout: float = 10

    @property
    def is_quick(self) -> bool:
        """Whether `make test` has this row: one fault each of requests, bodies and listings."""
        return (self.name, self.rate) in {
            ("503 SlowDown", "20 %"),
            ("body cut short", "20 %"),
            ("LIST page cut", "20 %"),
        }


ROWS: Final = (
    Row("none", "–", Faults()),
    Row("latency 20 ms", "100 %", Faults(latency=0.02)),
    Row("503 SlowDown", "20 %", Faults(slow_down_rate=0.2)),
    Row("GET 503 SlowDown", "70 %", Faults(get_fail_rate=0.7), heals_at_once=False),
    Row("500 InternalError", "20 %", Faults(internal_error_rate=0.2)),
    Row("429", "20 %", Faults(too_many_requests_rate=0.2)),
    Row("connection reset", "10 %", Faults(reset_rate=0.1)),
    Row(
        "slower than time-out",
        "5 %",
        Faults(slow_rate=0.05, slow_seconds=1.5),
        client_timeout=1,
    ),
    Row("body cut short", "2 %", Faults(cut_rate=0.02)),
    Row("body cut short", "20 %", Faults(cut_rate=0.2)),
    Row("wrong Content-Length", "2 %", Faults(wrong_length_rate=0.02)),
    Row("wrong Content-Length", "50 %", Faults(wrong_length_rate=0.5), heals_at_once=False),
    Row("byte flipped", "5 %", Faults(seed=2, flip_rate=0.05)),
    Row("byte flipped", "50 %", Faults(flip_rate=0.5), heals_at_once=False),
    Row("LIST page 503", "20 %", Faults(list_fail_rate=0.2), page_keys=4),
    Row("LIST page cut", "20 %", Faults(list_cut_rate=0.2), page_keys=4),
    Row("LIST fails", "100 %", Faults(list_fail_rate=1), heals_at_once=False),
    Row(
        "all of these",
        "3 % each",
        Faults(
            slow_down_rate=0.03,
            internal_error_rate=0.03,
            too_many_requests_rate=0.03,
            reset_rate=0.03,
            slow_rate=0.03,
            slow_seconds=1.5,
            list_fail_rate=0.03,
            list_cut_rate=0.03,
            cut_rate=0.03,
            wrong_length_rate=0.03,
            flip_rate=0.03,
        ),
        page_keys=20,
        client_timeout=1,
    ),
)


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[object, ...]]]:
    """The rows of the table, which is printed at the end."""
    heads = ("fault", "rate", "runs", "requests", "injected", "reported")
    rows: list[tuple[object, ...]] = [(*heads, "missing", "doubled", "altered")]
    yield rows
    print()
    for name, rate, *numbers in rows:
        print(f"{name:<22}{rate:>9}" + "".join(f"{number:>10}" for number in numbers))


@pytest.mark.parametrize(
    "row",
    [row if row.is_quick else pytest.param(row, marks=pytest.mark.thorough) for row in ROWS],
    ids=lambda row: f"{row.name} {row.rate}",
)
def test_nothing_is_missing_doubled_or_altered_after_a_clean_rerun(
    row: Row, make_world: Callable[..., World], table: list[tuple[object, ...]]
) -> None:
    world = make_world(replace(row.faults), page_keys=row.page_keys)
    first = world.sync(client_timeout=row.client_timeout)
    counts = world.server.counts
    injected = counts.faults.total()
    assert bool(injected) == (row.name not in {"none", "latency 20 ms"})
    assert first.ok == row.heals_at_once
    assert set(world.check().violations) <= {"missing"}
    runs = 1
    report = world.check()
    if not first.ok:
        assert all(
            problem.where and problem.reason and problem.state in STATES
            for problem in first.problems
        )
        world.server.heal()
        world.assert_whole(world.sync())
        runs = 2
        report = world.check()
    wrong = (report.missing, report.doubled, report.altered_or_foreign)
    table.append(
        (
            row.name,
            row.rate,
            runs,
            counts.requests.total(),
            injected,
            first.problem_count,
            *map(len, wrong),
        )
    )
    report.assert_clean()
    again = world.server.counts
    world.assert_whole(world.sync())
    assert (world.server.counts - again).requests["get"] == 0, "everything was fetched already"


@pytest.mark.thorough
def test_a_request_is_tried_again_so_many_times_and_no_more(
    make_world: Callable[..., World], sample: Sample
) -> None:
    world = make_world(Faults(hang={sample.keys[7]}))
    started = time.monotonic()
    summary = world.sync(client_timeout=0.4, connect_timeout=0.4)
    assert time.monotonic() - started < 8
    assert 2 <= world.server.counts.gets[sample.keys[7]] <= TIMEOUTS
    assert [problem.state for problem in summary.problems] == ["failed"]
    assert "timed out" in summary.problems[0].reason
    world.server.heal()
    world.server.faults = Faults(slow_down_rate=1)
    started = time.monotonic()
    failed = world.sync(client_timeout=30)
    assert time.monotonic() - started < 8
    lists = world.server.counts.faults["slow_down"]
    assert lists == 2 * ATTEMPTS, "one LIST of each trail, tried again and again"
    assert [problem.state for problem in failed.problems] == ["not listed"] * 2
    world.server.heal()
    world.assert_whole(world.sync())


# --- one log file ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "state", "saying"),
    [
        (
            "denied",
            LogFileState.FAILED,
            f"access denied: s3:GetObject on arn:aws:s3:::{ORGANIZATION_BUCKET}/* is missing",
        ),
        ("kms_denied", LogFileState.FAILED, "kms:Decrypt on the trail's key is missing"),
        ("archived", LogFileState.ARCHIVED, "is archived: restore it from Glacier"),
        ("gone", LogFileState.GONE, "is no longer there"),
        ("not_s3", LogFileState.FAILED, "a web page came, which is not S3's (HTTP 404)"),
        pytest.param(
            "hang",
            LogFileState.FAILED,
            "cannot be read: it timed out",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_one_unreadable_log_file_costs_itself_only_and_is_reported(
    fault: str,
    state: LogFileState,
    saying: str,
    make_world: Callable[..., World],
    sample: Sample,
) -> None:
    key = sample.keys[7]
    world = make_world(Faults(**{fault: {key}}))  # type: ignore[arg-type]
    summary = world.sync(client_timeout=0.7 if fault == "hang" else 10)
    assert summary.ok == (fault == "archived"), "nothing failed where a log file is archived"
    [problem] = summary.problems
    assert problem.trail == ORGANIZATION_BUCKET
    assert problem.where == f"s3://{ORGANIZATION_BUCKET}/{key}"
    assert problem.state == state.name.lower()
    assert problem.where in problem.reason
    assert saying in problem.reason
    assert standing(summary) == {state: 1}
    world.assert_whole_but(1)
    assert summary.progress.log_files == LOG_FILES
    if fault in {"denied", "kms_denied", "archived", "gone"}:
        assert world.server.counts.gets[key] == 1, "what will not pass is not tried again"
    world.server.heal(key)
    world.make_all_visits_due()
    world.assert_whole(world.sync())


def test_an_archived_log_file_is_asked_for_once_a_day(
    make_world: Callable[..., World], sample: Sample
) -> None:
    key = sample.keys[7]
    world = make_world(Faults(archived={key}))
    world.sync()
    again = world.sync()
    assert world.server.counts.gets[key] == 1
    assert again.problems == [], "it was reported, and nothing new happened"
    assert standing(again) == {LogFileState.ARCHIVED: 1}
    world.make_all_visits_due()
    assert [problem.state for problem in world.sync().problems] == ["archived"]
    assert world.server.counts.gets[key] == 2


def test_a_failed_log_file_is_revisited_at_growing_intervals(
    make_world: Callable[..., World], sample: Sample
) -> None:
    key = sample.keys[7]
    world = make_world(Faults(denied={key}))
    reported = [len(world.sync().problems) for _ in range(4)]
    assert reported == [1, 1, 0, 0], "the first revisit is the next run's, then after minutes"
    assert world.server.counts.gets[key] == 2
    assert standing(world.sync()) == {LogFileState.FAILED: 1}


def test_a_damaged_object_goes_to_quarantine_and_its_healed_version_brings_what_was_missing(
    make_world: Callable[..., World], sample: Sample
) -> None:
    key = max(sample.keys, key=lambda key: (sample.root / ORGANIZATION_BUCKET / key).stat().st_size)
    world = make_world(Faults(damaged={key: 1000}))
    summary = world.sync()
    assert [problem.state for problem in summary.problems] == ["damaged"]
    assert key in summary.problems[0].where
    assert standing(summary) == {LogFileState.DAMAGED: 1}
    assert world.server.counts.gets[key] == 2, "damage is fetched again at once"
    world.assert_whole_but(1)
    quarantined = b"".join(
        path.read_bytes() for path in world.settings.quarantine_dir.glob("**/*.jsonl")
    )
    assert key.encode() in quarantined
    assert b'"verified": false' in quarantined
    world.server.heal(key)
    # The listing finds it, since its etag changed. No revisit is due.
    world.change_ledger("UPDATE log_file SET next_visit = NULL")
    world.assert_whole(world.sync())


def test_an_object_that_heals_while_it_is_fetched_is_taken_at_once(
    make_world: Callable[..., World], sample: Sample
) -> None:
    key = sample.keys[7]
    world = make_world(Faults(damaged={key: 1}))
    world.assert_whole(world.sync())
    assert world.server.counts.gets[key] == 3, "damaged, another version (412), sound"


def test_keys_that_appear_late_are_found(make_world: Callable[..., World], sample: Sample) -> None:
    late = set(sample.keys[::5])
    world = make_world(Faults(hidden=set(late)))
    assert world.sync().ok
    world.server.reveal(*sample.keys[::10])
    assert world.sync().progress.log_files == len(sample.keys[::10])
    world.server.reveal()
    world.assert_whole(world.sync())
    assert all(world.server.counts.gets[key] == 1 for key in sample.keys)


# --- listing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 7], ids=["the first", "another"])
def test_a_partition_that_cannot_be_listed_covers_nothing_and_is_found_by_the_next_run(
    at: int, make_world: Callable[..., World], sample: Sample
) -> None:
    folder, _, below_kind = sample.keys[at].partition("/CloudTrail/")
    region = below_kind.partition("/")[0]
    world = make_world(Faults(denied={f"{folder}/CloudTrail/{region}/"}))
    partition = f"{folder.rpartition('/')[2]}/{region}"
    summary = world.sync()
    [problem] = summary.problems
    assert (problem.where, problem.state) == (partition, "not listed")
    assert f"s3:ListBucket on arn:aws:s3:::{ORGANIZATION_BUCKET} is missing" in problem.reason
    denied = (ORGANIZATION_BUCKET, *partition.split("/"))
    assert denied not in world.covered_partitions()
    assert len(world.covered_partitions()) > 5
    assert set(world.check().violations) == {"missing"}
    world.server.heal()
    world.assert_whole(world.sync())
    assert denied in world.covered_partitions()


def test_a_trail_that_cannot_be_listed_does_not_stop_the_other(
    make_world: Callable[..., World],
) -> None:
    world = make_world(Faults(denied={"AWSLogs/"}))
    summary = world.sync()
    [problem] = summary.problems
    assert (problem.trail, problem.state) == (ORGANIZATION_BUCKET, "not listed")
    assert f"s3:ListBucket on arn:aws:s3:::{ORGANIZATION_BUCKET} is missing" in problem.reason
    assert {trail for trail, _ in summary.partitions} == {PAYMENTS_BUCKET}
    assert {bucket for bucket, _, _ in world.covered_partitions()} == {PAYMENTS_BUCKET}
    world.server.heal()
    world.assert_whole(world.sync())


def test_a_trail_whose_log_files_are_all_denied_is_one_problem(
    make_world: Callable[..., World], sample: Sample
) -> None:
    everything = {
        path.relative_to(sample.root / ORGANIZATION_BUCKET).as_posix()
        for path in (sample.root / ORGANIZATION_BUCKET).rglob("*.json.gz")
    }
    world = make_world(Faults(kms_denied=everything))
    summary = world.sync()
    [problem] = summary.problems
    assert (problem.trail, problem.state) == (ORGANIZATION_BUCKET, "not readable")
    assert "kms:Decrypt on the trail's key is missing" in problem.reason
    assert ORGANIZATION_BUCKET in problem.reason
    assert world.server.counts.gets.keys().isdisjoint(everything)
    world.server.heal()
    world.assert_whole(world.sync())


def test_a_bucket_that_does_not_exist_is_said_by_name(make_world: Callable[..., World]) -> None:
    world = make_world()
    organization, payments = world.settings.trails
    wrong = replace(payments, bucket="no-such-bucket")
    summary = sync(replace(world.settings, trails=(organization, wrong)))
    [problem] = summary.problems
    assert "s3://no-such-bucket/" in problem.reason
    assert "there is no such bucket" in problem.reason
    world.assert_whole(world.sync())


@pytest.mark.thorough
def test_a_listing_that_breaks_off_loses_no_log_file_of_its_later_pages(
    make_world: Callable[..., World],
) -> None:
    """Every LIST but the folders' fails now and then, far beyond what retries mend."""
    world = make_world(Faults(list_fail_rate=0.55), page_keys=3)
    reports = []
    for seed in range(1, 4):
        world.server.faults.seed = seed
        reports.append(world.sync())
        assert set(world.check().violations) <= {"missing"}
    broken = {problem.where for report in reports for problem in report.problems}
    assert any("/" in location for location in broken), "a partition, whose trail was discovered"
    world.server.heal()
    world.assert_whole(world.sync())


# --- stopping -------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_run_stops_within_seconds_though_a_get_hangs(
    make_world: Callable[..., World], sample: Sample
) -> None:
    world = make_world(Faults(hang={sample.keys[3], sample.keys[40]}))
    stop = Event()
    timer = Timer(1.0, stop.set)
    timer.start()
    started = time.monotonic()
    summary = sync(replace(world.settings, client_timeout=60), stop=stop)
    assert time.monotonic() - started < 5
    timer.join()
    assert summary.interrupted
    assert not summary.ok
    assert summary.problems == []
    world.assert_whole_but(LOG_FILES)
    world.server.heal()
    world.assert_whole(world.sync())


# --- a body that is short, and looks sound --------------------------------------------------------


@dataclass
class CuttingBucket:
    """A bucket whose GETs return these bodies, one after the other."""

    bodies: list[bytes]
    location: str = "s3://bucket"

    def get(self, key: str, etag: bytes | None) -> Fetched:
        return Fetched(self.bodies.pop(0), pack_etag("0" * 32), 0)


def test_a_body_cut_between_two_gzip_members_is_noticed(tmp_path: Path) -> None:
    half = gzip.compress(b'{"Records":[{"eventTime":"2026-01-15T00:00:00Z"}]}', mtime=0)
    uncut = half + gzip.compress(b"\n", mtime=0)

    def fetch(*bodies: bytes) -> tuple[LogFileState, bytes | None, str | None]:
        source_prefix = SourcePrefix("bucket", "", "", "111122223333", "us-east-1")
        bucket = cast(Bucket, CuttingBucket(list(bodies)))
        source = Source(1, source_prefix, "trail", bucket, [], EVERYTHING, deep=False)
        etag = pack_etag("0" * 32)
        ref = LogFileRef(source, 0, "/x.json.gz", len(uncut), etag, False, None, 0, None)
        found = fetch_log_file(ref, settings_in(tmp_path, [], max_log_file_bytes=1000))
        content = found.content
        data = content.data if isinstance(content, Decompressed) else None
        return found.state, None if data is None else data[:], found.reason

    sound = (LogFileState.COMMITTED, gzip.decompress(uncut), None)
    assert fetch(uncut) == sound
    assert fetch(half, uncut) == sound
    state, content, reason = fetch(half, half)
    assert (state, content) == (LogFileState.FAILED, None)
    assert f"cut short twice: {len(half)} of {len(uncut)} bytes" in (reason or "")


def test_counts_are_a_difference() -> None:
    before, after = Counts(), Counts()
    after.requests["get"] += 2
    assert (after - before).requests == {"get": 2}
