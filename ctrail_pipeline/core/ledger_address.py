"""Where a ledger is: an SQLite file on a local disk, or a database of a PostgreSQL server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")


@dataclass(frozen=True)
class PostgresAddress:
    """A database of a PostgreSQL server, as libpq's URLs name it (PostgreSQL manual, 34.1.1).

    The URL holds no password: libpq takes the password from PGPASSWORD, PGPASSFILE or a service
    file. So the address may be printed.
    """

    url: str

    def __str__(self) -> str:
        """Return the URL."""
        return self.url


LedgerAddress: TypeAlias = Path | PostgresAddress


def ledger_address(text: str) -> LedgerAddress:
    """Return the address that a text names: a path, or a URL of PostgreSQL."""
    return PostgresAddress(text) if text.startswith(POSTGRES_SCHEMES) else Path(text)
