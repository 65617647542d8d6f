"""The configuration file: what it may say, what it becomes, and how it is refused."""

import json
import logging
import re
import time
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrail_pipeline.config.file import Config, load_config
from ctrail_pipeline.config.keys import KEYS, TRAIL_KEYS
from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.ledger_address import PostgresAddress
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline_tests.support.gocloudtrail import GOCLOUDTRAIL
from ctrail_pipeline_tests.support.properties import examples

ONE_TRAIL: dict[str, Any] = {"trails": [{"name": "main", "bucket": "my-bucket"}]}
PARQUET = {"output_formats": ["jsonl", "parquet"]}


def load(folder: Path, text: str | dict[str, Any]) -> Config:
    content = text if isinstance(text, str) else json.dumps(text)
    (folder / "config.json").write_text(content, encoding="utf-8")
    return load_config({}, folder)


def load_trail(folder: Path, **trail: Any) -> Trail:
    return load(
        folder, {"trails": [{"name": "main", "bucket": "my-bucket"} | trail]}
    ).settings.trails[0]


def refusal(folder: Path, text: str | dict[str, Any]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text)
    return str(caught.value)


def test_a_file_that_is_just_being_saved_is_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Editors and shells empty a file first, and write it then."""
    source = tmp_path / "config.json"
    source.write_text("")
    monkeypatch.setattr(time, "sleep", lambda _: source.write_text(json.dumps(ONE_TRAIL)))
    assert [trail.name for trail in load_config({}, tmp_path).settings.trails] == ["main"]


# --- Which file ---------------------------------------------------------------------------------


def test_without_a_file_the_sample_trails_are_used_and_a_log_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    config = load_config({}, tmp_path)
    bucket = tmp_path.as_uri() + "/sample/example-"
    assert config == Config(
        Settings(
            trails=(
                Trail("organization", f"{bucket}org-trail", log_file_validation=False),
                Trail(
                    "payments",
                    f"{bucket}payments-trail",
                    "audit/payments",
                    log_file_validation=False,
                ),
            ),
            events_dir=tmp_path / "events",
            quarantine_dir=tmp_path / "quarantine",
            parquet_dir=tmp_path / "parquet",
            state_db=tmp_path / "state.db",
        ),
        source=None,
    )
    assert "sample trails" in caplog.text


def test_config_json_in_the_folder_is_used(tmp_path: Path) -> None:
    config = load(tmp_path, ONE_TRAIL)
    assert config.source == tmp_path / "config.json"
    assert config.settings.trails == (Trail("main", "my-bucket"),)


def test_ctrail_config_is_preferred_to_config_json(tmp_path: Path) -> None:
    load(tmp_path, ONE_TRAIL)
    named_file = tmp_path / "other.json"
    named_file.write_text('{"trails": [{"name": "other", "bucket": "other-bucket"}]}')
    for named in ("other.json", str(named_file)):
        config = load_config({"CTRAIL_CONFIG": named}, tmp_path)
        assert config.source == named_file
        assert config.settings.trails == (Trail("other", "other-bucket"),)


def test_a_file_that_ctrail_config_names_must_be_there(tmp_path: Path) -> None:
    load(tmp_path, ONE_TRAIL)
    with pytest.raises(ConfigurationError, match=r"nowhere\.json: is not there.*CTRAIL_CONFIG"):
        load_config({"CTRAIL_CONFIG": "nowhere.json"}, tmp_path)


def test_a_broken_link_is_not_taken_for_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("gone")
    with pytest.raises(ConfigurationError, match="is not there"):
        load_config({}, tmp_path)


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "c.json").write_text(
        json.dumps(ONE_TRAIL | {"events_dir": "../data/events", "state_db": "/var/lib/state.db"})
    )
    settings = load_config({"CTRAIL_CONFIG": "etc/c.json"}, tmp_path).settings
    assert settings.events_dir == tmp_path / "data" / "events"
    assert settings.quarantine_dir == tmp_path / "data" / "quarantine"
    assert settings.parquet_dir == tmp_path / "data" / "parquet"
    assert settings.state_db == Path("/var/lib/state.db")


def test_the_files_of_digests_are_relative_to_the_file_too(tmp_path: Path) -> None:
    trail = load_trail(tmp_path, public_keys="keys/../k.json", object_metadata="/srv/m.json")
    assert trail.public_keys == tmp_path / "k.json"
    assert trail.object_metadata == Path("/srv/m.json")


# --- What it may say ----------------------------------------------------------------------------


def test_a_gocloudtrail_file_with_its_comments_works_unchanged(tmp_path: Path) -> None:
    assert load(tmp_path, GOCLOUDTRAIL).settings == Settings(
        trails=(Trail("main", "my-bucket", "logs"),),
        download_workers=50,
        events_dir=tmp_path / "events",
        quarantine_dir=tmp_path / "quarantine",
        parquet_dir=tmp_path / "parquet",
        state_db=tmp_path / "state.db",
    )


def test_parquet_is_asked_for_beside_jsonl(tmp_path: Path) -> None:
    config = ONE_TRAIL | PARQUET | {"parquet_dir": "/srv/lake"}
    settings = load(tmp_path, json.dumps(config)).settings
    assert settings.output_formats == ("jsonl", "parquet")
    assert settings.parquet_dir == Path("/srv/lake")
    assert load(tmp_path, json.dumps(ONE_TRAIL)).settings.output_formats == ("jsonl",)


def test_without_parquet_its_default_folder_is_in_nobodys_way(tmp_path: Path) -> None:
    settings = load(tmp_path, json.dumps(ONE_TRAIL | {"events_dir": "parquet"})).settings
    assert settings.events_dir == tmp_path / "parquet"


def test_keys_without_effect_are_named_once_with_their_reasons(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    load(tmp_path, GOCLOUDTRAIL)
    (line,) = caplog.messages
    assert set(re.findall(r"[a-z]+(?:_[a-z]+)+(?=[, ])", line.split("without effect")[1])) >= {
        *("download_queue_size", "process_queue_size", "bloom_file"),
        *("bloom_expected_items", "max_idle_conns", "max_idle_conns_per_host"),
        *("max_conns_per_host", "idle_conn_timeout", "keep_alive"),
    }
    assert "bloom_file, bloom_expected_items (filters live in the ledger" in line


def test_two_slashes_in_a_string_are_no_comment(tmp_path: Path) -> None:
    text = r"""{"trails": [ // "not": "a key"
        {"name": "a \" // b", "bucket": "file:///srv/logs"} // }
    ]} // the end"""
    assert load(tmp_path, text).settings.trails == (Trail('a " // b', "file:///srv/logs"),)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + json.dumps(ONE_TRAIL)).settings.trails


