"""Synthetic CloudTrail log files: the sample buckets of the demo, the tests and the benchmarks.

Two folders hold the trees of two buckets. Their trails overlap: an organization's trail, and the
own trail of an account, under a prefix. Sizes and shapes follow real logs; nothing in them is real.
The same arguments give the same bytes (with the same version of zlib). This package uses the
standard library only and nothing of the pipeline: so a test cannot share the pipeline's mistakes.

    python -m ctrail_pipeline.sample [folder] [--log-files N] [--seed N] [--shape large] [--force]
"""

import argparse
import errno
import fcntl
import math
import os
import shutil
import tempfile
import zlib
from bisect import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate, pairwise
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Literal

from .records import EVENT_TIME, Record, RecordWriter

Shape = Literal["small", "large"]
"""`small`: as CloudTrail delivers, 5 events in the median log file. `large`: thousands each."""

ORGANIZATION = "o-exampleorg1"
ORGANIZATION_BUCKET = "example-org-trail"
PAYMENTS_BUCKET = "example-payments-trail"
PAYMENTS_PREFIX = "audit/payments"
PAYMENTS_ACCOUNT = "444455556666"
LAST_DAY = date(2026, 1, 15)

_PAYMENTS_REGIONS = (("eu-west-1", 6), ("us-east-1", 3), ("eu-central-1", 1))
_OTHER_PARTITIONS = (  # account, region, share of the log files; the management account is first
    ("111122223333", "us-east-1", 6),
    ("222233334444", "us-east-1", 16),
    ("222233334444", "us-west-2", 8),
    ("222233334444", "eu-west-1", 4),
    ("333344445555", "eu-central-1", 14),
    ("333344445555", "eu-west-1", 10),
    ("555566667777", "us-east-1", 9),
    ("555566667777", "us-west-2", 5),
    ("666677778888", "us-west-2", 5),
    ("666677778888", "eu-central-1", 3),
)
ACCOUNTS = (*dict.fromkeys(account for account, _, _ in _OTHER_PARTITIONS), PAYMENTS_ACCOUNT)

# Quantiles of events in a log file, from a real account: p50 5, p90 16, p99 33, at most 622.
_EVENTS_AT_QUANTILE = ((0.0, 1), (0.5, 5), (0.9, 16), (0.99, 33), (0.999, 120), (1.0, 622))
_SLOT_MINUTES = 5
_SLOTS_PER_DAY = 24 * 60 // _SLOT_MINUTES


@dataclass(frozen=True, slots=True)
class SampleObject:
    """An object of a sample bucket."""

    bucket: str
    key: str
    body: bytes
    last_modified: datetime
    records: int
    """Records of a log file. A digest is no log file: 0."""
    new_records: int
    """Records that no object before this object holds."""


@dataclass(frozen=True)
class SampleSummary:
    """What a sample holds."""

    log_files: int
    other_objects: int
    """Digests, which are no log files."""
    records: int
    distinct_records: int
    stored_bytes: int


def write_sample(
    folder: Path,
    *,
    log_files: int = 1500,
    seed: int = 1,
    days: int = 4,
    last_day: date = LAST_DAY,
    shape: Shape = "small",
    force: bool = False,
) -> SampleSummary:
    """Write the buckets below `folder`, whole or not at all.

    Everything is written beside `folder` and renamed at the end, so a killed run leaves no half
    sample. The next run removes what a killed run has left.

    Raises:
        FileExistsError: `folder` is there, and `force` is not set.
    """
    if folder.exists() and not force:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), folder)
    objects = generate_log_files(
        log_files=log_files, seed=seed, days=days, last_day=last_day, shape=shape
    )
    with _folder_in_the_making(folder.absolute()) as staging:
        summary = _write_objects(staging, objects)
        if force and folder.exists():
            folder.rename(staging.parent / "replaced")
        try:
            staging.rename(folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), folder) from error
            raise
    return summary


def generate_log_files(
    *,
    log_files: int = 1500,
    seed: int = 1,
    days: int = 4,
    last_day: date = LAST_DAY,
    shape: Shape = "small",
) -> Iterator[SampleObject]:
    """Yield the log files of both trails in the order of their time, then the other objects.

    A fifth of the `log_files` belong to the payments account's own trail. The organization's trail
    has the same records, byte for byte, packed into other log files.
    """
    if days < 1 or log_files < 0:
        message = f"days must be 1 or more, log_files 0 or more: {days}, {log_files}"
        raise ValueError(message)
    rng = Random(seed)
    events = RecordWriter(rng)
    first_day = last_day - timedelta(days=days - 1)
    for delivery in _plan(rng, log_files, first_day, days):
        yield from _log_files_of(delivery, rng, events, shape)
    for day in range(days):
        yield from _digests(first_day + timedelta(days=day))


