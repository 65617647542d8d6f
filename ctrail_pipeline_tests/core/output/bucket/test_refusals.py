"""What the output's bucket refuses is said in one sentence, with the permission or key to mend."""

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

import pytest

from ctrail_pipeline.core.bucket import s3_retry
from ctrail_pipeline.core.exceptions import LedgerError, OutputError
from ctrail_pipeline.core.output.bucket.bucket_output import BucketOutput
from ctrail_pipeline.core.output.new_files import NewFile
from ctrail_pipeline.core.output_address import BucketAddress
from ctrail_pipeline.core.output_files import FileName, Kind
from ctrail_pipeline.core.settings import OutputBucket
from ctrail_pipeline_tests.support.http_server import serve
from ctrail_pipeline_tests.support.output_buckets import output_in

FILE = FileName(Kind.EVENTS, "111122223333/us-east-1/2024/01/02/03", "events_00001.jsonl")
PRIVATE = "what an answer says beside its code"
EMPTY_LIST = (
    b"<ListBucketResult><Name>b</Name><Prefix>%s</Prefix><KeyCount>0</KeyCount>"
    b"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
)
COPIED = b'<CopyObjectResult><ETag>"e"</ETag></CopyObjectResult>'


@dataclass
class Server:
    """Takes every request, but for those that a test lets it answer otherwise."""

    url: str = ""
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Status and body by operation: LIST, GET, HEAD, PUT, COPY, DELETE."""
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Operations with their headers."""

    def refuse(self, operation: str, status: int, code: str, message: str = PRIVATE) -> None:
        body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        self.answers[operation] = (status, body.encode())


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(s3_retry, "FIRST_PAUSE_SECONDS", 0.001)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    server = Server()

    def handle(request: BaseHTTPRequestHandler) -> None:
        sent = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in request.headers.items()}
        operation = {"POST": "DELETE"}.get(request.command, request.command)
        if "x-amz-copy-source" in headers:
            operation = "COPY"
        if "list-type" in request.path:
            operation = "LIST"
        server.seen.append((operation, headers))
        prefix = re.search(r"prefix=([^&]*)", request.path)
        listed = EMPTY_LIST % (unquote(prefix[1]).encode() if prefix else b"")
        keys = b"".join(
            b"<Deleted>%s</Deleted>" % key for key in re.findall(rb"<Key>.*?</Key>", sent)
        )
        deleted = b"<DeleteResult>%s</DeleteResult>" % keys
        bodies = {"LIST": listed, "DELETE": deleted, "COPY": COPIED}
        status, body = server.answers.get(operation, (200, bodies.get(operation, b"")))
        if operation == "GET" and status == 200:
            status = 206
        request.send_response(status)
        request.send_header("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}")
        if operation != "LIST":
            request.send_header("ETag", '"e"')
        request.send_header("Last-Modified", "Tue, 01 Dec 2026 00:00:00 GMT")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    with serve(handle) as url:
        server.url = url
        yield server


@pytest.fixture
def output(server: Server, tmp_path: Path) -> Iterator[BucketOutput]:
    output = output_in(bucket_at(server.url), tmp_path)
    yield output
    output.close()


def bucket_at(url: str) -> OutputBucket:
    events, quarantine, parquet = (
        BucketAddress("my-output", f"ctrail/{name}") for name in ("events", "bad", "parquet")
    )
    return OutputBucket(events, quarantine, parquet, region="eu-west-1", endpoint_url=url)


@pytest.mark.parametrize(
    ("operation", "permission"),
    [
        ("LIST", "s3:ListBucket on arn:aws:s3:::my-output"),
        ("PUT", "s3:PutObject on arn:aws:s3:::my-output/*"),
        ("HEAD", "s3:GetObject on arn:aws:s3:::my-output/*"),
        ("COPY", "s3:PutObject on arn:aws:s3:::my-output/*"),
        ("DELETE", "s3:DeleteObject on arn:aws:s3:::my-output/*"),
    ],
)
def test_the_probe_names_the_permission_that_is_missing(
    server: Server, output: BucketOutput, operation: str, permission: str
) -> None:
    server.refuse(operation, 403, "AccessDenied")
    with pytest.raises(OutputError) as caught:
        output.probe()
    said = str(caught.value)
    assert f"access denied: {permission} is missing" in said
    assert said.startswith("s3://my-output/ctrail/")
    assert PRIVATE not in said


@pytest.mark.parametrize(
    ("status", "code", "message", "sentence"),
    [
        (
            403,
            "AccessDenied",
            "not authorized to perform: kms:GenerateDataKey on resource: "
            "arn:aws:kms:eu-west-1:111122223333:key/abc because …",
            "access denied by KMS: kms:GenerateDataKey on"
            " arn:aws:kms:eu-west-1:111122223333:key/abc is missing",
        ),
        (404, "NoSuchBucket", "", "there is no such bucket: check `events_dir`"),
        (400, "KMS.DisabledException", "", "the bucket's key is disabled in KMS"),
        (503, "SlowDown", "", "cannot be written: SlowDown, after several tries"),
        (405, "Unheard", "", "the server refuses the request (Unheard)"),
    ],
)
def test_what_a_put_is_refused_for_is_said(
    server: Server, output: BucketOutput, status: int, code: str, message: str, sentence: str
) -> None:
    server.refuse("PUT", status, code, message)
    with pytest.raises(OutputError) as caught:
        output.staging_of("token").write([NewFile(Kind.EVENTS, FILE.folder, [b"{}"], [(0, 1)])])
    assert sentence in str(caught.value)


