"""The small language in which :mod:`dsdproto.wire.messages` writes its table.

A record is a frozen, slotted, keyword-only dataclass whose fields carry their map key and bounds. From that
one table come the encoder, the decoder, every bounds check, the CDDL (:mod:`dsdproto.wire.cddl`) and the
strategies of the property tests.

Values are *not* checked when an object is built: they are checked when it is encoded
(:class:`~dsdproto.errors.LocalError`) and when it is decoded (:class:`~dsdproto.errors.PeerError`), so that
no value is checked twice on a hot path. Code that hands messages over without encoding them can call
:func:`validate`.

Use :mod:`dsdproto.wire.codec` to turn messages into bytes: it loads the checks that a table cannot say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

from dsdproto.errors import LocalError, PeerError
from dsdproto.registry import ErrorCode, Role
from dsdproto.wire.kinds import U64_MAX, Bytes, Fault, Kind, Text, Tokens, Uint, Uints, bounds_fault, shown

T = TypeVar("T")

CLAUSE_KEYS = "R-1"
CLAUSE_MANDATORY = "R-4"
CLAUSE_CLOSED = "S-12"


@dataclass(frozen=True, slots=True)
class Sub(Kind):
    record: type

    def to_item(self, value: Any) -> dict[int, Any]:
        if type(value) is not self.record:
            raise bounds_fault(f"{shown(value)} where a {self.record.__name__} belongs")
        return record_to_item(value)

    def from_item(self, item: Any) -> Any:
        return record_from_item(self.record, item)


@dataclass(frozen=True, slots=True)
class Array(Kind):
    record: type
    max_items: int

    def to_item(self, value: Any) -> list[dict[int, Any]]:
        if type(value) is not tuple:
            raise bounds_fault(f"{shown(value)} where a tuple of {self.record.__name__} belongs")
        return self._each(list(value), Sub(self.record).to_item)

    def from_item(self, item: Any) -> tuple[Any, ...]:
        if type(item) is not list:
            raise bounds_fault(f"{shown(item)} where an array of {self.record.__name__} belongs")
        return tuple(self._each(item, Sub(self.record).from_item))

    def _each(self, items: list[Any], convert: Callable[[Any], Any]) -> list[Any]:
        if len(items) > self.max_items:
            raise bounds_fault(f"{len(items)} items; at most {self.max_items} are allowed")
        out = []
        for index, item in enumerate(items):
            try:
                out.append(convert(item))
            except Fault as fault:
                raise fault.inside(f"[{index}]", index) from None
        return out


# ---------------------------------------------------------------- field constructors

REQUIRED = dataclasses.MISSING
"""A field without ``default=None`` must be there. (Type checkers know the word ``default``.)"""


def _field(key: int, kind: Kind, default: Any) -> Any:
    metadata = {"key": key, "kind": kind}
    if default is REQUIRED:
        return dataclasses.field(metadata=metadata)
    if default is not None:
        raise LocalError(f"key {key}: a field that may be absent has the default None, no other")
    return dataclasses.field(default=None, metadata=metadata)


def uint(key: int, *, min: int = 0, max: int = U64_MAX, default: Any = REQUIRED) -> Any:
    """An unsigned integer within ``min..max``."""
    return _field(key, Uint(min, max), default)


def bstr(key: int, *, size: int | None = None, min: int = 0, max: int = 0, default: Any = REQUIRED) -> Any:
    """A byte string of exactly ``size`` bytes, or of ``min..max``."""
    return _field(key, Bytes(min, max) if size is None else Bytes(size, size), default)


def tstr(key: int, *, max: int, default: Any = REQUIRED) -> Any:
    """A text string of at most ``max`` bytes of UTF-8."""
    return _field(key, Text(max), default)


def tokens(key: int, *, min_items: int = 0, max_items: int, default: Any = REQUIRED) -> Any:
    """A token string: a tuple of ids here, a byte string of three bytes each on the wire."""
    return _field(key, Tokens(min_items, max_items), default)


def uints(key: int, *, max: int, max_items: int, default: Any = REQUIRED) -> Any:
    """An array of unsigned integers up to ``max``."""
    return _field(key, Uints(max, max_items), default)


def sub(key: int, record: type, *, default: Any = REQUIRED) -> Any:
    """A nested record."""
    return _field(key, Sub(record), default)


def array(key: int, record: type, *, max_items: int, default: Any = REQUIRED) -> Any:
    """An array of nested records."""
    return _field(key, Array(record, max_items), default)


# ---------------------------------------------------------------- records and messages


@dataclass(frozen=True, slots=True)
class Field:
    key: int
    name: str
    kind: Kind
    optional: bool


@dataclass(slots=True)
class Spec:
    """What the table says of one class."""

    cls: type
    fields: tuple[Field, ...]
    keys: frozenset[int]
    encoders: tuple[tuple[int, str, Callable[[Any], Any], bool], ...]
    decoders: tuple[tuple[int, str, Callable[[Any], Any], Callable[[Any, Any], None], bool], ...]
    check: Callable[[Any], None] | None = None
    """raises :class:`Fault`; set by :mod:`dsdproto.wire.checks`"""
    type: int | None = None
    plane: str = ""
    senders: tuple[Role, ...] = ()
    opens: bool = False
    closed: bool = False
    """no key beside those of the table is allowed, odd or even"""


SPECS: dict[type, Spec] = {}
"""Every record and message class, in the order of definition; also records that are only stored."""
MESSAGES: dict[int, type] = {}
"""Message classes by type code."""


@dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(uint, bstr, tstr, tokens, uints, sub, array)
)
def record(cls: type[T]) -> type[T]:
    """A map that only occurs inside messages (or on its own, as a statement to be hashed or signed)."""
    built = dataclass(frozen=True, slots=True, kw_only=True)(cls)
    fields = []
    for item in dataclasses.fields(built):  # type: ignore[arg-type]
        optional = item.default is None
        fields.append(Field(item.metadata["key"], item.name, item.metadata["kind"], optional))
    keys = [field.key for field in fields]
    if keys != sorted(set(keys)):
        raise LocalError(f"{cls.__name__}: map keys must ascend without repetition, not {keys}")
    encoders = tuple((field.key, field.name, field.kind.to_item, field.optional) for field in fields)
    decoders = tuple(
        (field.key, field.name, field.kind.from_item, vars(built)[field.name].__set__, field.optional)
        for field in fields
    )
    SPECS[built] = Spec(built, tuple(fields), frozenset(keys), encoders, decoders)
    return built


def closed(cls: type[T]) -> type[T]:
    """A record that is hashed: whoever ignored a key of it would hash something else (clause S-12)."""
    SPECS[cls].closed = True
    return cls


@dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(uint, bstr, tstr, tokens, uints, sub, array)
)
def message(
    code: int, *, plane: str, senders: tuple[Role, ...], opens: bool = False
) -> Callable[[type[T]], type[T]]:
    """A record that is the payload of a frame of type ``code``.

    :param plane: which kind of channel carries it ("connection": channel 0 only; "any": every channel).
    :param senders: roles of which the sender must have declared one in its HELLO.
    :param opens: the message opens its channel.
    """

    def build(cls: type[T]) -> type[T]:
        built = record(cls)
        if int(code) in MESSAGES:
            raise LocalError(f"{cls.__name__}: type {code:#04x} is {MESSAGES[int(code)].__name__} already")
        spec = SPECS[built]
        spec.type, spec.plane, spec.senders, spec.opens = int(code), plane, senders, opens
        MESSAGES[int(code)] = built
        return built

    return build


def wire_classes() -> list[type]:
    """All messages, and the records that occur in them, in the order of the table."""
    found: set[type] = set()
    waiting = list(MESSAGES.values())
    while waiting:
        cls = waiting.pop()
        if cls not in found:
            found.add(cls)
            waiting += [field.kind.record for field in SPECS[cls].fields if isinstance(field.kind, Sub | Array)]
    return [cls for cls in SPECS if cls in found]


# ---------------------------------------------------------------- conversion


def record_to_item(value: Any) -> dict[int, Any]:
    """The CBOR item of a record. Raises :class:`Fault`."""
    spec = SPECS[type(value)]
    item = {}
    for key, name, convert, optional in spec.encoders:
        part = getattr(value, name)
        if part is None and optional:
            continue
        try:
            item[key] = convert(part)
        except Fault as fault:
            raise fault.inside(name, key) from None
    if spec.check is not None:
        spec.check(value)
    return item


def _check(check: Callable[[Any], None], spec: Spec, built: Any) -> None:
    """The rules between fields; a fault names a field, its path leads to that field's key."""
    try:
        check(built)
    except Fault as fault:
        fault.path[:0] = [field.key for field in spec.fields if field.name == fault.names[0]]
        raise


