"""Many GETs from S3 at once through libcurl, all driven by one thread.

A GET costs two thirds to three quarters of the CPU that obstore's does, and it is the largest part
of what a small log file costs (benchmarks/RESULTS.md). libcurl signs (SigV4), keeps
connections and checks certificates. In threads of their own requests cost more again: each would
load the certificate authorities for itself (1 MB) and wait for Python's lock many times.

Nothing here tries again or knows what an error means for a bucket: see `s3_retry` and `s3_errors`.
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

_NO_BODY: Final = (
    "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)
"""What SigV4 wants of a request without a body: the SHA-256 of nothing."""
_RESOLVED: Final = re.compile(r"(?:^|/)\.\.?(?:/|$)")
_HEADER_VALUE: Final = re.compile(r"[ -~]*")
_ERROR_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
_CERTIFICATE: Final = re.compile(r"SSL certificate [\w ]+: ([a-z ]+)(?: \(\d+\))?")
"""libcurl's text for a certificate that is not trusted, with OpenSSL's reason."""
_READ_BYTES: Final = 128 * 1024
"""What is read from a connection at once; libcurl calls us for each such piece."""
_OK: Final = 200
_KEPT: Final = 3
"""Connections that are kept for each GET in flight: buckets asked in turn have their own."""
NOT_TRUSTED: Final = 60
"""libcurl's number for a certificate that no authority vouches for, or for another host."""
TOO_LONG: Final = 63
"""libcurl's number for an answer of more bytes than are wanted."""
_STOP_SECONDS: Final = 2
"""How long the end of the process waits for the thread; one turn of it takes milliseconds."""


class CurlError(Exception):
    """A GET that brought no object; its text holds nothing of an answer but S3's error code."""

    seconds: float = 0
    """How long the request took, without waiting for its turn."""


class NoAnswer(CurlError):
    """The connection failed, broke or took too long."""

    def __init__(self, number: int, text: str) -> None:
        """`number`: libcurl's error (https://curl.se/libcurl/c/libcurl-errors.html)."""
        super().__init__(text)
        self.number = number


class OtherAnswer(CurlError):
    """The server answered with something else than the object."""

    def __init__(self, status: int, body: bytes) -> None:
        found = _ERROR_CODE.search(body)
        self.status = status
        self.code = found[1].decode() if found else ""
        """S3's error code; "" where the answer has none, and may not be S3's."""
        self.names_kms = b"kms:" in body
        """Whether the answer names a permission of KMS."""
        super().__init__(f"HTTP {status} {self.code}".rstrip())


class Answer(NamedTuple):
    """An object's bytes, and the etag they came with (in quotes; "" if none came)."""

    body: bytes
    etag: str


class Target(NamedTuple):
    """A bucket, and how it is asked."""

    url: str
    """Of the bucket, without a slash at the end."""
    region: str
    connect_timeout: float
    """Seconds."""
    timeout: float
    """Seconds for a whole request."""
    authorities_file: str | None
    """Certificate authorities, in PEM form."""
    authorities_folder: str | None
    """More of them, in files that are named by OpenSSL's hash."""
    proxy: str
    """URL of a proxy; "" for none."""
    no_proxy: str
    """Hosts that are asked without it, between commas."""
    most_bytes: int
    """Of an answer: a longer one is broken off."""
    headers: tuple[str, ...] = ()
    """What is sent besides."""


class Keys(NamedTuple):
    """What requests are signed with."""

    access_key: str
    secret_key: str
    token: str | None


class Wanted(NamedTuple):
    """An object to ask for."""

    key: str
    etag: str | None
    """In quotes: no other version of it."""


def can_ask_for(wanted: Wanted) -> bool:
    """Whether libcurl asks for it as it is: what it signs has `.` and `..` in paths resolved."""
    return not _RESOLVED.search(wanted.key) and (
        wanted.etag is None or _HEADER_VALUE.fullmatch(wanted.etag) is not None
    )


