"""Taking existing output files into a new ledger: the files, and the identities of their lines.

Memory is bounded: identities are written to the ledger when 100,000 of them are held.
"""

import uuid
from collections.abc import Callable
from typing import Final

from ctrail_pipeline.core.ledger.batch_adopt import adopt
from ctrail_pipeline.core.ledger.known_identities import KnownIdentities
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.rows import AdoptedFile
from ctrail_pipeline.core.ledger.segment_building import build_segment
from ctrail_pipeline.core.ledger.segments import LedgerSegments
from ctrail_pipeline.core.output.contents import contents_of
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output_files import FileName, Kind, PublishedFile, compression_of

from .parquet_row_hashes import RowSums
from .rebuild_lines import FileLines, events_in, quarantined_in
from .rebuild_parquet import parquet_records
from .rebuild_result import Rebuilt

_IDENTITIES_A_BATCH: Final = 100_000


class Adopter:
    """Takes output files into a new ledger, a bounded number of identities at a time."""

    def __init__(
        self,
        ledger: Ledger,
        output: Output,
        false_positive: float,
        result: Rebuilt,
        observe: Callable[[str], None],
        sums: RowSums | None,
    ) -> None:
        """`sums` add up the hashes of lines and rows; None if there is no Parquet."""
        self._ledger = ledger
        self._output = output
        self._known = KnownIdentities(LedgerSegments(ledger))
        self._false_positive = false_positive
        self._result = result
        self._observe = observe
        self._files: list[AdoptedFile] = []
        self._found: dict[str, dict[bytes, bytes]] = {}
        """Event keys by identity, by dedup partition."""
        self._found_in: dict[str, set[str]] = {}
        """Folders in which these identities were found, by dedup partition."""
        self.doubled_in: set[str] = set()
        """Folders with a line that is there twice."""
        self._held = 0
        self._sums = sums or RowSums()
        self._takes_sums = sums is not None

    def take(self, file: FileName, number: int) -> None:
        """Take one file: all its lines, and then the file itself."""
        kind, folder, _ = file
        if kind is Kind.PARQUET:
            self._take_parquet(file, number)
            return
        address = self._output.address_of(file)
        read = events_in if kind is Kind.EVENTS else quarantined_in
        stored, lines = FileLines(self._output, file), 0
        for raw_lines in stored:
            found = read(raw_lines, folder)
            for offset, line in enumerate(found):
                if line is None:
                    self._result.note(f"{address}:{lines + offset + 1}: not as it was written")
                else:
                    self._take_line(folder, line.partition, line.identity, line.event_key)
            if kind is Kind.EVENTS and self._takes_sums:
                self._sums.add_lines(parquet_records(found, folder))
            lines += len(raw_lines)
            if self._held >= _IDENTITIES_A_BATCH:
                self.adopt()
        if kind is Kind.EVENTS:
            self._result.events += lines
        else:
            self._result.quarantined += lines
        if stored.damage:
            self._result.note(f"{address}: {stored.damage}; its first {lines:,} lines count")
        self._result.files += 1
        published = PublishedFile(
            *(len(self._files), kind, folder, number, stored.size, compression_of(file.name))
        )
        self._files.append(AdoptedFile(published, lines, stored.sha256))

    def _take_parquet(self, file: FileName, number: int) -> None:
        """Take a file of Parquet, whose rows are only compared: they repeat lines."""
        import polars

        try:
            with self._output.on_disk(file) as path:
                rows = self._sums.add_file(file.folder, path)
        except (polars.exceptions.PolarsError, OSError):
            address = self._output.address_of(file)
            self._result.note(f"{address}: not Parquet as this program writes it; it is left alone")
            return
        contents = contents_of(self._output, file)
        self._result.files += 1
        published = PublishedFile(
            len(self._files), Kind.PARQUET, file.folder, number, contents.bytes
        )
        self._files.append(AdoptedFile(published, rows, contents.sha256))

    def _take_line(self, folder: str, partition: str, identity: bytes, event_key: bytes) -> None:
        group = self._found.setdefault(partition, {})
        self._found_in.setdefault(partition, set()).add(folder)
        if identity in group:
            self._result.doubled += 1
            self.doubled_in.add(folder)
        else:
            group[identity] = event_key
            self._held += 1

    def adopt(self) -> None:
        """Write to the ledger what was taken since the last call."""
        self._known.begin()
        segments = []
        for name, group in self._found.items():
            known = self._known.partition(name).known_among(group.keys())
            if known:
                self._result.doubled += len(known)
                self.doubled_in |= self._found_in[name]
            new = {identity: key for identity, key in group.items() if identity not in known}
            if new:
                keys = filter(None, new.values())
                segments.append(build_segment(name, new.keys(), keys, self._false_positive))
        token = uuid.uuid4().hex
        adopt(self._ledger, token, self._files, segments, in_parquet=self._takes_sums)
        self._files.clear()
        self._found.clear()
        self._found_in.clear()
        self._held = 0
        self._observe("adopted")
