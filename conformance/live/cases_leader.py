"""Sections 11, 13 and 15: what a leader does with good neighbours. The stream is always that of the target alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import trio

from conformance.case import Rung, case
from conformance.live import hands
from conformance.live.hands import ENDED, DrafterHand, DraftSession, Stream, VerifierHand, open_stream
from conformance.live.sessions import NO_PROFILE, Session, make_session
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import DetachReason, ErrorCode, Finish, Role
from dsdproto.wire.messages import Block, Close, End, Error, Verdict, Verify


def leader_case(name: str, title: str, *clauses: str, **more: object):  # type: ignore[no-untyped-def]
    """A case of rung 3 for a leader under test."""
    return case(f"leader/{name}", title, clauses=clauses, rung=Rung.LIVE, role=Role.LEADER, **more)  # type: ignore[arg-type]


def solo(t: LiveTestee, **changes: Any) -> Session:
    """A session in a vocabulary that only this case uses."""
    return make_session(t.rng, t.own_model(), **changes)


async def whole(t: LiveTestee, session: Session, **options: Any) -> Stream:
    """From OPEN to END."""
    stream = await open_stream(t, session, **options)
    await stream.start()
    await stream.finish()
    return stream


def pace(seconds: float) -> hands.Twist:
    """A verifier that takes its time, so that drafts have some too."""

    async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Verdict:
        await trio.sleep(seconds)
        return right

    return twist


# ---------------------------------------------------------------- the target alone


@leader_case(
    "solo-greedy", "A solo session without drafters, temperature 0", "S-17", "S-8", "S-10", "L-6", "K-4", "S-7", "L-1"
)
async def solo_greedy(t: LiveTestee) -> None:
    hand = await hands.verifier(t, t.own_model())
    session = solo(t, temperature=0)
    await whole(t, session, max_drafters=0)
    hands.same_contract(hand.assigns[0], session)
    drafted = [request for request in hand.requests if request.tokens]
    t.trial.expect("L-6", "VERIFY with drafts although there is no drafter", [], drafted)
    await hand.until(lambda: bool(hand.released), "L-13", "no RELEASE after the end of the session")


@leader_case("solo-warm", "Solo sessions at several temperatures", "S-17", "S-12", "S-2")
async def solo_warm(t: LiveTestee) -> None:
    await hands.verifier(t, t.own_model())
    for changes in ({"temperature": 40_000}, {"temperature": 90_000, "top_k": 2}, {"top_p": 30_000}):
        await whole(t, solo(t, **changes))


@leader_case("stop-token", "A stop token ends the stream and is its last token", "S-9", "S-8", "S-10")
async def stop_token(t: LiveTestee) -> None:
    await hands.verifier(t, t.own_model())
    plain = solo(t)
    stop = (plain.stream()[0][5],)
    session = Session(plain.id, replace(plain.contract, stop_tokens=stop), plain.model)
    await whole(t, session)


@leader_case("context-full", "A full context ends the stream with CONTEXT_FULL", "S-9", "TRIE-11")
async def context_full(t: LiveTestee) -> None:
    model = t.own_model()
    session = solo(t, max_tokens=100)
    room = session.position + 9
    hand = await hands.verifier(t, model, max_context=room)
    await hands.drafter(t, model.drafter())
    session.max_context = room
    stream = await whole(t, session)
    assert stream.end is not None
    t.trial.expect("S-9", "the stream ends for another reason", int(Finish.CONTEXT_FULL), stream.end.finish)
    hands.same_contract(hand.assigns[0], session)


@leader_case(
    "contract-unchanged", "Contract and session id are handed on as the client wrote them", "S-12", "S-13", "L-12"
)
async def contract_unchanged(t: LiveTestee) -> None:
    model = t.own_model()
    verifier = await hands.verifier(t, model, twist=pace(0.05))
    drafter = await hands.drafter(t, model.drafter())
    session = solo(t, model="", stop_tokens=(1, 2, 3), max_tokens=9, top_k=3, seed=(1 << 64) - 5)
    await whole(t, session)
    hands.same_contract(verifier.assigns[0], session)
    if not drafter.seats:
        raise Failed("L-12", "a drafter of the session's vocabulary was not attached", "ATTACH", "nothing")
    hands.same_contract(drafter.seats[0].attach, session)


@leader_case("with-profile", "A contract with a numeric profile: OPENED names it", "S-14", "S-6", "S-16")
async def with_profile(t: LiveTestee) -> None:
    model = t.own_model()
    await hands.verifier(t, model)
    await whole(t, solo(t, profile=model.profile))


@leader_case("without-profile", "A verifier that claims no profile: OPENED has 32 zero bytes", "S-14", "S-16", "L-5")
async def without_profile(t: LiveTestee) -> None:
    await hands.verifier(t, t.own_model(), profile=NO_PROFILE)
    stream = await whole(t, solo(t))
    assert stream.opened is not None
    t.trial.expect("S-14", "OPENED claims a profile that nobody claimed", NO_PROFILE, stream.opened.profile)


@leader_case("two-sessions", "Sessions of two clients beside each other, and two of one client", "L-7", "S-17", "V-3")
async def two_sessions(t: LiveTestee) -> None:
    model = t.own_model()
    await hands.verifier(t, model, twist=pace(0.01))
    await hands.drafter(t, model.drafter())
    streams = [await open_stream(t, solo(t, max_tokens=20)) for _ in range(2)]
    streams.append(await open_stream(t, solo(t, max_tokens=20), peer=streams[0].peer))
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(_start_and_finish, stream)


async def _start_and_finish(stream: Stream) -> None:
    await stream.start()
    await stream.finish()


# ---------------------------------------------------------------- drafters, of all kinds


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


# ---------------------------------------------------------------- what a peer can take


@leader_case("max-nodes", "VERIFY has at most max_nodes nodes; with 0, none", "V-5", "TRIE-11")
async def max_nodes(t: LiveTestee) -> None:
    for bound in (0, 2):
        model = replace(t.own_model(), v=t.site.vocabulary())
        await hands.verifier(t, model, max_nodes=bound, twist=pace(0.02))
        await hands.drafter(t, model.drafter(65_000))
        await whole(t, make_session(t.rng, model, max_tokens=20))


@leader_case(
    "chains-for-the-old",
    "A verifier and a drafter without TREES get chains, and are asked for chains",
    "C-10",
    "V-5",
    "D-15",
)
async def chains_for_the_old(t: LiveTestee) -> None:
    model = t.own_model()
    await hands.verifier(t, model, twist=pace(0.02), connect={"features": (3, 5)})
    await hands.drafter(t, model.drafter(60_000, 1), connect={"features": ()})
    await hands.drafter(t, model.drafter(60_000, 2))
    await whole(t, solo(t, max_tokens=30))


@leader_case("origins", "Origins where they were asked for and agreed, and nowhere else", "S-18", "C-10", "C-8")
async def origins(t: LiveTestee) -> None:
    model = t.own_model()
    await hands.verifier(t, model, twist=pace(0.02))
    await hands.drafter(t, model.drafter(65_000))
    for asked, features in ((True, (1, 3, 5)), (False, (1, 3, 5)), (True, (1, 3))):
        await whole(t, solo(t, max_tokens=16), origins=asked, features=features)


@leader_case("max-channels", "No more channels at once than the peer takes", "CH-5")
async def max_channels(t: LiveTestee) -> None:
    model = t.own_model()
    await hands.verifier(t, model, twist=pace(0.02))
    await hands.drafter(t, model.drafter(), connect={"max_channels": 1})
    streams = [await open_stream(t, solo(t, max_tokens=16)) for _ in range(3)]
    for stream in streams:
        await stream.start()
        await stream.finish()


@leader_case(
    "max-payload",
    "No frame beyond the peer's max_payload: a long prompt is refused with CONTEXT_TOO_LONG",
    "L-11",
    "F-2",
    bracket=True,
)
async def max_payload(t: LiveTestee) -> None:
    hand = await hands.verifier(t, t.own_model(), max_context=1 << 20, connect={"max_payload": 65536})
    session = solo(t, prompt=tuple(t.rng.randrange(4, t.own_model().v) for _ in range(30_000)))
    stream = await open_stream(t, session)
    await stream.peer.refused(stream.channel, "L-11", ErrorCode.CONTEXT_TOO_LONG)
    longest = max((len(a.frame.payload) for a in hand.peer.arrivals), default=0)
    if longest > 65536:
        raise Failed("F-2", "a payload beyond this peer's max_payload", 65536, longest)


# ---------------------------------------------------------------- the client's part


@leader_case(
    "close", "CLOSE is answered with END, finish CLOSED, at the last block; everybody is let go", "S-15", "S-10", "L-13"
)
async def close(t: LiveTestee) -> None:
    model = t.own_model()
    hand = await hands.verifier(t, model, twist=pace(0.05))
    drafter = await hands.drafter(t, model.drafter())
    stream = await open_stream(t, solo(t, max_tokens=500))
    await stream.start()
    await stream.step()
    await stream.peer.send(Close(), stream.channel)
    end = await stream.finish()
    t.trial.expect("S-15", "END after CLOSE says another reason", int(Finish.CLOSED), end.finish)
    await hand.until(lambda: bool(hand.released), "L-13", "no RELEASE after CLOSE")
    if drafter.seats:
        seat = drafter.seats[0]
        await drafter.until(lambda: seat.detached is not None, "L-13", "no DETACH after CLOSE")


@leader_case("close-before-opened", "CLOSE before OPENED: an empty stream", "S-15", "S-10", "L-13")
async def close_before_opened(t: LiveTestee) -> None:
    hold = trio.Event()

    async def take(_: object) -> None:
        await hold.wait()

    hand = await hands.verifier(t, t.own_model(), take=take)
    stream = await open_stream(t, solo(t))
    await hand.until(lambda: bool(hand.assigns), "L-1", "no ASSIGN")
    await stream.peer.send(Close(), stream.channel)
    end = await stream.peer.expect(End, stream.channel, "S-15")
    wanted = (int(Finish.CLOSED), stream.session.position, stream.session.digest)
    t.trial.expect("S-15", "END does not name the empty stream", wanted, (end.finish, end.position, end.digest))


@leader_case("close-crosses-end", "CLOSE that crosses END is ignored", "S-15", "CH-4")
async def close_crosses_end(t: LiveTestee) -> None:
    await hands.verifier(t, t.own_model())
    stream = await whole(t, solo(t, max_tokens=3))
    await stream.peer.send(Close(), stream.channel, wild=True)
    await stream.peer.silent(stream.channel, "CH-4", 0.1)
    await stream.peer.alive("CH-4")


@leader_case(
    "client-gone", "The client's link is lost: a solo session ends, everybody is let go", "L-13", "L-14", "L-7"
)
async def client_gone(t: LiveTestee) -> None:
    model = t.own_model()
    hand = await hands.verifier(t, model, twist=pace(0.05))
    drafter = await hands.drafter(t, model.drafter())
    stream = await open_stream(t, solo(t, max_tokens=2000))
    await stream.start()
    await stream.step()
    await stream.peer.hang_up()
    await hand.until(lambda: bool(hand.released), "L-13", "no RELEASE after the client's link was lost")
    seats = drafter.seats[:1]
    await drafter.until(
        lambda: all(s.detached is not None for s in seats), "L-13", "no DETACH after the client was lost"
    )


@leader_case(
    "client-gives-up", "ERROR of the client ends its session, and is not answered", "S-20", "E-6", "E-5", "L-13"
)
async def client_gives_up(t: LiveTestee) -> None:
    hand = await hands.verifier(t, t.own_model(), twist=pace(0.05))
    for count, code in enumerate((0x0122, 0x7FFE), 1):
        stream = await open_stream(t, solo(t, max_tokens=2000))
        await stream.start()
        await stream.peer.send(Error(code=code, clause="S-20", text="made up by the suite"), stream.channel)
        wanted = count
        await hand.until(lambda n=wanted: len(hand.released) >= n, "L-13", "no RELEASE after the client gave up")
        await stream.peer.alive("E-6")
        answers = [m for m in stream.peer.waiting(stream.channel) if not isinstance(m, Block)]
        t.trial.expect("E-6", "ERROR was answered", [], answers)
