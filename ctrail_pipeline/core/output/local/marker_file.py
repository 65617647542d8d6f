"""The file `.ctrail` in a root: it holds the root's marker (`core.output.marker`)."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.durable import disk_errors, fsync_folder, write_whole
from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.output.interface import Marker
from ctrail_pipeline.core.output.marker import MARKER

_UNFINISHED_SECONDS: Final = 60
"""Age after which a marker that never got its name has no writer any more."""


def read_marker_file(root: Path) -> Marker | None:
    """Return the marker of a root; None for a folder that belongs to no ledger yet.

    Raises LedgerError if the marker cannot be read.
    """
    path = root / MARKER
    try:
        content = json.loads(path.read_text())
        return Marker(str(content["ledger"]), int(content["generation"]))
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise LedgerError(f"{root} is no folder: name one in `events_dir`") from error
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"{path} is damaged. This file says which ledger the folder belongs to. If {root}"
            " is this ledger's folder, delete the file and run again"
        ) from error


def write_marker_file(root: Path, marker: Marker) -> None:
    """Write the marker of a root, atomically and durably."""
    content = json.dumps({"ledger": marker.ledger, "generation": marker.generation}) + "\n"
    with disk_errors(root):
        write_whole(root / MARKER, [content.encode()], replace=True)
        fsync_folder(root)


def remove_unfinished_marker_files(root: Path) -> None:
    """Remove markers whose writer died in the instant before they got their name."""
    for path in root.glob(f"{MARKER}.*"):
        with disk_errors(path), suppress(FileNotFoundError):  # the marker may have got its name
            if time.time() - path.lstat().st_mtime > _UNFINISHED_SECONDS:
                path.unlink()
