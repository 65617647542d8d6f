"""An element of `Records` -> a record with the fields that route it, or why it is rejected.

The fields are account, region, hour and eventID. Only these are decoded; the rest of a record is
kept as bytes. An object that msgspec refuses is read by `lenient_json`.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from ctrail_pipeline.core.keys.source_prefix import is_account, is_region

from .event_time import HOUR_LENGTH, hour_folder, hour_of, may_follow_hour
from .lenient_json import decode_object
from .lines import HeldBytes, Line, without_breaks
from .record import Record, Rejected, RoutingFields

_ACCOUNT_LENGTH: Final = 12
_REGION_LENGTH: Final = 40
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_NAME_LENGTH: Final = 128
_EVENT_ID_LENGTH: Final = 64
_TIME_LENGTH: Final = len("2026-01-31T23:59:59.123456789Z")


class _Fields(msgspec.Struct, gc=False, rename="camel"):
    """The fields that route a record. Their lengths are bounded, so that caches of them are too."""

    event_time: Annotated[str, msgspec.Meta(max_length=_TIME_LENGTH)] | None = None
    event_name: Annotated[str, msgspec.Meta(max_length=_NAME_LENGTH)] | None = None
    event_id: Annotated[str, msgspec.Meta(max_length=_EVENT_ID_LENGTH)] | None = msgspec.field(
        default=None, name="eventID"
    )
    aws_region: Annotated[str, msgspec.Meta(max_length=_REGION_LENGTH)] | None = None
    recipient_account_id: Annotated[str, msgspec.Meta(max_length=_ACCOUNT_LENGTH)] | None = None
    user_identity: msgspec.Raw = msgspec.Raw(b"null")


class _LooseIdentity(msgspec.Struct, gc=False, rename="camel"):
    account_id: msgspec.Raw = msgspec.Raw(b"null")


class _LooseFields(msgspec.Struct, gc=False, rename="camel"):
    """The fields that route a record, of any type. They are not decoded, whatever they hold."""

    event_time: msgspec.Raw = msgspec.Raw(b"null")
    event_name: msgspec.Raw = msgspec.Raw(b"null")
    event_id: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"null"), name="eventID")
    aws_region: msgspec.Raw = msgspec.Raw(b"null")
    recipient_account_id: msgspec.Raw = msgspec.Raw(b"null")
    user_identity: msgspec.Raw = msgspec.Raw(b"null")


_decode_fields = msgspec.json.Decoder(_Fields).decode
_decode_loose_fields = msgspec.json.Decoder(_LooseFields).decode
_decode_loose_identity = msgspec.json.Decoder(_LooseIdentity).decode
_decode_text = msgspec.json.Decoder(str).decode


def read_records(
    elements: Sequence[HeldBytes], first: int, has_breaks: bool
) -> tuple[list[Record], list[Rejected], int]:
    """Read the elements of a sound text: records, rejected elements, number of CR/LF replaced.

    `first`: the position in the file's `Records` of the first element. `has_breaks`: there is a CR
    or LF somewhere in the file.

    The decoder is called once for each record. To decode the fields of the whole file in a single
    call is 3 % faster, but then a single record of an odd type costs the whole file its fast path.
    """
    records: list[Record] = []
    rejected: list[Rejected] = []
    replaced = 0
    for index, raw in enumerate(elements, first):
        try:
            fields = _decode_fields(raw)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            odd = _odd_fields(raw)
            if isinstance(odd, str):
                rejected.append(Rejected(index, "record", odd, memoryview(raw)))
                continue
            fields = odd
            routing = _routing_of_odd(fields)
        else:
            time = fields.event_time
            routing = (
                _cached_routing(fields.recipient_account_id, fields.aws_region, time[:HOUR_LENGTH])
                if time and may_follow_hour(time[HOUR_LENGTH:])
                else None
            )
            if routing is not None and routing.account is None:  # as old records are
                account = _account(_account_in(fields.user_identity))
                routing = _shared_routing(account, routing.region, routing.hour)
        if routing is None:
            reason = "eventTime is not a UTC time" if fields.event_time else "no eventTime"
            rejected.append(Rejected(index, "record", reason, memoryview(raw)))
            continue
        line: Line = raw
        if has_breaks:
            line, breaks_in_line = without_breaks(raw)
            replaced += breaks_in_line
        name = _event_name(fields.event_name)
        records.append(
            Record(line, routing, index, fields.event_time or "", name, fields.event_id or "")
        )
    return records, rejected, replaced


def _odd_fields(raw: HeldBytes) -> _Fields | str:
    """Return the fields of an element that is not in the usual form, or why it is no record."""
    if bytes(memoryview(raw)[:1]) != b"{":
        return "not an object"
    try:
        loose = _decode_loose_fields(raw)
    except RecursionError:
        return "nested too deeply"
    except (msgspec.MsgspecError, UnicodeError):
        return _lenient_fields(raw)
    account = _text(loose.recipient_account_id)
    return _fields_of(
        _text(loose.event_time),
        _text(loose.event_name),
        _text(loose.event_id),
        _text(loose.aws_region),
        account if _account(account) else _account_in(loose.user_identity),
    )


def _account_in(user_identity: msgspec.Raw) -> str | None:
    """Return userIdentity.accountId."""
    try:
        return _text(_decode_loose_identity(user_identity).account_id)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _text(value: msgspec.Raw) -> str | None:
    try:
        return _decode_text(value)
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _lenient_fields(raw: HeldBytes) -> _Fields | str:
    """Return the fields of an object that msgspec refuses, or why it cannot be read."""
    fields = decode_object(raw)
    if isinstance(fields, str):
        return fields
    account = _string(fields.get("recipientAccountId"))
    identity = fields.get("userIdentity")
    if _account(account) is None and isinstance(identity, dict):
        account = _string(identity.get("accountId"))
    return _fields_of(
        _string(fields.get("eventTime")),
        _string(fields.get("eventName")),
        _string(fields.get("eventID")),
        _string(fields.get("awsRegion")),
        account,
    )


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _fields_of(
    time: str | None,
    name: str | None,
    event_id: str | None,
    region: str | None,
    account: str | None,
) -> _Fields:
    """Return fields of any length. Of a long name, enough is kept to see that it is too long."""
    return _Fields(
        time,
        name and name[: _NAME_LENGTH + 1],
        event_id and event_id[:_EVENT_ID_LENGTH],
        region,
        account,
    )


def _routing_of_odd(fields: _Fields) -> RoutingFields | None:
    """Check the fields of an odd record, which may be of any length."""
    hour = hour_of(fields.event_time or "")
    if hour is None:
        return None
    return _shared_routing(_account(fields.recipient_account_id), _region(fields.aws_region), hour)


def _routing_of(account: str | None, region: str | None, hour: str) -> RoutingFields | None:
    """Check the fields that route a record; `hour` is an eventTime up to its hour."""
    folder = hour_folder(hour)
    if folder is None:
        return None
    return _shared_routing(_account(account), _region(region), folder)


# The caches below are asked with fields that `_Fields` has bounded, so they stay small however
# hostile a file is. Times are cut after the hour: an hour has 3,600 seconds, and hours are few.
_cached_routing = lru_cache(4096)(_routing_of)


@lru_cache(4096)
def _shared_routing(account: str | None, region: str | None, hour: str) -> RoutingFields:
    return RoutingFields(account, region, hour)


@lru_cache(4096)
def _event_name(text: str | None) -> str:
    return text if text and _NAME.fullmatch(text) else "?"


def _account(text: str | None) -> str | None:
    return text if text is not None and is_account(text) else None


def _region(text: str | None) -> str | None:
    return text if text is not None and is_region(text) else None
