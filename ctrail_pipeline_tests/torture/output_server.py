"""The S3 server that holds the outputs of a campaign, and a proxy before it that misbehaves.

The server is SeaweedFS, which knows conditional writes. Processes under test ask the proxy. Checks
and the observer ask the server itself. Each world has a prefix of its own in one bucket.
"""

import http.client
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit

from ctrail_pipeline.core.output_address import BucketAddress
from ctrail_pipeline.core.settings import OutputBucket
from ctrail_pipeline_tests.support.s3_server import ACCESS_KEY, REGION, SECRET_KEY
from ctrail_pipeline_tests.support.seaweedfs import SeaweedFS, s3_client

OUTPUTS: Final = ("folder", "bucket")
BUCKET: Final = "torture"
_UNSENT: Final = {"connection", "transfer-encoding", "keep-alive"}
_BUSY: Final = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
_FAILED: Final = b"<Error><Code>InternalError</Code><Message>Try again.</Message></Error>"


@dataclass
class OutputFaults:
    """The faults of the output's server, as shares of all requests that may meet them."""

    busy: float = 0.0
    """503, and nothing is done."""
    unsent: float = 0.0
    """The connection is closed, and nothing is done."""
    unanswered: float = 0.0
    """The request is done, and the connection is closed instead of an answer."""
    halved: float = 0.0
    """The connection is closed after half of the body that a GET asks for."""
    failed_copy: float = 0.0
    """A COPY is answered with status 200 and an error in the body, and is not done."""
    late_copy: float = 0.0
    """A COPY's connection is closed, and the COPY is done some time later."""

    @classmethod
    def drawn(cls, rng: Random) -> "OutputFaults":
        """Draw the faults of a step."""
        if rng.random() < 0.2:
            return cls()
        share = rng.uniform(0.02, 0.3)
        return cls(
            *(share * rng.uniform(0, 0.4) for _ in range(4)),
            *(share * rng.uniform(0, 1) for _ in range(2)),
        )


