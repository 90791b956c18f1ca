"""Chaos around one leader: links that are late, slow, cut and silent; verifiers and drafters that die and come back."""

from __future__ import annotations

import trio

from conformance.chaos import players
from conformance.chaos.reader import Reader
from conformance.chaos.registering import chaos_case
from conformance.chaos.schedule import one_after_the_other
from conformance.chaos.town import QUICK_MS, Node, Town
from conformance.live import hands
from conformance.live.sessions import Model
from conformance.verdict import Failed, Inconclusive
from dsdproto.registry import ErrorCode, Role

LATE = 0.015
"""Seconds that a piece is under way between leader and verifier, so that a stream takes its time."""


async def small(
    t: Town, *, verifier_crashes: bool = False, drafters: int = 0, **config: int
) -> tuple[Node, Node, list[Node]]:
    """A leader, its verifier over a slow link, and drafters. ``config`` is the verifier's."""
    leader = await t.node("a", Role.LEADER)
    verifier = await t.node("v", Role.VERIFIER, to=(leader,), crashes=verifier_crashes, **config)
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


# ---------------------------------------------------------------- drafters


@chaos_case(
    "drafters-come-and-go", "Drafters die, fall silent and come back: the stream is what it is without them",
    "L-6", "L-7", "S-17", "TRIE-9", role=Role.DRAFTER,
)  # fmt: skip
async def drafters_come_and_go(t: Town) -> None:
    leader, verifier, _ = await small(t)
    mortal = await t.node("d1", Role.DRAFTER, to=(leader,), crashes=True)
    other = await t.node("d2", Role.DRAFTER, to=(leader,), draft=t.model.drafter(52429, 2).name)
    verifier.wires["a"].slow(2 * LATE)
    readers = [await t.read(t.session(max_tokens=150), leader) for _ in range(2)]
    await one_after_the_other(t, (mortal, other), until=lambda: all(r.over for r in readers), pause=(0.1, 0.4))
    for reader in readers:
        await reader.finished()
        t.trial.note(f"{reader.count} tokens, {len(reader.drafters)} drafters had a part in them")


