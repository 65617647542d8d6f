"""An output in local folders that locks none of them, as an output in a bucket has none.

A test sets `open_output.LocalOutput` to it, so that every command works on such an output.
"""

from pathlib import Path

from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output.local.staging import LocalStaging
from ctrail_pipeline.core.output_files import Kind


class UnlockedOutput(LocalOutput):
    """The output."""

    late_copy_seconds = 3_600

    def __init__(
        self, events_dir: Path, quarantine_dir: Path, parquet_dir: Path | None = None
    ) -> None:
        super().__init__(events_dir, quarantine_dir, parquet_dir)
        self.lock_folder = None

    def staging_of(self, token: str) -> LocalStaging:
        """Return staging folders that nobody locks."""
        return UnlockedStaging(self.folders, token)


class UnlockedStaging(LocalStaging):
    """The staging folders of one batch."""

    def open(self) -> None:
        """Make the folder."""
        self.folders.make(self.folders.staging_of(Kind.EVENTS, self._token))

    def owner_lives(self) -> None:
        """Say nothing: no lock tells."""