def test_the_ledger_may_be_a_database(tmp_path: Path) -> None:
    url = "postgresql://ctrail@db.internal/ctrail?sslmode=verify-full"
    settings = load(tmp_path, ONE_TRAIL | {"state_db": url}).settings
    assert settings.ledger == PostgresAddress(url)
    assert load(tmp_path, ONE_TRAIL).settings.ledger == tmp_path / "state.db"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ctrail:secret@db.internal/ctrail",
        "postgres://db.internal/ctrail?user=ctrail&password=secret",
    ],
)
def test_a_password_in_the_configuration_is_refused_and_not_repeated(
    tmp_path: Path, url: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"state_db.*PGPASSFILE") as refused:
        load(tmp_path, ONE_TRAIL | {"state_db": url})
    assert "secret" not in str(refused.value)


def test_every_field_of_settings_can_be_configured(tmp_path: Path) -> None:
    names = {field.name for field in fields(Settings)}
    assert names - {"connect_timeout", "since_seconds", "postgres"} <= set(KEYS)
    assert load(tmp_path, ONE_TRAIL | {"dial_timeout": 2.5}).settings.connect_timeout == 2.5


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-31", datetime(2024, 5, 31, tzinfo=UTC)),
        ("2024-05-31T18:30", datetime(2024, 5, 31, 18, 30, tzinfo=UTC)),
        ("2024-05-31T18:30:00Z", datetime(2024, 5, 31, 18, 30, tzinfo=UTC)),
        ("2024-05-31T01:00:00+02:00", datetime(2024, 5, 30, 23, tzinfo=UTC)),
        (None, None),
    ],
)
def test_times_become_utc(tmp_path: Path, text: str | None, moment: datetime | None) -> None:
    start = load(tmp_path, ONE_TRAIL | {"start": text}).settings.start
    assert start == moment
    assert start is None or start.tzinfo is UTC


