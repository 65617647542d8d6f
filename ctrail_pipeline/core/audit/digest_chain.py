"""How the digests of one chain hang together, from the newest backwards. Pure.

Each digest names the digest before it, with that digest's hash and signature. So whoever removes,
exchanges or moves a digest contradicts the next one. AWS's CLI checks every signature and the
names; it does not compare the hash and the signature of the digest before with what the next digest
says. This module does.

A mirror may lack the metadata in which CloudTrail keeps a digest's signature. The next digest holds
the signature, too, so that only the newest digest of a chain cannot be checked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

from ctrail_pipeline.core.ledger.queries_digests import PublicKey
from ctrail_pipeline.core.listing.delivery import Delivery

from .digest_file import SIGNATURE_ALGORITHM, Digest, DigestError, DigestName, PreviousDigest
from .digest_signature import check_signature
from .findings import FindingKind


class Standing(IntEnum):
    """How far the word of a digest goes."""

    VOID = 0
    """It was altered or moved, or could not be read: it says nothing."""
    COMPARED = 1
    """The set-up keeps it from being checked in full: a public key, a signature or `delivered_to`
    is missing. Log files are compared with its hashes, and it proves none of them."""
    SOUND = 2
    """CloudTrail signed it, and delivered it to where the trail's digests belong."""


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
    """The signature in the object's metadata; None if there is none."""
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

    here: Delivery
    """Where digests are read."""
    expected: Sequence[Delivery]
    """Where CloudTrail may have delivered them to, as far as the configuration knows. One of them
    holds for the whole chain."""
    newer: ReadDigest | None = None
    elsewhere: dict[Delivery, list[ChainFinding]] = field(default_factory=dict)
    """Digests that name another delivery than the expected one."""
    unsigned: list[ChainFinding] = field(default_factory=list)
    """Digests of which nobody holds a signature."""
    _holds_expected: bool = False
    _holds_signatures: bool = False
    """Whether the metadata of any digest holds a signature."""

    def step(self, read: ReadDigest, key: PublicKey | None) -> tuple[Standing, list[ChainFinding]]:
        """Return how far a digest's word goes, and all findings about the digest and its link.

        The link is the one to `newer`. `key` is the public key of the digest's fingerprint; None if
        the key is not known.
        """
        self._holds_signatures |= read.signature is not None
        standing, findings = self._judge(read, key)
        findings += self._link(read, is_void=standing is Standing.VOID)
        self.newer = read
        return standing, findings

    def end(self, oldest: datetime) -> list[ChainFinding]:
        """Return what can be said only once the chain was walked to its oldest digest.

        A digest that the oldest one names is missing. Digests that name another delivery were moved
        if others are in their place, and digests without a signature were altered if others have
        one. `oldest` is the start of the time of which digests were read.
        """
        findings = self._before_oldest(oldest)
        if self._holds_expected:
            findings += [finding for moved in self.elsewhere.values() for finding in moved]
            self.elsewhere = {}
        if self._holds_signatures:
            findings += self.unsigned
            self.unsigned = []
        return findings

    def _judge(
        self, read: ReadDigest, key: PublicKey | None
    ) -> tuple[Standing, list[ChainFinding]]:
        """Return how far a digest's word goes, and what is wrong with the digest by itself."""
        digest = read.digest
        if digest is None:
            problem = _finding(read, FindingKind.DIGEST_ALTERED, read.problem)
            return Standing.VOID, [] if read.gone else [problem]
        signature = self._signature_of(read)
        findings = [*_altered(read, digest, signature, key)]
        delivery = self.here.named_by(digest.bucket, digest.key, read.key)
        address = f"s3://{digest.bucket}/{digest.key}"
        moved = _finding(read, FindingKind.DIGEST_MOVED, f"it says that it is {address}")
        if delivery is None:
            findings.append(moved)
        standing = Standing.VOID if findings else Standing.SOUND
        if key is None:
            detail = f"fingerprint {digest.fingerprint}"
            findings.append(_finding(read, FindingKind.KEY_UNKNOWN, detail))
            standing = min(standing, Standing.COMPARED)
        if standing is Standing.VOID or delivery is None:
            return Standing.VOID, findings
        if signature is None:
            detail = "the object's metadata holds no signature"
            self.unsigned.append(_finding(read, FindingKind.DIGEST_ALTERED, detail))
            standing = Standing.COMPARED
        if delivery in self.expected:
            self._holds_expected = True
            self.expected = (delivery,)
        else:
            self.elsewhere.setdefault(delivery, []).append(moved)
            standing = Standing.COMPARED
        return standing, findings

    def _signature_of(self, read: ReadDigest) -> str | None:
        """Return a digest's signature: its own, else the one in the newer digest; None without."""
        previous = self._previous_of_newer()
        if read.signature is None and previous is not None and previous[0] == read.key:
            return previous[1].signature
        return read.signature

    def _previous_of_newer(self) -> tuple[str, PreviousDigest] | None:
        """Return what the newer digest says of the digest before it, and the key to read it by.

        None if there is no newer digest, if it is a starting digest, and if the trail delivered
        elsewhere before.
        """
        newer = self.newer
        if newer is None or newer.digest is None or newer.digest.previous is None:
            return None
        digest, previous = newer.digest, newer.digest.previous
        delivery = self.here.named_by(digest.bucket, digest.key, newer.key) or self.expected[0]
        rest = delivery.rest(previous.bucket, previous.key)
        return None if rest is None else (self.here.key(rest), previous)

    def _before_oldest(self, oldest: datetime) -> list[ChainFinding]:
        previous, newer = self._previous_of_newer(), self.newer
        if previous is None or newer is None or newer.digest is None:
            return []
        if newer.digest.start < oldest + timedelta(days=1):
            return []  # the digest before may lie in the day before, which was not read
        start = newer.digest.start - timedelta(hours=1)
        return [_missing(newer, newer.digest, previous[0], start)]

    def _link(self, read: ReadDigest, *, is_void: bool) -> Iterator[ChainFinding]:
        named, newer = self._previous_of_newer(), self.newer
        if named is None or newer is None or newer.digest is None:
            return
        older_end = read.digest.end if read.digest else read.name.end
        key, previous = named
        if key != read.key:
            if _is_between(key, read.key, newer.key):
                yield _missing(newer, newer.digest, key, older_end)
            else:
                detail = f"it names {key} as the one before it, not {read.key}"
                yield _broken(newer, detail, older_end)
            return
        if is_void or read.digest is None:
            return
        start = read.digest.start
        if previous.sha256 != read.digest.sha256:
            yield _broken(newer, f"its hash of the one before it, {read.key}, differs", start)
        elif read.signature not in (None, previous.signature):
            yield _broken(newer, f"its signature of the one before it, {read.key}, differs", start)
        elif newer.digest.start > older_end and not read.name.chain.backfill:
            detail = f"there is a gap: the one before it ends {read.digest.end_text}"
            yield _broken(newer, detail, older_end)


