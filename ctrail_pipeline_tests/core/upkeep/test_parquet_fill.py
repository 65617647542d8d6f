"""Parquet that is switched on later holds the events that were there already, each once."""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import polars as pl
import pytest

from ctrail_pipeline.core.audit.findings import FindingKind
from ctrail_pipeline.core.audit.verify import verify
from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.migrations import NOTING_PARQUET
from ctrail_pipeline.core.ledger.parquet_batches import NotInParquet, not_in_parquet
from ctrail_pipeline.core.ledger.postgres_schema import in_postgres
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.output import parquet
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep import lines_to_parquet, parquet_doubt, parquet_fill
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline.core.upkeep.fill_result import Filled
from ctrail_pipeline.core.upkeep.parquet_fill import fill_parquet
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline_tests.core.output.test_parquet import odd_records, put_records
from ctrail_pipeline_tests.support.dying_compaction import Killed
from ctrail_pipeline_tests.support.engines import ENGINES, with_ledger_in
from ctrail_pipeline_tests.support.fill_process import fill_and_die
from ctrail_pipeline_tests.support.oracle import Expectation, snapshot
from ctrail_pipeline_tests.support.output_buckets import download, keys_in, seaweedfs_bucket
from ctrail_pipeline_tests.support.parquet_rows import (
    assert_rows,
    parquet_files,
    rows,
    unlike_lines,
)
from ctrail_pipeline_tests.support.seaweedfs import s3_client
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    let_a_minute_pass,
    local_trail,
    sample_settings,
    settings_in,
)
from ctrail_pipeline_tests.support.synced_copies import SyncedCopies
from ctrail_pipeline_tests.support.thorough import thorough

SAMPLE = {"log_files": 120, "days": 2}
BOTH = ("jsonl", "parquet")
CHANGES = {"batch_log_files": 4, "process_workers": 1}
"""Batches of a few log files, so that an hour has files of several."""
FIRST_END = datetime(2026, 1, 14, 12, 5, tzinfo=UTC)
SECOND_END = datetime(2026, 1, 15, 7, 10, tzinfo=UTC)
"""Ends of spans of key time, which divide both dates of the sample, and an hour of each."""
ALL_IN_PARQUET = NotInParquet(0, 0, 0)


def with_parquet(settings: Settings) -> Settings:
    return replace(settings, output_formats=BOTH)


def without_parquet(settings: Settings) -> Settings:
    return replace(settings, output_formats=("jsonl",))


@pytest.fixture
def synced(synced_copies: SyncedCopies, sample: Path, tmp_path: Path) -> Settings:
    """Settings with Parquet over the output of a sync without it."""
    return with_parquet(synced_copies.of_sample(sample, tmp_path, **CHANGES))


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_fill, "_LINES_A_PORTION", 100)


def lacking(settings: Settings) -> NotInParquet:
    with closing(Ledger(settings.ledger)) as ledger:
        return not_in_parquet(ledger)


def not_in_parquet_by_verify(settings: Settings) -> list[str]:
    """Return what a verify says of the output: the sample's digests do not matter here."""
    report = verify(settings, deep=True)
    kinds = {
        FindingKind.NOT_IN_PARQUET,
        FindingKind.OUTPUT_ALTERED,
        FindingKind.OUTPUT_MISSING,
        FindingKind.OUTPUT_FOREIGN,
    }
    assert report.output.not_in_parquet == lacking(settings).events
    return [finding.detail for finding in report.findings if finding.kind in kinds]


def lines_without_rows(settings: Settings) -> int:
    lines = sum(path.read_bytes().count(b"\n") for path in settings.events_dir.rglob("*.jsonl"))
    return lines - len(rows(settings))


def assert_filled(settings: Settings) -> None:
    """Check that each line has its row, and that the ledger and a new fill agree with that."""
    assert_rows(settings)
    assert lacking(settings) == ALL_IN_PARQUET
    assert fill_parquet(settings) == Filled()
    assert not_in_parquet_by_verify(settings) == []


