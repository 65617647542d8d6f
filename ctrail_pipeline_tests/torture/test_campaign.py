"""The campaign works, and its checker can fail: each violation that is planted is found."""

import gzip
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from random import Random

import polars as pl
import pytest
from msgspec import structs

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.log_file.record import LogFileContent
from ctrail_pipeline.core.log_file.streaming import StreamedLogFile
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.sample.bucket import LAST_DAY, generate_log_files
from ctrail_pipeline_tests.support.oracle import _uncompressed, records_in
from ctrail_pipeline_tests.support.parquet_rows import parquet_files
from ctrail_pipeline_tests.torture import campaign

from .actors import Nursery
from .campaign import Campaign, Steps
from .hostile_log_files import hostile_log_file
from .output_server import OutputServer, output_server
from .server import ledger_server
from .small_pieces import SmallPieces
from .tally import Tally
from .verdicts import open_log_files
from .world import DAYS, Violation, World, new_world

pytestmark = pytest.mark.thorough

SECONDS = 20
FIRST_DAY = datetime.combine(LAST_DAY, time(), UTC) - timedelta(days=DAYS - 1)


@pytest.mark.thorough(is_long=True)
def test_a_short_campaign(tmp_path: Path) -> None:
    tally = Campaign(tmp_path / "campaign", 1, print).run(SECONDS, fewest_steps=12)
    print(tally.as_table())
    assert tally.violations == []
    assert tally.checks > 0
    assert tally.kills_at_work > 0
    assert tally.faults.total() > 50
    assert tally.events > 0
    assert tally.streamed > 0
    assert tally.parts > 0
    assert tally.unpacked > 0
    assert not list((tmp_path / "campaign").iterdir()), "a clean campaign leaves nothing"


@pytest.mark.thorough(is_long=True)
def test_a_short_campaign_with_ledgers_in_postgres(tmp_path: Path) -> None:
    with ledger_server("postgres") as server:
        # The first twelve steps of seed 28 have both; other weights of steps want another seed.
        tally = Campaign(tmp_path / "campaign", 28, print, server).run(SECONDS, fewest_steps=12)
    print(tally.as_table())
    assert tally.violations == []
    assert tally.checks > 0
    assert tally.kills_at_work > 0
    assert tally.trouble["connections ended"] > 0
    assert tally.trouble["server stopped hard"] > 0


@pytest.mark.parametrize("ledger", ["sqlite", "postgres"])
def test_a_short_campaign_with_outputs_in_a_bucket(
    outputs: OutputServer, tmp_path: Path, ledger: str
) -> None:
    with ledger_server(ledger) as server:
        tally = Campaign(tmp_path / "campaign", 2, print, server, outputs).run(
            SECONDS, fewest_steps=6
        )
    print(tally.as_table())
    assert tally.violations == []
    assert tally.checks > 0
    assert tally.kills_at_work > 0
    assert sum(count for kind, count in tally.faults.items() if "output" in kind) > 0
    assert tally.observed["rounds"] > tally.steps.total()
    assert tally.observed["read"] > 20


@pytest.fixture
def outputs() -> Iterator[OutputServer]:
    with output_server("bucket") as server:
        assert server is not None
        yield server


def test_the_same_seed_makes_the_same_buckets(tmp_path: Path) -> None:
    contents = []
    for name in ("one", "other"):
        with new_world(tmp_path / name, Random(7)) as world:
            rng = Random(8)
            for _ in range(4):
                world.deliver(rng, 30)
                world.rewrite(rng)
            files = [path for path in world.buckets.rglob("*") if path.is_file()]
            contents.append({path.relative_to(world.buckets): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert len(contents[0]) > 120


def test_a_campaign_that_streams_nothing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "ENOUGH_SYNCS", 1)
    monkeypatch.setattr(campaign, "SMALL_PIECES_RATE", 1)
    monkeypatch.setattr(SmallPieces, "drawn", lambda _: SmallPieces(streamed_from=1 << 32))
    tally = Campaign(tmp_path / "campaign", 406, print).run(1)
    assert tally.in_small_pieces > 0
    assert tally.violations == [
        "no log file was streamed in parts, or none was mapped: the campaign is wrong"
    ]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steps]:
    """A world in which all is well, with some output pruned. Its checks ask no programs."""
    folder = tmp_path_factory.mktemp("torture") / "world"
    with pytest.MonkeyPatch.context() as patch, new_world(folder, Random(3)) as world:
        patch.setattr(campaign, "VERDICTS_RATE", -1)
        world.settings = replace(
            world.settings, output_formats=("jsonl", "parquet"), jsonl_compression="none"
        )
        environment = world.server.env()
        with Nursery(folder / "actors", environment) as nursery:
            steps = Steps(world, nursery, Tally(3), environment)
            steps._prune_alone(
                FIRST_DAY + timedelta(hours=7), f"{FIRST_DAY:%Y/%m/%d}/07", Random(1)
            )
            assert world.gone
            yield steps


