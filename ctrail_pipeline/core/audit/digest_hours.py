"""What digests say of each hour of a source prefix, and the findings that follow.

An hour is proved only where sound digests cover it and 15 minutes more, and nothing makes it
doubtful. Which findings there are is decided in `digest_walk` and `digest_hashes`; merging with the
listing belongs to `hour_states`.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from ctrail_pipeline.core.keys.coverage import Range, intersection, merged
from ctrail_pipeline.core.keys.log_file_key import KeyParts
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_HOUR, Minute
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.listing.delivery import Delivery

from .digest_chain import ChainFinding, Standing
from .digest_result import DigestResult
from .findings import Finding, FindingKind, HourState, Severity
from .hour_states import HourRange

SETTLE_MINUTES: Final = 15
"""Minutes after a key's time within which its log file may be delivered, and so be in a later
digest. An hour is proved, and a log file in no digest is remarkable, only where digests cover so
much more."""
_HOURS_PER_DAY: Final = 24


class ChainHours:
    """Collects what the chains of a folder of digests say of hours, for all of its log files."""

    def __init__(
        self, trail: str, here: Delivery, partition: str, window: Range, result: DigestResult
    ) -> None:
        """`here` is where digests and log files are read; `partition` is `account/region`."""
        self.window = window
        self.here = here
        self.contradicted: set[int] = set()
        self.doubtful: set[int] = set()
        """Hours that are not proved for another reason than a contradiction."""
        self._trail = trail
        self._partition = partition
        self._result = result
        self._covered: dict[Standing, list[Range]] = {Standing.COMPARED: [], Standing.SOUND: []}
        """Minutes that digests cover, by the least standing of these digests."""

    def cover(self, span: Range, standing: Standing) -> None:
        """Note that a digest covers this time."""
        for least, ranges in self._covered.items():
            if standing >= least:
                ranges.append(span)

    def merge_covered(self) -> None:
        """Hold what is covered in as few ranges as possible."""
        self._covered = {least: merged(ranges) for least, ranges in self._covered.items()}

    def is_spoken_of(self, span: Range) -> bool:
        """Whether digests cover this time, be they proved or not."""
        return any(
            covered.start <= span.start and span.end <= covered.end
            for covered in self._covered[Standing.COMPARED]
        )

    def proved(self) -> Iterator[int]:
        """Yield the hours that sound digests cover, and that no chain makes doubtful."""
        for covered in merged(self._covered[Standing.SOUND]):
            first = -(-max(covered.start, self.window.start) // MINUTES_PER_HOUR)
            last = min(covered.end - SETTLE_MINUTES, self.window.end) // MINUTES_PER_HOUR
            for hour in range(first, last):
                if hour not in self.doubtful:
                    yield hour

    def concerns(self, found: ChainFinding) -> bool:
        """Whether the hours of the window need the digests that a finding puts in doubt."""
        needed = Range(self.window.start, Minute(self.window.end + SETTLE_MINUTES))
        return bool(intersection(needed, _minutes(_hours(found))))

    def find(self, found: ChainFinding) -> None:
        """Note a finding of a chain, if it concerns the window."""
        hours = _hours(found)
        if not intersection(self.window, _minutes(hours)):
            return  # digests behind the window are read only for the log files that they list
        where = f"s3://{found.bucket}/{found.key}"
        finding = self.note(found.kind, where, found.detail, hours)
        if finding.severity is Severity.ERROR:
            self.contradicted.update(range(*hours))
        else:
            self.doubtful.update(range(*hours))

    def doubt(self, span: Range) -> None:
        """Note that the hours of a span of time cannot be proved."""
        self.doubtful.update(
            range(span.start // MINUTES_PER_HOUR, -(-span.end // MINUTES_PER_HOUR))
        )

    def note(
        self, kind: FindingKind, where: str, detail: str, hours: tuple[int, int] | None
    ) -> Finding:
        """Add a finding to the result, and return the finding."""
        finding = Finding(kind, where, detail, self._trail, self._partition, hours)
        self._result.findings.append(finding)
        return finding

    def conclude(self, source_prefix: SourcePrefix, states: dict[int, HourState]) -> None:
        """Give the result the states of a source prefix's hours."""
        self._result.hours[source_prefix] = sorted(
            HourRange(start, end, state)
            for state in (HourState.PROVED, HourState.CONTRADICTED)
            for start, end in _ranges(hour for hour, of_hour in states.items() if of_hour is state)
        )


