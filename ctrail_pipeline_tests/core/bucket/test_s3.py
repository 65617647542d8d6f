"""A bucket in S3, or what speaks as S3 does: every key is read, and errors say what to do."""

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3
import pytest

from ctrail_pipeline.core.bucket import list_answer, s3_retry
from ctrail_pipeline.core.bucket.interface import Bucket, Page
from ctrail_pipeline.core.bucket.open_bucket import get_all, open_bucket
from ctrail_pipeline.core.bucket.s3 import S3Bucket
from ctrail_pipeline.core.bucket.s3_retry import TIMEOUTS
from ctrail_pipeline.core.exceptions import (
    AccessDenied,
    ObjectArchived,
    ObjectChanged,
    ObjectGone,
    StoreError,
    StoreUnavailable,
)
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline_tests.support.buckets import every_key, settings_of
from ctrail_pipeline_tests.support.http_server import serve
from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.s3_server import S3Server

HOSTILE = [
    "odd/a//b.json.gz",
    "odd/../c.json.gz",
    "odd/./d.json.gz",
    "odd/control\x01.json.gz",
]
UNUSUAL = [
    "unusual/a b+c.json.gz",
    "unusual/100%.json.gz",
    "unusual/%2F%20.json.gz",
    "unusual/é😀.json.gz",
    "unusual/q?x=1&y=#z.json.gz",
]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as address:
        yield address


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set credentials of nobody: no test reaches beyond this machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def client(endpoint: str) -> Any:
    client = boto3.session.Session().client("s3", endpoint_url=endpoint)
    for bucket in client.list_buckets()["Buckets"]:
        for item in client.list_objects_v2(Bucket=bucket["Name"]).get("Contents", ()):
            client.delete_object(Bucket=bucket["Name"], Key=item["Key"])
    client.create_bucket(Bucket="logs")
    return client


def s3(endpoint: str, name: str = "logs") -> Bucket:
    trail = Trail("trail", name, endpoint_url=endpoint)
    bucket = open_bucket(trail, settings_of(trail))
    assert isinstance(bucket, S3Bucket)
    return bucket


def put(client: Any, *keys: str, **options: str) -> None:
    for key in keys:
        client.put_object(Bucket="logs", Key=key, Body=key.encode(), **options)


def test_s3_lists_pages_in_order_and_reads_what_it_listed(endpoint: str, client: Any) -> None:
    keys = ["x/a-b", "x/a/b", "x/a/c", "x/a0", "x/b/1/2/3"]
    put(client, *keys, "w", "y")
    bucket = s3(endpoint)
    assert every_key(bucket, "x/") == keys
    assert every_key(bucket, "x/", "x/a/b") == keys[2:]
    assert every_key(bucket, "x/", "x/a/") == keys[1:]
    folder = bucket.list_folder("x/")
    assert sorted(folder.folders) == ["a", "b"]
    assert sorted(listed.key for listed in folder.objects) == ["x/a-b", "x/a0"]
    for listed in bucket.list_page("x/", "").objects:
        fetched = bucket.get(listed.key, listed.etag)
        assert (fetched.body, fetched.etag) == (listed.key.encode(), listed.etag)
        assert listed.size == len(fetched.body)
    assert bucket.list_page("none/", "") == Page([], last=True)


@pytest.mark.parametrize("page_size", [1, 2])
def test_s3_pages_go_on_behind_any_key(
    endpoint: str, client: Any, monkeypatch: pytest.MonkeyPatch, page_size: int
) -> None:
    monkeypatch.setattr(list_answer, "PAGE_SIZE", page_size)
    keys = sorted([*UNUSUAL, "unusual/a", "unusual/a/b", "unusual/a-b", "unusual/a%20b"])
    put(client, *keys)
    assert every_key(s3(endpoint), "unusual/") == keys


def test_s3_pages_go_on_behind_hostile_keys(
    endpoint: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_answer, "PAGE_SIZE", 1)
    # moto repeats StartAfter in its XML as it is, so no page can begin behind a control character.
    paths = [key for key in HOSTILE if key.isprintable()]
    keys = sorted([*paths, "odd//", "odd/a/b", "odd/z"])
    put(client, *keys)
    bucket = s3(endpoint)
    assert every_key(bucket, "odd/") == keys
    assert every_key(bucket, "odd/a//") == ["odd/a//b.json.gz"]
    assert every_key(bucket, "odd/../") == ["odd/../c.json.gz"]
    assert every_key(bucket, "odd//") == ["odd//"]
    assert sorted(bucket.list_folder("odd/").folders) == ["", ".", "..", "a"]