def test_the_oracle_can_judge_hostile_log_files() -> None:
    """A log file that the oracle took for damaged would need no line in the output."""
    log_file = next(generate_log_files(log_files=1, seed=1))
    for seed in range(50):
        body = hostile_log_file(gzip.decompress(log_file.body), Random(seed))
        assert len(list(records_in(_uncompressed(body)))) >= 30


@pytest.fixture
def streaming_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """A new world in which each sync streams what it can, and checks ask no programs."""
    monkeypatch.setattr(campaign, "VERDICTS_RATE", -1)
    monkeypatch.setattr(campaign, "SMALL_PIECES_RATE", 1)
    monkeypatch.setattr(campaign, "SMALL_PIECES_RATE_IN_WORKERS", 1)
    monkeypatch.setattr(SmallPieces, "drawn", lambda _: SmallPieces())
    with new_world(tmp_path / "world", Random(5)) as world:
        environment = world.server.env()
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with Nursery(tmp_path / "actors", environment) as nursery:
            yield Steps(world, nursery, Tally(5), environment)


def test_worker_processes_stream_too(streaming_steps: Steps) -> None:
    settings = replace(streaming_steps.world.settings, process_workers=2)
    actor = streaming_steps._start("sync", Random(1), settings, may_die=False, in_workers=True)
    streaming_steps._wait([actor])
    assert actor.streamed.log_files == actor.streamed.in_workers > 20
    assert actor.streamed.parts > 100
    streaming_steps.perform("check", Random(1))


@pytest.mark.parametrize("in_workers", [False, True])
def test_a_process_dies_at_a_part(streaming_steps: Steps, in_workers: bool) -> None:
    """A worker process dies once. The next worker process does its work."""
    settings = replace(streaming_steps.world.settings, process_workers=1 + in_workers)
    rng = Random(26)  # this seed draws a death at the eighth part
    actor = streaming_steps._start("sync", rng, settings, in_workers=in_workers)
    streaming_steps._wait([actor])
    assert actor.streamed.died_at_a_part
    streaming_steps.perform("check", Random(1))


