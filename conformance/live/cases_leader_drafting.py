"""Drafters of every kind that keep the rules: a leader uses what fits, and the stream is the target's alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import trio

from conformance.live import hands
from conformance.live.cases_leader import leader_case, pace, solo, whole
from conformance.live.hands import ENDED, DrafterHand, DraftSession
from conformance.live.streams import open_stream
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import DetachReason, ErrorCode
from dsdproto.wire.messages import Error


async def _with_drafters(
    t: LiveTestee, *styles: hands.Style, max_tokens: int = 40, **options: Any
) -> list[DrafterHand]:
    """A session with one drafter of each style, from OPEN to END; everybody is let go at its end."""
    model = t.own_model()
    verifier = await hands.verifier(t, model, twist=pace(0.02))
    drafters = [await hands.drafter(t, model.drafter(60_000, n), style) for n, style in enumerate(styles, 1)]
    await whole(t, solo(t, max_tokens=max_tokens), origins=True, **options)
    await verifier.until(lambda: bool(verifier.released), "L-13", "no RELEASE after the end of the session")
    return drafters


@leader_case(
    "drafter-honest",
    "An honest drafter: its tokens are verified and become part of the stream",
    "S-17",
    "D-7",
    "D-18",
    "TRIE-8",
    "S-18",
)
async def drafter_honest(t: LiveTestee) -> None:
    (drafter,) = await _with_drafters(t, hands.honest)
    seat = drafter.seats[0]
    await drafter.until(lambda: seat.detached is not None, "L-13", "no DETACH after the end of the session")
    t.trial.expect("L-13", "another reason in DETACH than that the session has ended", ENDED, seat.detached)
    if not seat.nodes:
        t.trial.note("no draft came in time to be verified")


@leader_case(
    "drafter-lying",
    "A drafter that always says something else than the target changes nothing",
    "S-17",
    "TRIE-8",
    "D-5",
)
async def drafter_lying(t: LiveTestee) -> None:
    await _with_drafters(t, hands.lying)


@leader_case(
    "drafters-mixed", "Honest, lying and silent drafters together", "S-17", "TRIE-1", "TRIE-9", "TRIE-12", "S-19"
)
async def drafters_mixed(t: LiveTestee) -> None:
    await _with_drafters(t, hands.honest, hands.lying, hands.silent, hands.honest, max_tokens=60)


@leader_case(
    "drafter-equivocating",
    "A drafter that says different things below one prefix changes nothing",
    "S-17",
    "D-9",
    "TRIE-9",
)
async def drafter_equivocating(t: LiveTestee) -> None:
    async def style(hand: DrafterHand, seat: DraftSession) -> None:
        session = seat.session
        if seat.credit - seat.outstanding < 6:
            return
        await seat.propose((*session.other(session.tokens), 6, 7))
        await seat.propose(session.ahead(3))

    await _with_drafters(t, style)


@leader_case(
    "drafter-slow", "A drafter that is a step late: stale and wrong nodes are no errors", "S-17", "D-9", "TRIE-3", "L-6"
)
async def drafter_slow(t: LiveTestee) -> None:
    async def style(hand: DrafterHand, seat: DraftSession) -> None:
        session = seat.session
        base, draft = session.tokens, session.ahead(3)
        await trio.sleep(0.05)
        if seat.credit - seat.outstanding >= 3:
            await seat.propose(draft, base=base)

    drafters = await _with_drafters(t, style, max_tokens=30)
    t.trial.expect("D-9", "proposals that came late were answered with ERROR", [], drafters[0].errors)


@leader_case(
    "drafter-odd-but-legal",
    "Stale, wrong, orphaned, duplicate and unnameable bases are never an error",
    "D-9",
    "TRIE-2",
    "TRIE-3",
    "TRIE-4",
    "S-19",
)
async def drafter_odd(t: LiveTestee) -> None:
    async def style(hand: DrafterHand, seat: DraftSession) -> None:
        session = seat.session
        if seat.credit - seat.outstanding < 12:
            return
        ahead = session.ahead(2)
        await seat.propose(ahead)  # right
        await seat.propose(ahead)  # duplicates
        await seat.propose((4, 5), base=session.prompt)  # at or before the root
        await seat.propose((6,), base=(*session.tokens, *ahead, 9, 9))  # nobody knows it
        await seat.propose((7,), base=session.tokens[:1])  # within the prompt

    drafters = await _with_drafters(t, style, max_tokens=30)
    t.trial.expect("D-9", "legal proposals were answered with ERROR", [], drafters[0].errors)


@leader_case("drafter-trees", "Trees from several drafters that share nodes", "TRIE-1", "TRIE-12", "S-18", "S-17")
async def drafter_trees(t: LiveTestee) -> None:
    async def style(hand: DrafterHand, seat: DraftSession) -> None:
        session = seat.session
        if seat.credit - seat.outstanding < 6 or seat.attach.width < 2:
            await hands.honest(hand, seat)
            return
        a, b = session.ahead(2)
        x = session.other(session.tokens)[0]
        await seat.propose((a, x, b, 9), (0, 0, 1, 2))

    await _with_drafters(t, style, style)


@leader_case("drafter-dies", "A drafter that dies in the middle costs its drafts", "L-7", "S-17", "L-6")
async def drafter_dies(t: LiveTestee) -> None:
    async def style(hand: DrafterHand, seat: DraftSession) -> None:
        await hands.honest(hand, seat)
        if seat.session.position > len(seat.session.prompt) + 6:
            await hand.peer.hang_up()

    await _with_drafters(t, style)


@leader_case("drafter-refuses", "A drafter that refuses ATTACH is not asked again", "L-7", "D-13", "S-17")
async def drafter_refuses(t: LiveTestee) -> None:
    model = t.own_model()
    await hands.verifier(t, model, twist=pace(0.02))
    refusal = Error(code=int(ErrorCode.OVERLOADED), clause="D-2", text="no room, says the suite")
    drafter = await hands.drafter(t, model.drafter(), refuse=refusal)
    await whole(t, solo(t, max_tokens=16))
    t.trial.expect("D-13", "a drafter that refused was asked again", 1, len(drafter.seats))


@leader_case(
    "drafter-leaves", "A drafter that detached is not attached to the session again over the same link", "D-13", "S-17"
)
async def drafter_leaves(t: LiveTestee) -> None:
    from dsdproto.wire.messages import Detach

    async def style(hand: DrafterHand, seat: DraftSession) -> None:
        if seat.detached is None and seat.session.committed:
            seat.detached = int(DetachReason.LEAVING)
            await seat.peer.send(Detach(reason=int(DetachReason.LEAVING)), seat.channel)
        elif seat.detached is None:
            await hands.honest(hand, seat)

    (drafter,) = await _with_drafters(t, style, max_tokens=30)
    t.trial.expect("D-13", "a drafter that left was attached again", 1, len(drafter.seats))


@leader_case("drafter-of-another-vocabulary", "Drafters of another vocabulary are not attached", "S-3", "ROLE-1")
async def drafter_of_another_vocabulary(t: LiveTestee) -> None:
    model = t.own_model()
    await hands.verifier(t, model, twist=pace(0.01))
    other = replace(model, v=t.site.vocabulary())
    drafter = await hands.drafter(t, other.drafter())
    await whole(t, solo(t))
    t.trial.expect("S-3", "a drafter of another vocabulary was given the session", 0, len(drafter.seats))


@leader_case("drafters-at-most", "Never more drafters than the client allowed; with 0, none", "ROLE-1", "L-12")
async def drafters_at_most(t: LiveTestee) -> None:
    model = t.own_model()
    await hands.verifier(t, model, twist=pace(0.02))
    drafters = [await hands.drafter(t, model.drafter(60_000, n)) for n in (1, 2, 3)]
    for allowed in (0, 1, 2):
        before = [len(drafter.seats) for drafter in drafters]
        await whole(t, solo(t, max_tokens=16), max_drafters=allowed)
        used = sum(len(drafter.seats) > count for drafter, count in zip(drafters, before))
        if used > allowed:
            raise Failed("ROLE-1", "more drafters than the client allowed got the prompt", allowed, used)


@leader_case("drafter-comes-late", "A drafter that connects in the middle of a stream is attached", "L-12")
async def drafter_comes_late(t: LiveTestee) -> None:
    model = t.own_model()
    hand = await hands.verifier(t, model, twist=pace(0.05))
    stream = await open_stream(t, solo(t, max_tokens=40))
    await stream.start()
    await stream.step()
    drafter = await hands.drafter(t, model.drafter())
    await stream.finish()
    if not drafter.seats:
        raise Failed("L-12", "a drafter that came in the middle of the stream was not attached", "ATTACH", "nothing")
    assert hand.requests
