"""What a run left that is not committed."""

from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.run.summary import Summary


def standing(summary: Summary) -> dict[LogFileState, int]:
    """Count the log files of a run's selection that are open or archived, by state."""
    archived = {LogFileState.ARCHIVED: summary.archived.log_files}
    return {**summary.open_log_files.counts, **{k: v for k, v in archived.items() if v}}
