"""A look at the buckets: which log files are new, inside a time budget, for the next run to fetch.

What a look lists as new, and what messages in queues name, becomes rows of the ledger that are due
at once. The transaction of a listing also notes the stretch of key time that it listed as covered.
So a run need not list again, and what is fetched depends on the ledger alone, not on a look or a
cursor. A look lists what is recent: behind the cursor of each source prefix. It names older key
time that was never listed as backlog, for a run that lists by itself. Not here: whose turn it is
(`look_cursor`), or when to look and what is started then (`ctrail_pipeline.orchestration.sensors`).
"""

import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.coverage import Lookback, Range, cursor, intersection
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, MINUTES_PER_HOUR, Minute, minute_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import LedgerLogFiles, put_found, waiting_by_source
from ctrail_pipeline.core.ledger.rows import FoundLogFile, Waiting
from ctrail_pipeline.core.ledger.source_prefixes import (
    covered_ranges,
    note_deep_listings,
    note_listings,
    note_missed,
    register_sources,
    source_ids,
)
from ctrail_pipeline.core.matching_ledger import open_ledger
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.core.threads import DaemonThreads

from .discovery import Discovery, Settled, discover
from .finished_stretches import note_finished
from .folder_walk import FEW_AT_ONCE, Listing
from .found_prefixes import known_prefixes, settled_accounts, sources_of
from .left_aside import note_discovered
from .look_cursor import LookCursor, in_turn, source_name
from .look_frequency import (
    idle_rounds,
    is_due_for_discovery,
    is_due_for_kinds,
    is_idle,
    rests_this_round,
)
from .notification_health import NotificationHealth
from .notification_intake import Taken, queues_of, take_notifications
from .problem import Problem, not_listed, trail_problem
from .selection import is_configured, is_of
from .sources import LogFileRef, Source, Stretch, has_backlog

FOUND_A_SOURCE_PREFIX: Final = 1_000
"""New log files of a source prefix after which a look lists no more of it. The rest is backlog."""
_TRAILS_AT_ONCE: Final = 16
"""Trails whose accounts and regions are looked for side by side."""
_DISCOVERY_GRACE_SECONDS: Final = 15.0
"""How long a look waits for new accounts and regions. Then it goes on with those it knows."""
_CHUNK: Final = 64
"""Source prefixes that are listed side by side, and noted in one transaction."""
_REQUEST_SECONDS: Final = 10.0
"""A look gives up a request earlier than a run does, since the next look is soon."""
_NOTIFICATIONS_SHARE: Final = 0.4
"""The share of a look's time that goes to notifications at most."""
_GRACE_SECONDS: Final = 15.0
"""How long the chunk in hand may go on when the budget is used up."""


@dataclass
class Look:
    """What a look saw, and what is to be done."""

    cursor: LookCursor
    looked_at: set[tuple[str, str]] = field(default_factory=set)
    """By trail and `account/region`: where something was listed."""
    idle: set[tuple[str, str]] = field(default_factory=set)
    """Where something rests in this round, as nothing came from it for a day."""
    idle_rounds: int = 1
    """In one of how many rounds an idle source prefix has its turn."""
    notified: set[tuple[str, str]] = field(default_factory=set)
    """Where something was not listed, as messages say what is new of it."""
    not_reached: set[tuple[str, str]] = field(default_factory=set)
    """Where there was no time for something. The next look begins with it."""
    found: int = 0
    """New log files that were listed and noted."""
    taken: list[Taken] = field(default_factory=list)
    """What was taken out of the queues."""
    requests: int = 0
    """LIST requests for log files. Those that find accounts and regions come on top."""
    waiting: dict[tuple[str, str], Waiting] = field(default_factory=dict)
    """By trail and `account/region`: log files that are due, found by this look or before."""
    backlog: list[tuple[str, str]] = field(default_factory=list)
    """Trail and `account/region` of source prefixes with key time that was never listed."""
    partitions: dict[str, list[str]] = field(default_factory=dict)
    """`account/region` keys of each trail."""
    problems: list[Problem] = field(default_factory=list)
    """Trails and source prefixes that could not be listed."""
    not_yet: list[str] = field(default_factory=list)
    """Trails that have not delivered a log file yet."""

    @property
    def oldest_found(self) -> int | None:
        """When the oldest log file that a look found, and that waits, was found (since 1970)."""
        times = [
            waiting.oldest_found
            for waiting in self.waiting.values()
            if waiting.oldest_found is not None
        ]
        return min(times, default=None)


