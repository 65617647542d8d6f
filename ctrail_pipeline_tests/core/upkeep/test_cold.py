"""The ledger stops growing: cold rows move out of the hot tables, and are known as before."""

import gzip
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import psycopg
import pytest

from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.audit.explain import explainer
from ctrail_pipeline.core.audit.manifest import manifest
from ctrail_pipeline.core.audit.sought import Sought
from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.keys.minutes import day_folder
from ctrail_pipeline.core.ledger.cold_file import ColdFileWriter
from ctrail_pipeline.core.ledger.engine import Row
from ctrail_pipeline.core.ledger.known_identities import KnownIdentities
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.packed_identities import split_identities
from ctrail_pipeline.core.ledger.queries_cold import cold_files
from ctrail_pipeline.core.ledger.queries_reports import read_health
from ctrail_pipeline.core.ledger.segments import LedgerSegments
from ctrail_pipeline.core.ledger.source_prefixes import source_ids, source_totals
from ctrail_pipeline.core.ledger_address import LedgerAddress, PostgresAddress
from ctrail_pipeline.core.listing.look import look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep import cold as cold_module
from ctrail_pipeline.core.upkeep.cold import first_kept, move_cold_rows
from ctrail_pipeline.core.upkeep.ledger_copy import copy_ledger
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline.reports.status import read_status
from ctrail_pipeline.reports.status_json import as_json
from ctrail_pipeline.reports.status_prometheus import as_prometheus
from ctrail_pipeline.reports.status_table import notes
from ctrail_pipeline_tests.support.dying_compaction import Killed
from ctrail_pipeline_tests.support.engines import new_address, with_ledger_in
from ctrail_pipeline_tests.support.new_log_files import NOW, put
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.sync_process import assert_exact, local_trail, settings_in
from ctrail_pipeline_tests.support.thorough import thorough

ACCOUNT, REGION = "111122223333", "eu-west-1"
HORIZON_DAYS = 35
COLD_DAYS = range(40, 60)


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """A bucket with three log files a day: of days behind the horizon, and of the last ones."""
    bucket = tmp_path / "logs"
    bucket.mkdir()
    for days in (*COLD_DAYS, 20, 1, 0):
        for number in range(3):
            moment = NOW - timedelta(days=days, hours=3 * number)
            put(bucket, ACCOUNT, REGION, moment, f"{days}x{number}")
    return bucket


@pytest.fixture(params=["sqlite", *thorough("postgres")])
def settings(request: pytest.FixtureRequest, tmp_path: Path, bucket: Path) -> Settings:
    return with_ledger_in(request.param, settings_in(tmp_path, [local_trail(bucket, name="main")]))


in_a_file = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
"""About cold files, which PostgreSQL does not have."""


@pytest.fixture(autouse=True)
def _few_are_worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_module, "WORTHWHILE", 1)


def clock(seconds: float) -> SimpleNamespace:
    return SimpleNamespace(time=lambda: seconds, monotonic=time.monotonic)


def move(settings: Settings, days_later: int = 2) -> int:
    """Move cold rows out, some days after their log files were brought in."""
    with closing(Ledger(settings.ledger)) as ledger, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cold_module, "time", clock(time.time() + days_later * 86_400))
        return move_cold_rows(ledger, HORIZON_DAYS)


def ask(settings: Settings, sql: str) -> list[Row]:
    with closing(Ledger(settings.ledger)) as ledger:
        return ledger.rows(sql)


def change(settings: Settings, *statements: str) -> None:
    with closing(Ledger(settings.ledger)) as ledger, ledger.transaction():
        for sql in statements:
            ledger.execute(sql)


def hot(settings: Settings) -> dict[str, int]:
    return {
        table: ask(settings, f"SELECT count(*) FROM {table}")[0][0]
        for table in ("log_file", "segment", "dedup_partition")
    }


def is_cold_named(settings: Settings) -> bool:
    return ask(settings, "SELECT count(*) FROM cold_file") != [(0,)]


def sync_all_days(settings: Settings) -> int:
    """Do a run that lists everything again; return how many log files it did."""
    change(settings, "DELETE FROM coverage")
    summary = sync(settings)
    assert summary.ok
    return summary.progress.log_files


