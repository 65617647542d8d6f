"""Makes files of a committed batch again that vanished before they were published.

A committed batch is never taken back: where files lie in a bucket, a copy of a vanished file may
still be on its way to its final name, and would double what another batch writes. So the batch's
log files are fetched again, and go the way that they went before. Its segments say which of their
records the batch brought in, and its line runs say which lines each file had. A file that cannot be
made again now is lost until it can: see `lost_files`.

Not here: the merged files of a compaction, which are made of the files that they were merged from
(`core.upkeep.restage_merged`), and what becomes of the batch (`recovery`).
"""

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from typing import NamedTuple

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.coverage import EVERYTHING
from ctrail_pipeline.core.keys.log_file_key import address_of
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.packed_identities import held_among
from ctrail_pipeline.core.ledger.queries_lineage import LogFileOrigin, batch_origin
from ctrail_pipeline.core.ledger.queries_restage import (
    CommittedFile,
    committed_files,
    identities_added,
)
from ctrail_pipeline.core.ledger.rows import BatchRow, LogFileState
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.listing.selection import trail_finder
from ctrail_pipeline.core.listing.sources import LogFileRef, Source
from ctrail_pipeline.core.output.interface import Staging
from ctrail_pipeline.core.output.new_files import FileToWrite, NewFile, NewParquetFile
from ctrail_pipeline.core.output.scatter_limit import ScatterLimit
from ctrail_pipeline.core.output_files import Compression, Kind, PublishedFile, StagedFile
from ctrail_pipeline.core.settings import Settings

from .batch_files import lines_by_folder, parquet_files_of
from .content import BatchContent, LogFileInBatch
from .feed import Feed
from .listed_ahead import ListedAhead
from .routed_batch import OutputLine, RoutedBatch
from .routing import Router

_Folder = tuple[Kind, str]


class Restaged(NamedTuple):
    """What came of the files of a batch that vanished. Files that nobody needs are in neither."""

    files: list[StagedFile]
    """Files that lie staged again, durable and whole."""
    lost: dict[int, str]
    """By part: why a file cannot be made again now."""


Restage = Callable[[BatchRow, Staging, Sequence[PublishedFile]], Restaged]
"""Makes the vanished files of a batch again."""


def restage_batch(
    ledger: Ledger,
    settings: Settings,
    batch: BatchRow,
    staging: Staging,
    vanished: Sequence[PublishedFile],
) -> Restaged:
    """Make vanished files of a sync's batch again, of its log files.

    `settings` name the trails, all of them. Raises OutputError or LedgerError.
    """
    return _Restaging(ledger, settings, batch.id, staging, vanished).restaged()


def is_as_it_was(file: FileToWrite, committed: CommittedFile) -> bool:
    """Whether a file that was made again may stand for the file that was committed.

    What is not compressed must be the same bytes. The bytes of compressed files are not compared,
    nor those of Parquet: a newer library makes other bytes of the same text. There each line is
    known by its identity, or comes from a file whose hash was compared.
    """
    digest = sha256()
    file.write_to(digest.update)
    is_same_text = file.kind is Kind.PARQUET or file.compression is not Compression.NONE
    return file.line_count == committed.lines and (
        is_same_text or digest.digest() == committed.sha256
    )


class _CommittedFolders(ScatterLimit):
    """Has scattered records go where they went: to a folder of events only if the batch has it."""

    def __init__(self, folders: Collection[str]) -> None:
        super().__init__(folders.__contains__)

    def allows(self, folder: str, limit: int) -> bool:  # noqa: ARG002 - see the base class
        return self._exists(folder)


