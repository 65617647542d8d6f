"""Odd answers that a server may give to a LIST or a GET, each as a function of the right answer."""

import base64
import re
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from itertools import count
from typing import Any, Final, NamedTuple

HTML: Final = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
XML: Final = "application/xml"
_CONTENTS: Final = re.compile(rb"<Contents>.*?</Contents>")
_STAYS_SECONDS: Final = 20
"""How long a server stays silent. All clients give up before."""


class Right(NamedTuple):
    """A request, and the answer that is right."""

    handler: BaseHTTPRequestHandler
    headers: dict[str, str]
    body: bytes
    released: threading.Event
    """Set when the test is over."""

    def send(
        self,
        status: int = 200,
        body: bytes | None = None,
        length: int | None = None,
        **headers: str | None,
    ) -> None:
        """Send an answer: the right one but for what is given. A header may be left out (None)."""
        body = self.body if body is None else body
        changes = {name.replace("_", "-"): value for name, value in headers.items()}
        self.handler.send_response_only(status)
        for name, value in {**self.headers, **changes}.items():
            if value is not None:
                self.handler.send_header(name, value)
        if status != 204 and length != -1:
            self.handler.send_header("Content-Length", str(len(body) if length is None else length))
        if length is not None:
            self.handler.send_header("Connection", "close")
            self.handler.close_connection = True
        self.handler.end_headers()
        with suppress(ConnectionError):
            self.handler.wfile.write(body)


Answer = Callable[[Right], object]


class Odd(NamedTuple):
    """An odd answer."""

    name: str
    """What the server does, as the document calls it."""
    answer: Answer
    client_timeout: float = 10


