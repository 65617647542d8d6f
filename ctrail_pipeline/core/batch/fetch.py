"""GET and decompress one log file.

Every failure becomes a result with a state and a reason, so that it costs its log file only. The
room `bucket` has tried again already what may pass. `feed` decides which log files are fetched
when, and limits what they hold.
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
from ctrail_pipeline.core.log_file.decompress import (
    Decompressed,
    decompress,
    decompress_to_file,
    format_of,
    is_over,
    too_large_stored,
)
from ctrail_pipeline.core.log_file.streaming import (
    IN_HAND,
    STREAMED_FROM,
    StreamedLogFile,
    held_by,
    is_to_be_streamed,
    stream,
)
from ctrail_pipeline.core.settings import Settings

from .memory_budget import MemoryBudget, Reservation

_EXPANSION: Final = 12
"""Uncompressed bytes that are expected of a stored byte (real log files have 5.6 to 8.6)."""
_LEAST_EXPECTED: Final = 16 * 1024
"""Uncompressed bytes that are expected of the smallest log file."""


@dataclass(frozen=True, slots=True)
class FetchedLogFile:
    """The result of fetching one log file: its content, or a state and a reason."""

    ref: LogFileRef
    etag: bytes
    size: int
    """Stored bytes."""
    retries: int
    content: Decompressed | StreamedLogFile | None
    state: LogFileState = LogFileState.COMMITTED
    reason: str | None = None
    may_pass: bool = False
    """Whether a failure may pass by itself (throttling, a network): worth another try soon."""
    is_unread: bool = False
    """Whether the ledger is to say nothing of it: the credentials failed, not the log file."""

    @property
    def held(self) -> int:
        """Bytes of memory that the content takes."""
        return self.content.held if self.content else 0


def fetch_log_file(
    ref: LogFileRef,
    settings: Settings,
    reservation: Reservation | None = None,
    *,
    response: Fetched | StoreError | None = None,
) -> FetchedLogFile:
    """GET and decompress one log file. Never raises for what may be wrong with the log file.

    `response`: the answer to a first GET, if there was one already.

    A damaged or short body is fetched a second time at once: damage in transit keeps the etag.
    A short body may look sound, if it ends between two gzip members.
    """
    reservation = reservation or Reservation(MemoryBudget(0), 0, lambda: None)
    if ref.archived:
        return _failed(
            ref, LogFileState.ARCHIVED, "archived: restore it; syncs look for it once a day"
        )
    if ref.size > settings.max_stored_bytes:
        too_large = too_large_stored(ref.size, settings.max_stored_bytes)
        return FetchedLogFile(ref, _known_etag(ref), ref.size, 0, too_large)
    try:
        reservation.resize(expected_size(ref, settings))
        fetched = _get(ref, response)
        del response  # so that the body is not held longer than it is needed
        content = _decompress(fetched.body, settings, reservation)
        if content.damage is not None or _is_short(ref, fetched):
            second = _get(ref)
            if second.body != fetched.body:
                del content  # before a second content is made
                content = _decompress(second.body, settings, reservation)
            fetched = second._replace(retries=fetched.retries + second.retries + 1)
        if _is_short(ref, fetched):
            location = f"{ref.source.bucket.location}/{ref.key}"
            reason = (
                f"{location} was cut short twice: {len(fetched.body)} of {ref.size} bytes arrived"
            )
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
    """A small log file that was fetched and is still compressed."""

    ref: LogFileRef
    fetched: Fetched

    @property
    def held(self) -> int:
        """Bytes of memory that it takes while it is compressed.

        What it takes when it is unpacked is not reserved: at most KEYS_A_TASK are unpacked at once.
        """
        return len(self.fetched.body)

    def unpack(self, settings: Settings) -> FetchedLogFile | None:
        """Unpack the log file; return None if it may be damaged or large: see `fetch_log_file`."""
        body = self.fetched.body
        if _is_short(self.ref, self.fetched) or is_to_be_streamed(body):
            return None
        limit = min(settings.max_log_file_bytes, STREAMED_FROM, _expected(len(body)))
        content = decompress(body, limit, hashed=settings.hash_log_files)
        if content.damage is not None:
            return None
        return FetchedLogFile(self.ref, self.fetched.etag, len(body), self.fetched.retries, content)


def expected_size(ref: LogFileRef, settings: Settings) -> int:
    """Return the bytes that a log file is expected to hold, as far as known before the GET."""
    if ref.size > settings.max_stored_bytes:
        return 0  # it is not fetched
    return ref.size + min(_expected(ref.size), STREAMED_FROM)


def _decompress(
    body: bytes, settings: Settings, reservation: Reservation
) -> Decompressed | StreamedLogFile:
    """Decompress a body, in steps that each reserve their bytes first: so a bomb does no harm.

    A body is decompressed as far as its size lets expect. A body that expands to more is
    decompressed anew, which costs it up to a half more time. A body that is too large to be held,
    and cannot be read in parts, is decompressed once more, into a file.
    """
    limit, hashed = settings.max_log_file_bytes, settings.hash_log_files
    is_streamed = is_to_be_streamed(body)
    if is_streamed:
        streamed = _stream(body, settings, reservation)
        if streamed is not None:
            return streamed
    format_ = format_of(body)
    window = format_.window if format_ else 0
    held = min(limit, STREAMED_FROM)
    expected = _expected(len(body))
    for step in (expected, held) if expected < held else (held,):
        if len(body) + step + min(step, window) > reservation.size:
            reservation.resize(len(body) + step + min(step, window))
        content = decompress(body, step, hashed=hashed)
        if step == limit or not is_over(content, step):
            return content
    if not is_streamed:  # it said that its text is short, or not how long
        streamed = _stream(body, settings, reservation)
        if streamed is not None:
            return streamed
    reservation.resize(len(body) + IN_HAND + window)
    return decompress_to_file(body, limit, settings.state_db.parent, hashed=hashed)


def _stream(body: bytes, settings: Settings, reservation: Reservation) -> StreamedLogFile | None:
    """Return a log file that is read in parts; None if that is not possible."""
    reservation.resize(held_by(body))
    return stream(body, settings.max_log_file_bytes, hashed=settings.hash_log_files)


def _expected(stored: int) -> int:
    """Return the uncompressed bytes that are expected of so many stored ones."""
    return max(_LEAST_EXPECTED, _EXPANSION * stored)


def _get(ref: LogFileRef, response: Fetched | StoreError | None = None) -> Fetched:
    """Return the version that was listed, or the present one if it was written again since."""
    bucket = ref.source.bucket
    try:
        if response is None:
            return bucket.get(ref.key, ref.etag)
        if isinstance(response, StoreError):
            raise response
    except ObjectChanged:
        return bucket.get(ref.key, None)
    return response


def _is_short(ref: LogFileRef, fetched: Fetched) -> bool:
    """Whether fewer bytes arrived than the listing showed of this same version."""
    return fetched.etag == ref.etag and len(fetched.body) < ref.size


def _failed(ref: LogFileRef, state: LogFileState, reason: str) -> FetchedLogFile:
    return FetchedLogFile(ref, _known_etag(ref), ref.size, 0, None, state, reason)


def _known_etag(ref: LogFileRef) -> bytes:
    """Return the etag that is known without a GET; empty if none is known."""
    return ref.etag or (ref.expected.etag if ref.expected else b"")
