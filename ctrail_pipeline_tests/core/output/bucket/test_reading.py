"""Objects of the output are listed and read as they are, whatever else lies beside them."""

from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.core.output.bucket import object_reader
from ctrail_pipeline.core.output.bucket.bucket_output import BucketOutput
from ctrail_pipeline.core.output_files import FileName, Kind
from ctrail_pipeline.core.settings import OutputBucket
from ctrail_pipeline_tests.support.output_buckets import output_in, seaweedfs_bucket
from ctrail_pipeline_tests.support.seaweedfs import s3_client

HOUR = "111122223333/us-east-1/2024/01/02/03"
FILE = FileName(Kind.EVENTS, HOUR, "events_00001.jsonl")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> OutputBucket:
    return seaweedfs_bucket(monkeypatch)


@pytest.fixture
def output(bucket: OutputBucket, tmp_path: Path) -> BucketOutput:
    return output_in(bucket, tmp_path)


def put(bucket: OutputBucket, key: str, content: bytes = b"x") -> None:
    client: Any = s3_client(str(bucket.endpoint_url))
    client.put_object(Bucket=bucket.bucket, Key=f"ctrail/{key}", Body=content)


def test_a_large_object_is_read_piece_by_piece(
    bucket: OutputBucket, output: BucketOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_reader, "_PIECE_BYTES", 1000)
    content = bytes(range(256)) * 40
    put(bucket, f"events/{HOUR}/events_00001.jsonl", content)
    with output.open(FILE) as stored:
        assert (stored.read(3), stored.read()) == (content[:3], content[3:])


def test_an_object_that_is_replaced_while_it_is_read_is_not_taken_for_one(
    bucket: OutputBucket, output: BucketOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_reader, "_PIECE_BYTES", 200_000)
    key = f"events/{HOUR}/events_00001.jsonl"
    put(bucket, key, b"a" * 500_000)
    with output.open(FILE) as stored:
        stored.read(10)
        put(bucket, key, b"b" * 500_000)
        with pytest.raises(OSError, match="was written again while it was read"):
            stored.read()


def test_an_empty_object_is_read_as_empty(bucket: OutputBucket, output: BucketOutput) -> None:
    put(bucket, f"events/{HOUR}/events_00001.jsonl", b"")
    with output.open(FILE) as stored:
        assert stored.read() == b""


def test_foreign_names_between_the_folders_hide_nothing(
    bucket: OutputBucket, output: BucketOutput
) -> None:
    names = ["a", "m/1", "m-x/2", "m/sub/3", "z", "m/9", "m/s"]
    for name in names:
        put(bucket, f"events/{name}")
    put(bucket, "events-2/not-ours")
    found = [(folder, list(files)) for folder, files in output.walk(Kind.EVENTS)]
    assert sorted(found) == [
        ("", ["a", "z"]),
        ("m", ["1", "9", "s"]),
        ("m-x", ["2"]),
        ("m/sub", ["3"]),
    ]
    assert sorted(output.entries(Kind.EVENTS, "m")) == ["1", "9", "s"]


def test_a_root_is_told_from_another_whose_name_begins_with_its_name(
    bucket: OutputBucket, output: BucketOutput
) -> None:
    put(bucket, "events-2/111122223333/x")
    assert not output.holds_files(Kind.EVENTS)
    put(bucket, "events-ctrail/x")
    assert output.free_name() == f"s3://{bucket.bucket}/ctrail/events-ctrail2"


def test_lines_are_appended_behind_a_line_that_has_no_end(
    bucket: OutputBucket, output: BucketOutput
) -> None:
    put(bucket, "quarantine/accepted.jsonl", b"one")
    file = FileName(Kind.QUARANTINE, "", "accepted.jsonl")
    output.append(file, b"two\n")
    with output.open(file) as stored:
        assert stored.read() == b"one\ntwo\n"


def test_a_file_is_never_set_aside_over_another(bucket: OutputBucket, output: BucketOutput) -> None:
    put(bucket, f"events/{HOUR}/events_00001.jsonl", b"ours")
    put(bucket, f"events/{HOUR}/_aside", b"another")
    with pytest.raises(Exception, match="is there already"):
        output.set_aside(FILE, "_aside")
    assert output.read_range(FILE, 0, 10) == b"ours"
