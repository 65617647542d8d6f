"""What a rebuild found and did."""

from dataclasses import dataclass, field
from typing import Final

_PROBLEMS_NAMED: Final = 100


@dataclass
class Rebuilt:
    """What was found in the output."""

    files: int = 0
    events: int = 0
    quarantined: int = 0
    doubled: int = 0
    """Lines that are there twice. This program does not double lines, so another one did."""
    left_over: int = 0
    """Files of an interrupted compaction that were removed; other files hold all their lines."""
    parquet_repaired: int = 0
    """Dates of an account and region whose Parquet was repaired."""
    accepted: int = 0
    """Log files that people have accepted as they are."""
    problems: list[str] = field(default_factory=list)
    """The first 100 problems: files of other programs, and lines that are no event. They stay."""
    problem_count: int = 0

    def note(self, problem: str) -> None:
        """Count a problem, and keep it if it is one of the first."""
        self.problem_count += 1
        if self.problem_count <= _PROBLEMS_NAMED:
            self.problems.append(problem)
