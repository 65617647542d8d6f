"""The Parquet files of a day become few with the same rows, in order, whoever dies meanwhile."""

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_reports import output_sizes
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep import compaction, parquet_merging
from ctrail_pipeline.core.upkeep.checked_blocks import Altered
from ctrail_pipeline.core.upkeep.compaction import Compaction, compact
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline_tests.support.dying_compaction import STEPS, Killed, compact_and_die
from ctrail_pipeline_tests.support.oracle import snapshot
from ctrail_pipeline_tests.support.parquet_rows import assert_rows, parquet_files
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.sync_process import let_a_minute_pass
from ctrail_pipeline_tests.support.synced_copies import SyncedCopies
from ctrail_pipeline_tests.support.thorough import thorough

SAMPLE = {"log_files": 120, "days": 2}

DYING = ["linked", *thorough(*(step for step in STEPS if step != "linked"))]
"""Steps of a compaction, of which `make test` tries one."""


@pytest.fixture
def synced(synced_copies: SyncedCopies, sample: Path, tmp_path: Path) -> Settings:
    return synced_copies.of_sample(
        sample,
        tmp_path,
        output_formats=("jsonl", "parquet"),
        batch_log_files=2,
        process_workers=1,
    )


def files_by_folder(settings: Settings) -> dict[Path, list[Path]]:
    found: dict[Path, list[Path]] = {}
    for path in parquet_files(settings):
        found.setdefault(path.parent, []).append(path)
    return found


def all_rows(settings: Settings) -> list[dict[str, Any]]:
    """Return all rows, in an order of their own."""
    frame = pl.concat(pl.read_parquet(p, hive_partitioning=False) for p in parquet_files(settings))
    return frame.sort("_bucket", "_key", "_index").to_dicts()


def by_duckdb(settings: Settings) -> list[tuple[Any, ...]]:
    root = LocalOutput.of(settings).roots[Kind.PARQUET]
    with duckdb.connect() as db:
        return db.execute(
            f"SELECT * FROM read_parquet('{root}/*/*/*/*.parquet', hive_partitioning = true)"
            " ORDER BY _bucket, _key, _index"
        ).fetchall()


def assert_agrees(settings: Settings) -> None:
    with closing(Ledger(settings.state_db)) as ledger:
        sizes = output_sizes(ledger, Kind.PARQUET)
    paths = parquet_files(settings)
    assert sum(size.files for size in sizes) == len(paths)
    assert sum(size.bytes for size in sizes) == sum(path.stat().st_size for path in paths)
    assert sum(size.lines for size in sizes) == len(all_rows(settings))


def assert_compacted(settings: Settings, rows: list[dict[str, Any]]) -> None:
    assert all(len(paths) == 1 for paths in files_by_folder(settings).values())
    assert all_rows(settings) == rows
    assert_rows(settings)
    assert_agrees(settings)


def test_the_files_of_a_day_become_one_with_the_same_rows(synced: Settings) -> None:
    rows, duckdb_rows = all_rows(synced), by_duckdb(synced)
    files = files_by_folder(synced)
    schema = pl.read_parquet_schema(parquet_files(synced)[0])
    assert max(map(len, files.values())) > 4
    would = compact(synced, dry_run=True)
    result = compact(synced)
    assert result == would
    assert result.problems == []
    assert_compacted(synced, rows)
    assert by_duckdb(synced) == duckdb_rows
    for path in parquet_files(synced):
        assert pl.read_parquet_schema(path) == schema
    assert compact(synced) == Compaction()
    assert sync(synced).progress.log_files == 0
    assert_compacted(synced, rows)


@pytest.mark.parametrize("bytes_a_span", [*thorough(1, 5_000), 100_000])
def test_rows_that_are_read_in_small_spans_are_the_same(
    synced: Settings, monkeypatch: pytest.MonkeyPatch, bytes_a_span: int
) -> None:
    rows = all_rows(synced)
    spans: list[int] = []
    read = parquet_merging._read

    def counted(*arguments: Any) -> pl.DataFrame:
        frame = read(*arguments)
        spans.append(frame.height)
        return frame

    monkeypatch.setattr(parquet_merging, "_read", counted)
    monkeypatch.setattr(parquet_merging, "_BYTES_A_SPAN", bytes_a_span)
    monkeypatch.setattr(parquet_merging, "_MOST_BYTES_OF_A_TIME", 1 << 30)
    monkeypatch.setattr(parquet_merging, "_FEWEST_ROWS_A_GROUP", 0)
    compact(synced)
    assert len(spans) > {1: 300, 5_000: 60, 100_000: 1}[bytes_a_span]
    assert_compacted(synced, rows)


