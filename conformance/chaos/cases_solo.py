"""Chaos around one leader: links that are late, slow, cut and silent; verifiers and drafters that die and come back."""

from __future__ import annotations

import trio

from conformance.chaos.registering import chaos_case
from conformance.chaos.town import Node, Town
from conformance.verdict import Failed
from dsdproto.registry import ErrorCode, Role

LATE = 0.015
"""Seconds that a piece is under way between leader and verifier, so that a stream takes its time."""


async def small(t: Town, *, verifier_crashes: bool = False, drafters: int = 0) -> tuple[Node, Node, list[Node]]:
    """A leader, its verifier over a slow link, and drafters."""
    leader = await t.node("a", Role.LEADER)
    verifier = await t.node("v", Role.VERIFIER, to=(leader,), crashes=verifier_crashes)
    verifier.wires["a"].slow(LATE)
    others = []
    for number in range(1, 1 + drafters):
        draft = t.model.drafter(52429, number).name
        others.append(await t.node(f"d{number}", Role.DRAFTER, to=(leader,), draft=draft))
    return leader, verifier, others


@chaos_case("rough-roads", "Late, jittery links reorder nothing between streams: six are exact", "S-17", "S-8", "L-7")
async def rough_roads(t: Town) -> None:
    leader, verifier, drafters = await small(t, drafters=2)
    for node in (verifier, *drafters):
        node.wires["a"].slow(t.rng.uniform(0.002, 0.02), jitter=t.rng.uniform(0.005, 0.03))
    readers = []
    for number in range(6):
        session = t.session(temperature=t.rng.choice((0, 52429, 80000)), max_tokens=t.rng.randint(20, 50))
        readers.append(await t.read(session, leader, max_drafters=number % 3))
    for reader in readers:
        await reader.finished()


@chaos_case("byte-by-byte", "Links that bring a byte at a time change nothing but the time it takes", "F-4", "S-17")
async def byte_by_byte(t: Town) -> None:
    leader = await t.node("a", Role.LEADER)
    for name, role in (("v", Role.VERIFIER), ("d", Role.DRAFTER)):
        node = await t.node(name, role, to=(leader,), start=False)
        node.wires["a"].slow(piece=1)
        await node.start()
    reader = t.reader(t.session(max_tokens=16))
    (await reader.wire(leader)).slow(piece=1)
    await t.begin(reader, leader)
    await reader.finished()
