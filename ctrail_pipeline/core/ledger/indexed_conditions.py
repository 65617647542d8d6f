"""Conditions that a statement must contain word for word, so that a partial index answers it.

A partial index covers the few rows that its WHERE clause in `schema.sql` selects. The database uses
such an index only if the statement contains the same condition: without it the answer is the same,
and the whole table is read for it. So statements take the conditions from here. The index
`output_file_replaced` needs no condition: `replaced_by = ?` implies `replaced_by IS NOT NULL`.

A statement that also groups or chooses by another indexed column writes `+column`. Otherwise SQLite
may read the whole table in the order of that column (measured with a million log files: 430 ms
instead of 0.2 ms). PostgreSQL wants the same spelling behind SELECT and behind GROUP BY.
"""

from typing import Final

IS_TO_VISIT: Final = "next_visit IS NOT NULL"
"""A log file is to be visited at some time: index `log_file_to_visit`."""
IS_NOT_COMMITTED: Final = "state != 1"
"""A log file is in another state than committed: index `log_file_unsettled`."""
IS_REMARKABLE: Final = "quarantined + conflicts > 0"
"""A log file has quarantined text or conflicting eventIDs: index `log_file_remarkable`."""
IS_OPEN_BATCH: Final = "state IN (0, 1)"
"""A batch is staging, or committed and not known to be published: index `batch_open`."""
IS_TO_REMOVE: Final = "pruned = 1"
"""An output file's removal is decided, and not known to be done: index `output_file_to_remove`."""
