"""Which accounts, kinds and regions a trail delivers to, found by listing folders, not by guessing.

Plain accounts and any number of organizations may lie side by side under one prefix. A listing that
fails is an error, never "no accounts". Kinds beside CloudTrail are rare, so an account's folder is
listed for them only now and then: the caller says which accounts are `settled`. Not here: which of
the source prefixes are selected (`selection`), or what lies where nothing is found (`misplaced`).
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """An account folder: the organization that it lies under (or ""), and the account."""

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
    settings: Settings, trail: Trail, bucket: Bucket, settled: Settled = MappingProxyType({})
) -> Discovery:
    """Every region of the configured accounts and kinds that has a folder in this trail's bucket.

    It takes one LIST for the root, one for each organization, one for each account, and one for
    each kind that is there. A settled account costs one LIST, for its folder `CloudTrail`. (And one
    more for each further 1,000 names.) Accounts that the configuration leaves out are not listed.

    The result is empty for a trail that has delivered nothing yet, of which there are empty folders
    only. Raises StoreError if any LIST fails, or if there is no folder of log files at all, since a
    mistyped prefix must not look like a trail without events.
    """
    discovery = Discovery()
    outside: dict[str, Tally] = {}
    implausible: dict[str, int] = {}
    kinds = kinds_of(settings, trail)
    with DaemonThreads(_LISTERS, "ctrail-discover") as threads:
        owners = _Owners(bucket, logs_root(trail.prefix), threads)
        accounts = [
            _Account(trail, bucket, owner, kinds, partial(is_configured, settings, trail))
            for owner in owners
            if is_account_configured(settings, trail, owner.account)
        ]
        found = threads.map(lambda account: account.find(settled.get(account.owner)), accounts)
        for of_account in found:
            discovery.source_prefixes += of_account
    for listed in (owners.listed, *(account.listed for account in accounts)):
        outside |= listed.outside
        implausible |= listed.implausible
    for folder, number in implausible.items():
        log.warning(
            "%d folders under %s/%s have names that are no account or region: they are left alone",
            number,
            bucket.location,
            folder,
        )
    discovery.outside = outside
    discovery.unlisted = [account.root for account in accounts if account.names is None]
    is_young = owners.has_empty_one or any(account.is_young for account in accounts)
    if not discovery.source_prefixes and not is_young and (accounts or not owners.found):
        raise StoreError(
            f"trail {trail.name!r}: there is no log file folder under"
            f" {bucket.location}/{logs_root(trail.prefix)}:"
            f" {where_log_files_may_lie(trail, bucket)}"
        )
    return discovery


def discover_digests(trail: Trail, bucket: Bucket) -> list[SourcePrefix]:
    """Every account and region that has a folder of digests, whether log files are there or not.

    Raises StoreError if a folder cannot be listed.
    """
    with DaemonThreads(_LISTERS, "ctrail-discover") as threads:
        owners = list(_Owners(bucket, logs_root(trail.prefix), threads))
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


class _Owners:
    """The account folders under a root and under the organizations in it."""

    def __init__(self, bucket: Bucket, root: str, threads: DaemonThreads) -> None:
        self.listed = _Listed()
        self.has_empty_one = False
        """Whether there is an organization's folder without an account."""
        names = self._names(root, bucket.list_folder(root))
        organizations = [name for name in names if is_organization(name)]
        folders = [f"{root}{name}/" for name in organizations]
        answers = threads.map(partial(bucket.list_folder, expected=True), folders)
        self.found = [Owner("", name) for name in names if not is_organization(name)]
        for organization, folder, answer in zip(organizations, folders, answers, strict=True):
            accounts = self._names(folder, answer)
            self.has_empty_one |= not accounts
            self.found += [Owner(organization, account) for account in accounts]

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
        self.root = account_root(trail.prefix, *owner)
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
        return [
            SourcePrefix(self._trail.bucket, self._trail.prefix, *self.owner, region, kind)
            for region in regions
        ]


def _count_log_files(answer: Folder, tally: Tally) -> None:
    for listed in answer.objects:
        if is_log_file(listed.key):
            add_to(tally, "log file in no region's folder", listed.key)
