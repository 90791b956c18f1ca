"""Sections 11, 14 and 9.2 as a verifier has to defend them: each refusal ends one session and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from conformance.case import ALONE
from conformance.live.cases_verifier import require_short, verifier_case
from conformance.live.peer import Peer
from conformance.live.sessions import Session
from conformance.live.testee import LiveTestee
from conformance.live.verifying import Assignment, assign
from conformance.verdict import Failed, Unsupported
from dsdproto.registry import ErrorCode, Feature, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_message, encode_payload
from dsdproto.wire.messages import Assign, Error, Verdict, Verify


async def with_bystander(t: LiveTestee, act: Callable[[Peer], Awaitable[None]]) -> None:
    """``act`` on a link where another session is at work, which must not notice (clauses E-3, L-7)."""
    peer = await t.connect(Role.LEADER)
    bystander = await assign(peer, await t.session(max_tokens=30))
    await bystander.ask()
    await act(peer)
    try:
        await bystander.ask(bystander.session.ahead(2))
        await bystander.ask()
    except Failed as failed:
        said = f"a session that had nothing to do with the refusal suffers: {failed.finding.said}"
        raise Failed("E-3", said, failed.finding.wanted, failed.finding.got) from failed


# ---------------------------------------------------------------- ASSIGN


def assign_of(session: Session, **changes: Any) -> Assign:
    return Assign(session=session.id, contract=session.contract, committed=tuple(session.committed), **changes)


def _assign_refused(
    name: str,
    title: str,
    clause: str,
    *codes: ErrorCode,
    more: tuple[str, ...] = (),
    asked: str | None = None,
    **contract: Any,
) -> None:
    """ASSIGN of a contract that differs from a good one in ``contract``; a callable is given the testee's model."""

    async def check(t: LiveTestee) -> None:
        tm1 = await t.model()
        changes = {key: value(tm1) if callable(value) else value for key, value in contract.items()}
        committed = changes.pop("committed", ())
        session = await t.session(**changes)
        session.extend(committed)

        async def act(peer: Peer) -> None:
            channel = await peer.open(assign_of(session, model=asked))
            await peer.refused(channel, clause, *codes)

        await with_bystander(t, act)

    verifier_case(f"assign-{name}", title, clause, *more, "E-3", bracket=True)(check)


_assign_refused(
    "vocabulary-digest",
    "Another vocabulary is refused",
    "S-3",
    ErrorCode.VOCABULARY_MISMATCH,
    vocabulary_digest=bytes(32),
)
_assign_refused(
    "vocabulary-size",
    "A vocabulary of another size is refused",
    "S-3",
    ErrorCode.VOCABULARY_MISMATCH,
    vocabulary_size=lambda model: model.v + 4,
)
_assign_refused("method", "A method that is reserved is refused", "S-4", ErrorCode.METHOD_UNSUPPORTED, method=2)
_assign_refused(
    "method-odd", "An unknown odd method is refused as well", "S-4", ErrorCode.METHOD_UNSUPPORTED, method=0xC001
)
_assign_refused(
    "model",
    "ASSIGN that names a model that is not there is refused",
    "S-5",
    ErrorCode.MODEL_UNAVAILABLE,
    asked="tm-1:v=8,s=99",
    model="",
)
_assign_refused(
    "profile", "Another numeric profile is refused", "S-6", ErrorCode.PROFILE_MISMATCH, profile=bytes(31) + b"\1"
)
_assign_refused(
    "ended-by-length",
    "A prefix that has ended already is refused: length",
    "V-9",
    ErrorCode.CONTRACT_INVALID,
    more=("S-9",),
    max_tokens=3,
    committed=(4, 5, 6),
)
_assign_refused(
    "ended-by-stop",
    "A prefix that has ended already is refused: stop token",
    "V-9",
    ErrorCode.CONTRACT_INVALID,
    more=("S-9",),
    stop_tokens=(6,),
    committed=(4, 5, 6),
)


@verifier_case("assign-other-model", "A contract for a model that is not there is refused", "S-5", "E-3", bracket=True)
async def assign_other_model(t: LiveTestee) -> None:
    session = await t.session()
    session.contract = replace(session.contract, model="tm-1:v=8,s=99")

    async def act(peer: Peer) -> None:
        channel = await peer.open(assign_of(session))
        await peer.refused(channel, "S-5", ErrorCode.MODEL_UNAVAILABLE)

    await with_bystander(t, act)


@verifier_case("assign-context-too-long", "A prefix that leaves no room is refused", "S-7", "E-3", bracket=True)
async def assign_context_too_long(t: LiveTestee) -> None:
    limit, model = await t.max_context(), await t.model()
    require_short(limit)
    session = await t.session(prompt=tuple(t.rng.randrange(4, model.v) for _ in range(limit)), max_tokens=5)

    async def act(peer: Peer) -> None:
        channel = await peer.open(assign_of(session))
        await peer.refused(channel, "S-7", ErrorCode.CONTEXT_TOO_LONG)

    await with_bystander(t, act)


