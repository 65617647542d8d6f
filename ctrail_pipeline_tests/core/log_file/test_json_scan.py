"""In texts that are not one plain `{"Records": [...]}`, the scanner finds elements and leftovers.

The tests go through `read_log_file`, where elements become records and leftovers are rejected,
except where the scanner itself is compared.
"""

import hashlib
import json

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ctrail_pipeline.core.log_file import json_scan
from ctrail_pipeline.core.log_file.json_scan import Scan
from ctrail_pipeline.core.log_file.record import LogFileContent
from ctrail_pipeline_tests.support.log_file_texts import (
    BOM,
    EVENT,
    LIMIT,
    OTHER,
    as_line,
    event,
    lines,
    log_files,
    oracle_elements,
    read,
    rejected,
    wrap,
)
from ctrail_pipeline_tests.support.properties import examples


@pytest.mark.parametrize(
    "data",
    [
        wrap(EVENT, OTHER),
        b" " + wrap(EVENT, OTHER) + b"\n",
        b'{ "Records" : [ ' + EVENT + b" , " + OTHER + b" ] }",
        b'{"\\u0052ecords":[' + EVENT + b"," + OTHER + b"]}",
        b'{"a":[{"Records":[' + EVENT + b']}],"Records":[' + EVENT + b"," + OTHER + b'],"b":null}',
        BOM + wrap(EVENT, OTHER),
        wrap(EVENT) + wrap(OTHER),
        wrap(EVENT) + b"\n" + BOM + wrap() + b"\r\n" + wrap(OTHER) + b"\n",
    ],
)
def test_sound_files_of_any_shape_give_their_records(data: bytes) -> None:
    content = read(data)
    assert lines(content) == [EVENT, OTHER]
    assert [record.index for record in content.records] == [0, 1]
    assert (content.rejected, content.damage) == ([], None)
    assert (content.size, content.sha256) == (len(data), hashlib.sha256(data).digest())


@pytest.mark.parametrize("data", [b'{"Records":[]}', b' { "Records" : [ ] } \n'])
def test_a_file_without_events_is_sound(data: bytes) -> None:
    content = read(data)
    assert (content.records, content.rejected, content.damage) == ([], [], None)


@pytest.mark.parametrize(
    "value", [b"null", b'"text"', b"[1,{}]", b"NaN", b'{"Records":[' + EVENT + b"]}"]
)
def test_another_top_level_key_is_neither_record_nor_damage(value: bytes) -> None:
    for data in (
        b'{"other":' + value + b',"Records":[' + EVENT + b"]}",
        b'{"Records":[' + EVENT + b'],"other":' + value + b"}",
    ):
        content = read(data)
        assert lines(content) == [EVENT]
        assert (content.rejected, content.damage) == ([], None)


def test_another_value_that_is_not_json_is_damage_and_kept() -> None:
    content = read(b'{"a":{b},"c":NaN,"Records":[' + EVENT + b"]}")
    assert lines(content) == [EVENT]
    assert rejected(content) == [("remainder", None, b"{b}")]
    assert content.damage == "JSON is damaged in the value at byte 5"


@pytest.mark.parametrize(
    "data",
    [
        b'{"Records":[%s],"Records":[%s]}',
        b'{"Records":[%s],"Rec\\u006frds":[%s]}',
        b'{"Records":[%s],\n"a":1,"Records":[%s]}',
    ],
)
def test_a_second_records_key_hides_nothing_and_is_damage(data: bytes) -> None:
    content = read(data % (EVENT, OTHER))
    assert lines(content) == [EVENT, OTHER]
    assert content.rejected == []
    assert content.damage is not None
    assert "second Records key" in content.damage


def test_a_second_records_key_that_is_no_array_is_kept() -> None:
    content = read(b'{"Records":null,"Records":[' + EVENT + b'],"Records":{"a":1}}')
    assert lines(content) == [EVENT]
    assert rejected(content) == [("remainder", None, b"null"), ("remainder", None, b'{"a":1}')]
    assert content.damage is not None


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[]",
        b"null",
        b"not JSON",
        b" ",
        BOM,
        b'{"Records":null}',
        b'{"Records":{"a":[]}}',
        b'{"records":[' + EVENT + b"]}",
        b'{"a":{"Records":[' + EVENT + b"]}}",
        b"[" + EVENT + b"]",
        EVENT + b"\n" + OTHER,
        wrap(EVENT).decode().encode("utf-16"),
        b'{"Records":[' + b"[" * 1_000_000,
        b'{"Records":["' + b'\\"' * 500_000,
        b"\x1f",
        b"PK\x03\x04",
    ],
)
def test_a_text_without_records_is_kept_whole(data: bytes) -> None:
    content = read(data, 10 * LIMIT)
    assert content.records == []
    assert rejected(content) == [("unreadable", None, data)]
    assert content.damage is not None


@pytest.mark.parametrize(
    ("head", "remainder"),
    [
        (wrap(EVENT), b"garbage"),
        (wrap(EVENT), b"\x00\x00\x00"),
        (wrap(EVENT) + b"\n", wrap(OTHER)[:-3]),
        (wrap(EVENT), b'{"a":1}'),
        (wrap(EVENT), b'{"Records":7}'),
        (b'{"Records":[' + EVENT, b"]"),
        (b'{"Records":[' + EVENT, b"}"),
        (b'{"Records":[' + EVENT, b",]}"),
        (b'{"Records":[' + EVENT, b" " + OTHER + b"]}"),
        (b'{"Records":[' + EVENT, b',{"a":[}]},' + OTHER + b"]}"),
        (b'{"Records":[' + EVENT, b",12"),
        (b'{"Records":[' + EVENT, b',"ab'),
        (b'{"Records":[' + EVENT, b"],}"),
        (b'{"Records":[' + EVENT, b'],"a" 1}'),
    ],
)
def test_where_the_structure_breaks_the_rest_is_kept(head: bytes, remainder: bytes) -> None:
    content = read(head + remainder)
    assert lines(content) == [EVENT]
    assert b"".join(entry.data for entry in content.rejected).strip() == remainder.strip()
    assert {entry.kind for entry in content.rejected} == {"remainder"}
    assert content.damage is not None


