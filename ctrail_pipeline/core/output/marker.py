"""The file `.ctrail` in an output folder: which ledger the folder belongs to, and how new it is.

The marker notes the ledger's uuid and generation. A ledger that is missing, older than the folder,
or another folder's would write every event a second time: `core.matching_ledger` refuses it.
"""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.durable import disk_errors, fsync_folder, write_whole
from ctrail_pipeline.core.exceptions import LedgerError

MARKER: Final = ".ctrail"
_UNFINISHED_SECONDS: Final = 60
"""Age after which a marker that never got its name has no writer any more."""


def write_marker(name: str, generation: int, events_dir: Path) -> None:
    """Note a ledger's uuid and generation in the output folder, atomically.

    A newer generation that another run noted meanwhile stays. Raises LedgerError if the folder
    belongs to another ledger by now.
    """
    present = check_owner(name, events_dir)
    if present is None or present < generation:
        replace_marker(name, generation, events_dir)


def check_owner(name: str, events_dir: Path) -> int | None:
    """Check that an output folder belongs to a ledger, or to none yet; return its generation.

    Raises LedgerError if the folder belongs to another ledger by now, or its marker is damaged.
    """
    present = read_marker(events_dir)
    if present is None:
        return None
    if present[0] != name:
        raise LedgerError(f"{events_dir} now belongs to another ledger: run again")
    return present[1]


def replace_marker(name: str, generation: int, events_dir: Path) -> None:
    """Note in the output folder that it belongs to a ledger, whatever its marker said before."""
    content = json.dumps({"ledger": name, "generation": generation}) + "\n"
    with disk_errors(events_dir):
        write_whole(events_dir / MARKER, [content.encode()], replace=True)
        fsync_folder(events_dir)


def remove_unfinished_markers(events_dir: Path) -> None:
    """Remove markers whose writer died in the instant before they got their name."""
    for path in events_dir.glob(f"{MARKER}.*"):
        with disk_errors(path), suppress(FileNotFoundError):  # the marker may have got its name
            if time.time() - path.lstat().st_mtime > _UNFINISHED_SECONDS:
                path.unlink()


def read_marker(events_dir: Path) -> tuple[str, int] | None:
    """Return uuid and generation of the ledger that an output folder belongs to.

    Returns None for a folder that belongs to no ledger yet. Raises LedgerError if the marker cannot
    be read.
    """
    path = events_dir / MARKER
    try:
        content = json.loads(path.read_text())
        return str(content["ledger"]), int(content["generation"])
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise LedgerError(f"{events_dir} is no folder: name one in `events_dir`") from error
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"{path} is damaged. This file says which ledger the folder belongs to. If {events_dir}"
            " is this ledger's folder, delete the file and run again"
        ) from error
