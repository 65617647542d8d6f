"""Files of the output are whole or absent, private, and never replace a foreign file."""

import base64
import errno
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Barrier, Event, Thread

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrail_pipeline.core.durable import disk_errors
from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.line_runs import pack_lineage, unpack_lineage
from ctrail_pipeline.core.log_file import mapped_text
from ctrail_pipeline.core.log_file.lines import EncodedLine
from ctrail_pipeline.core.matching_ledger import open_ledger
from ctrail_pipeline.core.output import new_files
from ctrail_pipeline.core.output.local.folders import OutputFolders
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output.local.staging import LocalStaging, remove_unlocked
from ctrail_pipeline.core.output.new_files import NewFile
from ctrail_pipeline.core.output_files import Kind, PublishedFile, StagedFile

HOUR = "111122223333/us-east-1/2024/01/02/03"
EVENTS = NewFile(Kind.EVENTS, HOUR, [b'{"a":1}', b'{"b":2}'], [(0, 1), (3, 1)])
QUARANTINE = NewFile(Kind.QUARANTINE, "2024/01/02", [b'{"reason":"x"}'], [(1, 1)])
MANY = NewFile(Kind.EVENTS, HOUR, [b"%d" % number for number in range(1000)], [(0, 1000)])


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[OutputFolders]:
    folders = OutputFolders(tmp_path / "out" / "events", tmp_path / "out" / "quarantine")
    yield folders
    folders.close()


@pytest.fixture
def staging(folders: OutputFolders) -> Iterator[LocalStaging]:
    staging = LocalStaging(folders, "token")
    staging.open()
    yield staging
    staging.close()


def numbered(staged: list[StagedFile]) -> list[PublishedFile]:
    return [
        PublishedFile(file.part, file.kind, file.folder, number, file.size)
        for number, file in enumerate(staged, start=1)
    ]


def no_rename(file: PublishedFile) -> PublishedFile:
    raise AssertionError(f"{file.name} was free")


def next_number(file: PublishedFile) -> PublishedFile:
    return file._replace(number=file.number + 1)


def publish(staging: LocalStaging, files: list[PublishedFile]) -> list[PublishedFile]:
    return staging.publish(files, no_rename, lambda _file: None)


def files_below(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".staging" not in path.parts
    }


# -- lineage ----------------------------------------------------------------------------------

NUMBERS = st.integers(0, 2**40)


@given(st.lists(st.tuples(NUMBERS, NUMBERS)))
def test_lineage_is_told_back(runs: list[tuple[int, int]]) -> None:
    assert unpack_lineage(pack_lineage(runs)) == runs


@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 127))))
def test_lineage_takes_two_bytes_for_a_small_run(runs: list[tuple[int, int]]) -> None:
    assert len(pack_lineage(runs)) == 2 * len(runs)


# -- staging and publishing -------------------------------------------------------------------


@pytest.mark.parametrize("held_as", [bytes, memoryview, msgspec.Raw])
def test_a_long_line_is_written_in_pieces(
    folders: OutputFolders,
    staging: LocalStaging,
    monkeypatch: pytest.MonkeyPatch,
    held_as: Callable[[bytes], bytes],
) -> None:
    monkeypatch.setattr(new_files, "LARGEST_JOIN", 1_000)
    data = os.urandom(mapped_text._PIECE + 1_000_001)
    long = EncodedLine(b'{"data": "', held_as(data), b'"}')
    [staged] = staging.write([NewFile(Kind.QUARANTINE, "f", [b"one", long, b"three"], [(0, 3)])])
    expected = b'one\n{"data": "' + base64.b64encode(data) + b'"}\nthree\n'
    path = folders.staging_of(Kind.QUARANTINE, "token") / f"{staged.part:05d}.part"
    assert path.read_bytes() == expected
    assert (staged.size, staged.sha256) == (len(expected), sha256(expected).digest())
    assert len(long) == len(expected) - len("one\n\nthree\n")


def test_staged_files_are_described_as_they_lie_there(
    folders: OutputFolders, staging: LocalStaging
) -> None:
    staged = staging.write([EVENTS, QUARANTINE, MANY])
    for file, new in zip(staged, [EVENTS, QUARANTINE, MANY], strict=True):
        content = b"".join(bytes(line) + b"\n" for line in new.lines)
        path = folders.staging_of(file.kind, "token") / f"{file.part:05d}.part"
        assert path.read_bytes() == content
        assert file == StagedFile(
            file.part,
            new.kind,
            new.folder,
            len(new.lines),
            len(content),
            sha256(content).digest(),
            pack_lineage(new.lineage),
        )


