"""Whole syncs of buckets where somebody means harm: a hostile log file costs only itself.

The tests of `core/log_file/` say what the parts do with each text. These tests compare the output
on disk with the independent oracle. `docs/hostile-input.md` names the test for each kind of damage
and attack.
"""

import base64
import gzip
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.core.ledger import bloom_filter
from ctrail_pipeline.core.log_file import identity
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.hostile_log_files import (
    ACCOUNT,
    FOLDER,
    NOON,
    REGION,
    packed,
    record,
)
from ctrail_pipeline_tests.support.log_file_texts import BOM, wrap
from ctrail_pipeline_tests.support.oracle import read_buckets, snapshot
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    local_trail,
    put_object,
    run_sync,
    settings_in,
)
from ctrail_pipeline_tests.support.zstd_frames import (
    frame,
    frame_with_dictionary,
    frame_with_window,
    skippable_frame,
    streamed_frame,
)

LIMIT = 2 * 1024 * 1024


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def settings(tmp_path: Path, bucket: Path) -> Settings:
    return settings_in(
        tmp_path,
        [local_trail(bucket)],
        max_log_file_bytes=LIMIT,
        process_workers=1,
    )


def put(bucket: Path, number: int, body: bytes, key: str | None = None) -> str:
    key = key or f"{FOLDER}{ACCOUNT}_CloudTrail_{REGION}_20260110T1205Z_{number:016}.json.gz"
    put_object(bucket, key, body, NOON)
    return key


def quarantined(settings: Settings) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted(settings.quarantine_dir.rglob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]


def data_of(entry: dict[str, Any]) -> bytes:
    text = entry.get("data")
    return text.encode() if text is not None else base64.b64decode(entry["data_base64"])


def exact(settings: Settings, bucket: Path) -> None:
    assert_exact(settings, read_buckets([(bucket, "")]))


def nothing_more(settings: Settings) -> None:
    """Assert that another sync brings nothing new, though it fetches damaged log files again."""
    lines, held = snapshot(settings.events_dir), quarantined(settings)
    assert sync(settings).progress.events == 0
    assert (snapshot(settings.events_dir), quarantined(settings)) == (lines, held)


# --- one hostile log file between two sound ones --------------------------------------------------

FIRST, SECOND = record(1), record(2)
PAIR = wrap(FIRST, SECOND)
PAIR_GZ = gzip.compress(PAIR, mtime=0)
PAIR_ZSTD = frame(PAIR)
DEEP = 200_000


@dataclass(frozen=True)
class Case:
    """The body of a log file, and what a sync must make of it."""

    body: bytes
    events: int
    quarantined: int
    damaged: bool
    judged_as: bytes | None = None
    """A body with the same events for the oracle, which stops where the pipeline goes on."""


def harmless(*records: bytes) -> Case:
    return Case(packed(*records), len(records), 0, damaged=False)


def odd(value: bytes) -> Case:
    """A case of a member that hardly any decoder takes. Its record is an event all the same."""
    return harmless(FIRST[:-1] + b',"odd":' + value + b"}", SECOND)


def one_bad_record(bad: bytes) -> Case:
    return Case(packed(FIRST, bad, SECOND), 2, 1, damaged=False)


def unverified(body: bytes) -> Case:
    return Case(body, 0, 2, damaged=True)


def unreadable(body: bytes) -> Case:
    return Case(body, 0, 1, damaged=True)


