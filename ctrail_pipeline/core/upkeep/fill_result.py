"""What a fill of Parquet did: see `parquet_fill`."""

from dataclasses import dataclass, field


@dataclass
class Filled:
    """What a fill did, or what it would do if this is a dry run."""

    files: int = 0
    """Files of events of which all lines are in Parquet now."""
    events: int = 0
    """Events that were written as rows. In a dry run, some of them may have rows already, where the
    ledger does not know it."""
    parquet_files: int = 0
    bytes: int = 0
    """Bytes of these Parquet files."""
    misfits: int = 0
    """Rows that have something in `_other`."""
    problems: list[str] = field(default_factory=list)
    """Files that are not as they were written. Their events are not in Parquet."""
