"""Which runs still have a process? Runs whose process died without a word are ended here.

Dagster's default launcher does not notice that a process is gone. After a power cut or a kill of
everything the run counts as started until `max_runtime_seconds`, which is a day, and whatever waits
for it waits. So the process of a run of ours locks a file from its first step on. The system drops
that lock with the process, however the process ends. This only saves time: the ledger alone says
what is done.
"""

import atexit
import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

WORK_TAG = "ctrail/work"
RECENT, BACKLOG = "recent", "backlog"
"""The two kinds of work that the sensor asks for, as values of the tag.

The sensor asks for one run of a kind at a time.
"""

_FOLDER = "ctrail-runs"
_LATE_SECONDS = 60
"""Seconds after which a started run without a lock counts as dead. Taking the lock takes 2 s."""
_GONE = (
    "The process of this run is gone: it was killed, ran out of memory, or the machine stopped."
    " What the run had committed stays; the next run goes on from there."
)


class _Held(NamedTuple):
    """A lock that this process holds."""

    path: Path
    descriptor: int


_held: dict[int, _Held] = {}
"""The locks of this process by thread: a thread executes one run after the other."""


def mark_as_living(instance: DagsterInstance, run_id: str) -> None:
    """Let `end_dead_runs` know that this run's process lives, until the process is gone.

    The lock outlasts the step: Dagster has things to note after the step, and may die there, too.
    """
    folder = _folder(instance)
    path, thread = folder / run_id, threading.get_ident()
    if (last := _held.get(thread)) is not None:
        if last.path == path:
            return  # the step is tried again
        del _held[thread]
        _let_go(last)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The file is locked before it has its name: a reader takes an unlocked file for a dead run.
    unnamed = folder / f".{run_id}"
    descriptor = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    unnamed.rename(path)
    _held[thread] = _Held(path, descriptor)


def end_dead_runs(instance: DagsterInstance) -> list[str]:
    """Mark runs whose process is gone as failed or canceled; returns their ids.

    The daemon then starts failed runs again, as `run_retries` in dagster.yaml says.
    """
    folder = _folder(instance)
    ended = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(".") or not _is_unlocked(path):
            continue
        if _end(instance, path.name):
            ended.append(path.name)
        path.unlink(missing_ok=True)
    # Runs that died before they had a lock.
    started = RunsFilter(tags={WORK_TAG: [RECENT, BACKLOG]}, statuses=[DagsterRunStatus.STARTED])
    for record in instance.get_run_records(started):
        run_id = record.dagster_run.run_id
        is_late = record.start_time is not None and time.time() - record.start_time > _LATE_SECONDS
        if is_late and not (folder / run_id).exists() and _end(instance, run_id):
            ended.append(run_id)
    return ended


def _end(instance: DagsterInstance, run_id: str) -> bool:
    """End a run whose process is gone. Returns False if the run had ended by itself."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return False
    if run.status is DagsterRunStatus.CANCELING:
        instance.report_run_canceled(run, _GONE)
    else:
        instance.report_run_failed(run, _GONE)
    return True


def _folder(instance: DagsterInstance) -> Path:
    return Path(instance.root_directory) / _FOLDER


def _is_unlocked(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    return False  # the run ended just now


def _let_go(held: _Held) -> None:
    held.path.unlink(missing_ok=True)
    os.close(held.descriptor)


@atexit.register
def _let_all_go() -> None:
    while _held:
        _let_go(_held.popitem()[1])
