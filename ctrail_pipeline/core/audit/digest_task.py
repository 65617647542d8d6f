"""What the check of one source prefix's digests works with."""

from collections.abc import Callable
from dataclasses import dataclass

from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.listing.found_prefixes import FoundPrefix
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.threads import DaemonThreads

from .digest_result import DigestResult


@dataclass(frozen=True)
class DigestTask:
    """One source prefix, where its objects and rows are read, and where findings go."""

    found: FoundPrefix
    ledger: Ledger
    source_id: int
    """The id of the source prefix in the ledger; 0 if the ledger does not know it."""
    horizon_days: int
    max_bytes: int
    """Upper limit of the uncompressed bytes of a log file."""
    threads: DaemonThreads
    report: Callable[[Problem], None]
    result: DigestResult

    @property
    def source_prefix(self) -> SourcePrefix:
        """The source prefix that is checked."""
        return self.found.source_prefix

    def report_problem(self, where: str, state: str, reason: str) -> None:
        """Report something that could not be read."""
        self.report(Problem(self.found.trail.name, where, state, reason))
