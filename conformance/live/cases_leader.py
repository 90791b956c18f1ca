"""Sections 11, 13 and 15: what a leader does with good neighbours. The stream is always that of the target alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import trio

from conformance.case import Rung, case
from conformance.live import hands
from conformance.live.hands import VerifierHand
from conformance.live.sessions import NO_PROFILE, Session, make_session
from conformance.live.streams import Stream, open_stream
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import ErrorCode, Finish, Role
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
