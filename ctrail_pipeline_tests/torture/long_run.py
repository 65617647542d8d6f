"""Steady state: log files every second, a sync every 10 s, a kill every minute; does anything grow?

    python -m ctrail_pipeline_tests.torture.long_run --minutes 30 --seed 1 --plot long-run.svg

Three parties sync one bucket behind a real S3 server (`rclone serve s3`) into one output folder of
JSONL and Parquet:

- a sync in a process of its own, every 10 s; one of them is killed each minute;
- `ctrail sync --watch 10s`, as people run it: one process that lasts;
- a host such as Dagster's code server is one: a look at the bucket, as the sensor's, and a sync,
  every 10 s, in one process that lasts (`lasting_host`).

The run samples memory, file descriptors and threads of the two lasting processes from /proc, the
size of the ledger, and how far behind the output is. At the end the whole output is compared with
the bucket, and `growth` judges the quantities that still rose in the second half.
"""

import argparse
import contextlib
import ctypes
import gc
import gzip
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.interrupts import stop_on_signals
from ctrail_pipeline.core.listing.look import look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.output.local.folders import STAGING
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.sample.bucket import (
    ORGANIZATION,
    ORGANIZATION_BUCKET,
    PAYMENTS_ACCOUNT,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
)
from ctrail_pipeline.sample.records import RecordWriter
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.parquet_rows import unlike_lines
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.s3_server import S3Server
from ctrail_pipeline_tests.support.sync_process import (
    SyncProcess,
    let_a_minute_pass,
    put_object,
    start_sync,
)

from .growth import Growth, Points, floor_of, judge, judge_rate
from .plot import Panel, drawing
from .world import PREFIXES, wrong_on_disk


@dataclass(frozen=True)
class Pace:
    """Seconds between two events of a kind."""

    write: float = 1.0
    sync: float = 10.0
    """Seconds between two syncs, and between two rounds of the watch and of the host."""
    kill: float = 60.0
    sample: float = 3.0


STEP_SECONDS = 0.1
"""Seconds that each step of the commit protocol lasts in a sync that is to be killed, so that it
dies in a step."""
WARM_UP_SECONDS = 5.0
ACCOUNTS_AND_REGIONS = (
    *(("111122223333", region) for region in ("us-east-1", "eu-west-1")),
    *(("222233334444", region) for region in ("us-east-1", "us-west-2", "eu-west-1")),
    *((PAYMENTS_ACCOUNT, region) for region in ("eu-west-1", "us-east-1")),
)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_MEGABYTE = 1_000_000


# --- the bucket grows -----------------------------------------------------------------------------


class Writer:
    """Delivers log files as CloudTrail does, with the time of day as it is."""

    def __init__(self, buckets: Path, rng: Random) -> None:
        self._buckets = buckets
        self._rng = rng
        self._records = RecordWriter(rng)
        self._last: list[str] = []
        self.delivered: dict[str, float] = {}
        """The time of delivery (seconds since 1970) by the random suffix of the log file's key."""
        self.events = 0

    def write(self, count: int) -> None:
        """Deliver so many log files. Those of the payments account get a copy in its own trail."""
        for _ in range(count):
            account, region = self._rng.choice(ACCOUNTS_AND_REGIONS)
            now = datetime.now(UTC)
            texts = [
                text
                for _, text in (
                    self._records.record(account, region, now)
                    for _ in range(min(60, 1 + int(self._rng.expovariate(1 / 7))))
                )
            ]
            self.events += len(texts)
            if self._last and self._rng.random() < 0.05:  # delivery is at least once
                texts += self._last[:2]
            self._last = texts if account == PAYMENTS_ACCOUNT else []
            self._put(ORGANIZATION_BUCKET, f"AWSLogs/{ORGANIZATION}", account, region, texts)
            if account == PAYMENTS_ACCOUNT:
                folder = f"{PAYMENTS_PREFIX}/AWSLogs"
                self._put(PAYMENTS_BUCKET, folder, account, region, texts[::-1])

    def _put(self, bucket: str, folder: str, account: str, region: str, texts: list[str]) -> None:
        late = self._rng.random() < 0.05  # behind keys that were processed long ago
        now = datetime.now(UTC)
        at = now - timedelta(minutes=self._rng.uniform(5, 90) if late else 0)
        suffix = "".join(self._rng.choices(_LETTERS, k=16))
        key = (
            f"{folder}/{account}/CloudTrail/{region}/{at:%Y/%m/%d}/"
            f"{account}_CloudTrail_{region}_{at:%Y%m%dT%H%MZ}_{suffix}.json.gz"
        )
        body = gzip.compress(f'{{"Records":[{",".join(texts)}]}}'.encode(), 6, mtime=0)
        self.delivered[suffix] = now.timestamp()
        put_object(self._buckets / bucket, key, body, now)


