"""Bad neighbours of a leader: each costs what it owns, and the stream is that of the target all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import trio

from conformance.case import ALONE
from conformance.live import hands
from conformance.live.cases_leader import leader_case, pace, solo, whole
from conformance.live.hands import DrafterHand, DraftSession, VerifierHand, open_stream
from conformance.live.sessions import Session, make_session
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed, Unsupported
from dsdproto.registry import ErrorCode, Feature, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import (
    Assigned,
    Attach,
    Attached,
    Block,
    Close,
    Error,
    Open,
    Opened,
    Propose,
    Verdict,
    Verify,
)

VERDICT, PROPOSAL, INVALID = ErrorCode.VERDICT_INVALID, ErrorCode.PROPOSAL_INVALID, ErrorCode.MESSAGE_INVALID
UNEXPECTED = ErrorCode.MESSAGE_UNEXPECTED

# ---------------------------------------------------------------- OPEN


def _open_refused(name: str, title: str, clause: str, *codes: ErrorCode, serve: bool = True, **contract: Any) -> None:
    async def check(t: LiveTestee) -> None:
        model = t.own_model()
        if serve:
            await hands.verifier(t, model)
        changes = {key: value(model) if callable(value) else value for key, value in contract.items()}
        stream = await open_stream(t, solo(t, **changes))
        await stream.peer.refused(stream.channel, clause, *codes)
        await stream.peer.alive("E-3")
        if serve:
            await whole(t, solo(t, max_tokens=3), peer=stream.peer)

    leader_case(f"open-{name}", title, clause, "E-3", bracket=True)(check)


_open_refused("method", "A method that is reserved is refused", "S-4", ErrorCode.METHOD_UNSUPPORTED, method=2)
_open_refused(
    "method-odd",
    "An unknown odd method is refused as well",
    "S-4",
    ErrorCode.METHOD_UNSUPPORTED,
    method=0xC001,
)
_open_refused(
    "commit-profile",
    "A commit profile that is set aside is refused",
    "K-1",
    ErrorCode.COMMIT_PROFILE_UNSUPPORTED,
    commit_profile=4,
)
_open_refused(
    "commit-profile-odd",
    "An unknown odd commit profile is refused as well",
    "K-1",
    ErrorCode.COMMIT_PROFILE_UNSUPPORTED,
    commit_profile=0xC001,
)
_open_refused(
    "no-such-model",
    "A model that no verifier has is refused",
    "L-3",
    ErrorCode.MODEL_UNAVAILABLE,
    model="tm-1:v=8,s=9",
)
_open_refused(
    "vocabulary",
    "A vocabulary that no verifier has is refused",
    "S-3",
    ErrorCode.VOCABULARY_MISMATCH,
    ErrorCode.MODEL_UNAVAILABLE,
    vocabulary_digest=bytes(32),
)
_open_refused(
    "no-verifier",
    "Without a verifier that fits, OPEN is refused at once",
    "L-3",
    ErrorCode.MODEL_UNAVAILABLE,
    ErrorCode.VOCABULARY_MISMATCH,
    serve=False,
)


def _open_spoilt(name: str, title: str, clause: str, spoil: Callable[[dict[int, Any], Session], Any]) -> None:
    async def check(t: LiveTestee) -> None:
        await hands.verifier(t, t.own_model())
        session = solo(t)
        peer = await t.connect(Role.CLIENT)
        item = cbor.decode(
            encode_payload(Open(session=session.id, contract=session.contract, max_drafters=0, origins=0))
        )
        spoil(item, session)
        channel = peer.channel()
        await peer.frame(int(MessageType.OPEN), channel, cbor.encode(dict(sorted(item.items()))), f"wrong by {clause}")
        await peer.refused(channel, clause, INVALID)
        await whole(t, solo(t, max_tokens=3), peer=peer)

    leader_case(f"open-{name}", title, clause, "E-2", "E-3", bracket=True)(check)


def _contract(item: dict[int, Any], key: int, value: Any) -> None:
    item[2] = dict(sorted({**item[2], key: value}.items()))


def _outside(session: Session) -> bytes:
    return session.contract.vocabulary_size.to_bytes(3, "big")


_open_spoilt(
    "contract-odd-key",
    "A contract with an unknown odd key is refused",
    "S-12",
    lambda i, s: _contract(i, 63, 0),
)
_open_spoilt(
    "contract-even-key",
    "A contract with an unknown even key is refused",
    "S-12",
    lambda i, s: _contract(i, 64, 0),
)
_open_spoilt(
    "prompt-outside",
    "A prompt outside the vocabulary is refused",
    "R-7",
    lambda i, s: _contract(i, 1, _outside(s)),
)
_open_spoilt("prompt-empty", "An empty prompt is refused", "R-5", lambda i, s: _contract(i, 1, b""))
_open_spoilt("no-max-drafters", "OPEN without max_drafters is refused", "R-4", lambda i, s: i.pop(3))
_open_spoilt("origins-two", "`origins` is 0 or 1", "R-5", lambda i, s: i.update({4: 2}))
_open_spoilt("even-key", "An unknown even key in OPEN is refused", "R-1", lambda i, s: i.update({66: b""}))


@leader_case(
    "open-twice",
    "A session that is running already is refused, whoever opens it; it runs on",
    "S-1",
    "L-7",
    bracket=True,
)
async def open_twice(t: LiveTestee) -> None:
    await hands.verifier(t, t.own_model(), twist=pace(0.03))
    session = solo(t, max_tokens=12)
    stream = await open_stream(t, session)
    await stream.start()
    for peer in (await t.connect(Role.CLIENT), stream.peer):
        again = await open_stream(t, replace(session, committed=[]), peer=peer)
        await peer.refused(again.channel, "S-1", ErrorCode.SESSION_EXISTS)
    await stream.finish()


@leader_case(
    "client-says-wrong",
    "A client that says what only a leader says loses its session alone",
    "CH-6",
    "S-1",
    "E-3",
    bracket=True,
)
async def client_says_wrong(t: LiveTestee) -> None:
    await hands.verifier(t, t.own_model(), twist=pace(0.02))
    peer = await t.connect(Role.CLIENT)
    kept = await open_stream(t, solo(t, max_tokens=40), peer=peer)
    await kept.start()
    for message in (
        Block(position=3, tokens=(4,)),
        Opened(position=3, model="", profile=bytes(32), profile_text=""),
        Propose(position=3, base=bytes(16), tokens=(4,)),
    ):
        stream = await open_stream(t, solo(t, max_tokens=2000), peer=peer)
        await stream.start()
        await peer.send(message, stream.channel, "is not a client's to say", wild=True)
        while not isinstance((arrival := await peer.anything(stream.channel, "E-3", "ERROR")).message, Error):
            pass
        t.trial.expect("CH-6", "refused with another code", int(UNEXPECTED), arrival.message.code)
    await kept.finish()


# ---------------------------------------------------------------- verifiers

Lie = Callable[[Verdict, Session, Verify], Verdict]


def _lying_verifier(
    name: str, title: str, clause: str, lie: Lie, *codes: ErrorCode, more: tuple[str, ...] = ()
) -> None:
    """The liar answers wrong in its second round. It is told so, and a second verifier brings the stream to its end."""

    async def check(t: LiveTestee) -> None:
        model = t.own_model()

        async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Verdict:
            await trio.sleep(0.02)
            if request.round < 2:
                return right
            return lie(right, session, request)

        liar = await hands.verifier(t, model, twist=twist, connect={"name": "liar"})
        stream = await open_stream(t, solo(t, max_tokens=12))
        await liar.until(lambda: bool(liar.assigns), "L-1", "no ASSIGN")
        other = await hands.verifier(t, model, connect={"name": "honest-verifier"})
        await stream.start()
        await stream.finish()
        await liar.until(lambda: bool(liar.errors), clause, "a verdict that contradicts itself was not refused")
        if liar.errors[0].code not in codes:
            wanted = " or ".join(code.name for code in codes)
            raise Failed(clause, "a wrong verdict is refused with another code", wanted, liar.errors[0])
        _continued(other, stream.session)

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
        model = t.own_model()

        async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Any:
            return right if request.round < 2 else make(hand)

        liar = await hands.verifier(t, model, twist=twist, connect={"name": "liar"})
        stream = await open_stream(t, solo(t, max_tokens=12))
        await liar.until(lambda: bool(liar.assigns), "L-1", "no ASSIGN")
        other = await hands.verifier(t, model, connect={"name": "honest-verifier"})
        await stream.start()
        await stream.finish()
        await liar.until(lambda: bool(liar.errors), clause, "what is not a verifier's to say here was not refused")
        t.trial.expect(clause, "refused with another code", True, liar.errors[0].code in codes)
        _continued(other, stream.session)
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
    model = t.own_model()

    async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Verdict:
        await trio.sleep(0.02)
        if request.round == 2:
            await hand.peer.send(right, channel, "said twice", wild=True)
        return right

    liar = await hands.verifier(t, model, twist=twist, strict=False, connect={"name": "liar"})
    stream = await open_stream(t, solo(t, max_tokens=12))
    await liar.until(lambda: bool(liar.assigns), "L-1", "no ASSIGN")
    await hands.verifier(t, model, connect={"name": "honest-verifier"})
    await stream.start()
    await stream.finish()
    await liar.until(lambda: bool(liar.errors), "V-1", "a VERDICT that repeats the one before was not refused")
    if liar.errors[0].code not in (VERDICT, UNEXPECTED):
        raise Failed("V-1", "refused with another code", "VERDICT_INVALID or MESSAGE_UNEXPECTED", liar.errors[0])


def _verifier_fails(name: str, title: str, *clauses: str, how: Callable[[VerifierHand, int], Awaitable[None]]) -> None:
    async def check(t: LiveTestee) -> None:
        model = t.own_model()

        async def twist(hand: VerifierHand, channel: int, session: Session, request: Verify, right: Verdict) -> Any:
            await trio.sleep(0.02)
            if request.round < 3:
                return right
            await how(hand, channel)
            return None

        failing = await hands.verifier(t, model, twist=twist, connect={"name": "failing"})
        stream = await open_stream(t, solo(t, max_tokens=14))
        await failing.until(lambda: bool(failing.assigns), "L-1", "no ASSIGN")
        other = await hands.verifier(t, model, connect={"name": "other-verifier"})
        await stream.start()
        await stream.finish()
        _continued(other, stream.session)

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


# ---------------------------------------------------------------- drafters

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


@leader_case(
    "offer-without-role",
    "Models that a node offers without the role for them are not used, and end nothing",
    "C-9",
    "L-1",
    "L-7",
    bracket=True,
)
async def offer_without_role(t: LiveTestee) -> None:
    model = t.own_model()
    offers = (model.offer(), model.drafter().offer())
    pretender = await t.connect(Role.CLIENT, models=offers, name="pretender")
    await pretender.alive("H-2")
    stream = await open_stream(t, solo(t))
    await stream.peer.refused(stream.channel, "L-3", ErrorCode.MODEL_UNAVAILABLE, ErrorCode.VOCABULARY_MISMATCH)
    await hands.verifier(t, model)
    await whole(t, solo(t))
    await pretender.alive("C-9")


MANY = 1200
"""Sessions that are tried before a testee counts as one that is never full."""


@leader_case(
    "overloaded",
    "A leader that is full refuses with OVERLOADED; when a session ends there is room again",
    "L-2",
    "E-3",
    timeout=120.0,
    serial=ALONE,
)
async def overloaded(t: LiveTestee) -> None:
    """The verifier never answers, so that sessions stay where they are."""

    async def take(_: object) -> None:
        await trio.sleep_forever()

    await hands.verifier(t, t.own_model(), take=take, connect={"max_channels": 65535})
    peer = await t.connect(Role.CLIENT)
    streams = []
    for count in range(MANY):
        stream = await open_stream(t, solo(t), max_drafters=0, peer=peer)
        streams.append(stream)
        if count % 16 == 15:
            await peer.alive("H-2")
        refusals = [a for a in peer.arrivals if isinstance(a.message, Error)]
        if refusals:
            t.trial.expect("L-2", "refused with another code", int(ErrorCode.OVERLOADED), refusals[0].message.code)
            t.trial.note(f"full with about {count} sessions")
            break
    else:
        t.trial.note(f"{MANY} sessions were taken")
    for stream in streams:
        if stream.channel in peer.channels.open:
            await peer.send(Close(), stream.channel)
    await peer.alive("L-2")


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
