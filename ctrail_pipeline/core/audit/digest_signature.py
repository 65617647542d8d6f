"""Whether CloudTrail signed a digest: what is signed, the RSA signature, and the public key.

`cryptography` is imported where it is used: no sync needs it.
"""

from typing import TYPE_CHECKING

from ctrail_pipeline.core.ledger.queries_digests import PublicKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from .digest_file import HEX, Digest, DigestError


def string_to_sign(digest: Digest, bucket: str, key: str) -> bytes:
    """Return the bytes that CloudTrail signs for a digest delivered to `bucket` as `key`."""
    previous = digest.previous.signature if digest.previous else "null"
    return "\n".join((digest.end_text, f"{bucket}/{key}", digest.sha256.hex(), previous)).encode(
        errors="replace"
    )


def check_signature(digest: Digest, signature: str, key: PublicKey) -> None:
    """Check that CloudTrail signed a digest, for the bucket and key that the digest names itself.

    `signature` is hexadecimal, from the object's metadata. Raises DigestError if it does not fit.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    if not HEX.fullmatch(signature):
        raise DigestError("its signature is not hexadecimal")
    signed = string_to_sign(digest, digest.bucket, digest.key)
    try:
        load_public_key(key.der).verify(bytes.fromhex(signature), signed, PKCS1v15(), SHA256())
    except InvalidSignature as error:
        raise DigestError("its signature does not fit its bytes") from error


def load_public_key(der: bytes) -> "RSAPublicKey":
    """Load an RSA key in either encoding that AWS has used.

    The encodings are PKCS#1 RSAPublicKey and SubjectPublicKeyInfo; OpenSSL's DER loader tells them
    apart. Raises DigestError for anything else.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(der)
    except ValueError as error:
        raise DigestError("the public key is no RSA key in DER form") from error
    if not isinstance(key, RSAPublicKey):
        raise DigestError("the public key is no RSA key")
    return key