class OutputProxy:
    """Hands requests on to the server, or does not."""

    def __init__(self, server_url: str) -> None:
        self.faults = OutputFaults()
        self.counts: Counter[str] = Counter()
        self.late = 0
        """COPYs that are still to be done."""
        self.lock = threading.Lock()
        self.rng = Random(1)
        parts = urlsplit(server_url)
        self.server = str(parts.hostname), int(parts.port or 80)

        class Handler(_Handler):
            proxy = self

        self._http = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        """The URL that processes under test ask."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def wait_for_late_copies(self) -> None:
        """Return when no COPY is on its way any more."""
        end = time.monotonic() + 30
        while self.late and time.monotonic() < end:
            time.sleep(0.02)
        assert not self.late

    def close(self) -> None:
        """End the proxy."""
        self._http.shutdown()
        self._http.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 200

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that was killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    proxy: OutputProxy

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self._fault()
        if fault:
            with self.proxy.lock:
                self.proxy.counts[f"output: {fault}"] += 1
        if fault == "busy":
            self._send(503, [], _BUSY)
        elif fault == "failed_copy":
            self._send(200, [("Content-Type", "application/xml")], _FAILED)
        elif fault == "unsent":
            self.close_connection = True
        elif fault == "late_copy":
            self.close_connection = True
            threading.Thread(target=self._forward_late, args=(body,), daemon=True).start()
        else:
            self._forward(body, fault)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *_arguments: object) -> None:
        pass

    def _fault(self) -> str:
        """Draw the fault that this request meets; "" for none."""
        faults = self.proxy.faults
        kinds = ["busy", "unsent", "unanswered"]
        kinds += ["halved"] * (self.command == "GET")
        if "x-amz-copy-source" in self.headers:
            kinds += ["failed_copy", "late_copy"]
        with self.proxy.lock:
            chance, pause = self.proxy.rng.random(), self.proxy.rng.uniform(0, 1.5)
            for kind in kinds:
                chance -= getattr(faults, kind)
                if chance < 0:
                    self.pause = pause
                    self.proxy.late += kind == "late_copy"
                    return kind
        return ""

    def _forward_late(self, body: bytes) -> None:
        try:
            time.sleep(self.pause)
            with suppress(OSError, http.client.HTTPException):
                self._answer(body)
        finally:
            with self.proxy.lock:
                self.proxy.late -= 1

    def _forward(self, body: bytes, fault: str) -> None:
        try:
            status, headers, content = self._answer(body)
        except (OSError, http.client.HTTPException):  # the server is stopped
            self.close_connection = True
            return
        if fault == "unanswered":
            self.close_connection = True
            return
        self._send(status, headers, content, half=fault == "halved")

    def _answer(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.proxy.server, timeout=30)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in _UNSENT:
                    connection.putheader(name, value)
            connection.putheader("Connection", "close")
            connection.endheaders(body or None)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _send(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, half: bool = False
    ) -> None:
        self.send_response_only(status)
        is_head = self.command == "HEAD"
        for name, value in headers:
            if name.lower() not in _UNSENT and (is_head or name.lower() != "content-length"):
                self.send_header(name, value)
        if not is_head and status not in {204, 304}:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if half:
            content, self.close_connection = content[: len(content) // 2], True
        if not is_head:
            self.wfile.write(content)


class OutputServer:
    """The server of a campaign's outputs, with its proxy."""

    def __init__(self) -> None:
        self.seaweedfs = SeaweedFS(Path(sys.executable).with_name("weed"))
        self.client = s3_client(self.seaweedfs.endpoint_url)
        self.client.create_bucket(Bucket=BUCKET)
        self.proxy = OutputProxy(self.seaweedfs.endpoint_url)

    def close(self) -> None:
        """End both."""
        self.proxy.close()
        self.seaweedfs.stop()

    def output_of(self, world: str) -> OutputBucket:
        """Return where the output of a world lies, as processes under test see it."""
        events, quarantine, parquet = (
            BucketAddress(BUCKET, f"{world}/{name}") for name in ("events", "quarantine", "parquet")
        )
        return OutputBucket(events, quarantine, parquet, region=REGION, endpoint_url=self.proxy.url)

    def keys(self, prefix: str) -> dict[str, str]:
        """Return the etags of all objects whose keys begin so, by key."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", ())}


class Mirror:
    """A copy of a world's output in a folder, for checks that read folders."""

    def __init__(self, server: OutputServer, world: str, folder: Path) -> None:
        self.folder = folder
        self._server = server
        self._prefix = f"{world}/"
        self._etags: dict[str, str] = {}

    def update(self) -> None:
        """Make the copy what the bucket holds now."""
        present = self._server.keys(self._prefix)
        for key in self._etags.keys() - present.keys():
            (self.folder / key.removeprefix(self._prefix)).unlink()
        for key, etag in present.items():
            path = self.folder / key.removeprefix(self._prefix)
            if self._etags.get(key) == etag:
                continue
            for parent in reversed([path.parent, *path.parent.parents]):
                if parent.is_relative_to(self.folder):
                    parent.mkdir(mode=0o700, exist_ok=True, parents=True)
            body = self._server.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            path.touch(0o600)
            path.write_bytes(body)
        self._etags = present
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()

    def staged(self) -> list[str]:
        """Return the keys of all staged objects."""
        return sorted(self._server.keys(f"{self._prefix}.staging/"))


@contextmanager
def output_server(output: str) -> Iterator[OutputServer | None]:
    """Start the server that a campaign's outputs need, and end it afterwards."""
    if output == "folder":
        yield None
        return
    server = OutputServer()
    try:
        yield server
    finally:
        server.close()


def credentials() -> dict[str, str]:
    """Return the variables that let processes write. The logs' server takes any credentials."""
    return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