# --- the processes that last ----------------------------------------------------------------------


class _Mallinfo(ctypes.Structure):
    """The result of glibc's `mallinfo2`."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks"),
            *("uordblks", "fordblks", "keepcost"),
        )
    ]


def bytes_in_use() -> int | None:
    """The bytes of malloc's memory that this process uses, without free memory that malloc keeps.

    Return None if the C library cannot tell. Polars has its own allocator, which is not counted.
    """
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return None
    gc.collect()
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


def lasting_host(pause: float) -> int:
    """Look at the bucket and sync in rounds until a signal. Print a line of JSON each round."""
    settings = load_config().settings
    cursor = LookCursor()
    with stop_on_signals() as stop:
        while not stop.is_set():
            began = time.monotonic()
            seen = look(settings, cursor, 5.0)
            cursor = seen.cursor
            looked = time.monotonic()
            summary = sync(settings, run_id="host", stop=stop)
            done = time.monotonic()
            report = {
                "ok": not (seen.problems or summary.failures),
                "look": looked - began,
                "seconds": done - looked,
                "log_files": summary.progress.log_files,
                "in_use": bytes_in_use(),
            }
            print(json.dumps(report), flush=True)
            stop.wait(max(0.0, pause - (done - began)))
    return 0


class Lasting:
    """A process that lasts for the whole run, and its lines of JSON."""

    def __init__(self, name: str, command: list[str], folder: Path, env: dict[str, str]) -> None:
        self.name = name
        self.rounds: list[dict[str, Any]] = []
        self._errors = folder / f"{name}.err"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.rounds.append(json.loads(line))

    def measure(self) -> dict[str, float]:
        """The process's memory (bytes), file descriptors and threads now. Empty if it is gone."""
        process = Path("/proc") / str(self._process.pid)
        try:
            status = dict(
                line.split(":", 1) for line in (process / "status").read_text().splitlines()
            )
            return {
                "memory": int(status["VmRSS"].split()[0]) * 1024,
                "descriptors": len(list((process / "fd").iterdir())),
                "threads": int(status["Threads"]),
            }
        except (OSError, KeyError):
            return {}

    def end(self) -> list[str]:
        """Ask the process to stop, and return what was wrong with it."""
        early = self._process.poll()
        self._process.terminate()
        try:
            code = self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
        errors = self._errors.read_text(errors="replace")
        wrong = [f"{self.name} ended by itself with {early}: {errors[-2000:]}"] * (
            early is not None
        )
        if code:
            wrong.append(f"{self.name} ended with {code}: {errors[-2000:]}")
        if bad := [
            round_ for round_ in self.rounds if not round_["ok"] and not round_.get("interrupted")
        ]:
            wrong.append(f"{self.name}: {len(bad)} rounds failed: {bad[:2]}: {errors[-2000:]}")
        return wrong


# --- what is measured -----------------------------------------------------------------------------