@chaos_case("drafters-lie", "Drafters that lie in every way cost their own work only", "S-17", "D-9", "L-7", "S-18")
async def drafters_lie(t: Town) -> None:
    leader, _, _ = await small(t, drafters=1)

    async def liar(hand: hands.DrafterHand, seat: hands.DraftSession) -> None:
        session = seat.session
        room = seat.credit - seat.outstanding
        if room < 4:
            return
        wrong = (*session.other(session.tokens), 4, 5)
        match t.rng.randrange(5):
            case 0:
                await seat.propose(wrong)
            case 1:  # behind the verified prefix
                await seat.propose(wrong, base=session.prompt)
            case 2:  # a prefix that nobody ever said
                await seat.propose(wrong, base=(*session.tokens, *wrong))
            case 3:  # right first, and wrong from there on
                await seat.propose((session.say(session.tokens), *wrong))
            case _:  # more than it has credit for
                for _ in range(room // 3 + 2):
                    await seat.propose(wrong)

    liars = [await players.drafter(t, f"liar{number}", leader, liar) for number in range(3)]
    readers = [await t.read(t.session(max_tokens=80), leader) for _ in range(3)]
    for reader in readers:
        await reader.finished()
    seats = sum(len(player.hand.seats) for player in liars if player.hand)
    t.trial.note(f"liars were attached {seats} times")


# ---------------------------------------------------------------- verifiers


@chaos_case(
    "verifier-killed", "A verifier is killed: the session goes on at another one, the stream is the same",
    "L-4", "L-5", "S-17",
)  # fmt: skip
async def verifier_killed(t: Town) -> None:
    leader, first, _ = await small(t, verifier_crashes=True, drafters=1)
    reader = await t.read(t.session(), leader)
    second = await t.node("w", Role.VERIFIER, to=(leader,))
    second.wires["a"].slow(LATE)
    await reader.reached(10)
    await first.crash()
    await reader.finished()


@chaos_case("verifier-returns", "The only verifier is killed and comes back: the stream goes on", "L-4", "S-17")
async def verifier_returns(t: Town) -> None:
    leader, verifier, _ = await small(t, verifier_crashes=True)
    readers = [await t.read(t.session(), leader, max_drafters=0) for _ in range(2)]
    for count in (8, 25):
        await readers[0].reached(count)
        await verifier.crash()
        await verifier.start()
    for reader in readers:
        await reader.finished()


@chaos_case(
    "verifier-gone", "The only verifier is killed for good: the stream fails and does not end; then there is another",
    "L-4", "E-4",
)  # fmt: skip
async def verifier_gone(t: Town) -> None:
    leader, verifier, _ = await small(t, verifier_crashes=True)
    reader = await t.read(t.session(), leader)
    await reader.reached(8)
    await verifier.crash()
    await reader.settled()
    if reader.end is not None:
        raise Failed("E-4", "a stream without a verifier is reported as complete", "ERROR VERIFIER_LOST", reader.end)
    code = reader.errors[-1].code if reader.errors else "no ERROR"
    t.trial.expect("L-4", "the stream is given up with another code", int(ErrorCode.VERIFIER_LOST), code)
    await verifier.start()
    await (await t.read(t.session(max_tokens=8), leader)).finished()


@chaos_case(
    "verifier-of-another-model", "The verifier is lost and another model with its vocabulary is there: it has no say",
    "L-5", "S-14", "S-17",
)  # fmt: skip
async def verifier_of_another_model(t: Town) -> None:
    leader, verifier, _ = await small(t, verifier_crashes=True)
    reader = await t.read(t.session(model="", max_tokens=40), leader)
    stranger = Model(t.model.v, s=t.model.s + 1)
    await t.node("w", Role.VERIFIER, to=(leader,), target=stranger.name)
    await reader.reached(10)
    await verifier.crash()
    await trio.sleep(1.0)
    await verifier.start()
    await reader.finished()


@chaos_case(
    "verifier-silent", "A link to a verifier falls silent, both ways or one: it is lost, and another verifier goes on",
    "H-3", "L-4", "S-17",
)  # fmt: skip
async def verifier_silent(t: Town) -> None:
    leader, first, _ = await small(t, heartbeat_ms=QUICK_MS)
    readers = [await t.read(t.session(max_tokens=40), leader) for _ in range(2)]
    second = await t.node("w", Role.VERIFIER, to=(leader,), heartbeat_ms=QUICK_MS)
    second.wires["a"].slow(LATE)
    await readers[0].reached(8)
    wire = first.wires["a"]
    silent = t.rng.choice((wire.ways, (wire.there,), (wire.back,)))
    wire.hold(*silent)
    for reader in readers:
        await reader.finished()
    wire.free()
    await (await t.read(t.session(max_tokens=10), leader)).finished()


@chaos_case(
    "cut-within-frames", "Links end in the middle of a frame, again and again: lost connections, and nothing else",
    "F-5", "L-4", "L-7", "S-17",
)  # fmt: skip
async def cut_within_frames(t: Town) -> None:
    leader, verifier, (drafter,) = await small(t, drafters=1)
    reader = await t.read(t.session(max_tokens=120), leader)
    for node in (verifier, drafter, verifier, drafter, verifier):
        before = reader.count
        wire = node.wires["a"]
        lines = wire.opened
        wire.truncate(t.rng.choice(wire.ways), t.rng.randint(1, 300))
        async with t.within(15.0, "the link comes back"):
            while wire.opened == lines and not reader.over:
                await trio.sleep(0.02)
        await reader.reached(before + 6)
    t.all_is_well()
    await reader.finished()


# ---------------------------------------------------------------- clients


@chaos_case(
    "client-links-break", "Clients' links break in every way: each loses its own stream, nobody else's is disturbed",
    "L-7", "E-3", "E-4", "K-4", "F-5",
)  # fmt: skip
async def client_links_break(t: Town) -> None:
    leader, _, _ = await small(t)
    kinds = ("reset", "closed", "half closed", "cut within a frame", "silent")
    readers: list[Reader] = []
    bystander = await t.read(t.session(max_tokens=90), leader, name="bystander")
    for _ in kinds:
        readers.append(await t.read(t.session(max_tokens=90), leader))
    for kind, reader in zip(kinds, readers):
        await reader.reached(3)
        wire = await reader.wire(leader)
        match kind:
            case "reset":
                wire.part()
            case "closed":
                wire.cut(reset=False)
            case "half closed":
                wire.half_close(wire.there)
            case "cut within a frame":
                wire.truncate(wire.back, t.rng.randint(1, 40))
            case _:
                wire.hold()
    await bystander.finished()
    for kind, reader in zip(kinds, readers):
        if kind == "silent":
            (await reader.wire(leader)).free()
    for kind, reader in zip(kinds, readers):
        await reader.settled()
        if reader.end is not None and kind not in ("half closed", "silent"):
            raise Inconclusive(f"the stream was complete before its link was {kind}")
    # By clause S-20 a new session of the same contract says the same; it is read with the same judge.
    again = await t.read(t.twin(readers[0].session), leader, name="again")
    await again.finished()
    if again.tokens[: len(readers[0].tokens)] != readers[0].tokens:
        raise Failed("S-17", "the same contract gives another stream", readers[0].tokens, again.tokens)


@chaos_case(
    "client-stalls", "A client that takes nothing for a while gets everything afterwards; others do not wait for it",
    "S-8", "L-7", "F-4",
)  # fmt: skip
async def client_stalls(t: Town) -> None:
    leader, _, _ = await small(t)
    slow = await t.read(t.session(max_tokens=60), leader, name="slow")
    quick = await t.read(t.session(max_tokens=60), leader, name="quick")
    wire = await slow.wire(leader)
    for count in (5, 20):
        await slow.reached(count)
        wire.hold(wire.back)
        held = quick.count
        await trio.sleep(0.6)
        if quick.count == held and not quick.over:
            raise Inconclusive("nobody's stream went on meanwhile")
        wire.free()
    await quick.finished()
    await slow.settled()
    if slow.failure:
        raise Inconclusive(f"the link was given up sooner than clause H-3 says: {slow.failure}")
    await slow.finished()


# ---------------------------------------------------------------- leaders


@chaos_case(
    "solo-leader-killed", "A leader is killed: its streams fail and do not end; it comes back and says the same",
    "K-4", "E-4", "S-17",
)  # fmt: skip
async def solo_leader_killed(t: Town) -> None:
    leader = await t.node("a", Role.LEADER, crashes=True)
    verifier = await t.node("v", Role.VERIFIER, to=(leader,))
    verifier.wires["a"].slow(LATE)
    reader = await t.read(t.session(), leader)
    await reader.reached(10)
    await leader.crash()
    await reader.settled()
    if reader.end is not None:
        raise Failed("E-4", "a stream is complete whose leader was killed in the middle", "no END", reader.end)
    await leader.start()
    again = await t.read(t.twin(reader.session), leader, name="again")
    await again.finished()
    if again.tokens[: len(reader.tokens)] != reader.tokens:
        raise Failed("S-17", "the same contract gives another stream", reader.tokens, again.tokens)


@chaos_case(
    "two-leaders", "Verifier and drafter serve two leaders; one is killed and falls silent: the other's streams go on",
    "V-12", "E-3", "H-3", role=Role.VERIFIER,
)  # fmt: skip
async def two_leaders(t: Town) -> None:
    doomed = await t.node("a", Role.LEADER, crashes=True)
    other = await t.node("b", Role.LEADER)
    verifier = await t.node("v", Role.VERIFIER, to=(doomed, other))
    drafter = await t.node("d", Role.DRAFTER, to=(doomed, other))
    for leader in ("a", "b"):
        verifier.wires[leader].slow(LATE)
    lost = [await t.read(t.session(max_tokens=200), doomed, name="lost") for _ in range(2)]
    kept = [await t.read(t.session(max_tokens=120), other, max_drafters=number) for number in (0, 1, 2)]
    await lost[0].reached(5)
    for wire in (verifier.wires["a"], drafter.wires["a"]):
        wire.hold()
    await trio.sleep(0.3)
    await doomed.crash()
    for reader in kept:
        await reader.finished()
    for reader in lost:
        await reader.settled()
    t.all_is_well()
    await doomed.start()
    await (await t.read(t.session(max_tokens=20), doomed, name="back")).finished()


# ---------------------------------------------------------------- everything


@chaos_case(
    "storm", "Whatever the seed has in store for verifiers and drafters: four streams are exact",
    "S-17", "S-8", "L-4", "L-6", "L-7", timeout=120.0,
)  # fmt: skip
async def storm(t: Town) -> None:
    """One verifier stays well, so that no stream may fail."""
    leader, first, _ = await small(t, verifier_crashes=True, heartbeat_ms=QUICK_MS)
    steady = await t.node("w", Role.VERIFIER, to=(leader,))
    steady.wires["a"].slow(2 * LATE)
    mortal = await t.node("d1", Role.DRAFTER, to=(leader,), crashes=True, heartbeat_ms=QUICK_MS)
    other = await t.node("d2", Role.DRAFTER, to=(leader,), draft=t.model.drafter(40000, 2).name)
    readers = [await t.read(t.session(max_tokens=160), leader) for _ in range(4)]
    await one_after_the_other(
        t, (first, first, mortal, other), until=lambda: all(r.over for r in readers), most=8, pause=(0.1, 0.5)
    )
    for reader in readers:
        await reader.finished()
