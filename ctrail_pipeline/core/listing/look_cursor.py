"""The sensor's cursor: where the last look at the buckets stopped, and whose turn is next. Pure.

A look has little time, so it goes through the source prefixes in turn, over several ticks.
Idle source prefixes, and the search for new accounts, have their turn less often. A cursor that is
lost costs time only: the ledger decides what is fetched. Not here: the look itself (`look`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self
from zlib import crc32

from ctrail_pipeline.core.keys.key_time import MINUTES_PER_DAY, Minute

from .sources import Source

IDLE_AFTER_MINUTES: Final = MINUTES_PER_DAY
"""A source prefix is idle when its newest log file is older."""
IDLE_ROUNDS: Final = 12
"""An idle source prefix is looked at in one of so many rounds."""
DISCOVERY_SECONDS_AN_ACCOUNT: Final = 12
"""Seconds for each known account until its trail is asked again for accounts and regions.

That is one LIST in so many seconds: a dollar a month."""
DISCOVERY_SECONDS: Final = 3_600
"""Each trail is asked for its accounts and regions once an hour, however many there are."""


@dataclass(frozen=True)
class LookCursor:
    """Where the last look stopped. A cursor that is lost or wrong costs time only."""

    round: int = 0
    """How many times all source prefixes have been gone through."""
    after: str = ""
    """The source prefix that was looked at last in this round, as `source_name` has it."""
    discovered: dict[str, float] = field(default_factory=dict)
    """When each trail was last asked for its accounts and regions (seconds since 1970)."""

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """The cursor that `dump` wrote; for anything else, a fresh start."""
        try:
            value = json.loads(text or "{}")
            discovered = {str(name): float(at) for name, at in value["discovered"].items()}
            return cls(max(0, int(value["round"])), str(value["after"]), discovered)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()

    def dump(self) -> str:
        """The cursor as text."""
        return json.dumps({"round": self.round, "after": self.after, "discovered": self.discovered})

    def moved_to(self, name: str) -> Self:
        """The cursor behind a source prefix. A name that is not greater begins a new round."""
        return replace(self, round=self.round + (name <= self.after), after=name)


def source_name(source: Source) -> str:
    """The name that a cursor knows a source prefix by, and that orders them."""
    return f"{source.trail}: {source.source_prefix.folder}"


def in_turn(names: Sequence[str], after: str) -> list[str]:
    """All names in their order, beginning behind `after`, once around."""
    ordered = sorted(names)
    return [name for name in ordered if name > after] + [name for name in ordered if name <= after]


def is_due_for_discovery(last: float | None, accounts: int, now: float) -> bool:
    """Whether it is time to ask a trail for new accounts and regions.

    Each account costs a LIST. So the more accounts there are, the rarer a trail is asked, but at
    least once an hour.
    """
    pause = min(DISCOVERY_SECONDS, accounts * DISCOVERY_SECONDS_AN_ACCOUNT)
    return last is None or abs(now - last) >= pause


def rests_this_round(name: str, newest: Minute | None, round_: int, now: Minute) -> bool:
    """Whether a source prefix is idle, and its turn is in another round."""
    if newest is None or newest > now - IDLE_AFTER_MINUTES:
        return False
    return crc32(name.encode()) % IDLE_ROUNDS != round_ % IDLE_ROUNDS
