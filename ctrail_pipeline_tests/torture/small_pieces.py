"""Processes that read usual log files as they read those over 32 MB: in parts, or mapped.

No campaign has time for log files of that size. So some sync processes, and their worker processes,
lower the sizes from which on the pipeline streams a log file, cuts it and takes it through in
rounds. The pipeline itself knows nothing of this.

The processes note what they streamed in files, a byte each, since a killed process cannot report.
"""

import json
import os
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Final, NamedTuple

from ctrail_pipeline.core.batch import content, fetch
from ctrail_pipeline.core.log_file import (
    fast_path,
    json_scan,
    mapped_text,
    members,
    split,
    streaming,
)
from ctrail_pipeline.core.log_file.decompress import Decompressed, decompress_to_file
from ctrail_pipeline.core.log_file.mapped_text import MappedText
from ctrail_pipeline.core.log_file.record import LogFileContent
from ctrail_pipeline.core.log_file.streaming import StreamedLogFile, stream

_STREAMED: Final = b"s"
_PART: Final = b"p"
_UNPACKED: Final = b"u"
_MANY_FROM: Final = fast_path.CHUNK // 4
"""Bytes of a text from which on the pipeline samples how many elements it may have."""
_WORKER: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]);"
    " from ctrail_pipeline_tests.torture.small_pieces import lower_as_told; lower_as_told({!r});"
    " from ctrail_pipeline.core.run.worker_process import main; main(int(sys.argv[1]))"
)


@dataclass(frozen=True)
class SmallPieces:
    """Sizes that replace the pipeline's, which are 10 to 10,000 times as large."""

    streamed_from: int = 0
    largest_at_once: int = 20_000
    chunk: int = 1_000
    part: int = 4_000
    read: int = 64
    inflate: int = 200
    pieces_at_once: int = 20

    @classmethod
    def drawn(cls, rng: Random) -> "SmallPieces":
        """Draw sizes. Some stream log files of a few records, others only larger ones."""
        chunk = rng.choice([300, 2_000, 8_000])
        return cls(
            streamed_from=rng.choice([0, 0, 0, 5_000]),
            largest_at_once=rng.choice([20_000, 100_000]),
            chunk=chunk,
            part=chunk * rng.choice([1, 4]),
            read=rng.choice([16, 64, 1_000]),
            inflate=rng.choice([100, 500, 4_000]),
            pieces_at_once=rng.choice([8, 20, 50_000]),
        )

    def values(self) -> list[tuple[ModuleType, str, Any]]:
        """The values to change: module, name in the module, new value."""
        in_hand = self.part + 2 * self.chunk
        return [
            (streaming, "STREAMED_FROM", self.streamed_from),
            (fetch, "STREAMED_FROM", self.streamed_from),
            (streaming, "LARGEST_AT_ONCE", self.largest_at_once),
            (streaming, "CHUNK", self.chunk),
            (streaming, "PART_BYTES", self.part),
            (members, "_FIRST_PIECE", self.read),
            (members, "READ_AT_ONCE", self.inflate),
            (streaming, "IN_HAND", in_hand),
            (fetch, "IN_HAND", in_hand),
            (content, "PIECES_AT_ONCE", self.pieces_at_once),
            # A log file that cannot be streamed is unpacked into a file, and cut there.
            (mapped_text, "_PIECE", 3 * self.read),
            (json_scan, "_LONGEST_COPY_OF_MAPPED", self.inflate),
            (split, "PART_BYTES", self.part),
            (fast_path, "LARGEST_AT_ONCE", self.largest_at_once),
            (fast_path, "CHUNK", self.chunk),
            (fast_path, "may_have_many_elements", _may_have_many_elements),
        ]


class Noted(NamedTuple):
    """Counts of what the processes of one job streamed."""

    log_files: int = 0
    """Log files that were streamed, counted at each fetch."""
    parts: int = 0
    """Parts behind the first part of a log file, counted at each reading."""
    in_workers: int = 0
    """Log files that worker processes streamed."""
    unpacked: int = 0
    """Log files that could not be streamed and were mapped, counted at each fetch."""
    died_at_a_part: bool = False
    """Whether a process killed itself after it had read a part."""


@dataclass
class _Told:
    """Where a process notes what it streams, and when it dies; as JSON in a worker's command."""

    pieces: SmallPieces
    notes: str
    """The file for notes. A process appends to it."""
    kill_at_part: int = 0
    """Parts behind first ones after which a process dies, unless one of the job has. 0: never."""
    parts: int = field(default=0, init=False)

    def note(self, mark: bytes) -> None:
        descriptor = os.open(self.notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, mark)
        os.close(descriptor)

    def note_part(self) -> None:
        self.note(_PART)
        self.parts += 1
        if self.parts == self.kill_at_part and not _has_died(self.notes):
            _died_file(self.notes).touch()
            os.kill(os.getpid(), signal.SIGKILL)


def lower(pieces: SmallPieces, notes: Path, kill_at_part: int = 0) -> None:
    """Lower the sizes in this process for good, and in the worker processes that it starts."""
    from ctrail_pipeline.core.run import worker_handle

    workers_are_told = asdict(_Told(pieces, f"{notes}.workers", kill_at_part))
    vars(worker_handle)["START"] = _WORKER.format(json.dumps(workers_are_told))
    _lower(_Told(pieces, str(notes), kill_at_part))


def lower_as_told(argument: str) -> None:
    """Lower the sizes in a worker process, as its command says."""
    values = json.loads(argument)
    _lower(_Told(SmallPieces(**values["pieces"]), values["notes"], values["kill_at_part"]))


def noted(notes: Path) -> Noted:
    """Count what the job with these notes has streamed up to now."""
    of_process, of_workers = (
        path.read_bytes() if path.exists() else b"" for path in (notes, Path(f"{notes}.workers"))
    )
    return Noted(
        (of_process + of_workers).count(_STREAMED),
        (of_process + of_workers).count(_PART),
        of_workers.count(_STREAMED),
        (of_process + of_workers).count(_UNPACKED),
        _has_died(str(notes)) or _has_died(f"{notes}.workers"),
    )


def _lower(notebook: _Told) -> None:
    for module, name, value in notebook.pieces.values():
        vars(module)[name] = value

    def noting_stream(body: bytes, limit: int, *, hashed: bool = True) -> StreamedLogFile | None:
        streamed = stream(body, limit, hashed=hashed)
        if streamed is not None:
            notebook.note(_STREAMED)
        return streamed

    def noting_file(body: bytes, limit: int, folder: Path, *, hashed: bool = True) -> Decompressed:
        content = decompress_to_file(body, limit, folder, hashed=hashed)
        if isinstance(content.data, MappedText):
            notebook.note(_UNPACKED)
        return content

    part = StreamedLogFile.part

    def noting_part(self: StreamedLogFile, number: int, limit: int) -> LogFileContent:
        content = part(self, number, limit)
        if number:
            notebook.note_part()
        return content

    vars(fetch)["stream"] = noting_stream
    vars(fetch)["decompress_to_file"] = noting_file
    type.__setattr__(StreamedLogFile, "part", noting_part)


_really_may_have_many_elements = fast_path.may_have_many_elements


def _may_have_many_elements(data: bytes) -> bool:
    """Answer as the pipeline does, except that a text too short for a sample has few elements."""
    return len(data) > _MANY_FROM and _really_may_have_many_elements(data)


def _died_file(notes: str) -> Path:
    return Path(f"{notes}.died")


def _has_died(notes: str) -> bool:
    return _died_file(notes).exists()