@pytest.mark.parametrize(
    ("written", "prefixes"),
    [
        ("", [""]),
        ("audit", ["audit"]),
        ("a//b", ["a//b"]),
        ("MyAWSLogs", ["MyAWSLogs"]),
        ("o-abcdef1234", ["o-abcdef1234"]),
        ("/", ["", "/"]),
        ("audit/", ["audit", "audit/"]),
        ("/audit/payments/", ["audit/payments", "/audit/payments/"]),
        ("audit/AWSLogs", ["audit", "audit/AWSLogs"]),
        ("audit/AWSLogs/", ["audit", "audit/AWSLogs/"]),
        ("AWSLogs", ["", "AWSLogs"]),
        ("AWSLogs/", ["", "AWSLogs/"]),
        ("AWSLogs/AWSLogs", ["AWSLogs", "AWSLogs/AWSLogs"]),
    ],
)
def test_a_prefix_is_tried_as_it_is_meant_and_then_as_it_is_written(
    tmp_path: Path, written: str, prefixes: list[str]
) -> None:
    trail = load_trail(tmp_path, prefix=written)
    assert trail.prefix == prefixes[0]
    assert list(trail.prefixes) == prefixes
    assert load_trail(tmp_path, prefix=written, exact_prefix=True).prefixes == (written,)


@pytest.mark.parametrize(
    ("written", "prefixes"),
    [
        ("audit/", ["audit"]),
        ("/audit", ["audit"]),
        ("a//b", ["a//b"]),
        ("audit/AWSLogs", ["audit", "audit/AWSLogs"]),
    ],
)
def test_a_folder_has_no_second_place_where_only_slashes_differ(
    tmp_path: Path, written: str, prefixes: list[str]
) -> None:
    trail = load_trail(tmp_path, bucket="file:///srv/logs", prefix=written)
    assert list(trail.prefixes) == prefixes


def test_the_place_of_another_trail_is_not_tried(tmp_path: Path) -> None:
    trails = [
        {"name": "a", "bucket": "my-bucket", "prefix": "AWSLogs"},
        {"name": "b", "bucket": "my-bucket", "prefix": "AWSLogs/AWSLogs"},
        {"name": "c", "bucket": "other", "prefix": "AWSLogs"},
    ]
    found = [trail.prefixes for trail in load(tmp_path, {"trails": trails}).settings.trails]
    assert found == [("",), ("AWSLogs", "AWSLogs/AWSLogs"), ("", "AWSLogs")]


@pytest.mark.parametrize(
    ("written", "bucket"),
    [
        ("file:///srv/logs", "file:///srv/logs"),
        ("file:///srv/logs/", "file:///srv/logs"),
        ("FILE://localhost/srv/./x/../logs//", "file:///srv/logs"),
        ("file:////srv/logs", "file:///srv/logs"),
        ("file:///srv/my logs", "file:///srv/my%20logs"),
        ("file:///srv/my%20logs", "file:///srv/my%20logs"),
        ("file:///srv/#1?é", "file:///srv/%231%3F%C3%A9"),
    ],
)
def test_file_urls_of_one_folder_become_one(tmp_path: Path, written: str, bucket: str) -> None:
    assert load_trail(tmp_path, bucket=written).bucket == bucket


@pytest.mark.parametrize(
    "bucket",
    [
        "abc",
        "logs.example.com",
        "a" * 63,
        "Old_Bucket",
        "my-access-point-0123456789abcdef-s3alias",
        "arn:aws:s3:eu-west-1:123456789012:accesspoint/my-point",
        "arn:aws-us-gov:s3:us-gov-west-1:123456789012:accesspoint:my-point",
        "my-point-0a1b2c3d4e5f-s3alias",
    ],
)
def test_bucket_names_are_kept_as_they_are(tmp_path: Path, bucket: str) -> None:
    assert load_trail(tmp_path, bucket=bucket).bucket == bucket


