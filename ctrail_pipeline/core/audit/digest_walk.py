"""Checking one source prefix: its digests, newest first, and the log files that they list.

Digests are read one day at a time, so memory is bounded by a day. Log files are listed, not read:
where the ledger holds the hash of the very version (etag) that the bucket holds, that hash is
compared. Other log files are read and hashed.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from ctrail_pipeline.core.bucket.interface import Bucket, Listed
from ctrail_pipeline.core.bucket.open_bucket import get_described
from ctrail_pipeline.core.exceptions import ObjectArchived, ObjectGone, StoreError
from ctrail_pipeline.core.keys.coverage import Range, intersection, merged, whole_days
from ctrail_pipeline.core.keys.key_time import (
    MINUTES_PER_HOUR,
    Minute,
    day_folder,
    day_number,
    minute_of,
)
from ctrail_pipeline.core.keys.log_file_key import KeyParts, is_log_file, parse_key
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_digests import Hashed, hashed_log_files
from ctrail_pipeline.core.listing.found_prefixes import FoundPrefix
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.log_file.gunzip import decompress
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.threads import DaemonThreads

from .digest_chain import ChainFinding, ChainWalk, ReadDigest
from .digest_file import (
    Chain,
    DigestError,
    ListedLogFile,
    digest_folder,
    parse_digest,
    read_name,
)
from .digest_keys import KeysOfTrail
from .digest_result import DigestResult
from .findings import Finding, FindingKind, HourState, Severity
from .hour_states import HourRange

SETTLE_MINUTES: Final = 15
"""How long after a key's time its log file may be delivered, and so be in a later digest: an hour
is proved, and a log file in no digest is remarkable, only where digests cover as much more."""
_NOT_THE_HASH: Final = "its SHA-256 is not the one in the digest"
READERS: Final = 16
_READ_AT_ONCE: Final = 256
"""Log files whose hashes are waited for together."""


@dataclass
class _Day:
    """What digests say of log files with keys of one day."""

    listed: dict[str, bytes | None] = field(default_factory=dict)
    """SHA-256 by name (see layout.compact_name); None: by a digest that itself is not sound."""
    keys: dict[str, str] = field(default_factory=dict)
    earlier: dict[str, set[bytes]] = field(default_factory=dict)
    """What older digests say of log files that were delivered again."""


@dataclass
class PrefixCheck:
    """The validation of one source partition."""

    place: FoundPrefix
    ledger: Ledger
    source_id: int
    keys: KeysOfTrail
    metadata: dict[str, dict[str, str]] | None
    settings: Settings
    window: Range
    threads: DaemonThreads
    report: Callable[[Problem], None]
    result: DigestResult
    days: dict[int, _Day] = field(default_factory=lambda: defaultdict(_Day))
    covered: list[Range] = field(default_factory=list)
    """Minutes that sound digests cover."""
    others: dict[str, bytes] = field(default_factory=dict)
    """SHA-256 by key of what the digests of the day in hand list in other folders."""
    walks: dict[Chain, ChainWalk] = field(default_factory=dict)
    doubtful: set[int] = field(default_factory=set)
    """Hours that are not proved for another reason than a contradiction."""
    uncovered: set[int] = field(default_factory=set)
    contradicted: set[int] = field(default_factory=set)

    @property
    def bucket_name(self) -> str:
        """The bucket's name; a local folder stands for the bucket of its own name."""
        name = self.place.source_prefix.bucket
        return Path(unquote(urlsplit(name).path)).name if name.startswith("file://") else name

    def check(self) -> None:
        """Walk from the newest day to the oldest."""
        source, bucket = self.place.source_prefix, self.place.bucket
        first, last = whole_days(self.window)
        horizon = self.settings.horizon_days  # a log file may be redelivered as long
        with_digests = set(_days(bucket, digest_folder(source), first, last + horizon))
        if not with_digests:
            if self.place.trail.log_file_validation:
                self._find(
                    FindingKind.DIGEST_MISSING,
                    digest_folder(source),
                    "the trail writes digests, and there is none",
                )
            return
        with_logs = set(_days(bucket, source.folder, first, last))
        for day in sorted(with_digests | with_logs, reverse=True):
            if day in with_digests:
                self._read_digests(day)
                self._settle_others(judged=first <= day < last)
            if first <= day < last:
                self._settle(day)
            self.days.pop(day, None)
            self.covered = merged(self.covered)
        for older in [day for day in self.days if first <= day < last]:
            self._settle(older)  # listed by digests, and its folder is gone
        oldest = datetime.fromtimestamp(first * 86_400, UTC)
        for walk in self.walks.values():
            for finding in walk.end(oldest):
                self._find_in_chain(finding)
        self._conclude()

    # -- digests --------------------------------------------------------------------------------

    def _read_digests(self, day: int) -> None:
        source = self.place.source_prefix
        folder = digest_folder(source) + day_folder(day)
        names = [
            (name, listed.key)
            for listed in _objects(self.place.bucket, folder)
            if (name := read_name(source, listed.key)) is not None
        ]
        names.sort(key=lambda item: (item[0].end, item[1]), reverse=True)
        # 16 at a time: a day of a chain is 24 digests, each of some 100 KB at most as a rule.
        for read, generated in self.threads.map(lambda item: self._read(*item), names):
            self._take(read, generated)

    def _read(self, name: Any, key: str) -> tuple[ReadDigest, str | None]:
        """A digest, and when a backfill digest was generated, as its metadata says."""
        try:
            described = get_described(self.place.bucket, key)
        except StoreError as error:
            return ReadDigest(self.bucket_name, key, name, None, str(error), gone=True), None
        metadata = dict(described.metadata)
        if self.metadata is not None:
            metadata |= self.metadata.get(f"{self.bucket_name}/{key}", {})
        signature, algorithm = metadata.get("signature"), metadata.get("signature-algorithm")
        try:
            digest, problem = parse_digest(described.body), ""
        except DigestError as error:
            digest, problem = None, str(error)
        read = ReadDigest(self.bucket_name, key, name, digest, problem, signature, algorithm)
        return read, metadata.get("backfill-generation-timestamp")

    def _take(self, read: ReadDigest, generated: str | None) -> None:
        self.result.digests += 1
        if read.gone:
            where = f"s3://{read.bucket}/{read.key}"
            self.report(Problem(self.place.trail.name, where, "not read", read.problem))
        about = read.name.end if generated is None else _moment(generated) or read.name.end
        key = self.keys.find(read, about, self.place, self.ledger, self.report)
        walk = self.walks.setdefault(read.name.chain, ChainWalk())
        sound, findings = walk.step(read, key)
        for finding in findings:
            self._find_in_chain(finding)
        if read.digest is None:
            return
        if sound:
            self.result.digests_sound += 1
            if not read.name.chain.backfill:
                self.covered.append(Range(minute_of(read.digest.start), minute_of(read.digest.end)))
        for item in read.digest.log_files:
            self._claim(item, sound=sound)

    def _claim(self, item: ListedLogFile, *, sound: bool) -> None:
        """Keep what a digest says of a log file; the newest digest that lists it counts."""
        if item.bucket != self.bucket_name:
            return  # the trail delivered to another bucket then
        try:
            place = parse_key(self.place.source_prefix, item.key)
        except ValueError:  # Insights, and what else CloudTrail delivers beside log files
            if sound:
                self.others.setdefault(item.key, item.sha256)
            return
        day = self.days[place.day]
        if day.listed.get(place.name) is None:
            day.listed[place.name] = item.sha256 if sound else None
            day.keys[place.name] = item.key
        elif sound:
            day.earlier.setdefault(place.name, set()).add(item.sha256)

    # -- log files ------------------------------------------------------------------------------

    def _settle(self, day: int) -> None:
        """Judge the log files of a day: digests that may list them have all been read."""
        source = self.place.source_prefix
        claims = self.days.get(day, _Day())
        self.covered = merged(self.covered)
        rows = hashed_log_files(self.ledger, self.source_id, day) if self.source_id else {}
        present: dict[str, Listed] = {}
        for listed in _objects(self.place.bucket, source.folder + day_folder(day)):
            if is_log_file(listed.key):
                place = parse_key(source, listed.key)
                present[place.name] = listed
                if place.name not in claims.listed and _is_in(self.window, place):
                    self._judge_unlisted(listed, place)
        unread: list[tuple[Listed, KeyParts, bytes]] = []
        for name, sha256 in claims.listed.items():
            place = parse_key(source, claims.keys[name])
            if not _is_in(self.window, place):
                continue
            self.result.log_files += sha256 is not None
            there = present.get(name)
            if sha256 is None:
                self._doubt(place)
            elif there is None:
                synced = name in rows and rows[name].sha256 == sha256
                detail = "its events were brought in before" if synced else "it was not synced"
                self._find(FindingKind.LOG_FILE_DELETED, claims.keys[name], detail, place)
            elif not self._is_judged_by(rows.get(name), there, place, sha256, claims.earlier):
                unread.append((there, place, sha256))
        self._read_log_files(unread)

    def _settle_others(self, *, judged: bool) -> None:
        """Judge what a day's digests list that is no log file of this account and region.

        It is not synced, so nothing is known of it: each object is read.
        """
        items = sorted(self.others.items()) if judged else []
        self.others.clear()

        def hash_of(item: tuple[str, bytes]) -> bytes | StoreError:
            try:
                body = self.place.bucket.get(item[0], None).body
            except StoreError as error:
                return error
            return hashlib.sha256(decompress(body, self.settings.max_log_file_bytes).data).digest()

        for start in range(0, len(items), _READ_AT_ONCE):
            some = items[start : start + _READ_AT_ONCE]
            for (key, sha256), found in zip(some, self.threads.map(hash_of, some), strict=True):
                if isinstance(found, ObjectGone):
                    self._find(FindingKind.LOG_FILE_DELETED, key, "it is not synced")
                elif isinstance(found, StoreError):
                    where = f"s3://{self.bucket_name}/{key}"
                    self.report(Problem(self.place.trail.name, where, "not read", str(found)))
                elif found != sha256:
                    self._find(
                        FindingKind.LOG_FILE_ALTERED,
                        key,
                        "its SHA-256 is not the one in the digest",
                    )

    def _judge_unlisted(self, listed: Listed, place: KeyParts) -> None:
        minute = place.minute
        if minute is None:
            return
        # Where a digest is missing, it may be the one that lists it, of this trail or another one
        # that delivers to the same prefix.
        if minute // MINUTES_PER_HOUR in self.contradicted:
            self.uncovered.add(minute // MINUTES_PER_HOUR)
        elif _holds(self.covered, Range(minute, Minute(minute + SETTLE_MINUTES))):
            detail = "no digest of its hour, or of a later one, lists it"
            self._find(FindingKind.LOG_FILE_NOT_IN_DIGEST, listed.key, detail, place)
            self._doubt(place)
        else:
            self.uncovered.add(minute // MINUTES_PER_HOUR)

    def _is_judged_by(
        self,
        row: Hashed | None,
        there: Listed,
        place: KeyParts,
        sha256: bytes,
        earlier: Mapping[str, set[bytes]],
    ) -> bool:
        """Whether what was hashed while syncing says all there is to say of a log file.

        If the bucket holds another version by now, it says something of the lines in the output,
        and the object is yet to be read.
        """
        if row is None or row.sha256 is None:
            return False
        if row.etag != there.etag:
            if row.sha256 not in {sha256, *earlier.get(place.name, ())}:
                detail = "what was synced was altered; the bucket holds another version by now"
                self._altered(there.key, place, detail)
            return False
        if row.sha256 == sha256:
            self._prove(there.key)
        else:
            self._altered(there.key, place)
        return True

    def _prove(self, key: str) -> None:
        self.result.log_files_proved += 1
        if self.result.proved is not None:
            self.result.proved.add(key)

    def _altered(self, key: str, place: KeyParts, detail: str = "") -> None:
        self._find(
            FindingKind.LOG_FILE_ALTERED,
            key,
            detail or _NOT_THE_HASH,
            place,
        )

    def _read_log_files(self, unread: Iterable[tuple[Listed, KeyParts, bytes]]) -> None:
        limit = self.settings.max_log_file_bytes

        def hash_of(item: tuple[Listed, KeyParts, bytes]) -> tuple[bytes | None, str | StoreError]:
            try:
                content = decompress(self.place.bucket.get(item[0].key, None).body, limit)
            except StoreError as error:
                return None, error
            damage = content.damage
            # An empty log file is nothing that could be damaged: the hash decides.
            return hashlib.sha256(content.data).digest(), "" if damage == "empty" else damage or ""

        items = list(unread)
        for start in range(0, len(items), _READ_AT_ONCE):
            some = items[start : start + _READ_AT_ONCE]
            results = self.threads.map(hash_of, some)
            for (there, place, sha256), (found, problem) in zip(some, results, strict=True):
                if isinstance(problem, ObjectGone):
                    self._find(FindingKind.LOG_FILE_DELETED, there.key, "just now", place)
                elif isinstance(problem, StoreError):
                    self._doubt(place)
                    state = "archived" if isinstance(problem, ObjectArchived) else "not read"
                    where = f"s3://{self.bucket_name}/{there.key}"
                    self.report(Problem(self.place.trail.name, where, state, str(problem)))
                elif problem or found != sha256:
                    self._altered(there.key, place, str(problem))
                else:
                    self._prove(there.key)

    # -- what comes of it -----------------------------------------------------------------------

    def _find_in_chain(self, found: ChainFinding) -> None:
        start = int(found.start.timestamp()) // 3600
        end = max(-(-int(found.end.timestamp()) // 3600), start + 1)
        window = Range(Minute(start * MINUTES_PER_HOUR), Minute(end * MINUTES_PER_HOUR))
        if not intersection(self.window, window):
            return  # digests behind the window are read only for what they list of it
        finding = Finding(
            found.kind,
            f"s3://{found.bucket}/{found.key}",
            found.detail,
            self.place.trail.name,
            self.place.source_prefix.partition_key,
            (start, end),
        )
        self.result.findings.append(finding)
        hours = range(start, end)
        if finding.severity is Severity.ERROR:
            self.contradicted.update(hours)
        else:
            self.doubtful.update(hours)

    def _find(
        self,
        kind: FindingKind,
        key: str,
        detail: str,
        place: KeyParts | None = None,
    ) -> None:
        hours = None
        if place is not None and place.minute is not None:
            hour = place.minute // MINUTES_PER_HOUR
            hours = (hour, hour + 1)
        finding = Finding(
            kind,
            f"s3://{self.bucket_name}/{key}",
            detail,
            self.place.trail.name,
            self.place.source_prefix.partition_key,
            hours,
        )
        self.result.findings.append(finding)
        if hours and finding.severity is Severity.ERROR:
            self.contradicted.add(hours[0])

    def _doubt(self, place: KeyParts) -> None:
        if place.minute is not None:
            self.doubtful.add(place.minute // MINUTES_PER_HOUR)

    def _conclude(self) -> None:
        for start, end in _ranges(self.uncovered):
            finding = Finding(
                FindingKind.HOUR_NOT_COVERED,
                f"s3://{self.bucket_name}/{self.place.source_prefix.folder}",
                "log files lie there that no digest speaks of",
                self.place.trail.name,
                self.place.source_prefix.partition_key,
                (start, end),
            )
            self.result.findings.append(finding)
        states = dict.fromkeys(self.contradicted, HourState.CONTRADICTED)
        for item in merged(self.covered):
            first = -(-max(item.start, self.window.start) // MINUTES_PER_HOUR)
            last = min(item.end - SETTLE_MINUTES, self.window.end) // MINUTES_PER_HOUR
            for hour in range(first, last):
                if hour not in self.doubtful and hour not in self.uncovered:
                    states.setdefault(hour, HourState.PROVED)
        self.result.hours[self.place.source_prefix] = [
            HourRange(start, end, state)
            for state in (HourState.PROVED, HourState.CONTRADICTED)
            for start, end in _ranges(hour for hour, is_ in states.items() if is_ is state)
        ]
        self.result.hours[self.place.source_prefix].sort(key=lambda item: item[0])


def _days(bucket: Bucket, folder: str, first: int, end: int) -> Iterator[int]:
    """The days from `first` and before `end` that have a folder: three levels of listings."""
    years = range(1970 + first // 366 - 1, 1970 + end // 365 + 2)
    for year in bucket.list_folder(folder).folders:
        if not (year.isdecimal() and len(year) == 4 and int(year) in years):
            continue
        for month in bucket.list_folder(f"{folder}{year}/").folders:
            if not (month.isdecimal() and len(month) == 2):
                continue
            for name in bucket.list_folder(f"{folder}{year}/{month}/").folders:
                if name.isdecimal() and len(name) == 2:
                    day = day_number(int(year), int(month), int(name))
                    if day is not None and first <= day < end:
                        yield day


def _objects(bucket: Bucket, folder: str) -> Iterator[Listed]:
    after = ""
    while True:
        page = bucket.list_page(folder, after)
        yield from page.objects
        if page.last or not page.objects:
            return
        after = page.objects[-1].key


def _is_in(window: Range, place: KeyParts) -> bool:
    return place.minute is None or window.start <= place.minute < window.end


def _holds(ranges: Iterable[Range], wanted: Range) -> bool:
    return any(item.start <= wanted.start and wanted.end <= item.end for item in ranges)


def _ranges(hours: Iterable[int]) -> list[tuple[int, int]]:
    """Hours in as few ranges as possible, in order."""
    found: list[tuple[int, int]] = []
    for hour in sorted(hours):
        if found and found[-1][1] == hour:
            found[-1] = (found[-1][0], hour + 1)
        else:
            found.append((hour, hour + 1))
    return found


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
