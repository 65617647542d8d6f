"""From listed log files to their uncompressed bytes: many GETs at once, results in order.

Threads fetch; large log files they gunzip too, small ones whoever takes them.

Every failure becomes a result, so that it costs its log file only; a request that may pass was
already tried again in `s3_retry`. Bounded: what is on its way or waits to be taken is limited in
number and in bytes, whatever the log files hold.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from queue import Empty, Full, Queue, SimpleQueue
from threading import Condition, Event, Thread
from typing import Final, NamedTuple, cast

from ctrail_pipeline.core.bucket.interface import Fetched
from ctrail_pipeline.core.bucket.open_bucket import get_all
from ctrail_pipeline.core.exceptions import (
    CredentialsError,
    ObjectArchived,
    ObjectChanged,
    ObjectGone,
    StoreError,
    StoreUnavailable,
)
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.listing.walk import LogFileRef
from ctrail_pipeline.core.log_file.gunzip import (
    Decompressed,
    decompress,
    decompress_to_file,
    is_over,
    too_large_stored,
)
from ctrail_pipeline.core.log_file.streaming import (
    IN_HAND,
    STREAMED_FROM,
    StreamedLogFile,
    is_to_be_streamed,
    stream,
)
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.threads import DaemonThreads

from .cost import cost_of

KEYS_A_TASK: Final = 32
"""Small log files that a thread asks for at once. To hand over results one by one costs about 40 µs
each; a sync with 32 took 0.92 of the CPU of one with 8."""
_SHARED_BY: Final = 4
"""Threads that few log files are shared out to, which gunzip them side by side."""
AHEAD: Final = 16
"""Small log files that are begun and not taken, for each GET in flight."""
_SMALL_BYTES: Final = 16 * 1024
"""Stored bytes up to which a log file is gunzipped by whoever takes it. A fetching thread would
have to come by Python's lock twice for each, while the thread that splits wants it, too. Measured,
many small log files: 0.03 to 0.1 less CPU, a tenth less memory."""
_EXPANSION: Final = 12
"""Estimate of uncompressed bytes by stored ones (gzip ratios of real log files: 5.6–8.6)."""
_LEAST_EXPECTED: Final = 16 * 1024
"""Uncompressed bytes that are expected of the smallest log file."""
BYTES_AHEAD: Final = 64 * 1024 * 1024
"""Bytes that are held at most by log files on their way, the next one to be taken apart."""
_TICK_SECONDS: Final = 0.2
"""How long to wait for a result before the caller gets a chance to look at the time."""


@dataclass(frozen=True, slots=True)
class FetchedLogFile:
    """What came of fetching one log file: its content, or a state and a reason."""

    ref: LogFileRef
    etag: bytes
    size: int
    retries: int
    content: Decompressed | StreamedLogFile | None
    state: LogFileState = LogFileState.COMMITTED
    reason: str | None = None
    may_pass: bool = False
    """Whether a failure may pass by itself (throttling, a network): worth another try soon."""
    is_unread: bool = False
    """Whether it stays as it is, since not the log file but the credentials failed."""

    @property
    def held(self) -> int:
        """Bytes of memory that it takes."""
        return self.content.held if self.content else 0


class _Closed(Exception):
    """The run ends; what is fetched is of no use any more."""


class Room:
    """The bytes that log files on their way may hold, and which of them must wait.

    What is next to be taken never waits: others wait for it, and it for nobody.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._next = 0
        self._closed = False
        self._changed = Condition()

    def try_take(self, turn: int, size: int) -> bool:
        """Take room for the log file whose turn it is as the `turn`-th; False if there is none."""
        with self._changed:
            return self._try_take(turn, size)

    def take(self, turn: int, size: int) -> None:
        """Take room, once there is some or it is this log file's turn.

        Raises _Closed if nobody wants it any more.
        """
        with self._changed:
            while not self._try_take(turn, size):
                if self._closed:
                    raise _Closed
                self._changed.wait()

    def give_back(self, size: int) -> None:
        """Give room back."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def taken(self, turn: int, size: int) -> None:
        """A log file was taken and let go of: the next one's turn."""
        with self._changed:
            self._held -= size
            self._next = turn + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Those who wait are to give up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _try_take(self, turn: int, size: int) -> bool:
        if turn > self._next and self._held + size > self._limit:
            return False
        self._held += size
        return True


