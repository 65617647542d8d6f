"""What the check of signed digests found."""

from dataclasses import dataclass, field

from ctrail_pipeline.core.keys.source_prefix import SourcePrefix

from .findings import Finding, HourState


@dataclass
class DigestResult:
    """What digests say of the selected source partitions."""

    findings: list[Finding] = field(default_factory=list)
    hours: dict[SourcePrefix, list[tuple[int, int, HourState]]] = field(default_factory=dict)
    """Ranges of hours of key time (hours since 1970, first and one past the last), in order: PROVED
    or CONTRADICTED. Of all other hours digests say nothing; a partition without digests has none.
    """
    digests: int = 0
    """Digests read."""
    digests_sound: int = 0
    log_files: int = 0
    """Log files that sound digests list, in the window."""
    log_files_proved: int = 0
    proved: set[str] | None = None
    """Keys of the log files that are proved, if they were asked for."""
