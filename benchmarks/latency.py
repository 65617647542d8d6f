"""Is the network hidden? The same sync through a proxy, with and without 30 ms on every request.

The sync has default settings. It is measured on one account and region, and on 500. Both runs go
through the proxy, so that the proxy's own cost cancels out.
"""

from collections.abc import Callable
from typing import Final

from benchmarks import shapes
from benchmarks.bench import Bench
from benchmarks.measure import Spread, Usage, interleaved
from benchmarks.report import Section, Table, Target
from benchmarks.server import DelayProxy, MeasuredServer
from benchmarks.shapes import Partitioned, Shape

_DELAY_SECONDS: Final = 0.03
_LOG_FILES: Final = 6_000
_PARTITIONS: Final = (1, 500)


def measure(bench: Bench) -> Section:
    """Measure all four combinations."""
    section = Section("Latency: 30 ms added to every request")
    section.parts.append(
        "Wall time of the sync at default settings, without interpreter and imports, through the"
        " same proxy."
    )
    rows = []
    for number in _PARTITIONS:
        partitions = number if number == 1 else bench.scaled(number, 5)
        found = Partitioned(bench.fresh("latency"), partitions)
        found.add(max(1, bench.scaled(_LOG_FILES, partitions) // partitions), shapes.noon())
        shape = found.shape()
        runs = _run(bench, shape)
        ratio = Spread.of(
            slow.report["seconds"] / fast.report["seconds"]
            for slow, fast in zip(runs["30 ms"], runs["0 ms"], strict=True)
        )
        rows.append(
            [
                f"{partitions:,} account(s) and regions, {shape.log_files:,} log files",
                Spread.of(usage.report["seconds"] for usage in runs["0 ms"]).text(),
                Spread.of(usage.report["seconds"] for usage in runs["30 ms"]).text(),
                ratio.text(),
            ]
        )
        name = f"latency of 30 ms, {number} account(s) and regions: wall time, multiple"
        section.targets.append(Target(name, 1.25, ratio.median))
    section.parts.append(Table(("", "wall s at 0 ms", "wall s at 30 ms", "ratio"), rows))
    return section


def _run(bench: Bench, shape: Shape) -> dict[str, list[Usage]]:
    with (
        MeasuredServer(shape.folder) as server,
        DelayProxy(server.endpoint_url, 0.0) as fast,
        DelayProxy(server.endpoint_url, _DELAY_SECONDS) as slow,
    ):

        def sync_through(proxy: DelayProxy) -> Callable[[], Usage]:
            return lambda: bench.sync(
                shape.s3_trails(proxy.endpoint_url),
                bench.fresh("latency"),
                server=server,
                events=shape.distinct_records,
            )

        variants = {"0 ms": sync_through(fast), "30 ms": sync_through(slow)}
        runs = interleaved(variants, bench.rounds, say=bench.say)
    bench.clear()
    return runs
