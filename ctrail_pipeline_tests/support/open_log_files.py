"""A bucket in which log files stand open: damaged, gone, failed, or found and not fetched."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ctrail_pipeline.core.bucket.interface import Fetched
from ctrail_pipeline.core.bucket.local import LocalBucket
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import put_found
from ctrail_pipeline.core.ledger.rows import FoundLogFile, LogFileState
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings

from .oracle import check_output
from .sync_process import settings_in
from .two_trails import DAY, TwoTrails, event

WRITTEN_AT = 1_768_046_400


class OpenLogFiles:
    """One trail with a sound log file, and others that stand open in the ways that there are."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._trails = TwoTrails(folder)
        self.bucket = self._trails.buckets["first"]
        self.settings = settings_in(folder, self._trails.settings.trails[:1])
        self._monkeypatch = monkeypatch
        self.put("A", event("sound"))
        assert sync(self.settings).ok

    def put(self, suffix: str, *events: bytes) -> Path:
        """Put a sound log file."""
        path = self._trails.put("first", suffix, *events)
        os.utime(path, (WRITTEN_AT,) * 2)
        return path

    def address(self, path: Path) -> str:
        return f"{self.bucket.as_uri()}/{path.relative_to(self.bucket)}"

    def damage(self, suffix: str) -> Path:
        """Put a damaged log file; no sync has seen it yet."""
        path = self.put(suffix, event(f"of {suffix}"))
        path.write_bytes(path.read_bytes()[:-9])
        os.utime(path, (WRITTEN_AT,) * 2)
        return path

    def opened(self, state: LogFileState, suffix: str = "B") -> Path:
        """A log file that stands open in this state once a sync has met it."""
        return {
            LogFileState.DAMAGED: self._damaged,
            LogFileState.GONE: self._gone,
            LogFileState.FAILED: self._failed,
            LogFileState.FOUND: self._found,
        }[state](suffix)

    def _damaged(self, suffix: str) -> Path:
        path = self.damage(suffix)
        sync(self.settings)
        return path

    def _gone(self, suffix: str) -> Path:
        path = self._damaged(suffix)
        path.unlink()
        self.make_due()
        sync(self.settings)
        return path

    def _failed(self, suffix: str) -> Path:
        path = self.put(suffix, event(f"of {suffix}"))
        get = LocalBucket.get

        def refuse(bucket: LocalBucket, key: str, etag: bytes | None) -> Fetched:
            if key.endswith(path.name):
                raise StoreError("not to be had")
            return get(bucket, key, etag)

        self._monkeypatch.setattr(LocalBucket, "get", refuse)
        sync(self.settings)
        return path

    def _found(self, suffix: str) -> Path:
        path = self.put(suffix, event(f"of {suffix}"))
        with closing(Ledger(self.settings.state_db)) as ledger, ledger.transaction():
            [source_id] = source_ids(ledger).values()
            found = FoundLogFile(source_id, DAY, f"1210{suffix:0>16}", b'"x', 1, archived=False)
            put_found(ledger, [found], 1)
        return path

    def make_due(self) -> None:
        """Have every log file that is not committed visited by the next sync."""
        with closing(sqlite3.connect(self.settings.state_db)) as database, database:
            database.execute("UPDATE log_file SET next_visit = 0 WHERE state != 1")

    def sync(self) -> Summary:
        return sync(self.settings)

    def rows(self) -> list[tuple[LogFileState, int, bool]]:
        """State, acceptance, and whether a visit is due, of what is not committed."""
        with closing(sqlite3.connect(self.settings.state_db)) as database:
            return [
                (LogFileState(state), accepted, visit is not None)
                for state, accepted, visit in database.execute(
                    "SELECT state, accepted, next_visit FROM log_file WHERE state != 1"
                    " ORDER BY name"
                )
            ]

    def assert_whole(self) -> None:
        """Assert that the output has what the sound log files of the bucket hold, each once."""
        settings: Settings = self.settings
        buckets = [(self.bucket, "")]
        check_output(settings.events_dir, settings.quarantine_dir, buckets).assert_clean()
