"""What programs say of a world where all is quiet, compared with what the oracle knows.

Success may be said if and only if no log file stands open. Open are the log files that the oracle
calls damaged or hollow (no record of theirs is an event), unless a person has accepted them. So
exit codes, JSON, `verify` and the status of a Dagster run must all agree with the oracle.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from ctrail_pipeline_tests.support.oracle import Expectation
from ctrail_pipeline_tests.support.project import PROJECT

from .world import World

_SECONDS_TO_END = 150.0


class Said(NamedTuple):
    """What a program said at its end."""

    code: int
    output: str
    errors: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON on the last line of the standard output. Empty if there is none."""
        last = self.output.strip().rpartition("\n")[2]
        return json.loads(last) if last.startswith("{") else {}

    def __str__(self) -> str:
        """The exit code and the end of what was said."""
        return f"exit code {self.code}: {self.output[-600:]} {self.errors[-600:]}"


def open_log_files(world: World, expectation: Expectation) -> list[str]:
    """The locations of the log files that stand open, as `ctrail` names them."""
    found = []
    for name in (*expectation.damaged_log_files, *expectation.hollow_log_files):
        location = f"s3://{Path(name).relative_to(world.buckets).as_posix()}"
        if world.accepted.get(location) != _version(Path(name)):
            found.append(location)
    return found


def note_accepted(world: World, locations: Sequence[str]) -> None:
    """Note that a person has accepted the versions of log files that are there now."""
    for location in locations:
        path = world.buckets / location.removeprefix("s3://")
        world.accepted[location] = _version(path)


class Programs:
    """The programs that people start, over the configuration of a world."""

    def __init__(self, world: World, environment: Mapping[str, str]) -> None:
        self._folder = world.folder
        self._environment = {
            **os.environ,
            **environment,
            "DAGSTER_HOME": str(world.folder / "home"),
            "PYTHONPATH": str(PROJECT),
            "PYTHONWARNINGS": "ignore",
        }

    def ctrail(self, *arguments: str) -> Said:
        """Run `ctrail`."""
        return self._run("-m", "ctrail_pipeline.cli", *arguments)

    def dagster_sync(self) -> Said:
        """Run Dagster's job `sync` over all trails."""
        return self._run(
            *("-m", "dagster", "job", "execute", "-m", "ctrail_pipeline.definitions"),
            *("-j", "sync"),
        )

    def _run(self, *arguments: str) -> Said:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_SECONDS_TO_END,
        )
        return Said(done.returncode, done.stdout, done.stderr)


def left_aside(world: World) -> int:
    """How many objects lie where log files lie, and are no log files by their names."""
    return sum(path.is_file() for path in world.buckets.rglob("CloudTrail/**/*.txt"))


def wrong_verdicts(programs: Programs, open_now: Sequence[str], aside: int) -> list[str]:
    """What `ctrail sync` and `ctrail status` say wrongly, in exit code and JSON.

    `aside` is how many objects are left aside.
    """
    wrong = []
    for command in ("sync", "status"):
        said = programs.ctrail(command, "--json")
        if not _is_right(said, open_now, aside):
            wrong.append(
                f"{len(open_now)} log files stand open {open_now[:3]}, and {aside} objects are"
                f" left aside, and {command} says: {said}"
            )
    return wrong


def _is_right(said: Said, open_now: Sequence[str], aside: int) -> bool:
    document = said.document
    return bool(document) and (
        said.code == bool(open_now)
        and sum(document["open_log_files"].values()) == len(open_now)
        and sum(trail["objects"] for trail in document["left_aside"].values()) == aside
        and document.get("ok", not open_now) == (not open_now)
    )


def _version(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
