"""What the check of one folder of digests works with."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.core.threads import DaemonThreads

from .digest_result import DigestResult
from .digest_setup import SetupFaults


@dataclass(frozen=True)
class DigestTask:
    """A folder of digests, where objects and rows are read, and where findings go.

    The folder holds the digests of one account and region, for log files of all kinds.
    """

    trail: Trail
    bucket: Bucket
    selected: Collection[SourcePrefix]
    """The source prefixes of the account and region, one for each kind that is selected."""
    present: Collection[SourcePrefix]
    """Those of them that have log files, or had some."""
    source_ids: dict[SourcePrefix, int]
    """The ids of the source prefixes that the ledger knows."""
    ledger: Ledger
    horizon_days: int
    max_bytes: int
    """Upper limit of the uncompressed bytes of a log file."""
    threads: DaemonThreads
    report: Callable[[Problem], None]
    setup: SetupFaults
    result: DigestResult

    @property
    def any_prefix(self) -> SourcePrefix:
        """One of the source prefixes: they share account, region and the folder of digests."""
        return next(iter(self.selected))

    def report_problem(self, where: str, state: str, reason: str) -> None:
        """Report something that could not be read."""
        self.report(Problem(self.trail.name, where, state, reason))