CASES: dict[str, Case] = {
    # docs/architecture.md, Damage and errors: "Not gzip, wrong checksum or length, cut off"
    "not gzip": unreadable(b"\x00\x01\x02 not what it seems" * 100),
    "another compression": unreadable(b"BZh91AY&SY" + bytes(100)),
    "gzip in gzip": unreadable(gzip.compress(PAIR_GZ, mtime=0)),
    "gzip in gzip, both stored": unreadable(
        gzip.compress(gzip.compress(PAIR, 0, mtime=0), 0, mtime=0)
    ),
    "gzip in zstd": unreadable(frame(PAIR_GZ)),
    "zstd in gzip": unreadable(gzip.compress(PAIR_ZSTD, mtime=0)),
    "an empty object": unreadable(b""),
    "bad CRC": unverified(PAIR_GZ[:-8] + b"\xff\xff\xff\xff" + PAIR_GZ[-4:]),
    "bad length": unverified(PAIR_GZ[:-4] + b"\xff\xff\xff\x7f"),
    "truncated": unverified(PAIR_GZ[:-5]),
    "trailing bytes": unverified(PAIR_GZ + b"\n"),
    "trailing zeros": unverified(PAIR_GZ + bytes(512)),
    "over the size limit": Case(
        packed(record(1, a="a" * LIMIT)), 0, 1, damaged=True, judged_as=packed()
    ),
    "a bomb of zeros": unreadable(gzip.compress(bytes(64 * LIMIT), mtime=0)),
    "a bomb of members": unreadable(gzip.compress(bytes(LIMIT // 4), mtime=0) * 40),
    # "several gzip members"
    "members": Case(
        gzip.compress(PAIR[:30], mtime=0) + gzip.compress(PAIR[30:], mtime=0), 2, 0, damaged=False
    ),
    "a member of nothing": Case(PAIR_GZ + gzip.compress(b"", mtime=0), 2, 0, damaged=False),
    # zstd, of one frame or several
    "stored uncompressed": Case(PAIR, 2, 0, damaged=False),
    "zstd": Case(PAIR_ZSTD, 2, 0, damaged=False),
    "zstd of a writer that streams": Case(streamed_frame([PAIR]), 2, 0, damaged=False),
    "zstd frames": Case(
        frame(PAIR[:30]) + skippable_frame(PAIR) + frame(PAIR[30:], 19), 2, 0, damaged=False
    ),
    "zstd, wrong checksum": unverified(PAIR_ZSTD[:-1] + bytes([PAIR_ZSTD[-1] ^ 1])),
    "zstd, truncated in its second frame": unverified(PAIR_ZSTD + frame(b" ")[:-3]),
    "zstd, truncated": unreadable(PAIR_ZSTD[: len(PAIR_ZSTD) // 2]),
    "zstd, trailing bytes": unverified(PAIR_ZSTD + b"\n"),
    "zstd, a dictionary is needed": unreadable(frame_with_dictionary(PAIR)),
    "zstd, too large a window": unreadable(frame_with_window(18 << 3)),
    "a zstd bomb": unreadable(streamed_frame([bytes(LIMIT)] * 64)),
    "a zstd bomb of frames": unreadable(frame(bytes(LIMIT // 4)) * 40),
    # "JSON damaged, or a second `Records` key"
    "cut JSON": Case(gzip.compress(PAIR[:-9], mtime=0), 1, 1, damaged=True),
    "a second Records key": Case(
        gzip.compress(b'{"Records":[%s],"Records":[%s]}' % (FIRST, SECOND)), 2, 0, True, PAIR
    ),
    "a second Records key, escaped": Case(
        gzip.compress(b'{"Records":[%s],"\\u0052ecords":[%s]}' % (FIRST, SECOND)), 2, 0, True, PAIR
    ),
    "Records is an object": unreadable(gzip.compress(b'{"Records":{"a":%s}}' % FIRST)),
    "two documents": Case(gzip.compress(wrap(FIRST) + b"\n" + wrap(SECOND)), 2, 0, False, PAIR),
    "a byte order mark": Case(gzip.compress(BOM + PAIR), 2, 0, False, PAIR),
    "UTF-16": unreadable(gzip.compress(PAIR.decode().encode("utf-16"))),
    "brackets without end": unreadable(gzip.compress(b'{"Records":[' + b"[" * LIMIT)[:-8]),
    "objects without end": unreadable(gzip.compress(b'{"a":' * DEEP, mtime=0)),
    # "a record without usable eventTime or account, not an object, CR/LF inside a string"
    "no eventTime": one_bad_record(b'{"awsRegion":"eu-west-1"}'),
    "an empty eventTime": one_bad_record(record(3, eventTime="")),
    "a null eventTime": one_bad_record(record(3, eventTime=None)),
    "an eventTime of a thousand zeros": one_bad_record(record(3, eventTime="0" * 1000)),
    "not an object": one_bad_record(b"[" + FIRST + b"]"),
    "null": one_bad_record(b"null"),
    "a line feed in a string": one_bad_record(FIRST[:-1] + b',"a":"x\ny"}'),
    "a carriage return in a key": one_bad_record(FIRST[:-1] + b',"x\ry":1}'),
    "nested too deeply": Case(
        packed(FIRST, FIRST[:-1] + b',"a":' + b"[" * DEEP + b"]" * DEEP + b"}", SECOND),
        2,
        1,
        False,
        PAIR,
    ),
    # Decoders refuse, change or drop these values.
    "line feeds between tokens": harmless(FIRST.replace(b", ", b"\r\n,\n\r"), SECOND),
    "a lone surrogate, escaped": odd(b'"\\ud800"'),
    "a lone surrogate, as bytes": odd(b'"\xed\xa0\x80"'),
    "bad UTF-8": odd(b'"\xff\xfe\xc0\xaf"'),
    "NUL": odd(b'"\x00"'),
    "NUL, escaped": odd(b'"\\u0000"'),
    "NUL in a key": odd(b'{"\x00":1}'),
    "other control characters": odd(b'"\x01\x0b\x0c\x1b\x7f\xc2\x85\xe2\x80\xa8"'),
    "30 digits": odd(b"123456789012345678901234567890"),
    "5,000 digits": odd(b"1" * 5000),
    "a float that would change": odd(b"[0.10000000000000000001,1.0E+2,1e999,-0.0]"),
    "NaN": odd(b"[NaN,Infinity,-Infinity]"),
    "duplicate keys in a record": odd(b'1,"odd":2,"eventID":"another"'),
    "empty fields": harmless(
        record(1, awsRegion="", recipientAccountId="", eventID="", eventName=""), SECOND
    ),
    "null fields": harmless(
        record(1, awsRegion=None, recipientAccountId=None, eventID=None, userIdentity=None), SECOND
    ),
    "fields of other types": harmless(
        record(1, awsRegion=[1], recipientAccountId={}, eventID=7.5, userIdentity=[{}]), SECOND
    ),
    "an eventName of a megabyte": harmless(record(1, eventName="a" * (LIMIT // 2)), SECOND),
    "one record ten thousand times": Case(packed(*[FIRST] * 10_000), 1, 0, damaged=False),
}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_log_file_costs_itself_only(
    settings: Settings, bucket: Path, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    for number in (1, 3):
        put(bucket, number, packed(record(10 + number), record(11 + number)))
    key = put(bucket, 2, case.body)
    summary = sync(settings)
    assert summary.progress.events == 4 + case.events
    problems = [(problem.where.endswith(key), problem.state) for problem in summary.problems]
    assert problems == [(True, "damaged")] * case.damaged
    held = quarantined(settings)
    assert len(held) == case.quarantined
    for entry in held:
        assert entry["key"] == key
        assert entry["reason"]
        assert len(entry["reason"]) < 200
    expectation = read_buckets([(bucket, "")])
    if case.judged_as is not None:
        put(tmp_path / "judged", 2, case.judged_as)
        for number in (1, 3):
            put(tmp_path / "judged", number, packed(record(10 + number), record(11 + number)))
        expectation = read_buckets([(tmp_path / "judged", "")])
    assert_exact(settings, expectation)
    nothing_more(settings)
    assert_exact(settings, expectation)


# --- keys -----------------------------------------------------------------------------------------

LONG_KEY = FOLDER + "/".join("k" * 200 for _ in range(4))
KEYS = [
    "%2F..%2F..%2Fetc%2Fpasswd.json.gz",
    "..%2e/...json.gz",
    "... /x.json.gz",
    " .json.gz",
    "-rf *;$(reboot)`id`.json",
    "line\nfeed\r\x1b[31m.json.gz",
    "日本語-é-😀-\u202e.json.gz",
    "\u00e9.json.gz",
    "e\u0301.json.gz",
    "a/b/2026/01/10/c.json.gz",
    "2026/01/10/.json.gz",
    "\\..\\..\\x.json.gz",
    "q?a=b#c&d+e.json.gz",
]


def test_keys_of_all_kinds_are_read_as_they_are(settings: Settings, bucket: Path) -> None:
    """Each log file comes in. Quarantine names its key, and no path contains the key."""
    region = FOLDER.removesuffix("2026/01/10/")
    keys = [FOLDER + key for key in KEYS] + [region + KEYS[0]]
    long = LONG_KEY + "/" + "k" * (1024 - len(LONG_KEY) - len("/.json.gz")) + ".json.gz"
    assert len(long.encode()) == 1024
    keys.append(long)
    for number, key in enumerate(keys):
        put(bucket, number, packed(record(number), b"{}"), key)
    summary = sync(settings)
    assert (summary.ok, summary.progress.events) == (True, len(keys))
    exact(settings, bucket)
    assert sorted(entry["key"] for entry in quarantined(settings)) == sorted(keys)
    below = {path.relative_to(settings.quarantine_dir).as_posix() for path in only_files(settings)}
    assert below <= {f"{day}/quarantine_{n:05}.jsonl" for day in DAYS for n in range(1, 20)}
    nothing_more(settings)


DAYS = ("2026/01/10", "undated")


def only_files(settings: Settings) -> list[Path]:
    return [path for path in settings.quarantine_dir.rglob("*") if path.is_file()]


# --- fields that become paths ---------------------------------------------------------------------

CLIMBING = [
    "../../../../tmp/evil",
    "..",
    ".",
    "/etc/passwd",
    "a/b",
    "eu-west-1/../../x",
    "eu-west-1\x00",
    "eu-west-1\n",
    "..%2F..%2Fevil",
    "\\..\\evil",
    "~root",
    "$(touch evil)",
    "\uff0e\uff0e",
    "１２３４５６７８９０１２",  # noqa: RUF001
    "-" * 5000,
    "\ud800",
    "",
]


@pytest.mark.parametrize(
    "field", ["awsRegion", "recipientAccountId", "userIdentity", "eventTime", "eventID"]
)
def test_no_field_of_a_record_leads_out_of_the_folder(
    settings: Settings, bucket: Path, tmp_path: Path, field: str
) -> None:
    """The key's account and region stand in for a bad field, but nothing stands in for a time.

    Each record is an event in the folder that the oracle expects, or is in quarantine. The sync
    makes no other path.
    """
    before = {path.name for path in tmp_path.iterdir()}
    records = []
    for number, text in enumerate(CLIMBING):
        value: object = {"accountId": text} if field == "userIdentity" else text
        changes = {field: value}
        if field == "userIdentity":
            changes["recipientAccountId"] = None
        records.append(record(number, **changes))
        if field == "eventTime":
            records.append(record(1000 + number, eventTime=f"2026-01-10T{text}:00:00Z"))
            records.append(record(2000 + number, eventTime=f"{text}2026-01-10T12:00:00Z"))
    put(bucket, 1, packed(*records))
    assert sync(settings).ok
    exact(settings, bucket)
    lines, held = len(snapshot(settings.events_dir)), len(quarantined(settings))
    assert lines + held == len(records)
    # An empty text before a whole time is the only one that leaves a time valid.
    assert lines == (1 if field == "eventTime" else len(records))
    made = {path.name for path in tmp_path.iterdir()} - before
    assert made <= {"bucket", "events", "quarantine", "ledger.db", "ledger.db-wal", "ledger.db-shm"}
    accounts = {path.name for path in settings.events_dir.iterdir()}
    assert accounts <= {".ctrail", ".staging", ACCOUNT}


def test_an_event_time_of_any_length_is_noted_in_thirty_characters(
    settings: Settings, bucket: Path
) -> None:
    """The event keeps the long text. Ledger, status and Dagster's database get 30 characters."""
    long = f"2026-01-10T12:00:00.{'9' * 500_000}Z"
    put(bucket, 1, packed(record(1, eventTime=long)))
    summary = sync(settings)
    assert summary.ok
    [counts] = summary.partitions.values()
    noted = f"2026-01-10T12:00:00.{'9' * 9}Z"
    assert (counts.first_event, counts.last_event, counts.newest_event) == (noted, noted, noted)
    assert settings.state_db.stat().st_size < 500_000
    exact(settings, bucket)


def test_first_and_last_event_are_right_however_utc_is_written(
    settings: Settings, bucket: Path
) -> None:
    times = ["12:00:05+00:00", "12:00:05.5Z", "12:00:04Z", "12:00:06+00:00", "12:00:06Z"]
    put(
        bucket,
        1,
        packed(*(record(n, eventTime=f"2026-01-10T{time}") for n, time in enumerate(times))),
    )
    summary = sync(settings)
    assert summary.ok
    [counts] = summary.partitions.values()
    first, last = "2026-01-10T12:00:04Z", "2026-01-10T12:00:06Z"
    assert (counts.first_event, counts.last_event, counts.newest_event) == (first, last, last)
    exact(settings, bucket)


def test_a_key_whose_account_and_region_are_none_makes_no_path(
    settings: Settings, bucket: Path
) -> None:
    """Neither record nor key has a usable account: the record is in quarantine."""
    key = "AWSLogs/not-an-account/CloudTrail/Not-A-Region/2026/01/10/x_20260110T1205Z_a.json.gz"
    with_own_account = record(1)
    put(
        bucket,
        1,
        packed(with_own_account, record(2, recipientAccountId="x"), record(3, awsRegion="..")),
        key,
    )
    assert sync(settings).ok
    assert snapshot(settings.events_dir) == {with_own_account}
    reasons = [entry["reason"] for entry in quarantined(settings)]
    assert reasons == [
        "no usable account in the record or in the key",
        "no usable region in the record or in the key",
    ]
    exact(settings, bucket)


# --- a million directories ------------------------------------------------------------------------


def hours_of(first: datetime, number: int, account: str = ACCOUNT) -> list[bytes]:
    """One record in each of so many hours."""
    return [
        record(
            at,
            eventTime=f"{first + timedelta(hours=at):%Y-%m-%dT%H:00:00Z}",
            recipientAccountId=account,
        )
        for at in range(number)
    ]


def hour_folders(settings: Settings) -> int:
    return len({path.parent for path in settings.events_dir.rglob("*.jsonl")})


def accounted_for(settings: Settings, records: list[bytes]) -> None:
    """Assert that each record is either an event or in quarantine, never both or neither."""
    lines = snapshot(settings.events_dir)
    held = [data_of(entry) for entry in quarantined(settings)]
    assert len(held) == len(set(held))
    assert lines.isdisjoint(held)
    assert lines | set(held) == set(records)


def test_one_log_file_makes_no_more_folders_than_the_setting_says(
    settings: Settings, bucket: Path
) -> None:
    settings = replace(settings, max_hours_per_log_file=50)
    records = hours_of(NOON, 60)
    put(bucket, 1, packed(*records, *records[:60:7]))
    summary = sync(settings)
    assert hour_folders(settings) == 50
    accounted_for(settings, records)
    [counts] = summary.partitions.values()
    assert counts.quarantined == 10 + 1  # 56, once more
    assert {entry["reason"] for entry in quarantined(settings)} == {
        "scattered: the log file has records of more than 50 hours"
    }
    nothing_more(settings)


def test_by_default_one_log_file_makes_a_thousand_folders_at_most(
    settings: Settings, bucket: Path
) -> None:
    put(bucket, 1, packed(*hours_of(NOON, 1100)))
    assert sync(settings).progress.events == 1000
    assert len(quarantined(settings)) == 100


def test_many_scattered_log_files_make_no_more_folders_together_than_the_setting_says(
    settings: Settings, bucket: Path
) -> None:
    """The setting bounds all hours beyond 24 a log file. Log files of few hours never suffer."""
    settings = replace(settings, max_scattered_hours=100)
    records = []
    for number in range(10):
        of_account = hours_of(NOON, 60, account=f"{number:012}")
        records += of_account
        put(bucket, number, packed(*of_account))
    for number in range(10, 40):
        of_account = hours_of(NOON, 3, account=f"{number:012}")
        records += of_account
        put(bucket, number, packed(*of_account))
    sync(settings)
    assert hour_folders(settings) == 10 * 24 + 100 + 30 * 3
    accounted_for(settings, records)
    assert {entry["reason"] for entry in quarantined(settings)} == {
        "scattered: more than 100 new hours in log files of many"
    }
    nothing_more(settings)


def test_in_worker_processes_each_has_the_bound_for_itself(
    settings: Settings, bucket: Path
) -> None:
    settings = replace(settings, max_scattered_hours=50, process_workers=2, batch_log_files=2)
    records = []
    for number in range(12):
        of_account = hours_of(NOON, 60, account=f"{number:012}")
        records += of_account
        put(bucket, number, packed(*of_account))
    assert run_sync(settings, in_workers=True).returncode == 0
    # The bound holds for each of two workers, and for the run's own process if it takes part.
    assert 12 * 24 < hour_folders(settings) <= 12 * 24 + 3 * 50 < 12 * 60
    accounted_for(settings, records)


def test_hours_that_are_there_are_no_new_ones(settings: Settings, bucket: Path) -> None:
    """Hours that exist already do not count towards the bound."""
    settings = replace(settings, max_scattered_hours=0)
    records = hours_of(NOON, 60)
    for number in range(3):
        put(bucket, number, packed(*records[number * 20 : number * 20 + 20]))
    assert sync(settings).progress.events == 60
    put(bucket, 9, packed(*hours_of(NOON, 60, account=ACCOUNT), record(99)))
    assert sync(settings).progress.events == 1
    assert quarantined(settings) == []
    exact(settings, bucket)


# --- forged records -------------------------------------------------------------------------------


@pytest.mark.parametrize("forged_first", [True, False])
def test_a_forged_record_with_the_eventid_of_a_real_one_suppresses_nothing(
    settings: Settings, bucket: Path, forged_first: bool
) -> None:
    """The sync keeps both records, and counts that they share an eventID."""
    real = [record(number, eventName="DeleteTrail") for number in range(50)]
    forged = [record(number, eventName="DescribeTrails") for number in range(50)]
    first, second = (forged, real) if forged_first else (real, forged)
    put(bucket, 1, packed(*first))
    assert sync(settings).ok
    put(bucket, 2, packed(*second, *second))
    summary = sync(settings)
    assert snapshot(settings.events_dir) == {*real, *forged}
    [counts] = summary.partitions.values()
    assert (counts.events, counts.conflicts, counts.duplicates) == (50, 50, 50)
    exact(settings, bucket)


def test_a_forged_fast_hash_suppresses_nothing(
    settings: Settings, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker's best case: all records have the same fast hash."""
    monkeypatch.setattr(bloom_filter, "xxh3_64_intdigest", lambda _data: 7)
    monkeypatch.setattr(identity, "xxh3_64_digest", lambda _data: bytes(8))
    monkeypatch.setattr(bloom_filter, "FILTERED_FROM", 1)
    put(bucket, 1, packed(*[record(number) for number in range(100)]))
    assert sync(settings).progress.events == 100
    put(bucket, 2, packed(*[record(number) for number in range(50, 150)]))
    summary = sync(settings)
    assert (summary.progress.events, summary.progress.duplicates) == (50, 50)
    exact(settings, bucket)
