"""CBOR and frames put together by hand, so that vectors do not lean on the encoder that they are to test.

Every function returns bytes; nothing is checked, so that what must be refused can be built as easily as what is right.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)


def head(major: int, argument: int, size: int | None = None) -> bytes:
    """The head of an item; ``size`` forces the argument into 0, 1, 2, 4 or 8 bytes behind the first one."""
    if size is None:
        size = 0 if argument < 24 else next(n for n in (1, 2, 4, 8) if argument < 1 << 8 * n)
    if size == 0:
        return bytes([major << 5 | argument])
    return bytes([major << 5 | 23 + size.bit_length()]) + argument.to_bytes(size, "big")


def uint(value: int, size: int | None = None) -> bytes:
    return head(UINT, value, size)


def bstr(data: bytes, size: int | None = None) -> bytes:
    return head(BYTES, len(data), size) + data


def tstr(text: str | bytes, size: int | None = None) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return head(TEXT, len(data), size) + data


def array(*items: bytes, size: int | None = None) -> bytes:
    return head(ARRAY, len(items), size) + b"".join(items)


def mapping(*pairs: tuple[bytes, bytes], size: int | None = None) -> bytes:
    """Key and value are encoded items, in the order given."""
    return head(MAP, len(pairs), size) + b"".join(key + value for key, value in pairs)


def fields(pairs: Iterable[tuple[int, bytes]]) -> bytes:
    """A map with integer keys, in the order given."""
    return mapping(*((uint(key), value) for key, value in pairs))


def token_string(tokens: Iterable[int]) -> bytes:
    return b"".join(token.to_bytes(3, "big") for token in tokens)


def frame(type_code: int, channel: int, payload: bytes, length: int | None = None) -> bytes:
    length = len(payload) if length is None else length
    return length.to_bytes(3, "big") + bytes([type_code]) + channel.to_bytes(4, "big") + payload


def item_json(item: Any) -> dict[str, Any]:
    """A Python value (int, bytes, str, list, dict) as the exec door writes a CBOR item."""
    match item:
        case int():
            return {"uint": number_json(item)}
        case bytes():
            return {"bytes": item.hex()}
        case str():
            return {"text": item}
        case list():
            return {"array": [item_json(inner) for inner in item]}
        case dict():
            return {"map": [[number_json(key), item_json(value)] for key, value in item.items()]}
    raise TypeError(item)


def number_json(value: int) -> int | str:
    return value if value < 1 << 53 else str(value)


def item_bytes(item: Any) -> bytes:
    """The encoding of a Python value, keys in the order of the dict."""
    match item:
        case int():
            return uint(item)
        case bytes():
            return bstr(item)
        case str():
            return tstr(item)
        case list():
            return array(*(item_bytes(inner) for inner in item))
        case dict():
            return mapping(*((uint(key), item_bytes(value)) for key, value in item.items()))
    raise TypeError(item)
