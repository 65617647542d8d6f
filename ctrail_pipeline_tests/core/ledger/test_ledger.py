"""The ledger: what it refuses to open, and what a commit must be sure of."""

import sqlite3
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.keys.coverage import Range
from ctrail_pipeline.core.keys.minutes import FOREVER, Minute
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger import sqlite_errors
from ctrail_pipeline.core.ledger.batch_commit import commit_batch
from ctrail_pipeline.core.ledger.batches import (
    abort_batch,
    batch_state,
    mark_published,
    open_batches,
    register_batch,
)
from ctrail_pipeline.core.ledger.bloom_filter import FILTERED_FROM
from ctrail_pipeline.core.ledger.known_identities import SEGMENTS_A_READ, KnownIdentities
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import LedgerLogFiles
from ctrail_pipeline.core.ledger.migrations import APPLICATION_ID, SCHEMA_VERSION
from ctrail_pipeline.core.ledger.output_numbers import published_files, rename_output_file
from ctrail_pipeline.core.ledger.queries_reports import open_by_source
from ctrail_pipeline.core.ledger.rows import (
    BatchState,
    Known,
    LogFileState,
    NewSegment,
    Outcome,
    StaleBatch,
    Visit,
)
from ctrail_pipeline.core.ledger.segment_building import build_segment
from ctrail_pipeline.core.ledger.segments import LedgerSegments
from ctrail_pipeline.core.ledger.source_prefixes import (
    cover,
    covered_ranges,
    deep_listed_at,
    note_deep_listings,
    register_sources,
)
from ctrail_pipeline.core.log_file.identity import event_key_of, identity_of
from ctrail_pipeline.core.output_files import Kind, PublishedFile, StagedFile

SOURCE_PREFIX = SourcePrefix("logs", "", "", "111122223333", "us-east-1")
HOUR = "111122223333/us-east-1/2024/01/02/03"
DAY = 19_724
ETAG, OTHER_ETAG = b"\1" * 16, b"\2" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(path)
    yield ledger
    ledger.close()


@pytest.fixture
def other_ledger(path: Path, ledger: Ledger) -> Iterator[Ledger]:
    """Another run's connection to the same ledger."""
    other_ledger = Ledger(path)
    yield other_ledger
    other_ledger.close()


def outcome(ledger: Ledger, name: str = "/a.json.gz", position: int = 0) -> Outcome:
    return Outcome(
        source_id=register_sources(ledger, [SOURCE_PREFIX])[SOURCE_PREFIX],
        day=DAY,
        name=name,
        expected=None,
        etag=ETAG,
        size=100,
        sha256=b"\0" * 32,
        records=2,
        duplicates=0,
        quarantined=0,
        conflicts=0,
        state=LogFileState.COMMITTED,
        attempts=0,
        next_visit=None,
        reason=None,
        position=position,
    )


def segment(*numbers: int, partition: str = HOUR) -> NewSegment:
    return build_segment(
        partition,
        [identity_of(b"%d" % number) for number in numbers],
        [event_key_of(str(number)) for number in numbers],
        0.001,
    )


def staged(part: int = 0, folder: str = HOUR, kind: Kind = Kind.EVENTS) -> StagedFile:
    return StagedFile(part, kind, folder, 2, 20, b"\0" * 32, b"\0\2")


def register(ledger: Ledger, published: Sequence[int] = ()) -> int:
    return register_batch(ledger, uuid.uuid4().hex, "run", published)


def commit(
    ledger: Ledger,
    outcomes: Sequence[Outcome] = (),
    files: Sequence[StagedFile] = (),
    segments: Sequence[NewSegment] = (),
    seen: dict[str, int] | None = None,
    batch: int | None = None,
) -> tuple[int, list[PublishedFile]]:
    """Commit one batch; without `seen`, it has seen all segments that there are."""
    batch = register(ledger) if batch is None else batch
    if seen is None:
        known = KnownIdentities(LedgerSegments(ledger))
        known.begin()
        seen = {new.partition: known.partition(new.partition).version for new in segments}
    with ledger.transaction():
        return batch, commit_batch(ledger, batch, outcomes, files, segments, seen)


def known(ledger: Ledger, name: str = "/a.json.gz") -> Known | None:
    id_ = register_sources(ledger, [SOURCE_PREFIX])[SOURCE_PREFIX]
    row = LedgerLogFiles(ledger).known_log_files(id_, DAY, name, name).get(name)
    return row.known if row else None


