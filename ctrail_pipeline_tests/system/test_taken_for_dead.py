"""A run that another one took for dead, as it was paused for longer than its lease, and wakes up.

The other run does what it does in the middle of a step of the first one: at an instant of which no
observer is told, or together with a compaction.
"""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from ctrail_pipeline.core.batch.recovery import recover
from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.ledger.batches import open_batches
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.output.local.staging import LocalStaging
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline.core.upkeep.restage import restaging
from ctrail_pipeline_tests.support.engines import with_ledger_in
from ctrail_pipeline_tests.support.new_log_files import NOW, put
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.sync_process import assert_exact, local_trail, settings_in


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    bucket = tmp_path / "logs"
    bucket.mkdir()
    return bucket


@pytest.fixture
def settings(tmp_path: Path, bucket: Path) -> Settings:
    """A ledger that knows three log files, and three new ones of the same hour."""
    settings = with_ledger_in("postgres", settings_in(tmp_path, [local_trail(bucket, name="main")]))
    deliver(settings, bucket, range(3))
    assert sync(settings).progress.log_files == 3
    deliver(settings, bucket, range(3, 6))
    return settings


def deliver(settings: Settings, bucket: Path, numbers: range) -> None:
    """Put log files of one hour, which the next run lists again."""
    with closing(Ledger(settings.ledger)) as ledger, ledger.transaction():
        ledger.execute("DELETE FROM coverage")
    for number in numbers:
        put(bucket, "111122223333", "eu-west-1", NOW - timedelta(days=3), f"x{number}")


def let_lapse_and_recover(settings: Settings) -> None:
    """Do what the next run does when leases have lapsed."""
    with closing(Ledger(settings.ledger)) as ledger, closing(open_output(settings)) as output:
        ledger.execute("UPDATE lease SET renewed_at = renewed_at - 91")
        recover(ledger, output, restaging(ledger, output, settings), lambda _step: None)


def while_staging(monkeypatch: pytest.MonkeyPatch, other: Callable[[], None]) -> None:
    """Have another run do something before the first staged file is written."""
    write_file = LocalStaging._write_file
    others = [other]

    def wakes_up(staging: LocalStaging, *values: object) -> object:
        if others:
            others.pop()()
        return write_file(staging, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalStaging, "_write_file", wakes_up)


def assert_all_is_there(settings: Settings, bucket: Path) -> None:
    assert_exact(settings, read_buckets([(bucket, "")]))
    assert sync(settings).progress.log_files == 0


