"""Somebody else may write where our output lies: we write and remove nothing through their links.

The output folders are private, so this takes a mistake of the owner, such as a folder of mode 0777.
Then a warning says so, and a sync still writes and removes nothing behind a link.
"""

import gzip
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    local_trail,
    put_object,
    settings_in,
)

ACCOUNT, REGION = "111122223333", "eu-west-1"
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)
FOLDER = f"{ACCOUNT}/{REGION}/2026/01/10/12"


def put(bucket: Path, number: int) -> None:
    """A log file with an event, and with a record that goes to quarantine."""
    record = {
        "eventTime": f"{NOON:%Y-%m-%dT%H:%M:%SZ}",
        "awsRegion": REGION,
        "recipientAccountId": ACCOUNT,
        "eventID": str(number),
    }
    key = (
        f"AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/2026/01/10/"
        f"{ACCOUNT}_CloudTrail_{REGION}_20260110T1205Z_{number:016}.json.gz"
    )
    body = json.dumps({"Records": [record, {"number": number}]}).encode()
    put_object(bucket, key, gzip.compress(body, mtime=0), NOON)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    put(tmp_path / "bucket", 1)
    return settings_in(
        tmp_path,
        [local_trail(tmp_path / "bucket")],
        output_formats=("jsonl", "parquet"),
        parquet_dir=tmp_path / "parquet",
    )


@pytest.fixture
def foreign_folder(tmp_path: Path) -> Path:
    """A folder of another user, as deep as a staging folder."""
    folder = tmp_path / "theirs"
    for name in ("precious", ".hidden"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("theirs")
    return folder


def content_of(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def do_rebuild(settings: Settings) -> None:
    rebuild(settings, force=True)


def do_compact(settings: Settings) -> None:
    compact(settings)


def do_prune(settings: Settings) -> None:
    prune(settings, datetime(2027, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("work", [sync, do_rebuild, do_compact, do_prune])
@pytest.mark.parametrize("root", ["events", "quarantine", "parquet"])
def test_what_a_link_in_place_of_the_staging_folders_leads_to_is_not_removed(
    settings: Settings, foreign_folder: Path, root: str, work: Callable[[Settings], object]
) -> None:
    """A sync removes staged files that belong to no batch, but never through a link."""
    assert sync(settings).ok
    before = content_of(foreign_folder)
    link = settings.events_dir.parent / root / ".staging"
    link.rmdir()
    link.symlink_to(foreign_folder)
    put(settings.events_dir.parent / "bucket", 2)
    with pytest.raises(OutputError, match=r"\.staging is a link, which this program never makes"):
        work(settings)
    assert content_of(foreign_folder) == before
    link.unlink()
    assert sync(settings).ok
    assert_exact(settings, read_buckets([(settings.events_dir.parent / "bucket", "")]))


@pytest.mark.parametrize("root", ["events", "quarantine", "parquet"])
@pytest.mark.parametrize("depth", [0, 1, -1])
def test_nothing_is_written_behind_a_link_in_place_of_a_folder(
    settings: Settings, foreign_folder: Path, root: str, depth: int
) -> None:
    folder = {
        "events": FOLDER,
        "quarantine": "2026/01/10",
        "parquet": f"account={ACCOUNT}/region={REGION}/date=2026-01-10",
    }[root]
    parts = folder.split("/")
    link = settings.events_dir.parent.joinpath(root, *parts[: depth % len(parts) + 1])
    assert sync(settings).ok  # the folders, and who they belong to, are there
    assert (settings.events_dir.parent / root / folder).is_dir()
    link.rename(settings.events_dir.parent / "aside")
    before = content_of(foreign_folder)
    link.symlink_to(foreign_folder)
    put(settings.events_dir.parent / "bucket", 2)
    with pytest.raises(OutputError, match="is a link, which this program never makes"):
        sync(settings)
    assert content_of(foreign_folder) == before
    link.unlink()
    (settings.events_dir.parent / "aside").rename(link)
    assert sync(settings).ok
    assert_exact(settings, read_buckets([(settings.events_dir.parent / "bucket", "")]))


def test_nothing_is_removed_behind_a_link(settings: Settings, tmp_path: Path) -> None:
    """The link leads to a copy with files of our names. Prune must not remove them."""
    assert sync(settings).ok
    account = settings.events_dir / ACCOUNT
    account.rename(tmp_path / "theirs")
    account.symlink_to(tmp_path / "theirs")
    before = content_of(tmp_path / "theirs")
    with pytest.raises(OutputError, match="is a link, which this program never makes"):
        do_prune(settings)
    assert content_of(tmp_path / "theirs") == before


def test_a_root_may_be_a_link_of_its_owners(settings: Settings, tmp_path: Path) -> None:
    for name in ("events", "quarantine", "parquet"):
        (tmp_path / "large disk" / name).mkdir(parents=True, mode=0o700)
        (tmp_path / name).symlink_to(tmp_path / "large disk" / name)
    assert sync(settings).ok
    really = replace(
        settings,
        events_dir=settings.events_dir.resolve(),
        quarantine_dir=settings.quarantine_dir.resolve(),
    )
    assert really.events_dir == tmp_path / "large disk" / "events"
    assert_exact(really, read_buckets([(tmp_path / "bucket", "")]))


@pytest.mark.parametrize("name", ["events", "quarantine", "parquet"])
def test_a_folder_that_is_open_to_all_is_said_and_what_we_put_there_is_private(
    settings: Settings, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    root = settings.events_dir.parent / name
    root.mkdir()
    root.chmod(0o777)
    assert sync(settings).ok
    assert f"{root} is open to other users (mode 777): chmod 700 it" in caplog.text
    below = list(root.rglob("*"))
    assert below
    for path in below:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_link_in_place_of_the_marker_is_replaced_and_not_written_through(
    settings: Settings, tmp_path: Path
) -> None:
    assert sync(settings).ok
    marker = settings.events_dir / ".ctrail"
    copy = tmp_path / "copy"
    copy.write_text(before := marker.read_text())
    marker.unlink()
    marker.symlink_to(copy)
    put(tmp_path / "bucket", 2)
    assert sync(settings).ok
    assert copy.read_text() == before
    assert not marker.is_symlink()
