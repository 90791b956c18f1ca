"""Section 16.8: a voter that lost its leader has the leader of its own node take the session over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from conformance.live import hands
from conformance.live.cases_quorum import VOTING
from conformance.live.cases_voter import voter_case
from conformance.live.members import MemberHand, member
from conformance.live.testee import LiveTestee
from conformance.live.voting import Group, Leading, make_group, resume
from conformance.verdict import Failed
from dsdproto.registry import ErrorCode, Finish, Role
from dsdproto.wire.messages import Enlist, Enlisted, Error

TURN = 8.0
"""Seconds within which a suspecting voter has its leader ask; the times of section 16.8 add up to far less."""


@dataclass
class Scene:
    """View 0 led by the suite, some blocks in the testee's log; then its leader is gone."""

    group: Group
    leading: Leading
    log: tuple[int, ...]
    known: int

    @property
    def prompt(self) -> tuple[int, ...]:
        return self.group.session.prompt


async def scene(
    t: LiveTestee, *, blocks: int = 3, committed: int = 1, max_tokens: int = 14, end: bool = False
) -> Scene:
    """Blocks of two tokens each that are the target's own; with ``end``, the last one ends the stream."""
    await t.need_role(Role.LEADER)
    await t.keep("voters")  # or the third member would be named in groups of other cases
    group = await make_group(t, max_tokens=2 * blocks if end else max_tokens)
    leading = await group.lead()
    log = group.session.prompt
    stream = group.session.stream()[0]
    for n in range(blocks):
        finish = int(Finish.LENGTH) if end and n == blocks - 1 else None
        await leading.prepare(log, stream[2 * n : 2 * n + 2], finish)
        log += stream[2 * n : 2 * n + 2]
    if committed:
        await leading.commit(committed)
    return Scene(group, leading, log, len(leading.blocks[committed]) if committed else len(group.session.prompt))


async def other_member(t: LiveTestee, at: Scene, **options: Any) -> MemberHand:
    """The third member, linked to the testee; by default it holds nothing."""
    connect = {"identity": at.group.last, "name": "last"}
    return await member(t, at.group.session.model, connect=connect, **options)


async def read_all(t: LiveTestee, at: Scene) -> None:
    """A client resumes at the testee and reads to the end: the stream of the target alone."""
    reader = await resume(t, at.group, at.prompt)
    await reader.started()
    stream, finish = at.group.session.stream()
    await reader.read_to((*at.prompt, *stream))
    await reader.ends(int(finish))


@voter_case(
    "takeover",
    "The leader dies: the next in turn asks for its view, goes on from the log, and the stream is whole",
    "Q-40",
    "Q-41",
    "Q-31",
    "Q-32",
    "Q-33",
    "Q-34",
    "Q-50",
    "S-17",
    **VOTING,
)
async def takeover(t: LiveTestee) -> None:
    at = await scene(t)
    await hands.verifier(t, at.group.session.model)
    last = await other_member(t, at)
    await at.leading.peer.hang_up()
    await last.until(lambda: bool(last.enlists), "Q-41", "no ENLIST of the next view", TURN)
    enlist = last.enlists[0]
    t.trial.expect("Q-41", "another view than the next one of this node", 1, enlist.view)
    hands.same_contract(enlist, at.group.session)  # type: ignore[arg-type]
    t.trial.expect("Q-1", "the group was changed", at.group.ids, enlist.group)
    t.trial.expect("Q-45", "another model than before", at.group.session.model.name, enlist.model)
    await read_all(t, at)
    first = last.prepares[0]
    if first.height < 4:
        raise Failed("Q-32", "heights do not go on from the best log", "4 or more", first.height)


@voter_case(
    "takeover-best-log",
    "Another member has the longer log: the leader goes on from that one",
    "Q-31",
    "Q-32",
    "Q-33",
    "S-17",
    **VOTING,
)
async def takeover_best_log(t: LiveTestee) -> None:
    at = await scene(t, blocks=2)
    stream = at.group.session.stream()[0]
    longer = (*at.prompt, *stream[:8])
    await hands.verifier(t, at.group.session.model)
    last = await other_member(t, at, log=longer, label=(0, 4), known=at.known)
    await at.leading.peer.hang_up()
    await last.until(lambda: bool(last.prepares), "Q-32", "what was adopted is not proposed anew", TURN)
    first = last.prepares[0]
    if first.height < 5 or at.known + len(first.tokens) < len(longer):
        raise Failed(
            "Q-33", "the first PREPARE ends before what was adopted", len(longer), at.known + len(first.tokens)
        )
    await read_all(t, at)


