"""Chains of digests as CloudTrail writes them, signed with a key of the tests."""

import base64
import gzip
import hashlib
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ctrail_pipeline_tests.support.fault_server import key_path

ACCOUNT = "111122223333"
REGION = "eu-west-1"
START = datetime(2024, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@cache
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_der(form: PublicFormat) -> bytes:
    return private_key().public_key().public_bytes(Encoding.DER, form)


def list_public_keys(form: PublicFormat = PublicFormat.PKCS1) -> dict[str, Any]:
    value = base64.b64encode(public_der(form)).decode()
    return {"PublicKeyList": [{"Value": value, "Fingerprint": "f" * 32}]}


class Delivery:
    """A bucket folder that gets log files and digests, hour by hour.

    A key with an empty name lies where `key_path` says.
    """

    def __init__(
        self, folder: Path, organization: str = "", bucket: str = "logs", prefix: str = ""
    ) -> None:
        self.folder = folder / bucket
        self.bucket = bucket
        owner = f"{organization}/{ACCOUNT}" if organization else ACCOUNT
        self.root = f"{prefix}/AWSLogs/{owner}" if prefix else f"AWSLogs/{owner}"
        self.metadata: dict[str, dict[str, str]] = {}
        self.last: dict[str, Any] = {}

    def log_file(
        self, at: datetime, suffix: str = "A" * 16, text: str = "", kind: str = "CloudTrail"
    ) -> str:
        name = f"{ACCOUNT}_{kind}_{REGION}_{at:%Y%m%dT%H%MZ}_{suffix}.json.gz"
        key = f"{self.root}/{kind}/{REGION}/{at:%Y/%m/%d}/{name}"
        event = {
            "eventTime": f"{at:%Y-%m-%dT%H:%M:%SZ}",
            "eventID": f"{at}{suffix}{text}",
            "recipientAccountId": ACCOUNT,
            "awsRegion": REGION,
        }
        self.write(key, json.dumps({"Records": [event]}).encode())
        return key

    def write(self, key: str, data: bytes) -> None:
        path = key_path(self.folder, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data))

    def entry(self, key: str) -> dict[str, str]:
        data = gzip.decompress(key_path(self.folder, key).read_bytes())
        return {
            "s3Bucket": self.bucket,
            "s3Object": key,
            "hashValue": hashlib.sha256(data).hexdigest(),
            "hashAlgorithm": "SHA-256",
        }

    def digest(
        self,
        start: datetime,
        log_files: list[str],
        *,
        end: datetime | None = None,
        trail: str = "main_trail",
        starting: bool = False,
        backfill: bool = False,
        bucket: str = "",
        change: dict[str, Any] | None = None,
    ) -> str:
        """Write and sign the next digest of a chain. `change` alters it before it is signed.

        `bucket` is the bucket that the digest names as its own, if it is another one.
        """
        bucket = bucket or self.bucket
        end = end or start + HOUR
        tail = "_backfill" if backfill else ""
        name = f"{ACCOUNT}_CloudTrail-Digest_{REGION}_{trail}_{REGION}_{end:%Y%m%dT%H%M%SZ}{tail}"
        key = f"{self.root}/CloudTrail-Digest/{REGION}/{end:%Y/%m/%d}/{name}.json.gz"
        chain = f"{trail}{tail}"
        before = None if starting else self.last.get(chain)
        document = {
            "awsAccountId": ACCOUNT,
            "digestStartTime": f"{start:%Y-%m-%dT%H:%M:%SZ}",
            "digestEndTime": f"{end:%Y-%m-%dT%H:%M:%SZ}",
            "digestS3Bucket": bucket,
            "digestS3Object": key,
            "digestPublicKeyFingerprint": "f" * 32,
            "digestSignatureAlgorithm": "SHA256withRSA",
            "previousDigestS3Bucket": before and self.bucket,
            "previousDigestS3Object": before and before["key"],
            "previousDigestHashValue": before and before["hash"],
            "previousDigestHashAlgorithm": before and "SHA-256",
            "previousDigestSignature": before and before["signature"],
            "logFiles": [self.entry(log_file) for log_file in log_files],
        } | (change or {})
        data = json.dumps(document).encode()
        self.write(key, data)
        digest_hash = hashlib.sha256(data).hexdigest()
        previous = document["previousDigestSignature"] or "null"
        signed = f"{document['digestEndTime']}\n{bucket}/{key}\n{digest_hash}\n{previous}"
        signature = private_key().sign(signed.encode(), padding.PKCS1v15(), SHA256()).hex()
        self.metadata[f"{self.bucket}/{key}"] = {
            "signature": signature,
            "signature-algorithm": "SHA256withRSA",
        }
        if backfill:
            self.metadata[f"{self.bucket}/{key}"]["backfill-generation-timestamp"] = (
                f"{end + 24 * HOUR:%Y-%m-%dT%H:%M:%SZ}"
            )
        self.last[chain] = {"key": key, "hash": digest_hash, "signature": signature}
        return key

    def hours(
        self, count: int, start: datetime = START, suffix: str = "A" * 16, **options: Any
    ) -> list[str]:
        """Deliver a log file and a digest for each of so many hours. Return the digests' keys."""
        return [
            self.digest(
                start + number * HOUR,
                [self.log_file(start + number * HOUR + timedelta(minutes=25), suffix)],
                **options,
            )
            for number in range(count)
        ]

    def files(self, folder: Path) -> dict[str, Path]:
        """Write the files that a trail's `public_keys` and `object_metadata` name."""
        keys, metadata = folder / "keys.json", folder / "metadata.json"
        keys.write_text(json.dumps(list_public_keys()))
        metadata.write_text(json.dumps(self.metadata))
        return {"public_keys": keys, "object_metadata": metadata}
