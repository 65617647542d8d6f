"""The kinds of findings of a verify, in the words that every report of it uses.

Pure data. What is listed and compared belongs to `compare`, what digests say to `check_digests`.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class HourState(Enum):
    """What is known of one hour of key time of one source prefix, best first."""

    PROVED = "proved"
    """Signed digests cover the whole hour, and every log file they list is here, unaltered."""
    LISTED_COMPLETE = "listed complete"
    """Every log file that the bucket holds is committed; no digest says what there should be."""
    OPEN = "open"
    """The hour is not covered yet, or log files of it are missing, failed or damaged."""
    CONTRADICTED = "contradicted"
    """A log file or a digest of the hour was altered, deleted or moved."""


class Severity(Enum):
    """How much a finding matters."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class FindingKind(Enum):
    """What was found."""

    LOG_FILE_ALTERED = "log file altered"
    LOG_FILE_DELETED = "log file deleted"
    LOG_FILE_NOT_IN_DIGEST = "log file in no digest"
    DIGEST_ALTERED = "digest altered"
    DIGEST_MOVED = "digest moved"
    DIGEST_MISSING = "digest missing"
    CHAIN_BROKEN = "chain broken"
    KEY_UNKNOWN = "public key unknown"
    HOUR_NOT_COVERED = "hour not yet covered"
    LOG_FILE_MISSING = "log file not synced"
    LOG_FILE_FAILED = "log file failed"
    LOG_FILE_DAMAGED = "log file damaged"
    OUTPUT_MISSING = "output file missing"
    OUTPUT_ALTERED = "output file altered"
    OUTPUT_FOREIGN = "foreign file in the output"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a kind of finding means and what to do."""

    severity: Severity
    meaning: str
    advice: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found."""

    kind: FindingKind
    where: str
    """`s3://bucket/key`, or the path of an output file."""
    detail: str
    trail: str = ""
    partition: str = ""
    """`account/region`."""
    hours: tuple[int, int] | None = None
    """The hours of key time that it concerns: hours since 1970, first and one past the last."""

    @property
    def severity(self) -> Severity:
        """How much the finding matters."""
        return EXPLANATIONS[self.kind].severity


EXPLANATIONS: Final[dict[FindingKind, Explanation]] = {
    FindingKind.LOG_FILE_ALTERED: Explanation(
        Severity.ERROR,
        "its bytes are not those that CloudTrail signed",
        "keep bucket versions and access logs, find who wrote it; do not trust its events",
    ),
    FindingKind.LOG_FILE_DELETED: Explanation(
        Severity.ERROR,
        "a signed digest lists it, and the bucket does not hold it",
        "look for a delete in the bucket's access log; where versioning is on, restore it",
    ),
    FindingKind.LOG_FILE_NOT_IN_DIGEST: Explanation(
        Severity.WARNING,
        "digests cover its hour and none lists it: it may not be CloudTrail's",
        "compare its events with CloudTrail's event history; find who wrote the object",
    ),
    FindingKind.DIGEST_ALTERED: Explanation(
        Severity.ERROR,
        "its signature does not fit its bytes",
        "find who wrote it; nothing that it says can be used",
    ),
    FindingKind.DIGEST_MOVED: Explanation(
        Severity.ERROR,
        "it lies elsewhere than it says itself",
        "find who copied it; give `verify` the bucket that CloudTrail delivered to",
    ),
    FindingKind.DIGEST_MISSING: Explanation(
        Severity.ERROR,
        "another digest follows it, and the bucket does not hold it",
        "look for a delete in the bucket's access log; its hours cannot be proved without it",
    ),
    FindingKind.CHAIN_BROKEN: Explanation(
        Severity.ERROR,
        "a digest does not continue the one before it",
        "log files between the two may have been removed together with their digests",
    ),
    FindingKind.KEY_UNKNOWN: Explanation(
        Severity.WARNING,
        "the public key that it is signed with is not at hand",
        "allow cloudtrail:ListPublicKeys in the trail's region, or name `public_keys`",
    ),
    FindingKind.HOUR_NOT_COVERED: Explanation(
        Severity.NOTE,
        "no digest covers it yet: CloudTrail delivers them hourly",
        "verify again in two hours; if it stays, look whether log file validation is still on",
    ),
    FindingKind.LOG_FILE_MISSING: Explanation(
        Severity.WARNING,
        "the bucket holds it, and the ledger does not know it",
        "the next sync fetches it",
    ),
    FindingKind.LOG_FILE_FAILED: Explanation(
        Severity.WARNING,
        "it could not be fetched",
        "see the reason; it is tried again by itself",
    ),
    FindingKind.LOG_FILE_DAMAGED: Explanation(
        Severity.WARNING,
        "it cannot be read in full; what was readable is in quarantine",
        "see the reason; where bucket versioning is on, restore a sound version",
    ),
    FindingKind.OUTPUT_MISSING: Explanation(
        Severity.ERROR,
        "the ledger says that it was written, and it is not there",
        "if it was moved on purpose, `ctrail prune` is the way; else restore it from a backup",
    ),
    FindingKind.OUTPUT_ALTERED: Explanation(
        Severity.ERROR,
        "its size, lines or bytes are not what was written",
        "restore it from a backup",
    ),
    FindingKind.OUTPUT_FOREIGN: Explanation(
        Severity.ERROR,
        "the ledger does not know it, and whoever reads the output takes its lines for events",
        "find who put it there, then move it out of the folder",
    ),
}
