"""The source prefixes that a run comes to: from discovery in the buckets, and from the ledger.

A trail that cannot be read is noted as a problem, and does not stop the others.
Not here: how folders are listed to find accounts and regions (`discovery`), or which of them are
selected (`selection`).
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.bucket.permissions import check_access, check_keys
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.log_file_key import key_of
from ctrail_pipeline.core.keys.source_prefix import CLOUDTRAIL, SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import found_log_files, waiting_by_source
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.source_prefixes import (
    covered_ranges,
    deep_listed_at,
    formerly_covered,
    listed_at,
    source_ids,
)
from ctrail_pipeline.core.settings import Settings, Trail

from .discovery import NOT_YET, Discovery, Owner, discover
from .notification_health import NotificationHealth
from .problem import Problem, trail_problem
from .selection import Selection, is_configured, is_of, trail_finder, wanted_range
from .sources import Source

log = logging.getLogger(__name__)

DEEP_EVERY_SECONDS: Final = 86_400
"""A source prefix is listed back over the whole horizon once in so many seconds."""
_GLOBAL_REGION: Final = "us-east-1"
"""Where events of global services are logged (AWS CloudTrail user guide, "Global service
events")."""
_LOG_FILES_TRIED: Final = 6
"""Log files of a trail that are tried, to see early whether its log files can be read."""


class FoundPrefix(NamedTuple):
    """A source prefix in its bucket, as a trail's discovery finds it."""

    trail: Trail
    bucket: Bucket
    source_prefix: SourcePrefix


class Remembered(NamedTuple):
    """What the ledger knows of a source prefix, as far as discovery needs it."""

    is_due: bool
    """Whether it is to be listed back over the whole horizon."""
    is_listed_once_more: bool
    """Whether an older listing rule covered a part of it."""


@dataclass
class FoundPrefixes:
    """What discovery found in the buckets of all trails that can be read."""

    selected: list[FoundPrefix] = field(default_factory=list)
    configured: list[SourcePrefix] = field(default_factory=list)
    """All that the configuration wants, selected or not."""
    discoveries: dict[str, Discovery] = field(default_factory=dict)
    """By trail: what its discovery found, and what it left aside."""
    not_yet: list[str] = field(default_factory=list)
    """Trails that have not delivered a log file yet."""


def remembered_prefixes(settings: Settings, ledger: Ledger) -> dict[SourcePrefix, Remembered]:
    """What a ledger knows of all source prefixes that were ever found."""
    ids = source_ids(ledger)  # first: another run may register more meanwhile
    deep_listed, formerly = deep_listed_at(ledger), formerly_covered(ledger)
    health = NotificationHealth(settings, ledger, time.time())
    trail_of = trail_finder(settings.trails)
    remembered = {}
    for source_prefix, id_ in ids.items():
        trail = trail_of(source_prefix)
        name = "" if trail is None else trail.name
        is_due = health.is_deep(name, deep_listed[id_], DEEP_EVERY_SECONDS)
        remembered[source_prefix] = Remembered(is_due, id_ in formerly)
    return remembered


def find_prefixes(
    settings: Settings,
    selection: Selection,
    note: Callable[[Problem], None],
    remembered: Mapping[SourcePrefix, Remembered] = MappingProxyType({}),
    *,
    may_get: bool = True,
) -> FoundPrefixes:
    """The selected source prefixes of every trail that can be read.

    Kinds beside CloudTrail are looked for where one of the `remembered` source prefixes of an
    account is due, or none is known. Without `may_get`, nobody tries whether log files can be read.
    """
    found = FoundPrefixes()
    known = remembered or _known_if_needed(settings)
    for trail in settings.trails:
        state = "not listed"
        of_trail = {
            prefix: of_prefix
            for prefix, of_prefix in remembered.items()
            if is_of(trail, prefix) and is_configured(settings, trail, prefix)
        }
        try:
            bucket = open_bucket(trail, settings)
            settled = _settled(of_trail, selection)
            discovery = discover(settings, trail, bucket, settled, known)
            discovered = dict.fromkeys(discovery.source_prefixes)
            # One that has expired since is listed once more, too: then nothing is left of it.
            discovered |= dict.fromkeys(
                prefix for prefix, of_prefix in of_trail.items() if of_prefix.is_listed_once_more
            )
            wanted = [prefix for prefix in discovered if is_configured(settings, trail, prefix)]
            selected = [prefix for prefix in wanted if selection.holds(prefix)]
            found.configured += wanted
            state = "not readable"
            if may_get:
                check_access(bucket, selected)
        except StoreError as error:
            note(trail_problem(trail, state, error))
            continue
        found.discoveries[trail.name] = discovery
        if not discovered:
            found.not_yet.append(trail.name)
        log.info(
            "trail %s: %d accounts and regions in %s, %d selected%s",
            trail.name,
            partition_count(discovered),
            bucket.location,
            partition_count(selected),
            "" if discovered else f": {NOT_YET}",
        )
        left_out = _accounts_without_global_events(discovered, wanted)
        if left_out:
            log.info(
                "trail %s: %s is left out (accounts that have it: %d): events of IAM and STS and"
                " most sign-ins are logged there, whatever region people work in",
                trail.name,
                _GLOBAL_REGION,
                left_out,
            )
        found.selected += [FoundPrefix(trail, bucket, prefix) for prefix in selected]
    for pattern in selection.not_found(found.configured):
        note(Problem("", pattern, "not found", "no selected trail delivers such a partition"))
    return found


def _known_if_needed(settings: Settings) -> Collection[SourcePrefix]:
    """All source prefixes that the ledger knows, if a trail may lie at two prefixes; else none."""
    if not ledger_exists(settings.ledger) or all(
        len(trail.prefixes) == 1 for trail in settings.trails
    ):
        return ()
    with closing(Ledger(settings.ledger)) as ledger:
        return source_ids(ledger)


def _accounts_without_global_events(
    discovered: Iterable[SourcePrefix], wanted: Iterable[SourcePrefix]
) -> int:
    """How many accounts have the region where global services are logged, which is not wanted.

    An account may have no other region. Global services log management events, so that kind counts.
    """
    there, brought_in = (
        {
            prefix.account
            for prefix in prefixes
            if (prefix.region, prefix.kind) == (_GLOBAL_REGION, CLOUDTRAIL)
        }
        for prefixes in (discovered, wanted)
    )
    return len(there - brought_in)


def partition_count(source_prefixes: Iterable[SourcePrefix]) -> int:
    """How many accounts and regions there are: kinds lie side by side in each."""
    return len({source_prefix.partition_key for source_prefix in source_prefixes})


def settled_accounts(source_prefixes: Iterable[SourcePrefix]) -> dict[Owner, list[SourcePrefix]]:
    """The source prefixes of each account, for a discovery that need not look for kinds."""
    accounts: dict[Owner, list[SourcePrefix]] = {}
    for prefix in source_prefixes:
        owner = Owner(prefix.prefix, prefix.organization, prefix.account)
        accounts.setdefault(owner, []).append(prefix)
    return accounts


def _settled(
    known: Mapping[SourcePrefix, Remembered], selection: Selection
) -> dict[Owner, list[SourcePrefix]]:
    """The accounts of which no selected source prefix is due to be listed deeply."""
    return {
        owner: of_owner
        for owner, of_owner in settled_accounts(known).items()
        if not any(known[prefix].is_due and selection.holds(prefix) for prefix in of_owner)
    }


def known_prefixes(
    settings: Settings, ledger: Ledger, trail: Trail, bucket: Bucket
) -> list[FoundPrefix]:
    """The source prefixes of a trail that were ever found and are wanted; S3 is not asked."""
    return [
        FoundPrefix(trail, bucket, source_prefix)
        for source_prefix in source_ids(ledger)
        if is_of(trail, source_prefix) and is_configured(settings, trail, source_prefix)
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
) -> FoundPrefixes:
    """The selected source prefixes of which log files are due, of trails that can be read."""
    waiting = FoundPrefixes()
    with closing(Ledger(settings.ledger)) as ledger:
        ids, due = source_ids(ledger), waiting_by_source(ledger, int(time.time()))
        for trail in settings.trails:
            try:
                bucket = open_bucket(trail, settings)
                of_trail = [
                    found
                    for found in known_prefixes(settings, ledger, trail, bucket)
                    if ids.get(found.source_prefix) in due and selection.holds(found.source_prefix)
                ]
                by_id = {ids[found.source_prefix]: found.source_prefix for found in of_trail}
                tried = found_log_files(ledger, list(by_id), _LOG_FILES_TRIED)
                check_keys(bucket, (key_of(by_id[id_], day, name) for id_, day, name in tried))
            except StoreError as error:
                note(trail_problem(trail, "not readable", error))
                continue
            waiting.selected += of_trail
    return waiting


def sources_of(
    found_prefixes: Sequence[FoundPrefix], settings: Settings, ledger: Ledger | None
) -> list[Source]:
    """Found source prefixes with the ids and the coverage that the ledger knows them by.

    Those that no ledger knows have id 0 and no coverage.
    """
    ids = source_ids(ledger) if ledger else {}
    coverage = covered_ranges(ledger) if ledger else {}
    formerly = formerly_covered(ledger) if ledger else {}
    deep_listed = deep_listed_at(ledger) if ledger else {}
    wanted = wanted_range(settings)
    listed = listed_at(ledger) if ledger else {}
    health = NotificationHealth(settings, ledger, time.time())
    sources = []
    for found in found_prefixes:
        source_id, trail = ids.get(found.source_prefix, 0), found.trail.name
        source = Source(
            id=source_id,
            source_prefix=found.source_prefix,
            trail=trail,
            bucket=found.bucket,
            covered=coverage.get(source_id, []),
            formerly_covered=formerly.get(source_id, []),
            wanted=wanted,
            deep=health.is_deep(trail, deep_listed.get(source_id, 0), DEEP_EVERY_SECONDS),
        )
        source.rests = health.rests(source, listed.get(source_id, 0))
        sources.append(source)
    return sources
