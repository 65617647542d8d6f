"""Which files of a folder a compaction merges, by their sizes alone.

Pure decisions. How JSONL is merged belongs to `jsonl_merging`, how Parquet is to `parquet_merging`.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

MOST_TIMES_LARGER: Final = 4
"""A large file is copied once more only if the other files have at least a quarter of its size.
Otherwise a late line would cost a copy of the whole hour each day."""


class Limits(NamedTuple):
    """Sizes of files, in lines (JSONL) or bytes (Parquet)."""

    full: int
    """The most that a merged file holds; a file that holds so much is left alone."""
    small: int
    """The size up to which a file is copied whatever the other files hold."""


def files_to_merge(sizes: Sequence[int], limits: Limits) -> list[int]:
    """Return the indexes of the files of a folder that become fewer, in order.

    They are as many as possible, the smaller ones first; none if merging is not worth it.

    >>> files_to_merge([10, 90_000, 10, 100_000], Limits(100_000, 1_000))
    [0, 2]
    >>> files_to_merge([90_000, 10], Limits(100_000, 1_000))
    []
    """
    candidates = sorted((size, at) for at, size in enumerate(sizes) if size < limits.full)
    while len(candidates) > 1:
        largest = candidates[-1][0]
        others = sum(size for size, _ in candidates) - largest
        files = -(-(largest + others) // limits.full)
        if files < len(candidates) and largest <= max(MOST_TIMES_LARGER * others, limits.small):
            return sorted(at for _, at in candidates)
        candidates.pop()
    return []


def groups_of(sizes: Sequence[int], full: int) -> list[list[int]]:
    """Return neighbouring files, by index, as groups of two or more that hold `full` at most.

    >>> groups_of([60, 40, 90, 50], 100)
    [[0, 1]]
    """
    groups: list[list[int]] = [[]]
    room = full
    for at, size in enumerate(sizes):
        if size > room:
            groups.append([])
            room = full
        groups[-1].append(at)
        room -= size
    return [group for group in groups if len(group) > 1]
