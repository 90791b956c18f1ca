"""Messages to frames and back: the one door between bytes and typed values.

>>> from dsdproto.wire.messages import Ping
>>> encode_message(0, Ping(sequence=7)).hex()
'0000030600000000a10107'
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import dsdproto.wire.checks  # noqa: F401  (puts the checks into the table)
from dsdproto.errors import LocalError, PeerError
from dsdproto.registry import ErrorCode
from dsdproto.wire import cbor
from dsdproto.wire.frames import Frame, encode_frame
from dsdproto.wire.schema import MESSAGES, SPECS, from_item, to_item

T = TypeVar("T")


def encode_payload(record: Any, extra: Mapping[int, Any] | None = None) -> bytes:
    """The deterministic encoding of a record or message. Raises LocalError when a value breaks the table.

    :param extra: more map entries, for grease (clause R-10).
    """
    item = to_item(record)
    if extra:
        return cbor.encode(dict(sorted({**item, **extra}.items())))
    return cbor.encode_checked(item)


def decode_payload(cls: type[T], payload: bytes) -> T:
    """The record in a payload. Raises PeerError: CBOR_MALFORMED, CBOR_NOT_DETERMINISTIC, MESSAGE_INVALID."""
    return from_item(cls, cbor.decode(payload), partial(cbor.locate, payload))


def encode_message(channel: int, message: Any) -> bytes:
    """One frame. Raises LocalError when a value breaks the table or ``message`` is not a message."""
    payload = encode_payload(message)
    return encode_frame(type_of(message), channel, payload)


def type_of(message: Any) -> int:
    """Type code of a message. Raises LocalError for a record that is none."""
    code = SPECS[type(message)].type
    if code is None:
        raise LocalError(f"{type(message).__name__} only occurs inside messages; it cannot be sent alone")
    return code


def decode_message(frame: Frame) -> Any | None:
    """The message in a frame; None when its type is unknown and odd, to be ignored (clause R-1).

    Raises PeerError: MESSAGE_UNKNOWN for an unknown even type, otherwise as :func:`decode_payload`.
    """
    cls = MESSAGES.get(frame.type)
    if cls is None:
        if frame.type % 2 == 0:
            text = f"unknown even message type {frame.type:#04x}; only odd ones may be ignored"
            raise PeerError(ErrorCode.MESSAGE_UNKNOWN, "R-1", text, message_type=frame.type)
        payload_item(frame)
        return None
    item = payload_item(frame)
    return from_item(cls, item, partial(cbor.locate, frame.payload))


def payload_item(frame: Frame) -> dict[int, Any]:
    """The CBOR map of a frame of any type (clause B-8)."""
    try:
        item = cbor.decode(frame.payload)
    except PeerError as error:
        error.message_type = frame.type
        raise
    if type(item) is not dict:
        text = f"the payload is a {type(item).__name__}, not a map"
        raise PeerError(ErrorCode.CBOR_MALFORMED, "B-8", text, offset=0, message_type=frame.type)
    return item
