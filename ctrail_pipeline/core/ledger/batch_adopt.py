"""Taking in output that no batch of the ledger wrote, when a ledger is rebuilt from its output.

A published batch without log files stands for it: where its lines came from is not known. Which
files are taken in is decided in `core.upkeep`.
"""

import time
from collections.abc import Sequence

from ctrail_pipeline.core.line_runs import pack_lineage
from ctrail_pipeline.core.output_files import Kind

from .batches import add_batch
from .ledger import Ledger
from .output_numbers import next_number
from .rows import (
    REBUILD_RUN,
    AdoptedFile,
    BatchState,
    NewSegment,
)
from .segments import put_segments


def adopt(
    ledger: Ledger,
    token: str,
    files: Sequence[AdoptedFile],
    segments: Sequence[NewSegment],
    *,
    in_parquet: bool,
) -> None:
    """Take in output that no batch of this ledger wrote: a published batch without log files.

    `in_parquet`: the lines are in Parquet, too (but see `doubt_parquet`).

    Nobody knows which log files its lines came from: its lineage is one line run, of no log file.
    """
    with ledger.transaction():
        batch = add_batch(ledger, token, REBUILD_RUN)
        for file, lines, digest in files:
            id_, _ = next_number(ledger, file.kind, file.folder, lines)
            ledger.execute(
                "UPDATE output_partition SET next_number = ? WHERE id = ? AND next_number < ?",
                file.number + 1,
                id_,
                file.number + 1,
            )
            lineage = pack_lineage([(0, lines)]) if file.kind is not Kind.PARQUET else b""
            ledger.execute(
                "INSERT INTO output_file"
                " (output_partition, number, batch, part, lines, bytes, sha256, lineage,"
                " compression, parquet_batch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                id_,
                file.number,
                batch,
                file.part,
                lines,
                file.size,
                digest,
                lineage,
                file.compression,
                batch if in_parquet and file.kind is Kind.EVENTS else None,
            )
        put_segments(ledger, batch, segments)
        ledger.advance_generation()
        ledger.execute(
            f"UPDATE batch SET state = ?, committed_at = ?, published_at = {ledger.now}"
            " WHERE id = ?",
            BatchState.PUBLISHED,
            int(time.time()),
            batch,
        )
