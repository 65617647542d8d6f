"""Comparing log files with the hashes that digests list for them.

Log files are listed, not read: where the ledger holds the hash of the very version (etag) that the
bucket holds, that hash is compared. Other log files are read and hashed. A damaged log file is
never proved, and the ledger's hash of a log file that is not committed is never used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ctrail_pipeline.core.bucket.interface import Listed
from ctrail_pipeline.core.exceptions import ObjectArchived, ObjectGone, StoreError
from ctrail_pipeline.core.keys.coverage import whole_days
from ctrail_pipeline.core.keys.log_file_key import KeyParts, is_log_file, parse_key
from ctrail_pipeline.core.keys.minutes import day_folder
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.queries_digests import Hashed, hashed_log_files
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.log_file.decompress import decompress, is_over

from .digest_chain import Standing
from .digest_hours import ChainHours, DigestHours
from .digest_listing import objects_in
from .digest_task import DigestTask
from .findings import FindingKind

_READ_AT_ONCE: Final = 256
"""Log files whose hashes are waited for together."""


class Claim(NamedTuple):
    """What the digest that counts says of a log file."""

    key: str
    """The key by which the log file is read."""
    sha256: bytes
    standing: Standing
    """The digest's."""


@dataclass
class ListedDay:
    """What digests say of log files with keys of one day, by name as `KeyParts` has it."""

    claims: dict[str, Claim] = field(default_factory=dict)
    earlier: dict[str, set[bytes]] = field(default_factory=dict)
    """Hashes that older digests list for log files that were delivered again."""

    def add(self, name: str, claim: Claim) -> None:
        """Add what a digest says.

        Digests come newest first. Of the digests with the best standing, the newest counts.
        """
        known = self.claims.get(name)
        if known is None or known.standing < claim.standing:
            self.claims[name] = claim
        elif claim.standing is not Standing.VOID:
            self.earlier.setdefault(name, set()).add(claim.sha256)


class _Unread(NamedTuple):
    """A log file that must be read to be judged."""

    listed: Listed
    parts: KeyParts
    claim: Claim
    is_damaged: bool
    """Whether the ledger says that this very version is damaged."""


class _Content(NamedTuple):
    """What reading a log file showed."""

    sha256: bytes | None
    """SHA-256 of the text, up to the damage; None if the text exceeds the size limit."""
    damage: str | None


