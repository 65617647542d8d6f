"""The tables of the ledger: making them in a new file, and bringing an older ledger up to date.

`schema.sql` says what the tables are; a change there is a new version, with a step here. Steps run
on both engines: `postgres_schema` translates their words, and `postgres` runs them under the writer
lock. Of an older SQLite file, a copy is kept beside it first. What the rows mean is not said here.
"""

import logging
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.durable import fsync_file, fsync_folder
from ctrail_pipeline.core.exceptions import LedgerError

log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 6
_DATE_FOLDER: Final = (
    "'account=' || substr(folder, 1, 12) || '/region=' || substr(folder, 14, length(folder) - 27)"
    " || '/date=' || replace(substr(folder, length(folder) - 12, 10), '/', '-')"
)
"""The folder of Parquet for a folder of events."""
NOTING_PARQUET: Final = (
    "ALTER TABLE output_file ADD COLUMN parquet_batch INTEGER",
    # A batch wrote Parquet for all its events or for none.
    "UPDATE output_file SET parquet_batch = batch WHERE merged = 0"
    " AND output_partition IN (SELECT id FROM output_partition WHERE kind = 0)"
    " AND batch IN (SELECT f.batch FROM output_file f JOIN output_partition p"
    " ON p.id = f.output_partition WHERE p.kind = 2 AND f.merged = 0)"
    " AND batch NOT IN (SELECT id FROM batch WHERE run_id = 'rebuild')",
    # Merged files do not say of which batches they are. Each row is a line's, so a date that has
    # had as many rows as lines has them all. A rebuilt ledger may know of other rows.
    "UPDATE output_file SET parquet_batch = batch WHERE parquet_batch IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM batch WHERE run_id = 'rebuild')"
    f" AND output_partition IN (SELECT id FROM output_partition WHERE kind = 0 AND {_DATE_FOLDER}"
    f" IN (SELECT lines.date_folder FROM (SELECT {_DATE_FOLDER} AS date_folder, sum(f.lines) AS n"
    " FROM output_partition p JOIN output_file f ON f.output_partition = p.id"
    " WHERE p.kind = 0 AND f.replaced_by IS NULL GROUP BY 1) AS lines"
    " JOIN (SELECT p.folder AS date_folder, sum(f.lines) AS n"
    " FROM output_partition p JOIN output_file f ON f.output_partition = p.id"
    " WHERE p.kind = 2 AND f.replaced_by IS NULL GROUP BY 1) AS found"
    " ON found.date_folder = lines.date_folder AND found.n = lines.n))",
    "UPDATE output_file SET parquet_batch = 0 WHERE parquet_batch IS NULL"
    f" AND output_partition IN (SELECT id FROM output_partition WHERE kind = 0 AND {_DATE_FOLDER}"
    " IN (SELECT folder FROM output_partition WHERE kind = 2))"
    " AND (merged = 1 OR batch IN (SELECT id FROM batch WHERE run_id = 'rebuild')"
    f" OR output_partition IN (SELECT id FROM output_partition WHERE kind = 0 AND {_DATE_FOLDER}"
    " IN (SELECT p.folder FROM output_partition p JOIN output_file f ON f.output_partition = p.id"
    " WHERE p.kind = 2 AND f.merged = 1)))",
)
"""Notes of which files of events the lines are in Parquet, too."""
_MIGRATIONS: Final = {
    1: (
        "ALTER TABLE output_file ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX output_file_to_remove ON output_file (pruned) WHERE pruned = 1",
        "ALTER TABLE batch ADD COLUMN log_files INTEGER NOT NULL DEFAULT 0",
        "DROP INDEX log_file_to_visit",
        "CREATE INDEX log_file_to_visit ON log_file (day, next_visit) WHERE next_visit IS NOT NULL",
    ),
    2: (
        "CREATE TABLE archive_file (id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " name TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL, sha256 BLOB NOT NULL,"
        " first_day INTEGER NOT NULL, last_day INTEGER NOT NULL,"
        " first_hour TEXT NOT NULL, last_hour TEXT NOT NULL,"
        " first_segment INTEGER NOT NULL, last_segment INTEGER NOT NULL)",
        "INSERT INTO meta VALUES ('archived_at', '0')",
        # Public keys of digests.
        "CREATE TABLE public_key (fingerprint TEXT PRIMARY KEY, der BLOB NOT NULL,"
        " added_at INTEGER NOT NULL) WITHOUT ROWID",
        "ALTER TABLE output_file ADD COLUMN merged INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE output_file ADD COLUMN replaced_by INTEGER",
        "CREATE INDEX output_file_replaced ON output_file (replaced_by)"
        " WHERE replaced_by IS NOT NULL",
    ),
    3: (
        # Kinds beside CloudTrail. Ids stay, since cold files hold them.
        "CREATE TABLE source_prefix (id INTEGER PRIMARY KEY, bucket TEXT NOT NULL,"
        " prefix TEXT NOT NULL, organization TEXT NOT NULL, account TEXT NOT NULL,"
        " region TEXT NOT NULL, kind TEXT NOT NULL, deep_listed_at INTEGER NOT NULL DEFAULT 0,"
        " log_files INTEGER NOT NULL DEFAULT 0, events INTEGER NOT NULL DEFAULT 0,"
        " first_event TEXT, last_event TEXT, reported_at INTEGER NOT NULL DEFAULT 0,"
        " UNIQUE (bucket, prefix, organization, account, region, kind))",
        "INSERT INTO source_prefix SELECT id, bucket, prefix, organization, account, region,"
        " 'CloudTrail', deep_listed_at, log_files, events, first_event, last_event, reported_at"
        " FROM source_partition",
        "DROP TABLE source_partition",
        # Listing rule 1 left names aside that are log files by rule 2, so all is listed once more.
        "ALTER TABLE coverage RENAME TO coverage_by_rule_1",
        "CREATE TABLE coverage (source_prefix INTEGER NOT NULL, listing_rule INTEGER NOT NULL,"
        " start_minute INTEGER NOT NULL, end_minute INTEGER NOT NULL,"
        " PRIMARY KEY (source_prefix, listing_rule, start_minute)) WITHOUT ROWID",
        "INSERT INTO coverage SELECT source_partition, 1, start_minute, end_minute"
        " FROM coverage_by_rule_1",
        "DROP TABLE coverage_by_rule_1",
        "ALTER TABLE log_file RENAME COLUMN source_partition TO source_prefix",
        "ALTER TABLE log_file ADD COLUMN accepted INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE superseded_log_file RENAME COLUMN source_partition TO source_prefix",
        "CREATE TABLE accepted_log_file (source_prefix INTEGER NOT NULL, day INTEGER NOT NULL,"
        " name TEXT NOT NULL, etag BLOB NOT NULL, state INTEGER NOT NULL, reason TEXT NOT NULL,"
        " accepted_by TEXT NOT NULL, accepted_at INTEGER NOT NULL,"
        " PRIMARY KEY (source_prefix, day, name)) WITHOUT ROWID",
        "CREATE TABLE left_aside (source_prefix INTEGER NOT NULL, folder TEXT NOT NULL,"
        " objects INTEGER NOT NULL, example TEXT NOT NULL,"
        " PRIMARY KEY (source_prefix, folder)) WITHOUT ROWID",
        "CREATE TABLE left_aside_outside (bucket TEXT NOT NULL, prefix TEXT NOT NULL,"
        " folder TEXT NOT NULL, why TEXT NOT NULL, objects INTEGER NOT NULL, example TEXT NOT NULL,"
        " PRIMARY KEY (bucket, prefix, folder, why)) WITHOUT ROWID",
        "ALTER TABLE archive_file RENAME TO cold_file",
        "UPDATE meta SET name = 'cold_moved_at' WHERE name = 'archived_at'",
        # Times that end in +00:00 were rejected. Such records come in at one more visit.
        "UPDATE log_file SET next_visit = 0 WHERE quarantined > 0 AND next_visit IS NULL",
    ),
    4: (
        "ALTER TABLE batch ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
        "CREATE TABLE lease (name TEXT PRIMARY KEY, renewed_at INTEGER NOT NULL) WITHOUT ROWID",
        "ALTER TABLE output_file ADD COLUMN compression INTEGER NOT NULL DEFAULT 0",
    ),
    5: (
        # A committed batch was taken back if its output vanished: its log files were in state 6.
        # They are to be tried again, and no line of their batch came from them.
        "UPDATE log_file SET state = 3, position = -1, records = 0, duplicates = 0,"
        " quarantined = 0, conflicts = 0 WHERE state = 6",
        "UPDATE accepted_log_file SET state = 3 WHERE state = 6",
        "DELETE FROM meta WHERE name = 'segments_removed'",
        "ALTER TABLE batch ADD COLUMN published_at INTEGER",
        "ALTER TABLE source_prefix ADD COLUMN listed_at INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE source_prefix ADD COLUMN missed INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE source_prefix ADD COLUMN missed_at INTEGER NOT NULL DEFAULT 0",
        "CREATE TABLE queue (url TEXT PRIMARY KEY, works_since INTEGER NOT NULL,"
        " asked_at INTEGER NOT NULL, drained_at INTEGER NOT NULL, trouble TEXT NOT NULL,"
        " waiting INTEGER, dead_letters INTEGER, oldest_seconds INTEGER) WITHOUT ROWID",
        "CREATE TABLE queue_tally (url TEXT NOT NULL, sort TEXT NOT NULL, number INTEGER NOT NULL,"
        " example TEXT NOT NULL, PRIMARY KEY (url, sort)) WITHOUT ROWID",
        *NOTING_PARQUET,
    ),
}
"""By version, the statements that make the next version. Ledgers in PostgreSQL begin at version 4.
A step does not alter the table `meta`: whoever waits for the writer lock has it open."""
FIRST_META: Final = {"generation": "0", "cold_moved_at": "0"}
"""What a new ledger says of itself in the table `meta`."""
APPLICATION_ID: Final = 0x6374_7261
"""«ctra»: SQLite's application_id, by which a ledger is told from other databases."""