def sync_on_off_on(settings: Settings, *formats: tuple[str, ...]) -> None:
    """Sync three spans of key time, each with the formats; they divide dates and hours."""
    spans = [Selection(end=FIRST_END), Selection(end=SECOND_END), Selection()]
    for span, of_span in zip(spans, formats, strict=True):
        summary = sync(replace(settings, output_formats=of_span), span)
        assert summary.ok
        assert summary.progress.events > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_events_from_before_parquet_was_switched_on_get_rows(
    sample: Path, expectation: Expectation, tmp_path: Path, engine: str
) -> None:
    settings = with_ledger_in(engine, sample_settings(sample, tmp_path, **CHANGES))
    assert sync(settings).ok
    settings = with_parquet(settings)
    lines = len(snapshot(settings.events_dir))
    assert lacking(settings).events == lines
    would = fill_parquet(settings, dry_run=True)
    assert parquet_files(settings) == []
    filled = fill_parquet(settings)
    assert (filled.files, filled.events) == (would.files, would.events)
    assert filled.events == lines
    assert filled.parquet_files == len(parquet_files(settings))
    assert filled.bytes == sum(path.stat().st_size for path in parquet_files(settings))
    assert filled.misfits == sum(row["_other"] is not None for row in rows(settings))
    assert_filled(settings)
    assert_exact(settings, expectation)
    assert sync(settings).progress.events == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_on_off_and_on_again(sample: Path, tmp_path: Path, engine: str) -> None:
    settings = with_ledger_in(engine, sample_settings(sample, tmp_path, **CHANGES))
    sync_on_off_on(settings, BOTH, ("jsonl",), BOTH)
    settings = with_parquet(settings)
    missing = lines_without_rows(settings)
    assert 0 < missing < len(snapshot(settings.events_dir))
    assert lacking(settings)[1:] == (missing, 0)
    named = not_in_parquet_by_verify(settings)
    assert sum(int(detail.removesuffix(" events")) for detail in named) == missing
    assert fill_parquet(settings).events == missing
    assert_filled(settings)


@pytest.mark.parametrize(
    ("engine", "compacts_before"),
    [
        ("sqlite", True),
        ("postgres", False),
        *thorough(("sqlite", False), ("postgres", True)),
    ],
)
def test_compactions_in_between(
    sample: Path, tmp_path: Path, expectation: Expectation, engine: str, compacts_before: bool
) -> None:
    """An hour that has both keeps a file of each, until all of its lines are in Parquet."""
    shutil.copytree(sample, tmp_path / "buckets")
    settings = with_ledger_in(
        engine, sample_settings(tmp_path / "buckets", tmp_path, batch_log_files=2)
    )
    late = sorted((tmp_path / "buckets").rglob("*.json.gz"))[::2]
    for path in late:
        path.rename(path.with_name(f"{path.name}.late"))
    assert sync(with_parquet(settings)).ok
    if compacts_before:
        compact(settings)
    for path in late:
        path.with_name(f"{path.name}.late").rename(path)
    with closing(Ledger(settings.ledger)) as ledger, ledger.transaction():
        ledger.execute("DELETE FROM coverage")
    assert sync(settings).ok
    missing = lines_without_rows(settings)
    assert compact(settings).problems == []
    assert set(files_by_folder(settings).values()) == {1, 2}
    settings = with_parquet(settings)
    assert lacking(settings)[1:] == (missing, 0)
    assert fill_parquet(settings).events == missing
    assert_filled(settings)
    compact(settings)
    assert_filled(settings)
    assert_exact(settings, expectation)
    assert set(files_by_folder(settings).values()) == {1}


def files_by_folder(settings: Settings) -> Counter[Path]:
    return Counter(path.parent for path in settings.events_dir.rglob("*.jsonl"))


def test_what_is_pruned_gets_no_rows(synced: Settings) -> None:
    """A part of a date is pruned, then all of it."""
    assert prune(synced, datetime(2026, 1, 14, 14, tzinfo=UTC)).files > 0
    lines = len(snapshot(synced.events_dir))
    assert lacking(synced).events == lines
    assert fill_parquet(synced).events == lines
    assert_filled(synced)
    assert prune(synced, datetime(2099, 1, 1, tzinfo=UTC)).files > 0
    assert parquet_files(synced) == []
    assert fill_parquet(synced) == Filled()


# --- where the ledger does not know ---------------------------------------------------------------


@pytest.mark.parametrize("hashes_held", [500_000, 20])
def test_after_a_rebuild_rows_and_lines_are_compared(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes_held: int
) -> None:
    monkeypatch.setattr(parquet_doubt, "_HASHES_HELD", hashes_held)
    settings = sample_settings(sample, tmp_path, **CHANGES)
    sync_on_off_on(settings, BOTH, ("jsonl",), BOTH)
    settings.state_db.unlink()
    rebuild(settings)
    settings = with_parquet(settings)
    missing = lines_without_rows(settings)
    in_doubt = lacking(settings)
    assert in_doubt.perhaps == in_doubt.events > missing > 0
    filled = fill_parquet(settings)
    assert filled.events == missing
    assert unlike_lines(settings) == []
    assert lacking(settings) == ALL_IN_PARQUET
    assert fill_parquet(settings) == Filled()


