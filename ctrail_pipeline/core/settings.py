"""What the core needs to know of a configuration: values only, checked already.

`ctrail_pipeline.config.file` reads and checks the configuration file. The core gets these values
from its caller (a Dagster op, a command, a test), and never reads a configuration or environment.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from .ledger_address import LedgerAddress, PostgresAddress
from .output_address import BucketAddress, OutputAddress

DOWNLOADS_A_PROCESS: Final = 100
"""GETs in flight for each process: enough to hide 30 ms of latency from a process that takes 0.4 ms
for a log file. Measured, compared with a sync without latency: 50 GETs in two processes took 2.3
times as long, 160 GETs 1.4 times, and 240 GETs were no better."""

_LEAST_STORED: Final = 64 * 1024 * 1024


class BucketAccess(Protocol):
    """How a bucket is asked: with which credentials, and where. A trail has one, and the output."""

    @property
    def bucket(self) -> str:
        """The bucket's name, or the ARN of an access point."""

    @property
    def region(self) -> str | None:
        """The bucket's region; None: it is learned."""

    @property
    def home_region(self) -> str | None:
        """The region to ask first if nothing else names one."""

    @property
    def endpoint_url(self) -> str | None:
        """An S3 endpoint other than AWS's own."""

    @property
    def profile(self) -> str | None:
        """A profile of the AWS configuration files; None: boto3's default chain decides."""

    @property
    def role_arn(self) -> str | None:
        """A role to assume, with the credentials that boto3 finds."""

    @property
    def external_id(self) -> str | None:
        """The external id that the role's trust policy may ask for."""

    @property
    def session_name(self) -> str | None:
        """The name of the role's session; None: "ctrail"."""

    @property
    def requester_pays(self) -> bool:
        """Whether to agree to pay for requests."""

    @property
    def kms_key(self) -> str:
        """How messages name the key that objects are encrypted with."""

    @property
    def title(self) -> str:
        """How messages name whose access this is."""

    def key(self, name: str) -> str:
        """Return how messages name a setting of this access."""
        ...


@dataclass(frozen=True)
class Trail:
    """A configured source: where a trail delivers its log files, and how they are read."""

    name: str
    bucket: str
    """A bucket name, or a `file://` URL of a folder that holds a bucket's tree."""
    prefix: str = ""
    """The part of the keys before `AWSLogs/`, as `core.keys.source_prefix.meant_prefix` has it; or
    as it is written, if the configuration says so."""
    region: str | None = None
    """The bucket's region; None: it is learned (`bucket.endpoint`, `bucket.current_endpoint`)."""
    endpoint_url: str | None = None
    """An S3 endpoint other than AWS's own."""
    profile: str | None = None
    """A profile of the AWS configuration files; None: boto3's default chain decides."""
    role_arn: str | None = None
    """A role to assume for this trail, with the credentials that boto3 finds."""
    external_id: str | None = None
    """The external id that the role's trust policy may ask for."""
    session_name: str | None = None
    """The name of the role's session; None: "ctrail"."""
    requester_pays: bool = False
    """Whether to agree to pay for requests, which some buckets ask of other accounts."""
    kms_key_id: str | None = None
    """The key that log files are encrypted with, if it is known: messages of denials name it."""
    home_region: str | None = None
    """The region where the trail is managed, as CloudTrail describes the trail. The bucket is asked
    there first if nothing else names a region."""
    log_file_validation: bool | None = None
    """Whether CloudTrail writes digests. False: no digest is looked for; None: not known, so
    digests are looked for."""
    is_organization: bool | None = None
    delivered_to: str | None = None
    """The bucket that digests name, if it is not the one that is read: an access point's alias, a
    replica, a folder of another name. `bucket` has the same prefix, `bucket/prefix` another one (as
    it is written), `bucket/` none. None: what is read is what CloudTrail delivered to."""
    public_keys: Path | None = None
    """A file with a reply of ListPublicKeys (JSON); None: the ledger's keys, and CloudTrail."""
    object_metadata: Path | None = None
    """A file with digests' user metadata by `bucket/key` (JSON), which a local folder cannot hold;
    None: the bucket's own metadata."""
    accounts: Sequence[str] = ()
    """Accounts to bring in; `*` and `?` are wildcards. Empty: all. The same holds for `regions`."""
    exclude_accounts: Sequence[str] = ()
    regions: Sequence[str] = ()
    exclude_regions: Sequence[str] = ()
    kinds: Sequence[str] = ()
    """Kinds to bring in, by the names of their folders. Empty: all."""
    queue: str | None = None
    """The URL of a queue of SQS that says what is new in the bucket; None: listing alone says."""
    written_prefix: str | None = None
    """The prefix as it is written, where `prefix` differs from it: looked at where nothing lies at
    `prefix`. None: there is no other place to look at."""

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes that log files of this trail may lie at, in the order of trying."""
        return (self.prefix,) if self.written_prefix is None else (self.prefix, self.written_prefix)

    @property
    def title(self) -> str:
        """How messages name the trail."""
        return f"trail {self.name!r}"

    @property
    def kms_key(self) -> str:
        """How messages name the key that log files are encrypted with."""
        return self.kms_key_id or "the trail's key"

    def key(self, name: str) -> str:
        """Return how messages name a setting of the trail."""
        return f"the trail's `{name}`"


@dataclass(frozen=True)
class OutputBucket:
    """The bucket that the output lies in, and how it is asked."""

    events: BucketAddress
    quarantine: BucketAddress
    parquet: BucketAddress
    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    session_name: str | None = None
    kms_key_id: str | None = None
    """The key of KMS that new objects are encrypted with; None: as the bucket's default says."""

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.events.bucket

    @property
    def home_region(self) -> None:
        """Nothing but `region` says where the bucket is."""

    @property
    def requester_pays(self) -> bool:
        """Whoever writes into a bucket owns it, or is a guest of its owner."""
        return False

    @property
    def title(self) -> str:
        """How messages name whose access this is."""
        return "the output's bucket"

    @property
    def kms_key(self) -> str:
        """How messages name the key that objects are encrypted with."""
        return self.kms_key_id or "the bucket's key"

    def key(self, name: str) -> str:
        """Return how messages name a setting of this access."""
        return "`events_dir`" if name == "bucket" else f"`output.{name}`"


