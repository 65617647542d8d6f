"""`ctrail` where gocloudtrail has worked, with its configuration, at a real S3 server."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.config.gocloudtrail import is_gocloudtrail_state
from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, write_sample
from ctrail_pipeline_tests.support.command import ctrail
from ctrail_pipeline_tests.support.gocloudtrail import GOCLOUDTRAIL
from ctrail_pipeline_tests.support.oracle import check_output
from ctrail_pipeline_tests.support.s3_server import S3Server

LEFT_ALONE = "is gocloudtrail's and stays as it is"
LOG_FILES = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    root = tmp_path_factory.mktemp("drop-in")
    write_sample(root / "sample", log_files=LOG_FILES)
    (root / "served").mkdir()
    bucket = root / "served" / "my-bucket"
    bucket.mkdir()
    shutil.move(root / "sample" / ORGANIZATION_BUCKET, bucket / "logs")
    with S3Server(root / "served", folder_changes=False) as server:
        yield server


def gocloudtrail_state(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE state (bucket TEXT, account_id TEXT, region TEXT,"
            " last_processed_key TEXT, processed_count INTEGER, last_updated TIMESTAMP,"
            " PRIMARY KEY (bucket, account_id, region))"
        )
        database.execute("INSERT INTO state VALUES ('my-bucket', '1', 'eu-west-1', 'k', 1, 0)")
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(GOCLOUDTRAIL)
    (tmp_path / "bloom.gob").write_bytes(b"its bloom filter")
    return tmp_path


def test_its_configuration_and_its_state_work_unchanged(server: S3Server, folder: Path) -> None:
    before = gocloudtrail_state(folder / "state.db")
    environment = server.env() | {"AWS_ENDPOINT_URL_S3": server.endpoint_url}
    first = ctrail(folder, "sync", env=environment)
    assert first.returncode == 0, first.stderr
    assert first.stderr.count(LEFT_ALONE) == 1
    assert first.stderr.count("without effect here") == 1
    assert (folder / "state.db").read_bytes() == before
    assert (folder / "bloom.gob").read_bytes() == b"its bloom filter"
    assert {path.name for path in folder.iterdir()} >= {"state.ctrail.db", "events", "config.json"}
    bucket = [(server.folder / "my-bucket", "logs")]
    check_output(folder / "events", folder / "quarantine", bucket).assert_clean()

    (folder / "state.db").unlink()  # whoever has changed over tidies up
    second = ctrail(folder, "sync", env=environment)
    assert second.returncode == 0, second.stderr
    assert LEFT_ALONE not in second.stderr
    assert second.stdout.startswith("0 new log files, ")
    assert not (folder / "state.db").exists()


def test_its_events_are_not_touched_and_another_folder_is_proposed(
    server: S3Server, folder: Path
) -> None:
    gocloudtrail_state(folder / "state.db")
    gocloudtrail_file = folder / "events" / "111122223333" / "us-east-1" / "events_00001.jsonl"
    gocloudtrail_file.parent.mkdir(parents=True)
    gocloudtrail_file.write_text("{}\n")
    (folder / "events-ctrail").mkdir()
    done = ctrail(folder, "sync", env=server.env() | {"AWS_ENDPOINT_URL_S3": server.endpoint_url})
    assert done.returncode == 1
    assert 'name another folder in `events_dir`, such as "events-ctrail2"' in done.stderr
    assert gocloudtrail_file.read_text() == "{}\n"
    assert not (folder / "state.ctrail.db").exists()


def test_a_ledger_of_ours_and_other_databases_are_not_taken_for_its(tmp_path: Path) -> None:
    def chosen() -> str:
        (tmp_path / "config.json").write_text(GOCLOUDTRAIL)
        return load_config({}, tmp_path).settings.state_db.name

    assert chosen() == "state.db", "none is there"
    path = tmp_path / "state.db"
    for content in (b"", b"text", b"SQLite format 3\0" + bytes(84)):
        path.write_bytes(content)
        assert not is_gocloudtrail_state(path)
        assert chosen() == "state.db"
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE state (name TEXT)")
    assert chosen() == "state.db"
    path.unlink()
    gocloudtrail_state(path)
    assert chosen() == "state.ctrail.db"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.json", "state.db"]
