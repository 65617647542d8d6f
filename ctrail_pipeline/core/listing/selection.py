"""Which part of the configured trails a run is about, and the source partitions that it comes to.

Not here: what is done with them (`sync`), or what to expect of them (`estimate`).
"""

import fnmatch
import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.bucket.permissions import check_access, check_keys
from ctrail_pipeline.core.bucket.trail_bucket import open_bucket
from ctrail_pipeline.core.exceptions import ConfigurationError, StoreError, StoreUnavailable
from ctrail_pipeline.core.keys.coverage import EVERYTHING, Range
from ctrail_pipeline.core.keys.names import (
    MINUTES_PER_HOUR,
    Minute,
    SourcePrefix,
    key_of,
    minute_of,
)
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import found_log_files, waiting_by_source
from ctrail_pipeline.core.ledger.source_prefixes import covered_ranges, deep_listed_at, source_ids
from ctrail_pipeline.core.settings import Settings, Trail

from .discovery import discover
from .walk import Source

log = logging.getLogger(__name__)

DEEP_EVERY_SECONDS: Final = 86_400
_LOG_FILES_TRIED: Final = 6
_PARTITION_PATTERN: Final = re.compile(r"[A-Za-z0-9*?-]+/[A-Za-z0-9*?-]+")
_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9*?-]+")
_PLACE_FIELDS: Final = ("accounts", "exclude_accounts", "regions", "exclude_regions")


@dataclass(frozen=True)
class Selection:
    """Which part of the configured trails a run is about; the default is all of it."""

    trails: Sequence[str] | None = None
    """Names; `*` and `?` stand for any text and any character, here and below."""
    partitions: Sequence[str] | None = None
    """`account/region` keys."""
    start: datetime | None = None
    end: datetime | None = None
    listed: bool = False
    """Nothing is listed: only what a look has found, or what is to be tried again, is done."""
    exclude_trails: Sequence[str] = ()
    accounts: Sequence[str] = ()
    """Empty: all of them. So are the next three."""
    exclude_accounts: Sequence[str] = ()
    regions: Sequence[str] = ()
    exclude_regions: Sequence[str] = ()

    def narrow(self, settings: Settings) -> Settings:
        """The settings with the trails and the window of this selection.

        Raises ConfigurationError for what cannot be right.
        """
        trails = self._chosen_trails(settings.trails)
        self._check_patterns()
        start, end = self.start or _start_of(settings), self.end or settings.end
        if start is not None and end is not None and start >= end:
            raise ConfigurationError(f"start ({start}) must be before end ({end})")
        return replace(settings, trails=trails, start=start, end=end)

    def holds(self, place: SourcePrefix) -> bool:
        """Whether a source partition is selected."""
        return _chooses(self, place) and (
            self.partitions is None
            or any(matches(pattern, place.partition_key) for pattern in self.partitions)
        )

    def not_found(self, places: Iterable[SourcePrefix]) -> list[str]:
        """Patterns of this selection that none of these source partitions has."""
        places = list(places)
        return [
            pattern
            for patterns, names in (
                (self.partitions or (), {place.partition_key for place in places}),
                (self.accounts, {place.account for place in places}),
                (self.regions, {place.region for place in places}),
            )
            for pattern in patterns
            if not any(matches(pattern, name) for name in names)
        ]

    def _chosen_trails(self, trails: tuple[Trail, ...]) -> tuple[Trail, ...]:
        by_name = {trail.name: trail for trail in trails}
        chosen = dict.fromkeys(by_name) if self.trails is None else {}
        for pattern in self.trails or ():
            # A name is that trail, even if it looks like a pattern.
            found = [name for name in by_name if name == pattern] or [
                name for name in by_name if matches(pattern, name)
            ]
            if not found:
                raise ConfigurationError(
                    f"trails: there is no trail {pattern!r}; configured are {', '.join(by_name)}"
                )
            chosen |= dict.fromkeys(found)
        left = [
            by_name[name]
            for name in chosen
            if not any(matches(pattern, name) for pattern in self.exclude_trails)
        ]
        if not left:
            raise ConfigurationError(
                f"trails: all are excluded; configured are {', '.join(by_name)}"
            )
        return tuple(left)

    def _check_patterns(self) -> None:
        for pattern in self.partitions or ():
            if _PARTITION_PATTERN.fullmatch(pattern) is None:
                raise ConfigurationError(
                    f"partitions: {pattern!r} is no `account/region`, such as"
                    " 123456789012/eu-west-1 or 123456789012/*"
                )
        for name in _PLACE_FIELDS:
            for pattern in getattr(self, name):
                if _NAME_PATTERN.fullmatch(pattern) is None:
                    raise ConfigurationError(f"{name}: {pattern!r} can match no name")


class Chooser(Protocol):
    """What says which accounts and regions are wanted: the settings, a trail, a selection."""

    @property
    def accounts(self) -> Sequence[str]:
        """Patterns; empty: all."""
        ...

    @property
    def exclude_accounts(self) -> Sequence[str]:
        """Patterns of those among them that are not wanted."""
        ...

    @property
    def regions(self) -> Sequence[str]:
        """Patterns; empty: all."""
        ...

    @property
    def exclude_regions(self) -> Sequence[str]:
        """Patterns of those among them that are not wanted."""
        ...


def is_configured(settings: Settings, trail: Trail, place: SourcePrefix) -> bool:
    """Whether the configuration wants an account and region of a trail."""
    return _chooses(settings, place) and _chooses(trail, place)


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern, in which only `*` and `?` are special, is the whole text."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def _chooses(chooser: Chooser, place: SourcePrefix) -> bool:
    return _is_chosen(place.account, chooser.accounts, chooser.exclude_accounts) and _is_chosen(
        place.region, chooser.regions, chooser.exclude_regions
    )


