"""Beside the JSONL, every event is a Parquet row, whatever is in it; other programs read it."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrail_pipeline.core.output import parquet as parquet_module
from ctrail_pipeline.core.output.parquet import ParquetRecord
from ctrail_pipeline.core.output.parquet_decoding import decode_rows
from ctrail_pipeline.core.output.parquet_schema import COLUMNS
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.reports.sentences import summary_line
from ctrail_pipeline.reports.sync_json import as_json
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.parquet_rows import (
    JSON_COLUMNS,
    assert_row,
    assert_rows,
    parquet_files,
    rows,
)
from ctrail_pipeline_tests.support.properties import examples
from ctrail_pipeline_tests.support.real_logs import BUCKETS, PREFIXES, REAL_LOGS, needs_real_logs
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    local_trail,
    put_object,
    sample_settings,
    settings_in,
)

BOTH = ("jsonl", "parquet")
ACCOUNT, REGION = "111122223333", "eu-west-1"
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)


def put_records(bucket: Path, records: list[bytes], number: int = 0) -> None:
    at = NOON + timedelta(minutes=number)
    key = (
        f"AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/{at:%Y/%m/%d}/"
        f"{ACCOUNT}_CloudTrail_{REGION}_{at:%Y%m%dT%H%MZ}_{number:016}.json.gz"
    )
    body = b'{"Records":[' + b",".join(records) + b"]}"
    put_object(bucket, key, gzip.compress(body, 1), at)


def record(fields: str = "", time: str = "2026-01-10T12:00:00Z") -> bytes:
    head = f'"eventTime":"{time}","recipientAccountId":"{ACCOUNT}","awsRegion":"{REGION}"'
    return f"{{{head}{',' if fields else ''}{fields}}}".encode()


def synced(folder: Path, records: list[bytes], **changes: Any) -> tuple[Settings, Summary]:
    put_records(folder / "bucket", records)
    settings = settings_in(folder, [local_trail(folder / "bucket")], output_formats=BOTH, **changes)
    summary = sync(settings)
    assert summary.ok
    assert summary.progress.events == len(records)
    assert_rows(settings)
    return settings, summary


def only_row(folder: Path, fields: str = "", **named: str) -> dict[str, Any]:
    settings, _ = synced(folder, [record(fields, **named)])
    (row,) = rows(settings)
    return row


ODD = [
    '"readOnly":"true"',
    '"readOnly":"tru\\u0065","managementEvent":"false"',
    '"readOnly":1',
    '"readOnly":null,"managementEvent":false',
    '"eventContext":{"a":[1,2.50]},"newField":null,"another":""',
    '"userIdentity":"somebody"',
    '"userIdentity":null',
    '"userIdentity":[]',
    '"userIdentity":{}',
    '"userIdentity":{"type":"IAMUser","newMember":{"a":1}}',
    '"userIdentity":{"type":"IAMUser","accountId":5,"arn":"a"}',
    '"userIdentity":{"sessionContext":[1]}',
    '"userIdentity":{"sessionContext":{"attributes":{"creationDate":"x","new":1}},"arn":"a"}',
    '"userIdentity":{"sessionContext":{"sessionIssuer":{},"webIdFederationData":{}}}',
    '"userIdentity":{"sessionContext":{"webIdFederationData":{"attributes":{"a":1.10,"b":null}}}}',
    '"userIdentity":{"sessionContext":{"webIdFederationData":{"attributes":null}}}',
    '"userIdentity":{"onBehalfOf":{"userId":"u","identityStoreArn":null}}',
    '"userIdentity":{"userName":"\\ud800","type":"Root"}',
    '"resources":[]',
    '"resources":null',
    '"resources":"arn"',
    '"resources":[null]',
    '"resources":[{"ARN":"a","accountId":"1","type":"t"},{"ARN":"b"}]',
    '"resources":[{"ARN":"a","ARNPrefix":"p"},{"ARN":5}]',
    '"resources":[{}]',
    '"resources":{"ARN":"a"}',
    '"requestParameters":"text"',
    '"requestParameters":"null"',
    '"requestParameters":null,"responseElements":12345678901234567890123456789.10E+300',
    '"requestParameters":[ 1 , { "a" : "\\u00e9\\/" } ]',
    '"requestParameters":{"a":NaN,"b":-Infinity},"eventName":"A"',
    '"requestParameters":{"a":"\\ud83d"},"eventName":"A"',
    '"requestParameters":{"a":"\\u0000\x01\t"},"eventName":"A"',
    '"requestParameters":' + '{"a":' * 400 + "1" + "}" * 400,
    '"responseElements":' + "9" * 4000,
    '"serviceEventDetails":{"a":1},"edgeDeviceDetails":"x","additionalEventData":true',
    '"eventName":7',
    '"eventVersion":1.08',
    '"errorMessage":"\\u0000"',
    '"errorMessage":"\\udfff","errorCode":"E"',
    '"errorMessage":"\t","errorCode":"E"',
    '"userAgent":"\\ud83d\\ude00 é 漢"',
    '"userAgent":["a"]',
    '"\\ud800":1,"":2,"_other":3,"_key":"mine","a\\"b":4',
    '"eventID":"a","eventID":"b","odd":1,"odd":2',
    '"tlsDetails":{"tlsVersion":"TLSv1.3","keyExchange":"X25519"}',
    '"addendum":{"reason":"UPDATED_DATA","originalUID":"x"}',
    '"addendum":null,"tlsDetails":null',
    '"vpcEndpointId":"vpce-1","vpcEndpointAccountId":"1","sessionCredentialFromConsole":"true"',
]
ODD_TIMES = [
    "2026-01-10T12:00:00.5Z",
    "2026-01-10T12:00:00.123456Z",
    "2026-01-10T12:00:00.123456000Z",
    "2026-01-10T12:00:00.123456789Z",
    "2026-01-10T11:59:60Z",
    "2026-01-10T11:59:60.25Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
]


def odd_records() -> list[bytes]:
    bad_utf8 = [
        record('"userAgent":"\N{DEGREE SIGN}"').replace("\N{DEGREE SIGN}".encode(), b"\xb0"),
        record('"requestParameters":{"a":"@"},"eventName":"A"').replace(b"@", b"\xff\xfe"),
        record('"requestParameters":{"@":1},"userIdentity":{"arn":"@"}').replace(b"@", b"\xc3"),
        record('"@":"x"').replace(b"@", b"\xff"),
    ]
    return (
        [record(fields) for fields in ODD]
        + [record(f'"eventName":"{at}"', time) for at, time in enumerate(ODD_TIMES)]
        + bad_utf8
    )


def test_every_odd_record_is_a_row_with_nothing_lost(tmp_path: Path) -> None:
    """The oracle rebuilds each record from its row, `_other` included."""
    records = odd_records()
    settings, summary = synced(tmp_path, records)
    assert summary.misfits == sum(row["_other"] is not None for row in rows(settings)) > 20
    assert f"{summary.misfits} with fields that are in no Parquet column" in summary_line(summary)
    assert as_json(summary)["parquet_misfits"] == summary.misfits


@pytest.mark.parametrize("fields", ODD)
def test_an_odd_record_alone(tmp_path: Path, fields: str) -> None:
    """The odd record lies among ordinary ones, none of which is affected."""
    ordinary = [record(f'"eventName":"Ordinary","eventID":"{at}"') for at in range(3)]
    settings, _ = synced(tmp_path, [*ordinary, record(fields)])
    found = [row for row in rows(settings) if row["eventName"] == "Ordinary"]
    assert [row["eventID"] for row in found] == ["0", "1", "2"]
    assert all(row["_other"] is None for row in found)


def test_json_text_is_byte_for_byte(tmp_path: Path) -> None:
    text = '{ "a" : 1.10 , "b":"\\u00e9\\/é", "a":12345678901234567890123 }'
    row = only_row(tmp_path, ",".join(f'"{name}":{text}' for name in JSON_COLUMNS))
    assert {row[name] for name in JSON_COLUMNS} == {text}
    assert row["_other"] is None


def test_what_fits_of_a_field_is_in_its_column_and_all_of_it_in_other(tmp_path: Path) -> None:
    identity = '{"type":"IAMUser","accountId":5,"newMember":[1.0],"arn":"a"}'
    row = only_row(tmp_path, f'"userIdentity":{identity},"readOnly":"true","eventContext":{{}}')
    assert row["userIdentity"]["type"] == "IAMUser"
    assert row["userIdentity"]["arn"] == "a"
    assert row["userIdentity"]["accountId"] is None
    assert row["readOnly"] is None
    left_over = f'{{"userIdentity":{identity},"readOnly":"true","eventContext":{{}}}}'
    assert json.loads(row["_other"]) == json.loads(left_over)
    assert identity in row["_other"]


@pytest.mark.parametrize(
    ("time", "expected", "is_whole"),
    [
        ("2026-01-10T12:00:00Z", datetime(2026, 1, 10, 12, tzinfo=UTC), True),
        ("2026-01-10T12:00:00.25Z", datetime(2026, 1, 10, 12, 0, 0, 250_000, UTC), True),
        ("2026-01-10T12:00:00.1234567Z", datetime(2026, 1, 10, 12, 0, 0, 123_456, UTC), False),
        ("2026-01-10T12:59:60Z", datetime(2026, 1, 10, 12, 59, 59, 999_999, UTC), False),
        ("2026-01-10T12:00:00+00:00", datetime(2026, 1, 10, 12, tzinfo=UTC), True),
        ("2026-01-10T12:00:00.25+00:00", datetime(2026, 1, 10, 12, 0, 0, 250_000, UTC), True),
        ("2026-01-10T12:59:60+00:00", datetime(2026, 1, 10, 12, 59, 59, 999_999, UTC), False),
    ],
)
def test_times_are_utc_timestamps_of_microseconds(
    tmp_path: Path, time: str, expected: datetime, is_whole: bool
) -> None:
    row = only_row(tmp_path, time=time)
    assert row["eventTime"] == expected
    assert row["_other"] == (None if is_whole else f'{{"eventTime":"{time}"}}')


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("2026-01-10T12:05:00Z", datetime(2026, 1, 10, 12, 5, tzinfo=UTC)),
        ("2026-01-10T12:05:00+00:00", datetime(2026, 1, 10, 12, 5, tzinfo=UTC)),
        ("2026-01-10T12:05:00.1234567Z", datetime(2026, 1, 10, 12, 5, 0, 123_456, UTC)),
    ],
)
def test_an_aggregated_event_has_the_time_of_its_window_and_the_rest_in_other(
    tmp_path: Path, start: str, expected: datetime
) -> None:
    aggregated = json.dumps(
        {
            "eventVersion": "1.0",
            "accountId": ACCOUNT,
            "eventId": "an-id",
            "eventCategory": "Aggregated",
            "awsRegion": REGION,
            "timeWindow": {"windowStart": start, "windowSize": "PT5M"},
            "summary": {"primaryDimension": {"dimension": "eventName"}},
        }
    ).encode()
    settings, _ = synced(tmp_path, [record(time="2026-01-10T12:06:00Z"), aggregated, record()])
    row = rows(settings)[1]
    assert (row["eventTime"], row["eventCategory"]) == (expected, "Aggregated")
    assert (row["eventID"], row["recipientAccountId"]) == (None, None)
    others = ("accountId", "eventId", "timeWindow", "summary")
    assert json.loads(row["_other"]) == {name: json.loads(aggregated)[name] for name in others}


def test_bytes_that_are_not_utf8_become_replacement_characters(tmp_path: Path) -> None:
    odd = record('"requestParameters":{"a":"@"}').replace(b"@", b"\xff")
    settings, _ = synced(tmp_path, [odd])
    (row,) = rows(settings)
    assert row["requestParameters"] == '{"a":"\N{REPLACEMENT CHARACTER}"}'


def test_a_record_that_cannot_be_taken_apart_is_in_other_whole() -> None:
    """The record is nested too deeply; `split` refuses those, but its stack may be less deep."""
    deep = record('"requestParameters":' + "[" * 100_000 + "]" * 100_000)
    left_over: dict[int, dict[str, bytes]] = {}
    (row,) = decode_rows([deep], left_over, 7)
    assert row.eventName is None
    assert left_over == {7: {"record": deep}}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "arn", "accountId", "sessionContext", "attributes", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
FIELDS = [name for name in COLUMNS if name not in ("eventTime", "recipientAccountId", "awsRegion")]


@hypothesis.settings(max_examples=examples(40))
@given(
    st.lists(
        st.dictionaries(st.sampled_from([*FIELDS, "unknown"]), JSON_VALUES, max_size=6),
        min_size=1,
        max_size=20,
    ),
    st.booleans(),
)
def test_any_json_in_any_field_is_a_row_with_nothing_lost(
    records: list[dict[str, Any]], ascii_only: bool
) -> None:
    texts = [
        json.dumps({"eventTime": "2026-01-10T12:00:00Z", **fields}, ensure_ascii=ascii_only).encode(
            errors="replace"
        )
        for fields in records
    ]
    lines = [
        ParquetRecord("a", "2026-01-10T12:00:00Z", text, 0, at) for at, text in enumerate(texts)
    ]
    (file,) = parquet_module.parquet_files(lines, [("bucket", "key")])
    found = pl.read_parquet(file.content).to_dicts()
    assert [row["_index"] for row in found] == list(range(len(texts)))
    for row, text in zip(found, texts, strict=True):
        assert_row(row, text)
    assert file.misfits == sum(row["_other"] is not None for row in found)


def test_rows_are_in_order_of_time_and_groups_can_be_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_module, "ROWS_A_GROUP", 1_000)
    records = [
        record(
            f'"eventID":"{at}"', f"{NOON + timedelta(seconds=at * 7919 % 5000):%Y-%m-%dT%H:%M:%SZ}"
        )
        for at in range(5000)
    ]
    settings, _ = synced(tmp_path, records)
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    (path,) = parquet_files(settings)
    metadata = pq.ParquetFile(path).metadata
    assert metadata.num_row_groups == 5
    columns = [metadata.schema.column(at).path for at in range(metadata.num_columns)]
    times = [
        metadata.row_group(at).column(columns.index("eventTime")).statistics for at in range(5)
    ]
    assert all(earlier.max < later.min for earlier, later in pairwise(times))
    compressions = {
        metadata.row_group(0).column(at).compression for at in range(metadata.num_columns)
    }
    assert compressions == {"ZSTD"}
    assert all(
        metadata.row_group(0).column(columns.index(name)).statistics.has_min_max
        for name in ("eventTime", "eventID", "awsRegion")
    )


def test_a_large_batch_becomes_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_module, "BYTES_A_FILE", 20_000)
    monkeypatch.setattr(parquet_module, "_RECORDS_A_FRAME", 70)
    monkeypatch.setattr(parquet_module, "_RECORDS_A_DECODE", 30)
    records = [record(f'"eventID":"{at}","x{at % 50}":{at}') for at in range(1000)]
    settings, _ = synced(tmp_path, records)
    assert len(parquet_files(settings)) > 3


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A synced sample, with an odd log file in it."""
    folder = tmp_path_factory.mktemp("parquet")
    write_sample(folder / "sample", log_files=400, days=3)
    settings = sample_settings(folder / "sample", folder, output_formats=BOTH)
    put_records(folder / "sample" / "example-org-trail", odd_records())
    assert sync(settings).ok
    return settings


