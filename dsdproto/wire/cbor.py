"""Strict CBOR: the core deterministic encoding of RFC 8949 section 4.2, cut down to five kinds of items
(SPEC.md, "CBOR").

cbor2 does the decoding, because it is written in a compiled language; but it is more liberal than this
protocol. So whatever it returns is checked for kinds, order and depth, and its re-encoding is compared with
the input, which catches every encoding that is longer than it need be. When anything is wrong, and only then,
a plain reader walks the bytes once more to say what, at which offset, and by which clause.
"""

from __future__ import annotations

from typing import Any

import cbor2

from dsdproto.errors import LocalError, PeerError
from dsdproto.registry import MAX_DEPTH, ErrorCode

U64_MAX = (1 << 64) - 1
UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
_FORBIDDEN = {NEGATIVE: "a negative integer", TAG: "a tag", SIMPLE: "a float or simple value"}


class _Refused(Exception):
    """Something in the item that strict CBOR does not have; the reader then says what."""


class _NoTags(dict):
    """A table of tag decoders in which every tag is refused."""

    def __missing__(self, tag: int) -> Any:
        return _refuse


def _refuse(*_: Any) -> Any:
    raise _Refused


_NO_TAGS = _NoTags()


def encode(item: Any) -> bytes:
    """Encode an item made of ints >= 0, bytes, str, lists or tuples, and dicts whose keys ascend.

    Raises LocalError on anything else, also when nested deeper than MAX_DEPTH.
    """
    try:
        _walk(item, MAX_DEPTH)
        return cbor2.dumps(item)
    except _Refused as error:
        raise LocalError(f"not an item of strict CBOR: {item!r:.80}") from error
    except (cbor2.CBOREncodeError, UnicodeEncodeError) as error:
        raise LocalError(f"not encodable: {error}") from error


def encode_checked(item: Any) -> bytes:
    """:func:`encode` for items that come out of the message table and are therefore known to be right."""
    return cbor2.dumps(item)


def decode(payload: bytes) -> Any:
    """Decode one item: int, bytes, str, list or dict (keys ascending), nested.

    Raises PeerError(CBOR_MALFORMED) or PeerError(CBOR_NOT_DETERMINISTIC) with clause and offset; nothing
    else.
    """
    try:
        item = cbor2.loads(
            payload,
            max_depth=MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            semantic_decoders=_NO_TAGS,
            tag_hook=_refuse,
        )
        _walk(item, MAX_DEPTH)
        if cbor2.dumps(item) == payload:
            return item
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic of the compiled decoder is no Exception
        pass
    raise explain(payload) or PeerError(ErrorCode.CBOR_MALFORMED, "B-1", "the item could not be decoded")


def _walk(item: Any, depth: int) -> None:
    kind = type(item)
    if kind is dict:
        if not depth:
            raise _Refused
        last = -1
        for key, value in item.items():
            if type(key) is not int or key <= last:
                raise _Refused
            last = key
            inner = type(value)
            if inner is int:
                if not 0 <= value <= U64_MAX:
                    raise _Refused
            elif inner is not bytes and inner is not str:
                _walk(value, depth - 1)
    elif kind is list or kind is tuple:
        if not depth:
            raise _Refused
        for value in item:
            _walk(value, depth - 1)
    elif kind is int:
        if not 0 <= item <= U64_MAX:
            raise _Refused
    elif kind is not bytes and kind is not str:
        raise _Refused


# ---------------------------------------------------------------- saying what is wrong


def explain(payload: bytes) -> PeerError | None:
    """The first thing that is wrong with a payload, or None when it is one item of strict CBOR."""
    try:
        end = _Reader(payload).skip(0, MAX_DEPTH)
        if end != len(payload):
            left = len(payload) - end
            raise _error(ErrorCode.CBOR_MALFORMED, "B-6", f"{left} bytes follow the item", end)
    except PeerError as error:
        return error
    return None


