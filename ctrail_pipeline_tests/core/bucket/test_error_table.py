"""What is said of each error code of S3, and how often is asked before it is said.

The server refuses every request in one way. An ordinary key is asked for through libcurl, an odd
one through boto3: both must say the same.
"""

import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from xml.sax.saxutils import escape

import pytest

from ctrail_pipeline.core.bucket import s3_retry
from ctrail_pipeline.core.bucket.error_table import CODES, PHRASES
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.exceptions import (
    AccessDenied,
    ObjectChanged,
    StoreError,
    StoreUnavailable,
)
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.reports.sentences import failure_message
from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, write_sample
from ctrail_pipeline_tests.support import fault_server
from ctrail_pipeline_tests.support.buckets import settings_of
from ctrail_pipeline_tests.support.fault_server import Faults, FaultServer
from ctrail_pipeline_tests.support.standing import standing
from ctrail_pipeline_tests.support.sync_process import served_sample_settings
from ctrail_pipeline_tests.support.thorough import thorough

KEYS = "AWSLogs/a.json.gz", "AWSLogs/./a.json.gz"
AT = "s3://bucket/{key}"
KMS_KEY = "arn:aws:kms:eu-west-1:111122223333:key/0e1f-mrk"
PRIVATE = "private-text-of-an-answer"
SSE_C = "The object was stored using a form of Server Side Encryption. The correct parameters ..."