@dataclass
class Samples:
    """Samples by quantity: seconds since the beginning, and the value."""

    points: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    def note(self, quantity: str, at: float, value: float) -> None:
        """Add a sample of a quantity."""
        self.points[quantity].append((round(at, 2), value))

    def scaled(self, quantity: str, unit: float = 1) -> Points:
        """A quantity's samples in a unit."""
        return [(at, value / unit) for at, value in self.points[quantity]]

    def against(self, quantity: str, by: str) -> Points:
        """The value of a quantity at each amount of another quantity."""
        return [
            (amount, value)
            for (_, amount), (_, value) in zip(self.points[by], self.points[quantity], strict=True)
        ]


class LedgerLook:
    """A reader of the ledger beside the runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def committed(self) -> set[str]:
        """The random suffixes of all log files that are committed."""
        with closing(sqlite3.connect(self._settings.state_db, timeout=30)) as ledger:
            rows = ledger.execute("SELECT name FROM log_file WHERE state = 1").fetchall()
        return {str(name)[4:20] for (name,) in rows}

    def size(self) -> dict[str, float]:
        """The ledger's size in bytes: all pages, even those still in the log, and files on disk."""
        state_db = self._settings.state_db
        with closing(sqlite3.connect(state_db, timeout=30)) as ledger:
            pages = ledger.execute("PRAGMA page_count").fetchone()[0]
            page = ledger.execute("PRAGMA page_size").fetchone()[0]
        files = [state_db, *state_db.parent.glob(f"{state_db.name}.archive/*")]
        return {
            "pages": pages * page,
            "hot": sum(_size(path) for path in files[:1]),
            "cold": sum(_size(path) for path in files[1:]),
            "wal": _size(state_db.with_name(state_db.name + "-wal")),
        }

    def staged(self) -> int:
        """The number of files in staging folders."""
        roots = LocalOutput.of(self._settings).roots.values()
        return sum(path.is_file() for root in roots for path in (root / STAGING).glob("*/*"))


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


# --- the run --------------------------------------------------------------------------------------


