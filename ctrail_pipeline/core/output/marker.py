"""The marker of an output: which ledger the output belongs to, and how new that ledger is.

The marker notes the ledger's uuid and generation. A ledger that is missing, older than the output,
or another output's would write every event a second time: `core.matching_ledger` refuses it. How a
marker is kept is the output's business (`interface`).
"""

from typing import Final

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.output_files import Kind

from .interface import Marker, Output

MARKER: Final = ".ctrail"
"""The name that a marker has in its root."""


def write_marker(output: Output, kind: Kind, ledger: str, generation: int) -> None:
    """Note a ledger's uuid and generation in a root, atomically.

    A newer generation that another run noted meanwhile stays. Raises LedgerError if the root
    belongs to another ledger by now.
    """
    while True:
        seen = check_owner(output, kind, ledger)
        if seen is not None and seen.generation >= generation:
            return
        if output.replace_marker(kind, Marker(ledger, generation), seen):
            return


def check_owner(output: Output, kind: Kind, ledger: str) -> Marker | None:
    """Check that a root belongs to a ledger, or to none yet; return its marker.

    Raises LedgerError if the root belongs to another ledger by now, or its marker is damaged.
    """
    present = output.read_marker(kind)
    if present is not None and present.ledger != ledger:
        raise LedgerError(f"{output.location(kind)} now belongs to another ledger: run again")
    return present


def replace_marker(output: Output, kind: Kind, ledger: str, generation: int) -> None:
    """Note in a root that it belongs to a ledger, whatever its marker said before."""
    marker = Marker(ledger, generation)
    while not output.replace_marker(kind, marker, output.read_marker(kind)):
        pass
