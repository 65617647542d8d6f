"""If a ledger is lost while files get their names, Parquet afterwards holds each event once."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.output.local.folders import OutputFolders
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output.local.staging import LocalStaging
from ctrail_pipeline.core.output.marker import replace_marker
from ctrail_pipeline.core.output.parquet import hours_of_date
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep import rebuild as rebuild_module
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline.core.upkeep.rebuild_result import Rebuilt
from ctrail_pipeline_tests.support.large_log_files import put_log_file
from ctrail_pipeline_tests.support.oracle import Expectation, read_buckets
from ctrail_pipeline_tests.support.parquet_rows import parquet_files, rows, unlike_lines
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    let_a_minute_pass,
    local_trail,
    sample_settings,
    settings_in,
)
from ctrail_pipeline_tests.support.synced_copies import SyncedCopies
from ctrail_pipeline_tests.support.thorough import thorough
from ctrail_pipeline_tests.support.two_trails import event

SAMPLE = {"log_files": 60, "days": 2}


CHANGES: dict[str, Any] = {
    "output_formats": ("jsonl", "parquet"),
    "batch_log_files": 30,
    "process_workers": 1,
}


@pytest.fixture
def settings(sample: Path, tmp_path: Path) -> Settings:
    return sample_settings(sample, tmp_path, **CHANGES)


@pytest.fixture
def synced(synced_copies: SyncedCopies, sample: Path, tmp_path: Path) -> Settings:
    return synced_copies.of_sample(sample, tmp_path, **CHANGES)


@pytest.fixture
def finely_synced(synced_copies: SyncedCopies, sample: Path, tmp_path: Path) -> Settings:
    """Sync in batches of a few log files."""
    return synced_copies.of_sample(sample, tmp_path, **{**CHANGES, "batch_log_files": 4})


class Killed(BaseException):
    """An exception that is what a kill is to code that cannot catch it."""


def killing(step: str, count: int) -> Callable[[str], None]:
    times = 0

    def observe(at: str) -> None:
        nonlocal times
        times += at == step
        if at == step and times == count:
            raise Killed

    return observe


def lose_ledger(settings: Settings) -> None:
    for path in settings.state_db.parent.glob(f"{settings.state_db.name}*"):
        if path.is_file():
            path.unlink()


def rebuilt(settings: Settings, expectation: Expectation) -> Rebuilt:
    """Rebuild and sync; check that lines and rows are there once, and that the ledger agrees."""
    let_a_minute_pass(settings)
    result = rebuild(settings)
    assert (result.doubled, unlike_lines(settings)) == (0, [])
    sync(settings)
    assert_exact(settings, expectation)
    assert unlike_lines(settings) == []
    report = compare(settings, deep=True)
    assert [finding for finding in report.findings if "OUTPUT" in finding.kind.name] == []
    return result


@pytest.mark.parametrize("links", [10, *thorough(1, 3, 25, 40)])
def test_amid_the_links_of_a_batch(
    settings: Settings, expectation: Expectation, links: int
) -> None:
    """Some files of lines and some of rows of one batch have their names, and others have not."""
    with pytest.raises(Killed):
        sync(settings, observe=killing("linked", links))
    lose_ledger(settings)
    rebuilt(settings, expectation)


def test_rows_without_their_lines(synced: Settings, expectation: Expectation) -> None:
    """A file of rows has its name, and the lines have not: the next sync brings them, with rows."""
    lost = max(synced.events_dir.rglob("*.jsonl"), key=lambda path: path.stat().st_size)
    count = len(lost.read_bytes().splitlines())
    lost.unlink()
    lose_ledger(synced)
    before = len(rows(synced))
    result = rebuilt(synced, expectation)
    assert result.parquet_repaired == 1
    assert result.problem_count == len(result.problems) > 0
    set_aside = [Path(problem.partition(": set aside")[0]) for problem in result.problems]
    assert all(path.name.startswith("_part-") and path.suffix != ".parquet" for path in set_aside)
    assert sum(len(pl.read_parquet(path.read_bytes())) for path in set_aside) >= count
    assert len(rows(synced)) == before
    lose_ledger(synced)
    assert rebuild(synced).problems == [], "what was set aside is nobody's business any more"


@pytest.mark.parametrize(
    ("step", "count"),
    [
        ("linked", 7),
        *thorough(("committed", 1), ("linked", 1), ("linked", 2), ("published", 1), ("removed", 1)),
    ],
)
def test_amid_a_compaction(
    finely_synced: Settings, expectation: Expectation, step: str, count: int
) -> None:
    """Merged files and old ones lie side by side, both of rows and of lines."""
    with pytest.raises(Killed):
        compact(finely_synced, observe=killing(step, count))
    lose_ledger(finely_synced)
    result = rebuilt(finely_synced, expectation)
    assert result.problems == []
    everywhere = [row for row in rows(finely_synced) if row["_key"] is None]
    assert not everywhere, "one of both tells where each record is"
    assert compact(finely_synced).problems == []
    assert unlike_lines(finely_synced) == []


@pytest.mark.thorough
def test_merged_rows_of_a_compaction_that_is_half_published(
    finely_synced: Settings, expectation: Expectation
) -> None:
    """Only some of the merged files of rows have got their names."""
    before = {path: path.read_bytes() for path in parquet_files(finely_synced)}
    compact(finely_synced)
    for path, data in before.items():
        if not path.exists():
            path.write_bytes(data)
            path.chmod(0o600)
    assert unlike_lines(finely_synced)
    lose_ledger(finely_synced)
    assert rebuilt(finely_synced, expectation).parquet_repaired > 0


@pytest.mark.thorough
def test_lines_whose_rows_are_lost_get_new_ones(synced: Settings, expectation: Expectation) -> None:
    for path in parquet_files(synced)[::2]:
        path.unlink()
    shutil.rmtree(parquet_files(synced)[0].parent)
    lose_ledger(synced)
    result = rebuilt(synced, expectation)
    assert result.parquet_repaired > 1
    new = [row for row in rows(synced) if row["_key"] is None]
    assert {(row["_bucket"], row["_index"]) for row in new} == {(None, None)}
    assert 0 < len(new) < len(rows(synced))
    assert compact(synced).problems == []
    assert unlike_lines(synced) == []


def test_after_hours_of_a_date_were_pruned(synced: Settings, expectation: Expectation) -> None:
    """A lost ledger takes with it what was pruned: rows that were left and lines come back once."""
    prune(synced, datetime(2026, 1, 15, 11, tzinfo=UTC))
    assert unlike_lines(synced)
    lose_ledger(synced)
    rebuilt(synced, expectation)


def test_lines_that_somebody_doubled_get_one_row(synced: Settings) -> None:
    path = max(synced.events_dir.rglob("*.jsonl"), key=lambda path: path.stat().st_size)
    line = path.read_bytes().splitlines(keepends=True)[0]
    doubled = path.with_name("events_00099.jsonl")
    doubled.write_bytes(line + line.replace(b"eventTime", b"eventTime ", 1))
    before = {path: path.read_bytes() for path in parquet_files(synced)}
    lose_ledger(synced)
    result = rebuild(synced)
    assert (result.doubled, result.parquet_repaired) == (1, 0)
    assert {path: path.read_bytes() for path in parquet_files(synced)} == before


@pytest.mark.parametrize("at", ["removed", *thorough("linked")])
def test_killed_amid_the_repair_it_is_begun_again(
    finely_synced: Settings, expectation: Expectation, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    for path in parquet_files(finely_synced)[::3]:
        path.unlink()
    double = parquet_files(finely_synced)[0]
    shutil.copy(double, double.with_name("part-00077.parquet"))
    lose_ledger(finely_synced)

    def die(done: object, *_: object) -> None:
        if isinstance(done, LocalStaging):
            done.close()  # the kernel lets go of the lock, too
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LocalStaging if at == "linked" else OutputFolders, "remove", die)
        with pytest.raises(Killed):
            rebuild(finely_synced)
    rebuilt(finely_synced, expectation)


def test_a_file_that_cannot_be_read_is_left_alone(
    synced: Settings, expectation: Expectation
) -> None:
    path = parquet_files(synced)[0]
    os.truncate(path, path.stat().st_size - 5)
    data = path.read_bytes()
    lose_ledger(synced)
    result = rebuild(synced)
    assert result.problems == [f"{path}: not Parquet as this program writes it; it is left alone"]
    assert result.parquet_repaired == 1
    assert path.read_bytes() == data
    path.unlink()
    assert unlike_lines(synced) == []
    sync(synced)
    assert_exact(synced, expectation)


@pytest.mark.parametrize(("harm", "new"), [("doubled", 0), ("first lost", 7), ("second lost", 2)])
def test_events_that_are_nearly_the_same_keep_a_row_each(
    tmp_path: Path, harm: str, new: int
) -> None:
    """Forged events differ from the real one in who acted; another has a field that is null."""
    real = event("real", userIdentity={"type": "Root", "arn": "me"})
    like_it = [
        event("real", userIdentity={"type": "Root", "arn": "somebody"}),
        event("real", userIdentity={"type": "Root"}),
        event("real", userIdentity={"type": "Root", "arn": "me"}, resources=[]),
        event("real", userIdentity={"type": "Root", "arn": "me"}, errorCode=None),
        real.replace(b'"eventTime":', b'"eventTime" :'),
    ]
    bucket = tmp_path / "bucket"
    put_log_file(bucket, 0, b'{"Records":[' + b",".join([real, *like_it, event("a")]) + b"]}")
    settings = settings_in(tmp_path, [local_trail(bucket)], output_formats=("jsonl", "parquet"))
    sync(settings)
    forged = event("real", userIdentity={"type": "Root", "arn": "late"})
    put_log_file(bucket, 1, b'{"Records":[' + event("b", 1) + b"," + forged + b"]}")
    sync(settings)
    first, second = parquet_files(settings)
    if harm == "doubled":
        shutil.copy(second, second.with_name("part-00077.parquet"))
    else:
        (first if harm == "first lost" else second).unlink()
    lose_ledger(settings)
    result = rebuilt(settings, read_buckets([(bucket, "")]))
    assert (result.parquet_repaired, result.problems) == (1, [])
    found = rows(settings)
    assert len(found) == 9
    assert sum(row["_key"] is None for row in found) == new


@pytest.mark.parametrize("kind", ["pages", "columns", "more columns"])
def test_a_file_that_is_not_as_ours_are_is_left_alone(
    synced: Settings, expectation: Expectation, kind: str
) -> None:
    """The file's end can be read, but not what is before it; or it has other columns."""
    own = parquet_files(synced)[0]
    path = own
    if kind == "pages":
        with path.open("r+b") as file:
            file.seek(4)
            file.write(b"\xff" * 2_000)
    else:
        path = own.with_name("part-00002.parquet")
        frame = pl.read_parquet(own.read_bytes()) if kind == "more columns" else pl.DataFrame()
        frame.with_columns(pl.lit("mine").alias("note")).write_parquet(path)
        own.unlink()
    path.chmod(0o600)
    data = path.read_bytes()
    lose_ledger(synced)
    result = rebuild(synced)
    assert result.parquet_repaired == 1
    assert result.problems == [f"{path}: not Parquet as this program writes it; it is left alone"]
    assert path.read_bytes() == data
    path.unlink()
    assert unlike_lines(synced) == []
    sync(synced)
    assert_exact(synced, expectation)