class _Restaging:
    """Making the vanished files of one batch again."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        batch: int,
        staging: Staging,
        vanished: Sequence[PublishedFile],
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._batch = batch
        self._staging = staging
        parts = {file.part for file in vanished}
        files = committed_files(ledger, batch)
        self._wanted = {file.file.part: file for file in files if file.file.part in parts}
        self._events = {file.file.folder for file in files if file.file.kind is Kind.EVENTS}
        folders = {_folder_of(file) for file in self._wanted.values()}
        self._pending: dict[_Folder, deque[CommittedFile]] = defaultdict(deque)
        """The files of these folders that are still to be made or passed over, in order."""
        for file in files:
            if _folder_of(file) in folders:
                self._pending[_folder_of(file)].append(file)
        self._needed = {
            part: set(self._log_files_of(file, files)) for part, file in self._wanted.items()
        }
        """By part: the positions of the log files that it is made of."""
        self._log_files: dict[int, LogFileInBatch] = {}
        self._missing: dict[int, str] = {}
        """By position: why a log file cannot be had."""
        self._restaged: list[StagedFile] = []

    def restaged(self) -> Restaged:
        origins = batch_origin(self._ledger, self._batch).log_files
        self._fetch(origins, set().union(*self._needed.values()))
        if not all(self._lacks(part) for part in self._wanted):
            # A record that two log files hold is the first one's, so the others are needed, too.
            self._fetch(origins, origins.keys() - self._log_files.keys() - self._missing.keys())
            if self._log_files:
                self._make_files()
        made = {file.part for file in self._restaged}
        return Restaged(
            self._restaged,
            {part: self._why(part) for part in self._wanted if part not in made},
        )

    @staticmethod
    def _log_files_of(file: CommittedFile, files: Iterable[CommittedFile]) -> Iterator[int]:
        """Yield the positions of the log files that a file is made of."""
        if file.file.kind is not Kind.PARQUET:
            yield from (run.position for run in file.line_runs)
            return
        from ctrail_pipeline.core.output.parquet import parquet_folder

        for other in files:
            if (
                other.file.kind is Kind.EVENTS
                and parquet_folder(other.file.folder) == file.file.folder
            ):
                yield from (run.position for run in other.line_runs)

    def _lacks(self, part: int) -> list[str]:
        """Return why log files of a part cannot be had."""
        return [self._missing[at] for at in sorted(self._needed[part]) if at in self._missing]

    def _why(self, part: int) -> str:
        reasons = self._lacks(part)
        if not reasons:
            return "its log files hold other records than they held"
        more = f" (and {len(reasons) - 1} more log files)" if len(reasons) > 1 else ""
        return f"{reasons[0]}{more}"

    # -- log files ---------------------------------------------------------------------------------

    def _fetch(self, origins: Mapping[int, LogFileOrigin], positions: Collection[int]) -> None:
        """Fetch the log files at these positions of the batch."""
        sources = self._sources({origins[at].source_id for at in positions if at in origins})
        refs: dict[int, LogFileRef] = {}
        for at in sorted(positions):
            origin = origins.get(at)
            source = None if origin is None else sources.get(origin.source_id)
            if origin is None or source is None:
                self._missing[at] = "the ledger does not know one of its log files"
            elif isinstance(source, str):
                self._missing[at] = source
            else:
                refs[at] = LogFileRef(
                    source, origin.day, origin.name, origin.size, origin.etag, False, None, 0
                )
        if not refs:
            return
        listed = ListedAhead(iter([list(refs.values())]))
        with closing(listed), closing(Feed(listed, self._settings)) as feed:
            at_positions = iter(refs)
            for fetched in feed.results():
                if fetched is None:
                    continue
                at, content = next(at_positions), BatchContent()
                content.add(fetched)
                if fetched.content is not None:
                    self._log_files[at] = content.log_files[0]
                else:
                    ref = fetched.ref
                    where = address_of(ref.source.source_prefix, ref.day, ref.name)
                    state = LogFileState(fetched.state).name.lower()
                    self._missing[at] = f"{where}: {fetched.reason or state}"
                del fetched, content  # it may be large

    def _sources(self, ids: Collection[int]) -> dict[int, Source | str]:
        """Return where log files are to be fetched, by source prefix; or why they cannot be."""
        trail_of = trail_finder(self._settings.trails)
        buckets: dict[str, Bucket | StoreError] = {}
        sources: dict[int, Source | str] = {}
        for prefix, id_ in source_ids(self._ledger).items():
            if id_ not in ids:
                continue
            trail = trail_of(prefix)
            if trail is None:
                sources[id_] = f"{prefix.label}: no configured trail has it"
                continue
            if trail.name not in buckets:
                try:
                    buckets[trail.name] = open_bucket(trail, self._settings)
                except StoreError as error:
                    buckets[trail.name] = error
            bucket = buckets[trail.name]
            sources[id_] = (
                str(bucket)
                if isinstance(bucket, StoreError)
                else Source(id_, prefix, trail.name, bucket, (), EVERYTHING, deep=False)
            )
        return sources

    # -- files -------------------------------------------------------------------------------------

    def _make_files(self) -> None:
        """Route the records as they were routed before, and write the files that are wanted."""
        log_files = self._in_order()
        writes_parquet = any(kind is Kind.PARQUET for kind, _ in self._pending)
        for routed in self._rounds(log_files):
            if writes_parquet:
                self._make_parquet(log_files, routed)
            for folder, lines in lines_by_folder(routed).items():
                if folder in self._pending:
                    self._make_line_files(folder, lines)

    def _in_order(self) -> list[LogFileInBatch]:
        """Return log files by their positions; an empty one stands for each that is not there."""
        first = next(iter(self._log_files.values()))
        nothing = LogFileInBatch(first.ref, b"", 0, None, first.state, None, may_pass=False)
        return [self._log_files.get(at, nothing) for at in range(max(self._log_files) + 1)]

    def _rounds(self, log_files: Sequence[LogFileInBatch]) -> Iterator[RoutedBatch]:
        """Yield the lines that the batch brought in, round by round, as `stage` had them."""
        routed = RoutedBatch()
        router = Router(routed, self._settings, _CommittedFolders(self._events))
        earlier: dict[str, list[bytes]] = defaultdict(list)
        rounds = max(log_file.rounds for log_file in log_files)
        for number in range(rounds):
            router.route(log_files, number)
            for name, group in routed.groups.items():
                added: set[bytes] = set()
                for packed in identities_added(self._ledger, self._batch, name):
                    added |= held_among(group.keys(), packed)
                for packed in earlier[name]:
                    added -= held_among(added, packed)
                for identity in group.keys() - added:
                    del group[identity]
                if number < rounds - 1:
                    earlier[name].append(b"".join(sorted(added)))
            yield routed
            for group in routed.groups.values():
                group.clear()

    def _make_line_files(self, folder: _Folder, lines: Sequence[OutputLine]) -> None:
        """Divide the lines of a folder among its files, as their line runs say."""
        by_position: dict[int, deque[OutputLine]] = defaultdict(deque)
        for line in lines:
            by_position[line.position].append(line)
        pending = self._pending[folder]
        while pending:
            committed = pending[0]
            runs = [
                (run.position, run.lines)
                for run in committed.line_runs
                if run.position in self._log_files
            ]
            if any(len(by_position[at]) < count for at, count in runs):
                return  # the file is of another round, or a log file holds other records now
            texts = [by_position[at].popleft().text for at, count in runs for _ in range(count)]
            pending.popleft()
            self._write(NewFile(*folder, texts, runs, committed.file.compression), committed)

    def _make_parquet(self, log_files: Sequence[LogFileInBatch], routed: RoutedBatch) -> None:
        """Make the Parquet files of a round; they come in the order in which they came before."""
        for file in parquet_files_of(log_files, routed):
            pending = self._pending.get((Kind.PARQUET, file.folder))
            if pending:
                new_file = NewParquetFile(file.folder, file.content, file.rows)
                self._write(new_file, pending.popleft())

    def _write(self, file: FileToWrite, committed: CommittedFile) -> None:
        part = committed.file.part
        if part in self._wanted and not self._lacks(part) and is_as_it_was(file, committed):
            self._restaged.append(self._staging.restage(part, file))


def _folder_of(file: CommittedFile) -> _Folder:
    return file.file.kind, file.file.folder
