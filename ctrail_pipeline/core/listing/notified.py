"""Which trail's log file an object is that a message names, or why it is none. Pure.

The key alone decides, as it does where keys are listed. Not here: what a message says
(`notifications`), or whether the ledger knows the log file already (`notification_intake`).
"""

from dataclasses import dataclass
from typing import NamedTuple

from ctrail_pipeline.core.keys.coverage import Range
from ctrail_pipeline.core.keys.log_file_key import KeyParts, is_log_file, parse_key
from ctrail_pipeline.core.keys.source_prefix import (
    DIGEST_KIND,
    KINDS,
    SourcePrefix,
    is_organization,
    is_plausible_folder,
    logs_root,
)
from ctrail_pipeline.core.ledger.queues import Notified
from ctrail_pipeline.core.settings import Settings, Trail

from .delivery import expected_deliveries, read_delivery
from .new_log_files import is_wanted
from .notifications import NewObject
from .selection import is_configured, wanted_range


@dataclass(frozen=True, slots=True)
class NamedLogFile:
    """A log file of a configured trail that a message names."""

    source_prefix: SourcePrefix
    parts: KeyParts
    size: int
    etag: bytes


class _Root(NamedTuple):
    """A folder `AWSLogs/` that messages name, and where a trail reads what lies in it."""

    bucket: str
    folder: str
    trail: Trail
    prefix: str


class Sorter:
    """Tells the log files of the configured trails from everything else in their buckets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wanted: Range = wanted_range(settings)
        roots = {
            (delivery.bucket, logs_root(delivery.prefix)): (trail, prefix)
            for trail in settings.trails
            if not trail.bucket.startswith("file://")  # a folder sends no messages
            for prefix in trail.prefixes
            for here in [read_delivery(trail, prefix)]
            # A message may name the bucket that is read, or the one that it stands for.
            for delivery in (*expected_deliveries(trail, here), here)
        }
        # A folder in another one comes first: a trail may have `AWSLogs` as its prefix.
        self._roots = [
            _Root(*place, *reader)
            for place, reader in sorted(roots.items(), key=lambda item: -len(item[0][1]))
        ]
        self._buckets = {root.bucket for root in self._roots}

    def sort(self, new_object: NewObject) -> NamedLogFile | Notified:
        """Return the log file that is named, or why the object is none that is wanted."""
        if new_object.bucket not in self._buckets:
            return Notified.OTHER_BUCKET
        for root in self._roots:
            if root.bucket == new_object.bucket and new_object.key.startswith(root.folder):
                return self._sort(root, new_object)
        return Notified.NO_LOG_FILE

    def _sort(self, root: _Root, new_object: NewObject) -> NamedLogFile | Notified:
        names = new_object.key[len(root.folder) :].split("/")
        organization = names.pop(0) if is_organization(names[0]) else ""
        if len(names) <= len(("account", "kind", "region")):
            return Notified.NO_LOG_FILE
        account, kind, region, *_ = names
        if not (is_plausible_folder(account) and is_plausible_folder(region)):
            return Notified.NO_LOG_FILE
        if kind == DIGEST_KIND:
            return Notified.DIGEST
        if kind not in KINDS or not is_log_file(new_object.key):
            return Notified.NO_LOG_FILE
        trail = root.trail
        source_prefix = SourcePrefix(trail.bucket, root.prefix, organization, account, region, kind)
        if not is_configured(self._settings, trail, source_prefix):
            return Notified.NOT_SELECTED
        key = logs_root(root.prefix) + new_object.key[len(root.folder) :]
        parts = parse_key(source_prefix, key)
        if not is_wanted(parts, self._wanted):
            return Notified.NOT_SELECTED
        # The object's own size decides whether it is too large, not what a message says.
        size = new_object.size if new_object.size <= self._settings.max_stored_bytes else 0
        return NamedLogFile(source_prefix, parts, size, new_object.etag)