class Refusing:
    """A server that refuses every request, and counts them."""

    def __init__(self) -> None:
        self.status, self.code, self.message = 500, "", ""
        self.requests = 0
        refusing = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                refusing.requests += 1
                code, text = escape(refusing.code), escape(refusing.message)
                xml = f"<Error><Code>{code}</Code><Message>{text}</Message></Error>"
                body = (xml if code else PRIVATE).encode()
                self.send_response(refusing.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("AWS_") or name.lower().endswith("_proxy"):
                patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIAX")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setattr(s3_retry, "FIRST_PAUSE_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def refusing() -> Iterator[Refusing]:
    server = Refusing()
    thread = Thread(target=server.http.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


Say = Callable[[int, str, str], tuple[StoreError, int]]


@pytest.fixture(scope="module")
def say(refusing: Refusing) -> Say:
    """Return what both clients say of an answer to a GET, and after how many requests."""
    trail = Trail("trail", "bucket", region="us-east-1", endpoint_url=refusing.url)
    bucket = open_bucket(trail, settings_of(trail))

    def ask(status: int, code: str, message: str) -> tuple[StoreError, int]:
        refusing.status, refusing.code, refusing.message = status, code, message
        said = []
        for key in KEYS:
            refusing.requests = 0
            with pytest.raises(StoreError) as caught:
                bucket.get(key, None)
            text = str(caught.value).replace(key, "{key}")
            said.append((type(caught.value), text, refusing.requests))
        assert said[0] == said[1], "libcurl and boto3"
        kind, text, requests = said[0]
        assert PRIVATE not in text
        return kind(text), requests

    return ask


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "sentence"),
    [
        (
            400,
            "KMS.DisabledException",
            f"{KMS_KEY} is disabled. {PRIVATE}",
            AccessDenied,
            f"{AT}: {KMS_KEY} is disabled in KMS: enable it (kms:EnableKey), then sync again",
        ),
        (
            400,
            "KMS.KMSInvalidStateException",
            f"{KMS_KEY} is pending deletion.",
            AccessDenied,
            f"{AT}: {KMS_KEY} is pending deletion in KMS: cancel that (kms:CancelKeyDeletion) and"
            " enable the key before its last day, or these log files can never be read again",
        ),
        (
            400,
            "KMS.KMSInvalidStateException",
            f"{KMS_KEY} is pending import.",
            AccessDenied,
            f"{AT}: {KMS_KEY} has no key material in KMS (pending import): import its key material"
            " again, then sync again",
        ),
        (
            400,
            "KMS.KMSInvalidStateException",
            PRIVATE,
            AccessDenied,
            f"{AT}: the trail's key is in a state of KMS in which nothing can be decrypted: look at"
            " its KeyState (`aws kms describe-key`)",
        ),
        (
            400,
            "KMS.NotFoundException",
            f"Key '{KMS_KEY}' does not exist",
            AccessDenied,
            f"{AT}: {KMS_KEY} does not exist in KMS: if it was deleted, these log files can never"
            " be read again; else check the account and region of the key",
        ),
        (
            403,
            "AccessDenied",
            f"User: {PRIVATE} is not authorized to perform: kms:Decrypt on resource: {KMS_KEY}",
            AccessDenied,
            f"{AT}: access denied by KMS: kms:Decrypt on {KMS_KEY} is missing",
        ),
        (
            400,
            "KMS.InvalidGrantTokenException",
            PRIVATE,
            AccessDenied,
            f"{AT}: KMS does not decrypt it (KMS.InvalidGrantTokenException): check the state and"
            " the policy of the trail's key",
        ),
        (
            400,
            "InvalidRequest",
            SSE_C,
            StoreError,
            f"{AT}: encrypted with a key that only its writer has (SSE-C), so it cannot be read"
            " (InvalidRequest): whoever wrote it writes it again without SSE-C; CloudTrail itself"
            " never uses SSE-C",
        ),
        (
            400,
            "InvalidRequest",
            PRIVATE,
            StoreError,
            f"{AT}: the server refuses the request (InvalidRequest): check the trail's"
            " `endpoint_url`, and that the server knows SigV4",
        ),
        (
            409,
            "OperationAborted",
            PRIVATE,
            StoreError,
            f"{AT}: the server refuses the request (OperationAborted): look this code up in the"
            " list of S3's error codes, or in the server's manual",
        ),
        (
            403,
            "InvalidPayer",
            PRIVATE,
            AccessDenied,
            f"{AT}: access denied (InvalidPayer): look this code up in the list of S3's error"
            " codes, or in the server's manual",
        ),
        (
            403,
            "AllAccessDisabled",
            PRIVATE,
            AccessDenied,
            f"{AT}: S3 serves this account or bucket no more (AllAccessDisabled): the bucket's"
            " owner asks AWS Support",
        ),
        (
            403,
            "",
            "",
            AccessDenied,
            f"{AT}: access denied: s3:GetObject on arn:aws:s3:::bucket/* is missing",
        ),
        (
            404,
            "",
            "",
            StoreError,
            f"{AT}: a 404 came that is not S3's: check proxies and the trail's `endpoint_url`",
        ),
        (
            405,
            "",
            "",
            StoreError,
            f"{AT}: the request was refused (HTTP 405), and not by S3: check proxies and the"
            " trail's `endpoint_url`",
        ),
        (412, "", "", ObjectChanged, f"{AT} was written again since it was listed"),
    ],
    ids=lambda value: value if isinstance(value, str) and value in CODES else "",
)
def test_a_final_error_is_said_after_one_request(
    say: Say, status: int, code: str, message: str, kind: type[StoreError], sentence: str
) -> None:
    error, requests = say(status, code, message)
    assert (type(error), str(error), requests) == (kind, sentence, 1)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "RequestTimeout"),
        (408, ""),
        (429, "NewNameOfThrottling"),
        (503, "NobodyKnowsThis"),
        *thorough((400, "ThrottlingException"), (400, "KMS.ThrottlingException")),
        *thorough((500, "KMS.KMSInternalException"), (503, "SlowDown"), (425, ""), (500, "")),
    ],
)
def test_what_may_pass_is_asked_for_seven_times(say: Say, status: int, code: str) -> None:
    error, requests = say(status, code, PRIVATE)
    assert isinstance(error, StoreUnavailable)
    assert str(error) == f"{AT} cannot be read: {code or f'HTTP {status}'}, after several tries"
    assert requests == s3_retry.ATTEMPTS


def test_every_phrase_decides_something() -> None:
    decided = {code.partition(", ")[2] for code in CODES if ", " in code}
    assert decided == set(PHRASES)
    names = "at code done permission kms_key kms_permission bucket endpoint_url region"
    fields = dict.fromkeys(names.split(), "")
    for meaning in CODES.values():
        assert (meaning.says + meaning.do).format(**fields)


def test_log_files_that_are_refused_for_good_are_asked_for_once_each_and_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sample(tmp_path / "sample", log_files=60, days=1)
    bucket = tmp_path / "sample" / ORGANIZATION_BUCKET
    keys = {path.relative_to(bucket).as_posix() for path in bucket.glob("**/CloudTrail/**/*.gz")}
    monkeypatch.setitem(fault_server._ERRORS, "denied", (400, "InvalidRequest", SSE_C))
    with FaultServer(tmp_path / "sample", Faults(denied=keys)) as server:
        summary = sync(served_sample_settings(server.endpoint_url, tmp_path))
        assert {key: server.counts.gets[key] for key in keys} == dict.fromkeys(keys, 1)
    assert standing(summary) == {LogFileState.FAILED: len(keys)}
    assert not summary.may_pass
    told = [line for line in failure_message(summary).splitlines() if "(SSE-C)" in line]
    assert len(told) == 1
    assert f"{len(keys)} log files" in told[0]
