"""Servers of the benchmark: rclone as S3, plain or over TLS, and a proxy that adds latency.

Each server is a process of its own, so that its CPU and memory are apart from the client's.
"""

import ipaddress
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from benchmarks.measure import PROJECT
from ctrail_pipeline_tests.support.s3_server import S3Server


class MeasuredServer(S3Server):
    """`rclone serve s3` over a folder that stays as it is."""

    def __init__(self, folder: Path, authority: "Authority | None" = None) -> None:
        over_tls: tuple[str, ...] = ()
        if authority is not None:
            over_tls = ("--cert", str(authority.certificate), "--key", str(authority.key))
        super().__init__(folder, folder_changes=False, extra_arguments=over_tls)
        self._authority = authority

    def __enter__(self) -> "MeasuredServer":
        """Start rclone and wait until it answers."""
        super().__enter__()
        if self._authority is not None:
            self.endpoint_url = self.endpoint_url.replace("http://", "https://")
        return self

    @property
    def pid(self) -> int:
        """The process of rclone."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def env(self) -> dict[str, str]:
        """The AWS variables for a client, with the authority that it is to trust."""
        found = super().env()
        if self._authority is not None:
            found["AWS_CA_BUNDLE"] = str(self._authority.root)
        return found


class Authority(NamedTuple):
    """Files of a certificate authority and of a server that it vouches for."""

    root: Path
    certificate: Path
    key: Path


def make_authority(folder: Path) -> Authority:
    """A certificate authority that vouches for 127.0.0.1."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Authority(folder / "root.pem", folder / "server.pem", folder / "server.key")
    authority_key, server_key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    root = _certificate("Benchmark CA", authority_key.public_key(), is_authority=True)
    server = _certificate("Benchmark S3", server_key.public_key(), is_authority=False)
    server = server.add_extension(x509.SubjectAlternativeName([loopback]), critical=False)
    for path, builder in ((files.root, root), (files.certificate, server)):
        path.write_bytes(builder.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM))
    files.key.write_bytes(
        server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return files


def _certificate(
    subject: str, key: ec.EllipticCurvePublicKey, *, is_authority: bool
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Benchmark CA")]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]),
            key,
        )
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )


class DelayProxy:
    """A proxy that forwards each request a little later; see `delay_proxy`."""

    def __init__(self, endpoint_url: str, delay_seconds: float) -> None:
        self._job = json.dumps({"endpoint_url": endpoint_url, "delay_seconds": delay_seconds})
        self._process: subprocess.Popen[str] | None = None
        self.endpoint_url = ""

    def __enter__(self) -> "DelayProxy":
        """Start the proxy and wait until it listens."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.delay_proxy", self._job],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.endpoint_url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the proxy."""
        assert self._process is not None
        self._process.terminate()
        self._process.communicate()