@pytest.mark.thorough
def test_files_have_about_the_size_that_is_wanted(
    synced: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = all_rows(synced)
    before = files_by_folder(synced)
    size = 2 * max(path.stat().st_size for path in parquet_files(synced))
    monkeypatch.setattr(compaction, "PARQUET_BYTES", size)
    result = compact(synced)
    assert result.problems == []
    after = files_by_folder(synced)
    assert all_rows(synced) == rows
    assert_rows(synced)
    assert_agrees(synced)
    assert any(1 < len(after[folder]) < len(paths) for folder, paths in before.items())
    assert all(path.stat().st_size <= size for path in parquet_files(synced))


def test_a_day_that_is_not_over_is_left_alone(synced: Settings) -> None:
    files = files_by_folder(synced)
    days = sorted({folder.name for folder in files})
    assert len(days) > 1
    end = datetime.strptime(days[-1], "date=%Y-%m-%d").replace(tzinfo=UTC)
    compact(synced, now=end + timedelta(hours=compaction.CLOSED_AFTER_HOURS))
    after = files_by_folder(synced)
    assert {f: p for f, p in after.items() if f.name == days[-1]} == {
        f: p for f, p in files.items() if f.name == days[-1]
    }
    assert all(len(paths) == 1 for folder, paths in after.items() if folder.name != days[-1])


@pytest.mark.parametrize("step", DYING)
def test_a_compaction_that_dies_is_finished_or_dropped(
    synced: Settings, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(compaction, "_of_parquet", lambda *_: ())
        compact(synced)
    rows, lines = all_rows(synced), snapshot(synced.events_dir)

    def die(at: str) -> None:
        if at == step:
            raise Killed

    with pytest.raises(Killed):
        compact(synced, observe=die)
    let_a_minute_pass(synced)
    assert sync(synced).progress.log_files == 0
    assert all_rows(synced) == rows
    assert_agrees(synced)
    compact(synced)
    assert_compacted(synced, rows)
    assert snapshot(synced.events_dir) == lines


@pytest.mark.thorough
def test_killed_again_and_again(synced: Settings) -> None:
    """Each compaction is a process of its own and is killed a little later than the last one."""
    rows = all_rows(synced)
    for step in range(1, 1000, 7):
        if compact_and_die(synced, step, 4) == 0:
            break
        let_a_minute_pass(synced)
        assert sync(synced).progress.log_files == 0
        assert all_rows(synced) == rows
    assert_compacted(synced, rows)


@pytest.mark.parametrize("at", DYING)
def test_pruning_at_once_brings_nothing_back(synced: Settings, at: str) -> None:
    pruned = 0

    def prune_now(step: str) -> None:
        nonlocal pruned
        if step == at and not pruned:
            pruned = prune(synced, datetime(2026, 1, 15, tzinfo=UTC)).files

    assert compact(synced, observe=prune_now).problems == []
    assert pruned > 5
    assert {folder.name for folder in files_by_folder(synced)} == {"date=2026-01-15"}
    assert_rows(synced)
    assert_agrees(synced)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "says"),
    [(Path.unlink, "No such file or directory"), (_flip, "is not as it was written")],
)
def test_a_day_with_a_file_that_is_missing_or_altered_is_left_alone(
    synced: Settings, harm: Callable[[Path], None], says: str
) -> None:
    folder, paths = max(files_by_folder(synced).items(), key=lambda item: len(item[1]))
    harm(paths[1])
    before = {path: path.read_bytes() for path in folder.iterdir()}
    [problem] = compact(synced).problems
    assert str(paths[1]) in problem
    assert says in problem
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    after = files_by_folder(synced)
    assert all(len(paths) == 1 for name, paths in after.items() if name != folder)


def test_a_file_of_another_version_is_not_merged(synced: Settings) -> None:
    """The file is as it was written, and has another schema."""
    folder, paths = max(files_by_folder(synced).items(), key=lambda item: len(item[1]))
    frame = pl.read_parquet(paths[0], hive_partitioning=False)
    frame.write_parquet(paths[0], metadata={"ctrail_schema_version": "2"})
    data = paths[0].read_bytes()
    with closing(sqlite3.connect(synced.state_db)) as db, db:
        db.execute(
            "UPDATE output_file SET sha256 = ?, bytes = ? WHERE number = ? AND output_partition ="
            " (SELECT id FROM output_partition WHERE kind = 2 AND folder = ?)",
            (
                sha256(data).digest(),
                len(data),
                int(paths[0].stem[5:]),
                str(folder.relative_to(LocalOutput.of(synced).roots[Kind.PARQUET])),
            ),
        )
    [problem] = compact(synced).problems
    assert "has other columns than" in problem
    assert files_by_folder(synced)[folder] == paths


