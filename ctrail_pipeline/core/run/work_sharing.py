"""Which worker does which log files: pieces of key time, the same for copies in several trails.

Pure. Copies of an event lie in log files of one account and region with nearly the same key time.
So pieces are cut along fixed times, and the worker of each piece is remembered: it finds the copies
itself. If two workers have copies after all, the commit notices, and one worker does its batch
again (docs/architecture.md, The commit protocol). So this matters only for speed, never for what
is right. A heavy account is spread over all workers.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from ctrail_pipeline.core.batch.cost import cost_of
from ctrail_pipeline.core.listing.sources import LogFileRef

PIECE_COST: Final = 400
"""About the cost of a piece: as many small log files as a batch takes."""
_GRIDS: Final = (1440, 720, 360, 180, 60, 30, 15, 5, 1)
"""Minutes that pieces may span."""
_REMEMBERED: Final = 10_000
"""Pieces whose worker is remembered."""


class Piece(NamedTuple):
    """Log files that one worker should do."""

    key: tuple[str, str, int, int, int, int]
    """Account, region, day, minutes of a span, number of the span (-1 where keys have no time),
    and number of the part in the span."""
    refs: list[LogFileRef]
    cost: int


def pieces(refs: Sequence[LogFileRef]) -> Iterator[Piece]:
    """Cut log files, listed in the order of their keys, into pieces."""
    for (source_prefix, day), group in groupby(
        refs, key=lambda ref: (ref.source.source_prefix, ref.day)
    ):
        of_day = list(group)
        grid = _grid(of_day)
        for span, in_span in groupby(of_day, key=lambda ref: _minute(ref) // grid):
            for number, part in enumerate(_parts(in_span)):
                key = (source_prefix.account, source_prefix.region, day, grid, span, number)
                yield Piece(key, part, sum(map(cost_of, part)))


class Affinity:
    """Remembers which worker (a number) got a piece of which key."""

    def __init__(self) -> None:
        self._workers: OrderedDict[tuple[str, str, int, int, int, int], int] = OrderedDict()

    def choose(self, piece: Piece, loads: dict[int, int]) -> int:
        """Choose the worker for a piece, by the load of each worker.

        It is the worker that got the copies, unless that has far more to do than the idlest.
        """
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
    """The minute of the day in a log file's name; -1 if the name has no time."""
    return -1 if ref.name.startswith("/") else int(ref.name[:2]) * 60 + int(ref.name[2:4])


def _parts(refs: Iterable[LogFileRef]) -> Iterator[list[LogFileRef]]:
    """Cut the log files of one span into parts that cost about a piece each."""
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