def files_of(settings: Settings) -> list[Path]:
    return sorted(settings.state_db.with_name("ledger.db.archive").iterdir())


def test_the_last_moment_of_a_day_belongs_to_that_day() -> None:
    midnight = 1_800_000_000 // 86_400 * 86_400
    just_before = midnight - 2**-22
    assert datetime.fromtimestamp(just_before, UTC).timestamp() == midnight, "it is rounded up"
    day = midnight // 86_400 - HORIZON_DAYS - 2
    assert first_kept(midnight, HORIZON_DAYS) == (day, f"{day_folder(day)}00")
    assert first_kept(just_before, HORIZON_DAYS) == (day - 1, f"{day_folder(day - 1)}23")


def test_what_is_cold_moves_and_is_known_as_before(settings: Settings, bucket: Path) -> None:
    assert sync(settings).ok
    assert hot(settings) == {"log_file": 69, "segment": 69, "dedup_partition": 69}
    assert move(settings) == 1
    assert hot(settings) == {"log_file": 9, "segment": 9, "dedup_partition": 9}
    assert is_cold_named(settings)
    assert sync_all_days(settings) == 0
    assert_exact(settings, read_buckets([(bucket, "")]))


@pytest.mark.parametrize("engine", ["sqlite", *thorough("postgres")])
def test_cold_rows_move_with_the_ledger(
    settings: Settings, bucket: Path, tmp_path: Path, engine: str
) -> None:
    """Newer cold files override older ones, and hot rows override both."""

    def rows(address: LedgerAddress) -> list[Row]:
        with closing(Ledger(address, closed="")) as ledger:
            return ledger.rows("SELECT * FROM log_file ORDER BY source_prefix, day, name") + (
                ledger.rows(
                    "SELECT s.id, p.name, s.count, s.identities, s.filter, s.event_keys FROM"
                    " segment s JOIN dedup_partition p ON p.id = s.dedup_partition ORDER BY s.id"
                )
            )

    def changed(days: int) -> None:
        [path] = list(bucket.rglob(f"*{days}x0.json.gz"))
        [record] = json.loads(gzip.decompress(path.read_bytes()))["Records"]
        both = [record, {**record, "eventID": f"new {days}"}]
        path.write_bytes(gzip.compress(json.dumps({"Records": both}).encode()))
        assert sync_all_days(settings) == 1

    def die(step: str) -> None:
        if step == "warmed":
            raise Killed

    assert sync(settings).ok
    before = rows(settings.ledger)
    assert move(settings) == 1
    changed(45)
    assert move(settings, 4) == 1  # the changed log file is in both cold files
    changed(50)  # this one is cold and hot
    place = new_address(engine, tmp_path)
    with pytest.raises(Killed):
        copy_ledger(settings, settings.ledger, place, observe=die)
    copy_ledger(settings, settings.ledger, place)
    with closing(Ledger(settings.ledger, closed="")) as old:
        assert old.rows("SELECT name FROM cold_file") == []
    after = rows(place)
    assert len(after) == len(before) + 2  # the segments of the changed log files
    settings = settings.with_ledger(place)
    with closing(Ledger(place)) as ledger, ledger.transaction():
        ledger.execute("DELETE FROM coverage")
    assert sync(settings).progress.log_files == 0
    assert_exact(settings, read_buckets([(bucket, "")]))


@in_a_file
def test_it_is_private(settings: Settings) -> None:
    previous = os.umask(0)
    try:
        assert sync(settings).ok
        assert move(settings) == 1
    finally:
        os.umask(previous)
    [file] = files_of(settings)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_late_log_file_of_a_cold_day_adds_only_what_is_new(
    settings: Settings, bucket: Path
) -> None:
    assert sync(settings).ok
    assert move(settings) == 1
    [day] = {path.parent for path in bucket.rglob("*40x0.json.gz")}
    records = [
        json.loads(gzip.decompress(path.read_bytes()))["Records"][0] for path in day.iterdir()
    ]
    assert records
    late = {**records[0], "eventID": "late"}
    body = gzip.compress(json.dumps({"Records": [*records, late]}).encode())
    [template] = list(day.glob("*40x0.json.gz"))
    template.with_name(template.name.replace("000000040x0", "late0000000")).write_bytes(body)
    assert sync_all_days(settings) == 1
    assert_exact(settings, read_buckets([(bucket, "")]))
    assert ask(settings, "SELECT max(duplicates) FROM log_file") == [(len(records),)]


