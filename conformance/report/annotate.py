"""The wire log of a case, decoded field by field: what each byte says, and which clauses speak of it.

Works on anything that crossed the wire, most of all on what is wrong: a payload that the suite's own decoder refuses is
still taken apart as far as it goes, and the refusal stands beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from typing import Any

from conformance.clauses import known
from conformance.report.items import Item, items
from conformance.report.model import WireEntry
from dsdproto import registry
from dsdproto.errors import PeerError
from dsdproto.registry import FRAME_HEADER_BYTES, GREASE_TYPES, MessageType
from dsdproto.wire import messages
from dsdproto.wire.cbor import explain
from dsdproto.wire.codec import decode_message
from dsdproto.wire.frames import Frame
from dsdproto.wire.kinds import Tokens
from dsdproto.wire.schema import MESSAGES, SPECS, Array, Field, Sub
from dsdproto.wire.tokens import unpack_tokens

SHOWN_BYTES = 48
SHOWN_BRIEF = 110
MAX_FRAMES = 20
PLANE_SECTIONS = {"connection": "9", "session": "11", "draft": "12", "verify": "14", "commit": "16", "join": "5"}
NAMES: dict[tuple[str, str], type[IntEnum]] = {
    ("Error", "code"): registry.ErrorCode,
    ("Error", "message_type"): MessageType,
    ("Hello", "roles"): registry.Role,
    ("Hello", "features"): registry.Feature,
    ("ModelOffer", "role"): registry.Role,
    ("Contract", "commit_profile"): registry.CommitProfile,
    ("Sampling", "method"): registry.Method,
    ("Detach", "reason"): registry.DetachReason,
    ("Dismiss", "reason"): registry.DismissReason,
    **{(record, "finish"): registry.Finish for record in ("End", "Verdict", "Prepare", "Enlisted")},
}
"""Fields whose numbers have names."""


@dataclass(frozen=True)
class Part:
    """Some bytes and what they say."""

    hex: str
    name: str
    value: str
    depth: int = 0
    clauses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decoded:
    """One frame, or one JSON line."""

    title: str
    parts: list[Part] = field(default_factory=list)
    clauses: tuple[str, ...] = ()
    fault: str = ""
    """What the suite's own decoder has against it."""
    fault_clause: str = ""
    brief: str = ""
    """What it says, in a few words."""
    is_json: bool = False


@dataclass(frozen=True)
class Row:
    """One entry of the log with the frames that end in it."""

    t: float
    direction: str
    peer: str
    text: str
    size: int
    frames: list[Decoded]
    rest: str = ""
    """Of bytes that complete no frame yet: how many are there and wanted."""


def rows(log: Iterable[WireEntry]) -> list[Row]:
    """The log, decoded. Bytes that are cut into pieces are put together again, for each peer and direction."""
    buffers: dict[tuple[str, str], bytearray] = {}
    lost: set[tuple[str, str]] = set()
    out = []
    for entry in log:
        stream = (entry.peer, entry.direction)
        frames: list[Decoded] = []
        rest = ""
        data = bytes.fromhex(entry.hex)
        if entry.door:
            frames += _json_line(data)
        elif data and stream in lost:
            rest = "not taken apart: bytes before were cut from the log"
        elif data:
            buffer = buffers.setdefault(stream, bytearray())
            fresh = not buffer
            buffer += data
            if entry.size > len(data):
                rest = f"the log holds {len(data)} of {entry.size} bytes"
                frames.append(_cut_frame(bytes(buffer)))
                if fresh and FRAME_HEADER_BYTES + int.from_bytes(data[:3], "big") == entry.size:
                    buffer.clear()  # one whole frame: what comes next begins a new one
                else:
                    lost.add(stream)
            else:
                frames += _taken(buffer)
                rest = _rest(bytes(buffer)) if buffer else ""
        elif entry.text.startswith("connected"):
            for direction in ("sent", "received"):
                buffers.pop((entry.peer, direction), None)
                lost.discard((entry.peer, direction))
        out.append(Row(entry.t, entry.direction, entry.peer, entry.text, entry.size, frames, rest))
    return out


def _taken(buffer: bytearray) -> list[Decoded]:
    """Takes whole frames off the buffer."""
    found = []
    while len(buffer) >= FRAME_HEADER_BYTES:
        end = FRAME_HEADER_BYTES + int.from_bytes(buffer[:3], "big")
        if len(buffer) < end:
            break
        found.append(frame(bytes(buffer[:end])))
        del buffer[:end]
    return found


def _rest(buffer: bytes) -> str:
    if len(buffer) < FRAME_HEADER_BYTES:
        return f"{len(buffer)} of the {FRAME_HEADER_BYTES} bytes of a header"
    length = int.from_bytes(buffer[:3], "big")
    there = len(buffer) - FRAME_HEADER_BYTES
    return f"{there} of {length} payload bytes of {_name(buffer[3])} on channel {int.from_bytes(buffer[4:8], 'big')}"


