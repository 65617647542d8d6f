"""How the digests of one chain hang together, from the newest backwards. Pure.

Each digest names the digest before it, with that digest's hash and signature. So whoever removes,
exchanges or moves a digest contradicts the next one. AWS's CLI checks every signature and the
names; it does not compare the hash and the signature of the digest before with what the next digest
says. This module does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from ctrail_pipeline.core.ledger.queries_digests import PublicKey

from .digest_file import SIGNATURE_ALGORITHM, Digest, DigestError, DigestName
from .digest_signature import check_signature
from .findings import FindingKind


@dataclass(frozen=True, slots=True)
class ReadDigest:
    """A digest object as it was read."""

    bucket: str
    key: str
    name: DigestName
    digest: Digest | None
    problem: str = ""
    """Why `digest` is None."""
    signature: str | None = None
    algorithm: str | None = None
    gone: bool = False
    """Whether the object could not be read at all: that says nothing against the digest."""


@dataclass(frozen=True, slots=True)
class ChainFinding:
    """What is wrong with a digest, and the time that the fault puts in doubt."""

    kind: FindingKind
    bucket: str
    key: str
    detail: str
    start: datetime
    end: datetime


@dataclass
class ChainWalk:
    """One chain, walked from its newest digest backwards: feed `step` with each older digest."""

    newer: ReadDigest | None = None

    def step(self, read: ReadDigest, key: PublicKey | None) -> tuple[bool, list[ChainFinding]]:
        """Return whether a digest is sound by itself, and all findings about it and its link.

        The link is the one to `newer`. `key` is the public key of the digest's fingerprint; None if
        the key is not known.
        """
        findings = list(_faults_of(read, key))
        sound = read.digest is not None and not findings
        findings += self._link(read, already_bad=not sound)
        self.newer = read
        return sound, findings

    def end(self, oldest: datetime) -> list[ChainFinding]:
        """Return a finding if the oldest digest names one before it that was not there.

        `oldest` is the start of the time of which digests were read.
        """
        newer = self.newer
        if newer is None or newer.digest is None or newer.digest.previous is None:
            return []
        if newer.digest.previous.bucket != newer.bucket:
            return []  # the trail delivered to another bucket before
        if newer.digest.start < oldest + timedelta(days=1):
            return []  # the digest before may lie in the day before, which was not read
        start = newer.digest.start - timedelta(hours=1)
        return [_missing(newer, newer.digest, start)]

    def _link(self, read: ReadDigest, *, already_bad: bool) -> Iterator[ChainFinding]:
        newer = self.newer
        if newer is None or newer.digest is None:
            return
        older_end = read.digest.end if read.digest else read.name.end
        previous = newer.digest.previous
        if previous is None:
            return  # a starting digest: CloudTrail signed that there is none before it
        if (previous.bucket, previous.key) != (read.bucket, read.key):
            if previous.bucket == read.bucket:
                if _is_between(previous.key, read.key, newer.key):
                    yield _missing(newer, newer.digest, older_end)
                else:
                    detail = f"it names {previous.key} as the one before it, not {read.key}"
                    yield _broken(newer, detail, older_end)
            return
        if already_bad or read.digest is None:
            return
        start = read.digest.start
        if previous.sha256 != read.digest.sha256:
            yield _broken(newer, f"its hash of the one before it, {read.key}, differs", start)
        elif previous.signature != read.signature:
            yield _broken(newer, f"its signature of the one before it, {read.key}, differs", start)
        elif newer.digest.start > older_end and not read.name.chain.backfill:
            detail = f"there is a gap: the one before it ends {read.digest.end_text}"
            yield _broken(newer, detail, older_end)


def _faults_of(read: ReadDigest, key: PublicKey | None) -> Iterator[ChainFinding]:
    """Yield what is wrong with a digest by itself."""
    if read.gone:
        return
    hour = timedelta(hours=1)
    end = read.digest.end if read.digest else read.name.end
    start = read.digest.start if read.digest else end - hour

    def finding(kind: FindingKind, detail: str) -> ChainFinding:
        return ChainFinding(kind, read.bucket, read.key, detail, start, end)

    if read.digest is None:
        yield finding(FindingKind.DIGEST_ALTERED, read.problem)
        return
    try:
        if read.signature is None:
            raise DigestError("the object's metadata holds no signature")
        if read.algorithm not in (None, SIGNATURE_ALGORITHM):
            raise DigestError("the object's metadata names an unknown signature algorithm")
        if key is not None:
            check_signature(read.digest, read.signature, key)
    except DigestError as error:
        yield finding(FindingKind.DIGEST_ALTERED, str(error))
    if (read.digest.bucket, read.digest.key) != (read.bucket, read.key):
        yield finding(
            FindingKind.DIGEST_MOVED,
            f"it says that it is s3://{read.digest.bucket}/{read.digest.key}",
        )
    if key is None:
        yield finding(FindingKind.KEY_UNKNOWN, f"fingerprint {read.digest.fingerprint}")


def _missing(newer: ReadDigest, digest: Digest, start: datetime) -> ChainFinding:
    assert digest.previous is not None  # noqa: S101 - the caller has looked
    previous = digest.previous
    detail = f"{newer.key.rpartition('/')[2]} names it as the one before it"
    return ChainFinding(
        FindingKind.DIGEST_MISSING, previous.bucket, previous.key, detail, start, digest.start
    )


def _broken(newer: ReadDigest, detail: str, start: datetime) -> ChainFinding:
    end = newer.digest.start if newer.digest else newer.name.end
    return ChainFinding(
        FindingKind.CHAIN_BROKEN, newer.bucket, newer.key, detail, min(start, end), end
    )


def _is_between(key: str, older: str, newer: str) -> bool:
    """Whether a key would be listed between two others: names of one chain sort by time."""
    return older < key < newer
