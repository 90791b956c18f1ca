"""The field tables of SPEC.md, read from its text: what the vectors of messages are made from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SPEC = Path(__file__).parents[2] / "SPEC.md"
HEADING = re.compile(r"#### (?:Record (?P<record>\w+)|(?P<message>[A-Z_]+) \(0x(?P<code>[0-9a-f]{2})\))\s*\Z")
ROW = re.compile(r"\| (?P<key>\d+) \| (?P<name>\w+) \| (?P<type>[^|]+?) \|")
TYPE = re.compile(r"(?P<kind>uint|bstr|tstr|tokens) (?P<low>\d+)(?:\.\.(?P<high>\d+))?\Z")
LIST = re.compile(r"\[(?P<inner>[^\]]+)\] 0\.\.(?P<count>\d+)\Z")


@dataclass(frozen=True)
class Field:
    """kind: uint, bstr, tstr, tokens, uints, record or records; low and high are its bounds.

    Of `uints`, low and high bound the values and ``count`` their number, of `records` ``count`` alone.
    """

    key: int
    name: str
    kind: str
    optional: bool
    low: int = 0
    high: int = 0
    count: int = 0
    record: str = ""


@dataclass(frozen=True)
class Table:
    name: str
    code: int | None
    """message type; None: a record"""
    fields: tuple[Field, ...]


def field(key: int, name: str, text: str) -> Field:
    text, _, optional = text.partition(", ")
    if optional not in ("", "optional"):
        raise ValueError(f"{name}: {optional!r}")
    if match := LIST.match(text):
        count = int(match["count"])
        if inner := TYPE.match(match["inner"]):
            return Field(key, name, "uints", bool(optional), int(inner["low"]), int(inner["high"]), count)
        return Field(key, name, "records", bool(optional), count=count, record=match["inner"])
    if match := TYPE.match(text):
        low = int(match["low"])
        return Field(key, name, match["kind"], bool(optional), low, int(match["high"] or low))
    return Field(key, name, "record", bool(optional), record=text)


@cache
def tables() -> dict[str, Table]:
    """Messages and records by name, in the order of the document."""
    out: dict[str, Table] = {}
    current: tuple[str, int | None] | None = None
    rows: list[Field] = []

    def done() -> None:
        if current is not None:
            out[current[0]] = Table(*current, tuple(rows))

    for line in SPEC.read_text().splitlines():
        if line.startswith("#"):
            done()
            current, rows = None, []
            if match := HEADING.match(line):
                code = match["code"]
                current = (match["record"] or match["message"], int(code, 16) if code else None)
        elif current is not None and (match := ROW.match(line)):
            rows.append(field(int(match["key"]), match["name"], match["type"]))
    done()
    return out


def messages() -> list[Table]:
    return [table for table in tables().values() if table.code is not None]
