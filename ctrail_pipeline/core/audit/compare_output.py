"""Comparing the output that is there with what the ledger says was written.

Files are compared by name and size; a deep comparison also compares their bytes. Only files that
are published and not pruned must be there, so runs may be at work meanwhile. A file that the ledger
does not know is a finding if a reader would take it for events (`*.jsonl`, compressed or not, and
`*.parquet`); other unknown files are counted. Nothing is changed.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC
from itertools import groupby
from typing import Final

from ctrail_pipeline.core.batch.lost_files import lost_files
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.output_numbers import holds_output
from ctrail_pipeline.core.ledger.parquet_batches import folders_not_in_parquet
from ctrail_pipeline.core.ledger.queries_lineage import line_runs_of_file, sources_of_batch
from ctrail_pipeline.core.ledger.queries_output import (
    OutputFile,
    lines_of_folder,
    output_files,
    output_folders,
)
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.listing.selection import Selection, trail_finder
from ctrail_pipeline.core.output.contents import Contents, contents_of
from ctrail_pipeline.core.output.interface import Entry, Output
from ctrail_pipeline.core.output.parquet import hours_of_date, parquet_folder
from ctrail_pipeline.core.output_files import FileName, Kind
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.accepted_file import ACCEPTED_FILE

from .compare_report import OutputCounts, Report
from .findings import Finding, FindingKind

log = logging.getLogger(__name__)

_READERS: Final = 4
"""Files that are read side by side: hashing releases the GIL."""
_AHEAD: Final = 64
"""Files whose reading begins before the first of them is looked at."""
_HASHES: Final = "its SHA-256 is {}, and {} was written"
_READ_AS_EVENTS: Final = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


def check_output(
    settings: Settings,
    selection: Selection,
    ledger: Ledger,
    output: Output,
    report: Report,
) -> None:
    """Compare the output files of the selection with the ledger, and note what is found."""
    began = time.monotonic()
    find_trail = trail_finder(settings.trails)
    trails = {
        id_: trail.name
        for source_prefix, id_ in source_ids(ledger).items()
        if (trail := find_trail(source_prefix)) is not None
    }

    def trail_of(ids: Iterable[int]) -> str:
        found = {trails.get(source_id, "") for source_id in ids}
        return found.pop() if len(found) == 1 else ""

    check = _OutputCheck(ledger, output, report.note, trail_of, deep=report.deep)
    days = _days_chosen(selection)
    is_all = is_whole(selection)
    check.check(Kind.EVENTS, lambda folder: _is_chosen(folder, selection, days), whole=is_all)
    if holds_output(ledger, Kind.PARQUET):
        check.check(
            Kind.PARQUET,
            lambda folder: _is_chosen(hours_of_date(folder)[0], selection, days),
            whole=is_all,
        )
    if is_all:
        check.check(Kind.QUARANTINE, lambda _folder: True, whole=True)
    check.note_lost()
    if "parquet" in settings.output_formats:
        _note_not_in_parquet(
            ledger, output, report, check.counts, lambda folder: _is_chosen(folder, selection, days)
        )
    check.counts.seconds = time.monotonic() - began
    report.output = check.counts


def _note_not_in_parquet(
    ledger: Ledger,
    output: Output,
    report: Report,
    counts: OutputCounts,
    chosen: Callable[[str], bool],
) -> None:
    """Note the dates of which events are in the JSONL only."""
    by_folder = (found for found in folders_not_in_parquet(ledger) if chosen(found[0]))
    for date, group in groupby(by_folder, key=lambda found: parquet_folder(found[0])):
        found = [lacking for _, lacking in group]
        events = sum(lacking.events for lacking in found)
        perhaps = sum(lacking.perhaps for lacking in found)
        detail = f"{events} events"
        if perhaps:
            detail += f"; some of {perhaps} may be in Parquet, which the ledger does not know"
        counts.not_in_parquet += events
        where = f"{output.location(Kind.PARQUET)}/{date}"
        report.note(Finding(FindingKind.NOT_IN_PARQUET, where, detail))


def is_whole(selection: Selection) -> bool:
    """Whether a selection leaves out no part of the trails that it chooses."""
    return selection.partitions is None and not (
        selection.start
        or selection.end
        or selection.accounts
        or selection.exclude_accounts
        or selection.regions
        or selection.exclude_regions
    )


class _OutputCheck:
    """One comparison of the output with the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        output: Output,
        note: Callable[[Finding], None],
        trail_of: Callable[[set[int]], str],
        *,
        deep: bool,
    ) -> None:
        """`trail_of` names the trail of source prefixes, by id; "" if they are of several."""
        self._ledger = ledger
        self._output = output
        self._note = note
        self._trail_of = trail_of
        self._deep = deep
        self.counts = OutputCounts()

    def check(self, kind: Kind, chosen: Callable[[str], bool], *, whole: bool) -> None:
        """Compare the chosen folders; `whole` looks for folders that the ledger lacks, too."""
        with ThreadPoolExecutor(_READERS, thread_name_prefix="ctrail-hash") as threads:
            readings: deque[tuple[OutputFile, Future[Contents]]] = deque()
            for folder in output_folders(self._ledger, kind):
                if not chosen(folder):
                    continue
                for file in self._check_folder(kind, folder):
                    reading = threads.submit(contents_of, self._output, file.published)
                    readings.append((file, reading))
                    while len(readings) > _AHEAD:
                        self._compare(*readings.popleft())
            while readings:
                self._compare(*readings.popleft())
        if whole:
            self._look_for_foreign_folders(kind)

    def _check_folder(self, kind: Kind, folder: str) -> Iterator[OutputFile]:
        """Compare the names and sizes of one folder; yield the files that must be read."""
        # Names first: a file that a run publishes meanwhile is in the ledger then, and not foreign.
        entries = self._output.entries(kind, folder)
        files = output_files(self._ledger, kind, folder)
        known = {file.published.name for file in files}
        for name in sorted(entries.keys() - known):
            self._note_unknown(FileName(kind, folder, name))
        own, summed = lines_of_folder(self._ledger, kind, folder)
        if own != summed:
            self.counts.altered += 1
            detail = f"the ledger says {own} lines in all, and {summed} by its files"
            where = f"{self._output.location(kind)}/{folder}"
            self._note(Finding(FindingKind.OUTPUT_ALTERED, where, detail))
        for file in files:
            if not file.is_expected:
                continue
            self.counts.files += 1
            self.counts.bytes += file.size
            if not self._deep and kind is not Kind.PARQUET:
                self.counts.lines += file.lines
            if self._has_its_size(file, entries.get(file.published.name)) and self._deep:
                yield file

    def _has_its_size(self, file: OutputFile, entry: Entry | None) -> bool:
        """Whether a file has its size; `entry` is that of the listing, which may be older."""
        entry = entry or self._output.entry(file.published)
        if entry is None:
            self._note_missing(file)
            return False
        if not entry.is_file:
            self._note_altered(file, "it is no file any more")
            return False
        if entry.size != file.size:
            change = f"{entry.size} bytes, and {file.size} were written"
            self._note_altered(file, change)
            return False
        return True

    def _compare(self, file: OutputFile, reading: "Future[Contents]") -> None:
        try:
            contents = reading.result()
        except FileNotFoundError:
            self._note_missing(file)
            return
        except OSError as error:
            self._note_altered(file, f"it cannot be read: {error.strerror}")
            return
        hashes = _HASHES.format(contents.sha256.hex(), file.sha256.hex())
        if file.kind is Kind.PARQUET:  # its rows repeat lines that are counted already
            if contents.sha256 != file.sha256:
                self._note_altered(file, hashes)
            return
        self.counts.lines += contents.lines
        if contents.damage:  # a rebuild takes a damaged file as it is, so its hash may be right
            is_same = contents.sha256 == file.sha256
            self._note_altered(file, f"{'' if is_same else f'{hashes}; '}{contents.damage}")
            return
        if contents.sha256 == file.sha256 and contents.lines == file.lines:
            return
        lines = f"it has {contents.lines} lines, and {file.lines} were written"
        self._note_altered(file, f"{hashes}; {lines}")

    def note_lost(self) -> None:
        """Note the files that vanished before they were published, whatever is selected."""
        for lost in lost_files(self._ledger, self._output):
            self.counts.missing += 1
            trail = self._trail_of(sources_of_batch(self._ledger, lost.batch))
            self._note(Finding(FindingKind.OUTPUT_MISSING, lost.address, lost.detail, trail))

    def _note_missing(self, file: OutputFile) -> None:
        """Note a missing file, unless it was pruned or merged meanwhile."""
        files = output_files(self._ledger, file.kind, file.folder)
        if any(known.number == file.number and known.is_expected for known in files):
            self.counts.missing += 1
            self._note_file(FindingKind.OUTPUT_MISSING, file, f"it had {file.lines} lines")

    def _note_altered(self, file: OutputFile, detail: str) -> None:
        self.counts.altered += 1
        self._note_file(FindingKind.OUTPUT_ALTERED, file, detail)

    def _note_file(self, kind: FindingKind, file: OutputFile, detail: str) -> None:
        batches = {run.batch for run in line_runs_of_file(self._ledger, file)} or {file.batch}
        ids = {id_ for batch in batches for id_ in sources_of_batch(self._ledger, batch)}
        trail = self._trail_of(ids)
        self._note(Finding(kind, self._output.address_of(file.published), detail, trail))

    def _note_unknown(self, file: FileName) -> None:
        if self._output.entry(file) is None:
            return  # it was merged or pruned since it was listed
        path = self._output.address_of(file)
        if not file.name.endswith(_READ_AS_EVENTS):
            self.counts.others += 1
            log.info("%s is not of this program: left alone", path)
            return
        self.counts.foreign += 1
        detail = "no run of this program has written it"
        self._note(Finding(FindingKind.OUTPUT_FOREIGN, path, detail))

    def _look_for_foreign_folders(self, kind: Kind) -> None:
        for folder, names in self._output.walk(kind):
            if folder.startswith("."):
                continue
            files = [FileName(kind, folder, name) for name in names]
            if not folder:
                files = [f for f in files if not f.name.startswith(".") and f != ACCEPTED_FILE]
            if files and not output_files(self._ledger, kind, folder):
                for file in files:
                    self._note_unknown(file)


def _days_chosen(selection: Selection) -> tuple[str, str]:
    """Return the first and last day of the selection, named as their folders."""
    return (
        "" if selection.start is None else f"{selection.start.astimezone(UTC):%Y/%m/%d}",
        "~" if selection.end is None else f"{selection.end.astimezone(UTC):%Y/%m/%d}",
    )


def _is_chosen(folder: str, selection: Selection, days: tuple[str, str]) -> bool:
    """Whether the selection holds a folder of the output, `account/region/YYYY/MM/DD/HH`."""
    account, region, *date = folder.split("/")
    source_prefix = SourcePrefix("", "", "", account, region)
    return selection.holds(source_prefix) and days[0] <= "/".join(date[:3]) <= days[1]
