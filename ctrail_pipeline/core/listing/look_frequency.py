"""How often a look asks for what changes rarely: idle source prefixes, accounts, kinds. Pure."""

import math
from typing import Final
from zlib import crc32

from ctrail_pipeline.core.bucket.prices import DOLLARS_A_LIST
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, Minute

IDLE_AFTER_MINUTES: Final = MINUTES_PER_DAY
"""A source prefix is idle when its newest log file is older."""
MOST_IDLE_ROUNDS: Final = 12
"""An idle source prefix is looked at in one of so many rounds, whatever that costs."""
_DAY_SECONDS: Final = 86_400
DISCOVERY_SECONDS_AN_ACCOUNT: Final = 12
"""Seconds for each known account until its trail is asked again for accounts and regions.

That is one LIST in so many seconds: a dollar a month."""
DISCOVERY_SECONDS: Final = 3_600
"""Each trail is asked for its accounts and regions once an hour, however many there are."""
KINDS_SECONDS: Final = 86_400
"""All accounts of a trail are asked for kinds beside CloudTrail once in so many seconds."""


def is_due_for_discovery(last: float | None, accounts: int, now: float) -> bool:
    """Whether it is time to ask a trail for new accounts and regions.

    Each account costs a LIST. So the more accounts there are, the rarer a trail is asked, but at
    least once an hour.
    """
    pause = min(DISCOVERY_SECONDS, accounts * DISCOVERY_SECONDS_AN_ACCOUNT)
    return last is None or abs(now - last) >= pause


def is_due_for_kinds(last: float | None, now: float) -> bool:
    """Whether a discovery that is due is to ask all known accounts for new kinds."""
    return last is None or abs(now - last) >= KINDS_SECONDS


def affordable_lists(dollars_a_day: float, interval_seconds: float) -> float:
    """How many LIST requests each look may make, if looks begin so many seconds apart."""
    return dollars_a_day / DOLLARS_A_LIST * interval_seconds / _DAY_SECONDS


def is_idle(newest: Minute | None, now: Minute) -> bool:
    """Whether a source prefix has got no log file for long, by the end of its newest one."""
    return newest is not None and newest <= now - IDLE_AFTER_MINUTES


def idle_rounds(source_prefixes: int, idle: int, lists_a_look: float) -> int:
    """In one of how many rounds an idle source prefix has its turn; 1: in each.

    What is idle rests only where looking at everything would take more LIST requests than a look
    may make. An attacker may choose a region where nothing has happened for months.
    """
    if not idle or source_prefixes <= lists_a_look:
        return 1
    for_idle = lists_a_look - (source_prefixes - idle)
    if for_idle * MOST_IDLE_ROUNDS <= idle:
        return MOST_IDLE_ROUNDS
    return math.ceil(idle / for_idle)


def rests_this_round(name: str, round_: int, rounds: int) -> bool:
    """Whether the turn of an idle source prefix is in another one of so many rounds."""
    return crc32(name.encode()) % rounds != round_ % rounds
