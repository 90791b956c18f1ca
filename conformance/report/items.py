"""A lenient CBOR reader that keeps the place of every item: for showing what is wrong, never for believing it."""

from __future__ import annotations

from dataclasses import dataclass, field

MAJORS = ("uint", "negative", "bytes", "text", "array", "map", "tag", "simple")
MAX_DEPTH = 40
INDEFINITE = 31
SHOWN = 96


@dataclass
class Item:
    kind: str
    start: int
    inside: int
    """Offset behind the head."""
    end: int = 0
    value: object = None
    elements: list[Item] = field(default_factory=list)
    entries: list[tuple[Item, Item]] = field(default_factory=list)

    def text(self) -> str:
        """The value as a person reads it."""
        if self.kind == "bytes":
            raw = self.value if isinstance(self.value, bytes) else b""
            return f"{len(raw)} bytes" + (f" {raw[:SHOWN].hex()}{'...' if len(raw) > SHOWN else ''}" if raw else "")
        if self.kind == "text":
            shown = repr(self.value)
            return shown if len(shown) <= 4 * SHOWN else f"{shown[: 4 * SHOWN]}..."
        if self.kind == "array":
            return f"[{', '.join(element.text() for element in self.elements[:40])}]"
        if self.kind == "map":
            return "{" + ", ".join(f"{k.text()}: {v.text()}" for k, v in self.entries[:40]) + "}"
        if self.kind == "tag":
            return f"tag {self.value}({self.elements[0].text()})"
        return str(self.value)


def items(payload: bytes) -> tuple[Item, int]:
    """The first item and where it ends. Raises ValueError where the bytes are no item, however lenient one is."""
    item = _read(payload, 0, 0)
    return item, item.end


def _read(data: bytes, at: int, depth: int) -> Item:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep at byte {at}")
    major, info, argument, inside = _head(data, at)
    item = Item(MAJORS[major], at, inside)
    if info == INDEFINITE and major not in (2, 3, 4, 5):
        raise ValueError(f"a break or reserved head at byte {at}")
    count = None if info == INDEFINITE else argument
    if item.kind in ("uint", "negative", "simple"):
        item.value = {"uint": argument, "negative": -1 - argument}.get(item.kind, _simple(info, argument))
        item.end = inside
    elif item.kind in ("bytes", "text"):
        _string(data, item, count, depth)
    elif item.kind == "tag":
        item.value = argument
        item.elements = [_read(data, inside, depth + 1)]
        item.end = item.elements[0].end
    else:
        _container(data, item, count, depth)
    return item


def _head(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Major type, additional information, argument, offset behind the head."""
    if at >= len(data):
        raise ValueError(f"ends at byte {at}, where an item belongs")
    major, info = data[at] >> 5, data[at] & 31
    if 28 <= info <= 30:
        raise ValueError(f"reserved head {data[at]:#04x} at byte {at}")
    size = 1 << (info - 24) if 24 <= info < 28 else 0
    if at + 1 + size > len(data):
        raise ValueError(f"ends within the head at byte {at}")
    argument = int.from_bytes(data[at + 1 : at + 1 + size], "big") if size else info
    return major, info, argument, at + 1 + size


def _simple(info: int, argument: int) -> str:
    if 25 <= info <= 27:
        return f"float, {1 << (info - 24)} bytes"
    return {20: "false", 21: "true", 22: "null", 23: "undefined"}.get(argument, f"simple({argument})")


def _string(data: bytes, item: Item, count: int | None, depth: int) -> None:
    if count is None:
        raw, at = b"", item.inside
        while not _is_break(data, at):
            chunk = _read(data, at, depth + 1)
            raw += chunk.value if isinstance(chunk.value, bytes) else str(chunk.value).encode()
            at = chunk.end
        item.end = at + 1
    else:
        item.end = item.inside + count
        if item.end > len(data):
            raise ValueError(f"a string of {count} bytes at byte {item.start}, {len(data) - item.inside} are there")
        raw = data[item.inside : item.end]
    item.value = raw if item.kind == "bytes" else raw.decode("utf-8", "backslashreplace")


def _container(data: bytes, item: Item, count: int | None, depth: int) -> None:
    per = 2 if item.kind == "map" else 1
    found: list[Item] = []
    at = item.inside
    while len(found) < count * per if count is not None else not _is_break(data, at):
        found.append(_read(data, at, depth + 1))
        at = found[-1].end
    item.end = at + (count is None)
    if item.kind == "array":
        item.elements = found
    else:
        item.entries = list(zip(found[::2], found[1::2]))


def _is_break(data: bytes, at: int) -> bool:
    if at >= len(data):
        raise ValueError(f"ends at byte {at}, where a break belongs")
    return data[at] == 0xFF