def _altered(
    read: ReadDigest, digest: Digest, signature: str | None, key: PublicKey | None
) -> Iterator[ChainFinding]:
    """Yield a finding if a digest's signature, as far as it is known, does not fit."""
    try:
        if read.algorithm not in (None, SIGNATURE_ALGORITHM):
            raise DigestError("the object's metadata names an unknown signature algorithm")
        if signature is not None and key is not None:
            check_signature(digest, signature, key)
    except DigestError as error:
        yield _finding(read, FindingKind.DIGEST_ALTERED, str(error))


def _finding(read: ReadDigest, kind: FindingKind, detail: str) -> ChainFinding:
    """Return a finding of a digest by itself: it puts the digest's own time in doubt."""
    end = read.digest.end if read.digest else read.name.end
    start = read.digest.start if read.digest else end - timedelta(hours=1)
    return ChainFinding(kind, read.bucket, read.key, detail, start, end)


def _missing(newer: ReadDigest, digest: Digest, key: str, start: datetime) -> ChainFinding:
    detail = f"{newer.key.rpartition('/')[2]} names it as the one before it"
    return ChainFinding(FindingKind.DIGEST_MISSING, newer.bucket, key, detail, start, digest.start)


def _broken(newer: ReadDigest, detail: str, start: datetime) -> ChainFinding:
    end = newer.digest.start if newer.digest else newer.name.end
    return ChainFinding(
        FindingKind.CHAIN_BROKEN, newer.bucket, newer.key, detail, min(start, end), end
    )


def _is_between(key: str, older: str, newer: str) -> bool:
    """Whether a key would be listed between two others: names of one chain sort by time."""
    return older < key < newer