def due(ledger: Ledger, now: int | None = None) -> list[Visit]:
    """Return everything that is due, as a listing asks for it, in pages of two."""
    now = int(time.time()) if now is None else now
    visits: list[Visit] = []
    day = LedgerLogFiles(ledger).newest_due_day(now, FOREVER)
    while day is not None:
        after = (0, "")
        while page := LedgerLogFiles(ledger).due_visits(now, day, after, 2):
            visits += page
            after = page[-1].source_id, page[-1].name
        day = LedgerLogFiles(ledger).newest_due_day(now, day)
    return visits


def superseded(path: Path) -> list[tuple[str, bytes]]:
    db = sqlite3.connect(path)
    try:
        return db.execute("SELECT name, etag FROM superseded_log_file ORDER BY batch").fetchall()
    finally:
        db.close()


# -- opening ----------------------------------------------------------------------------------

OPEN_AT_ONCE = """
import sys, time
from pathlib import Path
from ctrail_pipeline.core.ledger.ledger import Ledger
path = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for round in range(10):
    ledger = Ledger(path / str(round) / "ledger.db")
    print(ledger.uuid, flush=True)
    ledger.close()
"""


def test_two_processes_at_once_make_one_ledger(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_AT_ONCE, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert answers[0] == answers[1] == answers[2]
    assert len(set(answers[0])) == 10


def test_every_file_of_the_ledger_is_private_whatever_the_umask(tmp_path: Path) -> None:
    script = (
        "import os, sys; os.umask(0)\n"
        "from pathlib import Path\n"
        "from ctrail_pipeline.core.ledger.batches import register_batch\n"
        "from ctrail_pipeline.core.ledger.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1])); register_batch(ledger, 'token', '', [])\n"
        "for path in sorted(Path(sys.argv[2]).rglob('*')):\n"
        "    print(path.name, oct(path.stat().st_mode & 0o777))\n"
    )
    path = tmp_path / "deep" / "er" / "ledger.db"
    process = subprocess.run(
        [sys.executable, "-c", script, str(path), str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert process.stdout.splitlines() == [
        "deep 0o700",
        "er 0o700",
        "ledger.db 0o600",
        "ledger.db-shm 0o600",
        "ledger.db-wal 0o600",
    ]


def test_a_ledger_is_the_same_when_it_is_opened_again(path: Path, ledger: Ledger) -> None:
    name = ledger.uuid
    assert (ledger.generation, ledger.is_unused()) == (0, True)
    with ledger.transaction():
        ledger.advance_generation()
    ledger.close()
    again = Ledger(path)
    assert (again.uuid, again.generation) == (name, 1)
    again.close()


def refusal(path: Path) -> str:
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(LedgerError) as caught:
        Ledger(path)
    assert (path.read_bytes() if path.is_file() else b"") == before
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("application", [0, 0x1234])
def test_a_database_of_another_program_is_refused(path: Path, application: int) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE precious (x)")
    db.execute(f"PRAGMA application_id = {application}")
    db.commit()
    db.close()
    assert "a database of another program: name another file in `state_db`" in refusal(path)


def test_a_ledger_of_a_newer_version_is_refused(path: Path, ledger: Ledger) -> None:
    ledger.close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    message = refusal(path)
    assert f"is a ledger of version {SCHEMA_VERSION + 1}" in message
    assert "update ctrail-pipeline" in message


def test_garbage_is_refused(path: Path) -> None:
    path.write_bytes(b"garbage " * 1000)
    assert "it is damaged or no ledger: restore it from a backup" in refusal(path)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_a_ledger_that_was_cut_off_is_refused(path: Path, ledger: Ledger, share: float) -> None:
    commit(ledger, [outcome(ledger, f"/{number}", number) for number in range(2000)])
    ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    message = refusal(path)
    assert "restore it from a backup" in message
    assert "cut off" in message or "damaged" in message


def test_a_folder_in_place_of_the_ledger_is_refused(path: Path) -> None:
    path.mkdir()
    assert "check `state_db`" in refusal(path)


def test_a_file_in_place_of_the_ledgers_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "check `state_db`" in refusal(tmp_path / "file" / "ledger.db")


def test_the_application_id_is_ours(path: Path, ledger: Ledger) -> None:
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# -- waiting ----------------------------------------------------------------------------------


def test_a_run_waits_for_anothers_transaction(ledger: Ledger, other_ledger: Ledger) -> None:
    with ledger.transaction():
        waiting = Thread(target=register_batch, args=(other_ledger, "token", "", []))
        waiting.start()
        time.sleep(0.2)
        assert waiting.is_alive()
        assert open_batches(ledger) == []
    waiting.join()
    assert [batch.token for batch in open_batches(ledger)] == ["token"]


def test_a_ledger_locked_for_long_is_refused_with_what_to_do(
    path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_errors, "BUSY_SECONDS", 0.1)
    other_ledger = Ledger(path)
    with ledger.transaction(), pytest.raises(LedgerError, match="another run has held it"):
        register_batch(other_ledger, "token", "", [])
    assert register_batch(other_ledger, "token", "", []) == 1
    other_ledger.close()


def test_another_process_that_ends_does_not_take_the_log_of_a_living_run(
    path: Path, ledger: Ledger
) -> None:
    """Closing any descriptor of the file drops this process's locks on it.

    Then whoever ends next takes itself for the last, and removes the write-ahead log that this run
    goes on writing to: two runs that overlapped wrote events twice.
    """
    reader = Ledger(path)  # as every run opens one for its listing
    register_batch(ledger, "first", "", [])
    log = path.with_name(path.name + "-wal").stat().st_ino
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ctrail_pipeline.core.ledger.batches import open_batches\n"
        "from ctrail_pipeline.core.ledger.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "print(*[batch.token for batch in open_batches(ledger)])\n"
        "ledger.close()\n"
    )

    def tokens_seen_by_another_process() -> str:
        command = [sys.executable, "-c", script, str(path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert tokens_seen_by_another_process() == "first"
    assert path.with_name(path.name + "-wal").stat().st_ino == log
    register_batch(ledger, "second", "", [])
    assert tokens_seen_by_another_process() == "first second"
    reader.close()


def test_a_transaction_that_fails_leaves_nothing(ledger: Ledger) -> None:
    id_ = register_sources(ledger, [SOURCE_PREFIX])[SOURCE_PREFIX]
    with pytest.raises(KeyError), ledger.transaction():  # noqa: PT012
        cover(ledger, {id_: [Range(Minute(0), Minute(10))]})
        raise KeyError
    assert covered_ranges(ledger) == {}
    register_batch(ledger, "token", "", [])


# -- sources and coverage ---------------------------------------------------------------------


def test_a_source_prefix_keeps_its_id_whoever_registers_it(
    ledger: Ledger, other_ledger: Ledger
) -> None:
    elsewhere = replace(SOURCE_PREFIX, prefix="audit")
    ids = register_sources(ledger, [SOURCE_PREFIX, elsewhere])
    assert len(set(ids.values())) == 2
    assert register_sources(other_ledger, [elsewhere, SOURCE_PREFIX]) == ids
    assert register_sources(ledger, [SOURCE_PREFIX]) == {SOURCE_PREFIX: ids[SOURCE_PREFIX]}


def test_coverage_is_merged(ledger: Ledger) -> None:
    id_ = register_sources(ledger, [SOURCE_PREFIX])[SOURCE_PREFIX]
    for start, end in [(50, 60), (0, 10), (10, 20), (55, 70), (5, 5)]:
        with ledger.transaction():
            cover(ledger, {id_: [Range(Minute(start), Minute(end))]})
    assert covered_ranges(ledger) == {
        id_: [Range(Minute(0), Minute(20)), Range(Minute(50), Minute(70))]
    }


def test_deep_listings_are_noted(ledger: Ledger) -> None:
    id_ = register_sources(ledger, [SOURCE_PREFIX])[SOURCE_PREFIX]
    assert deep_listed_at(ledger) == {id_: 0}
    with ledger.transaction():
        note_deep_listings(ledger, [id_], 1234)
    assert deep_listed_at(ledger) == {id_: 1234}


# -- the states of a batch --------------------------------------------------------------------


def states(ledger: Ledger) -> dict[int, BatchState]:
    return {batch.id: batch.state for batch in open_batches(ledger)}


def test_a_batch_goes_from_staging_to_committed_to_published(ledger: Ledger) -> None:
    batch = register(ledger)
    assert states(ledger) == {batch: BatchState.STAGING}
    assert ledger.is_unused()
    commit(ledger, batch=batch)
    assert states(ledger) == {batch: BatchState.COMMITTED}
    assert not ledger.is_unused()
    following = register(ledger, published=[batch])
    assert states(ledger) == {following: BatchState.STAGING}
    assert batch_state(ledger, batch) is BatchState.PUBLISHED


def test_only_a_staging_batch_is_aborted_and_an_aborted_one_never_committed(
    ledger: Ledger,
) -> None:
    batch = register(ledger)
    assert abort_batch(ledger, batch)
    assert not abort_batch(ledger, batch)
    with pytest.raises(StaleBatch, match="no longer staging"):
        commit(ledger, [outcome(ledger)], batch=batch)
    assert known(ledger) is None
    committed, _ = commit(ledger)
    assert not abort_batch(ledger, committed)
    with pytest.raises(StaleBatch, match="no longer staging"):
        commit(ledger, batch=committed)
    assert batch_state(ledger, committed) is BatchState.COMMITTED


def test_only_a_committed_batch_is_marked_published(ledger: Ledger) -> None:
    batch = register(ledger)
    with ledger.transaction():
        mark_published(ledger, [batch])
    assert batch_state(ledger, batch) is BatchState.STAGING


# -- compare and set --------------------------------------------------------------------------


def test_log_files_that_another_run_settled_are_named_and_nothing_is_written(
    ledger: Ledger, other_ledger: Ledger
) -> None:
    outcomes = [outcome(ledger, f"/{number}.json.gz", number) for number in range(4)]
    commit(other_ledger, [replace(outcomes[1], position=0), replace(outcomes[3], position=1)])
    batch = register(ledger)
    with pytest.raises(StaleBatch) as stale:
        commit(ledger, outcomes, [staged()], [segment(1)], batch=batch)
    assert stale.value.taken == {1, 3}
    assert known(ledger, "/0.json.gz") is None
    assert LedgerSegments(ledger).segments(HOUR, 0) == []
    assert published_files(ledger, batch) == []
    assert batch_state(ledger, batch) is BatchState.STAGING
    commit(ledger, [outcomes[0], outcomes[2]], [staged()], [segment(1)], batch=batch)
    assert known(ledger, "/0.json.gz") == (LogFileState.COMMITTED, ETAG)


@pytest.mark.parametrize(
    "meanwhile", [{"etag": OTHER_ETAG}, {"state": LogFileState.DAMAGED, "reason": "x"}]
)
def test_a_row_that_changed_meanwhile_is_not_replaced(
    ledger: Ledger, other_ledger: Ledger, meanwhile: dict[str, object]
) -> None:
    first = outcome(ledger)
    commit(ledger, [first])
    expected = known(ledger)
    commit(other_ledger, [replace(first, expected=expected, **meanwhile)])  # type: ignore[arg-type]
    with pytest.raises(StaleBatch) as stale:
        commit(ledger, [replace(first, expected=expected, etag=b"\3" * 16)])
    assert stale.value.taken == {0}


def test_a_row_that_is_not_there_any_more_is_not_assumed(ledger: Ledger) -> None:
    with pytest.raises(StaleBatch) as stale:
        commit(ledger, [replace(outcome(ledger), expected=Known(LogFileState.FAILED, ETAG))])
    assert stale.value.taken == {0}


# -- segments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, FILTERED_FROM])
def test_a_newer_segment_with_a_common_identity_makes_a_batch_stale(
    ledger: Ledger, other_ledger: Ledger, size: int
) -> None:
    commit(other_ledger, segments=[segment(*range(size))])
    with pytest.raises(StaleBatch, match="another batch wrote some of these events") as stale:
        commit(ledger, [outcome(ledger)], segments=[segment(2, 9999)], seen={HOUR: 0})
    assert not stale.value.taken
    assert known(ledger) is None


@pytest.mark.parametrize("common", [0, SEGMENTS_A_READ - 1, SEGMENTS_A_READ, 2 * SEGMENTS_A_READ])
def test_many_newer_segments_are_all_compared(
    ledger: Ledger, other_ledger: Ledger, common: int
) -> None:
    """More of them than a commit reads for all its dedup partitions together."""
    for number in range(2 * SEGMENTS_A_READ + 1):
        commit(other_ledger, segments=[segment(number)])
    with pytest.raises(StaleBatch, match="another batch wrote some of these events"):
        commit(ledger, [outcome(ledger)], segments=[segment(common, 9999)], seen={HOUR: 0})


def test_newer_segments_without_a_common_identity_do_not(
    ledger: Ledger, other_ledger: Ledger
) -> None:
    commit(other_ledger, segments=[segment(1, 2), segment(3, partition=HOUR + "x")])
    commit(ledger, segments=[segment(3, 4)], seen={HOUR: 0})
    assert [
        (stored.size, stored.filter_bytes) for stored in LedgerSegments(ledger).segments(HOUR, 0)
    ] == [
        (2, 0),
        (2, 0),
    ]


def test_a_segment_that_was_seen_is_not_compared_again(ledger: Ledger) -> None:
    commit(ledger, segments=[segment(1, 2)])
    [stored] = LedgerSegments(ledger).segments(HOUR, 0)
    commit(ledger, segments=[segment(2)], seen={HOUR: stored.id})


def test_segments_are_read_as_they_were_written(ledger: Ledger) -> None:
    small, large = segment(1, 2, 3), segment(*range(10, 10 + FILTERED_FROM))
    commit(ledger, segments=[small, large])
    first, second = LedgerSegments(ledger).segments(HOUR, 0)
    assert large.filter
    assert first[1:] == (3, small.identities, 0, small.event_keys, False)
    assert second[1:] == (FILTERED_FROM, b"", len(large.filter), b"", False)
    assert LedgerSegments(ledger).segment_filter(second.id) == large.filter
    assert LedgerSegments(ledger).segment_identities(second.id) == large.identities
    assert LedgerSegments(ledger).segment_event_keys(second.id) == large.event_keys
    assert LedgerSegments(ledger).segments(HOUR, first.id) == [second]
    assert LedgerSegments(ledger).segments("elsewhere", 0) == []


# -- output files -----------------------------------------------------------------------------


def test_files_of_a_folder_are_numbered_one_after_another(
    ledger: Ledger, other_ledger: Ledger
) -> None:
    first, names = commit(
        ledger, files=[staged(0), staged(1), staged(2, "2024/01/02", Kind.QUARANTINE)]
    )
    assert [file.name for file in names] == [
        "events_00001.jsonl",
        "events_00002.jsonl",
        "quarantine_00001.jsonl",
    ]
    second, more_names = commit(other_ledger, files=[staged(0), staged(1, HOUR + "x")])
    assert [(file.folder, file.number) for file in more_names] == [(HOUR, 3), (HOUR + "x", 1)]
    assert published_files(ledger, first) == names
    assert published_files(ledger, second) == more_names


def test_a_renamed_file_keeps_its_new_number(ledger: Ledger) -> None:
    batch, [file] = commit(ledger, files=[staged()])
    renamed = rename_output_file(ledger, batch, file)
    assert (renamed.number, renamed.part, renamed.folder) == (2, file.part, file.folder)
    assert published_files(ledger, batch) == [renamed]
    assert rename_output_file(ledger, batch, file) == renamed  # by a run that publishes it, too
    _, [following] = commit(ledger, files=[staged()])
    assert following.number == 3


def test_an_earlier_version_is_kept_where_lines_came_from_it(path: Path, ledger: Ledger) -> None:
    first = outcome(ledger, "/lines.json.gz")
    second = replace(outcome(ledger, "/quarantine.json.gz", 1), records=0, quarantined=1)
    third = replace(
        outcome(ledger, "/failed.json.gz", 2), records=0, state=LogFileState.FAILED, sha256=None
    )
    commit(ledger, [first, second, third])
    commit(
        ledger,
        [
            replace(
                log_file,
                expected=known(ledger, log_file.name),
                etag=OTHER_ETAG,
                state=LogFileState.COMMITTED,
            )
            for log_file in (first, second, third)
        ],
    )
    assert superseded(path) == [("/lines.json.gz", ETAG), ("/quarantine.json.gz", ETAG)]
    assert known(ledger, "/failed.json.gz") == (LogFileState.COMMITTED, OTHER_ETAG)


def test_an_earlier_version_without_lines_is_not_kept(path: Path, ledger: Ledger) -> None:
    """This holds whatever the version's counts say: all of its lines were there already."""
    first = replace(outcome(ledger), quarantined=1, state=LogFileState.DAMAGED)
    commit(ledger, [first], [staged()], [segment(1, 2)])
    again = replace(first, expected=known(ledger), duplicates=2, has_lines=False)
    for _ in range(3):
        commit(ledger, [again])
    assert superseded(path) == [("/a.json.gz", ETAG)]


def test_visits_are_due_at_their_time_newest_day_first(ledger: Ledger) -> None:
    failed = replace(outcome(ledger), state=LogFileState.FAILED, attempts=1)
    commit(
        ledger,
        [
            replace(failed, day=DAY - 1, next_visit=100),
            replace(failed, day=DAY, next_visit=100, position=1),
            replace(failed, day=DAY + 1, next_visit=200, position=2),
            replace(outcome(ledger, "/fine.json.gz"), position=3),
        ],
    )
    assert due(ledger, 99) == []
    assert [visit.day for visit in due(ledger, 100)] == [DAY, DAY - 1]
    assert [visit.day for visit in due(ledger, 200)] == [DAY + 1, DAY, DAY - 1]
    [states] = open_by_source(ledger).values()
    assert states == {LogFileState.FAILED: 3}


def test_a_reopened_ledger_knows_what_was_committed(ledger: Ledger) -> None:
    batch, _ = commit(ledger, [outcome(ledger)])
    ledger.reopen()
    assert batch_state(ledger, batch) is BatchState.COMMITTED