class _Share:
    """One log file's part of the room."""

    def __init__(self, room: Room, turn: int, hand_over: Callable[[], None]) -> None:
        self._room = room
        self._turn = turn
        self._hand_over = hand_over
        self.held = 0

    def grow_to(self, size: int) -> None:
        """Hold `size` bytes before they are there, waiting for room if need be."""
        more = size - self.held
        if more > 0 and not self._room.try_take(self._turn, more):
            # Those that were fetched before may be what everybody waits for.
            self._hand_over()
            self._room.take(self._turn, more)
        elif more < 0:
            self._room.give_back(-more)
        self.held = size

    def try_grow_to(self, size: int) -> bool:
        """Hold `size` bytes if there is room for them now."""
        if not self._room.try_take(self._turn, size - self.held):
            return False
        self.held = size
        return True


def fetch_log_file(
    ref: LogFileRef,
    settings: Settings,
    share: _Share | None = None,
    *,
    came: Fetched | StoreError | None = None,
) -> FetchedLogFile:
    """GET and gunzip one log file; never raises for what may be wrong with it.

    `came`: what a first GET has brought already, among others'.

    A damaged or short body is fetched a second time at once: damage in transit keeps the etag.
    A short one may look sound, where the cut falls between two gzip members.
    """
    share = share or _Share(Room(0), 0, lambda: None)
    if ref.archived:
        return _failed(ref, LogFileState.ARCHIVED, "archived: restore it, then sync again")
    if ref.size > settings.max_stored_bytes:
        too_large = too_large_stored(ref.size, settings.max_stored_bytes)
        return FetchedLogFile(ref, _known_etag(ref), ref.size, 0, too_large)
    try:
        share.grow_to(_first_size(ref, settings))
        fetched = _get(ref, came)
        del came  # the body is not held longer than it is needed
        content = _decompress(fetched.body, settings, share)
        if content.damage is not None or _is_short(ref, fetched):
            again = _get(ref)
            if again.body != fetched.body:
                del content  # before there are two of them
                content = _decompress(again.body, settings, share)
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


class _Came(NamedTuple):
    """A small log file as it came, still compressed."""

    ref: LogFileRef
    fetched: Fetched

    @property
    def held(self) -> int:
        """Bytes of memory that it takes, until it is unpacked: at most KEYS_A_TASK are at once."""
        return len(self.fetched.body)

    def unpack(self, settings: Settings) -> FetchedLogFile | None:
        """The log file; None if it may be damaged, or large: `fetch_log_file` does it then."""
        body = self.fetched.body
        if _is_short(self.ref, self.fetched) or is_to_be_streamed(body):
            return None
        most = min(settings.max_log_file_bytes, STREAMED_FROM, _expected(len(body)))
        content = decompress(body, most, hashed=settings.hash_log_files)
        if content.damage is not None:
            return None
        return FetchedLogFile(self.ref, self.fetched.etag, len(body), self.fetched.retries, content)


def _decompress(body: bytes, settings: Settings, share: _Share) -> Decompressed | StreamedLogFile:
    """Inflate as far as is to be expected; a bomb's size is taken into account before it is there.

    What expands to more than expected is inflated anew, which costs it up to a half more time; and
    what neither can be read in parts nor is small enough to be held, once more, into a file.
    """
    limit, hashed = settings.max_log_file_bytes, settings.hash_log_files
    if is_to_be_streamed(body):
        share.grow_to(len(body) + IN_HAND)
        streamed = stream(body, limit, hashed=hashed)
        if streamed is not None:
            return streamed
    held = min(limit, STREAMED_FROM)
    expected = _expected(len(body))
    for most in (expected, held) if expected < held else (held,):
        if len(body) + most > share.held:
            share.grow_to(len(body) + most)
        content = decompress(body, most, hashed=hashed)
        if most == limit or not is_over(content, most):
            return content
    share.grow_to(len(body) + IN_HAND)
    return decompress_to_file(body, limit, settings.state_db.parent, hashed=hashed)


def _first_size(ref: LogFileRef, settings: Settings) -> int:
    """Bytes that a log file will hold, as far as they are known before it comes."""
    if ref.size > settings.max_stored_bytes:
        return 0  # it is not fetched
    return ref.size + min(_expected(ref.size), STREAMED_FROM)


def _expected(stored: int) -> int:
    return max(_LEAST_EXPECTED, _EXPANSION * stored)


