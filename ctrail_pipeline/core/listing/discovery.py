"""Which accounts, kinds and regions a trail delivers to, found by listing folders, not by guessing.

Plain accounts and any number of organizations may lie side by side under one prefix. A listing that
fails is an error, never "no accounts". Kinds beside CloudTrail are rare, so an account's folder is
listed for them only now and then: the caller says which accounts are `settled`. A prefix that is
written with slashes at its ends, or with `AWSLogs`, is looked at as it is meant. As it is written,
it is looked at if nothing lies there, or if the ledger knows source prefixes there. Not here: which
of the source prefixes are selected (`selection`), or what lies where nothing is found
(`misplaced`).
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple

from ctrail_pipeline.core.bucket.interface import Bucket, Folder
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.left_aside import Outside, Tally, add_to, why_left_aside
from ctrail_pipeline.core.keys.log_file_key import is_log_file
from ctrail_pipeline.core.keys.source_prefix import (
    CLOUDTRAIL,
    DIGEST_KIND,
    KINDS,
    SourcePrefix,
    account_root,
    is_account,
    is_of_flow_logs,
    is_organization,
    is_plausible_folder,
    logs_root,
)
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.core.threads import DaemonThreads

from .misplaced import where_log_files_may_lie
from .selection import is_account_configured, is_configured, kinds_of

log = logging.getLogger(__name__)

_LISTERS: Final = 128
"""LIST requests in flight. Each costs a round trip and little else."""
NOT_YET: Final = (
    "no log files yet; CloudTrail delivers the first about five minutes after something happened"
)
"""What is said of a trail that has an account's folder, and no log file in it."""


class Owner(NamedTuple):
    """An account folder: its prefix, the organization that it lies under (or ""), the account."""

    prefix: str
    organization: str
    account: str


Settled = Mapping[Owner, Sequence[SourcePrefix]]
"""Accounts whose kinds were looked for lately, with their known source prefixes."""


@dataclass
class Discovery:
    """What one discovery of a trail found."""

    source_prefixes: list[SourcePrefix] = field(default_factory=list)
    outside: Outside = field(default_factory=dict)
    """What is left aside, by each folder that was listed for it."""
    unlisted: list[str] = field(default_factory=list)
    """Folders of accounts that were not listed themselves, since they are settled."""


def discover(
    settings: Settings,
    trail: Trail,
    bucket: Bucket,
    settled: Settled = MappingProxyType({}),
    known: Iterable[SourcePrefix] = (),
) -> Discovery:
    """Every region of the configured accounts and kinds that has a folder in this trail's bucket.

    It takes one LIST for the root, one for each organization, one for each account, and one for
    each kind that is there. A settled account costs one LIST, for its folder `CloudTrail`. (And one
    more for each further 1,000 names.) Accounts that the configuration leaves out are not listed.
    `known` are source prefixes that the ledger has, of this trail and of others.

    The result is empty for a trail that has delivered nothing yet, of which there are empty folders
    only. Raises StoreError if any LIST fails, or if there is no folder of log files at all, since a
    mistyped prefix must not look like a trail without events.
    """
    written = trail.written_prefix
    is_written_known = written is not None and any(
        (prefix.bucket, prefix.prefix) == (trail.bucket, written) for prefix in known
    )
    # Another trail may have been told AWSLogs as its prefix: it delivers to AWSLogs/AWSLogs/.
    inner = logs_root(trail.prefix).removesuffix("/")
    others = {other.prefix for other in settings.trails if other.bucket == trail.bucket}
    beside = [*others & {inner}, *(trail.prefixes if is_written_known else ())]
    looks: list[_Look] = []
    with DaemonThreads(_LISTERS, "ctrail-discover") as threads:
        for prefix in trail.prefixes:
            if is_written_known or not any(look.source_prefixes for look in looks):
                looks.append(_Look(settings, trail, bucket, prefix, beside, settled, threads))
    found = [look for look in looks if look.source_prefixes]
    found = found or [look for look in looks if not look.is_vain][:1]
    if not found:
        roots = [f"{bucket.location}/{logs_root(prefix)}" for prefix in trail.prefixes]
        raise StoreError(
            f"trail {trail.name!r}: there is no log file folder under {', nor under '.join(roots)}:"
            f" {where_log_files_may_lie(trail, bucket)}"
        )
    discovery = Discovery()
    outside: dict[str, Tally] = {}
    for look in found:
        look.warn_of_implausible()
        discovery.source_prefixes += look.source_prefixes
        discovery.unlisted += look.unlisted
        outside |= look.outside
    discovery.outside = outside
    return discovery


