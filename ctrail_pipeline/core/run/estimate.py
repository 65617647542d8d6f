"""What it costs to bring in so many log files: requests, dollars, disk and time.

Prices are S3's list prices. Times and sizes are measurements of this project, so every number is
"about". Not here: how many log files there are (`dry_run`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ctrail_pipeline.core.bucket.prices import DOLLARS_A_GET, DOLLARS_A_LIST
from ctrail_pipeline.core.keys.left_aside import LeftAside
from ctrail_pipeline.core.ledger.rows import LogFileState

_KEYS_A_LIST: Final = 1000
_JSON_BYTES_A_STORED_BYTE: Final = 7
"""Real log files compress 5.6 to 8.6 times (measured on six days of one organization)."""
_SECONDS_A_LOG_FILE: Final = 0.0005
"""Measured on one core of a small machine, everything on loopback."""
_SECONDS_A_JSON_BYTE: Final = 1 / 100e6
"""Measured on one core of a small machine, everything on loopback."""
_LEDGER_BYTES_A_LOG_FILE: Final = 500
"""Measured on the sample: log file row, lineage, and 16 bytes and a little for each event."""


@dataclass
class TrailEstimate:
    """What a sync of one trail would come to."""

    trail: str
    partitions: int = 0
    """Accounts and regions."""
    log_files: int = 0
    """Log files that are new by the listing, or due to be tried again."""
    bytes: int = 0
    """Stored bytes of the log files, as LIST shows them."""
    list_requests: int = 0
    """LIST requests for log files that the dry run made. A sync makes as many, and one for each
    further 1,000 log files. Those that find the accounts and regions come on top."""
    list_requests_once_more: int = 0
    """Those of the LIST requests that list the past once more, after an upgrade."""
    open_log_files: Mapping[LogFileState, int] = field(default_factory=dict)
    """Log files that stand open now. `ctrail sync` tries failed ones at once, whenever their next
    visit is."""
    left_aside: LeftAside | None = None
    """What was seen and would not be brought in."""
    is_not_yet: bool = False
    """Whether the trail has not delivered a log file yet."""
    is_sampled: bool = False
    """Whether the numbers are reckoned from a part of a source prefix's log files."""

    @property
    def requests(self) -> int:
        """LIST and GET requests of the sync."""
        return self._lists + self.log_files

    @property
    def dollars(self) -> float:
        """Price of the requests."""
        return self._lists * DOLLARS_A_LIST + self.log_files * DOLLARS_A_GET

    @property
    def disk_bytes(self) -> int:
        """Bytes of output and ledger if no event is a duplicate."""
        return self.bytes * _JSON_BYTES_A_STORED_BYTE + self.log_files * _LEDGER_BYTES_A_LOG_FILE

    @property
    def _lists(self) -> int:
        return max(self.list_requests, self.log_files // _KEYS_A_LIST)

    @property
    def seconds(self) -> float:
        """Seconds that the sync would take where the network does not hold it up."""
        json = self.bytes * _JSON_BYTES_A_STORED_BYTE
        return self.log_files * _SECONDS_A_LOG_FILE + json * _SECONDS_A_JSON_BYTE
