"""Full or read-only disks and wrong ledgers: a sentence says what to do, and nothing is lost."""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ctrail_pipeline.core.exceptions import CtrailError, LedgerError, OutputError
from ctrail_pipeline.core.ledger import sqlite_errors
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.oracle import Expectation, snapshot
from ctrail_pipeline_tests.support.sync_process import assert_exact, sample_settings
from ctrail_pipeline_tests.support.thorough import thorough

SAMPLE = {"log_files": 160, "days": 2}


@pytest.fixture
def settings(sample: Path, tmp_path: Path) -> Settings:
    return sample_settings(sample, tmp_path / "work")


PART = Selection(partitions=["2*/*"])


def bytes_below(*folders: Path) -> dict[Path, bytes]:
    files = (path for folder in folders for path in folder.glob("**/*") if path.is_file())
    return {path: path.read_bytes() for path in files}


def refusal(settings: Settings, kind: type[CtrailError], *words: str) -> str:
    """Assert that a sync refuses and leaves the output as it is. Return its sentence."""
    before = bytes_below(settings.events_dir, settings.quarantine_dir)
    with pytest.raises(kind) as caught:
        sync(settings)
    assert bytes_below(settings.events_dir, settings.quarantine_dir) == before
    sentence = str(caught.value)
    for word in words:
        assert word in sentence
    print(sentence)
    return sentence