def test_nothing_has_a_final_name_before_it_is_published(
    folders: OutputFolders, staging: LocalStaging
) -> None:
    staged = staging.write([EVENTS, QUARANTINE])
    events, quarantine = folders.roots[Kind.EVENTS], folders.roots[Kind.QUARANTINE]
    assert files_below(events) == files_below(quarantine) == {}
    told: list[PublishedFile] = []
    assert staging.publish(numbered(staged), no_rename, told.append) == []
    assert told == numbered(staged)
    assert files_below(events) == {f"{HOUR}/events_00001.jsonl": b'{"a":1}\n{"b":2}\n'}
    assert files_below(quarantine) == {"2024/01/02/quarantine_00002.jsonl": b'{"reason":"x"}\n'}
    staging.remove()
    assert not (events / ".staging" / "token").exists()
    assert not (quarantine / ".staging" / "token").exists()
    assert len(files_below(events)) == 1


def test_publishing_twice_changes_nothing(folders: OutputFolders, staging: LocalStaging) -> None:
    files = numbered(staging.write([EVENTS, MANY]))
    publish(staging, files)
    before = files_below(folders.roots[Kind.EVENTS])
    assert publish(staging, files) == []
    staging.remove()
    assert publish(staging, files) == []
    assert files_below(folders.roots[Kind.EVENTS]) == before


