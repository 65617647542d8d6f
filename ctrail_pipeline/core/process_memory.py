"""Two settings of a process: freed memory goes back to the system, and cycles are searched rarely.

glibc takes buffers over a threshold from the system one by one, and gives them back one by one. But
each buffer that is given back raises the threshold to its size, up to 32 MB. From then on the texts
of log files come from the heaps of the threads that fetch them. Each heap keeps its freed memory
for itself: eight times what was in use. A threshold that is set stays where it is (mallopt(3),
M_MMAP_THRESHOLD).

Measured on 46 log files of 22 MB: 557 -> 190 MB in one process, 825 -> 312 MB in all with two
workers, and a tenth to a fifth less CPU. Small log files are under the threshold anyway.

Python searches all young objects for cycles after 700 allocations. A batch has a hundred thousand
objects, none of them in a cycle. Cycles arise where something fails (an exception and its
traceback); to search after 20,000 allocations is often enough for these. Measured on many small log
files: 4 to 8 % of the CPU.
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_THRESHOLD: Final = 1024 * 1024
"""Bytes. Values four times smaller or larger made no difference."""
_ALLOCATIONS: Final = 20_000
"""Objects made less objects freed between two searches for cycles."""


@cache
def give_back_large_buffers() -> None:
    """Set the threshold for this process, once. Without glibc, do nothing.

    A user's MALLOC_MMAP_THRESHOLD_ stays as it is.
    """
    if sys.platform != "linux" or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    import ctypes  # takes 2 ms, which only this function needs

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Search for cycles less often in this process until the end of the `with` block."""
    before = gc.get_threshold()
    if 0 < before[0] < _ALLOCATIONS:  # 0: the search is switched off
        gc.set_threshold(_ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