@pytest.mark.parametrize(
    ("engine", "compacts"), [("sqlite", True), ("postgres", False), *thorough(("postgres", True))]
)
def test_after_an_upgrade_only_what_is_not_certain_is_compared(
    sample: Path, tmp_path: Path, engine: str, compacts: bool
) -> None:
    """An older ledger does not note what is in Parquet. The migration finds out what it can."""
    settings = with_ledger_in(engine, sample_settings(sample, tmp_path, **CHANGES))
    accounts = ["1*", "2*"]  # all of their events are in Parquet
    assert sync(with_parquet(settings), Selection(accounts=accounts)).ok
    sync_on_off_on(settings, BOTH, ("jsonl",), BOTH)
    if compacts:
        compact(settings)
    settings = with_parquet(settings)
    before = parquet_batches(settings)
    missing = lines_without_rows(settings)
    with closing(Ledger(settings.ledger)) as ledger, ledger.transaction():
        ledger.execute("ALTER TABLE output_file DROP COLUMN parquet_batch")
        for statement in NOTING_PARQUET:
            ledger.execute(in_postgres(statement) if engine == "postgres" else statement)
    after = parquet_batches(settings)
    certain = {file for file, batch in after.items() if batch != 0}
    assert {file: after[file] is None for file in certain} == {
        file: before[file] is None for file in certain
    }
    assert {file for file in before if file[1][0] in "12"} <= certain
    assert compacts == (len(certain) < len(before))
    assert fill_parquet(settings).events == missing
    assert unlike_lines(settings) == []
    assert lacking(settings) == ALL_IN_PARQUET


def parquet_batches(settings: Settings) -> dict[tuple[int, str, int], int | None]:
    with closing(Ledger(settings.ledger)) as ledger:
        return {
            (kind, folder, number): batch
            for kind, folder, number, batch in ledger.rows(
                "SELECT p.kind, p.folder, f.number, f.parquet_batch FROM output_file f"
                " JOIN output_partition p ON p.id = f.output_partition"
            )
        }


def test_a_rebuild_that_repairs_parquet_leaves_nothing_to_fill(
    sample: Path, tmp_path: Path
) -> None:
    settings = with_parquet(sample_settings(sample, tmp_path, **CHANGES))
    sync_on_off_on(settings, BOTH, ("jsonl",), BOTH)
    settings.state_db.unlink()
    assert rebuild(settings).parquet_repaired > 0
    assert unlike_lines(settings) == []
    assert lacking(settings) == ALL_IN_PARQUET


def test_a_rebuild_where_there_is_no_parquet(synced: Settings) -> None:
    synced.state_db.unlink()
    rebuild(without_parquet(synced))
    lines = len(snapshot(synced.events_dir))
    assert lacking(synced)[1:] == (lines, 0)
    assert fill_parquet(synced).events == lines
    assert unlike_lines(synced) == []
    assert {row["_key"] for row in rows(synced)} == {None}


def test_parquet_that_cannot_be_compared_is_named(sample: Path, tmp_path: Path) -> None:
    """The date is left as it is, and the others are filled."""
    settings = sample_settings(sample, tmp_path, **CHANGES)
    sync_on_off_on(settings, BOTH, ("jsonl",), BOTH)
    settings.state_db.unlink()
    rebuild(settings)
    settings = with_parquet(settings)
    in_doubt = [
        Path(finding.where)
        for finding in verify(settings).findings
        if finding.kind is FindingKind.NOT_IN_PARQUET
    ]
    damaged = next(path for path in parquet_files(settings) if path.parent in in_doubt)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    filled = fill_parquet(settings)
    [problem] = filled.problems
    assert str(damaged) in problem
    assert lacking(settings).events > 0
    date = damaged.parent.name.removeprefix("date=")
    account, region = (damaged.parents[at].name.partition("=")[2] for at in (2, 1))
    damaged.unlink()
    wrong = unlike_lines(settings)
    assert f"{account}/{region}/{date}" in wrong[0]