def test_a_sample_has_a_row_for_each_line(sampled: Settings) -> None:
    assert_rows(sampled)
    assert len(rows(sampled)) > 2000


@needs_real_logs
@pytest.mark.parametrize("bucket", BUCKETS or ["none"])
def test_real_log_files_have_a_row_for_each_line(bucket: str, tmp_path: Path) -> None:
    prefix = PREFIXES.get(bucket, "")
    trail = local_trail(REAL_LOGS / bucket, prefix)
    settings = settings_in(tmp_path, [trail], output_formats=BOTH)
    sync(settings)
    assert_exact(settings, read_buckets([(REAL_LOGS / bucket, prefix)]))
    assert_rows(settings)


def test_all_files_have_one_schema(sampled: Settings) -> None:
    schemas = {str(pl.read_parquet_schema(path)) for path in parquet_files(sampled)}
    assert len(schemas) == 1
    names = list(pl.read_parquet_schema(parquet_files(sampled)[0]))
    assert names == [*COLUMNS, "_other", "_bucket", "_key", "_index"]


def test_pyarrow_reads_the_same_rows(sampled: Settings) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for path in parquet_files(sampled):
        table = pq.ParquetFile(path).read()
        assert table.to_pylist() == pl.read_parquet(path, hive_partitioning=False).to_dicts()
        assert str(table.schema.field("eventTime").type) == "timestamp[us, tz=UTC]"


