"""Buckets: a local folder lists and reads as S3 does, and errors say what to do."""

import logging
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
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrail_pipeline.core.bucket import local, s3_retry
from ctrail_pipeline.core.bucket import s3 as s3_bucket
from ctrail_pipeline.core.bucket.credentials import Credentials
from ctrail_pipeline.core.bucket.endpoint import endpoint_of
from ctrail_pipeline.core.bucket.etag import pack_etag, unpack_etag
from ctrail_pipeline.core.bucket.interface import Bucket, Folder, Page
from ctrail_pipeline.core.bucket.local import LocalBucket
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
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline_tests.support.http_server import serve
from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.properties import examples


def settings_of(*trails: Trail) -> Settings:
    return Settings(
        trails, Path("events"), Path("quarantine"), Path("ledger.db"), client_timeout=10
    )


def every_key(bucket: Bucket, folder: str, after: str = "") -> list[str]:
    """Return the keys of all pages of a listing."""
    keys: list[str] = []
    while True:
        page = bucket.list_page(folder, after)
        keys += [listed.key for listed in page.objects]
        if page.last:
            return keys
        after = keys[-1]


# -- etags ------------------------------------------------------------------------------------


@given(st.one_of(st.binary(min_size=16, max_size=16).map(bytes.hex), st.text("0123456789abcdef-x")))
def test_an_etag_is_told_back(text: str) -> None:
    assert unpack_etag(pack_etag(f'"{text}"')) == f'"{text}"'
    assert pack_etag(text) == pack_etag(f'"{text}"') == pack_etag(f'W/"{text}"')


def test_an_md5_takes_sixteen_bytes() -> None:
    assert pack_etag('"d41d8cd98f00b204e9800998ecf8427e"') == bytes.fromhex(
        "d41d8cd98f00b204e9800998ecf8427e"
    )
    multipart = '"d41d8cd98f00b204e9800998ecf8427e-2"'
    assert unpack_etag(pack_etag(multipart)) == multipart


@pytest.mark.parametrize("text", ["a" * 15, "0123456789abcde", '22" not an etag'])
def test_an_etag_whose_packed_form_is_as_long_as_an_md5_is_told_back(text: str) -> None:
    assert unpack_etag(pack_etag(text)) == f'"{text}"'


@given(st.binary(min_size=15, max_size=15))
def test_an_md5_that_begins_with_a_quote_is_told_back(tail: bytes) -> None:
    text = (b'"' + tail).hex()
    assert unpack_etag(pack_etag(text)) == f'"{text}"'


# -- a local folder ---------------------------------------------------------------------------


def write(root: Path, *keys: str) -> None:
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(key)


NAMES = st.text("ab-./0é~ !", min_size=1, max_size=4)


@given(st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=12), st.data())
@settings(max_examples=examples(60))
def test_a_local_folder_lists_in_the_order_of_s3(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("bucket")
    stored = []
    for key in keys:
        parts = key.split("/")
        if all(parts) and not {".", ".."} & set(parts):
            try:
                write(root, key)
            except (FileExistsError, NotADirectoryError, IsADirectoryError):
                continue  # a file system cannot hold `a` and `a/b`
            stored.append(key)
    stored = sorted(set(stored), key=str.encode)
    bucket = LocalBucket(root)
    assert every_key(bucket, "") == stored
    after = data.draw(st.sampled_from(["", *stored, "a/", "a-", "b/a"]))
    assert every_key(bucket, "", after) == [k for k in stored if k.encode() > after.encode()]


def test_a_hyphen_sorts_before_the_folder_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path, "a/b", "a-b", "a0", "a.b/c")
    assert every_key(LocalBucket(tmp_path), "") == ["a-b", "a.b/c", "a/b", "a0"]


def test_pages_follow_one_another_with_nothing_lost_or_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "PAGE_SIZE", 7)
    keys = sorted(f"x/{number % 4}/{number:03}.json" for number in range(70))
    write(tmp_path, *keys, "w.json", "y.json")
    bucket = LocalBucket(tmp_path)
    assert every_key(bucket, "x/") == keys
    assert every_key(bucket, "") == ["w.json", *keys, "y.json"]
    first = bucket.list_page("x/", "")
    assert (len(first.objects), first.last) == (7, False)
    again = LocalBucket(tmp_path).list_page("x/", first.objects[-1].key)
    assert again == bucket.list_page("x/", first.objects[-1].key)
    assert bucket.list_page("x/", keys[-1]) == Page([], last=True)


