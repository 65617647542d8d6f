"""What checking digests needs of the ledger: hashes of log files, and the public keys of digests.

Functions over a `Ledger`. Public keys are kept for ever, as AWS forgets old ones. Reading and
checking digests is in `core.audit`.
"""

from typing import NamedTuple

from .accepted import acceptances_without_row
from .cold_rows import cold_log_files
from .ledger import Ledger
from .rows import LogFileState

LAST_NAME = chr(0x10FFFF)
"""A name that comes after every other name."""


class PublicKey(NamedTuple):
    """A public key as ListPublicKeys gives it."""

    fingerprint: str
    der: bytes


class Hashed(NamedTuple):
    """What a log file's row says that a digest makes a claim about."""

    state: LogFileState
    etag: bytes
    sha256: bytes | None
    """SHA-256 of the uncompressed bytes; None if they were never read, or hashing was off. Earlier
    versions of this program kept hashes of damaged log files, too."""
    is_accepted: bool = False
    """Whether a person settled the log file as it is."""


def hashed_log_files(ledger: Ledger, source_id: int, day: int) -> dict[str, Hashed]:
    """Return the log files of one day of a source prefix, by name.

    Accepted log files are among them, even those that a rebuilt ledger has not met again.
    """
    days = (day, day + 1)
    accepted = {
        acceptance.name: Hashed(acceptance.state, acceptance.etag, None, is_accepted=True)
        for acceptance in acceptances_without_row(ledger, source_id, days)
    }
    hot = {
        name: Hashed(LogFileState(state), etag, sha256, bool(accepted))
        for name, state, etag, sha256, accepted in ledger.rows(
            "SELECT name, state, etag, sha256, accepted FROM log_file"
            " WHERE source_prefix = ? AND day = ?",
            source_id,
            day,
        )
    }
    cold = {  # after the hot ones: see `cold_rows`
        row.name: Hashed(LogFileState.COMMITTED, row.etag, row.sha256)
        for row in cold_log_files(ledger, source_id, day, "", LAST_NAME)
    }
    return {**accepted, **cold, **hot}


def kept_public_keys(ledger: Ledger) -> dict[str, PublicKey]:
    """Return every public key that AWS ever gave, by fingerprint."""
    rows = ledger.rows("SELECT fingerprint, der FROM public_key")
    return {fingerprint: PublicKey(fingerprint, der) for fingerprint, der in rows}


def keep_public_keys(ledger: Ledger, keys: list[PublicKey], now: int) -> None:
    """Keep public keys that AWS gave; the first key of a fingerprint stays."""
    with ledger.transaction():
        ledger.execute_many(
            "INSERT INTO public_key (fingerprint, der, added_at) VALUES (?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            [(key.fingerprint, key.der, now) for key in keys],
        )