def error(status: int, code: str, message: str = "") -> Answer:
    """Answer with S3's error document."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return lambda right: right.send(status, body.encode(), Content_Type=XML, ETag=None)


def html(status: int) -> Answer:
    """Answer with a page, as a machine between client and S3 does."""
    return lambda right: right.send(status, HTML, Content_Type="text/html", ETag=None)


def empty(status: int, **headers: Any) -> Answer:
    """Answer without a body."""
    return lambda right: right.send(status, b"", **headers)


def body(change: Callable[[bytes], bytes]) -> Answer:
    """Answer rightly but for the body."""
    return lambda right: right.send(body=change(right.body))


def replaced(pattern: bytes, new: bytes) -> Answer:
    """Answer rightly but for a part of the body."""

    def change(right_body: bytes) -> bytes:
        changed = re.sub(pattern, new, right_body)
        assert changed != right_body
        return changed

    return body(change)


def contents(change: Callable[[list[bytes]], Sequence[bytes]]) -> Answer:
    """Answer rightly but for the objects of the list."""

    def changed(right_body: bytes) -> bytes:
        found = _CONTENTS.findall(right_body)
        start = right_body.find(b"<Contents>")
        end = right_body.rfind(b"</Contents>") + len(b"</Contents>")
        if start < 0:
            return right_body
        return right_body[:start] + b"".join(change(found)) + right_body[end:]

    return body(changed)


def elsewhere(status: int) -> Answer:
    """Send the client to the same place again and again."""
    return lambda right: right.send(
        status, b"", Location=f"http://{right.handler.headers['Host']}{right.handler.path}"
    )


def early(right: Right) -> None:
    """Send an informal answer before the right one, both at once.

    boto3 takes the informal answer for the answer. What comes behind that later, boto3 may take for
    the answer to its next request.
    """
    connection, both = right.handler.wfile, BytesIO()
    both.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    right.handler.wfile = both
    right.send()
    right.handler.wfile = connection
    connection.write(both.getvalue())


def only_informal(right: Right) -> None:
    """Send an informal answer and no other."""
    right.handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    right.handler.close_connection = True


def no_http(right: Right) -> None:
    """Send something that is no HTTP."""
    right.handler.wfile.write(b"220 mail.example.com ESMTP\r\n")
    right.handler.close_connection = True


def reset(right: Right) -> None:
    """Break the connection."""
    right.handler.close_connection = True
    linger = struct.pack("ii", 1, 0)
    right.handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    right.handler.connection.close()


def silent(right: Right) -> None:
    """Send nothing, and keep the connection."""
    right.released.wait(_STAYS_SECONDS)
    right.handler.close_connection = True


def drop_by_drop(right: Right) -> None:
    """Send a head, and then a byte now and then."""
    right.handler.send_response_only(200)
    for name, value in right.headers.items():
        right.handler.send_header(name, value)
    right.handler.send_header("Content-Length", str(len(right.body)))
    right.handler.end_headers()
    with suppress(OSError):
        for byte in right.body:
            right.handler.wfile.write(bytes([byte]))
            if right.released.wait(0.02):
                break
    right.handler.close_connection = True


def endless(right: Right) -> None:
    """Send the right body, and then more and more."""
    right.handler.send_response_only(200)
    for name, value in right.headers.items():
        right.handler.send_header(name, value)
    right.handler.send_header("Connection", "close")
    right.handler.end_headers()
    with suppress(OSError):
        right.handler.wfile.write(right.body)
        while not right.released.is_set():
            right.handler.wfile.write(b" " * 1_000_000)
    right.handler.close_connection = True


def chunks_without_end(right: Right) -> None:
    """Send the whole body in a chunk, and no last chunk."""
    right.handler.send_response_only(200)
    for name, value in right.headers.items():
        right.handler.send_header(name, value)
    right.handler.send_header("Transfer-Encoding", "chunked")
    right.handler.end_headers()
    right.handler.wfile.write(b"%x\r\n%b\r\n" % (len(right.body), right.body))
    right.handler.close_connection = True


def new_tokens() -> Answer:
    """Say for ever that there is more, each time with another token, and show nothing."""
    numbers = count()

    def answer(right: Right) -> None:
        token = base64.b64encode(b"%03d" % next(numbers))
        more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>%b</NextContinuationToken>"
        right.send(body=_truncated(_CONTENTS.sub(b"", right.body), more % token))

    return answer


def _truncated(right_body: bytes, more: bytes) -> bytes:
    right_body = re.sub(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", right_body)
    return re.sub(rb"<IsTruncated>\w+</IsTruncated>", more, right_body)


def same_token(*, keeps: bool) -> Answer:
    """Say for ever that there is more, with one token. `keeps`: show the right objects."""
    more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>MQ==</NextContinuationToken>"
    return body(lambda found: _truncated(found if keeps else _CONTENTS.sub(b"", found), more))


def first_page_always() -> Answer:
    """Ignore where the client wants to go on."""
    first: list[bytes] = []

    def answer(right: Right) -> None:
        first.append(right.body)
        right.send(body=first[0])

    return answer


def bomb(right: Right) -> None:
    """Declare entities that expand to 10 GB."""
    declared = "".join(
        f'<!ENTITY e{number} "{f"&e{number - 1};" * 10 if number else "x" * 10_000}">'
        for number in range(7)
    )
    head, _, rest = right.body.partition(b"?>")
    text = b"%b?><!DOCTYPE ListBucketResult [%b]>%b" % (head, declared.encode(), rest)
    right.send(body=text.replace(b"<Name>", b"<Owner>&e6;</Owner><Name>"))


def twins(found: list[bytes]) -> list[bytes]:
    """Put an empty object whose key ends in a slash beside each log file."""
    return [
        item
        for log_file in found
        for item in (
            log_file,
            re.sub(rb"<Size>\d+<", b"<Size>0<", log_file.replace(b"</Key>", b"/</Key>")),
        )
    ]


_ANY: Final = (
    Odd("204 without a body", empty(204, ETag=None)),
    Odd("206, though no part was asked for", lambda right: right.send(206)),
    Odd(
        "206 with half of it, though no part was asked for",
        lambda right: right.send(206, right.body[: len(right.body) // 2]),
    ),
    Odd("301 PermanentRedirect", error(301, "PermanentRedirect")),
    Odd("301 to the same address", elsewhere(301)),
    Odd("307 to the same address, for ever", elsewhere(307)),
    Odd("304 without a body", empty(304)),
    Odd("400 with a page", html(400)),
    Odd("403 AccessDenied", error(403, "AccessDenied")),
    Odd("403 with a page", html(403)),
    Odd("404 with a page", html(404)),
    Odd("404 without a body", empty(404)),
    Odd("404 NoSuchBucket", error(404, "NoSuchBucket")),
    Odd("405 MethodNotAllowed", error(405, "MethodNotAllowed")),
    Odd("416 InvalidRange", error(416, "InvalidRange")),
    Odd("429 with a page", html(429)),
    Odd("500 InternalError", error(500, "InternalError")),
    Odd("502 with a page", html(502)),
    Odd("503 SlowDown", error(503, "SlowDown")),
    Odd("103, then the right answer", early),
    Odd("100 and no further answer", only_informal),
    Odd("no HTTP", no_http),
    Odd("the connection is reset", reset),
    Odd("no answer", silent, client_timeout=0.5),
    Odd("an answer that never ends", endless),
    Odd("a byte now and then", drop_by_drop, client_timeout=0.5),
    Odd("Content-Length too large", lambda right: right.send(length=len(right.body) + 100)),
    Odd("Content-Length too small", lambda right: right.send(length=len(right.body) // 2)),
    Odd("chunks without an end", chunks_without_end),
    Odd("200 with a page", html(200)),
    Odd("200 with an `<Error>`: SlowDown", error(200, "SlowDown")),
    Odd("200 with an `<Error>`: AccessDenied", error(200, "AccessDenied")),
    Odd("200 without a body", empty(200, ETag=None)),
)

LISTS: Final = (
    *_ANY,
    Odd("XML that is cut", body(lambda right: right[: len(right) // 2])),
    Odd("XML that is cut before its last element ends", body(lambda right: right[:-5])),
    Odd("another document", replaced(b"ListBucketResult", b"ListVersionsResult")),
    Odd("another document, empty", body(lambda _: b"<ListAllMyBucketsResult/>")),
    Odd("an empty root element", body(lambda _: b"<ListBucketResult/>")),
    Odd("entities that expand to 10 GB", bomb),
    Odd("bytes that are no UTF-8", replaced(rb"<Name>", b"<Name>\xff")),
    Odd("no IsTruncated", replaced(rb"<IsTruncated>\w+</IsTruncated>", b"")),
    Odd("the list of another folder", replaced(rb"<Prefix>AWSLogs", b"<Prefix>Other")),
    Odd("an object without Key", replaced(rb"<Key>[^<]*</Key>", b"")),
    Odd("an object without Size", replaced(rb"<Size>\d+</Size>", b"")),
    Odd("an object without ETag", replaced(rb"<ETag>[^<]*</ETag>", b"")),
    Odd("an object without LastModified", replaced(rb"<LastModified>[^<]*</LastModified>", b"")),
    Odd("a size that is no number", replaced(rb"<Size>\d", b"<Size>x")),
    Odd("a size of more than 63 bits", replaced(rb"<Size>\d+", b"<Size>9223372036854775808")),
    Odd("a negative size", replaced(rb"<Size>", b"<Size>-")),
    Odd("a time that is none", replaced(rb"<LastModified>\d", b"<LastModified>x")),
    Odd("an empty list", lambda right: right.send(body=_emptied(right.body))),
    Odd(
        "IsTruncated, no token and no keys",
        body(
            lambda right: _CONTENTS.sub(b"", _truncated(right, b"<IsTruncated>true</IsTruncated>"))
        ),
    ),
    Odd(
        "IsTruncated without a token",
        body(lambda right: re.sub(rb"<NextContinuationToken>.*</NextC\w+>", b"", right)),
    ),
    Odd("a token that repeats, and no keys", same_token(keeps=False)),
    Odd("a token that repeats", same_token(keeps=True)),
    Odd("ever new tokens, and no keys", new_tokens()),
    Odd("the first page again and again", first_page_always()),
    Odd("keys out of order", contents(lambda found: found[::-1])),
    Odd("each key twice", contents(lambda found: [item for item in found for _ in "12"])),
    Odd("a key of another folder", contents(lambda found: [_elsewhere(found[0]), *found])),
    Odd("beside each log file an object with a slash at the end", contents(twins)),
)
"""Answers to the LIST of a day's folder."""

