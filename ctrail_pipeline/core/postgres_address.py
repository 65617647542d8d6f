"""Where a ledger in PostgreSQL is."""

from dataclasses import dataclass


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