@pytest.mark.parametrize(
    ("written", "delivered_to"),
    [
        ("my-bucket", "my-bucket"),
        ("my-bucket/", "my-bucket/"),
        ("my-bucket/audit/payments/", "my-bucket/audit/payments/"),
        (None, None),
    ],
)
def test_where_digests_were_delivered_to(
    tmp_path: Path, written: str | None, delivered_to: str | None
) -> None:
    assert load_trail(tmp_path, delivered_to=written).delivered_to == delivered_to


def test_a_trail_says_how_it_is_read(tmp_path: Path) -> None:
    access: dict[str, Any] = {
        "profile": "audit",
        "role_arn": "arn:aws-us-gov:iam::111122223333:role/team/ctrail-reader",
        "external_id": "a:b/c-1",
        "session_name": "ctrail@night",
        "requester_pays": True,
        "kms_key_id": "arn:aws:kms:eu-west-1:111122223333:key/0e1f",
        "home_region": "eu-west-1",
        "log_file_validation": True,
        "is_organization": False,
    }
    assert load_trail(tmp_path, **access) == Trail("main", "my-bucket", **access)
    nothing = dict.fromkeys(set(access) - {"requester_pays"})
    assert load_trail(tmp_path, **nothing) == Trail("main", "my-bucket")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5_400), ("6h", 21_600), ("2d", 172_800), ("1w", 604_800), ("45s", 45)],
)
def test_a_length_of_time_has_a_unit(tmp_path: Path, text: str, seconds: float) -> None:
    assert load(tmp_path, ONE_TRAIL | {"since": text}).settings.since_seconds == seconds


def test_every_field_of_a_trail_can_be_configured() -> None:
    of_prefix = {"written_prefix", "exact_prefix"}
    assert {field.name for field in fields(Trail)} ^ set(TRAIL_KEYS) == of_prefix


def test_one_bucket_may_have_trails_of_several_prefixes(tmp_path: Path) -> None:
    trails = [
        {"name": "a", "bucket": "my-bucket", "prefix": "a"},
        {"name": "b", "bucket": "my-bucket", "prefix": "b"},
    ]
    assert len(load(tmp_path, {"trails": trails}).settings.trails) == 2


# --- How it is refused --------------------------------------------------------------------------


