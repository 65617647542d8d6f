"""The campaign works, and its checker can fail: each violation that is planted is found."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from .torture.actors import Nursery
from .torture.campaign import Campaign, Steps
from .torture.tally import Tally
from .torture.world import Violation, World, new_world

SECONDS = 20


def test_a_short_campaign(tmp_path: Path) -> None:
    tally = Campaign(tmp_path / "campaign", 1, print).run(SECONDS)
    print(tally.as_table())
    assert tally.violations == []
    assert tally.checks > 0
    assert tally.kills_at_work > 0
    assert tally.faults.total() > 50
    assert tally.events > 0
    assert not list((tmp_path / "campaign").iterdir()), "a clean campaign leaves nothing"


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


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Steps]:
    """A world in which all is well."""
    folder = tmp_path_factory.mktemp("torture") / "world"
    with new_world(folder, Random(3)) as world:
        environment = world.server.env()
        with Nursery(folder / "actors", environment) as nursery:
            steps = Steps(world, nursery, Tally(3), environment)
            steps.perform("check", Random(1))
            yield steps


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
    ],
)
def test_the_checker_finds_what_is_planted(
    steps: Steps, plant: Callable[[World], None], found: str
) -> None:
    output = [steps.world.settings.events_dir, steps.world.settings.quarantine_dir]
    before = {
        path: path.read_bytes()
        for root in output
        for path in root.rglob("*")
        if path.is_file() and "/." not in str(path.relative_to(root.parent))
    }
    plant(steps.world)
    with pytest.raises(Violation, match=found):
        steps.perform("check", Random(2))
    # As it was, whatever the check brought in besides.
    for root in output:
        for path in root.rglob("events_[78]*.jsonl"):
            path.unlink()
    for path, data in before.items():
        path.parent.mkdir(0o700, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)
    for root in output:
        for folder in sorted(root.rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()) and folder.name != ".staging":
                folder.rmdir()
    steps.perform("check", Random(2))
