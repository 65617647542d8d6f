"""Taking acceptances into a new ledger: a file beside the quarantine says which there were.

An acceptance counts for its log file once a sync has found the log file as it was accepted.
"""

from ctrail_pipeline.core.ledger.accepted import acceptances, put_acceptances, take_back
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.source_prefixes import register_sources
from ctrail_pipeline.core.output.interface import Output

from .accepted_file import ACCEPTED_FILE, read_decisions
from .rebuild_result import Rebuilt


def take_acceptances(ledger: Ledger, output: Output, result: Rebuilt) -> None:
    """Take the acceptances that nobody took back into a new ledger, and count them.

    A line that is not as it was written is noted as a problem, and counts for nothing. So does a
    link in place of the file, which this program never makes.
    """
    path = output.address_of(ACCEPTED_FILE)
    entry = output.entry(ACCEPTED_FILE)
    if entry is None:
        return
    if not entry.is_file:
        result.note(f"{path}: a link, which this program never makes; it is left alone")
        return
    source_prefixes = {decided.source_prefix for decided in read_decisions(output) if decided}
    ids = register_sources(ledger, list(source_prefixes))
    with ledger.transaction():
        for number, decided in enumerate(read_decisions(output), 1):
            if decided is None:
                result.note(f"{path}:{number}: not as it was written")
                continue
            acceptance = decided.acceptance._replace(source_id=ids[decided.source_prefix])
            if decided.decision == "accepted":
                put_acceptances(ledger, [acceptance])
            else:
                take_back(ledger, [acceptance])
    result.accepted = sum(1 for _ in acceptances(ledger))