# --- disks ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 700 kB, a third of what the sample's events need."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=700k,mode=0700", "ctrail-test", str(disk))
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def mount(*arguments: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


def assert_nothing_unfinished(settings: Settings) -> None:
    for root in (settings.events_dir, settings.quarantine_dir):
        assert not list(root.glob(".staging/*"))


def test_a_disk_that_fills_up(
    settings: Settings, expectation: Expectation, small_disk: Path
) -> None:
    settings = replace(settings, events_dir=small_disk / "events")
    for _ in range(3):
        with pytest.raises(OutputError, match=r"the disk is full: free some space, then run again"):
            sync(settings)
        assert snapshot(settings.events_dir) < expectation.lines.keys()
        assert_nothing_unfinished(settings)
    lines_before = snapshot(settings.events_dir)
    assert lines_before
    mount("-o", "remount,size=50m", str(small_disk))
    summary = sync(settings)
    assert summary.ok
    assert summary.progress.events == len(expectation.lines) - len(lines_before)
    assert_exact(settings, expectation)


def test_a_disk_with_output_and_ledger_that_fills_up(
    settings: Settings, expectation: Expectation, small_disk: Path
) -> None:
    settings = replace(
        settings,
        events_dir=small_disk / "events",
        quarantine_dir=small_disk / "quarantine",
        state_db=small_disk / "ledger.db",
    )
    for _ in range(2):
        with pytest.raises((OutputError, LedgerError), match="the disk is full: free some space"):
            sync(settings)
    mount("-o", "remount,size=50m", str(small_disk))
    assert sync(settings).ok
    assert_exact(settings, expectation)


@pytest.mark.parametrize("spare_pages", [0, 16, 48, *thorough(4, 24, 32, 64, 80)])
def test_a_disk_with_the_ledger_that_fills_up(
    settings: Settings, expectation: Expectation, small_disk: Path, spare_pages: int
) -> None:
    """The sync refuses whichever write to the ledger fails."""
    settings = replace(settings, state_db=small_disk / "ledger.db")
    free = shutil.disk_usage(small_disk).free
    filler = small_disk / "filler"
    filler.write_bytes(bytes(free - spare_pages * 4096))
    with pytest.raises(LedgerError, match="the disk is full"):
        sync(settings)
    assert snapshot(settings.events_dir) <= expectation.lines.keys()
    filler.unlink()
    mount("-o", "remount,size=50m", str(small_disk))
    assert sync(settings).ok
    assert_exact(settings, expectation)


@pytest.mark.parametrize("begun", [True, False])
def test_an_output_folder_that_cannot_be_written(
    settings: Settings, expectation: Expectation, small_disk: Path, begun: bool
) -> None:
    """Root may write anywhere but on a read-only file system."""
    mount("-o", "remount,size=50m", str(small_disk))
    settings = replace(settings, events_dir=small_disk / "events")
    if begun:
        assert sync(settings, PART).ok
    mount("-o", "remount,ro", str(small_disk))
    refusal(settings, OutputError, str(small_disk), "cannot be written", "`events_dir`")
    mount("-o", "remount,rw", str(small_disk))
    assert sync(settings).ok
    assert_exact(settings, expectation)


def test_a_ledger_that_cannot_be_written(
    settings: Settings, expectation: Expectation, small_disk: Path
) -> None:
    mount("-o", "remount,size=50m", str(small_disk))
    settings = replace(settings, state_db=small_disk / "ledger.db")
    assert sync(settings, PART).ok
    mount("-o", "remount,ro", str(small_disk))
    refusal(settings, LedgerError, str(settings.state_db), "cannot be", "check")
    mount("-o", "remount,rw", str(small_disk))
    assert sync(settings).ok
    assert_exact(settings, expectation)


def test_ledger_and_output_on_different_devices(
    settings: Settings, expectation: Expectation, small_disk: Path
) -> None:
    mount("-o", "remount,size=50m", str(small_disk))
    settings = replace(settings, state_db=small_disk / "state" / "ledger.db")
    assert sync(settings).ok
    assert_exact(settings, expectation)


@pytest.mark.parametrize("names", [40, 100, *thorough(70, 130, 160)])
def test_a_disk_that_runs_out_of_names(
    settings: Settings, expectation: Expectation, small_disk: Path, names: int
) -> None:
    """The sync refuses whichever new name fails. A later run publishes what is committed."""
    mount("-o", f"remount,size=50m,nr_inodes={names}", str(small_disk))
    settings = replace(settings, events_dir=small_disk / "events")
    for _ in range(3):
        with pytest.raises(OutputError, match="the disk is full: free some space"):
            sync(settings)
        assert snapshot(settings.events_dir) < expectation.lines.keys()
    mount("-o", "remount,nr_inodes=9999", str(small_disk))
    assert sync(settings).ok
    assert_exact(settings, expectation)


def test_a_folder_of_the_output_on_another_device(
    settings: Settings, expectation: Expectation, small_disk: Path
) -> None:
    """No file can be linked into that folder. What was committed waits in the staging folder."""
    part = Selection(partitions=["3*/*"])
    assert sync(settings, part).ok
    account = settings.events_dir / "222233334444"
    account.mkdir(mode=0o700)
    mount("--bind", str(small_disk), str(account))
    try:
        for _ in range(2):
            with pytest.raises(OutputError, match="on another device than its root"):
                sync(settings)
    finally:
        subprocess.run(["umount", "-l", str(account)], check=True)
    assert sync(settings).ok
    assert_exact(settings, expectation)


# --- ledgers that do not fit ------------------------------------------------------------------


@pytest.fixture
def begun(settings: Settings) -> Settings:
    """Settings of an output that holds a part of the sample already."""
    assert sync(settings, PART).ok
    return settings


def delete(ledger: Path) -> None:
    ledger.unlink()


def cut_in_half(ledger: Path) -> None:
    os.truncate(ledger, ledger.stat().st_size // 2 // 4096 * 4096)


def cut_within_a_page(ledger: Path) -> None:
    os.truncate(ledger, ledger.stat().st_size - 1000)


def cut_to_nothing(ledger: Path) -> None:
    os.truncate(ledger, 0)


def overwrite_pages(ledger: Path) -> None:
    data = bytearray(ledger.read_bytes())
    data[4096 : 10 * 4096] = os.urandom(9 * 4096)
    ledger.write_bytes(data)


def write_text(ledger: Path) -> None:
    ledger.write_text("no database at all\n" * 500)


def write_other_database(ledger: Path) -> None:
    ledger.unlink()
    with sqlite3.connect(ledger) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    database.close()


def write_newer_version(ledger: Path) -> None:
    with sqlite3.connect(ledger) as database:
        database.execute("PRAGMA user_version = 999")
    database.close()


def make_folder(ledger: Path) -> None:
    ledger.unlink()
    ledger.mkdir()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (delete, ["is missing", "restore", "backup"]),
        (cut_in_half, ["restore", "backup"]),
        (cut_within_a_page, ["cut off", "restore", "backup"]),
        (cut_to_nothing, ["is empty", "restore", "backup"]),
        (overwrite_pages, ["damaged", "restore", "backup"]),
        (write_text, ["damaged or no ledger", "restore", "backup"]),
        (write_other_database, ["another program", "`state_db`"]),
        (write_newer_version, ["999", "update ctrail-pipeline"]),
        (make_folder, ["cannot be opened", "`state_db`"]),
    ],
)
def test_a_ledger_that_was_harmed(
    begun: Settings, expectation: Expectation, harm: Callable[[Path], None], words: list[str]
) -> None:
    """A sync refuses the harmed ledger with the same sentence until the backup is back."""
    backup = begun.state_db.read_bytes()
    harm(begun.state_db)
    harmed = begun.state_db.read_bytes() if begun.state_db.is_file() else None
    sentence = refusal(begun, LedgerError, str(begun.state_db), *words)
    assert refusal(begun, LedgerError) == sentence
    # The sync wrote nothing into the harmed file: a repair may have nothing else to start from.
    assert (begun.state_db.read_bytes() if begun.state_db.is_file() else None) == harmed
    if begun.state_db.is_dir():
        begun.state_db.rmdir()
    begun.state_db.write_bytes(backup)
    begun.state_db.chmod(0o600)
    assert sync(begun).ok
    assert_exact(begun, expectation)


