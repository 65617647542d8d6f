"""Keeps the memory of large log files bounded: what is let go of goes back to the system.

glibc takes buffers over a threshold from the system one by one, and gives them back; but each one
given back raises the threshold to its size, up to 32 MB. From then on the texts of log files come
from the heaps of the threads that fetch them, which keep what was freed, each for itself: eight
times what was in use. A threshold that is set stays where it is (mallopt(3), M_MMAP_THRESHOLD).

Measured on 46 log files of 22 MB: 557 -> 190 MB in one process, 825 -> 312 MB in all with two
workers, and a tenth to a fifth less CPU; small log files are under the threshold anyway.
"""

import os
import sys
from functools import cache
from typing import Final

_M_MMAP_THRESHOLD: Final = -3
_THRESHOLD: Final = 1024 * 1024
"""Bytes. Four times less or more made no difference."""


@cache
def give_back_large_buffers() -> None:
    """Set the threshold for this process, once; where there is no glibc, do nothing.

    A user's MALLOC_MMAP_THRESHOLD_ stays as it is.
    """
    if sys.platform != "linux" or "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return
    import ctypes  # 2 ms, paid only here

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD)
