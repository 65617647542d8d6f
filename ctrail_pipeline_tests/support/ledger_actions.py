"""Changes of a ledger, with arguments drawn at random, made on two ledgers side by side.

Every function of the room `ledger` that changes rows is here, with states and versions that fit and
some that do not: what is refused must be refused by both.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

from ctrail_pipeline.core.keys.coverage import Range
from ctrail_pipeline.core.keys.left_aside import LeftAside, ListedFolders
from ctrail_pipeline.core.keys.log_file_key import LISTING_RULE
from ctrail_pipeline.core.keys.minutes import Minute
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger import (
    accepted,
    batch_adopt,
    batch_commit,
    batches,
    left_aside,
    log_files,
    output_numbers,
    queries_cold,
    queries_compaction,
    queries_digests,
    queries_open,
    queries_prune,
    queries_restage,
    queues,
    segments,
    source_prefixes,
)
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.parquet_batches import (
    EventsFile,
    commit_fill,
    doubt_parquet,
    files_not_in_parquet,
)
from ctrail_pipeline.core.ledger.rows import (
    AdoptedFile,
    BatchState,
    FoundLogFile,
    Known,
    LogFileState,
    NewSegment,
    Outcome,
)
from ctrail_pipeline.core.ledger.segment_building import build_segment, merge_identities
from ctrail_pipeline.core.ledger_address import LedgerAddress
from ctrail_pipeline.core.line_runs import pack_lineage
from ctrail_pipeline.core.output.parquet import hours_of_date
from ctrail_pipeline.core.output_files import Kind, PublishedFile, StagedFile

from .two_ledgers import TwoLedgers, method

TEXTS: Final = (
    *("", "a", "A", "B", "b", "z", "Z", "ä", "-", "_", "a b", "a/b", "0", "0a"),
    *("\x00", "\x00a", "a\x00", "a\x00b", "\x01", "\x01\x01", "\x01\x02", "\x01d800", "a\x01b"),
    *("'", "''; DROP TABLE log_file; --", '"', "%", "%s", "%(a)s", "?", "$1", "\\", "\n", "{}"),
    *("é" * 512, "'" * 1_024, "x" * 1_024, "\x01" * 1_024, "\U0010ffff", "\ue000", "null"),
)
"""Values of text columns, as a key, a record or a person may make them."""
NAMES: Final = (*TEXTS[1:], *(f"/2026/01/15/{text}" for text in ("a", "\x00", "%s")))
DAYS: Final = (0, 20_467, 20_468, 20_469)
HOURS: Final = ("2026/01/15/09", "2026/01/15/10", "2026/01/16/00")
RUNS: Final = ("run", "other", "\x00", "%s", "rebuild")


def names_only(files: Iterable[EventsFile]) -> list[EventsFile]:
    """Return files without the ids of their folders, which two ledgers need not share."""
    return [file._replace(folder_id=0) for file in files]


class LedgerActions(TwoLedgers):
    """Two ledgers, and what changes them."""

    def __init__(self, file: Path, database: LedgerAddress) -> None:
        super().__init__(file, database)
        self.sources: list[int] = []
        self._tokens = 0

    def _source(self, rng: Random) -> int:
        return rng.choice(self.sources)

    def _log_file(self, rng: Random) -> tuple[int, int, str]:
        """A log file: mostly one that is there."""
        known = self.ledgers[0].rows(
            "SELECT source_prefix, day, name FROM log_file"
            " UNION SELECT source_prefix, day, name FROM accepted_log_file ORDER BY 1, 2, 3"
        )
        if known and rng.random() < 0.6:
            return rng.choice(known)
        return self._source(rng), rng.choice(DAYS), rng.choice(NAMES)

    def _batch(self, rng: Random, *states: BatchState) -> int | None:
        marks = ", ".join(str(int(state)) for state in states)
        found = self.ledgers[0].rows(f"SELECT id FROM batch WHERE state IN ({marks}) ORDER BY id")
        return rng.choice(found)[0] if found else None

    def _new_batch(self, rng: Random, run: str | None = None) -> int:
        self._tokens += 1
        token = f"{self._tokens}{rng.choice(TEXTS)}"
        run = rng.choice(RUNS) if run is None else run
        published = [self._batch(rng, BatchState.COMMITTED)] if rng.random() < 0.3 else []
        ids = [batch for batch in published if batch is not None]
        batch: int = self.both(batches.register_batch, token, run, ids)
        return batch

    def _folder(self, rng: Random, kind: Kind) -> str:
        place = rng.choice(["111122223333", f"\x01{'é' * 100}a%s?'"])
        if kind is Kind.PARQUET:
            return f"account={place}/region=r/date={rng.choice(HOURS)[:10].replace('/', '-')}"
        return f"{place}/r/{rng.choice(HOURS)}"

    def _staged(self, rng: Random, part: int) -> StagedFile:
        kind = rng.choice(list(Kind))
        lines = rng.randrange(1, 5)
        lineage = pack_lineage([(0, lines)])
        return StagedFile(
            part,
            kind,
            self._folder(rng, kind),
            lines,
            rng.randrange(500),
            rng.randbytes(4),
            lineage,
        )

    def _segment(self, rng: Random) -> NewSegment:
        partition = f"{rng.choice(['a', 'é' * 200, '%s', '-', chr(1)])}/r/{rng.choice(HOURS)}"
        if rng.random() < 0.2:
            partition = f"{rng.choice(TEXTS)}/quarantine/2026/01/15".replace(
                "\x00", ""
            )  # for `hour_of`
        pool = [bytes([number]) * 16 for number in range(12)]
        keys = [rng.randbytes(6) for _ in range(2)]
        identities = set(rng.sample(pool, rng.randrange(1, 5)))
        if rng.random() < 0.2:
            identities = {rng.randbytes(16) for _ in range(300)}
        return build_segment(partition, identities, keys, 0.01)

    def _outcome(self, rng: Random, position: int, row: tuple[int, int, str]) -> Outcome:
        known = self.ledgers[0].rows(
            "SELECT state, etag FROM log_file WHERE source_prefix = ? AND day = ? AND name = ?",
            *row,
        )
        expected = Known(LogFileState(known[0][0]), known[0][1]) if known else None
        if rng.random() < 0.05:
            expected = Known(LogFileState.FAILED, b"wrong")
        committed, damaged = LogFileState.COMMITTED, LogFileState.DAMAGED
        others = (LogFileState.FAILED, LogFileState.ARCHIVED, LogFileState.GONE)
        state = rng.choice([committed, committed, committed, damaged, *others])
        same = expected.etag if expected else b"etag"
        etag = rng.choice([same, same, b"etag", rng.randbytes(2)])
        settled = self.ledgers[0].rows(
            "SELECT state, etag FROM accepted_log_file"
            " WHERE source_prefix = ? AND day = ? AND name = ?",
            *row,
        )
        if settled and rng.random() < 0.5:  # the log file is as it was accepted
            state, etag = LogFileState(settled[0][0]), settled[0][1]
        records = rng.randrange(6) if state in (committed, damaged) else 0
        times = rng.choice([None, ("2026-01-15T09:00:00Z", "2026-01-16T00:00:00Z"), ("A", "z")])
        return Outcome(
            *row,
            expected,
            etag,
            rng.randrange(1 << 40),
            rng.choice([None, rng.randbytes(32)]),
            records,
            rng.randrange(records + 1),
            rng.choice([0, 0, 1, 3]) if records else 0,
            rng.choice([0, 0, 1]) if records else 0,
            state,
            0 if state is committed else rng.randrange(1, 4),
            rng.choice([None, self.now - 5, self.now + 500, self.now + 10**8]),
            None if state is committed else rng.choice(TEXTS),
            position,
            times,
            has_lines=rng.random() < 0.8,
        )

    def pass_time(self, rng: Random) -> None:
        self.now += rng.choice([1, 600, 90_000])

    def register(self, rng: Random) -> None:
        sources = [SourcePrefix(*rng.choices(TEXTS, k=6)) for _ in range(2)]
        ids = self.both(source_prefixes.register_sources, sources)
        self.sources = sorted({*self.sources, *ids.values()})[:6]

    def cover(self, rng: Random) -> None:
        source = self._source(rng)
        ranges = [
            Range(Minute(start), Minute(start + rng.randrange(1, 50)))
            for start in (rng.randrange(200) for _ in range(2))
        ]
        if rng.random() < 0.5:
            self.write(
                Ledger.execute,
                "INSERT INTO coverage (source_prefix, listing_rule, start_minute, end_minute)"
                " VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                *(source, LISTING_RULE - 1, *ranges[0]),
            )
        self.write(source_prefixes.cover, {source: ranges})
        self.write(source_prefixes.note_deep_listings, [source], self.now)
        self.write(source_prefixes.note_listings, [source], self.now)
        self.write(source_prefixes.note_missed, {source: rng.randrange(3)}, self.now)
        self.both(source_prefixes.note_reported, [source], self.now)

    def find(self, rng: Random) -> None:
        rows = {self._log_file(rng) for _ in range(3)}
        rows |= {  # another version of a committed log file
            *self.ledgers[0].rows(
                "SELECT source_prefix, day, name FROM log_file WHERE state = 1 ORDER BY 1, 2, 3"
                " LIMIT 1"
            )
        }
        found = [
            FoundLogFile(*row, rng.randbytes(1), rng.randrange(99), rng.random() < 0.3)
            for row in sorted(rows)
        ]
        self.write(log_files.put_found, found, self.now)

    def commit(self, rng: Random, rows: Sequence[tuple[int, int, str]] | None = None) -> int | None:
        """Commit a batch, and return its id if it was committed."""
        batch = self._batch(rng, BatchState.STAGING)
        if batch is None or rows or rng.random() < 0.9:
            batch = self._new_batch(rng)
        rows = rows or sorted({self._log_file(rng) for _ in range(rng.randrange(1, 5))})
        outcomes = [self._outcome(rng, position, row) for position, row in enumerate(rows)]
        staged = [self._staged(rng, part) for part in range(rng.randrange(4))]
        new = list({s.partition: s for s in (self._segment(rng) for _ in range(2))}.values())
        newest = self.both(segments.newest_segment)
        seen = {segment.partition: newest if rng.random() < 0.8 else 0 for segment in new}
        self.write(batch_commit.commit_batch, batch, outcomes, staged, new, seen)
        is_committed = self.both(batches.batch_state, batch) is BatchState.COMMITTED
        return batch if is_committed else None

    def redo(self, rng: Random) -> None:
        """Commit log files, commit them again, and lose files of the first batch."""
        rows = [(self._source(rng), DAYS[1], name) for name in rng.sample(NAMES, 3)]
        first = self.commit(rng, rows)
        self.commit(rng, rows)
        self.lose(rng, first)

    def publish(self, rng: Random, batch: int | None = None) -> None:
        batch = batch or self._batch(rng, BatchState.COMMITTED)
        if batch is None:
            return
        if self.both(queries_compaction.is_compaction, batch):
            self.write(queries_compaction.publish_compaction, batch)
        else:
            self.write(batches.mark_published, [batch])

    def give_up(self, rng: Random) -> None:
        batch = self._batch(rng, *BatchState)
        if batch is not None:
            self.both(batches.abort_batch, batch)

    def lose(self, rng: Random, batch: int | None = None) -> None:
        """Find files vanished: some are made again, others are lost."""
        batch = batch or self._batch(rng, BatchState.COMMITTED, BatchState.PUBLISHED)
        if batch is None:
            return
        parts = [file.part for file in self.both(output_numbers.published_files, batch)]
        lost = {part for part in parts if rng.random() < 0.5}
        again = [self._staged(rng, part) for part in parts if part not in lost]
        self.write(queries_restage.note_restaged, batch, again, lost)

    def rename(self, rng: Random) -> None:
        batch = self._batch(rng, BatchState.COMMITTED, BatchState.PUBLISHED)
        files = self.both(output_numbers.published_files, batch or 0)
        if batch and files:
            file = rng.choice(files)
            self.both(output_numbers.rename_output_file, batch, file)

    def compact(self, rng: Random) -> None:
        kind = rng.choice([Kind.EVENTS, Kind.PARQUET])
        before = rng.choice(["2026/01/15/10", "2026/01/17/00"])
        folders = self.both(
            lambda ledger: [folder._replace(id=0) for folder in _folders(ledger, kind, before)]
        )
        if not folders:
            return
        batch = self._new_batch(rng)
        chosen = [folder for folder in folders if folder.files][: rng.randrange(1, 4)]
        plans: list[tuple[str, list[queries_compaction.OldFile], StagedFile]] = []
        for folder in chosen:
            old = list(folder.files)
            if rng.random() < 0.25:
                old.append(old[0]._replace(number=77))  # another run has merged or pruned it
            if rng.random() < 0.25:
                old[0] = old[0]._replace(parquet_batch=77)  # another run has filled Parquet
            lines = sum(file.lines for file in folder.files)
            merged = StagedFile(len(plans), kind, folder.name, lines, 9, b"merged", b"\x01\x00\x02")
            plans.append((folder.name, old, merged))

        def commit(ledger: Ledger) -> object:
            by_name = {folder.name: folder.id for folder in _folders(ledger, kind, before)}
            for name, old, _ in plans:
                numbers = [file.number for file in old]
                queries_compaction.is_output(ledger, by_name[name], numbers)
            published, unchanged = queries_compaction.commit_compaction(
                ledger,
                batch,
                [
                    queries_compaction.Replacement(by_name[name], old, [merged], [None])
                    for name, old, merged in plans
                ],
            )
            return published, sorted(name for name in by_name if by_name[name] in unchanged)

        self.write(commit)
        if self.both(batches.batch_state, batch) is BatchState.COMMITTED:
            if rng.random() < 0.5:  # meanwhile another run prunes
                self.prune(rng)
                self.publish(rng, batch)
            elif rng.random() < 0.5:
                self.lose(rng, batch)

    def prune(self, rng: Random) -> None:
        before, limit = rng.choice(["2026/01/15/10", "2026/01/17/00"]), rng.choice([2, 50])
        late = rng.choice([0, 3600])
        self.both(queries_prune.prunable, before, late)
        self.write(lambda ledger: queries_prune.decide_pruning(ledger, before, limit, 0, late)[0])
        self.remove(rng)

    def remove(self, rng: Random) -> None:
        files = self.both(queries_prune.files_to_remove, 100, in_order=False)
        gone: list[PublishedFile] = rng.sample(sorted(files), len(files) // 2 + len(files) % 2)
        self.write(queries_prune.note_removed, gone)

    def merge(self, rng: Random) -> None:
        names = self.both(segments.partitions_with_segments, 0, in_order=False)
        for name in sorted(names):
            found = self.both(segments.mergeable_segments, name, in_order=False)
            if len(found) < 2:
                continue
            ids = [id_ for id_, _ in found[:3]]
            blobs = [self._identities(id_) for id_ in ids]
            if len({*b"".join(blobs)}) < 3 and rng.random() < 0.5:
                ids.append(10**6)  # gone meanwhile
            merged = merge_identities(name, blobs, b"", 0.01)
            self.write(segments.replace_segments, ids, merged)

    def _identities(self, segment: int) -> bytes:
        identities: bytes = self.both(
            method(segments.LedgerSegments, "segment_identities"), segment
        )
        return identities

    def adopt(self, rng: Random) -> None:
        self._tokens += 1
        token = f"{self._tokens}{rng.choice(TEXTS)}"
        kind = rng.choice([Kind.EVENTS, Kind.EVENTS, Kind.PARQUET])
        folder, number = self._folder(rng, kind), 1_000 * self._tokens
        files = [
            AdoptedFile(PublishedFile(part, kind, folder, number + part, 5), 3, b"digest")
            for part in range(2)
        ]
        new = [self._segment(rng)]
        self.both(batch_adopt.adopt, token, files, new, in_parquet=rng.random() < 0.5)

    def fill(self, rng: Random) -> None:
        """Parquet of lines that are not in Parquet is committed, or other runs came first."""
        found = self.both(lambda ledger: names_only(files_not_in_parquet(ledger)))
        if not found:
            return
        chosen = {
            (file.folder, file.file.number) for file in rng.sample(found, -(-len(found) // 2))
        }
        folder = self._folder(rng, Kind.PARQUET)
        staged = [StagedFile(0, Kind.PARQUET, folder, 4, 9, b"rows", b"")]
        is_late = rng.random() < 0.25

        def commit(ledger: Ledger, batch: int) -> object:
            files = [
                file
                for file in files_not_in_parquet(ledger)
                if (file.folder, file.file.number) in chosen
            ]
            if is_late:
                files.append(files[0]._replace(file=files[0].file._replace(number=77)))
            return commit_fill(ledger, batch, files, staged)

        batch = self._new_batch(rng)
        self.write(commit, batch)
        if self.both(batches.batch_state, batch) is BatchState.COMMITTED and rng.random() < 0.5:
            self.publish(rng, batch)

    def doubt(self, rng: Random) -> None:
        folder = self._folder(rng, Kind.PARQUET)
        self.both(doubt_parquet, [hours_of_date(folder)])

    def accept(self, rng: Random) -> None:
        open_now = self.both(accepted.unsettled_log_files)
        chosen = rng.sample(open_now, min(len(open_now), 2))
        new = [
            accepted.Acceptance(
                *(log_file.source_id, log_file.day, log_file.name),
                log_file.etag if rng.random() < 0.8 else b"other",
                log_file.state,
                rng.choice(TEXTS),
                rng.choice(TEXTS),
                self.now,
            )
            for log_file in chosen
        ]
        self.write(accepted.accept_log_files, new)
        without = accepted.Acceptance(
            *(self._source(rng), rng.choice(DAYS), rng.choice(NAMES)),
            b"etag",
            LogFileState.DAMAGED,
            rng.choice(TEXTS),
            rng.choice(TEXTS),
            self.now,
        )
        self.write(accepted.put_acceptances, [without])
        if rng.random() < 0.5:
            self.commit(rng, [without.row])

    def take_back(self, rng: Random) -> None:
        found = self.both(accepted.acceptances)
        chosen = rng.sample(found, min(len(found), 2))
        self.write(accepted.take_back, chosen)
        for acceptance in found:
            self.both(accepted.acceptance_of, acceptance.row)

    def set_aside(self, rng: Random) -> None:
        source = self._source(rng)
        folders = ["", "2026/", "2026/01/", "2026/01/15/", "2026/01/16/", rng.choice(TEXTS)]
        tally = {
            folder: LeftAside(rng.randrange(1, 9), rng.choice(TEXTS))
            for folder in rng.sample(folders, 3)
        }
        listed = ListedFolders(20_400, 20_500, rng.randrange(1, 4), rng.choice(folders))
        self.write(left_aside.replace_left_aside, {source: [(listed, tally)]})
        bucket, prefix = rng.choice(TEXTS), rng.choice(TEXTS)
        outside = {rng.choice(TEXTS): {rng.choice(TEXTS): LeftAside(2, rng.choice(TEXTS))}}
        for listed_again in (outside, {}):
            self.both(
                left_aside.replace_left_aside_outside, bucket, prefix, listed_again, ["a", "%s"]
            )
            self.both(left_aside.left_aside_outside, bucket, prefix)

    def visit(self, rng: Random) -> None:
        tries = queries_open.TriesOfRuns(tuple(rng.sample(RUNS, 2)), rng.choice([None, 1, 2]))
        nobody = queries_open.TriesOfRuns((), None)
        sources, now = self.sources[:3], self.now
        for of in (tries, nobody):
            self.write(queries_open.visit_again, of, now)
            self.both(queries_open.open_rows_of_tries, of, now, in_order=False)
        self.write(queries_open.visit_failed, sources, (DAYS[1], DAYS[3]), now)
        if rng.random() < 0.3:  # as an older version of this program left a row
            self.write(
                Ledger.execute,
                "UPDATE log_file SET next_visit = 0, attempts = 1 WHERE state = 1 AND day = ?",
                DAYS[1],
            )

    def cool(self, rng: Random) -> None:
        """Settle all batches, and move cold rows out of the hot tables."""
        for batch in self.both(batches.open_batches):
            if not self.both(batches.abort_batch, batch.id):
                self.publish(rng, batch.id)
        before_day, before_hour = rng.choice([(DAYS[2], HOURS[1]), (DAYS[3], "2026/01/17/00")])
        limit = rng.choice([1, 10**6])
        self.now += 1

        def move(ledger: Ledger) -> bool:
            bound = queries_cold.settled_before(ledger, self.now)
            days = sorted(queries_cold.cold_days(ledger, before_day, bound, 10**6))[:limit]
            found = queries_cold.cold_segments(ledger, before_hour, bound, 10**6)
            return queries_cold.move_cold(ledger, days, sorted(found)[:limit], bound)

        self.both(move)

    def note(self, rng: Random) -> None:
        keys = [queries_digests.PublicKey(rng.choice(TEXTS), rng.randbytes(5)) for _ in range(2)]
        self.both(queries_digests.keep_public_keys, keys, self.now)
        self.both(queries_cold.note_cold_moved, self.now)
        url = rng.choice(TEXTS)
        depth = queues.Depth(*(rng.choice((None, 0, 7)) for _ in range(3)))
        self.write(
            partial(queues.note_asked, is_drained=rng.random() < 0.5),
            *(url, self.now, rng.choice(("", *TEXTS)), depth),
        )
        tallies = {
            sort: queues.Tally(rng.randrange(5), rng.choice(TEXTS))
            for sort in rng.sample(sorted(queues.Notified), 2)
        }
        self.write(queues.note_notified, url, tallies)


def _folders(ledger: Ledger, kind: Kind, before: str) -> Iterator[queries_compaction.Folder]:
    all_folders = queries_compaction.folders_to_compact(ledger, kind, before)
    settled = queries_compaction.folders_to_compact(ledger, kind, before, 3600)
    assert not [folder for folder in settled if folder.files], "all were published just now"
    return all_folders