def test_one_key_that_is_not_removed_is_an_error(server: Server, output: BucketOutput) -> None:
    """The answer to a request that removes many has status 200."""
    key = f"ctrail/events/{FILE.folder}/{FILE.name}"
    error = f"<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>m</Message></Error>"
    server.answers["DELETE"] = (200, f"<DeleteResult>{error}</DeleteResult>".encode())
    with pytest.raises(OutputError, match="access denied: s3:DeleteObject on"):
        output.remove([FILE])


def test_a_panic_of_the_client_is_an_error_of_the_output(
    server: Server, output: BucketOutput
) -> None:
    """The client panics where an answer names a key that was not asked for."""
    error = b"<Error><Key>other</Key><Code>AccessDenied</Code><Message>m</Message></Error>"
    server.answers["DELETE"] = (200, b"<DeleteResult>" + error + b"</DeleteResult>")
    with pytest.raises(OutputError, match="obstore failed with PanicException"):
        output.remove([FILE])


def test_an_answer_of_another_program_is_not_taken_for_a_list(
    server: Server, output: BucketOutput
) -> None:
    server.answers["LIST"] = (200, b"<html><body>Welcome</body></html>")
    with pytest.raises(OutputError, match="a web page came, which is not S3's"):
        output.holds_files(Kind.EVENTS)


def test_a_marker_that_cannot_be_read_is_not_taken_for_none(
    server: Server, output: BucketOutput
) -> None:
    server.refuse("GET", 403, "AccessDenied")
    with pytest.raises(LedgerError, match="s3:GetObject on"):
        output.read_marker(Kind.EVENTS)
    server.answers["GET"] = (200, b"{}")
    with pytest.raises(LedgerError, match="is damaged"):
        output.read_marker(Kind.EVENTS)


def test_a_server_that_is_not_there_is_named(tmp_path: Path, server: Server) -> None:
    output = output_in(bucket_at("http://127.0.0.1:9"), tmp_path)
    with pytest.raises(OutputError, match=r"no connection to 127\.0\.0\.1"):
        output.probe()


def test_a_conflict_of_two_writers_passes(server: Server, output: BucketOutput) -> None:
    """S3 answers 409 where two conditional writes meet: the request is to be made again."""
    server.refuse("PUT", 409, "ConditionalRequestConflict")
    with pytest.raises(OutputError, match="after several tries"):
        output.probe()
    assert len([operation for operation, _ in server.seen if operation == "PUT"]) == 7


def test_objects_are_sent_with_a_checksum_and_the_configured_key(
    server: Server, tmp_path: Path
) -> None:
    bucket = replace(bucket_at(server.url), kms_key_id="alias/ctrail")
    output = output_in(bucket, tmp_path)
    output.staging_of("token").write([NewFile(Kind.EVENTS, FILE.folder, [b"{}"], [(0, 1)])])
    [(_, headers)] = [seen for seen in server.seen if seen[0] == "PUT"]
    checksum = b64encode(sha256(b"{}\n").digest()).decode()
    assert headers["x-amz-checksum-sha256"] == checksum
    assert headers["x-amz-meta-ctrail-part"] == "token/0"
    assert headers["x-amz-server-side-encryption"] == "aws:kms"
    assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/ctrail"
    output.close()


def test_variables_that_only_obstore_reads_change_nothing(
    server: Server, output: BucketOutput, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_S3_EXPRESS": "true",
        "AWS_REQUEST_PAYER": "requester",
        "AWS_CHECKSUM_ALGORITHM": "crc64nvme",
        "AWS_UNSIGNED_PAYLOAD": "true",
        "AWS_COPY_IF_NOT_EXISTS": "multipart",
        "AWS_CONDITIONAL_PUT": "disabled",
        "AWS_REGION": "xx-nowhere-1",
        "ALL_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    output.probe()
    puts = [headers for operation, headers in server.seen if operation == "PUT"]
    assert puts
    for headers in puts:
        assert "/eu-west-1/s3/aws4_request" in headers["authorization"]
        assert "x-amz-checksum-sha256" in headers
        assert "x-amz-request-payer" not in headers
        assert headers["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD"
    copies = [headers for operation, headers in server.seen if operation == "COPY"]
    assert [headers["if-none-match"] for headers in copies] == ["*"]


@pytest.mark.parametrize("name", ["AWS_SERVER_SIDE_ENCRYPTION", "AWS_SSE_CUSTOMER_KEY_BASE64"])
def test_a_variable_that_would_change_the_encryption_is_refused(
    output: BucketOutput, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "AES256")
    with pytest.raises(OutputError, match=f"{name} is set"):
        output.probe()
