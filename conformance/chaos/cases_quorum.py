"""Chaos around the commit group: leaders and voters that are killed, cut off and frozen. What a client saw, stays."""

from __future__ import annotations

import trio

from conformance.chaos import players
from conformance.chaos.players import Voice, either, voices
from conformance.chaos.reader import Reader
from conformance.chaos.registering import chaos_case
from conformance.chaos.schedule import one_after_the_other
from conformance.chaos.town import QUICK_MS, Node, Town
from conformance.live.sessions import Session
from conformance.verdict import Failed, Inconclusive
from dsdproto.registry import Role

LATE = 0.015
PACE = 0.03
Nodes = tuple[Node, ...]


async def group(t: Town, *, crashes: str = "") -> tuple[Nodes, Node]:
    """Nodes nodes that lead and vote, and a verifier that all of them can use, over slow links."""
    nodes = await t.voters(crashes=crashes)
    verifier = await t.node("v", Role.VERIFIER, to=nodes)
    for wire in verifier.wires.values():
        wire.slow(LATE)
    return nodes, verifier


async def choir(t: Town, *, crashes: str = "", **config: int) -> tuple[Nodes, list[Voice]]:
    """Nodes nodes that lead and vote. The first has a verifier that says one thing, the others one that says another:
    whoever loses what was committed, does not get it back by computing it again."""
    nodes = await t.voters(crashes=crashes, **config)
    spoken = voices(t)
    for node, voice in zip(nodes, (spoken[0], spoken[1], spoken[1])):
        await players.verifier(t, f"voice-{node.name}", node, voice, PACE)
    return nodes, spoken


def of_choir(t: Town, spoken: list[Voice], **changes: int) -> tuple[Session, dict[str, object]]:
    session = t.session(quorum=True, **changes)
    return session, {"says": either(session, spoken), "max_drafters": 0}


async def agreed(t: Town, reader: Reader, nodes: tuple[Node, ...], *, least: int = 1) -> None:
    """Every voter that is there delivers what the client has read, and ``least`` of them up to its END."""
    ends = 0
    for node in nodes:
        ends += await t.reader(reader.session, name=f"auditor-{node.name}").visit(reader, node)
    if ends < least:
        raise Inconclusive(f"{ends} voters knew the end of the stream in time")


def changed_hands(reader: Reader, before: int = 0) -> None:
    if reader.resumed == before:
        raise Inconclusive("the stream was complete before its leader was lost")


# ---------------------------------------------------------------- the leader is lost


@chaos_case(
    "leader-killed", "The leader is killed: the stream goes on at a voter, with nothing lost, changed or repeated",
    "Q-32", "Q-35", "Q-50", "S-8", "S-17",
)  # fmt: skip
async def leader_killed(t: Town) -> None:
    nodes, _ = await group(t, crashes="a")
    drafter = await t.node("d", Role.DRAFTER, to=nodes)
    readers = [await t.read(t.session(quorum=True), nodes[0], max_drafters=number) for number in (0, 2)]
    for reader in readers:
        await reader.reached(8)
    await nodes[0].crash()
    for reader in readers:
        await reader.finished()
        await agreed(t, reader, nodes)
    changed_hands(readers[0])
    await drafter.stop()


@chaos_case(
    "committed-stays", "The leader is killed and the next one's target would say something else: what was read stays",
    "Q-31", "Q-45", "S-8",
)  # fmt: skip
async def committed_stays(t: Town) -> None:
    nodes, spoken = await choir(t, crashes="a")
    session, how = of_choir(t, spoken)
    reader = await t.read(session, nodes[0], **how)
    await reader.reached(t.rng.randint(6, 20))
    await nodes[0].crash()
    await reader.finished()
    changed_hands(reader)
    await agreed(t, reader, nodes)


@chaos_case(
    "leader-cut-off",
    "The leader loses the other voters, not its client and verifier: it commits nothing more, and resigns",
    "Q-34", "Q-43", "Q-10", "S-8",
)  # fmt: skip
async def leader_cut_off(t: Town) -> None:
    (a, b, c), spoken = await choir(t, heartbeat_ms=QUICK_MS)
    session, how = of_choir(t, spoken, max_tokens=80)
    reader = await t.read(session, a, **how)
    await reader.reached(10)
    wires = (b.wires["a"], c.wires["a"])
    for wire in wires:
        wire.hold()
    await reader.reached(40)
    for wire in wires:
        wire.free()
    await reader.finished()
    changed_hands(reader)
    await agreed(t, reader, (a, b, c))


@chaos_case(
    "leader-frozen", "The leader's links are silent for a while; when it is back, another leads and it is not heard",
    "Q-10", "Q-13", "H-3", "S-8",
)  # fmt: skip
async def leader_frozen(t: Town) -> None:
    (a, b, c), spoken = await choir(t, heartbeat_ms=QUICK_MS)
    session, how = of_choir(t, spoken, max_tokens=80)
    reader = await t.read(session, a, silence=1.5, **how)
    await reader.reached(10)
    (await reader.wire(a)).hold()
    a.isolate()
    await reader.reached(30)
    (await reader.wire(a)).free()
    a.rejoin()
    await reader.finished()
    changed_hands(reader)
    await agreed(t, reader, (a, b, c))


