"""Merged files hold the lines of the old ones, whatever the sizes of lines, files and reads."""

import tracemalloc
from hashlib import sha256
from itertools import pairwise, repeat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctrail_pipeline.core.ledger.queries_compaction import OldFile
from ctrail_pipeline.core.line_runs import LineRun, pack_lineage
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output_files import FileName, Kind
from ctrail_pipeline.core.upkeep import checked_blocks
from ctrail_pipeline.core.upkeep.files_to_merge import groups_of
from ctrail_pipeline.core.upkeep.jsonl_merging import MergedFile, slices_of

LINES = st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"")), min_size=1)


def old_file(path: Path, number: int, lines: list[bytes]) -> tuple[FileName, OldFile]:
    """A file of which each line comes from a log file of its own."""
    data = b"".join(line + b"\n" for line in lines)
    path.write_bytes(data)
    lineage = pack_lineage((position, 1) for position in range(len(lines)))
    return FileName(Kind.EVENTS, "", path.name), OldFile(
        number, 0, 10 * number, len(lines), len(data), sha256(data).digest(), lineage, False
    )


def output_in(root: Path) -> LocalOutput:
    return LocalOutput(root, root / "quarantine")


def merged(
    root: Path, files: list[tuple[FileName, OldFile]], lines_a_file: int
) -> list[tuple[bytes, MergedFile]]:
    """Return what the merged files hold."""
    result = []
    for slices in slices_of(files, repeat(lines_a_file)):
        file = MergedFile(output_in(root), "folder", slices)
        blocks: list[bytes] = []
        file.write_to(blocks.append)
        result.append((b"".join(blocks), file))
    return result


@given(
    contents=st.lists(LINES, min_size=1, max_size=6),
    lines_a_file=st.integers(1, 25),
    block=st.integers(1, 40),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_lines_and_their_origin_are_kept(
    tmp_path: Path, contents: list[list[bytes]], lines_a_file: int, block: int
) -> None:
    files = [
        old_file(tmp_path / f"{number}.jsonl", number, lines)
        for number, lines in enumerate(contents, 1)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checked_blocks, "_BLOCK_BYTES", block)
        results = merged(tmp_path, files, lines_a_file)
    assert [file.problem for _, file in results] == [""] * len(results)
    everything = [line for lines in contents for line in lines]
    assert b"".join(data for data, _ in results) == b"".join(line + b"\n" for line in everything)
    for data, file in results:
        assert data.count(b"\n") == file.line_count <= lines_a_file
    assert all(file.line_count == lines_a_file for _, file in results[:-1])
    owners = [run[:2] for _, file in results for run in file.lineage for _ in range(run.lines)]
    assert owners == [
        (10 * number, position)
        for number, lines in enumerate(contents, 1)
        for position in range(len(lines))
    ]


@given(data=st.data(), block=st.integers(1, 40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_other_byte_is_found(tmp_path: Path, data: st.DataObject, block: int) -> None:
    """A byte is changed, cut off or added: each merged file with lines of the old one tells."""
    lines = data.draw(st.lists(LINES, min_size=2, max_size=4))
    files = [
        old_file(tmp_path / f"{number}.jsonl", number, file_lines)
        for number, file_lines in enumerate(lines, 1)
    ]
    name, old = files[data.draw(st.integers(0, len(files) - 1))]
    path = tmp_path / name.name
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    new = data.draw(
        st.sampled_from(
            [
                content[:at],
                content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :],
                content + b"\n",
                content + content,
            ]
        )
    )
    path.write_bytes(new)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checked_blocks, "_BLOCK_BYTES", block)
        results = merged(tmp_path, files, data.draw(st.integers(1, 25)))
    concerned = [file for _, file in results if any(piece.old is old for piece in file.slices)]
    assert concerned
    for file in concerned:
        assert file.problem.startswith(f"{path} is not as it was written")
    assert all(file.problem == "" for _, file in results if file not in concerned)


def test_a_ledger_that_counts_other_lines_is_found(tmp_path: Path) -> None:
    name, old = old_file(tmp_path / "1.jsonl", 1, [b"a", b"b"])
    [(_, file)] = merged(tmp_path, [(name, old._replace(lines=3))], 10)
    assert "has 2 lines, and the ledger says 3" in file.problem


def test_runs_of_one_log_file_become_one_again(tmp_path: Path) -> None:
    """The lines of a batch did not fit into one file: one file ends with it, one begins with it."""
    first, second = (old_file(tmp_path / f"{n}.jsonl", n, [b"a", b"b"]) for n in (1, 2))
    files = [
        (first[0], first[1]._replace(batch=7, lineage=pack_lineage([(0, 1), (4, 1)]))),
        (second[0], second[1]._replace(batch=7, lineage=pack_lineage([(4, 2)]))),
    ]
    [(_, file)] = merged(tmp_path, files, 10)
    assert file.lineage == [LineRun(7, 0, 1), LineRun(7, 4, 3)]


def test_memory_does_not_depend_on_the_size_of_files_or_lines(tmp_path: Path) -> None:
    """Two lines have 20 MB each: one file gets the first and another the second."""
    files = [old_file(tmp_path / "1.jsonl", 1, [b"x" * 20_000_000, b"y" * 20_000_000, b"z"])]
    sizes = []
    tracemalloc.start()
    for slices in slices_of(files, repeat(1)):
        size = 0

        def put(block: bytes) -> None:
            nonlocal size
            size += len(block)

        MergedFile(output_in(tmp_path), "folder", slices).write_to(put)
        sizes.append(size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sizes == [20_000_001, 20_000_001, 2]
    assert peak < 8_000_000


@given(st.lists(st.integers(1, 100), max_size=20))
def test_groups_are_of_neighbours_and_not_too_large(sizes: list[int]) -> None:
    groups = groups_of(sizes, 100)
    for group in groups:
        assert len(group) > 1
        assert sum(sizes[at] for at in group) <= 100
        assert all(earlier + 1 == later for earlier, later in pairwise(group))
    grouped = [at for group in groups for at in group]
    assert grouped == sorted(set(grouped))
    # Two neighbours that are left alone would be too large together.
    for earlier, later in pairwise(range(len(sizes))):
        if earlier not in grouped and later not in grouped:
            assert sizes[earlier] + sizes[later] > 100
