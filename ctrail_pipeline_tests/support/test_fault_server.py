"""The fault server: real clients can use it, and it injects the faults that a test asks for."""

import hashlib
import http.client
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import boto3
import obstore
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from obstore.store import S3Store

from .fault_server import Counts, Faults, FaultServer, key_path

BUCKET = "example-bucket"
OBJECTS = {
    "a/1.json.gz": b"one" * 50,
    "a/2.json.gz": b"two" * 50,
    "a/b/3.json.gz": b"three" * 50,
    "a/ü & <x>.json": b"odd" * 50,
    "top.json": b"top" * 50,
}
# S3's order is that of the UTF-8 bytes.
IN_ORDER = sorted(OBJECTS, key=str.encode)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for key, body in OBJECTS.items():
        path = tmp_path / BUCKET / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return tmp_path


@pytest.fixture
def server(root: Path) -> Iterator[FaultServer]:
    with FaultServer(root) as server:
        yield server


def boto3_client(server: FaultServer) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )


def obstore_store(server: FaultServer) -> S3Store:
    return S3Store(
        BUCKET,
        endpoint=server.endpoint_url,
        access_key_id="any",
        secret_access_key="any",
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "proxy_excludes": "127.0.0.1"},
        retry_config={"max_retries": 0},
    )


def get(server: FaultServer, key: str, **headers: str) -> tuple[int, bytes]:
    """Send one GET without a client library. The status is -1 if no answer came."""
    connection = http.client.HTTPConnection(server.endpoint_url.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", quote(f"/{BUCKET}/{key}"), headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except ConnectionResetError:
        return -1, b""
    except http.client.IncompleteRead as error:
        return -2, error.partial
    finally:
        connection.close()


def test_boto3_lists_and_gets(server: FaultServer) -> None:
    client = boto3_client(server)
    reply = client.list_objects_v2(Bucket=BUCKET)
    assert [item["Key"] for item in reply["Contents"]] == IN_ORDER
    for item in reply["Contents"]:
        body = OBJECTS[item["Key"]]
        assert item["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        assert item["Size"] == len(body)
        assert item["StorageClass"] == "STANDARD"
        answer = client.get_object(Bucket=BUCKET, Key=item["Key"], IfMatch=item["ETag"])
        assert answer["Body"].read() == body
        answer["Body"].close()
    client.head_bucket(Bucket=BUCKET)
    assert server.counts.requests == {"list": 1, "get": len(OBJECTS), "head_bucket": 1}


def test_boto3_lists_folders_in_pages(server: FaultServer) -> None:
    pages = list(
        boto3_client(server)
        .get_paginator("list_objects_v2")
        .paginate(Bucket=BUCKET, Prefix="a/", Delimiter="/", PaginationConfig={"PageSize": 1})
    )
    assert [item["Key"] for page in pages for item in page.get("Contents", ())] == [
        key for key in IN_ORDER if key.startswith("a/") and key.count("/") == 1
    ]
    assert [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())] == ["a/b/"]
    assert len(pages) == 4


def test_keys_with_empty_names_are_served(root: Path) -> None:
    keys = ["/a/AWSLogs/x.json", "//x.json", "a//b/x.json"]
    for key in keys:
        path = key_path(root / BUCKET, key)
        path.parent.mkdir(parents=True)
        path.write_bytes(key.encode())
    with FaultServer(root) as server:
        client = boto3_client(server)
        listed = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET)["Contents"]]
        assert listed == sorted([*IN_ORDER, *keys], key=str.encode)
        for key in keys:
            with closing(client.get_object(Bucket=BUCKET, Key=key)["Body"]) as body:
                assert body.read() == key.encode()
        reply = client.list_objects_v2(Bucket=BUCKET, Prefix="a//", Delimiter="/")
        assert [item["Prefix"] for item in reply["CommonPrefixes"]] == ["a//b/"]


def test_obstore_lists_and_gets(root: Path) -> None:
    with FaultServer(root, page_keys=2) as server:
        store = obstore_store(server)
        listed = [meta["path"] for batch in obstore.list(store) for meta in batch]
        assert listed == IN_ORDER
        behind = [
            meta["path"]
            for batch in obstore.list(store, "a", offset="a/2.json.gz")
            for meta in batch
        ]
        assert behind == ["a/b/3.json.gz", "a/ü & <x>.json"]
        found = obstore.list_with_delimiter(store, "a")
        assert [path.rstrip("/") for path in found["common_prefixes"]] == ["a/b"]
        for key, body in OBJECTS.items():
            assert bytes(obstore.get(store, key).bytes()) == body
        assert bytes(obstore.get_range(store, "top.json", start=3, end=7)) == b"topt"


def test_an_object_of_another_version_or_none_is_refused(server: FaultServer) -> None:
    client = boto3_client(server)
    for key, etag, code in (("top.json", '"0"', "PreconditionFailed"), ("none", "*", "NoSuchKey")):
        with pytest.raises(ClientError) as caught:
            client.get_object(Bucket=BUCKET, Key=key, IfMatch=etag)
        assert caught.value.response["Error"]["Code"] == code
    with pytest.raises(ClientError) as caught:
        client.list_objects_v2(Bucket="another")
    assert caught.value.response["Error"]["Code"] == "NoSuchBucket"


