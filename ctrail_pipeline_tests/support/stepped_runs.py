"""Two first runs of `ctrail sync`: one stops at a line of the code, until the other one has ended.

    python -m ctrail_pipeline_tests.support.stepped_runs FOLDER EVERY FIRST [FUNCTION…]

Each pair of runs begins on nothing, in a folder of its own below FOLDER, whose `config.json` it
takes. The first run of a pair stops where it first comes to a line, and goes on when the other one
has ended, or waits for it. The lines are each EVERY-th from FIRST on of the rooms that make files,
or of these functions only. Prints a line of JSON for each pair: the line, both exit codes,
and what the runs said. The runs are forked from this process, which has one thread and has opened
nothing: a test process may have more.
"""

import json
import os
import select
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any

import ctrail_pipeline
import ctrail_pipeline.cli.sync_rounds  # so that no fork imports it
import ctrail_pipeline.config.file
import ctrail_pipeline.core.run.sync
import ctrail_pipeline.reports.sync_json
from ctrail_pipeline.cli.main import main as ctrail

_Line = tuple[str, int]

_ROOT = str(Path(ctrail_pipeline.__file__).parent) + "/"
_ROOMS = (
    *("config/", "core/ledger/", "core/output/", "core/matching_ledger", "core/durable"),
    *("core/file_system", "core/batch/recovery", "core/upkeep/opened_output", "core/batch/commit"),
    *("core/listing/found_prefixes", "core/run/sync", "core/run/open_log_files"),
)
"""Where runs that begin together meet: the configuration, the ledger, the output folders."""
_PATIENCE_SECONDS = 1.5
"""How long a run may wait for the run that has stopped, before that one goes on. A run takes a
fifth of that."""


def trace_lines(functions: Collection[str], come_to: Callable[[_Line], None]) -> None:
    """Call `come_to` whenever this process first comes to a line of the rooms."""
    seen: set[_Line] = set()

    def trace_line(frame: FrameType, event: str, _: object) -> Any:
        line = frame.f_code.co_filename[len(_ROOT) :], frame.f_lineno
        if event == "line" and line not in seen:
            seen.add(line)
            come_to(line)
        return trace_line

    def trace_call(frame: FrameType, _event: str, _: object) -> Any:
        code = frame.f_code
        is_meant = not functions or code.co_name in functions
        is_of_room = code.co_filename.startswith(tuple(_ROOT + room for room in _ROOMS))
        return trace_line if is_meant and is_of_room else None

    sys.settrace(trace_call)


class ForkedRun:
    """A run of `ctrail sync` in a forked process, which may stop at a line."""

    def __init__(
        self, folder: Path, functions: Collection[str], stop_at: _Line | None = None
    ) -> None:
        self._stopped, child_stopped = os.pipe()
        child_goes_on, self._goes_on = os.pipe()
        self._said = folder / f"said-{os.urandom(4).hex()}"
        self.lines = self._said.with_suffix(".lines")
        self._pid = os.fork()
        if self._pid == 0:
            os.chdir(folder)
            said = os.open(self._said, os.O_CREAT | os.O_WRONLY, 0o600)
            os.dup2(said, 1)
            os.dup2(said, 2)
            lines: list[_Line] = []

            def come_to(line: _Line) -> None:
                lines.append(line)
                if line == stop_at:
                    os.write(child_stopped, b".")
                    os.read(child_goes_on, 1)

            trace_lines(functions, come_to)
            code = -1
            try:
                code = ctrail(["sync", "-q"])
            except BaseException:  # noqa: BLE001 - the parent tells of it
                traceback.print_exc()
            finally:
                sys.settrace(None)
                sys.stderr.flush()
                self.lines.write_text(json.dumps(lines))
                os._exit(code)
        os.close(child_stopped)
        os.close(child_goes_on)

    def wait_until_stopped(self) -> bool:
        """Return when the run has stopped, or ended before it came to the line: then False."""
        return os.read(self._stopped, 1) != b""

    def has_ended(self, seconds: float) -> bool:
        """Whether the run ends within so many seconds."""
        process = os.pidfd_open(self._pid)
        try:
            return bool(select.select([process], [], [], seconds)[0])
        finally:
            os.close(process)

    def go_on(self) -> None:
        """Have the run go on from the line where it has stopped, or will stop."""
        os.write(self._goes_on, b".")
        os.close(self._goes_on)

    def end(self) -> tuple[int, str]:
        """Wait for the end of the run; return its exit code, and what it said."""
        _, status = os.waitpid(self._pid, 0)
        os.close(self._stopped)
        return os.waitstatus_to_exitcode(status), self._said.read_text()


def main(folder: Path, every: int, first: int, functions: Collection[str]) -> None:
    """Run a pair for each line, and print how both ended."""

    def fresh() -> Path:
        pair = Path(tempfile.mkdtemp(dir=folder))
        shutil.copy(folder / "config.json", pair)
        return pair

    undisturbed = ForkedRun(fresh(), functions)
    undisturbed.go_on()
    assert undisturbed.end()[0] == 0
    lines = [(str(name), int(number)) for name, number in json.loads(undisturbed.lines.read_text())]
    for line in lines[first::every]:
        pair = fresh()
        one = ForkedRun(pair, functions, line)
        has_stopped = one.wait_until_stopped()
        other = ForkedRun(pair, functions)
        other.go_on()
        # The line may lie inside a transaction, for which the other run waits.
        is_kept_out = not other.has_ended(_PATIENCE_SECONDS)
        one.go_on()
        ended = [other.end(), one.end()]
        print(
            json.dumps(
                {
                    "line": f"{line[0]}:{line[1]}",
                    "stopped": has_stopped,
                    "kept_out": is_kept_out,
                    "codes": [code for code, _ in ended],
                    "said": [said for _, said in ended],
                    "folder": str(pair),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), frozenset(sys.argv[4:]))