class _Task:
    """Log files that one thread asks for together, and what it has handed over of them."""

    def __init__(self, turn: int, refs: list[LogFileRef], came: Fetched | None = None) -> None:
        """`came`: what was fetched of the only one, which cannot be used as it is."""
        self.turn = turn
        """Which log file of the run its first one is."""
        self.refs = refs
        self._came = came
        self.left = len(refs)
        self.results: SimpleQueue[list[_Result] | BaseException] = SimpleQueue()
        """Fetched log files, each with the bytes it holds; or what went wrong with us."""

    def run(self, settings: Settings, room: Room, closed: Callable[[], bool]) -> None:
        """Fetch them, in a thread."""
        fetched: list[_Result] = []

        def hand_over() -> None:
            nonlocal fetched
            if fetched:
                self.results.put(fetched)
                fetched = []

        try:
            left = list(enumerate(self.refs, self.turn))
            while left and not closed():
                some = self._with_room(left, settings, room, hand_over)
                del left[: len(some)]
                if self._came is not None:
                    came: list[Fetched | StoreError | None] = [self._came]
                else:
                    came = _get_all([ref for ref, _ in some], settings)
                came.reverse()
                for ref, share in some:
                    one: FetchedLogFile | _Came
                    if self._came is None and _is_small(came[-1]):
                        one = _Came(ref, cast("Fetched", came.pop()))
                    else:
                        one = fetch_log_file(ref, settings, share, came=came.pop())
                    share.grow_to(one.held)
                    fetched.append((one, share.held))
            hand_over()
        except _Closed:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that processes
            self.results.put(error)

    def _with_room(
        self,
        left: Sequence[tuple[int, LogFileRef]],
        settings: Settings,
        room: Room,
        hand_over: Callable[[], None],
    ) -> list[tuple[LogFileRef, _Share]]:
        """The next log files that there is room for, at least one; only that one waits for it.

        Else those that are held here already could wait for others, and those for these.
        """
        some: list[tuple[LogFileRef, _Share]] = []
        for turn, ref in left:
            share, size = _Share(room, turn, hand_over), _first_size(ref, settings)
            if not some:
                share.grow_to(size)
            elif not share.try_grow_to(size):
                break
            some.append((ref, share))
        return some


_Result = tuple[FetchedLogFile | _Came, int]
"""What came of a log file, and the bytes that it holds."""


