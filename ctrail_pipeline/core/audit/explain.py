"""Where an event came from: its line, the log file, and the run that committed it.

Events are found by eventID (by the hashes that the ledger keeps of them, so that only the hours
that may hold it are read), by eventName or time, or as a line of a file. The way back is the
ledger's lineage. Only if asked for, log files are fetched: to tell the record's index in its log
file, and which other log files hold a copy of it. Nothing is changed.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError, StoreError
from ctrail_pipeline.core.keys.key_time import MINUTES_PER_DAY, minute_of
from ctrail_pipeline.core.keys.log_file_key import key_of, parse_key
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.packed_identities import held_among
from ctrail_pipeline.core.ledger.queries_explain import segments_by_partition, with_duplicates
from ctrail_pipeline.core.ledger.queries_lineage import (
    BatchOrigin,
    LogFileOrigin,
    batch_origin,
    runs_of_file,
)
from ctrail_pipeline.core.ledger.queries_output import OutputFile, output_files, output_folders
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.line_runs import LineRun
from ctrail_pipeline.core.log_file.event_time import moment_of
from ctrail_pipeline.core.log_file.identity import EVENT_KEY_BYTES, event_key_of
from ctrail_pipeline.core.log_file.record import LogFileContent, Record
from ctrail_pipeline.core.log_file.split import read_log_file
from ctrail_pipeline.core.opening import check_belongs
from ctrail_pipeline.core.output.folders import OutputFolders
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.settings import Settings

from .file_contents import contents_of
from .sought import EVENT_ID_LENGTH, Sought, record_of

COPIES_LOOKED_AT: Final = 100
"""Log files that are fetched to look for copies of one event."""
_COPY_MINUTES: Final = (-10, 180)
"""Key time of a copy, relative to the event's own: delivery takes minutes, redelivery longer."""
_LINE: Final = re.compile(r"(?P<path>.+\.jsonl):(?P<line>[1-9][0-9]{0,8})")
_FILE: Final = re.compile(r"(events|quarantine)_([0-9]{5,9})\.jsonl")
_BATCHES_KEPT: Final = 16


class Line(NamedTuple):
    """A line of the output."""

    file: OutputFile
    number: int
    """From 1."""
    data: bytes
    """Without its line feed."""


@dataclass(frozen=True)
class Copies:
    """Other log files that hold the same bytes."""

    candidates: int
    """Log files of the account around that time which held duplicates of something."""
    looked_at: int = 0
    """How many of them were fetched."""
    found: tuple[str, ...] = ()
    """`s3://bucket/key` and the record's index in it."""


@dataclass(frozen=True)
class Explained:
    """A line, and where it came from."""

    path: Path
    line: Line
    record: Record | None
    """None for a line of quarantine, or one that was altered since."""
    is_as_written: bool
    """Whether the file has the SHA-256 that was written: else its lines may not be those."""
    place: SourcePrefix
    trail: str
    """"" if the trail is no longer configured."""
    log_file: LogFileOrigin
    batch: BatchOrigin
    nth: int
    """Which of its log file's lines in this file it is, from 1; and of how many."""
    of: int
    digest: str | None = None
    """What signed digests say of the log file; None where they were not asked."""
    copies: Copies = field(default_factory=lambda: Copies(0))
    index: int | None = None
    """Position in the log file's `Records`, from 0; None if it was not fetched."""
    note: str = ""
    """Why it could not be fetched, or that the bucket holds another version by now."""

    @property
    def key(self) -> str:
        """The log file's key."""
        return key_of(self.place, self.log_file.day, self.log_file.name)

    @property
    def where(self) -> str:
        """The log file's address."""
        return _where(self.place, self.log_file)


@contextmanager
def explainer(
    settings: Settings,
    digest_of: Callable[[SourcePrefix, LogFileOrigin], str | None] = lambda _place, _one: None,
    *,
    fetch: bool = False,
) -> Iterator["Explainer"]:
    """What explains lines. `digest_of` says what signed digests say of a log file.

    Raises ConfigurationError if there is no ledger, LedgerError if it cannot be trusted or read.
    """
    if not settings.state_db.exists():
        raise ConfigurationError(f"{settings.state_db}: there is no ledger, so nothing to explain")
    with closing(Ledger(settings.state_db)) as ledger:
        check_belongs(ledger, settings.events_dir)
        yield Explainer(settings, ledger, digest_of, fetch=fetch)


