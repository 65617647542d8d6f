"""Which SQLite files are refused as a ledger.

Refused are: a file on a network file system, the database of another program, a ledger of a newer
version, and a ledger that was cut off. Opening the file is in `sqlite`, older versions are in
`migrations`; a damaged file is found by SQLite itself (`sqlite_errors`).
"""

import sqlite3
from pathlib import Path

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.file_system import network_file_system

from .admission import refuse_newer
from .migrations import APPLICATION_ID, pragma


def refuse_network_file_system(path: Path) -> None:
    """Raise LedgerError for a path on a network file system, where SQLite's locks do not hold."""
    kind = network_file_system(path)
    if kind is not None:
        raise LedgerError(
            f"{path} lies on a network file system ({kind}), where SQLite cannot keep a ledger"
            " safe: name a file on a local disk in `state_db`"
        )


def refuse_other_databases(db: sqlite3.Connection, path: Path) -> None:
    """Raise LedgerError for another program's database, and for a ledger of a newer version."""
    # Tables first: another run that makes the ledger just now makes both in one transaction.
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application, version = pragma(db, "application_id"), pragma(db, "user_version")
    if application not in (0, APPLICATION_ID) or (application == 0 and tables):
        raise LedgerError(
            f"{path} is a database of another program: name another file in `state_db`"
        )
    refuse_newer(path, version)


def refuse_cut_off_file(db: sqlite3.Connection, path: Path) -> None:
    """Raise LedgerError for a ledger that was cut off, before anything is built on the rest."""
    pages, page_size = pragma(db, "page_count"), pragma(db, "page_size")
    size = path.stat().st_size
    wal = path.with_name(path.name + "-wal")
    if size and size < pages * page_size and not (wal.exists() and wal.stat().st_size):
        raise LedgerError(
            f"{path}: the ledger is cut off ({size} of {pages * page_size} bytes):"
            " restore it from a backup that is as new as the output"
        )
