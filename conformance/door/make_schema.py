"""Writes `verbs.schema.json`, the JSON Schema of the exec door: python -m conformance.door.make_schema [--check]

What messages look like is read off the message table; the rest is said in :mod:`conformance.door.verbs`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dsdproto.wire.messages  # noqa: F401  (fills the table)
from conformance.door import verbs
from conformance.door.shapes import hexadecimal, integers, record, ref, uint
from dsdproto.registry import MAX_VOCABULARY, MessageType
from dsdproto.wire.kinds import Bytes, Kind, Text, Tokens, Uint, Uints
from dsdproto.wire.schema import SPECS, Array, Spec, Sub, wire_classes

SCHEMA = Path(__file__).with_name("verbs.schema.json")


def field_shape(kind: Kind) -> dict[str, Any]:
    match kind:
        case Uint(low, high):
            return uint(low, high)
        case Bytes(low, high):
            return hexadecimal(low, high)
        case Text(limit):
            return {"type": "string", "maxLength": limit, "description": f"at most {limit} bytes of UTF-8"}
        case Tokens(low, high):
            return integers(MAX_VOCABULARY - 1, low, high)
        case Uints(high, count):
            return {"type": "array", "items": uint(0, high), "maxItems": count}
        case Sub(inner):
            return ref(inner.__name__)
        case Array(inner, count):
            return {"type": "array", "items": ref(inner.__name__), "maxItems": count}
    raise AssertionError(kind)


def fields_shape(spec: Spec) -> dict[str, Any]:
    must = {field.name: field_shape(field.kind) for field in spec.fields if not field.optional}
    may = {field.name: field_shape(field.kind) for field in spec.fields if field.optional}
    return record(must, may)


def message_name(spec: Spec) -> str:
    assert spec.type is not None
    return MessageType(spec.type).name


def schema() -> dict[str, Any]:
    """The whole document."""
    specs = [SPECS[cls] for cls in wire_classes()]
    records = {spec.cls.__name__: fields_shape(spec) for spec in specs if spec.type is None}
    fields = {f"fields.{message_name(spec)}": fields_shape(spec) for spec in specs if spec.type is not None}
    names = [message_name(spec) for spec in specs if spec.type is not None]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:dsdp:conformance:door:1",
        "title": "DSDP conformance: the exec door, version 1",
        "description": verbs.ABOUT,
        "oneOf": [ref("request"), ref("answer")],
        "$defs": {**verbs.definitions(names), **records, **fields},
    }


def main() -> int:
    check = "--check" in sys.argv[1:]
    text = json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
    same = SCHEMA.exists() and SCHEMA.read_text() == text
    if not same and not check:
        SCHEMA.write_text(text)
    print(f"{SCHEMA.name}: {'up to date' if same else 'differs' if check else 'written'}")
    return 1 if check and not same else 0


if __name__ == "__main__":
    raise SystemExit(main())