@dataclass
class Report:
    """The counts, samples and verdicts of a long run."""

    seed: int
    minutes: float
    log_files: int = 0
    events: int = 0
    syncs: int = 0
    """Syncs in processes of their own."""
    rounds: dict[str, int] = field(default_factory=dict)
    """Rounds of the lasting processes, by name."""
    kills: list[float] = field(default_factory=list)
    """Seconds at which a sync was killed that had begun and not ended."""
    samples: Samples = field(default_factory=Samples)
    growth: list[Growth] = field(default_factory=list)
    lag: dict[str, float] = field(default_factory=dict)
    """Median and longest of both lags, in seconds."""
    sync_seconds: dict[str, float] = field(default_factory=dict)
    """Median seconds of the host's syncs, in the second quarter and in the last."""
    lines: int = 0
    """Lines that must be in the output at the end."""
    violations: list[str] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether no promise was broken and nothing grows."""
        return not self.violations and all(growth.is_bounded for growth in self.growth)

    def as_json(self) -> str:
        """The report as JSON, without the samples."""
        values = {name: value for name, value in vars(self).items() if name != "samples"}
        values["kills"] = len(self.kills)
        values["samples"] = len(self.samples.points["committed"])
        values["growth"] = [
            {**asdict(growth), "is_bounded": growth.is_bounded} for growth in self.growth
        ]
        return json.dumps(values | {"is_well": self.is_well}, indent=1)

    def as_svg(self) -> str:
        """The samples as a plot."""
        points = self.samples.scaled
        panels = [
            Panel(
                "Log files (a red line: a sync is killed)",
                "count",
                {name: points(name) for name in ("delivered", "committed")},
                self.kills,
            ),
            Panel(
                "Lag",
                "seconds",
                {
                    "oldest log file not committed": points("oldest waiting"),
                    "newest one committed": points("newest committed"),
                },
            ),
            Panel(
                "Memory (resident, and what is in use of it)",
                "MB",
                self._both("memory", _MEGABYTE) | {"in use": points("host in use", _MEGABYTE)},
            ),
            Panel("File descriptors", "count", self._both("descriptors")),
            Panel("Threads", "count", self._both("threads")),
            Panel("A sync of the host", "seconds", {"sync": points("host seconds")}),
            Panel(
                "Ledger",
                "MB",
                {
                    "pages in use": points("pages", _MEGABYTE),
                    "write-ahead log": points("wal", _MEGABYTE),
                    "cold files": points("cold", _MEGABYTE),
                },
            ),
            Panel("Files in staging", "count", {"staged": points("staged")}),
        ]
        subtitle = (
            f"{self.minutes:g} minutes, seed {self.seed}: {self.log_files:,} log files,"
            f" {self.events:,} events, {self.syncs + sum(self.rounds.values()):,} syncs,"
            f" {len(self.kills)} kills, {len(self.violations)} violations"
        )
        return drawing("Steady state", subtitle, panels, self.minutes * 60)

    def _both(self, quantity: str, unit: float = 1) -> dict[str, Points]:
        names = {"watch": "ctrail sync --watch", "host": "look and sync"}
        return {
            label: self.samples.scaled(f"{name} {quantity}", unit) for name, label in names.items()
        }


class LongRun:
    """A long run in a new folder."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        minutes: float,
        say: Callable[[str], None] = print,
        pace: Pace | None = None,
    ) -> None:
        self._folder = folder
        self._rng = Random(seed)
        self._say = say
        self._pace = pace or Pace()
        self._report = Report(seed, minutes)
        self._buckets = folder / "buckets"
        self._running: list[tuple[SyncProcess, float | None]] = []
        """Running syncs, and the times of the monotonic clock at which they are to be killed."""

    def run(self) -> Report:
        """Keep the steady state up for the whole time, then judge."""
        for bucket in PREFIXES:
            (self._buckets / bucket).mkdir(parents=True)
        writer = Writer(self._buckets, self._rng)
        while not all(any((self._buckets / bucket).iterdir()) for bucket in PREFIXES):
            writer.write(1)
        with S3Server(self._buckets) as server:
            settings = self._configure(server)
            environment = {
                **os.environ,
                **server.env(),
                "CTRAIL_CONFIG": str(self._folder / "config.json"),
                "PYTHONPATH": str(PROJECT),
            }
            os.environ.update(server.env())
            sync(settings)
            with self._lasting(environment) as lasting:
                self._steady(writer, settings, lasting, environment)
            self._judge(writer, settings)
        return self._report

    def _configure(self, server: S3Server) -> Settings:
        configuration = {
            "trails": [
                {
                    "name": bucket,
                    "bucket": bucket,
                    "prefix": prefix,
                    "region": server.region,
                    "endpoint_url": server.endpoint_url,
                }
                for bucket, prefix in PREFIXES.items()
            ],
            "output_formats": ["jsonl", "parquet"],
        }
        path = self._folder / "config.json"
        path.write_text(json.dumps(configuration))
        return load_config({"CTRAIL_CONFIG": str(path)}, self._folder).settings

    @contextmanager
    def _lasting(self, environment: dict[str, str]) -> Iterator[list[Lasting]]:
        python = sys.executable
        watch = [
            "-m",
            "ctrail_pipeline.cli",
            "sync",
            "--watch",
            f"{self._pace.sync:.0f}s",
            "--json",
        ]
        host = ["-m", "ctrail_pipeline_tests.torture.long_run", "--host", str(self._pace.sync)]
        lasting = [
            Lasting("watch", [python, *watch], self._folder, environment),
            Lasting("host", [python, *host], self._folder, environment),
        ]
        try:
            yield lasting
        finally:
            for process in lasting:
                self._report.violations += process.end()
                self._report.rounds[process.name] = len(process.rounds)

    def _steady(
        self,
        writer: Writer,
        settings: Settings,
        lasting: list[Lasting],
        environment: dict[str, str],
    ) -> None:
        began = time.monotonic()
        seconds = self._report.minutes * 60
        every = asdict(self._pace)
        due = {"write": 0.0, "sync": every["sync"] / 2, "sample": WARM_UP_SECONDS}
        due["kill"] = every["kill"] / 2  # the next sync after this time is the victim
        while (now := time.monotonic() - began) < seconds:
            for name in [name for name, at in due.items() if at <= now and name != "kill"]:
                due[name] += every[name]
                if name == "write":
                    writer.write(self._rng.choice([1, 1, 2, 2, 3]))
                elif name == "sample":
                    self._sample(now, writer, LedgerLook(settings), lasting)
                else:
                    is_victim = due["kill"] <= now
                    due["kill"] += every["kill"] * is_victim
                    self._start_sync(settings, environment, is_victim=is_victim)
            self._look_after(began)
            time.sleep(0.02)
        while self._running:
            self._look_after(began)
            time.sleep(0.02)

    def _start_sync(
        self, settings: Settings, environment: dict[str, str], *, is_victim: bool
    ) -> None:
        process = start_sync(
            settings, environment=environment, step_seconds=STEP_SECONDS if is_victim else 0
        )
        self._report.syncs += 1
        kill_at = None
        if is_victim:
            process.wait_until_ready()
            kill_at = time.monotonic() + self._rng.uniform(0.1, 1.2)
        self._running.append((process, kill_at))

    def _look_after(self, began: float) -> None:
        """Kill the syncs whose time has come, and note how others ended."""
        for running in list(self._running):
            process, kill_at = running
            if kill_at is not None and time.monotonic() >= kill_at and process.is_running:
                process.signal(signal.SIGKILL)
            elif process.is_running:
                continue
            self._running.remove(running)
            ended = process.wait()
            if ended.returncode == -signal.SIGKILL and kill_at is not None:
                self._report.kills.append(round(time.monotonic() - began, 1))
                self._say(f"{self._report.kills[-1]:7.1f} s: killed")
            elif ended.returncode or ended.summary.get("problems"):
                self._report.violations.append(
                    f"a sync ended with {ended.returncode}: {ended.summary} {ended.stderr[-2000:]}"
                )

    def _sample(
        self, at: float, writer: Writer, ledger: LedgerLook, lasting: list[Lasting]
    ) -> None:
        note = self._report.samples.note
        committed, now = ledger.committed(), time.time()
        waiting = [
            delivered_at for name, delivered_at in writer.delivered.items() if name not in committed
        ]
        newest = max(
            delivered_at for name, delivered_at in writer.delivered.items() if name in committed
        )
        note("delivered", at, len(writer.delivered))
        note("committed", at, len(committed))
        note("newest committed", at, now - newest)
        note("oldest waiting", at, now - min(waiting, default=now))
        note("staged", at, ledger.staged())
        for name, size in ledger.size().items():
            note(name, at, size)
        for process in lasting:
            for name, value in process.measure().items():
                note(f"{process.name} {name}", at, value)
            if process.rounds:
                note(f"{process.name} seconds", at, process.rounds[-1]["seconds"])
                if in_use := process.rounds[-1].get("in_use"):
                    note(f"{process.name} in use", at, in_use)

    # -- the judgment ----------------------------------------------------------------------------

    def _judge(self, writer: Writer, settings: Settings) -> None:
        report = self._report
        samples = self._folder / "samples.json"
        samples.write_text(json.dumps(report.samples.points))
        let_a_minute_pass(settings)  # the remains of the last kill may be younger than a minute
        last = sync(settings)
        if not last.ok:
            report.violations.append(f"the last sync: {last.problems[:3]}")
        expectation = read_buckets(
            (self._buckets / name, prefix) for name, prefix in PREFIXES.items()
        )
        report.violations += wrong_on_disk(settings, expectation)
        report.violations += unlike_lines(settings)
        found = compare(settings, deep=True)
        report.violations += [
            f"verify: {difference}" for difference in (*found.findings, *found.problems)
        ]
        report.lines = len(expectation.lines)
        report.log_files, report.events = len(writer.delivered), writer.events
        if report.lines != writer.events or expectation.log_files != report.log_files:
            report.violations.append(
                f"the bucket holds {report.lines} events in {expectation.log_files} log files, and"
                f" {writer.events} in {report.log_files} were written to it"
            )
        report.growth = judged(report.samples, self._pace.sync)
        points = report.samples.points
        for name in ("newest committed", "oldest waiting"):
            values = sorted(value for _, value in points[name])
            report.lag[f"{name}, median"] = round(values[len(values) // 2], 1)
            report.lag[f"{name}, longest"] = round(values[-1], 1)
        values = [value for _, value in points["host seconds"]]
        quarter = max(1, len(values) // 4)
        for name, seconds in (
            ("second quarter", values[quarter : 2 * quarter]),
            ("last", values[-quarter:]),
        ):
            if seconds:
                report.sync_seconds[name] = round(sorted(seconds)[len(seconds) // 2], 3)


def judged(samples: Samples, round_seconds: float, *, megabytes: float = 3) -> list[Growth]:
    """Judge every quantity that must not grow.

    A leak of one descriptor or thread in ten rounds is nine of them in a quarter of an hour. Memory
    in use may rise by 3 % or 1 MB. Resident memory may rise by 5 %, since the allocator keeps freed
    memory. Over 300 rounds 21.5 MB were in use all the time. Free memory beside them went from 21
    to 42 MB, which it reached after 225 rounds. `malloc_trim` gave 30 MB of it back.
    """
    found = []
    for name in ("watch", "host"):
        memory = samples.scaled(f"{name} memory", _MEGABYTE)
        found.append(judge(f"memory of {name}", "MB", memory, share=0.05, least=megabytes))
        for quantity in ("descriptors", "threads"):
            points = floor_of(samples.scaled(f"{name} {quantity}"), round_seconds)
            found.append(judge(f"{quantity} of {name}", "", points, share=0, least=2))
    if in_use := samples.scaled("host in use", _MEGABYTE):
        found.append(judge("memory in use of host", "MB", in_use, share=0.03, least=1))
    wal = floor_of(samples.scaled("wal", _MEGABYTE), round_seconds)
    found.append(judge("write-ahead log", "MB", wal, share=0, least=2))
    staged = floor_of(samples.scaled("staged"), round_seconds)
    found.append(judge("files in staging", "", staged, share=0, least=2))
    for name in ("newest committed", "oldest waiting"):
        points = floor_of(samples.scaled(name), round_seconds)
        found.append(judge(f"lag: {name}", "s", points, share=0, least=round_seconds / 2))
    by_log_file = samples.against("pages", "committed")
    found.append(judge_rate("ledger", "bytes a log file", by_log_file, factor=1.25))
    return found


def main() -> int:
    """Run. Return 0 if all is well."""
    parser = argparse.ArgumentParser(prog="long-run", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, help="which log files and kills (a random one)")
    parser.add_argument("--folder", type=Path, help="where to work; kept (a temporary one)")
    parser.add_argument("--plot", type=Path, help="write the plot there")
    parser.add_argument("--host", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host:
        return lasting_host(options.host)
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    folder = options.folder or Path(tempfile.mkdtemp(prefix="ctrail-long-run-"))

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    say(f"seed {seed}, in {folder}")
    report = LongRun(folder, seed, options.minutes, say).run()
    print(report.as_json())
    for growth in report.growth:
        say(str(growth))
    for violation in report.violations:
        say(f"VIOLATION {violation}")
    if options.plot:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        options.plot.write_text(report.as_svg())
    if not options.folder and report.is_well:
        shutil.rmtree(folder)
    return 0 if report.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
