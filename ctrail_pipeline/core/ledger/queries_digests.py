"""What a proof needs of the ledger: hashes of log files, and the public keys of digests.

Functions over a Ledger, with SQL: a topic of its own beside `ledger`.
"""

from typing import NamedTuple

from .cold_rows import cold_log_files
from .ledger import Ledger
from .rows import LogFileState

LAST_NAME = chr(0x10FFFF)
"""Behind every name."""


class PublicKey(NamedTuple):
    """A public key as ListPublicKeys gives it."""

    fingerprint: str
    der: bytes


class Hashed(NamedTuple):
    """A log file's row, as far as a digest's claim needs it."""

    state: LogFileState
    etag: bytes
    sha256: bytes | None
    """Of its uncompressed bytes; None where it was never read, or hashing was off."""


def hashed_log_files(ledger: Ledger, source_id: int, day: int) -> dict[str, Hashed]:
    """The log files of one day of a source partition, by name."""
    hot = {
        name: Hashed(LogFileState(state), etag, sha256)
        for name, state, etag, sha256 in ledger.rows(
            "SELECT name, state, etag, sha256 FROM log_file WHERE source_partition = ? AND day = ?",
            source_id,
            day,
        )
    }
    cold = {
        row.name: Hashed(LogFileState.COMMITTED, row.etag, row.sha256)
        for row in cold_log_files(ledger, source_id, day, "", LAST_NAME)
    }
    return {**cold, **hot}


def kept_public_keys(ledger: Ledger) -> dict[str, PublicKey]:
    """Every public key that AWS ever gave, by fingerprint: AWS forgets old ones, we do not."""
    rows = ledger.rows("SELECT fingerprint, der FROM public_key")
    return {fingerprint: PublicKey(fingerprint, der) for fingerprint, der in rows}


def keep_public_keys(ledger: Ledger, keys: list[PublicKey], now: int) -> None:
    """Keep keys that AWS gave; the first of a fingerprint stays."""
    with ledger.transaction():
        ledger.execute_many(
            "INSERT OR IGNORE INTO public_key (fingerprint, der, added_at) VALUES (?, ?, ?)",
            [(key.fingerprint, key.der, now) for key in keys],
        )
