"""The engine: source partitions -> new log files -> batches -> ledger and output, with progress.

`sync` is what the Dagster job, the assets and every other front end call; it knows nothing of them.
It returns a summary whatever single log files or trails did, and raises only what stops all work:
a ledger or a disk that fails, a configuration that cannot be right.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from threading import Event
from typing import Final

from ctrail_pipeline.core.batch.commit import BatchResult, Committer, Observer
from ctrail_pipeline.core.batch.content import BatchContent
from ctrail_pipeline.core.batch.cost import BYTES_AS_A_LOG_FILE
from ctrail_pipeline.core.batch.feed import AHEAD, Feed
from ctrail_pipeline.core.batch.listed_ahead import ListedAhead
from ctrail_pipeline.core.batch.opened_output import opened_output
from ctrail_pipeline.core.bucket.permissions import who_reads
from ctrail_pipeline.core.exceptions import CredentialsError
from ctrail_pipeline.core.keys.coverage import Lookback
from ctrail_pipeline.core.keys.key_time import minute_of
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import LedgerLogFiles
from ctrail_pipeline.core.ledger.queries_reports import count_by_state
from ctrail_pipeline.core.ledger.rows import LogFileState, Outcome
from ctrail_pipeline.core.ledger.source_prefixes import register_sources, source_totals
from ctrail_pipeline.core.listing.found_prefixes import (
    FoundPrefix,
    find_prefixes,
    sources_of,
    waiting_prefixes,
)
from ctrail_pipeline.core.listing.problem import Problem, not_listed
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.listing.sources import LogFileRef, Source, Stretch
from ctrail_pipeline.core.listing.walk import Listing
from ctrail_pipeline.core.output.folders import OutputFolders
from ctrail_pipeline.core.process_memory import give_back_large_buffers, rare_collections
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.core.threads import DaemonThreads
from ctrail_pipeline.core.upkeep.cold import move_cold_rows
from ctrail_pipeline.core.upkeep.segment_merging import SegmentMerger

from .processes import bytes_ahead_of, process_count, share_of
from .progress import Progress, ProgressReport, TrailProgress
from .summary import PartitionCounts, Summary
from .worker_pool import WORTHWHILE, Workers

log = logging.getLogger(__name__)

_TICK_SECONDS: Final = 0.2
"""How long to wait for a server before looking whether the run is to stop."""
_AHEAD_UNTIL_UP: Final = 4
"""While worker processes may come, little is begun that they would have to wait for."""
_MOST_COUNTED: Final = 10_000
"""Hours or names that a summary counts one by one: memory must not depend on the data."""
_PROBLEMS_LOGGED: Final = 20
"""Problems that are logged as they happen; the summary names the others too."""


def sync(
    settings: Settings,
    selection: Selection | None = None,
    *,
    run_id: str = "",
    stop: Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    observe: Observer = lambda _step: None,
) -> Summary:
    """Bring in everything that is new, newest first; exactly once, whatever happened before.

    `stop` set: the batch in hand is dropped or finished, what is committed stays, and the summary
    says `interrupted`. `observe` is told each step of the commit protocol. Raises LedgerError,
    OutputError or ConfigurationError; what was committed before stays.
    """
    give_back_large_buffers()
    selection = selection or Selection()
    settings = selection.narrow(settings)
    writes_parquet = "parquet" in settings.output_formats
    with opened_output(settings, observe=observe, claims_parquet=writes_parquet) as output:
        run = _Run(settings, selection, *output, run_id, stop or Event(), observe)
        try:
            with rare_collections():
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
        folders: OutputFolders,
        run_id: str,
        stop: Event,
        observe: Observer,
    ) -> None:
        self._settings = settings
        self._selection = selection
        self._ledger = ledger
        self._stop = stop
        self._committer = Committer(ledger, folders, settings, run_id, observe)
        self._merger = SegmentMerger(ledger, settings.bloom_false_positive)
        trails = {trail.name: TrailProgress() for trail in settings.trails}
        self._summary = Summary(Progress(trails=trails), tuple(trails))
        self._finished: list[Stretch] = []
        self._unread: dict[str, Problem] = {}
        """By trail: that its credentials failed in mid-run."""
        self._unread_count: Counter[str] = Counter()
        self._settled_bytes = 0
        self._processes = process_count(settings)
        self._workers: Workers | None = None
        self._is_handed_over = False

    def execute(self, on_progress: Callable[[Progress], None]) -> Summary:
        for trails, who in who_reads(self._settings.trails):
            of = "" if len(trails) == len(self._settings.trails) else _names(trails)
            log.info("reading%s as %s", of, who)
        sources = self._sources()
        if self._selection.partitions is not None:  # of what was named, something is to be said
            for source in sources:
                self._counts_of(source).source_ids.add(source.id)
        listing = Listing(
            sources,
            Lookback(self._settings.lookback_hours, self._settings.horizon_days),
            walks=not self._selection.listed,
            now=minute_of(datetime.now(UTC)),
            hold=self._settings.list_batch_size,
        )
        listed = ListedAhead(self._listed(listing))
        self._report = ProgressReport(
            on_progress, partial(self._progress, listing, listed), self._settings
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
        for source in sources:
            if isinstance(source.failure, CredentialsError):
                self._note_unread(source, str(source.failure))
            elif source.failure:
                self._note(not_listed(source))
        self._say_unread()
        complete = not self._stop.is_set()
        # A run that was asked for a part of the time has not looked back over the whole horizon.
        has_window = self._selection.start is not None or self._selection.end is not None
        looked_back = not has_window and not self._selection.listed
        deep = [s.id for s in sources if s.deep and not s.failure and looked_back]
        self._committer.finish(self._take_finished(listing), deep if complete else [])
        self._merger.merge()
        if complete:
            move_cold_rows(self._ledger, self._settings.horizon_days)
        self._summary.interrupted = not complete
        self._summary.standing = count_by_state(self._ledger)
        self._add_totals()
        return self._summary

    def let_go(self) -> None:
        """Hold nothing any more: what reports on a run refers to it, and it to them."""
        vars(self).clear()

    def _sources(self) -> list[Source]:
        places = self._places()
        register_sources(self._ledger, [place.source_prefix for place in places])
        return sources_of(places, self._settings, self._ledger)

    def _places(self) -> list[FoundPrefix]:
        """What there is; nothing if the run is stopped while a server keeps us waiting."""
        with DaemonThreads(1, "ctrail-places") as thread:
            find = waiting_prefixes if self._selection.listed else find_prefixes
            finding = thread.submit(find, self._settings, self._selection, self._note)
            while not wait([finding], timeout=_TICK_SECONDS).done:
                if self._stop.is_set():
                    return []
        return finding.result()

    def _listed(self, listing: Listing) -> Iterator[list[LogFileRef]]:
        """The listing with a ledger connection of its own: it runs in another thread."""
        reader = Ledger(self._settings.state_db)
        try:
            yield from listing.log_files(LedgerLogFiles(reader))
        finally:
            reader.close()

    def _process(self, listing: Listing, listed: ListedAhead) -> None:
        """Gather fetched log files into batches and commit them, until there are no more.

        Or until worker processes, which are started if so many wait that it is worth it, are up.
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
                    self._count_unread(fetched.ref, fetched.reason or "")
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
        """Start worker processes once there is enough to do; leave them the rest when they are up.

        Until then this process goes on: they take a third of a second.
        """
        if self._workers is None:
            if self._is_much_left(listing):
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
            self._count_unread,
        )

    def _is_much_left(self, listing: Listing) -> bool:
        """Whether there is enough to do for worker processes."""
        log_files = listing.counts.log_files - self._summary.progress.log_files
        cost = log_files + (listing.counts.bytes - self._settled_bytes) // BYTES_AS_A_LOG_FILE
        return self._processes > 1 and log_files > 1 and cost >= WORTHWHILE

    def _process_in_workers(self, workers: Workers, listed: ListedAhead) -> None:
        """Have worker processes do what is left."""
        for result in workers.results(listed):
            if result is not None:
                self._settle(result)
            elif self._stop.is_set():
                return
            self._report.if_due()

    def _commit(self, batch: BatchContent, listing: Listing) -> BatchContent:
        """Commit a batch; returns the next, empty one."""
        self._settle(self._committer.commit(batch, self._take_finished(listing)))
        return BatchContent()

    def _settle(self, result: BatchResult) -> None:
        """Count what a batch brought."""
        self._merger.after_batch()
        self._summary.progress.bytes += result.bytes_in
        self._summary.output_files += result.files
        self._summary.bytes_out += result.bytes_out
        self._summary.misfits += result.misfits
        _add_bounded(self._summary.events_by_hour, result.events_by_hour)
        _add_bounded(self._summary.events_by_name, result.events_by_name)
        for ref, outcome in result.settled:
            self._summary.progress.log_files += 1
            self._summary.progress.trails[ref.source.trail].log_files += 1
            self._settled_bytes += ref.size
            if outcome is not None:
                self._count(ref, outcome)
            if ref.stretch is not None:
                ref.stretch.settled += 1
                if ref.stretch.is_done:
                    self._finished.append(ref.stretch)

    def _count(self, ref: LogFileRef, outcome: Outcome) -> None:
        progress = self._summary.progress
        counts = self._counts_of(ref.source)
        new = outcome.records - outcome.duplicates
        counts.log_files += 1
        counts.events += new
        counts.duplicates += outcome.duplicates
        counts.quarantined += outcome.quarantined
        counts.conflicts += outcome.conflicts
        counts.bytes_out += outcome.bytes_out
        counts.bytes_in += outcome.size
        counts.source_ids.add(outcome.source_id)
        if outcome.times is not None:
            counts.note_times(*outcome.times)
        progress.events += new
        progress.trails[ref.source.trail].events += new
        progress.duplicates += outcome.duplicates
        if outcome.state is LogFileState.COMMITTED:
            return
        progress.failed += 1
        if outcome.state is LogFileState.DAMAGED:
            counts.damaged += 1
        else:
            counts.failed += 1
        where = f"{ref.source.bucket.location}/{ref.key}"
        state, reason = outcome.state.name.lower(), outcome.reason or ""
        self._note(Problem(ref.source.trail, where, state, reason, outcome.may_pass))

    def _counts_of(self, source: Source) -> PartitionCounts:
        key = (source.trail, source.source_prefix.partition_key)
        return self._summary.partitions.setdefault(key, PartitionCounts())

    def _count_unread(self, ref: LogFileRef, reason: str) -> None:
        self._note_unread(ref.source, reason)
        self._unread_count[ref.source.trail] += 1

    def _note_unread(self, source: Source, reason: str) -> None:
        """The trail's credentials failed: that is one problem, however many log files it costs.

        They stay new (or due), and the stretch of key time that they are in stays uncovered.
        """
        problem = Problem(source.trail, source.bucket.location, "not readable", reason, True)
        self._unread.setdefault(source.trail, problem)

    def _say_unread(self) -> None:
        for trail, problem in self._unread.items():
            left = f"; {self._unread_count[trail]} listed log files are left to the next run"
            self._note(replace(problem, reason=problem.reason + left))

    def _add_totals(self) -> None:
        totals = source_totals(self._ledger)
        for counts in self._summary.partitions.values():
            of_sources = [totals[source_id] for source_id in counts.source_ids]
            counts.total_events = sum(one.events for one in of_sources)
            counts.newest_event = max((one.last_event or "" for one in of_sources), default="")
            counts.reported_at = max((one.reported_at for one in of_sources), default=0)

    def _take_finished(self, listing: Listing) -> list[Stretch]:
        finished, self._finished = self._finished, []
        return finished + listing.take_finished()

    def _note(self, problem: Problem) -> None:
        # A key may hold line feeds and worse: whoever writes to the bucket must not write our log.
        problem = replace(
            problem, where=_printable(problem.where), reason=_printable(problem.reason)
        )
        self._summary.note(problem)
        if problem.trail in self._summary.progress.trails:
            self._summary.progress.trails[problem.trail].problems += 1
        level = (
            logging.WARNING if self._summary.problem_count <= _PROBLEMS_LOGGED else logging.DEBUG
        )
        log.log(level, "%s: %s: %s", problem.where, problem.state, problem.reason)

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


def _names(trails: Sequence[Trail]) -> str:
    return f" {', '.join(trail.name for trail in trails)}"


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _add_bounded(total: Counter[str], more: Counter[str]) -> None:
    for key, number in more.items():
        total[key if key in total or len(total) < _MOST_COUNTED else "other"] += number
