"""A small read-only S3 server that shows its clients the faults of real servers, on demand.

The server serves `root/<bucket>/<key>` over HTTP on the loopback: ListObjectsV2, GetObject and
HeadBucket. GetObject knows If-Match and Range. The server does not check signatures. `key_path`
says where a key lies that no file can be named after, such as `a//b`.

Four things alone decide whether a request meets a fault: the seed, the kind of request, the key,
and how many times the client asked before. So a test sees the same faults whatever the order of its
client's threads. A test may change the faults while the server runs. The module uses the standard
library only, and nothing of `ctrail_pipeline`.
"""

import base64
import hashlib
import os
import re
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

MOST_KEYS = 1000
EMPTY_NAME = "(empty)"
"""The name of the folder that stands for an empty name between two slashes of a key."""
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")
_READER = "User: arn:aws:iam::111122223333:user/reader is not authorized to perform"


TakeOver = Callable[[BaseHTTPRequestHandler, int, dict[str, str], bytes], bool]


def key_path(root: Path, key: str) -> Path:
    """Where the object of a key lies below a bucket's folder."""
    return root.joinpath(*(name or EMPTY_NAME for name in key.split("/")))


@dataclass
class Faults:
    """The faults of a server. A request meets one fault at most. Rates are shares of 1."""

    seed: int = 1
    latency: float = 0.0
    """Seconds that every request waits."""

    # Any request.
    slow_down_rate: float = 0.0
    """503 SlowDown."""
    internal_error_rate: float = 0.0
    """500 InternalError."""
    too_many_requests_rate: float = 0.0
    """429. S3 itself does not send it, but other servers that speak its protocol do."""
    reset_rate: float = 0.0
    """The connection is reset (RST) instead of an answer."""
    slow_rate: float = 0.0
    """The server waits `slow_seconds`, then answers as usual."""
    slow_seconds: float = 1.0

    # LIST only.
    list_fail_rate: float = 0.0
    """503 SlowDown."""
    list_cut_rate: float = 0.0
    """The XML ends in the middle. Content-Length is that of the part, or every other time of the
    whole."""

    # GET only.
    get_fail_rate: float = 0.0
    """503 SlowDown."""
    cut_rate: float = 0.0
    """The server sends half the body, then closes the connection."""
    wrong_length_rate: float = 0.0
    """Content-Length is half of the body's length, or every other time larger than that length."""
    flip_rate: float = 0.0
    """One byte of the body is changed, but the etag is that of the right body."""

    # By key (without the bucket).
    denied: set[str] = field(default_factory=set)
    """Keys whose GET and prefixes whose LIST get 403 AccessDenied."""
    kms_denied: set[str] = field(default_factory=set)
    """Keys whose GET gets 403 AccessDenied because kms:Decrypt is missing."""
    archived: set[str] = field(default_factory=set)
    """Keys for which LIST says GLACIER and GET says 403 InvalidObjectState."""
    gone: set[str] = field(default_factory=set)
    """Keys that LIST shows, but whose GET says 404 NoSuchKey."""
    not_s3: set[str] = field(default_factory=set)
    """Keys whose GET gets 404 without S3's XML, as a machine between client and S3 answers."""
    damaged: dict[str, int] = field(default_factory=dict)
    """For so many GETs, or until `heal`, the stored object has a byte flipped, and the etag fits
    it."""
    hidden: set[str] = field(default_factory=set)
    """Keys that are not there yet. `reveal` lets them appear."""
    hang: set[str] = field(default_factory=set)
    """Keys whose GET and prefixes whose LIST get no answer until `release` or the server's end."""


@dataclass
class Counts:
    """How many requests the server got, and how many faults it injected."""

    requests: Counter[str] = field(default_factory=Counter)
    """Requests by kind: list, get, get_range, head_bucket."""
    faults: Counter[str] = field(default_factory=Counter)
    """Faults by kind, named as the fields of `Faults` without `_rate`."""
    gets: Counter[str] = field(default_factory=Counter)
    """GETs by key, of whole objects."""

    def __sub__(self, earlier: "Counts") -> "Counts":
        """The counts since `earlier`."""
        return Counts(
            self.requests - earlier.requests,
            self.faults - earlier.faults,
            self.gets - earlier.gets,
        )


