"""An element of `Records` -> a record with the fields that route it, or why it is rejected.

The fields are accounts, region, time and eventID. Only these are decoded; the rest of a record is
kept as bytes. An object that msgspec refuses is read by `lenient_json`.

A record without eventTime may be an aggregated event. Such a record has `accountId`, `eventId` and
`timeWindow.windowStart` in place of `recipientAccountId`, `eventID` and `eventTime` (CloudTrail
user guide, "CloudTrail record contents for aggregated events"). Only the record decides, never the
key: a line of the output is read by the same rule.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Final, NamedTuple

import msgspec

from ctrail_pipeline.core.keys.source_prefix import is_account, is_region

from .event_time import HOUR_LENGTH, hour_folder, hour_of, may_follow_hour, with_z
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


_NOTHING: Final = _Fields()
_NULL: Final = msgspec.Raw(b"null")


class _LooseIdentity(msgspec.Struct, gc=False, rename="camel"):
    account_id: msgspec.Raw = _NULL


class _LooseWindow(msgspec.Struct, gc=False, rename="camel"):
    window_start: msgspec.Raw = _NULL


class _LooseFields(msgspec.Struct, gc=False, rename="camel"):
    """The fields of an odd record, of any type. They are not decoded, whatever they hold."""

    event_time: msgspec.Raw = _NULL
    event_name: msgspec.Raw = _NULL
    event_id: msgspec.Raw = msgspec.field(default=_NULL, name="eventID")
    aws_region: msgspec.Raw = _NULL
    recipient_account_id: msgspec.Raw = _NULL
    user_identity: msgspec.Raw = _NULL
    account_id: msgspec.Raw = _NULL
    aggregated_event_id: msgspec.Raw = msgspec.field(default=_NULL, name="eventId")
    time_window: msgspec.Raw = _NULL


class _OddFields(NamedTuple):
    """The fields of an odd record, of any length; None where there is no text."""

    event_time: str | None
    has_event_time: bool
    """Whether there is an eventTime, of whatever type."""
    event_name: str | None
    event_id: str | None
    aws_region: str | None
    recipient_account_id: str | None
    caller_account_id: str | None
    account_id: str | None
    aggregated_event_id: str | None
    window_start: str | None


_decode_fields = msgspec.json.Decoder(_Fields).decode
_decode_loose_fields = msgspec.json.Decoder(_LooseFields).decode
_decode_loose_identity = msgspec.json.Decoder(_LooseIdentity).decode
_decode_loose_window = msgspec.json.Decoder(_LooseWindow).decode
_decode_text = msgspec.json.Decoder(str).decode
_REFUSED: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)


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
        except _REFUSED:
            fields = _NOTHING
        time = fields.event_time
        routing = (
            _cached_routing(fields.recipient_account_id, fields.aws_region, time[:HOUR_LENGTH])
            if time and may_follow_hour(time[HOUR_LENGTH:])
            else None
        )
        if routing is None:
            odd = _read_odd(raw)
            if isinstance(odd, str):
                rejected.append(Rejected(index, "record", odd, memoryview(raw)))
                continue
            fields, routing = odd
        elif routing.recipient is None:  # as old records are
            caller = _account(_account_in(fields.user_identity))
            routing = _shared_routing(None, caller, routing.region, routing.hour)
        line: Line = raw
        if has_breaks:
            line, breaks_in_line = without_breaks(raw)
            replaced += breaks_in_line
        name = _event_name(fields.event_name)
        records.append(
            Record(line, routing, index, fields.event_time or "", name, fields.event_id or "")
        )
    return records, rejected, replaced


def _read_odd(raw: HeldBytes) -> tuple[_Fields, RoutingFields] | str:
    """Read an element that is not in the usual form, or return why it is no event.

    The fields that are returned are those of a usual record, also for an aggregated event.
    """
    odd = _odd_fields(raw)
    if isinstance(odd, str):
        return odd
    if odd.has_event_time:
        account, event_id, time = odd.recipient_account_id, odd.event_id, odd.event_time
    else:
        account, event_id, time = odd.account_id, odd.aggregated_event_id, odd.window_start
    if not time:
        return "no eventTime"
    hour = hour_of(time)
    if hour is None:
        field = "eventTime" if odd.has_event_time else "timeWindow.windowStart"
        return f"{field} is not a UTC time"
    recipient = _account(account)
    caller = _account(odd.caller_account_id) if recipient is None and odd.has_event_time else None
    routing = _shared_routing(recipient, caller, _region(odd.aws_region), hour)
    # Of a long name, enough is kept to see that it is too long.
    name = odd.event_name and odd.event_name[: _NAME_LENGTH + 1]
    return _Fields(with_z(time), name, event_id and event_id[:_EVENT_ID_LENGTH]), routing


def _odd_fields(raw: HeldBytes) -> _OddFields | str:
    """Return the fields of an element that is not in the usual form, or why it is no record."""
    if bytes(memoryview(raw)[:1]) != b"{":
        return "not an object"
    try:
        loose = _decode_loose_fields(raw)
    except RecursionError:
        return "nested too deeply"
    except (msgspec.MsgspecError, UnicodeError):
        return _lenient_fields(raw)
    return _OddFields(
        _text(loose.event_time),
        loose.event_time != _NULL,
        _text(loose.event_name),
        _text(loose.event_id),
        _text(loose.aws_region),
        _text(loose.recipient_account_id),
        _account_in(loose.user_identity),
        _text(loose.account_id),
        _text(loose.aggregated_event_id),
        _window_start_in(loose.time_window),
    )


def _account_in(user_identity: msgspec.Raw) -> str | None:
    """Return userIdentity.accountId."""
    try:
        return _text(_decode_loose_identity(user_identity).account_id)
    except _REFUSED:
        return None


def _window_start_in(time_window: msgspec.Raw) -> str | None:
    """Return timeWindow.windowStart."""
    try:
        return _text(_decode_loose_window(time_window).window_start)
    except _REFUSED:
        return None


def _text(value: msgspec.Raw) -> str | None:
    try:
        return _decode_text(value)
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _lenient_fields(raw: HeldBytes) -> _OddFields | str:
    """Return the fields of an object that msgspec refuses, or why it cannot be read."""
    fields = decode_object(raw)
    if isinstance(fields, str):
        return fields
    return _OddFields(
        _string(fields, "eventTime"),
        fields.get("eventTime") is not None,
        _string(fields, "eventName"),
        _string(fields, "eventID"),
        _string(fields, "awsRegion"),
        _string(fields, "recipientAccountId"),
        _string(fields.get("userIdentity"), "accountId"),
        _string(fields, "accountId"),
        _string(fields, "eventId"),
        _string(fields.get("timeWindow"), "windowStart"),
    )


def _string(fields: object, name: str) -> str | None:
    """Return a member of an object that is text."""
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else None


def _routing_of(account: str | None, region: str | None, hour: str) -> RoutingFields | None:
    """Check the fields that route a record; `hour` is an eventTime up to its hour."""
    folder = hour_folder(hour)
    if folder is None:
        return None
    return _shared_routing(_account(account), None, _region(region), folder)


# The caches below are asked with fields that `_Fields` has bounded, so they stay small however
# hostile a file is. Times are cut after the hour: an hour has 3,600 seconds, and hours are few.
_cached_routing = lru_cache(4096)(_routing_of)


@lru_cache(4096)
def _shared_routing(
    recipient: str | None, caller: str | None, region: str | None, hour: str
) -> RoutingFields:
    return RoutingFields(recipient, caller, region, hour)


@lru_cache(4096)
def _event_name(text: str | None) -> str:
    return text if text and _NAME.fullmatch(text) else "?"


def _account(text: str | None) -> str | None:
    return text if text is not None and is_account(text) else None


def _region(text: str | None) -> str | None:
    return text if text is not None and is_region(text) else None