class HashComparison:
    """Compares the log files of one source prefix with what digests list."""

    def __init__(
        self, task: DigestTask, source_prefix: SourcePrefix, source_id: int, chains: ChainHours
    ) -> None:
        """`source_id` is the source prefix's in the ledger; 0 if the ledger does not know it."""
        self._task = task
        self._source_prefix = source_prefix
        self._source_id = source_id
        self._hours = DigestHours(source_prefix, chains)
        self._bucket_name = chains.here.bucket
        self._days: dict[int, ListedDay] = {}

    def add(self, key: str, sha256: bytes, standing: Standing) -> None:
        """Keep what a digest says of a log file, until the log file's day is judged."""
        parts = parse_key(self._source_prefix, key)
        day = self._days.setdefault(parts.day, ListedDay())
        day.add(parts.name, Claim(key, sha256, standing))

    def lists(self, day: int) -> bool:
        """Whether digests list log files of a day that is not judged yet."""
        return day in self._days

    def compare_rest(self) -> None:
        """Judge the log files of days that nobody has asked for: their folders are gone."""
        for day in sorted(self._days, reverse=True):
            self.compare_day(day)

    def conclude(self) -> None:
        """Give the result the states of the hours."""
        self._hours.conclude()

    def compare_day(self, day: int) -> None:
        """Judge the log files of a day, once all digests that may list them have been read.

        A day outside the window is only forgotten.
        """
        listed_day = self._days.pop(day, None) or ListedDay()
        first, end = whole_days(self._hours.window)
        if not first <= day < end:
            return
        ledger, source_id = self._task.ledger, self._source_id
        rows = hashed_log_files(ledger, source_id, day) if source_id else {}
        present = self._present(day, listed_day)
        unread: list[_Unread] = []
        for name, claim in listed_day.claims.items():
            parts = parse_key(self._source_prefix, claim.key)
            if not self._is_in_window(parts):
                continue
            self._task.result.log_files += claim.standing is Standing.SOUND
            if claim.standing is not Standing.SOUND:
                self._hours.doubt(parts)
            if claim.standing is Standing.VOID:
                continue
            listed, row = present.get(name), rows.get(name)
            if row is not None and row.is_accepted and (not listed or listed.etag == row.etag):
                self._hours.doubt(parts)  # a person settled it as it is; that proves nothing
            elif listed is None:
                synced = _committed_hash(row) == claim.sha256
                detail = "its events were brought in before" if synced else "it was not synced"
                self._hours.find(FindingKind.LOG_FILE_DELETED, claim.key, detail, parts)
            elif not self._is_judged_by(row, listed, parts, claim, listed_day.earlier):
                is_damaged = (
                    row is not None
                    and row.state is LogFileState.DAMAGED
                    and row.etag == listed.etag
                )
                unread.append(_Unread(listed, parts, claim, is_damaged))
        self._read_log_files(unread)

    def _present(self, day: int, listed_day: ListedDay) -> dict[str, Listed]:
        """List the log files of a day in the bucket, and judge those that no digest lists."""
        present: dict[str, Listed] = {}
        folder = self._source_prefix.folder + day_folder(day)
        for listed in objects_in(self._task.bucket, folder):
            if is_log_file(listed.key):
                parts = parse_key(self._source_prefix, listed.key)
                present[parts.name] = listed
                if parts.name not in listed_day.claims and self._is_in_window(parts):
                    self._hours.judge_unlisted(listed.key, parts)
        return present

    def _is_judged_by(
        self,
        row: Hashed | None,
        listed: Listed,
        parts: KeyParts,
        claim: Claim,
        earlier: Mapping[str, set[bytes]],
    ) -> bool:
        """Whether the hash taken while syncing says all there is to say of a log file.

        If the bucket holds another version by now, that hash speaks only of the lines in the
        output, and the object must still be read.
        """
        sha256 = _committed_hash(row)
        if row is None or sha256 is None:
            return False
        if row.etag != listed.etag:
            if sha256 not in {claim.sha256, *earlier.get(parts.name, ())}:
                detail = "what was synced was altered; the bucket holds another version by now"
                self._hours.find(FindingKind.LOG_FILE_ALTERED, listed.key, detail, parts)
            return False
        if sha256 == claim.sha256:
            self._agree(claim)
        else:
            detail = _difference(claim)
            self._hours.find(FindingKind.LOG_FILE_ALTERED, listed.key, detail, parts)
        return True

    def _read_log_files(self, unread: Iterable[_Unread]) -> None:
        """Read log files, and compare their hashes."""
        limit = self._task.max_bytes

        def hash_of(item: _Unread) -> _Content | StoreError:
            try:
                body = self._task.bucket.get(item.listed.key, None).body
            except StoreError as error:
                return error
            content = decompress(body, limit)
            if is_over(content, limit):
                return _Content(None, content.damage)
            # Nothing in an empty log file could be damaged: the hash decides.
            damage = None if content.damage == "empty" else content.damage
            return _Content(content.sha256, damage)

        items = list(unread)
        for start in range(0, len(items), _READ_AT_ONCE):
            group = items[start : start + _READ_AT_ONCE]
            results = self._task.threads.map(hash_of, group)
            for item, result in zip(group, results, strict=True):
                self._judge_read(item, result)

    def _judge_read(self, item: _Unread, result: _Content | StoreError) -> None:
        """Judge a log file that was read."""
        key, parts = item.listed.key, item.parts
        if isinstance(result, ObjectGone):
            self._hours.find(FindingKind.LOG_FILE_DELETED, key, "just now", parts)
        elif isinstance(result, StoreError):
            self._hours.doubt(parts)
            state = "archived" if isinstance(result, ObjectArchived) else "not read"
            self._task.report_problem(f"s3://{self._bucket_name}/{key}", state, str(result))
        elif result.sha256 not in (None, item.claim.sha256):
            damage = f"{result.damage}; " if result.damage else ""
            detail = damage + _difference(item.claim)
            self._hours.find(FindingKind.LOG_FILE_ALTERED, key, detail, parts)
        elif result.damage is not None or item.is_damaged:
            self._damaged(item, result.damage or "")
        else:
            self._agree(item.claim)

    def _damaged(self, item: _Unread, damage: str) -> None:
        """Note that a log file is damaged, unless the comparison with the ledger says so."""
        self._hours.doubt(item.parts)
        if not item.is_damaged:
            self._hours.find(FindingKind.LOG_FILE_DAMAGED, item.listed.key, damage, item.parts)

    def _agree(self, claim: Claim) -> None:
        """Count a log file that has the hash that a digest lists."""
        result = self._task.result
        if claim.standing is not Standing.SOUND:
            result.log_files_agreeing += 1
            return
        result.log_files_proved += 1
        if result.proved is not None:
            result.proved.add(claim.key)

    def _is_in_window(self, parts: KeyParts) -> bool:
        window = self._hours.window
        return parts.minute is None or window.start <= parts.minute < window.end


def _committed_hash(row: Hashed | None) -> bytes | None:
    """Return the hash that the ledger has of a committed log file."""
    return row.sha256 if row is not None and row.state is LogFileState.COMMITTED else None


def _difference(claim: Claim) -> str:
    """Say that a log file has another hash than the digest lists."""
    text = "its SHA-256 is not the one in the digest"
    return text if claim.standing is Standing.SOUND else f"{text}, which is not proved itself"
