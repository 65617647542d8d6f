"""With worker processes the output is the same, whatever dies, and no process is left behind.

`CTRAIL_KILLS` and `CTRAIL_KILL_SEED` as in `test_crash_safety`.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ctrail_pipeline.core.batch.cost import cost_of
from ctrail_pipeline.core.batch.listed_ahead import ListedAhead
from ctrail_pipeline.core.bucket.local import LocalBucket
from ctrail_pipeline.core.exceptions import OutputError, WorkersFailed
from ctrail_pipeline.core.keys.coverage import EVERYTHING
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.listing.folder_walk import Listing
from ctrail_pipeline.core.listing.sources import LogFileRef, Source
from ctrail_pipeline.core.run import sync as sync_module
from ctrail_pipeline.core.run import work_sharing, worker_handle, worker_pool
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.late_log_files import NOON, event, put_log_file
from ctrail_pipeline_tests.support.oracle import Expectation, read_buckets, snapshot
from ctrail_pipeline_tests.support.sync_process import (
    SyncProcess,
    assert_exact,
    leave_all_to_workers,
    let_a_minute_pass,
    local_trail,
    run_sync,
    sample_settings,
    settings_in,
    start_sync,
)
from ctrail_pipeline_tests.support.thorough import thorough

KILLS = int(os.environ.get("CTRAIL_KILLS", "30")) // 5
SEED = int(os.environ.get("CTRAIL_KILL_SEED", "1"))
IN_A_WORKER = (
    "import json, os, signal, sys; sys.path[:] = json.loads(sys.argv[2]);"
    " from ctrail_pipeline.core.batch import fetch;"
    " from ctrail_pipeline.core.run import worker_process;"
    "{};"
    " worker_process.main(int(sys.argv[1]))"
)

SAMPLE = {"log_files": 300, "days": 2}


@pytest.fixture
def settings(sample: Path, tmp_path: Path) -> Settings:
    return replace(sample_settings(sample, tmp_path), process_workers=2)


_process = sync_module._Run._process


@pytest.fixture(autouse=True)
def _all_is_left_to_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(run: sync_module._Run, listing: Listing, listed: ListedAhead) -> None:
        (leave_all_to_workers if run._processes > 1 else _process)(run, listing, listed)

    monkeypatch.setattr(sync_module._Run, "_process", leave)


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    """Servers that other tests share are children of this process, too, and stay."""
    before = children(os.getpid())
    yield
    assert children(os.getpid()) == before


@pytest.fixture
def settled_by(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Return how many log files each worker has done."""
    counts: Counter[int] = Counter()
    settle = worker_handle.WorkerHandle.settle

    def counting(worker: worker_handle.WorkerHandle, numbers: Sequence[int]) -> list[LogFileRef]:
        counts[worker.process.pid] += len(numbers)
        return settle(worker, numbers)

    monkeypatch.setattr(worker_handle.WorkerHandle, "settle", counting)
    return counts


def synced(settings: Settings) -> Summary:
    summary = sync(settings)
    assert summary.ok, summary.problems
    return summary


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and not buried."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except FileNotFoundError:
        return []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pids: Sequence[int], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "workers outlive their run"
        time.sleep(0.01)


# --- what they do -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 3])
def test_the_output_is_that_of_one_process(
    settings: Settings, expectation: Expectation, settled_by: Counter[int], number: int
) -> None:
    summary = synced(replace(settings, process_workers=number))
    assert_exact(settings, expectation)
    assert (summary.progress.log_files, summary.progress.listed) == (expectation.log_files,) * 2
    assert summary.progress.events == len(expectation.lines)
    assert summary.progress.events + summary.progress.duplicates == expectation.records
    assert len(settled_by) == number
    again = synced(settings)
    assert again.progress.log_files == 0


def test_one_process_starts_no_other(settings: Settings, settled_by: Counter[int]) -> None:
    synced(replace(settings, process_workers=1))
    assert not settled_by


