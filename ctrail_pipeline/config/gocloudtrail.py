"""What a folder holds in which gocloudtrail has worked: recognised, and left as it is.

Its configuration file is read by `config`, as ours. Its database keeps one "last key" for each
account and region; ours is another file beside it. Nothing here opens a file for writing.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from ctrail_pipeline.core.output.marker import MARKER

logger = logging.getLogger(__name__)

_TABLE = "state"
_COLUMNS = {"bucket", "account_id", "region", "last_processed_key"}


def own_state_db(state_db: Path, events_dir: Path) -> Path:
    """Our ledger's file: `state.ctrail.db` where `state.db` is gocloudtrail's.

    Why is said until the ledger has been made.
    """
    own = state_db.with_name(f"{state_db.stem}.ctrail{state_db.suffix}")
    if own.exists():
        return own
    # Of a database that is ours no descriptor may be opened here: closing it would drop the locks
    # that a run in this process holds. Where the output folder has its marker, it is ours.
    if (events_dir / MARKER).exists() or not is_gocloudtrail_state(state_db):
        return state_db
    logger.warning(
        "%s is gocloudtrail's and stays as it is; ours is %s. We start over and do not take up its"
        " last keys: they may be ahead of what it has written, and exact dedup needs to have seen"
        " every event",
        state_db,
        own,
    )
    return own


def is_gocloudtrail_state(path: Path) -> bool:
    """Whether a file is a database that gocloudtrail made; it is not locked and not written."""
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            rows = database.execute("SELECT name FROM pragma_table_info(?)", (_TABLE,)).fetchall()
    except sqlite3.Error:
        return False
    return {name for (name,) in rows} >= _COLUMNS
