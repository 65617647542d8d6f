"""Which runs have a process? One that died without a word would keep its place for a day.

Dagster's default launcher does not notice that a process is gone: after a power cut or a kill of
everything the run counts as started until `max_runtime_seconds`, and whatever waits for it waits.
So a run of ours holds a lock on a file while it syncs, and the system drops that lock with the
process, however it ends. Only courtesy hangs on it: what is done is the ledger's to say.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

_FOLDER = "ctrail-runs"
_LATE_SECONDS = 60
"""After which a run that is started and has no step yet is dead: it takes two."""
_GONE = (
    "The process of this run is gone: it was killed, ran out of memory, or the machine stopped."
    " What it had committed stays; the next run goes on from there."
)


@contextmanager
def living_run(instance: DagsterInstance, run_id: str) -> Iterator[None]:
    """Let `end_dead_runs` know that this run's process lives, while the block runs."""
    folder = _folder(instance)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Locked before it has its name: whoever sees it unlocked may take the run for dead.
    new, path = folder / f".{run_id}", folder / run_id
    descriptor = os.open(new, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        new.rename(path)
        yield
    finally:
        for one in (new, path):
            one.unlink(missing_ok=True)
        os.close(descriptor)


def end_dead_runs(instance: DagsterInstance) -> list[str]:
    """Mark runs as failed (or canceled) whose process is gone; returns their ids.

    The daemon then starts them again, as `run_retries` says.
    """
    ended = []
    folder = _folder(instance)
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(".") or not _is_unlocked(path):
            continue
        run = instance.get_run_by_id(path.name)
        if run is not None and run.status is DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, _GONE)
            ended.append(run.run_id)
        elif run is not None and not run.is_finished:
            instance.report_run_failed(run, _GONE)
            ended.append(run.run_id)
        path.unlink(missing_ok=True)
    return ended + _end_those_that_never_began(instance)


def _end_those_that_never_began(instance: DagsterInstance) -> list[str]:
    """Runs that died between their start and their first step, where the lock is taken."""
    ended = []
    for record in instance.get_run_records(RunsFilter(statuses=[DagsterRunStatus.STARTED])):
        run = record.dagster_run
        is_late = record.start_time is not None and time.time() - record.start_time > _LATE_SECONDS
        if is_late and not instance.get_run_step_stats(run.run_id):
            instance.report_run_failed(run, _GONE)
            ended.append(run.run_id)
    return ended


def _folder(instance: DagsterInstance) -> Path:
    return Path(instance.root_directory) / _FOLDER


def _is_unlocked(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    return False  # it ended just now