@pytest.mark.parametrize("by_sensor", [False, True])
def test_a_cold_log_file_that_changed_is_done_again(
    settings: Settings, bucket: Path, by_sensor: bool
) -> None:
    assert sync(settings).ok
    assert move(settings) == 1
    [path] = list(bucket.rglob("*40x0.json.gz"))
    records = json.loads(gzip.decompress(path.read_bytes()))["Records"]
    healed = [*records, {**records[0], "eventID": "healed"}]
    path.write_bytes(gzip.compress(json.dumps({"Records": healed}).encode()))
    if by_sensor:
        change(settings, "UPDATE source_prefix SET deep_listed_at = 0")
        result = look(replace(settings, horizon_days=100), LookCursor.parse(None), 20.0)
        assert result.found == 1
        summary = sync(settings, Selection(listed=True))
        assert (summary.progress.log_files, summary.progress.events) == (1, 1)
    else:
        assert sync_all_days(settings) == 1
    assert_exact(settings, read_buckets([(bucket, "")]))
    with closing(Ledger(settings.ledger)) as ledger:
        [totals] = source_totals(ledger).values()
    assert (totals.log_files, totals.events) == (69, 70)
    # Its row is moved out again, and the newer file's version holds.
    assert move(settings, days_later=4) == 1
    assert hot(settings)["log_file"] == 9
    assert sync_all_days(settings) == 0


def test_what_is_open_or_remarkable_stays(settings: Settings, bucket: Path) -> None:
    [first, second, *_] = sorted(bucket.rglob("*41x*.json.gz"))
    first.write_bytes(b"no gzip")
    records = json.loads(gzip.decompress(second.read_bytes()))["Records"]
    second.write_bytes(gzip.compress(json.dumps({"Records": [*records, 17]}).encode()))
    sync(settings)
    assert move(settings) == 1
    names = ask(
        settings,
        "SELECT DISTINCT name FROM log_file WHERE day < (SELECT max(day) FROM log_file) - 36",
    )
    assert len(names) == 2
    with closing(Ledger(settings.ledger)) as ledger:
        [source_id] = source_ids(ledger).values()
        assert read_health(ledger, [source_id], 0).quarantined == 2


def test_a_day_that_is_not_covered_stays(settings: Settings) -> None:
    assert sync(settings).ok
    change(settings, "DELETE FROM coverage")
    before = hot(settings)["log_file"]
    assert move(settings) == 1  # this file holds segments
    assert hot(settings)["log_file"] == before


def test_nothing_moves_that_a_recovery_might_take_back(settings: Settings) -> None:
    assert sync(settings).ok
    change(settings, "UPDATE batch SET state = 1 WHERE id = (SELECT min(id) FROM batch)")
    assert move(settings) == 0
    change(settings, "UPDATE batch SET state = 2")
    change(settings, "UPDATE batch SET created_at = created_at + 3 * 86400")
    assert move(settings) == 0


def test_a_batch_of_a_clock_that_was_wrong_does_not_keep_all_that_came_after_it(
    settings: Settings,
) -> None:
    assert sync(settings).ok
    change(
        settings,
        "UPDATE batch SET created_at = created_at + 20 * 365 * 86400"
        " WHERE id = (SELECT min(id) FROM batch)",
    )
    assert move(settings) == 1
    assert hot(settings)["log_file"] == 9


