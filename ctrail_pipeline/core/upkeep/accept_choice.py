"""Which log files a person means to accept: addresses, perhaps with wildcards, and a day.

An address that names a log file as it stands there means that log file alone, whatever wildcards
are in it: whoever writes to the bucket may put `*` into a key, or what messages print in place of
an unprintable character. Not here: accepting (`accept`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.keys.log_file_key import address_of, parse_key
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, minute_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.accepted import Acceptance
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_compare import known_by_name
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.listing.selection import matches
from ctrail_pipeline.core.untrusted_text import printable

_SCHEMES: Final = ("s3://", "file://")


class Standing(Enum):
    """Whether a log file can be accepted, or what else is to be done about it."""

    OPEN = "open"
    ACCEPTED = "accepted already"
    WAITING = "found and not fetched yet: run `ctrail sync` first"
    ARCHIVED = "archived: restore it in S3; syncs look for it once a day"


class _Match(IntEnum):
    """How an address means a log file. Of all log files, those of its best match are meant."""

    WILDCARDS = 1
    PRINTED = 2
    """It is the log file's address as messages print it."""
    EXACT = 3


class Candidate(NamedTuple):
    """A log file that may be meant: one that can be accepted, or is accepted."""

    acceptance: Acceptance
    """As what it is accepted, or can be."""
    trouble: str
    """Why it is not in the output."""
    standing: Standing


@dataclass(frozen=True)
class Chosen:
    """The log files that a person means: all that fit everything that is given."""

    addresses: Sequence[str] = ()
    """Such as `s3://bucket/key`, as messages print them; `*` and `?` are wildcards."""
    damaged_before: datetime | None = None
    """Only damaged log files of days before this one, by the day of their key."""

    def check(self) -> None:
        """Raise ConfigurationError if this cannot be meant."""
        for address in self.addresses:
            if not address.startswith(_SCHEMES):
                raise ConfigurationError(
                    f"{printable(address)}: an address begins with s3:// or file://, as messages of"
                    " `ctrail sync` and `ctrail verify` print it"
                )

    def is_of_time(self, acceptance: Acceptance) -> bool:
        """Whether state and day of a log file fit. A key in no day's folder is of no day."""
        if self.damaged_before is None:
            return True
        end = minute_of(self.damaged_before) // MINUTES_PER_DAY
        return acceptance.state is LogFileState.DAMAGED and 0 < acceptance.day < end


class Choice:
    """A choice, once it is known how each address means log files."""

    def __init__(
        self, chosen: Chosen, prefixes: Mapping[int, SourcePrefix], best: Mapping[str, _Match]
    ) -> None:
        self._chosen = chosen
        self._prefixes = prefixes
        self._best = best

    def holds(self, acceptance: Acceptance) -> bool:
        """Whether a log file is meant."""
        if not self._chosen.is_of_time(acceptance):
            return False
        address = address_of(self._prefixes[acceptance.source_id], *acceptance.row[1:])
        return not self._best or any(
            _match(pattern, address) is best for pattern, best in self._best.items()
        )


def choice(
    ledger: Ledger,
    chosen: Chosen,
    prefixes: Mapping[int, SourcePrefix],
    candidates: Iterable[Candidate],
    if_none: str,
) -> Choice:
    """Return which of the candidates are meant.

    Raises ConfigurationError for an address that means no log file that can be accepted or is; the
    message says what else is to be done about what it means, or `if_none`.
    """
    chosen.check()
    found: dict[str, Counter[tuple[_Match, Standing]]] = {
        address: Counter() for address in chosen.addresses
    }
    for candidate in candidates if found else ():
        if not chosen.is_of_time(candidate.acceptance):
            continue
        acceptance = candidate.acceptance
        address = address_of(prefixes[acceptance.source_id], *acceptance.row[1:])
        for pattern, counts in found.items():
            match = _match(pattern, address)
            if match is not None:
                counts[match, candidate.standing] += 1
    best = {
        address: _Match.EXACT
        if _is_known(ledger, prefixes, address)
        else max((match for match, _ in counts), default=_Match.WILDCARDS)
        for address, counts in found.items()
    }
    for address, counts in found.items():
        standings = {standing for match, standing in counts if match is best[address]}
        if standings.isdisjoint((Standing.OPEN, Standing.ACCEPTED)):
            instead = sorted(standing.value for standing in standings)
            raise ConfigurationError(f"{printable(address)}: {'; '.join(instead) or if_none}")
    return Choice(chosen, prefixes, best)


def _match(pattern: str, address: str) -> _Match | None:
    """Return how an address that a person gave means the log file with this address."""
    if pattern == address:
        return _Match.EXACT
    printed = printable(address)
    if pattern == printed:
        return _Match.PRINTED
    is_meant = matches(pattern, address) or matches(pattern, printed)
    return _Match.WILDCARDS if is_meant else None


def _is_known(ledger: Ledger, prefixes: Mapping[int, SourcePrefix], address: str) -> bool:
    """Whether the ledger has a log file with exactly this address, whatever its state."""
    for source_id, prefix in prefixes.items():
        folder = address_of(prefix, 0, "/")  # the address of the key that has nothing behind it
        if address.startswith(folder):
            parts = parse_key(prefix, prefix.folder + address.removeprefix(folder))
            if parts.name in known_by_name(ledger, source_id, parts.day, [parts.name]):
                return True
    return False
