"""Files that vanish before they are published are made again byte for byte, or named as lost."""

import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.audit.findings import FindingKind
from ctrail_pipeline.core.batch import content
from ctrail_pipeline.core.bucket.interface import Fetched
from ctrail_pipeline.core.bucket.local import LocalBucket
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.ledger.batches import open_batches
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.output import compression
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output.marker import MARKER
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.reports.status import read_status
from ctrail_pipeline.reports.status_json import as_json
from ctrail_pipeline.reports.status_table import notes
from ctrail_pipeline_tests.support.engines import ENGINES, with_ledger_in
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.parquet_rows import rows, unlike_lines
from ctrail_pipeline_tests.support.sync_process import assert_exact
from ctrail_pipeline_tests.support.two_trails import TwoTrails, event

FORMATS = {"jsonl": ("jsonl",), "parquet": ("jsonl", "parquet")}


NAMES = ("events", "quarantine", "parquet", "ledger.db", "ledger.db-wal", "ledger.db-shm")


class Died(BaseException):
    """Stands for the end of the process: nothing after it happens."""


class World:
    """Two trails with log files that have in common what makes a batch hard to repeat."""

    def __init__(self, folder: Path) -> None:
        self.trails = TwoTrails(folder)
        self.folder = folder
        self.settings = replace(self.trails.settings, batch_log_files=100)
        shared = event("shared", 1)
        callers = [
            event(f"of {account}", 2, recipientAccountId=None, userIdentity={"accountId": account})
            for account in ("999988887777", "555566667777", "999988887777", "555566667777")
        ]
        callers = [text[:-1] + b', "n": %d}' % number for number, text in enumerate(callers)]
        self.callers = callers
        self.a = self.trails.put("first", "A", event("a"), shared, *callers, b'{"no":"time"}')
        b = self.trails.put(
            "first",
            "B",
            event("b"),
            event("a"),
            event("later", eventTime="2026-01-10T13:00:00Z"),
        )
        c = self.trails.put("second", "C", shared, event("c"), callers[1], b'{"no":"account"}')
        self.with_new = [self.a, b, c]
        self.trails.put("second", "D", shared, event("a"))

    def die_at(self, step: str, settings: Settings | None = None) -> None:
        """Sync, and die at a step."""

        def die(at: str) -> None:
            if at == step:
                raise Died

        with pytest.raises(Died):
            sync(settings or self.settings, observe=die)

    def parts(self) -> list[Path]:
        """All staged files."""
        roots = LocalOutput.of(self.settings).roots.values()
        return sorted(part for root in roots for part in (root / ".staging").glob("*/*"))

    def output(self) -> dict[str, bytes]:
        return tree(self.settings)

    def assert_whole(self) -> None:
        expectation = read_buckets([(path, "") for path in self.trails.buckets.values()])
        assert_exact(self.settings, expectation)
        if "parquet" in self.settings.output_formats:
            assert unlike_lines(self.settings) == []
        report = compare(self.settings, deep=True)
        assert {finding.kind for finding in report.findings} <= {FindingKind.RECORDS_IN_QUARANTINE}


