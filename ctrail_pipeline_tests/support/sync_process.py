"""A sync in its own process, for tests that kill it, stop it or run several at once.

    python -m ctrail_pipeline_tests.support.sync_process JSON

prints `ready` when it is about to begin and a summary as JSON at the end; it exits with 0, or with
1 if the sync failed. With `kill_at`, it kills itself at a step of the commit protocol. No Dagster:
an interpreter that has imported everything is there in 0.2 s.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ctrail_pipeline.core.batch.listed_ahead import ListedAhead
from ctrail_pipeline.core.exceptions import CtrailError
from ctrail_pipeline.core.interrupts import stop_on_signals
from ctrail_pipeline.core.ledger.batches import open_batches
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger_address import PostgresAddress
from ctrail_pipeline.core.listing.folder_walk import Listing
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.run import sync as sync_module
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, PAYMENTS_BUCKET, PAYMENTS_PREFIX
from ctrail_pipeline_tests.support.project import PROJECT

from .oracle import Expectation, check_output, read_buckets
from .output_buckets import bucket_of, download, keys_in
from .standing import standing

TIMEOUT_SECONDS = 120.0
_PATHS = ("events_dir", "quarantine_dir", "state_db", "parquet_dir")
_TIMES = ("start", "end")


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a sync process ended."""

    returncode: int
    """0, or 1 if the sync failed. A negative number names the signal that killed the process."""
    summary: dict[str, Any]
    """The printed counts, or `error` if the sync raised. Empty if the process was killed."""
    stderr: str
    seconds: float


