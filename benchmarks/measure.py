"""The cost of a command: CPU of its process tree, wall time, peak memory. And series of commands.

CPU time is the figure to trust: the clock of a shared machine drifts, and wall time holds whatever
else ran. Only ratios within one run of the benchmark mean anything, so `interleaved` takes turns.
What the commands do, and what the figures mean, belongs to other modules.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

PROJECT: Final = Path(__file__).parents[1]
_SAMPLE_SECONDS: Final = 0.02
_NEAR: Final = 0.95
"""Share of the highest resident memory so far from which on there may be a peak."""
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """The cost of one command."""

    wall: float
    cpu: float
    """User and system time of the process and of all its children, in seconds."""
    peak_bytes: int
    """Peak memory of the process tree. A page that processes share counts once (PSS)."""
    server_cpu: float = 0.0
    server_peak_bytes: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    """The last line that the command printed, if that was JSON."""


class Server(Protocol):
    """A server whose CPU and memory are measured apart from its client's."""

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        ...


def run_python(
    module: str,
    job: Mapping[str, Any],
    *,
    environment: Mapping[str, str] | None = None,
    server: Server | None = None,
) -> Usage:
    """Run a module of this package in a fresh interpreter; `job` is its argument, as JSON."""
    command = [sys.executable, "-m", f"benchmarks.{module}", json.dumps(job)]
    return run(command, environment=environment, server=server)


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    server: Server | None = None,
) -> Usage:
    """Run a command to its end and measure it.

    Raises RuntimeError, with what it wrote, if it fails: a figure of a failed run is none.
    """
    os.sync()  # otherwise the disk still writes for the run before, at the expense of this run
    server_cpu = 0.0
    if server is not None:
        _forget_peak(server.pid)
        server_cpu = process_cpu(server.pid)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        with _PeakMemory(process.pid) as memory:
            _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
        if process.returncode != 0:
            errors.seek(0)
            wrote = errors.read().decode(errors="replace")[-4000:]
            message = f"{' '.join(command)[:300]} ended with {process.returncode}:\n{wrote}"
            raise RuntimeError(message)
    return Usage(
        wall,
        used.ru_utime + used.ru_stime,
        memory.peak_bytes,
        process_cpu(server.pid) - server_cpu if server else 0.0,
        _peak_of(server.pid) if server else 0,
        json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {},
    )


def interleaved(
    variants: Mapping[str, Callable[[], Usage]], rounds: int, *, say: Callable[[str], None]
) -> dict[str, list[Usage]]:
    """Run each variant once a round, so that drift meets all alike. Drop the first round.

    (The first touches memory and caches first. With one round in all, a smoke run, it is kept.)
    """
    results: dict[str, list[Usage]] = {name: [] for name in variants}
    for number in range(rounds + (rounds > 1)):
        for name, variant in variants.items():
            usage = variant()
            say(f"round {number}, {name}: {usage.cpu:.2f} CPU-s, {usage.wall:.2f} s")
            if number or rounds == 1:
                results[name].append(usage)
    return results


@dataclass(frozen=True)
class Spread:
    """One figure from several runs."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """The spread of some values."""
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """The value that is reported."""
        return statistics.median(self.values)

    def text(self, digits: int = 2) -> str:
        """The median, with the least and the greatest value."""
        if len(self.values) == 1:
            return f"{self.median:.{digits}f}"
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


def process_cpu(pid: int) -> float:
    """CPU seconds of a living process so far, in steps of the kernel's tick (10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


class _PeakMemory:
    """Samples the memory of a process tree while the `with` block runs.

    Shared memory is told apart only near a peak, since that takes some milliseconds.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._most_resident = 0
        self.peak_bytes = 0

    def __enter__(self) -> "_PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            try:
                resident = _of_tree(self._pid, _resident)
                if resident >= _NEAR * self._most_resident:
                    self.peak_bytes = max(self.peak_bytes, _of_tree(self._pid, _proportional))
                    self._most_resident = max(self._most_resident, resident)
            except OSError:
                return  # the process has ended


def _of_tree(pid: int, memory: Callable[[int], int]) -> int:
    found = memory(pid)
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            try:
                found += _of_tree(int(child), memory)
            except OSError:
                continue
    return found


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES


def _proportional(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak_of(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
