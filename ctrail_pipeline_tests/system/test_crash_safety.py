"""A sync is killed or stopped at any instant, and run again: the output is exact.

`CTRAIL_KILLS` says how many random kills there are (default 30; 200 for a campaign), and
`CTRAIL_KILL_SEED` which ones.
"""

import errno
import os
import shutil
import signal
import socket
import stat
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ctrail_pipeline.core.ledger.batches import mark_published, open_batches
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.output_numbers import published_files
from ctrail_pipeline.core.ledger.rows import BatchState
from ctrail_pipeline.core.output.local.folders import OutputFolders
from ctrail_pipeline.core.output.local.staging import LocalStaging
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline_tests.support.engines import with_ledger_in
from ctrail_pipeline_tests.support.kills import KILLS, SEED
from ctrail_pipeline_tests.support.oracle import Expectation, snapshot
from ctrail_pipeline_tests.support.sync_process import (
    Ended,
    assert_exact,
    let_a_minute_pass,
    run_sync,
    sample_settings,
    start_sync,
)
from ctrail_pipeline_tests.support.thorough import thorough

SAMPLE = {"log_files": 120, "days": 2}


@pytest.fixture(params=["sqlite", *thorough("postgres")])
def settings(request: pytest.FixtureRequest, sample: Path, tmp_path: Path) -> Settings:
    return with_ledger_in(request.param, sample_settings(sample, tmp_path))


@pytest.fixture(scope="module")
def undisturbed(
    sample: Path, expectation: Expectation, tmp_path_factory: pytest.TempPathFactory
) -> tuple[set[bytes], Counter[str]]:
    """The lines of a sync that nothing happened to, and how often each step occurred in it."""
    settings = sample_settings(sample, tmp_path_factory.mktemp("undisturbed"))
    steps: list[str] = []
    assert sync(settings, observe=steps.append).ok
    assert_exact(settings, expectation)
    return snapshot(settings.events_dir), Counter(steps)


def assert_recovers(settings: Settings, expectation: Expectation, lines: set[bytes]) -> None:
    """Assert that a clean run brings in what is missing, and that the next finds nothing to do."""
    let_a_minute_pass(settings)
    recovered = sync(settings)
    assert recovered.ok, recovered.problems
    assert_exact(settings, expectation)
    assert snapshot(settings.events_dir) == lines
    again = sync(settings)
    assert again.ok
    assert again.progress.log_files == 0
    assert snapshot(settings.events_dir) == lines


