"""Whoever lists and reads the prefix of events at any instant sees committed lines, each once.

Runs overlap and are killed meanwhile. An object that is there never changes, and none is half.
"""

import gzip
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ctrail_pipeline.core.settings import OutputBucket, Settings
from ctrail_pipeline_tests.support.engines import ENGINES, with_ledger_in
from ctrail_pipeline_tests.support.kills import SEED
from ctrail_pipeline_tests.support.oracle import Expectation
from ctrail_pipeline_tests.support.output_buckets import seaweedfs_bucket
from ctrail_pipeline_tests.support.seaweedfs import s3_client
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    let_a_minute_pass,
    run_sync,
    sample_settings,
    start_sync,
)

SAMPLE = {"log_files": 120, "days": 1}
STEPS = ("registered", "staged", "committed", "marked", "linked", "published")
ROUNDS = 6


@dataclass
class Observer:
    """Lists and reads all events again and again."""

    bucket: OutputBucket
    lines: dict[bytes, object]
    """Lines that may be there."""
    looks: int = 0
    faults: list[str] = field(default_factory=list)
    seen: dict[str, tuple[object, list[bytes]]] = field(default_factory=dict)
    """By key: etag and time of the object when it was first seen, and its lines."""

    def look(self) -> None:
        """List and read once."""
        client = s3_client(str(self.bucket.endpoint_url))
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket.bucket, Prefix=f"{self.bucket.events.prefix}/"
        )
        listed = {
            item["Key"]: (item["ETag"], item["LastModified"])
            for page in pages
            for item in page.get("Contents", ())
            if not item["Key"].endswith("/.ctrail")
        }
        counts: Counter[bytes] = Counter()
        for key, version in listed.items():
            if key not in self.seen:
                self.seen[key] = (version, self._read(client, key))
            if self.seen[key][0] != version:
                self.faults.append(f"{key} was written a second time")
            counts.update(self.seen[key][1])
        self.faults += [f"twice: {line[:60]!r}" for line, count in counts.items() if count > 1]
        self.faults += [f"unknown: {line[:60]!r}" for line in counts if line not in self.lines]
        self.faults += [f"{key} is gone" for key in self.seen if key not in listed]
        self.looks += 1

    def _read(self, client: Any, key: str) -> list[bytes]:
        text = gzip.decompress(client.get_object(Bucket=self.bucket.bucket, Key=key)["Body"].read())
        assert text.endswith(b"\n")
        return text.splitlines()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look all the time while the block runs, and once more at its end."""
        stop = threading.Event()

        def look_on() -> None:
            try:
                while not stop.is_set():
                    self.look()
            except Exception as error:  # noqa: BLE001 - it belongs to the test's thread
                self.faults.append(repr(error))

        thread = threading.Thread(target=look_on)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.look()


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ENGINES)
def test_an_observer_sees_committed_lines_once_while_runs_overlap_and_die(
    engine: str,
    sample: Path,
    expectation: Expectation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket, random = seaweedfs_bucket(monkeypatch), Random(SEED)
    changes = {"output": bucket, "jsonl_compression": "gzip", "batch_log_files": 6}
    settings: Settings = with_ledger_in(engine, sample_settings(sample, tmp_path, **changes))
    settings = replace(settings, process_workers=1)
    observer = Observer(bucket, dict(expectation.lines))
    with observer.looking():
        for _ in range(ROUNDS):
            runs = [
                start_sync(settings, kill_at=(random.choice(STEPS), random.randint(1, 4)))
                for _ in range(2)
            ]
            for run in runs:
                run.wait()
            let_a_minute_pass(settings)
        assert run_sync(settings).returncode == 0
    assert observer.faults == []
    assert observer.looks > 2
    assert set().union(*(lines for _, lines in observer.seen.values())) == set(expectation.lines)
    assert_exact(settings, expectation)
