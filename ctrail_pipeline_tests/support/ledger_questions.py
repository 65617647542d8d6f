"""Everything that the program asks of a ledger, asked of two ledgers side by side."""

from collections.abc import Callable
from random import Random
from typing import Any

from ctrail_pipeline.core.ledger import (
    accepted,
    batches,
    left_aside,
    log_files,
    output_numbers,
    queries_cold,
    queries_compaction,
    queries_compare,
    queries_digests,
    queries_explain,
    queries_lineage,
    queries_open,
    queries_output,
    queries_reports,
    queries_restage,
    queues,
    segments,
    source_prefixes,
)
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.parquet_batches import (
    files_in_parquet,
    files_of_parquet_batch,
    folders_not_in_parquet,
    not_in_parquet,
    parquet_of_date,
)
from ctrail_pipeline.core.output.parquet import hours_of_date
from ctrail_pipeline.core.output_files import Kind

from .ledger_actions import DAYS, HOURS, NAMES, RUNS, LedgerActions, names_only
from .two_ledgers import method


class LedgerQuestions(LedgerActions):
    """Two ledgers, what changes them, and every question."""

    def ask_all(self, rng: Random) -> None:
        """Ask everything that changes nothing."""
        now, sources = self.now, self.sources
        self.both(source_prefixes.source_ids)
        self.both(source_prefixes.source_totals)
        self.both(source_prefixes.covered_ranges)
        self.both(source_prefixes.formerly_covered)
        self.both(source_prefixes.deep_listed_at)
        self.both(source_prefixes.listed_at)
        self.both(source_prefixes.missed_by_source)
        self.both(queues.queue_rows)
        self.both(queues.tallies_of_queues)
        self.both(batches.open_batches)
        self.both(queries_compare.newest_batch)
        self.both(queries_compare.first_days)
        self.both(queries_compare.quarantined_log_files, in_order=False)
        self.both(_about)
        self.both(log_files.waiting_by_source, now)
        self.both(log_files.found_log_files, sources, 10**6, in_order=False)
        self.both(left_aside.left_aside_by_source)
        self.both(accepted.accepted_by_source)
        self.both(accepted.acceptances)
        self.both(queries_open.open_rows, now, in_order=False)
        self.both(queries_open.archived_days, in_order=False)
        self.both(queries_open.sources_with_failed, in_order=False)
        self.both(queries_reports.read_health, sources, now - 600)
        self.both(queries_reports.open_by_source)
        self.both(queries_reports.quarantined_by_source)
        self.both(queries_digests.kept_public_keys)
        self.both(queries_cold.cold_moved_at)
        self.both(queries_cold.settled_before, now - 300)
        self.both(queries_cold.cold_days, DAYS[3], 10**6, 10**6, in_order=False)
        self.both(
            lambda ledger: [
                segment._replace(dedup_partition=0)
                for segment in queries_cold.cold_segments(ledger, "2026/01/16/00", 10**6, 10**6)
            ],
            in_order=False,
        )
        self.both(queries_explain.segments_of_events, in_order=False)
        for run in RUNS:
            self.both(batches.log_files_of_run, run)
        self._ask_log_files(rng)
        self._ask_segments()
        self._ask_output()

    def _ask_log_files(self, rng: Random) -> None:
        days = (DAYS[0], DAYS[3])
        low, high = sorted(rng.sample(NAMES, 2))
        self.both(_of_log_files("newest_due_day"), self.now, 10**6)
        for day in DAYS:
            self.both(_of_log_files("due_visits"), self.now, day, (0, ""), 10**6)
        for source in self.sources:
            self.both(_of_log_files("known_log_files"), source, DAYS[1], low, high)
            self.both(queries_compare.known_by_name, source, DAYS[1], NAMES)
            self.both(queries_compare.open_log_files, source, days)
            self.both(queries_explain.with_duplicates, source, days, in_order=False)
            self.both(queries_digests.hashed_log_files, source, DAYS[2])
            self.both(accepted.acceptances_without_row, source, days)
            for compact in (True, False):
                self.both(
                    *(queries_compare.committed_between, source),
                    *((DAYS[0], low), (DAYS[2], high), 10**6),
                    compact=compact,
                )

    def _ask_segments(self) -> None:
        names = self.both(segments.partitions_with_segments, 0, 2, in_order=False)
        for name in names:
            for segment in self.both(_of_segments("segments"), name, 0):
                self.both(_of_segments("segment_identities"), segment.id)
                self.both(_of_segments("segment_event_keys"), segment.id)
                if segment.filter_bytes:
                    self.both(_of_segments("segment_filter"), segment.id)
        self.both(_of_segments("segment_identities"), 10**6)
        seen = {name: number % 3 for number, name in enumerate([*sorted(names), "none"])}
        for limit in (0, 10**6):
            self.both(_of_segments("few_newer"), seen, limit)
        for name, newest in seen.items():  # one by one, as the order of rows is free
            self.both(_of_segments("few_newer"), {name: newest}, 10)

    def _ask_output(self) -> None:
        for kind in Kind:
            self.both(output_numbers.holds_output, kind)
            self.both(queries_reports.output_sizes, kind)
            self.both(queries_compaction.files_to_read, kind)
            self.both(queries_output.output_folders, kind, HOURS[0])
            for folder in self.both(queries_output.output_folders, kind):
                self.both(queries_output.lines_of_folder, kind, folder)
                for file in self.both(queries_output.output_files, kind, folder):
                    if kind is Kind.EVENTS:
                        self.both(queries_lineage.line_runs_of_file, file)
        for batch in range(1, self.both(queries_compare.newest_batch) + 1):
            self.both(batches.batch_state, batch)
            self.both(queries_lineage.sources_of_batch, batch)
            self.both(queries_lineage.batch_origin, batch)
            self.both(output_numbers.published_files, batch)
            self.both(queries_restage.committed_files, batch)
            self.both(queries_restage.replaced_files, batch)
            for name in self.both(segments.partitions_with_segments, 0, 1, in_order=False):
                self.both(queries_restage.identities_added, batch, name, in_order=False)
            self.both(lambda ledger, of=batch: names_only(files_of_parquet_batch(ledger, of)))
        self.both(queries_restage.lost_files)
        self.both(not_in_parquet)
        self.both(folders_not_in_parquet)
        for folder in self.both(queries_output.output_folders, Kind.PARQUET):
            self.both(parquet_of_date, folder)
            hours = hours_of_date(folder)
            self.both(lambda ledger, of=hours: names_only(files_in_parquet(ledger, of)))


def _of_segments(name: str) -> Callable[..., Any]:
    return method(segments.LedgerSegments, name)


def _of_log_files(name: str) -> Callable[..., Any]:
    return method(log_files.LedgerLogFiles, name)


def _about(ledger: Ledger) -> tuple[object, ...]:
    ledger.check()
    return ledger.is_unused(), ledger.generation, ledger.size() > 0
