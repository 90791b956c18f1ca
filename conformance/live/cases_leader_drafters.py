"""Drafters that break rules: each costs its drafts, and the stream is that of the target all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from conformance.live import hands
from conformance.live.cases_leader import leader_case, pace, solo
from conformance.live.hands import DrafterHand, DraftSession, VerifierHand
from conformance.live.sessions import Session, make_session
from conformance.live.streams import open_stream
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed, Unsupported
from dsdproto.registry import ErrorCode, Feature, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import (
    Attach,
    Attached,
    Propose,
    Verdict,
    Verify,
)

PROPOSAL, INVALID = ErrorCode.PROPOSAL_INVALID, ErrorCode.MESSAGE_INVALID
UNEXPECTED = ErrorCode.MESSAGE_UNEXPECTED


Act = Callable[[DrafterHand, DraftSession], Awaitable[None]]


def _bad_drafter(
    name: str, title: str, clause: str, act: Act, *codes: ErrorCode, more: tuple[str, ...] = (), **connect: Any
) -> None:
    """The drafter misbehaves once while a VERIFY is held back; it loses its channel, and nobody else notices."""

    async def check(t: LiveTestee) -> None:
        model = t.own_model()
        done = trio.Event()

        async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Verdict:
            if request.round == 2:
                with trio.move_on_after(t.trial.seconds(8.0)):
                    await done.wait()
            return right

        async def style(hand: DrafterHand, seat: DraftSession) -> None:
            if seat.session.committed:
                await act(hand, seat)
                hand.style = hands.silent

        verifier = await hands.verifier(t, model, twist=twist)
        drafter = await hands.drafter(t, model.drafter(), style, connect=connect)
        good = await hands.drafter(t, model.drafter(60_000, 2), connect={"name": "good-drafter"})
        stream = await open_stream(t, solo(t, max_tokens=16))
        await stream.start()
        await verifier.until(lambda: len(verifier.requests) >= 2, "L-6", "no second VERIFY")
        await drafter.until(lambda: bool(drafter.errors), clause, "what a drafter may not do was not refused")
        done.set()
        error = drafter.errors[0]
        if error.code not in codes:
            raise Failed(clause, "refused with another code", " or ".join(code.name for code in codes), error)
        await drafter.peer.alive("E-3")
        await stream.finish()
        t.trial.expect("D-13", "a drafter that was put aside was attached again", 1, len(drafter.seats))
        t.trial.expect("L-7", "another drafter suffered", [], good.errors)

    leader_case(f"drafter-{name}", title, clause, *more, "E-3", "L-7", "S-17", bracket=True)(check)


async def _outside_vocabulary(hand: DrafterHand, seat: DraftSession) -> None:
    await seat.propose((hand.model.v,))


async def _siblings(hand: DrafterHand, seat: DraftSession) -> None:
    if Feature.TREES not in seat.peer.features:
        raise Unsupported("the testee takes no trees, and a chain has no siblings")
    await seat.propose((4, 5, 4), (0, 0, 0))


async def _tree(hand: DrafterHand, seat: DraftSession) -> None:
    await seat.propose((4, 5), (0, 0))


async def _wild_parent(hand: DrafterHand, seat: DraftSession) -> None:
    message = Propose(position=seat.session.position, base=seat.session.short, tokens=(4, 5))
    item = {**cbor.decode(encode_payload(message)), 4: bytes((0, 9))}
    await seat.peer.frame(
        int(MessageType.PROPOSE), seat.channel, cbor.encode(dict(sorted(item.items()))), "wild parent"
    )


async def _cycle(hand: DrafterHand, seat: DraftSession) -> None:
    message = Propose(position=seat.session.position, base=seat.session.short, tokens=(4, 5, 6))
    item = {**cbor.decode(encode_payload(message)), 4: bytes((0, 3, 2))}
    await seat.peer.frame(int(MessageType.PROPOSE), seat.channel, cbor.encode(dict(sorted(item.items()))), "a cycle")


async def _short_scores(hand: DrafterHand, seat: DraftSession) -> None:
    message = Propose(position=seat.session.position, base=seat.session.short, tokens=(4, 5, 6))
    item = {**cbor.decode(encode_payload(message)), 5: bytes(2)}
    await seat.peer.frame(int(MessageType.PROPOSE), seat.channel, cbor.encode(item), "two scores for three tokens")


async def _beyond_credit(hand: DrafterHand, seat: DraftSession) -> None:
    left = seat.credit + 1
    while left > 0:
        count = min(left, 200)
        left -= count
        await seat.propose(tuple(4 + i % (hand.model.v - 8) for i in range(count)))


async def _useless_flood(hand: DrafterHand, seat: DraftSession) -> None:
    """Messages that bring no new node: each repeats one node that the trie holds, within the credit as it counts."""
    session = seat.session
    for _ in range(400):
        await seat.peer.send(
            Propose(position=len(session.prompt), base=session.digest_of(session.prompt)[:16], tokens=(4,)),
            seat.channel,
        )


async def _attached_again(hand: DrafterHand, seat: DraftSession) -> None:
    await seat.peer.send(Attached(model=hand.model.name), seat.channel, wild=True)


async def _verdict(hand: DrafterHand, seat: DraftSession) -> None:
    await seat.peer.send(Verdict(round=1, accepted=0, token=4, digest=bytes(16), margin=0), seat.channel, wild=True)


_bad_drafter(
    "token-outside",
    "A proposed token outside the vocabulary is refused",
    "D-4",
    _outside_vocabulary,
    PROPOSAL,
)
_bad_drafter("sibling-twice", "The same token twice below one node is refused", "D-3", _siblings, PROPOSAL)
_bad_drafter("parent-wild", "A parent that is no node is refused", "R-8", _wild_parent, INVALID, more=("D-3",))
_bad_drafter("parent-cycle", "A cycle of parents is refused", "R-8", _cycle, INVALID, more=("D-3",))
_bad_drafter("scores-short", "Fewer scores than tokens are refused", "R-8", _short_scores, INVALID)
_bad_drafter(
    "beyond-credit",
    "More nodes than the credit allows are refused",
    "D-6",
    _beyond_credit,
    ErrorCode.CREDIT_EXCEEDED,
)
_bad_drafter(
    "useless-flood",
    "Proposals without end that bring nothing new are refused",
    "D-19",
    _useless_flood,
    ErrorCode.FLOODED,
    ErrorCode.CREDIT_EXCEEDED,
)
_bad_drafter("attached-twice", "A second ATTACHED is refused", "CH-7", _attached_again, UNEXPECTED)
_bad_drafter("says-verdict", "A drafter that gives a verdict is refused", "CH-6", _verdict, UNEXPECTED, more=("D-1",))
_bad_drafter(
    "trees-unagreed",
    "`parents` without the feature TREES is refused",
    "C-10",
    _tree,
    INVALID,
    features=(3, 5),
)


@leader_case("drafter-before-attached", "PROPOSE before ATTACHED is refused", "CH-7", "D-14", "E-3", bracket=True)
async def before_attached(t: LiveTestee) -> None:
    model = t.own_model()
    await hands.verifier(t, model, twist=pace(0.05))
    peer = await t.connect(Role.DRAFTER, models=(model.drafter().offer(),))
    stream = await open_stream(t, solo(t))
    channel, attach = await peer.opening(Attach, "L-1")
    session = make_session(t.rng, model)
    await peer.send(Propose(position=len(attach.contract.prompt), base=session.short, tokens=(4,)), channel, wild=True)
    await peer.refused(channel, "CH-7", UNEXPECTED)
    await stream.start()
    await stream.finish()
