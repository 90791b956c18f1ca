"""From what a node of a World saw to a transcript, its bytes cut into arbitrary pieces."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from conformance.transcripts.world import Node
from dsdproto.connection import Side

Step = tuple[int, str, bytes]
"""(connection, "in", "out" or "lost", one frame)"""


def steps_of(node: Node) -> list[Step]:
    """What the node saw, with connections numbered from 0 in the order in which they came up."""
    numbers = {link: number for number, link in enumerate(node.sides)}
    return [(numbers[link], way, frame) for link, way, frame in node.log]


def transcript(node: Node, steps: Iterable[Step], seed: str) -> dict[str, Any]:
    """A transcript with the bytes cut where ``seed`` says."""
    connections = [
        {"side": "dialer" if side is Side.DIALER else "acceptor", "peer": peer.hex()}
        for side, peer in node.sides.values()
    ]
    pieces = [[connection, way, data.hex()] for connection, way, data in cut(list(steps), random.Random(seed))]
    return {"recorder": node.machine.hello.node_id.hex(), "connections": connections, "steps": pieces}


def cut(steps: list[Step], rng: random.Random) -> list[Step]:
    """The same bytes in other pieces: a frame's last byte keeps its place among all the others (clause F-4)."""
    out: list[Step] = []
    for connection, way, data in steps:
        if not data:
            out.append((connection, way, data))
        elif out and out[-1][:2] == (connection, way) and rng.random() < 0.4:
            out[-1] = (connection, way, out[-1][2] + data)
        elif rng.random() < 0.3:
            at = rng.randrange(1, len(data))
            early = (connection, way, data[:at])
            # The first piece may have come before something on another stream.
            before = len(out) - 1 if out and out[-1][:2] != (connection, way) and out[-1][1] != "lost" else len(out)
            out.insert(before if rng.random() < 0.5 else len(out), early)
            out.append((connection, way, data[at:]))
        elif len(data) < 40 and rng.random() < 0.05:
            out += [(connection, way, data[at : at + 1]) for at in range(len(data))]
        else:
            out.append((connection, way, data))
    return out
