"""Every host there is, played on the loopback: a proxy, and behind it an S3 server.

The proxy takes CONNECT for any host, and proves to be that host with a certificate of a private
authority. A host that the test has given a bucket is answered by a server on the loopback; any
other host is unknown. Each request is noted with its client, host and signature.
"""

import http.client
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .authority import Authority
from .fault_server import FaultServer

_SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/")
_UNSENT = {"connection", "content-length", "date", "server", "transfer-encoding"}


class Seen(NamedTuple):
    """A request as a host sees it."""

    client: str
    """The client's name, as its User-Agent begins."""
    host: str
    region: str
    """The region and service that the signature is for; "" without a signature."""
    service: str
    has_token: bool
    """Whether a session token came along."""
    path: str


class Reply(NamedTuple):
    """An answer that a test writes itself."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


@dataclass
class Anywhere:
    """Plays hosts while the `with` block runs.

    Example:
        with Anywhere(server, authority) as hosts:
            hosts.buckets["logs.s3.eu-west-1.amazonaws.com"] = "logs"
            monkeypatch.setenv("HTTPS_PROXY", hosts.url)
    """

    server: FaultServer
    authority: Authority
    buckets: dict[str, str] = field(default_factory=dict)
    """The bucket that a host has; "" for a host that has buckets in the path."""
    answer: Callable[[Seen], Reply | None] = lambda _seen: None
    """What a host answers; None: what its bucket answers."""
    refuse: Reply | None = None
    """What the proxy answers to each CONNECT instead of connecting."""
    seen: list[Seen] = field(default_factory=list)
    connects: list[str] = field(default_factory=list)
    """Hosts that the proxy was asked for."""

    def __post_init__(self) -> None:
        class Handler(_Handler):
            world = self

        self._http = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """The URL of the proxy."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def hosts(self) -> dict[str, set[tuple[str, str, str]]]:
        """Host, region and service of all requests, by client."""
        hosts: dict[str, set[tuple[str, str, str]]] = {}
        for seen in self.seen:
            hosts.setdefault(seen.client, set()).add((seen.host, seen.region, seen.service))
        return hosts

    def __enter__(self) -> "Anywhere":
        """Start the proxy."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the proxy."""
        self._http.shutdown()
        self._http.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 200

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing about a client that closed its connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    world: Anywhere
    host = ""
    """The host that is played on this connection; "" where each request names its host."""

    def do_CONNECT(self) -> None:
        host = self.path.rpartition(":")[0]
        self.world.connects.append(host)
        refusal = self.world.refuse or (None if host in self.world.buckets else Reply(502))
        if refusal is not None:
            self._send(refusal)
            return
        self.send_response_only(200)
        self.end_headers()
        self.host = host
        context = self.world.authority.context(host)
        self.connection = self.request = context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb")
        self.close_connection = False

    def do_GET(self) -> None:
        if not self.host:  # a plain request to a proxy names its host
            parts = urlsplit(self.path)
            self.host = parts.hostname or ""
            self.path = self.path.partition(parts.netloc)[2]
        signed = _SCOPE.search(self.headers.get("Authorization", ""))
        seen = Seen(
            self.headers.get("User-Agent", "").partition("/")[0],
            self.host,
            signed[1] if signed else "",
            signed[2] if signed else "",
            "x-amz-security-token" in self.headers,
            self.path,
        )
        self.world.seen.append(seen)
        self._send(self.world.answer(seen) or self._from_bucket())

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()
        with suppress(OSError):
            self.connection.close()

    def log_message(self, *_arguments: object) -> None:
        pass

    def _from_bucket(self) -> Reply:
        bucket = self.world.buckets[self.host]
        server = urlsplit(self.world.server.endpoint_url)
        connection = http.client.HTTPConnection(str(server.hostname), server.port)
        try:
            headers = {name: self.headers[name] for name in self.headers if name != "Host"}
            path = f"/{bucket}{self.path}" if bucket else self.path
            connection.request(self.command, path, headers=headers)
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            if name.lower() not in _UNSENT:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()
