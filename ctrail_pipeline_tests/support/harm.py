"""Accidents that happen to the bytes of a log file, drawn by hypothesis."""

from hypothesis import strategies as st

from ctrail_pipeline_tests.support.log_file_texts import BOM

TOKENS = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"\n", b"\r", b"\x00", b"1", b"-"),
    *(
        b'{"Records":[',
        b"]}",
        b'"Records":',
        b'],"Records":[',
        b'"\\u0052ecords":[',
        b"null",
        b"{}",
    ),
    *(b"NaN", b"\xff", b"\xed\xa0\x80", b"\\ud800", BOM, b"/**/", b"1e999", b'"a":1,', b"[[["),
    *(b"{}", b"true", b"0"),
]


@st.composite
def harmed(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw some accidents and return what they make of the bytes."""
    text = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(1, 40)))
        kind = draw(st.sampled_from(["flip", "cut", "drop", "double", "insert", "move"]))
        if kind == "flip" and at < len(text):
            text[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del text[at:]
        elif kind == "drop":
            del text[at:end]
        elif kind == "double":
            text[at:at] = text[at:end]
        elif kind == "insert":
            text[at:at] = draw(st.sampled_from(TOKENS))
        else:
            piece = text[at:end]
            del text[at:end]
            to = draw(st.integers(0, len(text)))
            text[to:to] = piece
    return bytes(text)
