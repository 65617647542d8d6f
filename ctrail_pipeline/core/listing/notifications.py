"""What a message in a queue says: which objects are new, in each form that AWS sends. Pure.

The envelopes are told apart by their content: S3's own event, EventBridge's, CloudTrail's, each by
itself or inside a message of SNS. Whoever may send to a queue may write anything into it, so
nothing is believed that has another form. Not here: which of the objects are log files of ours
(`notified`), and how messages come in (`notification_intake`).
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_plus

import msgspec

from ctrail_pipeline.core.bucket.etag import pack_etag

NO_JSON: Final = "it is no JSON"
UNKNOWN_FORM: Final = "it is no notification of S3, EventBridge or CloudTrail"
INCOMPLETE: Final = "a record in it lacks the name of a bucket, or the key of an object"

_SNS_DEPTH: Final = 2
"""A topic may hand on what another topic sent, such as a fan-out."""
_LONGEST_KEY: Final = 1_024
_LONGEST_BUCKET: Final = 255
_ETAG: Final = re.compile(r"[!-~]{1,128}")
_LARGEST: Final = 2**62
_CLOUDTRAIL_TEST: Final = "CloudTrail validation message."
"""What CloudTrail sends to a topic when a trail is told of it."""


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object that a message names as new."""

    bucket: str
    key: str
    size: int = 0
    """Stored bytes; 0 if the message does not say."""
    etag: bytes = b""
    """As the ledger keeps it; empty if the message does not say."""


@dataclass(frozen=True, slots=True)
class Notification:
    """What one message says."""

    objects: tuple[NewObject, ...] = ()
    other_events: int = 0
    """Tests, and events that are about no new object."""
    not_understood: str | None = None
    """Why a part of the message, or all of it, is not understood."""


def read_notification(body: str) -> Notification:
    """Return what a message says. Never raises, whatever the message holds."""
    content: Any = body
    for _ in range(1 + _SNS_DEPTH):
        try:
            content = msgspec.json.decode(content)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return Notification(not_understood=NO_JSON)
        if not isinstance(content, dict):
            break
        message = content.get("Message")
        if content.get("Type") != "Notification" or not isinstance(message, str):
            return _of_envelope(content)
        if message == _CLOUDTRAIL_TEST:
            return Notification(other_events=1)
        content = message
    return Notification(not_understood=UNKNOWN_FORM)


def _of_envelope(content: dict[str, Any]) -> Notification:
    records = content.get("Records")
    if isinstance(records, list) and records:
        return _of_records(_of_s3, records)
    if content.get("source") == "aws.s3" and "detail" in content:
        return _of_records(_of_event_bridge, [content])
    if "s3Bucket" in content:
        keys = content.get("s3ObjectKey")
        keys = keys if isinstance(keys, list) and keys else [keys]
        return _of_records(_new_object, [(content["s3Bucket"], key) for key in keys])
    if content.get("Event") == "s3:TestEvent":
        return Notification(other_events=1)
    return Notification(not_understood=UNKNOWN_FORM)


def _of_records(read: Callable[[Any], NewObject | None], records: Iterable[Any]) -> Notification:
    """Return what the records of a message say; what is sound counts, whatever the rest is."""
    objects: list[NewObject] = []
    other_events, not_understood = 0, None
    for record in records:
        try:
            new_object = read(record)
        except (AttributeError, LookupError, TypeError, ValueError):
            not_understood = INCOMPLETE
            continue
        if new_object is None:
            other_events += 1
        else:
            objects.append(new_object)
    return Notification(tuple(objects), other_events, not_understood)


def _of_s3(record: Any) -> NewObject | None:
    """Read a record of S3's own event. Its key is encoded as in a form of HTML."""
    if "ObjectCreated:" not in record["eventName"]:
        return None
    about = record["s3"]["object"]
    key = unquote_plus(about["key"], errors="strict")
    return _new_object((record["s3"]["bucket"]["name"], key, about.get("size"), about.get("eTag")))


def _of_event_bridge(event: Any) -> NewObject | None:
    """Read an event of EventBridge. Its key is written as it is."""
    if event["detail-type"] != "Object Created":
        return None
    detail = event["detail"]
    about = detail["object"]
    return _new_object(
        (detail["bucket"]["name"], about["key"], about.get("size"), about.get("etag"))
    )


def _new_object(named: tuple[Any, ...]) -> NewObject:
    """Return an object of these values: bucket, key, size and etag. The last two may lack.

    Raises ValueError for a bucket or a key that cannot be one.
    """
    bucket, key, size, etag = (*named, None, None)[:4]
    if not (isinstance(bucket, str) and 0 < len(bucket) <= _LONGEST_BUCKET):
        raise ValueError
    if not (isinstance(key, str) and 0 < len(key.encode()) <= _LONGEST_KEY):
        raise ValueError
    is_size = type(size) is int and 0 <= size < _LARGEST
    is_etag = isinstance(etag, str) and _ETAG.fullmatch(etag.strip('"'))
    return NewObject(bucket, key, size if is_size else 0, pack_etag(etag) if is_etag else b"")