def _assign_spoilt(name: str, title: str, clause: str, spoil: Callable[[dict[int, Any], Session], None]) -> None:
    """ASSIGN whose map was changed by hand: MESSAGE_INVALID, session scope (clause E-2)."""

    async def check(t: LiveTestee) -> None:
        session = await t.session()

        async def act(peer: Peer) -> None:
            item = cbor.decode(encode_payload(assign_of(session)))
            spoil(item, session)
            channel = peer.channel()
            await peer.frame(
                int(MessageType.ASSIGN), channel, cbor.encode(dict(sorted(item.items()))), f"wrong by {clause}"
            )
            await peer.refused(channel, clause, ErrorCode.MESSAGE_INVALID)

        await with_bystander(t, act)

    verifier_case(f"assign-{name}", title, clause, "E-2", "E-3", bracket=True)(check)


def _contract(key: int, value: Any) -> Callable[[dict[int, Any], Session], None]:
    def spoil(item: dict[int, Any], _: Session) -> None:
        item[2] = dict(sorted({**item[2], key: value}.items()))

    return spoil


def _sampling(key: int, value: Any) -> Callable[[dict[int, Any], Session], None]:
    def spoil(item: dict[int, Any], _: Session) -> None:
        item[2] = {**item[2], 2: dict(sorted({**item[2][2], key: value}.items()))}

    return spoil


def _ids(path: tuple[int, ...], count: int = 1) -> Callable[[dict[int, Any], Session], None]:
    def spoil(item: dict[int, Any], session: Session) -> None:
        outside = session.contract.vocabulary_size.to_bytes(3, "big") * count
        if path == (3,):
            item[3] = outside
        else:
            item[2] = {**item[2], path[1]: outside}

    return spoil


def _drop(key: int) -> Callable[[dict[int, Any], Session], None]:
    def spoil(item: dict[int, Any], _: Session) -> None:
        item.pop(key)

    return spoil


_assign_spoilt(
    "contract-odd-key",
    "A contract with an unknown odd key is refused: it would have another name",
    "S-12",
    _contract(11, 0),
)
_assign_spoilt("contract-even-key", "A contract with an unknown even key is refused", "S-12", _contract(64, b""))
_assign_spoilt("sampling-odd-key", "Sampling parameters with an unknown odd key are refused", "S-12", _sampling(7, 1))
_assign_spoilt("prompt-empty", "An empty prompt is refused", "R-5", _contract(1, b""))
_assign_spoilt("prompt-outside", "A prompt with an id outside the vocabulary is refused", "R-7", _ids((2, 1)))
_assign_spoilt("stop-outside", "A stop token outside the vocabulary is refused", "R-7", _ids((2, 4)))
_assign_spoilt("committed-outside", "A committed token outside the vocabulary is refused", "R-7", _ids((3,)))
_assign_spoilt(
    "stop-descends", "Stop tokens that do not ascend are refused", "R-6", _contract(4, bytes.fromhex("000006000005"))
)
_assign_spoilt(
    "stop-twice", "A stop token that is named twice is refused", "R-6", _contract(4, bytes.fromhex("000006000006"))
)
_assign_spoilt(
    "token-string",
    "A token string of a length that is no multiple of three is refused",
    "B-9",
    _contract(1, b"\0\0\x05\0"),
)
_assign_spoilt("top-p-zero", "top_p 0 is out of bounds", "R-5", _sampling(4, 0))
_assign_spoilt("no-contract", "ASSIGN without a contract is refused", "R-4", _drop(2))
_assign_spoilt("session-id", "A session id of 15 bytes is refused", "R-5", lambda item, _: item.update({1: bytes(15)}))


# ---------------------------------------------------------------- VERIFY


def _verify_refused(
    name: str,
    title: str,
    clause: str,
    make: Callable[[Assignment], Verify],
    *codes: ErrorCode,
    more: tuple[str, ...] = (),
    rounds: int = 1,
    **hello: Any,
) -> None:
    async def check(t: LiveTestee) -> None:
        session = await t.session(max_tokens=30)

        async def act(peer: Peer) -> None:
            work = await assign(peer, session)
            for _ in range(rounds):
                await work.ask(session.ahead(1))
            await peer.send(make(work), work.channel, f"wrong by {clause}")
            await peer.refused(work.channel, clause, *codes)
            # The channel is closed now: what comes on it crossed the ERROR.
            await peer.send(work.request(), work.channel, "on a channel that the testee has closed", wild=True)
            await peer.silent(work.channel, "CH-4", 0.1)

        await with_bystander(t, act)

    verifier_case(f"verify-{name}", title, clause, *more, "E-3", "CH-4", bracket=True)(check)


