"""`ctrail sync` as people and machines see it: a live display, JSON, and round after round."""

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ctrail_pipeline.cli.terminal_progress import draw
from ctrail_pipeline.core.run.progress import Progress, TrailProgress
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.command import (
    BUCKETS,
    COMMAND,
    LOG_LINE,
    SUMMARY,
    assert_whole,
    ctrail,
    environment,
    log_files,
)
from ctrail_pipeline_tests.support.fault_server import Faults, FaultServer

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sample(tmp_path / "sample", log_files=60)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[FaultServer]:
    with FaultServer(folder / "sample") as server:
        trails = [
            {
                "name": bucket,
                "bucket": bucket,
                "prefix": prefix,
                "region": "us-east-1",
                "endpoint_url": server.endpoint_url,
            }
            for bucket, prefix in BUCKETS
        ]
        settings = {"trails": trails, "download_workers": 2, "batch_log_files": 5}
        (folder / "config.json").write_text(json.dumps(settings))
        yield server


# --- the live display -----------------------------------------------------------------------------


def on_a_terminal(folder: Path, *arguments: str, env: dict[str, str]) -> tuple[int, str, str]:
    """Exit code, standard output (a pipe) and standard error (a terminal)."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment({"TERM": "xterm-256color", "COLUMNS": "120", **env}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    end = time.monotonic() + 60
    try:
        while time.monotonic() < end:
            if select.select([controller], [], [], 0.1)[0]:
                try:
                    data = os.read(controller, 65536)
                except OSError:  # the other end is closed
                    break
                shown += data
            elif process.poll() is not None:
                break
        output, _ = process.communicate(timeout=10)
    finally:
        process.kill()
        os.close(controller)
    return process.returncode, output.decode(), shown.decode()


def test_a_terminal_gets_a_display_that_moves_and_log_lines_above_it(
    folder: Path, server: FaultServer
) -> None:
    damaged = log_files(folder)[0]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    server.faults = Faults(latency=0.05)
    code, output, shown = on_a_terminal(folder, "sync", env=server.env())
    assert code == 1
    assert SUMMARY.match(output)
    text = _ESCAPES.sub("", shown)
    assert "looking for accounts and regions" in text
    rows = re.findall(r"all 2 trails +\S* +([\d,]+)\+? +([\d,]+) +([\d,]+) .*?(\d+) *\r", text)
    done = [int(row[1].replace(",", "")) for row in rows]
    assert done == sorted(done)
    assert len(set(done)) > 3, "it moves"
    assert rows[-1][:2] == ("60", "60")
    assert rows[-1][3] == "1"
    assert f"{damaged.name}: damaged: gzip data is cut short" in re.sub(r"\s*\r\n\s*", " ", text)
    assert "Everything else is brought in" in text
    assert_whole(folder)


@pytest.mark.parametrize(
    ("arguments", "env"),
    [(["--plain"], {}), (["-q"], {}), (["--json"], {}), ([], {"TERM": "dumb"})],
)
def test_a_terminal_that_is_not_to_be_drawn_on_gets_lines(
    folder: Path, arguments: list[str], env: dict[str, str]
) -> None:
    code, _, shown = on_a_terminal(folder, "sync", *arguments, env=env)
    assert code == 0
    assert "\x1b" not in shown
    assert all(LOG_LINE.fullmatch(line) for line in shown.splitlines())


def test_a_pipe_gets_lines(folder: Path) -> None:
    done = ctrail(folder, "sync", env={"TERM": "xterm-256color", "FORCE_COLOR": "1"})
    assert "\x1b" not in done.stdout + done.stderr
    assert all(LOG_LINE.fullmatch(line) for line in done.stderr.splitlines())


def test_what_is_drawn() -> None:
    progress = Progress(
        listed=1_500,
        log_files=600,
        events=4_000,
        duplicates=7,
        listing_done=True,
        trails={
            "[bold]odd": TrailProgress(listed=1_000, log_files=500, events=3_900, problems=2),
            "ready": TrailProgress(listed=100, log_files=100, events=100),
            "nothing new": TrailProgress(),
        },
    )
    rates = {"": (100.0, 5.0), "[bold]odd": (50.0, 8.0), "ready": (0, 0), "nothing new": (0, 0)}
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(draw(progress, rates, 61))
    rows = [line.split() for line in console.export_text().splitlines()]
    by_trail = {" ".join(row[:1]): row for row in rows if row}
    assert by_trail["[bold]odd"][-7:] == ["1,000", "500", "3,900", "8", "10", "s", "2"]
    assert by_trail["ready"][-6:] == ["100", "100", "100", "0", "done", "0"]
    assert by_trail["nothing"][-6:] == ["0", "0", "0", "0", "done", "0"]
    assert by_trail["all"][-7:] == ["1,500", "600", "4,000", "5", "9", "s", "2"]
    progress.listing_done = False
    console.print(draw(progress, rates, 61))
    assert "1,500+" in console.export_text()


def test_of_many_trails_those_with_most_left_are_drawn() -> None:
    trails = {f"trail-{n}": TrailProgress(listed=n) for n in range(100)}
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(draw(Progress(trails=trails), dict.fromkeys([*trails, ""], (0.0, 0.0)), 1))
    shown = re.findall(r"^ ?trail-(\d+)", console.export_text(), re.MULTILINE)
    assert shown == [str(n) for n in range(80, 100)]


# --- JSON -----------------------------------------------------------------------------------------


def test_the_outcome_as_json_is_one_line(folder: Path) -> None:
    damaged = log_files(folder)[0]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    done = ctrail(folder, "sync", "--json")
    assert done.returncode == 1
    [line] = done.stdout.splitlines()
    found = json.loads(line)
    assert (found["ok"], found["log_files"], found["failed"]) == (False, 60, 1)
    assert found["trails"].keys() == {"organization", "payments"}
    assert sum(trail["log_files"] for trail in found["trails"].values()) == 60
    assert sum(trail["listed"] for trail in found["trails"].values()) == 60
    assert sum(trail["events"] for trail in found["trails"].values()) == found["events"]
    assert sum(row["events"] for row in found["partitions"]) == found["events"]
    assert found["open_log_files"] == {"damaged": 1}
    [problem] = found["problems"]
    assert problem["trail"] == "organization"
    assert problem["state"] == "damaged"
    assert problem["where"] == damaged.as_uri()


def test_what_ends_a_sync_is_json_too(folder: Path) -> None:
    (folder / "events").mkdir()
    (folder / "events" / "mine.jsonl").write_text("{}")
    done = ctrail(folder, "sync", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert "name another folder in `events_dir`" in found["error"]
    assert done.stderr.count("name another folder") == 1


def test_a_dry_run_as_json(folder: Path) -> None:
    found = json.loads(ctrail(folder, "sync", "--dry-run", "--json").stdout)
    assert found["ok"] is True
    assert [estimate["trail"] for estimate in found["estimates"]] == ["organization", "payments"]
    assert sum(estimate["log_files"] for estimate in found["estimates"]) == 60


# --- watching -------------------------------------------------------------------------------------


class Watch:
    """`ctrail sync --watch` and the rounds that it tells of."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "sync", "--json", "-q", *arguments],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def round(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        self.process.communicate(timeout=20)
        assert time.monotonic() - began < 10
        return self.process.returncode