@chaos_case(
    "leader-deaf", "The leader is heard and hears nobody: without votes it commits nothing",
    "Q-34", "Q-43", "H-3", "S-8",
)  # fmt: skip
async def leader_deaf(t: Town) -> None:
    (a, b, c), spoken = await choir(t, heartbeat_ms=QUICK_MS)
    session, how = of_choir(t, spoken, max_tokens=80)
    reader = await t.read(session, a, **how)
    await reader.reached(10)
    for wire in (b.wires["a"], c.wires["a"]):
        wire.hold(wire.there)
    await reader.reached(30)
    for wire in (b.wires["a"], c.wires["a"]):
        wire.free()
    await reader.finished()
    changed_hands(reader)
    await agreed(t, reader, (a, b, c))


@chaos_case(
    "leaders-in-turn", "One leader after the other is killed and comes back: a stream through all of their views",
    "Q-31", "Q-33", "Q-40", "Q-61", "S-8",
)  # fmt: skip
async def leaders_in_turn(t: Town) -> None:
    nodes, spoken = await choir(t, crashes="abc")
    session, how = of_choir(t, spoken, max_tokens=90)
    reader = await t.read(session, nodes[0], **how)
    for count, node in zip((8, 25, 45), nodes):
        await reader.reached(count)
        await node.crash()
        await reader.reached(count + 6)
        await node.start()
    await reader.finished()
    await agreed(t, reader, nodes)
    t.trial.note(f"views {reader.views}")


# ---------------------------------------------------------------- voters are lost


@chaos_case(
    "voter-restarts", "A voter is killed and comes back, again and again: the leader goes on, and catches it up",
    "Q-33", "L-7", "S-17", role=Role.VOTER,
)  # fmt: skip
async def voter_restarts(t: Town) -> None:
    nodes, _ = await group(t, crashes="b")
    reader = await t.read(t.session(quorum=True, max_tokens=120), nodes[0], max_drafters=0)
    for count in (10, 45):
        await reader.reached(count)
        await nodes[1].crash()
        await trio.sleep(0.3)
        await nodes[1].start()
    await reader.finished()
    if reader.resumed:
        raise Inconclusive("the leader lost its majority, though one voter at a time was away")
    await agreed(t, reader, nodes)


@chaos_case(
    "votes-survive", "Two voted and are killed at once; one of them comes back to the third: it still knows its vote",
    "Q-60", "Q-61", "Q-20", "S-8", role=Role.VOTER,
)  # fmt: skip
async def votes_survive(t: Town) -> None:
    """Neither the leader, which is gone, nor the third, which was away, has what the client read."""
    (a, b, c), spoken = await choir(t, crashes="ab")
    session, how = of_choir(t, spoken, max_tokens=80)
    reader = await t.read(session, a, **how)
    c.isolate()
    await reader.reached(30)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.crash)
        nursery.start_soon(b.crash)
    for wire in c.around():
        wire.cut()  # what was held is lost with the connection, or the third would have it after all
    c.rejoin()
    await b.start()
    await reader.finished()
    changed_hands(reader)
    await agreed(t, reader, (b, c))


@chaos_case(
    "everybody-restarts", "All voters are killed at once and come back: the stream goes on where the client is",
    "Q-60", "Q-61", "Q-40", "S-8", role=Role.VOTER,
)  # fmt: skip
async def everybody_restarts(t: Town) -> None:
    nodes, spoken = await choir(t, crashes="abc")
    session, how = of_choir(t, spoken, max_tokens=60)
    reader = await t.read(session, nodes[0], **how)
    await reader.reached(20)
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.crash)
    await t.start(*nodes)
    await reader.finished()
    await agreed(t, reader, nodes)


@chaos_case(
    "verifiers-come-late", "All voters restart and have no verifier at first: once they have, somebody takes over",
    "Q-40", "Q-61", "S-8",
)  # fmt: skip
async def verifiers_come_late(t: Town) -> None:
    """Each voter has had its turn by then, and nobody to take the session over with (clause Q-41)."""
    nodes = await t.voters(crashes="abc")
    spoken = voices(t)
    wires = []
    for node, voice in zip(nodes, (spoken[0], spoken[1], spoken[1])):
        wires.append((await players.verifier(t, f"voice-{node.name}", node, voice, PACE)).wire)
    session, how = of_choir(t, spoken, max_tokens=40)
    reader = await t.read(session, nodes[0], **how)
    await reader.reached(12)
    for wire in wires:
        wire.part()
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.crash)
    await t.start(*nodes)
    await trio.sleep(2.5)
    for wire in wires:
        wire.free()
    await reader.finished()
    await agreed(t, reader, nodes)