def discover_digests(trail: Trail, bucket: Bucket, prefixes: Collection[str]) -> list[SourcePrefix]:
    """Every account and region that has a folder of digests, whether log files are there or not.

    `prefixes` are those of the trail's that have log files. Raises StoreError if a folder cannot be
    listed.
    """
    with DaemonThreads(_LISTERS, "ctrail-discover") as threads:
        owners = [
            owner for prefix in prefixes for owner in _Owners(bucket, prefix, prefixes, threads)
        ]
        found = threads.map(
            lambda owner: _Account(trail, bucket, owner).list_kind(DIGEST_KIND), owners
        )
        return [
            replace(source_prefix, kind=CLOUDTRAIL)
            for of_owner in found
            for source_prefix in of_owner
        ]


@dataclass
class _Listed:
    """What lies in listed folders and is not gone into."""

    outside: dict[str, Tally] = field(default_factory=dict)
    implausible: dict[str, int] = field(default_factory=dict)

    def plausible(self, folder: str, answer: Folder) -> list[str]:
        """Return the sub-folders that may be an account's or a region's; all else is tallied."""
        names = [name for name in answer.folders if is_plausible_folder(name)]
        others = [
            name
            for name in answer.folders
            if not is_plausible_folder(name) and not is_of_flow_logs(name)
        ]
        tally = self.outside.setdefault(folder, {})
        for name in others:
            add_to(tally, "folder whose name is no account or region", f"{folder}{name}/")
        _count_log_files(answer, tally)
        if others:
            self.implausible[folder] = len(others)
        return names


class _Look:
    """A look at one prefix of a trail, and what was found there."""

    def __init__(
        self,
        settings: Settings,
        trail: Trail,
        bucket: Bucket,
        prefix: str,
        beside: Sequence[str],
        settled: Settled,
        threads: DaemonThreads,
    ) -> None:
        """`beside`: as in `_Owners`."""
        self._bucket = bucket
        self._owners = _Owners(bucket, prefix, beside, threads)
        kinds = kinds_of(settings, trail)
        self._accounts = [
            _Account(trail, bucket, owner, kinds, partial(is_configured, settings, trail))
            for owner in self._owners
            if is_account_configured(settings, trail, owner.account)
        ]
        self.source_prefixes = [
            source_prefix
            for of_account in threads.map(
                lambda account: account.find(settled.get(account.owner)), self._accounts
            )
            for source_prefix in of_account
        ]
        self.outside: dict[str, Tally] = {}
        self._implausible: dict[str, int] = {}
        for listed in (self._owners.listed, *(account.listed for account in self._accounts)):
            self.outside |= listed.outside
            self._implausible |= listed.implausible

    @property
    def unlisted(self) -> list[str]:
        """Folders of accounts that were not listed themselves, since they are settled."""
        return [account.root for account in self._accounts if account.names is None]

    @property
    def is_vain(self) -> bool:
        """Whether there is nothing that a trail leaves, not even a new one.

        Accounts that the configuration leaves out are something.
        """
        is_young = self._owners.has_empty_one or any(account.is_young for account in self._accounts)
        is_left_out = bool(self._owners.found) and not self._accounts
        return not (self.source_prefixes or is_young or is_left_out)

    def warn_of_implausible(self) -> None:
        """Say how many folders have names that are no account or region."""
        for folder, number in self._implausible.items():
            log.warning(
                "%d folders under %s/%s have names that are no account or region: they are left"
                " alone",
                number,
                self._bucket.location,
                folder,
            )


