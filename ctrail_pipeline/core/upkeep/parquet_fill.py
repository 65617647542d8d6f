"""Filling Parquet (`ctrail parquet`): rows for the events that came before Parquet was switched on.

The ledger says which files of events are not in Parquet (`core.ledger.parquet_batches`). Their
lines become Parquet files, a portion at a time. A portion is a batch like any other
(docs/architecture.md, The commit protocol): the Parquet files are staged. One transaction puts them
into the ledger, and notes in the rows of the files of events that their lines are in Parquet. Then
the Parquet files get their final names. Whatever a killed fill leaves, the next run finishes or
drops. What another run changed meanwhile (it merged, pruned or filled a file) is looked up again.

How lines become rows belongs to `lines_to_parquet`, what to do where the ledger does not know which
lines are in Parquet to `parquet_doubt`.
"""

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Final, NamedTuple

from ctrail_pipeline.core.batch.commit_outcome import (
    abandon,
    commit_took_effect,
    is_published,
    note_generation,
    stale_if_given_up,
)
from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError
from ctrail_pipeline.core.ledger.batches import mark_published, register_batch
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.output_numbers import published_files, rename_output_file
from ctrail_pipeline.core.ledger.parquet_batches import (
    EventsFile,
    commit_fill,
    files_not_in_parquet,
    not_in_parquet,
)
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.rows import InParquet, StaleBatch
from ctrail_pipeline.core.output.interface import Output, Staging
from ctrail_pipeline.core.output.new_files import NewParquetFile
from ctrail_pipeline.core.output.parquet import parquet_folder
from ctrail_pipeline.core.output_files import PublishedFile, StagedFile
from ctrail_pipeline.core.settings import Settings

from .checked_blocks import Altered
from .fill_result import Filled
from .lines_to_parquet import AlteredEvents, Origins
from .opened_output import opened_output
from .parquet_doubt import parquet_of_files

log = logging.getLogger(__name__)

_LINES_A_PORTION: Final = 100_000
"""About how many lines a portion has. A kill costs the work of a portion."""
_FILES_A_PORTION: Final = 2_000
"""About how many files a portion has: while they are noted, nobody else can write to the ledger."""


def fill_parquet(
    settings: Settings,
    *,
    dry_run: bool = False,
    run_id: str = "",
    observe: Callable[[str], None] = lambda _step: None,
) -> Filled:
    """Write all published events that are not in Parquet as Parquet; return what was written.

    `observe` is told each step: registered, staged, committed, marked, linked, published. Raises
    LedgerError or OutputError; ConfigurationError if no Parquet is configured, or if there is no
    ledger.
    """
    if "parquet" not in settings.output_formats:
        raise ConfigurationError(
            '`output_formats` does not name parquet: set it to ["jsonl", "parquet"], then fill'
            " Parquet"
        )
    if not ledger_exists(settings.ledger):
        raise ConfigurationError(f"{settings.ledger}: there is no ledger, so nothing to fill")
    with opened_output(
        settings, observe=observe, recovers=not dry_run, claims_parquet=not dry_run
    ) as (ledger, output):
        if dry_run:
            lacking = not_in_parquet(ledger)
            return Filled(lacking.files, lacking.events)
        fill = _Fill(ledger, output, run_id, observe)
        fill.run()
        return fill.done


class _Portion(NamedTuple):
    """Files of events that become Parquet together."""

    files: Sequence[EventsFile]
    is_in_doubt: bool
    """Whether some of their lines may be in Parquet. Then they are of one date, and all files of
    the date that are in doubt are here."""


