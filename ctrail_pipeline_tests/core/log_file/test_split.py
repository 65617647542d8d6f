"""Bytes of a log file become records: their routing, their limits, and what is rejected."""

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrail_pipeline.core.log_file import fast_path
from ctrail_pipeline.core.log_file.record import Record, Rejected, RoutingFields
from ctrail_pipeline_tests.support.log_file_texts import (
    EVENT,
    LIMIT,
    OTHER,
    TIME,
    as_line,
    event,
    lines,
    log_files,
    members,
    oracle_elements,
    read,
    rejected,
    wrap,
)
from ctrail_pipeline_tests.support.properties import examples
from ctrail_pipeline_tests.support.real_logs import REAL_LOGS, needs_real_logs

# --- routing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "account"),
    [
        ({"recipientAccountId": "123456789012"}, "123456789012"),
        ({"userIdentity": {"accountId": "210987654321"}}, "210987654321"),
        (
            {"recipientAccountId": "123456789012", "userIdentity": {"accountId": "210987654321"}},
            "123456789012",
        ),
        (
            {"recipientAccountId": "../../../etc", "userIdentity": {"accountId": "210987654321"}},
            "210987654321",
        ),
        ({"recipientAccountId": 7, "userIdentity": {"accountId": "210987654321"}}, "210987654321"),
        ({"recipientAccountId": 123456789012}, None),
        ({"recipientAccountId": "1234567890123"}, None),
        ({"recipientAccountId": "12345678901\u0662"}, None),
        ({"recipientAccountId": "123456789012\n"}, None),
        ({"userIdentity": None}, None),
        ({"userIdentity": "root"}, None),
        ({"userIdentity": [{"accountId": "210987654321"}]}, None),
        ({"userIdentity": {"accountId": {"a": 1}}}, None),
        ({"userIdentity": {}}, None),
        ({}, None),
    ],
)
def test_the_account_is_the_recipient_else_the_identity_if_it_is_twelve_digits(
    fields: dict[str, object], account: str | None
) -> None:
    raw = event(**fields)
    # The lenient decoder reads the second element. The neighbour never suffers.
    for element in (raw, raw[:-1] + b',"n":NaN}'):
        content = read(wrap(element, OTHER))
        assert [record.routing.dedup_account for record in content.records] == [account, None]
        assert lines(content) == [element, OTHER]
        assert content.damage is None


@pytest.mark.parametrize(
    ("region", "routed"),
    [
        ("us-east-1", "us-east-1"),
        ("a" * 40, "a" * 40),
        ("a" * 41, None),
        ("", None),
        ("US-EAST-1", None),
        ("..", None),
        ("us-east-1\n", None),
        ("a/b", None),
        (5, None),
        (None, None),
        (["us-east-1"], None),
    ],
)
def test_the_region_is_one_that_may_be_part_of_a_path(region: object, routed: str | None) -> None:
    raw = event(awsRegion=region)
    for element in (raw, raw[:-1] + b',"n":NaN}'):
        content = read(wrap(element, OTHER))
        assert [record.routing.region for record in content.records] == [routed, "eu-west-1"]


@pytest.mark.parametrize(
    ("time", "hour"),
    [
        ("2023-07-10T11:42:58Z", "2023/07/10/11"),
        ("2023-07-10T11:42:58.123Z", "2023/07/10/11"),
        ("2016-12-31T23:59:60Z", "2016/12/31/23"),
        ("2024-02-29T00:00:00Z", "2024/02/29/00"),
        ("2023-02-29T00:00:00Z", None),
        ("2023-13-01T00:00:00Z", None),
        ("0000-01-01T00:00:00Z", None),
        ("2023-07-10T24:00:00Z", None),
        ("2023-07-10T11:60:00Z", None),
        ("2023-07-10T11:00:61Z", None),
        ("2023-07-10T11:42:58", None),
        ("2023-07-10T11:42:58.Z", None),
        ("2023-07-10T11:42:58Z\n", None),
        ("2023-07-10T11:42:58+00:00", "2023/07/10/11"),
        ("2023-07-10T11:42:58.5+00:00", "2023/07/10/11"),
        ("2023-07-10T11:42:58.1234567890123456789+00:00", "2023/07/10/11"),
        ("2023-02-29T00:00:00+00:00", None),
        ("2023-07-10T11:42:58+0000", None),
        ("2023-07-10T11:42:58+00", None),
        ("2023-07-10T11:42:58-00:00", None),
        ("2023-07-10T11:42:58+01:00", None),
        ("2023-07-10 11:42:58Z", None),
        ("2023-07-10T1\u0661:42:58Z", None),
        ("../../..T/11:42:58Z", None),
        ("", None),
        (None, None),
        (1688989378, None),
    ],
)
def test_a_record_needs_an_event_time_that_is_a_real_utc_time(
    time: object, hour: str | None
) -> None:
    raw = event(eventTime=time)
    for element in (raw, raw[:-1] + b',"n":NaN}'):
        content = read(wrap(OTHER, element))
        assert content.damage is None
        if hour is None:
            assert lines(content) == [OTHER]
            assert rejected(content) == [("record", 1, element)]
        else:
            assert [record.routing.hour for record in content.records] == ["2023/07/10/12", hour]


