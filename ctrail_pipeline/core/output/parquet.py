"""Records -> Parquet files: one for each account, region and date of a batch, made in memory.

The batch's JSONL files hold the same records; each row leads to its record. No record can keep a
file from being written (`parquet_decoding` says what becomes of odd ones). Rows are in the order of
their eventTime, in row groups with statistics, so that readers skip what they do not look for. The
rows are built from a limited number of records at a time, so that little is held beside the table.

Not here: what is a record or a duplicate (`core.batch`), and getting files to disk (`staging`).

Measured, records of 1.5 KB, MB of JSON per CPU-second: 110 in batches of large log files, 75 in
batches of 400 small ones (19 files of 2 to 1,400 rows, 1.9 ms each to encode). In batches of large
log files a record takes 13 µs: msgspec 2, encoding and zstd 4, building the columns the rest.
pyarrow encodes large tables a third faster, small ones three times slower. Each file has 20 kB of
names, statistics and page index, whatever its rows are.
"""

import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from ctrail_pipeline.core.log_file.lines import HeldBytes

from .parquet_decoding import Others, decode_nested, decode_rows, field_of, json_object, utf8
from .parquet_schema import (
    BUCKET,
    COLUMNS,
    INDEX,
    KEY,
    NESTED,
    OTHER,
    SCHEMA_VERSION,
    Leaf,
    Spec,
)

if TYPE_CHECKING:
    import polars as pl

_RECORDS_A_DECODE: Final = 100
"""Records that one call decodes."""
_RECORDS_A_FRAME: Final = 10_000
"""Records whose fields are Python objects at the same time."""
BYTES_A_FILE: Final = 32 * 1024 * 1024
"""Limit of JSON bytes for a file, whose rows are all in memory at once. So a log file of 256 MB
becomes several files."""
ROWS_A_GROUP: Final = 10_000
"""Rows that a reader can skip at once."""
LEVEL: Final = 1
"""Level of zstd compression."""

Source = tuple[str, str] | tuple[None, None]
"""Bucket and key of a log file; None if they are not known any more."""


class ParquetRecord(msgspec.Struct, frozen=True, gc=False):
    """A record on its way into a file."""

    folder: str
    """Folder of its file, relative to the Parquet root: see `parquet_folder`."""
    time: str
    """The record's eventTime, with `Z`; the start of an aggregated event's window."""
    line: HeldBytes
    position: int
    """Position of its log file in `sources`."""
    index: int | None
    """Position in its log file; None if it is not known any more (see `parquet_repair`)."""


class ParquetFile(NamedTuple):
    """A Parquet file as it will be on disk."""

    folder: str
    rows: int
    content: bytes
    misfits: int
    """Number of rows that have a field, or a part of one, in `_other`."""


def parquet_folder(events_folder: str) -> str:
    """Return the folder that holds the rows of an hour's events: account, region and date.

    >>> parquet_folder("111122223333/eu-west-1/2026/01/31/23")
    'account=111122223333/region=eu-west-1/date=2026-01-31'
    """
    account, region, year, month, day, _hour = events_folder.split("/")
    return f"account={account}/region={region}/date={year}-{month}-{day}"


def hours_of_date(folder: str) -> tuple[str, str]:
    """Return the folders of events of the first and the last hour whose rows are in a folder.

    >>> hours_of_date("account=111122223333/region=eu-west-1/date=2026-01-31")
    ('111122223333/eu-west-1/2026/01/31/00', '111122223333/eu-west-1/2026/01/31/23')
    """
    account, region, date = (part.partition("=")[2] for part in folder.split("/"))
    day = f"{account}/{region}/{date.replace('-', '/')}"
    return f"{day}/00", f"{day}/23"


def parquet_table(records: Sequence[ParquetRecord], sources: Sequence[Source]) -> "pl.DataFrame":
    """Return the rows of records, in the order of the records, as a file has them."""
    return _table(records, sources)[0]