def duckdb_over(settings: Settings) -> tuple[Any, str]:
    duckdb = pytest.importorskip("duckdb", reason="the extra `query` is not installed")
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    files = f"{settings.events_dir.parent}/parquet/*/*/*/*.parquet"
    return connection, f"read_parquet('{files}', hive_partitioning = true)"


def test_duckdb_reads_the_same_rows(sampled: Settings) -> None:
    connection, table = duckdb_over(sampled)
    kinds = {row[0]: row[1] for row in connection.execute(f"DESCRIBE FROM {table}").fetchall()}
    assert kinds["eventTime"] == "TIMESTAMP WITH TIME ZONE"
    assert kinds["readOnly"] == kinds["managementEvent"] == "BOOLEAN"
    assert kinds["requestParameters"] == kinds["eventName"] == "VARCHAR"
    assert kinds["resources"] == 'STRUCT(ARN VARCHAR, accountId VARCHAR, "type" VARCHAR)[]'
    assert kinds["userIdentity"].startswith('STRUCT("type" VARCHAR, principalId VARCHAR')
    names = [*COLUMNS, "_other", "_bucket", "_key", "_index"]
    listed = ", ".join(f'"{name}"' for name in names if name != "eventTime")
    found = connection.execute(
        f"SELECT strftime(eventTime, '%Y-%m-%dT%H:%M:%S.%f'), {listed} FROM {table}"
    ).fetchall()
    expected = [
        (
            f"{row['eventTime']:%Y-%m-%dT%H:%M:%S.%f}",
            *(row[name] for name in names if name != "eventTime"),
        )
        for row in rows(sampled)
        if row["eventTime"].year > 999  # strftime has no leading zeros for others
    ]
    found = [row for row in found if not row[0].startswith(("1-", "0001"))]
    key = lambda row: (row[-2], row[-1], row[-3])  # noqa: E731
    assert sorted(found, key=key) == sorted(expected, key=key)


