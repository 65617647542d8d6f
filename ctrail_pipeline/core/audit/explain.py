"""Where an event came from: its line, the log file, and the run that committed it.

The way from a line to its log file is the lineage that the ledger keeps. Log files are fetched only
if somebody asks for it (`explain_copies`). Finding lines belongs to `explain_lines`. Nothing is
changed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError
from ctrail_pipeline.core.keys.log_file_key import address_of, key_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.accepted import Acceptance, acceptance_of
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.queries_lineage import (
    BatchOrigin,
    LogFileOrigin,
    batch_origin,
    line_runs_of_file,
)
from ctrail_pipeline.core.ledger.queries_output import OutputFile
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.line_runs import LineRun
from ctrail_pipeline.core.listing.selection import trail_finder
from ctrail_pipeline.core.log_file.record import Record
from ctrail_pipeline.core.matching_ledger import check_belongs
from ctrail_pipeline.core.output.contents import contents_of
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.settings import Settings

from .explain_copies import Copies, LogFileFetch
from .explain_lines import Line, LineSearch
from .sought import Sought, record_of

_BATCHES_KEPT: Final = 16


@dataclass(frozen=True)
class Explained:
    """A line, and where it came from."""

    path: str
    line: Line
    record: Record | None
    """None for a line of quarantine, or a line that was altered since."""
    is_as_written: bool
    """Whether the file has the SHA-256 that was written: else its lines may be other ones."""
    source_prefix: SourcePrefix
    trail: str
    """The trail's name; "" if the trail is no longer configured."""
    log_file: LogFileOrigin
    batch: BatchOrigin
    new_line: int
    """The line's number, from 1, among the lines that its log file added to this file."""
    new_lines: int
    """How many lines the log file added to this file, one after the other."""
    accepted: Acceptance | None = None
    """Who settled this version of the log file as it is, if somebody did."""
    digest: str | None = None
    """What signed digests say of the log file; None where digests were not checked."""
    copies: Copies = field(default_factory=lambda: Copies(0))
    index: int | None = None
    """Position in the log file's `Records`, from 0; None if the log file was not fetched."""
    note: str = ""
    """Why the log file could not be fetched, or that the bucket holds another version by now."""

    @property
    def key(self) -> str:
        """The log file's key."""
        return key_of(self.source_prefix, self.log_file.day, self.log_file.name)

    @property
    def where(self) -> str:
        """The log file's address."""
        return address_of(self.source_prefix, self.log_file.day, self.log_file.name)


@contextmanager
def explainer(
    settings: Settings,
    digest_of: Callable[[SourcePrefix, LogFileOrigin], str | None] = lambda _prefix, _file: None,
    *,
    fetch: bool = False,
) -> Iterator["Explainer"]:
    """Open the ledger for explaining lines. `digest_of` says what digests say of a log file.

    Raises ConfigurationError if there is no ledger, LedgerError if it cannot be trusted or read.
    """
    if not ledger_exists(settings.ledger):
        raise ConfigurationError(f"{settings.ledger}: there is no ledger, so nothing to explain")
    with closing(Ledger(settings.ledger)) as ledger:
        output = open_output(settings)
        check_belongs(ledger, output)
        yield Explainer(settings, ledger, output, digest_of, fetch=fetch)


class Explainer:
    """Finds lines and explains them."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        output: Output,
        digest_of: Callable[[SourcePrefix, LogFileOrigin], str | None],
        *,
        fetch: bool,
    ) -> None:
        self._ledger = ledger
        self._output = output
        self._search = LineSearch(ledger, output)
        self._digest_of = digest_of
        self._source_prefixes = {id_: prefix for prefix, id_ in source_ids(ledger).items()}
        self._fetch = LogFileFetch(settings, ledger, self._source_prefixes, fetch=fetch)
        self._trail_of = trail_finder(settings.trails)
        self._batch = lru_cache(_BATCHES_KEPT)(lambda batch: batch_origin(ledger, batch))
        self._as_written = lru_cache(_BATCHES_KEPT)(self._is_as_written)

    def lines(self, sought: Sought) -> Iterator[Line]:
        """Yield the lines that fit, hour by hour."""
        return self._search.lines(sought)

    def line_at(self, text: str) -> Line:
        """Return the line that `…/events_00001.jsonl:17` names. Raises ConfigurationError."""
        return self._search.line_at(text)

    def explain(self, line: Line) -> Explained:
        """Return where a line came from. Raises LedgerError if the ledger has lost that."""
        file = line.file
        run, new_line = _run_of(line_runs_of_file(self._ledger, file), line.number)
        batch = self._batch(file.batch if run is None else run.batch)
        path = self._output.address_of(file.published)
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
        prefix = self._source_prefixes[log_file.source_id]
        trail = self._trail_of(prefix)
        record = record_of(line.data) if file.kind is Kind.EVENTS else None
        index, note = self._fetch.index_of(prefix, log_file, line.data) if record else (None, "")
        copies = self._fetch.copies_of(prefix, log_file, record, line.data) if record else Copies(0)
        return Explained(
            path=path,
            line=line,
            record=record,
            is_as_written=self._as_written(file),
            source_prefix=prefix,
            trail="" if trail is None else trail.name,
            log_file=log_file,
            batch=batch,
            new_line=new_line,
            new_lines=run.lines,
            accepted=acceptance_of(self._ledger, log_file.row, log_file.etag),
            digest=self._digest_of(prefix, log_file),
            copies=copies,
            index=index,
            note=note,
        )

    def _is_as_written(self, file: OutputFile) -> bool:
        try:
            return contents_of(self._output, file.published).sha256 == file.sha256
        except OSError:
            return False


def _run_of(runs: Sequence[LineRun], number: int) -> tuple[LineRun | None, int]:
    """Return the line run that a line belongs to, and the line's number in that run."""
    before = 0
    for run in runs:
        if number <= before + run.lines:
            return run, number - before
        before += run.lines
    return None, 0