def test_a_listed_file_is_read_whole_with_the_etag_it_was_listed_with(tmp_path: Path) -> None:
    write(tmp_path, "a/b.json")
    bucket = LocalBucket(tmp_path)
    [listed] = bucket.list_page("a/", "").objects
    assert bucket.list_folder("a/").objects == [listed]
    assert listed.size == len("a/b.json")
    fetched = bucket.get("a/b.json", listed.etag)
    assert (fetched.body, fetched.etag) == (b"a/b.json", listed.etag)
    assert bucket.get("a/b.json", None) == fetched


@pytest.mark.parametrize("minutes", [29_467_440, 200_000_040])
def test_a_file_of_a_minute_s_last_nanosecond_is_of_that_minute(
    tmp_path: Path, minutes: int
) -> None:
    """A float would round this time up into the next minute, in our days too."""
    path = tmp_path / "a.json.gz"
    path.touch()
    end_of_minute = minutes * 60 * 10**9
    os.utime(path, ns=(end_of_minute - 1, end_of_minute - 1))
    assert path.stat().st_mtime_ns == end_of_minute - 1, "the file system keeps nanoseconds"
    [listed] = LocalBucket(tmp_path).list_folder("").objects
    assert listed.modified == minutes - 1
    os.utime(path, ns=(end_of_minute, end_of_minute))
    [listed] = LocalBucket(tmp_path).list_folder("").objects
    assert listed.modified == minutes


def test_a_file_written_again_since_it_was_listed_has_changed(tmp_path: Path) -> None:
    write(tmp_path, "a.json")
    bucket = LocalBucket(tmp_path)
    [listed] = bucket.list_page("", "").objects
    os.utime(tmp_path / "a.json", ns=(0, 1))
    with pytest.raises(ObjectChanged, match="written again"):
        bucket.get("a.json", listed.etag)
    assert bucket.get("a.json", None).body == b"a.json"


def test_a_file_that_is_missing_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ObjectGone, match="no longer there"):
        LocalBucket(tmp_path).get("a.json", None)


def test_a_folder_where_a_file_was_is_an_error_of_that_key(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        LocalBucket(tmp_path).get("a.json", None)


def test_a_missing_folder_is_empty_as_in_s3(tmp_path: Path) -> None:
    write(tmp_path, "file")
    bucket = LocalBucket(tmp_path)
    assert bucket.list_folder("none/") == Folder([], [])
    assert bucket.list_folder("file/") == Folder([], [])
    assert bucket.list_page("none/", "") == Page([], last=True)


def test_a_missing_bucket_is_an_error(tmp_path: Path) -> None:
    bucket = LocalBucket(tmp_path / "none")
    for call in (bucket.list_folder, lambda folder: bucket.list_page(folder, "")):
        with pytest.raises(StoreError, match="is not a folder: check the trail's `bucket`"):
            call("AWSLogs/")


def test_dangling_links_hide_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "a/b.json", "a/c/d.json")
    (tmp_path / "a" / "dangling.json").symlink_to("nowhere")
    (tmp_path / "a" / "loop.json").symlink_to("loop.json")
    bucket = LocalBucket(tmp_path)
    assert every_key(bucket, "a/") == ["a/b.json", "a/c/d.json"]
    found = bucket.list_folder("a/")
    assert (found.folders, [listed.key for listed in found.objects]) == (["c"], ["a/b.json"])


def test_a_name_that_is_not_utf8_is_left_alone_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "a.json")
    try:
        (tmp_path / os.fsdecode(b"\xff.json")).touch()
    except OSError:
        pytest.skip("this file system refuses names that are not UTF-8")
    with caplog.at_level(logging.WARNING):
        assert every_key(LocalBucket(tmp_path), "") == ["a.json"]
    assert "is not UTF-8" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_this_user_may_not_read_is_access_denied(tmp_path: Path) -> None:
    write(tmp_path, "a/b.json", "c.json")
    bucket = LocalBucket(tmp_path)
    (tmp_path / "c.json").chmod(0)
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(AccessDenied, match="give this user read permission"):
            bucket.get("c.json", None)
        with pytest.raises(AccessDenied, match="give this user read permission"):
            bucket.list_folder("a/")
        with pytest.raises(AccessDenied, match="give this user read permission"):
            bucket.list_page("", "")
    finally:
        (tmp_path / "a").chmod(0o700)


