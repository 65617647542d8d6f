"""What every output does, whatever keeps its files."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from ctrail_pipeline.core.exceptions import LedgerError, OutputError
from ctrail_pipeline.core.output.contents import Contents, contents_of
from ctrail_pipeline.core.output.interface import Entry, Marker, Output
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output.marker import check_owner, replace_marker, write_marker
from ctrail_pipeline.core.output.new_files import NewFile
from ctrail_pipeline.core.output_files import FileName, Kind, PublishedFile
from ctrail_pipeline_tests.support.output_buckets import output_in, seaweedfs_bucket

HOUR = "111122223333/us-east-1/2024/01/02/03"
NEXT_HOUR = "111122223333/us-east-1/2024/01/02/04"
LINES = [b'{"a":1}', b'{"b":2}', b'{"c":3}']
TEXT = b'{"a":1}\n{"b":2}\n{"c":3}\n'


@pytest.fixture(params=["folder", "bucket"])
def output(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Output]:
    output: Output
    if request.param == "folder":
        output = LocalOutput(tmp_path / "events", tmp_path / "quarantine")
    else:
        output = output_in(seaweedfs_bucket(monkeypatch), tmp_path)
    output.stage_for("5a0b8a4e-9d3f-4a54-8f59-0d3a30a1a3f5")
    yield output
    output.close()


def put(output: Output, folder: str, number: int = 1, kind: Kind = Kind.EVENTS) -> FileName:
    """Publish a file as a batch does."""
    staging = output.staging_of(os.urandom(8).hex())
    staging.open()
    [staged] = staging.write([NewFile(kind, folder, LINES, [(0, 3)])])
    file = PublishedFile(0, kind, folder, number, staged.size)
    assert staging.publish([file], lambda file: file, lambda _: None) == []
    staging.remove()
    return FileName(kind, folder, file.name)


def test_a_file_is_read_whole_and_in_ranges(output: Output) -> None:
    file = put(output, HOUR)
    with output.open(file) as stored:
        assert stored.read() == TEXT
    with output.on_disk(file) as path:
        assert path.read_bytes() == TEXT
    ranges = [output.read_range(file, start, 8) for start in range(0, 32, 8)]
    assert ranges == [b'{"a":1}\n', b'{"b":2}\n', b'{"c":3}\n', b""]
    assert contents_of(output, file) == Contents(sha256(TEXT).digest(), 3, len(TEXT))


def test_a_file_that_is_not_there_has_no_entry_and_cannot_be_read(output: Output) -> None:
    file = FileName(Kind.EVENTS, HOUR, "events_00009.jsonl")
    assert output.entry(file) is None
    assert output.entries(Kind.EVENTS, HOUR) == {}
    assert list(output.walk(Kind.EVENTS)) == []
    with pytest.raises(FileNotFoundError):
        output.open(file)
    with pytest.raises(FileNotFoundError):
        output.read_range(file, 0, 1)


def test_published_files_are_listed_with_their_sizes_and_staged_files_are_not(
    output: Output,
) -> None:
    for folder, number in ((NEXT_HOUR, 1), (HOUR, 2), (HOUR, 1)):
        put(output, folder, number)
    staging = output.staging_of("token")
    staging.open()
    staging.write([NewFile(Kind.EVENTS, HOUR, LINES, [(0, 3)])])
    entry = Entry(len(TEXT), True)
    assert output.entries(Kind.EVENTS, HOUR) == {
        "events_00001.jsonl": entry,
        "events_00002.jsonl": entry,
    }
    found = [(folder, list(names)) for folder, names in output.walk(Kind.EVENTS)]
    assert found == [
        (HOUR, ["events_00001.jsonl", "events_00002.jsonl"]),
        (NEXT_HOUR, ["events_00001.jsonl"]),
    ]
    assert list(output.walk(Kind.EVENTS, NEXT_HOUR)) == found[1:]
    assert output.staging_tokens() == {"token"}
    staging.close()


def test_a_removed_file_is_gone_and_may_be_removed_again(output: Output) -> None:
    file, other = put(output, HOUR), put(output, NEXT_HOUR)
    for _ in range(2):
        output.remove([file])
        assert output.entry(file) is None
    assert output.entry(other) == Entry(len(TEXT), True)


def test_a_file_that_is_set_aside_keeps_its_bytes(output: Output) -> None:
    file = put(output, HOUR)
    address = output.set_aside(file, "_aside")
    aside = file._replace(name="_aside")
    assert output.entry(file) is None
    assert address == output.address_of(aside)
    assert contents_of(output, aside).sha256 == sha256(TEXT).digest()


def test_lines_are_appended_to_a_file_that_may_be_new(output: Output) -> None:
    output.make(Kind.QUARANTINE)
    file = FileName(Kind.QUARANTINE, "", "notes.jsonl")
    output.append(file, b"one\n")
    output.append(file, b"two\nthree\n")
    with output.open(file) as stored:
        assert stored.read() == b"one\ntwo\nthree\n"


def test_a_file_is_meant_by_its_address_or_by_its_path_below_the_root(output: Output) -> None:
    file = put(output, HOUR)
    for text in (output.address_of(file), f"{HOUR}/{file.name}"):
        assert file in output.files_meant_by(text)
    assert list(output.files_meant_by("/elsewhere/events_00001.jsonl")) == []


# -- markers ----------------------------------------------------------------------------------


def test_a_marker_is_replaced_only_if_it_is_as_it_was_read(output: Output) -> None:
    output.make(Kind.EVENTS)
    first, second, third = (Marker("ledger", generation) for generation in (1, 2, 3))
    assert (output.read_marker(Kind.EVENTS), output.is_marked(Kind.EVENTS)) == (None, False)
    assert output.replace_marker(Kind.EVENTS, first, None)
    assert not output.replace_marker(Kind.EVENTS, third, None)
    assert not output.replace_marker(Kind.EVENTS, third, second)
    assert output.read_marker(Kind.EVENTS) == first
    assert output.replace_marker(Kind.EVENTS, second, first)
    assert (output.read_marker(Kind.EVENTS), output.is_marked(Kind.EVENTS)) == (second, True)


def test_a_newer_generation_that_is_noted_stays(output: Output) -> None:
    output.make(Kind.EVENTS)
    for generation, noted in ((2, 2), (1, 2), (3, 3)):
        write_marker(output, Kind.EVENTS, "ledger", generation)
        assert output.read_marker(Kind.EVENTS) == Marker("ledger", noted)
    with pytest.raises(LedgerError, match="belongs to another ledger"):
        check_owner(output, Kind.EVENTS, "other")
    replace_marker(output, Kind.EVENTS, "other", 1)
    assert check_owner(output, Kind.EVENTS, "other") == Marker("other", 1)


# -- before work ------------------------------------------------------------------------------


def test_an_output_that_can_be_published_to_passes_the_probe(output: Output) -> None:
    output.probe()
    put(output, HOUR)
    output.probe()
    assert output.staging_tokens() == set()


def test_markers_and_staged_files_are_no_files_of_a_root(output: Output) -> None:
    assert not output.holds_files(Kind.EVENTS)
    output.make(Kind.EVENTS)
    write_marker(output, Kind.EVENTS, "ledger", 1)
    staging = output.staging_of("token")
    staging.open()
    staging.close()
    assert not output.holds_files(Kind.EVENTS)
    put(output, HOUR)
    assert output.holds_files(Kind.EVENTS)


# -- links in a local folder ------------------------------------------------------------------


def test_a_link_in_a_files_place_is_no_file_and_is_not_read(tmp_path: Path) -> None:
    output = LocalOutput(tmp_path / "events", tmp_path / "quarantine")
    file = put(output, HOUR)
    path = Path(output.address_of(file))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    entry = output.entry(file)
    assert entry is not None
    assert not entry.is_file
    with pytest.raises(OSError, match="symbolic link"):
        output.open(file)


def test_what_lies_behind_a_link_is_not_walked_and_not_removed(tmp_path: Path) -> None:
    output = LocalOutput(tmp_path / "events", tmp_path / "quarantine")
    file = put(output, HOUR)
    account = tmp_path / "events" / "111122223333"
    account.rename(tmp_path / "elsewhere")
    account.symlink_to(tmp_path / "elsewhere")
    assert list(output.walk(Kind.EVENTS)) == list(output.walk(Kind.EVENTS, HOUR)) == []
    with pytest.raises(OutputError, match="is a link"):
        output.remove([file])
    assert output.entry(file) is not None
