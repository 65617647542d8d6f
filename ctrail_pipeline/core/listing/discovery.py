"""Which accounts and regions a trail delivers to, found by listing folders, not by guessing.

Plain accounts and any number of organizations may lie side by side under one prefix. A listing that
fails is an error, never "no accounts". Not here: which of them are wanted (`selection`).
"""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.source_prefix import (
    CLOUDTRAIL,
    SourcePrefix,
    digest_root,
    is_organization,
    is_plausible_folder,
    kind_root,
    logs_root,
)
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.core.threads import DaemonThreads

log = logging.getLogger(__name__)

_LISTERS: Final = 128
"""LIST requests in flight. Each costs a round trip and little else."""


def discover(trail: Trail, bucket: Bucket) -> list[SourcePrefix]:
    """Every account and region that has a folder of log files in this trail's bucket.

    It takes one LIST for the root, one for each organization and one for each account (and one more
    for each further 1,000 names). Raises StoreError if any of them fails, or if there is no folder
    at all, since a mistyped prefix must not look like a trail without events.
    """
    found = _with_folders(trail, bucket, partial(kind_root, kind=CLOUDTRAIL))
    if not found:
        root = logs_root(trail.prefix)
        raise StoreError(
            f"trail {trail.name!r}: there is no log file folder under {bucket.location}/{root}:"
            " check the trail's `bucket` and `prefix` (the prefix is what stands before AWSLogs/)"
        )
    return found


def discover_digests(trail: Trail, bucket: Bucket) -> list[SourcePrefix]:
    """Every account and region that has a folder of digests, whether log files are there or not.

    Raises StoreError if a folder cannot be listed.
    """
    return _with_folders(trail, bucket, digest_root)


def _with_folders(
    trail: Trail, bucket: Bucket, root_of: Callable[[str, str, str], str]
) -> list[SourcePrefix]:
    with DaemonThreads(_LISTERS, "ctrail-discover") as threads:
        owners = list(_owners(bucket, logs_root(trail.prefix), threads))
        regions = threads.map(
            lambda owner: _plausible(bucket, root_of(trail.prefix, *owner)), owners
        )
        return [
            SourcePrefix(trail.bucket, trail.prefix, organization, account, region)
            for (organization, account), names in zip(owners, regions, strict=True)
            for region in names
        ]


def _owners(bucket: Bucket, root: str, threads: DaemonThreads) -> Iterator[tuple[str, str]]:
    """Organization (or "") and account of every account folder."""
    names = _plausible(bucket, root)
    organizations = [name for name in names if is_organization(name)]
    members = threads.map(
        lambda name: _plausible(bucket, f"{root}{name}/", expected=True), organizations
    )
    yield from (("", name) for name in names if not is_organization(name))
    for organization, accounts in zip(organizations, members, strict=True):
        yield from ((organization, account) for account in accounts)


def _plausible(bucket: Bucket, folder: str, *, expected: bool = False) -> list[str]:
    names = bucket.list_folder(folder, expected=expected).folders
    implausible = [name for name in names if not is_plausible_folder(name)]
    if implausible:
        log.warning(
            "%d folders under %s/%s have names that are no account or region: they are left alone",
            len(implausible),
            bucket.location,
            folder,
        )
    return [name for name in names if is_plausible_folder(name)]
