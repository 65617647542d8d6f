"""The AWS CLI checks the same trees by its own code: where the CLI speaks, we say the same.

The CLI's classes run unchanged over a local folder; only its S3 and CloudTrail clients are ours.
What only `ctrail verify` finds is the last parameter: docs/verify.md names the same.
"""

import gzip
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest

from ctrail_pipeline.core.audit.findings import FindingKind, HourState
from ctrail_pipeline_tests.support.checked_digests import check, kinds
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.real_digests import BUCKET, RealDigests
from ctrail_pipeline_tests.support.real_logs import needs_real_logs
from ctrail_pipeline_tests.support.signed_digests import (
    ACCOUNT,
    HOUR,
    REGION,
    START,
    Delivery,
    list_public_keys,
)

pytestmark = pytest.mark.thorough

validation = pytest.importorskip("awscli.customizations.cloudtrail.validation")


class Tree(Protocol):
    """A bucket as a folder, with the metadata that files cannot hold."""

    folder: Path
    bucket: str
    metadata: dict[str, dict[str, str]]


class Clients:
    """S3 over a folder of buckets, and CloudTrail's public keys, as the CLI's code calls them."""

    def __init__(self, delivery: Tree, public_keys: Any) -> None:
        self.delivery = delivery
        self.public_keys = public_keys

    def get_client(self, _bucket: str) -> "Clients":
        return self

    def get_paginator(self, _name: str) -> "Clients":
        return self

    def paginate(self, Bucket: str, **_: Any) -> Any:  # noqa: N803 - boto3's names
        return Keys(self.delivery)

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803
        from botocore.exceptions import ClientError

        path = self.delivery.folder / Key
        if not path.exists():
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": "gone"}}, "GetObject")
        metadata = self.delivery.metadata.get(f"{Bucket}/{Key}", {})
        return {"Body": BytesIO(path.read_bytes()), "Metadata": metadata}

    def list_public_keys(self, **_: Any) -> Any:
        return self.public_keys


class Keys:
    """A listing: the CLI searches it with JMESPath."""

    def __init__(self, delivery: Tree) -> None:
        folder = delivery.folder
        self.keys = sorted(
            str(path.relative_to(folder)) for path in folder.rglob("*Digest_*.json.gz")
        )

    def search(self, _query: str) -> list[str]:
        return self.keys

    def __iter__(self) -> Any:
        return iter([{"Contents": [{"Key": key} for key in self.keys]}])


def aws_cli(
    delivery: Tree,
    capsys: pytest.CaptureFixture[str],
    *,
    trail_arn: str = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/main_trail",
    start: datetime = START,
    public_keys: Any = None,
) -> tuple[int, list[str]]:
    """Return how many log files the CLI calls valid, and its lines that say INVALID or a gap."""
    clients = Clients(delivery, public_keys or list_public_keys())
    command = validation.CloudTrailValidateLogs.__new__(validation.CloudTrailValidateLogs)
    vars(command).update(
        trail_arn=trail_arn,
        is_verbose=True,
        start_time=start,
        end_time=start + 40 * 24 * HOUR,
        s3_bucket=delivery.bucket,
        s3_prefix=None,
        account_id=None,
        s3_client_provider=clients,
        cloudtrail_client=clients,
        organization_client=None,
        _source_region=trail_arn.split(":")[3],
        _found_start_time=None,
        _found_end_time=None,
        _is_last_status_double_space=True,
        _valid_digests=0,
        _invalid_digests=0,
        _valid_backfill_digests=0,
        _invalid_backfill_digests=0,
        _valid_logs=0,
        _invalid_logs=0,
    )
    command._call()
    output = capsys.readouterr()
    lines = (output.out + output.err).splitlines()
    return command._valid_logs, [
        line for line in lines if "INVALID" in line or line.startswith("No log files were")
    ]


def log_of(delivery: Delivery, number: int) -> Path:
    return sorted((delivery.folder / delivery.root / "CloudTrail").rglob("*.gz"))[number]


def digest_of(delivery: Delivery, number: int) -> Path:
    return sorted((delivery.folder / delivery.root / "CloudTrail-Digest").rglob("*.gz"))[number]


def nothing(delivery: Delivery) -> None:
    pass


def log_changed(delivery: Delivery) -> None:
    log_of(delivery, 2).write_bytes(gzip.compress(b'{"Records":[]}'))


def log_deleted(delivery: Delivery) -> None:
    log_of(delivery, 2).unlink()


