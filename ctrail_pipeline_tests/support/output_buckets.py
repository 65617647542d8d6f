"""Outputs in a bucket, for tests: each in a new bucket of a server that the process shares."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.core.output.bucket.bucket_output import BucketOutput
from ctrail_pipeline.core.output_address import BucketAddress
from ctrail_pipeline.core.settings import OutputBucket, Settings

from .s3_server import ACCESS_KEY, REGION, SECRET_KEY
from .seaweedfs import s3_client, seaweedfs


def new_bucket(
    monkeypatch: pytest.MonkeyPatch, endpoint_url: str, bucket: str | None = None
) -> OutputBucket:
    """Make a bucket, and set the variables that let this process and its children write to it."""
    bucket = bucket or f"out-{uuid.uuid4().hex[:12]}"
    s3_client(endpoint_url).create_bucket(Bucket=bucket)
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    events, quarantine, parquet = (
        BucketAddress(bucket, f"ctrail/{name}") for name in ("events", "quarantine", "parquet")
    )
    return OutputBucket(events, quarantine, parquet, region=REGION, endpoint_url=endpoint_url)


def seaweedfs_bucket(monkeypatch: pytest.MonkeyPatch) -> OutputBucket:
    """Make a bucket of the shared SeaweedFS. Skips where there is none."""
    return new_bucket(monkeypatch, seaweedfs().endpoint_url)


def output_in(bucket: OutputBucket, folder: Path) -> BucketOutput:
    """Return the output in a bucket; temporary files lie in a folder."""
    settings = Settings(
        (), folder / "events", folder / "quarantine", folder / "state.db", client_timeout=10
    )
    return BucketOutput(bucket, settings)


def download(bucket: OutputBucket, folder: Path) -> None:
    """Write all objects of a bucket into a folder, by their keys."""
    client = s3_client(str(bucket.endpoint_url))
    folder.chmod(0o700)
    for key in keys_in(bucket):
        path = folder / key
        for parent in reversed(path.parents[: len(path.parents) - len(folder.parents) - 1]):
            parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(client.get_object(Bucket=bucket.bucket, Key=key)["Body"].read())
        path.chmod(0o600)


def bucket_of(plain: dict[str, Any]) -> OutputBucket:
    """Return a bucket from the values that `dataclasses.asdict` made of one."""
    events, quarantine, parquet = (
        BucketAddress(**plain.pop(name)) for name in ("events", "quarantine", "parquet")
    )
    return OutputBucket(events, quarantine, parquet, **plain)


def keys_in(bucket: OutputBucket) -> list[str]:
    """Return all keys of a bucket, in order."""
    pages = s3_client(str(bucket.endpoint_url)).get_paginator("list_objects_v2")
    return sorted(
        item["Key"]
        for page in pages.paginate(Bucket=bucket.bucket)
        for item in page.get("Contents", ())
    )