@dataclass(frozen=True)
class Settings:
    """Everything that a sync is told. The defaults are those of the configuration file."""

    trails: tuple[Trail, ...]
    events_dir: Path
    """The folder of events, unless the output lies in a bucket. So with quarantine and Parquet."""
    quarantine_dir: Path
    state_db: Path
    """The ledger's file, unless the ledger is in PostgreSQL. Temporary files lie beside it."""
    postgres: PostgresAddress | None = None
    """The ledger's database, instead of a file."""
    output: OutputBucket | None = None
    """The bucket that the output lies in, instead of folders."""
    output_formats: Sequence[str] = ("jsonl",)
    """`jsonl`, which is always written, and `parquet` beside it (`core.output.parquet`)."""
    jsonl_compression: str = "none"
    """How new files of JSON Lines are compressed: `none`, `gzip` or `zstd`."""
    parquet_dir: Path | None = None
    """Folder of the Parquet files; None: `parquet` beside `events_dir`."""
    events_per_file: int = 10_000
    list_batch_size: int = 1_000
    download_workers: int = 0
    """GETs in flight, over all processes; 0: DOWNLOADS_A_PROCESS for each process."""
    process_workers: int = 0
    """Processes that split, compare and write; 0: one for each CPU, 1: only the run's process."""
    start: datetime | None = None
    """The earliest key time (UTC) of log files that are brought in; None: no limit."""
    end: datetime | None = None
    """Log files are brought in whose key time is before `end` plus one hour (UTC); None: all."""
    since_seconds: float | None = None
    """Instead of `start`: seconds back from the moment at which a run begins."""
    accounts: Sequence[str] = ()
    """Accounts to bring in of all trails, as in a trail. Both choices must hold."""
    exclude_accounts: Sequence[str] = ()
    regions: Sequence[str] = ()
    exclude_regions: Sequence[str] = ()
    kinds: Sequence[str] = ()
    """Kinds to bring in of all trails, as in a trail. Both choices must hold."""
    lookback_hours: int = 24
    horizon_days: int = 35
    listing_interval: float = 86_400
    """Seconds between two listings behind the cursor of a trail whose queue works. Over the whole
    horizon such a trail is listed seven times more rarely."""
    max_log_file_bytes: int = 256 * 1024 * 1024
    """Decompressed bytes. A larger log file counts as damaged, so a gzip bomb costs no more."""
    max_hours_per_log_file: int = 1_000
    """Output partitions that one log file may touch. Further records are quarantined as
    "scattered"."""
    max_scattered_hours: int = 10_000
    """New output partitions that log files of more than 24 hours may make together, in one run and
    process. Further records are quarantined as "scattered"."""
    hash_log_files: bool = True
    """Whether the SHA-256 of each log file's uncompressed bytes is taken and kept. Digests can then
    be checked without reading log files again. Measured: 9 % of a sync's CPU on large log files,
    not measurable on small log files."""
    batch_log_files: int = 400
    """Log files of one commit at most. Measured: throughput does not grow beyond 400."""
    batch_bytes: int = 32 * 1024 * 1024
    """Decompressed bytes of one commit at most; a larger log file is a batch of its own. A record
    counts as at least 640 bytes, which is known only when its log file is taken in."""
    bloom_false_positive: float = 0.001
    state_save_interval: float = 300
    """Seconds after which finished work is committed at the latest, with the cursor."""
    jsonl_flush_interval: float = 30
    """Seconds after which the events of a batch are committed, even if the batch is not full."""
    progress_interval: float = 10
    """Seconds between two progress reports."""
    connect_timeout: float = 10
    client_timeout: float = 60
    """Seconds that a whole request may take before it is tried again."""

    @property
    def events(self) -> OutputAddress:
        """Where events lie."""
        return self.output.events if self.output else self.events_dir

    @property
    def quarantine(self) -> OutputAddress:
        """Where quarantined records lie."""
        return self.output.quarantine if self.output else self.quarantine_dir

    @property
    def ledger(self) -> LedgerAddress:
        """Where the ledger is."""
        return self.postgres or self.state_db

    def with_ledger(self, address: LedgerAddress) -> "Settings":
        """Return the same settings with another ledger."""
        if isinstance(address, PostgresAddress):
            return replace(self, postgres=address)
        return replace(self, postgres=None, state_db=address)

    @property
    def max_stored_bytes(self) -> int:
        """Upper limit of an object's stored bytes. A larger object counts as damaged, unread.

        The body is held in memory. Gzip makes JSON five to nine times smaller, so the content of a
        larger object would exceed `max_log_file_bytes`.
        """
        return max(_LEAST_STORED, self.max_log_file_bytes // 4)

    def downloads_of(self, processes: int) -> int:
        """GETs in flight for each process, where there are `processes` of them."""
        return -(-self.download_workers // processes) or DOWNLOADS_A_PROCESS