def log_added(delivery: Delivery) -> None:
    path = log_of(delivery, 2)
    shutil.copy(path, path.with_name(path.name.replace("A" * 16, "C" * 16)))


def digest_changed(delivery: Delivery) -> None:
    path = digest_of(delivery, 2)
    data = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(data.replace(b'"awsAccountId": "1', b'"awsAccountId": "2')))


def digest_deleted(delivery: Delivery) -> None:
    digest_of(delivery, 2).unlink()


def signature_swapped(delivery: Delivery) -> None:
    second, third = sorted(delivery.metadata)[1:3]
    metadata = delivery.metadata
    metadata[second], metadata[third] = metadata[third], metadata[second]


def link_hash_differs(delivery: Delivery) -> None:
    delivery.digest(START + 6 * HOUR, [], change={"previousDigestHashValue": "0" * 64})


def link_signature_differs(delivery: Delivery) -> None:
    delivery.digest(START + 6 * HOUR, [], change={"previousDigestSignature": "00" * 256})


def gap(delivery: Delivery) -> None:
    delivery.digest(START + 9 * HOUR, [])


def digests_exchanged(delivery: Delivery) -> None:
    """Put another digest of the same hour and name, validly signed, instead of the original."""
    path = digest_of(delivery, 5)
    digest = json.loads(gzip.decompress(path.read_bytes()))
    link = {name: value for name, value in digest.items() if name.startswith("previous")}
    last = dict(delivery.last)
    delivery.digest(START + 5 * HOUR, [], change=link)
    delivery.last = last
    delivery.digest(START + 6 * HOUR, [])


CASES: list[tuple[Callable[[Delivery], None], set[FindingKind], bool]] = [
    (nothing, set(), False),
    (log_changed, {FindingKind.LOG_FILE_ALTERED}, True),
    (log_deleted, {FindingKind.LOG_FILE_DELETED}, True),
    (log_added, {FindingKind.LOG_FILE_NOT_IN_DIGEST}, False),
    (digest_changed, {FindingKind.DIGEST_ALTERED}, True),
    (digest_deleted, {FindingKind.DIGEST_MISSING}, True),
    (signature_swapped, {FindingKind.DIGEST_ALTERED}, True),
    (link_hash_differs, {FindingKind.CHAIN_BROKEN}, False),
    (link_signature_differs, {FindingKind.CHAIN_BROKEN}, False),
    (gap, {FindingKind.CHAIN_BROKEN}, False),
    (digests_exchanged, {FindingKind.CHAIN_BROKEN}, False),
]


@pytest.mark.parametrize(("change", "expected", "cli_sees"), CASES)
def test_we_say_what_the_aws_cli_says_and_more(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Delivery], None],
    expected: set[FindingKind],
    cli_sees: bool,
) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(6)
    change(delivery)
    valid, complaints = aws_cli(delivery, capsys)
    assert bool(complaints) == cli_sees, complaints
    found = check(delivery, tmp_path)
    notes = {FindingKind.HOUR_NOT_COVERED, FindingKind.LOG_FILE_NOT_IN_DIGEST} - expected
    assert {finding.kind for finding in found.findings} - notes == expected
    assert found.log_files_proved == valid
    if expected - {FindingKind.LOG_FILE_NOT_IN_DIGEST}:
        (hours,) = found.hours.values()
        assert HourState.CONTRADICTED in {state for *_, state in hours}


def test_the_table_of_the_docs_names_what_only_we_find() -> None:
    docs = (PROJECT / "docs" / "verify.md").read_text()
    for change, expected, cli_sees in CASES:
        if expected and not cli_sees:
            assert f"`{change.__name__}`" in docs


# --- how a log file is stored ---------------------------------------------------------------------


def as_delivered(body: bytes) -> bytes:
    return body


def empty_member(body: bytes) -> bytes:
    return body + gzip.compress(b"")


def member_with_records(body: bytes) -> bytes:
    return body + gzip.compress(b'{"Records":[{"eventName":"Planted"}]}')


def zero_bytes(body: bytes) -> bytes:
    return body + bytes(512)


def garbage(body: bytes) -> bytes:
    return body + b"garbage"


def uncompressed(body: bytes) -> bytes:
    return gzip.decompress(body)


def wrong_checksum(body: bytes) -> bytes:
    return body[:-8] + bytes(byte ^ 255 for byte in body[-8:-4]) + body[-4:]


def no_checksum(body: bytes) -> bytes:
    return body[:-8]


