"""How a record's fields become values of the Parquet columns.

Nothing is lost. `_other` holds, as it stood in the record, a field that has no column, or whose
type (or a member's type) is not its column's. No record makes this fail.

Not here: which columns there are (`parquet_schema`), polars, and files (`parquet`).
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from ctrail_pipeline.core.log_file.lenient_json import members_of
from ctrail_pipeline.core.log_file.lines import HeldBytes

from .parquet_schema import COLUMNS, NESTED, Leaf, Spec

_NULL: Final = b"null"
_STRUCTS: Final[dict[str, Any]] = {}
"""The struct types, by the path of their column or member."""
_BASES: Final[dict[Leaf, Any]] = {Leaf.TEXT: str, Leaf.JSON: msgspec.Raw, Leaf.FLAG: bool}


def _type_of(name: str, spec: Spec) -> Any:
    """Return the type that msgspec decodes a struct, list or leaf into.

    The type refuses unknown members.
    """
    if isinstance(spec, Leaf):
        return _BASES[spec]
    if isinstance(spec, list):
        return list[_type_of(name, spec[0])]  # type: ignore[misc]
    _STRUCTS[name] = _struct(
        name,
        [
            (member, _type_of(f"{name}_{member}", inner) | None, None)
            for member, inner in spec.items()
        ],
    )
    return _STRUCTS[name]


def _struct(name: str, members: Sequence[Any], *, refuse_others: bool = True) -> Any:
    return msgspec.defstruct(name, members, gc=False, forbid_unknown_fields=refuse_others)


_DECODE: Final = {
    name: msgspec.json.Decoder(_type_of(name, spec)).decode for name, spec in NESTED.items()
}


def _row_field(name: str, spec: Spec) -> Any:
    if spec is Leaf.TEXT:
        return name, str | None, None
    if spec is Leaf.FLAG:
        # Some services send "true" and "false" as strings. That is too frequent to read the whole
        # record the slow way.
        return name, bool | str | None, None
    return name, msgspec.Raw, msgspec.Raw(_NULL)


_ROW_FIELDS: Final = [_row_field(name, spec) for name, spec in COLUMNS.items()]
Row: Final = _struct("Row", _ROW_FIELDS)
"""A record's fields: texts, flags, and the rest as raw JSON."""
_decode_row: Final = msgspec.json.Decoder(Row).decode
_decode_known_fields: Final = msgspec.json.Decoder(
    _struct("Known", _ROW_FIELDS, refuse_others=False)
).decode
_decode_rows: Final = msgspec.json.Decoder(list[Row]).decode  # type: ignore[valid-type]
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_elements: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text: Final = msgspec.json.Decoder(str).decode
_USUAL_NAME: Final = 64
"""Length of a field's name up to which its quoted form is remembered."""
_REFUSED: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)

Others = dict[int, dict[str, bytes]]
"""The fields that go to `_other`, by row."""


def decode_rows(lines: Sequence[HeldBytes], others: Others, first: int) -> list[Any]:
    """Return a Row for each record. What does not fit goes to `others`; rows count from `first`.

    No record makes this fail. The records are decoded in one call: 1.4 µs each, against 2.1 one by
    one. If one record is odd, all of them are decoded one by one.
    """
    try:
        rows: list[Any] = _decode_rows(b"[" + b",".join(lines) + b"]")
        return rows
    except _REFUSED:
        return [_row_of(line, others, first + at) for at, line in enumerate(lines)]


def _row_of(line: HeldBytes, others: Others, at: int) -> Any:
    try:
        return _decode_row(line)
    except _REFUSED:
        pass
    try:
        # Most likely AWS has a new field, and then all records have it.
        row = _decode_known_fields(line)
        members = _decode_members(line)
    except _REFUSED:
        return _odd_row(line, others, at)
    others[at] = {name: bytes(raw) for name, raw in members.items() if name not in COLUMNS}
    return row


def _odd_row(line: HeldBytes, others: Others, at: int) -> Any:
    row = Row()
    members = _members(bytes(line))
    if members is None:  # nested just deep enough that the record could still be split
        others[at] = {"record": bytes(line)}
        return row
    other = {}
    for name, value in members.items():
        spec = COLUMNS.get(name)
        if spec is None:
            other[name] = value
        elif name in NESTED or spec in (Leaf.JSON, Leaf.TIME):
            setattr(row, name, msgspec.Raw(value))
        else:
            fitting, fits = _fitted(name, value, spec)
            setattr(row, name, fitting)
            if not fits:
                other[name] = value
    if other:
        others[at] = other
    return row


def decode_nested(name: str, value: bytes) -> tuple[Any, bool]:
    """Return the value of a column of NESTED as far as it fits, and whether all of it fits.

    The value of a null is None.
    """
    if value == _NULL:
        return None, True
    try:
        return _DECODE[name](value), True
    except _REFUSED:
        return _fitted(name, value, COLUMNS[name])


def field_of(line: HeldBytes, name: str) -> bytes | None:
    """Return a field of a record, as it stands in the record; None if the record lacks it."""
    return (_members(bytes(line)) or {}).get(name)


def json_object(members: dict[str, bytes]) -> str:
    """Return fields as one JSON object, their values as they stood in the record: see `utf8`."""
    text = ",".join(
        f"{_quoted(name) if len(name) <= _USUAL_NAME else json.dumps(name)}:{utf8(value)}"
        for name, value in members.items()
    )
    return f"{{{text}}}"


@lru_cache(1024)
def _quoted(name: str) -> str:
    return json.dumps(name)


def utf8(value: bytes) -> str:
    """Return JSON text as Parquet can hold it: a byte that is not UTF-8 becomes U+FFFD."""
    return str(value, "utf-8", "replace")


def _fitted(name: str, value: bytes, spec: Spec) -> tuple[Any, bool]:
    """Return what of a value fits, and whether all of it fits. Slow: for odd values only."""
    if value == _NULL:
        return None, True
    if isinstance(spec, dict):
        return _fitted_struct(name, value, spec)
    if isinstance(spec, list):
        try:
            elements = _decode_elements(value)
        except _REFUSED:
            return None, False
        pairs = [_fitted(name, bytes(element), spec[0]) for element in elements]
        fitting = [element for element, _ in pairs if element is not None]
        return fitting, all(fits for _, fits in pairs) and len(fitting) == len(pairs)
    if spec is Leaf.JSON:
        return msgspec.Raw(value), True
    try:
        if spec is Leaf.TEXT:
            return _decode_text(value), True
    except _REFUSED:
        return None, False
    flags = {b"true": True, b"false": False}
    return flags.get(value), value in flags


def _fitted_struct(name: str, value: bytes, spec: dict[str, Any]) -> tuple[Any, bool]:
    members = _members(value) if value.startswith(b"{") else None
    if members is None:
        return None, False
    struct = _STRUCTS[name]()
    all_fit = True
    for member, inner in members.items():
        if member not in spec:
            all_fit = False
            continue
        fitting, fits = _fitted(f"{name}_{member}", inner, spec[member])
        setattr(struct, member, fitting)
        all_fit &= fits
    return struct, all_fit


def _members(value: bytes) -> dict[str, bytes] | None:
    """Return the members of a JSON object, as they stand there; a repeated member counts last."""
    try:
        return {name: bytes(raw) for name, raw in _decode_members(value).items()}
    except _REFUSED:
        return members_of(value)
