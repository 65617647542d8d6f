"""What a run that died left behind is published if it was committed, and dropped if not."""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctrail_pipeline.core.batch import recovery
from ctrail_pipeline.core.batch.lost_files import lost_files
from ctrail_pipeline.core.batch.recovery import recover
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.batch_commit import commit_batch
from ctrail_pipeline.core.ledger.batches import (
    batch_state,
    mark_published,
    open_batches,
    register_batch,
)
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import LedgerLogFiles
from ctrail_pipeline.core.ledger.output_numbers import rename_output_file
from ctrail_pipeline.core.ledger.queries_output import lines_of_folder
from ctrail_pipeline.core.ledger.rows import BatchState, LogFileState, Outcome
from ctrail_pipeline.core.ledger.segment_building import build_segment
from ctrail_pipeline.core.ledger.segments import LedgerSegments
from ctrail_pipeline.core.ledger.source_prefixes import register_sources
from ctrail_pipeline.core.log_file.identity import identity_of
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output.marker import MARKER
from ctrail_pipeline.core.output.new_files import NewFile
from ctrail_pipeline.core.output_files import Kind, PublishedFile
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.restage import restaging
from ctrail_pipeline_tests.support.large_log_files import put_log_file
from ctrail_pipeline_tests.support.parquet_rows import unlike_lines
from ctrail_pipeline_tests.support.sync_process import local_trail, settings_in
from ctrail_pipeline_tests.support.two_trails import event

DAY = 19_724
SOURCE_PREFIX = SourcePrefix("logs", "", "", "111122223333", "us-east-1")
HOUR = "111122223333/us-east-1/2024/01/02/03"
OTHER_HOUR = "111122223333/us-east-1/2024/01/02/04"
LINE, OTHER_LINE, DAMAGED = b'{"a":1}', b'{"b":2}', b'{"reason":"x"}'
FILES = [
    NewFile(Kind.EVENTS, HOUR, [LINE], [(0, 1)]),
    NewFile(Kind.EVENTS, OTHER_HOUR, [OTHER_LINE], [(0, 1)]),
    NewFile(Kind.QUARANTINE, "2024/01/02", [DAMAGED], [(0, 1)]),
]
EVENTS_THERE = {
    f"{HOUR}/events_00001.jsonl": LINE + b"\n",
    f"{OTHER_HOUR}/events_00001.jsonl": OTHER_LINE + b"\n",
}
QUARANTINE_THERE = {"2024/01/02/quarantine_00001.jsonl": DAMAGED + b"\n"}


class Run:
    """A run as far as it came before it died."""

    def __init__(self, root: Path) -> None:
        self.ledger = Ledger(root / "ledger.db")
        self.output = LocalOutput(root / "events", root / "quarantine")
        self.token = uuid.uuid4().hex
        self.staging = self.output.staging_of(self.token)
        self.batch = 0

    def register(self) -> None:
        self.batch = register_batch(self.ledger, self.token, "run", [])
        self.staging.open()

    def commit(self) -> list[PublishedFile]:
        self.register()
        staged = self.staging.write(FILES)
        source_id = register_sources(self.ledger, [SOURCE_PREFIX])[SOURCE_PREFIX]
        outcome = Outcome(
            source_id=source_id,
            day=DAY,
            name="/a.json.gz",
            expected=None,
            etag=b"\1" * 16,
            size=100,
            sha256=b"\0" * 32,
            records=2,
            duplicates=0,
            quarantined=1,
            conflicts=0,
            state=LogFileState.COMMITTED,
            attempts=0,
            next_visit=None,
            reason=None,
            position=0,
        )
        segments = [
            build_segment(HOUR, [identity_of(LINE)], (), 0.001),
            build_segment(OTHER_HOUR, [identity_of(OTHER_LINE)], (), 0.001),
        ]
        seen = {HOUR: 0, OTHER_HOUR: 0}
        with self.ledger.transaction():
            return commit_batch(
                self.ledger,
                self.batch,
                [outcome],
                staged,
                segments,
                seen,
            )

    def rename(self, file: PublishedFile) -> PublishedFile:
        return rename_output_file(self.ledger, self.batch, file)

    def die(self) -> None:
        """Do what the end of a process does: its lock goes, its files stay."""
        self.staging.close()

    def state(self) -> BatchState:
        return batch_state(self.ledger, self.batch)

    def close(self) -> None:
        self.staging.close()
        self.ledger.close()
        self.output.folders.close()

    def there(self, kind: Kind) -> dict[str, bytes]:
        root = self.output.folders.roots[kind]
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and ".staging" not in path.parts and path.name != MARKER
        }

    def staging_folders(self) -> list[str]:
        return [
            path.name
            for root in self.output.folders.roots.values()
            for path in (root / ".staging").glob("*")
        ]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.close()


