"""Sections 14 and 9.2: each VERIFY that a verifier has to refuse ends one session and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from conformance.case import ALONE
from conformance.live.cases_verifier import require_short, verifier_case
from conformance.live.cases_verifier_refusals import assign_of, with_bystander
from conformance.live.peer import Peer
from conformance.live.testee import LiveTestee
from conformance.live.verifying import Assignment, assign
from conformance.verdict import Failed, Unsupported
from dsdproto.registry import ErrorCode, Feature, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_message, encode_payload
from dsdproto.wire.messages import Error, Verdict, Verify


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