def two(second: dict[str, Any]) -> dict[str, Any]:
    return {"trails": [*ONE_TRAIL["trails"], second]}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], r"config.json: \[\] must be an object"),
        ({}, r"trails: missing: it must be a list of at least one trail"),
        ({"trails": []}, r"trails: \[\]: it must be a list of at least one trail"),
        ({"trails": {}}, r"trails: {}: it must be a list"),
        ({"trails": ["x"]}, r'trails\[0\]: "x" must be an object'),
        ({"trails": [{"bucket": "abc"}]}, r"trails\[0\].name: missing: it must be a name"),
        ({"trails": [{"name": "a"}]}, r"trails\[0\].bucket: missing: it must be a bucket name"),
        (two({"name": " ", "bucket": "abc"}), r'trails\[1\].name: " ": it must be a name'),
        (
            two({"name": "main", "bucket": "other"}),
            r'trails\[1\].name: "main" is the name of trails\[0\] already',
        ),
        (
            two({"name": "b", "bucket": "my-bucket", "prefix": "/"}),
            r'trails\[1\].bucket: "my-bucket" with prefix "" is trails\[0\] already; keep one of'
            r' the two, or say "exact_prefix": true where CloudTrail was told "/"',
        ),
        (
            two({"name": "b", "bucket": "my-bucket", "prefix": "", "exact_prefix": True}),
            r'trails\[1\].bucket: "my-bucket" with prefix "" is trails\[0\] already; keep one of'
            r" the two$",
        ),
        (two({"name": "b", "buckets": "x"}), r"trails\[1\].buckets: .* did you mean bucket\?"),
        (ONE_TRAIL | {"event_dir": "x"}, r"event_dir: there is no such key; did you mean events_d"),
        (ONE_TRAIL | {"Events_Dir": "x"}, r"Events_Dir: .* did you mean events_dir\?"),
        (ONE_TRAIL | {"zzz": 1}, r"zzz: there is no such key; known are accounts, "),
        (ONE_TRAIL | {"a\nb": 1}, r'"a\\nb": there is no such key'),
        (ONE_TRAIL | {"list_batch_size": 1001}, r"list_batch_size: 1001: .* from 1 to 1000"),
        (ONE_TRAIL | {"list_batch_size": 0}, r"list_batch_size: 0: it must be a whole number"),
        (ONE_TRAIL | {"events_per_file": True}, r"events_per_file: true: .* a whole number"),
        (ONE_TRAIL | {"events_per_file": 1.0}, r"events_per_file: 1.0: .* a whole number"),
        (ONE_TRAIL | {"events_per_file": "1"}, r'events_per_file: "1": .* a whole number'),
        (ONE_TRAIL | {"kinds": []}, r"kinds: \[\]: it must be .* \"CloudTrail\", \"CloudTrail-N"),
        (ONE_TRAIL | {"kinds": ["Insight"]}, r'kinds: .* "CloudTrail-Insight", "CloudTrail-Agg'),
        (ONE_TRAIL | {"kinds": "CloudTrail"}, r"kinds: .* a list of one or more of the kinds"),
        (
            {"trails": [{"name": "a", "bucket": "abc", "kinds": ["CloudTrail-Digest"]}]},
            r"trails\[0\].kinds: .* a list of one or more of the kinds",
        ),
        (
            {
                "trails": [{"name": "a", "bucket": "abc", "kinds": ["CloudTrail-Insight"]}],
                "kinds": ["CloudTrail"],
            },
            r"trails\[0\].kinds: .* have none in common",
        ),
        (ONE_TRAIL | {"lookback_hours": -1}, r"lookback_hours: -1: .* from 0 to"),
        (ONE_TRAIL | {"process_workers": "4"}, r'process_workers: "4": .* a whole number'),
        (ONE_TRAIL | {"bloom_file": 4}, r"bloom_file: 4: it must be a path"),
        (ONE_TRAIL | {"progress_interval": 0}, r"progress_interval: 0: .* seconds above 0"),
        (ONE_TRAIL | {"dial_timeout": False}, r"dial_timeout: false: .* seconds above 0"),
        (ONE_TRAIL | {"bloom_false_positive": 1}, r"bloom_false_positive: 1: .* between 0 and 1"),
        (ONE_TRAIL | {"bloom_false_positive": 0.0}, r"bloom_false_positive: 0.0: .* between"),
        (ONE_TRAIL | {"start": "yesterday"}, r'start: "yesterday": it must be an ISO date'),
        (ONE_TRAIL | {"start": 20240531}, r"start: 20240531: it must be an ISO date"),
        (ONE_TRAIL | {"end": "0001-01-01T00:00+14:00"}, r"end: .*: it must be an ISO date"),
        (
            ONE_TRAIL | {"start": "2024-05-31", "end": "2024-05-31T02:00+02:00"},
            r"start: 2024-05-31T00:00:00\+00:00 must be before end, 2024-05-31T00:00:00\+00:00",
        ),
        (ONE_TRAIL | {"since": "6"}, r'since: "6": it must be a length of time such as 90m'),
        (ONE_TRAIL | {"since": "0h"}, r"since: .* a length of time"),
        (ONE_TRAIL | {"since": 6}, r"since: 6: .* a length of time"),
        (ONE_TRAIL | {"since": "6h", "start": "2024-05-31"}, r"since: start is given too"),
        (ONE_TRAIL | {"accounts": "1*"}, r'accounts: "1\*": it must be a list of accounts'),
        (ONE_TRAIL | {"exclude_regions": ["eu_*"]}, r"exclude_regions: .* a list of regions"),
        (two({"name": "b", "bucket": "abc", "regions": [7]}), r"trails\[1\].regions: \[7\]: "),
        (ONE_TRAIL | {"events_dir": ""}, r'events_dir: "": it must be a path'),
        (ONE_TRAIL | {"events_dir": "~/events"}, r'events_dir: "~/events": .* ~ is not expanded'),
        (ONE_TRAIL | {"events_dir": "a\0b"}, r"events_dir: .*: it must be a path"),
        (ONE_TRAIL | {"quarantine_dir": "events"}, r"quarantine_dir: .* must be two folders"),
        (ONE_TRAIL | {"quarantine_dir": "events/q"}, r"quarantine_dir: .* must be two folders"),
        (ONE_TRAIL | {"events_dir": "quarantine/e", "quarantine_dir": "x/../quarantine"}, "two fo"),
        (ONE_TRAIL | {"events_dir": "quarantine"}, r"quarantine_dir: .* must be two folders"),
        (ONE_TRAIL | {"output_formats": ["parquet"]}, r"output_formats: .* JSONL is always"),
        (ONE_TRAIL | {"output_formats": []}, r"output_formats: \[\]: it must be \[\"jsonl\"\] or"),
        (ONE_TRAIL | {"output_formats": "parquet"}, r"output_formats: .* it must be \["),
        (ONE_TRAIL | {"output_formats": ["jsonl", "csv"]}, r"output_formats: .* it must be \["),
        (ONE_TRAIL | {"output_formats": ["jsonl", "jsonl"]}, r"output_formats: .* it must be \["),
        (ONE_TRAIL | {"output_formats": ["jsonl", ["parquet"]]}, r"output_formats: .* it must be"),
        (ONE_TRAIL | {"parquet_dir": "events"}, r"parquet_dir: .* must be two folders"),
        (ONE_TRAIL | {"parquet_dir": "quarantine/p"}, r"parquet_dir: .* must be two folders"),
        (ONE_TRAIL | PARQUET | {"events_dir": "parquet"}, r"parquet_dir: .* must be two folders"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(
    tmp_path: Path, config: Any, message: str
) -> None:
    text = refusal(tmp_path, config)
    assert text.startswith(f"{tmp_path / 'config.json'}: ")
    assert re.search(message, text), text


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("bucket", "no", "a bucket name"),
        ("bucket", "s3://my-bucket", "a bucket name"),
        ("bucket", "my bucket", "a bucket name"),
        ("bucket", "../x", "a bucket name"),
        ("bucket", "arn:aws:s3:::my-bucket", "a bucket name"),
        ("bucket", 7, "a bucket name"),
        ("bucket", "arn:aws:s3:::accesspoint/logs", "a bucket name"),
        ("bucket", "file://relative/folder", "an absolute URL"),
        ("bucket", "file://", "an absolute URL"),
        ("bucket", "file:///a%00b", "an absolute URL"),
        ("bucket", "file:///a%ffb", "an absolute URL"),
        ("prefix", 1, 'the part of the keys before "AWSLogs/"'),
        ("prefix", "a\nb", 'the part of the keys before "AWSLogs/"'),
        ("delivered_to", "s3://my-bucket", "the bucket that digests name"),
        ("delivered_to", "file:///srv/logs", "the bucket that digests name"),
        ("delivered_to", "my-bucket/a\nb", "the bucket that digests name"),
        ("delivered_to", "", "the bucket that digests name"),
        ("delivered_to", 7, "the bucket that digests name"),
        ("region", "", "a region"),
        ("region", "eu west", "a region"),
        ("endpoint_url", "minio:9000", "a URL"),
        ("endpoint_url", "http://", "a URL"),
        ("endpoint_url", "http://host:port", "a URL"),
        ("endpoint_url", "ftp://host", "a URL"),
        ("profile", "", "a text of one line"),
        ("role_arn", "ctrail-reader", "a role such as"),
        ("role_arn", "arn:aws:sts::111122223333:assumed-role/a/b", "a role such as"),
        ("external_id", "a b", "an external id"),
        ("session_name", "a/b", "2 to 64 letters"),
        ("requester_pays", "yes", "true or false"),
        ("requester_pays", 1, "true or false"),
        ("kms_key_id", 1, "a text of one line"),
        ("queue", "trail-events", "the URL of a queue"),
        ("queue", "https://sqs.eu-central-1.amazonaws.com/trail-events", "the URL of a queue"),
        ("queue", "https://a:b@host/111122223333/trail-events", "the URL of a queue"),
        ("queue", "arn:aws:sqs:eu-central-1:111122223333:trail-events", "the URL of a queue"),
        ("queue", 7, "the URL of a queue"),
    ],
)
def test_a_trail_that_cannot_be_is_refused(
    tmp_path: Path, key: str, value: object, wanted: str
) -> None:
    text = refusal(tmp_path, two({"name": "b", "bucket": "abc"} | {key: value}))
    assert f"trails[1].{key}: " in text
    assert f"it must be {wanted}" in text


