"""Vectors of the message tables: round trips, bounds from both sides, missing and unknown fields, wrong kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.static.sample_messages import (
    GROUP,
    Values,
    channel_of,
    code_of,
    encoded,
    framed,
    mended,
    pairs,
    said,
    sample,
)
from conformance.static.spec_tables import Field, Table, messages, tables
from conformance.static.vectors import Vector, vector
from conformance.static.wirebytes import array, bstr, fields, frame, mapping, token_string, tstr, uint

INVALID = ("message", "MESSAGE_INVALID")
HOSTS = {
    "Limits": ("HELLO", "limits"),
    "ModelOffer": ("HELLO", "models"),
    "Contract": ("OPEN", "contract"),
    "Sampling": ("OPEN", "contract"),
    "DrafterEntry": ("BLOCK", "drafters"),
    "Stats": ("END", "stats"),
}
"""A message in which each record occurs, and the field that leads to it."""
WRONG = {
    "uint": [("text", tstr("7")), ("bytes", bstr(b"\x07"))],
    "bstr": [("uint", uint(7)), ("text", tstr("x" * 32))],
    "tstr": [("uint", uint(7)), ("bytes", bstr(b"text"))],
    "tokens": [("array", array(uint(1), uint(2), uint(3))), ("text", tstr("abc"))],
    "uints": [("uint", uint(7)), ("bytes", bstr(b"\x01")), ("map", fields([(1, uint(1))]))],
    "record": [("bytes", bstr(b"\xa0")), ("array", array())],
    "records": [("map", mapping()), ("bytes", bstr(b""))],
}
Build = Callable[[list[tuple[int, bytes]]], bytes]


def slug(*words: Any) -> str:
    return "-".join(str(word).lower().replace("_", "-") for word in words)


def ask(data: bytes) -> dict[str, Any]:
    return {"verb": "decode", "layer": "message", "bytes": data.hex()}


def good(name: str, title: str, clauses: str, data: bytes, message: Values) -> Vector:
    return vector(f"message/{name}", title, clauses, ask(data), ok={"message": message})


def bad(name: str, title: str, clauses: str, data: bytes, error: tuple[str, str] = INVALID) -> Vector:
    return vector(f"message/{name}", title, clauses, ask(data), error=error)


# ---------------------------------------------------------------- a table in its message


def host(table: Table) -> tuple[Values, Values]:
    """A whole message, and within it the values of the table (the message itself, or a record in it)."""
    if table.code is not None:
        values = sample(table.name, full=True)
        return values, values
    message = sample(HOSTS[table.name][0], full=True)
    inner = message[HOSTS[table.name][1]]
    if isinstance(inner, list):
        inner = inner[0]
    return message, inner["sampling"] if table.name == "Sampling" else inner


def name_of(table: Table) -> str:
    return table.name if table.code is not None else HOSTS[table.name][0]


def rebuilt(table: Table, build: Build) -> bytes:
    """The frame of the host message in which the table's map is what ``build`` makes of its entries."""
    name = name_of(table)
    values = host(table)[0]
    return frame(code_of(name), channel_of(name), _build(name, values, table.name, build))


def _build(name: str, values: Values, target: str, build: Build) -> bytes:
    entries = []
    for field, (key, data) in zip((f for f in tables()[name].fields if f.name in values), pairs(name, values)):
        if field.record and target in (field.record, "Sampling" if field.record == "Contract" else ""):
            if field.kind == "record":
                data = _build(field.record, values[field.name], target, build)
            else:
                data = array(*(_build(field.record, part, target, build) for part in values[field.name]))
        entries.append((key, data))
    return build(entries) if name == target else fields(entries)


def replaced(key: int, data: bytes) -> Build:
    return lambda entries: fields([(k, data if k == key else old) for k, old in entries])


# ---------------------------------------------------------------- families


def round_trips() -> list[Vector]:
    out = []
    for table in messages():
        for full in (False, True):
            values = sample(table.name, full)
            if full and values == sample(table.name):
                continue
            what = "full" if full else "least"
            with_what = "with all optional fields" if full else "with mandatory fields alone"
            data, message = framed(table.name, values), said(table.name, values)
            out.append(good(slug(table.name, what), f"{table.name} {with_what}", "R-4 R-5", data, message))
            encode = {"verb": "encode", **message}
            title = f"{table.name} {with_what} has this one encoding"
            name = f"message/{slug('encode', table.name, what)}"
            out.append(vector(name, title, "B-1 B-3 B-4", encode, ok={"bytes": data.hex()}))
    return out


def bounds() -> list[Vector]:
    return [each for table in tables().values() for field in table.fields for each in _bounds(table, field)]


