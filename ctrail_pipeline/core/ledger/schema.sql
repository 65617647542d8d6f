-- The ledger, version 6. Times are UTC: log file times in minutes, all others in seconds since 1970.
-- Made by migrations.py; a change of this file is a new version with a migration there.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- A source prefix: one account, kind and region of a trail. The trail's name is no part of it.
CREATE TABLE source_prefix (
    id             INTEGER PRIMARY KEY,
    bucket         TEXT NOT NULL,
    prefix         TEXT NOT NULL,
    organization   TEXT NOT NULL,
    account        TEXT NOT NULL,
    region         TEXT NOT NULL,
    kind           TEXT NOT NULL,              -- the folder's name, such as CloudTrail-Insight
    deep_listed_at INTEGER NOT NULL DEFAULT 0,
    log_files      INTEGER NOT NULL DEFAULT 0, -- committed
    events         INTEGER NOT NULL DEFAULT 0, -- lines in the output that came from it
    first_event    TEXT,                       -- eventTime of the oldest record seen
    last_event     TEXT,
    reported_at    INTEGER NOT NULL DEFAULT 0, -- when Dagster was last told of new events
    listed_at      INTEGER NOT NULL DEFAULT 0, -- behind its cursor, if its trail has a queue
    missed         INTEGER NOT NULL DEFAULT 0, -- log files found by listing, not by notification
    missed_at      INTEGER NOT NULL DEFAULT 0, -- when the last of them was found
    UNIQUE (bucket, prefix, organization, account, region, kind)
);

-- Ranges of key time in which every key that a listing returned has a row in log_file, if the name
-- is a log file's by the listing rule of that version (core.keys.log_file_key.LISTING_RULE).
CREATE TABLE coverage (
    source_prefix INTEGER NOT NULL,
    listing_rule  INTEGER NOT NULL,
    start_minute  INTEGER NOT NULL,
    end_minute    INTEGER NOT NULL,
    PRIMARY KEY (source_prefix, listing_rule, start_minute)
) WITHOUT ROWID;

-- One log file; `name` is relative to source prefix and day, and compact (core.keys).
CREATE TABLE log_file (
    source_prefix    INTEGER NOT NULL,
    day              INTEGER NOT NULL,
    name             TEXT NOT NULL,
    etag             BLOB NOT NULL,
    size             INTEGER NOT NULL,
    storage_class    TEXT,
    sha256           BLOB,             -- of the uncompressed bytes
    records          INTEGER NOT NULL, -- in the output or duplicates of it
    duplicates       INTEGER NOT NULL,
    quarantined      INTEGER NOT NULL,
    conflicts        INTEGER NOT NULL, -- new records with the eventID of a different record
    state            INTEGER NOT NULL, -- rows.LogFileState
    attempts         INTEGER NOT NULL,
    next_visit       INTEGER,          -- due from then on; for a found log file, when it was found
    reason           TEXT,
    batch            INTEGER NOT NULL,
    position         INTEGER NOT NULL, -- in its batch, for output_file.lineage; -1: no lines came from it
    accepted         INTEGER NOT NULL DEFAULT 0, -- 1: a person settled it as it is (accepted_log_file)
    PRIMARY KEY (source_prefix, day, name)
) WITHOUT ROWID;
CREATE INDEX log_file_to_visit ON log_file (day, next_visit) WHERE next_visit IS NOT NULL;
CREATE INDEX log_file_unsettled ON log_file (state) WHERE state != 1;
CREATE INDEX log_file_remarkable ON log_file (batch) WHERE quarantined + conflicts > 0;

-- Who settled a log file that stood open, and why. It counts while log_file.accepted is 1.
CREATE TABLE accepted_log_file (
    source_prefix    INTEGER NOT NULL,
    day              INTEGER NOT NULL,
    name             TEXT NOT NULL,
    etag             BLOB NOT NULL,
    state            INTEGER NOT NULL, -- in which it was accepted: rows.LogFileState
    reason           TEXT NOT NULL,
    accepted_by      TEXT NOT NULL,
    accepted_at      INTEGER NOT NULL,
    PRIMARY KEY (source_prefix, day, name)
) WITHOUT ROWID;

-- Objects in the folders of a source prefix that are no log files by their names.
CREATE TABLE left_aside (
    source_prefix    INTEGER NOT NULL,
    folder           TEXT NOT NULL,    -- 2026/01/15/, 2026/01/ or 2026/; empty: in none of these
    objects          INTEGER NOT NULL,
    example          TEXT NOT NULL,    -- a key
    PRIMARY KEY (source_prefix, folder)
) WITHOUT ROWID;

-- What lies under a trail's prefix outside the folders of all source prefixes, and is not brought in.
CREATE TABLE left_aside_outside (
    bucket  TEXT NOT NULL,
    prefix  TEXT NOT NULL,
    folder  TEXT NOT NULL,    -- the folder whose listing showed it
    why     TEXT NOT NULL,
    objects INTEGER NOT NULL, -- objects or folders
    example TEXT NOT NULL,    -- a key; a folder's ends in a slash
    PRIMARY KEY (bucket, prefix, folder, why)
) WITHOUT ROWID;

-- Earlier versions of log files that were processed again, while lines in the output come from them.
CREATE TABLE superseded_log_file (
    source_prefix    INTEGER NOT NULL,
    day              INTEGER NOT NULL,
    name             TEXT NOT NULL,
    etag             BLOB NOT NULL,
    size             INTEGER NOT NULL,
    sha256           BLOB,
    records          INTEGER NOT NULL,
    duplicates       INTEGER NOT NULL,
    quarantined      INTEGER NOT NULL,
    state            INTEGER NOT NULL,
    reason           TEXT,
    batch            INTEGER NOT NULL,
    position         INTEGER NOT NULL,
    PRIMARY KEY (source_prefix, day, name, batch)
) WITHOUT ROWID;

