"""Where a copy to a final name may appear late, files stay for a while before they are removed."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline_tests.support.engines import ENGINES, with_ledger_in
from ctrail_pipeline_tests.support.new_log_files import NOW, put
from ctrail_pipeline_tests.support.sync_process import local_trail, settings_in

AN_HOUR = 3_600


@pytest.fixture(params=ENGINES)
def settings(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Two files in one hour, published just now, in an output where copies may appear late."""
    bucket = tmp_path / "logs"
    bucket.mkdir()
    trail = local_trail(bucket, name="main")
    settings = with_ledger_in(request.param, settings_in(tmp_path, [trail], batch_log_files=1))
    for name in ("x", "y"):
        put(bucket, "111122223333", "eu-west-1", NOW - timedelta(days=3), name)
    assert sync(settings).progress.log_files == 2
    monkeypatch.setattr(LocalOutput, "late_copy_seconds", AN_HOUR)
    return settings


def move_clock(settings: Settings, seconds: int) -> None:
    """Have all batches be published so many seconds later than they were."""
    with closing(Ledger(settings.ledger)) as ledger:
        ledger.execute("UPDATE batch SET published_at = published_at + ?", seconds)


def pruned(settings: Settings) -> int:
    return prune(settings, NOW).files


def test_nothing_of_the_last_hour_is_merged_or_pruned(settings: Settings) -> None:
    assert (compact(settings).folders, pruned(settings)) == (0, 0)
    move_clock(settings, 60 - AN_HOUR)
    assert (compact(settings).folders, pruned(settings)) == (0, 0)
    move_clock(settings, -61)
    assert compact(settings).old_files == 2
    assert len(list(settings.events_dir.rglob("*.jsonl"))) == 1
    assert pruned(settings) == 0, "the merged file was published just now"
    move_clock(settings, -AN_HOUR - 1)
    assert pruned(settings) == 1


@pytest.mark.parametrize("years", [20, None])
def test_a_moment_that_nobody_can_know_keeps_nothing(settings: Settings, years: int | None) -> None:
    """A clock was wrong, or version 5 published the files, which noted no moment."""
    if years is None:
        with closing(Ledger(settings.ledger)) as ledger:
            ledger.execute("UPDATE batch SET published_at = NULL")
    else:
        move_clock(settings, years * 365 * 86_400)
    assert compact(settings).folders == 1


def test_a_prune_leaves_what_a_compaction_is_about_to_replace(settings: Settings) -> None:
    """Otherwise the merged file would go as soon as it is published."""
    move_clock(settings, -AN_HOUR - 1)
    found = []

    def observe(step: str) -> None:
        if step == "committed":
            found.append(pruned(settings))

    assert compact(settings, observe=observe).folders == 1
    assert found == [0]
    assert len(list(settings.events_dir.rglob("*.jsonl"))) == 1


def test_a_local_folder_keeps_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert compact(settings).folders == 1
    assert pruned(settings) == 1
