"""The command line: which measurements, how large, and where the results go."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import (
    latency,
    memory,
    parquet,
    postgres,
    postgres_growth,
    start,
    steady,
    throughput,
    tls,
)
from benchmarks.bench import Bench
from benchmarks.measure import PROJECT
from benchmarks.report import Section, results

_SECTIONS: Final[dict[str, Callable[[Bench], Section]]] = {
    "small": partial(throughput.measure, kind="small"),
    "large": partial(throughput.measure, kind="large"),
    "latency": latency.measure,
    "steady": steady.steady_state,
    "start": start.measure,
    "growth": steady.growth,
    "tls": tls.measure,
    "parquet": parquet.measure,
    "postgres": postgres.measure,
}
_ASKED_FOR: Final[dict[str, Callable[[Bench], Section]]] = {
    "memory": memory.measure,
    "postgres-growth": postgres_growth.measure,
}
"""Sections that a whole run leaves out, since each takes as long as a whole run."""
_RESULTS: Final = PROJECT / "benchmarks" / "RESULTS.md"
_WORK: Final = PROJECT / "build" / "bench"
_ROUNDS: Final = 3
_HISTORY_EVENTS: Final = 10_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the results."""
    options = _parser().parse_args(arguments)
    is_whole = options.scale == 1 and not options.only
    target = options.results or (_RESULTS if is_whole else options.work / "RESULTS.md")
    history = options.history
    if history is None:
        history = round(_HISTORY_EVENTS * options.scale)
    bench = Bench(options.work, options.scale, options.rounds, history)
    bench.work.mkdir(parents=True, exist_ok=True)
    bench.remove()
    sections = []
    try:
        for name in options.only or _SECTIONS:
            bench.say(f"--- {name}")
            sections.append((_SECTIONS | _ASKED_FOR)[name](bench))
    finally:
        bench.remove()
    seconds = time.monotonic() - bench.began
    text = results(sections, scale=options.scale, rounds=options.rounds, seconds=seconds)
    target.write_text(text)
    print(text)
    print(f"written to {target}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What a sync costs, beside what else could do it."
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="share of the log files; only a whole run at 1 is kept in benchmarks/RESULTS.md",
    )
    parser.add_argument(
        "--rounds", type=int, default=_ROUNDS, help="runs of each; 1: a smoke run, none discarded"
    )
    parser.add_argument(
        "--only", action="append", choices=[*_SECTIONS, *_ASKED_FOR], help="only this measurement"
    )
    parser.add_argument(
        "--history", type=int, metavar="EVENTS", help="events of the grown ledger (10 million)"
    )
    parser.add_argument("--work", type=Path, default=_WORK, help="folder for all that is written")
    parser.add_argument("--results", type=Path, help="file for the results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
