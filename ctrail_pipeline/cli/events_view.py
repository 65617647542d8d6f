"""The view `events` of the output in DuckDB, which comes with the extra `query`.

The view has the fields of a CloudTrail record and, from the path of its file, account, region, date
and hour: conditions on these decide which files are read at all. The ledger says which files there
are, so events are seen once while a compaction merges their files. The view is made for looking:
DuckDB writes JSON its own way, the bytes as AWS delivered them are in the files.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from ctrail_pipeline.core.exceptions import ConfigurationError, OutputError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.queries_compaction import files_to_read
from ctrail_pipeline.core.matching_ledger import check_belongs
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.output_address import bucket_address
from ctrail_pipeline.core.output_files import (
    FileName,
    Kind,
    NamedFile,
    PublishedFile,
)
from ctrail_pipeline.core.settings import Settings

from .longest_line import LINE_BYTES, longest_line

if TYPE_CHECKING:
    import duckdb

_FOLDERS_DEEP: Final = 6
"""account/region/yyyy/mm/dd/hh."""
_ENDINGS: Final = (".jsonl", ".jsonl.gz", ".jsonl.zst")

# AWS CloudTrail user guide, "CloudTrail record contents". A query must not fail whatever type a
# value has in a record: all values are read as text or JSON, and a few are cast where that works.
_TEXT: Final = (
    *("eventVersion", "eventSource", "eventName", "awsRegion", "sourceIPAddress", "userAgent"),
    *("errorCode", "errorMessage", "requestID", "eventID", "eventType", "apiVersion"),
    *("recipientAccountId", "sharedEventID", "vpcEndpointId", "vpcEndpointAccountId"),
    *("eventCategory", "sessionCredentialFromConsole"),
)
_JSON: Final = (
    *("userIdentity", "requestParameters", "responseElements", "additionalEventData"),
    *("resources", "serviceEventDetails", "addendum", "edgeDeviceDetails", "tlsDetails"),
    "eventContext",
)
_CAST: Final = {"eventTime": "TIMESTAMP", "readOnly": "BOOLEAN", "managementEvent": "BOOLEAN"}
_FROM_PATH: Final = {"account": "VARCHAR", "region": "VARCHAR", "date": "DATE", "hour": "INTEGER"}
COLUMNS: Final = {
    "eventTime": "TIMESTAMP",
    **_FROM_PATH,
    **dict.fromkeys(_TEXT, "VARCHAR"),
    **{name: kind for name, kind in _CAST.items() if name != "eventTime"},
    **dict.fromkeys(_JSON, "JSON"),
}
"""The columns of the view, with their types."""
_WINDOW: Final = "timeWindow"
"""Aggregated events have the start of this window in place of an eventTime."""
_BYTES_FOR_ALL_THREADS: Final = 4 * LINE_BYTES
"""For longer lines DuckDB uses two threads, else its buffers alone could fill the memory."""


class Unreadable(Exception):
    """A file could not be read: it may have been merged into another one, and removed."""


@contextmanager
def connect(
    output: Output, files: Sequence[NamedFile] | None = None
) -> "Iterator[duckdb.DuckDBPyConnection]":
    """Open a DuckDB in memory with the view `events` of files, by default of all that are there.

    Raises ConfigurationError if DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError:
        raise ConfigurationError(
            "DuckDB is not installed; it is an extra: pip install 'ctrail-pipeline[query]'"
        ) from None
    with tempfile.TemporaryDirectory(prefix="ctrail-query-") as scratch:
        # DuckDB fetches nothing from the network. What does not fit into memory goes to a private
        # folder.
        settings: dict[str, str | bool | int | float | list[str]] = {
            "temp_directory": scratch,
            "autoinstall_known_extensions": False,
        }
        with duckdb.connect(":memory:", config=settings) as connection:
            if files is None:
                files = list(_files_there(output))
            line_bytes = longest_line(output, files)
            root = output.location(Kind.EVENTS)
            if bucket_address(root) is None:
                names = [_pattern(root) + output.address_of(file)[len(root) :] for file in files]
            else:
                root, names = _given(connection, output, files)
            connection.execute("SET VARIABLE ctrail_files = $1", [names])
            connection.execute("CREATE SEQUENCE ctrail_lines_not_read")
            if line_bytes > _BYTES_FOR_ALL_THREADS:
                connection.execute("SET threads = 2")
            with reading():
                connection.execute(_view_of(root, line_bytes, is_empty=not files))
            yield connection


