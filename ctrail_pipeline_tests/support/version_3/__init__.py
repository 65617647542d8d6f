"""A small bucket, and the ledger and output that the release with ledger version 3 made of it.

`README.md` beside this file says what lies in the bucket and how the files were made.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from ctrail_pipeline.core.ledger.migrations import APPLICATION_ID
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.sync_process import local_trail, settings_in

FILES = Path(__file__).parent
PLACEHOLDER = "file:///BUCKET"
"""Stands in the ledger's SQL for the bucket's address, which the version that made it wrote."""


def lay_out(folder: Path) -> Settings:
    """Put bucket, ledger and output into an empty folder; return the settings that fit them."""
    bucket = folder / "bucket"
    shutil.copytree(FILES / "bucket", bucket)
    for name in ("events", "quarantine"):
        shutil.copytree(FILES / name, folder / name)
    settings = settings_in(folder, [local_trail(bucket)], process_workers=1)
    with closing(sqlite3.connect(settings.state_db)) as database:
        text = (FILES / "ledger.sql").read_text()
        database.executescript(text.replace(PLACEHOLDER, bucket.as_uri()))
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA user_version = 3")
    for path in [settings.state_db, *folder.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    return settings