class ListedAhead:
    """A listing that runs ahead in a thread of its own."""

    def __init__(self, listing: Iterator[list[LogFileRef]], lists: int = 32) -> None:
        """Hold at most `lists` lists that nobody took yet; 0: any number."""
        self._lists: Queue[list[LogFileRef] | BaseException | None] = Queue(maxsize=lists)
        self._closed = Event()
        self._done = False
        Thread(target=self._list, args=(listing,), name="ctrail-listing", daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether everything has been listed and taken."""
        return self._done

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be taken at this moment."""
        return self._lists.empty()

    def take(self, timeout: float) -> list[LogFileRef] | None:
        """The next log files; None if there are none yet, or no more. Raises what it raised."""
        if self._done:
            return None
        try:
            item = self._lists.get(timeout=timeout) if timeout else self._lists.get_nowait()
        except Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        self._done = item is None
        return item

    def close(self) -> None:
        """Stop listing, without waiting for requests on their way."""
        self._closed.set()

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
                self._lists.put(item, timeout=_TICK_SECONDS)
            except Full:
                continue
            return True
        return False


class Feed:
    """Log files from a listing, fetched ahead of whoever takes them."""

    def __init__(
        self,
        listed: ListedAhead,
        settings: Settings,
        bytes_ahead: int = BYTES_AHEAD,
        ahead: int = AHEAD,
    ) -> None:
        """`ahead`: small log files that are begun and not taken, for each GET in flight."""
        self._listed = listed
        self._settings = settings
        self._closed = Event()
        self._last = False
        self._ready: deque[LogFileRef] = deque()
        self._tasks: deque[_Task] = deque()
        self._begun = 0
        self._taken = 0
        self._cost = 0
        """Of what is begun and not taken."""
        self._room = Room(bytes_ahead)
        self._most_ahead = ahead * settings.downloads_of(1)
        # For all that is begun: where requests are tried again, with pauses, the others go on. Five
        # threads, which suffice for 100 GETs in flight, took twice as long where a tenth failed.
        threads = -(-self._most_ahead // KEYS_A_TASK)
        self._threads = DaemonThreads(threads, "ctrail-fetch")
        # Of their own, in the order of the log files: those above may all wait for room until
        # one of these is done.
        self._threads_again = DaemonThreads(KEYS_A_TASK, "ctrail-fetch-again")

    @property
    def ahead(self) -> int:
        """Log files that were taken from the listing, and not yet from here."""
        return len(self._ready) + self._begun - self._taken

    def take_no_more(self) -> list[LogFileRef]:
        """Leave the rest to somebody else: `results` ends with what is begun.

        Returns what was taken from the listing and is not begun.
        """
        self._last = True
        left = list(self._ready)
        self._ready.clear()
        return left

    def results(self) -> Iterator[FetchedLogFile | None]:
        """Fetched log files in listing order; None now and then, when nothing came for a while.

        Let go of each before you ask for the next. Raises what the listing raised.
        """
        while True:
            self._take_listed(wait=not self._tasks and not self._ready)
            self._start_tasks()
            if self._tasks:
                yield from self._results_of(self._tasks[0])
                if not self._tasks[0].left:
                    self._tasks.popleft()
            elif self._last:
                return
            else:
                yield None

    def _results_of(self, task: _Task) -> Iterator[FetchedLogFile | None]:
        """What a task hands over next; None if nothing comes for a while."""
        try:
            fetched = task.results.get(timeout=_TICK_SECONDS)
        except Empty:
            yield None
            return
        if isinstance(fetched, BaseException):
            raise fetched
        unpacked = self._unpacked(fetched)
        del fetched
        while unpacked:
            item = unpacked.popleft()
            task.left -= 1
            if isinstance(item, _Task):
                while item.left:
                    yield from self._results_of(item)
                continue
            one, size = item
            del item
            self._taken += 1
            self._cost -= cost_of(one.ref)
            yield one
            del one
            self._room.taken(self._taken - 1, size)

    def _unpacked(self, results: list[_Result]) -> "deque[tuple[FetchedLogFile, int] | _Task]":
        """What came, unpacked; a small log file that may be damaged is a task of its own now."""
        unpacked: deque[tuple[FetchedLogFile, int] | _Task] = deque()
        for turn, (one, size) in enumerate(results, self._taken):
            if not isinstance(one, _Came):
                unpacked.append((one, size))
            elif (log_file := one.unpack(self._settings)) is not None:
                unpacked.append((log_file, size))
            else:
                self._room.give_back(size)
                again = _Task(turn, [one.ref], one.fetched)
                self._threads_again.submit(
                    again.run, self._settings, self._room, self._closed.is_set
                )
                unpacked.append(again)
        return unpacked

    def close(self) -> None:
        """Stop fetching, without waiting for requests on their way."""
        self._closed.set()
        self._room.close()
        self._threads.close()
        self._threads_again.close()

    def _take_listed(self, *, wait: bool) -> None:
        while not self._last and len(self._ready) < self._most_ahead:
            refs = self._listed.take(_TICK_SECONDS if wait else 0)
            if refs is None:
                self._last = self._listed.done
                return
            wait = False
            self._ready.extend(refs)

    def _start_tasks(self) -> None:
        fair = sum(map(cost_of, self._ready)) // _SHARED_BY
        most = max(1, min(KEYS_A_TASK, fair))
        while self._ready and self._cost < self._most_ahead:
            refs: list[LogFileRef] = []
            cost = 0
            while self._ready and cost < most:
                refs.append(self._ready.popleft())
                cost += cost_of(refs[-1])
            task = _Task(self._begun, refs)
            self._threads.submit(task.run, self._settings, self._room, self._closed.is_set)
            self._tasks.append(task)
            self._begun += len(task.refs)
            self._cost += cost


def _is_small(came: Fetched | StoreError | None) -> bool:
    return isinstance(came, Fetched) and len(came.body) <= _SMALL_BYTES


def _get_all(refs: Sequence[LogFileRef], settings: Settings) -> list[Fetched | StoreError | None]:
    """A first GET of each log file; None for those that cannot be read."""
    came: list[Fetched | StoreError | None] = []
    for (bucket, is_left), some in groupby(
        refs,
        key=lambda ref: (
            ref.source.bucket,
            ref.archived or ref.size > settings.max_stored_bytes,
        ),
    ):
        if is_left:
            came += [None for _ in some]
        else:
            came += get_all(bucket, [(ref.key, ref.etag) for ref in some])
    return came


def _get(ref: LogFileRef, came: Fetched | StoreError | None = None) -> Fetched:
    """The version that was listed, or, if it was written again meanwhile, the present one."""
    bucket = ref.source.bucket
    try:
        if came is None:
            return bucket.get(ref.key, ref.etag)
        if isinstance(came, StoreError):
            raise came
    except ObjectChanged:
        return bucket.get(ref.key, None)
    return came


def _is_short(ref: LogFileRef, fetched: Fetched) -> bool:
    """Whether fewer bytes came than the listing showed of this very version."""
    return fetched.etag == ref.etag and len(fetched.body) < ref.size


def _failed(ref: LogFileRef, state: LogFileState, reason: str) -> FetchedLogFile:
    return FetchedLogFile(ref, _known_etag(ref), ref.size, 0, None, state, reason)


def _known_etag(ref: LogFileRef) -> bytes:
    """Without a GET; empty where nobody knows it."""
    return ref.etag or (ref.expected.etag if ref.expected else b"")
