"""CPU of one small GET, plain and over TLS: as a sync does it, and with obstore."""

from collections.abc import Callable
from typing import Final

from benchmarks import shapes
from benchmarks.bench import Bench
from benchmarks.measure import Spread, Usage, interleaved, run_python
from benchmarks.report import Section, Table
from benchmarks.server import MeasuredServer, make_authority

_LOG_FILES: Final = 20_000
"""Log files of the bucket: as many as in `throughput`, since both use the same bucket."""
_GETS: Final = 5_000
_IN_FLIGHT: Final = 100


def measure(bench: Bench) -> Section:
    """Read the same keys in four ways."""
    shape = shapes.small(bench.work / "small", bench.scaled(_LOG_FILES, 50))
    keys = bench.work / "small.keys"
    keys.write_text("".join(f"{bucket} {key}\n" for bucket, key in shape.log_file_keys()))
    authority = make_authority(bench.work / "authority")
    with MeasuredServer(shape.folder) as plain, MeasuredServer(shape.folder, authority) as secure:

        def gets(client: str, server: MeasuredServer) -> Callable[[], Usage]:
            job = {
                "client": client,
                "endpoint_url": server.endpoint_url,
                "keys": str(keys),
                "gets": bench.scaled(_GETS, 20),
                "in_flight": _IN_FLIGHT,
            }
            return lambda: run_python("gets", job, environment=server.env(), server=server)

        variants = {
            "libcurl, plain": gets("store", plain),
            "libcurl, TLS": gets("store", secure),
            "obstore, plain": gets("obstore", plain),
            "obstore, TLS": gets("obstore", secure),
        }
        runs = interleaved(variants, bench.rounds, say=bench.say)
    bench.clear()
    section = Section("GET, plain and over TLS")
    section.parts += [
        f"{runs['libcurl, TLS'][0].report['gets']:,} small log files, {_IN_FLIGHT} in flight,"
        " connections kept. The first GETs of each process do not count. libcurl is the core's own"
        " way, with retries and errors. obstore is its synchronous GET in as many threads.",
        Table(
            ("", "CPU-µs a GET", "server CPU-µs"),
            [
                [
                    name,
                    _per_get(usages, lambda usage: float(usage.report["work_cpu"])),
                    _per_get(usages, lambda usage: usage.server_cpu),
                ]
                for name, usages in runs.items()
            ],
        ),
    ]
    return section


def _per_get(usages: list[Usage], figure: Callable[[Usage], float]) -> str:
    return Spread.of(figure(usage) / usage.report["gets"] * 1e6 for usage in usages).text(0)
