"""Checking log files against CloudTrail's signed digests, for all selected source prefixes.

It reads, and it writes no output. What a digest says belongs to `digest_file`, how digests hang
together to `digest_chain`, the check of one account and region to `digest_walk`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final, NamedTuple

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.coverage import EVERYTHING, Range
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, MINUTES_PER_HOUR, Minute, minute_of
from ctrail_pipeline.core.keys.source_prefix import KINDS, SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.listing.delivery import Delivery, read_delivery
from ctrail_pipeline.core.listing.discovery import discover_digests
from ctrail_pipeline.core.listing.found_prefixes import FoundPrefix
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection, is_configured
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.core.threads import DaemonThreads

from .digest_keys import KeysOfTrail
from .digest_metadata import object_metadata
from .digest_result import DigestResult
from .digest_setup import SetupFaults
from .digest_task import DigestTask
from .digest_walk import FolderCheck

_READERS: Final = 16
"""Digests and log files that are read at once."""


def check_digests(
    settings: Settings,
    selection: Selection,
    found_prefixes: Sequence[FoundPrefix],
    *,
    report: Callable[[Problem], None],
    names_proved: bool = False,
) -> DigestResult:
    """Compare what digests say of some source prefixes with the bucket and the ledger.

    `found_prefixes` have log files, or had some. Source prefixes of the selection that only have
    digests are found here. What cannot be read is told to `report`, once an object: it proves
    nothing, and it is no finding. The window (`start`, `end`) means times in keys, as everywhere.
    Raises ConfigurationError if a file that `public_keys` or `object_metadata` names cannot be
    used, LedgerError.
    """
    settings = selection.narrow(settings)
    result = DigestResult(proved=set() if names_proved else None)
    trails = [trail for trail in settings.trails if trail.log_file_validation is not False]
    keys_of = {trail.name: KeysOfTrail(trail) for trail in trails}
    metadata_of = {trail.name: object_metadata(trail) for trail in trails}
    setup_of: dict[tuple[str, Delivery], SetupFaults] = {}
    window = _window(settings)
    with closing(Ledger(settings.ledger)) as ledger, DaemonThreads(_READERS, "ctrail") as threads:
        ids = source_ids(ledger)
        for folder in _folders(settings, selection, found_prefixes, report):
            name = folder.trail.name
            here = read_delivery(folder.trail, folder.selected[0].prefix)
            task = DigestTask(
                trail=folder.trail,
                bucket=folder.bucket,
                selected=folder.selected,
                present=folder.present,
                source_ids=ids,
                ledger=ledger,
                horizon_days=settings.horizon_days,
                max_bytes=settings.max_log_file_bytes,
                threads=threads,
                report=report,
                setup=setup_of.setdefault((name, here), SetupFaults(name, here)),
                result=result,
            )
            try:
                FolderCheck(task, keys_of[name], metadata_of[name], window).check()
            except StoreError as error:
                task.report_problem(task.any_prefix.partition_key, "not validated", str(error))
    for setup in setup_of.values():
        result.findings += setup.findings()
    return result


class _Folder(NamedTuple):
    """A folder of digests: the digests of one account and region."""

    trail: Trail
    bucket: Bucket
    selected: Sequence[SourcePrefix]
    """Its source prefixes, one for each kind that is selected."""
    present: Sequence[SourcePrefix]
    """Those of them that have log files, or had some."""


def _folders(
    settings: Settings,
    selection: Selection,
    found_prefixes: Sequence[FoundPrefix],
    report: Callable[[Problem], None],
) -> Iterator[_Folder]:
    """Yield the selected folders of digests; some may have no folder of log files any more."""
    buckets = {found.trail.name: (found.trail, found.bucket) for found in found_prefixes}
    for trail, bucket in buckets.values():
        if trail.log_file_validation is False:
            continue
        present: dict[SourcePrefix, list[SourcePrefix]] = {}
        for found in found_prefixes:
            if found.trail.name == trail.name:
                of_folder = present.setdefault(_of_all_kinds(found.source_prefix), [])
                of_folder.append(found.source_prefix)
        try:
            prefixes = dict.fromkeys(source_prefix.prefix for source_prefix in present)
            for source_prefix in discover_digests(trail, bucket, prefixes):
                present.setdefault(_of_all_kinds(source_prefix), [])
        except StoreError as error:
            report(Problem(trail.name, trail.bucket, "digests not listed", str(error)))
        for first, of_folder in present.items():
            selected = [
                source_prefix
                for source_prefix in (replace(first, kind=kind) for kind in KINDS)
                if is_configured(settings, trail, source_prefix) and selection.holds(source_prefix)
            ]
            if selected:
                yield _Folder(trail, bucket, selected, of_folder)


def _of_all_kinds(source_prefix: SourcePrefix) -> SourcePrefix:
    """Return the same value for the source prefixes of all kinds of an account and region."""
    return replace(source_prefix, kind=KINDS[0])


def _window(settings: Settings) -> Range:
    """Return the key times whose log files are judged."""
    start = settings.start
    tomorrow = Minute(int(time.time() // 60) + MINUTES_PER_DAY)
    end = tomorrow if settings.end is None else minute_of(settings.end) + MINUTES_PER_HOUR
    return Range(
        EVERYTHING.start if start is None else minute_of(start), Minute(min(tomorrow, end))
    )
