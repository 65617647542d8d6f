"""The database of gocloudtrail in a folder in which it has worked: recognised, and left as it is.

gocloudtrail's database keeps a "last key" for each account and region. Our ledger is another file
beside it. Nothing here opens a file for writing. Not here: gocloudtrail's configuration file, which
`file` reads as ours.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from ctrail_pipeline.core.output.marker import MARKER

logger = logging.getLogger(__name__)

_TABLE = "state"
_COLUMNS = {"bucket", "account_id", "region", "last_processed_key"}


def own_state_db(state_db: Path, events_dir: Path | None) -> Path:
    """Return our ledger's file: `state.ctrail.db` where `state.db` is gocloudtrail's.

    A warning says why, until the ledger has been made. `events_dir`: None if events go to a bucket.
    """
    own = state_db.with_name(f"{state_db.stem}.ctrail{state_db.suffix}")
    if own.exists():
        return own
    # A ledger of ours must not be opened here: closing the descriptor would drop the locks that a
    # run in this process holds. If the output folder has its marker, the database is ours.
    is_ours = events_dir is not None and (events_dir / MARKER).exists()
    if is_ours or not is_gocloudtrail_state(state_db):
        return state_db
    logger.warning(
        "%s is gocloudtrail's and stays as it is; our ledger is %s. We start over and do not go on"
        " from its last keys: they may be ahead of what it has written, and exact dedup needs to"
        " have seen every event",
        state_db,
        own,
    )
    return own


def is_gocloudtrail_state(path: Path) -> bool:
    """Whether a file is a database that gocloudtrail made. The file is not locked or written."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            rows = database.execute("SELECT name FROM pragma_table_info(?)", (_TABLE,)).fetchall()
    except sqlite3.Error:
        return False
    return {name for (name,) in rows} >= _COLUMNS