def _cut_frame(buffer: bytes) -> Decoded:
    head = _header(buffer[:FRAME_HEADER_BYTES]) if len(buffer) >= FRAME_HEADER_BYTES else []
    tail = Part(shown_hex(buffer[FRAME_HEADER_BYTES:]), "payload", "cut off in the log")
    title = f"{_name(buffer[3])} on channel {int.from_bytes(buffer[4:8], 'big')}" if head else "part of a frame"
    return Decoded(title, [*head, tail])


def frame(data: bytes) -> Decoded:
    """One whole frame."""
    kind, channel, payload = data[3], int.from_bytes(data[4:8], "big"), data[FRAME_HEADER_BYTES:]
    parts = _header(data[:FRAME_HEADER_BYTES])
    cls = MESSAGES.get(kind)
    try:
        item, end = items(payload)
    except ValueError as error:
        parts.append(Part(shown_hex(payload), "payload", f"no CBOR item: {error}", 0, ("B-1",)))
    else:
        parts += _record(payload, item, cls, 0)
        if end < len(payload):
            parts.append(Part(shown_hex(payload[end:]), "", f"{len(payload) - end} bytes behind the item", 0, ("B-6",)))
    fault = fault_clause = ""
    try:
        decode_message(Frame(kind, channel, payload))
    except PeerError as error:
        fault, fault_clause = f"{error.code.name}: {error.text}", error.clause
    title = f"{_name(kind)} on channel {channel}"
    return Decoded(title, parts, _of_message(kind), fault, fault_clause, _brief(parts))


def _brief(parts: list[Part]) -> str:
    """The outermost fields on one line, long values shortened."""
    fields = [part for part in parts if part.depth == 1]
    words = (f"{part.name.partition(' ')[2]} {_shortened(part.value)}" for part in fields)
    return _shortened(", ".join(words), SHOWN_BRIEF)


def _shortened(text: str, length: int = 24) -> str:
    return text if len(text) <= length else f"{text[:length].rstrip()}…"


def _header(head: bytes) -> list[Part]:
    channel = int.from_bytes(head[4:8], "big")
    return [
        Part(head[:3].hex(), "length", f"{int.from_bytes(head[:3], 'big')} bytes of payload", 0, ("F-1", "F-2")),
        Part(head[3:4].hex(), "type", f"{_name(head[3])} ({head[3]:#04x})", 0, ("F-1", "R-1")),
        Part(head[4:8].hex(), "channel", _channel(channel), 0, ("CH-1", "CH-3")),
    ]


def _channel(number: int) -> str:
    if number == 0:
        return "0: the connection"
    return f"{number}: opened by the {'dialer' if number % 2 else 'acceptor'}"


def _name(kind: int) -> str:
    if kind in MESSAGES:
        return MessageType(kind).name
    return f"grease {kind:#04x}" if kind in GREASE_TYPES else f"unknown type {kind:#04x}"


# ---------------------------------------------------------------- payloads


def _record(payload: bytes, item: Item, cls: type | None, depth: int) -> list[Part]:
    """The parts of a map, by the table of ``cls`` where there is one."""
    if item.kind != "map":
        return [Part(shown_hex(payload[item.start : item.end]), "payload", item.text(), depth, ("B-8",))]
    spec = SPECS.get(cls) if cls else None
    fields = {field.key: field for field in spec.fields} if spec else {}
    head = f"map of {len(item.entries)}"
    parts = [Part(shown_hex(payload[item.start : item.inside]), cls.__name__ if cls else "map", head, depth, ("B-3",))]
    for key, value in item.entries:
        number = key.value if key.kind == "uint" else None
        field = fields.get(number) if isinstance(number, int) else None
        parts += _entry(payload, key, value, field, cls, depth + 1)
    return parts


def _entry(payload: bytes, key: Item, value: Item, field: Field | None, cls: type | None, depth: int) -> list[Part]:
    label = f"{key.text()} {field.name}" if field else f"{key.text()} ?"
    clauses = _of_field(cls, field.name) if field and cls else ("R-1",)
    raw = payload[key.start : value.end]
    inner = field.kind.record if field and isinstance(field.kind, Sub | Array) else None
    if inner is not None and value.kind in ("map", "array"):
        is_map = value.kind == "map"
        elements = [value] if is_map else value.elements
        said = inner.__name__ if is_map else f"{len(elements)} of {inner.__name__}"
        head = Part(
            shown_hex(payload[key.start : value.start if is_map else value.inside]), label, said, depth, clauses
        )
        return [head, *(part for element in elements for part in _record(payload, element, inner, depth + 1))]
    said = _meaning(value, field, cls) if field else f"{value.text()}: not assigned" + _parity(key)
    return [Part(shown_hex(raw), label, said, depth, clauses)]


def _parity(key: Item) -> str:
    if key.kind != "uint" or not isinstance(key.value, int):
        return ", and no key that a map may have"
    return ", odd: to be ignored" if key.value % 2 else ", even: to be refused"


