"""Staged objects get their final names: never over another object, and never unseen."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.log_file.lines import HeldBytes
from ctrail_pipeline.core.output.bucket import conditions
from ctrail_pipeline.core.output.bucket.bucket_output import MADE_AT_ONCE, BucketOutput
from ctrail_pipeline.core.output.bucket.object_store import ObjectStore
from ctrail_pipeline.core.output.interface import Marker, Staging
from ctrail_pipeline.core.output.new_files import NewFile
from ctrail_pipeline.core.output_files import Compression, FileName, Kind, PublishedFile
from ctrail_pipeline.core.settings import OutputBucket
from ctrail_pipeline_tests.support.output_buckets import keys_in, output_in, seaweedfs_bucket
from ctrail_pipeline_tests.support.seaweedfs import s3_client

HOUR = "111122223333/us-east-1/2024/01/02/03"
LEDGER = "5a0b8a4e-9d3f-4a54-8f59-0d3a30a1a3f5"
TOKEN = "0" * 32
LINES = [b'{"a":1}', b'{"b":2}']
FINAL = f"ctrail/events/{HOUR}/events_00001.jsonl"
LARGE = 2_000_000
STAGED = f"ctrail/.staging/{LEDGER}/{TOKEN}/00000.part"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> OutputBucket:
    return seaweedfs_bucket(monkeypatch)


@pytest.fixture
def output(bucket: OutputBucket, tmp_path: Path) -> Iterator[BucketOutput]:
    output = output_in(bucket, tmp_path)
    output.stage_for(LEDGER)
    yield output
    output.close()


@pytest.fixture
def client(bucket: OutputBucket) -> Any:
    return s3_client(str(bucket.endpoint_url))


def staged(output: BucketOutput) -> tuple[Staging, PublishedFile]:
    """Stage one file."""
    staging = output.staging_of(TOKEN)
    staging.open()
    [file] = staging.write([NewFile(Kind.EVENTS, HOUR, LINES, [(0, 2)])])
    return staging, PublishedFile(0, Kind.EVENTS, HOUR, 1, file.size)


def never(_file: PublishedFile) -> PublishedFile:
    raise AssertionError("nobody else has the name")


def publish(staging: Staging, file: PublishedFile, rename: Any = never) -> list[PublishedFile]:
    return staging.publish([file], rename, lambda _: None)


def test_a_staged_object_lies_beside_the_events_under_its_ledger(
    output: BucketOutput, bucket: OutputBucket
) -> None:
    staged(output)
    assert keys_in(bucket) == [STAGED]


def test_what_a_killed_probe_left_goes_once_it_is_old(
    output: BucketOutput,
    bucket: OutputBucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run may probe before it knows its ledger, and be killed then."""
    with monkeypatch.context() as patch, closing(output_in(bucket, tmp_path)) as killed:
        patch.setattr(ObjectStore, "delete", lambda *_: None)
        killed.probe()
    assert len(keys_in(bucket)) == 2
    output.remove_unowned_staging()
    assert len(keys_in(bucket)) == 2
    monkeypatch.setattr(conditions, "_LEFT_OVER_MINUTES", -1)
    output.remove_unowned_staging()
    assert keys_in(bucket) == []


def test_a_batch_is_published_again_without_a_change(
    output: BucketOutput, bucket: OutputBucket, client: Any
) -> None:
    staging, file = staged(output)
    assert publish(staging, file) == []
    before = client.head_object(Bucket=bucket.bucket, Key=FINAL)["LastModified"]
    assert publish(staging, file) == []  # by the staged object
    staging.remove()
    assert publish(output.staging_of(TOKEN), file) == []  # by the metadata of the final one
    assert client.head_object(Bucket=bucket.bucket, Key=FINAL)["LastModified"] == before
    assert FINAL in keys_in(bucket)


def test_a_foreign_object_keeps_its_name_and_ours_gets_another_number(
    output: BucketOutput, bucket: OutputBucket, client: Any
) -> None:
    client.put_object(Bucket=bucket.bucket, Key=FINAL, Body=b"foreign")
    staging, file = staged(output)
    assert publish(staging, file, lambda f: f._replace(number=f.number + 1)) == []
    assert client.get_object(Bucket=bucket.bucket, Key=FINAL)["Body"].read() == b"foreign"
    second = FileName(Kind.EVENTS, HOUR, "events_00002.jsonl")
    with output.open(second) as stored:
        assert stored.read() == b'{"a":1}\n{"b":2}\n'


def test_an_object_of_another_batch_is_foreign_though_its_bytes_are_the_same(
    output: BucketOutput, bucket: OutputBucket, client: Any
) -> None:
    client.put_object(Bucket=bucket.bucket, Key=FINAL, Body=b'{"a":1}\n{"b":2}\n')
    staging, file = staged(output)
    renamed = []

    def rename(file: PublishedFile) -> PublishedFile:
        renamed.append(file)
        return file._replace(number=2)

    assert publish(staging, file, rename) == []
    assert renamed == [file]


