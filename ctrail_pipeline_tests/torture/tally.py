"""The counts of what a campaign did, and the violations that it found."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Everything that the report of a campaign says."""

    seed: int
    started: float = field(default_factory=time.monotonic)
    steps: Counter[str] = field(default_factory=Counter)
    """Steps by kind."""
    runs: Counter[str] = field(default_factory=Counter)
    """Processes that were started, by what they did."""
    kills: Counter[str] = field(default_factory=Counter)
    """Processes that a SIGKILL ended, by what they did."""
    kills_at_work: int = 0
    """Killed processes that had begun their work and not ended it."""
    kills_in_protocol: int = 0
    """Processes that died at work at a step of the commit protocol, not at a random instant."""
    kills_at_part: int = 0
    """Sync and worker processes that died after they had read a part of a streamed log file."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Runs that gave up with a sentence, by kind of error. Under such faults they may."""
    faults: Counter[str] = field(default_factory=Counter)
    """Faults that the server injected, by kind."""
    hidden: int = 0
    """Keys that LIST did not show for a while, and that came late."""
    trouble: Counter[str] = field(default_factory=Counter)
    """Other trouble that the campaign made, by kind."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Kinds of trouble that this machine does not allow, with the reason."""
    worlds: int = 0
    """Buckets and outputs that were begun anew."""
    log_files: int = 0
    events: int = 0
    pruned: int = 0
    """Lines that were pruned while no other process worked, so that the campaign knows them."""
    in_small_pieces: int = 0
    """Syncs that were to stream log files of usual size."""
    streamed: int = 0
    """Log files that were streamed, counted at each fetch."""
    streamed_in_workers: int = 0
    """Log files that worker processes streamed."""
    unpacked: int = 0
    """Log files that could not be streamed and were mapped, counted at each fetch."""
    parts: int = 0
    """Parts behind the first part of a log file, counted at each reading."""
    checks: int = 0
    """Checks: all was quiet and brought in, and the output was compared."""
    checks_of_parquet: int = 0
    """Checks that compared the Parquet rows with the lines."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """Checks that also compared what programs say of success with the oracle, by what was right."""
    observed: Counter[str] = field(default_factory=Counter)
    """What observers of buckets did: rounds, objects read, rounds without an answer, and objects
    that went before the ledger could be asked about them."""
    violations: list[str] = field(default_factory=list)
    kept: str = ""
    """The folder that was kept for a look if there was a violation."""

    def as_json(self) -> str:
        """The report as one JSON object."""
        values = dict(vars(self))
        values["minutes"] = round((time.monotonic() - values.pop("started")) / 60, 2)
        return json.dumps(values)

    def as_table(self) -> str:
        """The report for people."""
        minutes = (time.monotonic() - self.started) / 60
        rows = [
            ("seed", str(self.seed)),
            ("minutes", f"{minutes:.1f}"),
            ("steps", _counted(self.steps)),
            ("processes", _counted(self.runs)),
            ("kills", _counted(self.kills)),
            (
                "… at work",
                f"{self.kills_at_work:,}, {self.kills_in_protocol:,} of them at a step of the"
                " commit protocol",
            ),
            ("… at a part", f"{self.kills_at_part:,}, of a streamed log file"),
            ("faults injected", _counted(self.faults)),
            ("keys shown late", f"{self.hidden:,}"),
            ("other trouble", _counted(self.trouble)),
            ("runs that refused", _counted(self.refusals)),
            *(("SKIPPED", f"{kind}: {reason}") for kind, reason in self.skipped.items()),
            ("worlds", f"{self.worlds:,}"),
            ("log files", f"{self.log_files:,}"),
            ("events", f"{self.events:,}"),
            (
                "streamed",
                f"{self.streamed:,} log files ({self.streamed_in_workers:,} in worker processes)"
                f" in {self.in_small_pieces:,} syncs, {self.parts:,} parts behind the first ones;"
                f" {self.unpacked:,} mapped",
            ),
            ("pruned alone", f"{self.pruned:,} events"),
            ("quiescent checks", f"{self.checks:,}, {self.checks_of_parquet:,} of Parquet too"),
            ("verdicts of programs", _counted(self.verdicts)),
            *([("observer", _counted(self.observed))] if self.observed else []),
            ("violations", f"{len(self.violations):,}"),
            *(("VIOLATION", text) for text in self.violations),
        ]
        return "\n".join(f"{name:<18} {text}" for name, text in rows)


def _counted(counter: Counter[str]) -> str:
    parts = ", ".join(f"{name} {count:,}" for name, count in counter.most_common())
    return f"{counter.total():,}" + (f": {parts}" if parts else "")
