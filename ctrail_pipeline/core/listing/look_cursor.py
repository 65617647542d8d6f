"""The sensor's cursor: where the last look at the buckets stopped, and whose turn is next. Pure.

A look has little time, so it goes through the source prefixes in turn, over several ticks.
A cursor that is lost costs time only: the ledger decides what is fetched. Not here: the look itself
(`look`), and how often idle source prefixes have their turn (`look_frequency`).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Self

from .sources import Source


@dataclass(frozen=True)
class LookCursor:
    """Where the last look stopped. A cursor that is lost or wrong costs time only."""

    round: int = 0
    """How many times all source prefixes have been gone through."""
    after: str = ""
    """The source prefix that was looked at last in this round, as `source_name` has it."""
    discovered: dict[str, float] = field(default_factory=dict)
    """When each trail was last asked for its accounts and regions (seconds since 1970)."""
    kinds_discovered: dict[str, float] = field(default_factory=dict)
    """When all accounts of each trail were last asked for their kinds (seconds since 1970)."""

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """The cursor that `dump` wrote; for anything else, a fresh start."""
        try:
            value = json.loads(text or "{}")
            discovered, kinds_discovered = (
                {str(name): float(at) for name, at in value.get(key, {}).items()}
                for key in ("discovered", "kinds_discovered")
            )
            round_ = max(0, int(value["round"]))
            return cls(round_, str(value["after"]), discovered, kinds_discovered)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()

    def dump(self) -> str:
        """The cursor as text."""
        return json.dumps(asdict(self))

    def moved_to(self, name: str) -> Self:
        """The cursor behind a source prefix. A name that is not greater begins a new round."""
        return replace(self, round=self.round + (name <= self.after), after=name)


def source_name(source: Source) -> str:
    """The name that a cursor knows a source prefix by, and that orders them."""
    return f"{source.trail}: {source.source_prefix.folder}"


def in_turn(names: Sequence[str], after: str) -> list[str]:
    """All names in their order, beginning behind `after`, once around."""
    ordered = sorted(names)
    return [name for name in ordered if name > after] + [name for name in ordered if name <= after]
