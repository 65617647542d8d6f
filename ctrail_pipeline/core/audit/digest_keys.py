"""CloudTrail's public keys: from the trail's file, else from the ledger, else from CloudTrail.

Keys that CloudTrail was asked for are kept in the ledger. Checking a signature with a key belongs
to `digest_file`.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from ctrail_pipeline.core.exceptions import (
    ConfigurationError,
    StoreError,
)
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_digests import (
    PublicKey,
    keep_public_keys,
    kept_public_keys,
)
from ctrail_pipeline.core.listing.found_prefixes import FoundPrefix
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.settings import Trail

from .digest_chain import ReadDigest
from .digest_file import (
    DigestError,
    read_public_keys,
)
from .digest_metadata import read_json


class KeysOfTrail:
    """The public keys of a trail's digests: of its file, else of the ledger, else of CloudTrail."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._asked: set[tuple[str, str]] = set()
        self._given: dict[str, PublicKey] | None = None
        if trail.public_keys is not None:
            reply = read_json(trail.public_keys, "public_keys")
            try:
                self._given = {key.fingerprint: key for key in read_public_keys(reply)}
            except DigestError as error:
                raise ConfigurationError(f"public_keys: {trail.public_keys}: {error}") from error

    def find(
        self,
        read: ReadDigest,
        about: datetime,
        place: FoundPrefix,
        ledger: Ledger,
        report: Callable[[Problem], None],
    ) -> PublicKey | None:
        """The key of a digest that was signed at about this time; None if it is not at hand."""
        if read.digest is None:
            return None
        fingerprint = read.digest.fingerprint
        if self._given is not None:
            return self._given.get(fingerprint)
        key = kept_public_keys(ledger).get(fingerprint)
        if key is None and not self._trail.bucket.startswith("file://"):
            once = (place.source_prefix.region, fingerprint)
            if once not in self._asked:
                self._asked.add(once)
                keep_public_keys(ledger, self._ask(about, place, report), int(time.time()))
                key = kept_public_keys(ledger).get(fingerprint)
        return key

    def _ask(
        self, about: datetime, place: FoundPrefix, report: Callable[[Problem], None]
    ) -> list[PublicKey]:
        """CloudTrail's keys of a day around a time; keys are the digest's own region's."""
        from botocore.exceptions import BotoCoreError, ClientError

        from ctrail_pipeline.core.bucket.credentials import Credentials

        region = place.source_prefix.region
        try:
            client = Credentials(self._trail).session.client("cloudtrail", region_name=region)
            day = timedelta(days=1)
            pages = client.get_paginator("list_public_keys").paginate(
                StartTime=about - day, EndTime=about + day
            )
            return [key for page in pages for key in read_public_keys(page)]
        except (BotoCoreError, ClientError, DigestError, StoreError) as error:
            code = getattr(error, "response", {}).get("Error", {}).get("Code")
            report(
                Problem(
                    self._trail.name,
                    place.source_prefix.partition_key,
                    "no public keys",
                    f"cloudtrail:ListPublicKeys in {region}: {code or type(error).__name__}",
                )
            )
            return []
