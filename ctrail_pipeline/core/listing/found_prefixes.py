"""The source prefixes that a run comes to: from discovery in the buckets, and from the ledger.

A trail that cannot be read is noted as a problem, and does not stop the others.
Not here: how folders are listed to find accounts and regions (`discovery`), or which of them are
selected (`selection`).
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final, NamedTuple

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.bucket.permissions import check_access, check_keys
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.log_file_key import key_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import found_log_files, waiting_by_source
from ctrail_pipeline.core.ledger.source_prefixes import covered_ranges, deep_listed_at, source_ids
from ctrail_pipeline.core.settings import Settings, Trail

from .discovery import discover
from .problem import Problem, trail_problem
from .selection import Selection, is_configured, wanted_range
from .sources import Source

log = logging.getLogger(__name__)

DEEP_EVERY_SECONDS: Final = 86_400
"""A source prefix is listed back over the whole horizon once in so many seconds."""
_LOG_FILES_TRIED: Final = 6
"""Log files of a trail that are tried, to see early whether its log files can be read."""


class FoundPrefix(NamedTuple):
    """A source prefix in its bucket, as a trail's discovery finds it."""

    trail: Trail
    bucket: Bucket
    source_prefix: SourcePrefix


def find_prefixes(
    settings: Settings,
    selection: Selection,
    note: Callable[[Problem], None],
    *,
    may_get: bool = True,
) -> list[FoundPrefix]:
    """The selected source prefixes of every trail that can be read.

    Without `may_get`, nobody tries whether log files can be read.
    """
    found: list[FoundPrefix] = []
    seen: list[SourcePrefix] = []
    for trail in settings.trails:
        state = "not listed"
        try:
            bucket = open_bucket(trail, settings)
            discovered = discover(trail, bucket)
            wanted = [prefix for prefix in discovered if is_configured(settings, trail, prefix)]
            selected = [prefix for prefix in wanted if selection.holds(prefix)]
            seen += wanted
            state = "not readable"
            if may_get:
                check_access(bucket, selected)
        except StoreError as error:
            note(trail_problem(trail, state, error))
            continue
        log.info(
            "trail %s: %d accounts and regions in %s, %d selected",
            trail.name,
            len(discovered),
            bucket.location,
            len(selected),
        )
        found += [FoundPrefix(trail, bucket, prefix) for prefix in selected]
    for pattern in selection.not_found(seen):
        note(Problem("", pattern, "not found", "no selected trail delivers such a partition"))
    return found


def known_prefixes(
    settings: Settings, ledger: Ledger, trail: Trail, bucket: Bucket
) -> list[FoundPrefix]:
    """The source prefixes of a trail that were ever found and are wanted; S3 is not asked."""
    return [
        FoundPrefix(trail, bucket, source_prefix)
        for source_prefix in source_ids(ledger)
        if (source_prefix.bucket, source_prefix.prefix) == (trail.bucket, trail.prefix)
        and is_configured(settings, trail, source_prefix)
    ]


def vanished_prefixes(
    found_prefixes: Sequence[FoundPrefix],
    settings: Settings,
    selection: Selection,
    ledger: Ledger,
) -> list[FoundPrefix]:
    """The selected source prefixes that were found once, and are not among the found ones now.

    Only those of trails that are among the found ones, since these can be read.
    """
    present = {found.source_prefix for found in found_prefixes}
    trails = {found.trail.name: (found.trail, found.bucket) for found in found_prefixes}
    return [
        known
        for trail, bucket in trails.values()
        for known in known_prefixes(settings, ledger, trail, bucket)
        if known.source_prefix not in present and selection.holds(known.source_prefix)
    ]


def waiting_prefixes(
    settings: Settings, selection: Selection, note: Callable[[Problem], None]
) -> list[FoundPrefix]:
    """The selected source prefixes of which log files are due, of trails that can be read."""
    waiting: list[FoundPrefix] = []
    with closing(Ledger(settings.state_db)) as ledger:
        ids, due = source_ids(ledger), waiting_by_source(ledger, int(time.time()))
        for trail in settings.trails:
            try:
                bucket = open_bucket(trail, settings)
                of_trail = [
                    found
                    for found in known_prefixes(settings, ledger, trail, bucket)
                    if ids[found.source_prefix] in due and selection.holds(found.source_prefix)
                ]
                by_id = {ids[found.source_prefix]: found.source_prefix for found in of_trail}
                tried = found_log_files(ledger, list(by_id), _LOG_FILES_TRIED)
                check_keys(bucket, (key_of(by_id[id_], day, name) for id_, day, name in tried))
            except StoreError as error:
                note(trail_problem(trail, "not readable", error))
                continue
            waiting += of_trail
    return waiting


def sources_of(
    found_prefixes: Sequence[FoundPrefix], settings: Settings, ledger: Ledger | None
) -> list[Source]:
    """Found source prefixes with the ids and the coverage that the ledger knows them by.

    Those that no ledger knows have id 0 and no coverage.
    """
    ids = source_ids(ledger) if ledger else {}
    coverage = covered_ranges(ledger) if ledger else {}
    deep_listed = deep_listed_at(ledger) if ledger else {}
    wanted = wanted_range(settings)
    now = time.time()
    sources = []
    for found in found_prefixes:
        source_id = ids.get(found.source_prefix, 0)
        sources.append(
            Source(
                id=source_id,
                source_prefix=found.source_prefix,
                trail=found.trail.name,
                bucket=found.bucket,
                covered=coverage.get(source_id, []),
                wanted=wanted,
                deep=abs(now - deep_listed.get(source_id, 0)) >= DEEP_EVERY_SECONDS,
            )
        )
    return sources