CREATE TABLE batch (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    token        TEXT NOT NULL UNIQUE, -- the name of its staging folders
    state        INTEGER NOT NULL,     -- rows.BatchState
    run_id       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    committed_at INTEGER,
    sources      TEXT NOT NULL DEFAULT '[]', -- JSON [[source_prefix, day], …]: where its log files are
    log_files    INTEGER NOT NULL DEFAULT 0, -- that it settled
    owner        TEXT NOT NULL DEFAULT '',   -- the lease of the run that works on it; empty in SQLite
    published_at INTEGER                     -- by the database's clock; empty if version 5 published it
);
CREATE INDEX batch_open ON batch (state) WHERE state IN (0, 1);

-- Runs that live, where the ledger is in PostgreSQL: leases.py.
CREATE TABLE lease (
    name       TEXT PRIMARY KEY,
    renewed_at INTEGER NOT NULL -- by the server's clock
) WITHOUT ROWID;

-- A folder of output (or of quarantine), and the next free number of a file in it.
CREATE TABLE output_partition (
    id          INTEGER PRIMARY KEY,
    kind        INTEGER NOT NULL,      -- output_files.Kind
    folder      TEXT NOT NULL,         -- relative to the root of its kind
    next_number INTEGER NOT NULL,
    lines       INTEGER NOT NULL,
    UNIQUE (kind, folder)
);

CREATE TABLE output_file (
    output_partition INTEGER NOT NULL,
    number           INTEGER NOT NULL,
    batch            INTEGER NOT NULL,
    part             INTEGER NOT NULL, -- the staged file's number in its batch
    lines            INTEGER NOT NULL,
    bytes            INTEGER NOT NULL,
    sha256           BLOB NOT NULL,
    lineage          BLOB NOT NULL,    -- line runs: line_runs.pack_lineage
    pruned           INTEGER NOT NULL DEFAULT 0, -- rows.Pruned
    merged           INTEGER NOT NULL DEFAULT 0, -- 1: by a compaction, of files of several batches
    replaced_by      INTEGER,          -- the batch of the compaction that merged it
    compression      INTEGER NOT NULL DEFAULT 0, -- output_files.Compression
    parquet_batch    INTEGER,          -- of events: the batch that wrote the lines as Parquet, too;
                                       -- 0: some of the lines may be in Parquet; NULL: none is
    PRIMARY KEY (output_partition, number)
) WITHOUT ROWID;
CREATE INDEX output_file_batch ON output_file (batch);
CREATE INDEX output_file_to_remove ON output_file (pruned) WHERE pruned = 1;
CREATE INDEX output_file_replaced ON output_file (replaced_by) WHERE replaced_by IS NOT NULL;

CREATE TABLE dedup_partition (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- AUTOINCREMENT: an id is never used twice, so "newer than the one I saw" stays true.
CREATE TABLE segment (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    dedup_partition INTEGER NOT NULL,
    batch           INTEGER NOT NULL,  -- 0: merged from segments of several
    count           INTEGER NOT NULL,
    identities      BLOB NOT NULL,     -- sorted, 16 bytes each
    filter          BLOB,
    event_keys      BLOB NOT NULL      -- sorted, 6 bytes each: identity.event_key_of
);
CREATE INDEX segment_of_partition ON segment (dedup_partition, id);

-- Files beside the ledger that hold cold rows: cold_file.py. AUTOINCREMENT: newer files override
-- older ones. In PostgreSQL, months that hold cold rows: cold_months.py.
CREATE TABLE cold_file (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT NOT NULL UNIQUE,
    bytes         INTEGER NOT NULL,
    sha256        BLOB NOT NULL,
    first_day     INTEGER NOT NULL, -- of its log files
    last_day      INTEGER NOT NULL,
    first_hour    TEXT NOT NULL,    -- of its segments, YYYY/MM/DD/HH
    last_hour     TEXT NOT NULL,
    first_segment INTEGER NOT NULL,
    last_segment  INTEGER NOT NULL
);

-- A queue of notifications, as it was last asked: queues.py.
CREATE TABLE queue (
    url            TEXT PRIMARY KEY,
    works_since    INTEGER NOT NULL, -- 0: it was never asked with success
    asked_at       INTEGER NOT NULL,
    drained_at     INTEGER NOT NULL, -- when it was last found empty; 0: never
    trouble        TEXT NOT NULL,    -- why it could not be asked; empty if it could
    waiting        INTEGER,          -- messages in it afterwards; empty if nobody may ask
    dead_letters   INTEGER,          -- messages in its dead-letter queue; empty if that is not known
    oldest_seconds INTEGER           -- age of the oldest message that came; empty if none came
) WITHOUT ROWID;

-- What the messages of a queue named, over all runs.
CREATE TABLE queue_tally (
    url     TEXT NOT NULL,
    sort    TEXT NOT NULL,    -- queues.Notified
    number  INTEGER NOT NULL,
    example TEXT NOT NULL,    -- the address of an object, or a message's id and what is wrong
    PRIMARY KEY (url, sort)
) WITHOUT ROWID;

-- Public keys of digests, as CloudTrail's ListPublicKeys gave them.
CREATE TABLE public_key (
    fingerprint TEXT PRIMARY KEY,
    der         BLOB NOT NULL,
    added_at    INTEGER NOT NULL
) WITHOUT ROWID;
