"""What digests say of each hour of a source prefix, and the findings that follow.

An hour is proved only where sound digests cover it and 15 minutes more, and nothing makes it
doubtful. Which findings there are is decided in `digest_walk` and `digest_hashes`; merging with the
listing belongs to `hour_states`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from ctrail_pipeline.core.keys.coverage import Range, intersection, merged
from ctrail_pipeline.core.keys.log_file_key import KeyParts
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_HOUR, Minute
from ctrail_pipeline.core.listing.found_prefixes import FoundPrefix

from .digest_chain import ChainFinding
from .digest_result import DigestResult
from .findings import Finding, FindingKind, HourState, Severity
from .hour_states import HourRange

SETTLE_MINUTES: Final = 15
"""Minutes after a key's time within which its log file may be delivered, and so be in a later
digest. An hour is proved, and a log file in no digest is remarkable, only where digests cover so
much more."""


class DigestHours:
    """Collects what digests say of the hours of one source prefix."""

    def __init__(self, found: FoundPrefix, window: Range, result: DigestResult) -> None:
        self.window = window
        self.bucket_name = _bucket_name(found.source_prefix.bucket)
        self._source_prefix = found.source_prefix
        self._trail = found.trail.name
        self._result = result
        self._covered: list[Range] = []
        """Minutes that sound digests cover."""
        self._contradicted: set[int] = set()
        self._doubtful: set[int] = set()
        """Hours that are not proved for another reason than a contradiction."""
        self._uncovered: set[int] = set()
        """Hours with a log file of which no digest speaks."""

    def cover(self, window: Range) -> None:
        """Note that a sound digest covers this time."""
        self._covered.append(window)

    def merge_covered(self) -> None:
        """Hold what is covered in as few ranges as possible."""
        self._covered = merged(self._covered)

    def doubt(self, parts: KeyParts) -> None:
        """Note that the hour of a log file cannot be proved."""
        if parts.minute is not None:
            self._doubtful.add(parts.minute // MINUTES_PER_HOUR)

    def judge_unlisted(self, key: str, parts: KeyParts) -> None:
        """Judge a log file that no digest lists."""
        minute = parts.minute
        if minute is None:
            return
        # A missing digest may be the one that lists the log file: a digest of this trail, or of
        # another trail that delivers to the same prefix.
        if minute // MINUTES_PER_HOUR in self._contradicted:
            self._uncovered.add(minute // MINUTES_PER_HOUR)
        elif self._is_covered(Range(minute, Minute(minute + SETTLE_MINUTES))):
            detail = "no digest of its hour, or of a later one, lists it"
            self.find(FindingKind.LOG_FILE_NOT_IN_DIGEST, key, detail, parts)
            self.doubt(parts)
        else:
            self._uncovered.add(minute // MINUTES_PER_HOUR)

    def find(self, kind: FindingKind, key: str, detail: str, parts: KeyParts | None = None) -> None:
        """Note a finding of an object; `parts` say which log file the object is, if it is one."""
        hours = None
        if parts is not None and parts.minute is not None:
            hour = parts.minute // MINUTES_PER_HOUR
            hours = (hour, hour + 1)
        finding = self._note(kind, f"s3://{self.bucket_name}/{key}", detail, hours)
        if hours and finding.severity is Severity.ERROR:
            self._contradicted.add(hours[0])

    def find_in_chain(self, found: ChainFinding) -> None:
        """Note a finding of a chain of digests, if it concerns the window."""
        start = int(found.start.timestamp()) // 3600
        end = max(-(-int(found.end.timestamp()) // 3600), start + 1)
        span = Range(Minute(start * MINUTES_PER_HOUR), Minute(end * MINUTES_PER_HOUR))
        if not intersection(self.window, span):
            return  # digests behind the window are read only for the log files that they list
        where = f"s3://{found.bucket}/{found.key}"
        finding = self._note(found.kind, where, found.detail, (start, end))
        if finding.severity is Severity.ERROR:
            self._contradicted.update(range(start, end))
        else:
            self._doubtful.update(range(start, end))

    def conclude(self) -> None:
        """Give the result the states of the hours, and the hours that no digest speaks of."""
        for hours in _ranges(self._uncovered):
            self._note(
                FindingKind.HOUR_NOT_COVERED,
                f"s3://{self.bucket_name}/{self._source_prefix.folder}",
                "log files lie there that no digest speaks of",
                hours,
            )
        states = dict.fromkeys(self._contradicted, HourState.CONTRADICTED)
        for covered in merged(self._covered):
            first = -(-max(covered.start, self.window.start) // MINUTES_PER_HOUR)
            last = min(covered.end - SETTLE_MINUTES, self.window.end) // MINUTES_PER_HOUR
            for hour in range(first, last):
                if hour not in self._doubtful and hour not in self._uncovered:
                    states.setdefault(hour, HourState.PROVED)
        self._result.hours[self._source_prefix] = sorted(
            HourRange(start, end, state)
            for state in (HourState.PROVED, HourState.CONTRADICTED)
            for start, end in _ranges(hour for hour, of_hour in states.items() if of_hour is state)
        )

    def _note(
        self, kind: FindingKind, where: str, detail: str, hours: tuple[int, int] | None
    ) -> Finding:
        partition = self._source_prefix.partition_key
        finding = Finding(kind, where, detail, self._trail, partition, hours)
        self._result.findings.append(finding)
        return finding

    def _is_covered(self, window: Range) -> bool:
        return any(
            covered.start <= window.start and window.end <= covered.end for covered in self._covered
        )


def _bucket_name(bucket: str) -> str:
    """Return the bucket's name; a local folder stands for the bucket that its own name names."""
    return Path(unquote(urlsplit(bucket).path)).name if bucket.startswith("file://") else bucket


def _ranges(hours: Iterable[int]) -> list[tuple[int, int]]:
    """Return hours in as few ranges as possible, in order."""
    ranges: list[tuple[int, int]] = []
    for hour in sorted(hours):
        if ranges and ranges[-1][1] == hour:
            ranges[-1] = (ranges[-1][0], hour + 1)
        else:
            ranges.append((hour, hour + 1))
    return ranges
