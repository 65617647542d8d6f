"""All clients heed private certificate authorities and proxies as boto3's variables name them.

The server presents a certificate that an authority made here signed; the proxy is a few lines that
count. Each request is made by both clients: listings and log files with an ordinary key go through
libcurl, a log file with a key such as `a/./b.json.gz` through boto3.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.exceptions import ObjectGone, StoreError
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.sample.bucket import (
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    write_sample,
)
from ctrail_pipeline_tests.support.authority import Authority
from ctrail_pipeline_tests.support.fault_server import FaultServer
from ctrail_pipeline_tests.support.oracle import check_output
from ctrail_pipeline_tests.support.sync_process import served_sample_settings

KEY = "AWSLogs/ordinary.json.gz"
ODD_KEY = "AWSLogs/./odd.json.gz"
NOT_TRUSTED = "the server's certificate is not trusted"
WHAT_TO_DO = (
    "if a private authority signed it, set AWS_CA_BUNDLE to a file with that authority's"
    " certificate"
)


# --- the authority --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


# --- a relay: the TLS in front of the server, and the proxy ---------------------------------------


class Relay:
    """A relay on the loopback that passes on what comes, and counts what it passed on."""

    def __init__(self) -> None:
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = {self._listener}
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for connection in list(self._open):
            connection.close()

    def connect(self, client: socket.socket) -> tuple[socket.socket, socket.socket]:
        """Return both ends of what is to be relayed, once the client has said where to."""
        raise NotImplementedError

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            near, far = self.connect(client)
            self.connections += 1
            self._open |= {near, far}
            back = threading.Thread(target=_pass_on, args=(far, near), daemon=True)
            back.start()
            _pass_on(near, far)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class TlsFront(Relay):
    """A relay that speaks TLS to clients and plain HTTP to the server behind."""

    def __init__(self, server: FaultServer, authority: Authority) -> None:
        self._behind = urlsplit(server.endpoint_url)
        self._context = authority.context("127.0.0.1")
        super().__init__()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def connect(self, client: socket.socket) -> tuple[socket.socket, socket.socket]:
        near = self._context.wrap_socket(client, server_side=True)
        return near, socket.create_connection((self._behind.hostname, self._behind.port))


class Proxy(Relay):
    """An HTTP proxy: CONNECT for https, whole URLs (one a connection) for http."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, client: socket.socket) -> tuple[socket.socket, socket.socket]:
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(65536)
            if not data:
                raise ConnectionError
            head += data
        method, target, version_and_headers = head.split(b" ", 2)
        if method == b"CONNECT":
            host, port = target.decode().rsplit(":", 1)
            far = socket.create_connection((host, int(port)))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            parts = urlsplit(target.decode())
            far = socket.create_connection((parts.hostname, parts.port))
            path = target.decode().removeprefix(f"http://{parts.netloc}")
            once = version_and_headers.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
            far.sendall(b" ".join((method, path.encode(), once)))
        return client, far


class TlsProxy(Proxy):
    """A proxy that is spoken to through TLS."""

    def __init__(self, authority: Authority) -> None:
        self._context = authority.context("127.0.0.1")
        super().__init__()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def connect(self, client: socket.socket) -> tuple[socket.socket, socket.socket]:
        return super().connect(self._context.wrap_socket(client, server_side=True))