class FaultServer:
    """Serves the folders in `root` as buckets while the `with` block runs.

    Example:
        with FaultServer(tmp_path, Faults(slow_down_rate=0.2)) as server:
            client = boto3.client("s3", endpoint_url=server.endpoint_url, ...)
    """

    def __init__(
        self, root: Path, faults: Faults | None = None, *, page_keys: int = MOST_KEYS
    ) -> None:
        """Serve `root`, without faults unless some are given here or set later.

        `page_keys`: a LIST answers with so many keys at most, which S3 may always do.
        """
        self.root = root
        self.faults = faults or Faults()
        self.page_keys = page_keys
        self.refuse: Callable[[Message], str] = lambda _headers: ""
        """The error code (403) that a request gets because of its headers, or ""."""
        self.take_over: TakeOver = lambda *_right_answer: False
        """Sees each request with its right answer (status, headers, body). It may answer itself
        and return True."""
        self.closing = threading.Event()
        self.errors: list[BaseException] = []
        """Errors of the server itself. The end of the `with` block raises the first one."""
        self._counts = Counts()
        self._asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._etags: dict[tuple[Path, int, int, bool], str] = {}
        self._http = _Server(self)
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.02,), name="fault-server", daemon=True
        )

    @property
    def endpoint_url(self) -> str:
        """The URL at which the server listens."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def env(self) -> dict[str, str]:
        """The variables for a process that shall talk to this server and nothing else."""
        return {
            "AWS_ACCESS_KEY_ID": "fault-server-access-key",
            "AWS_SECRET_ACCESS_KEY": "fault-server-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    @property
    def counts(self) -> Counts:
        """A copy of the counters as they are now."""
        with self._lock:
            return self._counts - Counts()

    def heal(self, *keys: str) -> None:
        """Take these keys out of every fault; without keys, end all faults but hidden keys."""
        faults = self.faults
        if not keys:
            self.faults = Faults(seed=faults.seed, hidden=faults.hidden)
        for key in keys:
            faults.damaged.pop(key, None)
            for fault in (*_BY_KEY, "hidden"):
                getattr(faults, fault).discard(key)

    def reveal(self, *keys: str) -> None:
        """Let these hidden keys appear, or all of them if none is given."""
        self.faults.hidden = self.faults.hidden - set(keys) if keys else set()

    def release(self) -> None:
        """Let hanging requests end without an answer."""
        self._released.set()

    def __enter__(self) -> "FaultServer":
        """Start serving."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection, and wait for the threads."""
        self.closing.set()
        self._released.set()
        self._http.shutdown()
        self._http.close_connections()
        self._http.server_close()
        self._thread.join()
        if self.errors and error is None:
            raise self.errors[0]

    # -- what the handlers ask ------------------------------------------------------------------

    def count_request(self, kind: str, name: str, key: str | None = None) -> int:
        """Count a request. Return how many requests of this kind for this name came before."""
        with self._lock:
            self._counts.requests[kind] += 1
            if key is not None:
                self._counts.gets[key] += 1
            self._asked[kind, name] += 1
            return self._asked[kind, name] - 1

    def count_fault(self, fault: str) -> None:
        """Count a fault that is injected now."""
        with self._lock:
            self._counts.faults[fault] += 1

    def draw(self, *question: object) -> float:
        """A number in [0, 1) that depends on the seed and the question alone."""
        text = "\0".join(map(str, (self.faults.seed, *question)))
        digest = hashlib.blake2b(text.encode(), digest_size=7).digest()
        return int.from_bytes(digest) / 2**56

    def hang(self) -> None:
        """Wait until `release` or the server's end."""
        self._released.wait()

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """The keys with a prefix that a LIST shows, in S3's order."""
        base = self.root / bucket
        folder_of_prefix, slash, _ = prefix.rpartition("/")
        start = key_path(base, folder_of_prefix) if slash else base
        hidden = self.faults.hidden
        found = []
        for folder, _, names in os.walk(start):
            below = os.path.relpath(folder, base)
            for name in names:
                names_of_key = [*([] if below == "." else below.split("/")), name]
                key = "/".join("" if part == EMPTY_NAME else part for part in names_of_key)
                if key.startswith(prefix) and key not in hidden:
                    found.append(key)
        return sorted(found, key=str.encode)

    def is_damaged(self, key: str, gets: int | None = None) -> bool:
        """Whether the object is still damaged after so many GETs (by default after all so far)."""
        if gets is None:
            gets = self._counts.gets[key]
        return gets < self.faults.damaged.get(key, 0)

    def stored(self, bucket: str, key: str, *, damaged: bool) -> bytes:
        """The bytes of an object."""
        body = key_path(self.root / bucket, key).read_bytes()
        return self.flipped(body, key) if damaged else body

    def etag(self, bucket: str, key: str, *, damaged: bool) -> str:
        """The MD5 of an object, in quotes."""
        path = key_path(self.root / bucket, key)
        stat = path.stat()
        known = (path, stat.st_mtime_ns, stat.st_size, damaged)
        if known not in self._etags:
            digest = hashlib.md5(self.stored(bucket, key, damaged=damaged), usedforsecurity=False)
            self._etags[known] = f'"{digest.hexdigest()}"'
        return self._etags[known]

    def flipped(self, body: bytes, name: str) -> bytes:
        """The body with one byte changed in its last three quarters, behind a gzip header."""
        if not body:
            return body
        at = len(body) // 4 + int(self.draw("flip at", name) * (len(body) - len(body) // 4))
        return b"%b%c%b" % (body[:at], body[at] ^ 0x10, body[at + 1 :])


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them
    request_queue_size = 256

    def __init__(self, owner: FaultServer) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """End the connections that clients keep alive; their threads end with them."""
        with self._open_lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.owner.errors.append(error)


