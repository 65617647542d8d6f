"""Steady-state runs with a ledger in PostgreSQL that has a year of events behind it, and without.

`postgres_history` says what the year is made of. The server is on this machine and confirms a
commit when it is on the disk.
"""

from contextlib import closing
from datetime import timedelta
from typing import Any, Final

from benchmarks import shapes
from benchmarks.bench import Bench
from benchmarks.measure import Spread, Usage
from benchmarks.postgres import new_database, postgres_server, share
from benchmarks.postgres_history import Filled, fill
from benchmarks.report import Section, Table, Target, megabytes
from benchmarks.shapes import Partitioned
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger_address import PostgresAddress

_PARTITIONS: Final = 300
_FIRST_FILES_EACH: Final = 30
_NEW_FILES_EACH: Final = 3
_MINUTES_BETWEEN_RUNS: Final = 5
_SMALL_BATCHES: Final = {"batch_log_files": 20}
"""For many commits, so that their 99th percentile says something."""
_COMMITS: Final = "commits"
_HOT: Final = ("log_file", "segment", "dedup_partition")
_KEPT: Final = ("output_file", "output_partition", "batch")


def measure(bench: Bench) -> Section:
    """Measure steady-state runs on both ledgers, by turns."""
    partitions = bench.scaled(_PARTITIONS, 3)
    found = Partitioned(bench.fresh("postgres-growth"), partitions)
    found.add(bench.scaled(_FIRST_FILES_EACH, 2), shapes.noon())
    trails = found.shape().local_trails()
    with postgres_server() as (url, _):
        ledgers = {name: new_database(url) for name in ("fresh", "grown")}
        folders = {name: bench.fresh(name) for name in ledgers}

        def sync(name: str, changes: dict[str, Any], events: int | None = None) -> Usage:
            changes = {**changes, "postgres": ledgers[name].url}
            usage = bench.sync(trails, folders[name], changes=changes, events=events)
            bench.say(f"{name} ledger: {usage.cpu:.2f} CPU-s, {usage.wall:.2f} s")
            return usage

        for name in ledgers:
            sync(name, {})
        before = shapes.noon() - timedelta(days=2)
        filled = fill(ledgers["grown"], bench.history_events, before, bench.say)
        sizes = _sizes(ledgers["grown"])
        runs: dict[str, list[Usage]] = {name: [] for name in ledgers}
        held: dict[str, list[float]] = {name: [] for name in ledgers}
        minutes = 0
        for number in range(bench.rounds + 1):
            for changes in ({}, _SMALL_BATCHES):
                minutes += _MINUTES_BETWEEN_RUNS
                found.add(_NEW_FILES_EACH, shapes.noon() + timedelta(minutes=minutes))
                events = partitions * _NEW_FILES_EACH * shapes.EVENTS_A_FILE
                for name in sorted(ledgers, reverse=number % 2 == 1):
                    usage = sync(name, changes, events)
                    if number and changes:
                        held[name] += usage.report["transactions"]
                    elif number:
                        runs[name].append(usage)
    bench.clear()
    return _section(filled, sizes, partitions, runs, held)


def _section(
    filled: Filled,
    sizes: dict[str, int],
    partitions: int,
    runs: dict[str, list[Usage]],
    held: dict[str, list[float]],
) -> Section:
    section = Section("A year of events behind a ledger in PostgreSQL")
    cpu = Spread.of(
        old.cpu / new.cpu for new, old in zip(runs["fresh"], runs["grown"], strict=True)
    )
    times = {name: sorted(seconds) for name, seconds in held.items()}
    p99 = share(times["grown"], 0.99) / share(times["fresh"], 0.99)
    p50 = share(times["grown"], 0.5) / share(times["fresh"], 0.5)
    section.parts += [
        f"Runs that find {_NEW_FILES_EACH} new log files in each of {partitions} accounts and"
        f" regions: with a new ledger, and with one that has {filled.events:,} older events of"
        f" {filled.log_files:,} log files behind it. Their rows were copied into the tables, those"
        f" behind the horizon into the tables of their months: {filled.segments:,} segments,"
        f" {filled.batches:,} batches. The last three columns are of runs in batches of"
        f" {_SMALL_BATCHES['batch_log_files']}: the time for which a transaction keeps other"
        " writers out, its COMMIT included.",
        Table(
            ("", "CPU-s", "wall s", "transactions", "p50 ms", "p99 ms"),
            [
                [
                    name,
                    Spread.of(usage.cpu for usage in runs[name]).text(),
                    Spread.of(usage.wall for usage in runs[name]).text(),
                    f"{len(times[name]):,}",
                    f"{1000 * share(times[name], 0.5):.1f}",
                    f"{1000 * share(times[name], 0.99):.1f}",
                ]
                for name in runs
            ]
            + [["ratio", cpu.text(), "", "", f"{p50:.2f}", f"{p99:.2f}"]],
        ),
        "What it takes in the database, indexes included:",
        _size_table(filled, sizes),
    ]
    note = "" if filled.events >= 1e8 else f"with {filled.events:,} events, not 100 million"
    figure = "ledger in PostgreSQL, with a year behind it / new:"
    section.targets += [
        Target(f"{figure} CPU", 1.3, cpu.median, note=note),
        Target(f"{figure} p99 of a transaction", 1.3, p99, note=note),
    ]
    return section


def _size_table(filled: Filled, sizes: dict[str, int]) -> Table:
    cold_log_files = filled.log_files - filled.hot_log_files
    cold_events = filled.events - filled.hot_events
    rows = [
        ("hot: log files", sizes["log_file"], filled.hot_log_files, 0),
        (
            "hot: identities",
            sizes["segment"] + sizes["dedup_partition"],
            0,
            filled.hot_events,
        ),
        ("cold: log files", sizes["cold_log_file"], cold_log_files, 0),
        ("cold: identities", sizes["cold_segment"], 0, cold_events),
        (
            "output files and batches",
            sum(sizes[table] for table in _KEPT),
            filled.log_files,
            filled.events,
        ),
    ]
    return Table(
        ("", "size", "bytes a log file", "bytes an event"),
        [
            [
                name,
                megabytes(size),
                f"{size / log_files:.0f}" if log_files else "–",
                f"{size / events:.1f}" if events else "–",
            ]
            for name, size, log_files, events in rows
        ],
    )


def _sizes(address: PostgresAddress) -> dict[str, int]:
    """Return the bytes of tables with their indexes; of partitioned ones with all partitions."""
    with closing(Ledger(address)) as ledger:
        return {
            table: int(
                ledger.rows(
                    "SELECT coalesce(sum(pg_total_relation_size(relid)), 0)"
                    " + pg_total_relation_size(?) FROM pg_partition_tree(?)",
                    table,
                    table,
                )[0][0]
            )
            for table in (*_HOT, "cold_log_file", "cold_segment", *_KEPT)
        }