class _Fill:
    """One call of `fill_parquet`."""

    def __init__(
        self, ledger: Ledger, output: Output, run_id: str, observe: Callable[[str], None]
    ) -> None:
        self._ledger = ledger
        self._output = output
        self._run_id = run_id
        self._observe = observe
        self._origins = Origins(ledger)
        self._altered: set[str] = set()
        """What was said of files that were found altered once."""
        self._left_alone: set[tuple[int, int]] = set()
        """Files of events that are not filled, by folder and number: they cannot be."""
        self.done = Filled()

    def run(self) -> None:
        """Fill, until nothing is left that can be filled.

        Each pass comes to an end. There is another one only if another run has changed something
        meanwhile, or if a file was found altered.
        """
        to_fill = not_in_parquet(self._ledger).events
        again = True
        while again:
            again = False
            for portion in _portions(self._files()):
                again |= not self._fill(portion)
                log.info("%d of %d events are written as Parquet", self.done.events, to_fill)

    def _files(self) -> Iterator[EventsFile]:
        for file in files_not_in_parquet(self._ledger):
            if (file.folder_id, file.file.number) not in self._left_alone:
                yield file

    def _fill(self, portion: _Portion) -> bool:
        """Take a portion from its registration until its files are published.

        Returns False if the portion was given up, and is to be looked up again.
        """
        token = uuid.uuid4().hex
        batch = register_batch(self._ledger, token, self._run_id, [])
        staging = self._output.staging_of(token)
        try:
            self._observe("registered")
            staging.open()
            with stale_if_given_up(self._ledger, batch):
                staged, misfits = self._stage(staging, portion)
            self._observe("staged")
            published = self._commit(batch, portion.files, staged)
            self._observe("committed")
            note_generation(self._ledger, self._output)
            self._observe("marked")
            self._publish(staging, batch, published)
        except StaleBatch as stale:
            log.info("%d files are looked up again: %s", len(portion.files), stale)
            abandon(self._ledger, batch, staging)
            return False
        except Altered as altered:
            abandon(self._ledger, batch, staging)
            self._note(altered, portion)
            return False
        except BaseException:
            abandon(self._ledger, batch, staging)
            raise
        self.done.files += len(portion.files)
        self.done.events += sum(file.lines for file in staged)
        self.done.parquet_files += len(staged)
        self.done.bytes += sum(file.size for file in staged)
        self.done.misfits += misfits
        return True

    def _stage(self, staging: Staging, portion: _Portion) -> tuple[list[StagedFile], int]:
        """Write a portion's Parquet, a few files at a time; also return the number of misfits."""
        staged: list[StagedFile] = []
        misfits = 0
        for files in parquet_of_files(
            self._ledger,
            self._output,
            self._origins,
            portion.files,
            is_in_doubt=portion.is_in_doubt,
        ):
            staged += staging.write(
                [NewParquetFile(file.folder, file.content, file.rows) for file in files],
                first_part=len(staged),
            )
            misfits += sum(file.misfits for file in files)
        return staged, misfits

    def _commit(
        self, batch: int, files: Sequence[EventsFile], staged: Sequence[StagedFile]
    ) -> list[PublishedFile]:
        try:
            with self._ledger.transaction():
                return commit_fill(self._ledger, batch, files, staged)
        except LedgerError:
            if not commit_took_effect(self._ledger, self._output, [batch]):
                raise
            return published_files(self._ledger, batch)

    def _publish(self, staging: Staging, batch: int, published: Sequence[PublishedFile]) -> None:
        vanished = staging.publish(
            published,
            partial(rename_output_file, self._ledger, batch),
            lambda _: self._observe("linked"),
        )
        if vanished and not is_published(self._ledger, batch):
            raise LedgerError(
                f"batch {batch}: {len(vanished)} staged files vanished before they were published;"
                " the next run makes them again"
            )
        staging.remove()
        with self._ledger.transaction():
            mark_published(self._ledger, [batch])
        self._observe("published")

    def _note(self, altered: Altered, portion: _Portion) -> None:
        """Leave altered files alone, if they are found altered once more.

        A file may be gone because another run has merged or pruned it since it was looked up. Then
        it is not looked up again.
        """
        problem = str(altered)
        if problem not in self._altered:
            self._altered.add(problem)
            return
        log.error("%s", problem)
        self.done.problems.append(problem)
        files = portion.files
        if isinstance(altered, AlteredEvents) and altered.file in files:
            files = [altered.file]
        self._left_alone.update((file.folder_id, file.file.number) for file in files)


def _portions(files: Iterable[EventsFile]) -> Iterator[_Portion]:
    """Divide files, which are in order, into portions."""
    portion: list[EventsFile] = []
    lines = 0
    for _, group in groupby(files, key=lambda file: parquet_folder(file.folder)):
        of_date = list(group)
        if any(file.file.in_parquet is InParquet.SOME for file in of_date):
            yield _Portion(of_date, is_in_doubt=True)
            continue
        for file in of_date:
            portion.append(file)
            lines += file.file.lines
            if lines >= _LINES_A_PORTION or len(portion) >= _FILES_A_PORTION:
                yield _Portion(portion, is_in_doubt=False)
                portion, lines = [], 0
    if portion:
        yield _Portion(portion, is_in_doubt=False)