@voter_case(
    "takeover-to-the-end",
    "The log ends the stream already: it is committed without a verifier",
    "Q-41",
    "Q-32",
    "Q-37",
    "Q-25",
    **VOTING,
)
async def takeover_to_the_end(t: LiveTestee) -> None:
    at = await scene(t, end=True)
    last = await other_member(t, at)
    await at.leading.peer.hang_up()
    await last.until(lambda: bool(last.prepares), "Q-32", "the end is not proposed anew", TURN)
    t.trial.expect("Q-32", "the finish was not adopted", int(Finish.LENGTH), last.prepares[0].finish)
    await read_all(t, at)


@voter_case(
    "takeover-refused",
    "A member that promised a later view refuses: nothing is proposed",
    "Q-43",
    "Q-30",
    **VOTING,
)
async def takeover_refused(t: LiveTestee) -> None:
    async def stale(hand: MemberHand, enlist: Enlist, right: Enlisted) -> Error:
        return Error(code=int(ErrorCode.VIEW_STALE), clause="Q-13", text="view 99 was promised, says the suite")

    at = await scene(t)
    await hands.verifier(t, at.group.session.model)
    last = await other_member(t, at, on_enlist=stale)
    await at.leading.peer.hang_up()
    await last.until(lambda: bool(last.enlists), "Q-41", "no ENLIST of the next view", TURN)
    await trio.sleep(0.5)
    t.trial.expect("Q-30", "PREPARE without a majority", [], last.prepares)


@voter_case(
    "takeover-again",
    "A try in vain is followed by a later one, with a later view of the same node",
    "Q-42",
    "Q-30",
    "S-17",
    **VOTING,
)
async def takeover_again(t: LiveTestee) -> None:
    async def busy(hand: MemberHand, enlist: Enlist, right: Enlisted) -> Any:
        if len(hand.enlists) > 1:
            return right
        return Error(code=int(ErrorCode.LEADER_ALIVE), clause="Q-14", text="its leader is connected, says the suite")

    at = await scene(t)
    await hands.verifier(t, at.group.session.model)
    last = await other_member(t, at, on_enlist=busy)
    await at.leading.peer.hang_up()
    await last.until(lambda: len(last.enlists) > 1, "Q-42", "no second try", 2 * TURN)
    await read_all(t, at)


@voter_case(
    "takeover-not-alone",
    "Alone, without a majority, a member proposes nothing and serves nothing new",
    "Q-30",
    "Q-34",
    "Q-51",
    **VOTING,
)
async def takeover_not_alone(t: LiveTestee) -> None:
    at = await scene(t)
    await hands.verifier(t, at.group.session.model)
    await at.leading.peer.hang_up()
    reader = await resume(t, at.group, at.prompt)
    await reader.started()
    await reader.read_to(at.log[: at.known])
    await reader.peer.silent(reader.channel, "Q-51", 1.0)
    # It has not fenced itself off: the next leader is promised its view.
    later = await at.group.lead(2, at.known)
    at.group.check_report(later.answer, 0, 3, at.log, at.known, at.known)


@voter_case(
    "takeover-fenced",
    "After the takeover the old leader's messages have no effect",
    "Q-10",
    "Q-13",
    "Q-21",
    bracket=True,
    **VOTING,
)
async def takeover_fenced(t: LiveTestee) -> None:
    at = await scene(t)
    await hands.verifier(t, at.group.session.model)
    last = await other_member(t, at)
    await at.leading.peer.hang_up()
    await last.until(lambda: bool(last.prepares), "Q-41", "no takeover", TURN)
    peer = await at.group.link(0)
    channel = await peer.open(at.group.enlist_of(0))
    await peer.refused(channel, "Q-13", ErrorCode.VIEW_STALE)


@voter_case(
    "takeover-member-without-role",
    "A member of the group that has not the role voter is not enlisted, and ends nothing",
    "C-9",
    "Q-41",
    bracket=True,
    **VOTING,
)
async def takeover_member_without_role(t: LiveTestee) -> None:
    at = await scene(t)
    await hands.verifier(t, at.group.session.model)
    last = await t.connect(Role.LEADER, identity=at.group.last, name="last")
    await at.leading.peer.hang_up()
    await trio.sleep(1.5)
    await last.alive("C-9")