@pytest.mark.parametrize(
    "name", ["eventTime", "timeWindow"], ids=["an event", "an aggregated event"]
)
def test_a_time_with_an_offset_of_zero_is_held_with_z(name: str) -> None:
    for text in ("2023-07-10T11:42:58+00:00", "2023-07-10T11:42:58Z"):
        raw = event(eventTime=text) if name == "eventTime" else aggregated(window=text)
        for element in (raw, raw[:-1] + b',"n":NaN}'):
            [record] = read(wrap(element)).records
            assert (record.line, record.time) == (element, "2023-07-10T11:42:58Z")


AGGREGATED = {
    "eventVersion": "1.0",
    "accountId": "123456789012",
    "eventId": "11112222-3333-4444-5555-666677778888",
    "eventCategory": "Aggregated",
    "eventType": "AwsAggregatedEvent",
    "awsRegion": "eu-west-1",
    "eventSource": "s3.amazonaws.com",
    "summary": {"primaryDimension": {"dimension": "eventName", "statistics": []}, "details": []},
}


def aggregated(window: object = TIME, **fields: object) -> bytes:
    """A record as the CloudTrail user guide has it for aggregated events."""
    time_window = {"windowStart": window, "windowEnd": "2023-07-10T11:45:00Z", "windowSize": "PT5M"}
    return json.dumps(AGGREGATED | {"timeWindow": time_window} | fields).encode()


def test_an_aggregated_event_is_known_by_its_window_its_account_and_its_event_id() -> None:
    raw = aggregated(userIdentity={"accountId": "999999999999"})
    for element in (raw, raw[:-1] + b',"n":NaN}'):
        [record] = read(wrap(element)).records
        assert record == Record(
            element,
            RoutingFields("123456789012", None, "eu-west-1", "2023/07/10/11"),
            0,
            TIME,
            "?",
            "11112222-3333-4444-5555-666677778888",
        )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"window": "2023-07-10T11:42:58+01:00"}, "timeWindow.windowStart is not a UTC time"),
        ({"window": "../../.."}, "timeWindow.windowStart is not a UTC time"),
        ({"window": None}, "no eventTime"),
        ({"window": 1688989378}, "no eventTime"),
        ({"timeWindow": "2023-07-10T11:42:58Z"}, "no eventTime"),
        ({"timeWindow": None}, "no eventTime"),
    ],
)
def test_an_aggregated_event_without_the_start_of_its_window_is_rejected(
    fields: dict[str, object], reason: str
) -> None:
    raw = aggregated(**fields)
    for element in (raw, raw[:-1] + b',"n":NaN}'):
        content = read(wrap(OTHER, element))
        assert rejected(content) == [("record", 1, element)]
        assert content.rejected[0].reason == reason


@pytest.mark.parametrize("account", ["../../..", "1234", None, 123456789012, "x" * 100_000])
def test_the_account_of_an_aggregated_event_is_twelve_digits(account: object) -> None:
    raw = aggregated(accountId=account, recipientAccountId="123456789012")
    for element in (raw, raw[:-1] + b',"n":NaN}'):
        [record] = read(wrap(element)).records
        assert record.routing == RoutingFields(None, None, "eu-west-1", "2023/07/10/11")


