"""Files of the output (JSONL, Parquet) and of the quarantine: stage, publish, take back.

Private and durable.

A batch's files are written whole into a staging folder of its own and fsynced; publishing only
links them to their final names. So a reader never sees half a file under a final name, and nothing
that exists is ever overwritten. Which names, and whether a batch counts, is the ledger's to say.
"""

import fcntl
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from hashlib import sha256
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar

from ctrail_pipeline.core.durable import disk_errors, fsync_folder
from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.line_runs import pack_lineage
from ctrail_pipeline.core.log_file.long_lines import LARGEST_JOIN, LongLine
from ctrail_pipeline.core.log_file.mapped_text import pieces_of
from ctrail_pipeline.core.output_files import Kind, PublishedFile, StagedFile
from ctrail_pipeline.core.settings import Settings

STAGING: Final = ".staging"
_UNLOCKED: Final = "."
"""Begins the name of a staging folder for the instant in which it is not locked yet."""
_UNLOCKED_SECONDS: Final = 60
_LINES_A_WRITE: Final = 256
"""Measured: joins of about 256 records and one write; multi-MB joins are three times dearer."""
_TRIES_TO_MAKE: Final = 10
_WRITERS: Final = 8
"""Threads that write and fsync: 75 files take 11 ms, one by one 14 to 30."""


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


_PARQUET_FOLDER: Final = "parquet"


class NewFile(NamedTuple):
    """A file to be written."""

    kind: Kind
    folder: str
    """Relative to the kind's root; made of validated parts only."""
    lines: Sequence[bytes | LongLine]
    """Without their line feeds."""
    lineage: Sequence[tuple[int, int]]
    """Runs of lines: a log file's position in its batch, and how many lines in a row are its."""

    @property
    def line_count(self) -> int:
        """How many lines it has."""
        return len(self.lines)

    def write_to(self, put: Callable[[bytes | memoryview], None]) -> None:
        """Write its bytes, in pieces."""
        lines = iter(self.lines)
        while some := list(islice(lines, _LINES_A_WRITE)):
            if sum(map(len, some)) > LARGEST_JOIN:
                for line in some:
                    for piece in line.pieces() if isinstance(line, LongLine) else pieces_of(line):
                        put(piece)
                    put(b"\n")
            else:
                some.append(b"")
                put(b"\n".join(some))  # type: ignore[arg-type] # what is that short is bytes


class NewParquetFile(NamedTuple):
    """A Parquet file to be written. Its rows say themselves where they came from."""

    folder: str
    content: bytes
    line_count: int
    """Its rows."""
    kind: Kind = Kind.PARQUET
    lineage: Sequence[tuple[int, int]] = ()

    def write_to(self, put: Callable[[bytes | memoryview], None]) -> None:
        """Write its bytes."""
        put(self.content)


class FileToWrite(Protocol):
    """What `Staging.write` writes."""

    @property
    def kind(self) -> Kind:
        """Which folder it belongs under."""

    @property
    def folder(self) -> str:
        """Relative to the kind's root; made of validated parts only."""

    @property
    def line_count(self) -> int:
        """How many lines, or rows, it has."""

    @property
    def lineage(self) -> Sequence[Sequence[int]]:
        """As `pack_lineage` takes it."""

    def write_to(self, put: Callable[[bytes | memoryview], None]) -> None:
        """Write its bytes, in pieces; what `put` raises is raised."""