def locate(payload: bytes, path: list[int]) -> int | None:
    """Offset of the item that a path of map keys and array indices leads to, in a payload that decodes.

    A path that leads nowhere (a missing key) gives the offset of the innermost container that exists.
    """
    reader = _Reader(payload)
    at = 0
    for step in path:
        major, count, inside = reader.head(at)
        if major == ARRAY and step < count:
            for _ in range(step):
                inside = reader.skip(inside, MAX_DEPTH)
            at = inside
        elif major == MAP:
            for _ in range(count):
                _, key, value = reader.head(inside)
                if key == step:
                    at = value
                    break
                inside = reader.skip(value, MAX_DEPTH)
            else:
                return at
        else:
            return at
    return at


def _error(code: ErrorCode, clause: str, text: str, offset: int) -> PeerError:
    return PeerError(code, clause, f"{text} (byte {offset} of the payload)", offset=offset)


class _Reader:
    """Walks encoded items and refuses the first byte that breaks a clause."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    def head(self, at: int) -> tuple[int, int, int]:
        """(major type, argument, offset behind the head) of the item at ``at``."""
        payload = self.payload
        if at >= len(payload):
            raise _error(ErrorCode.CBOR_MALFORMED, "B-1", "the payload ends where an item belongs", at)
        major, info = payload[at] >> 5, payload[at] & 31
        if major in _FORBIDDEN:
            raise _error(ErrorCode.CBOR_MALFORMED, "B-2", f"{_FORBIDDEN[major]} is not allowed", at)
        if info < 24:
            return major, info, at + 1
        if info == 31 and major != UINT:
            raise _error(ErrorCode.CBOR_NOT_DETERMINISTIC, "B-4", "an indefinite length", at)
        if info > 27:
            raise _error(ErrorCode.CBOR_MALFORMED, "B-1", f"reserved additional information {info}", at)
        size = 1 << (info - 24)
        if at + 1 + size > len(payload):
            raise _error(ErrorCode.CBOR_MALFORMED, "B-1", "the payload ends within a head", at)
        value = int.from_bytes(payload[at + 1 : at + 1 + size], "big")
        if value < (24, 1 << 8, 1 << 16, 1 << 32)[info - 24]:
            text = f"{value} encoded in {size} bytes, which is not the shortest form"
            raise _error(ErrorCode.CBOR_NOT_DETERMINISTIC, "B-4", text, at)
        return major, value, at + 1 + size

    def skip(self, at: int, depth: int) -> int:
        """Offset behind the item at ``at``."""
        major, value, inside = self.head(at)
        if major == UINT:
            return inside
        if major in (BYTES, TEXT):
            return self._string(major, at, value, inside)
        if not depth:
            raise _error(ErrorCode.CBOR_MALFORMED, "B-5", f"nested deeper than {MAX_DEPTH}", at)
        last = -1
        for _ in range(value):  # every turn consumes a byte or raises, so a huge count costs nothing
            if major == MAP:
                at = inside
                kind, key, inside = self.head(at)
                if kind != UINT:
                    raise _error(ErrorCode.CBOR_MALFORMED, "B-3", "a map key that is no unsigned integer", at)
                if key <= last:
                    text = f"map key {key} after {last}; keys must ascend"
                    raise _error(ErrorCode.CBOR_NOT_DETERMINISTIC, "B-3", text, at)
                last = key
            inside = self.skip(inside, depth - 1)
        return inside

    def _string(self, major: int, at: int, size: int, inside: int) -> int:
        end = inside + size
        if end > len(self.payload):
            text = f"a string of {size} bytes of which only {len(self.payload) - inside} are there"
            raise _error(ErrorCode.CBOR_MALFORMED, "B-1", text, at)
        if major == TEXT:
            try:
                self.payload[inside:end].decode()
            except UnicodeDecodeError as error:
                where = inside + error.start
                raise _error(ErrorCode.CBOR_MALFORMED, "B-7", "text that is no UTF-8", where) from None
        return end
