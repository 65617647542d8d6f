"""Which worker does which log files: pieces of key time, the same for copies in several trails.

Pure. Copies of an event lie in log files of one account and region with nearly the same key time,
so pieces are cut along fixed times and remembered: their worker finds the copies itself. Where two
workers have them after all, the commit finds it and one does its batch again (DESIGN §5), so none
of this matters for what is right, only for how fast. A heavy account is spread over all workers.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from ctrail_pipeline.core.batch.cost import cost_of
from ctrail_pipeline.core.listing.sources import LogFileRef

PIECE_COST: Final = 400
"""The cost of a piece, about: a batch's worth of small log files."""
_GRIDS: Final = (1440, 720, 360, 180, 60, 30, 15, 5, 1)
"""Minutes that pieces may span."""
_REMEMBERED: Final = 10_000


class Piece(NamedTuple):
    """Log files that one worker should do."""

    key: tuple[str, str, int, int, int, int]
    """Account, region, day, minutes spanned, which of such spans (-1 where keys have no time), and
    which part of it."""
    refs: list[LogFileRef]
    cost: int


def pieces(refs: Sequence[LogFileRef]) -> Iterator[Piece]:
    """Cut log files, listed in the order of their keys, into pieces."""
    for (place, day), some in groupby(refs, key=lambda ref: (ref.source.source_prefix, ref.day)):
        of_day = list(some)
        grid = _grid(of_day)
        for span, in_span in groupby(of_day, key=lambda ref: _minute(ref) // grid):
            for number, part in enumerate(_parts(in_span)):
                key = (place.account, place.region, day, grid, span, number)
                yield Piece(key, part, sum(map(cost_of, part)))


class Affinity:
    """Remembers which worker (a number) got a piece of which key."""

    def __init__(self) -> None:
        self._workers: OrderedDict[tuple[str, str, int, int, int, int], int] = OrderedDict()

    def choose(self, piece: Piece, loads: dict[int, int]) -> int:
        """The worker for a piece, by the load of each: the one of its copies, else the idlest."""
        idlest = min(loads, key=loads.__getitem__)
        before = self._workers.get(piece.key)
        if before in loads and loads[before] <= 2 * loads[idlest] + PIECE_COST:
            return before
        self._workers[piece.key] = idlest
        if len(self._workers) > _REMEMBERED:
            self._workers.popitem(last=False)
        return idlest


def _grid(refs: Sequence[LogFileRef]) -> int:
    """Minutes that hold about a piece's worth of these log files."""
    minutes = abs(_minute(refs[-1]) - _minute(refs[0])) + 1
    cost = sum(map(cost_of, refs))
    if cost <= PIECE_COST:
        return _GRIDS[0]
    fitting = (grid for grid in _GRIDS if grid * cost <= PIECE_COST * minutes)
    return next(fitting, _GRIDS[-1])


def _minute(ref: LogFileRef) -> int:
    """Minute of the day in a name by the book."""
    return -1 if ref.name.startswith("/") else int(ref.name[:2]) * 60 + int(ref.name[2:4])


def _parts(refs: Iterable[LogFileRef]) -> Iterator[list[LogFileRef]]:
    """However many lie in one span, a part is at most about a piece."""
    part: list[LogFileRef] = []
    cost = 0
    for ref in refs:
        part.append(ref)
        cost += cost_of(ref)
        if cost >= PIECE_COST:
            yield part
            part, cost = [], 0
    if part:
        yield part
