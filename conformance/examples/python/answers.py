"""Between values of `dsdproto` and their form in JSON."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

from dsdproto.wire.kinds import Bytes, Kind, Tokens, Uint, Uints
from dsdproto.wire.schema import SPECS, Array, Sub

T = TypeVar("T")


class Refused(Exception):
    """Something that never travels as a message is not what it should be (layer `value`)."""

    layer = "value"


def to_json(value: Any) -> Any:
    """A message, record or part of one; absent fields are left out, large integers become strings."""
    if isinstance(value, bool):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int):
        return int(value) if value < 1 << 53 else str(int(value))
    if isinstance(value, list | tuple):
        return [to_json(part) for part in value]
    if type(value) in SPECS:
        pairs = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {name: to_json(part) for name, part in pairs if part is not None}
    return value


def from_json(cls: type[T], values: dict[str, Any]) -> T:
    """The message or record whose fields these are."""
    kinds = {field.name: field.kind for field in SPECS[cls].fields}
    return cls(**{name: _value(kinds[name], value) for name, value in values.items()})


def _value(kind: Kind, value: Any) -> Any:
    match kind:
        case Uint():
            return int(value)
        case Bytes():
            return bytes.fromhex(value)
        case Tokens() | Uints():
            return tuple(value)
        case Sub(record):
            return from_json(record, value)
        case Array(record):
            return tuple(from_json(record, part) for part in value)
    return value
