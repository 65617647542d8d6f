"""The buckets of the measurements: synthetic folders that are the same every time.

`small` is the sample of the demo, as CloudTrail delivers. `large` has the sample's records in log
files of some 25 MB. `Partitioned` spreads log files evenly over as many accounts and regions as
are asked for, and takes more log files later.
"""

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.sample.bucket import (
    LAST_DAY,
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    SampleObject,
    generate_log_files,
)
from ctrail_pipeline.sample.records import RecordWriter

BIG_BUCKET: Final = "example-many-partitions"
_LARGE_BYTES: Final = 20_000_000
_SAMPLE_FILES_IN_A_LARGE_ONE: Final = 3.7
"""With this measured factor the number of large log files comes near the number asked for."""
_REGIONS: Final = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-south-1")
EVENTS_A_FILE: Final = 8
_HEAD, _TAIL = b'{"Records":[', b"]}"


@dataclass(frozen=True)
class Shape:
    """A folder of buckets, and its counts."""

    folder: Path
    trails: tuple[tuple[str, str, str], ...]
    """Name, bucket and prefix of each trail."""
    log_files: int
    records: int
    distinct_records: int
    json_bytes: int
    stored_bytes: int

    def s3_trails(self, endpoint_url: str) -> tuple[Trail, ...]:
        """The trails as a server shows them."""
        return tuple(
            Trail(name, bucket, prefix, "us-east-1", endpoint_url)
            for name, bucket, prefix in self.trails
        )

    def local_trails(self) -> tuple[Trail, ...]:
        """The trails as folders."""
        return tuple(
            Trail(name, f"file://{self.folder / bucket}", prefix)
            for name, bucket, prefix in self.trails
        )

    def log_file_keys(self) -> Iterator[tuple[str, str]]:
        """Bucket and key of every log file, sorted."""
        for _, bucket, _ in self.trails:
            root = self.folder / bucket
            for path in sorted(root.rglob("*.json.gz")):
                key = path.relative_to(root).as_posix()
                if "/CloudTrail/" in key:
                    yield bucket, key


_SAMPLE_TRAILS: Final = (
    ("organization", ORGANIZATION_BUCKET, ""),
    ("payments", PAYMENTS_BUCKET, PAYMENTS_PREFIX),
)


def small(folder: Path, log_files: int) -> Shape:
    """Make many small log files of two overlapping trails, unless they are there already."""
    return _kept(folder, log_files, lambda: generate_log_files(log_files=log_files))


def large(folder: Path, log_files: int) -> Shape:
    """Few large log files of the same two trails."""
    wanted = max(2, round(log_files * _SAMPLE_FILES_IN_A_LARGE_ONE))
    return _kept(
        folder, log_files, lambda: _joined(generate_log_files(log_files=wanted, shape="large"))
    )


def nearly_empty(folder: Path) -> Shape:
    """Two trails with one log file in each: a trail without any is an error."""
    first: dict[str, SampleObject] = {}
    for sample_object in generate_log_files(log_files=10):
        first.setdefault(sample_object.bucket, sample_object)
    return _written(folder, iter(first.values()))