def look(
    settings: Settings, last_cursor: LookCursor, seconds: float, lists_a_look: float = math.inf
) -> Look:
    """Look for new log files for about so many seconds, and note them in the ledger.

    Where looking at everything would take more LIST requests than `lists_a_look`, idle source
    prefixes rest in most rounds.

    A trail or source prefix that cannot be listed is a problem of the result, and does not stop the
    others. Raises LedgerError or OutputError where `sync` would.
    """
    with (
        closing(open_output(settings)) as output,
        closing(open_ledger(settings.ledger, output)) as ledger,
    ):
        return _Looking(_impatient(settings), ledger, last_cursor, seconds, lists_a_look).look()


def recent_range(source: Source, lookback: Lookback, now: Minute) -> Range:
    """The key time that a look lists: behind the cursor, or, where there is none, behind now."""
    newest = min(cursor(source.covered) or now, now)
    back = lookback.hours * MINUTES_PER_HOUR
    if source.deep and source.covered:
        back = lookback.horizon_days * MINUTES_PER_DAY
    return intersection(source.wanted, Range(Minute(max(0, newest - back)), source.wanted.end))


class _Looking:
    """One look, once the ledger is open."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        last_cursor: LookCursor,
        seconds: float,
        lists_a_look: float,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._deadline = time.monotonic() + seconds
        self._now = time.time()
        self._minute = minute_of(datetime.now(UTC))
        self._lookback = Lookback(settings.lookback_hours, settings.horizon_days)
        self._lists_a_look = lists_a_look
        self._look = Look(last_cursor)

    def look(self) -> Look:
        seconds = _NOTIFICATIONS_SHARE * (self._deadline - time.monotonic())
        queues = queues_of(self._settings.trails)
        self._look.taken = take_notifications(self._settings, queues, seconds)
        self._health = NotificationHealth(self._settings, self._ledger, time.time())
        sources = {source_name(source): source for source in self._sources()}
        self._look_at(sources)
        coverage = covered_ranges(self._ledger)
        waiting = waiting_by_source(self._ledger, int(time.time()))
        partitions: dict[str, dict[str, None]] = {}
        backlog: dict[tuple[str, str], None] = {}
        for source in sources.values():
            source.covered = coverage.get(source.id, [])
            key = _partition_of(source)
            partitions.setdefault(source.trail, {})[key[1]] = None
            if source.id in waiting:
                of_other_kinds = self._look.waiting.get(key)
                self._look.waiting[key] = waiting[source.id].together_with(of_other_kinds)
            if has_backlog(source):
                backlog[key] = None
        self._look.partitions = {trail: list(keys) for trail, keys in partitions.items()}
        self._look.backlog = list(backlog)
        return self._look

    def _sources(self) -> list[Source]:
        """The known source prefixes of all trails whose bucket opens."""
        found_prefixes = [
            found
            for trail, bucket in self._open_buckets()
            for found in known_prefixes(self._settings, self._ledger, trail, bucket)
        ]
        return sources_of(found_prefixes, self._settings, self._ledger)

    def _open_buckets(self) -> list[tuple[Trail, Bucket]]:
        """The trails' buckets. Now and then each is asked whether there are more accounts."""
        known = source_ids(self._ledger)
        with DaemonThreads(_TRAILS_AT_ONCE, "ctrail-look") as threads:
            answers = {
                trail: threads.submit(
                    _open, trail, self._settings, self._discovery_of(trail, known), known
                )
                for trail in self._settings.trails
            }
            wait(answers.values(), timeout=_DISCOVERY_GRACE_SECONDS)
        buckets: list[tuple[Trail, Bucket]] = []
        for trail, answer in answers.items():
            if not answer.done():
                self._note_slow([trail.name])
                continue
            bucket, discovered = answer.result()
            if isinstance(discovered, StoreError):
                self._look.problems.append(trail_problem(trail, "not listed", discovered))
            elif discovered is not None:
                self._note_discovered(trail, discovered)
            if bucket is not None:
                buckets.append((trail, bucket))
        return buckets

    def _discovery_of(self, trail: Trail, known: Iterable[SourcePrefix]) -> Settled | None:
        """Which accounts need not be asked for kinds; None if no discovery is due."""
        accounts = settled_accounts(
            source_prefix
            for source_prefix in known
            if is_of(trail, source_prefix) and is_configured(self._settings, trail, source_prefix)
        )
        look_cursor = self._look.cursor
        last = look_cursor.discovered.get(trail.name)
        if last is not None and self._health.works(trail.name):
            # A message names the first log file of a new account, too.
            if abs(self._now - last) < self._settings.listing_interval:
                return None
        elif not is_due_for_discovery(last, len(accounts), self._now):
            return None
        if is_due_for_kinds(look_cursor.kinds_discovered.get(trail.name), self._now):
            return {}
        return accounts

    def _note_discovered(self, trail: Trail, discovery: Discovery) -> None:
        """Register what is configured, and note when the trail was asked."""
        found = discovery.source_prefixes
        note_discovered(self._ledger, trail, discovery)
        register_sources(
            self._ledger,
            [prefix for prefix in found if is_configured(self._settings, trail, prefix)],
        )
        if not found:
            self._look.not_yet.append(trail.name)
        look_cursor = self._look.cursor
        discovered = {**look_cursor.discovered, trail.name: self._now}
        kinds_discovered = look_cursor.kinds_discovered
        if not discovery.unlisted:
            kinds_discovered = {**kinds_discovered, trail.name: self._now}
        self._look.cursor = replace(
            look_cursor, discovered=discovered, kinds_discovered=kinds_discovered
        )

    def _look_at(self, sources: dict[str, Source]) -> None:
        """Go through the source prefixes from where the last look stopped, chunk by chunk."""
        self._look.notified = {_partition_of(item) for item in sources.values() if item.rests}
        sources = {name: source for name, source in sources.items() if not source.rests}
        pending = in_turn(list(sources), self._look.cursor.after)
        idle = sum(map(self._is_idle, sources.values()))
        self._look.idle_rounds = idle_rounds(len(sources), idle, self._lists_a_look)
        unreadable: set[str] = set()
        with DaemonThreads(1, "ctrail-look") as thread:
            is_over = False
            # At least one chunk is listed, else looks that start slowly would never get on.
            while pending and not is_over:
                names = self._next_chunk(pending, sources, unreadable)
                chunk = [sources[name] for name in names]
                listing = thread.submit(self._list, chunk)
                grace = max(0.0, self._deadline - time.monotonic()) + _GRACE_SECONDS
                if not wait([listing], timeout=grace).done:
                    self._note_slow(source.trail for source in chunk)
                    break
                self._note_found(chunk, *listing.result())
                unreadable |= _unreadable_trails(chunk)
                is_over = time.monotonic() >= self._deadline
        self._look.not_reached = {_partition_of(sources[name]) for name in pending}

    def _is_idle(self, source: Source) -> bool:
        return is_idle(cursor(source.covered), self._minute)

    def _next_chunk(
        self, pending: list[str], sources: dict[str, Source], unreadable: set[str]
    ) -> list[str]:
        """Take the names of the next chunk off the pending ones, and move the cursor behind it."""
        names: list[str] = []
        while pending and len(names) < _CHUNK:
            name = pending.pop(0)
            source = sources[name]
            self._look.cursor = self._look.cursor.moved_to(name)
            if source.trail in unreadable:
                continue
            round_, rounds = self._look.cursor.round, self._look.idle_rounds
            if self._is_idle(source) and rests_this_round(name, round_, rounds):
                self._look.idle.add(_partition_of(source))
                continue
            names.append(name)
        return names

    def _list(self, chunk: Sequence[Source]) -> tuple[list[LogFileRef], list[Stretch]]:
        """Find new log files, and the stretches of key time that are wholly listed.

        Runs in a thread of its own, as a server may hang.
        """
        narrowed = [
            replace(source, wanted=recent_range(source, self._lookback, self._minute))
            for source in chunk
        ]
        listing = Listing(
            narrowed,
            self._lookback,
            visits=False,
            now=self._minute,
            at_once=FEW_AT_ONCE,
            hold=FOUND_A_SOURCE_PREFIX,
        )
        new: list[LogFileRef] = []
        found = dict.fromkeys((source.id for source in chunk), 0)
        finished: list[Stretch] = []
        with closing(Ledger(self._settings.ledger)) as reader:
            for refs in listing.log_files(LedgerLogFiles(reader)):
                new += refs
                for ref in refs:
                    if ref.stretch is not None:
                        ref.stretch.settled += 1
                        if ref.stretch.is_done:
                            finished.append(ref.stretch)
                source = refs[0].source
                found[source.id] += len(refs)
                source.is_enough = found[source.id] >= FOUND_A_SOURCE_PREFIX
        for source, listed in zip(chunk, narrowed, strict=True):
            source.failure, source.requests = listed.failure, listed.requests
            source.is_enough = listed.is_enough
        return new, finished + listing.take_finished()

    def _note_found(
        self, chunk: Sequence[Source], new: Sequence[LogFileRef], finished: Sequence[Stretch]
    ) -> None:
        """Note what was found as due, and what was listed as covered, in one transaction."""
        now = int(time.time())
        deep = [
            source.id
            for source in chunk
            if source.deep and source.covered and not source.failure and not source.is_enough
        ]
        with_queue = [
            source.id
            for source in chunk
            if self._health.works(source.trail) and not source.failure and not source.is_enough
        ]
        if new or finished or deep or with_queue:
            with self._ledger.transaction():
                put_found(self._ledger, [_found_log_file(ref) for ref in new], now)
                note_finished(self._ledger, finished)
                note_deep_listings(self._ledger, deep, now)
                note_listings(self._ledger, with_queue, now)
                note_missed(self._ledger, self._health.missed(new), now)
        self._look.found += len(new)
        self._look.looked_at.update(map(_partition_of, chunk))
        self._look.requests += sum(source.requests for source in chunk)
        self._look.problems += [not_listed(source) for source in chunk if source.failure]

    def _note_slow(self, trails: Iterable[str]) -> None:
        for trail in dict.fromkeys(trails):
            reason = "the server answered too slowly; the next look tries again"
            self._look.problems.append(Problem(trail, "", "not listed", reason, may_pass=True))


