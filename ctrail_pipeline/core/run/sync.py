"""One run: list new log files, process them in batches, commit them, and say what was done.

`sync` is what the Dagster jobs, the assets and the command line call. It knows nothing of them. It
returns a summary whatever single log files or trails did, and raises only what stops all work: a
ledger or a disk that fails, a configuration that cannot be right. Not here: the steps themselves
(`core.listing`, `core.batch`), or worker processes (`worker_pool`).
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from datetime import UTC, datetime
from functools import partial
from threading import Event
from typing import Final

from ctrail_pipeline.core.batch.commit import BatchResult, Committer, Observer
from ctrail_pipeline.core.batch.content import BatchContent
from ctrail_pipeline.core.batch.cost import BYTES_AS_A_LOG_FILE
from ctrail_pipeline.core.batch.feed import AHEAD, Feed
from ctrail_pipeline.core.batch.listed_ahead import ListedAhead
from ctrail_pipeline.core.batch.lost_files import lost_files
from ctrail_pipeline.core.bucket.permissions import readers
from ctrail_pipeline.core.bucket.prices import DOLLARS_A_LIST
from ctrail_pipeline.core.exceptions import CredentialsError
from ctrail_pipeline.core.keys.coverage import Lookback
from ctrail_pipeline.core.keys.minutes import minute_of
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import LedgerLogFiles, waiting_by_source
from ctrail_pipeline.core.ledger.queries_open import TriesOfRuns
from ctrail_pipeline.core.ledger.source_prefixes import (
    note_listings,
    note_missed,
    register_sources,
    source_ids,
)
from ctrail_pipeline.core.listing.folder_walk import Listing
from ctrail_pipeline.core.listing.found_prefixes import (
    FoundPrefix,
    FoundPrefixes,
    find_prefixes,
    partition_count,
    remembered_prefixes,
    sources_of,
    vanished_prefixes,
    waiting_prefixes,
)
from ctrail_pipeline.core.listing.left_aside import left_aside_by_trail, note_discovered
from ctrail_pipeline.core.listing.notification_health import NotificationHealth
from ctrail_pipeline.core.listing.notification_intake import queues_of, take_notifications
from ctrail_pipeline.core.listing.problem import Problem, not_listed, without_address
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.listing.sources import LogFileRef, Source, Stretch
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.process_memory import give_back_large_buffers, rare_collections
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.threads import DaemonThreads
from ctrail_pipeline.core.upkeep.cold import move_cold_rows
from ctrail_pipeline.core.upkeep.opened_output import opened_output
from ctrail_pipeline.core.upkeep.segment_merging import SegmentMerger

from .open_log_files import SelectedLogFiles
from .processes import bytes_ahead_of, process_count, share_of
from .progress import Progress, ProgressReport, TrailProgress
from .reason_groups import ReasonGroups
from .summary import Summary
from .unread_trails import UnreadTrails
from .worker_pool import WORTHWHILE, Workers

log = logging.getLogger(__name__)

_TICK_SECONDS: Final = 0.2
"""How long to wait for a server before looking whether the run is to stop."""
_NOTIFICATIONS_SECONDS: Final = 600.0
"""How long a run takes notifications at most. What is left is for the next run, and for listing."""
_AHEAD_UNTIL_UP: Final = 4
"""While worker processes may come, little is begun that they would have to wait for."""
_PROBLEMS_LOGGED: Final = 20
"""Problems that are logged as they happen. The summary names the others, too."""


def sync(
    settings: Settings,
    selection: Selection | None = None,
    *,
    run_id: str = "",
    earlier_tries: TriesOfRuns | None = None,
    tries_failed: bool = False,
    stop: Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    observe: Observer = lambda _step: None,
) -> Summary:
    """Bring in everything that is new, newest first: exactly once, whatever happened before.

    What waits in the queues of the selected trails is taken first, whichever trails it is about.
    Log files that failed before are tried again at their next visit; with `tries_failed` they are
    tried now. What `earlier_tries` of this run failed at is tried now, too.

    When `stop` is set, the batch in hand is dropped or finished, what is committed stays, and the
    summary says `interrupted`. `observe` is told each step of the commit protocol. Raises
    LedgerError, OutputError or ConfigurationError; what was committed before stays.
    """
    give_back_large_buffers()
    selection = selection or Selection()
    all_trails, settings = settings, selection.narrow(settings)
    writes_parquet = "parquet" in settings.output_formats
    with opened_output(all_trails, observe=observe, claims_parquet=writes_parquet) as opened:
        ledger, output = opened
        output.probe()
        if not selection.listed:
            queues = queues_of(settings.trails)
            take_notifications(all_trails, queues, _NOTIFICATIONS_SECONDS, stop)
        run = _Run(settings, selection, ledger, output, run_id, stop or Event(), observe)
        try:
            with rare_collections():
                run.visit_now(earlier_tries, tries_failed=tries_failed)
                return run.execute(on_progress or (lambda progress: log.info("%s", progress)))
        finally:
            run.let_go()


class _Run:
    """One call of `sync`, once the ledger is open and clean."""

    def __init__(
        self,
        settings: Settings,
        selection: Selection,
        ledger: Ledger,
        output: Output,
        run_id: str,
        stop: Event,
        observe: Observer,
    ) -> None:
        self._settings = settings
        self._selection = selection
        self._ledger = ledger
        self._output = output
        self._selected = SelectedLogFiles(ledger, settings, selection)
        self._tries = TriesOfRuns((run_id,), 1)
        self._stop = stop
        self._committer = Committer(ledger, output, settings, run_id, observe)
        self._merger = SegmentMerger(ledger, settings.bloom_false_positive)
        trails = {trail.name: TrailProgress() for trail in settings.trails}
        self._summary = Summary(Progress(trails=trails), tuple(trails))
        self._finished: list[Stretch] = []
        self._health = NotificationHealth(settings, ledger, time.time())
        self._missed: Counter[int] = Counter()
        self._unread = UnreadTrails()
        self._reasons = ReasonGroups()
        self._began = 0
        self._settled_bytes = 0
        self._processes = process_count(settings)
        self._workers: Workers | None = None
        self._is_handed_over = False

    def visit_now(self, earlier_tries: TriesOfRuns | None, *, tries_failed: bool) -> None:
        """Have log files visited by this run that are due later, as `sync` says."""
        now = int(time.time())
        if tries_failed:
            self._selected.visit_failed(now)
        if earlier_tries is not None:
            self._selected.visit_again(earlier_tries, now)
            self._tries = earlier_tries.with_one_more(*self._tries.run_ids)

    def execute(self, on_progress: Callable[[Progress], None]) -> Summary:
        self._log_who_reads()
        sources = self._sources()
        if self._selection.partitions is not None:
            # Whoever names accounts and regions is told of each, even if there is nothing new.
            for source in sources:
                self._summary.counts_of(source).source_ids.add(source.id)
        listing = Listing(
            sources,
            Lookback(self._settings.lookback_hours, self._settings.horizon_days),
            walks=not self._selection.listed,
            now=minute_of(datetime.now(UTC)),
            hold=self._settings.list_batch_size,
        )
        self._began = listing.due_at
        listed = ListedAhead(self._listed(listing))
        self._report = ProgressReport(
            on_progress,
            partial(self._progress, listing, listed),
            self._settings.progress_interval,
        )
        try:
            self._process(listing, listed)
            if self._workers is not None and not self._stop.is_set():
                self._process_in_workers(self._workers, listed)
        finally:
            listed.close()
            if self._workers is not None:
                self._workers.close()
        self._report.now()
        self._note_unlisted(sources)
        self._finish(listing, is_complete=not self._stop.is_set())
        return self._summary

    def let_go(self) -> None:
        """Hold nothing any more: the run and its progress report refer to each other."""
        vars(self).clear()

    def _log_who_reads(self) -> None:
        for trails, reader in readers(self._settings.trails):
            names = ", ".join(trail.name for trail in trails)
            of_trails = "" if len(trails) == len(self._settings.trails) else f" {names}"
            log.info("reading%s as %s", of_trails, reader)

    def _sources(self) -> list[Source]:
        found = self._found_prefixes()
        selected = found.selected
        if not self._selection.listed:
            selected += self._vanished_with_visits(selected)
        register_sources(self._ledger, found.configured)
        self._summary.not_yet = found.not_yet
        for trail in self._settings.trails:
            if trail.name in found.discoveries:
                note_discovered(self._ledger, trail, found.discoveries[trail.name])
        return sources_of(selected, self._settings, self._ledger)

    def _vanished_with_visits(self, found_prefixes: Sequence[FoundPrefix]) -> list[FoundPrefix]:
        """Return the source prefixes that are not there any more, of which log files are due.

        Else these log files would stand open as failed for ever.
        """
        vanished = vanished_prefixes(found_prefixes, self._settings, self._selection, self._ledger)
        if not vanished:
            return []
        ids, due = source_ids(self._ledger), waiting_by_source(self._ledger, int(time.time()))
        return [found for found in vanished if ids[found.source_prefix] in due]

    def _found_prefixes(self) -> FoundPrefixes:
        """Find the source prefixes; none, if the run is stopped while a server keeps it waiting."""
        with DaemonThreads(1, "ctrail-find") as thread:
            if self._selection.listed:
                finding = thread.submit(
                    waiting_prefixes, self._settings, self._selection, self._note
                )
            else:
                finding = thread.submit(
                    find_prefixes,
                    self._settings,
                    self._selection,
                    self._note,
                    remembered_prefixes(self._settings, self._ledger),
                )
            while not wait([finding], timeout=_TICK_SECONDS).done:
                if self._stop.is_set():
                    return FoundPrefixes()
        return finding.result()

    def _listed(self, listing: Listing) -> Iterator[list[LogFileRef]]:
        """The listing, with a ledger connection of its own, since it runs in another thread."""
        reader = Ledger(self._settings.ledger)
        try:
            yield from listing.log_files(LedgerLogFiles(reader))
        finally:
            reader.close()

    def _process(self, listing: Listing, listed: ListedAhead) -> None:
        """Gather fetched log files into batches and commit them, until there are no more.

        If many log files wait, worker processes are started. This process then stops when they are
        up.
        """
        batch = BatchContent()
        settings = share_of(self._settings, self._processes)
        flush_seconds = min(settings.jsonl_flush_interval, settings.state_save_interval)
        ahead = AHEAD if self._processes == 1 else _AHEAD_UNTIL_UP
        feed = Feed(listed, settings, bytes_ahead_of(self._processes), ahead)
        try:
            for fetched in feed.results():
                if self._stop.is_set():
                    return
                self._hand_over(listing, feed)
                if fetched is not None and fetched.is_unread:
                    self._unread.note_log_file(fetched.ref, fetched.reason or "")
                elif fetched is not None:
                    if not batch.has_room(fetched, settings):
                        batch = self._commit(batch, listing)
                    batch.add(fetched)
                    del fetched
                if batch.is_full(settings) or (batch.log_files and batch.age > flush_seconds):
                    batch = self._commit(batch, listing)
                self._report.if_due()
        finally:
            feed.close()
        if batch.log_files:
            self._commit(batch, listing)

    def _hand_over(self, listing: Listing, feed: Feed) -> None:
        """Start worker processes once there is enough to do, and hand over when they are up.

        Until then this process goes on, since they take a third of a second to start.
        """
        if self._workers is None:
            if self._is_much_pending(listing):
                self._workers = self._start_workers(listing)
        elif not self._is_handed_over and self._workers.are_up():
            self._is_handed_over = True
            self._workers.hand_out(feed.take_no_more())

    def _start_workers(self, listing: Listing) -> Workers:
        return Workers(
            self._settings,
            self._committer,
            self._processes,
            partial(self._take_finished, listing),
            self._unread.note_log_file,
        )

    def _is_much_pending(self, listing: Listing) -> bool:
        """Whether there is enough to do for worker processes."""
        log_files = listing.counts.log_files - self._summary.progress.log_files
        cost = log_files + (listing.counts.bytes - self._settled_bytes) // BYTES_AS_A_LOG_FILE
        return self._processes > 1 and log_files > 1 and cost >= WORTHWHILE

    def _process_in_workers(self, workers: Workers, listed: ListedAhead) -> None:
        """Have worker processes do what is pending."""
        for result in workers.results(listed):
            if result is not None:
                self._settle(result)
            elif self._stop.is_set():
                return
            self._report.if_due()

    def _commit(self, batch: BatchContent, listing: Listing) -> BatchContent:
        """Commit a batch, and return the next, empty one."""
        for result in self._committer.commit(batch, self._take_finished(listing)):
            self._settle(result)
        return BatchContent()

    def _settle(self, result: BatchResult) -> None:
        """Count what a batch brought, and collect the stretches that are now done."""
        self._merger.after_batch()
        self._summary.count_batch(result)
        for ref, outcome in result.settled:
            self._settled_bytes += ref.size
            problem = self._summary.count_log_file(ref, outcome)
            if problem is not None:
                self._note(problem)
            if ref.stretch is not None:
                self._missed.update(self._health.missed([ref]))
                ref.stretch.settled += 1
                if ref.stretch.is_done:
                    self._finished.append(ref.stretch)

    def _take_finished(self, listing: Listing) -> list[Stretch]:
        finished, self._finished = self._finished, []
        return finished + listing.take_finished()

    def _note_unlisted(self, sources: Sequence[Source]) -> None:
        """Note the source prefixes whose listing failed, and the trails whose credentials did."""
        for source in sources:
            if isinstance(source.failure, CredentialsError):
                self._unread.note_source(source, str(source.failure))
            elif source.failure:
                self._note(not_listed(source))
        for problem in self._unread.problems():
            self._note(problem)

    def _finish(self, listing: Listing, *, is_complete: bool) -> None:
        """Commit what was listed as covered, tidy the ledger, and complete the summary."""
        # A run that was asked for a part of the time has not looked back over the whole horizon.
        has_window = self._selection.start is not None or self._selection.end is not None
        looked_back = is_complete and not has_window and not self._selection.listed
        deep = [
            source.id
            for source in listing.sources
            if source.deep and not source.failure and looked_back
        ]
        self._committer.finish(self._take_finished(listing), deep)
        self._note_listings(
            [
                source.id
                for source in listing.sources
                if looked_back and self._health.works(source.trail)
                if not (source.rests or source.failure)
            ]
        )
        self._log_listed_once_more(listing)
        self._merger.merge()
        if is_complete:
            move_cold_rows(self._ledger, self._settings.horizon_days)
        self._summary.interrupted = not is_complete
        self._note_open()
        for lost in lost_files(self._ledger, self._output):  # the recovery has logged them
            self._summary.note(Problem("", lost.address, "not published", lost.detail))
        self._summary.left_aside = left_aside_by_trail(
            self._settings, self._selection, self._ledger
        )
        self._summary.add_totals(self._ledger)

    def _note_listings(self, listed: Sequence[int]) -> None:
        """Note what was listed of trails whose queue works, and what no message had named."""
        if listed or self._missed:
            now = int(time.time())
            with self._ledger.transaction():
                note_listings(self._ledger, listed, now)
                note_missed(self._ledger, self._missed, now)

    def _log_listed_once_more(self, listing: Listing) -> None:
        """Say what an upgrade cost: more names are log files now, so all is listed once more."""
        again = [source for source in listing.sources if source.formerly_covered]
        requests = sum(source.requests for source in again)
        if requests:
            log.info(
                "%d accounts and regions were listed once more, since an older version left log"
                " files of some names aside: %d LIST requests, about $%.4f",
                partition_count(source.source_prefix for source in again),
                requests,
                requests * DOLLARS_A_LIST,
            )

    def _note_open(self) -> None:
        """Ask the ledger what stands open, and what of this the run answers for."""
        self._summary.open_log_files = self._selected.open(self._began)
        self._summary.answers_for = (
            self._selected.open_of_tries(self._tries, self._began)
            if self._selection.listed
            else self._summary.open_log_files
        )
        self._summary.archived = self._selected.archived()
        for group in self._reasons:
            if group.log_files > 1:
                log.warning(
                    "trail %s: %d log files %s: %s",
                    group.trail,
                    group.log_files,
                    group.state,
                    group.reason,
                )

    def _note(self, problem: Problem) -> None:
        """Note a problem, and log it; of log files with the same problem the first is logged."""
        is_first = not problem.is_of_log_file or self._reasons.add(
            problem.trail, problem.state, problem.where, problem.reason
        )
        problem = problem.printable
        self._summary.note(problem)
        is_logged = is_first and self._summary.problem_count <= _PROBLEMS_LOGGED
        level = logging.WARNING if is_logged else logging.DEBUG
        reason = without_address(problem.reason, problem.where)
        log.log(level, "%s: %s: %s", problem.where, problem.state, reason)

    def _progress(self, listing: Listing, listed: ListedAhead) -> Progress:
        progress = self._summary.progress
        progress.listed = listing.counts.log_files
        progress.listing_done = listed.done
        found = Counter(dict.fromkeys(progress.trails, 0))
        for source in listing.sources:
            found[source.trail] += source.found
        for name, count in found.items():
            progress.trails[name].listed = count
        return progress
