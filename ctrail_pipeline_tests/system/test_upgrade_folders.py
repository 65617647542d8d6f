"""Output of a version that filed events under their caller: nothing doubles, nothing moves."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ctrail_pipeline.core.audit.explain import explainer
from ctrail_pipeline.core.audit.sought import Sought
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline_tests.support.oracle import snapshot
from ctrail_pipeline_tests.support.sync_process import local_trail
from ctrail_pipeline_tests.support.version_3 import lay_out
from ctrail_pipeline_tests.support.version_3.make import ACCOUNT, CALLER, REGION, record

OTHER = "444455556666"
OF_CALLER = f"{CALLER}/{REGION}/2026/01/10/12"
AFTER_UPGRADE = {record(9, eventTime="2026-01-10T12:09:00+00:00")}
"""What the earlier version did not take for a UTC time: it may come in, once."""


def copies_below_other_keys(bucket: Path, target: Path) -> Path:
    """Make a bucket with the same bytes below the keys of another account."""
    for path in bucket.rglob("*.json.gz"):
        key = path.relative_to(bucket).as_posix().replace(ACCOUNT, OTHER)
        (target / key).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / key)
    return target


@pytest.mark.parametrize("is_rebuilt", [False, True], ids=["the ledger of then", "rebuilt"])
def test_trails_with_the_same_bytes_add_no_line(tmp_path: Path, is_rebuilt: bool) -> None:
    settings = lay_out(tmp_path)
    files = {path: path.read_bytes() for path in settings.events_dir.rglob("*.jsonl")}
    lines = snapshot(settings.events_dir)
    if is_rebuilt:
        settings.state_db.unlink()
        assert rebuild(settings).events == len(lines)
    bucket = tmp_path / "bucket"
    for copy in (
        shutil.copytree(bucket, tmp_path / "same"),
        copies_below_other_keys(bucket, tmp_path / "other"),
    ):
        settings = replace(settings, trails=(*settings.trails, local_trail(copy)))
        sync(settings)  # one log file is damaged
        added = snapshot(settings.events_dir) - lines
        assert added <= AFTER_UPGRADE
        assert {path: path.read_bytes() for path in files} == files


def explained(settings: Settings, number: int) -> list[tuple[str, bytes]]:
    """Return folder and line of the events with an eventID."""
    with explainer(settings) as explain:
        return [
            (line.file.folder, line.data)
            for line in explain.lines(Sought(event_id=f"{number:08}-0000-4000-8000-000000000000"))
        ]


def test_explain_finds_events_of_then_and_of_now_in_their_folders(tmp_path: Path) -> None:
    settings = lay_out(tmp_path)
    new = record(30, recipientAccountId=None)
    bucket = tmp_path / "bucket"
    [path] = bucket.rglob("*A.json.gz")
    path.with_name(path.name.replace("1215Z", "1216Z")).write_bytes(
        b'{"Records":[' + record(3, recipientAccountId=None) + b"," + new + b"]}"
    )
    sync(settings)
    assert explained(settings, 3) == [(OF_CALLER, record(3, recipientAccountId=None))]
    assert explained(settings, 30) == [(OF_CALLER.replace(CALLER, ACCOUNT), new)]
