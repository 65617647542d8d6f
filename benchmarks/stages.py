"""Profile of a sync's CPU time: named functions of the core, timed as they run.

Each function is wrapped from outside. It is charged with the CPU time of its own thread, without
the time of wrapped functions inside it. There are a few calls for each log file and none for a
record, so timing costs little; the report compares with a run without. The network's work of a LIST
counts as `get`, since libcurl's threads do it. The remaining CPU time of the process is `other`.

The table names functions of the core by module. If a function is no longer there, the report says
that it is missing, and a test fails.
"""

import importlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Final

STAGES: Final = (
    "start-up",
    "list",
    "get",
    "gunzip",
    "hash of log file",
    "split",
    "route",
    "dedup",
    "write",
    "fsync",
    "commit",
    "publish",
    "bookkeeping",
    "other",
)
_CORE: Final = "ctrail_pipeline.core"
_FUNCTIONS: Final = (  # stage, module, function as the module that calls it knows it
    ("start-up", "listing.found_prefixes", "open_bucket"),
    ("start-up", "run.sync", "readers"),
    ("list", "run.sync", "find_prefixes"),
    ("list", "bucket.s3", "S3Bucket.list_page"),
    ("list", "bucket.s3", "S3Bucket.list_folder"),
    ("list", "bucket.local", "LocalBucket.list_page"),
    ("list", "bucket.local", "LocalBucket.list_folder"),
    ("get", "batch.fetch_task", "get_all"),
    ("get", "bucket.curl", "Transfers._turn"),
    ("hash of log file", "batch.fetch", "decompress"),
    ("gunzip", "log_file.gunzip", "gunzip"),
    ("split", "batch.content", "cut_up"),
    ("split", "log_file.split", "CutLogFile.part"),
    ("route", "batch.routing", "Router.route"),
    ("dedup", "ledger.known_identities", "KnownIdentities.partition"),
    ("dedup", "batch.stage", "drop_known"),
    ("dedup", "batch.stage", "build_segment"),
    ("write", "batch.stage", "line_files_of"),
    ("write", "output.local.staging", "LocalStaging.open"),
    ("write", "output.local.staging", "LocalStaging.write"),
    ("write", "output.local.staging", "LocalStaging._write_file"),
    ("commit", "batch.commit", "Committer._register"),
    ("commit", "batch.commit", "Committer._stage_and_commit"),
    ("commit", "batch.commit", "Committer.finish"),
    ("commit", "upkeep.opened_output", "open_ledger"),
    ("commit", "upkeep.opened_output", "recover"),
    ("publish", "output.local.staging", "LocalStaging.publish"),
    ("publish", "output.local.staging", "LocalStaging.remove"),
    ("fsync", "output.local.staging", "os.fsync"),
    ("bookkeeping", "batch.fetch_task", "FetchTask.run"),
    ("bookkeeping", "batch.feed", "Feed._start_tasks"),
    ("bookkeeping", "batch.feed", "Feed._take_listed"),
    ("bookkeeping", "batch.content", "BatchContent.add"),
    ("bookkeeping", "batch.stage", "outcomes_of"),
    ("bookkeeping", "run.sync", "_Run._commit"),
)
_GENERATORS: Final = (("list", "run.sync", "_Run._listed"),)


class Profile:
    """A profile. It wraps the functions when it is made. Ask for `result` after the work."""

    def __init__(self) -> None:
        self._threads: list[dict[str, float]] = []
        self._local = threading.local()
        self.missing: list[str] = []
        for stage, module, name in _FUNCTIONS:
            self._wrap(stage, module, name, self._timed)
        for stage, module, name in _GENERATORS:
            self._wrap(stage, module, name, self._timed_steps)
        self._began = time.process_time()

    def result(self) -> dict[str, Any]:
        """CPU seconds of each stage since the wrapping, and of the whole process."""
        total = time.process_time() - self._began
        seconds: dict[str, float] = defaultdict(float)
        for counter in self._threads:
            for stage, spent in counter.items():
                seconds[stage] += spent
        seconds["other"] = total - sum(seconds.values())
        return {
            "seconds": {stage: seconds[stage] for stage in STAGES},
            "total": total,
            "missing": self.missing,
        }

    def _wrap(self, stage: str, module: str, name: str, wrapper: Callable[..., Any]) -> None:
        try:
            owner: Any = importlib.import_module(f"{_CORE}.{module}")
        except ModuleNotFoundError:
            owner = None
        *parents, last = name.split(".")
        for parent in parents:
            owner = getattr(owner, parent, None)
        function = getattr(owner, last, None)
        if function is None:
            self.missing.append(f"{module}.{name}")
        else:
            setattr(owner, last, wrapper(stage, function))

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        now = time.thread_time
        local = self._local

        @wraps(function)
        def timed(*values: Any, **named: Any) -> Any:
            try:
                counter = local.counter
            except AttributeError:
                counter = self._new_thread()
            outer, local.inside = local.inside, 0.0
            began = now()
            try:
                return function(*values, **named)
            finally:
                took = now() - began
                counter[stage] += took - local.inside
                local.inside = outer + took

        return timed

    def _timed_steps(self, stage: str, generator: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(generator)
        def timed(*values: Any, **named: Any) -> Iterator[Any]:
            steps = iter(generator(*values, **named))
            step = self._timed(stage, lambda: next(steps, self))
            while (item := step()) is not self:
                yield item

        return timed

    def _new_thread(self) -> dict[str, float]:
        counter: dict[str, float] = defaultdict(float)
        self._local.counter = counter
        self._local.inside = 0.0
        self._threads.append(counter)
        return counter
