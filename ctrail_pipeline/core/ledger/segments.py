"""The rows of segments: reading the identities that the ledger holds, and merging segments.

`LedgerSegments` is what dedup asks; the rest are functions over a `Ledger`. A segment is hot or
cold; both are read here. What a segment is made of is in `segment_building`, and whether a record
is new is decided in `known_identities`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from .bulk import rows_of_keys
from .cold_reader import ColdFile
from .cold_rows import cold_files_where, hot_rows, hot_rows_of_keys
from .known_identities import SEGMENTS_A_READ
from .ledger import Ledger
from .rows import BatchState, NewSegment, Segment, SegmentGone

_HOUR_LENGTH: Final = len("YYYY/MM/DD/HH")
_MERGED: Final = 0
"""As a segment's batch: the segment was merged from those of several batches."""

_NEWER: Final = (
    "dedup_partition p JOIN segment s ON s.dedup_partition = p.id"
    " WHERE p.name = k.column1 AND s.id > k.column2"
)
"""Behind the keys of `rows_of_keys`: dedup partitions, each with the last segment that was seen."""
_COUNTED: Final = (
    *("p.name", "count(*)", "max(s.id)"),
    "sum(CASE WHEN s.filter IS NULL THEN s.count ELSE 0 END)",
)
_WITHOUT_LARGE_BLOBS: Final = (
    "s.id, s.count, CASE WHEN s.filter IS NULL THEN s.identities END,"
    " coalesce(length(s.filter), 0),"
    " CASE WHEN s.filter IS NULL THEN s.event_keys END, s.batch = 0"
)
"""The columns of a `Segment`; of one with a filter, no blob: see `_segment_of`."""


class LedgerSegments:
    """The segments in a ledger, as `KnownIdentities` asks for them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def segments(self, partition: str, after: int, limit: int = SEGMENTS_A_READ) -> list[Segment]:
        """Return segments of a dedup partition with an id above `after`, in order."""
        hour = partition[-_HOUR_LENGTH:]
        rows, cold_files = hot_rows(
            self._ledger,
            f"SELECT {_WITHOUT_LARGE_BLOBS}"
            " FROM segment s JOIN dedup_partition p ON p.id = s.dedup_partition"
            " WHERE p.name = ? AND s.id > ? ORDER BY s.id LIMIT ?",
            6,
            (partition, after, limit),
            "first_hour <= ? AND last_hour >= ? AND last_segment > ?",
            hour,
            hour,
            after,
        )
        found = {row[0]: _segment_of(row) for row in rows}
        for file in cold_files:
            for segment in self._ledger.cold_reader.segments(file, partition, after, limit):
                found[segment.id] = segment
        return [found[id_] for id_ in sorted(found)[:limit]]

    def all_newer(self, partition: str, after: int) -> Iterator[Segment]:
        """Yield all segments of a dedup partition with an id above `after`, a few at once."""
        while found := self.segments(partition, after):
            yield from found
            after = found[-1].id

    def few_newer(self, seen: Mapping[str, int], limit: int) -> dict[str, list[Segment]]:
        """Return the segments with an id above the one given, by dedup partition, in order.

        Dedup partitions with many new segments, or with cold ones, are left out: all the blobs
        together have about `limit` identities at most.
        """
        rows, cold_files = hot_rows_of_keys(
            self._ledger,
            _COUNTED,
            f"{_NEWER} GROUP BY p.name",
            list(seen.items()),
            "last_segment > ?",
            min(seen.values(), default=0),
        )
        counted = {name: (count, newest, identities) for name, count, newest, identities in rows}
        cold = self._with_newer_cold(seen, cold_files)
        found: dict[str, list[Segment]] = {
            name: [] for name in seen if name not in counted and name not in cold
        }
        chosen = []
        for name, (count, _, identities) in counted.items():
            if name not in cold and count <= SEGMENTS_A_READ and identities <= limit:
                limit -= identities
                chosen.append((name, seen[name]))
        read: dict[str, list[Segment]] = {name: [] for name, _ in chosen}
        for name, *row in rows_of_keys(
            self._ledger, f"p.name, {_WITHOUT_LARGE_BLOBS}", f"{_NEWER} ORDER BY s.id", chosen
        ):
            read[name].append(_segment_of(row))
        for name, segments in read.items():
            count, newest, _ = counted[name]
            # Otherwise some were merged or became cold meanwhile.
            if sum(segment.id <= newest for segment in segments) == count:
                found[name] = segments
        return found

    def _with_newer_cold(self, seen: Mapping[str, int], files: Iterable[ColdFile]) -> set[str]:
        """Return the dedup partitions that have a newer segment than was seen in a cold file."""
        names: set[str] = set()
        for file in files:
            wanted = [
                (name, newest)
                for name, newest in seen.items()
                if newest < file.last_segment
                and file.first_hour <= name[-_HOUR_LENGTH:] <= file.last_hour
            ]
            found = rows_of_keys(
                self._ledger,
                "DISTINCT partition",
                "segment WHERE partition = column1 AND id > column2",
                wanted,
                partial(self._ledger.cold_reader.ask, file),
            )
            names |= {name for (name,) in found}
        return names

    def segment_identities(self, segment_id: int) -> bytes:
        """Return the sorted identities of a segment. Raises SegmentGone if it was removed."""
        return self._blob("identities", segment_id)

    def segment_filter(self, segment_id: int) -> bytes:
        """Return the filter of a segment that has one. Raises SegmentGone if it was removed."""
        return self._blob("filter", segment_id)

    def segment_event_keys(self, segment_id: int) -> bytes:
        """Return a segment's sorted hashes of eventIDs. Raises SegmentGone if it was removed."""
        return self._blob("event_keys", segment_id)

    def _blob(self, column: str, segment_id: int) -> bytes:
        rows = self._ledger.rows(f"SELECT {column} FROM segment WHERE id = ?", segment_id)
        if rows:
            return bytes(rows[0][0])
        for file in cold_files_where(
            self._ledger, "first_segment <= ? AND last_segment >= ?", segment_id, segment_id
        ):
            blob = self._ledger.cold_reader.segment(file, segment_id, column)
            if blob is not None:
                return blob
        raise SegmentGone(segment_id)


