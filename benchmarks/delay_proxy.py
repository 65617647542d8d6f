"""A TCP proxy that forwards what a client sends some time later, and answers at once.

A GET or a LIST is one segment without a body, so each request is delayed once. The first segment
of a new connection is delayed once more, for the connection's handshake. The proxy prints its port.
The server is at a URL, or behind a socket: `unix:///folder/name`.
"""

import asyncio
import json
import sys
from urllib.parse import urlsplit

_BUFFER_BYTES = 1 << 20


class _Upstream(asyncio.Protocol):
    """The server's side of a connection."""

    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._client.close()


class _Client(asyncio.Protocol):
    """The client's side."""

    def __init__(self, endpoint_url: str, delay_seconds: float) -> None:
        self._server = urlsplit(endpoint_url)
        self._delay_seconds = delay_seconds
        self._connected_at = 0.0
        self._queue: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(_BUFFER_BYTES)
        loop = asyncio.get_running_loop()
        # The handshake's round trip: the client takes itself for connected as soon as we accept.
        self._connected_at = loop.time() + self._delay_seconds
        self._task = loop.create_task(self._forward(transport))

    def data_received(self, data: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._queue.put_nowait((max(now, self._connected_at) + self._delay_seconds, data))

    def connection_lost(self, _error: Exception | None) -> None:
        self._queue.put_nowait((0.0, None))

    async def _forward(self, client: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        server = self._server
        if server.scheme == "unix":
            upstream, _ = await loop.create_unix_connection(lambda: _Upstream(client), server.path)
        else:
            upstream, _ = await loop.create_connection(
                lambda: _Upstream(client), server.hostname or "", server.port or 0
            )
        while True:
            due, data = await self._queue.get()
            if data is None:
                upstream.close()
                return
            wait = due - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            upstream.write(data)


async def _serve(endpoint_url: str, delay_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(
        lambda: _Client(endpoint_url, delay_seconds), "127.0.0.1", 0
    )
    print(listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(**json.loads(sys.argv[1])))