def test_lines_that_are_no_events_and_files_behind_links_get_no_rows(
    synced: Settings, tmp_path: Path
) -> None:
    path = max(synced.events_dir.rglob("*.jsonl"), key=lambda path: path.stat().st_size)
    path.with_name("events_00098.jsonl").write_bytes(b"nonsense\n")
    line = json.loads(path.read_bytes().splitlines()[0]) | {"eventID": "behind a link"}
    elsewhere = tmp_path / "elsewhere.jsonl"
    elsewhere.write_text(json.dumps(line) + "\n")
    path.with_name("events_00099.jsonl").symlink_to(elsewhere)
    path.with_name("loop").symlink_to(path.with_name("loop"))
    path.with_name("events_00097.jsonl").symlink_to(path.with_name("events_00097.jsonl"))
    before = len(rows(synced))
    for file in parquet_files(synced):
        file.unlink()
    lose_ledger(synced)
    result = rebuild(synced)
    assert result.problem_count == 4
    assert result.parquet_repaired > 1
    found = rows(synced)
    assert len(found) == before
    assert "behind a link" not in {row["eventID"] for row in found}


def test_parquet_that_was_switched_on_since_is_written_and_private(
    settings: Settings, expectation: Expectation
) -> None:
    umask = os.umask(0)
    try:
        sync(replace(settings, output_formats=("jsonl",)))
        lose_ledger(settings)
        rebuilt(settings, expectation)
    finally:
        os.umask(umask)
    root = LocalOutput.of(settings).roots[Kind.PARQUET]
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in (root, *root.rglob("*"))}
    assert modes == {(True, 0o700), (False, 0o600)}