class Partitioned:
    """Log files spread evenly over accounts and regions. `add` delivers more of them."""

    def __init__(self, folder: Path, partitions: int) -> None:
        (folder / BIG_BUCKET).mkdir(parents=True)
        self.folder = folder
        self.accounts_and_regions = [
            (f"{700000000000 + number // len(_REGIONS):012d}", _REGIONS[number % len(_REGIONS)])
            for number in range(partitions)
        ]
        self._rng = Random(partitions)
        self._records = RecordWriter(self._rng)
        self._numbers = count()
        self._json_bytes = self._stored_bytes = self._log_files = self._events = 0

    def add(self, files_each: int, at: datetime) -> None:
        """Deliver some log files of the minutes before `at` to every account and region."""
        for account, region in self.accounts_and_regions:
            folder = (
                self.folder / BIG_BUCKET / f"AWSLogs/{account}/CloudTrail/{region}/{at:%Y/%m/%d}"
            )
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(files_each):
                moment = at - timedelta(minutes=number % 50)
                self._write(folder, account, region, moment)

    def shape(self) -> Shape:
        """The folder and its counts by now."""
        trails = (("many", BIG_BUCKET, ""),)
        return Shape(
            self.folder,
            trails,
            self._log_files,
            self._events,
            self._events,
            self._json_bytes,
            self._stored_bytes,
        )

    def _write(self, folder: Path, account: str, region: str, at: datetime) -> None:
        records = [self._records.record(account, region, at)[1] for _ in range(EVENTS_A_FILE)]
        text = _HEAD + ",".join(records).encode() + _TAIL
        body = gzip.compress(text, 6, mtime=0)
        name = f"{account}_CloudTrail_{region}_{at:%Y%m%dT%H%MZ}_{next(self._numbers):016d}.json.gz"
        (folder / name).write_bytes(body)
        self._log_files += 1
        self._events += EVENTS_A_FILE
        self._json_bytes += len(text)
        self._stored_bytes += len(body)


def noon(days_before_last: int = 0) -> datetime:
    """Noon of a day of the sample."""
    day = LAST_DAY - timedelta(days=days_before_last)
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)


def _kept(folder: Path, asked_for: int, generate: Callable[[], Iterator[SampleObject]]) -> Shape:
    """Write the objects, and their counts beside them, unless an earlier run did."""
    note = folder / "shape.json"
    if note.exists():
        known = json.loads(note.read_text())
        if known.pop("asked_for") == asked_for:
            return Shape(folder, _SAMPLE_TRAILS, **known)
    shutil.rmtree(folder, ignore_errors=True)
    shape = _written(folder, generate())
    numbers = {
        name: value for name, value in asdict(shape).items() if name not in ("folder", "trails")
    }
    note.write_text(json.dumps({"asked_for": asked_for, **numbers}))
    return shape


def _written(folder: Path, objects: Iterator[SampleObject]) -> Shape:
    log_files = records = distinct = json_bytes = stored_bytes = 0
    for sample_object in objects:
        path = folder / sample_object.bucket / sample_object.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sample_object.body)
        if "/CloudTrail/" in sample_object.key:
            log_files += 1
            records += sample_object.records
            distinct += sample_object.new_records
            # gzip notes the length of the text in its last four bytes.
            json_bytes += int.from_bytes(sample_object.body[-4:], "little")
            stored_bytes += len(sample_object.body)
    return Shape(folder, _SAMPLE_TRAILS, log_files, records, distinct, json_bytes, stored_bytes)


def _joined(objects: Iterator[SampleObject]) -> Iterator[SampleObject]:
    """Join the records of neighbouring log files of an account and region into large log files."""
    waiting: dict[str, list[tuple[SampleObject, bytes]]] = {}
    for sample_object in objects:
        if "/CloudTrail/" not in sample_object.key:
            continue
        account_folder = sample_object.key.partition("/CloudTrail/")[0]
        partition = f"{sample_object.bucket}/{account_folder}/{sample_object.key.split('_')[2]}"
        group = waiting.setdefault(partition, [])
        group.append((sample_object, gzip.decompress(sample_object.body)[len(_HEAD) : -len(_TAIL)]))
        if sum(len(text) for _, text in group) >= _LARGE_BYTES:
            yield _join(waiting.pop(partition))
    for group in waiting.values():
        yield _join(group)


def _join(group: list[tuple[SampleObject, bytes]]) -> SampleObject:
    last = group[-1][0]
    text = _HEAD + b",".join(text for _, text in group) + _TAIL
    return SampleObject(
        last.bucket,
        last.key,
        gzip.compress(text, 6, mtime=0),
        last.last_modified,
        sum(log_file.records for log_file, _ in group),
        sum(log_file.new_records for log_file, _ in group),
    )
