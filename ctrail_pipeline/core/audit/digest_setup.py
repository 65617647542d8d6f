"""What is wrong with the set-up of a trail for all digests of a chain: one finding for each fault.

An alias, a replica or a folder of another name makes every digest name another place than the one
where it is read. A copy without metadata lacks every signature. Neither says that somebody altered
something. The finding names the trail's key that mends the set-up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ctrail_pipeline.core.listing.delivery import Delivery

from .digest_chain import ChainFinding
from .findings import Finding, FindingKind


@dataclass
class _Shared:
    """Digests that share a fault."""

    first: ChainFinding
    digests: int = 0


@dataclass
class SetupFaults:
    """Collects faults of the set-up of one trail."""

    trail: str
    here: Delivery
    """Where the trail reads."""
    _elsewhere: dict[Delivery, _Shared] = field(default_factory=dict)
    _unsigned: _Shared | None = None

    def note_elsewhere(self, delivery: Delivery, digests: Sequence[ChainFinding]) -> None:
        """Note digests that all name another delivery than the configuration does."""
        if digests:
            self._elsewhere.setdefault(delivery, _Shared(digests[0])).digests += len(digests)

    def note_unsigned(self, digests: Sequence[ChainFinding]) -> None:
        """Note digests that nobody holds a signature of, in a chain without signatures."""
        if digests:
            self._unsigned = self._unsigned or _Shared(digests[0])
            self._unsigned.digests += len(digests)

    def findings(self) -> Iterator[Finding]:
        """Yield a finding for each fault."""
        for delivery, shared in sorted(self._elsewhere.items()):
            place = f"s3://{'/'.join(filter(None, delivery))}"
            detail = (
                f"{shared.digests:,} digests, such as this one, say that CloudTrail delivered them"
                f' to {place}; if that is right, "delivered_to":'
                f' "{delivery.setting(self.here)}" in trail {self.trail!r} lets them prove'
            )
            yield self._finding(FindingKind.DIGESTS_ELSEWHERE, shared, detail)
        if self._unsigned is not None:
            detail = (
                f"{self._unsigned.digests:,} digests, such as this one, have no signature in their"
                " metadata, and no newer digest holds it"
            )
            yield self._finding(FindingKind.DIGEST_UNSIGNED, self._unsigned, detail)

    def _finding(self, kind: FindingKind, shared: _Shared, detail: str) -> Finding:
        where = f"s3://{shared.first.bucket}/{shared.first.key}"
        return Finding(kind, where, detail, self.trail)
