"""Parquet files of a day that become one: the same rows, columns and metadata, in order of time.

Rows are read a span of time at a time, from the files that have any of it, sorted, and encoded as
they come, so that memory depends on the size of a row group. Not here: which files (`merging`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ctrail_pipeline.core.ledger.queries_compaction import OldFile
from ctrail_pipeline.core.output.parquet import LEVEL, ROWS_A_GROUP
from ctrail_pipeline.core.output_files import Kind

from .checked_blocks import Altered, checked_blocks

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

_TIME: Final = "eventTime"
_BYTES_A_SPAN: Final = 32 * 1024 * 1024
"""Of text, about, that is in memory at once, and in a row group."""
_MOST_BYTES_OF_A_TIME: Final = 4 * _BYTES_A_SPAN
_FEWEST_ROWS_A_GROUP: Final = 256
_LEFT: Final = "merging them takes too much memory, so the folder is left as it is"
_ONE_AT_A_TIME: Final = Lock()
"""Files are written by several threads, and polars uses all CPUs for each."""


@dataclass
class MergedParquetFile:
    """A Parquet file to be written, of the rows of several old ones."""

    folder: str
    old: Sequence[tuple[Path, OldFile]]
    kind: Kind = Kind.PARQUET
    lineage: Sequence[Sequence[int]] = ()
    problem: str = ""
    """Says, once it was written, if an old file was found altered: then it must not be used."""

    @property
    def line_count(self) -> int:
        """Its rows."""
        return sum(file.lines for _, file in self.old)

    def write_to(self, put: Callable[[bytes], None]) -> None:
        """Write its bytes, in pieces; where an old file is found altered, that is its `problem`."""
        out = _Out(put)
        try:
            with _ONE_AT_A_TIME:
                for path, old in self.old:
                    for _ in checked_blocks(path, old):
                        pass
                self._merge([path for path, _ in self.old], out)
        except Altered as altered:
            self.problem = str(altered)
        except Exception:
            if out.error is not None:  # which polars has made one of its own of
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
                some = _read(paths, times, start, end)
                rows += some.height
                yield some

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
    """What polars writes to; it keeps the error that a write ended with."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self.error: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Take some bytes."""
        try:
            self._put(bytes(data))
        except BaseException as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


class _Times(NamedTuple):
    """When the rows of a file are, and how large they are."""

    frame: "pl.DataFrame"
    first: "datetime"
    last: "datetime"


def _common(paths: Sequence[Path]) -> tuple[dict[str, Any], dict[str, str]]:
    """Columns and metadata, which all files must have in common."""
    import polars as pl

    with _readable(paths[0].parent):
        found = [
            (dict(pl.read_parquet_schema(path)), _own(pl.read_parquet_metadata(path)))
            for path in paths
        ]
    for path, one in zip(paths, found, strict=True):
        if one != found[0]:
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
    """First and last time of the rows that are read at once; and how many rows a group has.

    The rows of one time are in one span. Raises Altered if that is too much to be held, or if rows
    are so large that a group could have a few only: no usual day is like that, and whoever writes
    to the bucket could make one.
    """
    import polars as pl

    by_time = (
        pl.concat(one.frame for one in times)
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
    """The rows of a span, in order; of one time, in the order of their files."""
    import polars as pl

    some = [
        path
        for path, one in zip(paths, times, strict=True)
        if one.first <= end and one.last >= start
    ]
    with _readable(paths[0].parent):
        return (
            pl.scan_parquet(some, hive_partitioning=False)
            .filter(pl.col(_TIME).is_between(start, end))
            .collect()
            .sort(_TIME, maintain_order=True)
        )


@contextmanager
def _readable(where: Path) -> Iterator[None]:
    """What cannot be read, though it is as it was written, went since: somebody removed it."""
    import polars as pl

    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        raise Altered(f"{where} cannot be read ({error}): its folder is not compacted") from error