def test_little_to_do_starts_no_other(
    settings: Settings, settled_by: Counter[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module._Run, "_process", _process)
    monkeypatch.setattr(sync_module, "WORTHWHILE", 1_000)
    synced(settings)
    assert not settled_by


def test_what_turns_out_to_be_much_is_handed_over(
    settings: Settings,
    expectation: Expectation,
    settled_by: Counter[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until the workers are up, the run itself does log files."""
    are_up, questions = worker_pool.Workers.are_up, 0

    def are_up_later(self: worker_pool.Workers) -> bool:
        nonlocal questions
        questions += 1
        while questions > 20 and not are_up(self):
            time.sleep(0.001)
        return questions > 20

    monkeypatch.setattr(sync_module._Run, "_process", _process)
    monkeypatch.setattr(sync_module, "WORTHWHILE", 100)
    monkeypatch.setattr(worker_pool.Workers, "are_up", are_up_later)
    synced(replace(settings, download_workers=1))
    assert_exact(settings, expectation)
    assert 0 < settled_by.total() < expectation.log_files


def test_one_heavy_source_prefix_is_spread_over_all_workers(
    tmp_path: Path, settled_by: Counter[int]
) -> None:
    bucket = tmp_path / "bucket"
    for number in range(2_000):
        put_log_file(bucket, "111122223333", NOON, [event(number)], number)
    settings = settings_in(tmp_path, [local_trail(bucket)], process_workers=3)
    synced(settings)
    assert_exact(settings, read_buckets([(bucket, "")]))
    assert len(settled_by) == 3
    assert min(settled_by.values()) > 200


@pytest.mark.parametrize("tries", [3, 1], ids=["whole", "halved"])
def test_copies_in_the_hands_of_several_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    """Every event is in three log files, which go to whatever worker comes next."""
    bucket = tmp_path / "bucket"
    for number in range(90):
        records = [event(number // 3 * 5 + at) for at in range(5)]
        put_log_file(bucket, "111122223333", NOON, records, number)
    redone = 0
    redo = worker_pool.Workers._redo

    def counting(self: worker_pool.Workers, *arguments: object) -> object:
        nonlocal redone
        redone += 1
        return redo(self, *arguments)  # type: ignore[arg-type]

    folder = tmp_path / "prepared"
    folder.mkdir()
    together = (  # each has compared its batch with the ledger before any of them is committed
        f" import time; prepare = worker_process.prepare; folder = {str(folder)!r};"
        " worker_process.prepare = lambda *values: (prepare(*values),"
        " open(os.path.join(folder, str(os.getpid())), 'w').close(),"
        " [time.sleep(0.01) for _ in range(3_000) if len(os.listdir(folder)) < 3])[0]"
    )
    monkeypatch.setattr(worker_handle, "START", IN_A_WORKER.format(together))
    monkeypatch.setattr(worker_pool.Workers, "_redo", counting)
    monkeypatch.setattr(worker_pool, "TRIES_WHOLE", tries)
    monkeypatch.setattr(work_sharing, "PIECE_COST", 1)
    settings = settings_in(tmp_path, [local_trail(bucket)], process_workers=3, batch_log_files=30)
    assert synced(settings).progress.events == 150
    assert_exact(settings, read_buckets([(bucket, "")]))
    assert redone > 0


def test_a_worker_imports_no_dagster(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = (
        f" worker_process.Flush.__new__; open({str(tmp_path / 'modules')!r}, 'a')"
        ".write(' '.join(sys.modules))"
    )
    monkeypatch.setattr(worker_handle, "START", IN_A_WORKER.format(tell))
    synced(settings)
    modules = (tmp_path / "modules").read_text().split()
    assert "ctrail_pipeline.core.batch.stage" in modules
    assert not {"dagster", "polars", "boto3", "pytest", "ctrail_pipeline.core.run.sync"} & {
        *modules
    }


# --- workers that die -------------------------------------------------------------------------


@pytest.mark.thorough
def test_workers_killed_at_random_instants(
    sample: Path, expectation: Expectation, tmp_path: Path
) -> None:
    rng = Random(SEED)
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        settings = replace(sample_settings(sample, tmp_path / str(rounds)), process_workers=2)
        process = start_sync(settings, in_workers=True, step_seconds=0.01)
        process.wait_until_ready()
        for _ in range(rng.randint(1, 2)):
            kills += kill_a_worker(process, rng)
        ended = process.wait()
        assert ended.returncode == 0, ended
        assert_exact(settings, expectation)
    print(f"{kills} workers killed in {rounds} rounds: all compared")


def kill_a_worker(process: SyncProcess, rng: Random) -> bool:
    time.sleep(rng.uniform(0, 0.6))
    pids = children(process.pid)
    if not pids:
        return False
    os.kill(rng.choice(pids), signal.SIGKILL)
    return True


def test_a_log_file_that_workers_die_of_is_found_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled_by: Counter[int]
) -> None:
    bucket = tmp_path / "bucket"
    for number in range(200):
        put_log_file(bucket, "111122223333", NOON, [event(number)], number)
    deadly = put_log_file(bucket, "111122223333", NOON, [event(1_000)], 77_777)
    die = (
        " unpack = fetch.CompressedLogFile.unpack;"
        " fetch.CompressedLogFile.unpack = lambda one, settings:"
        f" os.kill(os.getpid(), signal.SIGKILL) if one.ref.key == {deadly!r}"
        " else unpack(one, settings)"
    )
    monkeypatch.setattr(worker_handle, "START", IN_A_WORKER.format(die))
    settings = settings_in(tmp_path, [local_trail(bucket)], process_workers=2)
    summary = sync(settings)
    (problem,) = summary.problems
    assert problem.where.endswith(deadly)
    assert (problem.state, problem.may_pass) == ("failed", True)
    assert "worker processes end when they process it" in problem.reason
    assert summary.progress.events == 200
    (bucket / deadly).unlink()
    assert_exact(settings, read_buckets([(bucket, "")]))


def test_workers_that_cannot_start_end_the_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_handle, "START", "import os; os._exit(3)")
    with pytest.raises(WorkersFailed, match="set `process_workers` to 1"):
        sync(settings)
    assert not list(settings.events_dir.glob(".staging/*"))


def test_a_mistake_of_ours_in_a_worker_is_raised(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        worker_handle, "START", IN_A_WORKER.format(" worker_process.prepare = None")
    )
    with pytest.raises(RuntimeError, match="'NoneType' object is not callable"):
        sync(settings)


# --- runs that die, are stopped, or overlap ---------------------------------------------------


def test_a_disk_that_fails_while_a_worker_writes_ends_the_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, expectation: Expectation
) -> None:
    """The worker writes in a thread of its own."""
    fail = (
        " from ctrail_pipeline.core.exceptions import OutputError;"
        " from ctrail_pipeline.core.output.local.staging import LocalStaging;"
        " LocalStaging.write = lambda *values, **named:"
        " (_ for _ in ()).throw(OutputError('the disk is full'))"
    )
    with monkeypatch.context() as patch:
        patch.setattr(worker_handle, "START", IN_A_WORKER.format(fail))
        with pytest.raises(OutputError, match="the disk is full"):
            synced(settings)
    synced(settings)
    assert_exact(settings, expectation)


def test_a_worker_whose_files_another_run_removed_is_replaced(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expectation: Expectation
) -> None:
    """The other run took this one, which was paused for long, for dead."""
    is_first = tmp_path / "is_first"
    is_first.touch()
    hook = tmp_path / "hook.py"
    hook.write_text(f"""
from contextlib import closing, suppress
from pathlib import Path
from shutil import rmtree
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.output.local.staging import LocalStaging
write_file = LocalStaging._write_file
def woken_up(staging, item):
    with suppress(FileNotFoundError):
        Path({str(is_first)!r}).unlink()
        with closing(Ledger(Path({str(settings.state_db)!r}))) as ledger, ledger.transaction():
            ledger.execute("UPDATE batch SET state = 3 WHERE token = ?", staging._token)
        rmtree(Path(staging.part_path(item[1].kind, 0)).parent)
    return write_file(staging, item)
LocalStaging._write_file = woken_up
""")
    start = IN_A_WORKER.format(f" exec(open({str(hook)!r}).read())")
    monkeypatch.setattr(worker_handle, "START", start)
    synced(settings)
    assert not is_first.exists()
    assert_exact(settings, expectation)


@pytest.mark.thorough
def test_the_run_killed_at_random_instants(
    sample: Path, expectation: Expectation, tmp_path: Path
) -> None:
    """The workers are gone within seconds, and a new run makes everything right."""
    rng = Random(SEED)
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        settings = replace(sample_settings(sample, tmp_path / str(rounds)), process_workers=2)
        returncode = -signal.SIGKILL
        while kills < KILLS and returncode == -signal.SIGKILL:
            process = start_sync(settings, in_workers=True)
            process.wait_until_ready()
            time.sleep(rng.uniform(0, 1))
            pids = children(process.pid)
            process.signal(signal.SIGKILL)
            ended = process.wait()
            returncode = ended.returncode
            assert returncode in (0, -signal.SIGKILL), ended
            kills += returncode == -signal.SIGKILL
            wait_until_gone(pids)
        let_a_minute_pass(settings)
        assert run_sync(settings, in_workers=True).returncode == 0
        assert_exact(settings, expectation)
    print(f"{kills} kills in {rounds} rounds: all compared")


@pytest.mark.parametrize(
    "step", ["committed", *thorough("registered", "staged", "linked", "published")]
)
@pytest.mark.parametrize("count", [5, *thorough(1)])
def test_the_run_killed_at_a_step_of_the_protocol(
    settings: Settings, expectation: Expectation, step: str, count: int
) -> None:
    process = start_sync(settings, in_workers=True, kill_at=(step, count))
    process.wait_until_ready()
    pids: set[int] = set()
    while is_alive(process.pid):
        pids |= set(children(process.pid))
    assert process.wait().returncode == -signal.SIGKILL
    wait_until_gone([*pids])
    let_a_minute_pass(settings)
    assert run_sync(settings, in_workers=True).returncode == 0
    assert_exact(settings, expectation)


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize("delay", [0.0, 0.5, 1.0])
def test_stopped_by_a_signal(
    settings: Settings, expectation: Expectation, number: signal.Signals, delay: float
) -> None:
    process = start_sync(settings, in_workers=True, step_seconds=0.05)
    process.wait_until_ready()
    time.sleep(delay)
    for pid in [process.pid, *children(process.pid)]:
        os.kill(pid, number)  # the signal goes to all processes, as from service managers
    asked_at = time.monotonic()
    ended = process.wait()
    assert time.monotonic() - asked_at < 10
    assert ended.returncode == 1, ended
    assert ended.summary["interrupted"], ended
    assert not list(settings.events_dir.glob(".staging/*"))
    resumed = run_sync(settings, in_workers=True)
    assert resumed.summary["log_files"] == expectation.log_files - ended.summary["log_files"]
    assert_exact(settings, expectation)


@pytest.mark.thorough
def test_runs_with_workers_at_once(settings: Settings, expectation: Expectation) -> None:
    processes = [start_sync(settings, in_workers=True, step_seconds=0.005) for _ in range(2)]
    processes.append(start_sync(replace(settings, process_workers=1), step_seconds=0.005))
    ended = [process.wait() for process in processes]
    assert [process.returncode for process in ended] == [0] * 3, ended
    assert_exact(settings, expectation)
    assert sum(process.summary["events"] for process in ended) == len(expectation.lines)
    assert len(snapshot(settings.events_dir)) == len(expectation.lines)


@pytest.mark.thorough
def test_runs_with_workers_at_once_some_of_them_killed(
    settings: Settings, expectation: Expectation
) -> None:
    rng = Random(SEED)
    for _ in range(3):
        processes = [start_sync(settings, in_workers=True, step_seconds=0.005) for _ in range(3)]
        for process in processes:
            process.wait_until_ready()
        time.sleep(rng.uniform(0.2, 1))
        kill_a_worker(processes[0], rng)
        pids = children(processes[1].pid)
        processes[1].signal(signal.SIGKILL)
        assert {process.wait().returncode for process in processes} <= {0, -signal.SIGKILL}
        wait_until_gone(pids)
    let_a_minute_pass(settings)
    assert run_sync(settings).returncode == 0
    assert_exact(settings, expectation)


# --- who does what ----------------------------------------------------------------------------


SOURCE_PREFIX = SourcePrefix("bucket", "", "", "111122223333", "eu-west-1")


def refs_of_a_day(number: int, prefix: str = "", size: int = 2_000) -> list[LogFileRef]:
    """Return log files spread evenly over a day, in the order of their keys."""
    source_prefix = replace(SOURCE_PREFIX, prefix=prefix)
    source = Source(1, source_prefix, "trail", NoBucket(), (), EVERYTHING, deep=False)
    names = [f"{at // 60:02}{at % 60:02}{prefix:x>16}" for at in minutes_of(number)]
    return [LogFileRef(source, 20_000, name, size, b"", False, None, 0, None) for name in names]


def minutes_of(number: int) -> list[int]:
    return [at * 1440 // number for at in range(number)]


class NoBucket(LocalBucket):
    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))


@pytest.mark.parametrize("size", [2_000, 800_000])
def test_loads_are_even_and_copies_go_to_the_same_worker(size: int) -> None:
    affinity = work_sharing.Affinity()
    loads = {1: 0, 2: 0, 3: 0}
    worker_of: dict[object, int] = {}
    refs = refs_of_a_day(6_000, size=size)
    refs_done = []
    for piece in work_sharing.pieces(refs):
        number = affinity.choose(piece, loads)
        loads[number] += piece.cost
        worker_of[piece.key] = number
        refs_done += piece.refs
    assert refs_done == refs
    largest = max(work_sharing.PIECE_COST, cost_of(refs[0]))
    assert max(loads.values()) - min(loads.values()) <= 2 * largest
    copies = [*work_sharing.pieces(refs_of_a_day(6_000, "other", size))]
    assert [affinity.choose(piece, loads) for piece in copies] == [
        worker_of[piece.key] for piece in copies
    ]


def test_a_small_source_prefix_day_is_one_piece() -> None:
    (piece,) = work_sharing.pieces(refs_of_a_day(300))
    assert (len(piece.refs), piece.cost) == (300, 300)