def _is_chosen(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    included = not include or any(matches(pattern, name) for pattern in include)
    return included and not any(matches(pattern, name) for pattern in exclude)


@dataclass(frozen=True)
class Problem:
    """A log file, a partition or a trail that could not be brought in, and why."""

    trail: str
    where: str
    state: str
    reason: str
    may_pass: bool = False
    """Whether it may pass by itself (throttling, a network): worth another try soon."""


class FoundPrefix(NamedTuple):
    """A source partition in its bucket, as a trail's discovery finds it."""

    trail: Trail
    bucket: Bucket
    source_prefix: SourcePrefix


def find_prefixes(
    settings: Settings,
    selection: Selection,
    note: Callable[[Problem], None],
    *,
    may_get: bool = True,
) -> list[FoundPrefix]:
    """The selected source partitions of every trail that can be read.

    A trail that cannot be is noted, and does not stop the others. Without `may_get` it is not tried
    whether log files can be read.
    """
    found: list[FoundPrefix] = []
    seen: list[SourcePrefix] = []
    for trail in settings.trails:
        state = "not listed"
        try:
            bucket = open_bucket(trail, settings)
            sources = discover(trail, bucket)
            wanted = [source for source in sources if is_configured(settings, trail, source)]
            selected = [source for source in wanted if selection.holds(source)]
            seen += wanted
            state = "not readable"
            if may_get:
                check_access(bucket, selected)
        except StoreError as error:
            may_pass = isinstance(error, StoreUnavailable)
            note(Problem(trail.name, trail.bucket, state, str(error), may_pass))
            continue
        log.info(
            "trail %s: %d accounts and regions in %s, %d selected",
            trail.name,
            len(sources),
            bucket.location,
            len(selected),
        )
        found += [FoundPrefix(trail, bucket, source) for source in selected]
    for pattern in selection.not_found(seen):
        note(Problem("", pattern, "not found", "no selected trail delivers such a partition"))
    return found


def known_prefixes(
    settings: Settings, ledger: Ledger, trail: Trail, bucket: Bucket
) -> list[FoundPrefix]:
    """The source partitions of a trail that were ever found and are wanted; S3 is not asked."""
    return [
        FoundPrefix(trail, bucket, source)
        for source in source_ids(ledger)
        if (source.bucket, source.prefix) == (trail.bucket, trail.prefix)
        and is_configured(settings, trail, source)
    ]


def waiting_prefixes(
    settings: Settings, selection: Selection, note: Callable[[Problem], None]
) -> list[FoundPrefix]:
    """The selected source partitions of which log files are due, of trails that can be read."""
    with closing(Ledger(settings.state_db)) as ledger:
        return _waiting_prefixes(settings, selection, ledger, note)


def _waiting_prefixes(
    settings: Settings, selection: Selection, ledger: Ledger, note: Callable[[Problem], None]
) -> list[FoundPrefix]:
    ids, waiting = source_ids(ledger), waiting_by_source(ledger, int(time.time()))
    found: list[FoundPrefix] = []
    for trail in settings.trails:
        try:
            bucket = open_bucket(trail, settings)
            due = [
                place
                for place in known_prefixes(settings, ledger, trail, bucket)
                if ids[place.source_prefix] in waiting and selection.holds(place.source_prefix)
            ]
            by_id = {ids[place.source_prefix]: place.source_prefix for place in due}
            some = found_log_files(ledger, list(by_id), _LOG_FILES_TRIED)
            check_keys(bucket, (key_of(by_id[id_], day, name) for id_, day, name in some))
        except StoreError as error:
            may_pass = isinstance(error, StoreUnavailable)
            note(Problem(trail.name, trail.bucket, "not readable", str(error), may_pass))
            continue
        found += due
    return found


def sources_of(
    places: Sequence[FoundPrefix], settings: Settings, ledger: Ledger | None
) -> list[Source]:
    """Places with the ids and the coverage that the ledger knows them by.

    Without a ledger, or where it does not know them, they have id 0 and no coverage.
    """
    ids = source_ids(ledger) if ledger else {}
    coverage = covered_ranges(ledger) if ledger else {}
    deep_listed = deep_listed_at(ledger) if ledger else {}
    wanted = _wanted(settings)
    now = time.time()
    return [
        Source(
            id=ids.get(found.source_prefix, 0),
            source_prefix=found.source_prefix,
            trail=found.trail.name,
            bucket=found.bucket,
            covered=coverage.get(ids.get(found.source_prefix, 0), []),
            wanted=wanted,
            deep=abs(now - deep_listed.get(ids.get(found.source_prefix, 0), 0))
            >= DEEP_EVERY_SECONDS,
        )
        for found in places
    ]


def not_listed(source: Source) -> Problem:
    """The problem of a source partition whose listing broke off."""
    may_pass = isinstance(source.failure, StoreUnavailable)
    where = source.source_prefix.partition_key
    return Problem(source.trail, where, "not listed", str(source.failure), may_pass)


def _wanted(settings: Settings) -> Range:
    """The key times asked for: up to an hour after `end`, since a key's time is delivery's."""
    start, end = EVERYTHING
    begins = _start_of(settings)
    if begins is not None:
        start = minute_of(begins)
    if settings.end is not None:
        end = Minute(minute_of(settings.end) + MINUTES_PER_HOUR)
    return Range(start, end)


def _start_of(settings: Settings) -> datetime | None:
    if settings.start is not None or settings.since_seconds is None:
        return settings.start
    return datetime.now(UTC) - timedelta(seconds=settings.since_seconds)
