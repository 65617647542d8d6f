"""A source prefix as one run sees it, and the log files in it that the run is to fetch.

These values travel from listing to the batches, and (without their bucket) to worker processes.
Not here: how source prefixes are found (`found_prefixes`), or how log files are (`folder_walk`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.coverage import (
    EVERYTHING,
    Range,
    cursor,
    merged,
    settled,
    uncovered,
)
from ctrail_pipeline.core.keys.left_aside import ListedFolders, Tally
from ctrail_pipeline.core.keys.log_file_key import key_of
from ctrail_pipeline.core.keys.minutes import Minute
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.rows import Known

NO_TIME: Final = Range(Minute(0), Minute(0))
"""What objects in no day's folder cover."""


@dataclass(slots=True)
class Source:
    """A source prefix as one run sees it."""

    id: int
    source_prefix: SourcePrefix
    trail: str
    bucket: Bucket
    covered: Sequence[Range]
    wanted: Range
    deep: bool
    """Whether this run lists back over the whole horizon."""
    formerly_covered: Sequence[Range] = ()
    """What only an older listing rule covered: it is listed once more."""
    newest: Minute = EVERYTHING.start
    """The end of the newest key seen, capped by its LastModified."""
    failure: StoreError | None = None
    """Why its listing broke off."""
    requests: int = 0
    """LIST requests made for it."""
    found: int = 0
    """New log files that were listed, and due ones."""
    is_enough: bool = False
    """Whether no more of it is to be listed. Whoever takes the log files sets this, such as a dry
    run that has seen enough."""
    days_listed: set[int] = field(default_factory=set)
    days_left_out: dict[int, float] = field(default_factory=dict)
    """The days that were not listed because there was enough, and which share of each."""

    left_aside: Tally = field(default_factory=dict)
    """What the listing has left aside so far, by folder."""
    rests: bool = False
    """Whether nothing of it is to be listed, since messages say what is new of it."""

    @property
    def ever_covered(self) -> list[Range]:
        """What is covered, by whichever listing rule."""
        return merged([*self.covered, *self.formerly_covered])


def has_backlog(source: Source) -> bool:
    """Whether there is key time before the cursor that is wanted and was never listed."""
    newest = cursor(source.covered)
    if newest is None:
        return bool(source.wanted)
    return bool(uncovered(Range(source.wanted.start, newest), source.covered))


@dataclass(slots=True, eq=False)
class Stretch:
    """A stretch of key time that is covered once it is listed and all its log files are settled."""

    source: Source
    listed_range: Range | None = None
    """None until it is completely listed."""
    listed: int = 0
    """New log files found in it. Only the listing's thread changes this."""
    settled: int = 0
    """Log files that are committed, or whose failure is recorded. Only the committing thread
    changes this."""
    folders: ListedFolders | None = None
    """Folders that are completely listed with it."""
    left_aside: Tally = field(default_factory=dict)
    """What is left aside in them."""
    pending: int = 0
    """Folders in no day's folder that are still to be listed for it."""

    @property
    def is_done(self) -> bool:
        """Whether the ledger may call it covered."""
        return self.listed_range is not None and self.listed == self.settled

    @property
    def covers(self) -> Range:
        """The range that may be called covered once it is done: up to the newest key known."""
        return settled(self.listed_range or NO_TIME, self.source.wanted, self.source.newest)


@dataclass(frozen=True, slots=True)
class LogFileRef:
    """A log file that is to be fetched."""

    source: Source
    day: int
    name: str
    size: int
    etag: bytes | None
    """The version to fetch; None for another try, which takes whatever is there now."""
    archived: bool
    expected: Known | None
    attempts: int
    stretch: Stretch | None = None
    """The stretch of key time that it was listed in. A visit has none, nor has a log file in no
    day's folder."""

    @property
    def key(self) -> str:
        """Its key in the bucket."""
        return key_of(self.source.source_prefix, self.day, self.name)
