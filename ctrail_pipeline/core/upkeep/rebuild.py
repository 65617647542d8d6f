"""A new ledger for an output folder whose own is lost, damaged or too old.

The output says which events there are: their identities are taken from its lines, so that the next
sync, which lists and reads everything once more, adds what is missing and doubles nothing. What
only the ledger knew is gone: which log file a line came from, which log files are done, and what
was pruned. The old ledger is kept beside the new one. Where Parquet is written, it is made to hold
what the lines hold (`parquet_repair`).

It is built beside, and takes its place at the end: killed at any moment, it is begun again.
"""

import base64
import json
import os
import re
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final, NamedTuple

from ctrail_pipeline.core.batch.stage import quarantine_identity
from ctrail_pipeline.core.durable import fsync_folder
from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError, OutputError
from ctrail_pipeline.core.ledger.batch_commit import adopt
from ctrail_pipeline.core.ledger.dedup_partition import dedup_partition
from ctrail_pipeline.core.ledger.known_identities import KnownIdentities
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.rows import AdoptedFile
from ctrail_pipeline.core.ledger.segment_building import build_segment
from ctrail_pipeline.core.ledger.segments import LedgerSegments
from ctrail_pipeline.core.log_file.gunzip import Decompressed
from ctrail_pipeline.core.log_file.identity import event_key_of, identity_of
from ctrail_pipeline.core.log_file.records import split
from ctrail_pipeline.core.opening import is_parquet_ours
from ctrail_pipeline.core.output.marker import MARKER, lock_for_rebuild, read_marker, replace_marker
from ctrail_pipeline.core.output.parquet import ParquetRecord, hours_of_date, parquet_folder
from ctrail_pipeline.core.output.staging import STAGING, OutputFolders, Staging
from ctrail_pipeline.core.output_files import Kind, PublishedFile
from ctrail_pipeline.core.settings import Settings

from .parquet_repair import SET_ASIDE, Repaired, RowSums, repair

_EVENTS_FILE: Final = re.compile(
    r"(\d{12}/[a-z0-9-]{1,40}/\d{4}/\d{2}/\d{2}/\d{2})/events_(\d{5,9})\.jsonl"
)
_QUARANTINE_FILE: Final = re.compile(r"(\d{4}/\d{2}/\d{2}|undated)/quarantine_(\d{5,9})\.jsonl")
_PARQUET_FILE: Final = re.compile(
    r"(account=\d{12}/region=[a-z0-9-]{1,40}/date=\d{4}-\d{2}-\d{2})/part-(\d{5,9})\.parquet"
)
_NAMES: Final = {
    Kind.EVENTS: _EVENTS_FILE,
    Kind.QUARANTINE: _QUARANTINE_FILE,
    Kind.PARQUET: _PARQUET_FILE,
}
_PROBLEMS_NAMED: Final = 100
_BYTES_AT_ONCE: Final = 4 * 1024 * 1024
_IDENTITIES_A_BATCH: Final = 100_000


@dataclass
class Rebuilt:
    """What was found in the output."""

    files: int = 0
    events: int = 0
    quarantined: int = 0
    doubled: int = 0
    """Lines that are there twice: not by this program, as far as it can be helped."""
    left_over: int = 0
    """Files of an interrupted compaction that were removed: other files hold all their lines."""
    parquet_repaired: int = 0
    """Dates of an account and region whose Parquet was made to hold their events again."""
    problems: list[str] = field(default_factory=list)
    """The first files that are not ours, and lines that are no event; they stay as they are."""
    problem_count: int = 0

    def note(self, problem: str) -> None:
        """Count a problem, and keep it if it is one of the first."""
        self.problem_count += 1
        if self.problem_count <= _PROBLEMS_NAMED:
            self.problems.append(problem)


def rebuild(
    settings: Settings,
    *,
    force: bool = False,
    observe: Callable[[str], None] = lambda _step: None,
) -> Rebuilt:
    """Build the ledger of an output folder anew.

    `observe` is told each step: adopted, repaired, built, moved, marked, renamed. Raises
    ConfigurationError if there is no output, or (unless `force`) the ledger is sound; LedgerError
    if a run is at work.
    """
    events_dir, state_db = settings.events_dir, settings.state_db
    if not (events_dir / MARKER).exists():
        raise ConfigurationError(f"{events_dir} is no output folder of this program: no {MARKER}")
    if not force:
        _check_need(state_db, events_dir)
    lock = lock_for_rebuild(events_dir)
    folders = OutputFolders.of(settings)
    new = state_db.with_name(f"{state_db.name}.rebuild")
    try:
        kinds = _kinds(new, settings, folders)
        _clear_staging(folders)
        set_aside = partial(_set_aside, state_db)
        result, name, generation = _built(new, settings, folders, kinds, set_aside, observe)
        observe("built")
        _set_aside(state_db)
        observe("moved")
        # Before it has its name: in between there is no ledger, so any run says what to do. The
        # Parquet folder first: killed in between, `_kinds` still knows it.
        if Kind.PARQUET in kinds:
            replace_marker(name, generation, folders.roots[Kind.PARQUET])
        replace_marker(name, generation, events_dir)
        observe("marked")
        new.rename(state_db)
        fsync_folder(state_db.parent)
        observe("renamed")
    finally:
        folders.close()
        lock.close()
    return result