def test_duckdb_reads_only_the_folders_that_it_is_asked_for(sampled: Settings) -> None:
    connection, table = duckdb_over(sampled)
    account, date = connection.execute(
        f"SELECT account, date FROM {table} GROUP BY ALL ORDER BY count(*) DESC LIMIT 1"
    ).fetchone()
    query = f"SELECT count(*) FROM {table} WHERE account = {account} AND date = DATE '{date}'"
    plan = connection.execute(f"EXPLAIN ANALYZE {query}").fetchall()[0][1]
    wanted = len(
        list(sampled.events_dir.parent.glob(f"parquet/account={account}/*/date={date}/*.parquet"))
    )
    everything = len(parquet_files(sampled))
    assert 0 < wanted < everything
    assert f"Scanning Files: {wanted}/{everything}" in " ".join(plan.replace("│", " ").split())


def test_json_columns_are_json_to_duckdb(sampled: Settings) -> None:
    connection, table = duckdb_over(sampled)
    (found,) = connection.execute(
        f"SELECT count(*) FROM {table} WHERE json_valid(requestParameters)"
        " AND requestParameters->>'bucketName' IS NOT NULL"
    ).fetchone()
    assert found > 10


def test_without_the_setting_there_is_no_parquet(tmp_path: Path) -> None:
    put_records(tmp_path / "bucket", [record()])
    settings = settings_in(tmp_path, [local_trail(tmp_path / "bucket")])
    assert sync(settings).ok
    assert not (tmp_path / "parquet").exists()


