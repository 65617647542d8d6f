"""Texts of log files for the tests of `records`, `json_scan` and `decompress`, and an oracle.

The oracle is Python's own JSON decoder over a latin-1 view, which gives the position of each
element. The oracle shares only the rules with the code that it judges.
"""

import gzip
import itertools
import json
import re
from typing import Any

from hypothesis import strategies as st

from ctrail_pipeline.core.log_file.record import LogFileContent
from ctrail_pipeline.core.log_file.split import read_log_file

TIME = "2023-07-10T11:42:58Z"
EVENT = b'{"eventTime":"2023-07-10T11:42:58Z"}'
OTHER = b'{"eventTime":"2023-07-10T12:00:00Z","awsRegion":"eu-west-1"}'
BOM = b"\xef\xbb\xbf"
LIMIT = 1_000_000


def read(data: bytes, limit: int = LIMIT) -> LogFileContent:
    return read_log_file(data, limit)


def wrap(*elements: bytes) -> bytes:
    return b'{"Records":[' + b",".join(elements) + b"]}"


def lines(content: LogFileContent) -> list[bytes]:
    return [bytes(record.line) for record in content.records]


def rejected(content: LogFileContent) -> list[tuple[str, int | None, bytes]]:
    return [(entry.kind, entry.index, bytes(entry.data)) for entry in content.rejected]


def event(**fields: object) -> bytes:
    return json.dumps({"eventTime": TIME} | fields).encode()


def oracle_elements(data: bytes) -> tuple[list[bytes], int]:
    """The complete elements of the first `Records` of a text, and the end of the last element."""
    text = data.decode("latin-1")
    space = re.compile(r"[ \t\r\n]*")
    head = re.compile(r'[ \t\r\n]*\{[ \t\r\n]*"Records"[ \t\r\n]*:[ \t\r\n]*\[').match(text)
    found: list[bytes] = []
    end = 0
    decoder = json.JSONDecoder(strict=False)
    position = head.end() if head else len(text)
    while position < len(text):
        match = space.match(text, position)
        assert match is not None
        try:
            _, end_of_value = decoder.raw_decode(text, match.end())
        except ValueError:
            break
        found.append(data[match.end() : end_of_value])
        end = end_of_value
        match = re.compile(r"[ \t\r\n]*,").match(text, end)
        if match is None:
            break
        position = match.end()
    return found, end


def as_line(element: bytes) -> bytes:
    return element.replace(b"\r", b" ").replace(b"\n", b" ")


def members(data: bytes, cuts: list[int]) -> bytes:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    parts = [data[a:b] for a, b in itertools.pairwise(edges)]
    return b"".join(gzip.compress(part, mtime=0) for part in parts)


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
events = st.dictionaries(texts, values, max_size=4).map(
    lambda members: members | {"eventTime": TIME}
)
spaces = st.text(st.sampled_from(" \t\r\n"), max_size=3)


@st.composite
def log_files(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A sound log file in some style of JSON, and its elements as they stand in it."""
    indent = draw(st.sampled_from([None, 0, 2, "\t"]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\r\n", "\t: ")]))
    ensure_ascii = draw(st.booleans())
    line_end = draw(st.sampled_from(["\n", "\r\n", "\r"]))

    def write(value: Any) -> str:
        text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=ensure_ascii)
        return text.replace("\n", line_end)

    elements = [write(value) for value in draw(st.lists(events, max_size=5))]
    gap = [draw(spaces) for _ in range(6)]
    between = draw(spaces) + "," + draw(spaces)
    text = (
        f'{gap[0]}{{{gap[1]}"Records"{gap[2]}:{gap[3]}[{gap[4]}'
        f"{between.join(elements)}{gap[5]}]{gap[0]}}}{gap[1]}"
    )
    return text.encode(), [element.encode() for element in elements]
