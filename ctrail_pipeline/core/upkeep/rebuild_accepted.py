"""Taking acceptances into a new ledger: a file beside the quarantine says which there were.

An acceptance counts for its log file once a sync has found the log file as it was accepted.
"""

from pathlib import Path

from ctrail_pipeline.core.ledger.accepted import acceptances, put_acceptances, take_back
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.source_prefixes import register_sources

from .accepted_file import ACCEPTED_FILE, read_decisions
from .rebuild_result import Rebuilt


def take_acceptances(ledger: Ledger, quarantine_dir: Path, result: Rebuilt) -> None:
    """Take the acceptances that nobody took back into a new ledger, and count them.

    A line that is not as it was written is noted as a problem, and counts for nothing. So does a
    link in place of the file, which this program never makes.
    """
    path = quarantine_dir / ACCEPTED_FILE
    if path.is_symlink():
        result.note(f"{path}: a link, which this program never makes; it is left alone")
        return
    if not path.exists():
        return
    source_prefixes = {decided.source_prefix for decided in read_decisions(path) if decided}
    ids = register_sources(ledger, list(source_prefixes))
    with ledger.transaction():
        for number, decided in enumerate(read_decisions(path), 1):
            if decided is None:
                result.note(f"{path}:{number}: not as it was written")
                continue
            acceptance = decided.acceptance._replace(source_id=ids[decided.source_prefix])
            if decided.decision == "accepted":
                put_acceptances(ledger, [acceptance])
            else:
                take_back(ledger, [acceptance])
    result.accepted = sum(1 for _ in acceptances(ledger))
