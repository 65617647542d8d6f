"""What a merged file is to whoever writes it, JSONL or Parquet."""

from typing import Protocol

from ctrail_pipeline.core.output.new_files import FileToWrite


class MergedFileToWrite(FileToWrite, Protocol):
    """A merged file, of JSONL or Parquet."""

    @property
    def parquet_batch(self) -> int | None:
        """The newest of the batches that wrote its lines as Parquet, too: as in the ledger."""

    @property
    def problem(self) -> str:
        """What is wrong with an old file, if one was found altered while this file was written."""