def _open(
    trail: Trail, settings: Settings, settled: Settled | None, known: Iterable[SourcePrefix]
) -> tuple[Bucket | None, Discovery | StoreError | None]:
    """A trail's bucket, and, if asked for, its source prefixes, or why there are none."""
    bucket = None
    try:
        bucket = open_bucket(trail, settings)
        if settled is None:
            return bucket, None
        return bucket, discover(settings, trail, bucket, settled, known)
    except StoreError as error:
        return bucket, error


def _impatient(settings: Settings) -> Settings:
    return replace(
        settings,
        connect_timeout=min(settings.connect_timeout, _REQUEST_SECONDS),
        client_timeout=min(settings.client_timeout, _REQUEST_SECONDS),
    )


def _partition_of(source: Source) -> tuple[str, str]:
    return source.trail, source.source_prefix.partition_key


def _found_log_file(ref: LogFileRef) -> FoundLogFile:
    return FoundLogFile(ref.source.id, ref.day, ref.name, ref.etag or b"", ref.size, ref.archived)


def _unreadable_trails(chunk: Sequence[Source]) -> set[str]:
    """Trails of which nothing in a chunk could be listed: listing on would cost time only."""
    trails = {source.trail for source in chunk}
    return trails - {source.trail for source in chunk if source.failure is None}
