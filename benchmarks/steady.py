"""The cost of a run that finds three new log files in each of 300 accounts and regions.

`steady_state` measures that after a first sync from S3. `growth` measures the same with millions
of older events in the ledger, from a local folder: only the ledger shall make a difference.
"""

import shutil
import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final

from benchmarks import shapes
from benchmarks.bench import Bench
from benchmarks.history import add_history
from benchmarks.measure import Spread, Usage
from benchmarks.report import Section, Table, Target, megabytes
from benchmarks.server import MeasuredServer
from benchmarks.shapes import Partitioned
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_cold import cold_files
from ctrail_pipeline.core.upkeep.cold import move_cold_rows

_PARTITIONS: Final = 300
_FIRST_FILES_EACH: Final = 30
_NEW_FILES_EACH: Final = 3
_MINUTES_BETWEEN_RUNS: Final = 5


def steady_state(bench: Bench) -> Section:
    """Measure runs after a first sync that each find three new log files everywhere."""
    partitions = bench.scaled(_PARTITIONS, 3)
    found = Partitioned(bench.fresh("steady"), partitions)
    state = bench.fresh("steady")
    usages: list[Usage] = []
    commits: list[int] = []
    found.add(bench.scaled(_FIRST_FILES_EACH, 2), shapes.noon())
    with MeasuredServer(found.folder) as server:
        first = bench.sync(found.shape().s3_trails(server.endpoint_url), state, server=server)
    bench.say(f"first sync: {first.cpu:.2f} CPU-s")
    for number in range(bench.rounds + 1):
        _deliver(found, number)
        before = _committed(state)
        # Each run has a new server: a server that looks for changes is slow, and competes.
        with MeasuredServer(found.folder) as server:
            trails = found.shape().s3_trails(server.endpoint_url)
            usage = bench.sync(trails, state, server=server, events=_new_events(partitions))
        bench.say(f"steady state, run {number}: {usage.cpu:.2f} CPU-s")
        if number:
            usages.append(usage)
            commits.append(_committed(state) - before)
    bench.clear()
    section = Section("Steady state")
    section.parts += [
        f"{partitions} accounts and regions with {_NEW_FILES_EACH} new log files in each, after a"
        f" first sync of {first.report['log_files']:,} log files ({first.cpu:.2f} CPU-s). The"
        " figures are of the whole process, start-up included.",
        Table(
            ("new log files", "CPU-s", "wall s", "commits", "output files", "peak memory"),
            [
                [
                    f"{partitions * _NEW_FILES_EACH:,}",
                    Spread.of(usage.cpu for usage in usages).text(),
                    Spread.of(usage.wall for usage in usages).text(),
                    Spread.of(commits).text(0),
                    f"{usages[-1].report['output_files']:,}",
                    megabytes(max(usage.peak_bytes for usage in usages)),
                ]
            ],
        ),
    ]
    return section


