"""Verifiers that lie, fail or are lost: a leader finds another, or says so; the stream is the target's all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import trio

from conformance.live import hands
from conformance.live.cases_leader import leader_case, solo, whole
from conformance.live.hands import VerifierHand
from conformance.live.sessions import Session
from conformance.live.streams import open_stream
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import ErrorCode
from dsdproto.wire.messages import (
    Assigned,
    Error,
    Propose,
    Verdict,
    Verify,
)

VERDICT = ErrorCode.VERDICT_INVALID
UNEXPECTED = ErrorCode.MESSAGE_UNEXPECTED


Lie = Callable[[Verdict, Session, Verify], Verdict]


async def _passed_on(
    t: LiveTestee, twist: hands.Twist, *, max_tokens: int = 12, **how: Any
) -> tuple[VerifierHand, VerifierHand, Session]:
    """A session that begins at a verifier with this ``twist`` and is read to its end, where a good one is there as
    well, though later: (the first, the other, the session)."""
    model = t.own_model()
    first = await hands.verifier(t, model, twist=twist, connect={"name": "bad-verifier"}, **how)
    stream = await open_stream(t, solo(t, max_tokens=max_tokens))
    await first.until(lambda: bool(first.assigns), "L-1", "no ASSIGN")
    other = await hands.verifier(t, model, connect={"name": "good-verifier"})
    await stream.start()
    await stream.finish()
    return first, other, stream.session


async def _told(liar: VerifierHand, clause: str, what: str, *codes: ErrorCode) -> None:
    """It was refused with one of these codes."""
    await liar.until(lambda: bool(liar.errors), clause, f"{what} was not refused")
    if liar.errors[0].code not in codes:
        wanted = " or ".join(code.name for code in codes)
        raise Failed(clause, f"{what} is refused with another code", wanted, liar.errors[0])


def _lying_verifier(
    name: str, title: str, clause: str, lie: Lie, *codes: ErrorCode, more: tuple[str, ...] = ()
) -> None:
    """The liar answers wrong in its second round. It is told so, and a second verifier brings the stream to its end."""

    async def check(t: LiveTestee) -> None:
        async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Verdict:
            await trio.sleep(0.02)
            if request.round < 2:
                return right
            return lie(right, session, request)

        liar, other, session = await _passed_on(t, twist)
        await _told(liar, clause, "a verdict that contradicts itself", *codes)
        _continued(other, session)

    leader_case(f"verdict-{name}", title, clause, *more, "L-4", "L-9", "S-17", bracket=True)(check)


def _continued(other: VerifierHand, session: Session) -> None:
    """The second verifier was given the verified tokens (clause L-4)."""
    if not other.assigns:
        raise Failed("L-4", "the session was not assigned to the other verifier", "ASSIGN", "nothing")
    committed = other.assigns[0].committed
    if committed != tuple(session.committed[: len(committed)]):
        raise Failed("L-4", "`committed` of ASSIGN is not what was verified", session.committed, committed)


_lying_verifier(
    "digest", "A verdict with a wrong digest is refused", "V-6", lambda v, s, r: replace(v, digest=bytes(16)), VERDICT
)
_lying_verifier(
    "accepted",
    "A verdict that accepts a node that was not asked about is refused",
    "V-6",
    lambda v, s, r: replace(v, accepted=200),
    VERDICT,
)
_lying_verifier(
    "outside",
    "A verdict with a token outside the vocabulary is refused",
    "V-6",
    lambda v, s, r: replace(v, token=s.model.v, digest=s.digest_of((*s.tokens, s.model.v))[:16]),
    VERDICT,
)
_lying_verifier(
    "ends-too-early",
    "A verdict that ends the stream for no reason is refused",
    "V-6",
    lambda v, s, r: replace(v, finish=2),
    VERDICT,
    more=("S-9",),
)
_lying_verifier(
    "of-another-round",
    "A verdict on another round is refused",
    "V-2",
    lambda v, s, r: replace(v, round=r.round + 1),
    VERDICT,
)
_lying_verifier(
    "of-the-round-before",
    "A verdict that is replayed is refused",
    "V-2",
    lambda v, s, r: replace(v, round=r.round - 1),
    VERDICT,
)
_lying_verifier(
    "says-nothing",
    "A verdict without tokens is refused",
    "V-6",
    lambda v, s, r: replace(v, accepted=0, token=None, finish=0, digest=s.short),
    VERDICT,
)


def _verifier_says(name: str, title: str, clause: str, make: Callable[[VerifierHand], Any], *codes: ErrorCode) -> None:
    async def check(t: LiveTestee) -> None:
        async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Any:
            return right if request.round < 2 else make(hand)

        liar, other, session = await _passed_on(t, twist)
        await _told(liar, clause, "what is not a verifier's to say here", *codes)
        _continued(other, session)
        await liar.peer.alive("E-3")

    leader_case(f"verifier-{name}", title, clause, "L-4", "E-3", "S-17", bracket=True)(check)


_verifier_says("assigned-twice", "A second ASSIGNED is refused", "CH-7", lambda hand: hand.assigned(), UNEXPECTED)
_verifier_says(
    "proposes",
    "A verifier that proposes is refused",
    "CH-6",
    lambda hand: Propose(position=3, base=bytes(16), tokens=(4,)),
    UNEXPECTED,
)


@leader_case("verdict-unasked", "A VERDICT that nobody asked for is refused", "V-1", "L-4", "S-17", bracket=True)
async def verdict_unasked(t: LiveTestee) -> None:
    async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Verdict:
        await trio.sleep(0.02)
        if request.round == 2:
            await hand.peer.send(right, channel, "said twice", wild=True)
        return right

    liar, _, _ = await _passed_on(t, twist, strict=False)
    await _told(liar, "V-1", "a VERDICT that repeats the one before", VERDICT, UNEXPECTED)


def _verifier_fails(name: str, title: str, *clauses: str, how: Callable[[VerifierHand, int], Awaitable[None]]) -> None:
    async def check(t: LiveTestee) -> None:
        async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Any:
            await trio.sleep(0.02)
            if request.round < 3:
                return right
            await how(hand, channel)
            return None

        _, other, session = await _passed_on(t, twist, max_tokens=14)
        _continued(other, session)

    leader_case(f"verifier-{name}", title, *clauses, "S-17", "S-8")(check)


async def _die(hand: VerifierHand, channel: int) -> None:
    await hand.peer.hang_up()


async def _fail(hand: VerifierHand, channel: int) -> None:
    text = "the model failed, says the suite"
    await hand.peer.send(Error(code=int(ErrorCode.COMPUTE_FAILED), clause="V-8", text=text), channel)


async def _leave(hand: VerifierHand, channel: int) -> None:
    await hand.peer.leave()


_verifier_fails(
    "dies",
    "A verifier that dies: the session goes on at another one, where it was",
    "L-4",
    "L-7",
    how=_die,
)
_verifier_fails("fails", "A verifier whose model fails: the session goes on at another one", "L-4", "L-9", how=_fail)
_verifier_fails("leaves", "A verifier that says GOODBYE: the session goes on at another one", "L-4", "C-13", how=_leave)


@leader_case(
    "verifier-lost",
    "The last verifier is lost: VERIFIER_LOST in time, never an END",
    "L-4",
    "E-4",
    bracket=True,
    waits=10.0,
)
async def verifier_lost(t: LiveTestee) -> None:
    async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Any:
        if request.round < 2:
            return right
        await hand.peer.hang_up()
        return None

    await hands.verifier(t, t.own_model(), twist=twist)
    stream = await open_stream(t, solo(t))
    await stream.start()
    await stream.step()
    await stream.peer.refused(stream.channel, "L-4", ErrorCode.VERIFIER_LOST, within=30.0)


@leader_case("verifier-returns", "A verifier that comes while the session waits for one is used", "L-4", "S-17")
async def verifier_returns(t: LiveTestee) -> None:
    async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Any:
        if request.round < 3:
            return right
        await hand.peer.hang_up()
        return None

    model = t.own_model()
    first = await hands.verifier(t, model, twist=twist)
    stream = await open_stream(t, solo(t))
    await stream.start()
    await first.peer.over("L-4")
    await trio.sleep(0.2)
    other = await hands.verifier(t, model)
    await stream.finish()
    _continued(other, stream.session)


@leader_case(
    "verifier-refuses",
    "Every verifier refuses ASSIGN: the client is told the last one's code",
    "L-3",
    bracket=True,
)
async def verifier_refuses(t: LiveTestee) -> None:
    async def take(_: object) -> Error:
        return Error(code=int(ErrorCode.OVERLOADED), clause="V-9", text="no room, says the suite")

    hand = await hands.verifier(t, t.own_model(), take=take)
    stream = await open_stream(t, solo(t))
    await stream.peer.refused(stream.channel, "V-9", ErrorCode.OVERLOADED)
    t.trial.expect("L-9", "a verifier that refused was asked again", 1, len(hand.assigns))


@leader_case(
    "verifier-of-another-profile",
    "A verifier that answers with another profile than the contract's is refused",
    "S-6",
    "L-5",
    bracket=True,
)
async def verifier_of_another_profile(t: LiveTestee) -> None:
    model = t.own_model()

    async def take(_: object) -> Assigned:
        return Assigned(model=model.name, profile=bytes(31) + b"\7", profile_text="", max_nodes=3, max_context=4096)

    hand = await hands.verifier(t, model, take=take)
    stream = await open_stream(t, solo(t, profile=model.profile))
    await hand.until(lambda: bool(hand.errors), "S-6", "ASSIGNED with another numeric profile was not refused")
    t.trial.expect("S-6", "refused with another code", int(ErrorCode.PROFILE_MISMATCH), hand.errors[0].code)
    await stream.peer.expect(Error, stream.channel, "L-3")


@leader_case(
    "verifier-changes-profile",
    "After OPENED no verifier of another profile goes on with the stream",
    "L-5",
    "S-14",
    "L-4",
)
async def verifier_changes_profile(t: LiveTestee) -> None:
    model = t.own_model()

    async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Any:
        if request.round < 2:
            return right
        await hand.peer.hang_up()
        return None

    first = await hands.verifier(t, model, twist=twist)
    stream = await open_stream(t, solo(t))
    await stream.start()
    await first.peer.over("L-4")
    other = await hands.verifier(t, model, profile=bytes(31) + b"\7")
    await trio.sleep(0.3)
    if other.requests:
        raise Failed(
            "L-5", "a verifier of another numeric profile goes on with the stream", "nothing", other.requests[0]
        )
    await hands.verifier(t, model)
    await stream.finish()


@leader_case("verifier-times-lie", "Durations and rows that a verifier makes up decide no token", "V-13", "S-17")
async def verifier_times_lie(t: LiveTestee) -> None:
    async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Verdict:
        await trio.sleep(0.01)
        most = (1 << 32) - 1
        lies = {"compute_us": t.rng.choice((None, 0, most)), "rows": t.rng.choice((None, 0, most)), "queue_us": most}
        return replace(right, **lies)  # type: ignore[arg-type]

    model = t.own_model()
    await hands.verifier(t, model, twist=twist)
    await hands.drafter(t, model.drafter(60_000))
    await whole(t, solo(t, max_tokens=40))


@leader_case(
    "verifiers-two",
    "With two verifiers a session is verified at one of them at a time",
    "L-10",
    "L-1",
    "S-17",
)
async def verifiers_two(t: LiveTestee) -> None:
    busy: list[str] = []

    async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Verdict:
        if busy:
            raise Failed("L-10", "two VERIFY of one session are outstanding", busy[0], hand.peer.name)
        busy.append(hand.peer.name)
        await trio.sleep(0.01)
        busy.clear()
        return right

    model = t.own_model()
    first, second = [await hands.verifier(t, model, twist=twist) for _ in range(2)]
    await hands.drafter(t, model.drafter(60_000))
    await whole(t, solo(t, max_tokens=30))
    if first.assigns and second.assigns:
        raise Failed("L-1", "a session is assigned to two verifiers at once", "one", "two")