def test_an_older_copy_of_the_ledger(begun: Settings, expectation: Expectation) -> None:
    older = begun.state_db.read_bytes()
    assert sync(begun).ok
    newest = begun.state_db.read_bytes()
    begun.state_db.write_bytes(older)
    refusal(begun, LedgerError, "older", "restore the newest")
    begun.state_db.write_bytes(newest)
    assert sync(begun).progress.log_files == 0
    assert_exact(begun, expectation)


def test_a_copy_of_the_ledger_from_within_the_run_that_wrote_last(
    settings: Settings, expectation: Expectation, tmp_path: Path
) -> None:
    """The copy is from between two batches of a run that then dies. No other run began since."""
    settings = replace(settings, batch_log_files=20)
    copy = tmp_path / "copy.db"
    published = 0

    class Died(Exception):
        pass

    def observe(step: str) -> None:
        nonlocal published
        published += step == "published"
        if step == "published" and published == 2:
            with (
                closing(sqlite3.connect(settings.state_db)) as ledger,
                closing(sqlite3.connect(copy)) as target,
            ):
                ledger.backup(target)
        if published == 4:
            raise Died

    with pytest.raises(Died):
        sync(settings, observe=observe)
    newest = settings.state_db.read_bytes()
    settings.state_db.write_bytes(copy.read_bytes())
    refusal(settings, LedgerError, "older", "restore the newest")
    settings.state_db.write_bytes(newest)
    assert sync(settings).ok
    assert_exact(settings, expectation)


def test_the_ledger_of_another_output_folder(
    sample: Path, begun: Settings, expectation: Expectation, tmp_path: Path
) -> None:
    other_settings = sample_settings(sample, tmp_path / "other")
    assert sync(other_settings).ok
    crossed = replace(begun, state_db=other_settings.state_db)
    refusal(crossed, LedgerError, "another ledger", "`state_db`", "`events_dir`")
    assert_exact(other_settings, expectation)
    assert sync(begun).ok
    assert_exact(begun, expectation)


def test_a_new_ledger_for_an_old_output_folder(begun: Settings, tmp_path: Path) -> None:
    missing = replace(begun, state_db=tmp_path / "new.db")
    refusal(missing, LedgerError, "is missing", "restore", "`events_dir`")
    assert not missing.state_db.exists()


def test_an_output_folder_that_went_away(begun: Settings, expectation: Expectation) -> None:
    moved = begun.events_dir.rename(begun.events_dir.with_name("moved"))
    with pytest.raises(LedgerError, match=r"knows of events in an output folder.*`events_dir`"):
        sync(begun)
    assert not begun.events_dir.exists()
    moved.rename(begun.events_dir)
    assert sync(begun).ok
    assert_exact(begun, expectation)


