"""An output on a file system without hard links is refused before the bucket is asked anything."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.fault_server import FaultServer
from ctrail_pipeline_tests.support.s3_server import find_rclone
from ctrail_pipeline_tests.support.sync_process import served_sample_settings

MOUNT_SECONDS = 10


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    write_sample(tmp_path / "sample", log_files=5)
    with FaultServer(tmp_path / "sample") as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def disk_without_hard_links(tmp_path: Path) -> Iterator[Path]:
    """A folder that rclone mounts through FUSE: a real file system that refuses each link."""
    rclone = find_rclone()
    if rclone is None or os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("no file system without hard links can be mounted here")
    disk, behind = tmp_path / "disk", tmp_path / "behind"
    disk.mkdir()
    behind.mkdir()
    options = ("--vfs-cache-mode", "writes", "--cache-dir", str(tmp_path / "cache"))
    command = [str(rclone), "mount", f":local:{behind}", str(disk), "--config", os.devnull]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + MOUNT_SECONDS
    while not disk.is_mount() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    try:
        if not disk.is_mount():
            pytest.skip("rclone mounts nothing here")
        yield disk
    finally:
        process.terminate()
        process.communicate()
        if disk.is_mount():
            subprocess.run(["umount", "-l", str(disk)], check=True)


def assert_refused(settings: Settings, server: FaultServer, key: str, root: Path) -> None:
    with pytest.raises(OutputError) as caught:
        sync(settings)
    assert str(caught.value) == (
        f"{root}: no hard link can be made here (Operation not permitted), and files are published"
        f" by hard links: set `{key}` to a folder on another file system (exFAT, FAT, SMB and some"
        " FUSE file systems have no hard links)"
    )
    assert server.counts.requests.total() == 0
    assert list((root / ".staging").iterdir()) == []


@pytest.mark.parametrize("key", ["events_dir", "quarantine_dir", "parquet_dir"])
def test_a_disk_without_hard_links_is_refused_before_the_first_request(
    tmp_path: Path, server: FaultServer, disk_without_hard_links: Path, key: str
) -> None:
    root = disk_without_hard_links / "output"
    root.mkdir()
    changes: dict[str, Any] = {"output_formats": ["jsonl", "parquet"], key: root}
    settings = replace(served_sample_settings(server.endpoint_url, tmp_path), **changes)
    assert_refused(settings, server, key, root)


def test_a_quarantine_that_is_not_there_yet_is_tried_too(
    tmp_path: Path, server: FaultServer, disk_without_hard_links: Path
) -> None:
    root = disk_without_hard_links / "new" / "quarantine"
    settings = replace(served_sample_settings(server.endpoint_url, tmp_path), quarantine_dir=root)
    assert_refused(settings, server, "quarantine_dir", root)


def test_no_folder_is_made_that_is_not_needed(tmp_path: Path, server: FaultServer) -> None:
    settings = served_sample_settings(server.endpoint_url, tmp_path)
    assert sync(settings).ok
    assert not settings.quarantine_dir.exists()


def test_links_that_are_refused_are_said_and_nothing_of_the_try_stays(
    tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = served_sample_settings(server.endpoint_url, tmp_path)

    def refuse(*_paths: object, **_options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr("os.link", refuse)
        assert_refused(settings, server, "events_dir", settings.events_dir)
    assert sync(settings).ok
    assert list((settings.events_dir / ".staging").iterdir()) == []