GETS: Final = (
    *_ANY,
    Odd("403 AccessDenied for kms:Decrypt", error(403, "AccessDenied", "kms:Decrypt on it")),
    Odd("403 InvalidObjectState", error(403, "InvalidObjectState")),
    Odd("404 NoSuchKey", error(404, "NoSuchKey")),
    Odd("412 PreconditionFailed", error(412, "PreconditionFailed")),
    Odd("an empty body", body(lambda _: b"")),
    Odd("half a body", body(lambda right: right[: len(right) // 2])),
    Odd(
        "a body with a changed byte",
        body(lambda right: right[:-8] + bytes([right[-8] ^ 1]) + right[-7:]),
    ),
    Odd("no ETag", lambda right: right.send(ETag=None)),
    Odd("the ETag of another version", lambda right: right.send(ETag='"0"')),
    Odd("another version, and its ETag", lambda right: right.send(body=HTML, ETag='"0123"')),
    Odd("no Content-Length", lambda right: right.send(length=-1)),
)
"""Answers to the GET of a log file."""


def _emptied(right_body: bytes) -> bytes:
    return _CONTENTS.sub(b"", _truncated(right_body, b"<IsTruncated>false</IsTruncated>"))


def _elsewhere(item: bytes) -> bytes:
    return item.replace(b"<Key>AWSLogs/", b"<Key>AWSLogs/0/")


def empty_list(right: Right) -> Any:
    """Answer with a list that is whole and empty."""
    right.send(body=_emptied(right.body))