def test_it_happens_by_itself_once_a_day(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sync(settings).ok
    change(settings, "UPDATE batch SET created_at = created_at - 3 * 86400")
    assert sync(settings).ok  # the first sync has looked today
    assert not is_cold_named(settings)
    change(settings, "UPDATE meta SET value = '0' WHERE name = 'cold_moved_at'")
    assert sync(settings).ok
    assert is_cold_named(settings)


@pytest.mark.thorough
def test_the_ledger_stops_growing(settings: Settings, bucket: Path) -> None:
    """Day after day goes by: with the horizon behind, as many rows stay."""
    for path in bucket.rglob("*.json.gz"):
        path.unlink()
    rows = []
    settings = replace(settings, horizon_days=3)
    for day in range(30):
        moment = NOW - timedelta(days=100 - day)
        put(bucket, ACCOUNT, REGION, moment, f"d{day}")
        with pytest.MonkeyPatch.context() as patch:
            seconds = moment.timestamp()
            patch.setattr(cold_module, "time", clock(seconds))
            assert sync(settings).ok
        change(settings, f"UPDATE batch SET created_at = {int(seconds) - 2 * 86_400}")
        rows.append(hot(settings)["log_file"] + hot(settings)["segment"])
    assert max(rows[10:]) <= max(rows[:10])
    assert is_cold_named(settings)
    assert_exact(settings, read_buckets([(bucket, "")]))


@in_a_file
@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (Path.unlink, "cannot be read: No such file or directory; restore it from a backup"),
        (lambda path: os.truncate(path, 5000), "not as it was written"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "not as it was written"),
    ],
)
def test_a_cold_file_that_is_gone_or_harmed_is_refused_where_it_is_needed(
    settings: Settings, harm: Callable[[Path], None], says: str
) -> None:
    assert sync(settings).ok
    assert move(settings) == 1
    [path] = files_of(settings)
    harm(path)
    assert sync(settings).ok  # no old log file is asked for
    change(settings, "DELETE FROM coverage")
    with pytest.raises(LedgerError, match=says) as raised:
        sync(settings)
    assert str(path) in str(raised.value)


