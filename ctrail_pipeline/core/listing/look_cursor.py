"""The sensor's cursor: where the last look at the buckets stopped, and whose turn is next. Pure.

A look has little time, so it goes through the source prefixes in turn, over several ticks.
Idle source prefixes, and the search for new accounts, have their turn less often. A cursor that is
lost costs time only: the ledger decides what is fetched. Not here: the look itself (`look`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Self
from zlib import crc32

from ctrail_pipeline.core.keys.key_time import MINUTES_PER_DAY, Minute

from .sources import Source

IDLE_AFTER_MINUTES: Final = MINUTES_PER_DAY
IDLE_ROUNDS: Final = 12
"""An idle partition (no log file for a day) is looked at in one of so many rounds."""
DISCOVERY_SECONDS_AN_ACCOUNT: Final = 12
"""Accounts and regions are looked for with one LIST in so many seconds (a dollar a month),"""
DISCOVERY_SECONDS: Final = 3_600
"""and once an hour, however many there are."""


@dataclass(frozen=True)
class LookCursor:
    """Where the last look stopped. One that is lost or wrong costs time only."""

    round: int = 0
    """How many times all partitions have been gone through."""
    after: str = ""
    """The partition that was looked at last in this round, as `source_name` has it."""
    discovered: dict[str, float] = field(default_factory=dict)
    """When the accounts and regions of each trail were looked for (seconds since 1970)."""

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """What `dump` wrote; anything else is a fresh start."""
        try:
            value = json.loads(text or "{}")
            discovered = {str(name): float(at) for name, at in value["discovered"].items()}
            return cls(max(0, int(value["round"])), str(value["after"]), discovered)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()

    def dump(self) -> str:
        """The cursor as text."""
        return json.dumps({"round": self.round, "after": self.after, "discovered": self.discovered})


def source_name(source: Source) -> str:
    """What orders partitions, and what a cursor names them by."""
    return f"{source.trail}: {source.source_prefix.folder}"


def in_turn(names: Sequence[str], after: str) -> list[str]:
    """Sorted names, beginning behind the one that was last, once around."""
    ordered = sorted(names)
    return [name for name in ordered if name > after] + [name for name in ordered if name <= after]


def is_due_for_discovery(last: float | None, accounts: int, now: float) -> bool:
    """Whether it is time to look for new accounts and regions of a trail.

    Each account costs a LIST, so the more there are, the rarer; at least once an hour.
    """
    pause = min(DISCOVERY_SECONDS, accounts * DISCOVERY_SECONDS_AN_ACCOUNT)
    return last is None or abs(now - last) >= pause


def rests_this_round(name: str, newest: Minute | None, round_: int, now: Minute) -> bool:
    """Whether a partition is idle and its turn is in another round."""
    if newest is None or newest > now - IDLE_AFTER_MINUTES:
        return False
    return crc32(name.encode()) % IDLE_ROUNDS != round_ % IDLE_ROUNDS