def _meaning(value: Item, field: Field, cls: type | None) -> str:
    names = NAMES.get((cls.__name__ if cls else "", field.name))
    if names and value.kind == "uint":
        return _numbered(names, value.value)
    if names and value.kind == "array":
        return ", ".join(_numbered(names, element.value) for element in value.elements) or "none"
    if isinstance(field.kind, Tokens) and value.kind == "bytes" and len(value.value) % 3 == 0:
        tokens = unpack_tokens(value.value)
        listed = " ".join(map(str, tokens[:40]))
        return f"{len(tokens)} tokens: {listed}{' ...' if len(tokens) > 40 else ''}" if tokens else "no tokens"
    return value.text()


def _numbered(names: type[IntEnum], value: object) -> str:
    if isinstance(value, int) and value in names._value2member_map_:
        return f"{names(value).name} ({value})"
    return f"{value} (no name)"


# ---------------------------------------------------------------- JSON lines


def _json_line(data: bytes) -> list[Decoded]:
    """The line by its keys; behind it, taken apart, the frames or the item that it asks to be decoded."""
    try:
        value = json.loads(data)
    except (UnicodeDecodeError, ValueError) as error:
        text = data.decode("utf-8", "replace")
        return [Decoded("a line that is no JSON", [Part("", "line", text[:2000])], (), str(error), is_json=True)]
    if not isinstance(value, dict):
        return [Decoded("a JSON line that is no object", [Part("", "line", repr(value)[:2000])], is_json=True)]
    title = str(value.get("verb") or next((key for key in ("ok", "error", "unsupported") if key in value), "line"))
    parts = [Part("", key, _json_text(inner)) for key, inner in value.items()]
    said = [f"{key} {_shortened(_json_text(inner), 60)}" for key, inner in value.items() if key not in ("id", "verb")]
    title = f"{title}, id {value['id']}" if "id" in value else title
    line = Decoded(title, parts, brief=_shortened(", ".join(said), SHOWN_BRIEF), is_json=True)
    return [line, *_asked_for(value)]


def _asked_for(value: dict[str, Any]) -> list[Decoded]:
    if value.get("verb") != "decode" or not isinstance(value.get("bytes"), str):
        return []
    try:
        data = bytes.fromhex(value["bytes"])
    except ValueError:
        return []
    if value.get("layer") == "cbor":
        return [_item(data)]
    buffer = bytearray(data)
    found = _taken(buffer)[:MAX_FRAMES]
    return (
        [*found, Decoded("the rest", [Part(shown_hex(bytes(buffer)), "", _rest(bytes(buffer)))])] if buffer else found
    )


def _item(data: bytes) -> Decoded:
    """Bytes that are to be one CBOR item."""
    try:
        item, end = items(data)
    except ValueError as error:
        parts = [Part(shown_hex(data), "item", f"no CBOR item: {error}", 0, ("B-1",))]
    else:
        parts = [Part(shown_hex(data[:end]), "item", item.text(), 0, ("B-1",))]
        if end < len(data):
            parts.append(Part(shown_hex(data[end:]), "", f"{len(data) - end} bytes behind the item", 0, ("B-6",)))
    error = explain(data)
    return Decoded("CBOR", parts, (), error.text if error else "", error.clause if error else "")


def _json_text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 2000 else f"{text[:2000]} ... ({len(text)} characters)"


# ---------------------------------------------------------------- which clauses speak of what


@cache
def _of_message(kind: int) -> tuple[str, ...]:
    """Clauses of the plane of a message that name it, at most six."""
    if kind not in MESSAGES:
        return ("R-10",) if kind in GREASE_TYPES else ("R-1",)
    section = PLANE_SECTIONS.get(SPECS[MESSAGES[kind]].plane or "")
    word = re.compile(rf"\b{MessageType(kind).name}\b")
    at_home = [c.id for c in known().values() if word.search(f"{c.title} {c.text}") and _in(c.section, section)]
    return tuple(at_home or [c.id for c in known().values() if word.search(c.text)])[:6]


@cache
def _of_field(cls: type, name: str) -> tuple[str, ...]:
    """Clauses that speak of a field, at most four: those of its plane, then those that name its message too."""
    spec = SPECS[cls]
    section = PLANE_SECTIONS.get(spec.plane or "")
    word = MessageType(spec.type).name if spec.type is not None else cls.__name__
    found = [clause for clause in known().values() if f"`{name}`" in clause.text]
    near = [c.id for c in found if section and _in(c.section, section)]
    named = [c.id for c in found if re.search(rf"\b{word}\b", c.text)]
    if cls in (messages.Contract, messages.Sampling, messages.Limits, messages.ModelOffer):
        named = [c.id for c in found]
    return tuple(dict.fromkeys([*near, *named]))[:4] or ("R-5",)


def _in(section: str, outer: str | None) -> bool:
    return outer is not None and (section == outer or section.startswith(f"{outer}."))


def shown_hex(data: bytes) -> str:
    """Hexadecimal, cut in the middle of what is long."""
    if len(data) <= SHOWN_BYTES:
        return data.hex()
    return f"{data[: SHOWN_BYTES - 8].hex()}...{data[-8:].hex()}"