def _bounds(table: Table, field: Field) -> list[Vector]:
    out = []
    where = f"{table.name}.{field.name}"
    inside, outside = _edges(field, 1 if field.optional and table.name in ("PROPOSE", "BLOCK") else 0)
    for tag, value in inside:
        message, values = host(table)
        values[field.name] = value
        mended(table.name, values, keep=field.name)
        if table.name == "Sampling":
            mended("Contract", message["contract"])
        name = name_of(table)
        data = framed(name, message)
        out.append(
            good(slug(table.name, field.name, tag), f"{where} at its bound: {tag}", "R-5", data, said(name, message))
        )
    for tag, raw in outside:
        data = rebuilt(table, replaced(field.key, raw))
        out.append(bad(slug(table.name, field.name, tag), f"{where} beyond its bound: {tag}", "R-5", data))
    for tag, raw in WRONG[field.kind]:
        data = rebuilt(table, replaced(field.key, raw))
        out.append(bad(slug(table.name, field.name, "is", tag), f"{where} as {tag} is of the wrong kind", "R-5", data))
    return out


def _edges(field: Field, least: int) -> tuple[list[tuple[str, Any]], list[tuple[str, bytes]]]:
    """(values within, encodings without), each with a tag. ``least``: bytes that rules between fields ask for."""
    low, high = field.low, field.high
    inside: list[tuple[str, Any]] = []
    outside: list[tuple[str, bytes]] = []
    if field.kind == "uint":
        inside += [("least", low), ("most", high)]
        if low:
            outside.append(("below", uint(low - 1)))
        if high < (1 << 64) - 1:
            outside += [("above", uint(high + 1)), ("far-above", uint((1 << 64) - 1))]
    elif field.kind == "bstr":
        whole = b"".join(GROUP) if field.name == "group" else bytes(n % 251 for n in range(high))
        inside += [("shortest", whole[: max(low, least)]), ("longest", whole)]
        if low:
            outside.append(("shorter", bstr(whole[: low - 1])))
        outside.append(("longer", bstr(whole + b"\x01")))
    elif field.kind == "tstr":
        inside += [("empty", ""), ("longest", "x" * high), ("longest-in-bytes", "é" * (high // 2))]
        outside += [("longer", tstr("x" * (high + 1))), ("longer-in-bytes", tstr("é" * (high // 2 + 1)))]
    elif field.kind == "tokens":
        most = list(range(high)) if high < 1000 else [0] * high
        inside += [("fewest", [0] * low), ("most", most), ("highest-id", [(1 << 24) - 1])]
        if low:
            outside.append(("fewer", bstr(token_string([0] * (low - 1)))))
        outside += [
            ("more", bstr(token_string([*most, high]))),
            ("cut", bstr(token_string([0] * 5)[:-1])),
            ("one-byte", bstr(b"\x00")),
        ]
    elif field.kind == "uints":
        many = [2 * n + 1 for n in range(field.count)]
        inside += [("empty", []), ("most-items", many), ("highest", [high])]
        outside += [
            ("more-items", array(*(uint(n) for n in [*many, 2 * field.count + 1]))),
            ("item-above", array(uint(high + 1) if high < (1 << 64) - 1 else tstr("1"))),
            ("item-is-text", array(uint(1), tstr("3"))),
            ("item-is-array", array(uint(1), array(uint(3)))),
        ]
    elif field.kind == "records":
        one = sample(field.record)
        many = [{**one, "number": n + 1} if "number" in one else one for n in range(field.count)]
        single = Field(1, "", "record", False, record=field.record)
        inside += [("empty", []), ("most-items", many)]
        outside += [
            ("more-items", array(*(encoded(single, part) for part in [*many, one]))),
            ("item-is-uint", array(uint(1))),
        ]
    return inside, outside


def keys() -> list[Vector]:
    out = []
    for table in tables().values():
        closed = table.name in ("Contract", "Sampling")
        clause = "S-12" if closed else "R-1"
        name = name_of(table)
        message = said(name, host(table)[0])
        for field in table.fields:
            if not field.optional:
                data = rebuilt(table, lambda entries, key=field.key: fields([e for e in entries if e[0] != key]))
                where = f"{table.name} without {field.name}"
                out.append(bad(slug(table.name, "without", field.name), where, "R-4", data))
        known = {field.key for field in table.fields}
        for key in (0, next(k for k in range(2, 99, 2) if k not in known), 64):
            if key not in known:
                data = rebuilt(table, extended(key, uint(1)))
                out.append(
                    bad(
                        slug(table.name, "even-key", key), f"{table.name} with the unknown even key {key}", clause, data
                    )
                )
        for key in (next(k for k in range(1, 99, 2) if k not in known), 65, (1 << 64) - 1):
            if key in known:
                continue
            data = rebuilt(table, extended(key, array(fields([(2, bstr(b"x"))]) if table.code else uint(2))))
            what = f"{table.name} with the unknown odd key {key}"
            if closed:
                out.append(bad(slug(table.name, "odd-key", key), what, "S-12", data))
            else:
                out.append(good(slug(table.name, "odd-key", key), what, "R-1", data, message))
    return out


def extended(key: int, data: bytes) -> Build:
    return lambda entries: fields(sorted([*entries, (key, data)]))


def make() -> list[Vector]:
    return round_trips() + bounds() + keys()