@pytest.mark.parametrize(
    ("faults", "status", "body"),
    [
        (Faults(slow_down_rate=1), 503, b"<Code>SlowDown</Code>"),
        (Faults(internal_error_rate=1), 500, b"<Code>InternalError</Code>"),
        (Faults(too_many_requests_rate=1), 429, b"<Code>TooManyRequests</Code>"),
        (Faults(denied={"top.json"}), 403, b"<Code>AccessDenied</Code>"),
        (Faults(kms_denied={"top.json"}), 403, b"kms:Decrypt"),
        (Faults(archived={"top.json"}), 403, b"<Code>InvalidObjectState</Code>"),
        (Faults(gone={"top.json"}), 404, b"<Code>NoSuchKey</Code>"),
        (Faults(hidden={"top.json"}), 404, b"<Code>NoSuchKey</Code>"),
        (Faults(not_s3={"top.json"}), 404, b"<html>"),
        (Faults(reset_rate=1), -1, b""),
        (Faults(cut_rate=1), -2, b"top" * 25),
    ],
    ids=lambda value: None if isinstance(value, Faults) else str(value)[:20],
)
def test_a_fault_is_injected_and_counted(
    server: FaultServer, faults: Faults, status: int, body: bytes
) -> None:
    server.faults = faults
    found_status, found = get(server, "top.json")
    assert found_status == status
    assert body in found
    if not faults.hidden:
        assert sum(server.counts.faults.values()) == 1
    server.heal()
    server.reveal()
    assert get(server, "top.json") == (200, OBJECTS["top.json"])


def test_a_flipped_body_differs_in_one_byte(server: FaultServer) -> None:
    server.faults = Faults(flip_rate=1)
    status, body = get(server, "top.json")
    assert status == 200
    assert sum(a != b for a, b in zip(body, OBJECTS["top.json"], strict=True)) == 1


def test_a_wrong_length_is_too_small_or_too_large(server: FaultServer) -> None:
    server.faults = Faults(wrong_length_rate=1)
    answers = {get(server, "top.json") for _ in range(20)}
    assert answers == {(200, b"top" * 25), (-2, OBJECTS["top.json"])}


def test_a_damaged_object_heals_with_another_etag(server: FaultServer) -> None:
    client = boto3_client(server)
    server.faults = Faults(damaged={"top.json": 2})

    def listed_etag() -> str:
        return cast(str, client.list_objects_v2(Bucket=BUCKET)["Contents"][-1]["ETag"])

    damaged = listed_etag()
    bodies = [get(server, "top.json", **{"If-Match": damaged}) for _ in range(3)]
    assert bodies[0] == bodies[1]
    assert bodies[0][1] != OBJECTS["top.json"]
    assert f'"{hashlib.md5(bodies[0][1]).hexdigest()}"' == damaged
    assert bodies[2][0] == 412
    assert listed_etag() != damaged


def test_listings_show_what_is_hidden_archived_or_cut(server: FaultServer) -> None:
    client = boto3_client(server)
    server.faults = Faults(hidden={"a/1.json.gz"}, archived={"top.json"})
    listed = client.list_objects_v2(Bucket=BUCKET)["Contents"]
    classes = {item["Key"]: item["StorageClass"] for item in listed}
    assert classes == {key: "GLACIER" if key == "top.json" else "STANDARD" for key in IN_ORDER[1:]}
    server.reveal("a/1.json.gz")
    assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"] == len(OBJECTS)
    server.faults = Faults(list_cut_rate=1)
    before = server.counts
    for _ in range(6):
        with pytest.raises(Exception, match=r"(?i)list|body"):
            list(obstore.list(obstore_store(server)))
    assert server.counts - before == Counts(
        requests={"list": 6},  # type: ignore[arg-type] # compares as a Counter
        faults={"list_cut": 6},  # type: ignore[arg-type]
    )


def test_the_same_seed_gives_the_same_faults_in_any_order(root: Path) -> None:
    def statuses(seed: int, keys: list[str]) -> dict[str, list[int]]:
        with FaultServer(root, Faults(seed=seed, slow_down_rate=0.5)) as server:
            return {key: [get(server, key)[0] for _ in range(12)] for key in keys}

    keys = list(OBJECTS)
    first = statuses(1, keys)
    assert {status for found in first.values() for status in found} == {200, 503}
    assert statuses(1, keys[::-1]) == first
    assert statuses(2, keys) != first


def test_a_hanging_request_ends_when_it_is_released(server: FaultServer) -> None:
    server.faults = Faults(hang={"top.json"})
    connection = http.client.HTTPConnection(
        server.endpoint_url.removeprefix("http://"), timeout=0.2
    )
    connection.request("GET", f"/{BUCKET}/top.json")
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()
    assert get(server, "a/1.json.gz")[0] == 200
    server.release()
    assert server.counts.faults == {"hang": 1}
