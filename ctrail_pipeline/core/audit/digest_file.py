"""One signed digest of CloudTrail: its name and its content. Pure.

About every hour CloudTrail writes a digest for each account, region and trail: gzipped JSON that
lists the delivered log files with their SHA-256. CloudTrail signs each digest (AWS CloudTrail user
guide, "CloudTrail digest file structure"; "Custom implementations of CloudTrail log file integrity
validation"). An attacker may have written a digest: whatever is wrong in it becomes a DigestError.

Whether the signature holds belongs to `digest_signature`, how digests hang together to
`digest_chain`, reading digests to `digest_walk`.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from ctrail_pipeline.core.keys.source_prefix import DIGEST_KIND, SourcePrefix, digest_root
from ctrail_pipeline.core.ledger.queries_digests import PublicKey
from ctrail_pipeline.core.log_file.gunzip import gunzip

SIGNATURE_ALGORITHM: Final = "SHA256withRSA"
MAX_DIGEST_BYTES: Final = 64 * 1024 * 1024
"""Upper limit of a digest's uncompressed bytes. A log file takes about 400 bytes of a digest, so
160,000 log files an hour have room."""
HASH_ALGORITHM: Final = "SHA-256"
_NAME_END: Final = re.compile(
    r"(?P<trail>[A-Za-z0-9._-]+)_(?P<home>[a-z0-9-]+)_(?P<time>[0-9]{8}T[0-9]{6}Z)"
    r"(?P<backfill>_backfill)?\.json\.gz"
)
HEX: Final = re.compile(r"(?:[0-9a-f]{2})+")
_SHA256HEX: Final = re.compile(r"[0-9a-f]{64}")


class DigestError(Exception):
    """A digest, its signature or a public key cannot be used; the message says why."""


class Chain(NamedTuple):
    """The chain of digests of a source prefix that a digest belongs to."""

    trail: str
    """The trail's name at CloudTrail, which may differ from its name in the configuration."""
    home_region: str
    backfill: bool
    """Whether the chain lists log files that had been left out before (`…_backfill.json.gz`)."""


class DigestName(NamedTuple):
    """What a digest's key says."""

    chain: Chain
    end: datetime


class ListedLogFile(NamedTuple):
    """A log file as a digest lists it."""

    bucket: str
    key: str
    sha256: bytes
    """SHA-256 of the uncompressed bytes."""


@dataclass(frozen=True, slots=True)
class PreviousDigest:
    """What a digest says of the digest before it."""

    bucket: str
    key: str
    sha256: bytes
    signature: str


@dataclass(frozen=True, slots=True)
class Digest:
    """What a digest says, and the SHA-256 of its own uncompressed bytes."""

    start: datetime
    end: datetime
    end_text: str
    """`digestEndTime` as it is written: the signature covers this text."""
    bucket: str
    key: str
    fingerprint: str
    previous: PreviousDigest | None
    """None in a starting digest: log file validation was turned on, or logging began again."""
    log_files: tuple[ListedLogFile, ...]
    sha256: bytes


class _LogFileFields(msgspec.Struct, rename="camel"):
    s3_bucket: str = msgspec.field(name="s3Bucket")
    s3_object: str = msgspec.field(name="s3Object")
    hash_value: str
    hash_algorithm: str


class _DigestFields(msgspec.Struct, rename="camel"):
    digest_start_time: str
    digest_end_time: str
    bucket: str = msgspec.field(name="digestS3Bucket")
    key: str = msgspec.field(name="digestS3Object")
    digest_public_key_fingerprint: str
    digest_signature_algorithm: str
    log_files: list[_LogFileFields]
    previous_bucket: str | None = msgspec.field(name="previousDigestS3Bucket", default=None)
    previous_key: str | None = msgspec.field(name="previousDigestS3Object", default=None)
    previous_digest_hash_value: str | None = None
    previous_digest_hash_algorithm: str | None = None
    previous_digest_signature: str | None = None


def digest_folder(source_prefix: SourcePrefix) -> str:
    """Return the folder that holds the year folders of a source prefix's digests."""
    root = digest_root(source_prefix.prefix, source_prefix.organization, source_prefix.account)
    return f"{root}{source_prefix.region}/"


def read_name(source_prefix: SourcePrefix, key: str) -> DigestName | None:
    """Return what the key of an object in a digest folder says; None if it is no digest's key."""
    head = f"{source_prefix.account}_{DIGEST_KIND}_{source_prefix.region}_"
    name = key.rpartition("/")[2]
    match = _NAME_END.fullmatch(name, len(head)) if name.startswith(head) else None
    if match is None:
        return None
    try:
        end = datetime.strptime(match["time"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return DigestName(Chain(match["trail"], match["home"], match["backfill"] is not None), end)


def parse_digest(body: bytes) -> Digest:
    """Return what the bytes of a digest object say.

    Raises DigestError if the bytes are not gzip, are too many, or are no digest.
    """
    data, damage = gunzip(body, MAX_DIGEST_BYTES)
    if damage is not None:
        raise DigestError(damage)
    try:
        fields = msgspec.json.decode(data, type=_DigestFields)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DigestError(f"it is no digest ({type(error).__name__})") from error
    if fields.digest_signature_algorithm != SIGNATURE_ALGORITHM:
        raise DigestError("it names a signature algorithm other than SHA256withRSA")
    start, end = _time(fields.digest_start_time), _time(fields.digest_end_time)
    if start >= end:
        raise DigestError("it ends before it starts")
    return Digest(
        start=start,
        end=end,
        end_text=fields.digest_end_time,
        bucket=fields.bucket,
        key=fields.key,
        fingerprint=fields.digest_public_key_fingerprint,
        previous=_previous(fields),
        log_files=tuple(
            ListedLogFile(
                item.s3_bucket, item.s3_object, _hash(item.hash_value, item.hash_algorithm)
            )
            for item in fields.log_files
        ),
        sha256=hashlib.sha256(data).digest(),
    )


def read_public_keys(reply: Any) -> list[PublicKey]:
    """Return the keys of a ListPublicKeys reply: JSON (Value in base64) or boto3's (bytes).

    Raises DigestError if `reply` is no such reply.
    """
    try:
        return [
            PublicKey(
                str(item["Fingerprint"]),
                item["Value"]
                if isinstance(item["Value"], bytes)
                else base64.b64decode(item["Value"], validate=True),
            )
            for item in reply["PublicKeyList"]
        ]
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise DigestError("it is no reply of ListPublicKeys") from error


def _previous(fields: _DigestFields) -> PreviousDigest | None:
    given = (
        fields.previous_bucket,
        fields.previous_key,
        fields.previous_digest_hash_value,
        fields.previous_digest_hash_algorithm,
        fields.previous_digest_signature,
    )
    if all(item is None for item in given):
        return None
    bucket, key, hash_value, algorithm, signature = given
    if None in given or bucket is None or key is None or signature is None:
        raise DigestError("it names only parts of the digest before it")
    return PreviousDigest(bucket, key, _hash(hash_value or "", algorithm or ""), signature)


def _hash(value: str, algorithm: str) -> bytes:
    if algorithm != HASH_ALGORITHM or not _SHA256HEX.fullmatch(value):
        raise DigestError("it holds a hash that is no SHA-256")
    return bytes.fromhex(value)


def _time(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise DigestError("it holds a time that is none") from error