INVALID, UNKNOWN, PROPOSAL = ErrorCode.MESSAGE_INVALID, ErrorCode.PREFIX_UNKNOWN, ErrorCode.PROPOSAL_INVALID

_verify_refused(
    "round-skipped",
    "A round that is skipped is refused",
    "V-2",
    lambda w: replace(w.request(), round=w.round + 2),
    INVALID,
)
_verify_refused("round-zero", "Round 0 is refused", "V-2", lambda w: replace(w.request(), round=0), INVALID, rounds=0)
_verify_refused(
    "round-again",
    "A round that was answered already is refused",
    "V-2",
    lambda w: replace(w.request(), round=w.round),
    INVALID,
)
_verify_refused(
    "other-digest",
    "A base with another digest is refused",
    "V-4",
    lambda w: replace(w.request(), base=bytes(16)),
    UNKNOWN,
    more=("S-PFX-3",),
)
_verify_refused(
    "other-position",
    "The right digest at another position is refused, not corrected",
    "V-4",
    lambda w: replace(w.request(), position=w.session.position - 1),
    UNKNOWN,
    more=("S-PFX-3",),
)
_verify_refused(
    "stale-prefix",
    "A base that was the verifier's prefix one round ago is refused",
    "V-4",
    lambda w: replace(
        w.request(), position=w.session.position - 1, base=w.session.digest_of(w.session.tokens[:-1])[:16]
    ),
    UNKNOWN,
    more=("S-PFX-3",),
)
_verify_refused(
    "prefix-ahead",
    "A base that is not verified yet is refused",
    "V-4",
    lambda w: replace(
        w.request(),
        position=w.session.position + 1,
        base=w.session.digest_of(w.session.tokens + w.session.ahead(1))[:16],
    ),
    UNKNOWN,
)
_verify_refused(
    "token-outside",
    "A draft token outside the vocabulary is refused",
    "V-5",
    lambda w: w.request((4, w.session.contract.vocabulary_size)),
    PROPOSAL,
)



def _siblings(work: Assignment) -> Verify:
    if Feature.TREES not in work.peer.features:
        raise Unsupported("the testee takes no trees, and a chain has no siblings")
    return work.request((4, 5, 4), (0, 0, 0))


_verify_refused(
    "sibling-twice",
    "The same token twice below one node is refused",
    "V-5",
    _siblings,
    PROPOSAL,
    more=("S-SAMP-12",),
)
_verify_refused(
    "too-many-nodes",
    "More nodes than max_nodes are refused",
    "V-5",
    lambda w: w.request(tuple(4 + i for i in range(min(w.answer.max_nodes + 1, 255)))),
    PROPOSAL,
)


def _tree_spoilt(name: str, title: str, clause: str, tokens: tuple[int, ...], parents: bytes) -> None:
    async def check(t: LiveTestee) -> None:
        session = await t.session(max_tokens=30)

        async def act(peer: Peer) -> None:
            work = await assign(peer, session)
            item = cbor.decode(encode_payload(work.request(tokens)))
            await peer.frame(
                int(MessageType.VERIFY), work.channel, cbor.encode({**item, 6: parents}), f"wrong by {clause}"
            )
            await peer.refused(work.channel, clause, INVALID)

        await with_bystander(t, act)

    verifier_case(f"verify-{name}", title, clause, "E-2", "E-3", bracket=True)(check)


_tree_spoilt("parent-wild", "A parent that is no node is refused", "R-8", (4, 5, 6), bytes((0, 1, 200)))
_tree_spoilt("parent-itself", "A node that is its own parent is refused", "R-8", (4, 5, 6), bytes((0, 2, 1)))
_tree_spoilt("parent-cycle", "A cycle of parents is refused", "R-8", (4, 5, 6), bytes((0, 3, 2)))
_tree_spoilt("parents-short", "Fewer parents than tokens are refused", "R-8", (4, 5, 6), bytes((0, 1)))
_tree_spoilt("parents-long", "More parents than tokens are refused", "R-8", (4, 5, 6), bytes((0, 1, 2, 3)))


@verifier_case(
    "verify-trees-unagreed", "`parents` without the feature TREES is refused", "C-10", "V-5", "E-3", bracket=True
)
async def trees_unagreed(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER, features=(3, 5))
    kept = await assign(peer, await t.session(max_tokens=20))
    work = await assign(peer, await t.session())
    await work.ask(work.session.ahead(2))
    await peer.send(work.request((4, 5), (0, 0)), work.channel, "parents without TREES")
    await peer.refused(work.channel, "C-10", INVALID)
    await kept.ask(kept.session.ahead(2))