def recovered(run: Run) -> list[str]:
    """Recover as the next run does; returns the steps that it took."""
    steps: list[str] = []
    ledger = Ledger(run.ledger.path)
    roots = (run.output.roots[Kind.EVENTS], run.output.roots[Kind.QUARANTINE])
    output = LocalOutput(*roots)
    try:
        settings = Settings((), *roots, roots[0].parent / "ledger.db")
        recover(ledger, output, restaging(ledger, output, settings), steps.append)
    finally:
        ledger.close()
        output.close()
    return steps


def test_nothing_to_recover(run: Run) -> None:
    assert recovered(run) == []


def test_what_was_only_staged_is_dropped(run: Run) -> None:
    run.register()
    run.staging.write(FILES)
    run.die()
    assert recovered(run) == ["recovered"]
    assert run.state() is BatchState.ABORTED
    assert run.staging_folders() == []
    assert run.there(Kind.EVENTS) == run.there(Kind.QUARANTINE) == {}
    assert not (run.output.roots[Kind.EVENTS] / MARKER).exists()
    assert recovered(run) == []


def test_a_batch_whose_owner_lives_is_left_alone(run: Run) -> None:
    published = run.commit()
    assert recovered(run) == []
    assert run.state() is BatchState.COMMITTED
    assert len(run.staging_folders()) == 2
    assert run.staging.publish(published, run.rename, lambda _: None) == []
    assert run.there(Kind.EVENTS) == EVENTS_THERE


OWNER = """
import sys
from pathlib import Path
from ctrail_pipeline.core.output.local.staging import LocalStaging, OutputFolders
staging = LocalStaging(OutputFolders(Path(sys.argv[1]), Path(sys.argv[2])), sys.argv[3])
staging.open()
print("ready", flush=True)
sys.stdin.readline()
"""


def test_a_batch_of_another_process_is_dropped_only_when_that_was_killed(run: Run) -> None:
    run.batch = register_batch(run.ledger, run.token, "run", [])
    roots = [str(run.output.roots[kind]) for kind in (Kind.EVENTS, Kind.QUARANTINE)]
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, *roots, run.token],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        assert recovered(run) == []
        assert run.state() is BatchState.STAGING
        assert run.staging_folders() == [run.token]
    finally:
        owner.kill()
        owner.communicate()
    assert recovered(run) == ["recovered"]
    assert run.state() is BatchState.ABORTED
    assert run.staging_folders() == []


@pytest.mark.parametrize("linked", [0, 1, 3])
def test_what_was_committed_is_published(run: Run, linked: int) -> None:
    published = run.commit()
    run.staging.publish(published[:linked], run.rename, lambda _: None)
    run.die()
    assert recovered(run) == ["linked"] * 3 + ["recovered"]
    assert run.state() is BatchState.PUBLISHED
    assert run.there(Kind.EVENTS) == EVENTS_THERE
    assert run.there(Kind.QUARANTINE) == QUARANTINE_THERE
    marker = json.loads((run.output.roots[Kind.EVENTS] / MARKER).read_text())
    assert marker == {"ledger": run.ledger.uuid, "generation": run.ledger.generation}
    assert run.staging_folders() == []
    assert recovered(run) == []