@pytest.mark.parametrize("time", ["2023-07-10T13:00:00Z", "no time", "", 7])
def test_what_has_an_event_time_is_no_aggregated_event(time: object) -> None:
    """The dedup partition of a record that was accepted before must stay the same for ever."""
    raw = aggregated(eventTime=time, recipientAccountId="210987654321", eventID="its own")
    for element in (raw, raw[:-1] + b',"n":NaN}'):
        found = [
            (record.routing.recipient, record.routing.hour, record.event_id)
            for record in read(wrap(element)).records
        ]
        sound = time == "2023-07-10T13:00:00Z"
        assert found == ([("210987654321", "2023/07/10/13", "its own")] if sound else [])


def test_escaped_and_repeated_keys_route_by_the_last_one() -> None:
    element = (
        b'{"eventTime":5,"event\\u0054ime":"2023-07-10T11:42:58Z","awsRegion":"a","awsRegion":"b"}'
    )
    for raw in (element, element[:-1] + b',"n":NaN}'):
        (record,) = read(wrap(raw)).records
        assert (record.line, record.routing.hour, record.routing.region) == (
            raw,
            "2023/07/10/11",
            "b",
        )


# --- what single elements may be -------------------------------------------------------------


@pytest.mark.parametrize("element", [b"null", b"1", b'"text"', b"[]", b"[" + EVENT + b"]", b"true"])
def test_an_element_that_is_no_object_is_rejected_alone(element: bytes) -> None:
    content = read(wrap(EVENT, element, OTHER))
    assert lines(content) == [EVENT, OTHER]
    assert [record.index for record in content.records] == [0, 2]
    assert content.rejected == [Rejected(1, "record", "not an object", element)]
    assert content.damage is None


@pytest.mark.parametrize(
    "value",
    [
        b"NaN",
        b"-Infinity",
        b'"\\ud800"',
        b'"\xff\xfe"',
        b'"tab\there"',
        b"1" * 5000,
        b"1e999",
        b"0.10000000000000000001",
        b'"\\u00e9\\/"',
        b'1,"a":2,"a":[[],{}]',
        b'"\x00"',
        b'"]}\\"]}"',
    ],
)
def test_odd_values_are_kept_byte_for_byte(value: bytes) -> None:
    element = b'{"eventTime":"2023-07-10T11:42:58Z","a":' + value + b"}"
    content = read(wrap(EVENT, element, OTHER))
    assert lines(content) == [EVENT, element, OTHER]
    assert (content.rejected, content.damage) == ([], None)


@pytest.mark.parametrize(
    "value", [b"01", b"tru", b"[1,]", b'"\\x"', b'{"b"}', b"1 2", b"", b"\x0b1"]
)
def test_an_element_that_is_not_json_is_rejected_alone(value: bytes) -> None:
    element = b'{"eventTime":"2023-07-10T11:42:58Z","a":' + value + b"}"
    content = read(wrap(EVENT, element, OTHER))
    assert lines(content) == [EVENT, OTHER]
    assert rejected(content) == [("record", 1, element)]


@pytest.mark.parametrize("control", range(32))
def test_the_fast_decoder_refuses_control_characters_in_strings(control: int) -> None:
    # Our code relies on this: where msgspec accepts, line breaks lie between tokens only.
    for key, value in ((b"a%cb", b"c"), (b"a", b"b%c"), (b"\\n%c", b"\\u00e9")):
        text = b'{"eventTime":"2023-07-10T11:42:58Z","' + key + b'":"' + value + b'"}'
        element = text % control
        content = read(wrap(element, OTHER))
        if control in b"\r\n":
            assert lines(content) == [OTHER]
            assert content.rejected == [
                Rejected(0, "record", "line break inside a string", element)
            ]
        else:
            assert lines(content) == [element, OTHER]


def test_line_breaks_between_tokens_become_spaces_and_are_counted() -> None:
    element = b'{\r\n "eventTime":\n"2023-07-10T11:42:58Z"\r}'
    content = read(b'\n{"Records"\n:[\n' + element + b"\n,\r\n" + b'{"a":\n1}' + b"\n]\n}\n")
    assert lines(content) == [b'{   "eventTime": "2023-07-10T11:42:58Z" }']
    assert content.newlines_replaced == 4
    assert rejected(content) == [("record", 1, b'{"a":\n1}')]


def test_a_record_nested_too_deeply_is_rejected_alone() -> None:
    deep = b'{"eventTime":"2023-07-10T11:42:58Z","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    content = read(wrap(EVENT, deep, OTHER))
    assert lines(content) == [EVENT, OTHER]
    assert content.rejected == [Rejected(1, "record", "nested too deeply", deep)]


