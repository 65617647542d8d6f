"""The results as Markdown: sections with tables and targets.

What is measured, and how, belongs to the other modules.
"""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """The limit of a figure, above or below, and the measured value."""

    name: str
    limit: float
    measured: float | None
    """None if the figure cannot be measured here, for the reason in `note`."""
    at_least: bool = False
    note: str = ""

    @property
    def verdict(self) -> str:
        """`met`, `not met` or `not measured`."""
        if self.measured is None:
            return "not measured"
        is_met = self.measured >= self.limit if self.at_least else self.measured <= self.limit
        return "met" if is_met else "**not met**"


@dataclass(frozen=True)
class Table:
    """Rows of text under headings."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table in Markdown, figures to the right."""
        lines = [self.headings, ["---", *["---:"] * (len(self.headings) - 1)], *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass
class Section:
    """One measurement."""

    title: str
    parts: list[str | Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    def markdown(self) -> str:
        """The heading, the texts and the tables."""
        parts = [part.markdown() if isinstance(part, Table) else part for part in self.parts]
        return "\n\n".join([f"## {self.title}", *parts])


def results(sections: Sequence[Section], *, scale: float, rounds: int, seconds: float) -> str:
    """The text of the results file."""
    targets = [
        [
            target.name,
            f"{'≥' if target.at_least else '≤'} {target.limit:g}",
            "–" if target.measured is None else _figure(target.measured),
            f"{target.verdict}{f' ({target.note})' if target.note else ''}",
        ]
        for section in sections
        for target in section.targets
    ]
    head = "\n\n".join(
        (
            "# Benchmark results",
            "Written by `python -m benchmarks`; do not edit. Figures are CPU seconds, unless a"
            " heading says otherwise: user and system time of whole process trees. A figure is the"
            f" median (least..greatest) of {rounds} interleaved rounds"
            f"{', after one that is thrown away' * (rounds > 1)}."
            " Compare figures within this file only: another machine or hour has another clock.",
            Table(
                ("", ""),
                (
                    (
                        "date",
                        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, took {seconds / 60:.0f} min",
                    ),
                    ("scale", f"{scale:g}"),
                    ("machine", f"{_cpu_model()}, {os.cpu_count()} CPUs, {_memory()}"),
                    ("load before", _LOAD),
                    ("system", f"{platform.system()} {platform.release()}"),
                    ("Python", platform.python_version()),
                ),
            ).markdown(),
            "## Targets",
            Table(("target", "limit", "measured", "verdict"), targets).markdown(),
        )
    )
    return "\n\n".join([head, *(section.markdown() for section in sections)]) + "\n"


_LOAD = " ".join(f"{load:.1f}" for load in os.getloadavg())


def _figure(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def megabytes(size: float) -> str:
    """A size as people read it."""
    return f"{size / 1e6:.0f} MB"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal"):
            return f"{int(line.split()[1]) / 1e6:.0f} GB"
    return "?"