def lines_not_read(connection: "duckdb.DuckDBPyConnection") -> int:
    """Return how many lines queries came to that DuckDB does not take for JSON.

    A line counts each time that it is read: twice in a join of the view with itself.
    """
    [(count,)] = connection.execute(
        "SELECT coalesce(last_value, 0) FROM duckdb_sequences()"
        " WHERE sequence_name = 'ctrail_lines_not_read'"
    ).fetchall()
    return int(count)


def _pattern(path: str) -> str:
    """Return the pattern by which DuckDB finds a path. DuckDB takes each name for a pattern."""
    return "".join(f"[{letter}]" if letter in "[*?" else letter for letter in path)


def _given(
    connection: "duckdb.DuckDBPyConnection", output: Output, files: Sequence[NamedFile]
) -> tuple[str, list[str]]:
    """Give files of a bucket to DuckDB; return what their names begin with, and the names."""
    from .duckdb_files import PROTOCOL, OutputFiles, name_of

    named = {name_of(file): file for file in files}
    connection.register_filesystem(OutputFiles(output, named))
    return f"{PROTOCOL}://events", [f"{PROTOCOL}://{name}" for name in named]


def _view_of(root: str, line_bytes: int, *, is_empty: bool) -> str:
    """Return the statement that makes the view."""
    if is_empty:
        nulls = ", ".join(f"NULL::{kind} AS {_name(name)}" for name, kind in COLUMNS.items())
        return f"CREATE VIEW events AS SELECT {nulls} WHERE false"

    def part(number: int) -> str:
        return f"split_part(substr(filename, {len(root) + 2}), '/', {number})"

    from_path = {
        "account": part(1),
        "region": part(2),
        "date": f"make_date({part(3)}::INTEGER, {part(4)}::INTEGER, {part(5)}::INTEGER)",
        "hour": f"{part(6)}::INTEGER",
    }
    values = {name: _name(name) for name in COLUMNS}
    values["eventTime"] = f"coalesce(\"eventTime\", {_name(_WINDOW)}->>'windowStart')"
    columns = ", ".join(
        f"{from_path[name]} AS {name}"
        if name in from_path
        else f"TRY_CAST({values[name]} AS {kind}) AS {_name(name)}"
        if name in _CAST
        else _name(name)
        for name, kind in COLUMNS.items()
    )
    read = ", ".join(
        f"{_literal(name)}: {_literal('JSON' if name in (*_JSON, _WINDOW) else 'VARCHAR')}"
        for name in (*COLUMNS, _WINDOW)
        if name not in from_path
    )
    # A line that DuckDB does not take for JSON (half a surrogate, say) is a row of NULLs, no error.
    # The condition at the end holds for every row, and counts those rows. DuckDB asks it before a
    # query's own conditions, and not for files that a query leaves out.
    view = f"CREATE VIEW events AS SELECT {columns}"
    return (
        f"{view} FROM read_json(getvariable('ctrail_files'),"
        " format = 'newline_delimited', filename = true, ignore_errors = true,"
        f" maximum_object_size = {line_bytes}, columns = {{{read}}})"
        f" WHERE {_name('eventTime')} IS NOT NULL OR {_name(_WINDOW)} IS NOT NULL"
        " OR nextval('ctrail_lines_not_read') > 0"
    )


def files_to_query(settings: Settings) -> list[PublishedFile] | None:
    """Return the output files of one moment that exist; None if there is no ledger to ask."""
    if not ledger_exists(settings.ledger):
        return None
    output = open_output(settings)
    with closing(Ledger(settings.ledger)) as ledger:
        check_belongs(ledger, output)
        while True:
            files = files_to_read(ledger, Kind.EVENTS)
            there = {(folder, name) for folder, names in output.walk(Kind.EVENTS) for name in names}
            existing = [file for file in files if (file.folder, file.name) in there]
            vanished = set(files).difference(existing)
            # A vanished file was merged or pruned since, unless the ledger still has it.
            if not vanished or vanished.issubset(files_to_read(ledger, Kind.EVENTS)):
                return existing


def _files_there(output: Output) -> Iterator[FileName]:
    """Yield the files of events that are there, where no ledger can be asked."""
    for folder, names in output.walk(Kind.EVENTS):
        if folder.count("/") + 1 == _FOLDERS_DEEP:
            for name in names:
                if name.endswith(_ENDINGS):
                    yield FileName(Kind.EVENTS, folder, name)


@contextmanager
def reading() -> Iterator[None]:
    """Turn errors of DuckDB into ours: Unreadable for a file, OutputError for anything else."""
    import duckdb

    try:
        yield
    except duckdb.IOException as error:
        raise Unreadable(str(error)) from error
    except duckdb.Error as error:
        raise OutputError(f"query: {error}") from error


def _name(name: str) -> str:
    return f'"{name}"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