def test_a_folder_has_no_queue(tmp_path: Path) -> None:
    queue = "https://sqs.eu-central-1.amazonaws.com/111122223333/trail-events"
    text = refusal(tmp_path, two({"name": "b", "bucket": "file:///srv/logs", "queue": queue}))
    assert "trails[1].queue: a folder sends no notifications" in text


@pytest.mark.parametrize(
    ("bucket", "kind"),
    [
        ("arn:aws:s3::111122223333:accesspoint/mfzwi23.mrap", "a multi-Region access point"),
        (
            "arn:aws:s3-outposts:us-west-2:111122223333:outpost/op-1/accesspoint/logs",
            "a bucket on Outposts",
        ),
        (
            "arn:aws:s3-object-lambda:us-west-2:111122223333:accesspoint/logs",
            "an Object Lambda access point",
        ),
        ("logs-0a1b2c3d--ol-s3", "an Object Lambda access point"),
        ("logs--use1-az4--x-s3", "a directory bucket"),
        (
            "arn:aws:s3express:us-east-1:111122223333:bucket/logs--use1-az4--x-s3",
            "a directory bucket",
        ),
    ],
)
def test_a_kind_of_bucket_that_cannot_be_read_is_named(
    tmp_path: Path, bucket: str, kind: str
) -> None:
    text = refusal(tmp_path, two({"name": "b", "bucket": bucket}))
    assert f'trails[1].bucket: "{bucket}": it must be a bucket name' in text
    assert '"arn:aws:s3:eu-west-1:111122223333:accesspoint/logs"' in text
    assert text.endswith(f"; {kind} cannot be read")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is not valid JSON: line 1 column 1"),
        ('{\n "trails": [],, // x\n}', r"is not valid JSON: line 2 column 15"),
        ('{"progress_interval": NaN}', r"NaN is not a JSON number"),
        ('{"trails": 1, "trails": 2}', r"trails: is given twice"),
        (
            '{"trails": [{"name": "a", "bucket": "abc", "bucket": "abd"}]}',
            r"trails\[0\].bucket: is given twice",
        ),
        ("[" * 100_000, r"is not a configuration: "),
        ("1" * 5_000, r"is not a configuration: "),
    ],
)
def test_a_file_that_is_no_good_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    assert re.search(message, refusal(tmp_path, text))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"\xff": 1}')
    with pytest.raises(ConfigurationError, match="is not UTF-8 at byte 2"):
        load_config({}, tmp_path)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_config({}, tmp_path)


