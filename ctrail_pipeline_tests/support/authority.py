"""A private certificate authority, and certificates for whatever host a test plays."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from threading import Lock

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


class Authority:
    """An authority whose files lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own, self._servers = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._lock = Lock()

    @cached_property
    def certificate(self) -> Path:
        """The file with the authority's own certificate."""
        path = self._folder / "authority.pem"
        root = self._builder("Example CA", self._own).sign(self._own, hashes.SHA256())
        path.write_bytes(root.public_bytes(Encoding.PEM))
        return path

    def context(self, *hosts: str) -> ssl.SSLContext:
        """Return the context by which a server proves to be these hosts (or IP addresses)."""
        with self._lock:
            if hosts not in self._contexts:
                self._contexts[hosts] = self._new_context(hosts)
            return self._contexts[hosts]

    def _new_context(self, hosts: tuple[str, ...]) -> ssl.SSLContext:
        leaf = (
            self._builder("Example S3", self._servers)
            .add_extension(
                x509.SubjectAlternativeName([_name_of(host) for host in hosts]), critical=False
            )
            .sign(self._own, hashes.SHA256())
        )
        path = self._folder / f"server-{len(self._contexts)}.pem"
        path.write_bytes(
            self._servers.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + leaf.public_bytes(Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _builder(self, subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        def name(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder(name("Example CA"), name(subject), key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(
                x509.BasicConstraints(ca=key is self._own, path_length=None), critical=True
            )
        )


def _name_of(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
