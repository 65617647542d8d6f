"""Many small files of an hour become one with the same lines, whoever dies meanwhile."""

import errno
import os
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest

from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError, OutputError
from ctrail_pipeline.core.keys.log_file_key import key_of
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_prune import prunable
from ctrail_pipeline.core.ledger.queries_reports import output_sizes
from ctrail_pipeline.core.ledger.rows import BatchState, Pruned
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.line_runs import line_runs_of
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep import compaction
from ctrail_pipeline.core.upkeep.compaction import Compaction, compact
from ctrail_pipeline.core.upkeep.files_to_merge import Limits, files_to_merge
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline_tests.support.dying_compaction import STEPS, Killed, compact_and_die
from ctrail_pipeline_tests.support.oracle import Expectation, expected_lines, snapshot
from ctrail_pipeline_tests.support.parquet_rows import assert_rows, parquet_files
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    let_a_minute_pass,
    run_sync,
    sample_settings,
    start_sync,
)
from ctrail_pipeline_tests.support.synced_copies import SyncedCopies
from ctrail_pipeline_tests.support.thorough import thorough

SAMPLE = {"log_files": 120, "days": 2}


CHANGES = {"batch_log_files": 4, "process_workers": 1}
"""Batches of a few log files, so that an hour has many files, as of many syncs."""


@pytest.fixture
def settings(sample: Path, tmp_path: Path) -> Settings:
    return sample_settings(sample, tmp_path, **CHANGES)


@pytest.fixture
def synced(synced_copies: SyncedCopies, sample: Path, tmp_path: Path) -> Settings:
    return synced_copies.of_sample(sample, tmp_path, **CHANGES)


def event_files(settings: Settings) -> list[Path]:
    return sorted(settings.events_dir.rglob("*.jsonl"))


def files_by_folder(settings: Settings) -> Counter[Path]:
    return Counter(path.parent for path in event_files(settings))


def ledger_files(settings: Settings) -> list[str]:
    """Paths of the files that the ledger says are the output, and nothing else."""
    with closing(sqlite3.connect(settings.state_db)) as ledger:
        rows = ledger.execute(
            "SELECT p.folder, f.number FROM output_file f JOIN output_partition p"
            " ON p.id = f.output_partition JOIN batch b ON b.id = f.batch"
            " WHERE p.kind = 0 AND f.pruned = 0 AND f.replaced_by IS NULL AND b.state = 2"
        ).fetchall()
    return sorted(f"{folder}/events_{number:05d}.jsonl" for folder, number in rows)


def assert_compacted(settings: Settings, expectation: Expectation) -> None:
    """Check that the output is exact, has a file an hour, and the ledger says the same."""
    assert_exact(settings, expectation)
    assert set(files_by_folder(settings).values()) == {1}
    assert_agrees(settings)


def assert_agrees(settings: Settings) -> None:
    """Check that the files on disk are those that the ledger counts."""
    paths = event_files(settings)
    assert ledger_files(settings) == [str(p.relative_to(settings.events_dir)) for p in paths]
    lines = {path: path.read_bytes().count(b"\n") for path in paths}
    with closing(Ledger(settings.state_db)) as ledger:
        sizes = output_sizes(ledger, Kind.EVENTS)
        assert sum(size.files for size in sizes) == len(paths)
        assert sum(size.lines for size in sizes) == sum(lines.values())
        assert sum(size.bytes for size in sizes) == sum(path.stat().st_size for path in paths)
        would = prunable(ledger, "2099/01/01/00")
        assert would.files == len(paths) + len(parquet_files(settings))
        assert would.lines == sum(lines.values())
    with closing(sqlite3.connect(settings.state_db)) as db:
        assert db.execute(
            "SELECT count(*) FROM output_file WHERE replaced_by IS NOT NULL OR pruned = 1"
        ).fetchone() == (0,)
        for folder, count in db.execute("SELECT folder, lines FROM output_partition WHERE kind=0"):
            path_of_folder = settings.events_dir / folder
            assert sum(n for path, n in lines.items() if path.parent == path_of_folder) == count


