"""Processes that sync, compact, verify and rebuild, and that may be killed at any instant.

A nursery imports everything once and forks a child for each job: an interpreter of its own costs
0.3 s of CPU time, a fork some milliseconds, and the kills are what the time is for. A child is a
process like any other: nothing but the imported code is shared. The nursery runs no thread, and
nobody's connection is open in it.

    python -m ctrail_pipeline_tests.torture.actors

reads jobs as lines of JSON. A child's output goes to a file: `ready`, then a line of JSON.
"""

import contextlib
import datetime
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.bucket import s3_retry
from ctrail_pipeline.core.exceptions import CtrailError
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline_tests.support import sync_process
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.sync_process import killing_observer, settings_of

from .small_pieces import Noted, SmallPieces, lower, noted

POLL_SECONDS = 0.003
RETRY_PAUSE_SECONDS = 0.005
"""Pause before a retry. A pause of 0.2, which doubles with each attempt, would leave time for fewer
faults."""


# --- in the child ---------------------------------------------------------------------------------


def set_clock_back(seconds: float) -> None:
    """Let every module of ours read another time of day. Time still passes at the same rate."""
    real_time, real_datetime = time.time, datetime.datetime

    class _Datetime(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return real_datetime.now(tz) - datetime.timedelta(seconds=seconds)

    vars(time)["time"] = lambda: real_time() - seconds
    for name, module in list(sys.modules.items()):
        if name.startswith("ctrail_pipeline.") and vars(module).get("datetime") is real_datetime:
            vars(module)["datetime"] = _Datetime


def _compact(settings: Settings, observe: Callable[[str], None]) -> dict[str, Any]:
    done = compact(settings, observe=observe)
    return {"old_files": done.old_files, "new_files": done.new_files, "altered": done.problems}


def _rebuild(settings: Settings, observe: Callable[[str], None]) -> dict[str, Any]:
    done = rebuild(settings, observe=observe)
    return {"events": done.events, "doubled": done.doubled, "odd": done.problems}


def _verify(settings: Settings, _observe: Callable[[str], None]) -> dict[str, Any]:
    report = compare(settings, deep=True)
    return {
        "findings": [
            [finding.kind.name, finding.where, finding.detail] for finding in report.findings
        ],
        "problems": [str(problem) for problem in report.problems],
        "is_complete": report.is_complete,
    }


def _work(job: Mapping[str, Any]) -> Callable[[Settings, Callable[[str], None]], dict[str, Any]]:
    def _prune(settings: Settings, observe: Callable[[str], None]) -> dict[str, Any]:
        before = datetime.datetime.fromisoformat(job["before"])
        return prune(settings, before, observe=observe)._asdict()

    return {"compact": _compact, "rebuild": _rebuild, "verify": _verify, "prune": _prune}[
        job["kind"]
    ]


def perform(job: Mapping[str, Any], notes: Path) -> int:
    """Do what a job says. Print its result, and note what it streamed."""
    if job["clock_back"]:
        set_clock_back(job["clock_back"])
    if job["small_pieces"]:
        lower(SmallPieces(**job["small_pieces"]), notes, job["kill_at_part"])
    if job["kind"] == "sync":
        return sync_process.main(json.dumps(job))
    kill_at = job["kill_at"] and (str(job["kill_at"][0]), int(job["kill_at"][1]))
    print("ready", flush=True)
    try:
        done = _work(job)(
            settings_of(dict(job["settings"])), killing_observer(kill_at, job["step_seconds"])
        )
    except CtrailError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
        return 1
    print(json.dumps(done), flush=True)
    return 0


def _child(job: Mapping[str, Any], output: Path) -> None:
    """Do a job in a forked child, and end the child. This function never returns."""
    code = 70  # as in sysexits: an internal error that no code of ours handled
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        errors = os.open(f"{output}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in enumerate((nothing, target, errors)):
            os.dup2(descriptor, number)
        code = perform(job, notes_of(output))
    except BaseException:  # noqa: BLE001 - whatever it is, it is what the campaign looks for
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def notes_of(output: Path) -> Path:
    """The file in which a child notes what it streams."""
    return Path(f"{output}.streamed")


def main() -> None:
    """Run the nursery: fork a child for each job, and answer how children ended."""
    if sys.argv[1:] == ["postgres"]:
        import_module("ctrail_pipeline.core.ledger.postgres")
    vars(s3_retry)["FIRST_PAUSE_SECONDS"] = RETRY_PAUSE_SECONDS
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        asked = json.loads(line)
        if "job" in asked:
            pid = os.fork()
            if not pid:
                _child(asked["job"], Path(asked["output"]))
            answer: int | None = pid
        else:
            ended, status = os.waitpid(asked["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        print(json.dumps(answer), flush=True)


# --- in the campaign ------------------------------------------------------------------------------


class Actor:
    """A process that does a job."""

    def __init__(self, nursery: "Nursery", job: Mapping[str, Any], pid: int, output: Path) -> None:
        self.kind = str(job["kind"])
        self.has_small_pieces = job["small_pieces"] is not None
        self.pid = pid
        self.returncode: int | None = None
        self.was_killed = False
        """Whether `kill` killed the process, and not the process itself at a step of the commit
        protocol."""
        self._nursery = nursery
        self._output = output

    @property
    def was_ready(self) -> bool:
        """Whether the process had begun its work."""
        return self._output.exists() and self._output.read_bytes().startswith(b"ready\n")

    @property
    def result(self) -> dict[str, Any]:
        """The result that the process printed at its end. Empty if it was killed."""
        last = self._output.read_text().strip().rpartition("\n")[2]
        return json.loads(last) if last.startswith("{") and last.endswith("}") else {}

    @property
    def errors(self) -> str:
        """The end of the process's standard error."""
        path = Path(f"{self._output}.err")
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    @property
    def streamed(self) -> Noted:
        """What the process and its workers have streamed up to now."""
        return noted(notes_of(self._output))

    def poll(self) -> bool:
        """Whether the process has ended."""
        if self.returncode is None:
            self.returncode = self._nursery.ask({"pid": self.pid})
        return self.returncode is not None

    def wait_until_ready(self, seconds: float = 30) -> None:
        """Return when the process begins its work or has ended."""
        deadline = time.monotonic() + seconds
        while not (self.was_ready or self.poll()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)

    def wait(self, seconds: float) -> bool:
        """Wait for the process's end, and return whether it came in time."""
        deadline = time.monotonic() + seconds
        while not self.poll():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def kill(self) -> None:
        """Send SIGKILL, unless the process has ended."""
        if not self.poll():  # an unpolled child stays a zombie, so no other process has its id
            self.was_killed = True
            os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """Starts actors while the `with` block runs. Their output goes to files in `folder`."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *modules: str) -> None:
        self._folder = folder
        self._modules = modules
        self._environment = environment
        self._count = 0

    def __enter__(self) -> "Nursery":
        """Start the process that forks."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ctrail_pipeline_tests.torture.actors", *self._modules],
            cwd=PROJECT,
            env={**os.environ, **self._environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End the forking process. Remaining children end by themselves."""
        self._process.communicate(timeout=30)

    def ask(self, question: Mapping[str, Any]) -> Any:
        """Send the forking process a question and return its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def start(self, job: Mapping[str, Any]) -> Actor:
        """Start a job and return at once."""
        self._count += 1
        output = self._folder / f"{self._count:06}-{job['kind']}"
        pid = self.ask({"job": job, "output": str(output)})
        return Actor(self, job, pid, output)


if __name__ == "__main__":
    main()