def test_what_is_neither_staged_nor_published_is_lost(
    output: BucketOutput, bucket: OutputBucket, client: Any
) -> None:
    staging, file = staged(output)
    staging.remove()
    assert publish(staging, file) == [file]
    client.put_object(Bucket=bucket.bucket, Key=FINAL, Body=b"foreign")
    assert publish(staging, file) == [file]


def test_a_copy_that_the_server_only_says_it_made_is_not_believed(
    output: BucketOutput, bucket: OutputBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 may answer a COPY with status 200 and an error in the body, which obstore overlooks."""
    staging, file = staged(output)
    output.probe()
    real, answers = ObjectStore.copy, [True] * 2

    def copy(store: ObjectStore, source: str, target: str, *, if_absent: bool) -> bool:
        return answers.pop() if answers else real(store, source, target, if_absent=if_absent)

    monkeypatch.setattr(ObjectStore, "copy", copy)
    assert publish(staging, file) == []
    assert FINAL in keys_in(bucket)
    answers += [True] * 100
    staging.remove()
    staging, other = staged(output)
    with pytest.raises(OutputError, match="is not there, although the server said"):
        publish(staging, other._replace(number=2))
    assert STAGED in keys_in(bucket)


def test_without_conditions_of_the_server_a_name_is_looked_at_first(
    output: BucketOutput,
    bucket: OutputBucket,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    real_put, real_copy = ObjectStore.put, ObjectStore.copy

    def put(store: ObjectStore, key: str, content: bytes, metadata: Any, **_: Any) -> bool:
        return real_put(store, key, content, metadata)

    def copy(store: ObjectStore, source: str, target: str, *, if_absent: bool) -> bool:
        return real_copy(store, source, target, if_absent=False)

    monkeypatch.setattr(ObjectStore, "put", put)
    monkeypatch.setattr(ObjectStore, "copy", copy)
    client.put_object(Bucket=bucket.bucket, Key=FINAL, Body=b"foreign")
    staging, file = staged(output)
    assert publish(staging, file, lambda f: f._replace(number=f.number + 1)) == []
    assert client.get_object(Bucket=bucket.bucket, Key=FINAL)["Body"].read() == b"foreign"
    output.probe()
    [warning] = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "the server knows no put if absent and no put if match and no copy if absent" in warning


def test_of_two_that_read_one_marker_the_second_does_not_replace_it(
    output: BucketOutput, bucket: OutputBucket, tmp_path: Path
) -> None:
    other = output_in(bucket, tmp_path)
    old, newer, newest = (Marker(LEDGER, generation) for generation in (1, 2, 3))
    assert output.replace_marker(Kind.EVENTS, old, None)
    assert output.read_marker(Kind.EVENTS) == other.read_marker(Kind.EVENTS) == old
    assert output.replace_marker(Kind.EVENTS, newest, old)
    assert not other.replace_marker(Kind.EVENTS, newer, old)
    assert other.read_marker(Kind.EVENTS) == newest
    other.close()


def test_a_marker_whose_first_answer_was_lost_counts_as_replaced(
    output: BucketOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is made again, and finds in its way what it has written itself."""
    output.probe()
    real = ObjectStore.put

    def put(store: ObjectStore, *arguments: Any, **options: Any) -> bool:
        real(store, *arguments, **options)
        return real(store, *arguments, **options)

    monkeypatch.setattr(ObjectStore, "put", put)
    first, second = Marker(LEDGER, 1), Marker(LEDGER, 2)
    assert output.replace_marker(Kind.EVENTS, first, None)
    assert output.replace_marker(Kind.EVENTS, second, first)
    assert output.read_marker(Kind.EVENTS) == second


@dataclass
class Measured:
    """A file that notes how many of its kind are made, or held, at once."""

    size: int
    held: set[int] = field(default_factory=set)
    most: list[int] = field(default_factory=lambda: [0])
    kind: Kind = Kind.EVENTS
    folder: str = HOUR
    line_count: int = 1
    lineage: Sequence[Sequence[int]] = ((0, 1),)
    compression: Compression = Compression.NONE
    is_merged: bool = False
    text_bytes: int | None = None

    def write_to(self, put: Callable[[HeldBytes], None]) -> None:
        self.held.add(id(self))
        self.most[0] = max(self.most[0], len(self.held))
        time.sleep(0.01)
        put(bytes(self.size))
        if self.size < LARGE:
            self.held.discard(id(self))


@pytest.mark.parametrize("size", [10, LARGE])
def test_few_files_are_made_at_once_and_few_large_ones_are_held(
    output: BucketOutput, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    first = Measured(size)
    files = [first, *(replace(first) for _ in range(3 * MADE_AT_ONCE))]
    by_part = dict(enumerate(files))

    def put(_store: ObjectStore, key: str, *_arguments: Any) -> bool:
        time.sleep(0.01)
        first.held.discard(id(by_part[int(Path(key).stem)]))
        return True

    monkeypatch.setattr(ObjectStore, "put", put)
    output.staging_of(TOKEN).write(files)
    assert first.most[0] <= MADE_AT_ONCE