class _Task:
    """Objects that one thread waits for together."""

    def __init__(self, target: Target, keys: Keys, count: int) -> None:
        self.target = target
        self.keys = keys
        self.answers: list[Answer | CurlError] = [NoAnswer(0, "not asked for")] * count
        self._left = count
        self._done = threading.Event()
        self._why: BaseException | None = None

    def answer(self, number: int, answer: Answer | CurlError) -> None:
        """Keep what came for the `number`-th of them."""
        self.answers[number] = answer
        self._left -= 1
        if not self._left:
            self._done.set()

    def give_up(self, why: BaseException) -> None:
        """Nothing more comes."""
        self._why = why
        self._done.set()

    def wait(self) -> list[Answer | CurlError]:
        """What came for each."""
        self._done.wait()
        if self._why is not None:
            raise RuntimeError("log files cannot be asked for") from self._why
        return self.answers


class _Request(NamedTuple):
    task: _Task
    number: int
    wanted: Wanted


class Transfers:
    """The GETs of a process; a thread of its own drives them, from the first one on."""

    def __init__(self, most: int) -> None:
        """`most`: how many are on their way at once; further ones wait."""
        self._most = most
        self._waiting: deque[_Request] = deque()
        self._running: dict[Any, tuple[_Request, BytesIO, BytesIO]] = {}
        """By libcurl's handle: what was asked, and where the answer's head and body are put."""
        self._idle: list[Any] = []
        self._set_for: dict[Any, tuple[Target, Keys]] = {}
        """What a handle was set up for, since most requests are for the same bucket."""
        self._watched: dict[int, int] = {}
        """Connections that libcurl waits for, and for which events."""
        self._due: float | None = None
        """When libcurl wants to be called, whatever the connections do."""
        self._is_asleep = False
        self._is_closed = False
        self._why_ended: BaseException | None = None
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def get(self, target: Target, keys: Keys, wanted: Sequence[Wanted]) -> list[Answer | CurlError]:
        """Ask for objects of one bucket, side by side; what came for each, when all are there.

        Each of them must be one that `can_ask_for`.
        """
        if self._thread is None:
            self._start()
        task = _Task(target, keys, len(wanted))
        if wanted:
            self._waiting.extend(_Request(task, *item) for item in enumerate(wanted))
            self._wake()
            if self._why_ended is not None:
                task.give_up(self._why_ended)
            return task.wait()
        return []

    def close(self) -> None:
        """End the thread; whoever waits for an answer is told so by RuntimeError."""
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
            self._multi.setopt(pycurl.M_MAXCONNECTS, _KEPT * self._most)
            self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
            self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
            self._alarm, self._ring = os.pipe()
            os.set_blocking(self._ring, False)
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._alarm, selectors.EVENT_READ)
            thread = threading.Thread(target=self._serve, name="ctrail-curl", daemon=True)
            thread.start()
            self._thread = thread  # not before: nobody is to wait for one that could not start
            # While the interpreter ends, a thread inside libcurl could outlive what it works with.
            atexit.register(self.close)

    def _wake(self) -> None:
        if self._is_asleep:
            with suppress(BlockingIOError):  # it was woken often enough
                os.write(self._ring, b"\0")

    def _serve(self) -> None:
        try:
            while not self._is_closed:
                self._turn()
            self._release(CurlError("closed"))
        except BaseException as error:  # noqa: BLE001 - raised again in the threads that wait
            self._release(error)

    def _release(self, why: BaseException) -> None:
        """Nobody is to wait for what does not come any more."""
        self._why_ended = why
        for request, _head, _body in self._running.values():
            request.task.give_up(why)
        while self._waiting:
            self._waiting.popleft().task.give_up(why)

    def _turn(self) -> None:
        while self._waiting and len(self._running) < self._most:
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
        # Whoever asks puts the request there first and then looks whether we sleep: so do we, the
        # other way round.
        self._is_asleep = True
        if self._is_closed or (self._waiting and len(self._running) < self._most):
            timeout = 0
        events = self._selector.select(timeout)
        self._is_asleep = False
        return events

    def _begin(self, request: _Request) -> None:
        task, wanted = request.task, request.wanted
        url = f"{task.target.url}/{quote(wanted.key)}".encode()
        headers = [_NO_BODY, *task.target.headers]
        if task.keys.token:
            headers.append(f"x-amz-security-token: {task.keys.token}")
        if wanted.etag is not None:
            headers.append(f"if-match: {wanted.etag}")
        curl = self._idle.pop() if self._idle else self._names.Curl()
        names, head, body = self._names, BytesIO(), BytesIO()
        if self._set_for.get(curl) != (task.target, task.keys):
            self._set_up(curl, task.target, task.keys)
        curl.setopt(names.URL, url)
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
        # All that S3 speaks; others would have all requests share one connection.
        curl.setopt(names.HTTP_VERSION, names.CURL_HTTP_VERSION_1_1)
        curl.setopt(names.AWS_SIGV4, f"aws:amz:{target.region}:s3".encode())
        curl.setopt(names.USERNAME, keys.access_key.encode())
        curl.setopt(names.PASSWORD, keys.secret_key.encode())
        curl.setopt(names.CONNECTTIMEOUT_MS, int(target.connect_timeout * 1000))
        curl.setopt(names.TIMEOUT_MS, int(target.timeout * 1000))
        curl.setopt(names.MAXFILESIZE, target.most_bytes)
        curl.setopt(names.PROXY, target.proxy.encode())
        curl.setopt(names.NOPROXY, target.no_proxy.encode())
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
        """Hand out what came."""
        left = 1
        while left:
            left, done, failed = self._multi.info_read()
            for curl in done:
                self._end(curl, None)
            for curl, number, text in failed:
                self._end(curl, self._no_answer(number, text))

    def _end(self, curl: Any, failure: NoAnswer | None) -> None:
        request, head, body = self._running[curl]
        if failure and failure.number == TOO_LONG and self._status(curl) != _OK:
            failure = None  # an error, whose beginning says which
        answer = failure or self._answer(curl, head.getvalue(), body.getvalue())
        if isinstance(answer, CurlError):
            answer.seconds = curl.getinfo(self._names.TOTAL_TIME)
        self._multi.remove_handle(curl)
        del self._running[curl]
        for kept in (head, body):  # the handle keeps them until it is used again
            kept.close()
        self._idle.append(curl)
        request.task.answer(request.number, answer)

    def _answer(self, curl: Any, head: bytes, body: bytes) -> Answer | CurlError:
        status = self._status(curl)
        if status != _OK:
            return OtherAnswer(status, body)
        if curl.getinfo(self._names.CONTENT_LENGTH_DOWNLOAD_T) != len(body):
            # Cut short is what libcurl notices by itself; without a length nobody can.
            return self._no_answer(self._names.E_PARTIAL_FILE, "")
        at = head.lower().rfind(b"\netag:")  # the last: a proxy's answer may stand before
        etag = head[at + 6 : head.find(b"\n", at + 1)] if at >= 0 else b""
        return Answer(body, etag.decode("latin-1").strip())

    def _status(self, curl: Any) -> int:
        return int(curl.getinfo(self._names.RESPONSE_CODE))

    def _no_answer(self, number: int, text: str) -> NoAnswer:
        """An error in words that hold no address and nothing that a server sent."""
        certificate = _CERTIFICATE.fullmatch(text)
        return NoAnswer(
            number, certificate[1] if certificate else self._names.easy_strerror(number)
        )

    def _watch(self, what: int, fd: int, _multi: Any, _data: Any) -> None:
        """Called by libcurl: what it waits for, of which connection."""
        names = self._names
        if what == names.POLL_REMOVE:
            if self._watched.pop(fd, None) is not None:
                self._selector.unregister(fd)
            return
        events = 0
        if what & names.POLL_IN:
            events |= selectors.EVENT_READ
        if what & names.POLL_OUT:
            events |= selectors.EVENT_WRITE
        if fd in self._watched:
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)
        self._watched[fd] = events

    def _set_timer(self, milliseconds: int) -> None:
        """Called by libcurl: when to call it at the latest; -1 for never."""
        self._due = None if milliseconds < 0 else monotonic() + milliseconds / 1000


@cache
def transfers_of_process(most: int) -> Transfers:
    """The ones that all buckets of this process share."""
    return Transfers(most)