def _built(
    new: Path,
    settings: Settings,
    folders: OutputFolders,
    kinds: Sequence[Kind],
    set_aside: Callable[[], None],
    observe: Callable[[str], None],
) -> tuple[Rebuilt, str, int]:
    """A ledger of the output, once that holds each event once; its name and generation.

    Before the output is changed, the old ledger is set aside: were it still there after a kill, the
    next sync would go on with it, though it does not know of the change.
    """
    repairs = "parquet" in settings.output_formats
    removed, changed = 0, 0
    looked_at: set[str] = set()
    said: list[str] = []
    while True:
        for leftover in _files_of(new):
            leftover.unlink()
        result = Rebuilt(left_over=removed, parquet_repaired=changed)
        sums = RowSums() if repairs or _has_parquet(folders, kinds) else None
        with closing(Ledger(new)) as ledger:
            adopter = _Adopter(ledger, settings.bloom_false_positive, result, observe, sums)
            for kind, path, folder, number in _output_files(folders, kinds, result):
                adopter.take(kind, path, folder, number)
            adopter.adopt()
            name, generation = ledger.uuid, ledger.generation
        differing = sums.differing() if sums else []
        if left_over := _left_over(folders, adopter.doubled_in):
            set_aside()
            folders.remove(left_over)
            removed += len(left_over)
        elif repairs and (dates := [one for one in differing if one not in looked_at]):
            set_aside()
            for done in _repair_parquet(folders, dates):
                changed += done.is_changed
                said += [f"{path}: set aside, it had rows of no event" for path in done.set_aside]
            looked_at.update(dates)
            observe("repaired")
        else:
            break
    if sums and not repairs:
        _note_parquet(sums, folders, result)
    for problem in said:
        result.note(problem)
    return result, name, generation


def _check_need(state_db: Path, events_dir: Path) -> None:
    """Refuse to set a sound ledger aside."""
    if not state_db.exists() or not state_db.stat().st_size:
        return
    try:
        with closing(Ledger(state_db)) as ledger:
            ledger.check()
            name, generation = ledger.uuid, ledger.generation
    except LedgerError:
        return
    of_folder, newest = read_marker(events_dir) or (name, generation)
    if name != of_folder:
        raise ConfigurationError(
            f"{state_db} is sound, and the ledger of another folder than {events_dir}: name this"
            " folder's own, or a new file, in `state_db`"
        )
    if generation >= newest:
        raise ConfigurationError(
            f"{state_db} is the ledger of {events_dir} and sound: there is nothing to rebuild"
        )


def _kinds(new: Path, settings: Settings, folders: OutputFolders) -> list[Kind]:
    """The kinds of output that are this ledger's; Parquet there may be another's."""
    rebuilt = None
    if new.exists():
        with suppress(LedgerError), closing(Ledger(new)) as ledger:
            rebuilt = ledger.uuid
    writes = "parquet" in settings.output_formats
    ours = is_parquet_ours(folders, settings.events_dir, rebuilt, writes=writes)
    return [kind for kind in Kind if kind is not Kind.PARQUET or ours]


def _files_of(ledger: Path) -> list[Path]:
    """A ledger's file and what SQLite keeps beside it."""
    paths = [ledger.with_name(ledger.name + suffix) for suffix in ("", "-wal", "-shm")]
    return [path for path in paths if path.exists()]


def _clear_staging(folders: OutputFolders) -> None:
    """What was being written counts for nothing without the ledger: it is fetched again."""
    folders.refuse_linked_staging()
    for token in sorted(folders.staging_tokens()):
        staging = Staging(folders, token)
        if staging.owner_lives():
            raise LedgerError(
                f"a run is at work in {folders.roots[Kind.EVENTS]}: stop it, then rebuild"
            )
        staging.remove()