@pytest.mark.parametrize("at", ["linked", *thorough("removed")])
@pytest.mark.thorough
def test_killed_amid_a_repair_though_the_ledger_was_sound(
    synced: Settings, expectation: Expectation, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """The old ledger is not used again: it does not know what became of the files."""
    for path in parquet_files(synced)[::3]:
        path.unlink()
    double = parquet_files(synced)[0]
    shutil.copy(double, double.with_name("part-00077.parquet"))

    def die(done: object, *_: object) -> None:
        if isinstance(done, LocalStaging):
            done.close()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(LocalStaging if at == "linked" else OutputFolders, "remove", die)
        with pytest.raises(Killed):
            rebuild(synced, force=True)
    with pytest.raises(LedgerError, match="ctrail rebuild"):
        sync(synced)
    rebuilt(synced, expectation)


def test_what_is_set_aside_stays_so_after_a_power_cut(
    synced: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is synced between the new name and the end."""
    strange = parquet_files(synced)[0]
    hours = (
        synced.events_dir
        / hours_of_date(
            str(strange.parent.relative_to(LocalOutput.of(synced).roots[Kind.PARQUET]))
        )[0]
    )
    shutil.rmtree(hours.parent)
    lose_ledger(synced)
    steps: list[str] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        fsync(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").readlink() == strange.parent:
            steps.append("there" if strange.exists() else "set aside")

    monkeypatch.setattr(os, "fsync", noting)
    assert len(rebuild(synced).problems) > 0
    assert not strange.exists()
    assert steps[-1:] == ["set aside"]


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_parquet_of_another_ledger_beside_ours_is_not_touched(
    synced: Settings, expectation: Expectation
) -> None:
    """By default, two output folders in one have the same Parquet folder; one of them owns it."""
    neighbour = replace(
        synced,
        events_dir=synced.events_dir.with_name("others"),
        quarantine_dir=synced.events_dir.with_name("others-quarantine"),
        state_db=synced.state_db.with_name("others.db"),
        output_formats=("jsonl",),
    )
    sync(neighbour)
    next(neighbour.events_dir.rglob("*.jsonl")).unlink()
    lose_ledger(neighbour)
    root = LocalOutput.of(synced).roots[Kind.PARQUET]
    (root / ".staging" / "a batch").mkdir()
    before = files_below(root)
    with pytest.raises(LedgerError, match="another folder in `parquet_dir`"):
        rebuild(replace(neighbour, output_formats=("jsonl", "parquet")))
    assert rebuild(neighbour).problems == []
    assert files_below(root) == before
    assert sync(synced).ok
    sync(neighbour)
    (root / ".staging" / "a batch").rmdir()
    assert_exact(neighbour, expectation)


@pytest.mark.parametrize("marked", [1, *thorough(2)])
@pytest.mark.thorough
def test_killed_while_it_marks_the_folders(
    synced: Settings, expectation: Expectation, monkeypatch: pytest.MonkeyPatch, marked: int
) -> None:
    """The program is killed once more, when the next marking has just begun."""
    lose_ledger(synced)
    marks = 0

    def die(*arguments: object) -> None:
        nonlocal marks
        replace_marker(*arguments)  # type: ignore[arg-type]
        marks += 1
        if marks == marked:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(rebuild_module, "replace_marker", die)
        with pytest.raises(Killed):
            rebuild(synced)
    with pytest.raises(Killed):
        rebuild(synced, observe=killing("adopted", 1))
    assert rebuilt(synced, expectation).problems == []
