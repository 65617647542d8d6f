"""CloudTrail's public keys: from the trail's file, else from the ledger, else from CloudTrail.

Keys that CloudTrail was asked for are kept in the ledger. Checking a signature with a key belongs
to `digest_file`.
"""

import time
from datetime import datetime, timedelta

from ctrail_pipeline.core.bucket.boundary import boundary
from ctrail_pipeline.core.bucket.foreign_errors import no_answer
from ctrail_pipeline.core.exceptions import ConfigurationError, StoreError
from ctrail_pipeline.core.ledger.queries_digests import (
    PublicKey,
    keep_public_keys,
    kept_public_keys,
)
from ctrail_pipeline.core.settings import Trail

from .digest_chain import ReadDigest
from .digest_file import DigestError, read_public_keys
from .digest_metadata import read_json
from .digest_task import DigestTask


class KeysOfTrail:
    """Finds the public keys of a trail's digests."""

    def __init__(self, trail: Trail) -> None:
        """Read the trail's file of keys. Raises ConfigurationError if it cannot be used."""
        self._trail = trail
        self._asked: set[tuple[str, str]] = set()
        """Regions and fingerprints that CloudTrail was asked for."""
        self._given: dict[str, PublicKey] | None = None
        if trail.public_keys is not None:
            reply = read_json(trail.public_keys, "public_keys")
            try:
                self._given = {key.fingerprint: key for key in read_public_keys(reply)}
            except DigestError as error:
                raise ConfigurationError(f"public_keys: {trail.public_keys}: {error}") from error

    def find(self, read: ReadDigest, signed_at: datetime, task: DigestTask) -> PublicKey | None:
        """Return the key of a digest that was signed at about this time; None if unknown."""
        if read.digest is None:
            return None
        fingerprint = read.digest.fingerprint
        if self._given is not None:
            return self._given.get(fingerprint)
        key = kept_public_keys(task.ledger).get(fingerprint)
        if key is None and not self._trail.bucket.startswith("file://"):
            question = (task.any_prefix.region, fingerprint)
            if question not in self._asked:
                self._asked.add(question)
                keep_public_keys(task.ledger, self._ask(signed_at, task), int(time.time()))
                key = kept_public_keys(task.ledger).get(fingerprint)
        return key

    def _ask(self, signed_at: datetime, task: DigestTask) -> list[PublicKey]:
        """Ask CloudTrail for its keys of a day around a time; each region has its own keys."""
        region = task.any_prefix.region
        try:
            with boundary(self._trail):
                return self._ask_in(region, signed_at)
        except (DigestError, StoreError) as error:
            reason = f"cloudtrail:ListPublicKeys in {region}: {error}"
            task.report_problem(task.any_prefix.partition_key, "no public keys", reason)
            return []

    def _ask_in(self, region: str, signed_at: datetime) -> list[PublicKey]:
        from botocore.exceptions import BotoCoreError, ClientError

        from ctrail_pipeline.core.bucket.credentials import Credentials

        day = timedelta(days=1)
        session = Credentials(self._trail).session
        try:
            client = session.create_client("cloudtrail", region_name=region)
            pages = client.get_paginator("list_public_keys").paginate(
                StartTime=signed_at - day, EndTime=signed_at + day
            )
            return [key for page in pages for key in read_public_keys(page)]
        except ClientError as error:
            raise StoreError(str(error.response.get("Error", {}).get("Code"))) from error
        except BotoCoreError as error:
            raise StoreError(no_answer(error) or type(error).__name__) from error
