"""How many files and connections this process may have open, and raising that limit.

macOS starts programs with a soft limit of 256. A process may raise it up to its hard limit by
itself (setrlimit(2)).
"""

import resource
from contextlib import suppress
from functools import cache
from typing import Final

_ENOUGH: Final = 65_536
_ENOUGH_ON_MACOS: Final = 10_240
"""OPEN_MAX of macOS, which refuses more although it calls the hard limit unlimited."""
_SHARE_OF_A_CLIENT: Final = 4
"""A process has two clients of many connections: one for LIST, one for GET. Half of the limit is
left to output files, the ledger and all else."""
_LEAST_CONNECTIONS: Final = 4


def connections_of_a_client() -> int:
    """Upper limit of the connections that one client makes and keeps."""
    return max(_LEAST_CONNECTIONS, open_file_limit() // _SHARE_OF_A_CLIENT)


@cache
def open_file_limit() -> int:
    """Raise the soft limit as far as is of use, once in a process; return what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (_ENOUGH, _ENOUGH_ON_MACOS):
        wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            break
        with suppress(OSError, ValueError):  # refused: then the limit stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return _ENOUGH if soft == resource.RLIM_INFINITY else soft