def tree(settings: Settings) -> dict[str, bytes]:
    """Every published file by its path, with its bytes."""
    return {
        f"{kind.name}/{path.relative_to(root)}": path.read_bytes()
        for kind, root in LocalOutput.of(settings).roots.items()
        for path in root.rglob("*")
        if path.is_file() and ".staging" not in path.parts and path.name != MARKER
    }


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(params=FORMATS)
def formats(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return FORMATS[request.param]


def undisturbed(world: World) -> dict[str, bytes]:
    """What a sync brings that nothing happens to."""
    other = world.folder / "undisturbed"
    other.mkdir()
    for name in NAMES:
        if (world.folder / name).exists():
            copy(world.folder / name, other / name)
    settings = replace(
        world.settings,
        events_dir=other / "events",
        quarantine_dir=other / "quarantine",
        state_db=other / "ledger.db",
    )
    assert sync(settings).ok
    return tree(settings)


@pytest.mark.parametrize("compressed", ["none", "gzip", "zstd"])
def test_each_file_alone_is_made_again_as_it_was(
    world: World, formats: tuple[str, ...], compressed: str
) -> None:
    world.settings = replace(
        world.settings, output_formats=formats, jsonl_compression=compressed, events_per_file=3
    )
    expected = undisturbed(world)
    world.die_at("committed")
    saved = world.folder / "saved"
    saved.mkdir()
    for name in NAMES:
        if (world.folder / name).exists():
            copy(world.folder / name, saved / name)
    parts = world.parts()
    assert len(parts) >= 4
    for gone in ([part] for part in parts), [parts]:
        for vanished in gone:
            for name in NAMES:
                remove(world.folder / name)
                if (saved / name).exists():
                    copy(saved / name, world.folder / name)
            for part in vanished:
                part.unlink()
            assert sync(world.settings).progress.log_files == 0
            assert world.output() == expected, vanished
    world.assert_whole()


def test_a_log_file_that_brought_nothing_changes_no_order(world: World) -> None:
    """The ledger does not note that the batch had it. It was the first of its dedup partition."""
    buckets = world.trails.buckets.values()
    for bucket in buckets:
        bucket.rename(bucket.with_suffix(".later"))
    known = event("known", 9, recipientAccountId=None, userIdentity={"accountId": "555566667777"})
    world.trails.put("first", "0", known)
    sync(world.settings)
    world.trails.put("first", "1", known)
    for bucket in buckets:
        shutil.copytree(bucket.with_suffix(".later"), bucket, dirs_exist_ok=True)
    expected = undisturbed(world)
    world.die_at("committed")
    for part in world.parts():
        part.unlink()
    assert sync(world.settings).progress.log_files == 0
    assert world.output() == expected


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def test_a_batch_that_was_done_in_rounds(
    world: World, formats: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "PIECES_AT_ONCE", 2)
    world.trails.put("first", "E", *(event(f"e{n % 5}", n % 7) for n in range(19)), event("a"))
    world.settings = replace(world.settings, output_formats=formats)
    expected = undisturbed(world)
    world.die_at("committed")
    for part in world.parts():
        part.unlink()
    assert sync(world.settings).progress.log_files == 0
    assert world.output() == expected


def test_scattered_records_go_where_they_went(world: World) -> None:
    hours = [
        event(f"h{n}", eventTime=f"2026-01-{1 + n // 24:02}T{n % 24:02}:00:00Z") for n in range(40)
    ]
    world.trails.put("first", "F", *hours)
    world.settings = replace(world.settings, max_scattered_hours=3, max_hours_per_log_file=30)
    expected = undisturbed(world)
    assert any(b"more than 3 new hours" in text for text in expected.values())
    world.die_at("committed")
    for part in world.parts():
        part.unlink()
    sync(world.settings)
    assert world.output() == expected


def test_a_run_about_one_trail_makes_the_files_of_the_other_one_again(world: World) -> None:
    world.die_at("committed")
    for part in world.parts():
        part.unlink()
    assert sync(world.settings, Selection(trails=["second"])).ok
    world.assert_whole()


# --- what they are made of is not there -----------------------------------------------------------


def lose(world: World) -> bytes:
    """Have all files of the batch vanish, and one log file too; return its bytes."""
    world.die_at("committed")
    for part in world.parts():
        part.unlink()
    body = world.a.read_bytes()
    times = world.a.stat()
    world.times = (times.st_atime_ns, times.st_mtime_ns)  # type: ignore[attr-defined]
    world.a.unlink()
    return body


def put_back(world: World, body: bytes) -> None:
    world.a.write_bytes(body)
    os.utime(world.a, ns=world.times)  # type: ignore[attr-defined]


def test_files_without_their_log_file_are_named_as_lost_until_it_is_back(
    world: World, formats: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    world.settings = replace(world.settings, output_formats=formats)
    body = lose(world)
    world.trails.put("second", "G", event("g", eventTime="2026-01-10T20:00:00Z"))
    for _ in range(2):
        summary = sync(world.settings)
        assert not summary.ok
        assert {problem.state for problem in summary.problems} == {"not published"}
        lost = {problem.where for problem in summary.problems}
        hour = world.settings.events_dir / "111122223333/eu-west-1/2026/01/10/12"
        assert str(hour / "events_00001.jsonl") in lost
        status = read_status(world.settings)
        assert {file.address for file in status.lost_files} == lost
        assert not as_json(status)["ok"]
        assert [output.pruned_files for output in status.output if output.pruned_files] == []
        assert any(world.a.name in line for line in notes(status))
        report = compare(world.settings)
        assert {f.where for f in report.findings if f.kind is FindingKind.OUTPUT_MISSING} == lost
        assert not report.is_complete
        assert f"{world.a.name}" in caplog.text
    assert b'"g"' in b"".join(world.output().values()), "other batches go on"
    assert b'"later"' in b"".join(world.output().values()), "files of other log files are made"
    put_back(world, body)
    assert sync(world.settings).ok
    world.assert_whole()
    assert read_status(world.settings).lost_files == []


def test_parquet_is_made_of_the_jsonl_where_log_files_are_gone(world: World) -> None:
    """Bucket and key of each row are known, and where the record stood in its log file is not."""
    world.settings = replace(world.settings, output_formats=FORMATS["parquet"])
    world.die_at("committed")
    for part in (world.folder / "parquet").glob(".staging/*/*"):
        part.unlink()
    for bucket in world.trails.buckets.values():
        shutil.rmtree(bucket / "AWSLogs")
    summary = sync(world.settings)
    assert {problem.state for problem in summary.problems} <= {"not listed"}
    assert unlike_lines(world.settings) == []
    found = rows(world.settings)
    assert {Path(row["_key"]).name for row in found} == {path.name for path in world.with_new}
    assert {row["_index"] for row in found} == {None}


@pytest.mark.parametrize("is_same", [True, False])
def test_a_log_file_of_another_version_does_if_it_holds_the_same_records(
    world: World, *, is_same: bool
) -> None:
    """A copy into the bucket changes the etag, and not the records. Quarantine names the etag."""
    body = lose(world)
    world.a.write_bytes(body)
    os.utime(world.a, ns=(1, 1))
    if not is_same:
        world.trails.put("first", "A", event("another"))
    summary = sync(world.settings)
    lost = {Path(problem.where).name for problem in summary.problems}
    assert lost == {"quarantine_00001.jsonl"} | (set() if is_same else {"events_00001.jsonl"})


def test_a_bucket_that_cannot_be_read_now_is_asked_again_by_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.die_at("committed")
    for part in world.parts():
        part.unlink()
    with monkeypatch.context() as patch:

        def refuse(_bucket: LocalBucket, key: str, _etag: bytes | None) -> Fetched:
            raise StoreError(f"{key}: not now")

        patch.setattr(LocalBucket, "get", refuse)
        summary = sync(world.settings)
        assert not summary.ok
    assert sync(world.settings).ok
    world.assert_whole()


def test_a_newer_library_may_compress_the_text_in_another_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the ledger notes the new size and hash, which `verify --deep` compares."""
    world.settings = replace(world.settings, jsonl_compression="gzip")
    world.trails.put("first", "H", *(event(f"h{n}", n % 60) for n in range(100)))
    expected = undisturbed(world)
    world.die_at("committed")
    for part in world.parts():
        part.unlink()
    monkeypatch.setattr(compression, "_GZIP_LEVEL", 0)
    assert sync(world.settings).ok
    assert world.output().keys() == expected.keys()
    assert world.output() != expected
    world.assert_whole()


# --- killed, and beside others --------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("step", ["restaged", "noted", "linked", "recovered"])
def test_killed_while_files_are_made_again(world: World, step: str, engine: str) -> None:
    world.settings = with_ledger_in(engine, world.settings)
    world.die_at("committed")
    for part in world.parts()[1:]:
        part.unlink()
    let_leases_lapse(world.settings)
    world.die_at(step)
    let_leases_lapse(world.settings)
    assert sync(world.settings).progress.log_files == 0
    world.assert_whole()


def let_leases_lapse(settings: Settings) -> None:
    with closing(Ledger(settings.ledger)) as ledger:
        ledger.execute("DELETE FROM lease")


def test_killed_while_a_file_is_written_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half of a file never gets a name under which it could be published."""
    world.die_at("committed")
    for part in world.parts():
        part.unlink()
    with monkeypatch.context() as patch:

        def die(old: str | Path, new: str | Path) -> None:
            if ".part." in str(old):
                raise Died
            real(old, new)

        real = os.replace
        patch.setattr(os, "replace", die)
        with pytest.raises(Died):
            sync(world.settings)
        [half] = world.parts()
        half.write_bytes(half.read_bytes()[:10])
    assert sync(world.settings).ok
    world.assert_whole()


def test_another_run_makes_the_same_files_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It publishes all of them, and removes what is staged, before the first one publishes."""
    world.die_at("committed")
    for part in world.parts():
        part.unlink()
    others: list[Summary] = []

    def observe(step: str) -> None:
        if step == "restaged" and not others:
            others.append(sync(world.settings))
            for root in LocalOutput.of(world.settings).roots.values():
                shutil.rmtree(root / ".staging", ignore_errors=True)

    # Without locks: as if the first run had been paused for longer than its lease.
    monkeypatch.setattr("fcntl.flock", lambda *_values: None)
    assert sync(world.settings, observe=observe).ok
    assert others[0].ok
    world.assert_whole()
    with closing(Ledger(world.settings.ledger)) as ledger:
        assert open_batches(ledger) == []