class _Owners:
    """The account folders under a prefix and under the organizations in it.

    A folder on the way to one of the prefixes `beside` this one is left to the look at that one.
    """

    def __init__(
        self, bucket: Bucket, prefix: str, beside: Iterable[str], threads: DaemonThreads
    ) -> None:
        self.listed = _Listed()
        self.has_empty_one = False
        """Whether there is an organization's folder without an account."""
        root = logs_root(prefix)
        answer = bucket.list_folder(root)
        roots = tuple(map(logs_root, beside))
        own = [
            name
            for name in answer.folders
            if not any(other.startswith(f"{root}{name}/") for other in roots)
        ]
        names = self._names(root, answer._replace(folders=own))
        organizations = [name for name in names if is_organization(name)]
        folders = [f"{root}{name}/" for name in organizations]
        answers = threads.map(partial(bucket.list_folder, expected=True), folders)
        self.found = [Owner(prefix, "", name) for name in names if not is_organization(name)]
        for organization, folder, answer in zip(organizations, folders, answers, strict=True):
            accounts = self._names(folder, answer)
            self.has_empty_one |= not accounts
            self.found += [Owner(prefix, organization, account) for account in accounts]

    def __iter__(self) -> Iterator[Owner]:
        return iter(self.found)

    def _names(self, folder: str, answer: Folder) -> list[str]:
        return self.listed.plausible(folder, answer)


class _Account:
    """One account's folder, and what is found in it."""

    def __init__(
        self,
        trail: Trail,
        bucket: Bucket,
        owner: Owner,
        kinds: Sequence[str] = (),
        wants: Callable[[SourcePrefix], bool] = lambda _prefix: True,
    ) -> None:
        self.owner = owner
        self.root = account_root(*owner)
        self.names: list[str] | None = None
        """Names of the folders in it; None if it was not listed."""
        self.listed = _Listed()
        self._trail = trail
        self._bucket = bucket
        self._kinds = kinds
        self._wants = wants

    @property
    def is_young(self) -> bool:
        """Whether a folder without a region looks as a new trail leaves it."""
        if self.names is None or not is_account(self.owner.account):
            return False
        return not self.names or any(name in (*KINDS, DIGEST_KIND) for name in self.names)

    def find(self, known: Sequence[SourcePrefix] | None) -> list[SourcePrefix]:
        """Return its source prefixes; if some are `known`, only the folder `CloudTrail` is listed.

        If there is a region that is not known, or none at all, the rest is listed, too.
        """
        found: list[SourcePrefix] = []
        if known is not None:
            found = self.list_kind(CLOUDTRAIL) if CLOUDTRAIL in self._kinds else []
            of_other_kinds = [prefix for prefix in known if prefix.kind != CLOUDTRAIL]
            is_known = all(prefix in known or not self._wants(prefix) for prefix in found)
            if is_known and (found or of_other_kinds):
                return found + of_other_kinds
        folder = self._bucket.list_folder(self.root, expected=True)
        self.names = folder.folders
        for kind in self._kinds:
            if kind in folder.folders and not (found and kind == CLOUDTRAIL):
                found += self.list_kind(kind, expected=True)
        tally = self.listed.outside.setdefault(self.root, {})
        for name in folder.folders:
            why = why_left_aside(name)
            if why is not None:
                add_to(tally, why, f"{self.root}{name}/")
        _count_log_files(folder, tally)
        has_kinds = any(name in (*KINDS, DIGEST_KIND) for name in folder.folders)
        if folder.folders and not (has_kinds or tally or is_account(self.owner.account)):
            add_to(tally, "folder that is no account's", self.root)
        return found

    def list_kind(self, kind: str, *, expected: bool = False) -> list[SourcePrefix]:
        """Return the regions of a kind; `expected` as in `Bucket`."""
        folder = f"{self.root}{kind}/"
        answer = self._bucket.list_folder(folder, expected=expected)
        regions = self.listed.plausible(folder, answer)
        return [SourcePrefix(self._trail.bucket, *self.owner, region, kind) for region in regions]


def _count_log_files(answer: Folder, tally: Tally) -> None:
    for listed in answer.objects:
        if is_log_file(listed.key):
            add_to(tally, "log file in no region's folder", listed.key)
