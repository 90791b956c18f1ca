"""Faults drawn from the seed: which, where, how long. What was drawn stands in the case's notes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from conformance.chaos.network import Wire

if TYPE_CHECKING:
    from conformance.chaos.town import Node, Town

Act = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong for a while.

    :param begin, end: what to do; between them lie ``seconds``.
    """

    name: str
    begin: Act
    end: Act
    seconds: float


async def nothing() -> None:
    await trio.lowlevel.checkpoint()


def done(function: Callable[..., object], *arguments: object) -> Act:
    """A plain call as an act."""

    async def act() -> None:
        function(*arguments)
        await trio.lowlevel.checkpoint()

    return act


def of_wire(town: Town, wire: Wire) -> list[Fault]:
    """What can happen to a link; the nodes dial again afterwards."""
    rng = town.rng
    way = rng.choice(wire.ways)
    size = rng.randint(1, 600)
    late = rng.uniform(0.01, 0.05)
    return [
        Fault(f"{wire.name} reset", done(wire.cut), nothing, 0.0),
        Fault(f"{wire.name} closed", lambda: _call(wire.cut, reset=False), nothing, 0.0),
        Fault(f"{wire.name} half closed", done(wire.half_close, way), done(wire.cut), 0.3),
        Fault(f"{wire.name} cut after {size} bytes", done(wire.truncate, way, size), done(wire.free), 0.5),
        Fault(f"{wire.name} late", done(wire.slow, late, late), nothing, 0.0),
        Fault(f"{wire.name} in pieces", lambda: _call(wire.slow, piece=rng.randint(1, 40)), nothing, 0.0),
        Fault(f"{wire.name} silent", done(wire.hold), done(wire.free), rng.uniform(0.2, 3.0)),
        Fault(f"{wire.name} silent one way", done(wire.hold, way), done(wire.free), rng.uniform(0.2, 3.0)),
        Fault(f"{wire.name} gone", done(wire.part), done(wire.free), rng.uniform(0.1, 1.0)),
    ]


def of_node(town: Town, node: Node) -> list[Fault]:
    """What can happen to a node: killed and started again, cut off, with one of its links out of order."""
    rng = town.rng
    seconds = rng.uniform(0.3, 3.0)
    faults = [Fault(f"{node.name} cut off", done(node.isolate), done(node.rejoin), seconds)]
    if not node.shared:
        faults += 2 * [Fault(f"{node.name} killed", node.crash, node.start, seconds)]
    if node.around():
        faults.append(rng.choice(of_wire(town, rng.choice(node.around()))))
    return faults


async def one_after_the_other(
    town: Town,
    nodes: Sequence[Node],
    *,
    until: Callable[[], bool],
    most: int = 6,
    pause: tuple[float, float] = (0.2, 0.8),
    wires: Sequence[Wire] = (),
) -> list[str]:
    """Faults of these nodes and wires, one at a time, until ``until`` holds or ``most`` are over; then all is well."""
    story: list[str] = []
    for _ in range(most):
        if until():
            break
        of = [of_node(town, node) for node in nodes] + [of_wire(town, wire) for wire in wires]
        fault = town.rng.choice(town.rng.choice(of))
        gap = town.rng.uniform(*pause)
        story.append(f"{fault.name} ({fault.seconds:.1f} s)")
        town.tell("schedule", story[-1])
        await fault.begin()
        await trio.sleep(fault.seconds)
        await fault.end()
        await trio.sleep(gap)
    town.all_is_well()
    town.trial.note(f"seed {town.trial.seed}: {', '.join(story)}")
    return story


async def _call(function: Callable[..., object], **arguments: object) -> None:
    function(**arguments)
    await trio.lowlevel.checkpoint()
