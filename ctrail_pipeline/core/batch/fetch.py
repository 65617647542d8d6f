"""GET and gunzip one log file.

Every failure becomes a result with a state and a reason, so that it costs its log file only. A
request whose failure may pass was tried again already, in the room `bucket`. The order of log files
and their limits are in `feed`.
"""

from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ctrail_pipeline.core.bucket.interface import Fetched
from ctrail_pipeline.core.exceptions import (
    CredentialsError,
    ObjectArchived,
    ObjectChanged,
    ObjectGone,
    StoreError,
    StoreUnavailable,
)
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.listing.sources import LogFileRef
from ctrail_pipeline.core.log_file.gunzip import (
    Decompressed,
    decompress,
    decompress_to_file,
    is_over,
    too_large_stored,
)
from ctrail_pipeline.core.log_file.streaming import (
    IN_HAND,
    STREAMED_FROM,
    StreamedLogFile,
    is_to_be_streamed,
    stream,
)
from ctrail_pipeline.core.settings import Settings

from .memory_budget import MemoryBudget, Reservation

_EXPANSION: Final = 12
"""Estimate of uncompressed bytes by stored ones (gzip ratios of real log files: 5.6–8.6)."""
_LEAST_EXPECTED: Final = 16 * 1024
"""Uncompressed bytes that are expected of the smallest log file."""


@dataclass(frozen=True, slots=True)
class FetchedLogFile:
    """What came of fetching one log file: its content, or a state and a reason."""

    ref: LogFileRef
    etag: bytes
    size: int
    retries: int
    content: Decompressed | StreamedLogFile | None
    state: LogFileState = LogFileState.COMMITTED
    reason: str | None = None
    may_pass: bool = False
    """Whether a failure may pass by itself (throttling, a network): worth another try soon."""
    is_unread: bool = False
    """Whether it stays as it is, since not the log file but the credentials failed."""

    @property
    def held(self) -> int:
        """Bytes of memory that it takes."""
        return self.content.held if self.content else 0


def fetch_log_file(
    ref: LogFileRef,
    settings: Settings,
    share: Reservation | None = None,
    *,
    came: Fetched | StoreError | None = None,
) -> FetchedLogFile:
    """GET and gunzip one log file; never raises for what may be wrong with it.

    `came`: what a first GET has brought already, among others'.

    A damaged or short body is fetched a second time at once: damage in transit keeps the etag.
    A short one may look sound, where the cut falls between two gzip members.
    """
    share = share or Reservation(MemoryBudget(0), 0, lambda: None)
    if ref.archived:
        return _failed(ref, LogFileState.ARCHIVED, "archived: restore it, then sync again")
    if ref.size > settings.max_stored_bytes:
        too_large = too_large_stored(ref.size, settings.max_stored_bytes)
        return FetchedLogFile(ref, _known_etag(ref), ref.size, 0, too_large)
    try:
        share.grow_to(first_size(ref, settings))
        fetched = _get(ref, came)
        del came  # the body is not held longer than it is needed
        content = _decompress(fetched.body, settings, share)
        if content.damage is not None or _is_short(ref, fetched):
            again = _get(ref)
            if again.body != fetched.body:
                del content  # before there are two of them
                content = _decompress(again.body, settings, share)
            fetched = again._replace(retries=fetched.retries + again.retries + 1)
        if _is_short(ref, fetched):
            where = f"{ref.source.bucket.location}/{ref.key}"
            reason = f"{where} was cut short twice: {len(fetched.body)} of {ref.size} bytes arrived"
            return _failed(ref, LogFileState.FAILED, reason)
    except ObjectGone as error:
        return _failed(ref, LogFileState.GONE, str(error))
    except ObjectArchived as error:
        return _failed(ref, LogFileState.ARCHIVED, str(error))
    except CredentialsError as error:
        return replace(_failed(ref, LogFileState.FAILED, str(error)), is_unread=True)
    except StoreError as error:
        failed = _failed(ref, LogFileState.FAILED, str(error))
        return replace(failed, may_pass=isinstance(error, StoreUnavailable))
    return FetchedLogFile(ref, fetched.etag, len(fetched.body), fetched.retries, content)


class CompressedLogFile(NamedTuple):
    """A small log file as it came, still compressed."""

    ref: LogFileRef
    fetched: Fetched

    @property
    def held(self) -> int:
        """Bytes of memory that it takes, until it is unpacked: at most KEYS_A_TASK are at once."""
        return len(self.fetched.body)

    def unpack(self, settings: Settings) -> FetchedLogFile | None:
        """The log file; None if it may be damaged, or large: `fetch_log_file` does it then."""
        body = self.fetched.body
        if _is_short(self.ref, self.fetched) or is_to_be_streamed(body):
            return None
        most = min(settings.max_log_file_bytes, STREAMED_FROM, _expected(len(body)))
        content = decompress(body, most, hashed=settings.hash_log_files)
        if content.damage is not None:
            return None
        return FetchedLogFile(self.ref, self.fetched.etag, len(body), self.fetched.retries, content)


def _decompress(
    body: bytes, settings: Settings, share: Reservation
) -> Decompressed | StreamedLogFile:
    """Inflate as far as is to be expected; a bomb's size is taken into account before it is there.

    What expands to more than expected is inflated anew, which costs it up to a half more time; and
    what neither can be read in parts nor is small enough to be held, once more, into a file.
    """
    limit, hashed = settings.max_log_file_bytes, settings.hash_log_files
    if is_to_be_streamed(body):
        share.grow_to(len(body) + IN_HAND)
        streamed = stream(body, limit, hashed=hashed)
        if streamed is not None:
            return streamed
    held = min(limit, STREAMED_FROM)
    expected = _expected(len(body))
    for most in (expected, held) if expected < held else (held,):
        if len(body) + most > share.held:
            share.grow_to(len(body) + most)
        content = decompress(body, most, hashed=hashed)
        if most == limit or not is_over(content, most):
            return content
    share.grow_to(len(body) + IN_HAND)
    return decompress_to_file(body, limit, settings.state_db.parent, hashed=hashed)


def first_size(ref: LogFileRef, settings: Settings) -> int:
    """Bytes that a log file will hold, as far as they are known before it comes."""
    if ref.size > settings.max_stored_bytes:
        return 0  # it is not fetched
    return ref.size + min(_expected(ref.size), STREAMED_FROM)


def _expected(stored: int) -> int:
    return max(_LEAST_EXPECTED, _EXPANSION * stored)


def _get(ref: LogFileRef, came: Fetched | StoreError | None = None) -> Fetched:
    """The version that was listed, or, if it was written again meanwhile, the present one."""
    bucket = ref.source.bucket
    try:
        if came is None:
            return bucket.get(ref.key, ref.etag)
        if isinstance(came, StoreError):
            raise came
    except ObjectChanged:
        return bucket.get(ref.key, None)
    return came


def _is_short(ref: LogFileRef, fetched: Fetched) -> bool:
    """Whether fewer bytes came than the listing showed of this very version."""
    return fetched.etag == ref.etag and len(fetched.body) < ref.size


def _failed(ref: LogFileRef, state: LogFileState, reason: str) -> FetchedLogFile:
    return FetchedLogFile(ref, _known_etag(ref), ref.size, 0, None, state, reason)


def _known_etag(ref: LogFileRef) -> bytes:
    """Without a GET; empty where nobody knows it."""
    return ref.etag or (ref.expected.etag if ref.expected else b"")
