"""Median and quartiles: how every timing is reported."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def spread(values: Sequence[float], places: int = 3) -> dict[str, float]:
    """``{"median", "q1", "q3"}`` of at least one value."""
    if len(values) < 2:
        low = middle = high = values[0]
    else:
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(middle, places), "q1": round(low, places), "q3": round(high, places)}


def spread_text(found: dict[str, float], unit: str = "") -> str:
    """For people: ``12.3 (11.9 to 13.0)``."""
    return f"{found['median']:g}{unit} ({found['q1']:g} to {found['q3']:g})"
