"""What the check of signed digests found, for all selected source prefixes together."""

from dataclasses import dataclass, field

from ctrail_pipeline.core.keys.source_prefix import SourcePrefix

from .findings import Finding
from .hour_states import HourRange


@dataclass
class DigestResult:
    """What digests say of the selected source prefixes."""

    findings: list[Finding] = field(default_factory=list)
    hours: dict[SourcePrefix, list[HourRange]] = field(default_factory=dict)
    """Hours that are PROVED or CONTRADICTED, in order. Digests say nothing of all other hours.
    A source prefix without digests has no entry."""
    digests: int = 0
    """Digests that were read."""
    digests_sound: int = 0
    """Digests that were read and hold by themselves."""
    log_files: int = 0
    """Log files of the window that sound digests list."""
    log_files_proved: int = 0
    log_files_agreeing: int = 0
    """Log files with the hash that a digest lists, where the digest itself is not proved."""
    log_files_not_selected: int = 0
    """Entries of digests for log files of kinds that the configuration does not choose."""
    proved: set[str] | None = None
    """Keys of the log files that are proved, if they were asked for."""
