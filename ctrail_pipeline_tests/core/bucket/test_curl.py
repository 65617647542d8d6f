"""Requests through libcurl are signed as boto3 signs, are whole or an error, and always end."""

import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pycurl
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreKeys

from ctrail_pipeline.core.bucket.curl import Transfers
from ctrail_pipeline.core.bucket.curl_request import (
    TOO_LONG,
    Answer,
    CurlError,
    Keys,
    NoAnswer,
    OtherAnswer,
    Target,
    Wanted,
    can_ask_for,
)
from ctrail_pipeline.core.bucket.list_answer import ListRequest
from ctrail_pipeline_tests.support.http_server import serve

KEYS = Keys("AKIAEXAMPLE", "secret/with+signs:and=", None)


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), "ETag": '"e"', **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


MOST_BYTES = 8 * 1024 * 1024


def target_at(url: str, **changes: Any) -> Target:
    """The target of a bucket called `logs`."""
    target = Target(f"{url}/logs", "eu-west-1", 5, 20, None, None, "", MOST_BYTES)
    return target._replace(**changes)


@pytest.fixture
def transfers() -> Iterator[Transfers]:
    with closing(Transfers(100)) as transfers:
        yield transfers


def get(transfers: Transfers, url: str, *keys: str, **changes: Any) -> list[Answer | CurlError]:
    return transfers.get(target_at(url, **changes), KEYS, [Wanted(key, None) for key in keys])


# --- signatures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "a/session+token=="])
@pytest.mark.parametrize("etag", [None, '"0123456789abcdef0123456789abcdef"', '"a b-2"'])
@pytest.mark.parametrize(
    "key",
    [
        "AWSLogs/111122223333/CloudTrail/us-east-1/2026/11/01/a_T0000Z_x-Y~.json.gz",
        "a b+c.json.gz",
        "100%.json.gz",
        "%2F%20.json.gz",
        "é😀.json.gz",
        "q?x=1&y=#z;:@!$'()*,[]|\\^`{}\"<>.json.gz",
        "a//b.json.gz",
        "/leading.json.gz",
        "...json.gz",
        "a/.../b.json.gz",
        "control\x01\x7f.json.gz",
    ],
)
def test_a_request_is_signed_as_botocore_signs_it(
    transfers: Transfers, key: str, etag: str | None, token: str | None
) -> None:
    requests: list[tuple[str, Message]] = []

    def handle(handler: BaseHTTPRequestHandler) -> None:
        requests.append((handler.path, handler.headers))
        send(handler, b"body")

    keys = KEYS._replace(token=token)
    with serve(handle) as url:
        payer = ("x-amz-request-payer: requester",)
        [answer] = transfers.get(target_at(url, headers=payer), keys, [Wanted(key, etag)])
    assert answer == Answer(b"body", '"e"')
    [(path, headers)] = requests
    assert_signed(url + path, headers, token)
    assert headers["If-Match"] == etag


def assert_signed(url: str, headers: Message, token: str | None) -> None:
    """Compare a request's signature with that of botocore."""
    authorization = headers["Authorization"]
    signed = authorization.split("SignedHeaders=")[1].split(",")[0].split(";")
    assert {"host", "x-amz-content-sha256", "x-amz-date", "x-amz-request-payer"} <= set(signed)
    assert ("x-amz-security-token" in signed) == (token is not None)
    request = AWSRequest("GET", url, {name: headers[name] for name in signed})
    request.context["timestamp"] = headers["x-amz-date"]
    signer = S3SigV4Auth(BotocoreKeys(*KEYS._replace(token=token)), "s3", "eu-west-1")
    expected = signer.signature(
        signer.string_to_sign(request, signer.canonical_request(request)), request
    )
    assert authorization.endswith(f"Signature={expected}")


