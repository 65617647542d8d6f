"""Which part of the configured trails is wanted: by trail, account, region and time.

The configuration, each trail and each run's `Selection` narrow it, with patterns such as `*-prod`.
Pure: no bucket and no ledger is asked. Not here: which source prefixes there are
(`found_prefixes`).
"""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.keys.coverage import EVERYTHING, Range
from ctrail_pipeline.core.keys.key_time import MINUTES_PER_HOUR, Minute, minute_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.settings import Settings, Trail

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


def wanted_range(settings: Settings) -> Range:
    """The key times asked for: up to an hour after `end`, since a key's time is delivery's."""
    start, end = EVERYTHING
    wanted_from = _start_of(settings)
    if wanted_from is not None:
        start = minute_of(wanted_from)
    if settings.end is not None:
        end = Minute(minute_of(settings.end) + MINUTES_PER_HOUR)
    return Range(start, end)


def _start_of(settings: Settings) -> datetime | None:
    if settings.start is not None or settings.since_seconds is None:
        return settings.start
    return datetime.now(UTC) - timedelta(seconds=settings.since_seconds)