class Explainer:
    """Finds lines and explains them, with one view of the ledger."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        digest_of: Callable[[SourcePrefix, LogFileOrigin], str | None],
        *,
        fetch: bool,
    ) -> None:
        self._ledger = ledger
        self._folders = OutputFolders.of(settings)
        self._limit = settings.max_log_file_bytes
        self._digest_of = digest_of
        self._fetch = fetch
        self._sources = {id_: place for place, id_ in source_ids(ledger).items()}
        self._trails = {(trail.bucket, trail.prefix): trail for trail in settings.trails}
        self._settings = settings
        self._buckets: dict[str, Bucket] = {}
        self._batch = lru_cache(_BATCHES_KEPT)(lambda batch: batch_origin(ledger, batch))
        self._as_written = lru_cache(_BATCHES_KEPT)(self._is_as_written)

    def lines(self, sought: Sought) -> Iterator[Line]:
        """The lines that fit, hour by hour; memory does not depend on how many there are."""
        for folder in self._folders_of(sought):
            for file in output_files(self._ledger, Kind.EVENTS, folder):
                if file.is_expected:
                    for number, data in self._read(file):
                        if sought.fits(data):
                            yield Line(file, number, data)

    def line_at(self, text: str) -> Line:
        """The line that `…/events_00001.jsonl:17` names; relative to here, or to the output.

        Raises ConfigurationError if there is no such line.
        """
        match = _LINE.fullmatch(text)
        if match is None:
            raise ConfigurationError(
                f"{text!r} is no line of a file, such as events_00001.jsonl:17"
            )
        path, wanted = Path(match["path"]), int(match["line"])
        for kind, root in self._folders.roots.items():
            for full in (path.absolute(), root.absolute() / path):
                name = _FILE.fullmatch(full.name)
                if name is None or not full.is_relative_to(root.absolute()):
                    continue
                folder = str(full.parent.relative_to(root.absolute()))
                for file in output_files(self._ledger, kind, folder):
                    if file.number == int(name[2]) and file.published.name == full.name:
                        return self._line_of(file, wanted)
        raise ConfigurationError(f"{path}: the ledger knows no such file of the output")

    def explain(self, line: Line) -> Explained:
        """Where a line came from. Raises LedgerError if the ledger has lost that."""
        file = line.file
        run, nth = _run_of(runs_of_file(self._ledger, file), line.number)
        batch = self._batch(file.batch if run is None else run.batch)
        path = self._folders.path_of(file.published)
        if batch.is_rebuilt:
            raise LedgerError(
                f"{path}:{line.number}: this file was there before the ledger was rebuilt, so"
                " nobody knows which log file the line came from; search the bucket for it"
            )
        if run is None or run.position not in batch.log_files:
            raise LedgerError(
                f"{path}:{line.number}: the ledger has no log file for this line: the file has"
                " more lines than were written, or the ledger is damaged; run ctrail verify --deep"
            )
        log_file = batch.log_files[run.position]
        place = self._sources[log_file.source_id]
        trail = self._trails.get((place.bucket, place.prefix))
        record = record_of(line.data) if file.kind is Kind.EVENTS else None
        index, note = self._index_of(place, log_file, line.data) if record else (None, "")
        return Explained(
            path,
            line,
            record,
            self._as_written(file),
            place,
            trail.name if trail else "",
            log_file,
            batch,
            nth,
            run.lines,
            self._digest_of(place, log_file),
            self._copies_of(place, log_file, record, line.data) if record else Copies(0),
            index,
            note,
        )

    def _folders_of(self, sought: Sought) -> Iterator[str]:
        if sought.event_id is None:
            yield from filter(sought.may_lie_in, output_folders(self._ledger, Kind.EVENTS))
            return
        key = {event_key_of(sought.event_id[:EVENT_ID_LENGTH])}
        found: dict[str, None] = {}
        for partition, event_keys in segments_by_partition(self._ledger, "*/*/*/*/*/*"):
            if not sought.may_lie_in(partition):
                continue
            if held_among(key, event_keys, EVENT_KEY_BYTES):
                # A field that the record lacks ("-") came from its log file's key.
                account, region, hour = partition.split("/", 2)
                pattern = f"{_any(account)}/{_any(region)}/{hour}"
                found |= dict.fromkeys(output_folders(self._ledger, Kind.EVENTS, pattern))
        yield from filter(sought.may_lie_in, sorted(found))

    def _read(self, file: OutputFile) -> Iterator[tuple[int, bytes]]:
        path = self._folders.path_of(file.published)
        with suppress(FileNotFoundError), path.open("rb") as lines:  # verify names what is missing
            for number, line in enumerate(lines, 1):
                yield number, line.removesuffix(b"\n")

    def _line_of(self, file: OutputFile, wanted: int) -> Line:
        for number, data in islice(self._read(file), wanted - 1, wanted):
            return Line(file, number, data)
        path = self._folders.path_of(file.published)
        raise ConfigurationError(
            f"{path} has no line {wanted}: {file.lines} were written"
            + ("" if file.is_expected else ", and it was pruned or is not published yet")
        )

    def _is_as_written(self, file: OutputFile) -> bool:
        try:
            return contents_of(self._folders.path_of(file.published)).sha256 == file.sha256
        except OSError:
            return False

    def _index_of(
        self, place: SourcePrefix, log_file: LogFileOrigin, line: bytes
    ) -> tuple[int | None, str]:
        if not self._fetch:
            return None, ""
        content = self._fetched(place, log_file)
        if isinstance(content, str):
            return None, content
        index = _index_in(content, line)
        if content.sha256 != log_file.sha256:
            return index, "the bucket holds another version of the log file by now"
        return index, "" if index is not None else "the log file does not hold it"

    def _copies_of(
        self, place: SourcePrefix, origin: LogFileOrigin, record: Record, line: bytes
    ) -> Copies:
        """Log files that held duplicates around then; if asked for, which of them hold this one."""
        minute = minute_of(moment_of(record.time))
        first, last = minute + _COPY_MINUTES[0], minute + _COPY_MINUTES[1]
        days = first // MINUTES_PER_DAY, last // MINUTES_PER_DAY + 1
        candidates = [
            (other, one)
            for id_, other in self._sources.items()
            if other.account in (place.account, record.account)
            for one in with_duplicates(self._ledger, id_, days)
            if one.row != origin.row
            and _is_between(parse_key(other, key_of(other, one.day, one.name)).minute, first, last)
        ]
        looked_at, found = 0, []
        for other, one in candidates[:COPIES_LOOKED_AT] if self._fetch else ():
            content = self._fetched(other, one)
            if isinstance(content, str):
                continue
            looked_at += 1
            index = _index_in(content, line)
            if index is not None:
                found.append(f"{_where(other, one)} index {index}")
        return Copies(len(candidates), looked_at, tuple(found))

    def _fetched(self, place: SourcePrefix, log_file: LogFileOrigin) -> LogFileContent | str:
        """What a log file holds by now, or why it cannot be fetched."""
        trail = self._trails.get((place.bucket, place.prefix))
        if trail is None:
            return "its trail is no longer configured"
        try:
            if trail.name not in self._buckets:
                self._buckets[trail.name] = open_bucket(trail, self._settings)
            key = key_of(place, log_file.day, log_file.name)
            body = self._buckets[trail.name].get(key, None).body
        except StoreError as error:
            return str(error)
        return read_log_file(body, self._limit)


def _index_in(content: LogFileContent, line: bytes) -> int | None:
    return next((one.index for one in content.records if bytes(one.line) == line), None)


def _run_of(runs: Sequence[LineRun], number: int) -> tuple[LineRun | None, int]:
    """The run of lines of one log file that a line belongs to, and which line of it it is."""
    before = 0
    for run in runs:
        if number <= before + run.lines:
            return run, number - before
        before += run.lines
    return None, 0


def _where(place: SourcePrefix, log_file: LogFileOrigin) -> str:
    root = place.bucket if "://" in place.bucket else f"s3://{place.bucket}"
    return f"{root}/{key_of(place, log_file.day, log_file.name)}"


def _is_between(minute: int | None, first: int, last: int) -> bool:
    return minute is None or first <= minute <= last


def _any(name: str) -> str:
    return "*" if name == "-" else name
