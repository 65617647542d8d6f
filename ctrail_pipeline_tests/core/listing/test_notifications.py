"""What a message says, in each form that AWS sends, and in forms that it never sends."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrail_pipeline.core.bucket.etag import pack_etag
from ctrail_pipeline.core.listing.notifications import (
    INCOMPLETE,
    NO_JSON,
    UNKNOWN_FORM,
    NewObject,
    Notification,
    read_notification,
)

ETAG = "9dd4e461268c8034f5c8564e155c67a6"
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)


def s3_record(key: str, bucket: str = "logs", event: str = "ObjectCreated:Put") -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": event,
        "s3": {
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {"key": quote_plus(key, safe="/"), "size": 7, "eTag": ETAG},
        },
    }


def by_s3(key: str) -> str:
    return json.dumps({"Records": [s3_record(key)]})


def by_event_bridge(key: str) -> str:
    about = {"key": key, "size": 7, "etag": ETAG, "sequencer": "0"}
    return json.dumps(
        {
            "version": "0",
            "source": "aws.s3",
            "detail-type": "Object Created",
            "detail": {"bucket": {"name": "logs"}, "object": about},
        }
    )


def by_cloudtrail(key: str) -> str:
    return json.dumps({"s3Bucket": "logs", "s3ObjectKey": [key]})


def in_sns(body: str) -> str:
    return json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:…", "Message": body})


SENDERS = [by_s3, by_event_bridge, by_cloudtrail]


@pytest.mark.parametrize("times", [0, 1, 2])
@pytest.mark.parametrize("sender", SENDERS)
@given(key=KEYS)
def test_a_key_is_read_as_it_is_in_each_form_and_through_topics(
    sender: Callable[[str], str], times: int, key: str
) -> None:
    body = sender(key)
    for _ in range(times):
        body = in_sns(body)
    says = NewObject("logs", key)
    if sender is not by_cloudtrail:
        says = NewObject("logs", key, 7, pack_etag(ETAG))
    expected = Notification((says,))
    if len(key.encode()) > 1024:
        expected = Notification(not_understood=INCOMPLETE)
    assert read_notification(body) == expected


def test_a_plus_is_a_space_in_s3s_form_alone() -> None:
    body = json.dumps({"Records": [s3_record("x")]}).replace('"x"', '"a+b%2Bc%C3%BC"')
    assert read_notification(body).objects[0].key == "a b+cü"
    assert read_notification(by_event_bridge("a+b%2B")).objects[0].key == "a+b%2B"
    assert read_notification(by_cloudtrail("a+b%2B")).objects[0].key == "a+b%2B"


def test_a_message_may_hold_several_records() -> None:
    records = [
        s3_record("a"),
        s3_record("b", "other"),
        s3_record("c", event="ObjectRemoved:Delete"),
    ]
    found = read_notification(json.dumps({"Records": records}))
    assert [(item.bucket, item.key) for item in found.objects] == [("logs", "a"), ("other", "b")]
    assert (found.other_events, found.not_understood) == (1, None)
    body = json.dumps({"s3Bucket": "logs", "s3ObjectKey": ["a", "b"]})
    assert [item.key for item in read_notification(body).objects] == ["a", "b"]


def test_what_is_sound_in_a_message_counts_though_the_rest_is_not_understood() -> None:
    records = [{"eventName": "ObjectCreated:Put"}, s3_record("b"), 7, None]
    found = read_notification(json.dumps({"Records": records}))
    assert [item.key for item in found.objects] == ["b"]
    assert found.not_understood == INCOMPLETE


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "logs"}),
        in_sns(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "logs"})),
        in_sns("CloudTrail validation message."),
        json.dumps({"Records": [s3_record("a", event="ObjectRemoved:Delete")]}),
        by_event_bridge("a").replace("Object Created", "Object Deleted"),
    ],
)
def test_tests_and_other_events_are_understood(body: str) -> None:
    assert read_notification(body) == Notification(other_events=1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", NO_JSON),
        ("hello", NO_JSON),
        ("[" * 100_000, NO_JSON),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, NO_JSON),
        ('{"Records": ["\\ud800"]}', NO_JSON),
        ("\ud800", NO_JSON),
        ("null", UNKNOWN_FORM),
        ("[]", UNKNOWN_FORM),
        ("{}", UNKNOWN_FORM),
        ('{"Records": []}', UNKNOWN_FORM),
        ('{"Records": {}}', UNKNOWN_FORM),
        ('{"Type": "Notification", "Message": {}}', UNKNOWN_FORM),
        (in_sns("hello"), NO_JSON),
        (in_sns(in_sns(in_sns(by_s3("a")))), UNKNOWN_FORM),
        ('{"Records": [{"eventTime": "x"}]}', INCOMPLETE),
        ('{"source": "aws.s3", "detail": 1}', INCOMPLETE),
        ('{"source": "aws.s3", "detail-type": "Object Created", "detail": []}', INCOMPLETE),
        ('{"s3Bucket": "logs"}', INCOMPLETE),
        ('{"s3Bucket": "logs", "s3ObjectKey": 5}', INCOMPLETE),
        ('{"s3Bucket": "", "s3ObjectKey": ["a"]}', INCOMPLETE),
        ('{"s3Bucket": "logs", "s3ObjectKey": [""]}', INCOMPLETE),
        (by_s3("a").replace('"a"', '"%ff"'), INCOMPLETE),
        (by_s3("a").replace('"a"', "null"), INCOMPLETE),
        (by_event_bridge("k" * 1025), INCOMPLETE),
    ],
)
def test_what_is_not_understood_has_a_reason_without_its_text(body: str, reason: str) -> None:
    assert read_notification(body) == Notification(not_understood=reason)


@pytest.mark.parametrize("size", [-1, 2**70, 1.5, "7", None, True, [1]])
@pytest.mark.parametrize("etag", ["", "ä", "x" * 500, 7, None, "a\nb"])
def test_a_size_or_etag_that_cannot_be_one_counts_as_unknown(size: object, etag: object) -> None:
    record = s3_record("a")
    record["s3"]["object"] |= {"size": size, "eTag": etag}
    [found] = read_notification(json.dumps({"Records": [record]})).objects
    assert found == NewObject("logs", "a")


FIELDS = ["Records", "s3", "bucket", "object", "name", "key", "eventName", "detail", "source"]
FIELDS += ["detail-type", "s3Bucket", "s3ObjectKey", "Type", "Message", "Event"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(FIELDS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(st.text() | JSON.map(json.dumps) | JSON.map(json.dumps).map(in_sns))
def test_no_message_is_too_odd(body: str) -> None:
    found = read_notification(body)
    assert found.objects or found.other_events or found.not_understood
