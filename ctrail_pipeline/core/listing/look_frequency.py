"""How often a look asks for what changes rarely: idle source prefixes, accounts, kinds. Pure."""

from typing import Final
from zlib import crc32

from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, Minute

IDLE_AFTER_MINUTES: Final = MINUTES_PER_DAY
"""A source prefix is idle when its newest log file is older."""
IDLE_ROUNDS: Final = 12
"""An idle source prefix is looked at in one of so many rounds."""
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


def rests_this_round(name: str, newest: Minute | None, round_: int, now: Minute) -> bool:
    """Whether a source prefix is idle, and its turn is in another round."""
    if newest is None or newest > now - IDLE_AFTER_MINUTES:
        return False
    return crc32(name.encode()) % IDLE_ROUNDS != round_ % IDLE_ROUNDS