def test_watching_brings_in_what_comes_until_it_is_stopped(folder: Path) -> None:
    late = log_files(folder)[-5:]
    content = {path: path.read_bytes() for path in late}
    for path in late:
        path.unlink()
    watch = Watch(folder, "--watch", "1s")
    try:
        assert watch.round()["log_files"] == 55
        assert watch.round()["log_files"] == 0
        for path, body in content.items():
            path.write_bytes(body)
        found = 0
        while found < 5:
            found += watch.round()["log_files"]
        assert watch.end() == 0
    finally:
        watch.process.kill()
    assert_whole(folder)


@pytest.mark.thorough
def test_watching_goes_on_after_a_failure(folder: Path) -> None:
    damaged = log_files(folder)[0]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    watch = Watch(folder, "--watch", "1s")
    try:
        first = watch.round()
        assert (first["ok"], first["open_log_files"]) == (False, {"damaged": 1})
        (folder / "events" / ".ctrail").rename(folder / "marker")
        (folder / "events" / ".ctrail").write_text("{}")
        while "error" not in (failed := watch.round()):
            pass
        assert "is damaged" in failed["error"]
        (folder / "marker").rename(folder / "events" / ".ctrail")
        while "error" in (later := watch.round()):
            pass
        assert (later["ok"], later["open_log_files"]) == (False, {"damaged": 1})
        assert watch.end() == 1
    finally:
        watch.process.kill()


def test_what_cannot_be_right_ends_watching(folder: Path) -> None:
    done = ctrail(folder, "sync", "--watch", "1s", "--trail", "nope")
    assert done.returncode == 2
    done = ctrail(folder, "sync", "--watch", "now")
    assert done.returncode == 2
    assert 'ctrail: --watch: "now": it must be a length of time' in done.stderr


# --- teaching, and starting -----------------------------------------------------------------------


def test_version(folder: Path) -> None:
    assert re.fullmatch(r"ctrail \d+\.\d+\.\d+\n", ctrail(folder, "--version").stdout)


def test_the_sample_command_writes_what_a_sync_then_brings_in(tmp_path: Path) -> None:
    assert ctrail(tmp_path, "sample", "--log-files", "60").returncode == 0
    again = ctrail(tmp_path, "sample", "--log-files", "60")
    assert "is there already and stays as it is" in again.stdout
    assert ctrail(tmp_path, "sync").returncode == 0
    assert_whole(tmp_path)


def modules_loaded(folder: Path, *arguments: str) -> set[str]:
    code = (
        "import sys\nfrom ctrail_pipeline.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in done.stderr.split()} | set(done.stderr.split())


def test_help_loads_nothing_of_the_work_and_a_sync_no_dagster(folder: Path) -> None:
    heavy = {"boto3", "obstore", "dagster", "polars", "pydantic", "rich", "duckdb", "sqlalchemy"}
    helped = modules_loaded(folder, "--help")
    assert not helped & heavy
    assert not any(name.startswith("ctrail_pipeline.core") for name in helped)
    assert not modules_loaded(folder, "sync") & heavy
    assert not modules_loaded(folder, "status", "--json") & heavy


def cpu_seconds(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> float:
    """The shortest time of several runs, since other work on the machine can only add time."""
    best = 1e9
    for _ in range(4):
        before = os.times()
        subprocess.run(
            [*COMMAND, *arguments],
            cwd=folder,
            env=environment(env),
            capture_output=True,
            check=True,
        )
        after = os.times()
        spent = after.children_user + after.children_system
        best = min(best, spent - before.children_user - before.children_system)
    return best


@pytest.mark.thorough
def test_help_is_there_at_once(folder: Path) -> None:
    assert cpu_seconds(folder, "--help") < 0.3


@pytest.mark.thorough
def test_a_sync_with_nothing_new_costs_less_than_a_second(
    folder: Path, server: FaultServer
) -> None:
    assert ctrail(folder, "sync", env=server.env()).returncode == 0
    assert cpu_seconds(folder, "sync", env=server.env()) < 1.0
