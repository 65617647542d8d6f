"""Steps of a campaign that are about a ledger in PostgreSQL: server, connections and database.

Connections end, the server stops as in a crash, and another database comes in place of the
ledger's. All other steps are in `campaign`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from random import Random
from typing import TYPE_CHECKING

import psycopg

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger_address import PostgresAddress
from ctrail_pipeline.sample.bucket import LAST_DAY
from ctrail_pipeline_tests.support.postgres_server import PostgresServer

from .world import DAYS

if TYPE_CHECKING:
    from .campaign import Steps

_MIDNIGHT = datetime.combine(LAST_DAY, time_of_day(), UTC)


class PostgresSteps:
    """The steps that a campaign takes besides, where the ledger is in PostgreSQL."""

    def __init__(self, steps: "Steps", server: PostgresServer) -> None:
        self._steps = steps
        self._server = server

    @property
    def weights(self) -> dict[str, tuple[float, Callable[[Random], None]]]:
        """The steps by name, with their weights."""
        return {
            "connections ended": (8, self._connections_ended),
            "server stopped hard": (8, self._server_stopped),
            "empty ledger": (3, self._empty_ledger),
            "older ledger": (4, self._older_ledger),
            "lost ledger": (4, self._lost_ledger),
        }

    @property
    def _address(self) -> PostgresAddress:
        assert self._steps.world.settings.postgres is not None
        return self._steps.world.settings.postgres

    @property
    def _database(self) -> str:
        """The name of the database that holds the ledger."""
        return self._address.url.split("/")[3].partition("?")[0]

    def _connections_ended(self, rng: Random) -> None:
        """Run syncs, compactions and verifications, and end their connections many times."""
        kinds = ["sync", "sync", *rng.choice([[], ["compact"], ["prune"], ["verify"]])]
        before = _MIDNIGHT - timedelta(hours=rng.randrange(24 * DAYS))
        if "prune" in kinds:
            self._steps.world.prune_somehow(f"{before:%Y/%m/%d/%H}")
        actors = [self._steps._start(kind, rng, before=before) for kind in kinds]
        for actor in actors:
            actor.wait_until_ready()
        for _ in range(rng.randrange(1, 25)):
            time.sleep(rng.uniform(0.005, 0.08))
            ended = self._server.end_connections(self._address)
            self._steps._tally.trouble["connections ended"] += ended
        self._steps._wait(actors)

    def _server_stopped(self, rng: Random) -> None:
        """Stop the server hard while processes are at work, and start the server again."""
        for _ in range(rng.randrange(1, 3)):
            kinds = ["sync", "sync", *rng.choice([[], ["compact"], ["verify"]])]
            actors = [self._steps._start(kind, rng) for kind in kinds]
            for actor in actors:
                actor.wait_until_ready()
            time.sleep(rng.uniform(0.01, 0.5))
            self._server.stop_hard()
            self._steps._tally.trouble["server stopped hard"] += 1
            time.sleep(rng.choice([0, 0, 0.5]))
            self._server.start()
            self._steps._wait(actors)

    def _empty_ledger(self, rng: Random) -> None:
        """Put an empty database in place of the ledger. A sync refuses the database."""
        if not self._has_marker():
            return
        self._steps._tally.trouble["empty ledger"] += 1
        with self._another_database(f"CREATE DATABASE {self._database}"):
            self._steps._must_refuse(rng, "the database is empty")

    def _older_ledger(self, rng: Random) -> None:
        """Put a copy from before a storm in place of the ledger. A sync refuses the copy."""
        if (copy := self._older_copy(rng)) is None:
            return
        self._steps._tally.trouble["older ledger"] += 1
        with self._another_database(f"ALTER DATABASE {copy} RENAME TO {self._database}"):
            self._steps._must_refuse(rng, "the ledger is older than the output")

    def _lost_ledger(self, rng: Random) -> None:
        """Lose the ledger for good: a sync refuses, and `rebuild` makes a new one of the output."""
        if not self._has_marker():
            return
        if rng.random() < 0.7:  # killed processes leave their traces
            rng.choice([self._steps._storm, self._steps._compact])(rng)
        loss = rng.choice(["tables dropped", "empty database", "older copy"])
        statement = f"CREATE DATABASE {self._database}"
        if loss == "older copy":
            if (copy := self._older_copy(rng)) is None:
                return
            statement = f"ALTER DATABASE {copy} RENAME TO {self._database}"
        self._steps._tally.trouble[f"ledger: {loss}"] += 1
        if loss == "tables dropped":
            with psycopg.connect(self._address.url, autocommit=True) as connection:
                connection.execute("DROP SCHEMA public CASCADE")
                connection.execute("CREATE SCHEMA public")
        else:
            self._server.end_connections(self._address)
            self._server.run(f"DROP DATABASE {self._database} WITH (FORCE)")
            self._server.run(statement)
        self._steps._must_refuse(rng, f"the ledger is lost ({loss})")
        self._steps._rebuild(rng)

    def _older_copy(self, rng: Random) -> str | None:
        """Return a database from before a storm; None if the storm committed nothing."""
        if not self._has_marker():
            return None
        copy = f"copy_of_{self._database}"
        self._server.end_connections(self._address)
        self._server.run(f"CREATE DATABASE {copy} TEMPLATE {self._database}")
        with closing(Ledger(self._steps.world.settings.ledger)) as ledger:
            generation = ledger.generation
        self._steps._storm(rng)
        noted = self._steps.world.marker()
        if noted is None or noted.generation <= generation:
            self._server.run(f"DROP DATABASE {copy}")
            return None
        return copy

    def _has_marker(self) -> bool:
        return self._steps.world.marker() is not None

    @contextmanager
    def _another_database(self, statement: str) -> Iterator[None]:
        """Have another database in place of the ledger's; the statement gives it its name."""
        away = f"away_{self._database}"
        self._server.end_connections(self._address)
        self._server.run(f"ALTER DATABASE {self._database} RENAME TO {away}")
        try:
            self._server.run(statement)
            yield
        finally:
            self._server.run(f"DROP DATABASE IF EXISTS {self._database} WITH (FORCE)")
            self._server.run(f"ALTER DATABASE {away} RENAME TO {self._database}")
