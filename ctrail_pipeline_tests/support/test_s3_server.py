"""The S3 server of the tests: where it does as S3 does, and where a test must not trust it."""

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import obstore
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from obstore.store import S3Store

from .s3_server import S3Server

BUCKET = "example-logs"
DAYS = ("2026/01/14", "2026/01/15")
PREFIXES = [f"AWSLogs/{account}/CloudTrail/eu-west-1/" for account in ("111", "111-x", "222")]
KEYS = sorted(
    [
        f"{prefix}{day}/f{number:03}.json"
        for prefix in PREFIXES
        for day in DAYS
        for number in range(9)
    ]
    + ["AWSLogs/111.txt", "odd & ü+%20/k e y"]
)


def put(folder: Path, key: str, body: bytes) -> None:
    path = folder / BUCKET / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("buckets")
    for key in KEYS:
        put(folder, key, key.encode())
        os.utime(folder / BUCKET / key, (1_768_000_000, 1_768_000_000))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[S3Server]:
    with S3Server(folder) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: S3Server) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=Config(s3={"addressing_style": "path"}),
    )


@pytest.fixture(scope="module")
def store(server: S3Server) -> S3Store:
    return S3Store(
        BUCKET,
        endpoint=server.endpoint_url,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region=server.region,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def listed(client: Any, page_size: int = 1000, **arguments: Any) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, PaginationConfig={"PageSize": page_size}, **arguments
    )
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


@pytest.mark.parametrize("page_size", [1, 7, 1000])
def test_keys_are_listed_in_order_on_pages_of_the_size_asked_for(
    client: Any, page_size: int
) -> None:
    page = client.list_objects_v2(Bucket=BUCKET, MaxKeys=page_size)
    assert len(page["Contents"]) == min(page_size, len(KEYS))
    assert page["IsTruncated"] == (page_size < len(KEYS))
    assert listed(client, page_size) == KEYS


@pytest.mark.parametrize("after", [KEYS[10], KEYS[10][:-5], "AWSLogs/111/CloudTrail", "zzz"])
def test_start_after_is_honoured(client: Any, store: S3Store, after: str) -> None:
    expected = [key for key in KEYS if key > after]
    assert listed(client, 4, StartAfter=after) == expected
    assert [
        entry["path"] for page in obstore.list(store, offset=after) for entry in page
    ] == expected


def test_a_delimiter_gives_the_next_level(client: Any, store: S3Store) -> None:
    page = client.list_objects_v2(Bucket=BUCKET, Prefix="AWSLogs/", Delimiter="/")
    folders = [f"AWSLogs/{account}" for account in ("111-x", "111", "222")]
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == [
        f"{folder}/" for folder in folders
    ]
    assert [entry["Key"] for entry in page["Contents"]] == ["AWSLogs/111.txt"]
    # obstore sorts them otherwise, and leaves out the slash at the end.
    level = obstore.list_with_delimiter(store, "AWSLogs/")
    assert sorted(level["common_prefixes"]) == sorted(folders)


def test_a_prefix_may_end_inside_a_name_but_not_for_obstore(client: Any, store: S3Store) -> None:
    assert listed(client, Prefix="AWSLogs/22") == [key for key in KEYS if key > "AWSLogs/22"][:18]
    assert list(obstore.list(store, "AWSLogs/22")) == []


def test_etag_and_time_are_the_files(client: Any, store: S3Store) -> None:
    key = KEYS[0]
    md5 = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    item = client.list_objects_v2(Bucket=BUCKET, MaxKeys=1)["Contents"][0]
    assert item["LastModified"].timestamp() == 1_768_000_000
    assert item["StorageClass"] == "STANDARD"
    # S3 quotes the ETag in listings too; rclone does so in answers to GET only.
    assert item["ETag"] == md5
    assert client.head_object(Bucket=BUCKET, Key=key)["ETag"] == f'"{md5}"'
    assert obstore.list(store).__next__()[0]["e_tag"] == md5
    assert obstore.get(store, key).meta["e_tag"] == f'"{md5}"'


def test_if_match_is_not_honoured(store: S3Store) -> None:
    """S3 would answer 412. Code that relies on 412 must compare ETags, or be tested elsewhere."""
    response = obstore.get(store, KEYS[0], options={"if_match": '"another"'})
    assert bytes(response.bytes()) == KEYS[0].encode()


def test_changes_in_the_folder_are_seen_at_once(folder: Path, client: Any, store: S3Store) -> None:
    key = "new/folder/file"
    assert listed(client, Prefix="new/") == []
    for body in (b"one", b"two"):  # of the same length
        put(folder, key, body)
        assert listed(client, Prefix="new/") == [key]
        assert bytes(obstore.get(store, key).bytes()) == body
        listing = client.list_objects_v2(Bucket=BUCKET, Prefix="new/")["Contents"]
        assert listing[0]["ETag"] == hashlib.md5(body, usedforsecurity=False).hexdigest()
    (folder / BUCKET / key).unlink()
    assert listed(client, Prefix="new/") == []
    with pytest.raises(FileNotFoundError):
        obstore.get(store, key)


def test_errors_are_those_of_s3(server: S3Server, client: Any) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        client.list_objects_v2(Bucket="no-such-bucket")
    with pytest.raises(ClientError, match="NoSuchKey"):
        client.get_object(Bucket=BUCKET, Key="no such key")
    impostor = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key="wrong",
        region_name=server.region,
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        impostor.list_objects_v2(Bucket=BUCKET)


def test_env_is_all_that_a_client_needs(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("s3", endpoint_url=server.endpoint_url)
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == [BUCKET]


def test_two_servers_side_by_side_and_both_end(tmp_path: Path) -> None:
    with S3Server(tmp_path) as first, S3Server(tmp_path) as second:
        assert first.endpoint_url != second.endpoint_url
    for url in (first.endpoint_url, second.endpoint_url):
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(url)


def test_what_rclone_says_is_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="unknown flag: --no-such-flag"):
        S3Server(tmp_path, extra_arguments=("--no-such-flag",)).__enter__()