def record_from_item(cls: type[T], item: Any) -> T:
    """The record that a decoded CBOR item holds. Raises :class:`Fault`.

    Unknown odd keys are dropped, unknown even ones refused (clause R-1).
    """
    spec = SPECS[cls]
    if type(item) is not dict:
        raise bounds_fault(f"{shown(item)} where a map belongs")
    # Filled through the slots themselves: half the price of calling the constructor of a frozen dataclass.
    built = object.__new__(cls)
    known = 0
    for key, name, convert, put, optional in spec.decoders:
        if key in item:
            known += 1
            try:
                put(built, convert(item[key]))
            except Fault as fault:
                raise fault.inside(name, key) from None
        elif optional:
            put(built, None)
        else:
            missing = [f"{f.name} (key {f.key})" for f in spec.fields if not f.optional and f.key not in item]
            raise Fault(CLAUSE_MANDATORY, f"without the mandatory {', '.join(missing)}")
    if known != len(item):
        for key in item:
            if key in spec.keys:
                continue
            if spec.closed:
                raise Fault(CLAUSE_CLOSED, f"map key {key}, which is not in the table").inside(f"[{key}]", key)
            if key % 2 == 0:
                raise Fault(CLAUSE_KEYS, f"unknown even map key {key}").inside(f"[{key}]", key)
    if spec.check is not None:
        _check(spec.check, spec, built)
    return built


def validate(value: Any) -> None:
    """Check what was built here. Raises LocalError naming class, field, value and bound."""
    to_item(value)


def to_item(value: Any) -> dict[int, Any]:
    """The CBOR item of a record that was built here. Raises LocalError."""
    if type(value) not in SPECS:
        raise LocalError(f"{shown(value)} is no record of the message table")
    try:
        return record_to_item(value)
    except Fault as fault:
        where = fault.where(type(value).__name__)
        raise LocalError(f"{where}: {fault.text} (clause {fault.clause})") from None


def from_item(
    cls: type[T], item: Any, locate: Callable[[list[int]], int | None] | None = None
) -> T:
    """The record that a peer's CBOR item holds. Raises PeerError(MESSAGE_INVALID).

    :param locate: finds the byte offset of the item at a path of keys and indices; only called on a fault.
    """
    try:
        return record_from_item(cls, item)
    except Fault as fault:
        offset = locate(fault.path) if locate is not None else None
        raise PeerError(
            ErrorCode.MESSAGE_INVALID,
            fault.clause,
            f"{fault.where(cls.__name__)}: {fault.text}",
            offset=offset,
            message_type=SPECS[cls].type,
        ) from None