def test_quarantine_that_is_events_through_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "other").symlink_to("events")
    assert "two folders" in refusal(tmp_path, ONE_TRAIL | {"quarantine_dir": "other"})


def test_secrets_in_the_file_are_not_repeated(tmp_path: Path) -> None:
    endpoint = two({"name": "b", "bucket": "abc", "endpoint_url": "s3://key:hush@host"})
    for config in (ONE_TRAIL | {"aws_secret_access_key": "hush"}, endpoint):
        assert "hush" not in refusal(tmp_path, config)


# --- Anything valid loads -----------------------------------------------------------------------

NAMES = st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1).filter(str.strip)
SEGMENTS = st.text("abcXYZ019-_. #%é", min_size=1).filter(lambda text: text.strip(" .") != "")
FOLDERS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)
SECONDS = st.integers(1, 10**6) | st.floats(0.001, 10**6)
TRAILS = st.fixed_dictionaries(
    {
        "name": NAMES,
        "bucket": st.from_regex(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", fullmatch=True)
        | FOLDERS.map(lambda folder: (Path("/") / folder).as_uri()),
    },
    optional={
        "prefix": FOLDERS,
        "region": st.sampled_from(["us-east-1", "cn-north-1", None]),
        "endpoint_url": st.sampled_from(["http://localhost:9000", "https://s3.example", None]),
    },
)
CONFIGURATIONS = st.fixed_dictionaries(
    {
        "trails": st.lists(
            TRAILS, min_size=1, max_size=5, unique_by=(lambda t: t["name"], lambda t: t["bucket"])
        )
    },
    optional={
        "events_per_file": st.integers(1, 10**9),
        "list_batch_size": st.integers(1, 1000),
        "download_workers": st.integers(1, 10_000),
        "process_workers": st.integers(0, 10_000),
        "start": st.dates(date(2001, 1, 1), date(2020, 1, 1)).map(str),
        "end": st.dates(date(2020, 1, 2), date(2098, 1, 1)).map(str),
        "lookback_hours": st.integers(0, 1000),
        "horizon_days": st.integers(1, 1000),
        "max_log_file_bytes": st.integers(1, 2**40),
        "max_hours_per_log_file": st.integers(1, 10**6),
        "max_scattered_hours": st.integers(0, 10**9),
        "batch_log_files": st.integers(1, 10**6),
        "batch_bytes": st.integers(1, 2**40),
        "bloom_false_positive": st.floats(0, 1, exclude_min=True, exclude_max=True),
        "state_save_interval": SECONDS,
        "jsonl_flush_interval": SECONDS,
        "progress_interval": SECONDS,
        "client_timeout": SECONDS,
    },
)


@settings(max_examples=examples(40))
@given(config=CONFIGURATIONS)
def test_any_valid_configuration_loads_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]
) -> None:
    settings = load(tmp_path_factory.mktemp("any"), config).settings
    for key, value in config.items():
        if key in ("start", "end"):
            assert getattr(settings, key) == datetime.fromisoformat(value).replace(tzinfo=UTC)
        elif key != "trails":
            assert getattr(settings, key) == value
    for trail, written in zip(settings.trails, config["trails"], strict=True):
        assert trail.name == written["name"]
        assert unquote(urlsplit(trail.bucket).path) == unquote(urlsplit(written["bucket"]).path)
        assert trail.prefix == written.get("prefix", "")
        assert trail.region == written.get("region")
        assert trail.endpoint_url == written.get("endpoint_url")


