"""Lines of quarantine: what cannot become an event, where it came from, and why.

A line holds the data itself, as text or in base64. Its identity makes sure that a second try of the
same log file adds no second line.
"""

import base64
import json
from hashlib import sha256
from typing import Final

from ctrail_pipeline.core.bucket.etag import unpack_etag
from ctrail_pipeline.core.log_file.identity import (
    IDENTITY_BYTES,
)
from ctrail_pipeline.core.log_file.lines import LARGEST_JOIN, EncodedLine, HeldBytes, Line
from ctrail_pipeline.core.log_file.mapped_text import pieces_of
from ctrail_pipeline.core.log_file.record import Rejected

_LONGEST_TEXT: Final = 1024 * 1024
"""Limit of bytes that are quarantined as text: nobody reads more of them."""
_ESCAPED_LIMIT: Final = 3
"""Limit of how many times longer JSON may make a text. Only control characters need more."""


def quarantine_identity(bucket: str, key: str, kind: str, data: HeldBytes) -> bytes:
    """Return the identity of a line of quarantine: same data from the same log file, same line."""
    digest = sha256(b"\0".join((bucket.encode(), key.encode(), kind.encode(), b"")))
    for piece in pieces_of(data):
        digest.update(piece)
    return digest.digest()[:IDENTITY_BYTES]


def quarantine_line(bucket: str, key: str, etag: bytes, rejected: Rejected) -> Line:
    """Return a line with what cannot become an event, where it came from, and why."""
    entry = {
        "bucket": bucket,
        "key": key,
        "etag": unpack_etag(etag).strip('"') if etag else None,
        "index": rejected.index,
        "kind": rejected.kind,
        "verified": rejected.kind != "unverified",
        "reason": rejected.reason,
    }
    return _with_data(json.dumps(entry).encode(), rejected.data)


def _with_data(entry: bytes, data: HeldBytes) -> Line:
    """Add data to a JSON object as its last member: as text if it is UTF-8 and short.

    JSON writes a NUL in six bytes: a log file of 256 MB of NULs (a gzip of 250 KB) would take
    1.5 GB of quarantine, and 3.6 GB of memory on the way there.
    """
    if len(data) <= _LONGEST_TEXT:
        try:
            text = json.dumps(bytes(data).decode()).encode()
        except UnicodeDecodeError:
            pass
        else:
            if len(text) <= _ESCAPED_LIMIT * len(data) + len('""'):
                return b'%s, "data": %s}' % (entry[:-1], text)
    head, tail = entry[:-1] + b', "data_base64": "', b'"}'
    if len(data) > LARGEST_JOIN:
        return EncodedLine(head, data, tail)
    return b"".join((head, base64.b64encode(data), tail))