def test_what_was_published_and_not_yet_marked_is_only_marked(run: Run) -> None:
    published = run.commit()
    run.staging.publish(published, run.rename, lambda _: None)
    run.staging.remove()
    recovered(run)
    assert run.state() is BatchState.PUBLISHED
    assert run.there(Kind.EVENTS) == EVENTS_THERE


@pytest.mark.parametrize("folders_removed", [1, 2])
def test_as_long_as_a_part_is_there_only_one_recovers_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, folders_removed: int
) -> None:
    """Otherwise a slow run names a file again that a prune or a compaction has removed since."""
    run.staging.publish(run.commit(), run.rename, lambda _: None)
    removed: list[object] = []

    def rmtree(path: Path, *, ignore_errors: bool) -> None:
        real(path, ignore_errors=ignore_errors)
        removed.append(path)
        if len(removed) == folders_removed:
            raise KeyboardInterrupt

    real = shutil.rmtree
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", rmtree)
        with pytest.raises(KeyboardInterrupt):
            run.staging.remove()
    run.die()
    first, second = (run.output.staging_of(run.token) for _ in range(2))
    try:
        assert (first.owner_lives(), second.owner_lives()) == (False, True)
    finally:
        first.close()


def test_a_foreign_file_in_the_way_is_kept_and_ours_is_there_once(run: Run) -> None:
    published = run.commit()
    run.die()
    foreign = run.output.folders.path_of(published[0])
    foreign.write_bytes(b"theirs")
    recovered(run)
    assert run.there(Kind.EVENTS) == {
        f"{HOUR}/events_00001.jsonl": b"theirs",
        f"{HOUR}/events_00002.jsonl": LINE + b"\n",
        f"{OTHER_HOUR}/events_00001.jsonl": OTHER_LINE + b"\n",
    }
    recovered(run)
    assert len(run.there(Kind.EVENTS)) == 3