def test_the_files_of_an_hour_become_one_with_the_same_lines(
    synced: Settings, expectation: Expectation
) -> None:
    lines, files = snapshot(synced.events_dir), files_by_folder(synced)
    many = {folder: count for folder, count in files.items() if count > 1}
    assert max(many.values()) > 2
    would = compact(synced, dry_run=True)
    assert files_by_folder(synced) == files
    result = compact(synced)
    assert result == would
    assert (result.folders, result.old_files) == (len(many), sum(many.values()))
    assert result.new_files == len(many)
    assert snapshot(synced.events_dir) == lines
    assert_compacted(synced, expectation)
    assert compact(synced) == Compaction()
    again = sync(synced)
    assert (again.ok, again.progress.log_files) == (True, 0)
    assert_compacted(synced, expectation)


def test_what_the_ledger_counts_is_right_at_each_step(synced: Settings) -> None:
    """No event counts twice, neither in the status nor in what a prune would remove."""
    lines = len(snapshot(synced.events_dir))
    counted: dict[str, tuple[int, int, int]] = {}

    def count(step: str) -> None:
        with closing(Ledger(synced.state_db)) as ledger:
            sizes = output_sizes(ledger, Kind.EVENTS)
            counted[step] = (
                sum(size.lines for size in sizes),
                prunable(ledger, "2099/01/01/00").lines,
                sum(size.pruned_files for size in sizes),
            )

    compact(synced, observe=count)
    assert counted == dict.fromkeys(STEPS, (lines, lines, 0))


def test_lines_are_in_the_order_of_their_files(synced: Settings) -> None:
    before = {
        folder: b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
        for folder in files_by_folder(synced)
    }
    compact(synced)
    for folder, content in before.items():
        [path] = folder.iterdir()
        assert path.read_bytes() == content


