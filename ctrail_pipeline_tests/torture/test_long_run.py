"""A short long run, and its verdict: it finds every quantity that grows."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest

from ctrail_pipeline_tests.torture import growth, plot

from .growth import floor_of, judge, slope_of
from .long_run import Lasting, LongRun, Pace, Samples, judged

MINUTES = 0.4
PACE = Pace(write=0.3, sync=2, kill=6, sample=0.5)
HALF_AN_HOUR = 1_800


@pytest.mark.thorough(is_long=True)
def test_steady_state_in_short(tmp_path: Path) -> None:
    report = LongRun(tmp_path, 1, MINUTES, pace=PACE).run()
    counts = json.loads(report.as_json())
    print(report.as_json())
    assert report.violations == []
    assert report.kills
    assert counts["rounds"]["watch"] > 5
    assert counts["rounds"]["host"] > 5
    assert counts["lines"] == counts["events"] > 100
    committed = report.samples.points["committed"]
    assert committed[0][1] < committed[-1][1]
    # In so short a time memory, connections and pages of the ledger have not reached their level,
    # and the lag depends on the machine's other work.
    assert len([growth for growth in report.growth if growth.quantity.startswith("lag")]) == 2
    [files] = [growth for growth in report.growth if growth.quantity.startswith("files")]
    assert files.is_bounded, files
    drawn = ElementTree.fromstring(report.as_svg())
    lines = drawn.findall(".//{*}polyline")
    assert len(lines) == 16
    assert all(line.get("points") for line in lines)


def steady(quantity: str, at: float, rng: Random) -> float:
    """A sample of half an hour in which all is well, and no quantity stands still."""
    round_ = at % 10
    return {
        "in use": 21e6 + rng.uniform(0, 1e6),
        "memory": 120e6 + 3e6 * min(1, at / 300) + rng.uniform(0, 2e6),
        "descriptors": 20 + 15 * (round_ < 1) + rng.choice([0, 0, 1]),
        "threads": 8 + 6 * (round_ < 1),
        "wal": 4e6 * (round_ < 1),
        "staged": 12.0 * (round_ < 0.5),
        "newest committed": round_ + 1,
        "oldest waiting": round_,
        "committed": at * 2,
        "pages": 200_000 + at * 2 * 400 // 4096 * 4096,
    }[quantity]


NAMES = [
    *(
        f"{name} {quantity}"
        for name in ("watch", "host")
        for quantity in ("memory", "descriptors", "threads")
    ),
    "host in use",
    *("wal", "staged", "newest committed", "oldest waiting", "committed", "pages"),
]


def samples(leaking: str = "", leak: Callable[[float], float] = float) -> Samples:
    found, rng = Samples(), Random(1)
    for name in NAMES:
        quantity = name.removeprefix("watch ").removeprefix("host ")
        for count in range(HALF_AN_HOUR // 3):
            at = count * 3.0
            value = steady(quantity, at, rng) + (leak(at) if name == leaking else 0)
            found.note(name, at, value)
    return found


def test_steady_state_is_bounded() -> None:
    assert [str(growth) for growth in judged(samples(), 10) if not growth.is_bounded] == []


@pytest.mark.parametrize(
    ("quantity", "leak"),
    [
        ("watch memory", lambda at: at * 12_000),  # 120 kB in each round
        ("host memory", lambda at: at * 12_000),
        ("host in use", lambda at: at * 1_500),
        ("watch descriptors", lambda at: at // 100),  # one descriptor in ten rounds
        ("host threads", lambda at: at // 100),
        ("wal", lambda at: at * 10_000),
        ("staged", lambda at: at // 60),  # one file of each kill
        ("oldest waiting", lambda at: at / 60),
        ("newest committed", lambda at: at / 60),
        ("pages", lambda at: at**2),
    ],
)
def test_what_grows_is_found(quantity: str, leak: Callable[[float], float]) -> None:
    found = [
        growth.quantity for growth in judged(samples(quantity, leak), 10) if not growth.is_bounded
    ]
    expected = {"pages": "ledger", "wal": "write-ahead log", "staged": "files in staging"}
    name, _, of_process = quantity.partition(" ")
    if quantity == "host in use":
        assert found == ["memory in use of host"]
    elif name in ("watch", "host"):
        assert found == [f"{of_process} of {name}"]
    else:
        assert found == [expected.get(quantity, f"lag: {quantity}")]


LEAKS = """
import os, signal, threading, time
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
held = []
while True:
    held.append((os.open(os.devnull, os.O_RDONLY), b"x" * 200_000))
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    time.sleep(0.02)
"""


@pytest.mark.thorough
def test_a_process_that_leaks_is_measured_as_one(tmp_path: Path) -> None:
    process = Lasting("leaky", [sys.executable, "-c", LEAKS], tmp_path, dict(os.environ))
    points: dict[str, list[tuple[float, float]]] = {}
    began = time.monotonic()
    while (at := time.monotonic() - began) < 2:
        for name, value in process.measure().items():
            points.setdefault(name, []).append((at, value))
        time.sleep(0.05)
    assert process.end()[0].startswith("leaky ended with -15"), "it does not heed the signal"
    for name, least in (("memory", 3e6), ("descriptors", 5), ("threads", 5)):
        assert not judge(name, "", points[name], share=0.03, least=least).is_bounded
    assert process.measure() == {}


@pytest.mark.thorough
def test_a_process_that_ends_by_itself_or_fails_is_a_violation(tmp_path: Path) -> None:
    program = "import json, sys; print(json.dumps({'ok': False})); sys.exit('gave up')"
    process = Lasting("short", [sys.executable, "-c", program], tmp_path, dict(os.environ))
    deadline = time.monotonic() + 20
    while process.measure() and time.monotonic() < deadline:
        time.sleep(0.02)
    wrong = process.end()
    assert [text.partition(":")[0] for text in wrong] == [
        "short ended by itself with 1",
        "short ended with 1",
        "short",
    ]
    assert "gave up" in wrong[0]


def test_a_peak_is_no_slope_and_a_floor_has_no_peaks() -> None:
    points = [(float(at), 900.0 if at % 7 == 3 else 5.0) for at in range(50)]
    assert slope_of(points) == 0
    assert {value for _, value in floor_of(points, 7)} == {5.0}


@pytest.mark.parametrize("module", [growth, plot])
def test_examples_in_docstrings(module: object) -> None:
    import doctest

    failed, attempted = doctest.testmod(module)  # type: ignore[arg-type]
    assert attempted
    assert not failed