def _segment_of(row: Sequence[Any]) -> Segment:
    id_, count, identities, filter_bytes, event_keys, is_merged = row
    return Segment(id_, count, identities or b"", filter_bytes, event_keys or b"", is_merged)


def newest_segment(ledger: Ledger) -> int:
    """Return the id of the newest segment; 0 if there is none."""
    return int(ledger.row("SELECT coalesce(max(id), 0) FROM segment")[0])


def partitions_with_segments(
    ledger: Ledger, after: int, least: int = 1, number: int = 1
) -> list[str]:
    """Return the dedup partitions with a segment of `least` identities and an id above `after`.

    Only those that have so many hot segments in all.
    """
    return [
        name
        for (name,) in ledger.rows(
            "SELECT p.name FROM dedup_partition p WHERE p.id IN"
            " (SELECT dedup_partition FROM segment WHERE id > ? AND count >= ?)"
            " AND (SELECT count(*) FROM segment s WHERE s.dedup_partition = p.id) >= ?",
            after,
            least,
            number,
        )
    ]


def mergeable_segments(ledger: Ledger, partition: str) -> list[tuple[int, int]]:
    """Return id and number of identities of a partition's segments that no batch may take back."""
    return ledger.rows(
        "SELECT s.id, s.count FROM segment s"
        " JOIN dedup_partition p ON p.id = s.dedup_partition"
        " LEFT JOIN batch b ON b.id = s.batch"
        " WHERE p.name = ? AND (s.batch = 0 OR b.state = ?)",
        partition,
        BatchState.PUBLISHED,
    )


def replace_segments(ledger: Ledger, ids: Sequence[int], merged: NewSegment) -> bool:
    """Put a merged segment in place of several of its dedup partition. Inside a transaction.

    Returns False, and changes nothing, if another run has merged some of them meanwhile.
    """
    old_ids = json.dumps(list(ids))
    present, identities = ledger.row(
        f"SELECT count(*), coalesce(sum(count), 0) FROM segment WHERE id IN ({ledger.numbers})",
        old_ids,
    )
    if (present, identities) != (len(ids), merged.size):
        return False
    ledger.execute(f"DELETE FROM segment WHERE id IN ({ledger.numbers})", old_ids)
    put_segments(ledger, _MERGED, [merged])
    return True


def put_segments(ledger: Ledger, batch: int, segments: Sequence[NewSegment]) -> None:
    """Add the segments of a batch. Inside a transaction."""
    ledger.execute_many(
        "INSERT INTO dedup_partition (name) VALUES (?) ON CONFLICT DO NOTHING",
        [(segment.partition,) for segment in segments],
    )
    ledger.execute_many(
        "INSERT INTO segment (dedup_partition, batch, count, identities, filter, event_keys)"
        " VALUES ((SELECT id FROM dedup_partition WHERE name = ?), ?, ?, ?, ?, ?)",
        [
            (
                *(segment.partition, batch, segment.size),
                *(segment.identities, segment.filter, segment.event_keys),
            )
            for segment in segments
        ],
    )
