"""Merging Parquet files of a day into one: the same rows, columns and metadata, in order of time.

Rows are read a span of time at a time, from the files that have rows of the span, then sorted and
encoded at once. So memory depends on the size of a row group. Which files are merged belongs to
`files_to_merge`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ctrail_pipeline.core.ledger.queries_compaction import OldFile
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output.parquet import LEVEL, ROWS_A_GROUP
from ctrail_pipeline.core.output_files import Compression, Kind, NamedFile

from .checked_blocks import Altered, checked_blocks

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

_TIME: Final = "eventTime"
_BYTES_A_SPAN: Final = 32 * 1024 * 1024
"""About how many bytes of text are in memory at once, and in a row group."""
_MOST_BYTES_OF_A_TIME: Final = 4 * _BYTES_A_SPAN
_FEWEST_ROWS_A_GROUP: Final = 256
_LEFT: Final = "merging them takes too much memory, so the folder is left as it is"
_ONE_AT_A_TIME: Final = Lock()
"""Several threads write files, and polars uses all CPUs for each file."""


@dataclass
class MergedParquetFile:
    """A Parquet file to be written, from the rows of several old files."""

    output: Output
    """Where the old files are."""
    folder: str
    old: Sequence[tuple[NamedFile, OldFile]]
    kind: Kind = Kind.PARQUET
    lineage: Sequence[Sequence[int]] = ()
    is_merged: bool = True
    compression: Compression = Compression.NONE
    text_bytes: int | None = None
    parquet_batch: int | None = None
    problem: str = ""
    """Set while the file is written, if an old file is found altered: the file must not be used."""

    @property
    def line_count(self) -> int:
        """How many rows the file has."""
        return sum(file.lines for _, file in self.old)

    def write_to(self, put: Callable[[bytes], None]) -> None:
        """Write the file's bytes, in pieces; set `problem` if an old file is found altered."""
        out = _Out(put)
        try:
            with _ONE_AT_A_TIME, ExitStack() as stack:
                for file, old in self.old:
                    for _ in checked_blocks(self.output, file, old):
                        pass
                on_disk = [self.output.on_disk(file) for file, _ in self.old]
                self._merge([stack.enter_context(path) for path in on_disk], out)
        except Altered as altered:
            self.problem = str(altered)
        except Exception:
            if out.error is not None:  # polars raised an error of its own in its place
                raise out.error from None
            raise

    def _merge(self, paths: Sequence[Path], out: "_Out") -> None:
        from polars.io.plugins import register_io_source

        schema, metadata = _common(paths)
        times = [_times_of(path) for path in paths]
        spans, rows_a_group = _spans(times, paths[0].parent)
        rows = 0

        def frames(
            _columns: object, _predicate: object, _rows: object, _size: object
        ) -> Iterator["pl.DataFrame"]:
            nonlocal rows
            for start, end in spans:
                frame = _read(paths, times, start, end)
                rows += frame.height
                yield frame

        register_io_source(frames, schema=schema).sink_parquet(
            out,  # type: ignore[call-overload]  # an object that can be written to is enough
            compression="zstd",
            compression_level=LEVEL,
            statistics=True,
            row_group_size=rows_a_group,
            maintain_order=True,
            metadata=metadata,
        )
        if rows != self.line_count:
            raise Altered(
                f"{paths[0].parent}: {rows} rows were read, and the ledger says {self.line_count}:"
                " the folder is not compacted; restore the ledger from a backup as new as the"
                " output"
            )


class _Out:
    """A file for polars to write to; `error` is the error that a write ended with."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Pass on some bytes."""
        try:
            self._put(bytes(data))
        except BaseException as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """Do nothing: no bytes are held back."""


class _Times(NamedTuple):
    """The times of a file's rows, and how large the rows are."""

    frame: "pl.DataFrame"
    first: "datetime"
    last: "datetime"


def _common(paths: Sequence[Path]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the columns and metadata that the files share. Raises Altered if they differ."""
    import polars as pl

    with _readable(paths[0].parent):
        found = [
            (dict(pl.read_parquet_schema(path)), _own(pl.read_parquet_metadata(path)))
            for path in paths
        ]
    for path, of_file in zip(paths, found, strict=True):
        if of_file != found[0]:
            raise Altered(
                f"{path} has other columns than {paths[0].name}, as another version of this program"
                " wrote it: its folder is not compacted"
            )
    return found[0]


def _own(metadata: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in metadata.items() if name.startswith("ctrail_")}


def _times_of(path: Path) -> _Times:
    import polars as pl

    with _readable(path):
        rows = pl.scan_parquet(path, hive_partitioning=False)
        size = pl.sum_horizontal(pl.selectors.string().str.len_bytes()).cast(pl.UInt32)
        frame = rows.select(_TIME, size=size).collect(engine="streaming")
    return _Times(frame, frame[_TIME].min(), frame[_TIME].max())  # type: ignore[arg-type]


def _spans(times: Sequence[_Times], where: Path) -> tuple[list[tuple["datetime", "datetime"]], int]:
    """Return the first and last time of rows that are read at once, and the rows of a group.

    All rows of one time are in one span. Raises Altered if they are too large to be held, or if
    rows are so large that a group could hold only a few. No usual day is like that, but whoever
    writes to the bucket could make one.
    """
    import polars as pl

    by_time = (
        pl.concat(of_file.frame for of_file in times)
        .group_by(_TIME)
        .agg(rows=pl.len(), size=pl.col("size").sum().cast(pl.UInt64))
        .sort(_TIME)
    )
    spans: list[tuple[datetime, datetime]] = []
    span_rows = span_size = largest_row = 0
    for time, more_rows, more_size in by_time.iter_rows():
        if (
            spans
            and span_rows + more_rows <= ROWS_A_GROUP
            and (span_size + more_size <= _BYTES_A_SPAN)
        ):
            spans[-1] = spans[-1][0], time
        else:
            spans.append((time, time))
            span_rows = span_size = 0
        span_rows += more_rows
        span_size += more_size
        largest_row = max(largest_row, span_size // span_rows)
        if more_size > _MOST_BYTES_OF_A_TIME:
            raise Altered(f"{where}: {more_size} bytes of events of one second: {_LEFT}")
    rows_a_group = max(1, min(ROWS_A_GROUP, _BYTES_A_SPAN // max(1, largest_row)))
    if rows_a_group < _FEWEST_ROWS_A_GROUP:
        raise Altered(f"{where}: events of {largest_row} bytes each, one after the other: {_LEFT}")
    return spans, rows_a_group


def _read(
    paths: Sequence[Path], times: Sequence[_Times], start: "datetime", end: "datetime"
) -> "pl.DataFrame":
    """Return the rows of a span in order of time; rows of one time in the order of their files."""
    import polars as pl

    in_span = [
        path
        for path, of_file in zip(paths, times, strict=True)
        if of_file.first <= end and of_file.last >= start
    ]
    with _readable(paths[0].parent):
        return (
            pl.scan_parquet(in_span, hive_partitioning=False)
            .filter(pl.col(_TIME).is_between(start, end))
            .collect()
            .sort(_TIME, maintain_order=True)
        )


@contextmanager
def _readable(where: Path) -> Iterator[None]:
    """Raise Altered for files that cannot be read.

    The files were just found as they were written, so somebody has removed them since.
    """
    import polars as pl

    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise Altered(f"{where} cannot be read ({error}): its folder is not compacted") from error
