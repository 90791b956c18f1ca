"""A valid sample of every message and record, and its bytes, from the tables of SPEC.md and by hand-built CBOR.

A sample is a dict by field names: ints, bytes, str; lists of ints for tokens and lists of numbers; dicts for records.
No two fields of a message have equal values, so that a receiver that mixes them up is seen.
"""

from __future__ import annotations

from typing import Any

from conformance.static.spec_tables import Field, Table, tables
from conformance.static.vectors import numbers
from conformance.static.wirebytes import array, bstr, fields, frame, token_string, tstr, uint

Values = dict[str, Any]
GROUP = [bytes([0x30 + n]) * 32 for n in range(9)]
VOCABULARY = 4096


def sample(name: str, full: bool = False) -> Values:
    """Every mandatory field; with ``full`` the optional ones as well."""
    table = tables()[name]
    values = {field.name: _value(table, field, full) for field in table.fields if full or not field.optional}
    return mended(name, values)


def _value(table: Table, field: Field, full: bool) -> Any:
    if field.kind == "uint":
        return min(max(field.low, 100 * field.key + len(table.name)), field.high)
    if field.kind == "bstr":
        return bytes((16 * field.key + n) % 256 for n in range(max(field.low, min(3, field.high))))
    if field.kind == "tstr":
        return f"{field.name} Ġ"
    if field.kind == "tokens":
        return [100 * field.key + n for n in range(3)]
    if field.kind == "uints":
        return [1 + 2 * (field.key + n) for n in range(3)]
    if field.kind == "record":
        return sample(field.record, full)
    return [sample(field.record, full)]


def mended(name: str, values: Values, keep: str = "") -> Values:
    """Brings the other fields into line with field ``keep``, by the rules between fields (R-6 to R-9, Q-1, C-7)."""
    if name == "HELLO":
        if keep == "version_min":
            values["version_max"] = max(values["version_max"], values["version_min"])
        else:
            values["version_min"] = min(values["version_min"], values["version_max"])
    if name == "Contract":
        if keep == "vocabulary_size":
            values["prompt"], values["stop_tokens"] = [0], []
        else:
            values["vocabulary_size"] = max([*values["prompt"], *values["stop_tokens"], VOCABULARY - 1]) + 1
    if name in ("PROPOSE", "VERIFY", "BLOCK"):
        single = [part for part in ("parents", "scores", "origins") if part in values]
        count = len(values[keep]) if keep in single else len(values["tokens"])
        if keep in single:
            values["tokens"] = [500 + n for n in range(count)]
        for part in single:
            if part != keep:
                values[part] = bytes(range(count) if part == "parents" else (7 * n % 256 for n in range(count)))
    if name == "VERDICT" and not {"token", "finish"} & values.keys():
        values["token"] = 300
    if name in ("ATTACH", "ASSIGN"):
        terms = values["contract"]
        terms["vocabulary_size"] = max([terms["vocabulary_size"] - 1, *values["committed"]]) + 1
    if name in ("OPENED", "ENLIST") and "group" in values and keep != "group":
        values["group"] = b"".join(GROUP[:3])
    return values


def pairs(name: str, values: Values) -> list[tuple[int, bytes]]:
    """(map key, encoded value) for the fields that are present."""
    return [(field.key, encoded(field, values[field.name])) for field in tables()[name].fields if field.name in values]


def encoded(field: Field, value: Any) -> bytes:
    if field.kind == "uint":
        return uint(value)
    if field.kind == "bstr":
        return bstr(value)
    if field.kind == "tstr":
        return tstr(value)
    if field.kind == "tokens":
        return bstr(token_string(value))
    if field.kind == "uints":
        return array(*(uint(part) for part in value))
    if field.kind == "record":
        return fields(pairs(field.record, value))
    return array(*(fields(pairs(field.record, part)) for part in value))


def payload(name: str, values: Values) -> bytes:
    return fields(pairs(name, values))


def framed(name: str, values: Values, channel: int | None = None) -> bytes:
    return frame(code_of(name), channel_of(name) if channel is None else channel, payload(name, values))


def code_of(name: str) -> int:
    code = tables()[name].code
    assert code is not None
    return code


def channel_of(name: str) -> int:
    """A channel on which the message could be, as far as its plane says."""
    code = code_of(name)
    return 0 if code < 0x20 or code >= 0x70 else 6 if code % 4 else 70001


def said(name: str, values: Values, channel: int | None = None) -> Values:
    """The message as the exec door writes it."""
    channel = channel_of(name) if channel is None else channel
    return {"type": name, "channel": channel, "fields": numbers(values)}
