"""Listing the log files that are new: a walk through the day folders, newest day first.

A small folder is listed whole. A folder with more keys than a page is taken apart by year, month
and day. So the newest day of every source prefix comes before the older days of any, and what is
held in memory stays bounded. Each log file carries the stretch of key time that it was listed in;
the stretch is covered when all its log files are settled. Not here: which keys of a page are new
(`new_log_files`), or which log files are due without being listed (`visits`).
"""

import heapq
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from ctrail_pipeline.core.bucket.interface import PAGE_SIZE, Folder, Listed, Page
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.coverage import EVERYTHING, Lookback, Range, cursor, whole_days
from ctrail_pipeline.core.keys.left_aside import (
    ListedFolders,
    Tally,
    add_to,
    folder_of,
    is_marker,
    replaced,
)
from ctrail_pipeline.core.keys.log_file_key import KeyParts, is_log_file, parse_key
from ctrail_pipeline.core.keys.minutes import FOREVER, MINUTES_PER_DAY, Minute, day_folder
from ctrail_pipeline.core.threads import DaemonThreads

from .day_windows import DAY_DEPTH, day_windows, days_of_folder, first_day_from
from .known_log_files import KnownLogFiles
from .new_log_files import is_wanted, new_log_files
from .sources import NO_TIME, LogFileRef, Source, Stretch
from .visits import due_log_files

HELD_LOG_FILES: Final = 200_000
"""About how many log files of all source prefixes together may be listed and not handed out."""
_FEWEST_HELD: Final = 20
"""Log files of one folder that may be held, however many source prefixes there are."""
FEW_AT_ONCE: Final = 32
"""LIST requests in flight of a listing that stops when it has shown enough. About so many requests
are made in vain."""
_LISTERS: Final = 128
"""LIST requests in flight. Each costs a round trip and little else."""
_STRAYS: Final = -1
"""The depth of a node for everything in a source prefix's folder that is no year folder."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A folder that is still to be listed, or log files that wait for their turn."""

    source: Source
    newest_day: int
    folder: str = ""
    depth: int = 0
    """0: a source prefix's folder, 1: a year, 2: a month, 3: a day, 4: a folder that is no part of
    a date; -1: what lies in a source prefix's folder beside the year folders."""
    range: Range = EVERYTHING
    after: str = ""
    stretch: Stretch | None = None
    waiting: Sequence[LogFileRef] | None = None
    whole: bool = True
    """Whether one page is worth a try before the folder is taken apart."""
    expected: bool = False
    """Whether an answer has just shown that there is something (see `Bucket`)."""


@dataclass(slots=True)
class ListingCounts:
    """What a listing has seen so far."""

    log_files: int = 0
    """Log files that are handed out, or about to be."""
    bytes: int = 0


