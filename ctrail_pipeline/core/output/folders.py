"""The folders of the output: their roots, new folders, removal of published files.

Folders are private (mode 0700), and durable before anything is put into them. A folder that is
reached through a link is refused. What lies in a folder is not decided here: the ledger knows which
files there are, `staging` writes them, and `publishing` gives them their names.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Final, TypeVar

from ctrail_pipeline.core.durable import disk_errors, fsync_folder
from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.output_files import Kind, PublishedFile
from ctrail_pipeline.core.settings import Settings

from .new_files import FileToWrite
from .scatter import Scatter

STAGING: Final = ".staging"
UNLOCKED: Final = "."
"""Begins the name of a staging folder for the instant in which it is not locked yet."""
_PARQUET_FOLDER: Final = "parquet"
_TRIES_TO_MAKE: Final = 10
_WRITERS: Final = 8
"""Threads that write and fsync: 75 files take 11 ms, one by one 14 to 30."""
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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
        return {name for name in names if not name.startswith(UNLOCKED)}

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