def test_two_that_publish_at_once_give_each_file_one_name(
    folders: OutputFolders, staging: LocalStaging
) -> None:
    files = numbered(staging.write([EVENTS, QUARANTINE] + [MANY] * 30))
    begin = Barrier(2)
    vanished: list[list[PublishedFile]] = []

    def publish_all() -> None:
        begin.wait()
        vanished.append(publish(LocalStaging(folders, "token"), files))

    threads = [Thread(target=publish_all) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert vanished == [[], []]
    assert len(files_below(folders.roots[Kind.EVENTS])) == 31
    assert all(folders.path_of(file).exists() for file in files)


@pytest.mark.parametrize("foreign", ["file", "link", "dangling link", "folder"])
def test_a_foreign_file_in_the_way_is_untouched_and_ours_gets_another_number(
    folders: OutputFolders, staging: LocalStaging, foreign: str
) -> None:
    [file] = numbered(staging.write([EVENTS]))
    final = folders.path_of(file)
    elsewhere = final.parent.parent / "elsewhere"
    if foreign == "file":
        final.write_bytes(b"theirs")
    elif foreign == "folder":
        final.mkdir()
    else:
        final.symlink_to(elsewhere)
        if foreign == "link":
            elsewhere.write_bytes(b"theirs")
    before = final.lstat()
    told: list[PublishedFile] = []
    assert staging.publish([file], next_number, told.append) == []
    assert told == [file._replace(number=2)]
    assert final.lstat().st_ino == before.st_ino
    assert final.with_name("events_00002.jsonl").read_bytes() == b'{"a":1}\n{"b":2}\n'
    if foreign in ("file", "link"):
        assert final.read_bytes() == b"theirs"
    else:
        assert not elsewhere.exists()


def test_a_part_that_vanished_is_reported_and_the_others_are_published(
    folders: OutputFolders, staging: LocalStaging
) -> None:
    files = numbered(staging.write([EVENTS, QUARANTINE, MANY]))
    (folders.staging_of(Kind.EVENTS, "token") / "00000.part").unlink()
    assert publish(staging, files) == [files[0]]
    assert [folders.path_of(file).exists() for file in files] == [False, True, True]


def test_a_destination_that_was_removed_is_made_again(
    folders: OutputFolders, staging: LocalStaging
) -> None:
    files = numbered(staging.write([EVENTS]))
    parent = folders.path_of(files[0]).parent
    parent.rmdir()
    parent.parent.rmdir()
    assert publish(staging, files) == []
    assert folders.path_of(files[0]).exists()


def test_a_link_planted_at_a_parts_name_is_not_followed(
    folders: OutputFolders, staging: LocalStaging, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (folders.staging_of(Kind.EVENTS, "token") / "00000.part").symlink_to(victim)
    with pytest.raises(OutputError, match=r"00000\.part"):
        staging.write([EVENTS])
    assert victim.read_bytes() == b"precious"


def test_a_file_where_a_folder_must_be_is_an_error_that_names_it(
    folders: OutputFolders, staging: LocalStaging
) -> None:
    in_the_way = folders.roots[Kind.EVENTS] / "111122223333"
    in_the_way.write_bytes(b"theirs")
    with pytest.raises(OutputError, match="111122223333"):
        staging.write([EVENTS])
    assert in_the_way.read_bytes() == b"theirs"


# -- who may read it --------------------------------------------------------------------------


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_files_are_0600_and_folders_0700_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    folders = OutputFolders(tmp_path / "deep" / "er" / "events", tmp_path / "deep" / "quarantine")
    with umask(mask):
        staging = LocalStaging(folders, "token")
        staging.open()
        files = numbered(staging.write([EVENTS, QUARANTINE]))
        modes = modes_below(tmp_path)
        publish(staging, files)
        modes |= modes_below(tmp_path)
        staging.close()
    folders.close()
    assert modes == {("file", 0o600), ("folder", 0o700)}


def modes_below(root: Path) -> set[tuple[str, int]]:
    return {
        ("folder" if path.is_dir() else "file", stat.S_IMODE(path.stat().st_mode))
        for path in root.rglob("*")
    }


# -- who holds a batch ------------------------------------------------------------------------


def test_a_batch_is_held_from_open_to_remove(folders: OutputFolders, staging: LocalStaging) -> None:
    assert LocalStaging(folders, "token").owner_lives() is True
    staging.remove()
    assert LocalStaging(folders, "token").owner_lives() is None


def test_only_one_takes_over_a_batch_that_nobody_holds(
    folders: OutputFolders, staging: LocalStaging
) -> None:
    staging.close()
    first, second = LocalStaging(folders, "token"), LocalStaging(folders, "token")
    assert first.owner_lives() is False
    assert second.owner_lives() is True
    first.close()
    assert second.owner_lives() is False
    second.close()


# -- the disk ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "the disk is full: free some space, then run again; nothing is lost"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "check `events_dir`, `quarantine_dir`, `parquet_dir` and permissions"),
        (errno.EROFS, "it cannot be written"),
        (errno.EXDEV, "on another device than its root"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_errors_of_the_disk_say_where_and_what_to_do(
    tmp_path: Path, number: int, advice: str
) -> None:
    with pytest.raises(OutputError, match=advice) as caught, disk_errors(tmp_path):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(str(tmp_path))


def test_other_errors_pass_the_disk_by(tmp_path: Path) -> None:
    with pytest.raises(KeyError), disk_errors(tmp_path):
        raise KeyError


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("no small file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_said_and_leaves_nothing_under_a_final_name(small_disk: Path) -> None:
    folders = OutputFolders(small_disk / "events", small_disk / "quarantine")
    staging = LocalStaging(folders, "token")
    staging.open()
    large = NewFile(Kind.EVENTS, HOUR, [b"x" * 1000] * 200, [(0, 200)])
    with pytest.raises(OutputError, match="the disk is full: free some space, then run again"):
        staging.write([EVENTS, large])
    staging.remove()
    folders.close()
    assert files_below(small_disk) == {}
    assert list((small_disk / "events" / ".staging").iterdir()) == []


def test_a_file_of_another_size_at_the_final_name_is_not_taken_for_ours(
    staging: LocalStaging, folders: OutputFolders
) -> None:
    [published] = numbered(staging.write([EVENTS]))
    (folders.staging_of(Kind.EVENTS, "token") / "00000.part").unlink()
    folders.path_of(published).write_bytes(b"theirs")
    assert publish(staging, [published]) == [published]
    assert folders.path_of(published).read_bytes() == b"theirs"


def test_a_link_planted_for_the_staging_folder_is_refused(
    folders: OutputFolders, tmp_path: Path
) -> None:
    quarantine = folders.roots[Kind.QUARANTINE]
    quarantine.mkdir(parents=True, exist_ok=True)
    (quarantine / ".staging").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="is a link"):
        LocalStaging(folders, "other").open()


def test_a_folder_that_is_open_to_others_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = LocalOutput(tmp_path / "open", tmp_path / "quarantine")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    for _ in range(2):
        open_ledger(tmp_path / "ledger.db", output).close()
    output.close()
    assert "is open to other users (mode 755)" in caplog.text


def test_a_staging_folder_may_be_locked_while_others_look_for_unlocked_ones(tmp_path: Path) -> None:
    """The name changes with the lock, between a look at the names and one at the folder."""
    done = Event()

    def owner() -> None:
        while not done.is_set():
            (tmp_path / ".token").mkdir()
            (tmp_path / ".token").rename(tmp_path / "token")
            (tmp_path / "token").rmdir()

    thread = Thread(target=owner)
    thread.start()
    try:
        for _ in range(3_000):
            remove_unlocked(tmp_path)
    finally:
        done.set()
        thread.join()