def is_older(version: int) -> bool:
    """Whether a ledger of this version must be brought up to date."""
    return version < SCHEMA_VERSION


def steps_from(version: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the next versions of an older ledger, each with the statements that make it."""
    for step in range(version, SCHEMA_VERSION):
        yield step + 1, _MIGRATIONS[step]


def pragma(db: sqlite3.Connection, name: str) -> int:
    """Return one of SQLite's settings that is a number."""
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def create_tables(db: sqlite3.Connection, closed: str = "") -> None:
    """Make the tables; when two runs start at once, one of them does.

    `closed`: why nobody may use the new ledger yet (`admission`).
    """
    schema = files(__package__).joinpath("schema.sql").read_text()
    db.execute("BEGIN IMMEDIATE")
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        for statement in _statements(schema):
            db.execute(statement)
        db.executemany(
            "INSERT INTO meta (name, value) VALUES (?, ?)",
            [("uuid", str(uuid.uuid4())), ("closed", closed), *FIRST_META.items()],
        )
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring an older ledger to this version, once a copy of it is kept. Inside a transaction."""
    for version, statements in steps_from(pragma(db, "user_version")):
        try:
            _keep_copy(path, version - 1)
        except OSError as error:
            raise LedgerError(
                f"{path}: the ledger is of version {version - 1}, and no copy of it could"
                f" be made beside it ({error.strerror}): make room, then run again"
            ) from error
        for statement in statements:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {version}")
        log.info("%s: the ledger is of version %d now", path, version)


def _keep_copy(path: Path, version: int) -> None:
    """Keep a copy beside the ledger, private and whole; a copy that is there already stays."""
    copy = path.with_name(f"{path.name}.version-{version}")
    if copy.exists():
        return
    unfinished = copy.with_name(f"{copy.name}.part")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    # A second connection: the first is in the transaction that keeps all others from writing.
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("VACUUM INTO ?", (str(unfinished),))
    fsync_file(unfinished)
    unfinished.replace(copy)
    fsync_folder(copy.parent)


def _statements(schema: str) -> Iterator[str]:
    statement = ""
    for line in schema.splitlines():
        statement += line.partition("--")[0] + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
