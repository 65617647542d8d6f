"""Which events somebody asks for, by eventID, eventName, time, account and region.

`Sought` decides for a folder of the output whether it may hold such events, and for a line whether
it is one. `explain` and `manifest` use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ctrail_pipeline.core.listing.selection import matches
from ctrail_pipeline.core.log_file.event_time import moment_of
from ctrail_pipeline.core.log_file.record import Record
from ctrail_pipeline.core.log_file.split import read_log_file

EVENT_ID_LENGTH: Final = 64
"""Characters of an eventID that are compared."""


@dataclass(frozen=True)
class Sought:
    """The events that somebody asks for. An event must fit everything that is given."""

    event_id: str | None = None
    event_name: str | None = None
    start: datetime | None = None
    """The first eventTime that fits."""
    end: datetime | None = None
    """The eventTime from which on nothing fits."""
    accounts: Sequence[str] = ()
    """Accounts of the output's folders; `*` and `?` are wildcards. Empty means all."""
    regions: Sequence[str] = ()
    """Regions of the output's folders; `*` and `?` are wildcards. Empty means all."""

    def may_lie_in(self, folder: str) -> bool:
        """Whether `account/region/YYYY/MM/DD/HH` may hold such an event; `-` stands for any."""
        account, region, hour = folder.split("/", 2)
        return (
            _matches_any(account, self.accounts)
            and _matches_any(region, self.regions)
            and (self.start is None or hour >= f"{self.start.astimezone(UTC):%Y/%m/%d/%H}")
            and (self.end is None or hour <= f"{_last_before(self.end):%Y/%m/%d/%H}")
        )

    def fits(self, line: bytes) -> bool:
        """Whether a line is such an event."""
        for text in filter(None, (self.event_id, self.event_name)):
            # Most lines need no decoding to be told apart; but an escape may hide the text.
            if text[:EVENT_ID_LENGTH].encode() not in line and b"\\u" not in line:
                return False
        record = record_of(line)
        return (
            record is not None
            and (self.event_id is None or record.event_id == self.event_id[:EVENT_ID_LENGTH])
            and (self.event_name is None or record.name == self.event_name)
            and (self.start is None or moment_of(record.time) >= self.start)
            and (self.end is None or moment_of(record.time) < self.end)
        )


def record_of(line: bytes) -> Record | None:
    """Return the record that a line of the output is; None if the line is no record."""
    content = read_log_file(b'{"Records":[' + line + b"]}", 2 * len(line) + 1_000)
    return content.records[0] if len(content.records) == 1 else None


def _matches_any(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or name == "-" or any(matches(pattern, name) for pattern in patterns)


def _last_before(end: datetime) -> datetime:
    return end.astimezone(UTC) - timedelta(microseconds=1)
