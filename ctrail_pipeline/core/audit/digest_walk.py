"""Checking one folder of digests: those of an account and region, from the newest day backwards.

Digests are read one day at a time, so memory is bounded by a day. The log files of a day are judged
when all digests that may list them have been read. A digest lists log files of every kind: each is
compared with the source prefix of its kind. How digests hang together belongs to `digest_chain`;
comparing log files with the listed hashes belongs to `digest_hashes`.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from ctrail_pipeline.core.bucket.open_bucket import get_described
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.coverage import Range, intersection, whole_days
from ctrail_pipeline.core.keys.minutes import Minute, day_folder, minute_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.listing.delivery import expected_deliveries, read_delivery

from .digest_chain import ChainWalk, ReadDigest, Standing
from .digest_file import (
    Chain,
    Digest,
    DigestError,
    DigestName,
    digest_folder,
    parse_digest,
    read_name,
)
from .digest_hashes import HashComparison
from .digest_hours import SETTLE_MINUTES, ChainHours
from .digest_keys import KeysOfTrail
from .digest_listing import days_with_folder, objects_in
from .digest_task import DigestTask
from .findings import FindingKind


class FolderCheck:
    """The check of one folder of digests."""

    def __init__(
        self,
        task: DigestTask,
        keys: KeysOfTrail,
        metadata: Mapping[str, Mapping[str, str]],
        window: Range,
    ) -> None:
        """`metadata` is the user metadata by `bucket/key`, as far as a file holds it."""
        self._task = task
        self._keys = keys
        self._metadata = metadata
        self._prefix = task.any_prefix
        self._here = read_delivery(task.trail, self._prefix.prefix)
        self._expected = expected_deliveries(task.trail, self._here)
        self._folder = digest_folder(self._prefix)
        self._chains = ChainHours(
            task.trail.name, self._here, self._prefix.partition_key, window, task.result
        )
        self._selected = [(prefix.folder, prefix) for prefix in task.selected]
        self._comparisons: dict[SourcePrefix, HashComparison] = {}
        for source_prefix in task.present:
            self._comparison_of(source_prefix)
        self._walks: dict[Chain, ChainWalk] = {}

    def check(self) -> None:
        """Walk from the newest day to the oldest. Raises StoreError if a folder is not listed."""
        bucket = self._task.bucket
        first, last = whole_days(self._chains.window)
        horizon = self._task.horizon_days  # for so long a log file may be delivered again
        with_digests = set(days_with_folder(bucket, self._folder, first, last + horizon))
        if not with_digests:
            if self._task.trail.log_file_validation:
                where = f"s3://{self._here.bucket}/{self._folder}"
                detail = "the trail writes digests, and there is none"
                self._chains.note(FindingKind.DIGEST_MISSING, where, detail, None)
            return
        days: dict[SourcePrefix, set[int]] = {
            source_prefix: set(days_with_folder(bucket, source_prefix.folder, first, last))
            for source_prefix in self._comparisons
        }
        for day in sorted(with_digests.union(*days.values()), reverse=True):
            if day in with_digests:
                self._read_digests(day)
            self._chains.merge_covered()
            for source_prefix, comparison in self._comparisons.items():
                if day in days.get(source_prefix, set()) or comparison.lists(day):
                    comparison.compare_day(day)
        for comparison in self._comparisons.values():
            comparison.compare_rest()
        self._end_chains(first)
        for comparison in self._comparisons.values():
            comparison.conclude()

    def _end_chains(self, first_day: int) -> None:
        oldest = datetime.fromtimestamp(first_day * 86_400, UTC)
        concerns = self._chains.concerns
        for walk in self._walks.values():
            for finding in walk.end(oldest):
                self._chains.find(finding)
            for delivery, digests in walk.elsewhere.items():
                self._task.setup.note_elsewhere(delivery, [*filter(concerns, digests)])
            self._task.setup.note_unsigned([*filter(concerns, walk.unsigned)])

    def _comparison_of(self, source_prefix: SourcePrefix) -> HashComparison:
        """Return the comparison of a source prefix; a new one if it had no log files so far."""
        comparison = self._comparisons.get(source_prefix)
        if comparison is None:
            source_id = self._task.source_ids.get(source_prefix, 0)
            comparison = HashComparison(self._task, source_prefix, source_id, self._chains)
            self._comparisons[source_prefix] = comparison
        return comparison

    def _read_digests(self, day: int) -> None:
        names = [
            (name, listed.key)
            for listed in objects_in(self._task.bucket, self._folder + day_folder(day))
            if (name := read_name(self._prefix, listed.key)) is not None
        ]
        names.sort(key=lambda item: (item[0].end, item[1]), reverse=True)
        # 16 at a time: a chain has 24 digests a day, each as a rule of 100 KB at most.
        for read, generated in self._task.threads.map(lambda item: self._read(*item), names):
            self._take(read, generated)

    def _read(self, name: DigestName, key: str) -> tuple[ReadDigest, str | None]:
        """Return a digest, and when its metadata says that a backfill digest was generated."""
        bucket_name = self._here.bucket
        try:
            described = get_described(self._task.bucket, key)
        except StoreError as error:
            return ReadDigest(bucket_name, key, name, None, str(error), gone=True), None
        try:
            digest, problem = parse_digest(described.body), ""
        except DigestError as error:
            digest, problem = None, str(error)
        metadata = dict(described.metadata)
        # A file from the original bucket has the address that the digest names.
        own_address = f"{digest.bucket}/{digest.key}" if digest else ""
        for address in (own_address, f"{bucket_name}/{key}"):
            metadata |= self._metadata.get(address, {})
        signature, algorithm = metadata.get("signature"), metadata.get("signature-algorithm")
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
        walk = self._walks.setdefault(read.name.chain, ChainWalk(self._here, self._expected))
        standing, findings = walk.step(read, key)
        for finding in findings:
            self._chains.find(finding)
        if read.digest is None:
            return
        task.result.digests_sound += standing is Standing.SOUND
        span = Range(minute_of(read.digest.start), minute_of(read.digest.end))
        if not read.name.chain.backfill:
            self._chains.cover(span, standing)
        self._keep_log_files(read, read.digest, span, standing)

    def _keep_log_files(
        self, read: ReadDigest, digest: Digest, span: Range, standing: Standing
    ) -> None:
        """Keep what a digest says of log files, until their days are judged."""
        window = self._chains.window
        named = self._here.named_by(digest.bucket, digest.key, read.key)
        for item in digest.log_files:
            rest = (named or self._expected[0]).rest(item.bucket, item.key)
            if rest is None:  # the trail delivered elsewhere then: what lies there is not read
                self._chains.doubt(Range(Minute(span.start - SETTLE_MINUTES), span.end))
                continue
            key = self._here.key(rest)
            for folder, source_prefix in self._selected:
                if key.startswith(folder):
                    self._comparison_of(source_prefix).add(key, item.sha256, standing)
                    break
            else:
                is_counted = standing is not Standing.VOID and intersection(window, span)
                self._task.result.log_files_not_selected += bool(is_counted)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
