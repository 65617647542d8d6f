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
    """The hour is not covered yet, or log files of it are missing, failed or damaged. Accepted log
    files count, too."""
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
    DIGESTS_ELSEWHERE = "digests name another place"
    DIGEST_UNSIGNED = "newest digest without signature"
    DIGEST_MISSING = "digest missing"
    CHAIN_BROKEN = "chain broken"
    KEY_UNKNOWN = "public key unknown"
    HOUR_NOT_COVERED = "hour not yet covered"
    LOG_FILE_MISSING = "log file not synced"
    LOG_FILE_FAILED = "log file failed"
    LOG_FILE_DAMAGED = "log file damaged"
    LEFT_ASIDE = "left aside"
    LOG_FILE_ARCHIVED = "log file archived"
    RECORDS_IN_QUARANTINE = "records in quarantine"
    LOG_FILE_ACCEPTED = "log file accepted"
    OUTPUT_MISSING = "output file missing"
    OUTPUT_ALTERED = "output file altered"
    OUTPUT_FOREIGN = "foreign file in the output"
    NOT_IN_PARQUET = "events not in Parquet"


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
        "the log file's bytes are not those that CloudTrail signed",
        "keep bucket versions and access logs, and find who wrote the log file; do not trust its"
        " events",
    ),
    FindingKind.LOG_FILE_DELETED: Explanation(
        Severity.ERROR,
        "a signed digest lists the log file, and the bucket does not hold it",
        "look for a delete in the bucket's access log; where versioning is on, restore the object",
    ),
    FindingKind.LOG_FILE_NOT_IN_DIGEST: Explanation(
        Severity.WARNING,
        "digests cover the hour, and none lists the log file: perhaps CloudTrail did not write it",
        "compare its events with CloudTrail's event history; find who wrote the object",
    ),
    FindingKind.DIGEST_ALTERED: Explanation(
        Severity.ERROR,
        "the digest's signature does not fit its bytes",
        "find who wrote the digest; nothing that it says can be used",
    ),
    FindingKind.DIGEST_MOVED: Explanation(
        Severity.ERROR,
        "the digest names another bucket or key than its own",
        "find who copied the digest; give `verify` the bucket that CloudTrail delivered to",
    ),
    FindingKind.DIGESTS_ELSEWHERE: Explanation(
        Severity.WARNING,
        "all digests name one other bucket or prefix than the one where they are read, as they do"
        " in a replica, through an alias, and in a folder of another name: log files are compared"
        " with their hashes, and nothing is proved",
        "compare the place with S3BucketName and S3KeyPrefix of `aws cloudtrail describe-trails`,"
        " then name it as the trail's `delivered_to`",
    ),
    FindingKind.DIGEST_UNSIGNED: Explanation(
        Severity.NOTE,
        "the metadata was lost when the bucket was copied; the next digest holds the signature, so"
        " only the newest digest of a chain is not proved",
        "verify again when the next digest is there, or give the trail's `object_metadata` the"
        " digest's metadata",
    ),
    FindingKind.DIGEST_MISSING: Explanation(
        Severity.ERROR,
        "another digest names the digest before it, and the bucket does not hold that digest",
        "look for a delete in the bucket's access log; its hours cannot be proved without it",
    ),
    FindingKind.CHAIN_BROKEN: Explanation(
        Severity.ERROR,
        "a digest does not continue the digest before it",
        "log files between the two digests may have been removed together with their own digests",
    ),
    FindingKind.KEY_UNKNOWN: Explanation(
        Severity.WARNING,
        "the public key that the digest is signed with is not known",
        "allow cloudtrail:ListPublicKeys in the trail's region, or name `public_keys`",
    ),
    FindingKind.HOUR_NOT_COVERED: Explanation(
        Severity.NOTE,
        "no digest covers the hour yet: CloudTrail delivers digests hourly",
        "verify again in two hours; if the finding stays, look whether log file validation is on",
    ),
    FindingKind.LOG_FILE_MISSING: Explanation(
        Severity.WARNING,
        "the bucket holds the log file, and its records are not in the output",
        "the next sync fetches it",
    ),
    FindingKind.LOG_FILE_FAILED: Explanation(
        Severity.WARNING,
        "the log file could not be fetched",
        "see the reason; later syncs try again, and bring in what was deleted once it is back;"
        " settle what is lost for good with `ctrail accept`",
    ),
    FindingKind.LOG_FILE_DAMAGED: Explanation(
        Severity.WARNING,
        "the log file cannot be read in full, or none of its records became an event; what was"
        " readable is in quarantine",
        "see the reason; where bucket versioning is on, restore a sound version; settle what is"
        " lost for good with `ctrail accept`",
    ),
    FindingKind.LEFT_ASIDE: Explanation(
        Severity.WARNING,
        "the bucket holds objects that are no log files by their names, or lie where none is"
        " expected: they are not brought in",
        "look whether they hold events; give log files CloudTrail's names, in the folder of their"
        " account, kind, region and day",
    ),
    FindingKind.LOG_FILE_ARCHIVED: Explanation(
        Severity.WARNING,
        "the log file lies in Glacier, and cannot be read before it is restored",
        "restore it in S3; syncs look for it once a day",
    ),
    FindingKind.RECORDS_IN_QUARANTINE: Explanation(
        Severity.WARNING,
        "some records of the log file could not become events, and are in quarantine",
        "read the reasons in the quarantine folder; the records are kept there as they are",
    ),
    FindingKind.LOG_FILE_ACCEPTED: Explanation(
        Severity.NOTE,
        "the log file is not in the output, or not in full, and somebody has settled that",
        "nothing; another version of it is brought in; `ctrail accept --undo` has it tried again",
    ),
    FindingKind.OUTPUT_MISSING: Explanation(
        Severity.ERROR,
        "the ledger says that the file was written, and the file is not there",
        "restore the file from a backup; to remove output on purpose, use `ctrail prune`",
    ),
    FindingKind.OUTPUT_ALTERED: Explanation(
        Severity.ERROR,
        "the file's size, lines or bytes are not what was written",
        "restore the file from a backup",
    ),
    FindingKind.OUTPUT_FOREIGN: Explanation(
        Severity.ERROR,
        "the ledger does not know the file, and readers of the output take its lines for events",
        "find who put the file there, then move it out of the folder",
    ),
    FindingKind.NOT_IN_PARQUET: Explanation(
        Severity.WARNING,
        "`output_formats` names parquet, and events of the date came before it did: they are in the"
        " JSONL only",
        "run `ctrail parquet`",
    ),
}
