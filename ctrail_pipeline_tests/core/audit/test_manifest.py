"""The list for a case file is read by a reader that shares no code with its writer."""

import gzip
import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.command import ctrail


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sample(tmp_path / "sample", log_files=80)
    assert ctrail(tmp_path, "sync").returncode == 0
    return tmp_path


def read(data: bytes) -> list[dict[str, Any]]:
    """Return the entries if the last line's hash is the hash of all bytes before it."""
    lines = data.splitlines(keepends=True)
    end = json.loads(lines[-1])
    if hashlib.sha256(b"".join(lines[:-1])).hexdigest() != end["sha256"]:
        raise ValueError("the list was changed")
    header, *files = map(json.loads, lines[:-1])
    assert header["kind"] == "header"
    assert all(file["kind"] == "file" for file in files)
    assert (end["kind"], end["files"]) == ("end", len(files))
    assert end["lines"] == sum(file["lines"] for file in files)
    assert end["bytes"] == sum(file["bytes"] for file in files)
    return files


def test_it_names_every_file_with_its_hash_and_the_log_files_of_its_lines(folder: Path) -> None:
    process = ctrail(folder, "manifest", "--output", "case.jsonl")
    assert (process.returncode, process.stdout) == (0, ""), process.stderr
    assert stat.S_IMODE((folder / "case.jsonl").stat().st_mode) == 0o600
    files = read((folder / "case.jsonl").read_bytes())
    present = {str(p.relative_to(folder / "events")) for p in (folder / "events").rglob("*.jsonl")}
    assert {file["path"] for file in files} == present
    for file in files:
        data = (folder / "events" / file["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["sha256"]
        assert (len(data), data.count(b"\n")) == (file["bytes"], file["lines"])
        lines = data.splitlines()
        for source in file["log_files"]:
            own, lines = lines[: source["lines"]], lines[source["lines"] :]
            path = Path(source["bucket"].removeprefix("file://")) / source["key"]
            text = gzip.decompress(path.read_bytes())
            assert hashlib.sha256(text).hexdigest() == source["sha256"]
            assert all(line in text for line in own)
            assert own
        assert lines == []


def test_any_change_of_it_is_seen(folder: Path) -> None:
    data = ctrail(folder, "manifest").stdout.encode()
    read(data)
    lines = data.splitlines(keepends=True)
    for changed in (
        data.replace(b'"lines":', b'"lines": ', 1),
        b"".join(lines[:3] + lines[4:]),
        b"".join([lines[0], lines[2], lines[1], *lines[3:]]),
        b"".join([*lines[:-1], lines[1], lines[-1]]),
    ):
        assert changed != data
        with pytest.raises(ValueError, match="changed"):
            read(changed)


def test_a_choice_by_account_and_hour(folder: Path) -> None:
    def paths(*options: str) -> set[str]:
        return {file["path"] for file in read(ctrail(folder, "manifest", *options).stdout.encode())}

    all_paths = paths()
    assert paths("--account", "2*") == {path for path in all_paths if path.startswith("2")}
    day = paths("--start", "2026-01-13", "--end", "2026-01-14")
    assert day == {path for path in all_paths if "/2026/01/13/" in path}
    assert set() < day < all_paths


def test_a_file_that_is_there_is_not_overwritten(folder: Path) -> None:
    (folder / "case.jsonl").write_text("signed")
    process = ctrail(folder, "manifest", "--output", "case.jsonl")
    assert process.returncode == 1
    assert "is there already" in process.stderr
    assert (folder / "case.jsonl").read_text() == "signed"
    assert [path for path in folder.iterdir() if path.name.startswith(".case")] == []


def test_pruned_files_are_not_in_it(folder: Path) -> None:
    assert ctrail(folder, "prune", "--before", "2026-01-14").returncode == 0
    files = read(ctrail(folder, "manifest").stdout.encode())
    present = {str(p.relative_to(folder / "events")) for p in (folder / "events").rglob("*.jsonl")}
    assert {file["path"] for file in files} == present


def test_without_a_ledger_there_is_nothing_to_list(tmp_path: Path) -> None:
    process = ctrail(tmp_path, "manifest", "--output", "case.jsonl")
    assert process.returncode == 2
    assert "no ledger" in process.stderr
    assert list(tmp_path.iterdir()) == []