def test_switched_on_later_it_is_for_new_events(tmp_path: Path) -> None:
    put_records(tmp_path / "bucket", [record('"eventID":"1"')])
    assert sync(settings_in(tmp_path, [local_trail(tmp_path / "bucket")])).ok
    put_records(tmp_path / "bucket", [record('"eventID":"1"'), record('"eventID":"2"')], 1)
    settings = settings_in(tmp_path, [local_trail(tmp_path / "bucket")], output_formats=BOTH)
    assert sync(settings).ok
    assert [row["eventID"] for row in rows(settings)] == ["2"]


@pytest.mark.thorough
def test_memory_follows_the_bytes_of_a_file_not_of_a_log_file(tmp_path: Path) -> None:
    """The log file has 200 MB: its rows are never in memory all at once."""
    from ctrail_pipeline_tests.support.measured_sync import synced as measured

    padding = "".join(chr(97 + at % 26) for at in range(1400))
    records = [
        record(f'"eventID":"{at}","requestParameters":{{"a":"{padding}"}}') for at in range(130_000)
    ]
    put_records(tmp_path / "bucket", records)
    del records
    _, events, without = measured(tmp_path, download_workers=1, process_workers=1)
    again = tmp_path / "again"
    again.mkdir()
    (tmp_path / "bucket").rename(again / "bucket")
    _, rows_too, peak = measured(again, download_workers=1, process_workers=1, output_formats=BOTH)
    assert events == rows_too == 130_000
    print(f"peak {peak} MB with Parquet, {without} without")
    assert peak - without < 300
