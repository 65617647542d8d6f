"""What the core needs to know of a configuration: values only, already validated.

Reading and checking the configuration file is `ctrail_pipeline.config.file`'s work; the core takes
these values from whoever calls it (a Dagster op, a test) and never reads a file or environment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

DOWNLOADS_A_PROCESS: Final = 100
"""GETs that hide 30 ms of latency from a process that takes 0.4 ms for a log file. Measured: 50
in two processes made a sync 2.3 times as long as without latency, 160 1.4 times, 240 no better."""

_LEAST_STORED: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class Trail:
    """A configured source: where one trail delivers its log files."""

    name: str
    bucket: str
    """A bucket name, or a `file://` URL of a folder that holds a bucket's tree."""
    prefix: str = ""
    """What stands before `AWSLogs/` in the keys, without slashes at its ends."""
    region: str | None = None
    """The bucket's region; None asks S3 (or uses the environment's where `endpoint_url` is set)."""
    endpoint_url: str | None = None
    """An S3 endpoint other than AWS's own."""
    profile: str | None = None
    """A profile of the AWS configuration files; None: what boto3's default chain finds."""
    role_arn: str | None = None
    """A role to assume for this trail, with whatever credentials there are."""
    external_id: str | None = None
    """What the role's trust policy may ask for."""
    session_name: str | None = None
    """The name of the role's session; None: "ctrail"."""
    requester_pays: bool = False
    """Whether to agree to pay for requests, which some buckets ask of other accounts."""
    kms_key_id: str | None = None
    """The key that log files are encrypted with, as far as it is known: named when it is denied."""
    home_region: str | None = None
    """Where the trail is managed. This and the next two are kept as CloudTrail describes them."""
    log_file_validation: bool | None = None
    """Whether digests are written: false, and none are looked at; None: not known, look."""
    is_organization: bool | None = None
    public_keys: Path | None = None
    """A file with a reply of ListPublicKeys (JSON); None: the ledger's keys, and CloudTrail."""
    object_metadata: Path | None = None
    """A file with digests' user metadata by `bucket/key` (JSON), which a local folder cannot hold;
    None: what the bucket says."""
    accounts: Sequence[str] = ()
    """Accounts to bring in; `*` and `?` are wildcards. Empty: all. So are the next three."""
    exclude_accounts: Sequence[str] = ()
    regions: Sequence[str] = ()
    exclude_regions: Sequence[str] = ()


@dataclass(frozen=True)
class Settings:
    """Everything a sync is told; the defaults are those of the configuration file."""

    trails: tuple[Trail, ...]
    events_dir: Path
    quarantine_dir: Path
    state_db: Path
    output_formats: Sequence[str] = ("jsonl",)
    """`jsonl`, which is always written, and `parquet` beside it (`core.parquet`)."""
    parquet_dir: Path | None = None
    """Folder of the Parquet files; None: `parquet` beside `events_dir`."""
    events_per_file: int = 10_000
    list_batch_size: int = 1_000
    download_workers: int = 0
    """GETs in flight, over all processes; 0: as many for each process as hide the latency."""
    process_workers: int = 0
    """Processes that split, compare and write; 0: one for each CPU, 1: none but the run's own."""
    start: datetime | None = None
    """Log files whose key time is at or after this (UTC); None: from the first on."""
    end: datetime | None = None
    """Log files whose key time is before this plus one hour (UTC); None: up to now."""
    since_seconds: float | None = None
    """Instead of `start`: so far back from the moment at which a run begins."""
    accounts: Sequence[str] = ()
    """As of a trail, for all trails: what both choose is brought in."""
    exclude_accounts: Sequence[str] = ()
    regions: Sequence[str] = ()
    exclude_regions: Sequence[str] = ()
    lookback_hours: int = 24
    horizon_days: int = 35
    max_log_file_bytes: int = 256 * 1024 * 1024
    """Decompressed; a larger log file is damaged (a gzip bomb costs no more than this)."""
    max_hours_per_log_file: int = 1_000
    """Output partitions that one log file may touch; records beyond them are quarantined, as
    "scattered"."""
    max_scattered_hours: int = 10_000
    """New output partitions that log files of more than 24 hours may make together, in one run and
    process; the same of records beyond them."""
    hash_log_files: bool = True
    """Whether the SHA-256 of each log file's uncompressed bytes is taken and kept, so that digests
    can be validated without reading log files again. Measured: 9 % of a sync's CPU on large log
    files, lost in the noise on small ones."""
    batch_log_files: int = 400
    """Log files of one commit at most. Measured: see DESIGN, 400 is where throughput levels off."""
    batch_bytes: int = 32 * 1024 * 1024
    """Decompressed bytes of one commit at most (one larger log file makes a batch of its own). A
    record counts as 640 bytes or more, which is known once its log file is taken in."""
    bloom_false_positive: float = 0.001
    state_save_interval: float = 300
    """Seconds after which what is done is committed at the latest, with the cursor."""
    jsonl_flush_interval: float = 30
    """Seconds after which events in hand are committed, even if the batch is not full."""
    progress_interval: float = 10
    """Seconds between two progress reports."""
    connect_timeout: float = 10
    client_timeout: float = 60
    """Seconds a request may take in all before it is tried again."""

    @property
    def max_stored_bytes(self) -> int:
        """Of an object that is read; a larger one is damaged, as what it holds would be too large.

        Gzip makes JSON five to nine times smaller (FACTS), and the body is held in memory.
        """
        return max(_LEAST_STORED, self.max_log_file_bytes // 4)

    def downloads_of(self, processes: int) -> int:
        """GETs in flight for each of so many processes."""
        return -(-self.download_workers // processes) or DOWNLOADS_A_PROCESS
