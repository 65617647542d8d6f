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
INSERT INTO "batch" VALUES(1,'612069d1b2f64e2a9940d144cc0408f1',2,'',1796087408,1796087408,'[[1, 20463]]',5);
CREATE TABLE coverage (
    source_partition INTEGER NOT NULL,
    start_minute     INTEGER NOT NULL,
    end_minute       INTEGER NOT NULL,
    PRIMARY KEY (source_partition, start_minute)
) WITHOUT ROWID;
INSERT INTO "coverage" VALUES(1,0,29467456);
CREATE TABLE dedup_partition (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
INSERT INTO "dedup_partition" VALUES(1,'111122223333/eu-west-1/2026/01/10/12');
INSERT INTO "dedup_partition" VALUES(2,'999988887777/eu-west-1/2026/01/10/12');
INSERT INTO "dedup_partition" VALUES(3,'-/eu-west-1/2026/01/10/12');
INSERT INTO "dedup_partition" VALUES(4,'999988887777/us-east-1/2026/01/10/12');
INSERT INTO "dedup_partition" VALUES(5,'999988887777/-/2026/01/10/12');
INSERT INTO "dedup_partition" VALUES(6,'quarantine/2026/01/10');
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
INSERT INTO "log_file" VALUES(1,20463,'1215000000000000000A',X'22313865636662666235643032313362312D6539',233,NULL,X'EA83D2B7407E51101157BE117995F91EDCAB61D5FC76AFAE3CA912B23A19BA46',4,0,0,0,1,0,NULL,NULL,1,0);
INSERT INTO "log_file" VALUES(1,20463,'1215000000000000000B',X'22313865636662666235643138376661322D6535',229,NULL,X'4E0AC0F9451CFC740A4F2F9143E5318EF507895FFCF13C5F941E11148EDA4184',4,1,0,0,1,0,NULL,NULL,1,1);
INSERT INTO "log_file" VALUES(1,20463,'1215000000000000000C',X'22313865636662666235643161646162382D6536',230,NULL,X'F8C9026A3293A8D85AB135DC90A98543B29256197DC8A5BEE53B0DAA759865DD',1,0,2,0,1,0,NULL,NULL,1,2);
INSERT INTO "log_file" VALUES(1,20463,'1215000000000000000D',X'22313865636662666235643164313333342D6361',202,NULL,X'76ABBB5CD9D57C3AEF6D7180FEA9D9B33352C14C6D216BA4A2736BE1C7407202',0,0,2,0,1,0,NULL,NULL,1,3);
INSERT INTO "log_file" VALUES(1,20463,'1215000000000000000E',X'22313865636662666235643166346233392D6337',199,NULL,X'39FF5FE247299C669394D2EDFBAC16579DC22573BEF87542FC5D53BFB21C092A',0,0,1,0,2,1,1796087408,'gzip data is cut short',1,4);
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "meta" VALUES('archived_at','1796087408');
INSERT INTO "meta" VALUES('generation','1');
INSERT INTO "meta" VALUES('segments_removed','0');
INSERT INTO "meta" VALUES('uuid','728b5d9a-74b1-4c24-b374-a75751de01f8');
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
INSERT INTO "output_file" VALUES(1,1,1,0,4,985,X'CF20C4445EBD1DD01AD8C034B7DB7EAB2DC3A50A3078DD520059E4624355A70D',X'000201010201',0,0,NULL);
INSERT INTO "output_file" VALUES(2,1,1,1,3,679,X'67D74FA062C66819DA807D58121953B8044E461C9A7CC634695FF93E0842656C',X'00020101',0,0,NULL);
INSERT INTO "output_file" VALUES(3,1,1,2,1,235,X'9A02F91AEB6DE327976B598F95715EAE060CBB34D048BD6A935BD0C47CAE2A1C',X'0101',0,0,NULL);
INSERT INTO "output_file" VALUES(4,1,1,3,5,2977,X'BEBAF9DE9848FA32A094E1B39378458BF92703A14D1F242CF8301446BB02FC91',X'020203020401',0,0,NULL);
CREATE TABLE output_partition (
    id          INTEGER PRIMARY KEY,
    kind        INTEGER NOT NULL,      
    folder      TEXT NOT NULL,         
    next_number INTEGER NOT NULL,
    lines       INTEGER NOT NULL,
    UNIQUE (kind, folder)
);
INSERT INTO "output_partition" VALUES(1,0,'111122223333/eu-west-1/2026/01/10/12',2,4);
INSERT INTO "output_partition" VALUES(2,0,'999988887777/eu-west-1/2026/01/10/12',2,3);
INSERT INTO "output_partition" VALUES(3,0,'999988887777/us-east-1/2026/01/10/12',2,1);
INSERT INTO "output_partition" VALUES(4,1,'2026/01/10',2,5);
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
INSERT INTO "segment" VALUES(1,1,1,3,X'35BBCA553F9CFD167150C8C42C5AEB203F1588F6A2750BCB035264ADCD4FB8EDE9A29F74AF590E7D0A68E720BF648FB4',NULL,X'0E184E615D837CFFEFEECE0397A02E328D01');
INSERT INTO "segment" VALUES(2,2,1,2,X'1A344C8DA1590169406BE6E677AE80DFA24F60F9C1D32E903C5CA7A1458DCBB4',NULL,X'5C070C4BA5E26EEFD27BDC04');
INSERT INTO "segment" VALUES(3,3,1,1,X'46B0C34A82DD2A6B6DB06D9C12C64C9C',NULL,X'E6415156540C');
INSERT INTO "segment" VALUES(4,4,1,1,X'35A443E97668B6314DA645C6F5894056',NULL,X'AF44B1765783');
INSERT INTO "segment" VALUES(5,5,1,1,X'6186DEFBD18272FA8D05A6E6083C0B20',NULL,X'AF4847B44C75');
INSERT INTO "segment" VALUES(6,6,1,5,X'21CBC2FDC2858A4F558E6E34AB8D0CD625202A7762997785395F9E32D6608A4147DD7BEF0173C9A0B4F031070A34A4676C47521D2151FA629A31CE31FF0C81D682182BFCFFD5A1E1A4123BCE86C09361',NULL,X'');
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
INSERT INTO "source_partition" VALUES(1,'file:///BUCKET','','','111122223333','eu-west-1',1796087408,4,8,'2026-01-10T12:01:00Z','2026-01-10T12:08:00Z',0);
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
INSERT INTO "sqlite_sequence" VALUES('segment',6);
COMMIT;