def test_a_damaged_marker(begun: Settings, expectation: Expectation) -> None:
    marker = begun.events_dir / ".ctrail"
    for content in (b"", b"{}", b"[1]", b'{"ledger": "', b"\xff\xfe"):
        marker.write_bytes(content)
        refusal(begun, LedgerError, str(marker), "damaged", "delete the file")
    marker.unlink()
    assert sync(begun).ok
    assert_exact(begun, expectation)


def test_a_marker_that_is_damaged_in_mid_run_stops_the_run_before_anything_is_staged(
    begun: Settings,
) -> None:
    steps: list[str] = []

    def damage(step: str) -> None:
        steps.append(step)
        if step == "registered":
            (begun.events_dir / ".ctrail").write_bytes(b"{}")

    with pytest.raises(LedgerError, match="is damaged"):
        sync(begun, observe=damage)
    assert steps == ["registered"]


# --- a ledger that is locked for long ---------------------------------------------------------


def locked(ledger: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(ledger, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_a_ledger_that_is_locked_for_long(
    begun: Settings, expectation: Expectation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_errors, "BUSY_SECONDS", 0.2)
    connection = locked(begun.state_db)
    refusal(begun, LedgerError, str(begun.state_db), "locked", "try again when it is done")
    connection.close()
    assert sync(begun).ok
    assert_exact(begun, expectation)


@pytest.mark.parametrize(
    "step", ["staged", "committed", *thorough("registered", "linked", "published")]
)
def test_a_ledger_that_is_locked_in_the_middle_of_a_run(
    settings: Settings, expectation: Expectation, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(sqlite_errors, "BUSY_SECONDS", 0.1)
    connections: list[sqlite3.Connection] = []

    def lock(present: str) -> None:
        if present == step and not connections:
            connections.append(locked(settings.state_db))

    with pytest.raises(LedgerError, match="try again when it is done"):
        sync(settings, observe=lock)
    connections[0].close()
    assert sync(settings).ok
    assert_exact(settings, expectation)


# --- files that are not ours ------------------------------------------------------------------


def test_an_output_folder_with_files_of_others(
    settings: Settings, expectation: Expectation
) -> None:
    settings.events_dir.mkdir(parents=True, mode=0o700)
    foreign = settings.events_dir / "holiday.jpg"
    foreign.write_bytes(b"not ours")
    refusal(settings, LedgerError, str(settings.events_dir), "another folder", "`events_dir`")
    assert not settings.state_db.exists()
    foreign.unlink()
    assert sync(settings).ok
    assert_exact(settings, expectation)


def test_a_file_of_others_under_a_name_that_we_want(
    settings: Settings, expectation: Expectation
) -> None:
    """The foreign file stays as it is, and our file gets the next number."""
    folders = sorted({next(iter(expected.folders)) for expected in expectation.lines.values()})
    assert sync(settings, Selection(partitions=["5*/*"])).ok
    foreign = []
    for folder in folders[:20]:
        path = settings.events_dir / folder / "events_00001.jsonl"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.write_bytes(b"not ours\n")
            foreign.append(path)
    assert len(foreign) > 10
    assert sync(settings).ok
    for path in foreign:
        assert path.read_bytes() == b"not ours\n"
        path.unlink()
    for path in [settings.events_dir, *settings.events_dir.glob("**/*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert_exact(settings, expectation)


def test_a_file_where_the_output_folder_should_be(settings: Settings) -> None:
    settings.events_dir.parent.mkdir(parents=True)
    settings.events_dir.write_bytes(b"a file")
    with pytest.raises(LedgerError, match=r"is no folder: name one in `events_dir`"):
        sync(settings)


def test_a_file_where_a_folder_of_the_output_should_be(
    begun: Settings, expectation: Expectation
) -> None:
    in_the_way = begun.events_dir / "333344445555"
    in_the_way.write_bytes(b"a file")
    with pytest.raises(OutputError, match=r"is in the way: a folder must be there"):
        sync(begun)
    assert_nothing_unfinished(begun)
    in_the_way.unlink()
    assert sync(begun).ok
    assert_exact(begun, expectation)
