"""Text that PostgreSQL refuses, written so that it is kept: NUL and lone surrogates.

A key in S3 may hold a NUL, and one hostile key must not fail its batch. What is written for a NUL
sorts as a NUL does, since listing compares names. The character U+0001 marks what is rewritten.
"""

import re
from typing import Any

from psycopg.adapt import Buffer, Dumper, Loader

_MARK = "\x01"
_TO_REWRITE = re.compile("[\x00\x01\ud800-\udfff]")
_REWRITTEN = re.compile("\x01(?:([\x01\x02])|([0-9a-f]{4}))")


def rewritten(text: str) -> str:
    """Return a text that PostgreSQL takes.

    Such texts sort as those that they stand for, unless they hold lone surrogates.
    """
    if _TO_REWRITE.search(text) is None:
        return text
    return _TO_REWRITE.sub(_rewrite, text)


def original(text: str) -> str:
    """Return what a text was before `rewritten`."""
    return _REWRITTEN.sub(_restore, text) if _MARK in text else text


def _rewrite(match: re.Match[str]) -> str:
    short = {"\x00": "\x01\x01", "\x01": "\x01\x02"}
    return short.get(match[0]) or f"{_MARK}{ord(match[0]):04x}"


def _restore(match: re.Match[str]) -> str:
    return chr(int(match[2], 16)) if match[2] else {"\x01": "\x00", "\x02": "\x01"}[match[1]]


class TextDumper(Dumper):
    """Writes texts. The server finds out the type, as it does for a literal."""

    def dump(self, obj: Any) -> bytes:
        """Return the bytes of a text."""
        return rewritten(obj).encode()


class TextLoader(Loader):
    """Reads texts."""

    def load(self, data: Buffer) -> str:
        """Return the text of some bytes."""
        return original(bytes(data).decode())


class SumLoader(Loader):
    """Reads sums of whole numbers, which PostgreSQL makes decimal numbers of."""

    def load(self, data: Buffer) -> int:
        """Return the whole number."""
        return int(bytes(data))
