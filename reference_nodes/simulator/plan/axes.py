"""Which values a sweep goes through: ``link.rtt=0.01,0.03`` or ``window.size=1:8``, and the grid of several of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from reference_nodes.simulator.plan.schema import ScenarioError

MOST = 10_000
"""Values of one axis."""
_OPEN, _CLOSE, _QUOTES = "[{", "]}", "\"'"


@dataclass(frozen=True, slots=True)
class Axis:
    """A key of the scenario and the values that it takes, as they would be written after ``--set key=``."""

    key: str
    values: tuple[str, ...]


def axis_of(text: str) -> Axis:
    """Read ``key=a,b,c`` or ``key=first:last`` or ``key=first:last:step``; the last value is included.

    A comma inside brackets or quotes belongs to its value: ``window={kind="static", size=4},{kind="adaptive"}``.

    Raises ScenarioError.
    """
    key, equals, listed = text.partition("=")
    key = key.strip()
    if not equals or not key or not listed.strip():
        raise ScenarioError(
            "--over", f"{text!r} is no axis; one is key=a,b,c or key=1:8, for example link.rtt=0.01,0.03"
        )
    values: list[str] = []
    for part in split(listed):
        if not part:
            raise ScenarioError("--over", f"{text!r} has an empty value between two commas")
        values.extend(_range(key, part) or (part,))
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ScenarioError("--over", f"{key} takes the value {twice} twice")
    return Axis(key, tuple(values))


def split(text: str) -> list[str]:
    """At commas that are not inside brackets or quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for index, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in _QUOTES:
            quote = letter
        elif letter in _OPEN:
            depth += 1
        elif letter in _CLOSE:
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    return [*parts, text[start:].strip()]


def _range(key: str, part: str) -> tuple[str, ...] | None:
    """The values of ``first:last`` or ``first:last:step``; None where a part is not all numbers."""
    pieces = part.split(":")
    if len(pieces) not in (2, 3):
        return None
    try:
        first, last, *rest = map(Decimal, pieces)
    except InvalidOperation:
        return None
    step = rest[0] if rest else Decimal(1)
    if not all(number.is_finite() for number in (first, last, step)) or step <= 0 or last < first:
        raise ScenarioError("--over", f"{key}: {part} has no values; a range is first:last:step, upwards")
    count = int((last - first) / step) + 1
    if count > MOST:
        raise ScenarioError("--over", f"{key}: {part} has {count} values, more than {MOST}")
    return tuple(format((first + number * step), "f") for number in range(count))


def grid(axes: Sequence[Axis]) -> list[dict[str, str]]:
    """Every combination, the last axis fastest. Raises ScenarioError for two axes with one key."""
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise ScenarioError("--over", f"{key} is swept twice; give all its values at once")
    return [dict(zip(keys, values)) for values in itertools.product(*(axis.values for axis in axes))]