def parquet_files(records: list[ParquetRecord], sources: Sequence[Source]) -> Iterator[ParquetFile]:
    """Make the files for records, which are sorted; `sources`: bucket and key of each log file."""
    # An eventTime without its Z sorts as text: "…:58" is before "…:58.5".
    records.sort(key=lambda record: (record.folder, record.time[:-1]))
    for chunk in _chunks(records):
        table, misfits = _table(chunk, sources)
        first = 0
        for folder, group in groupby(chunk, key=attrgetter("folder")):
            rows = sum(1 for _ in group)
            misfit_rows = sum(first <= row < first + rows for row in misfits) if misfits else 0
            yield ParquetFile(folder, rows, _encoded(table.slice(first, rows)), misfit_rows)
            first += rows


def _chunks(records: Sequence[ParquetRecord]) -> Iterator[list[ParquetRecord]]:
    """Cut records into chunks of BYTES_A_FILE; small files are slices of a chunk's table."""
    chunk: list[ParquetRecord] = []
    size = 0
    for record in records:
        if size + len(record.line) > BYTES_A_FILE and chunk:
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += len(record.line)
    if chunk:
        yield chunk


def _encoded(table: "pl.DataFrame") -> bytes:
    file = io.BytesIO()
    table.write_parquet(
        file,
        compression="zstd",
        compression_level=LEVEL,
        statistics=True,
        row_group_size=ROWS_A_GROUP,
        metadata={"ctrail_schema_version": str(SCHEMA_VERSION)},
    )
    return file.getvalue()


def _table(
    records: Sequence[ParquetRecord], sources: Sequence[Source]
) -> tuple["pl.DataFrame", Others]:
    """Return the rows of records, and what of the records is in `_other`."""
    import polars as pl

    others: Others = {}
    table = pl.concat(
        _frame(records[at : at + _RECORDS_A_FRAME], at, others)
        for at in range(0, len(records), _RECORDS_A_FRAME)
    )
    other = [json_object(others[at]) if at in others else None for at in range(len(records))]
    origins = pl.DataFrame(sources, schema={BUCKET: pl.String, KEY: pl.String}, orient="row")
    return table.with_columns(
        pl.Series(OTHER, other, pl.String),
        *origins[[record.position for record in records]].get_columns(),
        pl.Series(INDEX, [record.index for record in records], pl.Int32),
    ), others


def _frame(records: Sequence[ParquetRecord], first: int, others: Others) -> "pl.DataFrame":
    """Return the columns of COLUMNS; what does not fit goes to `others`. Rows begin at `first`."""
    import polars as pl

    rows: list[Any] = []
    for at in range(0, len(records), _RECORDS_A_DECODE):
        lines = [record.line for record in records[at : at + _RECORDS_A_DECODE]]
        rows += decode_rows(lines, others, first + at)
    columns = []
    for name, spec in COLUMNS.items():
        misfits: Sequence[int] = ()
        if spec is Leaf.TIME:
            column, misfits = _times(name, [record.time for record in records])
        else:
            values = list(map(attrgetter(name), rows))
            if spec is Leaf.FLAG:
                column, misfits = _flags(name, values)
            elif name in NESTED:
                column, misfits = _nested(name, values, spec)
            else:
                column = _column(name, values, spec)
        for at in misfits:
            field = field_of(records[at].line, name)
            if field is not None:  # an aggregated event has no eventTime, but a `timeWindow`
                others.setdefault(first + at, {})[name] = field
        columns.append(column)
    return pl.DataFrame(columns)


def _flags(name: str, values: list[Any]) -> tuple["pl.Series", Sequence[int]]:
    """Return a column of booleans, and the rows whose value the column does not hold."""
    import polars as pl

    misfits = [at for at, value in enumerate(values) if value.__class__ is str]
    for at in misfits:
        values[at] = None
    return pl.Series(name, values, pl.Boolean), misfits


