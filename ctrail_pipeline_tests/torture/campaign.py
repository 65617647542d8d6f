"""The steps of a campaign, drawn from a seed, and the check of the output when all is quiet.

A draw depends on (seed, world, step) alone, never on earlier results. So the same seed gives the
same steps with the same arguments, whatever the timing. Timing still decides at which instruction a
kill lands and which of two runs is first, so these may differ each time.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from operator import itemgetter
from pathlib import Path
from random import Random

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.sample.bucket import LAST_DAY
from ctrail_pipeline_tests.support.fault_server import Faults
from ctrail_pipeline_tests.support.oracle import Expectation
from ctrail_pipeline_tests.support.parquet_rows import unlike_lines
from ctrail_pipeline_tests.support.postgres_server import PostgresServer
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.s3_server import ACCESS_KEY, REGION, SECRET_KEY
from ctrail_pipeline_tests.support.sync_process import let_a_minute_pass, plain_of

from .actors import Actor, Nursery
from .bucket_steps import BucketSteps
from .observer import ObserverProcess
from .output_server import BUCKET, OutputFaults, OutputServer
from .postgres_steps import PostgresSteps
from .small_pieces import SmallPieces
from .tally import Tally
from .verdicts import Programs, left_aside, note_accepted, open_log_files, wrong_verdicts
from .world import DAYS, Violation, World, new_world, wrong_on_disk

STEPS_PER_WORLD = 40
SECONDS_TO_END = 150.0
SMALL_PIECES_RATE = 0.5
"""Share of the syncs that stream log files of usual size."""
SMALL_PIECES_RATE_IN_WORKERS = 0.8
"""Share of the syncs with worker processes, which are few, that stream log files of usual size."""
ENOUGH_SYNCS = 30
"""After this many syncs that stream, at least one must have met a log file to stream."""
VERDICTS_RATE = 0.5
"""Share of the checks after which programs are asked, too. Each program takes about a second."""
ACCEPTANCE_RATE = 0.4
"""Share of the verdicts with open log files after which a person accepts these log files."""
DAGSTER_VERDICT_RATE = 0.2
"""Share of the verdicts for which a Dagster run is started, which takes several seconds."""
PATIENCE_SECONDS = 10.0
"""Seconds for which a program with its own interpreter meets faults."""
HARMS_LEDGER = {"harmed ledger", "empty ledger", "older ledger", "lost ledger"}
"""Steps in which the observer must not ask the ledger."""
OBSERVED = ("rounds", "read", "missed", "unjudged")
_MIDNIGHT = datetime.combine(LAST_DAY, time_of_day(), UTC)
_PROTOCOL = {
    "sync": ["registered", "staged", "committed", "marked", "linked", "published", "recovered"],
    "compact": ["registered", "staged", "committed", "marked", "linked", "published", "removed"],
    "rebuild": ["adopted", "repaired", "built", "moved", "marked", "renamed"],
    "prune": ["decided", "marked", "removed", "recovered"],
}
_ANY_ENDING = {0, 1, -signal.SIGKILL}


def random_faults(rng: Random) -> Faults:
    """Draw the faults of a step."""
    if rng.random() < 0.04:
        return Faults()
    names = (
        *("slow_down_rate", "internal_error_rate", "too_many_requests_rate", "reset_rate"),
        *("list_fail_rate", "list_cut_rate", "get_fail_rate", "cut_rate", "wrong_length_rate"),
    )
    share = rng.uniform(0.3, 0.85) / 6  # about six kinds of fault apply to each request
    faults = Faults(
        seed=rng.randrange(1 << 30),
        slow_rate=rng.uniform(0, 0.04),
        slow_seconds=rng.uniform(0.01, 0.05),
        flip_rate=rng.uniform(0, 0.05),
    )
    for name in names:
        setattr(faults, name, share * rng.uniform(0.3, 1.5))
    return faults


def observer_of(world: World) -> ObserverProcess:
    """Return an observer of a world's events, which asks the server itself."""
    assert world.outputs is not None
    assert world.settings.output is not None
    postgres = world.settings.postgres
    job = {
        "seed": 1,
        "bucket": BUCKET,
        "prefix": world.settings.output.events.prefix,
        "endpoint_url": world.outputs.seaweedfs.endpoint_url,
        "region": REGION,
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "ledger": str(world.settings.state_db),
        "postgres": postgres and postgres.url,
    }
    return ObserverProcess(job, world.folder / "observer.err")