@pytest.mark.parametrize("token", [None, "a/session+token=="])
@pytest.mark.parametrize("path", ["/logs", ""], ids=["in the path", "in the host's name"])
@pytest.mark.parametrize(
    "request_of_list",
    [
        ListRequest("AWSLogs/111122223333/CloudTrail/us-east-1/"),
        ListRequest("AWSLogs/", by_folder=True),
        ListRequest("a/", token="1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM="),
        ListRequest("a b+c/", "a b+c/100%.json.gz"),
        ListRequest("é😀/", "é😀/%2F%20.json.gz"),
        ListRequest("a/", "a/q?x=1&y=#z;:@!$'()*,[]|\\^`{}\"<>.json.gz"),
        ListRequest("a//../", "a//../control\x01\x7f\n.json.gz"),
        ListRequest("~._-/", "~._-/~", by_folder=True),
    ],
)
def test_a_list_is_signed_as_botocore_signs_it(
    transfers: Transfers, request_of_list: ListRequest, path: str, token: str | None
) -> None:
    requests: list[tuple[str, Message]] = []

    def handle(handler: BaseHTTPRequestHandler) -> None:
        requests.append((handler.path, handler.headers))
        send(handler, b"body")

    query = request_of_list.query()
    with serve(handle) as url:
        payer = ("x-amz-request-payer: requester",)
        target = target_at(url, headers=payer)._replace(url=url + path)
        wanted = [Wanted("", query=query)]
        assert transfers.get(target, KEYS._replace(token=token), wanted) == [Answer(b"body", '"e"')]
    [(asked, headers)] = requests
    assert asked == f"{path or '/'}?{query}"
    assert_signed(url + asked, headers, token)


@pytest.mark.parametrize("key", [".", "..", "a/./b", "a/../b", "./a", "a/.."])
def test_a_path_that_libcurl_would_resolve_is_not_for_it(key: str) -> None:
    assert not can_ask_for(Wanted(key, None))


def test_an_etag_cannot_add_a_header() -> None:
    assert can_ask_for(Wanted("a", '"an etag-2"'))
    assert not can_ask_for(Wanted("a", '"x"\r\nx-amz-other: 1'))


# --- answers --------------------------------------------------------------------------------------


def test_each_gets_its_own_answer(transfers: Transfers) -> None:
    def handle(handler: BaseHTTPRequestHandler) -> None:
        name = handler.path.rpartition("/")[2]
        number = int(name)
        time.sleep(0.02 * (number % 3))
        if number % 5 == 0:
            send(handler, f"<Error><Code>NoSuchKey</Code></Error>{number}".encode(), 404)
        else:
            send(handler, name.encode() * 5000, ETag=f'"{name}"')

    with serve(handle) as url:
        answers = get(transfers, url, *map(str, range(300)))
    for number, answer in enumerate(answers):
        if number % 5 == 0:
            assert isinstance(answer, OtherAnswer)
            assert (answer.status, answer.code) == (404, "NoSuchKey")
        else:
            assert answer == Answer(str(number).encode() * 5000, f'"{number}"')