def test_a_server_that_checks_signatures_lists_pages_behind_any_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moto checks none, rclone does."""
    monkeypatch.setattr(list_answer, "PAGE_SIZE", 2)
    keys = sorted(["unusual/a", "unusual/a%20b", *UNUSUAL])
    for key in keys:
        path = tmp_path / "logs" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)
    with S3Server(tmp_path) as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        bucket = s3(server.endpoint_url)
        assert every_key(bucket, "unusual/") == keys
        assert bucket.list_folder("").folders == ["unusual"]
        assert [bucket.get(key, None).body.decode() for key in keys] == keys
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
        with pytest.raises(AccessDenied, match="SignatureDoesNotMatch"):
            s3(server.endpoint_url).list_page("unusual/", "")


@pytest.mark.parametrize("key", UNUSUAL)
def test_s3_keys_with_unusual_characters_are_read_as_they_are(
    endpoint: str, client: Any, key: str
) -> None:
    put(client, key)
    bucket = s3(endpoint)
    assert every_key(bucket, "unusual/") == [key]
    assert bucket.get(key, None).body == key.encode()


@pytest.mark.parametrize("key", HOSTILE)
def test_one_hostile_key_hides_nothing_and_is_itself_read(
    endpoint: str, client: Any, key: str
) -> None:
    put(client, key, "odd/harmless.json.gz", "odd/z/harmless.json.gz")
    bucket = s3(endpoint)
    expected = sorted([key, "odd/harmless.json.gz", "odd/z/harmless.json.gz"])
    assert every_key(bucket, "odd/") == expected
    assert "z" in bucket.list_folder("odd/").folders
    etag = {listed.key: listed.etag for listed in bucket.list_page("odd/", "").objects}[key]
    assert bucket.get(key, etag).body == key.encode()
    with pytest.raises(ObjectChanged):
        bucket.get(key, b"\0" * 16)


@pytest.mark.parametrize("etag", [b"\0" * 16, b'"0123-2'])
def test_s3_another_version_than_the_listed_one_has_changed(
    endpoint: str, client: Any, etag: bytes
) -> None:
    put(client, "a.json.gz")
    with pytest.raises(ObjectChanged, match=r"s3://logs/a\.json\.gz was written again"):
        s3(endpoint).get("a.json.gz", etag)


@pytest.mark.parametrize("key", ["none.json.gz", "none//x.json.gz", "none/./x.json.gz"])
def test_s3_a_deleted_object_is_gone(endpoint: str, client: Any, key: str) -> None:
    with pytest.raises(ObjectGone, match="no longer there"):
        s3(endpoint).get(key, b"\0" * 16)


@pytest.mark.parametrize("key", ["cold.json.gz", "cold//x.json.gz", "cold/./x.json.gz"])
@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_s3_an_archived_object_says_to_restore_it(
    endpoint: str, client: Any, key: str, storage_class: str
) -> None:
    put(client, key, StorageClass=storage_class)
    with pytest.raises(ObjectArchived, match="restore it from Glacier"):
        s3(endpoint).get(key, None)


def test_s3_a_bucket_that_does_not_exist_says_so_at_once(endpoint: str, client: Any) -> None:
    bucket = s3(endpoint, "no-such-bucket")
    for call in (
        lambda: bucket.list_folder("AWSLogs/"),
        lambda: bucket.list_page("AWSLogs/", ""),
        lambda: bucket.get("AWSLogs/x.json.gz", None),
    ):
        with pytest.raises(StoreError, match="there is no such bucket: check the trail's"):
            call()


@pytest.mark.parametrize("key", ["a.json.gz", "a//b.json.gz"])
def test_s3_a_probe_says_whether_an_object_can_be_read(
    endpoint: str, client: Any, key: str
) -> None:
    put(client, key)
    s3(endpoint).probe(key)
    with pytest.raises(ObjectGone):
        s3(endpoint).probe(f"none/{key}")


def test_without_credentials_the_error_says_how_to_get_some(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessDenied, match="no AWS credentials were found; set AWS_PROFILE"):
        s3(endpoint)


def test_a_server_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_retry, "ATTEMPTS", 1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound, but nobody listens: connections are refused
        trail = Trail("trail", "logs", endpoint_url=f"http://127.0.0.1:{probe.getsockname()[1]}")
        bucket = open_bucket(trail, settings_of(trail))
        with pytest.raises(StoreUnavailable, match="s3://logs/x cannot be read"):
            bucket.get("x", None)


def test_keys_that_wait_for_their_turn_are_tried_as_often_as_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that hangs takes all requests in flight; the keys behind must not pay for that."""
    monkeypatch.setattr(s3_retry, "FIRST_PAUSE_SECONDS", 0.01)
    requests: Counter[str] = Counter()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        requests[handler.path] += 1
        time.sleep(1)

    with serve(hang) as url:
        trail = Trail("trail", "logs", region="us-east-1", endpoint_url=url)
        settings = replace(settings_of(trail), client_timeout=0.2, download_workers=1)
        found = get_all(open_bucket(trail, settings), [(key, None) for key in "abcd"])
    assert all(isinstance(error, StoreUnavailable) for error in found)
    assert requests == {f"/logs/{key}": TIMEOUTS for key in "abcd"}


def test_a_mistake_of_ours_is_no_failing_bucket(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If taken for one, it would be recorded as a failed log file."""
    bucket = s3(endpoint)
    monkeypatch.setattr("ctrail_pipeline.core.bucket.curl.Transfers.get", None)
    for request in (lambda: bucket.get("any.json.gz", None), lambda: bucket.probe("any.json.gz")):
        with pytest.raises(TypeError, match="is not callable"):
            request()
