"""Sections 16.4 and 16.5: what a voter promises, and to whom. The suite leads, and is the other members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from conformance.case import Rung, case
from conformance.live.testee import LiveTestee
from conformance.live.voting import Group, Leading, make_group
from conformance.verdict import Failed
from dsdproto.registry import DismissReason, ErrorCode, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import Error

MISMATCH, STALE, ALIVE = ErrorCode.LEDGER_MISMATCH, ErrorCode.VIEW_STALE, ErrorCode.LEADER_ALIVE
INVALID = ErrorCode.MESSAGE_INVALID


def voter_case(name: str, title: str, *clauses: str, **more: object):  # type: ignore[no-untyped-def]
    """A case of rung 3 for a voter under test."""
    return case(f"voter/{name}", title, clauses=clauses, rung=Rung.LIVE, role=Role.VOTER, **more)  # type: ignore[arg-type]


async def founded(t: LiveTestee, **changes: Any) -> tuple[Group, Leading, tuple[int, ...]]:
    """(group, its leader's channel at the testee, the prompt)."""
    group = await make_group(t, **changes)
    return group, await group.lead(), group.session.prompt


async def with_log(
    t: LiveTestee, blocks: int = 3, committed: int = 1, **changes: Any
) -> tuple[Group, Leading, tuple[int, ...]]:
    """A log of some blocks of two tokens, the first ``committed`` of them committed: (group, leader, the whole log)."""
    group, leading, log = await founded(t, max_tokens=60, **changes)
    for _ in range(blocks):
        draft = tuple(t.rng.randrange(4, group.session.model.v) for _ in range(2))
        await leading.prepare(log, draft)
        log += draft
    if committed:
        await leading.commit(committed)
    return group, leading, log


@voter_case("promise", "A voter that takes a session answers with an empty log", "Q-10", "Q-17", "Q-11")
async def promise(t: LiveTestee) -> None:
    group, leading, prompt = await founded(t)
    group.check_report(leading.answer, 0, 0, prompt, len(prompt), len(prompt))
    t.trial.expect("Q-17", "an empty log has a finish", None, leading.answer.finish)


@voter_case(
    "promise-again",
    "The leader of the promised view reconnects and is taken; the log is reported to it",
    "Q-13",
    "Q-17",
    "Q-20",
)
async def promise_again(t: LiveTestee) -> None:
    group, leading, log = await with_log(t)
    known = len(leading.blocks[1])
    await leading.peer.hang_up()
    for asked in (known, len(group.session.prompt), len(log)):
        again = await group.lead(0, asked)
        group.check_report(again.answer, 0, 3, log, known, asked)
        await again.peer.hang_up()


@voter_case(
    "higher-view",
    "When the leader is gone, a higher view is promised, and older ones are refused",
    "Q-10",
    "Q-13",
    "Q-17",
)
async def higher_view(t: LiveTestee) -> None:
    group, leading, log = await with_log(t)
    known = len(leading.blocks[1])
    await leading.peer.hang_up()
    later = await group.lead(2, known)
    group.check_report(later.answer, 0, 3, log, known, known)
    await later.peer.hang_up()
    peer = await group.link(0)
    channel = await peer.open(group.enlist_of(0, known))
    await peer.refused(channel, "Q-13", STALE)
    await peer.alive("E-3")
    again = await group.lead(3, known, peer=peer)
    group.check_report(again.answer, 0, 3, log, known, known)


@voter_case(
    "leader-alive",
    "A higher view is refused while the leader of the promised one is connected",
    "Q-14",
    "E-3",
    bracket=True,
)
async def leader_alive(t: LiveTestee) -> None:
    group, leading, log = await with_log(t)
    peer = await group.link(2)
    channel = await peer.open(group.enlist_of(2))
    await peer.refused(channel, "Q-14", ALIVE)
    await leading.prepare(log, (5, 6))


@voter_case("resigned", "DISMISS with RESIGNED: the next view is taken", "Q-40", "Q-14")
async def resigned(t: LiveTestee) -> None:
    group, leading, log = await with_log(t)
    await leading.dismiss(int(DismissReason.RESIGNED))
    later = await group.lead(2)
    prompt = len(group.session.prompt)
    group.check_report(later.answer, 0, 3, log, len(leading.blocks[1]), prompt)


@voter_case("reason-unknown", "A dismiss reason that nobody knows is taken as RESIGNED", "Q-40")
async def reason_unknown(t: LiveTestee) -> None:
    group, leading, _ = await founded(t)
    await leading.dismiss(0x7FFE)
    await group.lead(2)


@voter_case("one-channel", "A second ENLIST of the promised view ends the older channel", "Q-16", "Q-13")
async def one_channel(t: LiveTestee) -> None:
    group, leading, log = await with_log(t)
    again = await group.lead(0, len(leading.blocks[1]))
    await leading.peer.refused(leading.channel, "Q-16", ErrorCode.SESSION_EXISTS)
    await leading.peer.alive("E-3")
    again.height = 3
    await again.prepare(log, (9,))


def _enlist_refused(
    name: str, title: str, clause: str, code: ErrorCode, view: int, make: Callable[[Group], dict[str, Any]]
) -> None:
    async def check(t: LiveTestee) -> None:
        group, leading, log = await with_log(t)
        sender = group.leader_of(view)
        peer = leading.peer if view == 0 else await t.connect(Role.LEADER, identity=sender, name="other")
        channel = await peer.open(group.enlist_of(**{"view": view, **make(group)}))
        await peer.refused(channel, clause, code)
        await leading.prepare(log, (7, 8))

    voter_case(f"enlist-{name}", title, clause, "E-3", bracket=True)(check)


def _swapped(group: Group) -> dict[str, Any]:
    return {"group": group.last.node_id + group.testee + group.first.node_id}


_enlist_refused(
    "not-the-leader",
    "A view is asked for by a node that does not lead it",
    "Q-11",
    MISMATCH,
    2,
    lambda g: {"view": 0},
)
_enlist_refused(
    "not-a-member",
    "A group that the voter is not in",
    "Q-11",
    MISMATCH,
    0,
    lambda g: {"session": bytes(16), "group": g.first.node_id + bytes(32) + g.last.node_id},
)
_enlist_refused(
    "other-contract",
    "A known session with another contract",
    "Q-12",
    MISMATCH,
    0,
    lambda g: {"contract": replace(g.session.contract, max_tokens=7)},
)
_enlist_refused(
    "other-group",
    "A known session with another group",
    "Q-12",
    MISMATCH,
    2,
    lambda g: {**_swapped(g), "view": 0},
)
_enlist_refused(
    "committed-in-prompt",
    "`committed` below the length of the prompt",
    "Q-17",
    MISMATCH,
    0,
    lambda g: {"committed": 1},
)


@voter_case(
    "enlist-group-wrong",
    "A group that is no odd number of different ids is refused",
    "Q-1",
    "E-3",
    bracket=True,
)
async def enlist_group_wrong(t: LiveTestee) -> None:
    group = await make_group(t)
    peer = await group.link(0)
    first, testee, last = group.first.node_id, group.testee, group.last.node_id
    for wrong in (
        first + testee,
        first + testee + first,
        first + testee + last + bytes(32),
        first + testee + last[:31],
    ):
        item = cbor.decode(encode_payload(group.enlist_of(0)))
        item[3] = wrong
        channel = peer.channel()
        await peer.frame(int(MessageType.ENLIST), channel, cbor.encode(item), "not an odd number of different ids")
        error = await peer.expect(Error, channel, "Q-1")
        if error.code not in (INVALID, MISMATCH):
            raise Failed("Q-1", "refused with another code", "MESSAGE_INVALID", error)
    await group.lead(0, peer=peer)