@pytest.mark.parametrize("step", ["registered", "staged", "committed", "marked", "published"])
@pytest.mark.parametrize(
    "occurrence",
    [
        "middle",
        pytest.param("first", marks=pytest.mark.thorough),
        pytest.param("last", marks=pytest.mark.thorough),
    ],
)
def test_killed_at_a_step_of_the_protocol(
    settings: Settings,
    expectation: Expectation,
    undisturbed: tuple[set[bytes], Counter[str]],
    step: str,
    occurrence: str,
) -> None:
    lines, steps = undisturbed
    count = {"first": 1, "middle": steps[step] // 2, "last": steps[step]}[occurrence]
    ended = run_sync(settings, kill_at=(step, count))
    assert ended.returncode == -signal.SIGKILL, ended
    assert_recovers(settings, expectation, lines)


@pytest.mark.parametrize(
    "share",
    [0.25, *(pytest.param(share, marks=pytest.mark.thorough) for share in (0, 0.02, 0.6, 1))],
)
def test_killed_while_files_get_their_names(
    settings: Settings,
    expectation: Expectation,
    undisturbed: tuple[set[bytes], Counter[str]],
    share: float,
) -> None:
    lines, steps = undisturbed
    count = max(1, round(steps["linked"] * share))
    assert run_sync(settings, kill_at=("linked", count)).returncode == -signal.SIGKILL
    assert_recovers(settings, expectation, lines)


@pytest.mark.parametrize(
    ("first", "during_recovery"),
    [
        (("linked", 2), ("linked", 2)),
        *(
            pytest.param(*kills, marks=pytest.mark.thorough)
            for kills in (
                (("staged", 2), ("recovered", 1)),
                (("committed", 3), ("linked", 1)),
                (("committed", 3), ("linked", 3)),
                (("committed", 3), ("recovered", 1)),
                (("published", 2), ("recovered", 1)),
            )
        ),
    ],
)
def test_killed_while_it_recovers_from_a_kill(
    settings: Settings,
    expectation: Expectation,
    undisturbed: tuple[set[bytes], Counter[str]],
    first: tuple[str, int],
    during_recovery: tuple[str, int],
) -> None:
    for kill_at in (first, during_recovery, during_recovery):
        returncode = run_sync(settings, kill_at=kill_at).returncode
        if kill_at == first:
            assert returncode == -signal.SIGKILL
    assert_recovers(settings, expectation, undisturbed[0])


@pytest.mark.thorough
def test_killed_again_and_again_at_the_same_step(
    settings: Settings, expectation: Expectation, undisturbed: tuple[set[bytes], Counter[str]]
) -> None:
    for _ in range(4):
        assert run_sync(settings, kill_at=("staged", 1)).returncode == -signal.SIGKILL
    for _ in range(4):
        assert run_sync(settings, kill_at=("linked", 1)).returncode == -signal.SIGKILL
    assert_recovers(settings, expectation, undisturbed[0])


@pytest.mark.parametrize("vanished", ["parts", "part", "staging"])
def test_staged_files_that_vanish_before_they_are_published(
    settings: Settings,
    expectation: Expectation,
    undisturbed: tuple[set[bytes], Counter[str]],
    vanished: str,
) -> None:
    """After a power cut on a disk that lies about fsync, or a tidy hand, they are made again."""
    assert run_sync(settings, kill_at=("linked", 2)).returncode == -signal.SIGKILL
    (staging,) = (settings.events_dir / ".staging").iterdir()
    parts = sorted(staging.glob("*.part"))
    assert len(parts) > 3
    if vanished == "staging":
        shutil.rmtree(staging)
    for part in parts if vanished == "parts" else parts[-1:]:
        part.unlink(missing_ok=True)
    assert_recovers(settings, expectation, undisturbed[0])


@pytest.mark.parametrize("step", ["restaged", *thorough("noted", "linked", "recovered")])
def test_killed_while_it_makes_staged_files_again(
    settings: Settings,
    expectation: Expectation,
    undisturbed: tuple[set[bytes], Counter[str]],
    step: str,
) -> None:
    assert run_sync(settings, kill_at=("committed", 1)).returncode == -signal.SIGKILL
    for part in list(settings.events_dir.glob(".staging/*/*.part"))[1:]:
        part.unlink()
    assert run_sync(settings, kill_at=(step, 1)).returncode == -signal.SIGKILL
    assert_recovers(settings, expectation, undisturbed[0])


@pytest.mark.parametrize("vanished", [0, 1])
def test_another_run_recovers_while_we_do(
    settings: Settings,
    expectation: Expectation,
    undisturbed: tuple[set[bytes], Counter[str]],
    monkeypatch: pytest.MonkeyPatch,
    vanished: int,
) -> None:
    """The other run leaves our batch to us, whole or not, and brings in all other log files."""
    assert run_sync(settings, kill_at=("committed", 1)).returncode == -signal.SIGKILL
    for part in sorted(settings.events_dir.glob(".staging/*/*.part"))[-1:] * vanished:
        part.unlink()
    link = os.link
    recoverers: list[Ended] = []

    def slow_link(part: Path, final: Path, *, follow_symlinks: bool = True) -> None:
        if not recoverers:
            recoverers.append(run_sync(settings))
        link(part, final, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "link", slow_link)
    assert sync(settings).ok
    monkeypatch.undo()
    assert recoverers[0].returncode == 0, recoverers
    assert recoverers[0].summary["log_files"] == expectation.log_files - settings.batch_log_files
    assert_recovers(settings, expectation, undisturbed[0])


def test_another_run_publishes_the_batch_that_we_publish(
    settings: Settings,
    expectation: Expectation,
    undisturbed: tuple[set[bytes], Counter[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without locks, the other run may finish between our `link` and our look at the error."""
    assert run_sync(settings, kill_at=("committed", 1)).returncode == -signal.SIGKILL
    link = os.link
    calls = 0

    def link_too_late(part: Path, final: Path, *, follow_symlinks: bool = True) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            publish_open_batch(settings)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final))
        link(part, final, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "link", link_too_late)
    assert sync(settings).ok
    monkeypatch.undo()
    assert_recovers(settings, expectation, undisturbed[0])


def publish_open_batch(settings: Settings) -> None:
    """Publish the one open batch, as another run's recovery would."""
    folders = OutputFolders(settings.events_dir, settings.quarantine_dir)
    ledger = Ledger(settings.ledger)
    (batch,) = open_batches(ledger)
    staging = LocalStaging(folders, batch.token)
    files = published_files(ledger, batch.id)
    assert staging.publish(files, lambda file: file, lambda _: None) == []
    staging.remove()
    with ledger.transaction():
        mark_published(ledger, [batch.id])
    ledger.close()
    folders.close()


def test_killed_while_the_marker_is_written(
    settings: Settings,
    expectation: Expectation,
    undisturbed: tuple[set[bytes], Counter[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Killed(BaseException):
        """Whoever is killed removes nothing on its way out."""

        def __init__(self) -> None:
            monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)

    fsync = os.fsync

    def killed_at_a_file(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Killed
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", killed_at_a_file)
    with pytest.raises(Killed):
        sync(settings)
    monkeypatch.undo()
    assert list(settings.events_dir.glob(".ctrail.*"))
    assert_recovers(settings, expectation, undisturbed[0])


@pytest.mark.thorough
def test_killed_at_random_instants(
    sample: Path,
    expectation: Expectation,
    undisturbed: tuple[set[bytes], Counter[str]],
    tmp_path: Path,
) -> None:
    """In each round, runs are killed until one ends by itself. Then the output is compared."""
    rng = Random(SEED)
    kills = rounds = progressed = 0
    found: Counter[str] = Counter()
    while kills < KILLS:
        rounds += 1
        settings = sample_settings(sample, tmp_path / str(rounds))
        returncode = -signal.SIGKILL
        while kills < KILLS and returncode == -signal.SIGKILL:
            before = len(list(settings.events_dir.glob("**/*.jsonl")))
            process = start_sync(settings)
            process.wait_until_ready()
            time.sleep(rng.uniform(0, rng.choice((0.05, 0.15, 0.3))))
            process.signal(signal.SIGKILL)
            ended = process.wait()
            returncode = ended.returncode
            assert returncode in (0, -signal.SIGKILL), ended
            if returncode == -signal.SIGKILL:
                kills += 1
                found[left_behind(settings)] += 1
            progressed += len(list(settings.events_dir.glob("**/*.jsonl"))) > before
        assert_recovers(settings, expectation, undisturbed[0])
        shutil.rmtree(tmp_path / str(rounds))
    print(f"{kills} kills in {rounds} rounds; {progressed} runs brought new files; {found}")


def left_behind(settings: Settings) -> str:
    """Describe what a killed run left unfinished."""
    if not (settings.events_dir / ".ctrail").exists():
        return "no marker yet"
    ledger = Ledger(settings.ledger)
    batches = open_batches(ledger)
    ledger.close()
    if not batches:
        return "no open batch"
    if batches[-1].state is BatchState.COMMITTED:
        staging = settings.events_dir / ".staging" / batches[-1].token
        return "a committed batch" + (" with staged files" if staging.exists() else "")
    parts = list(settings.events_dir.glob(f".staging/{batches[-1].token}/*.part"))
    return "a staging batch" + (" with staged files" if parts else "")


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("delay", [0.0, 0.4])
def test_stopped_by_a_signal(
    settings: Settings,
    expectation: Expectation,
    undisturbed: tuple[set[bytes], Counter[str]],
    number: signal.Signals,
    delay: float,
) -> None:
    process = start_sync(settings, step_seconds=0.05)
    process.wait_until_ready()
    time.sleep(delay)
    process.signal(number)
    asked = time.monotonic()
    ended = process.wait()
    assert time.monotonic() - asked < 10
    assert ended.returncode == 1, ended
    assert ended.summary["interrupted"], ended
    # The run finished or dropped what it had begun: nothing waits to be recovered.
    assert not list(settings.events_dir.glob(".staging/*"))
    assert snapshot(settings.events_dir) < undisturbed[0]
    let_a_minute_pass(settings)
    resumed = run_sync(settings)
    assert resumed.summary["log_files"] == expectation.log_files - ended.summary["log_files"]
    assert_recovers(settings, expectation, undisturbed[0])


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_stopped_while_the_server_does_not_answer(
    settings: Settings, number: signal.Signals
) -> None:
    """The server takes connections and says nothing, as behind a bad firewall rule."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        trail = Trail("silent", "bucket", region="us-east-1", endpoint_url=url)
        environment = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        process = start_sync(replace(settings, trails=(trail,)), environment=environment)
        process.wait_until_ready()
        time.sleep(1)
        process.signal(number)
        asked = time.monotonic()
        ended = process.wait(timeout=30)
        assert time.monotonic() - asked < 10
        assert ended.summary["interrupted"], ended