def test_a_record_that_streaming_loses_is_found(
    streaming_steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sync loses the first record behind a part's end, and reports success."""
    part = StreamedLogFile.part

    def without_the_first(self: StreamedLogFile, number: int, limit: int) -> LogFileContent:
        content = part(self, number, limit)
        return structs.replace(content, records=content.records[number == 1 :])

    with monkeypatch.context() as patch:
        for module, name, value in SmallPieces().values():
            patch.setattr(module, name, value)
        patch.setattr(StreamedLogFile, "part", without_the_first)
        assert sync(streaming_steps.world.settings).progress.events > 100
    with pytest.raises(Violation, match="missing"):
        streaming_steps.perform("check", Random(2))


def test_a_success_that_nobody_may_claim_is_found(
    streaming_steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger says that damaged log files were accepted, and no person has accepted them."""
    world = streaming_steps.world
    world.deliver(Random(1), 60)
    streaming_steps.perform("check", Random(2))
    assert open_log_files(world, world.expectation())
    with closing(Ledger(world.settings.ledger)) as ledger, ledger.transaction():
        ledger.execute("UPDATE log_file SET accepted = 1, next_visit = NULL WHERE state = 2")
    with pytest.raises(Violation, match="log files stand open"):
        streaming_steps._check(Random(2))


def a_file(world: World) -> Path:
    """An output file of several lines."""
    return max(world.settings.events_dir.rglob("*.jsonl"), key=lambda path: path.stat().st_size)


def double_a_line(world: World) -> None:
    path = a_file(world)
    path.write_bytes(path.read_bytes() + path.read_bytes().split(b"\n")[0] + b"\n")


def remove_a_line(world: World) -> None:
    path = a_file(world)
    path.write_bytes(path.read_bytes().partition(b"\n")[2])


def alter_a_byte(world: World) -> None:
    path = a_file(world)
    path.write_bytes(path.read_bytes().replace(b'"eventTime"', b'"eventtime"', 1))


def remove_a_file(world: World) -> None:
    a_file(world).unlink()


def put_a_foreign_file(world: World) -> None:
    foreign = a_file(world).with_name("events_77777.jsonl")
    foreign.touch(0o600)
    foreign.write_bytes(b'{"eventName":"NobodyDid"}\n')


def move_a_file(world: World) -> None:
    path = a_file(world)
    hour = path.parent.with_name(f"{(int(path.parent.name) + 1) % 24:02}")
    hour.mkdir(0o700, exist_ok=True)
    path.rename(hour / "events_88888.jsonl")


def let_others_read(world: World) -> None:
    a_file(world).chmod(0o644)


def lose_a_quarantined_record(world: World) -> None:
    for path in world.settings.quarantine_dir.rglob("*.jsonl"):
        path.unlink()


def bring_back_what_was_pruned(world: World) -> None:
    a_file(world).with_name("events_77777.jsonl").touch(0o600)
    a_file(world).with_name("events_77777.jsonl").write_bytes(min(world.gone) + b"\n")


def double_rows(world: World) -> None:
    path = parquet_files(world.settings)[-1]
    path.with_name("part-77777.parquet").touch(0o600)
    path.with_name("part-77777.parquet").write_bytes(path.read_bytes())


def lose_rows(world: World) -> None:
    parquet_files(world.settings)[-1].unlink()


def alter_rows(world: World) -> None:
    path = parquet_files(world.settings)[-1]
    rows = pl.read_parquet(path, hive_partitioning=False)
    rows.with_columns(pl.col("eventName").str.reverse()).write_parquet(path)


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (double_a_line, "doubled"),
        (remove_a_line, "missing"),
        (alter_a_byte, "altered_or_foreign"),
        (remove_a_file, "OUTPUT_MISSING"),
        (put_a_foreign_file, "OUTPUT_FOREIGN"),
        (move_a_file, "misplaced"),
        (let_others_read, "wrong_permissions"),
        (lose_a_quarantined_record, "OUTPUT_MISSING"),
        (bring_back_what_was_pruned, "altered_or_foreign"),
        (double_rows, "rows: .*no line like it, or doubled"),
        (lose_rows, "rows: .*no row for event"),
        (alter_rows, "rows: .*no line like it, or doubled"),
    ],
)
def test_the_checker_finds_what_is_planted(
    steps: Steps, plant: Callable[[World], None], found: str
) -> None:
    output = list(LocalOutput.of(steps.world.settings).roots.values())
    before = {
        path: path.read_bytes()
        for root in output
        for path in root.rglob("*")
        if path.is_file() and "/." not in str(path.relative_to(root.parent))
    }
    plant(steps.world)
    with pytest.raises(Violation, match=found):
        steps.perform("check", Random(2))
    # The world is as before, whatever else the check brought in.
    for root in output:
        for path in root.rglob("*[_-][78]*.*"):
            path.unlink()
    for path, data in before.items():
        path.parent.mkdir(0o700, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)
    for root in output:
        for folder in sorted(root.rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()) and folder.name != ".staging":
                folder.rmdir()


def test_all_is_well_again(steps: Steps) -> None:
    steps.perform("check", Random(2))


def test_what_a_prune_leaves_is_found(steps: Steps) -> None:
    hour = f"{FIRST_DAY:%Y/%m/%d}/23"
    lines = steps.world.lines_before(hour)
    assert lines
    assert len(steps.world.note_pruned(hour, set())) >= len(lines)
    steps.world.pruned_before = f"{FIRST_DAY:%Y/%m/%d}/07"