@dataclass
class Listing:
    """One run's walk over its source prefixes."""

    sources: Sequence[Source]
    lookback: Lookback
    walks: bool = True
    """Whether to list folders. Without it, only due log files are handed out."""
    visits: bool = True
    """Whether to hand out due log files. Without it, they are left out in silence."""
    due_at: int = field(default_factory=lambda: int(time.time()))
    """Log files whose next visit is not later (seconds since 1970) are due."""
    now: Minute = FOREVER
    """The time by this machine's clock. No key that is later by more than a day extends what is
    covered."""
    at_once: int = _LISTERS
    """LIST requests in flight."""
    hold: int = PAGE_SIZE
    """Upper limit of new log files of one folder that wait for their day's turn."""
    counts: ListingCounts = field(default_factory=ListingCounts)
    _heap: list[tuple[int, int, _Node]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)
    _finished: deque[Stretch] = field(default_factory=deque)

    def __post_init__(self) -> None:
        """Work out what has to be listed."""
        share = HELD_LOG_FILES // max(1, len(self.sources))
        self.hold = max(_FEWEST_HELD, min(self.hold, share))
        self._latest = Minute(self.now + MINUTES_PER_DAY)
        self._undated: set[tuple[int, str]] = set()
        for source in self.sources if self.walks else ():
            if source.rests:
                continue
            # What an older listing rule covered is covered again, even if its newest log files
            # have expired.
            source.newest = min(cursor(source.ever_covered) or Minute(0), self._latest)
            for first_day, end_day in day_windows(source, self.lookback, self.now):
                covers = Range(
                    Minute(first_day * MINUTES_PER_DAY), Minute(end_day * MINUTES_PER_DAY)
                )
                folder = source.source_prefix.folder
                after = folder + day_folder(first_day) if first_day > 0 else ""
                # Discovery has named the folder, but perhaps not the days behind `after`.
                self._push(_Node(source, end_day - 1, folder, 0, covers, after, expected=not after))
            if source.deep and source.covered:
                # Objects beside the year folders may sort before any window, so a listing of the
                # windows alone could miss them.
                self._push(_Node(source, 0, source.source_prefix.folder, _STRAYS))

    def log_files(self, ledger: KnownLogFiles) -> Iterator[list[LogFileRef]]:
        """The log files to fetch, newest day first; each list is of one day and source prefix.

        A source prefix whose listing fails says so in its `failure`, and the others go on.
        """
        due_day = ledger.newest_due_day(self.due_at, FOREVER) if self.visits else None
        with DaemonThreads(self.at_once, "ctrail-list") as threads:
            while self._heap or due_day is not None:
                if due_day is not None and not (self._heap and -self._heap[0][0] > due_day):
                    for refs in due_log_files(ledger, self.sources, self.due_at, due_day):
                        self._count(refs)
                        yield refs
                    due_day = ledger.newest_due_day(self.due_at, due_day)
                    continue
                unlisted = self._take_unlisted()
                if unlisted:
                    for node, answer in zip(unlisted, threads.map(_list, unlisted), strict=True):
                        self._take_answer(ledger, node, answer)
                elif self._heap:
                    waiting = heapq.heappop(self._heap)[2].waiting
                    if waiting:
                        yield list(waiting)

    def _take_unlisted(self) -> list[_Node]:
        """Take the folders off the heap that come before any log files that wait there."""
        unlisted: list[_Node] = []
        while self._heap and self._heap[0][2].waiting is None and len(unlisted) < self.at_once:
            node = _to_be_listed(heapq.heappop(self._heap)[2])
            if node is not None:
                unlisted.append(node)
        return unlisted

    def take_finished(self) -> list[Stretch]:
        """Stretches since the last call that were wholly listed and held nothing new."""
        finished = []
        while self._finished:
            finished.append(self._finished.popleft())
        return finished

    def _take_answer(
        self, ledger: KnownLogFiles, node: _Node, answer: "Page | Folder | StoreError"
    ) -> None:
        node.source.requests += 1
        if isinstance(answer, StoreError):
            node.source.failure = node.source.failure or answer
        elif isinstance(answer, Folder) and node.depth == _STRAYS:
            self._take_strays(ledger, node, answer)
        elif isinstance(answer, Folder):
            self._take_apart(ledger, node, answer)
        elif node.depth >= DAY_DEPTH:
            self._take_day_page(ledger, node, answer)
        else:
            self._take_whole(ledger, node, answer)

    def _take_whole(self, ledger: KnownLogFiles, node: _Node, page: Page) -> None:
        """Take in the page of a folder of many days, or list the folder anew in parts.

        It is listed in parts if it does not fit into the page, or holds too many new log files.
        """
        inside = page.objects
        if node.range.end < FOREVER:
            end_key = node.source.source_prefix.folder + day_folder(first_day_from(node.range.end))
            inside = [listed for listed in inside if listed.key < end_key]
        if not page.last and len(inside) == len(page.objects):
            self._push_again(node)
            return
        left_aside: Tally = {}
        groups = self._new_by_day(ledger, node.source, inside, left_aside)
        if sum(map(len, groups.values())) > self.hold:
            self._push_again(node)
            return
        end = node.range.end
        for day in sorted(filter(None, groups), reverse=True):
            start = Minute(max(node.range.start, day * MINUTES_PER_DAY))
            self._hold_stretch(node.source, groups[day], day, Range(start, end))
            end = start
        is_everything = node.depth == 0 and not node.after and node.range.end == FOREVER
        folders = ListedFolders(
            *whole_days(node.range), max(1, node.depth), "" if is_everything else None
        )
        rest = Range(node.range.start, end)
        self._close(Stretch(node.source, left_aside=left_aside), rest, folders)
        self._hold(groups.get(0, []), 0)

    def _take_day_page(self, ledger: KnownLogFiles, node: _Node, page: Page) -> None:
        """Take in a page of a day's folder, or of a folder that is no part of a date."""
        stretch = node.stretch or Stretch(node.source)
        groups = self._new_by_day(ledger, node.source, page.objects, stretch.left_aside)
        refs = [ref for group in groups.values() for ref in group]
        if node.depth == DAY_DEPTH:
            refs = [_in_stretch(ref, stretch) for ref in refs]
        self._hold(refs, node.newest_day)
        if not page.last:
            after = page.objects[-1].key
            self._push(
                _Node(
                    node.source,
                    node.newest_day,
                    node.folder,
                    node.depth,
                    node.range,
                    after,
                    stretch,
                    expected=True,
                )
            )
        elif node.depth == DAY_DEPTH:
            self._close(stretch, node.range, ListedFolders(*whole_days(node.range)))
        else:
            self._close_undated(stretch)

    def _take_apart(self, ledger: KnownLogFiles, node: _Node, folder: Folder) -> None:
        """Go on with the sub-folders of a folder that is too large to be listed at once."""
        dated: list[tuple[tuple[int, int], str]] = []
        undated: list[str] = []
        for name in folder.folders:
            child = f"{node.folder}{name}/"
            days = _days_of(node, name, node.depth)
            if days is None:
                undated.append(child)
            elif (
                days[0] < first_day_from(node.range.end)
                and days[1] * MINUTES_PER_DAY > node.range.start
            ):
                dated.append((days, child))
        if dated:
            self._push_dated(node, sorted(dated))
        else:
            folders = ListedFolders(*whole_days(node.range))
            self._close(Stretch(node.source), node.range, folders)
        self._take_undated(ledger, node, folder.objects, undated)

    def _push_dated(self, node: _Node, dated: Sequence[tuple[tuple[int, int], str]]) -> None:
        """Push sub-folders in the order of their days. Together their ranges are the node's."""
        starts = [Minute(days[0] * MINUTES_PER_DAY) for days, _ in dated]
        ends = [*starts[1:], node.range.end]
        starts[0] = min(starts[0], node.range.start)
        for (days, child), start, end in zip(dated, starts, ends, strict=True):
            self._push(
                _Node(
                    node.source,
                    min(days[1], first_day_from(node.range.end)) - 1,
                    child,
                    node.depth + 1,
                    Range(max(start, node.range.start), end),
                    node.after if node.after.startswith(child) else "",
                    whole=len(dated) > 1 or node.depth == DAY_DEPTH - 1,
                    expected=True,
                )
            )

    def _take_strays(self, ledger: KnownLogFiles, node: _Node, folder: Folder) -> None:
        """Take in the log files beside the year folders, and go on with the other folders there."""
        undated = [
            f"{node.folder}{name}/" for name in folder.folders if _days_of(node, name, 0) is None
        ]
        self._take_undated(ledger, node, folder.objects, undated)

    def _take_undated(
        self, ledger: KnownLogFiles, node: _Node, objects: Iterable[Listed], folders: Sequence[str]
    ) -> None:
        """Take in what lies in a folder beside its dated folders, and go on with other folders."""
        name = node.folder[len(node.source.source_prefix.folder) :]
        stretch = Stretch(node.source, folders=ListedFolders(folder=name), pending=1 + len(folders))
        for folder in folders:
            self._push(_Node(node.source, 0, folder, DAY_DEPTH + 1, stretch=stretch, expected=True))
        groups = self._new_by_day(ledger, node.source, objects, stretch.left_aside)
        self._hold([ref for group in groups.values() for ref in group], 0)
        self._close_undated(stretch)

    def _new_by_day(
        self,
        ledger: KnownLogFiles,
        source: Source,
        objects: Iterable[Listed],
        left_aside: Tally,
    ) -> dict[int, list[LogFileRef]]:
        """The log files in `objects` that are wanted and new, by day; day 0: in no day's folder.

        Objects that are no log files are tallied in `left_aside`.
        """
        days: dict[int, list[tuple[KeyParts, Listed]]] = {}
        for listed in objects:
            if not is_log_file(listed.key):
                if not is_marker(listed.key, listed.size):
                    relative = listed.key[len(source.source_prefix.folder) :]
                    add_to(left_aside, folder_of(relative), listed.key)
                continue
            parts = parse_key(source.source_prefix, listed.key)
            if parts.minute is not None:
                newest = Minute(min(parts.minute, listed.modified, self._latest) + 1)
                source.newest = max(source.newest, newest)
            if is_wanted(parts, source.wanted):
                days.setdefault(parts.day, []).append((parts, listed))
        new: dict[int, list[LogFileRef]] = {}
        for day, of_day in days.items():
            names = [parts.name for parts, _ in of_day]
            known = ledger.known_log_files(source.id, day, min(names), max(names))
            new[day] = new_log_files(source, day, of_day, known, self.due_at)
        return new

    def _hold_stretch(
        self, source: Source, refs: list[LogFileRef], day: int, covers: Range
    ) -> None:
        stretch = Stretch(source)
        self._hold([_in_stretch(ref, stretch) for ref in refs], day)
        self._close(stretch, covers, None)

    def _close_undated(self, stretch: Stretch) -> None:
        """Note that one more of the folders in no day's folder is listed."""
        stretch.pending -= 1
        if not stretch.pending:
            self._close(stretch, NO_TIME, stretch.folders)

    def _close(self, stretch: Stretch, listed: Range, folders: ListedFolders | None) -> None:
        """Note that a stretch of time is completely listed, and folders with it."""
        stretch.listed_range, stretch.folders = listed, folders
        source = stretch.source
        if folders is not None and (stretch.left_aside or source.left_aside):
            source.left_aside = replaced(source.left_aside, folders, stretch.left_aside)
        if stretch.is_done:
            self._finished.append(stretch)

    def _hold(self, refs: list[LogFileRef], day: int) -> None:
        # Two windows of a source prefix both see what lies in no day folder. It is handed out once.
        refs = [ref for ref in refs if ref.day or self._is_first(ref)]
        if refs:
            self._count(refs)
            refs[0].source.days_listed.add(day)
            self._push(_Node(refs[0].source, day, waiting=refs))

    def _count(self, refs: Sequence[LogFileRef]) -> None:
        self.counts.log_files += len(refs)
        self.counts.bytes += sum(ref.size for ref in refs)
        for ref in refs:
            ref.source.found += 1

    def _is_first(self, undated: LogFileRef) -> bool:
        """Whether a log file in no day's folder was not handed out before, as far as is remembered.

        A log file that is handed out twice is fetched twice, and its events count once.
        """
        if len(self._undated) >= HELD_LOG_FILES:
            self._undated.clear()
        held = len(self._undated)
        self._undated.add((undated.source.id, undated.name))
        return len(self._undated) > held

    def _push_again(self, node: _Node) -> None:
        self._push(
            _Node(
                node.source,
                node.newest_day,
                node.folder,
                node.depth,
                node.range,
                node.after,
                whole=False,
                expected=True,
            )
        )

    def _push(self, node: _Node) -> None:
        heapq.heappush(self._heap, (-node.newest_day, next(self._order), node))


