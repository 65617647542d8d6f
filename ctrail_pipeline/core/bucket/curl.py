"""Many requests to S3 at once through libcurl, all driven by one thread.

A GET costs two thirds to three quarters of the CPU that obstore's does, and it is the largest part
of what a small log file costs (benchmarks/RESULTS.md). libcurl signs (SigV4), keeps connections and
checks certificates. A thread for each request would cost more: each would load the certificate
authorities for itself (1 MB) and wait for Python's lock many times.

Not here: trying again (`s3_retry`), and what an error means for a bucket (`s3_errors`).
"""

import atexit
import os
import re
import selectors
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from io import BytesIO
from time import monotonic
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from ctrail_pipeline.core.open_files import connections_of_a_client

from .curl_request import (
    TOO_LONG,
    Answer,
    CurlError,
    Keys,
    NoAnswer,
    OtherAnswer,
    ProxyAnswer,
    Target,
    Wanted,
)

_NO_BODY: Final = (
    "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)
"""The header that SigV4 wants in a request without a body: the SHA-256 of nothing."""
_CERTIFICATE: Final = re.compile(r"SSL certificate [\w ]+: ([a-z ]+)(?: \(\d+\))?")
"""libcurl's text for a certificate that is not trusted, with OpenSSL's reason."""
_READ_BYTES: Final = 128 * 1024
"""Bytes that are read from a connection at once; libcurl calls us for each such piece."""
_OK: Final = 200
_REFUSED: Final = 300
"""The lowest status by which a proxy refuses to connect."""
_CONNECTIONS_PER_REQUEST: Final = 3
"""Connections that are kept for each request in flight: buckets asked in turn have their own."""
_STOP_SECONDS: Final = 2
"""How long the end of the process waits for the thread, of which a turn takes milliseconds."""


class _Task:
    """Objects that a thread waits for together."""

    def __init__(self, target: Target, keys: Keys, count: int) -> None:
        self.target = target
        self.keys = keys
        self.answers: list[Answer | CurlError] = [NoAnswer(0, "not asked for")] * count
        self._pending = count
        self._done = threading.Event()
        self._failure: BaseException | None = None

    def answer(self, number: int, answer: Answer | CurlError) -> None:
        """Keep the answer to the `number`-th request."""
        self.answers[number] = answer
        self._pending -= 1
        if not self._pending:
            self._done.set()

    def give_up(self, failure: BaseException) -> None:
        """End the waiting: no further answer comes."""
        self._failure = failure
        self._done.set()

    def wait(self) -> list[Answer | CurlError]:
        """Return the answer to each request, when all are there."""
        self._done.wait()
        if self._failure is not None:
            raise RuntimeError("a bucket cannot be asked") from self._failure
        return self.answers


class _Request(NamedTuple):
    task: _Task
    number: int
    wanted: Wanted


class Transfers:
    """Requests of a process. The first one starts the thread that drives them all."""

    def __init__(self, limit: int) -> None:
        """`limit`: how many requests are in flight at once; further requests wait.

        There are fewer where this process may not have so many connections.
        """
        self._most_connections = connections_of_a_client()
        self._limit = min(limit, self._most_connections)
        self._waiting: deque[_Request] = deque()
        self._running: dict[Any, tuple[_Request, BytesIO, BytesIO]] = {}
        """By libcurl's handle: the request, and where the answer's head and body are put."""
        self._idle: list[Any] = []
        self._set_for: dict[Any, tuple[Target, Keys]] = {}
        """The target that each handle is set up for: most requests are for the same bucket."""
        self._watched: dict[int, int] = {}
        """Connections that libcurl waits for, and the events it waits for."""
        self._due: float | None = None
        """When to call libcurl at the latest, whatever the connections do."""
        self._is_asleep = False
        self._is_closed = False
        self._ended_by: BaseException | None = None
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def get(self, target: Target, keys: Keys, wanted: Sequence[Wanted]) -> list[Answer | CurlError]:
        """Make requests to one bucket side by side, and return an answer or error for each.

        `can_ask_for` must hold for each request.
        """
        if self._thread is None:
            self._start()
        task = _Task(target, keys, len(wanted))
        if wanted:
            self._waiting.extend(_Request(task, *item) for item in enumerate(wanted))
            self._wake()
            if self._ended_by is not None:
                task.give_up(self._ended_by)
            return task.wait()
        return []

    def close(self) -> None:
        """End the thread; RuntimeError is raised in every thread that waits for an answer."""
        thread, self._is_closed = self._thread, True
        if thread is not None:
            self._wake()
            thread.join(_STOP_SECONDS)

    def _start(self) -> None:
        import pycurl

        with self._starting:
            if self._thread is not None:
                return
            self._names = pycurl
            self._multi = pycurl.CurlMulti()
            kept = min(_CONNECTIONS_PER_REQUEST * self._limit, self._most_connections)
            self._multi.setopt(pycurl.M_MAXCONNECTS, kept)
            self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
            self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
            self._alarm, self._ring = os.pipe()
            os.set_blocking(self._ring, False)
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._alarm, selectors.EVENT_READ)
            thread = threading.Thread(target=self._serve, name="ctrail-curl", daemon=True)
            thread.start()
            self._thread = thread  # only now: nobody may wait for a thread that could not start
            # While the interpreter ends, a thread inside libcurl could outlive its own data.
            atexit.register(self.close)

    def _wake(self) -> None:
        if self._is_asleep:
            with suppress(BlockingIOError):  # a wake-up is waiting already
                os.write(self._ring, b"\0")

    def _serve(self) -> None:
        try:
            while not self._is_closed:
                self._turn()
            self._release(CurlError("closed"))
        except BaseException as error:  # noqa: BLE001 - raised again in the threads that wait
            self._release(error)

    def _release(self, failure: BaseException) -> None:
        """End all waiting: no further answer comes."""
        self._ended_by = failure
        for request, _head, _body in self._running.values():
            request.task.give_up(failure)
        while self._waiting:
            self._waiting.popleft().task.give_up(failure)

    def _turn(self) -> None:
        while self._waiting and len(self._running) < self._limit:
            request = self._waiting.popleft()
            try:
                self._begin(request)
            except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
                request.task.give_up(error)
        for key, events in self._events():
            if key.fd == self._alarm:
                os.read(self._alarm, 4096)
            else:
                self._go_on(key.fd, events)
        if self._due is not None and self._due <= monotonic():
            self._due = None
            self._multi.socket_action(self._names.SOCKET_TIMEOUT, 0)
        self._collect()

    def _events(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait until there is something to do."""
        timeout = None if self._due is None else max(0.0, self._due - monotonic())
        # A thread that asks first puts its request into the queue and then looks whether this
        # thread sleeps. So this thread first says that it sleeps and then looks into the queue.
        self._is_asleep = True
        if self._is_closed or (self._waiting and len(self._running) < self._limit):
            timeout = 0
        events = self._selector.select(timeout)
        self._is_asleep = False
        return events

    def _begin(self, request: _Request) -> None:
        task, wanted = request.task, request.wanted
        path = f"?{wanted.query}" if wanted.query else f"/{quote(wanted.key)}"
        headers = [_NO_BODY, *task.target.headers]
        if task.keys.token:
            headers.append(f"x-amz-security-token: {task.keys.token}")
        if wanted.etag is not None:
            headers.append(f"if-match: {wanted.etag}")
        if wanted.is_probe:
            headers.append("range: bytes=0-0")
        curl = self._idle.pop() if self._idle else self._names.Curl()
        names, head, body = self._names, BytesIO(), BytesIO()
        if self._set_for.get(curl) != (task.target, task.keys):
            self._set_up(curl, task.target, task.keys)
        curl.setopt(names.URL, f"{task.target.url}{path}".encode())
        curl.setopt(names.HTTPHEADER, headers)
        curl.setopt(names.WRITEHEADER, head)
        curl.setopt(names.WRITEDATA, body)
        self._multi.add_handle(curl)
        self._running[curl] = request, head, body

    def _set_up(self, curl: Any, target: Target, keys: Keys) -> None:
        names = self._names
        curl.reset()
        curl.setopt(names.NOSIGNAL, 1)
        curl.setopt(names.BUFFERSIZE, _READ_BYTES)
        curl.setopt(names.USERAGENT, "ctrail_pipeline")
        # S3 speaks no other version; with HTTP/2 all requests would share one connection.
        curl.setopt(names.HTTP_VERSION, names.CURL_HTTP_VERSION_1_1)
        curl.setopt(names.AWS_SIGV4, f"aws:amz:{target.region}:{target.service}".encode())
        curl.setopt(names.USERNAME, keys.access_key.encode())
        curl.setopt(names.PASSWORD, keys.secret_key.encode())
        curl.setopt(names.CONNECTTIMEOUT_MS, int(target.connect_timeout * 1000))
        curl.setopt(names.TIMEOUT_MS, int(target.timeout * 1000))
        curl.setopt(names.MAXFILESIZE, target.max_answer_bytes)
        curl.setopt(names.PROXY, target.proxy.encode())
        curl.setopt(names.NOPROXY, b"")  # else libcurl reads the environment
        for option, value in (
            (names.CAINFO, target.authorities_file),
            (names.CAPATH, target.authorities_folder),
            (names.PROXY_CAINFO, target.authorities_file),
            (names.PROXY_CAPATH, target.authorities_folder),
        ):
            if value is None:
                curl.unsetopt(option)
            else:
                curl.setopt(option, value.encode())
        self._set_for[curl] = target, keys

    def _go_on(self, fd: int, events: int) -> None:
        mask = 0
        if events & selectors.EVENT_READ:
            mask |= self._names.CSELECT_IN
        if events & selectors.EVENT_WRITE:
            mask |= self._names.CSELECT_OUT
        self._multi.socket_action(fd, mask)

    def _collect(self) -> None:
        """Hand out the answers that are complete."""
        queued = 1
        while queued:
            queued, done, failed = self._multi.info_read()
            for curl in done:
                self._end(curl, None)
            for curl, number, text in failed:
                self._end(curl, self._no_answer(number, text))

    def _end(self, curl: Any, failure: NoAnswer | ProxyAnswer | None) -> None:
        request, head, body = self._running[curl]
        if (
            isinstance(failure, NoAnswer)
            and failure.number == TOO_LONG
            and self._status(curl) != _OK
        ):
            failure = None  # the beginning of an error answer is enough to tell the error
        connected = int(curl.getinfo(self._names.HTTP_CONNECTCODE))
        if failure and connected >= _REFUSED:
            failure = ProxyAnswer(connected)
        answer = failure or self._answer(curl, request.wanted, head.getvalue(), body.getvalue())
        if isinstance(answer, CurlError):
            answer.seconds = curl.getinfo(self._names.TOTAL_TIME)
        self._multi.remove_handle(curl)
        del self._running[curl]
        for kept in (head, body):  # else the handle keeps them until it is used again
            kept.close()
        self._idle.append(curl)
        request.task.answer(request.number, answer)

    def _answer(self, curl: Any, wanted: Wanted, head: bytes, body: bytes) -> Answer | CurlError:
        status = self._status(curl)
        if status != _OK:
            return OtherAnswer(status, body, head=head)
        length = curl.getinfo(self._names.CONTENT_LENGTH_DOWNLOAD_T)
        if length != len(body) and not wanted.query:
            # libcurl notices by itself that an answer is cut short, but not without a length. S3
            # sends none with a list, and its XML has an end.
            return self._no_answer(self._names.E_PARTIAL_FILE, "")
        at = head.lower().rfind(b"\netag:")  # the last, since a proxy's answer may come first
        etag = head[at + 6 : head.find(b"\n", at + 1)] if at >= 0 else b""
        return Answer(body, etag.decode("latin-1").strip())

    def _status(self, curl: Any) -> int:
        return int(curl.getinfo(self._names.RESPONSE_CODE))

    def _no_answer(self, number: int, text: str) -> NoAnswer:
        """An error whose text holds no address and nothing that a server sent."""
        certificate = _CERTIFICATE.fullmatch(text)
        return NoAnswer(
            number, certificate[1] if certificate else self._names.easy_strerror(number)
        )

    def _watch(self, action: int, fd: int, _multi: Any, _data: Any) -> None:
        """Take note of what libcurl waits for on a connection; libcurl calls this."""
        names = self._names
        if action == names.POLL_REMOVE:
            if self._watched.pop(fd, None) is not None:
                self._selector.unregister(fd)
            return
        events = 0
        if action & names.POLL_IN:
            events |= selectors.EVENT_READ
        if action & names.POLL_OUT:
            events |= selectors.EVENT_WRITE
        if fd in self._watched:
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)
        self._watched[fd] = events

    def _set_timer(self, milliseconds: int) -> None:
        """Take note of when to call libcurl at the latest (-1: never); libcurl calls this."""
        self._due = None if milliseconds < 0 else monotonic() + milliseconds / 1000


@cache
def transfers_of_process(limit: int) -> Transfers:
    """The transfers that all buckets of this process share."""
    return Transfers(limit)
