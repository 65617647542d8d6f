"""`ctrail sync` as a shell sees it: exit codes, what is printed where, and how it is stopped."""

import gzip
import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.sample.bucket import (
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    write_sample,
)
from ctrail_pipeline_tests.support.command import (
    BUCKETS,
    COMMAND,
    LOG_LINE,
    SUMMARY,
    assert_whole,
    ctrail,
    environment,
    log_files,
    written,
)
from ctrail_pipeline_tests.support.fault_server import Faults, FaultServer
from ctrail_pipeline_tests.support.oracle import check_output, snapshot

STOP_SECONDS = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small sample in it, as `make demo` has one."""
    write_sample(tmp_path / "sample", log_files=60)
    return tmp_path


# --- exit codes -----------------------------------------------------------------------------------


def test_a_sync_ends_with_0_and_says_what_it_did_and_so_does_the_next(folder: Path) -> None:
    first = ctrail(folder, "sync")
    assert first.returncode == 0, first.stderr
    assert_whole(folder)
    summary = SUMMARY.fullmatch(first.stdout.strip())
    assert summary is not None, first.stdout
    events = snapshot(folder / "events")
    assert (int(summary[1]), int(summary[2])) == (60, len(events))

    second = ctrail(folder, "sync")
    assert second.returncode == 0
    assert second.stdout == "0 new log files, 0 new events in 0 files, 0 duplicates\n"
    assert snapshot(folder / "events") == events


def test_a_damaged_log_file_ends_it_with_1_and_is_named(folder: Path) -> None:
    damaged = log_files(folder)[0]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    done = ctrail(folder, "sync")
    assert done.returncode == 1
    assert SUMMARY.match(done.stdout)
    assert "Everything else is brought in" in done.stderr
    assert f"- trail organization: {damaged.as_uri()}: damaged: " in done.stderr
    assert_whole(folder)


def test_a_trail_that_cannot_be_read_ends_it_with_1_and_the_other_is_brought_in(
    folder: Path,
) -> None:
    (folder / "sample" / PAYMENTS_BUCKET).rename(folder / "sample" / "elsewhere")
    done = ctrail(folder, "sync")
    assert done.returncode == 1
    assert "is not a folder: check the trail's `bucket`" in done.stderr
    organization = [(folder / "sample" / ORGANIZATION_BUCKET, "")]
    check_output(folder / "events", folder / "quarantine", organization).assert_clean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trail", "nope"], "ctrail: trails: there is no trail 'nope'; configured are"),
        (["--partition", "nonsense"], "ctrail: partitions: 'nonsense' is no `account/region`"),
        (["--start", "yesterday"], '"yesterday": it must be an ISO date'),
        (["--start", "2026-02-01", "--end", "2026-01-01"], "must be before end"),
        (["--dry-run", "--trail", "nope"], "ctrail: trails: there is no trail 'nope'"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["-v", "-q"], "not allowed with argument"),
    ],
)
def test_a_call_that_cannot_be_right_ends_with_2_and_touches_nothing(
    folder: Path, arguments: list[str], message: str
) -> None:
    done = ctrail(folder, "sync", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert written(folder) == set()


def test_a_configuration_that_cannot_be_right_ends_with_2(folder: Path) -> None:
    (folder / "config.json").write_text('{"trails": [{"name": "a", "bucket": "b", "prefx": ""}]}')
    done = ctrail(folder, "sync")
    assert done.returncode == 2
    assert "trails[0].prefx: there is no such key; did you mean prefix?" in done.stderr
    assert written(folder) == set()


# --- what is asked for ----------------------------------------------------------------------------


def test_a_dry_run_says_a_line_a_trail_and_writes_nothing(folder: Path) -> None:
    done = ctrail(folder, "sync", "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(" stored, in ")[0].rpartition(", ")[0] for line in lines] == [
        f"trail organization: {len(log_files(folder))} new log files",
        f"trail payments: {len(log_files(folder, PAYMENTS_BUCKET))} new log files",
    ]
    assert written(folder) == set()


def test_a_dry_run_of_a_trail_that_cannot_be_read_ends_with_1(folder: Path) -> None:
    (folder / "sample" / PAYMENTS_BUCKET).rename(folder / "sample" / "elsewhere")
    done = ctrail(folder, "sync", "--dry-run")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert done.stdout.startswith("trail organization: ")
    assert f"- trail payments: {(folder / 'sample' / PAYMENTS_BUCKET).as_uri()}: not listed: " in (
        done.stderr
    )
    assert written(folder) == set()


def test_what_is_selected_comes_first_and_a_later_sync_brings_the_rest(folder: Path) -> None:
    selection = ["--trail", "payments", "--partition", "*/eu-*", "--partition", "4444*/none"]
    window = ["--start", "2026-01-14", "--end", "2026-01-14T23:00Z"]
    done = ctrail(folder, "sync", *selection[:4], *window)
    assert done.returncode == 0, done.stderr
    part = snapshot(folder / "events")
    wanted = [
        path
        for path in log_files(folder, PAYMENTS_BUCKET)
        if "/2026/01/14/" in str(path) and "/eu-" in str(path)
    ]
    assert {json.loads(line)["eventID"] for line in part} == {
        record["eventID"] for path in wanted for record in records(path)
    }
    assert part
    nothing = ctrail(folder, "sync", *selection, *window)
    assert nothing.returncode == 1
    assert "- 4444*/none: not found: no selected trail delivers such a partition" in nothing.stderr
    assert ctrail(folder, "sync").returncode == 0
    assert_whole(folder)
    assert part < snapshot(folder / "events")


def records(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["Records"]
    return found


# --- what is logged -------------------------------------------------------------------------------


def test_levels_times_in_utc_and_where_what_is_printed(folder: Path) -> None:
    """Log files with the same problem are told once, and their number; each only with `-v`."""
    for path in log_files(folder)[:25]:
        path.write_bytes(path.read_bytes()[:-20])
    started = datetime.now(UTC).replace(microsecond=0)
    levels = {}
    for option in ("-v", "", "-q"):
        done = ctrail(folder, "sync", *filter(None, [option]), "--trail", "organization")
        logged, _, report = done.stderr.partition("25 log files stand open. ")
        found = [LOG_LINE.fullmatch(line) for line in logged.splitlines()]
        lines = [line for line in found if line is not None]
        assert len(lines) == len(found), logged
        for line in lines:
            at = datetime.fromisoformat(line[1])
            assert started <= at <= datetime.now(UTC)
        levels[option] = {
            level: sum(line[2] == level for line in lines) for level in ("WARNING", "DEBUG")
        }
        assert any(line[2] == "INFO" for line in lines) == (option != "-q")
        assert len(report.splitlines()) == 4
        assert SUMMARY.match(done.stdout)
        assert len(done.stdout.splitlines()) == 1
        make_anew(folder)
    assert levels == {
        "-v": {"WARNING": 2, "DEBUG": 24},
        "": {"WARNING": 2, "DEBUG": 0},
        "-q": {"WARNING": 2, "DEBUG": 0},
    }


def make_anew(folder: Path) -> None:
    """Remove the ledger, the events and the quarantine, so that the next sync is a first one."""
    for name in written(folder):
        (folder / name).rename(folder / "sample" / f"{name}-{time.monotonic_ns()}")


def test_a_quiet_sync_without_problems_says_its_summary_and_nothing_else(folder: Path) -> None:
    done = ctrail(folder, "sync", "-q")
    assert done.returncode == 0
    assert SUMMARY.fullmatch(done.stdout.strip())
    assert done.stderr == ""


PRIVATE = "private-text-of-a-damaged-log-file"


def test_nothing_of_any_event_is_printed_even_when_asked_for_more(folder: Path) -> None:
    names = log_files(folder)[:4]
    secret = json.dumps({"eventTime": "2026-01-14T10:00:00Z", "userAgent": PRIVATE})
    names[0].write_bytes(gzip.compress(f'{{"Records":[{secret},{{"{PRIVATE}":'.encode(), mtime=0))
    names[1].write_bytes(gzip.compress(f'{{"Records":["{PRIVATE}",{secret}]}}'.encode(), mtime=0))
    names[2].write_bytes(names[2].read_bytes()[:-40])
    names[3].write_bytes(PRIVATE.encode())
    done = ctrail(folder, "sync", "-v")
    assert done.returncode == 1
    printed = done.stdout + done.stderr + ctrail(folder, "sync", "-v", "--dry-run").stderr
    assert names[3].name in printed
    for private in private_values(folder):
        assert private not in printed, private


def private_values(folder: Path) -> set[str]:
    """The values that tell who did what: ids, ARNs, names, addresses, agents of every event."""
    found = {PRIVATE}
    for bucket, _ in BUCKETS:
        for path in log_files(folder, bucket)[4:]:
            for record in records(path):
                identity = record["userIdentity"]
                found |= {record["eventID"], record["sourceIPAddress"], record["userAgent"]}
                found |= {str(value) for value in identity.values() if isinstance(value, str)}
                found |= set(re.findall(r"arn:aws:[^\"]+", json.dumps(record)))
    harmless = {"Root", "AWSService", "AssumedRole", "IAMUser", "AWSAccount", ""}
    return {value for value in found - harmless if not re.fullmatch(r"\d{12}", value)}


# --- stopping -------------------------------------------------------------------------------------


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


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("faults", "requests_before"),
    [
        (Faults(latency=0.1), {"get": 12}),
        (Faults(latency=1.0), {"list": 2}),
        (Faults(hang={"AWSLogs/"}), {"list": 1}),
    ],
    ids=["fetching", "listing", "a server that hangs"],
)
def test_a_stopped_sync_ends_soon_with_1_and_the_next_one_completes(
    folder: Path, server: FaultServer, number: int, faults: Faults, requests_before: dict[str, int]
) -> None:
    server.faults = faults
    with subprocess.Popen(
        [*COMMAND, "sync"],
        cwd=folder,
        env=environment(server.env()),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            [(kind, least)] = requests_before.items()
            wait_until_asked(server, kind, least)
            process.send_signal(number)
            stopped = time.monotonic()
            output, errors = process.communicate(timeout=STOP_SECONDS)
            assert time.monotonic() - stopped < STOP_SECONDS
        finally:
            process.kill()
    assert process.returncode == 1, errors
    assert "; interrupted: what is committed stays, and the next run goes on from there" in output
    assert "Traceback" not in errors
    server.heal()
    done = ctrail(folder, "sync", env=server.env())
    assert done.returncode == 0, done.stderr
    assert_whole(folder)


def wait_until_asked(server: FaultServer, kind: str, least: int) -> None:
    end = time.monotonic() + 20
    while server.counts.requests[kind] < least:
        assert time.monotonic() < end, server.counts
        time.sleep(0.02)