# --- killed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "engine"),
    [
        ("staged", "sqlite"),
        ("committed", "sqlite"),
        ("linked", "sqlite"),
        ("committed", "postgres"),
        *thorough(*(("registered", engine) for engine in ENGINES)),
        *thorough(*(("marked", engine) for engine in ENGINES)),
        *thorough(*(("published", engine) for engine in ENGINES)),
        *thorough(("staged", "postgres"), ("linked", "postgres")),
    ],
)
def test_a_fill_that_is_killed_is_finished_or_dropped_by_whoever_comes_next(
    synced_copies: SyncedCopies, sample: Path, tmp_path: Path, step: str, engine: str
) -> None:
    """It is killed at the second occurrence of a step, so one portion is whole."""
    settings = with_ledger_in(engine, sample_settings(sample, tmp_path, **CHANGES))
    if engine == "sqlite":
        settings = synced_copies.of_sample(sample, tmp_path, **CHANGES)
    else:
        assert sync(settings).ok
    settings = with_parquet(settings)
    assert fill_and_die(settings, step, 2, 100)
    for path in parquet_files(settings):
        assert len(pl.read_parquet(path, hive_partitioning=False))
    let_a_minute_pass(settings)
    if step in ("staged", "linked"):
        assert sync(settings).progress.events == 0  # recovers
        assert lines_without_rows(settings) == lacking(settings).events
    filled = fill_parquet(settings)
    assert 0 < filled.events < len(snapshot(settings.events_dir))
    assert_filled(settings)


@pytest.mark.parametrize("next_command", ["compact", "prune", "rebuild"])
def test_other_commands_after_a_kill(synced: Settings, next_command: str) -> None:
    assert fill_and_die(synced, "linked", 2, 100)
    let_a_minute_pass(synced)
    if next_command == "compact":
        assert compact(synced).problems == []
    elif next_command == "prune":
        assert prune(synced, datetime(2026, 1, 14, 14, tzinfo=UTC)).files > 0
    else:
        synced.state_db.unlink()
        assert rebuild(synced).problems == []
    fill_parquet(synced)
    assert unlike_lines(synced) == []
    assert lacking(synced) == ALL_IN_PARQUET


@pytest.mark.parametrize("step", ["committed", *thorough("marked", "linked")])
@pytest.mark.parametrize(
    ("lost", "in_doubt"),
    [("one", False), ("all", True), *thorough(("all", False), ("one", True))],
)
def test_parquet_that_vanishes_before_it_is_published_is_made_again(
    sample: Path, tmp_path: Path, step: str, lost: str, in_doubt: bool
) -> None:
    settings = sample_settings(sample, tmp_path, **CHANGES)
    sync_on_off_on(settings, BOTH, ("jsonl",), BOTH)
    if in_doubt:
        settings.state_db.unlink()
        rebuild(settings)
    settings = with_parquet(settings)
    assert fill_and_die(settings, step, 1, 100)
    parts = sorted((tmp_path / "parquet" / ".staging").glob("*/*.part"))
    for part in parts[-1:] if lost == "one" else parts:
        part.unlink()
    assert parts
    let_a_minute_pass(settings)
    assert sync(settings).ok
    assert lines_without_rows(settings) < lacking(settings).events or not in_doubt
    fill_parquet(settings)
    assert unlike_lines(settings) == []
    assert lacking(settings) == ALL_IN_PARQUET


@pytest.mark.parametrize("took_effect", [True, False])
def test_a_commit_that_ends_with_an_error(
    synced: Settings, monkeypatch: pytest.MonkeyPatch, took_effect: bool
) -> None:
    """Only the ledger knows whether it took effect."""
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
        assert fill_parquet(synced, observe=fail_next).events > 0
    else:
        with pytest.raises(LedgerError, match="the disk fails"):
            fill_parquet(synced, observe=fail_next)
        assert parquet_files(synced) == []
        assert lacking(synced).events == len(snapshot(synced.events_dir))
    monkeypatch.undo()
    fill_parquet(synced)
    assert_filled(synced)