def test_a_file_that_vanished_is_named_as_lost_while_its_log_file_is_not_there(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Its batch stays committed, and the other files are published."""
    published = run.commit()
    (run.output.folders.staging_of(Kind.EVENTS, run.token) / "00000.part").unlink()
    run.die()
    for _ in range(2):
        recovered(run)
        assert run.state() is BatchState.COMMITTED
        assert run.there(Kind.EVENTS) == {f"{OTHER_HOUR}/events_00001.jsonl": OTHER_LINE + b"\n"}
        assert run.there(Kind.QUARANTINE) == QUARANTINE_THERE
        assert run.staging_folders() == []
        [lost] = lost_files(run.ledger, run.output)
        assert lost.address == run.output.address_of(published[0])
        assert len(lost.log_files) == 1
        assert f"{lost.address}: its 1 lines vanished before they were published" in caplog.text
        assert "no configured trail has it" in caplog.text
        assert "put back there what was there" in caplog.text
        caplog.clear()
    assert lines_of_folder(run.ledger, Kind.EVENTS, HOUR) == (0, 0)
    run.output.folders.path_of(published[0]).parent.mkdir(exist_ok=True)
    run.output.folders.path_of(published[0]).write_bytes(LINE + b"\n")
    recovered(run)
    assert run.state() is BatchState.PUBLISHED, "what was lost is there again"
    assert lost_files(run.ledger, run.output) == []
    assert lines_of_folder(run.ledger, Kind.EVENTS, HOUR) == (1, 1)


def test_a_batch_without_a_folder_is_dropped_when_it_is_old(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was killed before it made the folder, or is just about to make it."""
    run.batch = register_batch(run.ledger, run.token, "run", [])
    recovered(run)
    assert run.state() is BatchState.STAGING
    monkeypatch.setattr(recovery, "_FOLDERLESS_SECONDS", -1)
    recovered(run)
    assert run.state() is BatchState.ABORTED


def test_a_batch_without_a_folder_of_a_clock_that_was_wrong_is_dropped(run: Run) -> None:
    run.batch = register_batch(run.ledger, run.token, "run", [])
    with run.ledger.transaction():
        run.ledger.execute("UPDATE batch SET created_at = created_at + 20 * 365 * 86400")
    recovered(run)
    assert run.state() is BatchState.ABORTED


def test_staging_folders_that_no_batch_needs_are_removed(run: Run) -> None:
    token = uuid.uuid4().hex
    for root in run.output.roots.values():
        leftover = root / ".staging" / token
        leftover.mkdir(parents=True)
        (leftover / "00000.part").write_bytes(b"x")
    recovered(run)
    assert run.staging_folders() == []


def test_a_file_that_somebody_put_among_the_staging_folders_stops_nothing(run: Run) -> None:
    """A desktop's file manager leaves such files in any folder that it shows."""
    run.commit()
    run.die()
    (run.output.roots[Kind.EVENTS] / ".staging" / ".DS_Store").write_bytes(b"x")
    recovered(run)
    assert run.state() is BatchState.PUBLISHED
    assert run.there(Kind.EVENTS) == EVENTS_THERE


def test_what_another_run_published_meanwhile_is_not_made_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are gone since: pruned, or merged."""
    published = run.commit()
    run.staging.publish(published, run.rename, lambda _: None)
    run.staging.remove()
    unfinished = open_batches(run.ledger)
    with run.ledger.transaction():
        mark_published(run.ledger, [run.batch])
    run.output.folders.remove(published)
    monkeypatch.setattr(recovery, "open_batches", lambda _ledger: unfinished)
    recovered(run)
    assert run.state() is BatchState.PUBLISHED
    assert len(LedgerSegments(run.ledger).segments(HOUR, 0)) == 1
    assert LedgerLogFiles(run.ledger).due_visits(int(time.time()), DAY, (0, ""), 10) == []


def test_a_neighbours_staging_is_not_taken_for_what_we_left(tmp_path: Path) -> None:
    """By default, two output folders in one share their folders of Parquet and of quarantine."""
    bucket = tmp_path / "bucket"
    put_log_file(bucket, 0, b'{"Records":[' + event("a") + b',{"no":"time"}]}')
    own = settings_in(tmp_path, [local_trail(bucket)], output_formats=("jsonl", "parquet"))
    neighbour = replace(
        own,
        events_dir=tmp_path / "others",
        state_db=tmp_path / "others.db",
        output_formats=("jsonl",),
    )

    def observe(step: str) -> None:
        if step == "committed":
            sync(neighbour)

    assert sync(own, observe=observe).ok
    assert unlike_lines(own) == []
    assert len([*own.quarantine_dir.rglob("*.jsonl")]) == 2


def test_what_a_neighbour_has_committed_waits_for_him_however_long(tmp_path: Path) -> None:
    """A batch that is taken away is done again, and is lost if its log file is gone by then."""
    bucket = tmp_path / "bucket"
    put_log_file(bucket, 0, b'{"Records":[' + event("a") + b',{"no":"time"}]}')
    own = settings_in(tmp_path, [local_trail(bucket)])
    neighbour = replace(own, events_dir=tmp_path / "others", state_db=tmp_path / "others.db")

    def die(step: str) -> None:
        if step == "committed":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync(own, observe=die)
    for part in (own.quarantine_dir / ".staging").iterdir():
        os.utime(part, (0, 0))
    sync(neighbour)
    shutil.rmtree(bucket)
    bucket.mkdir()
    sync(own)
    assert len([*own.events_dir.rglob("*.jsonl")]) == 1
    assert len([*own.quarantine_dir.rglob("*.jsonl")]) == 2