STORED: list[tuple[Callable[[bytes], bytes], bool, FindingKind | None]] = [
    (as_delivered, True, None),
    (empty_member, False, None),
    (member_with_records, False, FindingKind.LOG_FILE_ALTERED),
    (zero_bytes, False, FindingKind.LOG_FILE_DAMAGED),
    (garbage, False, FindingKind.LOG_FILE_DAMAGED),
    (uncompressed, False, None),
    (wrong_checksum, False, FindingKind.LOG_FILE_DAMAGED),
    (no_checksum, True, FindingKind.LOG_FILE_DAMAGED),
]
"""How a log file is stored, whether the CLI calls it valid, and what we find; None: proved."""


@pytest.mark.parametrize(("store", "is_valid", "finding"), STORED)
def test_how_a_log_file_is_stored(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    store: Callable[[bytes], bytes],
    is_valid: bool,
    finding: FindingKind | None,
) -> None:
    delivery = Delivery(tmp_path)
    delivery.hours(3)
    path = log_of(delivery, 1)
    path.write_bytes(store(path.read_bytes()))
    valid, complaints = aws_cli(delivery, capsys)
    assert (valid, bool(complaints)) == (2 + is_valid, not is_valid)
    found = check(delivery, tmp_path)
    expected = [] if finding is None else [(finding, path.name)]
    assert kinds(found) == expected
    assert found.log_files_proved == (3 if finding is None else 2)


def test_the_table_of_the_docs_has_each_way_of_storing() -> None:
    docs = (PROJECT / "docs" / "verify.md").read_text()
    for store, is_valid, finding in STORED[1:]:
        cli = "valid" if is_valid else "INVALID"
        (row,) = (line for line in docs.splitlines() if f": `{store.__name__}` |" in line)
        assert f"| {cli} | {finding.value if finding else 'proved'} |" in row


# --- the real tree --------------------------------------------------------------------------------


def byte_changed(world: RealDigests) -> None:
    path = world.log()
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"a", b"b", 1)))


def real_digest_changed(world: RealDigests) -> None:
    path = world.digest(1)
    data = gzip.decompress(path.read_bytes()).replace(b'"awsAccountId":"2', b'"awsAccountId":"3')
    path.write_bytes(gzip.compress(data))


def real_signature_swapped(world: RealDigests) -> None:
    path = world.given / "object-metadata.json"
    metadata = json.loads(path.read_text())
    first, second, _ = sorted(metadata)
    metadata[first], metadata[second] = metadata[second], metadata[first]
    path.write_text(json.dumps(metadata))


def key_missing(world: RealDigests) -> None:
    path = world.given / "list-public-keys.json"
    keys = json.loads(path.read_text())
    keys["PublicKeyList"] = [{**key, "Fingerprint": "0" * 32} for key in keys["PublicKeyList"]]
    path.write_text(json.dumps(keys))


def added(world: RealDigests) -> None:
    path = world.log()
    shutil.copy(path, path.with_name(path.name[:-24] + "AAAAAAAAAAAAAAAA.json.gz"))


def cut(world: RealDigests) -> None:
    world.digest(0).unlink()
    world.digest(0).unlink()


REAL_CASES: list[tuple[Callable[[RealDigests], object], bool]] = [
    (lambda _world: None, False),
    (byte_changed, True),
    (lambda world: world.log().unlink(), True),
    (added, False),
    (real_digest_changed, True),
    (lambda world: world.digest(1).unlink(), True),
    (cut, True),
    (real_signature_swapped, True),
    (key_missing, True),
]


@needs_real_logs
@pytest.mark.parametrize(
    ("change", "cli_sees"),
    REAL_CASES,
    ids=[
        *("as it is", "byte changed", "log deleted", "log added", "digest changed"),
        *("digest deleted", "chain cut", "signature swapped", "key missing"),
    ],
)
def test_real_logs_have_the_same_verdicts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[RealDigests], object],
    cli_sees: bool,
) -> None:
    world = RealDigests(tmp_path)
    change(world)
    tree = SimpleNamespace(
        folder=world.bucket,
        bucket=BUCKET,
        metadata=json.loads((world.given / "object-metadata.json").read_text()),
    )
    valid, complaints = aws_cli(
        tree,
        capsys,
        trail_arn="arn:aws:cloudtrail:us-east-1:218007301253:trail/management-events",
        start=datetime(2023, 7, 10, tzinfo=UTC),
        public_keys=json.loads((world.given / "list-public-keys.json").read_text()),
    )
    assert bool(complaints) == cli_sees, complaints
    found = world.check_digests()
    assert found.log_files_proved == valid
    assert bool(found.findings) == (cli_sees or change is added)
