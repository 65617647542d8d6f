BEGIN TRANSACTION;
CREATE TABLE archive_file (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT NOT NULL UNIQUE,
    bytes         INTEGER NOT NULL,
    sha256        BLOB NOT NULL,
    first_day     INTEGER NOT NULL, 
    last_day      INTEGER NOT NULL,
    first_hour    TEXT NOT NULL,    
    last_hour     TEXT NOT NULL,
    first_segment INTEGER NOT NULL,
    last_segment  INTEGER NOT NULL
);
CREATE TABLE batch (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    token        TEXT NOT NULL UNIQUE, 
    state        INTEGER NOT NULL,     
    run_id       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    committed_at INTEGER,
    sources      TEXT NOT NULL DEFAULT '[]', 
    log_files    INTEGER NOT NULL DEFAULT 0  
);
INSERT INTO "batch" VALUES(1,'6a317d57928a461e9099d6dcdb25acf0',2,'ctrail',1796086982,1796086982,'[[1, 20468], [2, 20468]]',5);
CREATE TABLE coverage (
    source_partition INTEGER NOT NULL,
    start_minute     INTEGER NOT NULL,
    end_minute       INTEGER NOT NULL,
    PRIMARY KEY (source_partition, start_minute)
) WITHOUT ROWID;
INSERT INTO "coverage" VALUES(1,0,29474541);
INSERT INTO "coverage" VALUES(2,0,29474526);
CREATE TABLE dedup_partition (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
INSERT INTO "dedup_partition" VALUES(1,'111122223333/eu-west-1/2026/01/15/10');
INSERT INTO "dedup_partition" VALUES(2,'quarantine/2026/01/15');
CREATE TABLE log_file (
    source_partition INTEGER NOT NULL,
    day              INTEGER NOT NULL,
    name             TEXT NOT NULL,
    etag             BLOB NOT NULL,
    size             INTEGER NOT NULL,
    storage_class    TEXT,
    sha256           BLOB,             
    records          INTEGER NOT NULL, 
    duplicates       INTEGER NOT NULL,
    quarantined      INTEGER NOT NULL,
    conflicts        INTEGER NOT NULL, 
    state            INTEGER NOT NULL, 
    attempts         INTEGER NOT NULL,
    next_visit       INTEGER,          
    reason           TEXT,
    batch            INTEGER NOT NULL,
    position         INTEGER NOT NULL, 
    PRIMARY KEY (source_partition, day, name)
) WITHOUT ROWID;
INSERT INTO "log_file" VALUES(1,20468,'1005AAAAAAAAAAAAAAAA',X'22313865636662393538353735316465382D6432',210,NULL,X'959FE4E5C8274595CC7E864513119243CF5DFC5024882709E9ED69AC908A8723',5,0,0,0,1,0,NULL,NULL,1,0);
INSERT INTO "log_file" VALUES(1,20468,'1010BBBBBBBBBBBBBBBB',X'22313865636662393538353833383631632D6333',195,NULL,X'EFDA866D1155B650C39A6DBDD88AD8EDE8E752B5512C3FF4FC5EA8C967A750C4',1,0,1,0,1,0,NULL,NULL,1,1);
INSERT INTO "log_file" VALUES(1,20468,'1015CCCCCCCCCCCCCCCC',X'22313865636662393538353930396638322D6139',169,NULL,X'FF389334FDCB75236449964ACA7F350201A48995BF622A6B7382046B94C2AE7A',0,0,1,0,1,0,NULL,NULL,1,2);
INSERT INTO "log_file" VALUES(1,20468,'1020DDDDDDDDDDDDDDDD',X'22313865636662393538353939656464652D61',10,NULL,X'E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855',0,0,1,0,2,1,1796086982,'gzip data is damaged (Error -3 while decompressing data: unknown compression method)',1,3);
INSERT INTO "log_file" VALUES(2,20468,'1005EEEEEEEEEEEEEEEE',X'22313865636662393538356437373866662D6335',197,NULL,X'802FB897D88AC33378B759921C00006C2183F0091B0DC805FD2CB4B947D5AF1A',3,0,0,0,1,0,NULL,NULL,1,4);
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "meta" VALUES('archived_at','1796086982');
INSERT INTO "meta" VALUES('generation','1');
INSERT INTO "meta" VALUES('segments_removed','0');
INSERT INTO "meta" VALUES('uuid','6ed29f8f-a6f6-42f0-b81b-99fb48c95a29');
CREATE TABLE output_file (
    output_partition INTEGER NOT NULL,
    number           INTEGER NOT NULL,
    batch            INTEGER NOT NULL,
    part             INTEGER NOT NULL, 
    lines            INTEGER NOT NULL,
    bytes            INTEGER NOT NULL,
    sha256           BLOB NOT NULL,
    lineage          BLOB NOT NULL,    
    pruned           INTEGER NOT NULL DEFAULT 0, 
    merged           INTEGER NOT NULL DEFAULT 0, 
    replaced_by      INTEGER,          
    PRIMARY KEY (output_partition, number)
) WITHOUT ROWID;
INSERT INTO "output_file" VALUES(1,1,1,0,9,1872,X'D07A434BC18869B579C569284D1F179ADC5661A26D0B805A364D6C133FDDF057',X'000501010403',0,0,NULL);
INSERT INTO "output_file" VALUES(2,1,1,1,3,1443,X'042DB68B2D493B3A5148FA9C834474817B93228A8A86D7616CA1E3DE495130BB',X'010102010301',0,0,NULL);
CREATE TABLE output_partition (
    id          INTEGER PRIMARY KEY,
    kind        INTEGER NOT NULL,      
    folder      TEXT NOT NULL,         
    next_number INTEGER NOT NULL,
    lines       INTEGER NOT NULL,
    UNIQUE (kind, folder)
);
INSERT INTO "output_partition" VALUES(1,0,'111122223333/eu-west-1/2026/01/15/10',2,9);
INSERT INTO "output_partition" VALUES(2,1,'2026/01/15',2,3);
CREATE TABLE public_key (
    fingerprint TEXT PRIMARY KEY,
    der         BLOB NOT NULL,
    added_at    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE segment (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    dedup_partition INTEGER NOT NULL,
    batch           INTEGER NOT NULL,  
    count           INTEGER NOT NULL,
    identities      BLOB NOT NULL,     
    filter          BLOB,
    event_keys      BLOB NOT NULL      
);
INSERT INTO "segment" VALUES(1,1,1,9,X'1D0F0AA7A417AA65965A0259144129532381DEF88E75C22F6E077FE8BAE7DF6826A20D4ADD5D209A9ADB9819C5F753B75ADA38EF5823E699FE33D4FA08175156830320AA27C37A59D4366A3283707AD38B215D82AA08C31C5EE09E7B603B60689DECFD59427AA9D1F048CADAA568340ABC3D4112CD0039C9BE928EBF89828880F5F559412544BAB05175A8C6A39B7EA0',NULL,X'30EA01601E2F45F74016BE395B9100EE595A735D793C223395B2B56DC71A9E72E9EDDD61A12D8138CC18CBD391B4DA4AFF0986D963D4');
INSERT INTO "segment" VALUES(2,2,1,3,X'1D40E8625BE4722BF24B35D76A1A562B5F8041166FBA5862A63D7FF804635D2B8071DDA15D98061DAD08E13169245EA8',NULL,X'');
CREATE TABLE source_partition (
    id             INTEGER PRIMARY KEY,
    bucket         TEXT NOT NULL,
    prefix         TEXT NOT NULL,
    organization   TEXT NOT NULL,
    account        TEXT NOT NULL,
    region         TEXT NOT NULL,
    deep_listed_at INTEGER NOT NULL DEFAULT 0,
    log_files      INTEGER NOT NULL DEFAULT 0, 
    events         INTEGER NOT NULL DEFAULT 0, 
    first_event    TEXT,                       
    last_event     TEXT,
    reported_at    INTEGER NOT NULL DEFAULT 0, 
    UNIQUE (bucket, prefix, organization, account, region)
);
INSERT INTO "source_partition" VALUES(1,'file:///sample','','','111122223333','eu-west-1',1796086982,3,6,'2026-01-15T10:00:00Z','2026-01-15T10:00:04Z',0);
INSERT INTO "source_partition" VALUES(2,'file:///sample','','','444455556666','us-east-1',1796086982,1,3,'2026-01-15T10:00:00Z','2026-01-15T10:00:02Z',0);
CREATE TABLE superseded_log_file (
    source_partition INTEGER NOT NULL,
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
    PRIMARY KEY (source_partition, day, name, batch)
) WITHOUT ROWID;
CREATE INDEX log_file_to_visit ON log_file (day, next_visit) WHERE next_visit IS NOT NULL;
CREATE INDEX log_file_unsettled ON log_file (state) WHERE state != 1;
CREATE INDEX log_file_remarkable ON log_file (batch) WHERE quarantined + conflicts > 0;
CREATE INDEX batch_open ON batch (state) WHERE state IN (0, 1);
CREATE INDEX output_file_batch ON output_file (batch);
CREATE INDEX output_file_to_remove ON output_file (pruned) WHERE pruned = 1;
CREATE INDEX output_file_replaced ON output_file (replaced_by) WHERE replaced_by IS NOT NULL;
CREATE INDEX segment_of_partition ON segment (dedup_partition, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('batch',1);
INSERT INTO "sqlite_sequence" VALUES('segment',2);
COMMIT;