class Campaign:
    """Runs worlds one after the other until the time is up or a promise is broken."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        say: Callable[[str], None],
        postgres: PostgresServer | None = None,
        outputs: OutputServer | None = None,
    ) -> None:
        """Prepare a campaign; its ledgers are in `postgres`, or SQLite files.

        Its outputs lie in `outputs`, where an observer watches them, or in folders.
        """
        self._outputs = outputs
        self.tally = Tally(seed)
        self._postgres = postgres
        self._folder = folder
        self._seed = seed
        self._say = say

    def run(self, seconds: float, *, first_world: int = 0, fewest_steps: int = 0) -> Tally:
        """Run worlds and return the report. If it has a violation, the world's folder is kept.

        The campaign ends after so many seconds, but not before so many steps.
        """
        self._deadline = time.monotonic() + seconds
        self._fewest_steps = fewest_steps
        number = first_world
        while not self._is_over and not self.tally.violations:
            self._run_world(number)
            number += 1
        if self.tally.in_small_pieces >= ENOUGH_SYNCS and not (
            self.tally.parts and self.tally.unpacked
        ):
            self.tally.violations.append(
                "no log file was streamed in parts, or none was mapped: the campaign is wrong"
            )
        return self.tally

    @property
    def _is_over(self) -> bool:
        return time.monotonic() > self._deadline and self.tally.steps.total() >= self._fewest_steps

    def _run_world(self, number: int) -> None:
        folder = self._folder / f"world-{number}"
        postgres = self._postgres
        address = postgres.empty_database() if postgres else None
        rng = Random(f"{self._seed}/{number}")
        with new_world(folder, rng, address, self._outputs) as world, ExitStack() as stack:
            self.tally.worlds += 1
            if world.disk.why_not:
                for kind in ("full disk", "read-only folder"):
                    self.tally.skipped[kind] = world.disk.why_not
            environment = world.environment | {"CTRAIL_CONFIG": str(folder / "config.json")}
            observer = stack.enter_context(observer_of(world)) if self._outputs else None
            modules = ["postgres"] if postgres else []
            with Nursery(folder / "actors", environment, *modules) as nursery:
                steps = Steps(world, nursery, self.tally, environment, postgres, observer)
                try:
                    self._run_steps(steps, number)
                except Violation as violation:
                    self._keep(world, f"world {number}, {violation}")
                self.tally.faults += world.server.counts.faults
                if self._outputs is not None:
                    self.tally.faults += self._outputs.proxy.counts
                    self._outputs.proxy.counts.clear()
                if observer is not None:
                    self.tally.observed += Counter(
                        {name: observer.seen.get(name, 0) for name in OBSERVED}
                    )
                self.tally.log_files += world.log_files
                self.tally.events += steps.events
        if not self.tally.violations:
            shutil.rmtree(folder)

    def _run_steps(self, steps: "Steps", number: int) -> None:
        for step in range(STEPS_PER_WORLD):
            if self._is_over:
                break
            rng = Random(f"{self._seed}/{number}/{step}")
            name = steps.draw(rng)
            began, faults = time.monotonic(), steps.faults
            try:
                steps.perform(name, rng)
                took = f"{time.monotonic() - began:.1f} s, {steps.faults - faults} faults"
                self._say(f"world {number} step {step:2}: {name}: {took}")
            except Violation as violation:
                text = f"step {step} ({name}), seed {self._seed}: {violation}"
                raise Violation(text) from violation
        steps.perform("check", Random(f"{self._seed}/{number}/last"))

    def _keep(self, world: World, text: str) -> None:
        self.tally.violations.append(text)
        kept = world.folder / "kept"
        shutil.copytree(world.disk.folder, kept, symlinks=True, ignore_dangling_symlinks=True)
        self.tally.kept = str(world.folder)
        self._say(f"VIOLATION {text}\nbuckets, output and ledger are in {world.folder}")


class Steps:
    """The steps that a campaign may take in a world."""

    def __init__(
        self,
        world: World,
        nursery: Nursery,
        tally: Tally,
        environment: dict[str, str],
        postgres: PostgresServer | None = None,
        observer: ObserverProcess | None = None,
    ) -> None:
        self.world = world
        self._observer = observer
        self._postgres = postgres
        self.events = 0
        self._nursery = nursery
        self._tally = tally
        self._environment = environment
        self._programs = Programs(world, environment)
        self._weights: dict[str, tuple[float, Callable[[Random], None]]] = {
            "storm": (30, self._storm),
            "workers": (4, self._workers),
            "sync": (12, self._sync),
            "windows": (6, self._windows),
            "compact": (8, self._compact),
            "prune": (5, self._prune),
            "rewrite": (5, self._rewrite),
            "command": (2, self._command),
            "dagster": (1.5, self._dagster),
            "full disk": (4, self._full_disk),
            "read-only folder": (2, self._read_only),
            "locked ledger": (2, self._locked_ledger),
            "clock set back": (3, self._clock),
            "harmed ledger": (4, self._harmed_ledger),
            "check": (9, self._check),
        }
        if postgres is not None:
            del self._weights["harmed ledger"]  # there is no file to harm
            self._weights |= PostgresSteps(self, postgres).weights
        if world.outputs is not None:
            for name in ("full disk", "read-only folder"):
                del self._weights[name]  # no disk is written to but the ledger's
            self._weights |= BucketSteps(self, world.outputs).weights

    @property
    def faults(self) -> int:
        """The number of faults that the server has injected so far."""
        return self.world.server.counts.faults.total()

    def draw(self, rng: Random) -> str:
        """Draw the name of the next step."""
        weights = [weight for weight, _ in self._weights.values()]
        return rng.choices(list(self._weights), weights)[0]

    def perform(self, name: str, rng: Random) -> None:
        """Do a step. Raises Violation if a promise is broken."""
        self._tally.steps[name] += 1
        self.world.server.faults = self._faults(rng)
        self.world.deliver(rng, rng.randrange(2, 12))
        if self.world.outputs is not None:
            self.world.outputs.proxy.faults = OutputFaults.drawn(rng)
        if name in HARMS_LEDGER:
            self.tell_observer("ledger goes")
        try:
            self._weights[name][1](rng)
        finally:
            if name in HARMS_LEDGER:
                self.tell_observer("ledger is back")
        self.tell_observer("look")
        if self.world.server.errors:
            raise self.world.server.errors[0]

    def tell_observer(self, command: str) -> None:
        """Have the observer look once more. Raises Violation if it has ever seen one."""
        if self._observer is not None and (wrong := self._observer.tell(command)):
            raise Violation("; ".join(wrong[:5]))

    def _let_hours_pass(self) -> None:
        """Have all that is published be old enough to go, once the observer has seen it."""
        self.tell_observer("look")
        self.world.let_hours_pass()

    def _heal(self) -> None:
        """End the faults of all servers."""
        self.world.server.faults = Faults()
        if self.world.outputs is not None:
            self.world.outputs.proxy.faults = OutputFaults()

    # -- faults ----------------------------------------------------------------------------------

    def _faults(self, rng: Random) -> Faults:
        faults = random_faults(rng)
        delivered = [log_file.key for log_file in self.world.delivered]
        for kind in ("denied", "kms_denied", "archived", "gone", "not_s3", "hidden"):
            if rng.random() < 0.15:
                afflicted = rng.sample(delivered, min(len(delivered), rng.randrange(1, 6)))
                getattr(faults, kind).update(afflicted)
        self._tally.hidden += len(faults.hidden)
        if rng.random() < 0.15:
            faults.damaged.update({key: rng.randrange(1, 4) for key in delivered[-5:]})
        return faults

    # -- processes -------------------------------------------------------------------------------

    def _start(
        self,
        kind: str,
        rng: Random,
        settings: Settings | None = None,
        selection: Selection | None = None,
        *,
        clock_back: float = 0,
        may_die: bool = True,
        in_workers: bool = False,
        before: datetime | None = None,
        kill_at: tuple[str, int] | None = None,
    ) -> Actor:
        """Start a process. If it may die, it sometimes dies at a step of the commit protocol."""
        if kill_at is None and may_die and kind in _PROTOCOL and rng.random() < 0.35:
            many = rng.choice([1, 1, 2, 3, 8]) if kind != "rebuild" else 1
            kill_at = (rng.choice(_PROTOCOL[kind]), many)
        pieces, kill_at_part = None, 0
        rate = SMALL_PIECES_RATE_IN_WORKERS if in_workers else SMALL_PIECES_RATE
        if kind == "sync" and rng.random() < rate:
            pieces = asdict(SmallPieces.drawn(rng))
            if may_die and rng.random() < 0.5:
                kill_at_part = rng.choice([1, 1, 2, 3, 8, 30])
        job = {
            "kind": kind,
            "settings": plain_of(settings or self.world.settings),
            "selection": plain_of(selection or Selection()),
            "kill_at": kill_at,
            "step_seconds": rng.choice([0, 0, 0.001, 0.005]) if may_die else 0,
            "in_workers": in_workers,
            "clock_back": clock_back,
            "before": before and before.isoformat(),
            "small_pieces": pieces,
            "kill_at_part": kill_at_part,
        }
        self._tally.runs[kind] += 1
        return self._nursery.start(job)

    def _wait(self, actors: Sequence[Actor]) -> None:
        """Wait until all have ended. Raises Violation unless each ended in an allowed way."""
        for actor in actors:
            if not actor.wait(SECONDS_TO_END):
                actor.kill()
                actor.wait(10)
                raise Violation(f"{actor.kind} still ran after {SECONDS_TO_END:.0f} s")
            self._judge(actor)

    def _judge(self, actor: Actor) -> None:
        streamed = actor.streamed
        self._tally.in_small_pieces += actor.has_small_pieces
        self._tally.streamed += streamed.log_files
        self._tally.streamed_in_workers += streamed.in_workers
        self._tally.parts += streamed.parts
        self._tally.unpacked += streamed.unpacked
        self._tally.kills_at_part += streamed.died_at_a_part
        if actor.returncode == -signal.SIGKILL:
            self._tally.kills[actor.kind] += 1
            self._tally.kills_at_work += actor.was_ready
            at_part = streamed.died_at_a_part and not streamed.in_workers
            self._tally.kills_in_protocol += not actor.was_killed and not at_part
        elif actor.returncode not in _ANY_ENDING or not actor.result:
            raise Violation(f"{actor.kind} ended with {actor.returncode}: {actor.errors}")
        elif "error" in actor.result:
            self._tally.refusals[actor.result["error"]] += 1

    def _kill_at_random(self, actors: Sequence[Actor], rng: Random, longest: float) -> None:
        """Kill most of the actors, each at a random instant of its own."""
        began = time.monotonic()
        instants = []
        for actor in actors:
            if rng.random() < 0.85:
                early = rng.random() < 0.05
                instants.append((0.0 if early else rng.uniform(0.01, longest), actor, early))
        for instant, actor, early in sorted(instants, key=itemgetter(0)):
            if not early:
                actor.wait_until_ready()
            time.sleep(max(0.0, began + instant - time.monotonic()))
            actor.kill()

    def _try_again(self, kind: str, rng: Random, times: int) -> None:
        """Start a process several times, and kill it sometimes."""
        for _ in range(times):
            actor = self._start(kind, rng)
            if rng.random() < 0.6:
                self._kill_at_random([actor], rng, 0.15)
            self._wait([actor])

    # -- steps -----------------------------------------------------------------------------------

    def _storm(self, rng: Random) -> None:
        """Run several syncs, sometimes a compaction or a verify. Most die. The bucket grows."""
        for _ in range(rng.randrange(3, 7)):
            self.world.deliver(rng, rng.randrange(0, 6))
            kinds = ["sync"] * rng.choice([2, 3, 3, 4])
            kinds += ["compact"] * (rng.random() < 0.25) + ["verify"] * (rng.random() < 0.3)
            actors = [self._start(kind, rng) for kind in kinds]
            self._kill_at_random(actors, rng, rng.choice([0.1, 0.2, 0.4]))
            self._wait(actors)

    def _sync(self, rng: Random) -> None:
        """Run syncs to their ends under faults. One lists everything again, in small pages."""
        self.world.server.page_keys = rng.choice([1, 2, 4])
        settings = self.world.settings
        chosen = [settings, replace(settings, lookback_hours=0), self.world.looking_back()]
        runs = [
            self._start("sync", rng, chosen_settings, may_die=False) for chosen_settings in chosen
        ]
        self._wait([*runs, self._start("verify", rng, may_die=False)])

    def _workers(self, rng: Random) -> None:
        """Run a sync with worker processes, which outlive it for a moment if it is killed."""
        settings = replace(self.world.settings, process_workers=2)
        self.world.deliver(rng, 20)
        actors = [self._start("sync", rng, settings, in_workers=True), self._start("sync", rng)]
        if rng.random() < 0.6:
            self._kill_at_random(actors, rng, 2.0)
        self._wait(actors)

    def _windows(self, rng: Random) -> None:
        """Sync a part of the time or of the accounts, beside a sync of everything."""
        for _ in range(rng.randrange(1, 4)):
            start = _MIDNIGHT - timedelta(hours=rng.randrange(-12, 60))
            selection = rng.choice(
                [
                    Selection(start=start),
                    Selection(end=start),
                    Selection(start=start, end=start + timedelta(hours=rng.randrange(1, 30))),
                    Selection(partitions=[rng.choice(["2*/*", "*/us-east-1", "444455556666/*"])]),
                    Selection(accounts=["3*"], start=start),
                    Selection(trails=[rng.choice(self.world.settings.trails).name]),
                ]
            )
            actors = [self._start("sync", rng, selection=selection), self._start("sync", rng)]
            if rng.random() < 0.5:
                self._kill_at_random(actors, rng, 0.3)
            self._wait(actors)

    def _compact(self, rng: Random) -> None:
        """Compact, often beside syncs or another compaction, and kill most of them."""
        self._let_hours_pass()
        for _ in range(rng.randrange(1, 4)):
            kinds = ["compact", *rng.choice([[], ["sync"], ["compact"], ["sync", "sync"]])]
            actors = [self._start(kind, rng) for kind in kinds]
            if rng.random() < 0.7:
                self._kill_at_random(actors, rng, 0.25)
            self._wait(actors)

    def _prune(self, rng: Random) -> None:
        """Prune beside syncs and compactions, with kills, or prune alone and check the result."""
        before = _MIDNIGHT + timedelta(
            hours=rng.randrange(-24 * (DAYS - 1), 24), minutes=rng.randrange(60)
        )
        hour = f"{before:%Y/%m/%d/%H}"
        self._let_hours_pass()
        if rng.random() < 0.4:
            self._prune_alone(before, hour, rng)
            return
        self.world.prune_somehow(hour)
        for _ in range(rng.randrange(1, 4)):
            kinds = ["prune", *rng.choice([[], ["sync"], ["prune"], ["sync", "compact"]])]
            actors = [self._start(kind, rng, before=before) for kind in kinds]
            if rng.random() < 0.7:
                self._kill_at_random(actors, rng, 0.25)
            self._wait(actors)

    def _prune_alone(self, before: datetime, hour: str, rng: Random) -> None:
        self._check(rng)
        self._let_hours_pass()
        lines = self.world.lines_before(hour)
        alone = self._start("prune", rng, before=before, may_die=False)
        self._wait([alone])
        if alone.result.get("lines") != len(lines):
            raise Violation(f"{len(lines)} lines before {hour}, and prune says {alone.result}")
        if wrong := self.world.note_pruned(hour, lines):
            raise Violation("; ".join(wrong[:5]))
        self._tally.pruned += len(lines)
        self._check(rng)

    def _rewrite(self, rng: Random) -> None:
        """Deliver log files again while syncs read."""
        actors = [self._start("sync", rng), self._start("sync", rng)]
        self.world.rewrite(rng)
        self._wait(actors)

    def _command(self, rng: Random) -> None:
        """Run `ctrail` as people type it, at once with syncs."""
        date = f"{_MIDNIGHT - timedelta(days=rng.randrange(-1, DAYS)):%Y-%m-%d}"
        command = rng.choice(
            [
                *(["sync"], ["sync"], ["compact"], ["status"], ["verify", "--deep"]),
                ["prune", "--before", date],
            ]
        )
        if command[0] in {"compact", "prune"}:
            self._let_hours_pass()
        if command[0] == "prune":
            self.world.prune_somehow(f"{date.replace('-', '/')}/00")
        arguments = ["-m", "ctrail_pipeline.cli", *command]
        self._run_program(f"ctrail {command[0]}", arguments, rng, 2.0)

    def _dagster(self, rng: Random) -> None:
        """Run Dagster's job over all trails, or a partition of an asset, at once with syncs."""
        chosen = rng.choice(
            [
                ["-j", "sync"],
                ["-j", "sync"],
                [
                    *("-j", f"trail_{self.world.settings.trails[0].name.replace('-', '_')}"),
                    *("--tags", '{"dagster/partition": "222233334444/us-east-1"}'),
                ],
            ]
        )
        home = self.world.folder / "home"
        home.mkdir(exist_ok=True)
        shutil.copy(PROJECT / "dagster.yaml", home)
        arguments = [
            *("-m", "dagster", "job", "execute", "-m", "ctrail_pipeline.definitions"),
            *chosen,
        ]
        name = "dagster job" if chosen[1] == "sync" else "dagster asset"
        self._run_program(name, arguments, rng, 8.0)

    def _run_program(
        self, name: str, arguments: Sequence[str], rng: Random, longest: float
    ) -> None:
        """Run a program with its own interpreter, and kill it half of the times.

        The program waits before retries as long as users' programs do, so it gets fewer pages to
        list.
        """
        self.world.server.page_keys = 1_000
        self._tally.runs[name] += 1
        environment = {
            **os.environ,
            **self._environment,
            "DAGSTER_HOME": str(self.world.folder / "home"),
            "PYTHONPATH": str(PROJECT),
            "PYTHONWARNINGS": "ignore",
        }
        kills, instant = rng.random() < 0.5, rng.uniform(longest / 10, longest)
        output = self.world.folder / "program.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.world.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        actors = [self._start("sync", rng) for _ in range(2)]
        if not self._ends(process, instant if kills else PATIENCE_SECONDS) and not kills:
            # Dagster retries a failed run after half a minute or more.
            self._heal()
            if not self._ends(process, SECONDS_TO_END):
                process.kill()
                raise Violation(f"{name} still ran after {SECONDS_TO_END:.0f} s without faults")
        if process.poll() is None:
            process.kill()
            process.wait()
            self._tally.kills[name] += 1
        self._wait(actors)
        if process.returncode not in {*_ANY_ENDING, 2}:
            raise Violation(f"{name}: {process.returncode}: {output.read_text()[-3000:]}")
        if name.startswith("ctrail") and "Traceback" in output.read_text(errors="replace"):
            raise Violation(f"{name}: {output.read_text(errors='replace')[-3000:]}")

    @staticmethod
    def _ends(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _full_disk(self, rng: Random) -> None:
        """Sync while almost nothing is free on the disk, then make room again."""
        disk = self.world.disk
        if not disk.mounted or not disk.leave_free(rng.choice([0, 4, 16, 40, 80, 150]) * 1024):
            return
        self._tally.trouble["full disk"] += 1
        try:
            for _ in range(2):
                kinds = ["sync", *rng.choice([[], ["sync"], ["compact"]])]
                self._wait([self._start(kind, rng) for kind in kinds])
        finally:
            disk.restore()

    def _read_only(self, rng: Random) -> None:
        """Sync and compact while output folder and ledger are read-only. Both must fail."""
        disk = self.world.disk
        if not disk.mounted or not disk.remount("ro"):
            return
        self._tally.trouble["read-only folder"] += 1
        try:
            actors = [self._start(kind, rng, may_die=False) for kind in ("sync", "compact")]
            self._wait(actors)
            for actor in actors:
                # A compaction that merges nothing need write nothing.
                if actor.returncode != 1 and actor.result.get("new_files") != 0:
                    raise Violation(f"{actor.kind} wrote nothing and was content: {actor.result}")
        finally:
            disk.restore()

    def _locked_ledger(self, rng: Random) -> None:
        """Sync while another program holds the ledger for a while."""
        if not ledger_exists(self.world.settings.ledger):
            return
        self._tally.trouble["locked ledger"] += 1
        actors = [self._start("sync", rng) for _ in range(2)]
        if self._postgres is not None:
            with closing(Ledger(self.world.settings.ledger)) as held, held.transaction():
                self._kill_at_random(actors[:1], rng, 0.5)
                time.sleep(rng.uniform(0.1, 1.5))
            self._wait(actors)
            return
        with closing(sqlite3.connect(self.world.settings.state_db, timeout=10)) as ledger:
            try:
                ledger.execute(rng.choice(["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"]))
            except sqlite3.Error:  # the ledger is being made
                self._wait(actors)
                return
            self._kill_at_random(actors[:1], rng, 0.5)
            time.sleep(rng.uniform(0.1, 1.5))
            ledger.rollback()
        self._wait(actors)

    def _clock(self, rng: Random) -> None:
        """Run syncs and a compaction whose clock is behind, beside a sync whose clock is right."""
        self._tally.trouble["clock set back"] += 1
        back = rng.choice([60, 3_600, 86_400, 40 * 86_400, 400 * 86_400])
        actors = [self._start(kind, rng, clock_back=back) for kind in ("sync", "sync", "compact")]
        actors.append(self._start("sync", rng))
        if rng.random() < 0.5:
            self._kill_at_random(actors, rng, 0.4)
        self._wait(actors)

    def _harmed_ledger(self, rng: Random) -> None:
        """Delete or damage the ledger. A sync must refuse it, and `rebuild` must make a new one."""
        settings = self.world.settings
        if rng.random() < 0.7:  # killed processes leave their traces
            rng.choice([self._storm, self._compact])(rng)
        harm = rng.choice([delete_all, delete_file, cut_in_half, cut_to_nothing, write_text])
        if not settings.state_db.exists() or self.world.marker() is None:
            return
        self._tally.trouble[f"ledger: {harm.__name__.replace('_', ' ')}"] += 1
        harm(settings.state_db)
        self._must_refuse(rng, f"after {harm.__name__}")
        self._rebuild(rng)

    def _must_refuse(self, rng: Random, why: str) -> None:
        if self.world.outputs is not None:  # whose faults may hide why a sync refuses
            self.world.outputs.proxy.faults = OutputFaults()
        refused = self._start("sync", rng, may_die=False)
        self._wait([refused])
        if refused.result.get("error") != "LedgerError":
            raise Violation(f"{why}, and a sync was content: {refused.result}")

    def _rebuild(self, rng: Random) -> None:
        """Rebuild a ledger that was lost, after some tries that are killed; compare everything."""
        self._try_again("rebuild", rng, rng.randrange(0, 4))
        if self.world.outputs is not None:
            self.world.outputs.proxy.faults = OutputFaults()
            let_a_minute_pass(self.world.settings)
        last = self._start("rebuild", rng, may_die=False)
        self._wait([last])
        if last.returncode and "nothing to rebuild" not in last.result["message"]:
            raise Violation(f"rebuild: {last.result}")
        if last.result.get("doubled"):
            raise Violation(f"rebuild found lines doubled: {last.result}")
        self.world.forget_pruned()
        self.tell_observer("ledger was lost")
        self._check(rng)

    def _check(self, rng: Random) -> None:
        """Let all become quiet, bring in everything, and compare the output with the buckets."""
        world = self.world
        self._heal()
        let_a_minute_pass(world.settings)
        settings = world.looking_back()
        first = self._start("sync", rng, settings, may_die=False)
        self._wait([first])
        if "error" in first.result:
            raise Violation(f"all is quiet, and a sync refuses: {first.result}")
        world.make_all_visits_due()
        ended = self._start("sync", rng, settings, may_die=False)
        self._wait([ended])
        expectation = world.expectation()
        self._tally.checks += 1
        self.events = len(expectation.lines)
        wrong = wrong_on_disk(world.output_in_folders, expectation)
        staged = world.mirror.staged() if world.mirror is not None else []
        # What a run has left of a probe goes after ten minutes.
        if staged := [key for key in staged if "/.probes/" not in key]:
            wrong.append(f"left over in staging: {staged[:3]}")
        if "parquet" in world.settings.output_formats:
            self._tally.checks_of_parquet += 1
            wrong += unlike_lines(world.output_in_folders, world.gone | world.perhaps_gone)
        open_states = Counter(problem["state"] for problem in ended.result.get("problems", ()))
        if open_states.keys() - {"damaged"}:
            wrong.append(f"left undone: {ended.result['problems'][:3]}")
        wrong += self._wrong_verdicts(rng, settings, ended, expectation)
        self.tell_observer("look")
        if wrong:
            raise Violation("\n".join(wrong[:12]))

    def _wrong_verdicts(
        self, rng: Random, settings: Settings, ended: Actor, expectation: Expectation
    ) -> list[str]:
        """What a sync that has ended, `verify` and now and then programs say wrongly of success."""
        world = self.world
        open_now = open_log_files(world, expectation)
        wrong = []
        if ended.result["ok"] == bool(open_now) or ended.returncode != bool(open_now):
            wrong.append(f"{len(open_now)} log files stand open: {open_now[:3]}, {ended.result}")
        wrong += self._wrong_findings(rng, settings, expectation, open_now)
        if wrong or rng.random() > VERDICTS_RATE:
            return wrong
        self._tally.verdicts["open" if open_now else "success"] += 1
        wrong += wrong_verdicts(self._programs, open_now, left_aside(world))
        if open_now and not wrong and rng.random() < ACCEPTANCE_RATE:
            said = self._programs.ctrail("accept", *open_now, "--reason", "the campaign")
            if said.code:
                return [f"accept: {said}"]
            note_accepted(world, open_now)
            open_now = []
            self._tally.verdicts["success once accepted"] += 1
            wrong += wrong_verdicts(self._programs, open_now, left_aside(world))
            wrong += self._wrong_findings(rng, settings, expectation, open_now)
        if rng.random() < DAGSTER_VERDICT_RATE:
            home = world.folder / "home"
            home.mkdir(exist_ok=True)
            shutil.copy(PROJECT / "dagster.yaml", home)
            said = self._programs.dagster_sync()
            if bool(said.code) != bool(open_now):
                wrong.append(f"{len(open_now)} log files stand open: {open_now[:3]}, job: {said}")
        return wrong

    def _wrong_findings(
        self,
        rng: Random,
        settings: Settings,
        expectation: Expectation,
        open_now: Sequence[str],
    ) -> list[str]:
        verify = self._start("verify", rng, settings, may_die=False)
        self._wait([verify])
        if "error" in verify.result:
            return [f"verify: {verify.result}"]
        wrong = self.world.unexpected_findings(verify.result, expectation)
        if verify.result["is_complete"] == bool(open_now):
            wrong.append(f"{len(open_now)} log files stand open {open_now[:3]}: {verify.result}")
        return wrong


# --- harm -----------------------------------------------------------------------------------------


def delete_all(ledger: Path) -> None:
    """Delete the ledger and the files that SQLite keeps beside it."""
    for path in ledger.parent.glob(f"{ledger.name}*"):
        if path.is_file() and "before-rebuild" not in path.name:
            path.unlink()


def delete_file(ledger: Path) -> None:
    """Delete the ledger's file only."""
    ledger.unlink()


def cut_in_half(ledger: Path) -> None:
    """Cut the ledger in half, as a copy that was broken off. Its write-ahead log is empty."""
    _fold_in(ledger)
    os.truncate(ledger, ledger.stat().st_size // 2 // 4096 * 4096)


def cut_to_nothing(ledger: Path) -> None:
    """Make the ledger an empty file."""
    _fold_in(ledger)
    os.truncate(ledger, 0)


def write_text(ledger: Path) -> None:
    """Write a text file under the ledger's name."""
    _fold_in(ledger)
    ledger.write_text("no database at all\n" * 500)


def _fold_in(ledger: Path) -> None:
    with closing(sqlite3.connect(ledger)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
