"""From listed log files to their uncompressed bytes: many GETs at once, results in order.

Every failure becomes a result, so that it costs its log file only; a request that may pass was
already tried again in `store`. Bounded: what is on its way or waits to be taken is limited in
number and in (estimated) uncompressed bytes.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Final

from .daemon_threads import DaemonThreads
from .decompress import Decompressed, decompress
from .exceptions import (
    CredentialsError,
    ObjectArchived,
    ObjectChanged,
    ObjectGone,
    StoreError,
    StoreUnavailable,
)
from .ledger import LogFileState
from .listing import LogFileRef
from .settings import Settings
from .store import Fetched

_KEYS_A_TASK: Final = 8
"""Keys that one thread fetches for one future; a future costs about 40 µs."""
_EXPANSION: Final = 10
"""Estimate of uncompressed bytes by stored ones (gzip ratios of real log files: 5.6–8.6)."""
_BYTES_AHEAD: Final = 96 * 1024 * 1024
_TICK_SECONDS: Final = 0.2
"""How long to wait for a result before the caller gets a chance to look at the time."""


@dataclass(frozen=True, slots=True)
class FetchedLogFile:
    """What came of fetching one log file: its content, or a state and a reason."""

    ref: LogFileRef
    etag: bytes
    size: int
    retries: int
    content: Decompressed | None
    state: LogFileState = LogFileState.COMMITTED
    reason: str | None = None
    may_pass: bool = False
    """Whether a failure may pass by itself (throttling, a network): worth another try soon."""
    is_unread: bool = False
    """Whether it stays as it is, since not the log file but the credentials failed."""


def fetch_log_file(ref: LogFileRef, limit: int) -> FetchedLogFile:
    """GET and gunzip one log file; never raises for what may be wrong with it.

    A damaged or short body is fetched a second time at once: damage in transit keeps the etag.
    A short one may look sound, where the cut falls between two gzip members.
    """
    if ref.archived:
        return _failed(ref, LogFileState.ARCHIVED, "archived: restore it, then sync again")
    try:
        fetched = _get(ref)
        content = decompress(fetched.body, limit)
        if content.damage is not None or _is_short(ref, fetched):
            again = _get(ref)
            if again.body != fetched.body:
                content = decompress(again.body, limit)
            fetched = again._replace(retries=fetched.retries + again.retries + 1)
        if _is_short(ref, fetched):
            where = f"{ref.source.bucket.location}/{ref.key}"
            reason = f"{where} was cut short twice: {len(fetched.body)} of {ref.size} bytes arrived"
            return _failed(ref, LogFileState.FAILED, reason)
    except ObjectGone as error:
        return _failed(ref, LogFileState.GONE, str(error))
    except ObjectArchived as error:
        return _failed(ref, LogFileState.ARCHIVED, str(error))
    except CredentialsError as error:
        return replace(_failed(ref, LogFileState.FAILED, str(error)), is_unread=True)
    except StoreError as error:
        failed = _failed(ref, LogFileState.FAILED, str(error))
        return replace(failed, may_pass=isinstance(error, StoreUnavailable))
    return FetchedLogFile(ref, fetched.etag, len(fetched.body), fetched.retries, content)


class Feed:
    """Log files from a listing, fetched ahead of whoever takes them.

    The listing runs in a thread of its own; iterate over `results` in the thread that processes.
    """

    def __init__(self, listing: Iterator[list[LogFileRef]], settings: Settings) -> None:
        self._settings = settings
        self._listed: Queue[list[LogFileRef] | BaseException | None] = Queue(maxsize=8)
        self._closed = Event()
        self._listing_done = False
        self._ready: deque[LogFileRef] = deque()
        self._tasks: deque[tuple[Future[list[FetchedLogFile]], int, int]] = deque()
        self._ahead = 0
        self._bytes_ahead = 0
        self._threads = DaemonThreads(settings.download_workers, "ctrail-fetch")
        Thread(target=self._list, args=(listing,), name="ctrail-listing", daemon=True).start()

    @property
    def listing_done(self) -> bool:
        """Whether everything has been listed."""
        return self._listing_done

    def results(self) -> Iterator[FetchedLogFile | None]:
        """Fetched log files in listing order; None now and then, when nothing came for a while.

        Raises what the listing raised.
        """
        while True:
            self._take_listed(wait=not self._tasks and not self._ready)
            self._start_tasks()
            if self._tasks:
                task, log_files, size = self._tasks[0]
                try:
                    fetched = task.result(timeout=_TICK_SECONDS)
                except TimeoutError:
                    yield None
                    continue
                self._tasks.popleft()
                self._ahead -= log_files
                self._bytes_ahead -= size
                del task
                yield from fetched
            elif self._listing_done:
                return
            else:
                yield None

    def close(self) -> None:
        """Stop listing and fetching, without waiting for requests on their way."""
        self._closed.set()
        self._threads.close()

    def _list(self, listing: Iterator[list[LogFileRef]]) -> None:
        try:
            for refs in listing:
                if not self._put(refs):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that processes
            self._put(error)

    def _put(self, item: list[LogFileRef] | BaseException | None) -> bool:
        while not self._closed.is_set():
            try:
                self._listed.put(item, timeout=_TICK_SECONDS)
            except Full:
                continue
            return True
        return False

    def _take_listed(self, *, wait: bool) -> None:
        while not self._listing_done and len(self._ready) < self._most_ahead:
            try:
                item = self._listed.get(timeout=_TICK_SECONDS if wait else 0)
            except Empty:
                return
            wait = False
            if isinstance(item, BaseException):
                raise item
            if item is None:
                self._listing_done = True
            else:
                self._ready.extend(item)

    @property
    def _most_ahead(self) -> int:
        return 2 * _KEYS_A_TASK * self._settings.download_workers

    def _start_tasks(self) -> None:
        limit = self._settings.max_log_file_bytes
        keys = max(1, min(_KEYS_A_TASK, len(self._ready) // self._settings.download_workers))
        while self._ready and self._ahead < self._most_ahead:
            refs: list[LogFileRef] = []
            size = 0
            while self._ready and len(refs) < keys:
                expected = min(limit, self._ready[0].size * _EXPANSION)
                if (refs or self._tasks) and self._bytes_ahead + size + expected > _BYTES_AHEAD:
                    break
                size += expected
                refs.append(self._ready.popleft())
            if not refs:
                return
            task = self._threads.submit(_fetch_all, refs, limit, self._closed.is_set)
            self._tasks.append((task, len(refs), size))
            self._ahead += len(refs)
            self._bytes_ahead += size


def _fetch_all(
    refs: list[LogFileRef], limit: int, closed: Callable[[], bool]
) -> list[FetchedLogFile]:
    fetched = []
    for ref in refs:
        if closed():
            break
        fetched.append(fetch_log_file(ref, limit))
    return fetched


def _get(ref: LogFileRef) -> Fetched:
    """The version that was listed, or, if it was written again meanwhile, the present one."""
    bucket = ref.source.bucket
    if ref.etag is not None:
        try:
            return bucket.get(ref.key, ref.etag)
        except ObjectChanged:
            pass
    return bucket.get(ref.key, None)


def _is_short(ref: LogFileRef, fetched: Fetched) -> bool:
    """Whether fewer bytes came than the listing showed of this very version."""
    return fetched.etag == ref.etag and len(fetched.body) < ref.size


def _failed(ref: LogFileRef, state: LogFileState, reason: str) -> FetchedLogFile:
    etag = ref.etag or (ref.expected.etag if ref.expected else b"")
    return FetchedLogFile(ref, etag, ref.size, 0, None, state, reason)