def _nested(name: str, values: list[Any], spec: Spec) -> tuple["pl.Series", Sequence[int]]:
    """Return a column of structs or lists, and the rows of whose value it holds a part only.

    Equal values are decoded once: 20,000 sample records have 3,700 different userIdentity values.
    """
    import polars as pl

    numbers: dict[bytes, int] = {}
    number_of = [numbers.setdefault(bytes(value), len(numbers)) for value in values]
    decoded = [decode_nested(name, value) for value in numbers]
    different = _column(name, [value for value, _ in decoded], spec)
    odd = {number for number, (_, fits) in enumerate(decoded) if not fits}
    misfits = [at for at, number in enumerate(number_of) if number in odd] if odd else ()
    return different.gather(pl.Series(number_of, dtype=pl.UInt32)), misfits


def _times(name: str, texts: list[str]) -> tuple["pl.Series", Sequence[int]]:
    """Return a column of times, and the rows whose time the column does not hold exactly."""
    import polars as pl

    usual = pl.Series(name, texts).str.to_datetime(
        "%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC", strict=False
    )
    odd = {at: _moment(texts[at]) for at in usual.is_null().arg_true()}
    odd |= {at: _moment(text) for at, text in enumerate(texts) if text.endswith(":60Z")}
    if not odd:
        return usual, ()
    moments = [odd[at][0] if at in odd else None for at in range(len(texts))]
    unusual = pl.Series(moments, dtype=usual.dtype)
    column = unusual.zip_with(unusual.is_not_null(), usual).alias(name)
    return column, [at for at, (_, is_exact) in odd.items() if not is_exact]


def _moment(text: str) -> tuple[datetime, bool]:
    """Read a time with a fraction or a leap second; return it, and whether it is exact."""
    second, fraction = text[17:19], text[20:-1]
    if second == "60":  # the microsecond before the leap second, so that the order stays
        moment = datetime.fromisoformat(f"{text[:17]}59.999999")
        return moment.replace(tzinfo=UTC), False
    moment = datetime.fromisoformat(f"{text[:19]}.{fraction[:6]:0<6}")
    return moment.replace(tzinfo=UTC), not fraction[6:].strip("0")


def _column(name: str, values: Sequence[Any], spec: Spec) -> "pl.Series":
    """Return a column of decoded values: texts, JSON, msgspec's structs, or lists of these."""
    import polars as pl

    if isinstance(spec, dict):
        # The structs are made of the present values only. A missing value becomes null, since
        # its number is null.
        present = [value for value in values if value is not None]
        members = [
            _column(member, list(map(attrgetter(member), present)), inner)
            for member, inner in spec.items()
        ]
        numbers = iter(range(len(present)))
        order = [None if value is None else next(numbers) for value in values]
        return pl.DataFrame(members).to_struct(name).gather(pl.Series(order, dtype=pl.UInt32))
    if isinstance(spec, list):
        return _lists(name, values, spec[0])
    if spec is Leaf.JSON:
        return pl.Series(name, _texts(values), pl.String)
    return pl.Series(name, values, pl.String)


def _lists(name: str, values: Sequence[Any], spec: Spec) -> "pl.Series":
    """Return a column of lists; None becomes null, and an empty list stays empty."""
    import polars as pl

    filled = [value for value in values if value]
    elements = _column("element", list(chain.from_iterable(filled)), spec)
    owners = list(chain.from_iterable([at] * len(value) for at, value in enumerate(filled)))
    lists = (
        pl.DataFrame([pl.Series("owner", owners, pl.UInt32), elements])
        .group_by("owner", maintain_order=True)
        .agg("element")["element"]
        .append(pl.Series([[]], dtype=pl.List(elements.dtype)))
    )
    numbers = iter(range(len(filled)))
    order = [None if value is None else next(numbers) if value else len(filled) for value in values]
    return lists.gather(pl.Series(order, dtype=pl.UInt32)).alias(name)


def _texts(values: Sequence[Any]) -> list[str | None]:
    """Return raw JSON as texts; null becomes None."""
    try:
        texts = ["null" if value is None else str(value, "utf-8") for value in values]
    except UnicodeDecodeError:
        texts = ["null" if value is None else utf8(value) for value in values]
    return [None if text == "null" else text for text in texts]
