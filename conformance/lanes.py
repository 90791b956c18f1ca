"""Which live cases run side by side.

The nodes under test are one for each role, so that cases of different roles do not meet. Each role has a lane of its
own, as wide as ``jobs`` says; cases that must not meet each other (``serial``) have one of width 1 beside it, where
they delay nobody else. In a lane those begin first that want the node for themselves, then those that wait longest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from conformance.case import ALONE, Case, Rung


@dataclass
class Lane:
    width: int
    cases: list[Case] = field(default_factory=list)


def lanes(cases: Iterable[Case], jobs: int) -> list[Lane]:
    """Lanes in the order of their first case. Rung 4, where each case has nodes of its own, has one for all."""
    found: dict[tuple[object, ...], Lane] = {}
    for case in cases:
        serial = case.serial if case.serial != ALONE else ""
        key = (case.rung,) if case.rung is Rung.CHAOS else (case.rung, case.role, serial)
        found.setdefault(key, Lane(1 if serial else jobs)).cases.append(case)
    for lane in found.values():
        lane.cases.sort(key=lambda case: (case.serial != ALONE, -case.waits))
    return list(found.values())