# --- when, where, how many --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class _Delivery:
    """Log files that an account and region deliver together."""

    time: datetime
    account: str
    region: str
    files: int


def _plan(rng: Random, log_files: int, first_day: date, days: int) -> list[_Delivery]:
    payments_files = log_files // 5  # of each trail
    partitions = [(PAYMENTS_ACCOUNT, region, share) for region, share in _PAYMENTS_REGIONS]
    counts = [
        *_shared_out(payments_files, [share for _, _, share in partitions]),
        *_shared_out(log_files - 2 * payments_files, [share for _, _, share in _OTHER_PARTITIONS]),
    ]
    deliveries: list[_Delivery] = []
    midnight = datetime.combine(first_day, time(), UTC)
    for (account, region, _), count in zip((*partitions, *_OTHER_PARTITIONS), counts, strict=True):
        pending = count
        while pending:
            files = min(pending, rng.randint(1, 7))
            pending -= files
            slot = rng.randrange(days) * _SLOTS_PER_DAY + _slot_of_day(rng)
            at = midnight + timedelta(minutes=slot * _SLOT_MINUTES)
            deliveries.append(_Delivery(at, account, region, files))
    return sorted(deliveries)


def _shared_out(total: int, shares: Sequence[int]) -> list[int]:
    """Divide `total` in proportion to `shares`, without losing any to rounding."""
    whole = sum(shares)
    bounds = [total * share // whole for share in accumulate(shares, initial=0)]
    return [after - before for before, after in pairwise(bounds)]


def _slot_of_day(rng: Random) -> int:
    if rng.random() < 0.4:
        return rng.randrange(_SLOTS_PER_DAY)
    return rng.randrange(_SLOTS_PER_DAY // 3, _SLOTS_PER_DAY * 3 // 4)  # working hours


def _events_in_file(rng: Random, shape: Shape) -> int:
    if shape == "large":
        return rng.randint(2000, 6000)
    at = rng.random()
    upper = bisect(_EVENTS_AT_QUANTILE, at, key=itemgetter(0))
    (low, fewest), (high, greatest) = _EVENTS_AT_QUANTILE[upper - 1 : upper + 1]
    return round(fewest * math.pow(greatest / fewest, (at - low) / (high - low)))


# --- log files ----------------------------------------------------------------------------------


def _log_files_of(
    delivery: _Delivery, rng: Random, events: RecordWriter, shape: Shape
) -> Iterator[SampleObject]:
    """Yield the organization's log files of a delivery, then those of the payments trail."""
    # About one delivery in a hundred comes days later: S3 or the trail was unavailable.
    delay = timedelta(days=rng.randint(1, 3)) if rng.random() < 0.01 else timedelta()
    packed: list[list[Record]] = []
    for _ in range(delivery.files):
        records = [
            events.record(delivery.account, delivery.region, delivery.time - delay)
            for _ in range(_events_in_file(rng, shape))
        ]
        if (
            rng.random() < 0.73
        ):  # the share of real log files whose records are in the order of time
            records.sort()
        packed.append(records)
    repeated = _repeated_records(packed, rng)
    folder = f"AWSLogs/{ORGANIZATION}"
    for number, records in enumerate(packed):
        known_records = repeated if number == len(packed) - 1 else []
        yield _log_file(ORGANIZATION_BUCKET, folder, delivery, rng, records, known_records)
    if delivery.account == PAYMENTS_ACCOUNT:
        folder = f"{PAYMENTS_PREFIX}/AWSLogs"
        for records in _packed_otherwise(packed):
            yield _log_file(PAYMENTS_BUCKET, folder, delivery, rng, [], records)


def _repeated_records(packed: list[list[Record]], rng: Random) -> list[Record]:
    """Return records of the first log file that the last holds again: delivery is at least once."""
    if len(packed) < 2 or rng.random() > 0.04:
        return []
    return packed[0][: rng.randint(1, len(packed[0]))]


def _packed_otherwise(packed: list[list[Record]]) -> Iterator[list[Record]]:
    """Yield the same records in as many log files, with the same sizes in another order."""
    records = sorted(record for log_file in packed for record in log_file)
    sizes = [len(log_file) for log_file in packed]
    bounds = accumulate([*sizes[1:], sizes[0]], initial=0)
    for start, end in pairwise(bounds):
        yield records[start:end][::-1]


def _log_file(
    bucket: str,
    folder: str,
    delivery: _Delivery,
    rng: Random,
    records: list[Record],
    known_records: list[Record],
) -> SampleObject:
    at = delivery.time + timedelta(minutes=_SLOT_MINUTES * (rng.random() < 0.2))
    name = (
        f"{delivery.account}_CloudTrail_{delivery.region}_{at:%Y%m%dT%H%MZ}_{_suffix(rng)}.json.gz"
    )
    key = f"{folder}/{delivery.account}/CloudTrail/{delivery.region}/{at:%Y/%m/%d}/{name}"
    # Most log files arrive within minutes of the time in their key. A few arrive so late that keys
    # which sort after theirs were there long before.
    late = rng.uniform(1800, 7200) if rng.random() < 0.02 else rng.uniform(5, 290)
    text = ",".join(text for _, text in (*records, *known_records))
    return SampleObject(
        bucket=bucket,
        key=key,
        body=_gzip(f'{{"Records":[{text}]}}'.encode(), name, at),
        last_modified=at + timedelta(seconds=round(late)),
        records=len(records) + len(known_records),
        new_records=len(records),
    )


def _suffix(rng: Random) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(rng.choices(letters, k=16))


def _gzip(data: bytes, name: str, modified: datetime) -> bytes:
    """Return a gzip member with a name and a time, as CloudTrail writes it. It is deterministic."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"".join(
        (
            b"\x1f\x8b\x08\x08",
            int(modified.timestamp()).to_bytes(4, "little"),
            b"\x00\x03",
            name.removesuffix(".gz").encode(),
            b"\x00",
            deflate.compress(data),
            deflate.flush(),
            zlib.crc32(data).to_bytes(4, "little"),
            (len(data) & 0xFFFFFFFF).to_bytes(4, "little"),
        )
    )


def _digests(day: date) -> Iterator[SampleObject]:
    """Yield digests: they lie beside the log files and are no log files."""
    at = datetime.combine(day, time(12, 34, 56), UTC)
    trails = [(ORGANIZATION_BUCKET, f"AWSLogs/{ORGANIZATION}", account) for account in ACCOUNTS]
    trails.append((PAYMENTS_BUCKET, f"{PAYMENTS_PREFIX}/AWSLogs", PAYMENTS_ACCOUNT))
    for bucket, folder, account in trails:
        name = (
            f"{account}_CloudTrail-Digest_us-east-1_{bucket}_us-east-1_{at:%Y%m%dT%H%M%SZ}.json.gz"
        )
        key = f"{folder}/{account}/CloudTrail-Digest/us-east-1/{at:%Y/%m/%d}/{name}"
        digest = (
            f'{{"awsAccountId":"{account}","digestEndTime":"{at:{EVENT_TIME}}",'
            f'"digestS3Bucket":"{bucket}","digestS3Object":"{key}",'
            '"digestSignatureAlgorithm":"SHA256withRSA","logFiles":[]}'
        )
        yield SampleObject(bucket, key, _gzip(digest.encode(), name, at), at, 0, 0)


# --- on disk --------------------------------------------------------------------------------------


@contextmanager
def _folder_in_the_making(folder: Path) -> Iterator[Path]:
    """Make a folder beside `folder` that can be renamed to it; removes what was not renamed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}.*.partial"):
        with _locked(leftover) as is_abandoned:
            if is_abandoned:
                shutil.rmtree(leftover)
    workshop = Path(
        tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent)
    )
    with _locked(workshop):
        try:
            staging = workshop / "sample"
            staging.mkdir()
            yield staging
        finally:
            shutil.rmtree(workshop)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Yield whether we hold the lock of `folder`. A process that dies loses its locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _write_objects(folder: Path, objects: Iterator[SampleObject]) -> SampleSummary:
    log_files = other_objects = records = distinct_records = stored_bytes = 0
    parents: set[Path] = set()
    for written in objects:
        path = folder / written.bucket / written.key
        if path.parent not in parents:
            path.parent.mkdir(parents=True, exist_ok=True)
            parents.add(path.parent)
        path.write_bytes(written.body)
        modified = written.last_modified.timestamp()
        os.utime(path, (modified, modified))
        is_log_file = "/CloudTrail/" in written.key
        log_files += is_log_file
        other_objects += not is_log_file
        records += written.records
        distinct_records += written.new_records
        stored_bytes += len(written.body)
    return SampleSummary(log_files, other_objects, records, distinct_records, stored_bytes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the sample from the command line; a folder that is there already stays as it is."""
    parser = argparse.ArgumentParser(
        prog="python -m ctrail_pipeline.sample", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("sample"))
    parser.add_argument("--log-files", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shape", choices=("small", "large"), default="small")
    parser.add_argument("--force", action="store_true", help="replace a folder that is there")
    options = parser.parse_args(arguments)
    try:
        summary = write_sample(
            options.folder,
            log_files=options.log_files,
            seed=options.seed,
            shape=options.shape,
            force=options.force,
        )
    except FileExistsError:
        print(f"{options.folder} is there already and stays as it is; --force writes it anew")
        return 0
    print(
        f"{options.folder}: {summary.log_files:,} log files of two trails, "
        f"{summary.records:,} records ({summary.distinct_records:,} distinct), "
        f"{summary.stored_bytes / 1e6:,.1f} MB"
    )
    return 0