def test_no_more_are_on_their_way_than_asked_for() -> None:
    lock = threading.Lock()
    now: list[int] = [0]
    peak: list[int] = [0]

    def handle(handler: BaseHTTPRequestHandler) -> None:
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        send(handler, b"x")

    with serve(handle) as url, closing(Transfers(3)) as transfers:
        threads = [
            threading.Thread(target=get, args=(transfers, url, *map(str, range(10))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
    assert peak == [3]


def test_a_body_that_was_handed_out_is_not_held(transfers: Transfers) -> None:
    with serve(lambda handler: send(handler, b"x" * 1_000_000)) as url:
        get(transfers, url, "a")
        tracemalloc.start()
        try:
            get(transfers, url, *map(str, range(30)))
            held, _most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert held < 5_000_000


def test_connections_are_kept() -> None:
    ports = set()

    def handle(handler: BaseHTTPRequestHandler) -> None:
        ports.add(handler.client_address)
        send(handler, b"x")

    with serve(handle) as url, closing(Transfers(2)) as transfers:
        for _ in range(10):
            get(transfers, url, "a", "b", "c")
    assert len(ports) <= 2


def test_a_body_stays_as_it_is_stored(transfers: Transfers) -> None:
    """CloudTrail's log files say Content-Encoding: gzip; libcurl does not unpack them."""
    body = b"\x1f\x8b\x08 no gzip at all"
    with serve(lambda handler: send(handler, body, Content_Encoding="gzip")) as url:
        assert get(transfers, url, "a") == [Answer(body, '"e"')]


def test_an_etag_ends_with_its_line(transfers: Transfers) -> None:
    """Servers that end lines with LF alone are understood by libcurl."""

    def handle(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b'HTTP/1.1 200 OK\netag: "e"\nServer: x\nContent-Length: 1\n\nx')

    with serve(handle) as url:
        assert get(transfers, url, "a") == [Answer(b"x", '"e"')]


def test_a_redirect_is_not_followed(transfers: Transfers) -> None:
    def handle(handler: BaseHTTPRequestHandler) -> None:
        assert handler.path == "/logs/a", "signed requests go where they were meant to"
        error = b"<Error><Code>PermanentRedirect</Code></Error>"
        send(handler, error, 301, Location="/elsewhere")

    with serve(handle) as url:
        [answer] = get(transfers, url, "a")
    assert isinstance(answer, OtherAnswer)
    assert (answer.status, answer.code) == (301, "PermanentRedirect")


@pytest.mark.parametrize("length", ["100", None])
def test_a_body_that_may_be_cut_short_is_no_answer(
    transfers: Transfers, length: str | None
) -> None:
    def handle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        if length:
            handler.send_header("Content-Length", length)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b"half of it")
        handler.close_connection = True

    with serve(handle) as url:
        [answer] = get(transfers, url, "a")
    assert isinstance(answer, NoAnswer)
    assert answer.number == pycurl.E_PARTIAL_FILE


@pytest.mark.thorough
def test_a_failure_says_how_long_its_request_took_without_waiting_for_its_turn() -> None:
    with (
        closing(Transfers(1)) as transfers,
        serve(lambda _handler: time.sleep(1)) as url,
    ):
        answers = get(transfers, url, *"abcdefgh", timeout=0.2)
        for answer in answers:
            assert isinstance(answer, NoAnswer)
            assert 0.19 < answer.seconds < 1.2, "the last one waited for 1.4 s"


@pytest.mark.thorough
def test_no_server_and_a_slow_one_are_told_apart(transfers: Transfers) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        [answer] = get(transfers, f"http://127.0.0.1:{bound.getsockname()[1]}", "a")
        assert isinstance(answer, NoAnswer)
        assert answer.number == pycurl.E_COULDNT_CONNECT
    with serve(lambda _handler: time.sleep(2)) as url:
        began = time.monotonic()
        [answer] = get(transfers, url, "a", timeout=0.3)
        assert isinstance(answer, NoAnswer)
        assert answer.number == pycurl.E_OPERATION_TIMEDOUT
        assert time.monotonic() - began < 1.5


def test_other_buckets_and_new_keys_are_asked_with_their_own(transfers: Transfers) -> None:
    requests = []

    def handle(handler: BaseHTTPRequestHandler) -> None:
        scope = handler.headers["Authorization"].split("Credential=")[1].split("/")
        requests.append((handler.path, scope[0], scope[2], handler.headers["x-amz-security-token"]))
        send(handler, b"x")

    with serve(handle) as url:
        for target, keys in (
            (target_at(url), KEYS),
            (target_at(url), Keys("ASIANEW", "s", "t")),
            (Target(f"{url}/other", "us-east-1", 5, 20, None, None, "", MOST_BYTES), KEYS),
        ):
            transfers.get(target, keys, [Wanted("a", None)])
    assert requests == [
        ("/logs/a", "AKIAEXAMPLE", "eu-west-1", None),
        ("/logs/a", "ASIANEW", "eu-west-1", "t"),
        ("/other/a", "AKIAEXAMPLE", "us-east-1", None),
    ]


def test_more_files_may_be_open_than_select_can_count(transfers: Transfers) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3000:
        pytest.skip("no more than 3,000 files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3000), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with serve(lambda handler: send(handler, b"x")) as url:
            assert get(transfers, url, "a", "b") == [Answer(b"x", '"e"')] * 2
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- its thread -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["_answer", "_events", "_end", "_collect"])
def test_whoever_waits_hears_of_a_mistake_in_the_thread(
    transfers: Transfers, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def broken(*_arguments: object) -> None:
        raise TypeError("a mistake")

    with serve(lambda handler: send(handler, b"x")) as url:
        monkeypatch.setattr(transfers, method, broken)
        for _ in range(2):  # nobody waits for the thread afterwards, either
            with pytest.raises(RuntimeError, match="a bucket cannot be asked") as caught:
                get(transfers, url, "a")
            assert isinstance(caught.value.__cause__, TypeError)


@pytest.mark.parametrize("keys", [["lone surrogate \ud800"], ["a", "\ud800", "b"]])
def test_what_cannot_be_asked_for_is_a_mistake_of_its_own_task_only(
    transfers: Transfers, keys: list[str]
) -> None:
    with serve(lambda handler: send(handler, b"x")) as url:
        with pytest.raises(RuntimeError, match="a bucket cannot be asked") as caught:
            get(transfers, url, *keys)
        assert isinstance(caught.value.__cause__, UnicodeEncodeError)
        assert get(transfers, url, "a", "b") == [Answer(b"x", '"e"')] * 2


def test_nobody_waits_for_a_thread_that_could_not_start(
    transfers: Transfers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with serve(lambda handler: send(handler, b"x")) as url:
        with monkeypatch.context() as patch:
            patch.setattr("ctrail_pipeline.core.bucket.curl.threading.Thread.start", no_more)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    get(transfers, url, "a")
        assert get(transfers, url, "a") == [Answer(b"x", '"e"')]


def test_whoever_waits_is_released_when_it_is_closed() -> None:
    transfers = Transfers(1)
    hold = threading.Event()
    with serve(lambda _handler: hold.wait(20)) as url:
        found: list[BaseException] = []

        def ask() -> None:
            try:
                get(transfers, url, "a", "b")
            except RuntimeError as error:
                found.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.2)
        transfers.close()
        thread.join(5)
        hold.set()
        assert not thread.is_alive()
        assert len(found) == 1
    with pytest.raises(RuntimeError, match="a bucket cannot be asked"):
        get(transfers, "http://127.0.0.1:1", "a")


ENDS_AMID_GETS = """
import sys, threading, time
from contextlib import suppress
from ctrail_pipeline.core.bucket.curl import transfers_of_process
from ctrail_pipeline.core.bucket.curl_request import Keys, Target, Wanted
target = Target(sys.argv[1] + "/logs", "eu-west-1", 5, 20, None, None, "", 2**26)
keys = Keys("a", "b", None)
def ask():
    while True:
        with suppress(RuntimeError):  # at the end
            transfers_of_process(50).get(target, keys, [Wanted("x", None)] * 20)
for _ in range(4):
    threading.Thread(target=ask, daemon=True).start()
time.sleep(0.5)
"""


def test_a_process_ends_well_amid_requests(tmp_path: Path) -> None:
    """The client's threads are daemons: one inside libcurl must not outlive what it works with."""
    with serve(lambda handler: send(handler, b"x" * 1000)) as url:
        for _ in range(3):
            process = subprocess.run(
                [sys.executable, "-c", ENDS_AMID_GETS, url],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert (process.returncode, process.stderr) == (0, "")


def test_an_answer_of_more_bytes_than_wanted_is_broken_off(transfers: Transfers) -> None:
    """The answer may say its length, say none, or be an error that does not end."""
    sent = 0

    def handle(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        if handler.path.endswith("/long"):
            send(handler, b"x" * (MOST_BYTES + 1))
            return
        handler.send_response(200 if handler.path.endswith("/endless") else 503)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(b"<Error><Code>SlowDown</Code>")
        with suppress(ConnectionError):
            while sent < 20 * MOST_BYTES:
                sent += handler.wfile.write(b"x" * 65536)

    with serve(handle) as url:
        for key in ("long", "endless"):
            [answer] = transfers.get(target_at(url), KEYS, [Wanted(key, None)])
            assert isinstance(answer, NoAnswer)
            assert answer.number == TOO_LONG
        assert sent < 5 * MOST_BYTES
        [answer] = transfers.get(target_at(url), KEYS, [Wanted("error", None)])
        assert isinstance(answer, OtherAnswer)
        assert (answer.status, answer.code) == (503, "SlowDown")
        assert sent < 10 * MOST_BYTES
        [answer] = transfers.get(
            target_at(url, max_answer_bytes=MOST_BYTES + 1), KEYS, [Wanted("long", None)]
        )
        assert isinstance(answer, Answer)