class DigestHours:
    """Collects what digests say of the hours of one source prefix."""

    def __init__(self, source_prefix: SourcePrefix, chains: ChainHours) -> None:
        self.window = chains.window
        self._source_prefix = source_prefix
        self._chains = chains
        self._contradicted: set[int] = set()
        self._doubtful: set[int] = set()
        self._uncovered: set[int] = set()
        """Hours with a log file of which no digest speaks."""

    def doubt(self, parts: KeyParts) -> None:
        """Note that the hour of a log file cannot be proved."""
        self._doubtful.update(range(*_hours_of(parts)))

    def judge_unlisted(self, key: str, parts: KeyParts) -> None:
        """Judge a log file that no digest lists."""
        minute = parts.minute
        if minute is None:
            return
        hour = minute // MINUTES_PER_HOUR
        # A missing digest may be the one that lists the log file: a digest of this trail, or of
        # another trail that delivers to the same prefix.
        if hour in self._contradicted or hour in self._chains.contradicted:
            self._uncovered.add(hour)
        elif self._chains.is_spoken_of(Range(minute, Minute(minute + SETTLE_MINUTES))):
            detail = "no digest of its hour, or of a later one, lists it"
            self.find(FindingKind.LOG_FILE_NOT_IN_DIGEST, key, detail, parts)
        else:
            self._uncovered.add(hour)

    def find(self, kind: FindingKind, key: str, detail: str, parts: KeyParts) -> None:
        """Note a finding of a log file: its hour is contradicted if it is an error, or doubtful."""
        hours = _hours_of(parts)
        where = f"s3://{self._chains.here.bucket}/{key}"
        finding = self._chains.note(kind, where, detail, hours if parts.day else None)
        if finding.severity is Severity.ERROR:
            self._contradicted.update(range(*hours))
        else:
            self._doubtful.update(range(*hours))

    def conclude(self) -> None:
        """Give the result the states of the hours, and the hours that no digest speaks of."""
        for hours in _ranges(self._uncovered):
            self._chains.note(
                FindingKind.HOUR_NOT_COVERED,
                f"s3://{self._chains.here.bucket}/{self._source_prefix.folder}",
                "log files lie there that no digest speaks of",
                hours,
            )
        states = dict.fromkeys(
            self._contradicted | self._chains.contradicted, HourState.CONTRADICTED
        )
        for hour in self._chains.proved():
            if hour not in self._doubtful and hour not in self._uncovered:
                states.setdefault(hour, HourState.PROVED)
        self._chains.conclude(self._source_prefix, states)


def _hours(found: ChainFinding) -> tuple[int, int]:
    """Return the hours that a finding of a chain touches, first and one past the last."""
    start = int(found.start.timestamp()) // 3600
    return start, max(-(-int(found.end.timestamp()) // 3600), start + 1)


def _minutes(hours: tuple[int, int]) -> Range:
    return Range(Minute(hours[0] * MINUTES_PER_HOUR), Minute(hours[1] * MINUTES_PER_HOUR))


def _hours_of(parts: KeyParts) -> tuple[int, int]:
    """Return the hour of a log file; all hours of its day if its time is not readable."""
    if parts.minute is not None:
        hour = parts.minute // MINUTES_PER_HOUR
        return hour, hour + 1
    start = parts.day * _HOURS_PER_DAY
    return start, start + (_HOURS_PER_DAY if parts.day else 0)


def _ranges(hours: Iterable[int]) -> list[tuple[int, int]]:
    """Return hours in as few ranges as possible, in order."""
    ranges: list[tuple[int, int]] = []
    for hour in sorted(hours):
        if ranges and ranges[-1][1] == hour:
            ranges[-1] = (ranges[-1][0], hour + 1)
        else:
            ranges.append((hour, hour + 1))
    return ranges
