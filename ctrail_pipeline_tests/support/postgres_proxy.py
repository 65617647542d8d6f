"""A proxy between a program and a PostgreSQL server, which loses a COMMIT or its answer.

It listens on 127.0.0.1, and passes on what both sides say. Once it is told to `lose`, it looks for
the next COMMIT of any connection.
"""

import selectors
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from ctrail_pipeline.core.ledger_address import PostgresAddress

Loss = Literal["sent in vain", "answered in vain", "half-closed", "unsent", "unsent, half-closed"]
"""What becomes of a COMMIT: sent, and the client is cut off at once; answered, and the answer is
swallowed; answered, and only the client's side is closed; not sent, and both sides, or the client's
side only, are closed."""


class Proxy:
    """A proxy for one database."""

    def __init__(self, target: PostgresAddress) -> None:
        self._target = urlsplit(target.url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._loss: Loss | None = None
        self.lost = 0
        """Number of COMMITs that were lost, or whose answer was."""
        self._left_open: list[socket.socket] = []
        port = self._listener.getsockname()[1]
        name = self._target.path
        self.address = PostgresAddress(
            f"postgresql://{self._target.username}@127.0.0.1:{port}{name}?sslmode=disable"
            "&gssencmode=disable"
        )
        Thread(target=self._accept, daemon=True).start()

    def lose(self, loss: Loss) -> None:
        """Lose the next COMMIT, or its answer."""
        self._loss = loss

    def close(self) -> None:
        """Take no more connections, and end those that were left open."""
        self._listener.close()
        for server in self._left_open:
            server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                folder = parse_qs(self._target.query)["host"][0]
                server.connect(f"{folder}/.s.PGSQL.5432")
                Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what both sides say, until one of them has no more to say."""
        with client, suppress(OSError), selectors.DefaultSelector() as selector:
            for side in (client, server):
                selector.register(side, selectors.EVENT_READ)
            while True:
                for ready, _ in selector.select():
                    side = client if ready.fileobj is client else server
                    said = side.recv(1 << 16)
                    if side is client and self._loss and b"COMMIT\0" in said:
                        loss, self._loss = self._loss, None
                        self._lose(loss, said, client, server)
                        return
                    if not said:
                        server.close()
                        return
                    (server if side is client else client).sendall(said)
        server.close()

    def _lose(self, loss: Loss, said: bytes, client: socket.socket, server: socket.socket) -> None:
        self.lost += 1
        if not loss.startswith("unsent"):
            server.sendall(said)
        if loss in ("answered in vain", "half-closed"):
            server.recv(1 << 16)
        if loss.endswith("half-closed"):
            self._left_open.append(server)
            client.shutdown(socket.SHUT_WR)
            client.recv(1)  # the client closes its side
        else:
            server.close()


@contextmanager
def proxy_to(target: PostgresAddress) -> Iterator[Proxy]:
    """Run a proxy for a database."""
    proxy = Proxy(target)
    try:
        yield proxy
    finally:
        proxy.close()