def test_a_file_url_opens_a_local_folder(tmp_path: Path) -> None:
    root = tmp_path / "my logs"
    write(root, "a.json")
    trail = Trail("trail", root.as_uri())
    bucket = open_bucket(trail, settings_of(trail))
    assert isinstance(bucket, LocalBucket)
    assert bucket.location == root.as_uri()
    assert every_key(bucket, "") == ["a.json"]


# -- S3 -----------------------------------------------------------------------------------------

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


@pytest.mark.parametrize(
    ("name", "region", "url", "has_own_host"),
    [
        ("logs", "eu-west-1", "https://logs.s3.eu-west-1.amazonaws.com", True),
        ("logs", "us-gov-west-1", "https://logs.s3.us-gov-west-1.amazonaws.com", True),
        ("logs", "cn-north-1", "https://logs.s3.cn-north-1.amazonaws.com.cn", True),
        ("my.logs", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/my.logs", False),
    ],
)
def test_a_bucket_at_aws_is_asked_for_at_its_regions_host(
    name: str, region: str, url: str, has_own_host: bool
) -> None:
    """https://docs.aws.amazon.com/general/latest/gr/s3.html lists these hosts."""
    trail = Trail("trail", name, region=region)
    endpoint = endpoint_of(trail, Credentials(trail))
    assert (endpoint.bucket_url, endpoint.has_own_host) == (url, has_own_host)
    open_bucket(trail, settings_of(trail))  # obstore takes it, too


def test_an_endpoint_of_the_trail_or_the_environment_has_the_bucket_in_its_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trail = Trail("trail", "logs", region="eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.com/")
    assert endpoint_of(trail, Credentials(trail)).bucket_url == "https://s3.example.com/logs"
    own = replace(trail, endpoint_url="http://127.0.0.1:9000")
    assert endpoint_of(own, Credentials(own)).bucket_url == "http://127.0.0.1:9000/logs"


def test_s3_lists_pages_in_order_and_reads_what_it_listed(endpoint: str, client: Any) -> None:
    keys = ["x/a-b", "x/a/b", "x/a/c", "x/a0", "x/b/1/2/3"]
    put(client, *keys, "w", "y")
    bucket = s3(endpoint)
    assert every_key(bucket, "x/") == keys
    assert every_key(bucket, "x/", "x/a/b") == keys[2:]
    # obstore drops the slash, so keys between `x/a` and `x/a/` are listed once more than asked for.
    assert every_key(bucket, "x/", "x/a/") in (keys[1:], keys)
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
    monkeypatch.setattr(s3_bucket, "PAGE_SIZE", page_size)
    keys = sorted([*UNUSUAL, "unusual/a", "unusual/a/b", "unusual/a-b", "unusual/a%20b"])
    put(client, *keys)
    assert every_key(s3(endpoint), "unusual/") == keys


def test_s3_pages_go_on_behind_hostile_keys(
    endpoint: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_bucket, "PAGE_SIZE", 1)
    # moto fails to list behind a control character, so that key is not among them.
    paths = [key for key in HOSTILE if key.isprintable()]
    keys = sorted([*paths, "odd//", "odd/a/b", "odd/z"])
    put(client, *keys)
    bucket = s3(endpoint)
    assert every_key(bucket, "odd/") == keys
    assert every_key(bucket, "odd/a//") == ["odd/a//b.json.gz"]
    assert every_key(bucket, "odd/../") == ["odd/../c.json.gz"]
    assert every_key(bucket, "odd//") == ["odd//"]
    assert sorted(bucket.list_folder("odd/").folders) == ["", ".", "..", "a"]


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
    """If taken for one, it would be tried seven times and recorded as a failed log file."""
    calls = []

    def broken(*_arguments: object, **_options: object) -> None:
        calls.append(1)
        raise TypeError("a mistake")

    bucket = s3(endpoint)
    monkeypatch.setattr("ctrail_pipeline.core.bucket.curl.Transfers.get", broken)
    monkeypatch.setattr("obstore.get_range", broken)
    with pytest.raises(TypeError, match="a mistake"):
        bucket.get("any.json.gz", None)
    with pytest.raises(TypeError, match="a mistake"):
        bucket.probe("any.json.gz")
    assert len(calls) == 2
