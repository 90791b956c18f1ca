"""Small pieces of JSON Schema, and the numbers of the exec door."""

from __future__ import annotations

from typing import Any

Shape = dict[str, Any]
SAFE = (1 << 53) - 1
"""The largest integer that every JSON parser keeps exact; larger ones travel as decimal strings."""


def ref(name: str) -> Shape:
    return {"$ref": f"#/$defs/{name}"}


def uint(low: int = 0, high: int = (1 << 32) - 1) -> Shape:
    if high <= SAFE:
        return {"type": "integer", "minimum": low, "maximum": high}
    return ref("u64")


def hexadecimal(low: int, high: int | None = None) -> Shape:
    """A byte string of ``low`` to ``high`` bytes; ``high`` None: of exactly ``low``."""
    high = low if high is None else high
    span = f"{{{low}}}" if low == high else f"{{{low},{high}}}"
    words = f"{low}" if low == high else f"{low} to {high}"
    return {"type": "string", "pattern": f"^(?:[0-9a-f]{{2}}){span}$", "description": f"{words} bytes, hexadecimal"}


ANY_BYTES: Shape = {"type": "string", "pattern": "^(?:[0-9a-f]{2})*$", "description": "bytes, hexadecimal"}


def integers(high: int, low_items: int = 0, high_items: int | None = None) -> Shape:
    out: Shape = {"type": "array", "items": uint(0, high), "minItems": low_items}
    return out if high_items is None else {**out, "maxItems": high_items}


def record(must: dict[str, Shape], may: dict[str, Shape] | None = None, about: str = "") -> Shape:
    out: Shape = {"type": "object"}
    if about:
        out["description"] = about
    out |= {"properties": {**must, **(may or {})}, "required": list(must), "additionalProperties": False}
    return out


def array(items: Shape, about: str = "", low: int = 0) -> Shape:
    out: Shape = {"type": "array", "items": items}
    if low:
        out["minItems"] = low
    return {**out, "description": about} if about else out


def text(about: str = "") -> Shape:
    return {"type": "string", "description": about} if about else {"type": "string"}


def choice(*names: str, about: str = "") -> Shape:
    out: Shape = {"enum": list(names)}
    return {**out, "description": about} if about else out
