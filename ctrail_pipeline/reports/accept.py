"""What was accepted, in words: for a terminal and for Dagster's run page.

Not here: what may be accepted, and how (`core.upkeep.accept`).
"""

from ctrail_pipeline.core.untrusted_text import printable
from ctrail_pipeline.core.upkeep.accept import Settled


def settled_lines(settled: Settled, *, undone: bool = False, dry_run: bool = False) -> list[str]:
    """Return what was settled: a line for each of the first log files, and what to know beside."""
    lines = [f"{printable(address)}: {printable(trouble)}" for address, trouble in settled.named]
    unnamed = settled.log_files - len(settled.named)
    if unnamed:
        lines.append(f"and {unnamed:,} more")
    lines += [
        f"{_log_files(number)} more would fit, and nothing changes: {standing.value}"
        for standing, number in settled.others.items()
    ]
    if settled.changed:
        lines.append(
            f"{_log_files(settled.changed)} were settled by others meanwhile: see `ctrail status`"
        )
    log_files = _log_files(settled.log_files)
    would = "would be " if dry_run else ""
    if undone:
        lines.append(f"{would}open again: {log_files}; the next sync tries them at once")
    else:
        lines.append(
            f"{would}accepted: {log_files}; `ctrail accept --list` shows all, --undo takes it back"
        )
    return lines


def _log_files(number: int) -> str:
    return f"{number:,} log file{'' if number == 1 else 's'}"
