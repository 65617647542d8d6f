"""Etags as the ledger keeps them, in few bytes, and as HTTP has them, in quotes."""

import re
from typing import Final

_MD5_ETAG: Final = re.compile(r"[0-9a-f]{32}")


def pack_etag(text: str) -> bytes:
    """Pack an etag into few bytes: 16 for a plain MD5, else a quote and the text."""
    text = text.removeprefix("W/").strip('"')
    if _MD5_ETAG.fullmatch(text):
        return bytes.fromhex(text)
    packed = b'"' + text.encode()
    return packed if len(packed) != 16 else b'"' + packed  # since 16 bytes stand for an MD5


def unpack_etag(packed: bytes) -> str:
    """Return a packed etag as HTTP has it, in quotes."""
    is_md5 = len(packed) == 16 or packed[:1] != b'"'
    text = packed.hex() if is_md5 else packed.decode().lstrip('"')
    return f'"{text}"'