# --- beside others --------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.usefixtures("small_portions")
def test_three_at_once_write_each_row_once(sample: Path, tmp_path: Path, engine: str) -> None:
    settings = with_ledger_in(engine, sample_settings(sample, tmp_path, **CHANGES))
    assert sync(settings).ok
    settings = with_parquet(settings)
    barrier = Barrier(3)
    results: list[Filled] = []

    def fill() -> None:
        waited = False

        def wait(step: str) -> None:
            nonlocal waited
            if step == "staged" and not waited:
                waited = True
                barrier.wait(60)

        results.append(fill_parquet(settings, observe=wait))

    threads = [Thread(target=fill) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert sum(result.events for result in results) == len(snapshot(settings.events_dir))
    assert_filled(settings)


def _sync_the_rest(settings: Settings) -> None:
    assert sync(settings).progress.events > 0


def _compact(settings: Settings) -> None:
    assert compact(settings).problems == []


def _compact_in_part(settings: Settings) -> None:
    """A compaction dies when it is committed: the files that it merged are still there."""

    def die(step: str) -> None:
        if step == "committed":
            raise Killed

    with pytest.raises(Killed):
        compact(settings, observe=die)


def _prune(settings: Settings) -> None:
    prune(settings, datetime(2026, 1, 14, 13, tzinfo=UTC))


@pytest.mark.parametrize("step", ["staged", "committed", *thorough("registered", "linked")])
@pytest.mark.parametrize("meanwhile", [_sync_the_rest, _compact, _compact_in_part, _prune])
@pytest.mark.usefixtures("small_portions")
def test_a_sync_compaction_or_prune_at_the_same_time(
    sample: Path, tmp_path: Path, step: str, meanwhile: Callable[[Settings], None]
) -> None:
    settings = sample_settings(sample, tmp_path, **CHANGES)
    assert sync(settings, Selection(end=SECOND_END)).ok
    settings = with_parquet(settings)
    done = False

    def interfere(at: str) -> None:
        nonlocal done
        if at == step and not done:
            done = True
            meanwhile(settings)

    assert fill_parquet(settings, observe=interfere).problems == []
    assert done
    fill_parquet(settings)  # what a compaction had not published yet
    assert unlike_lines(settings, _pruned_lines(sample, settings)) == []
    assert lacking(settings) == ALL_IN_PARQUET
    compact(settings)
    assert unlike_lines(settings, _pruned_lines(sample, settings)) == []


@pytest.mark.parametrize("step", ["staged", *thorough("registered", "committed", "linked")])
def test_a_fill_amid_a_compaction(synced: Settings, step: str) -> None:
    """The compaction has read that no line is in Parquet, and must not write that down again."""
    filled: list[int] = []

    def interfere(at: str) -> None:
        if at == step and not filled:
            filled.append(fill_parquet(synced).events)

    assert compact(synced, observe=interfere).problems == []
    assert filled[0] > 0
    fill_parquet(synced)
    assert_filled(synced)


@pytest.mark.parametrize("meanwhile", [_compact, _prune])
def test_lines_stay_until_their_parquet_is_published(
    synced: Settings, meanwhile: Callable[[Settings], object]
) -> None:
    """What vanishes of the Parquet is made of these lines again, so they must still be there."""
    before = sorted(synced.events_dir.rglob("*.jsonl"))
    parts: list[Path] = []

    def interfere(step: str) -> None:
        if step == "committed":
            meanwhile(synced)
            parts.extend((synced.events_dir.parent / "parquet" / ".staging").glob("*/*.part"))
            for part in parts:
                part.unlink()

    with pytest.raises(LedgerError, match="vanished before they were published"):
        fill_parquet(synced, observe=interfere)
    assert parts
    assert sorted(synced.events_dir.rglob("*.jsonl")) == before
    assert sync(synced).ok
    assert_filled(synced)


def _pruned_lines(sample: Path, settings: Settings) -> set[bytes]:
    """Return lines that are not in the output (any more): rows may have them for a while."""
    from ctrail_pipeline_tests.support.sync_process import sample_expectation

    return set(sample_expectation(sample).lines) - snapshot(settings.events_dir)


# --- what is in the files -------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compressed_files_of_events(sample: Path, tmp_path: Path, compression: str) -> None:
    settings = sample_settings(sample, tmp_path, jsonl_compression=compression, **CHANGES)
    summary = sync(settings)
    settings = with_parquet(settings)
    assert fill_parquet(settings).events == summary.progress.events
    assert_filled(settings)


def test_odd_records(tmp_path: Path) -> None:
    """The rows are those that a sync with Parquet writes, but for `_index`."""
    put_records(tmp_path / "bucket", odd_records())
    at_once, later = tmp_path / "at-once", tmp_path / "later"
    trails = [local_trail(tmp_path / "bucket")]
    assert sync(settings_in(at_once, trails, output_formats=BOTH)).ok
    settings = settings_in(later, trails)
    assert sync(settings).ok
    settings = with_parquet(settings)
    assert fill_parquet(settings).events == len(odd_records())
    assert_filled(settings)
    assert _by_text(rows(settings)) == _by_text(rows(settings_in(at_once, trails)))


def _by_text(found: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(row | {"_index": None}) for row in found)


def test_memory_does_not_depend_on_the_size_of_a_file_of_events(
    synced: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more text than a Parquet file may have is held, whatever the portion."""
    monkeypatch.setattr(lines_to_parquet, "BYTES_A_FILE", 50_000)
    monkeypatch.setattr("ctrail_pipeline.core.upkeep.rebuild_lines._BYTES_AT_ONCE", 10_000)
    held: list[int] = []
    make = parquet.parquet_files

    def made(records: list[Any], sources: Any) -> Any:
        held.append(sum(len(record.line) for record in records))
        return make(records, sources)

    monkeypatch.setattr(lines_to_parquet, "parquet_files", made)
    compact(synced)
    assert max(path.stat().st_size for path in synced.events_dir.rglob("*.jsonl")) > 50_000
    fill_parquet(synced)
    assert len(held) > 10
    assert max(held) <= 50_000
    assert_filled(synced)


# --- in a bucket ----------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["sqlite", *thorough("postgres")])
@pytest.mark.parametrize("step", ["committed", *thorough("staged", "linked")])
def test_an_output_in_a_bucket(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, step: str
) -> None:
    """A first fill is killed, and what it had staged is deleted."""
    bucket = seaweedfs_bucket(monkeypatch)
    changes = {"output": bucket, "jsonl_compression": "gzip", "process_workers": 1}
    settings = with_ledger_in(engine, sample_settings(sample, tmp_path, **changes))
    events = sync(settings).progress.events
    settings = with_parquet(settings)
    assert fill_and_die(settings, step, 2, 100)
    client = s3_client(str(bucket.endpoint_url))
    for key in keys_in(bucket):
        if key.endswith(".part"):
            client.delete_object(Bucket=bucket.bucket, Key=key)
    let_a_minute_pass(settings)
    assert 0 < fill_parquet(settings).events < events
    assert lacking(settings) == ALL_IN_PARQUET
    assert fill_parquet(settings) == Filled()
    assert not_in_parquet_by_verify(settings) == []
    copy = tmp_path / "copy"
    copy.mkdir()
    download(bucket, copy)
    local = replace(settings, output=None, parquet_dir=None, events_dir=copy / bucket.events.prefix)
    assert len(rows(local)) == events
    assert_rows(local)


# --- trouble --------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"{}\n")])
@pytest.mark.usefixtures("small_portions")
def test_an_altered_file_is_named_and_the_others_get_rows(
    synced: Settings, harm: Callable[[Path], None]
) -> None:
    altered = sorted(synced.events_dir.rglob("*.jsonl"))[3]
    lines = altered.read_bytes().count(b"\n")
    content = altered.read_bytes()
    harm(altered)
    filled = fill_parquet(synced)
    [problem] = filled.problems
    assert str(altered) in problem
    assert "no Parquet is made of it" in problem
    assert lacking(synced) == NotInParquet(1, lines, 0)
    altered.write_bytes(content)
    altered.chmod(0o600)
    assert fill_parquet(synced).events == lines
    assert_filled(synced)


def test_parquet_must_be_configured(synced: Settings) -> None:
    with pytest.raises(ConfigurationError, match="`output_formats` does not name parquet"):
        fill_parquet(without_parquet(synced))
    assert not (synced.events_dir.parent / "parquet").exists()


def test_without_a_ledger(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, [], output_formats=BOTH)
    with pytest.raises(ConfigurationError, match="there is no ledger, so nothing to fill"):
        fill_parquet(settings)


def test_a_batch_that_wrote_parquet_is_noted_by_each_of_its_files(
    sample: Path, tmp_path: Path
) -> None:
    settings = sample_settings(sample, tmp_path, output_formats=BOTH, **CHANGES)
    assert sync(settings).ok
    with closing(sqlite3.connect(settings.state_db)) as ledger:
        found = ledger.execute(
            "SELECT p.kind, f.parquet_batch = f.batch, count(*) FROM output_file f"
            " JOIN output_partition p ON p.id = f.output_partition GROUP BY 1, 2"
        ).fetchall()
    assert {(kind, own) for kind, own, _ in found} == {(0, 1), (2, None)}