def _set_aside(state_db: Path) -> None:
    """Keep what was there, under a name that says so."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = f"{state_db.name}.before-rebuild-{stamp}-{uuid.uuid4().hex[:4]}"
    for path in (*_files_of(state_db), state_db.with_name(f"{state_db.name}.archive")):
        if path.exists():
            path.rename(path.with_name(name + path.name.removeprefix(state_db.name)))
    fsync_folder(state_db.parent)


class _Adopter:
    """Takes output files into a new ledger, a bounded number of identities at a time."""

    def __init__(
        self,
        ledger: Ledger,
        false_positive: float,
        result: Rebuilt,
        observe: Callable[[str], None],
        sums: RowSums | None,
    ) -> None:
        """`sums` are taken of events and of Parquet, where there is any."""
        self._ledger = ledger
        self._known = KnownIdentities(LedgerSegments(ledger))
        self._false_positive = false_positive
        self._result = result
        self._observe = observe
        self._files: list[AdoptedFile] = []
        self._found: dict[str, dict[bytes, bytes]] = {}
        """By dedup partition: event keys by identity."""
        self._found_in: dict[str, set[str]] = {}
        """By dedup partition: the folders of these."""
        self.doubled_in: set[str] = set()
        """Folders in which a line is that is there twice."""
        self._held = 0
        self._sums = sums or RowSums()
        self._takes_sums = sums is not None

    def take(self, kind: Kind, path: Path, folder: str, number: int) -> None:
        """One file: all its lines, and then the file itself."""
        if kind is Kind.PARQUET:
            self._take_parquet(path, folder, number)
            return
        read = _events if kind is Kind.EVENTS else _quarantined
        digest, size, lines = sha256(), 0, 0
        for some in _lines(path):
            text = b"".join(some)
            digest.update(text)
            size += len(text)
            found = read(some, folder)
            for offset, line in enumerate(found):
                if line is None:
                    self._result.note(f"{path}:{lines + offset + 1}: not as it was written")
                else:
                    self._take_line(folder, line.partition, line.identity, line.event_key)
            if kind is Kind.EVENTS and self._takes_sums:
                self._sums.add_lines(_parquet_records(found, folder))
            lines += len(some)
            if self._held >= _IDENTITIES_A_BATCH:
                self.adopt()
        if kind is Kind.EVENTS:
            self._result.events += lines
        else:
            self._result.quarantined += lines
        self._result.files += 1
        published = PublishedFile(len(self._files), kind, folder, number, size)
        self._files.append(AdoptedFile(published, lines, digest.digest()))

    def _take_parquet(self, path: Path, folder: str, number: int) -> None:
        """Its rows are events of the lines once more: they are compared with these only."""
        import polars

        try:
            rows = self._sums.add_file(folder, path)
        except (polars.exceptions.PolarsError, OSError):
            self._result.note(f"{path}: not Parquet as this program writes it; it is left alone")
            return
        with path.open("rb") as file:
            digest = file_digest(file, sha256).digest()
        self._result.files += 1
        published = PublishedFile(
            len(self._files), Kind.PARQUET, folder, number, path.stat().st_size
        )
        self._files.append(AdoptedFile(published, rows, digest))

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
        """Write to the ledger what was taken."""
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
        adopt(self._ledger, uuid.uuid4().hex, self._files, segments)
        self._files.clear()
        self._found.clear()
        self._found_in.clear()
        self._held = 0
        self._observe("adopted")


def _has_parquet(folders: OutputFolders, kinds: Sequence[Kind]) -> bool:
    return Kind.PARQUET in kinds and any(
        folders.roots[Kind.PARQUET].glob("account=*/region=*/date=*/*.parquet")
    )


def _note_parquet(sums: RowSums, folders: OutputFolders, result: Rebuilt) -> None:
    """Parquet is not written any more: say where it is not what the events are, and leave it."""
    for folder in sums.differing():
        surplus = sums.surplus[folder]
        what = "not the rows" if not surplus else f"{abs(surplus):,} rows too "
        what += "" if not surplus else "many" if surplus > 0 else "few"
        where = folders.roots[Kind.PARQUET] / folder
        result.note(
            f"{where}: {what} for the events of this date; with `parquet` in `output_formats`, a"
            " rebuild repairs it"
        )


def _repair_parquet(folders: OutputFolders, dates: Iterable[str]) -> Iterator[Repaired]:
    """Make these folders hold what the lines hold."""
    files: dict[str, list[PublishedFile]] = defaultdict(list)
    for kind, path, folder, number in _output_files(folders, [Kind.PARQUET], Rebuilt()):
        files[folder].append(PublishedFile(0, kind, folder, number, path.stat().st_size))
    for date in dates:
        yield repair(folders, files[date], partial(_lines_of_date, folders, date))


def _lines_of_date(folders: OutputFolders, date: str) -> Iterator[list[ParquetRecord]]:
    """The lines that a folder of Parquet must hold, some at a time."""
    root = folders.roots[Kind.EVENTS]
    day = hours_of_date(date)[0].rpartition("/")[0]
    for path in sorted((root / day).glob("*/*")):
        relative = path.relative_to(root)
        match = _EVENTS_FILE.fullmatch(relative.as_posix())
        is_ours = path.is_file() and path.resolve() == root.resolve() / relative  # behind no link
        if match is not None and is_ours:
            for some in _lines(path):
                yield _parquet_records(_events(some, match[1]), match[1])


def _parquet_records(lines: Iterable["_Line | None"], folder: str) -> list[ParquetRecord]:
    """What the lines of an hour are as rows; nobody knows where in a log file they stood."""
    date = parquet_folder(folder)
    return [ParquetRecord(date, line.time, line.text, 0, None) for line in lines if line]


def _left_over(folders: OutputFolders, doubled_in: Iterable[str]) -> list[PublishedFile]:
    """What an interrupted compaction left in these folders of events and can be spared.

    Before it was decided that the old files go, all of them are there, and the merged ones, whose
    numbers are higher, can be spared; afterwards it is the other way round. If neither leaves every
    line once, somebody else has doubled them: all stays as it is.
    """
    found = []
    for folder in sorted(doubled_in):
        files = []
        for path in sorted((folders.roots[Kind.EVENTS] / folder).glob("events_*.jsonl")):
            match = _EVENTS_FILE.fullmatch(f"{folder}/{path.name}")
            if match:
                lines = [identity_of(line) for some in _lines(path) for line in some]
                files.append((int(match[2]), lines))
        files.sort(reverse=True)
        for ordered in (files, files[::-1]):
            held = Counter(line for _, lines in files for line in lines)
            spared = []
            for number, lines in ordered:
                if all(held[line] > 1 for line in lines):
                    held.subtract(lines)
                    spared.append(PublishedFile(0, Kind.EVENTS, folder, number, 0))
            if held.total() == len(held):
                found += spared
                break
    return found


def _output_files(
    folders: OutputFolders, kinds: Sequence[Kind], result: Rebuilt
) -> Iterator[tuple[Kind, Path, str, int]]:
    """Every output file with its folder and number; what else lies there is a problem."""
    for kind in kinds:
        pattern = _NAMES[kind]
        root = folders.roots[kind]
        for parent, names, file_names in os.walk(root):
            if Path(parent) == root and STAGING in names:
                names.remove(STAGING)
            names.sort()
            for name in sorted(file_names):
                path = Path(parent, name)
                relative = path.relative_to(root).as_posix()
                match = pattern.fullmatch(relative)
                if match is not None and path.is_file() and not path.is_symlink():
                    yield kind, path, match[1], int(match[2])
                elif not relative.startswith(MARKER) and SET_ASIDE not in name:
                    result.note(f"{path}: not a file of this program; it is left alone")


def _lines(path: Path) -> Iterator[list[bytes]]:
    """The lines of a file with their ends, some at a time."""
    try:
        with path.open("rb") as file:
            while some := file.readlines(_BYTES_AT_ONCE):
                yield some
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror}") from error


class _Line(NamedTuple):
    """What a line stands for."""

    partition: str
    """For telling copies."""
    identity: bytes
    event_key: bytes
    time: str
    """eventTime."""
    text: bytes


def _events(lines: list[bytes], _folder: str) -> list[_Line | None]:
    """What the lines of an events file stand for; None: it is not one that we have written."""
    texts = [line.removesuffix(b"\n") for line in lines]
    data = b'{"Records":[' + b",".join(texts) + b"]}"
    content = split(Decompressed(data, None, b""))
    sound = content.damage is None and not content.rejected
    if not sound or len(content.records) != len(lines):
        if len(lines) == 1:
            return [None]
        return [event for line in lines for event in _events([line], _folder)]
    return [
        _Line(
            dedup_partition(record.account, record.region, record.hour),
            identity_of(text),
            event_key_of(record.event_id) if record.event_id else b"",
            record.time,
            text,
        )
        if line.endswith(b"\n")
        else None
        for record, line, text in zip(content.records, lines, texts, strict=True)
    ]


def _quarantined(lines: list[bytes], folder: str) -> list[_Line | None]:
    """What the lines of a quarantine file stand for."""
    return [_quarantined_one(line, folder) for line in lines]


def _quarantined_one(line: bytes, folder: str) -> _Line | None:
    try:
        entry = json.loads(line)
        data = (
            entry["data"].encode()
            if "data" in entry
            else base64.b64decode(entry["data_base64"], validate=True)
        )
        identity = quarantine_identity(entry["bucket"], entry["key"], entry["kind"], data)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return _Line(f"quarantine/{folder}", identity, b"", "", line)
