"""Reads plain values (TOML, JSON) into dataclasses, and refuses what does not fit: the dataclasses are the schema.

An annotation says what is allowed: numbers, strings, booleans, ``Literal``, ``tuple[X, ...]``, ``dict[str, X]``, a
dataclass, or a union of dataclasses that tell each other apart by ``kind`` (a ``ClassVar``). Limits stand in
``Annotated[float, Bounds(...)]``.
"""

from __future__ import annotations

import math
import types
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from dsdproto.errors import DsdpError


class ScenarioError(DsdpError):
    """A scenario that cannot be run: which file, which key, what is wrong, what would be right."""

    code = "scenario"

    def __init__(self, path: str, text: str, file: str = "") -> None:
        self.path, self.text, self.file = path, text, file
        super().__init__(": ".join(part for part in (file, path, text) if part))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a number, ``above`` exclusive, and what it is counted in."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    unit: str = ""

    def complaint(self, value: float) -> str | None:
        if self.low is not None and value < self.low:
            return f"{value:g} is too small, at least {self.low:g}"
        if self.above is not None and value <= self.above:
            return f"{value:g} is too small, more than {self.above:g}"
        if self.high is not None and value > self.high:
            return f"{value:g} is too large, at most {self.high:g}"
        return None


Seconds = Annotated[float, Bounds(low=0.0, unit="s")]
Period = Annotated[float, Bounds(above=0.0, unit="s")]
Bandwidth = Annotated[float, Bounds(low=0.0, unit="bit/s")]
Rate = Annotated[float, Bounds(above=0.0, unit="1/s")]
Amount = Annotated[float, Bounds(low=0.0)]
Positive = Annotated[float, Bounds(above=0.0)]
Share = Annotated[float, Bounds(low=0.0, high=1.0)]
Count = Annotated[int, Bounds(low=0)]
Number = Annotated[int, Bounds(low=1)]


def nearest(word: str, known: list[str]) -> str:
    """``" (did you mean 'x'?)"``, or nothing."""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


@lru_cache(maxsize=256)
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def read(kind: Any, value: Any, path: str = "") -> Any:
    """``value`` as ``kind``. Raises ScenarioError with the path of the key."""
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *limits = get_args(kind)
        result = read(inner, value, path)
        for limit in limits:
            complaint = limit.complaint(result)
            if complaint:
                raise ScenarioError(path, complaint)
        return result
    if origin is Literal:
        if value not in get_args(kind):
            names = [str(each) for each in get_args(kind)]
            raise ScenarioError(path, f"{value!r}; allowed: {', '.join(names)}{nearest(str(value), names)}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ScenarioError(path, f"{_said(value)} where a list belongs")
        kinds = get_args(kind)
        if kinds[-1] is not Ellipsis and len(value) != len(kinds):
            raise ScenarioError(path, f"{len(value)} items where {len(kinds)} belong")
        return tuple(read(kinds[0], item, _item_path(path, i, item)) for i, item in enumerate(value))
    if origin is dict:
        return {name: read(get_args(kind)[1], item, f"{path}.{name}") for name, item in _table(value, path).items()}
    if origin in (Union, types.UnionType):
        return _read_union([each for each in get_args(kind) if each is not type(None)], value, path)
    if is_dataclass(kind):
        return _read_dataclass(kind, value, path)
    return _read_plain(kind, value, path)


def _read_plain(kind: Any, value: Any, path: str) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ScenarioError(path, f"{value} where a finite number belongs")
        return float(value)
    if kind is not Any and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        names = {float: "a number", int: "a whole number", str: "text in quotes", bool: "true or false"}
        raise ScenarioError(path, f"{_said(value)} where {names.get(kind, kind.__name__)} belongs")
    return value


def _read_union(kinds: list[Any], value: Any, path: str) -> Any:
    tagged = {cls.kind: cls for cls in kinds if is_dataclass(cls)}
    shorthand = next((cls for cls in tagged.values() if hasattr(cls, "SHORTHAND")), None)
    if shorthand is not None and isinstance(value, int | float) and not isinstance(value, bool):
        value = {"kind": shorthand.kind, shorthand.SHORTHAND: value}
    table = dict(_table(value, path))
    names = list(tagged)
    if "kind" not in table:
        raise ScenarioError(path, f"needs a kind; there are {', '.join(names)}")
    name = table.pop("kind")
    if name not in tagged:
        text = f"no kind {name!r}; there are {', '.join(names)}{nearest(str(name), names)}"
        raise ScenarioError(f"{path}.kind", text)
    return _read_dataclass(tagged[name], table, path)


def _read_dataclass(cls: type, value: Any, path: str) -> Any:
    hints = _hints(cls)
    known = {field.name: field for field in fields(cls)}
    table = _table(value, path)
    for name in table:
        if name not in known:
            names = list(known)
            there = f"there are {', '.join(names)}" if names else "it takes none"
            raise ScenarioError(_join(path, name), f"no such key; {there}{nearest(name, names)}")
    for name, field in known.items():
        if name not in table and field.default is MISSING and field.default_factory is MISSING:
            raise ScenarioError(_join(path, name), "is missing")
    return cls(**{name: read(hints[name], item, _join(path, name)) for name, item in table.items()})


def _table(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ScenarioError(path, f"{_said(value)} where a table belongs")
    return value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _item_path(path: str, index: int, item: Any) -> str:
    name = item.get("name") if isinstance(item, dict) else None
    return f"{path}.{name}" if isinstance(name, str) and name else f"{path}.{index}"


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return repr(value)


def plain(value: Any) -> Any:
    """A dataclass as tables, lists and plain values, ``kind`` included: the inverse of :func:`read`."""
    if is_dataclass(value) and not isinstance(value, type):
        table = {"kind": value.kind} if hasattr(value, "kind") else {}
        return table | {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return value