def _list(node: _Node) -> "Page | Folder | StoreError":
    """Make the request that a node needs.

    An error is returned, not raised, so that it costs its own source prefix only.
    """
    bucket = node.source.bucket
    try:
        if node.depth != _STRAYS and (node.whole or node.depth >= DAY_DEPTH):
            return bucket.list_page(node.folder, node.after, expected=node.expected)
        return bucket.list_folder(node.folder, expected=node.expected)
    except StoreError as error:
        return error


def _days_of(node: _Node, name: str, depth: int) -> tuple[int, int] | None:
    """The days of a sub-folder of a node's folder, which lies `depth` folders deep."""
    prefix = node.source.source_prefix.folder
    return days_of_folder([*node.folder[len(prefix) :].split("/")[:depth], name])


def _to_be_listed(node: _Node) -> _Node | None:
    """The node, if it is still to be listed.

    Where there is enough, only folders above the days are listed, to learn which days there are.
    """
    source = node.source
    if source.failure is not None:
        return None
    if not source.is_enough:
        return node
    if node.depth < DAY_DEPTH:
        return replace(node, whole=False)
    if node.depth == DAY_DEPTH:
        source.days_left_out[node.newest_day] = _share_not_listed(node)
    return None


def _share_not_listed(node: _Node) -> float:
    """The share of a day's folder that is not listed, by the time in the last listed key."""
    if not node.after:
        return 1
    minute = parse_key(node.source.source_prefix, node.after).minute
    return 0 if minute is None else 1 - minute % MINUTES_PER_DAY / MINUTES_PER_DAY


def _in_stretch(ref: LogFileRef, stretch: Stretch) -> LogFileRef:
    stretch.listed += 1
    return LogFileRef(
        ref.source,
        ref.day,
        ref.name,
        ref.size,
        ref.etag,
        ref.archived,
        ref.expected,
        ref.attempts,
        stretch,
    )