@chaos_case(
    "minority-waits", "With one voter of three nothing is committed; with the second one back the stream goes on",
    "Q-34", "Q-43", "Q-51", "S-8", role=Role.VOTER,
)  # fmt: skip
async def minority_waits(t: Town) -> None:
    (a, b, c), spoken = await choir(t, crashes="bc")
    session, how = of_choir(t, spoken, max_tokens=60)
    reader = await t.read(session, a, **how)
    await reader.reached(10)
    await b.crash()
    await c.crash()
    await trio.sleep(1.0)
    before = reader.count
    await trio.sleep(2.5)
    if reader.count > before:
        said = "tokens are delivered that a majority cannot have voted for: two of three voters are dead"
        raise Failed("Q-34", said, before, reader.count)
    await c.start()
    await reader.finished()
    await agreed(t, reader, (a, c))


@chaos_case(
    "verifier-lost-under-quorum", "The leader loses its verifier and the others have one: a later view goes on",
    "Q-43", "L-4", "S-8",
)  # fmt: skip
async def verifier_lost_under_quorum(t: Town) -> None:
    nodes, verifier = await group(t)
    reader = await t.read(t.session(quorum=True), nodes[0], max_drafters=0)
    await reader.reached(8)
    verifier.wires["a"].part()
    await reader.finished()
    await agreed(t, reader, nodes)


# ---------------------------------------------------------------- the end, and the client


@chaos_case(
    "end-survives", "The leader is killed about when the stream ends: there is one end, and every voter knows it",
    "Q-37", "Q-50", "S-10",
)  # fmt: skip
async def end_survives(t: Town) -> None:
    nodes, spoken = await choir(t, crashes="a")
    readers = []
    for _ in range(3):
        session, how = of_choir(t, spoken, max_tokens=20)
        readers.append(await t.read(session, nodes[0], **how))
    await readers[0].reached(t.rng.randint(17, 19))
    await trio.sleep(t.rng.uniform(0.0, 2 * PACE))
    await nodes[0].crash()
    for reader in readers:
        await reader.finished()
        await agreed(t, reader, nodes)


@chaos_case(
    "client-wanders", "A client is thrown from voter to voter: each goes on exactly where the one before it was",
    "Q-50", "Q-51", "S-8", "S-17", role=Role.VOTER,
)  # fmt: skip
async def client_wanders(t: Town) -> None:
    nodes, _ = await group(t)
    reader = await t.read(t.session(quorum=True, max_tokens=100), nodes[0], max_drafters=0)
    for count in range(8, 80, 12):
        await reader.reached(count)
        assert reader.at is not None
        (await reader.wire(reader.at)).cut(reset=t.rng.random() < 0.5)
        if t.rng.random() < 0.5:
            await t.reader(reader.session, name="auditor", silence=0.2).visit(reader, t.rng.choice(nodes))
    await reader.finished()
    changed_hands(reader)
    await agreed(t, reader, nodes)


@chaos_case(
    "client-stays-away", "The client of a quorum session is gone to its end and comes back: all of it is there",
    "Q-50", "Q-63", "S-17", role=Role.VOTER,
)  # fmt: skip
async def client_stays_away(t: Town) -> None:
    nodes, _ = await group(t)
    reader = await t.read(t.session(quorum=True, max_tokens=40), nodes[0], max_drafters=0)
    await reader.reached(6)
    for node in nodes:
        (await reader.wire(node)).part()
    await trio.sleep(3.0)
    for node in nodes:
        (await reader.wire(node)).free()
    await reader.finished()
    await agreed(t, reader, nodes)


# ---------------------------------------------------------------- everything


@chaos_case(
    "storm-of-voters", "Whatever the seed has in store for three voters, one at a time: what was read stays",
    "S-8", "Q-31", "Q-34", "Q-61", "L-7", role=Role.VOTER, timeout=120.0,
)  # fmt: skip
async def storm_of_voters(t: Town) -> None:
    nodes, spoken = await choir(t, crashes="abc", heartbeat_ms=QUICK_MS)
    readers = []
    for _ in range(3):
        session, how = of_choir(t, spoken, max_tokens=120)
        readers.append(await t.read(session, nodes[0], **how))
    await one_after_the_other(t, nodes, until=lambda: all(r.over for r in readers), most=5)
    for reader in readers:
        await reader.finished()
        await agreed(t, reader, nodes)


@chaos_case(
    "five-voters", "A group of five loses two, the leader first: three go on",
    "Q-1", "Q-34", "Q-31", "S-8", role=Role.VOTER,
)  # fmt: skip
async def five_voters(t: Town) -> None:
    nodes = await t.voters("abcde", crashes="ab", group_size=5)
    spoken = voices(t)
    for number, node in enumerate(nodes):
        await players.verifier(t, f"voice-{node.name}", node, spoken[min(number, 1)], PACE)
    session, how = of_choir(t, spoken, max_tokens=60)
    reader = await t.read(session, nodes[0], **how)
    size = len(reader.members)
    t.trial.expect("Q-1", "the group has another size than the leader is set to", 5, size)
    await reader.reached(10)
    await nodes[0].crash()
    await reader.reached(25)
    await nodes[1].crash()
    await reader.finished()
    changed_hands(reader)
    await agreed(t, reader, nodes)
