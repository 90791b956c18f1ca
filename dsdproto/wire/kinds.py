"""Kinds of field values: each converts between a Python value and a CBOR item, and checks both ways."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dsdproto.wire.tokens import pack_tokens, unpack_tokens

CLAUSE_BOUNDS = "R-5"
U64_MAX = (1 << 64) - 1


class Fault(Exception):
    """A value that breaks the table. Turned into LocalError or PeerError at the door where it is known whose
    it was.

    :param path: map keys and array indices that lead to the value, outermost first.
    """

    def __init__(self, clause: str, text: str) -> None:
        super().__init__(text)
        self.clause = clause
        self.text = text
        self.names: list[str] = []
        self.path: list[int] = []

    def inside(self, name: str, step: int) -> Fault:
        self.names.insert(0, name)
        self.path.insert(0, step)
        return self

    def where(self, owner: str) -> str:
        return ".".join([owner, *self.names]).replace(".[", "[")


def bounds_fault(text: str) -> Fault:
    return Fault(CLAUSE_BOUNDS, text)


def span(low: int, high: int) -> str:
    return f"exactly {low}" if low == high else f"{low} to {high}"


def shown(value: Any) -> str:
    text = repr(value) if isinstance(value, (int, str, bytes, type(None))) else f"a {type(value).__name__}"
    return text if len(text) <= 40 else text[:37] + "..."


class Kind:
    """One kind of value: ``to_item`` and ``from_item`` convert and check; both raise :class:`Fault`."""

    def to_item(self, value: Any) -> Any:
        return self.from_item(value)

    def from_item(self, item: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Uint(Kind):
    min: int
    max: int

    def to_item(self, value: Any) -> int:
        if type(value) is int and self.min <= value <= self.max:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            value = int(value)  # an IntEnum is welcome here
        return self.from_item(value)

    def from_item(self, item: Any) -> int:
        if type(item) is int and self.min <= item <= self.max:
            return item
        if type(item) is not int:
            raise bounds_fault(f"{shown(item)} where an unsigned integer belongs")
        raise bounds_fault(f"{item} is outside {self.min}..{self.max}")


@dataclass(frozen=True, slots=True)
class Bytes(Kind):
    min: int
    max: int

    def from_item(self, item: Any) -> bytes:
        if type(item) is not bytes:
            raise bounds_fault(f"{shown(item)} where a byte string belongs")
        if not self.min <= len(item) <= self.max:
            raise bounds_fault(f"a byte string of {len(item)} bytes; {span(self.min, self.max)} are allowed")
        return item


@dataclass(frozen=True, slots=True)
class Text(Kind):
    max: int
    """in UTF-8 bytes"""

    def from_item(self, item: Any) -> str:
        if type(item) is not str:
            raise bounds_fault(f"{shown(item)} where a text string belongs")
        try:
            size = len(item.encode())
        except UnicodeEncodeError as error:
            raise bounds_fault(f"{shown(item)} holds a lone surrogate, which UTF-8 cannot carry") from error
        if size > self.max:
            raise bounds_fault(f"a text of {size} UTF-8 bytes; at most {self.max} are allowed")
        return item


@dataclass(frozen=True, slots=True)
class Tokens(Kind):
    min_items: int
    max_items: int

    def to_item(self, value: Any) -> bytes:
        if type(value) is not tuple:
            raise bounds_fault(f"{shown(value)} where a tuple of token ids belongs")
        self._count(len(value))
        try:
            return pack_tokens(value)
        except (ValueError, TypeError) as error:
            raise bounds_fault(str(error)) from error

    def from_item(self, item: Any) -> tuple[int, ...]:
        if type(item) is not bytes:
            raise bounds_fault(f"{shown(item)} where a token string (bytes) belongs")
        try:
            value = unpack_tokens(item)
        except ValueError as error:
            raise bounds_fault(str(error)) from error
        self._count(len(value))
        return value

    def _count(self, count: int) -> None:
        if not self.min_items <= count <= self.max_items:
            raise bounds_fault(f"{count} tokens; {span(self.min_items, self.max_items)} are allowed")


@dataclass(frozen=True, slots=True)
class Uints(Kind):
    max: int
    max_items: int

    def to_item(self, value: Any) -> list[int]:
        if type(value) is not tuple:
            raise bounds_fault(f"{shown(value)} where a tuple of unsigned integers belongs")
        plain = [int(v) if isinstance(v, int) and type(v) is not bool else v for v in value]
        return self._checked(plain)

    def from_item(self, item: Any) -> tuple[int, ...]:
        if type(item) is not list:
            raise bounds_fault(f"{shown(item)} where an array of unsigned integers belongs")
        return tuple(self._checked(item))

    def _checked(self, items: list[Any]) -> list[int]:
        if len(items) > self.max_items:
            raise bounds_fault(f"{len(items)} items; at most {self.max_items} are allowed")
        for index, item in enumerate(items):
            if type(item) is not int or not 0 <= item <= self.max:
                raise bounds_fault(f"{shown(item)} is outside 0..{self.max}").inside(f"[{index}]", index)
        return items