class SyncProcess:
    """A running sync."""

    def __init__(self, job: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ctrail_pipeline_tests.support.sync_process", json.dumps(job)],
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        """Return when everything is imported and the sync begins."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", self._process.communicate()[1]

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended already."""
        self._process.send_signal(number)

    def wait_until_paused(self) -> None:
        """Return when the process has been stopped by SIGSTOP."""
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def wait(self, timeout: float = TIMEOUT_SECONDS) -> Ended:
        """Wait for the end of the process. Kill a process that takes too long."""
        try:
            output, errors = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _, errors = self._process.communicate()
            raise AssertionError(f"still running after {timeout:.0f} s\n{errors}") from None
        last = output.strip().rpartition("\n")[2]
        summary = json.loads(last) if last.startswith("{") else {}
        seconds = time.monotonic() - self._started
        return Ended(self._process.returncode, summary, errors, seconds)


def start_sync(
    settings: Settings,
    selection: Selection | None = None,
    *,
    kill_at: tuple[str, int] | None = None,
    step_seconds: float = 0,
    environment: Mapping[str, str] | None = None,
    in_workers: bool = False,
    killed_by: int = signal.SIGKILL,
) -> SyncProcess:
    """Start a sync and return at once.

    `kill_at` names a step (registered, staged, committed, linked, published, recovered) and its
    how-manieth occurrence: the process sends the signal `killed_by` to itself then. `step_seconds`
    makes each step last longer. `in_workers`: worker processes are worthwhile however little there
    is to do.
    """
    job = {
        "settings": plain_of(settings),
        "selection": plain_of(selection or Selection()),
        "kill_at": kill_at,
        "step_seconds": step_seconds,
        "in_workers": in_workers,
        "killed_by": killed_by,
    }
    return SyncProcess(job, environment or {})


def run_sync(
    settings: Settings,
    selection: Selection | None = None,
    *,
    kill_at: tuple[str, int] | None = None,
    environment: Mapping[str, str] | None = None,
    in_workers: bool = False,
) -> Ended:
    """Run a sync in its own process to its end."""
    return start_sync(
        settings, selection, kill_at=kill_at, environment=environment, in_workers=in_workers
    ).wait()


def settings_in(folder: Path, trails: Sequence[Trail], **changes: Any) -> Settings:
    """Settings with everything below one folder, and batches small enough that there are many."""
    return Settings(
        tuple(trails),
        events_dir=folder / "events",
        quarantine_dir=folder / "quarantine",
        state_db=folder / "ledger.db",
        postgres=_postgres(),
        **{"batch_log_files": 20, "download_workers": 4, **changes},
    )


def _postgres() -> PostgresAddress | None:
    """An empty database for the ledger, if the tests run with PostgreSQL."""
    if os.environ.get("CTRAIL_TEST_LEDGER") != "postgres":
        return None
    from .postgres import empty_database

    return empty_database()


def local_trail(bucket: Path, prefix: str = "", name: str = "") -> Trail:
    """A trail whose bucket is a local folder."""
    return Trail(name or f"{bucket.name}-{prefix.replace('/', '-')}", bucket.as_uri(), prefix)


def sample_settings(sample: Path, folder: Path, **changes: Any) -> Settings:
    """Settings over the two trails of a sample, with everything below one folder."""
    trails = [
        local_trail(sample / ORGANIZATION_BUCKET, name="org"),
        local_trail(sample / PAYMENTS_BUCKET, PAYMENTS_PREFIX, name="payments"),
    ]
    return settings_in(folder, trails, **changes)


def sample_expectation(sample: Path) -> Expectation:
    """The output that a sample must give."""
    return read_buckets(
        [(sample / ORGANIZATION_BUCKET, ""), (sample / PAYMENTS_BUCKET, PAYMENTS_PREFIX)]
    )


def served_sample_settings(
    endpoint_url: str | None, folder: Path, region: str | None = "us-east-1", **changes: Any
) -> Settings:
    """Settings over the two trails of a sample in S3, impatient enough for tests."""
    trails = (
        Trail("organization", ORGANIZATION_BUCKET, "", region, endpoint_url),
        Trail("payments", PAYMENTS_BUCKET, PAYMENTS_PREFIX, region, endpoint_url),
    )
    return Settings(
        trails,
        folder / "events",
        folder / "quarantine",
        folder / "state.db",
        **{"download_workers": 8, "connect_timeout": 2, "client_timeout": 5, **changes},
    )


def put_object(bucket: Path, key: str, body: bytes, modified: datetime) -> None:
    """Put an object into a bucket that is a local folder. It appears whole or not at all."""
    path = bucket / key
    path.parent.mkdir(parents=True, exist_ok=True)
    upload = bucket / ".upload"
    upload.write_bytes(body)
    os.utime(upload, (modified.timestamp(),) * 2)
    upload.replace(path)


def let_a_minute_pass(settings: Settings) -> None:
    """Make the remains of a kill look old enough where age decides.

    The lock on the staging folder tells whether a run lives. Before a run has its lock, while it
    writes the marker, and where an output in a bucket has no folder, only age can tell.
    """
    if ledger_exists(settings.ledger):
        with closing(Ledger(settings.ledger)) as ledger, ledger.transaction():
            ledger.execute("UPDATE batch SET created_at = created_at - 120 WHERE state = 0")
            ledger.execute("UPDATE lease SET renewed_at = renewed_at - 120")
    unfinished: list[Path] = []
    for root in LocalOutput.of(settings).roots.values():
        unfinished += root.glob(".ctrail.*")
        unfinished += (root / ".staging").glob(".*")
    for path in unfinished:
        os.utime(path, (time.time() - 120,) * 2)


def assert_exact(settings: Settings, expectation: Expectation) -> None:
    """Assert that the output is what the oracle expects, and that nothing is unfinished."""
    with TemporaryDirectory() as scratch:
        events, quarantine = settings.events_dir, settings.quarantine_dir
        if settings.output is not None:
            download(settings.output, Path(scratch))
            events, quarantine = (
                Path(scratch) / root.prefix
                for root in (settings.output.events, settings.output.quarantine)
            )
            assert not [key for key in keys_in(settings.output) if "/.staging/" in key]
        check_output(
            events, quarantine, expectation, events_per_file=settings.events_per_file
        ).assert_clean()
    for root in LocalOutput.of(settings).roots.values():
        staging = root / ".staging"
        assert not staging.exists() or not list(staging.iterdir())
    with closing(Ledger(settings.ledger)) as ledger:
        assert open_batches(ledger) == []
        ledger.check()


def leave_all_to_workers(run: "sync_module._Run", listing: Listing, listed: ListedAhead) -> None:
    """Stands for `_Run._process`: the run itself does nothing, so its workers do everything."""
    while listed.is_empty and not run._stop.is_set():
        time.sleep(0.001)
    if listing.counts.log_files:
        run._workers = run._start_workers(listing)
    else:
        listed.take(0)  # raises the listing's error, if it had one


def killing_observer(
    kill_at: tuple[str, int] | None, step_seconds: float, killed_by: int = signal.SIGKILL
) -> Callable[[str], None]:
    """Make an `observe` for `sync` that kills the process at the n-th occurrence of a step."""
    seen = 0

    def observe(step: str) -> None:
        nonlocal seen
        time.sleep(step_seconds)
        if kill_at is not None and step == kill_at[0]:
            seen += 1
            if seen == kill_at[1]:
                os.kill(os.getpid(), killed_by)

    return observe


def main(argument: str) -> int:
    """Run the sync that the argument describes."""
    job = json.loads(argument)
    kill_at = job["kill_at"] and (str(job["kill_at"][0]), int(job["kill_at"][1]))
    if job["in_workers"]:
        vars(sync_module)["_Run"]._process = leave_all_to_workers
    with stop_on_signals() as stop:
        print("ready", flush=True)
        try:
            summary = sync(
                settings_of(job["settings"]),
                Selection(**_with_times(job["selection"])),
                stop=stop,
                observe=killing_observer(
                    kill_at, job["step_seconds"], job.get("killed_by", signal.SIGKILL)
                ),
            )
        except CtrailError as error:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
            return 1
    print(json.dumps(_counts(summary)), flush=True)
    return 0 if summary.ok else 1


def _counts(summary: Summary) -> dict[str, Any]:
    progress = summary.progress
    return {
        "log_files": progress.log_files,
        "events": progress.events,
        "duplicates": progress.duplicates,
        "ok": summary.ok,
        "open": {state.name.lower(): count for state, count in standing(summary).items()},
        "problems": [dataclasses.asdict(problem) for problem in summary.problems],
        "interrupted": summary.interrupted,
    }


def plain_of(values: Settings | Selection) -> dict[str, Any]:
    """The settings or selection as values that JSON can hold."""
    plain = dataclasses.asdict(values)
    for name, value in plain.items():
        if isinstance(value, Path):
            plain[name] = str(value)
        elif isinstance(value, datetime):
            plain[name] = value.isoformat()
    return plain


def settings_of(plain: dict[str, Any]) -> Settings:
    """The settings from the values that `plain_of` made."""
    trails = tuple(Trail(**trail) for trail in plain.pop("trails"))
    paths = {name: Path(plain[name]) for name in _PATHS if plain.get(name) is not None}
    postgres = PostgresAddress(**plain["postgres"]) if plain.get("postgres") else None
    output = bucket_of(plain["output"]) if plain.get("output") else None
    return Settings(
        **{
            **_with_times(plain),
            **paths,
            "trails": trails,
            "postgres": postgres,
            "output": output,
        }
    )


def _with_times(plain: dict[str, Any]) -> dict[str, Any]:
    times = {name: plain[name] and datetime.fromisoformat(plain[name]) for name in _TIMES}
    return {**plain, **times}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
