"""Which part of the configured trails is wanted: by trail, account, region and time.

The configuration, each trail and each run's `Selection` narrow it, with patterns such as `*-prod`.
Pure: no bucket and no ledger is asked. Not here: which source prefixes there are
(`found_prefixes`).
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.keys.coverage import EVERYTHING, Range
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_HOUR, Minute, minute_of
from ctrail_pipeline.core.keys.source_prefix import KINDS, SourcePrefix
from ctrail_pipeline.core.settings import Settings, Trail

_PARTITION_PATTERN: Final = re.compile(r"[A-Za-z0-9*?-]+/[A-Za-z0-9*?-]+")
_NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9*?-]+")
_NAME_FIELDS: Final = ("accounts", "exclude_accounts", "regions", "exclude_regions")


@dataclass(frozen=True)
class Selection:
    """Which part of the configured trails a run is about; the default is all of it."""

    trails: Sequence[str] | None = None
    """Names. Here and below, `*` stands for any text and `?` for any character."""
    partitions: Sequence[str] | None = None
    """`account/region` keys."""
    start: datetime | None = None
    end: datetime | None = None
    listed: bool = False
    """Whether to list nothing, and fetch only log files that a look found or that are to be tried
    again."""
    exclude_trails: Sequence[str] = ()
    accounts: Sequence[str] = ()
    """Patterns; empty: all accounts."""
    exclude_accounts: Sequence[str] = ()
    regions: Sequence[str] = ()
    """Patterns; empty: all regions."""
    exclude_regions: Sequence[str] = ()

    def narrow(self, settings: Settings) -> Settings:
        """The settings with the trails and the times of this selection.

        Raises ConfigurationError for a trail that is not configured, a pattern that can match
        nothing, and a start behind the end.
        """
        trails = self._chosen_trails(settings.trails)
        self._check_patterns()
        start, end = self.start or _start_of(settings), self.end or settings.end
        if start is not None and end is not None and start >= end:
            raise ConfigurationError(f"start ({start}) must be before end ({end})")
        return replace(settings, trails=trails, start=start, end=end)

    def holds(self, source_prefix: SourcePrefix) -> bool:
        """Whether a source prefix is selected."""
        return _chooses(self, source_prefix) and (
            self.partitions is None
            or any(matches(pattern, source_prefix.partition_key) for pattern in self.partitions)
        )

    def not_found(self, source_prefixes: Iterable[SourcePrefix]) -> list[str]:
        """Patterns of this selection that match none of these source prefixes."""
        source_prefixes = list(source_prefixes)
        return [
            pattern
            for patterns, names in (
                (self.partitions or (), {prefix.partition_key for prefix in source_prefixes}),
                (self.accounts, {prefix.account for prefix in source_prefixes}),
                (self.regions, {prefix.region for prefix in source_prefixes}),
            )
            for pattern in patterns
            if not any(matches(pattern, name) for name in names)
        ]

    def _chosen_trails(self, trails: tuple[Trail, ...]) -> tuple[Trail, ...]:
        by_name = {trail.name: trail for trail in trails}
        chosen = dict.fromkeys(by_name) if self.trails is None else {}
        for pattern in self.trails or ():
            # A configured name means that trail, even if it looks like a pattern.
            found = [name for name in by_name if name == pattern] or [
                name for name in by_name if matches(pattern, name)
            ]
            if not found:
                raise ConfigurationError(
                    f"trails: there is no trail {pattern!r}; configured are {', '.join(by_name)}"
                )
            chosen |= dict.fromkeys(found)
        remaining = [
            by_name[name]
            for name in chosen
            if not any(matches(pattern, name) for pattern in self.exclude_trails)
        ]
        if not remaining:
            raise ConfigurationError(
                f"trails: all are excluded; configured are {', '.join(by_name)}"
            )
        return tuple(remaining)

    def _check_patterns(self) -> None:
        for pattern in self.partitions or ():
            if _PARTITION_PATTERN.fullmatch(pattern) is None:
                raise ConfigurationError(
                    f"partitions: {pattern!r} is no `account/region`, such as"
                    " 123456789012/eu-west-1 or 123456789012/*"
                )
        for name in _NAME_FIELDS:
            for pattern in getattr(self, name):
                if _NAME_PATTERN.fullmatch(pattern) is None:
                    raise ConfigurationError(f"{name}: {pattern!r} can match no name")


class Chooser(Protocol):
    """Anything that says which accounts and regions are wanted.

    The settings, each trail and a selection do.
    """

    @property
    def accounts(self) -> Sequence[str]:
        """Patterns of the wanted accounts; empty: all."""
        ...

    @property
    def exclude_accounts(self) -> Sequence[str]:
        """Patterns of accounts that are not wanted, whatever `accounts` says."""
        ...

    @property
    def regions(self) -> Sequence[str]:
        """Patterns of the wanted regions; empty: all."""
        ...

    @property
    def exclude_regions(self) -> Sequence[str]:
        """Patterns of regions that are not wanted, whatever `regions` says."""
        ...


def is_of(trail: Trail, source_prefix: SourcePrefix) -> bool:
    """Whether a source prefix is one of a trail's, wanted or not."""
    return source_prefix.bucket == trail.bucket and source_prefix.prefix in trail.prefixes


def trail_finder(trails: Iterable[Trail]) -> Callable[[SourcePrefix], Trail | None]:
    """Return a function that says which of these trails a source prefix is of, if it is of one."""
    by_place = {(trail.bucket, prefix): trail for trail in trails for prefix in trail.prefixes}
    return lambda source_prefix: by_place.get((source_prefix.bucket, source_prefix.prefix))


def is_configured(settings: Settings, trail: Trail, source_prefix: SourcePrefix) -> bool:
    """Whether the configuration wants an account, region and kind of a trail."""
    return (
        _chooses(settings, source_prefix)
        and _chooses(trail, source_prefix)
        and source_prefix.kind in kinds_of(settings, trail)
    )


def kinds_of(settings: Settings, trail: Trail) -> list[str]:
    """The kinds that the configuration wants of a trail, in the order of KINDS."""
    return [
        kind
        for kind in KINDS
        if kind in (settings.kinds or KINDS) and kind in (trail.kinds or KINDS)
    ]


def is_account_configured(settings: Settings, trail: Trail, account: str) -> bool:
    """Whether the configuration wants an account of a trail."""
    return all(
        _is_chosen(account, chooser.accounts, chooser.exclude_accounts)
        for chooser in (settings, trail)
    )


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern matches a whole text. Only `*` and `?` are special in a pattern."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def _chooses(chooser: Chooser, source_prefix: SourcePrefix) -> bool:
    return _is_chosen(
        source_prefix.account, chooser.accounts, chooser.exclude_accounts
    ) and _is_chosen(source_prefix.region, chooser.regions, chooser.exclude_regions)


def _is_chosen(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    included = not include or any(matches(pattern, name) for pattern in include)
    return included and not any(matches(pattern, name) for pattern in exclude)


def wanted_range(settings: Settings) -> Range:
    """The key times that are wanted.

    They end an hour after `end`, since the time in a key is that of the delivery.
    """
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