@pytest.mark.thorough
def test_a_disk_that_is_full_leaves_everything_as_it_is(
    synced: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up while a Parquet file is written."""
    rows = all_rows(synced)
    files = files_by_folder(synced)
    write, parquet = os.write, b"PAR1"

    def no_space(descriptor: int, data: bytes) -> int:
        if bytes(data[:4]) == parquet:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr("ctrail_pipeline.core.output.local.staging.os.write", no_space)
    with pytest.raises(OutputError, match="the disk is full: free some space"):
        compact(synced)
    monkeypatch.undo()
    assert files_by_folder(synced) == files
    assert all_rows(synced) == rows
    assert_agrees(synced)
    compact(synced)
    assert_compacted(synced, rows)


_MERGE = """
import resource, sys
from hashlib import sha256
from pathlib import Path
from ctrail_pipeline.core.ledger.queries_compaction import OldFile
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output_files import FileName, Kind
from ctrail_pipeline.core.upkeep.parquet_merging import MergedParquetFile
import polars as pl

paths = [Path(name) for name in sys.argv[2:]]
root = paths[0].parent
old = []
for at, path in enumerate(paths):
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    rows = pl.scan_parquet(path).select(pl.len()).collect().item()
    name = FileName(Kind.PARQUET, "", path.name)
    old.append((name, OldFile(at, at, at, rows, path.stat().st_size, digest.digest(), b"", False)))
with open(sys.argv[1], "wb") as out:
    merged = MergedParquetFile(LocalOutput(root, root, root), "folder", old)
    merged.write_to(out.write)
assert merged.problem == ""
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.thorough
def test_memory_does_not_depend_on_how_much_is_merged(synced: Settings, tmp_path: Path) -> None:
    """Merge 20 and 200 files of 5,000 rows each, whose times overlap."""
    frame = pl.concat(pl.read_parquet(p, hive_partitioning=False) for p in parquet_files(synced))
    frame = frame.sample(5_000, with_replacement=True, seed=1)
    peaks = {}
    for count in (20, 200):
        paths = []
        for at in range(count):
            path = tmp_path / f"{count}-{at}.parquet"
            times = pl.datetime_range(
                datetime(2026, 1, 15, tzinfo=UTC) + timedelta(minutes=5 * at),
                datetime(2026, 1, 15, tzinfo=UTC) + timedelta(minutes=5 * at + 20),
                timedelta(milliseconds=240),
                time_unit="us",
                eager=True,
            )[:5_000]
            frame.with_columns(eventTime=times).write_parquet(
                path, row_group_size=10_000, metadata={"ctrail_schema_version": "1"}
            )
            paths.append(str(path))
        merged = tmp_path / f"{count}.parquet"
        process = subprocess.run(
            [sys.executable, "-c", _MERGE, str(merged), *paths],
            cwd=PROJECT,
            check=True,
            capture_output=True,
            text=True,
        )
        peaks[count] = int(process.stdout) // 1024
        rows = pl.scan_parquet(merged)
        assert rows.select(pl.len(), pl.col("eventTime").is_sorted()).collect().row(0) == (
            count * 5_000,
            True,
        )
        for name in paths:
            Path(name).unlink()
        merged.unlink()
    print(peaks)
    assert peaks[200] < peaks[20] + 150, peaks


@pytest.mark.thorough
@pytest.mark.parametrize("seconds", [1, 5120])
def test_memory_does_not_depend_on_what_somebody_puts_into_the_bucket(seconds: int) -> None:
    """5 GB of rows of 1 MB, which zstd makes a few MB of, lie beside a million usual rows."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    large = [start + timedelta(seconds=at % seconds) for at in range(5120)]
    usual = [start + timedelta(seconds=6_000 + at % 70_000) for at in range(1_000_000)]
    times = [
        parquet_merging._Times(
            pl.DataFrame(
                {"eventTime": moments, "size": [size] * len(moments)},
                schema_overrides={"size": pl.UInt32},
            ),
            min(moments),
            max(moments),
        )
        for moments, size in ((large, 1 << 20), (usual, 1_500))
    ]
    with pytest.raises(Altered, match="too much memory, so the folder is left as it is"):
        parquet_merging._spans(times, Path("parquet"))
    spans, rows_a_group = parquet_merging._spans(times[1:], Path("parquet"))
    assert rows_a_group == 10_000
    assert 90 <= len(spans) <= 110