@pytest.mark.parametrize("lines_a_file", [2, 3, 7])
def test_no_file_gets_more_lines_than_a_file_may_have(
    synced: Settings, expectation: Expectation, lines_a_file: int
) -> None:
    """The files are as few as can be: after a full merge, all but an hour's last one are full."""
    settings = replace(synced, events_per_file=lines_a_file)
    before: Counter[Path] = Counter()
    small: Counter[Path] = Counter()
    full: Counter[Path] = Counter()
    for path in event_files(synced):
        count = path.read_bytes().count(b"\n")
        (small if count < lines_a_file else full)[path.parent] += 1
        before[path.parent] += count if count < lines_a_file else 0
    lines = snapshot(synced.events_dir)
    compact(settings)
    assert snapshot(synced.events_dir) == lines
    for folder, count in files_by_folder(synced).items():
        assert count <= full[folder] + min(small[folder], -(-before[folder] // lines_a_file))
    assert_agrees(synced)
    compact(settings)
    assert snapshot(synced.events_dir) == lines
    compact(replace(synced, events_per_file=10_000))
    assert_compacted(synced, expectation)


def test_every_line_still_leads_to_its_log_file(synced: Settings, sample: Path) -> None:
    """Files are merged, split, and merged again."""
    compact(replace(synced, events_per_file=5))
    assert_lineage(synced)
    compact(synced)
    assert_lineage(synced)
    with closing(sqlite3.connect(synced.state_db)) as db:
        [(merged, several)] = db.execute(
            "SELECT sum(merged), (SELECT count(DISTINCT batch) FROM log_file) FROM output_file"
        )
    assert merged > 5
    assert several > 5


def assert_lineage(settings: Settings) -> None:
    with closing(Ledger(settings.state_db)) as ledger:
        source_prefixes = {id_: source_prefix for source_prefix, id_ in source_ids(ledger).items()}
    with closing(sqlite3.connect(settings.state_db)) as db:
        log_files = {
            (batch, position): key_of(source_prefixes[source_id], day, name)
            for batch, position, source_id, day, name in db.execute(
                "SELECT batch, position, source_prefix, day, name FROM log_file"
            )
        }
        rows = db.execute(
            "SELECT p.folder, f.number, f.batch, f.lineage, f.merged FROM output_file f"
            " JOIN output_partition p ON p.id = f.output_partition WHERE p.kind = 0"
        ).fetchall()
    holders = lines_of_log_files(settings)
    for folder, number, batch, lineage, merged in rows:
        lines = (
            (settings.events_dir / folder / f"events_{number:05d}.jsonl").read_bytes().splitlines()
        )
        owners = [
            log_files[run.batch, run.position]
            for run in line_runs_of(lineage, batch, merged=bool(merged))
            for _ in range(run.lines)
        ]
        assert len(owners) == len(lines)
        for line, owner in zip(lines, owners, strict=True):
            assert any(path.endswith(f"/{owner}") for path in holders[line]), (line, owner)


def lines_of_log_files(settings: Settings) -> dict[bytes, set[str]]:
    """Return every log file that holds a line, found out without the pipeline."""
    holders: dict[bytes, set[str]] = {}
    for trail in settings.trails:
        bucket = Path(trail.bucket.removeprefix("file://"))
        for path in bucket.rglob("*.json.gz"):
            alone = settings.state_db.parent / "alone" / path.relative_to(bucket)
            alone.parent.mkdir(parents=True, exist_ok=True)
            if not alone.exists():
                os.link(path, alone)
            root = settings.state_db.parent / "alone"
            for line in expected_lines([(root, trail.prefix)]):
                holders.setdefault(line, set()).add(str(path))
            alone.unlink()
    return holders


def test_hours_that_are_not_over_are_left_alone(synced: Settings) -> None:
    files = files_by_folder(synced)
    hours = sorted({"/".join(folder.parts[-4:]) for folder in files})
    hour = hours[len(hours) // 2]
    end = datetime.strptime(hour, "%Y/%m/%d/%H").replace(tzinfo=UTC)
    compact(synced, now=end + timedelta(hours=compaction.CLOSED_AFTER_HOURS))
    for folder, count in files_by_folder(synced).items():
        if "/".join(folder.parts[-4:]) < hour:
            assert count == 1
        else:
            assert count == files[folder]


LIMITS = Limits(full=10_000, small=100)


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ([], []),
        ([5], []),
        ([5, 7], [0, 1]),
        ([10_000, 10_000], []),
        ([10_000, 3, 10_000, 4], [1, 3]),
        ([90, 1], [0, 1]),  # copying is cheap
        ([9_000, 1], []),  # a late line
        ([9_000, 1, 1, 1], [1, 2, 3]),  # late lines are merged with each other
        ([9_000, 900, 900, 500], [0, 1, 2, 3]),
        ([7_000, 7_000], []),  # merging would give two files again
        ([7_000, 7_000, 5_000], [0, 1, 2]),
        ([20_000, 6, 6], [1, 2]),
    ],
)
def test_what_is_worth_being_merged(sizes: list[int], chosen: list[int]) -> None:
    assert files_to_merge(sizes, LIMITS) == chosen


def test_late_lines_do_not_cost_their_hour_each_day() -> None:
    """For 300 days, one small file a day joins a large one: a line is copied only a few times."""
    sizes, copied = [9_000], 0
    for _ in range(300):
        sizes.append(3)
        chosen = files_to_merge(sizes, LIMITS)
        merged = sum(sizes[at] for at in chosen)
        sizes = [size for at, size in enumerate(sizes) if at not in chosen]
        sizes += [size for size in (merged,) if size]
        copied += merged
    assert len(sizes) < 5
    assert copied < 4 * 9_000


# --- killed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("next_command", ["sync", *thorough("compact", "prune")])
def test_a_compaction_that_dies_is_finished_or_dropped_by_whoever_comes_next(
    synced: Settings,
    expectation: Expectation,
    step: str,
    next_command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compaction, "_BATCH_FILES", 10)
    monkeypatch.setattr("ctrail_pipeline.core.batch.recovery._REMOVED_AT_ONCE", 3)
    lines = snapshot(synced.events_dir)
    steps: list[str] = []

    def die(at: str) -> None:
        steps.append(at)
        if steps.count(step) == 2:
            raise Killed

    with pytest.raises(Killed):
        compact(synced, observe=die)
    let_a_minute_pass(synced)
    if next_command == "sync":
        assert sync(synced).progress.events == 0
    elif next_command == "compact":
        compact(synced)
    else:
        assert prune(synced, datetime(2020, 1, 1, tzinfo=UTC)).files == 0
    assert snapshot(synced.events_dir) == lines
    assert_exact(synced, expectation)
    assert_agrees(synced)
    compact(synced)
    assert_compacted(synced, expectation)
    assert sync(synced).progress.log_files == 0


def union_of_lines(settings: Settings) -> set[bytes]:
    """Return what a reader sees who does not mind to see an event twice."""
    return {line for path in event_files(settings) for line in path.read_bytes().splitlines()}


@pytest.mark.thorough(is_long=True)
def test_killed_at_every_instant_nothing_is_lost_or_doubled(
    settings: Settings, tmp_path: Path
) -> None:
    """Between any two calls that change disk or ledger, a process of its own dies."""
    assert sync(settings, Selection(accounts=["22*"])).ok
    lines = snapshot(settings.events_dir)
    for step in range(1, 1000):
        copy = tmp_path / f"step-{step}"
        copy.mkdir()
        shutil.copytree(settings.events_dir, copy / "events")
        shutil.copy(settings.state_db, copy / "ledger.db")
        copied = replace(
            settings,
            events_dir=copy / "events",
            quarantine_dir=copy / "quarantine",
            state_db=copy / "ledger.db",
        )
        code = compact_and_die(copied, step, 8)
        assert union_of_lines(copied) == lines, f"step {step}: a reader misses events"
        let_a_minute_pass(copied)
        compact(copied)
        assert snapshot(copied.events_dir) == lines, step
        assert set(files_by_folder(copied).values()) == {1}
        assert_agrees(copied)
        assert list((copied.events_dir / ".staging").iterdir()) == []
        if code == 0:
            break
        shutil.rmtree(copy)
    assert step > 60


@pytest.mark.thorough
def test_killed_again_and_again(settings: Settings, expectation: Expectation) -> None:
    """Each process dies a little later, on what the last one left."""
    assert sync(settings).ok
    lines = snapshot(settings.events_dir)
    killed = 0
    for step in range(1, 1000):
        if compact_and_die(settings, step, 4) == 0:
            break
        killed += 1
        assert union_of_lines(settings) == lines, f"step {step}: a reader misses events"
        let_a_minute_pass(settings)
        if step % 3 == 0:
            assert sync(settings).progress.log_files == 0
            assert_exact(settings, expectation)
    assert killed > 30
    assert_compacted(settings, expectation)
    assert sync(settings).progress.log_files == 0


@pytest.mark.parametrize("lost", ["one", "all"])
def test_merged_files_that_vanish_before_they_are_published_are_merged_once_more(
    synced: Settings, expectation: Expectation, lost: str
) -> None:
    die_while_linking(synced)
    parts = sorted((synced.events_dir / ".staging").glob("*/*.part"))
    for part in parts[-1:] if lost == "one" else parts:
        part.unlink()
    assert sync(synced).progress.log_files == 0
    assert_compacted(synced, expectation)


def test_a_merged_file_is_lost_while_an_old_file_is_not_as_it_was(
    synced: Settings, expectation: Expectation
) -> None:
    die_while_linking(synced)
    for part in (synced.events_dir / ".staging").glob("*/*.part"):
        part.unlink()
    with closing(sqlite3.connect(synced.state_db)) as db:
        folder, number = db.execute(
            "SELECT p.folder, f.number FROM output_file f JOIN output_partition p"
            " ON p.id = f.output_partition WHERE f.replaced_by IS NOT NULL"
            " ORDER BY p.id DESC LIMIT 1"  # one merged file has its name
        ).fetchone()
    old = synced.events_dir / folder / f"events_{number:05d}.jsonl"
    text = old.read_bytes()
    old.write_bytes(text[:-1])
    summary = sync(synced)
    with closing(Ledger(synced.state_db)) as ledger:
        sizes = output_sizes(ledger, Kind.EVENTS)
        assert sum(size.lines for size in sizes) == len(expectation.lines)
        assert sum(size.pruned_files for size in sizes) == 0
    assert [problem.state for problem in summary.problems] == ["not published"]
    assert not summary.ok
    assert any("could not be made again" in problem for problem in compact(synced).problems)
    old.write_bytes(text)
    assert sync(synced).ok
    assert_compacted(synced, expectation)


def die_while_linking(settings: Settings) -> None:
    """Compact, and die when the first merged file has its name."""

    def die(at: str) -> None:
        if at == "linked":
            raise Killed

    with pytest.raises(Killed):
        compact(settings, observe=die)


# --- beside others --------------------------------------------------------------------------------


def test_a_file_that_comes_meanwhile_is_not_touched(
    sample: Path, expectation: Expectation, tmp_path: Path
) -> None:
    """Every third log file is late: it comes between the plan of a compaction and its commit."""
    buckets = tmp_path / "buckets"
    shutil.copytree(sample, buckets)
    late = sorted(buckets.rglob("*.json.gz"))[::3]
    for path in late:
        path.rename(path.with_name(path.name + ".late"))
    settings = sample_settings(buckets, tmp_path, batch_log_files=4, process_workers=1)
    assert sync(settings).ok
    before = set(event_files(settings))
    late_files: dict[Path, bytes] = {}

    def bring_late(at: str) -> None:
        if at != "staged" or late_files:
            return
        for path in late:
            path.with_name(path.name + ".late").rename(path)
        with closing(sqlite3.connect(settings.state_db)) as ledger, ledger:
            ledger.execute("UPDATE source_prefix SET deep_listed_at = 0")
            ledger.execute("DELETE FROM coverage")
        assert sync(settings).ok
        new = set(event_files(settings)) - before
        late_files.update((path, path.read_bytes()) for path in new)

    compact(settings, observe=bring_late)
    assert len({path.parent for path in late_files} & {path.parent for path in before}) > 3
    assert {path: path.read_bytes() for path in late_files} == late_files
    assert_exact(settings, expectation)
    compact(settings)
    assert_compacted(settings, expectation)


def compact_until(
    ended: Event, settings: Settings, compacted: list[int], failed: list[BaseException]
) -> None:
    try:
        while not ended.is_set():
            if (settings.events_dir / ".ctrail").exists() and settings.state_db.exists():
                result = compact(settings)
                assert result.problems == []
                compacted.append(result.folders)
    except BaseException as error:  # noqa: BLE001 - the test raises it
        failed.append(error)


@pytest.mark.thorough
def test_syncs_and_compactions_at_once(
    sample: Path, expectation: Expectation, tmp_path: Path
) -> None:
    """A sync in another process runs beside compactions in two threads, again and again."""
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        formats = ("jsonl", "parquet") if attempt % 2 else ("jsonl",)
        settings = sample_settings(
            sample, folder, batch_log_files=3, process_workers=1, output_formats=formats
        )
        failed: list[BaseException] = []
        process = start_sync(settings, step_seconds=0.002)
        process.wait_until_ready()
        ended_event = Event()
        compacted: list[int] = []
        threads = [
            Thread(target=compact_until, args=(ended_event, settings, compacted, failed))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        ended = process.wait()
        ended_event.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert ended.returncode == 0, ended.stderr
        assert ended.summary["problems"] == []
        assert sum(compacted) > 5
        assert_exact(settings, expectation)
        compact(settings)
        assert_compacted(settings, expectation)
        if attempt % 2:
            assert_rows(settings)
        assert sync(settings).progress.log_files == 0


def test_a_sync_that_was_killed_and_a_compaction(
    settings: Settings, expectation: Expectation
) -> None:
    """The compaction publishes what the sync had committed, and merges that too."""
    assert run_sync(settings, kill_at=("linked", 40)).returncode == -signal.SIGKILL
    compact(settings)
    assert set(files_by_folder(settings).values()) == {1}
    assert run_sync(settings).returncode == 0
    compact(settings)
    assert_compacted(settings, expectation)


def test_two_at_once_do_it_once(synced: Settings, expectation: Expectation) -> None:
    lines, files = snapshot(synced.events_dir), len(event_files(synced))
    barrier = Barrier(3)
    results: list[Compaction] = []

    def wait(at: str) -> None:
        if at == "staged":
            barrier.wait(30)

    threads = [
        Thread(target=lambda: results.append(compact(synced, observe=wait))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert all(result.problems == [] for result in results)
    assert snapshot(synced.events_dir) == lines
    assert_compacted(synced, expectation)
    fewer = sum(result.old_files - result.new_files for result in results)
    assert fewer == files - len(event_files(synced))
    assert sorted(result.folders > 0 for result in results) == [False, False, True]


@pytest.mark.parametrize("at", STEPS)
def test_pruning_at_once_brings_nothing_back(
    synced: Settings, expectation: Expectation, at: str
) -> None:
    before = datetime(2026, 1, 15, 6, tzinfo=UTC)
    kept_lines = {
        line
        for path in event_files(synced)
        if "/".join(path.parts[-5:-1]) >= "2026/01/15/06"
        for line in path.read_bytes().splitlines()
    }
    pruned = 0

    def prune_now(step: str) -> None:
        nonlocal pruned
        if step == at and not pruned:
            pruned = prune(synced, before).files

    assert compact(synced, observe=prune_now).problems == []
    assert pruned > 10
    assert kept_lines
    assert snapshot(synced.events_dir) == kept_lines
    assert_agrees(synced)
    compact(synced)
    assert set(files_by_folder(synced).values()) == {1}
    assert snapshot(synced.events_dir) == kept_lines
    assert sync(synced).progress.log_files == 0


# --- trouble --------------------------------------------------------------------------------------


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"{}\n")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (Path.unlink, "cannot be read (No such file or directory)"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "is not as it was written"),
        (lambda path: path.write_bytes(b""), "is not as it was written"),
        (_append, "is not as it was written"),
        (_flip, "is not as it was written"),
    ],
)
@pytest.mark.parametrize("lines_a_file", [25, 10_000])
def test_a_folder_with_a_file_that_is_missing_or_altered_is_left_alone(
    synced: Settings, harm: Callable[[Path], None], says: str, lines_a_file: int
) -> None:
    settings = replace(synced, events_per_file=lines_a_file)
    folder = max(
        files_by_folder(synced),
        key=lambda hour_folder: sum(
            p.read_bytes().count(b"\n") < lines_a_file for p in hour_folder.iterdir()
        ),
    )
    path = next(p for p in sorted(folder.iterdir()) if p.read_bytes().count(b"\n") < lines_a_file)
    harm(path)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    other_files = {p for f in files_by_folder(synced) if f != folder for p in f.iterdir()}
    lines = sorted(line for p in other_files for line in p.read_bytes().splitlines())
    result = compact(settings)
    assert result.folders > 1
    [problem] = result.problems
    assert str(path) in problem
    assert says in problem
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    now = {p for f in files_by_folder(synced) if f != folder for p in f.iterdir()}
    assert now != other_files
    assert sorted(line for p in now for line in p.read_bytes().splitlines()) == lines
    assert compact(settings).problems == [problem]


def test_a_disk_that_is_full_leaves_everything_as_it_is(
    synced: Settings, expectation: Expectation, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in event_files(synced)}

    def no_space(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ctrail_pipeline.core.output.local.staging.os.write", no_space)
    with pytest.raises(OutputError, match="the disk is full: free some space"):
        compact(synced)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in event_files(synced)} == before
    assert_exact(synced, expectation)
    assert_agrees(synced)
    compact(synced)
    assert_compacted(synced, expectation)


@pytest.mark.parametrize("took_effect", [True, False])
def test_a_commit_that_ends_with_an_error(
    synced: Settings, expectation: Expectation, monkeypatch: pytest.MonkeyPatch, took_effect: bool
) -> None:
    """Only the ledger knows whether it took effect."""
    before = {path: path.read_bytes() for path in event_files(synced)}
    transaction = Ledger.transaction
    fails = False

    @contextmanager
    def failing(ledger: Ledger) -> Iterator[None]:
        nonlocal fails
        with transaction(ledger):
            yield
            if fails and not took_effect:
                fails = False
                raise LedgerError("the disk fails")
        if fails:
            fails = False
            raise LedgerError("the disk fails")

    def fail_next(step: str) -> None:
        nonlocal fails
        fails = step == "staged"

    monkeypatch.setattr(Ledger, "transaction", failing)
    if took_effect:
        assert compact(synced, observe=fail_next).folders > 10
    else:
        with pytest.raises(LedgerError, match="the disk fails"):
            compact(synced, observe=fail_next)
        assert {path: path.read_bytes() for path in event_files(synced)} == before
        assert_exact(synced, expectation)
        assert_agrees(synced)
    monkeypatch.undo()
    compact(synced)
    assert_compacted(synced, expectation)


def test_a_foreign_file_in_the_way_is_kept(synced: Settings) -> None:
    lines = snapshot(synced.events_dir)
    folder = max(files_by_folder(synced), key=lambda hour_folder: len(list(hour_folder.iterdir())))
    with closing(sqlite3.connect(synced.state_db)) as db:
        [(number,)] = db.execute(
            "SELECT next_number FROM output_partition WHERE kind = 0 AND folder = ?",
            (str(folder.relative_to(synced.events_dir)),),
        )
    foreign = folder / f"events_{number:05d}.jsonl"
    foreign.write_bytes(b"theirs\n")
    compact(synced)
    assert foreign.read_bytes() == b"theirs\n"
    assert snapshot(synced.events_dir) == lines | {b"theirs"}
    foreign.unlink()
    assert_agrees(synced)


@pytest.mark.parametrize("step", ["registered", "staged", "published"])
def test_a_ledger_from_before_a_compaction_is_refused(
    synced: Settings, tmp_path: Path, step: str
) -> None:
    """A ledger from amid the compaction is refused, too, if it does not know what was removed."""
    backup = tmp_path / "backup.db"
    lines = snapshot(synced.events_dir)

    def copy(at: str) -> None:
        if at == step and not backup.exists():
            with closing(sqlite3.connect(synced.state_db)) as ledger:
                ledger.execute("VACUUM INTO ?", (str(backup),))

    compact(synced, observe=copy)
    for path in tmp_path.glob(f"{synced.state_db.name}*"):
        path.unlink()
    backup.rename(synced.state_db)
    if step == "published":  # the caller knows what was decided, and does it again
        assert sync(synced).progress.log_files == 0
        assert snapshot(synced.events_dir) == lines
        assert_agrees(synced)
    else:
        with pytest.raises(LedgerError, match="an older copy was restored"):
            sync(synced)


def test_without_a_ledger_there_is_nothing_to_compact(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="there is no ledger"):
        compact(settings)
    assert not settings.state_db.exists()


def test_pruned_after_a_compaction_it_is_gone(synced: Settings) -> None:
    compact(synced)
    files = len(event_files(synced))
    pruned = prune(synced, datetime(2027, 1, 1, tzinfo=UTC))
    assert pruned.files == files
    assert event_files(synced) == []
    with closing(sqlite3.connect(synced.state_db)) as db:
        assert db.execute(
            "SELECT DISTINCT pruned FROM output_file JOIN output_partition p"
            " ON p.id = output_partition WHERE p.kind = 0"
        ).fetchall() == [(Pruned.REMOVED,)]
        assert db.execute("SELECT DISTINCT state FROM batch").fetchall() == [
            (BatchState.PUBLISHED,)
        ]
    assert sync(synced).progress.log_files == 0
    assert event_files(synced) == []
