"""The verbs `decode` and `encode`."""

from __future__ import annotations

from typing import Any

from conformance.examples.python.answers import from_json, to_json
from dsdproto.errors import PeerError
from dsdproto.registry import MAX_PAYLOAD, ErrorCode, MessageType
from dsdproto.wire import cbor
from dsdproto.wire.codec import decode_message, encode_message, type_of
from dsdproto.wire.frames import FrameDecoder
from dsdproto.wire.schema import MESSAGES

LAYERS = {
    "frame": (ErrorCode.FRAME_TOO_LONG, ErrorCode.FRAME_MALFORMED),
    "cbor": (ErrorCode.CBOR_MALFORMED, ErrorCode.CBOR_NOT_DETERMINISTIC),
    "message": (ErrorCode.MESSAGE_UNKNOWN, ErrorCode.MESSAGE_INVALID),
}


def layer_of(error: PeerError) -> str:
    """On which floor the bytes were refused."""
    return next((layer for layer, codes in LAYERS.items() if error.code in codes), "session")


def decode(request: dict[str, Any]) -> dict[str, Any]:
    data = bytes.fromhex(request["bytes"])
    if request["layer"] == "cbor":
        return {"item": item_json(cbor.decode(data))}
    decoder = FrameDecoder(request.get("max_payload", MAX_PAYLOAD))
    frames = list(decoder.feed(data))
    rest = decoder.buffered
    if request["layer"] == "message":
        decoder.finish()
        (frame,) = frames
        message = decode_message(frame)
        if message is None:
            return {"message": {"type": "ignored", "channel": frame.channel}}
        name = MessageType(type_of(message)).name
        return {"message": {"type": name, "channel": frame.channel, "fields": to_json(message)}}
    if request.get("end", True):
        decoder.finish()
    parts = [{"type": each.type, "channel": each.channel, "payload": each.payload.hex()} for each in frames]
    return {"frames": parts, "rest": rest}


def item_json(item: Any) -> dict[str, Any]:
    if isinstance(item, int):
        return {"uint": to_json(item)}
    if isinstance(item, bytes):
        return {"bytes": item.hex()}
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, list):
        return {"array": [item_json(part) for part in item]}
    return {"map": [[to_json(key), item_json(value)] for key, value in item.items()]}


def encode(request: dict[str, Any]) -> dict[str, Any]:
    cls = MESSAGES[MessageType[request["type"]]]
    return {"bytes": encode_message(request["channel"], from_json(cls, request["fields"])).hex()}
