"""What a user reads when SQLite fails: locked, full disk, failing disk, damaged, not writable.

Every message says which file, what failed, and what to do. Files that are refused when they are
opened are in `sqlite_checks`.
"""

import sqlite3
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.exceptions import LedgerError

BUSY_SECONDS: Final = 60.0
"""Seconds that a run waits for another run's transaction before it gives up."""


def ledger_error(path: Path, error: sqlite3.Error | OSError) -> LedgerError:
    """Say what failed, and what to do about it."""
    text = str(error)
    if "locked" in text or "busy" in text:
        advice = f"another run has held it for {BUSY_SECONDS:.0f} s: try again when it is done"
    elif "disk is full" in text or "No space left" in text:
        advice = "the disk is full: free some space, then run again; nothing is lost"
    elif "disk I/O" in text:  # some writes that lack space end so, too
        advice = "the disk is full or fails: check it, then run again; nothing is lost"
    elif "malformed" in text or "not a database" in text:
        advice = "it is damaged or no ledger: restore it from a backup as new as the output"
    elif "readonly" in text or "unable to open" in text:
        advice = "it cannot be written: check the permissions of the file and its folder"
    else:
        advice = "see the error"
    return LedgerError(f"{path}: the ledger failed ({text}): {advice}")