class OutputFolders:
    """The roots, and the folders below them that are known to be there."""

    def __init__(
        self, events_dir: Path, quarantine_dir: Path, parquet_dir: Path | None = None
    ) -> None:
        """`parquet_dir` is `parquet` beside `events_dir` if it is not given.

        It is there even if no Parquet is written: an earlier run may have left some to publish.
        """
        self.roots = {
            Kind.EVENTS: events_dir,
            Kind.QUARANTINE: quarantine_dir,
            Kind.PARQUET: parquet_dir or events_dir.parent / _PARQUET_FOLDER,
        }
        self.scatter = Scatter(events_dir)
        self._known: set[str] = set()
        self._writers: ThreadPoolExecutor | None = None

    @classmethod
    def of(cls, settings: Settings) -> "OutputFolders":
        """Those that are configured."""
        return cls(settings.events_dir, settings.quarantine_dir, settings.parquet_dir)

    def path_of(self, file: PublishedFile) -> Path:
        """Where a file has its final name."""
        return self.roots[file.kind] / file.folder / file.name

    def folder_of(self, file: "PublishedFile | FileToWrite") -> str:
        """The path of the folder in which a file has its final name.

        Text, here and where else each file of a batch has paths made: as `Path` objects, which
        are taken apart and put together again and again, they took a twentieth of a sync.
        """
        return f"{self.roots[file.kind]}/{file.folder}"

    def staging_of(self, kind: Kind, token: str) -> Path:
        """The staging folder of a batch under one root."""
        return self.roots[kind] / STAGING / token

    def staging_tokens(self) -> set[str]:
        """The batches that have staging folders here.

        By those under events only, which go last: the roots of quarantine and Parquet may be
        another ledger's too, whose batches may live, or be committed and wait to be published.
        """
        root = self.roots[Kind.EVENTS] / STAGING
        names = (path.name for path in (root.iterdir() if root.is_dir() else ()))
        return {name for name in names if not name.startswith(_UNLOCKED)}

    def make(self, *folders: Path | str) -> None:
        """Make folders with their parents, private, and durable before anything is put into them.

        All of them first, then each folder that got a new one is synced once, several at once:
        1,700 new hours took 8,600 fsyncs one by one, 35 of 43 s.

        Raises OutputError if one is, or lies behind, a link.
        """
        wanted = dict.fromkeys(os.fspath(folder) for folder in folders)
        new = [folder for folder in wanted if folder not in self._known]
        self.refuse_links(new)
        changed: dict[str, None] = {}
        for attempt in range(_TRIES_TO_MAKE):
            try:
                _make_missing(new, changed)
                break
            except FileNotFoundError:  # another run prunes: it removed a parent that was empty
                if attempt == _TRIES_TO_MAKE - 1:
                    raise
        if len(changed) == 1:
            _fsync_if_there(*changed)
        elif changed:
            self.in_threads(_fsync_if_there, changed)
        if len(self._known) > 50_000:
            self._known.clear()
        self._known.update(new)

    def refuse_links(self, folders: Iterable[Path | str]) -> None:
        """Raise OutputError if a folder below one of the roots is reached through a link.

        Whoever plants one would have us write, or remove, wherever it leads. The roots themselves,
        and what is above them, are their owner's to link as he likes.
        """
        looked_at = {os.fspath(root) for root in self.roots.values()}
        for folder in folders:
            at = os.fspath(folder)
            while at not in looked_at and at != (parent := os.path.dirname(at)):
                if os.path.islink(at):
                    raise OutputError(f"{at} is a link, which this program never makes: remove it")
                looked_at.add(at)
                at = parent

    def refuse_linked_staging(self) -> None:
        """The same of the folders that hold all staging folders."""
        self.refuse_links(root / STAGING for root in self.roots.values())

    def remove(self, files: Sequence[PublishedFile]) -> None:
        """Remove published files, durably, and the folders that are empty then. Safe to repeat."""
        with disk_errors(self.roots[Kind.EVENTS]):
            touched: dict[Path, Path] = {}
            self.refuse_links(map(self.folder_of, files))
            for file in files:
                path = self.path_of(file)
                path.unlink(missing_ok=True)
                touched[path.parent] = self.roots[file.kind]
            for folder, root in touched.items():
                with suppress(FileNotFoundError):
                    fsync_folder(folder)
                at = folder
                while at != root:
                    try:
                        at.rmdir()
                    except OSError:  # not empty, or another run was faster
                        break
                    self.forget(at)
                    at = at.parent

    def forget(self, folder: Path | str) -> None:
        """The folder is gone, or may be."""
        self._known.discard(os.fspath(folder))

    def in_threads(self, work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Do something to each item, several at once; the results in the order of the items.

        An error is raised when nothing is at work any more. One task a thread, not one an item, of
        which each would make a lock and wake a thread.
        """
        if self._writers is None:
            self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="ctrail-write")
        waiting = deque(enumerate(items))
        done: list[tuple[int, _Result]] = []

        def work_off() -> None:
            while True:
                try:
                    number, item = waiting.popleft()
                except IndexError:
                    return
                try:
                    done.append((number, work(item)))
                except BaseException:
                    waiting.clear()
                    raise

        tasks = [self._writers.submit(work_off) for _ in range(min(_WRITERS, len(waiting)))]
        wait(tasks)
        for task in tasks:
            task.result()
        return [result for _, result in sorted(done, key=itemgetter(0))]

    def close(self) -> None:
        """End the writing threads."""
        if self._writers is not None:
            self._writers.shutdown()
            self._writers = None


class Scatter:
    """The new event folders that log files of unusually many hours make, in one run and process."""

    def __init__(self, events_dir: Path) -> None:
        self._events_dir = events_dir
        self._new: set[str] = set()

    def allows(self, folder: str, most_new: int) -> bool:
        """Whether one more may be made; what is there already, or was allowed before, may."""
        if folder in self._new or (self._events_dir / folder).is_dir():
            return True
        if len(self._new) >= most_new:
            return False
        self._new.add(folder)
        return True


class Staging:
    """The staging folders of one batch. Its lock tells others that the batch's owner lives."""

    def __init__(self, folders: OutputFolders, token: str) -> None:
        self._folders = folders
        self._token = token
        self._lock: int | None = None

    @property
    def scatter(self) -> Scatter:
        """What scattered log files have made so far."""
        return self._folders.scatter

    def open(self) -> None:
        """Make the staging folder and lock it.

        It gets its name when it is locked already, so that no other run's recovery, finding it
        unlocked, takes its owner for dead.
        """
        self._folders.refuse_linked_staging()
        folder = self._folders.staging_of(Kind.EVENTS, self._token)
        unlocked = self._unlocked
        with disk_errors(folder):
            self._folders.make(folder.parent)
            unlocked.mkdir(mode=0o700)
            self._lock = os.open(unlocked, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(folder)

    def write(
        self, files: Sequence[FileToWrite], *, first_part: int = 0, make_folders: bool = True
    ) -> list[StagedFile]:
        """Write files into the staging folders, durable when this returns.

        Parts are numbered from `first_part` on. Their destination folders are made too, so that
        publishing only needs to link. Raises OutputError; then the batch must be discarded, not
        written again over the same files.
        """
        with disk_errors(self._folders.roots[Kind.EVENTS]):
            kinds = {file.kind for file in files}
            parents = {self._folders.staging_of(kind, self._token) for kind in kinds}
            destinations = map(self._folders.folder_of, files) if make_folders else ()
            self._folders.make(*destinations, *parents)
            staged = self._folders.in_threads(self._write_one, enumerate(files, first_part))
            for parent in parents:
                fsync_folder(parent)
                fsync_folder(parent.parent)
        return staged

    def publish(
        self,
        files: Sequence[PublishedFile],
        rename: Callable[[PublishedFile], PublishedFile],
        linked: Callable[[PublishedFile], None],
    ) -> list[PublishedFile]:
        """Give files their final names. Safe to repeat, and to do twice at once.

        `rename` gives another number where a foreign file has the name; `linked` is told of each
        file. Returns the files of which neither part nor final name is there: they are lost.
        """
        vanished = []
        touched = set()
        with disk_errors(self._folders.roots[Kind.EVENTS]):
            self._folders.refuse_links(map(self._folders.folder_of, files))
            for file in files:
                placed = self._link(file, rename)
                if placed is None:
                    vanished.append(file)
                else:
                    touched.add(self._folders.folder_of(placed))
                    linked(placed)
            self._folders.in_threads(fsync_folder, sorted(touched))
        return vanished

    def remove(self) -> None:
        """Remove the staging folders and whatever is in them, and let go of the lock.

        The one that is locked goes last: as long as there is a part, only one can publish it.
        """
        for kind in reversed(Kind):
            folder = self._folders.staging_of(kind, self._token)
            shutil.rmtree(folder, ignore_errors=True)
            self._folders.forget(folder)
        shutil.rmtree(self._unlocked, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def owner_lives(self) -> bool | None:
        """Whether another process holds the batch; None if its folder is not there.

        Where none does, we hold it from now on: no two recover one batch at once.
        """
        folder = self._folders.staging_of(Kind.EVENTS, self._token)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return True
        self._lock = descriptor
        return False

    @property
    def _unlocked(self) -> Path:
        """The name that the folder has before it is locked."""
        return self._folders.staging_of(Kind.EVENTS, f"{_UNLOCKED}{self._token}")

    def _part(self, kind: Kind, part: int) -> str:
        return f"{self._folders.roots[kind]}/{STAGING}/{self._token}/{part:05d}.part"

    def _write_one(self, item: tuple[int, FileToWrite]) -> StagedFile:
        part, file = item
        digest = sha256()
        size = 0
        descriptor = os.open(
            self._part(file.kind, part),
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW,
            0o600,
        )

        def put(block: bytes | memoryview) -> None:
            nonlocal size
            digest.update(block)
            size += len(block)
            _write_all(descriptor, block)

        try:
            file.write_to(put)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return StagedFile(
            part,
            file.kind,
            file.folder,
            file.line_count,
            size,
            digest.digest(),
            pack_lineage(file.lineage),
        )

    def _link(
        self, file: PublishedFile, rename: Callable[[PublishedFile], PublishedFile]
    ) -> PublishedFile | None:
        """Link one part to its final name; None if there is nothing left to link."""
        part = self._part(file.kind, file.part)
        while True:
            folder = self._folders.folder_of(file)
            final = f"{folder}/{file.name}"
            try:
                os.link(part, final, follow_symlinks=False)
                return file
            except FileNotFoundError:
                if not os.path.exists(part):
                    return file if _has_size(final, file.size) else None
                self._folders.forget(folder)
                self._folders.make(folder)  # somebody removed the folder meanwhile
            except FileExistsError:
                if _same_file(part, final):
                    return file
                if os.path.exists(part):  # else another recovery has published it: look again
                    file = rename(file)


def _fsync_if_there(folder: str) -> None:
    """One that another run pruned meanwhile is made again when something is linked into it."""
    with suppress(FileNotFoundError):
        fsync_folder(folder)


def _make_missing(folders: Iterable[str], changed: dict[str, None]) -> None:
    """Make what is not there; each folder that gets a new one is noted in `changed`."""
    for folder in folders:
        missing = []
        at = folder
        while not os.path.isdir(at):
            missing.append(at)
            at = os.path.dirname(at)
        for path in reversed(missing):
            try:
                os.mkdir(path, mode=0o700)
            except FileExistsError:
                if not os.path.isdir(path):
                    raise OutputError(f"{path} is in the way: a folder must be there") from None
            changed[os.path.dirname(path)] = None


def remove_unlocked(staging_root: Path) -> None:
    """Remove staging folders whose owner died in the instant before they were locked."""
    for folder in staging_root.glob(f"{_UNLOCKED}*"):
        with suppress(FileNotFoundError):  # its owner lives, and has locked it just now
            if time.time() - folder.lstat().st_mtime > _UNLOCKED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _write_all(descriptor: int, block: bytes | memoryview) -> None:
    written = os.write(descriptor, block)
    while written < len(block):
        written += os.write(descriptor, memoryview(block)[written:])


def _has_size(path: str, size: int) -> bool:
    """Whether a file is there, and is ours as far as its size tells."""
    try:
        return os.lstat(path).st_size == size
    except FileNotFoundError:
        return False


def _same_file(first: str, second: str) -> bool:
    try:
        return os.path.samestat(os.lstat(first), os.lstat(second))
    except FileNotFoundError:
        return False