# --- damaged gzip, in which nothing is a record --------------------------------------------------


@pytest.mark.parametrize("tail", [b"\x00", b"\x00" * 512, b"x", b"\x1f", b"\x1f\x8b", wrap(EVENT)])
def test_bytes_behind_the_gzip_data_make_it_unverified(tail: bytes) -> None:
    content = read(gzip.compress(wrap(EVENT, OTHER), mtime=0) + tail)
    assert content.records == []
    assert rejected(content) == [("unverified", 0, EVENT), ("unverified", 1, OTHER)]
    assert content.damage is not None


def test_a_bad_checksum_or_length_makes_everything_unverified() -> None:
    body = gzip.compress(wrap(EVENT, b"7", OTHER), mtime=0)
    for position in range(len(body) - 8, len(body)):
        damaged = bytearray(body)
        damaged[position] ^= 1
        content = read(bytes(damaged))
        assert content.records == []
        assert rejected(content) == [
            ("unverified", 0, EVENT),
            ("unverified", 1, b"7"),
            ("unverified", 2, OTHER),
        ]
        assert content.damage is not None
        assert content.rejected[0].reason == content.damage


def test_what_can_be_read_of_a_cut_gzip_is_kept_unverified() -> None:
    data = wrap(*[event(a=hashlib.sha256(b"%d" % i).hexdigest()) for i in range(2000)])
    body = gzip.compress(data, mtime=0)
    for damaged in (body[: len(body) // 2], body[: len(body) // 2] + b"\xff" * 5000):
        content = read(damaged)
        elements, _ = oracle_elements(data[: content.size])
        assert len(elements) > 500
        assert content.records == []
        assert [entry.data for entry in content.rejected[:500]] == elements[:500]
        assert {entry.kind for entry in content.rejected} == {"unverified"}
        assert content.rejected[-1].index is None


@pytest.mark.parametrize(
    "body", [b"", gzip.compress(b"", mtime=0), gzip.compress(wrap(EVENT), mtime=0)[:10]]
)
def test_where_nothing_can_be_read_there_is_one_empty_entry(body: bytes) -> None:
    content = read(body)
    assert content.records == []
    assert rejected(content) == [("unreadable", None, b"")]
    assert content.damage is not None


def test_a_log_file_over_the_size_limit_is_one_empty_entry() -> None:
    data = wrap(EVENT, OTHER)
    for body in (data, gzip.compress(data, mtime=0), members(data, [3, 60])):
        assert lines(read(body, len(data))) == [EVENT, OTHER]
        content = read(body, len(data) - 1)
        assert (content.records, content.size) == ([], 0)
        assert rejected(content) == [("unreadable", None, b"")]
        assert content.damage is not None


# --- properties ------------------------------------------------------------------------------


@given(log_files(), st.lists(st.integers(0, 10_000), max_size=3), st.booleans())
def test_lines_are_the_bytes_of_the_elements(
    log_file: tuple[bytes, list[bytes]], cuts: list[int], plain: bool
) -> None:
    data, elements = log_file
    content = read(data if plain else members(data, cuts))
    assert oracle_elements(data)[0] == elements
    assert lines(content) == [as_line(element) for element in elements]
    assert (content.rejected, content.damage) == ([], None)
    assert content.newlines_replaced == sum(
        element.count(b"\r") + element.count(b"\n") for element in elements
    )
    assert (content.size, content.sha256) == (len(data), hashlib.sha256(data).digest())


@given(log_files(), st.data())
def test_a_cut_gzip_never_yields_records(
    log_file: tuple[bytes, list[bytes]], data: st.DataObject
) -> None:
    body = gzip.compress(log_file[0], mtime=0)
    content = read(body[: data.draw(st.integers(0, len(body) - 1))])
    # A body that is cut behind its first byte is neither gzip nor JSON.
    assert content.records == []
    assert content.damage is not None


@given(log_files(), st.data())
def test_a_flipped_bit_in_a_gzip_never_yields_other_records(
    log_file: tuple[bytes, list[bytes]], data: st.DataObject
) -> None:
    body = bytearray(gzip.compress(log_file[0], mtime=0))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    content = read(bytes(body))
    if content.damage is None:
        # Only a header field that says nothing about the data, such as the time, can be flipped.
        assert content.sha256 == hashlib.sha256(log_file[0]).digest()
        assert lines(content) == [as_line(element) for element in log_file[1]]
    else:
        assert content.records == []


@settings(max_examples=examples(150))
@given(st.binary(max_size=300), st.sampled_from([b"\x1f\x8b", b"\x1f\x8b\x08\x00", b""]))
def test_no_bytes_raise(body: bytes, magic: bytes) -> None:
    content = read(magic + body)
    assert content.damage is not None or content.records or content.rejected == []


odd_values = st.sampled_from(
    ["null", "1", "1e5", '""', '"x"', "{}", "[]", '{"accountId":5}', '{"accountId":"123456789012"}',
     '"123456789012"', '"us-east-1"', '"2023-07-10T11:42:58Z"', "true", '"\\ud800"', "NaN",
     '"2023-07-10T11:42:58+00:00"', '{"windowStart":"2023-07-10T11:42:58Z"}']
)  # fmt: skip
routing_keys = st.sampled_from(
    [
        *("eventTime", "awsRegion", "recipientAccountId", "userIdentity", "other"),
        *("timeWindow", "accountId"),
    ]
)


@given(st.lists(st.lists(st.tuples(routing_keys, odd_values), max_size=6), max_size=4))
def test_fields_of_any_type_route_as_the_oracle_says(
    records: list[list[tuple[str, str]]],
) -> None:
    elements = [
        ("{" + ",".join(f'"{key}":{value}' for key, value in record) + "}").encode()
        for record in records
    ]
    content = read(wrap(*elements))
    expected = []
    for index, element in enumerate(elements):
        fields = json.loads(element)
        identity, window = fields.get("userIdentity"), fields.get("timeWindow")
        time = fields.get("eventTime")
        accounts = [
            fields.get("recipientAccountId"),
            identity.get("accountId") if isinstance(identity, dict) else None,
        ]
        if time is None:
            accounts = [fields.get("accountId")]
            time = window.get("windowStart") if isinstance(window, dict) else None
        account = next((a for a in accounts if a == "123456789012"), None)
        region = fields.get("awsRegion")
        valid = isinstance(region, str) and re.fullmatch("[a-z0-9-]{1,40}", region)
        if time in (TIME, TIME.replace("Z", "+00:00")):
            expected.append((element, account, region if valid else None, "2023/07/10/11", index))
    assert [
        (
            record.line,
            record.routing.dedup_account,
            record.routing.region,
            record.routing.hour,
            record.index,
        )
        for record in content.records
    ] == expected
    assert len(content.rejected) == len(elements) - len(expected)
    assert content.damage is None


# --- real log files --------------------------------------------------------------------------


def real_log_files() -> Iterator[Path]:
    return (path for path in sorted(REAL_LOGS.rglob("*")) if "/CloudTrail/" in path.as_posix())


@needs_real_logs
def test_every_record_of_the_real_log_files_is_accounted_for() -> None:
    records = 0
    for path in real_log_files():
        if not path.is_file():
            continue
        body = path.read_bytes()
        data = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
        elements, _ = oracle_elements(data)
        assert len(elements) == len(json.loads(data)["Records"])
        content = read(body, 10 * LIMIT)
        assert lines(content) == [as_line(element) for element in elements], path.name
        assert (content.rejected, content.damage) == ([], None), path.name
        for record, element in zip(content.records, elements, strict=True):
            fields = json.loads(element)
            assert record.routing.hour == fields["eventTime"][:13].replace("-", "/").replace(
                "T", "/"
            )
            assert record.routing.region == fields["awsRegion"]
            identity = fields.get("userIdentity") or {}
            account = fields.get("recipientAccountId", identity.get("accountId"))
            assert record.routing.dedup_account == (
                account if re.fullmatch(r"\d{12}", account) else None
            )
        records += len(elements)
    assert records > 3000


# --- large log files -------------------------------------------------------------------------


@pytest.fixture
def large_from_a_kilobyte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat small log files as those of more than 32 MB are treated."""
    monkeypatch.setattr(fast_path, "_LARGE", 0)
    monkeypatch.setattr(fast_path, "LARGEST_AT_ONCE", 1000)
    monkeypatch.setattr(fast_path, "CHUNK", 200)


def test_a_very_large_log_file_is_cut_in_chunks(
    large_from_a_kilobyte: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = b'{"eventTime":"%s","a":[{"event":1},{"event":2}],"b":"},{\\"event"}' % TIME.encode()
    elements = [EVENT, OTHER, trap] * 100
    chunked = []
    by_chunks = fast_path.elements_by_chunks

    def seen(data: bytes) -> object:
        chunked.append(by_chunks(data))
        return chunked[-1]

    monkeypatch.setattr(fast_path, "elements_by_chunks", seen)
    content = read(wrap(*elements))
    assert lines(content) == elements
    assert (content.rejected, content.damage) == ([], None)
    assert len(chunked) == 1
    # A cut amid the array of the trap is noticed, and only costs time.
    plain = [EVENT, OTHER] * 100
    assert lines(read(wrap(*plain))) == plain
    assert chunked[1] is not None
    assert list(chunked[1]) == plain


@pytest.mark.parametrize("elements", [[EVENT + b" ", OTHER] * 50, [EVENT, b"7"] * 50])
def test_what_the_chunks_do_not_prove_goes_the_slow_way(
    large_from_a_kilobyte: None, elements: list[bytes]
) -> None:
    content = read(wrap(*elements))
    good = [element.strip() for element in elements if element.startswith(b"{")]
    assert lines(content) == good
    assert len(content.rejected) == len(elements) - len(good)


def test_a_damaged_very_large_log_file_keeps_what_is_whole(large_from_a_kilobyte: None) -> None:
    data = wrap(*[EVENT, OTHER] * 100)[:-40]
    content = read(data)
    assert len(lines(content)) == 199
    assert content.damage is not None
    assert [entry.kind for entry in content.rejected] == ["remainder"]


@given(log_files())
def test_any_very_large_log_file_is_read_as_a_small_one(
    log_file: tuple[bytes, list[bytes]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_path, "_LARGE", 0)
        patch.setattr(fast_path, "LARGEST_AT_ONCE", 10)
        patch.setattr(fast_path, "CHUNK", 5)
        content = read(log_file[0])
    assert lines(content) == [as_line(element) for element in log_file[1]]
    assert (content.rejected, content.damage) == ([], None)


def test_elements_by_the_million_are_noticed_wherever_they_stand() -> None:
    usual = wrap(*[EVENT] * (5 * 1024 * 1024 // len(EVENT)))
    assert not fast_path.may_have_many_elements(usual)
    tiny = b"1," * (len(usual) // 10)
    for at in (12, len(usual) // 2, len(usual) - 2):
        assert fast_path.may_have_many_elements(usual[:at] + tiny + usual[at:])


def test_a_chunk_of_elements_by_the_million_is_not_decoded() -> None:
    assert fast_path.plain_elements(b",".join([b"1"] * 2_000_000)) is None
    usual = b",".join([EVENT] * 20_000)
    assert len(fast_path.plain_elements(usual) or ()) == 20_000


@pytest.mark.parametrize(
    "fields",
    [
        b'"a":%s',
        b'"userIdentity":{"a":%s}',
        b'"userIdentity":{"accountId":%s}',
        b'"recipientAccountId":"123456789012","userIdentity":%s',
        b'"eventName":5,"userIdentity":{"a":%s}',
        b'"eventName":5,"userIdentity":%s',
    ],
)
def test_no_depth_raises(fields: bytes) -> None:
    """How deep msgspec goes depends on the stack: what it refuses, our own code must take."""
    for depth in range(700, 1_010):
        record = b'{"eventTime":"%s",%s}' % (TIME.encode(), fields % (b"[" * depth + b"]" * depth))
        content = read(wrap(record, EVENT))
        assert [entry.reason for entry in content.rejected] in ([], ["nested too deeply"])
        assert len(content.records) + len(content.rejected) == 2


@pytest.mark.parametrize("around", [b"\n  ", b""])
def test_a_record_of_many_megabytes_is_a_line_like_any_other(around: bytes) -> None:
    inside = b"x" * 3_000_000
    record = b'{"eventTime":"%s",\r\n"a":"%s"}' % (TIME.encode(), inside)
    content = read(wrap(EVENT, around + record, OTHER), 10_000_000)
    assert lines(content) == [EVENT, as_line(record), OTHER]
    assert content.newlines_replaced == 2
    sound = read(wrap(EVENT, around + as_line(record)), 10_000_000)
    assert list(map(bytes, lines(sound))) == [EVENT, as_line(record)]
