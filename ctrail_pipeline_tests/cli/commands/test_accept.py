"""`ctrail accept` and what the other commands say of what it settled."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from ctrail_pipeline.cli import main
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.command import log_files


class Ended(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def ctrail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """`ctrail` in this process, in a folder with a sample of which one log file is damaged."""
    write_sample(tmp_path / "sample", log_files=20, days=1)
    [damaged, *_] = log_files(tmp_path)
    damaged.write_bytes(damaged.read_bytes()[:-20])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTRAIL_CONFIG", raising=False)
    monkeypatch.setattr(main, "_log_to_stderr", lambda *_: None)  # it would outlive the test

    def call(*arguments: str) -> Ended:
        capsys.readouterr()
        code = main.main(arguments)
        return Ended(code, *capsys.readouterr())

    assert call("sync").code == 1
    return call


@pytest.fixture
def address(ctrail: Command, tmp_path: Path) -> str:
    """The address of the damaged log file."""
    return log_files(tmp_path)[0].as_uri()


def test_a_call_that_cannot_be_right_settles_nothing(ctrail: Command, address: str) -> None:
    for arguments, words in [
        ((address,), "give a --reason"),
        ((f"{address}x", address, "--reason", "lost"), f"{address}x: no such log file stands open"),
        (("--reason", "lost"), "name log files"),
        (("--undo", address), "no such log file is accepted"),
        (("--damaged-before", "soon", "--reason", "lost"), "--damaged-before"),
    ]:
        refused = ctrail("accept", *arguments)
        assert (refused.code, refused.out) == (2, "")
        assert words in refused.err
    assert ctrail("accept", "--list").out == ""
    planned = ctrail("accept", "file://*", "--reason", "lost", "--dry-run")
    assert (planned.code, "would be accepted: 1 log file;" in planned.out) == (0, True)
    assert ctrail("accept", "--list").out == ""


def test_it_is_named_and_sync_and_verify_succeed(ctrail: Command, address: str) -> None:
    done = ctrail("accept", address, "--reason", "lost for good", "--by", "ops")
    assert (done.code, done.out.splitlines()) == (
        0,
        [
            f"{address}: damaged: gzip data is cut short",
            "accepted: 1 log file; `ctrail accept --list` shows all, --undo takes it back",
        ],
    )
    assert re.fullmatch(
        re.escape(address) + r": accepted as damaged by ops on \d{4}-\d\d-\d\d \d\d:\d\d UTC:"
        r" lost for good\n",
        ctrail("accept", "--list").out,
    )
    assert ctrail("sync").code == 0
    verified = ctrail("verify", "--json")
    report = json.loads(verified.out)
    assert (verified.code, report["ok"]) == (0, True)
    assert (report["totals"]["accepted"], report["totals"]["damaged"]) == (1, 0)
    assert report["finding_counts"] == {"log file accepted": 1}
    assert "NOTE: log file accepted (1)" in ctrail("verify").out
    undone = ctrail("accept", "--undo", address)
    assert undone.out.splitlines()[-1] == (
        "open again: 1 log file; the next sync tries them at once"
    )
    assert ctrail("sync").code == 1


def test_status_explain_and_manifest_say_so(ctrail: Command, address: str, tmp_path: Path) -> None:
    ctrail("accept", address, "--reason", "lost for good", "--by", "ops")
    assert "1 log files are accepted as they are" in ctrail("status").out
    partitions = json.loads(ctrail("status", "--json").out)["partitions"]
    assert sum(partition["accepted"] for partition in partitions) == 1
    assert sum(partition["damaged"] for partition in partitions) == 0
    metrics = ctrail("status", "--prometheus").out
    counts = re.findall(r"^ctrail_log_files_accepted\{.*\} (\d+)$", metrics, re.MULTILINE)
    assert sum(map(int, counts)) == 1
    [quarantined, *_] = sorted((tmp_path / "quarantine").rglob("quarantine_*.jsonl"))
    explained = ctrail("explain", f"{quarantined}:1").out
    assert re.search(
        "^settled: +accepted as damaged by ops on .*: lost for good$", explained, re.MULTILINE
    )
    explained = json.loads(ctrail("explain", f"{quarantined}:1", "--json").out)
    assert explained["accepted"]["by"] == "ops"
    entries = [json.loads(line) for line in ctrail("manifest").out.splitlines()]
    [entry] = [entry for entry in entries if entry["kind"] == "accepted"]
    assert f"{entry['bucket']}/{entry['key']}" == address
    assert (entry["state"], entry["reason"]) == ("damaged", "lost for good")
    for arguments in (("--account", "999999999999"), ("--end", "2020-01-01")):
        assert '"accepted"' not in ctrail("manifest", *arguments).out