def test_while_it_stages(settings: Settings, bucket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it staged is removed. It stages again."""
    while_staging(monkeypatch, lambda: let_lapse_and_recover(settings))
    summary = sync(settings)
    assert summary.ok
    assert summary.progress.log_files == 3
    assert_all_is_there(settings, bucket)


def test_while_it_stages_and_its_batch_is_its_own(
    settings: Settings, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is a disk that fails, and the run says so."""

    def fail() -> None:
        raise OutputError("the disk fails")

    while_staging(monkeypatch, fail)
    with pytest.raises(OutputError, match="the disk fails"):
        sync(settings)
    assert sync(settings).progress.log_files == 3
    assert_all_is_there(settings, bucket)


def test_while_a_compaction_stages(
    settings: Settings, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sync(settings).ok
    while_staging(monkeypatch, lambda: let_lapse_and_recover(settings))
    assert compact(settings).folders == 0
    assert compact(settings).folders == 1
    assert_all_is_there(settings, bucket)


def test_before_it_publishes_what_is_merged_since(settings: Settings, bucket: Path) -> None:
    """Its files are published, merged into another one and removed, all by other runs."""
    merged = []

    def other(step: str) -> None:
        if step == "committed":
            let_lapse_and_recover(settings)
            merged.append(compact(settings).folders)

    assert sync(settings, observe=other).ok
    assert merged == [1]
    assert_all_is_there(settings, bucket)


def test_before_a_compaction_publishes_what_is_merged_since(
    settings: Settings, bucket: Path
) -> None:
    merged: list[int] = []

    def other(step: str) -> None:
        if step == "committed" and not merged:
            let_lapse_and_recover(settings)
            assert sync(settings).progress.log_files == 3
            merged.append(compact(settings).folders)

    assert sync(settings).ok
    deliver(settings, bucket, range(6, 9))
    compact(settings, observe=other)
    assert merged == [1]
    assert_all_is_there(settings, bucket)


# --- amid publishing ------------------------------------------------------------------------------


def deliver_hours(settings: Settings, bucket: Path, name: str) -> None:
    """Put a log file into each of three hours."""
    with closing(Ledger(settings.ledger)) as ledger, ledger.transaction():
        ledger.execute("DELETE FROM coverage")
    for hour in range(3):
        moment = NOW - timedelta(days=3, hours=hour)
        put(bucket, "111122223333", "eu-west-1", moment, f"{name}{hour}")


def others_finish_it(settings: Settings) -> Callable[[str], None]:
    """Have other runs publish, merge and prune everything once the paused run has named a file."""
    done: list[int] = []

    def observe(step: str) -> None:
        if step == "linked" and not done:
            done.append(0)
            let_lapse_and_recover(settings)
            compact(settings)
            done[0] = prune(settings, NOW).files
            assert event_files(settings) == []

    return observe


def event_files(settings: Settings) -> list[Path]:
    return sorted(settings.events_dir.rglob("*.jsonl"))


def assert_nothing_came_back(settings: Settings) -> None:
    assert event_files(settings) == []
    assert sync(settings).progress.log_files == 0
    assert event_files(settings) == []
    with closing(Ledger(settings.ledger)) as ledger:
        assert open_batches(ledger) == []


def test_a_sync_amid_publishing(settings: Settings, bucket: Path) -> None:
    deliver_hours(settings, bucket, "p")
    sync(settings, observe=others_finish_it(settings))
    assert_nothing_came_back(settings)


def test_a_compaction_amid_publishing(settings: Settings, bucket: Path) -> None:
    for name in "pq":
        deliver_hours(settings, bucket, name)
        assert sync(settings).ok
    compact(settings, observe=others_finish_it(settings))
    assert_nothing_came_back(settings)


@pytest.mark.parametrize("killed", ["sync", "compaction"])
def test_a_recovery_amid_publishing(settings: Settings, bucket: Path, killed: str) -> None:
    def die(step: str) -> None:
        if step == "marked":
            raise KeyboardInterrupt

    for name in "pq":
        deliver_hours(settings, bucket, name)
        if killed == "compaction":
            assert sync(settings).ok
    dying = sync if killed == "sync" else compact
    with pytest.raises(KeyboardInterrupt):
        dying(settings, observe=die)
    with closing(Ledger(settings.ledger)) as ledger:
        ledger.execute("UPDATE lease SET renewed_at = renewed_at - 91")
    sync(settings, observe=others_finish_it(settings))
    assert_nothing_came_back(settings)


@pytest.mark.parametrize("step", ["restaged", "noted"])
def test_a_recovery_amid_making_files_again(settings: Settings, bucket: Path, step: str) -> None:
    """What it has written again once more, after others are done, gets no name."""

    def die(at: str) -> None:
        if at == "marked":
            raise KeyboardInterrupt

    deliver_hours(settings, bucket, "p")
    with pytest.raises(KeyboardInterrupt):
        sync(settings, observe=die)
    for part in settings.events_dir.glob(".staging/*/*.part"):
        part.unlink()
    with closing(Ledger(settings.ledger)) as ledger:
        ledger.execute("UPDATE lease SET renewed_at = renewed_at - 91")
    finish = others_finish_it(settings)
    sync(settings, observe=lambda at: finish("linked") if at == step else None)
    assert_nothing_came_back(settings)


@pytest.mark.parametrize("paused", ["sync", "compaction"])
def test_a_recovery_dies_before_it_removes_what_is_staged(
    settings: Settings, bucket: Path, monkeypatch: pytest.MonkeyPatch, paused: str
) -> None:
    """The paused run finds staged files. None of what they hold was merged or pruned by then."""
    deliver_hours(settings, bucket, "p")
    if paused == "compaction":
        assert sync(settings).ok
        deliver_hours(settings, bucket, "q")
        assert sync(settings).ok
    done: list[int] = []

    def merge_prune_and_die(_staging: LocalStaging) -> None:
        monkeypatch.undo()
        compact(settings)
        prune(settings, NOW)
        raise KeyboardInterrupt

    def observe(step: str) -> None:
        if step == "linked" and not done:
            done.append(0)
            monkeypatch.setattr(LocalStaging, "remove", merge_prune_and_die)
            with pytest.raises(KeyboardInterrupt):
                let_lapse_and_recover(settings)

    (sync if paused == "sync" else compact)(settings, observe=observe)
    assert done
    compact(settings)
    prune(settings, NOW)
    assert_nothing_came_back(settings)
