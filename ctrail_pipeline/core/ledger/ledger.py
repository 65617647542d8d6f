"""The ledger: the one database that decides what has been done.

`Ledger` is a connection to it, with the few facts about the ledger as a whole. What is asked and
written is in functions over a `Ledger`: by table in `source_prefixes`, `log_files`, `batches`,
`segments` and `output_numbers`, and in `queries_*` where one part of the program alone asks. SQL is
in this room only.
"""

from pathlib import Path
from typing import Final

from .cold_file import ColdFileReader
from .sqlite import LedgerFile

GENERATION: Final = "generation"
SEGMENTS_REMOVED: Final = "segments_removed"
"""How often segments were taken out of the ledger, as a batch was taken back."""


class Ledger(LedgerFile):
    """One connection to the ledger. Not for use by two threads at once: open a second one."""

    def __init__(self, path: Path) -> None:
        """Open the ledger, making a new one where there is none.

        Raises LedgerError if the file is no ledger, damaged, too new, or locked for long.
        """
        super().__init__(path)
        self.cold_folder = path.with_name(f"{path.name}.archive")
        """Where the cold files are: parts of the ledger, to be kept and copied together with it."""
        self.cold_reader = ColdFileReader(self.cold_folder)

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self.cold_reader.close()
        super().close()

    @property
    def uuid(self) -> str:
        """The name of this ledger for ever; the output folder keeps it too."""
        return self.meta("uuid")

    @property
    def generation(self) -> int:
        """A number that grows with every batch: it tells an older copy of the ledger."""
        return int(self.meta(GENERATION))

    def raise_generation(self) -> None:
        """Make every copy of the ledger from before an older one. Inside a transaction."""
        self.count_up(GENERATION)

    def is_unused(self) -> bool:
        """Whether no batch was ever committed."""
        row = self.row("SELECT EXISTS (SELECT 1 FROM batch WHERE committed_at IS NOT NULL)")
        return not row[0]

    def meta(self, name: str) -> str:
        """Return one of the values about the ledger as a whole."""
        return str(self.row("SELECT value FROM meta WHERE name = ?", name)[0])

    def set_meta(self, name: str, value: str) -> None:
        """Replace one of the values about the ledger as a whole. Inside a transaction."""
        self.execute("UPDATE meta SET value = ? WHERE name = ?", value, name)

    def count_up(self, name: str) -> None:
        """Add 1 to one of the numbers about the ledger as a whole. Inside a transaction."""
        self.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = ?", name)