@verifier_case("verify-beyond-context", "A path beyond max_context is refused", "V-5", bracket=True)
async def beyond_context(t: LiveTestee) -> None:
    limit, model = await t.max_context(), await t.model()
    require_short(limit)
    peer = await t.connect(Role.LEADER)
    session = await t.session(prompt=tuple(t.rng.randrange(4, model.v) for _ in range(limit - 2)), max_tokens=50)
    work = await assign(peer, session)
    await peer.send(work.request((4, 5, 6)), work.channel)
    await peer.refused(work.channel, "V-5", PROPOSAL)


@verifier_case(
    "verify-no-cbor",
    "Bytes that are no CBOR end the connection, also on the channel of a session",
    "E-2",
    "B-4",
    bracket=True,
)
async def verify_no_cbor(t: LiveTestee) -> None:
    for payload in ("bf0101ff", "a1017800", "a1"):
        peer = await t.connect(Role.LEADER)
        work = await assign(peer, await t.session())
        await peer.frame(MessageType.VERIFY, work.channel, bytes.fromhex(payload), "no CBOR of this protocol")
        await peer.refused(0, "E-2", ErrorCode.CBOR_NOT_DETERMINISTIC, ErrorCode.CBOR_MALFORMED)


@verifier_case("verify-while-waiting", "A second VERIFY before the VERDICT is refused", "V-3", "E-3", bracket=True)
async def while_waiting(t: LiveTestee) -> None:
    """Where the testee is so quick that the verdict is out before, the second one has a round or a base too old."""
    seen = set()
    for _ in range(5):
        peer = await t.connect(Role.LEADER)
        kept = await assign(peer, await t.session(max_tokens=20))
        work = await assign(peer, await t.session())
        twice = encode_message(work.channel, work.request(work.session.ahead(2))) * 2
        await peer.raw(twice, "the same VERIFY twice, in one piece")
        while True:
            arrival = await peer.anything(work.channel, "V-3", "ERROR")
            if isinstance(arrival.message, Error):
                break
            if not isinstance(arrival.message, Verdict) or arrival.message.round != 1:
                raise Failed("V-3", "something else than one VERDICT and an ERROR", "ERROR", arrival.message)
        if arrival.message.code not in (ErrorCode.OVERLOADED, INVALID, UNKNOWN):
            raise Failed("V-3", "the second VERIFY is refused with another code", "OVERLOADED", arrival.message)
        seen.add(arrival.message.code)
        await kept.ask()
    if ErrorCode.OVERLOADED not in seen:
        t.trial.note("each VERDICT was out before the second VERIFY was judged: OVERLOADED was not seen")


@verifier_case(
    "verify-after-finish", "VERIFY after a VERDICT with `finish` is refused", "V-3", "V-1", "E-3", bracket=True
)
async def after_finish(t: LiveTestee) -> None:
    async def act(peer: Peer) -> None:
        work = await assign(peer, await t.session(max_tokens=2))
        await work.ask(work.session.ahead(2))
        await peer.send(work.request(), work.channel, "the stream has ended")
        await peer.refused(work.channel, "V-3", ErrorCode.MESSAGE_UNEXPECTED)

    await with_bystander(t, act)


@verifier_case(
    "verify-replayed", "A VERIFY that is replayed after its VERDICT is refused", "V-2", "V-4", "E-3", bracket=True
)
async def replayed(t: LiveTestee) -> None:
    async def act(peer: Peer) -> None:
        work = await assign(peer, await t.session())
        request = work.request(work.session.ahead(2))
        await peer.send(request, work.channel, grease=False)
        await work.judge(work.session.ahead(2))
        await work.ask()
        await peer.send(request, work.channel, "replayed", grease=False)
        await peer.refused(work.channel, "V-2", INVALID, UNKNOWN)

    await with_bystander(t, act)


MANY = 600
"""Sessions that are tried before a testee counts as one that is never full."""


@verifier_case(
    "overloaded",
    "A verifier that is full refuses with OVERLOADED; the sessions that it took go on",
    "V-9",
    "E-3",
    timeout=120.0,
    serial=ALONE,
)
async def overloaded(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    first = await assign(peer, await t.session(max_tokens=20))
    for count in range(1, MANY):
        session = await t.session(max_tokens=20)
        channel = await peer.open(assign_of(session))
        arrival = await peer.anything(channel, "V-9", "ASSIGNED or OVERLOADED")
        if isinstance(arrival.message, Error):
            t.trial.expect("V-9", "refused with another code", int(ErrorCode.OVERLOADED), arrival.message.code)
            await first.ask(first.session.ahead(2))
            await first.release()
            await peer.alive("H-2")
            await assign(peer, await t.session())
            t.trial.note(f"full with {count} sessions")
            return
    t.trial.note(f"{MANY} sessions were taken")
