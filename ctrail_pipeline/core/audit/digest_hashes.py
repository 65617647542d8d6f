"""Comparing log files with the hashes that digests list for them.

Log files are listed, not read: where the ledger holds the hash of the very version (etag) that the
bucket holds, that hash is compared. Other log files are read and hashed.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ctrail_pipeline.core.bucket.interface import Listed
from ctrail_pipeline.core.exceptions import ObjectArchived, ObjectGone, StoreError
from ctrail_pipeline.core.keys.log_file_key import KeyParts, is_log_file, parse_key
from ctrail_pipeline.core.keys.minutes import day_folder
from ctrail_pipeline.core.ledger.queries_digests import Hashed, hashed_log_files
from ctrail_pipeline.core.log_file.gunzip import decompress

from .digest_file import ListedLogFile
from .digest_hours import DigestHours
from .digest_listing import objects_in
from .digest_task import DigestTask
from .findings import FindingKind

_NOT_THE_HASH: Final = "its SHA-256 is not the one in the digest"
_READ_AT_ONCE: Final = 256
"""Log files whose hashes are waited for together."""


@dataclass
class ListedDay:
    """What digests say of log files with keys of one day."""

    hashes: dict[str, bytes | None] = field(default_factory=dict)
    """SHA-256 by name, as `KeyParts` has it. None if the digest that lists it is not sound."""
    keys: dict[str, str] = field(default_factory=dict)
    """Key by name."""
    earlier: dict[str, set[bytes]] = field(default_factory=dict)
    """Hashes by name that older digests list for log files that were delivered again."""

    def add(self, name: str, item: ListedLogFile, *, sound: bool) -> None:
        """Add what a digest lists; digests come newest first, and the newest one counts."""
        if self.hashes.get(name) is None:
            self.hashes[name] = item.sha256 if sound else None
            self.keys[name] = item.key
        elif sound:
            self.earlier.setdefault(name, set()).add(item.sha256)


class HashComparison:
    """Compares the log files of one source prefix with what digests list."""

    def __init__(self, task: DigestTask, hours: DigestHours) -> None:
        self._task = task
        self._hours = hours

    def compare_day(self, day: int, listed_day: ListedDay) -> None:
        """Judge the log files of a day, once all digests that may list them have been read."""
        task = self._task
        self._hours.merge_covered()
        rows = hashed_log_files(task.ledger, task.source_id, day) if task.source_id else {}
        present = self._present(day, listed_day)
        unread: list[tuple[Listed, KeyParts, bytes]] = []
        for name, sha256 in listed_day.hashes.items():
            key = listed_day.keys[name]
            parts = parse_key(task.source_prefix, key)
            if not self._is_in_window(parts):
                continue
            task.result.log_files += sha256 is not None
            listed = present.get(name)
            if sha256 is None:
                self._hours.doubt(parts)
            elif listed is None:
                synced = name in rows and rows[name].sha256 == sha256
                detail = "its events were brought in before" if synced else "it was not synced"
                self._hours.find(FindingKind.LOG_FILE_DELETED, key, detail, parts)
            elif not self._is_judged_by(rows.get(name), listed, parts, sha256, listed_day.earlier):
                unread.append((listed, parts, sha256))
        self._read_log_files(unread)

    def _present(self, day: int, listed_day: ListedDay) -> dict[str, Listed]:
        """List the log files of a day in the bucket, and judge those that no digest lists."""
        present: dict[str, Listed] = {}
        folder = self._task.source_prefix.folder + day_folder(day)
        for listed in objects_in(self._task.found.bucket, folder):
            if is_log_file(listed.key):
                parts = parse_key(self._task.source_prefix, listed.key)
                present[parts.name] = listed
                if parts.name not in listed_day.hashes and self._is_in_window(parts):
                    self._hours.judge_unlisted(listed.key, parts)
        return present

    def compare_others(self, hashes: Mapping[str, bytes]) -> None:
        """Judge objects by key that digests list and that are no log files of the source prefix.

        They are not synced, so the ledger knows nothing of them: each object is read.
        """
        items = sorted(hashes.items())

        def hash_of(item: tuple[str, bytes]) -> bytes | StoreError:
            try:
                body = self._task.found.bucket.get(item[0], None).body
            except StoreError as error:
                return error
            return hashlib.sha256(decompress(body, self._task.max_bytes).data).digest()

        for start in range(0, len(items), _READ_AT_ONCE):
            group = items[start : start + _READ_AT_ONCE]
            results = self._task.threads.map(hash_of, group)
            for (key, sha256), result in zip(group, results, strict=True):
                if isinstance(result, ObjectGone):
                    self._hours.find(FindingKind.LOG_FILE_DELETED, key, "it is not synced")
                elif isinstance(result, StoreError):
                    self._task.report_problem(self._where(key), "not read", str(result))
                elif result != sha256:
                    self._hours.find(FindingKind.LOG_FILE_ALTERED, key, _NOT_THE_HASH)

    def _is_judged_by(
        self,
        row: Hashed | None,
        listed: Listed,
        parts: KeyParts,
        sha256: bytes,
        earlier: Mapping[str, set[bytes]],
    ) -> bool:
        """Whether the hash taken while syncing says all there is to say of a log file.

        If the bucket holds another version by now, that hash speaks only of the lines in the
        output, and the object must still be read.
        """
        if row is None or row.sha256 is None:
            return False
        if row.etag != listed.etag:
            if row.sha256 not in {sha256, *earlier.get(parts.name, ())}:
                detail = "what was synced was altered; the bucket holds another version by now"
                self._hours.find(FindingKind.LOG_FILE_ALTERED, listed.key, detail, parts)
            return False
        if row.sha256 == sha256:
            self._prove(listed.key)
        else:
            self._hours.find(FindingKind.LOG_FILE_ALTERED, listed.key, _NOT_THE_HASH, parts)
        return True

    def _read_log_files(self, unread: Iterable[tuple[Listed, KeyParts, bytes]]) -> None:
        """Read log files, and compare their hashes."""

        def hash_of(item: tuple[Listed, KeyParts, bytes]) -> tuple[bytes | None, str | StoreError]:
            try:
                body = self._task.found.bucket.get(item[0].key, None).body
                content = decompress(body, self._task.max_bytes)
            except StoreError as error:
                return None, error
            damage = content.damage
            # Nothing in an empty log file could be damaged: the hash decides.
            return hashlib.sha256(content.data).digest(), "" if damage == "empty" else damage or ""

        items = list(unread)
        for start in range(0, len(items), _READ_AT_ONCE):
            group = items[start : start + _READ_AT_ONCE]
            results = self._task.threads.map(hash_of, group)
            for (listed, parts, sha256), (found, problem) in zip(group, results, strict=True):
                if isinstance(problem, ObjectGone):
                    self._hours.find(FindingKind.LOG_FILE_DELETED, listed.key, "just now", parts)
                elif isinstance(problem, StoreError):
                    self._hours.doubt(parts)
                    state = "archived" if isinstance(problem, ObjectArchived) else "not read"
                    self._task.report_problem(self._where(listed.key), state, str(problem))
                elif problem or found != sha256:
                    detail = problem or _NOT_THE_HASH
                    self._hours.find(FindingKind.LOG_FILE_ALTERED, listed.key, detail, parts)
                else:
                    self._prove(listed.key)

    def _prove(self, key: str) -> None:
        self._task.result.log_files_proved += 1
        if self._task.result.proved is not None:
            self._task.result.proved.add(key)

    def _is_in_window(self, parts: KeyParts) -> bool:
        window = self._hours.window
        return parts.minute is None or window.start <= parts.minute < window.end

    def _where(self, key: str) -> str:
        return f"s3://{self._hours.bucket_name}/{key}"