# --- For Dagster --------------------------------------------------------------------------------


def test_what_is_said_of_the_sensor_is_taken(tmp_path: Path) -> None:
    hook = "https://hooks.example.com/services/T0/B0/secret/"
    dagster_keys = {"sensor": "stopped", "sensor_interval": 60, "failure_webhook": hook}
    dagster = load(tmp_path, ONE_TRAIL | dagster_keys).dagster
    assert (dagster.sensor, dagster.sensor_interval) == ("stopped", 60)
    assert dagster.failure_webhook == hook
    assert "secret" not in repr(dagster)


@pytest.mark.parametrize(
    ("key", "value"), [("sensor", "on"), ("sensor", True), ("sensor_interval", 5)]
)
def test_what_the_sensor_cannot_do_is_refused_by_key(tmp_path: Path, key: str, value: Any) -> None:
    assert f": {key}: " in refusal(tmp_path, ONE_TRAIL | {key: value})


@pytest.mark.parametrize("value", ["hooks.example.com/T0B0", "ftp://x/T0B0", 70, ["T0B0"]])
def test_a_wrong_webhook_is_named_and_not_shown(tmp_path: Path, value: Any) -> None:
    message = refusal(tmp_path, ONE_TRAIL | {"failure_webhook": value})
    assert ": failure_webhook: it must be a URL" in message
    assert "T0B0" not in message
    assert "70" not in message.removeprefix(str(tmp_path))
