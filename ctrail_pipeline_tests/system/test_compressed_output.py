"""Whatever the compression of its files: an output holds each event once, and all read it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest

from ctrail_pipeline.cli.events_view import connect, files_to_query
from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.audit.explain import Explainer, explainer
from ctrail_pipeline.core.audit.findings import FindingKind
from ctrail_pipeline.core.audit.manifest import manifest
from ctrail_pipeline.core.audit.sought import Sought
from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.output_files import FileName, Kind
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline.core.upkeep.rebuild_lines import FileLines
from ctrail_pipeline_tests.support.oracle import Expectation, output_files_now, snapshot, text_of
from ctrail_pipeline_tests.support.parquet_rows import assert_rows, unlike_lines
from ctrail_pipeline_tests.support.sync_process import assert_exact, sample_settings
from ctrail_pipeline_tests.support.synced_copies import SyncedCopies, copied
from ctrail_pipeline_tests.support.thorough import thorough

SAMPLE = {"log_files": 80, "days": 2}
CHANGES = {"batch_log_files": 4, "process_workers": 1}
"""Batches of a few log files, so that an hour has many files, as of many syncs."""
ENDINGS = {"none": ".jsonl", "gzip": ".jsonl.gz", "zstd": ".jsonl.zst"}
COMPRESSED = ["gzip", "zstd"]
_BATCHES_OF_EACH = 6


@pytest.fixture(params=COMPRESSED)
def settings(
    request: pytest.FixtureRequest, synced_copies: SyncedCopies, sample: Path, tmp_path: Path
) -> Settings:
    return synced_copies.of_sample(sample, tmp_path, **CHANGES, jsonl_compression=request.param)


def sync_some(settings: Settings, batches: int) -> None:
    """Sync, and stop after some batches."""
    stop, published = Event(), 0

    def count(step: str) -> None:
        nonlocal published
        published += step == "published"
        if published >= batches:
            stop.set()

    sync(settings, stop=stop, observe=count)


@pytest.fixture(scope="module")
def mixed_original(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """An output of which each third was written with another compression."""
    folder = tmp_path_factory.mktemp("mixed")
    changes = {**CHANGES, "output_formats": ("jsonl", "parquet")}
    settings = sample_settings(sample, folder, **changes)
    for compression in ENDINGS:
        settings = replace(settings, jsonl_compression=compression)
        sync_some(settings, 1_000 if compression == "zstd" else _BATCHES_OF_EACH)
    return settings


@pytest.fixture
def mixed(mixed_original: Settings, tmp_path: Path) -> Settings:
    return copied(mixed_original, tmp_path / "mixed")


def endings(settings: Settings) -> Counter[str]:
    """How many files there are of each ending."""
    return Counter("".join(path.suffixes) for path in output_files_now(settings.events_dir))


def explained(settings: Settings, explain: Explainer) -> None:
    """Explain the last line of each file by its name and number."""
    for path in output_files_now(settings.events_dir):
        lines = text_of(path).splitlines()
        found = explain.explain(explain.line_at(f"{path}:{len(lines)}"))
        assert found.line.data == lines[-1]
        assert (found.path, found.is_as_written) == (str(path), True)


def test_a_sync_brings_each_event_once(settings: Settings, expectation: Expectation) -> None:
    assert endings(settings).keys() == {ENDINGS[settings.jsonl_compression]}
    assert_exact(settings, expectation)
    assert sync(settings).progress.log_files == 0


def test_all_that_reads_the_output_reads_every_compression(
    mixed: Settings, expectation: Expectation
) -> None:
    assert endings(mixed).keys() == set(ENDINGS.values())
    assert_exact(mixed, expectation)
    assert_rows(mixed)
    report = compare(mixed, deep=True)
    assert (report.findings, report.output.lines) == ([], len(expectation.lines))
    with explainer(mixed) as explain:
        explained(mixed, explain)
        for line in explain.lines(Sought(event_name="AssumeRole")):
            assert json.loads(line.data)["eventName"] == "AssumeRole"
    entries = [json.loads(line) for line in manifest(mixed, Sought())]
    files = {entry["path"]: entry for entry in entries if entry["kind"] == "file"}
    assert files.keys() == {
        str(path.relative_to(mixed.events_dir)) for path in output_files_now(mixed.events_dir)
    }
    files_to_read = files_to_query(mixed)
    with connect(open_output(mixed), files_to_read) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM events").fetchall()
    assert count == len(expectation.lines)
    with connect(open_output(mixed)) as connection:  # without a ledger
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(count,)]


@pytest.mark.parametrize("compression", ["gzip", *thorough("none", "zstd")])
def test_a_compaction_writes_by_the_setting_of_today(
    mixed: Settings, expectation: Expectation, compression: str
) -> None:
    before = snapshot(mixed.events_dir)
    today = replace(mixed, jsonl_compression=compression)
    with_many = {
        folder
        for folder, count in Counter(
            path.parent for path in output_files_now(mixed.events_dir)
        ).items()
        if count > 1
    }
    result = compact(today)
    assert (result.problems, result.folders > 0) == ([], True)
    assert snapshot(today.events_dir) == before
    assert_exact(today, expectation)
    merged = [path for path in output_files_now(today.events_dir) if path.parent in with_many]
    assert {"".join(path.suffixes) for path in merged} == {ENDINGS[compression]}
    report = compare(today, deep=True)
    assert report.findings == []
    with explainer(today) as explain:
        explained(today, explain)


def test_a_lost_ledger_is_made_of_files_of_every_compression(
    mixed: Settings, expectation: Expectation
) -> None:
    for path in mixed.state_db.parent.glob(f"{mixed.state_db.name}*"):
        path.unlink()
    result = rebuild(mixed)
    assert (result.events, result.doubled, result.problems) == (len(expectation.lines), 0, [])
    sync(mixed)
    assert_exact(mixed, expectation)
    assert unlike_lines(mixed) == []
    assert compare(mixed, deep=True).findings == []


def test_rows_of_parquet_are_repaired_from_compressed_lines(
    mixed: Settings, expectation: Expectation
) -> None:
    lost = max(mixed.events_dir.parent.rglob("*.parquet"), key=lambda path: path.stat().st_size)
    lost.unlink()
    for path in mixed.state_db.parent.glob(f"{mixed.state_db.name}*"):
        path.unlink()
    assert rebuild(mixed).parquet_repaired == 1
    assert unlike_lines(mixed) == []


def test_a_prune_removes_files_of_every_compression(mixed: Settings) -> None:
    prune(mixed, datetime(2099, 1, 1, tzinfo=UTC))
    assert output_files_now(mixed.events_dir) == []
    assert compare(mixed, deep=True).output.files == 0


# -- damage -----------------------------------------------------------------------------------


def damaged_file(settings: Settings, folders: Sequence[Path] = ()) -> Path:
    """Change a byte in the middle of the largest file of events, in one of these folders."""
    files = output_files_now(settings.events_dir)
    candidates = [path for path in files if not folders or path.parent in folders]
    path = max(candidates, key=lambda path: path.stat().st_size)
    stored = bytearray(path.read_bytes())
    stored[len(stored) // 2] ^= 0xFF
    path.write_bytes(stored)
    return path


def test_damage_is_named_by_verify_and_by_explain(settings: Settings) -> None:
    lines = {path: text_of(path).splitlines() for path in output_files_now(settings.events_dir)}
    path = damaged_file(settings)
    [finding] = compare(settings, deep=True).findings
    assert (finding.kind, finding.where) == (FindingKind.OUTPUT_ALTERED, str(path))
    assert f"{settings.jsonl_compression} data is damaged (" in finding.detail
    with explainer(settings) as explain:
        with pytest.raises(OutputError, match=r"data is damaged .* run ctrail verify --deep"):
            explain.line_at(f"{path}:{len(lines[path])}")
        found = {line.data for line in explain.lines(Sought())}
    others = {line for other, held in lines.items() if other != path for line in held}
    assert others <= found <= others | set(lines[path])


def test_a_damaged_file_is_not_compacted(settings: Settings) -> None:
    files = Counter(path.parent for path in output_files_now(settings.events_dir))
    path = damaged_file(settings, [folder for folder, count in files.items() if count > 1])
    beside = sorted(path.parent.iterdir())
    [problem] = compact(settings).problems
    assert problem.startswith(f"{path} is not as it was written")
    assert sorted(path.parent.iterdir()) == beside


def test_what_cannot_be_read_of_a_damaged_file_comes_again_after_a_rebuild(
    settings: Settings, expectation: Expectation
) -> None:
    path = damaged_file(settings)
    for state_db in settings.state_db.parent.glob(f"{settings.state_db.name}*"):
        state_db.unlink()
    [problem] = rebuild(settings).problems
    assert problem.startswith(f"{path}: {settings.jsonl_compression} data is damaged (")
    sync(settings)
    [finding] = compare(settings, deep=True).findings
    assert (finding.kind, finding.where) == (FindingKind.OUTPUT_ALTERED, str(path))
    readable = readable_lines(settings, path)
    path.unlink()
    others = snapshot(settings.events_dir)
    assert not others & readable
    assert others | readable >= set(expectation.lines)


def readable_lines(settings: Settings, path: Path) -> set[bytes]:
    """Return the lines before the damage."""
    file = FileName(Kind.EVENTS, str(path.parent.relative_to(settings.events_dir)), path.name)
    lines = FileLines(open_output(settings), file)
    return {line.removesuffix(b"\n") for some in lines for line in some}


@pytest.mark.thorough
def test_several_processes_write_compressed_files(
    sample: Path, tmp_path: Path, expectation: Expectation
) -> None:
    for compression in COMPRESSED:
        settings = sample_settings(
            sample, tmp_path / compression, process_workers=2, jsonl_compression=compression
        )
        sync(settings)
        assert_exact(settings, expectation)