# --- the world ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set credentials of nobody, no proxy, and no authority but those of the system."""
    for name in list(os.environ):
        is_authority = name in {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
        if is_authority or name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "access",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("private") / "sample"
    write_sample(root, log_files=40, days=1)
    return root


@pytest.fixture
def server(root: Path) -> Iterator[FaultServer]:
    with FaultServer(root) as server:
        yield server


@pytest.fixture
def tls(server: FaultServer, authority: Authority) -> Iterator[TlsFront]:
    with closing(TlsFront(server, authority)) as front:
        yield front


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with closing(Proxy()) as proxy:
        yield proxy


def bucket_at(url: str | None, region: str | None = "us-east-1") -> Bucket:
    settings = served_sample_settings(url, Path("nowhere"), region)
    return open_bucket(settings.trails[0], settings)


def list_by_curl(bucket: Bucket) -> None:
    assert bucket.list_folder("AWSLogs/").folders == ["o-exampleorg1"]


def ask_by_curl(bucket: Bucket) -> None:
    with pytest.raises(ObjectGone):
        bucket.get(KEY, None)


def ask_by_boto3(bucket: Bucket) -> None:
    """Read a key that libcurl never asks for."""
    with pytest.raises(ObjectGone):
        bucket.get(ODD_KEY, None)


# --- private authorities --------------------------------------------------------------------------


def test_without_the_authority_the_sync_says_to_set_it_and_does_not_try_again(
    tls: TlsFront, server: FaultServer, tmp_path: Path
) -> None:
    summary = sync(served_sample_settings(tls.url, tmp_path))
    assert [(problem.where, problem.state, problem.reason) for problem in summary.problems] == [
        (
            bucket,
            "not listed",
            f"s3://{bucket}/{root}: {NOT_TRUSTED} (unable to get local issuer certificate):"
            f" {WHAT_TO_DO}",
        )
        for bucket, root in (
            (ORGANIZATION_BUCKET, "AWSLogs/"),
            (PAYMENTS_BUCKET, f"{PAYMENTS_PREFIX}/AWSLogs/"),
        )
    ]
    assert not summary.ok
    assert server.counts.requests.total() == 0


def test_without_the_authority_the_other_clients_say_the_same(
    tls: TlsFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = rf"{NOT_TRUSTED} \(unable to get local issuer certificate\): {WHAT_TO_DO}"
    for key in (KEY, ODD_KEY):
        with pytest.raises(StoreError, match=pattern):
            bucket_at(tls.url).get(key, None)


def test_with_the_authority_everything_is_brought_in(
    tls: TlsFront, root: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.certificate))
    settings = served_sample_settings(tls.url, tmp_path)
    assert sync(settings).problems == []
    buckets = [(root / trail.bucket, trail.prefix) for trail in settings.trails]
    check_output(settings.events_dir, settings.quarantine_dir, buckets).assert_clean()
    ask_by_boto3(bucket_at(tls.url))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "holds no certificate in PEM form"),
        ("-----BEGIN RSA PRIVATE KEY-----", "holds no certificate in PEM form"),
    ],
)
@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_an_authority_file_that_is_none_is_the_problem_of_whoever_speaks_tls(
    tls: TlsFront,
    server: FaultServer,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: str | None,
    reason: str,
    variable: str,
) -> None:
    """The other trail lies at a server without TLS, and is synced."""
    path = tmp_path / "authority.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv(variable, str(path))
    settings = served_sample_settings(server.endpoint_url, tmp_path)
    organization, payments = settings.trails
    trails = replace(organization, endpoint_url=tls.url), payments
    summary = sync(replace(settings, trails=trails))
    assert [problem.reason for problem in summary.problems] == [
        f"trail 'organization': {variable}={path} {reason}"
    ]
    buckets = [(root / payments.bucket, payments.prefix)]
    check_output(settings.events_dir, settings.quarantine_dir, buckets).assert_clean()


# --- proxies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_plain_requests_of_all_clients_go_through_the_proxy(
    server: FaultServer, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, proxy.url)
    assert through(proxy, bucket_at(server.endpoint_url)) == [True] * 3


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_tls_requests_of_all_clients_go_through_the_proxy(
    tls: TlsFront,
    proxy: Proxy,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.certificate))
    monkeypatch.setenv(variable, proxy.url)
    assert through(proxy, bucket_at(tls.url)) == [True] * 3


def test_the_authority_vouches_for_a_proxy_too(
    server: FaultServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With libcurl, the authority vouches; boto3 has no such setting for proxies."""
    with closing(TlsProxy(authority)) as proxy:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.certificate))
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        bucket = bucket_at(server.endpoint_url)
        list_by_curl(bucket)
        listed = proxy.connections
        ask_by_curl(bucket)
        assert proxy.connections > listed > 0


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
@pytest.mark.parametrize("hosts", ["127.0.0.1", "localhost, 127.0.0.1"])
def test_hosts_that_are_excepted_are_asked_directly_by_all_clients(
    server: FaultServer,
    tls: TlsFront,
    proxy: Proxy,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    hosts: str,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.certificate))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv(variable, hosts)
    assert through(proxy, bucket_at(server.endpoint_url)) == [False] * 3
    assert through(proxy, bucket_at(tls.url)) == [False] * 3


def test_a_whole_sync_goes_through_the_proxy(
    tls: TlsFront,
    server: FaultServer,
    proxy: Proxy,
    root: Path,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.certificate))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    settings = served_sample_settings(tls.url, tmp_path)
    assert sync(settings).problems == []
    buckets = [(root / trail.bucket, trail.prefix) for trail in settings.trails]
    check_output(settings.events_dir, settings.quarantine_dir, buckets).assert_clean()
    assert proxy.connections == tls.connections > 2


def through(proxy: Proxy, bucket: Bucket) -> list[bool]:
    """Whether a LIST and a GET of libcurl and a GET of boto3 went through the proxy."""
    counts = [proxy.connections]
    for ask in (list_by_curl, ask_by_curl, ask_by_boto3):
        ask(bucket)
        counts.append(proxy.connections)
    return [after > before for before, after in pairwise(counts)]
