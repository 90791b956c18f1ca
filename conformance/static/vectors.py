"""Vectors as files: written in a short form, read in full.

A vector has ``id`` (permanent), ``revision``, ``clauses``, ``title``, ``request`` (without its number), ``expect``
(``ok`` or ``error`` with ``layer`` and ``code``), sometimes ``intermediates``, ``level`` and ``compare``. In files a
long value may be written as ``{"$repeat": [value, n]}`` (a string n times over, or a list of n equal values) and
``{"$join": [parts]}`` (strings or lists, one behind the other).
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from conformance.static.wirebytes import number_json

VECTORS = Path(__file__).parents[1] / "vectors"
LONG = 600
"""Strings of so many characters are searched for repetitions."""
RUN = re.compile(r"([0-9a-f]{2})\1{200,}|([0-9a-f]{4})\2{150,}|([0-9a-f]{6})\3{100,}|(.)\4{400,}", re.DOTALL)

Vector = dict[str, Any]


def vector(
    name: str,
    title: str,
    clauses: str,
    request: dict[str, Any],
    *,
    ok: dict[str, Any] | None = None,
    error: tuple[str, str] | str | None = None,
    intermediates: dict[str, Any] | None = None,
    level: str = "",
    compare: str = "",
    revision: int = 1,
) -> Vector:
    """One vector; ``error`` is (layer, code), or a layer whose refusals have no code."""
    if (ok is None) == (error is None):
        raise ValueError(f"{name}: either ok or error")
    if error is None:
        expect: dict[str, Any] = {"ok": ok}
    else:
        layer, code = (error, "") if isinstance(error, str) else error
        expect = {"error": {"layer": layer, **({"code": code} if code else {})}}
    out: Vector = {"id": name, "revision": revision, "clauses": clauses.split(), "title": title}
    if level:
        out["level"] = level
    out |= {"request": request, "expect": expect}
    if compare:
        out["compare"] = compare
    if intermediates:
        out["intermediates"] = intermediates
    return out


def compute(function: str, **values: Any) -> dict[str, Any]:
    """A request for a function of `compute`; integers beyond 2^53-1 become decimal strings."""
    return {"verb": "compute", "function": function, "input": numbers(values)}


def numbers(value: Any) -> Any:
    """The same with integers beyond 2^53-1 as decimal strings, bytes in hexadecimal."""
    if isinstance(value, dict):
        return {key: numbers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [numbers(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return number_json(value)
    return value


# ---------------------------------------------------------------- the short form


def shorten(value: Any) -> Any:
    """Replaces long repetitions."""
    if isinstance(value, dict):
        return {key: shorten(inner) for key, inner in value.items()}
    if isinstance(value, str) and len(value) >= LONG:
        return _short_text(value)
    if isinstance(value, list):
        if len(value) > 64 and all(inner == value[0] for inner in value):
            return {"$repeat": [shorten(value[0]), len(value)]}
        return [shorten(inner) for inner in value]
    return value


def _short_text(text: str) -> Any:
    """The first long run of one or three bytes (or of a character), and what stands around it."""
    match = RUN.search(text)
    if match is None:
        return text
    unit = next(group for group in match.groups() if group)
    start, times = match.start(), len(match[0]) // len(unit)
    parts = [text[:start], {"$repeat": [unit, times]}, text[start + times * len(unit) :]]
    return {"$join": [part for part in parts if part]}


def expand(value: Any) -> Any:
    """The inverse of :func:`shorten`."""
    if isinstance(value, dict):
        if set(value) == {"$repeat"}:
            unit, times = value["$repeat"]
            unit = expand(unit)
            return unit * times if isinstance(unit, str) else [unit] * times
        if set(value) == {"$join"}:
            parts = [expand(part) for part in value["$join"]]
            if all(isinstance(part, str) for part in parts):
                return "".join(parts)
            return [inner for part in parts for inner in part]
        return {key: expand(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [expand(inner) for inner in value]
    return value


# ---------------------------------------------------------------- files


def document(name: str, vectors: list[Vector], kind: str = "vectors") -> str:
    """The text of a file: one vector a line."""
    lines = ",\n".join(json.dumps(shorten(each), ensure_ascii=True) for each in vectors)
    about = json.dumps(f"DSDP test {kind}: {name}. See README.md")
    return f'{{"about": {about}, "revision": 1, "{kind}": [\n{lines}\n]}}\n'


@cache
def load(name: str, directory: Path = VECTORS, kind: str = "vectors") -> tuple[Vector, ...]:
    """The vectors of one file, in full."""
    return tuple(expand(json.loads((directory / f"{name}.json").read_text())[kind]))


def files(directory: Path = VECTORS) -> list[str]:
    return sorted(path.stem for path in directory.glob("*.json"))
