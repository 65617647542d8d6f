"""Files that vanished before they were published, and could not be made again so far.

Every report names them in the same words: a sync, `ctrail status` and `ctrail verify`. Their batch
stays committed, so each run tries to make them again (`restage`).
"""

from dataclasses import dataclass
from typing import Final

from ctrail_pipeline.core.keys.log_file_key import address_of
from ctrail_pipeline.core.ledger import queries_restage
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_lineage import batch_origin
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.untrusted_text import printable

_NAMED: Final = 3


@dataclass(frozen=True)
class LostFile:
    """A file that is lost."""

    batch: int
    part: int
    address: str
    """What its name would be."""
    lines: int
    log_files: tuple[str, ...]
    """Addresses of the log files that its lines came from, in order; none for Parquet."""

    @property
    def detail(self) -> str:
        """What happened, and what to do."""
        named = ", ".join(self.log_files[:_NAMED]) or "the log files of its batch"
        more = len(self.log_files) - _NAMED
        return (
            f"its {self.lines} lines vanished before they were published, and could not be made"
            f" again. They came from {named}{f' and {more} more' if more > 0 else ''}: put back"
            " there what was there, then run `ctrail sync`. If that is gone for good, make a new"
            " ledger with `ctrail rebuild --force`: it forgets these lines"
        )

    def __str__(self) -> str:
        """As a sentence."""
        return f"{self.address}: {self.detail}"


def lost_files(ledger: Ledger, output: Output) -> list[LostFile]:
    """Return the files that are lost."""
    found = queries_restage.lost_files(ledger)
    if not found:
        return []  # nearly always
    prefixes = {id_: prefix for prefix, id_ in source_ids(ledger).items()}
    batches = {run.batch for lost in found for run in lost.line_runs}
    origins = {batch: batch_origin(ledger, batch).log_files for batch in batches}
    lost_files = []
    for lost in found:
        log_files = dict.fromkeys(
            origins[run.batch][run.position]
            for run in lost.line_runs
            if run.position in origins[run.batch]
        )
        addresses = (
            printable(address_of(prefixes[log_file.source_id], log_file.day, log_file.name))
            for log_file in log_files
        )
        lost_files.append(
            LostFile(
                lost.batch,
                lost.file.part,
                output.address_of(lost.file),
                lost.lines,
                tuple(addresses),
            )
        )
    return lost_files
