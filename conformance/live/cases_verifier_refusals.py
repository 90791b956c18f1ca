"""Section 11 as a verifier has to defend it: each ASSIGN that is refused ends one session and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from conformance.live.cases_verifier import require_short, verifier_case
from conformance.live.peer import Peer
from conformance.live.sessions import Session
from conformance.live.testee import LiveTestee
from conformance.live.verifying import assign
from conformance.verdict import Failed
from dsdproto.registry import ErrorCode, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import Assign

ELSEWHERE = "tm-1:v=8,s=99"
"""A target that the testee has not got."""


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
    asked=ELSEWHERE,
    model="",
)
_assign_refused(
    "two-models",
    "ASSIGN that names another model than its contract is refused",
    "S-5",
    ErrorCode.MODEL_UNAVAILABLE,
    asked=ELSEWHERE,
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


def _assign_other_model(name: str, title: str, named_well: bool) -> None:
    """The contract's own model is one that is not there, whatever ASSIGN names besides."""

    async def check(t: LiveTestee) -> None:
        session = await t.session()
        good = session.model.name if named_well else None
        session.contract = replace(session.contract, model=ELSEWHERE)

        async def act(peer: Peer) -> None:
            channel = await peer.open(assign_of(session, model=good))
            await peer.refused(channel, "S-5", ErrorCode.MODEL_UNAVAILABLE)

        await with_bystander(t, act)

    verifier_case(name, title, "S-5", "E-3", bracket=True)(check)


_assign_other_model("assign-other-model", "A contract for a model that is not there is refused", False)
_assign_other_model(
    "assign-other-model-and-good-one",
    "A contract for a model that is not there is refused, though ASSIGN names one that is",
    True,
)


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
