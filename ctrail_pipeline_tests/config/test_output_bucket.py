"""Where the output lies, as the configuration file says it: in folders or in a bucket."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.output_address import BucketAddress
from ctrail_pipeline.core.settings import OutputBucket, Settings

TRAILS: dict[str, Any] = {"trails": [{"name": "main", "bucket": "my-bucket"}]}
EVENTS = "s3://my-output/ctrail/events"


def load(folder: Path, **keys: Any) -> Settings:
    (folder / "config.json").write_text(json.dumps(TRAILS | keys))
    return load_config({}, folder).settings


def refusal(folder: Path, **keys: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(folder, **keys)
    return str(caught.value)


def address(prefix: str) -> BucketAddress:
    return BucketAddress("my-output", prefix)


def test_all_of_an_output_in_a_bucket_lies_beside_its_events(tmp_path: Path) -> None:
    settings = load(tmp_path, events_dir=f"{EVENTS}/")
    assert settings.output == OutputBucket(
        address("ctrail/events"), address("ctrail/quarantine"), address("ctrail/parquet")
    )
    assert settings.output.bucket == "my-output"
    assert (str(settings.events), str(settings.quarantine)) == (
        EVENTS,
        "s3://my-output/ctrail/quarantine",
    )
    at_top = load(tmp_path, events_dir="s3://my-output/events").output
    assert at_top is not None
    assert at_top.parquet == address("parquet")


def test_an_output_in_folders_is_in_no_bucket(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert (settings.output, settings.events) == (None, tmp_path / "events")


def test_each_root_may_be_named(tmp_path: Path) -> None:
    output = load(
        tmp_path,
        events_dir=EVENTS,
        quarantine_dir="s3://my-output/bad",
        parquet_dir="s3://my-output/lake/ctrail",
    ).output
    assert output is not None
    assert (output.quarantine, output.parquet) == (address("bad"), address("lake/ctrail"))


def test_it_is_said_how_the_bucket_is_asked(tmp_path: Path) -> None:
    options = {
        "region": "eu-central-1",
        "endpoint_url": "https://s3.example.com:9000",
        "profile": "writer",
        "role_arn": "arn:aws:iam::111122223333:role/ctrail-writer",
        "external_id": "external",
        "session_name": "session",
        "kms_key_id": "alias/ctrail",
    }
    output = load(tmp_path, events_dir=EVENTS, output=options).output
    assert output is not None
    assert {name: getattr(output, name) for name in options} == options
    assert output.key("region") == "`output.region`"
    assert output.key("bucket") == "`events_dir`"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"output": {"regoin": "x"}}, "output.regoin: there is no such key; did you mean region?"),
        ({"output": {"region": "a b"}}, 'output.region: "a b": it must be a region'),
        ({"output": "eu-central-1"}, 'output: "eu-central-1": it must be an object'),
        ({"output": {"requester_pays": True}}, "output.requester_pays: there is no such key"),
        ({"quarantine_dir": "/srv/bad"}, 'quarantine_dir: "/srv/bad" and events_dir'),
        ({"parquet_dir": "s3://other/lake"}, "must lie in one bucket"),
        ({"quarantine_dir": f"{EVENTS}/bad"}, "neither inside the other"),
        ({"events_dir": "events", "output": {"region": "eu-central-1"}}, "output: it says how a"),
    ],
)
def test_what_cannot_be_right_is_refused_by_its_key(
    tmp_path: Path, keys: dict[str, Any], said: str
) -> None:
    assert said in refusal(tmp_path, **{"events_dir": EVENTS} | keys)


@pytest.mark.parametrize(
    "text",
    [
        *("s3://my-output", "s3://my-output/", "s3:///events", "s3://x/events", "gs://b/events"),
        *("s3://my-output/a//b", "s3://my-output/../b", "s3://my-output/.staging/b"),
        *("s3://my-output/a b", "s3://my-output/a*", "S3://my-output/a", "s3://my-output/a?b=c"),
        "s3://arn:aws:s3:eu-west-1:111122223333:accesspoint/logs/events",
    ],
)
def test_a_url_that_is_no_prefix_of_a_bucket_is_refused(tmp_path: Path, text: str) -> None:
    assert "events_dir: " in refusal(tmp_path, events_dir=text)


def test_a_bucket_that_cannot_be_written_is_refused_by_its_kind(tmp_path: Path) -> None:
    said = refusal(tmp_path, events_dir="s3://my-output--use1-az4--x-s3/events")
    assert "a directory bucket cannot be written" in said


def test_lines_in_a_bucket_are_compressed_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    assert load(tmp_path).jsonl_compression == "none"
    assert load(tmp_path, events_dir=EVENTS).jsonl_compression == "gzip"
    for choice in ("none", "zstd"):
        keys = {"events_dir": EVENTS, "jsonl_compression": choice}
        assert load(tmp_path, **keys).jsonl_compression == choice


def test_temporary_files_lie_beside_the_ledger_or_where_python_puts_them(tmp_path: Path) -> None:
    assert load(tmp_path, events_dir=EVENTS).state_db == tmp_path / "state.db"
    postgres = load(tmp_path, events_dir=EVENTS, state_db="postgresql://host/ctrail")
    assert postgres.state_db.parent == Path(tempfile.gettempdir())
