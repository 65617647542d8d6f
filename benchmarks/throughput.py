"""A first sync of many small and of few large log files, beside a plain loop, the floor and s5cmd.

Start-up (interpreter, imports, credentials, a new ledger) is measured by syncing two buckets that
hold one log file each. Start-up is shown, and taken off where a table says so.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from pathlib import Path
from typing import Final, Literal

from benchmarks import shapes
from benchmarks.bench import Bench, workers
from benchmarks.measure import Spread, Usage, interleaved, run, run_python
from benchmarks.report import Section, Table, Target, megabytes
from benchmarks.server import MeasuredServer
from benchmarks.shapes import Shape
from benchmarks.stages import STAGES

_Kind = Literal["small", "large"]
_SMALL_LOG_FILES: Final = 20_000
_LARGE_LOG_FILES: Final = 44
_LOOP_SHARE: Final = 5
"""The plain loop does a fifth of the log files, since its cost for a log file does not change."""

_S3, _LOCAL, _PROFILED = "sync from S3", "sync from a local folder", "sync from S3, profiled"
_TWO = "sync from a local folder, two worker processes"
_PAIR = "two syncs at once from a local folder, one process each"
_TWO_S3 = "sync from S3, two worker processes"
_UNHASHED = "sync from S3, log files not hashed"
_NOTHING, _EMPTY, _EMPTY_LOCAL = "nothing new (S3)", "start-up (S3)", "start-up (local folder)"
_S5CMD, _FLOOR, _LOOP = "s5cmd, download only", "floor", "boto3 + gzip + json loop"


def measure(bench: Bench, kind: _Kind) -> Section:
    """Run all variants of one shape."""
    folder = bench.work / kind
    if kind == "small":
        shape = shapes.small(folder, bench.scaled(_SMALL_LOG_FILES, 50))
    else:
        shape = shapes.large(folder, bench.scaled(_LARGE_LOG_FILES, 2))
    keys = bench.work / f"{kind}.keys"
    keys.write_text("".join(f"{bucket} {key}\n" for bucket, key in shape.log_file_keys()))
    nothing = shapes.nearly_empty(bench.work / "nothing")
    with MeasuredServer(shape.folder) as server, MeasuredServer(nothing.folder) as idle:
        variants = {
            **_start_up(bench, nothing, idle),
            **_variants(bench, shape, keys, server),
        }
        runs = interleaved(variants, bench.rounds, say=bench.say)
    bench.clear()
    return _section(kind, shape, runs)


def _start_up(
    bench: Bench, nothing: Shape, server: MeasuredServer
) -> Mapping[str, Callable[[], Usage]]:
    trails, folders = nothing.s3_trails(server.endpoint_url), nothing.local_trails()
    changes = workers(1)
    return {
        _EMPTY: lambda: bench.sync(trails, bench.fresh("empty"), server=server, changes=changes),
        _EMPTY_LOCAL: lambda: bench.sync(folders, bench.fresh("empty"), changes=changes),
    }


def _variants(
    bench: Bench, shape: Shape, keys: Path, server: MeasuredServer
) -> Mapping[str, Callable[[], Usage]]:
    from_s3, local = shape.s3_trails(server.endpoint_url), shape.local_trails()
    expected = shape.distinct_records
    latest = [bench.work]

    def first_sync() -> Usage:
        latest[0] = bench.fresh("s3")
        return bench.sync(from_s3, latest[0], server=server, changes=workers(1), events=expected)

    def profiled() -> Usage:
        folder = bench.fresh("profiled")
        return bench.sync(
            from_s3, folder, server=server, changes=workers(1), profile=True, events=expected
        )

    return {
        _S3: first_sync,
        _NOTHING: lambda: bench.sync(
            from_s3, latest[0], server=server, changes=workers(1), events=0
        ),
        _S5CMD: lambda: _s5cmd(bench, shape, server),
        _PROFILED: profiled,
        _UNHASHED: lambda: bench.sync(
            from_s3,
            bench.fresh("unhashed"),
            server=server,
            changes={**workers(1), "hash_log_files": False},
            events=expected,
        ),
        _LOCAL: lambda: bench.sync(
            local, bench.fresh("local"), changes=workers(1), events=expected
        ),
        _FLOOR: lambda: _floor(bench, shape, keys),
        _LOOP: lambda: _loop(bench, shape, server),
        _PAIR: lambda: _pair(bench, shape),
        _TWO: lambda: bench.sync(local, bench.fresh("two"), changes=workers(2), events=expected),
        _TWO_S3: lambda: bench.sync(
            from_s3, bench.fresh("two"), server=server, changes=workers(2), events=expected
        ),
    }


def _pair(bench: Bench, shape: Shape) -> Usage:
    """Run two independent syncs at once, which shows the most that two CPUs can give."""

    def whole_sync(folder: Path) -> Usage:
        return bench.sync(
            shape.local_trails(), folder, changes=workers(1), events=shape.distinct_records
        )

    with ThreadPoolExecutor(2) as threads:
        usages = list(threads.map(whole_sync, [bench.fresh("pair"), bench.fresh("pair")]))
    return Usage(
        max(usage.wall for usage in usages),
        sum(usage.cpu for usage in usages),
        sum(usage.peak_bytes for usage in usages),
        report={"seconds": max(usage.report["seconds"] for usage in usages)},
    )


def _s5cmd(bench: Bench, shape: Shape, server: MeasuredServer) -> Usage:
    """Download all log files of all buckets with s5cmd, one command for each bucket."""
    package = distribution("s5cmd")
    binary = next(file for file in package.files or () if str(file) == "s5cmd/bin/s5cmd")
    usages = []
    for _, bucket, prefix in shape.trails:
        folder = bench.fresh("s5cmd")
        folder.mkdir()
        wanted = f"s3://{bucket}/{prefix}{'/' if prefix else ''}AWSLogs/*/CloudTrail/*"
        usages.append(
            run(
                [
                    str(Path(str(package.locate_file(binary))).resolve()),
                    "--log",
                    "error",
                    "--endpoint-url",
                    server.endpoint_url,
                    "cp",
                    wanted,
                    f"{folder}/",
                ],
                environment=server.env(),
                server=server,
            )
        )
    return _sum(usages)


def _sum(usages: Sequence[Usage]) -> Usage:
    return Usage(
        sum(usage.wall for usage in usages),
        sum(usage.cpu for usage in usages),
        max(usage.peak_bytes for usage in usages),
        sum(usage.server_cpu for usage in usages),
        max(usage.server_peak_bytes for usage in usages),
    )


def _floor(bench: Bench, shape: Shape, keys: Path) -> Usage:
    job = {
        "what": "floor",
        "source": str(shape.folder),
        "keys": str(keys),
        "folder": str(bench.fresh("floor")),
    }
    return run_python("baselines", job)


def _loop(bench: Bench, shape: Shape, server: MeasuredServer) -> Usage:
    job = {
        "what": "loop",
        "endpoint_url": server.endpoint_url,
        "log_files": _loop_keys(shape),
        "folder": str(bench.fresh("loop")),
    }
    return run_python("baselines", job, environment=server.env(), server=server)


def _loop_keys(shape: Shape) -> dict[str, int]:
    by_bucket: dict[str, int] = {}
    for bucket, _ in shape.log_file_keys():
        by_bucket[bucket] = by_bucket.get(bucket, 0) + 1
    return {bucket: max(1, number // _LOOP_SHARE) for bucket, number in by_bucket.items()}


# --- what it comes to -----------------------------------------------------------------------------


def _section(kind: _Kind, shape: Shape, runs: Mapping[str, Sequence[Usage]]) -> Section:
    title = {"small": "Many small log files", "large": "Few large log files"}[kind]
    section = Section(f"{title}: first sync, one process")
    section.parts.append(
        f"{shape.log_files:,} log files of two trails that overlap. They hold {shape.records:,}"
        f" records, {shape.distinct_records:,} of them distinct: {megabytes(shape.json_bytes)} of"
        f" JSON in {megabytes(shape.stored_bytes)}. Exact dedup, fsync, lineage and the full"
        " ledger are on. So is the SHA-256 of whole log files (`hash_log_files`); the profile"
        " shows its share."
    )
    section.parts.append(_table(kind, shape, runs))
    section.parts.append(
        "CPU of the client only. «less start-up» leaves out what a sync of one log file a trail"
        " costs. For the other programs it leaves out interpreter and imports; s5cmd counts as it"
        f" is. The loop did one log file in {_LOOP_SHARE}. The floor reads the same bytes from"
        " local files, gunzips (libdeflate), copies once and writes, without fsync."
    )
    section.parts.append(_ratios(runs))
    if _TWO in runs:
        section.parts.append(_two_workers(runs))
    section.parts += _profile(runs)
    section.parts.append(_bound(kind, runs))
    section.targets += _targets(kind, shape, runs)
    return section


def _net(runs: Mapping[str, Sequence[Usage]], name: str) -> Spread:
    """CPU without start-up."""
    if name in (_FLOOR, _LOOP):
        return Spread.of(usage.report["work_cpu"] for usage in runs[name])
    if name == _S5CMD:
        return Spread.of(usage.cpu for usage in runs[name])
    empty = _EMPTY_LOCAL if name in (_LOCAL, _TWO) else _EMPTY
    start_up = Spread.of(usage.cpu for usage in runs[empty]).median
    return Spread.of(usage.cpu - start_up for usage in runs[name])


def _table(kind: _Kind, shape: Shape, runs: Mapping[str, Sequence[Usage]]) -> Table:
    rows = []
    for name, usages in runs.items():
        done = usages[0].report.get("log_files", shape.log_files)
        size = usages[0].report.get("bytes", shape.json_bytes)
        per = "–"
        if name not in (_EMPTY, _EMPTY_LOCAL, _NOTHING, _PAIR):
            net = _net(runs, name)
            per = (
                Spread.of(value / done * 1e3 for value in net.values).text(3)
                if kind == "small"
                else Spread.of(size / 1e6 / value for value in net.values).text(0)
            )
        peak = max(usage.peak_bytes for usage in usages)
        server_peak = max(usage.server_peak_bytes for usage in usages)
        rows.append(
            [
                name,
                Spread.of(usage.cpu for usage in usages).text(),
                per,
                Spread.of(usage.wall for usage in usages).text(),
                megabytes(peak),
                Spread.of(usage.server_cpu for usage in usages).text() if server_peak else "–",
                megabytes(server_peak) if server_peak else "–",
            ]
        )
    unit = "CPU-ms a log file" if kind == "small" else "MB of JSON a CPU-s"
    return Table(
        (
            "",
            "CPU-s",
            f"{unit}, less start-up",
            "wall s",
            "peak memory",
            "server CPU-s",
            "server peak",
        ),
        rows,
    )


def _ratios(runs: Mapping[str, Sequence[Usage]]) -> Table:
    names = [name for name in (_S3, _UNHASHED, _LOCAL, _TWO_S3, _TWO) if name in runs]
    return Table(
        ("CPU less start-up, as a multiple of:", "s5cmd", "the floor", "the loop"),
        [
            [
                name,
                _ratio(runs, name, _S5CMD).text(),
                _ratio(runs, name, _FLOOR).text(),
                _ratio(runs, name, _LOOP, per_byte=True).text(),
            ]
            for name in names
        ],
    )


def _ratio(
    runs: Mapping[str, Sequence[Usage]], name: str, beside: str, *, per_byte: bool = False
) -> Spread:
    """The ratio of two variants, round by round, so that drift meets both."""
    scales = [1.0] * len(runs[name])
    if per_byte:
        scales = [
            base.report["bytes"] / usage.report["bytes"]
            for usage, base in zip(runs[name], runs[beside], strict=True)
        ]
    pairs = zip(_net(runs, name).values, _net(runs, beside).values, scales, strict=True)
    return Spread.of(cpu / base_cpu * scale for cpu, base_cpu, scale in pairs)


def _speed_up(
    runs: Mapping[str, Sequence[Usage]], variant_of_two: str, variant_of_one: str
) -> Spread:
    pairs = zip(runs[variant_of_one], runs[variant_of_two], strict=True)
    return Spread.of(
        single.report["seconds"] / double.report["seconds"] for single, double in pairs
    )


def _two_workers(runs: Mapping[str, Sequence[Usage]]) -> str:
    local, from_s3 = _speed_up(runs, _TWO, _LOCAL), _speed_up(runs, _TWO_S3, _S3)
    pair = Spread.of(2 * value for value in _speed_up(runs, _PAIR, _LOCAL).values)
    share = Spread.of(
        reached / bound for reached, bound in zip(local.values, pair.values, strict=True)
    )
    return (
        f"By wall time, two worker processes are {local.text()} times as fast as one process on a"
        f" local folder. They are {from_s3.text()} times as fast from S3, where the server"
        " competes for the CPUs. This machine bounds that: two syncs at once that share nothing"
        f" do {pair.text()} times as much as one in the same time. Two worker processes reach"
        f" {share.text()} of that."
    )


def _profile(runs: Mapping[str, Sequence[Usage]]) -> list[str | Table]:
    profiles = [usage.report["profile"] for usage in runs[_PROFILED]]
    unit = 1e3 / runs[_PROFILED][0].report["log_files"]
    rows = [
        [
            stage,
            Spread.of(
                profile["seconds"][stage] / profile["total"] * 100 for profile in profiles
            ).text(1),
            Spread.of(profile["seconds"][stage] * unit for profile in profiles).text(3),
        ]
        for stage in STAGES
    ]
    pairs = zip(runs[_PROFILED], runs[_S3], strict=True)
    overhead = Spread.of(profiled.cpu / plain.cpu for profiled, plain in pairs)
    parts: list[str | Table] = [
        "Profile of a sync from S3: CPU time of threads, around the core's functions, from when"
        " the core is imported. Start-up is what opening the buckets takes: the import of boto3,"
        " credentials. With the profile on, the sync cost"
        f" {overhead.text()} times the CPU of one without, in the same round.",
        Table(("stage", "% of CPU", "CPU-ms a log file"), rows),
    ]
    missing = profiles[0]["missing"]
    if missing:
        parts.append(f"Not found in the core, and so part of others: {', '.join(missing)}.")
    return parts


def _bound(kind: _Kind, runs: Mapping[str, Sequence[Usage]]) -> str:
    """Say what keeps the sync from its targets, in figures of this run."""
    profiles = [usage.report["profile"] for usage in runs[_PROFILED]]
    log_files = int(runs[_PROFILED][0].report["log_files"])

    def milliseconds(*stages: str) -> float:
        """CPU milliseconds of some stages for each log file."""
        sums = (sum(profile["seconds"][stage] for stage in stages) for profile in profiles)
        return Spread.of(sums).median / log_files * 1e3

    total = milliseconds(*STAGES)
    if kind == "small":
        get = milliseconds("get")
        download = _net(runs, _S5CMD).median / log_files * 1e3
        return (
            f"What bounds it: libcurl's GET takes {get:.2f} CPU-ms of {total:.2f}. All but the GET"
            f" takes {total - get:.2f}. To download a log file, s5cmd needs {download:.2f}; 0.6 of"
            f" that is {0.6 * download:.2f}."
        )
    floor = milliseconds("get", "gunzip", "write", "fsync")
    return (
        f"What bounds it, in shares of the CPU: to get, gunzip and write {floor / total:.0%} (with"
        f" the SHA-256 of each output file); the hash of each log file"
        f" {milliseconds('hash of log file') / total:.0%}; to cut the text into records and find"
        f" their fields {milliseconds('split') / total:.0%} (msgspec reads it twice); to route"
        f" them, mostly SHA-256 over each, {milliseconds('route') / total:.0%}."
    )


def _targets(kind: _Kind, shape: Shape, runs: Mapping[str, Sequence[Usage]]) -> list[Target]:
    net = _net(runs, _S3).median
    if kind == "small":
        found = [
            Target("small: CPU-ms a log file", 0.35, net / shape.log_files * 1e3),
            Target("small: CPU, multiple of s5cmd's", 0.6, _ratio(runs, _S3, _S5CMD).median),
        ]
    else:
        found = [
            Target("large: MB of JSON a CPU-s", 150, shape.json_bytes / 1e6 / net, at_least=True),
            Target(
                "large: share of the floor's speed",
                0.45,
                1 / _ratio(runs, _S3, _FLOOR).median,
                at_least=True,
            ),
        ]
    found.append(_memory(kind, runs))
    two = _speed_up(runs, _TWO, _LOCAL).median if _TWO in runs else None
    note = "" if two else "there is no setting `process_workers` yet"
    name = f"{kind}: two worker processes, wall time of one / of two"
    return [*found, Target(name, 1.8, two, at_least=True, note=note)]


def _memory(kind: _Kind, runs: Mapping[str, Sequence[Usage]]) -> Target:
    """The target for memory. It is set for two worker processes. One process has to keep it too."""
    name = _TWO_S3 if _TWO_S3 in runs else _S3
    peak = max(usage.peak_bytes for usage in runs[name])
    return Target(f"{kind}: MB of memory of all processes, {name}", 400, peak / 1e6)
