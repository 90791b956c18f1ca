"""What a drafter has to refuse: each refusal ends one session and nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from conformance.case import ALONE
from conformance.live.cases_drafter import drafter_case, settle
from conformance.live.drafting import Attachment, attach
from conformance.live.peer import Peer
from conformance.live.sessions import Session
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed, Skipped
from dsdproto.registry import ErrorCode, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import Advance, Attach, Detach, Error, Propose

INVALID = ErrorCode.ADVANCE_INVALID


async def with_bystander(t: LiveTestee, act: Callable[[Peer], Awaitable[None]]) -> None:
    """``act`` on a link where another session is at work, which must not notice (clause E-3)."""
    peer = await t.connect(Role.LEADER)
    bystander = await attach(peer, await t.session(max_tokens=80), await t.model(), credit=6)
    await bystander.works()
    await act(peer)
    try:
        await bystander.advance(bystander.session.other(bystander.session.tokens))
        await bystander.works()
    except Failed as failed:
        said = f"a session that had nothing to do with the refusal suffers: {failed.finding.said}"
        raise Failed("E-3", said, failed.finding.wanted, failed.finding.got) from failed


CREDIT_AT_MOST = 64
"""No drafter of these cases is given more."""


async def refused(peer: Peer, channel: int, clause: str, *codes: ErrorCode) -> None:
    """As Peer.refused, but proposals may still be on their way: as many as there is credit for."""
    nodes = 0
    while True:
        arrival = await peer.anything(channel, clause, "ERROR")
        if isinstance(arrival.message, Propose):
            nodes += len(arrival.message.tokens)
            if nodes > CREDIT_AT_MOST:
                raise Failed(clause, "the drafter goes on as if nothing had been wrong", "ERROR", arrival.message)
            continue
        peer._inbox.insert(0, arrival)
        await peer.refused(channel, clause, *codes)
        return


def attach_of(session: Session, **changes: Any) -> Attach:
    values: dict[str, Any] = {"credit": 16, "window": 4, "width": 1, **changes}
    return Attach(session=session.id, contract=session.contract, committed=tuple(session.committed), **values)


# ---------------------------------------------------------------- ATTACH


def _attach_refused(name: str, title: str, clause: str, code: ErrorCode, **contract: Any) -> None:
    async def check(t: LiveTestee) -> None:
        model = await t.model()
        changes = {key: value(model) if callable(value) else value for key, value in contract.items()}
        session = await t.session(**changes)

        async def act(peer: Peer) -> None:
            channel = await peer.open(attach_of(session))
            await peer.refused(channel, clause, code)

        await with_bystander(t, act)

    drafter_case(f"attach-{name}", title, clause, "E-3", bracket=True)(check)


MISMATCH = ErrorCode.VOCABULARY_MISMATCH
_attach_refused("vocabulary-digest", "Another vocabulary is refused", "S-3", MISMATCH, vocabulary_digest=bytes(32))
_attach_refused(
    "vocabulary-size",
    "A vocabulary of another size is refused",
    "S-3",
    MISMATCH,
    vocabulary_size=lambda model: model.v + 4,
)
_attach_refused("method", "A method that is reserved is refused", "S-4", ErrorCode.METHOD_UNSUPPORTED, method=2)
_attach_refused(
    "method-odd", "An unknown odd method is refused too", "S-4", ErrorCode.METHOD_UNSUPPORTED, method=0xC001
)


@drafter_case("attach-context-too-long", "A prefix that leaves no room is refused", "D-2", "E-3", bracket=True)
async def attach_context_too_long(t: LiveTestee) -> None:
    limit, model = await t.max_context(), await t.model()
    if limit > 1 << 17:
        raise Skipped(f"max_context is {limit}; the suite fills contexts of at most {1 << 17} tokens")
    session = await t.session(prompt=tuple(t.rng.randrange(4, model.v) for _ in range(limit)))

    async def act(peer: Peer) -> None:
        channel = await peer.open(attach_of(session))
        await peer.refused(channel, "D-2", ErrorCode.CONTEXT_TOO_LONG)

    await with_bystander(t, act)


Spoil = Callable[[dict[int, Any], Session], Any]


def _attach_spoilt(name: str, title: str, clause: str, spoil: Spoil) -> None:
    async def check(t: LiveTestee) -> None:
        session = await t.session()

        async def act(peer: Peer) -> None:
            item = cbor.decode(encode_payload(attach_of(session)))
            spoil(item, session)
            channel = peer.channel()
            payload = cbor.encode(dict(sorted(item.items())))
            await peer.frame(int(MessageType.ATTACH), channel, payload, f"wrong by {clause}")
            await peer.refused(channel, clause, ErrorCode.MESSAGE_INVALID)

        await with_bystander(t, act)

    drafter_case(f"attach-{name}", title, clause, "E-2", "E-3", bracket=True)(check)


def _contract(item: dict[int, Any], key: int, value: Any) -> None:
    item[2] = dict(sorted({**item[2], key: value}.items()))


def _outside(session: Session) -> bytes:
    return session.contract.vocabulary_size.to_bytes(3, "big")


_attach_spoilt(
    "contract-odd-key", "A contract with an unknown odd key is refused", "S-12", lambda i, s: _contract(i, 13, 0)
)
_attach_spoilt(
    "contract-even-key", "A contract with an unknown even key is refused", "S-12", lambda i, s: _contract(i, 64, 0)
)
_attach_spoilt(
    "prompt-outside",
    "An id of the prompt outside the vocabulary is refused",
    "R-7",
    lambda i, s: _contract(i, 1, _outside(s)),
)
_attach_spoilt(
    "committed-outside",
    "A committed id outside the vocabulary is refused",
    "R-7",
    lambda i, s: i.update({3: _outside(s)}),
)
_attach_spoilt(
    "stop-descends",
    "Stop tokens that descend are refused",
    "R-6",
    lambda i, s: _contract(i, 4, bytes.fromhex("000006000005")),
)
_attach_spoilt("window-zero", "A window of 0 is out of bounds", "R-5", lambda i, s: i.update({5: 0}))
_attach_spoilt("width-wide", "A width of 17 is out of bounds", "R-5", lambda i, s: i.update({6: 17}))
_attach_spoilt("no-credit", "ATTACH without credit is refused", "R-4", lambda i, s: i.pop(4))


# ---------------------------------------------------------------- ADVANCE


def _advance_refused(
    name: str, title: str, make: Callable[[Attachment], Advance], *more: str, step: bool = False
) -> None:
    async def check(t: LiveTestee) -> None:
        async def act(peer: Peer) -> None:
            session = await t.session(max_tokens=60, temperature=0)
            work = await attach(peer, session, await t.model(), credit=10, window=2)
            await work.gather(1)
            await settle(work)
            if step:
                root = session.tokens
                await work.advance(work.nodes[0][len(root) :])
            await peer.send(make(work), work.channel, "wrong by D-7")
            await refused(peer, work.channel, "D-7", INVALID)
            await peer.send(Advance(position=session.position, ref=0, tokens=()), work.channel, "crosses", wild=True)
            await peer.silent(work.channel, "CH-4", 0.1)

        await with_bystander(t, act)

    drafter_case(f"advance-{name}", title, "D-7", *more, "E-3", bracket=True)(check)


def _one(work: Attachment) -> tuple[int, ...]:
    return work.session.ahead(1)


_advance_refused(
    "unknown-node",
    "A `ref` that is no node of this channel is refused",
    lambda w: Advance(position=w.session.position + 1, ref=len(w.nodes) + 100, tokens=()),
)
_advance_refused(
    "unknown-node-then-tokens",
    "An unknown `ref` is refused also where the position is that of the tokens alone",
    lambda w: Advance(position=w.session.position + 1, ref=len(w.nodes) + 100, tokens=_one(w)),
)
_advance_refused(
    "node-behind",
    "A `ref` that does not hang below the announced prefix is refused",
    lambda w: Advance(position=w.session.position, ref=1, tokens=()),
    step=True,
)
_advance_refused(
    "position-too-high",
    "A position beyond the path is refused",
    lambda w: Advance(position=w.session.position + 2, ref=0, tokens=_one(w)),
)
_advance_refused(
    "position-too-low",
    "A position short of the path is refused",
    lambda w: Advance(position=w.session.position, ref=0, tokens=_one(w)),
)
_advance_refused(
    "position-of-stream",
    "A position that does not count the prompt is refused",
    lambda w: Advance(position=len(w.session.committed) + 1, ref=0, tokens=_one(w)),
    "S-PFX-2",
)
_advance_refused(
    "token-outside",
    "A token outside the vocabulary is refused",
    lambda w: Advance(position=w.session.position + 1, ref=0, tokens=(w.session.contract.vocabulary_size,)),
)


@drafter_case(
    "advance-replayed", "An ADVANCE that is replayed is refused, not applied twice", "D-7", "E-3", bracket=True
)
async def advance_replayed(t: LiveTestee) -> None:
    async def act(peer: Peer) -> None:
        session = await t.session(max_tokens=60)
        work = await attach(peer, session, await t.model())
        step = Advance(position=session.position + 2, ref=0, tokens=session.ahead(2))
        await peer.send(step, work.channel)
        await peer.send(step, work.channel, "replayed")
        await refused(peer, work.channel, "D-7", INVALID)

    await with_bystander(t, act)


@drafter_case(
    "advance-reordered", "ADVANCE messages in the wrong order are refused", "D-7", "D-18", "E-3", bracket=True
)
async def advance_reordered(t: LiveTestee) -> None:
    async def act(peer: Peer) -> None:
        session = await t.session(max_tokens=60)
        work = await attach(peer, session, await t.model())
        tokens = session.ahead(5)
        late = Advance(position=session.position + 5, ref=0, tokens=tokens[2:])
        await peer.send(late, work.channel, "overtakes the one before it")
        await refused(peer, work.channel, "D-7", INVALID)

    await with_bystander(t, act)


MANY = 600
"""Sessions that are tried before a testee counts as one that is never full."""


@drafter_case(
    "overloaded",
    "A drafter that is full refuses with OVERLOADED; the link goes on",
    "D-2",
    "E-3",
    timeout=120.0,
    serial=ALONE,
)
async def overloaded(t: LiveTestee) -> None:
    peer = await t.connect(Role.LEADER)
    works = []
    for count in range(MANY):
        session = await t.session(max_tokens=20)
        channel = await peer.open(attach_of(session, credit=0))
        arrival = await peer.anything(channel, "D-2", "ATTACHED or OVERLOADED")
        if isinstance(arrival.message, Error):
            t.trial.expect("D-2", "refused with another code", int(ErrorCode.OVERLOADED), arrival.message.code)
            await peer.send(Detach(reason=0), works[0])
            await peer.alive("H-2")
            await (await attach(peer, await t.session(max_tokens=40), await t.model())).propose()
            t.trial.note(f"full with {count} sessions")
            return
        works.append(channel)
    t.trial.note(f"{MANY} sessions were taken")