@pytest.mark.parametrize("indent", [None, 2])
def test_every_truncation_keeps_the_complete_records_and_the_rest(indent: int | None) -> None:
    events = [
        json.loads(raw) for raw in (event(a='x"]},{"y\\'), OTHER, event(b=[{}, [1.50, None]]))
    ]
    data = json.dumps({"Records": events}, indent=indent).encode()
    for length in range(1, len(data)):
        text = data[:length]
        elements, end = oracle_elements(text)
        content = read(text)
        assert lines(content) == [as_line(element) for element in elements]
        assert content.damage is not None
        if not elements:
            assert rejected(content) == [("unreadable", None, text)]
        elif text[end:].strip():
            assert rejected(content) == [("remainder", None, text[end:])]
        else:
            assert content.rejected == []


@pytest.mark.thorough
def test_a_large_file_of_nothing_but_tiny_elements_is_not_told_apart() -> None:
    data = wrap(*[b"{}"] * 3_000_000)
    content = read(data, 10 * len(data))
    assert content.records == []
    assert len(content.rejected) < 200_000
    assert content.rejected[-1].kind == "remainder"
    assert content.damage is not None
    *elements, remainder = [entry.data for entry in content.rejected]
    assert b'{"Records":[' + b",".join(elements) + remainder == data


@given(log_files())
def test_the_scanner_finds_the_same_elements_as_the_fast_path(
    log_file: tuple[bytes, list[bytes]],
) -> None:
    data, elements = log_file
    scan = Scan(data)
    assert (list(scan.elements), scan.leftovers, scan.damage) == (elements, [], None)
    content = read(data)
    assert lines(content) == [as_line(element) for element in elements]


def is_accounted_for(content: LogFileContent, data: bytes) -> bool:
    """Lines and rejected bytes stand in the text, in order, and overlap nowhere."""
    records = [(record.index, bytes(record.line)) for record in content.records]
    elements = [
        (entry.index, bytes(entry.data)) for entry in content.rejected if entry.index is not None
    ]
    text = as_line(data)
    position = 0
    for _, element in sorted(records + elements):
        found = text.find(as_line(element), position)
        if found < 0:
            return False
        position = found + len(element)
    return all(entry.data in data for entry in content.rejected)


TOKENS = [
    *b'{}[],:"\\ \n1',
    *(b'"Records"', b'{"Records":[', b"]}", EVENT, OTHER, b'"\\u0052ecords"', BOM, b"NaN", b"\xff"),
]
soups = st.lists(
    st.sampled_from([bytes([token]) if isinstance(token, int) else token for token in TOKENS]),
    max_size=25,
).map(b"".join)


@settings(max_examples=examples(200))
@given(st.binary(max_size=200) | soups | soups.map(lambda soup: b'{"Records":[' + soup))
@example(b'{"Records":[1,2')
@example(b'{"Records":[{},"\\')
def test_no_text_raises_or_loses_anything(data: bytes) -> None:
    assume(not data.startswith(b"\x1f\x8b"))
    content = read(data)
    assert is_accounted_for(content, data)
    elements, end = oracle_elements(data)
    found: dict[int | None, bytes] = {
        record.index: bytes(record.line) for record in content.records
    }
    found |= {entry.index: as_line(bytes(entry.data)) for entry in content.rejected}
    if [entry.kind for entry in content.rejected] == ["unreadable"]:
        assert content.rejected[0].data == data
        return
    # The oracle takes a number or a name whatever follows, at the end of the text too.
    cut = elements and elements[-1][:1] not in b'{["' and data[end : end + 1] not in b" \t\r\n,]"
    sure = elements[:-1] if cut or end == len(data) else elements
    assert [found[index] for index in range(len(sure))] == [as_line(element) for element in sure]


def test_what_is_nested_without_end_is_damage() -> None:
    deep = json_scan._MAX_DEPTH + 1
    data = b'{"Records":[' + EVENT + b"," + b"[" * deep + b"]" * deep + b"," + OTHER + b"]}"
    scan = Scan(data)
    assert list(scan.elements) == [EVENT]
    assert "nested deeper than 1,000,000" in (scan.damage or "")
    assert [bytes(leftover.data) for leftover in scan.leftovers] == [
        data[len(b'{"Records":[' + EVENT) :]
    ]
    fine = b"[" * (deep - 1) + b"]" * (deep - 1)
    assert list(Scan(b'{"Records":[' + fine + b"]}").elements) == [fine]


def test_pieces_that_are_no_elements_are_told_apart_up_to_a_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_scan, "_MAX_LEFTOVERS", 3)
    data = b'{"Records":[' + EVENT + b'],"a":{b},"a":{b},"a":{b},"a":{b},"a":{b}}'
    scan = Scan(data)
    assert list(scan.elements) == [EVENT]
    assert len(scan.leftovers) == 4
    assert bytes(scan.leftovers[-1].data).endswith(b'"a":{b},"a":{b}}')
    assert scan.damage == f"JSON is damaged in the value at byte {data.index(b'{b}')}"