def growth(bench: Bench) -> Section:
    """Measure the steady state with a long history in the ledger, and without."""
    partitions = bench.scaled(_PARTITIONS, 3)
    found = Partitioned(bench.fresh("growth"), partitions)
    found.add(bench.scaled(_FIRST_FILES_EACH, 2), shapes.noon())
    fresh, grown = bench.fresh("fresh"), bench.fresh("grown")
    trails = found.shape().local_trails()
    bench.sync(trails, fresh)
    shutil.copytree(fresh, grown)
    before = (grown / "state.db").stat().st_size
    history = add_history(grown / "state.db", bench.history_events, shapes.noon(), bench.say)
    runs: dict[str, list[Usage]] = {"fresh": [], "grown": []}
    for number in range(bench.rounds + 1):
        _deliver(found, number)
        for name, state in (("fresh", fresh), ("grown", grown)):
            usage = bench.sync(trails, state, events=_new_events(partitions))
            bench.say(f"{name} ledger, run {number}: {usage.cpu:.2f} CPU-s, {usage.wall:.2f} s")
            if number:
                runs[name].append(usage)
    size = (grown / "state.db").stat().st_size - before
    section = Section("Growth")
    cpu, wall = (
        Spread.of(
            getattr(old, figure) / getattr(new, figure)
            for new, old in zip(runs["fresh"], runs["grown"], strict=True)
        )
        for figure in ("cpu", "wall")
    )
    section.parts += [
        "The same steady state on a local folder: on a new ledger, and on one with"
        f" {history.events:,} older events behind it. They are of {history.log_files:,} log files,"
        f" in {history.segments:,} segments and {history.batches:,} batches. They were written"
        " through the ledger's own methods, shaped like a first sync: 64 events to an account,"
        " region and hour, no segment merged, no row cold.",
        Table(
            ("", "CPU-s", "wall s"),
            [
                [
                    name,
                    Spread.of(usage.cpu for usage in runs[name]).text(),
                    Spread.of(usage.wall for usage in runs[name]).text(),
                ]
                for name in runs
            ]
            + [["ratio", cpu.text(), wall.text()]],
        ),
        f"The history takes {megabytes(size)} in the ledger: {size / history.events:.1f} bytes an"
        f" event in all, {size / history.log_files:.0f} bytes a log file in all. By table, with its"
        " indexes:",
        _by_table(grown / "state.db", history.events, history.log_files),
        _moved_to_cold_files(grown / "state.db", history.events, bench),
    ]
    note = "" if history.events >= 1e8 else f"with {history.events:,} events, not 100 million"
    figure = "steady state, grown ledger / fresh:"
    section.targets += [
        Target(f"{figure} CPU", 1.3, cpu.median, note=note),
        Target(f"{figure} wall time", 1.3, wall.median, note=note),
        Target("ledger bytes an event, no row cold (goal: hot)", 30, size / history.events),
    ]
    bench.clear()
    return section


def _moved_to_cold_files(path: Path, events: int, bench: Bench) -> str:
    """What the ledger keeps of a history behind the horizon, once its rows are cold."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE batch SET created_at = created_at - 2 * 86400")
        db.execute("UPDATE meta SET value = '0' WHERE name = 'cold_moved_at'")
    started, used = time.monotonic(), time.process_time()
    with closing(Ledger(path)) as ledger:
        files = move_cold_rows(ledger, 0, seconds=3_600)
        size = sum(file.size for file in cold_files(ledger))
    took, cpu = time.monotonic() - started, time.process_time() - used
    with closing(sqlite3.connect(path)) as db:
        (hot,) = db.execute(
            "SELECT (page_count - freelist_count) * page_size"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        ).fetchone()
    bench.say(f"cold: {files} files, {cpu:.1f} CPU-s")
    return (
        f"All of it lies behind the horizon. To move it to cold files takes {cpu:.1f} CPU-s and"
        f" {took:.0f} s; a run moves for half a minute each day. The {files} cold files take"
        f" {megabytes(size)} ({size / events:.1f} bytes an event). The ledger then takes"
        f" {megabytes(hot)} ({hot / events:.1f} bytes an event), with the first sync's and the new"
        " log files still in it."
    )


def _deliver(found: Partitioned, number: int) -> None:
    minutes = (number + 1) * _MINUTES_BETWEEN_RUNS
    found.add(_NEW_FILES_EACH, shapes.noon() + timedelta(minutes=minutes))


def _new_events(partitions: int) -> int:
    return partitions * _NEW_FILES_EACH * shapes.EVENTS_A_FILE


def _committed(state: Path) -> int:
    with closing(sqlite3.connect(state / "state.db")) as ledger:
        row = ledger.execute("SELECT count(*) FROM batch WHERE committed_at IS NOT NULL").fetchone()
        return int(row[0])


def _by_table(ledger: Path, events: int, log_files: int) -> Table:
    with closing(sqlite3.connect(ledger)) as db:
        try:
            sizes = db.execute(
                # Pages: dbstat's sum of bytes overflows at two gigabytes.
                "SELECT m.tbl_name, sum(d.pageno) * (SELECT page_size FROM pragma_page_size)"
                " FROM dbstat d JOIN sqlite_master m ON m.name = d.name"
                " WHERE d.aggregate = 1 GROUP BY 1 ORDER BY 2 DESC"
            ).fetchall()
        except sqlite3.OperationalError:  # SQLite was built without dbstat
            sizes = []
    return Table(
        ("table", "size", "bytes an event", "bytes a log file"),
        [
            [name, megabytes(size), f"{size / events:.1f}", f"{size / log_files:.0f}"]
            for name, size in sizes
            if size > max(events, 1) / 10
        ],
    )
