"""Checking one source prefix: its digests, from the newest day backwards.

Digests are read one day at a time, so memory is bounded by a day. The log files of a day are judged
when all digests that may list them have been read. How digests hang together belongs to
`digest_chain`; comparing log files with the listed hashes belongs to `digest_hashes`.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime

from ctrail_pipeline.core.bucket.open_bucket import get_described
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.coverage import Range, whole_days
from ctrail_pipeline.core.keys.log_file_key import parse_key
from ctrail_pipeline.core.keys.minutes import day_folder, minute_of

from .digest_chain import ChainWalk, ReadDigest
from .digest_file import (
    Chain,
    DigestError,
    DigestName,
    ListedLogFile,
    digest_folder,
    parse_digest,
    read_name,
)
from .digest_hashes import HashComparison, ListedDay
from .digest_hours import DigestHours
from .digest_keys import KeysOfTrail
from .digest_listing import days_with_folder, objects_in
from .digest_task import DigestTask
from .findings import FindingKind


class PrefixCheck:
    """The check of one source prefix."""

    def __init__(
        self,
        task: DigestTask,
        keys: KeysOfTrail,
        metadata: Mapping[str, Mapping[str, str]] | None,
        window: Range,
    ) -> None:
        """`metadata` is the user metadata by `bucket/key`, if a file holds it."""
        self._task = task
        self._keys = keys
        self._metadata = metadata
        self._hours = DigestHours(task.found, window, task.result)
        self._hashes = HashComparison(task, self._hours)
        self._days: dict[int, ListedDay] = defaultdict(ListedDay)
        self._others: dict[str, bytes] = {}
        """SHA-256 by key of objects in other folders that the digests of the day in hand list."""
        self._walks: dict[Chain, ChainWalk] = {}

    def check(self) -> None:
        """Walk from the newest day to the oldest. Raises StoreError if a folder is not listed."""
        source_prefix, bucket = self._task.source_prefix, self._task.found.bucket
        first, last = whole_days(self._hours.window)
        horizon = self._task.horizon_days  # for so long a log file may be delivered again
        with_digests = set(
            days_with_folder(bucket, digest_folder(source_prefix), first, last + horizon)
        )
        if not with_digests:
            if self._task.found.trail.log_file_validation:
                self._hours.find(
                    FindingKind.DIGEST_MISSING,
                    digest_folder(source_prefix),
                    "the trail writes digests, and there is none",
                )
            return
        with_log_files = set(days_with_folder(bucket, source_prefix.folder, first, last))
        for day in sorted(with_digests | with_log_files, reverse=True):
            if day in with_digests:
                self._read_digests(day)
                if first <= day < last:
                    self._hashes.compare_others(self._others)
                self._others.clear()
            if first <= day < last:
                self._hashes.compare_day(day, self._days.get(day, ListedDay()))
            self._days.pop(day, None)
            self._hours.merge_covered()
        for day in [day for day in self._days if first <= day < last]:
            self._hashes.compare_day(day, self._days[day])  # its folder is gone
        self._end_chains(first)
        self._hours.conclude()

    def _end_chains(self, first_day: int) -> None:
        oldest = datetime.fromtimestamp(first_day * 86_400, UTC)
        for walk in self._walks.values():
            for finding in walk.end(oldest):
                self._hours.find_in_chain(finding)

    def _read_digests(self, day: int) -> None:
        source_prefix = self._task.source_prefix
        folder = digest_folder(source_prefix) + day_folder(day)
        names = [
            (name, listed.key)
            for listed in objects_in(self._task.found.bucket, folder)
            if (name := read_name(source_prefix, listed.key)) is not None
        ]
        names.sort(key=lambda item: (item[0].end, item[1]), reverse=True)
        # 16 at a time: a chain has 24 digests a day, each as a rule of 100 KB at most.
        for read, generated in self._task.threads.map(lambda item: self._read(*item), names):
            self._take(read, generated)

    def _read(self, name: DigestName, key: str) -> tuple[ReadDigest, str | None]:
        """Return a digest, and when its metadata says that a backfill digest was generated."""
        bucket_name = self._hours.bucket_name
        try:
            described = get_described(self._task.found.bucket, key)
        except StoreError as error:
            return ReadDigest(bucket_name, key, name, None, str(error), gone=True), None
        metadata = dict(described.metadata)
        if self._metadata is not None:
            metadata |= self._metadata.get(f"{bucket_name}/{key}", {})
        signature, algorithm = metadata.get("signature"), metadata.get("signature-algorithm")
        try:
            digest, problem = parse_digest(described.body), ""
        except DigestError as error:
            digest, problem = None, str(error)
        read = ReadDigest(bucket_name, key, name, digest, problem, signature, algorithm)
        return read, metadata.get("backfill-generation-timestamp")

    def _take(self, read: ReadDigest, generated: str | None) -> None:
        """Check a digest and its link to the newer one; keep what it lists."""
        task = self._task
        task.result.digests += 1
        if read.gone:
            task.report_problem(f"s3://{read.bucket}/{read.key}", "not read", read.problem)
        about = read.name.end if generated is None else _moment(generated) or read.name.end
        key = self._keys.find(read, about, task)
        walk = self._walks.setdefault(read.name.chain, ChainWalk())
        sound, findings = walk.step(read, key)
        for finding in findings:
            self._hours.find_in_chain(finding)
        if read.digest is None:
            return
        if sound:
            task.result.digests_sound += 1
            if not read.name.chain.backfill:
                self._hours.cover(Range(minute_of(read.digest.start), minute_of(read.digest.end)))
        for item in read.digest.log_files:
            self._keep(item, sound=sound)

    def _keep(self, item: ListedLogFile, *, sound: bool) -> None:
        """Keep what a digest says of a log file, until its day is judged."""
        if item.bucket != self._hours.bucket_name:
            return  # the trail delivered to another bucket then
        try:
            parts = parse_key(self._task.source_prefix, item.key)
        except ValueError:  # Insights, and other things that CloudTrail delivers beside log files
            if sound:
                self._others.setdefault(item.key, item.sha256)
            return
        self._days[parts.day].add(parts.name, item, sound=sound)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
