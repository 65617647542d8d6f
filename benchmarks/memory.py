"""Peak memory of all processes together where an input is large in one way.

Two worker processes read from a local folder: memory does not depend on where log files come from,
and no server takes its time. The inputs are made here, of records as short as routing and dedup
allow. Only amounts count, not what the records say.
"""

import gzip
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench, workers
from benchmarks.report import Section, Table, Target, megabytes
from benchmarks.shapes import BIG_BUCKET, Shape, noon

_MOST_MEGABYTES: Final = 400
_PARTITION: Final = ("700000000000", "eu-west-1")
_HOUR: Final = timedelta(hours=1)
_LogFile = tuple[str, str, datetime, int]
"""Account, region, the time of the key and of the events, and the number of events."""


def measure(bench: Bench) -> Section:
    """Measure one sync of each input: a peak needs no second round."""
    section = Section("Memory where an input is large in one way")
    section.parts.append(
        "First syncs with two worker processes, from a local folder. Memory is that of all"
        " processes together; a page that they share counts once (PSS)."
    )
    rows = []
    for input_name, log_files in _inputs(bench).items():
        shape = _written(bench.fresh("input"), log_files)
        bench.say(f"{input_name}: {shape.log_files:,} log files, {shape.records:,} events")
        usage = bench.sync(
            shape.local_trails(), bench.fresh("memory"), changes=workers(2), events=shape.records
        )
        bench.say(f"{usage.peak_bytes / 1e6:.0f} MB, {usage.cpu:.0f} CPU-s, {usage.wall:.0f} s")
        rows.append(
            [
                input_name,
                f"{shape.log_files:,}",
                f"{shape.records:,}",
                f"{usage.report['output_files']:,}",
                f"{usage.cpu:.0f}",
                f"{usage.wall:.0f}",
                megabytes(usage.peak_bytes),
            ]
        )
        section.targets.append(
            Target(f"MB of memory: {input_name}", _MOST_MEGABYTES, usage.peak_bytes / 1e6)
        )
        bench.clear()
    headings = ("", "log files", "events", "output files", "CPU-s", "wall s", "peak memory")
    section.parts.append(Table(headings, rows))
    return section


def _inputs(bench: Bench) -> dict[str, Iterable[_LogFile]]:
    def many(number: int) -> range:
        return range(bench.scaled(number, 2))

    at = noon()
    partitions = [(f"{700000000000 + number:012d}", "eu-west-1") for number in many(500)]
    return {
        "one account and region with 100,000 log files": (
            (*_PARTITION, at - timedelta(minutes=number % 600), 4) for number in many(100_000)
        ),
        "500 accounts and regions with 40 log files each": (
            (*partition, at - timedelta(minutes=number), 8)
            for partition in partitions
            for number in many(40)
        ),
        "one hour of 10 million events": (
            (*_PARTITION, at, bench.scaled(10_000, 2)) for _ in many(1_000)
        ),
        "10,000 hours": ((*_PARTITION, at - number * _HOUR, 8) for number in many(10_000)),
    }


def _written(folder: Path, log_files: Iterable[_LogFile]) -> Shape:
    made = events = json_bytes = stored_bytes = 0
    last = None
    for account, region, at, number in log_files:
        text = b'{"Records":[%s]}' % b",".join(_events(account, region, at, events, number))
        body = gzip.compress(text, 1, mtime=0)
        day = folder / BIG_BUCKET / f"AWSLogs/{account}/CloudTrail/{region}/{at:%Y/%m/%d}"
        if day != last:
            day.mkdir(parents=True, exist_ok=True)
            last = day
        name = f"{account}_CloudTrail_{region}_{at:%Y%m%dT%H%MZ}_{made:016d}.json.gz"
        (day / name).write_bytes(body)
        made += 1
        events += number
        json_bytes += len(text)
        stored_bytes += len(body)
    trails = (("many", BIG_BUCKET, ""),)
    return Shape(folder, trails, made, events, events, json_bytes, stored_bytes)


def _events(account: str, region: str, at: datetime, first: int, number: int) -> Iterator[bytes]:
    begin = (
        b'{"eventVersion":"1.08","eventTime":"%s","awsRegion":"%s","recipientAccountId":"%s",'
        % (
            f"{at:%Y-%m-%dT%H:%M:%SZ}".encode(),
            region.encode(),
            account.encode(),
        )
    )
    for index in range(first, first + number):
        yield b'%s"eventName":"GetObject","eventID":"%032x"}' % (begin, index)
