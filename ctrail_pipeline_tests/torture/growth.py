"""Does a quantity grow? The verdict is over the second half of its samples.

Every run grows at its beginning: modules are loaded, caches fill, the ledger's first pages are
taken. The first half leaves time for that. A quantity that still rises afterwards would go on
rising.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

Points = Sequence[tuple[float, float]]
"""Pairs of seconds (or of another base that a quantity grows by) and the quantity."""

_MOST_POINTS = 400
"""Upper limit of points whose slopes are taken. Of more points every second, third and so on
counts."""


@dataclass(frozen=True)
class Growth:
    """How a quantity grew in the second half, and whether that is allowed."""

    quantity: str
    unit: str
    median: float
    grown: float
    """Growth from the middle to the end, along the slope."""
    allowed: float
    a_day: float
    """Growth in a day at the same slope."""

    @property
    def is_bounded(self) -> bool:
        """Whether the quantity grew by no more than is allowed."""
        return self.grown <= self.allowed

    def __str__(self) -> str:
        """The verdict as a line for people."""
        verdict = "bounded" if self.is_bounded else "GROWS"
        return (
            f"{verdict}: {self.quantity}: about {self.median:,.4g} {self.unit},"
            f" {self.grown:+,.3g} in the second half ({self.allowed:,.3g} allowed)"
        )


def slope_of(points: Points) -> float:
    """The median of the slopes between all pairs (Theil and Sen), which ignores single peaks.

    >>> slope_of([(0, 5), (1, 7), (2, 900), (3, 11)])
    2.0
    """
    points = points[:: len(points) // _MOST_POINTS + 1]
    slopes = [
        (y - x) / (at - since) for (since, x), (at, y) in combinations(points, 2) if at > since
    ]
    return median(slopes) if slopes else 0.0


def floor_of(points: Points, seconds: float) -> Points:
    """The least value of each so many seconds: the level between rounds, without peaks in rounds.

    >>> floor_of([(0, 5), (3, 9), (6, 5), (11, 6), (14, 8)], 10)
    [(0, 5), (10, 6)]
    """
    least: dict[float, float] = {}
    for at, value in points:
        start = at // seconds * seconds
        least[start] = min(value, least.get(start, value))
    return list(least.items())


def second_half(points: Points) -> Points:
    """The points behind the middle of the time."""
    middle = (points[0][0] + points[-1][0]) / 2
    return [point for point in points if point[0] >= middle]


def judge(quantity: str, unit: str, points: Points, *, share: float, least: float) -> Growth:
    """Judge the second half, which may grow by a share of its median or by `least`."""
    half = second_half(points)
    slope, middle = slope_of(half), median(value for _, value in half)
    grown = slope * (half[-1][0] - half[0][0])
    return Growth(quantity, unit, middle, grown, max(least, share * abs(middle)), slope * 86_400)


def judge_rate(quantity: str, unit: str, points: Points, *, factor: float) -> Growth:
    """Judge whether the rate of a quantity by its base is higher than in the first half.

    `grown` of the result is the change of that rate.
    """
    first, middle, last = points[0], second_half(points)[0], points[-1]
    before, after = _rate(first, middle), _rate(middle, last)
    return Growth(quantity, unit, after, after - before, (factor - 1) * before, 0.0)


def _rate(first: tuple[float, float], last: tuple[float, float]) -> float:
    return (last[1] - first[1]) / (last[0] - first[0])