def test_of_two_at_once_one_moves(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sync(settings).ok
    counts: list[int] = []
    change(settings, "UPDATE batch SET created_at = created_at - 3 * 86400")
    change(settings, "UPDATE meta SET value = '0' WHERE name = 'cold_moved_at'")

    def one() -> None:
        with closing(Ledger(settings.ledger)) as ledger:
            counts.append(move_cold_rows(ledger, HORIZON_DAYS))

    threads = [Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 1
    assert sync_all_days(settings) == 0


@in_a_file
def test_a_file_that_was_taken_for_a_leftover_is_not_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock jumps, or the machine sleeps, between writing a file and naming it."""
    assert sync(settings).ok
    before = hot(settings)
    finish = ColdFileWriter.finish

    def finish_and_sleep(writer: ColdFileWriter) -> tuple[int, bytes]:
        result = finish(writer)
        with closing(Ledger(settings.state_db)) as other_ledger:
            folder = settings.state_db.with_name("ledger.db.archive")
            cold_module._remove_leftovers(other_ledger, folder, time.time() + 2 * 86_400)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(ColdFileWriter, "finish", finish_and_sleep)
        assert move(settings) == 0
    assert hot(settings) == before
    assert sync_all_days(settings) == 0


def test_a_view_from_before_it_went_cold_still_decides(settings: Settings) -> None:
    assert sync(settings).ok
    with closing(Ledger(settings.ledger)) as ledger:
        known = KnownIdentities(LedgerSegments(ledger))
        known.begin()
        name = f"{ACCOUNT}/{REGION}/{NOW - timedelta(days=40):%Y/%m/%d/%H}"
        [segment] = LedgerSegments(ledger).segments(name, 0)
        [identity] = split_identities(LedgerSegments(ledger).segment_identities(segment.id))
        view = known.partition(name)
        assert move(settings) == 1
        assert view.known_among({identity}) == {identity}
        assert LedgerSegments(ledger).segment_identities(segment.id) == identity
        assert len(LedgerSegments(ledger).segment_event_keys(segment.id)) == 6
        fresh = KnownIdentities(LedgerSegments(ledger))
        fresh.begin()
        assert fresh.partition(name).known_among({identity, b"x" * 16}) == {identity}


@pytest.mark.parametrize("settings", ["postgres"], indirect=True)
def test_a_run_that_brings_new_log_files_touches_no_month(settings: Settings, bucket: Path) -> None:
    """Whoever touches a table that another connection has locked waits, here for two seconds."""
    assert settings.postgres is not None
    assert sync(settings).ok
    assert move(settings) == 1
    put(bucket, ACCOUNT, REGION, NOW, "new")
    impatient = PostgresAddress(f"{settings.postgres.url}&options=-clock_timeout%3D2000")
    with psycopg.connect(settings.postgres.url) as other:
        months = other.execute(
            "SELECT relid::regclass::text FROM pg_partition_tree('cold_log_file') WHERE isleaf"
            " UNION ALL"
            " SELECT relid::regclass::text FROM pg_partition_tree('cold_segment') WHERE isleaf"
        ).fetchall()
        assert months
        for (month,) in months:
            other.execute(f"LOCK TABLE {month} IN ACCESS EXCLUSIVE MODE")
        summary = sync(replace(settings, postgres=impatient))
        assert (summary.ok, summary.progress.events) == (True, 1)
        change(settings, "DELETE FROM coverage")
        with pytest.raises(LedgerError, match="lock timeout"):
            sync(replace(settings, postgres=impatient))  # it lists the days of these months


@pytest.mark.parametrize("settings", ["postgres"], indirect=True)
def test_a_rebuild_keeps_cold_rows_and_empties_their_tables(
    settings: Settings, bucket: Path
) -> None:
    assert sync(settings).ok
    assert move(settings) == 1
    assert rebuild(settings, force=True).problems == []
    [path] = settings.state_db.parent.glob(f"{settings.state_db.name}.before-rebuild-*")
    kept = replace(settings, postgres=None, state_db=path)
    assert hot(kept) == {"log_file": 69, "segment": 69, "dedup_partition": 69}
    assert not is_cold_named(kept)
    for table in ("cold_file", "cold_log_file", "cold_segment"):
        assert ask(settings, f"SELECT count(*) FROM {table}") == [(0,)]
    assert sync(settings).progress.events == 0
    change(settings, "UPDATE meta SET value = '0' WHERE name = 'cold_moved_at'")
    assert move(settings) == 1
    assert hot(settings)["log_file"] == 9
    assert sync_all_days(settings) == 0
    assert_exact(settings, read_buckets([(bucket, "")]))


def test_status_says_what_cold_rows_of_each_year_take(settings: Settings) -> None:
    assert sync(settings).ok
    assert read_status(settings).ledger_cold_bytes == {}
    assert move(settings) == 1
    status = read_status(settings)
    if settings.postgres is None:
        assert status.ledger_cold_bytes == {}
        return
    years = {f"{NOW - timedelta(days=days):%Y}" for days in COLD_DAYS}
    assert status.ledger_cold_bytes.keys() == years
    assert 0 < sum(status.ledger_cold_bytes.values()) < status.ledger_bytes
    assert as_json(status)["ledger_cold_bytes"] == status.ledger_cold_bytes
    [line] = [line for line in notes(status) if line.startswith("cold rows of the ledger, by year")]
    metrics = as_prometheus(status)
    for year, size in status.ledger_cold_bytes.items():
        assert f" of {year}" in line
        assert f'ctrail_ledger_cold_bytes{{year="{year}"}} {size}\n' in metrics


_KILLED = """
import os, signal, sys, time
from types import SimpleNamespace
from pathlib import Path
from ctrail_pipeline.core.ledger import cold_file
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger_address import PostgresAddress
from ctrail_pipeline.core.upkeep import cold

step, at = int(sys.argv[2]), 0

def maybe_die(*_):
    global at
    at += 1
    if at == step:
        os.kill(os.getpid(), signal.SIGKILL)

def dying(inner):
    def call(*arguments, **named):
        maybe_die()
        result = inner(*arguments, **named)
        maybe_die()
        return result
    return call

for owner, name in [
    (cold_file.ColdFileWriter, "__enter__"),
    (cold_file.ColdFileWriter, "finish"),
    (Path, "rename"),
    (os, "fsync"),
    (cold, "note_cold_moved"),
]:
    setattr(owner, name, dying(getattr(owner, name)))
now = time.time() + 2 * 86400
cold.time = SimpleNamespace(time=lambda: now, monotonic=time.monotonic)
cold.WORTHWHILE = 1
if sys.argv[1].startswith("postgresql:"):
    one = Ledger(PostgresAddress(sys.argv[1]))
    one._engine._db.execute = dying(one._engine._db.execute)
else:
    one = Ledger(Path(sys.argv[1]))
    one._engine._db.set_trace_callback(
        lambda sql: maybe_die() if sql.startswith(("INSERT", "DELETE", "COMMIT")) else None
    )
cold.move_cold_rows(one, 35)
"""


@pytest.mark.thorough
def test_killed_at_any_step_nothing_is_lost_or_doubled(settings: Settings, bucket: Path) -> None:
    assert sync(settings).ok
    address = settings.postgres.url if settings.postgres else str(settings.state_db)
    for step in range(1, 100):
        arguments = [sys.executable, "-c", _KILLED, address, str(step)]
        process = subprocess.run(arguments, cwd=PROJECT, check=False)
        assert sync_all_days(settings) == 0, step
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    else:
        pytest.fail("it was killed at every step")
    assert step > 15
    assert hot(settings)["log_file"] == 9
    if settings.postgres is None:
        with closing(Ledger(settings.ledger)) as ledger:
            assert [path.name for path in files_of(settings)] == [
                file.name for file in cold_files(ledger)
            ]
    assert_exact(settings, read_buckets([(bucket, "")]))


@in_a_file
def test_a_disk_that_is_full_leaves_everything_as_it_is(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sync(settings).ok
    before = hot(settings)

    def no_space(_self: ColdFileWriter) -> tuple[int, bytes]:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(ColdFileWriter, "finish", no_space)
    with pytest.raises(LedgerError, match="the disk is full: free some space"):
        move(settings)
    assert hot(settings) == before
    assert files_of(settings) == []
    monkeypatch.undo()
    assert sync_all_days(settings) == 0


def make_cold_files_old(settings: Settings) -> None:
    """Turn the cold files into those of a ledger before version 4."""
    for path in files_of(settings):
        with closing(sqlite3.connect(path)) as cold:
            cold.execute("ALTER TABLE log_file RENAME COLUMN source_prefix TO source_partition")
        with closing(sqlite3.connect(settings.state_db)) as db, db:
            db.execute(
                "UPDATE cold_file SET bytes = ?, sha256 = ? WHERE name = ?",
                (path.stat().st_size, sha256(path.read_bytes()).digest(), path.name),
            )


@pytest.mark.parametrize(
    ("settings", "is_old"),
    [("sqlite", False), ("sqlite", True), ("postgres", False)],
    indirect=["settings"],
)
def test_verify_explain_and_manifest_know_what_is_cold(
    settings: Settings, bucket: Path, is_old: bool
) -> None:
    assert sync(settings).ok
    before = list(manifest(settings, Sought()))
    assert move(settings) == 1
    if is_old:
        make_cold_files_old(settings)
    [changed] = list(bucket.rglob("*40x0.json.gz"))
    [lost_file] = list(bucket.rglob("*41x0.json.gz"))
    report = compare(settings, deep=True)
    assert report.prefixes[0].total("committed") == 69
    assert report.findings == []
    event_id = json.loads(gzip.decompress(lost_file.read_bytes()))["Records"][0]["eventID"]
    with explainer(settings) as found:
        [line] = found.lines(Sought(event_id=event_id))
        assert found.explain(line).key.endswith(lost_file.name)
    assert list(manifest(settings, Sought()))[1:-1] == before[1:-1]
    # The ledger itself has one version more, and the bucket has lost one log file.
    records = json.loads(gzip.decompress(changed.read_bytes()))["Records"]
    healed = [*records, {**records[0], "eventID": "healed"}]
    changed.write_bytes(gzip.compress(json.dumps({"Records": healed}).encode()))
    assert sync_all_days(settings) == 1
    lost_file.unlink()
    [prefix] = compare(settings).prefixes
    assert {name: prefix.total(name) for name in ("listed", "committed", "expired")} == {
        "listed": 68,
        "committed": 68,
        "expired": 1,
    }