class _Injected(NamedTuple):
    """The fault that a request meets, and which of two ways it takes if the fault has two."""

    fault: str
    other_way: bool
    name: str


_BY_KEY = ("hang", "denied", "kms_denied", "archived", "gone", "not_s3")
_ANY_REQUEST = ("slow_down", "internal_error", "too_many_requests", "reset", "slow")
_ERRORS = {
    "slow_down": (503, "SlowDown", "Please reduce your request rate."),
    "get_fail": (503, "SlowDown", "Please reduce your request rate."),
    "list_fail": (503, "SlowDown", "Please reduce your request rate."),
    "internal_error": (500, "InternalError", "We encountered an internal error."),
    "too_many_requests": (429, "TooManyRequests", "Too many requests."),
    "archived": (403, "InvalidObjectState", "The operation is not valid for the storage class."),
    "denied": (403, "AccessDenied", f"{_READER}: s3:GetObject on resource"),
    "kms_denied": (403, "AccessDenied", f"{_READER}: kms:Decrypt on the resource"),
    "gone": (404, "NoSuchKey", "The specified key does not exist."),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Log nothing."""

    def _serve(self) -> None:
        owner = self.server.owner
        if owner.faults.latency:
            owner.closing.wait(owner.faults.latency)
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, True).items()}
        refused = owner.refuse(self.headers)
        if refused:
            self._error(403, refused, "Refused for its headers.")
        elif not (owner.root / bucket).is_dir() or not bucket:
            self._error(404, "NoSuchBucket", "The specified bucket does not exist.")
        elif self.command == "HEAD" and not key:
            owner.count_request("head_bucket", bucket)
            self._reply(200, b"", {"x-amz-bucket-region": "us-east-1"})
        elif key and self.command == "GET":
            self._serve_get(bucket, key)
        elif query.get("list-type") == "2":
            self._serve_list(bucket, query)
        else:
            self._error(501, "NotImplemented", "This server can list and get.")

    # -- faults ---------------------------------------------------------------------------------

    def _injected(
        self, kind: str, name: str, asked: int, by_key: str, own_faults: str
    ) -> _Injected:
        """The fault of this request, by its key or drawn, or ""."""
        owner = self.server.owner
        fault = by_key
        if not by_key:
            drawn = owner.draw(kind, name, asked)
            for candidate in (*_ANY_REQUEST, *own_faults.split()):
                drawn -= getattr(owner.faults, f"{candidate}_rate")
                if drawn < 0:
                    fault = candidate
                    break
        if fault:
            owner.count_fault(fault)
        return _Injected(
            fault, owner.draw("which way", kind, name, asked) < 0.5, f"{name}\0{asked}"
        )

    def _met(self, injected: _Injected) -> bool:
        """Whether a fault was the answer, so that nothing is left to do."""
        owner = self.server.owner
        if injected.fault == "hang":
            owner.hang()
            self.close_connection = True
            return True
        if injected.fault == "reset":
            self._reset()
            return True
        if injected.fault == "slow":
            owner.closing.wait(owner.faults.slow_seconds)
        if injected.fault == "not_s3":
            self._reply(404, b"<html>Not Found</html>", {"Content-Type": "text/html"})
            return True
        if injected.fault in _ERRORS:
            self._error(*_ERRORS[injected.fault])
            return True
        return False

    def _reset(self) -> None:
        """Close with RST: no linger, and the descriptor itself, past what Python keeps open."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    # -- GET ------------------------------------------------------------------------------------

    def _serve_get(self, bucket: str, key: str) -> None:
        owner = self.server.owner
        name = f"{bucket}/{key}"
        # A GET of a part is a client's check whether it may read the object. It is no fetch.
        kind = "get_range" if "Range" in self.headers else "get"
        asked = owner.count_request(kind, name, key if kind == "get" else None)
        faults = owner.faults
        by_key = next(
            (fault for fault in _BY_KEY if key in getattr(faults, fault)),
            "",
        )
        injected = self._injected(kind, name, asked, by_key, "get_fail cut wrong_length flip")
        if self._met(injected):
            return
        path = key_path(owner.root / bucket, key)
        if key in faults.hidden or not path.is_file():
            self._error(404, "NoSuchKey", "The specified key does not exist.")
            return
        damaged = owner.is_damaged(key, asked if kind == "get" else None)
        if damaged:
            owner.count_fault("damaged")
        body = owner.stored(bucket, key, damaged=damaged)
        etag = owner.etag(bucket, key, damaged=damaged)
        if self.headers.get("If-Match", etag) not in {etag, "*"}:
            self._error(412, "PreconditionFailed", "At least one of the pre-conditions failed.")
            return
        self._send_object(body, etag, path.stat().st_mtime, injected)

    def _send_object(self, body: bytes, etag: str, modified: float, injected: _Injected) -> None:
        headers = {
            "ETag": etag,
            "Last-Modified": datetime.fromtimestamp(modified, UTC).strftime(
                "%a, %d %b %Y %H:%M:%S GMT"
            ),
            "Accept-Ranges": "bytes",
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",  # as CloudTrail stores its log files
        }
        status = 200
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        if wanted:
            start, end = int(wanted[1]), int(wanted[2] or len(body) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(body)}"
            body, status = body[start : end + 1], 206
        length = len(body)
        if injected.fault == "flip":
            body = self.server.owner.flipped(body, injected.name)
        elif injected.fault == "cut":
            body = body[: length // 2]
        elif injected.fault == "wrong_length":
            length = length // 2 if injected.other_way else length + 100
        self._reply(status, body, headers, length)

    # -- LIST -----------------------------------------------------------------------------------

    def _serve_list(self, bucket: str, query: dict[str, str]) -> None:
        owner = self.server.owner
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("start-after", "")
        token = query.get("continuation-token", "")
        if token:
            after = base64.urlsafe_b64decode(token).decode()
        name = f"{bucket}/{prefix}\0{delimiter}\0{after}"
        asked = owner.count_request("list", name)
        faults = owner.faults
        by_key = "hang" if prefix in faults.hang else "denied" if prefix in faults.denied else ""
        injected = self._injected("list", name, asked, by_key, "list_fail list_cut")
        if injected.fault == "denied":
            self._error(403, "AccessDenied", f"{_READER}: s3:ListBucket on resource")
            return
        if self._met(injected):
            return
        limit = min(owner.page_keys, int(query.get("max-keys", MOST_KEYS)))
        items = list(_grouped(owner.keys(bucket, prefix), prefix, delimiter, after))
        xml = self._listing_xml(bucket, query, items[:limit], truncated=len(items) > limit)
        length = len(xml)
        if injected.fault == "list_cut":
            xml = xml[: length // 2]
            length = length if injected.other_way else len(xml)
        self._reply(200, xml, {"Content-Type": "application/xml"}, length)

    def _listing_xml(
        self, bucket: str, query: dict[str, str], items: list[str], *, truncated: bool
    ) -> bytes:
        delimiter = query.get("delimiter", "")

        def text(value: str) -> str:
            return quote(value) if query.get("encoding-type") == "url" else escape(value)

        parts = [
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{text(query.get('prefix', ''))}</Prefix>"
            f"<KeyCount>{len(items)}</KeyCount><MaxKeys>{MOST_KEYS}</MaxKeys>"
            f"<IsTruncated>{str(truncated).lower()}</IsTruncated>"
        ]
        if "encoding-type" in query:
            parts.append("<EncodingType>url</EncodingType>")
        if truncated:
            token = base64.urlsafe_b64encode(items[-1].encode()).decode()
            parts.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
        for item in items:
            if delimiter and item.endswith(delimiter):
                parts.append(f"<CommonPrefixes><Prefix>{text(item)}</Prefix></CommonPrefixes>")
            else:
                parts.append(self._listed_xml(bucket, item, text(item)))
        parts.append("</ListBucketResult>")
        return "".join(parts).encode()

    def _listed_xml(self, bucket: str, key: str, shown: str) -> str:
        owner = self.server.owner
        stat = key_path(owner.root / bucket, key).stat()
        modified = datetime.fromtimestamp(stat.st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        etag = escape(owner.etag(bucket, key, damaged=owner.is_damaged(key)))
        storage_class = "GLACIER" if key in owner.faults.archived else "STANDARD"
        return (
            f"<Contents><Key>{shown}</Key><LastModified>{modified}</LastModified>"
            f"<ETag>{etag}</ETag><Size>{stat.st_size}</Size>"
            f"<StorageClass>{storage_class}</StorageClass></Contents>"
        )

    # -- answers --------------------------------------------------------------------------------

    def _error(self, status: int, code: str, message: str) -> None:
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{code}</Code><Message>{message}</Message>"
            "<RequestId>0123456789ABCDEF</RequestId></Error>"
        )
        self._reply(status, xml.encode(), {"Content-Type": "application/xml"})

    def _reply(
        self, status: int, body: bytes, headers: dict[str, str], length: int | None = None
    ) -> None:
        """Answer. If the length is not the body's, the connection ends after the body."""
        if self.server.owner.take_over(self, status, headers, body):
            return
        length = len(body) if length is None else length
        self.send_response_only(status)
        self.send_header("x-amz-request-id", "0123456789ABCDEF")
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        if length != len(body):
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _grouped(keys: list[str], prefix: str, delimiter: str, after: str) -> Iterator[str]:
    """The keys and common prefixes behind `after`, each common prefix once."""
    last = after
    for key in keys:
        if key.encode() <= after.encode():
            continue
        item = key
        if delimiter:
            head, found, _ = key[len(prefix) :].partition(delimiter)
            item = prefix + head + found
        if item != last:
            yield item
        last = item
