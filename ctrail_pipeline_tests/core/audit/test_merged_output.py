"""What verify, explain and manifest say of merged files, and what a rebuild and a merge leave."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars
import pytest

from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.audit.explain import explainer
from ctrail_pipeline.core.audit.manifest import manifest
from ctrail_pipeline.core.audit.sought import Sought
from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline_tests.support.oracle import Expectation
from ctrail_pipeline_tests.support.sync_process import assert_exact, sample_settings
from ctrail_pipeline_tests.support.synced_copies import SyncedCopies

SAMPLE = {"log_files": 60, "days": 1}


@pytest.fixture
def settings(synced_copies: SyncedCopies, sample: Path, tmp_path: Path) -> Settings:
    return synced_copies.of_sample(sample, tmp_path, batch_log_files=4, process_workers=1)


def keys(settings: Settings) -> dict[bytes, str]:
    """Return the log file of each line, as `explain` names it."""
    with explainer(settings) as found:
        return {line.data: found.explain(line).key for line in found.lines(Sought())}


def sources(settings: Settings) -> Counter[tuple[str, str, str]]:
    """Return the number of lines by folder, key and run, as the manifest has them."""
    entries: Iterable[dict[str, Any]] = map(json.loads, manifest(settings, Sought()))
    counted: Counter[tuple[str, str, str]] = Counter()
    for entry in entries:
        for log_file in entry.get("log_files", ()):
            folder = entry["path"].rpartition("/")[0]
            counted[folder, log_file["key"], log_file["run"]] += log_file["lines"]
    return counted


def test_each_line_leads_to_its_log_file_as_before(
    settings: Settings, expectation: Expectation
) -> None:
    before = keys(settings), sources(settings)
    assert len(before[0]) == len(expectation.lines)
    assert compact(settings).new_files > 0
    assert (keys(settings), sources(settings)) == before
    report = compare(settings, deep=True)
    assert report.findings == []
    assert report.output.lines == len(expectation.lines)


def test_a_verify_beside_a_compaction_that_is_not_published_yet(settings: Settings) -> None:
    class Stopped(BaseException):
        pass

    def stop(step: str) -> None:
        if step == "committed":
            raise Stopped

    with pytest.raises(Stopped):
        compact(settings, observe=stop)
    with closing(sqlite3.connect(settings.state_db)) as db:
        assert db.execute("SELECT count(*) FROM output_file WHERE merged").fetchone()[0] > 0
    assert compare(settings, deep=True).findings == []


def test_what_was_rebuilt_can_be_merged(settings: Settings, expectation: Expectation) -> None:
    settings.state_db.unlink()
    rebuild(settings)
    assert compact(settings).new_files > 0
    assert sync(settings).ok
    assert_exact(settings, expectation)
    assert compare(settings, deep=True).findings == []
    with explainer(settings) as found, pytest.raises(LedgerError, match="was rebuilt"):
        found.explain(next(found.lines(Sought())))
    counted = Counter(
        "unknown" in log_file
        for entry in map(json.loads, manifest(settings, Sought()))
        for log_file in entry.get("log_files", ())
    )
    assert counted[True] > 0


@pytest.mark.thorough
def test_parquet_files_of_the_manifest_hold_each_event_once_at_each_step_of_a_compaction(
    sample: Path, tmp_path: Path, expectation: Expectation
) -> None:
    settings = replace(
        sample_settings(sample, tmp_path, batch_log_files=4, process_workers=1),
        output_formats=("jsonl", "parquet"),
    )
    assert sync(settings).ok
    steps = []

    def read(step: str) -> None:
        files = [
            tmp_path / "parquet" / entry["path"]
            for entry in map(json.loads, manifest(settings, Sought()))
            if entry["kind"] == "parquet"
        ]
        if step != "removed":  # some lines that a moment has go in the next one
            rows = polars.read_parquet(files, hive_partitioning=False).height
            assert rows == len(expectation.lines), step
        steps.append((step, len(files)))

    read("before")
    compact(settings, observe=read)
    read("after")
    assert steps[-1][1] < steps[0][1]
    assert {"staged", "committed", "linked", "published"} <= {step for step, _ in steps}
    of_a_day = list(manifest(settings, Sought(start=datetime(2000, 1, 1, tzinfo=UTC))))
    assert len(of_a_day) == len(list(manifest(settings, Sought())))
    assert len(list(manifest(settings, Sought(end=datetime(2000, 1, 1, tzinfo=UTC))))) == 2
