"""Sections 16.7 and 16.8: a leader of the `quorum` profile. The suite is client, verifier and the other voters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from conformance.live import hands
from conformance.live.cases_leader import leader_case, pace, solo
from conformance.live.members import MemberHand, member
from conformance.live.peer import described
from conformance.live.sessions import Session
from conformance.live.streams import Stream, open_stream
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import CommitProfile, DismissReason, ErrorCode, Finish, Role
from dsdproto.wire.messages import Block, Close, Enlist, Enlisted, Error, Prepare, Vote

VOTING = {"timeout": 180.0, "serial": "voters"}
"""These cases wait for each other: who votes cannot be kept apart."""


def quorum_session(t: LiveTestee, **changes: Any) -> Session:
    return solo(t, commit_profile=int(CommitProfile.QUORUM), **changes)


@asynccontextmanager
async def group_of(t: LiveTestee, *members: dict[str, Any]) -> AsyncIterator[list[MemberHand]]:
    """The other voters, while no other case has any. They leave at the end, so that they are in nobody else's group."""
    await t.need_role(Role.VOTER)
    async with t.alone("voters"):
        hands_ = [await member(t, t.own_model(), **options) for options in members]
        try:
            yield hands_
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(2.0):
                for hand in hands_:
                    await hand.peer.leave()


def check_group(t: LiveTestee, stream: Stream, members: list[MemberHand]) -> None:
    """OPENED names an odd group, the leader first (clause Q-1)."""
    assert stream.opened is not None and stream.opened.group is not None
    ids = [stream.opened.group[i : i + 32] for i in range(0, len(stream.opened.group), 32)]
    if len(ids) % 2 == 0 or len(set(ids)) != len(ids):
        raise Failed("Q-1", "the group is no odd number of different ids", "odd, different", [i.hex()[:8] for i in ids])
    t.trial.expect("Q-1", "the leader is not the first of the group", stream.peer.peer_id, ids[0])
    t.trial.expect("Q-2", "a new session does not begin with view 0", 0, stream.opened.view)
    connected = {hand.peer.identity.node_id for hand in members}
    strangers = [i.hex() for i in ids[1:] if i not in connected]
    t.trial.expect("Q-1", "the group has members that are not connected", [], strangers)


@leader_case(
    "quorum",
    "A session of the quorum profile: promised, voted for, committed, delivered, ended",
    "Q-1",
    "Q-2",
    "Q-30",
    "Q-33",
    "Q-37",
    "Q-39",
    "S-17",
    **VOTING,
)
async def quorum(t: LiveTestee) -> None:
    async with group_of(t, {}, {}) as members:
        await hands.verifier(t, t.own_model())
        stream = await open_stream(t, quorum_session(t, max_tokens=10))
        await stream.start()
        check_group(t, stream, members)
        await stream.finish()
        for hand in members:
            await hand.until(lambda h=hand: h.dismissed is not None, "L-13", "no DISMISS after the end of the session")
        told = [hand for hand in members if hand.dismissed == DismissReason.SESSION_ENDED]
        if not told:
            # One of them voted for the end, or there would be none; the leader may not have heard the other one.
            raise Failed("Q-37", "no voter is told that the session has ended", 0, [h.dismissed for h in members])
        for hand in told:
            if hand.log != stream.session.tokens or not hand.commits:
                raise Failed(
                    "Q-37", "SESSION_ENDED without PREPARE and COMMIT of the end", len(stream.session.tokens), hand.log
                )
        for hand in members:
            hands.same_contract(hand.enlists[0], stream.session)  # type: ignore[arg-type]
            t.trial.expect("Q-10", "the first view that was asked for is not 0", 0, hand.enlists[0].view)


@leader_case(
    "quorum-with-drafters",
    "Under quorum too the stream is that of the target, whoever drafts",
    "S-17",
    "Q-36",
    "Q-35",
    **VOTING,
)
async def quorum_with_drafters(t: LiveTestee) -> None:
    async with group_of(t, {}, {}):
        model = t.own_model()
        await hands.verifier(t, model, twist=pace(0.01))
        await hands.drafter(t, model.drafter(60_000))
        await hands.drafter(t, model.drafter(60_000, 2), hands.lying)
        stream = await open_stream(t, quorum_session(t, max_tokens=30), origins=True)
        await stream.start()
        await stream.finish()


@leader_case(
    "quorum-too-few",
    "Too few voters: QUORUM_UNAVAILABLE, and no smaller group",
    "Q-1",
    "Q-3",
    bracket=True,
    **VOTING,
)
async def quorum_too_few(t: LiveTestee) -> None:
    async with group_of(t):
        await hands.verifier(t, t.own_model())
        stream = await open_stream(t, quorum_session(t))
        await stream.peer.refused(stream.channel, "Q-1", ErrorCode.QUORUM_UNAVAILABLE)


@leader_case(
    "quorum-waits-for-votes",
    "Nothing is delivered before a majority has voted for it; one vote besides the own is enough",
    "Q-34",
    "Q-35",
    "Q-36",
    "K-3",
    **VOTING,
)
async def quorum_waits(t: LiveTestee) -> None:
    gate = trio.Event()

    async def hold(hand: MemberHand, channel: int, prepare: Prepare, vote: Vote) -> Vote:
        await gate.wait()
        return vote

    async def never(hand: MemberHand, channel: int, prepare: Prepare, vote: Vote) -> None:
        return None

    async with group_of(t, {"on_prepare": hold}, {"on_prepare": never}) as members:
        verifier = await hands.verifier(t, t.own_model())
        stream = await open_stream(t, quorum_session(t, max_tokens=8))
        await stream.start()
        await members[0].until(lambda: bool(members[0].prepares or verifier.requests), "Q-33", "no PREPARE")
        await stream.peer.silent(stream.channel, "Q-34", 0.4)
        if len(verifier.requests) < 2:
            raise Failed(
                "Q-36", "VERIFY of the next block waits for votes", "more than one round", len(verifier.requests)
            )
        gate.set()
        await stream.finish()


@leader_case(
    "quorum-one-silent",
    "One of three voters that never answers holds nobody up",
    "Q-30",
    "Q-34",
    "L-7",
    **VOTING,
)
async def quorum_one_silent(t: LiveTestee) -> None:
    async def nothing(hand: MemberHand, enlist: Enlist, right: Enlisted) -> None:
        return None

    async with group_of(t, {"on_enlist": nothing}, {}):
        await hands.verifier(t, t.own_model())
        stream = await open_stream(t, quorum_session(t))
        await stream.start()
        await stream.finish()


@leader_case("quorum-voter-dies", "One of three voters that dies holds nobody up", "Q-34", "L-7", **VOTING)
async def quorum_voter_dies(t: LiveTestee) -> None:
    async def die(hand: MemberHand, channel: int, prepare: Prepare, vote: Vote) -> Vote | None:
        if prepare.height < 3:
            return vote
        await hand.peer.hang_up()
        return None

    async with group_of(t, {"on_prepare": die}, {}):
        await hands.verifier(t, t.own_model(), twist=pace(0.02))
        stream = await open_stream(t, quorum_session(t))
        await stream.start()
        await stream.finish()


@leader_case(
    "quorum-catches-up",
    "A voter that is enlisted late is sent everything after what it knows to be committed, in one PREPARE",
    "Q-33",
    "Q-39",
    **VOTING,
)
async def quorum_catches_up(t: LiveTestee) -> None:
    gate = trio.Event()

    async def late(hand: MemberHand, enlist: Enlist, right: Enlisted) -> Enlisted:
        await gate.wait()
        return right

    async with group_of(t, {"on_enlist": late}, {}) as members:
        await hands.verifier(t, t.own_model(), twist=pace(0.02))
        stream = await open_stream(t, quorum_session(t, max_tokens=30))
        await stream.start()
        for _ in range(3):
            await stream.step()
        gate.set()
        await members[0].until(lambda: bool(members[0].prepares), "Q-33", "no PREPARE for a voter that came late")
        first = members[0].prepares[0]
        if len(first.tokens) < 3:
            raise Failed(
                "Q-33",
                "the first PREPARE does not reach to the end of the chain",
                "3 tokens or more",
                len(first.tokens),
            )
        await stream.finish()


async def _refused(member: MemberHand, otherwise: str) -> None:
    """The leader has ended this voter's channel for its VOTE."""
    await member.until(lambda: bool(member.errors), "Q-24", otherwise)


@leader_case(
    "quorum-wild-vote",
    "A VOTE for what was never proposed ends that voter's channel alone",
    "Q-24",
    "L-7",
    "E-3",
    **VOTING,
)
async def quorum_wild_vote(t: LiveTestee) -> None:
    async def wild(hand: MemberHand, channel: int, prepare: Prepare, vote: Vote) -> Vote:
        return Vote(view=vote.view, height=vote.height + 50, digest=bytes(32)) if prepare.height >= 2 else vote

    async def later(hand: MemberHand, channel: int, prepare: Prepare, vote: Vote) -> Vote:
        # Without this vote the block that is voted on so wildly is not committed, and the session not over, too soon.
        if prepare.height >= 2:
            await _refused(members[0], "a VOTE for what was never proposed was not refused")
        return vote

    async with group_of(t, {"on_prepare": wild}, {"on_prepare": later}) as members:
        await hands.verifier(t, t.own_model(), twist=pace(0.02))
        stream = await open_stream(t, quorum_session(t))
        await stream.start()
        await stream.finish()
        await _refused(members[0], "a VOTE for what was never proposed was not refused")
        t.trial.expect("Q-24", "refused with another code", int(ErrorCode.LEDGER_MISMATCH), members[0].errors[0].code)


@leader_case(
    "quorum-other-digest",
    "A VOTE with another digest counts for nothing: the voter equivocates",
    "Q-24",
    "Q-34",
    **VOTING,
)
async def quorum_other_digest(t: LiveTestee) -> None:
    async def equivocate(hand: MemberHand, channel: int, prepare: Prepare, vote: Vote) -> Vote:
        return Vote(view=vote.view, height=vote.height, digest=bytes(32))

    async def later(hand: MemberHand, channel: int, prepare: Prepare, vote: Vote) -> Vote:
        # A leader need not look at the digest of a VOTE that comes when the block is committed already.
        await _refused(members[0], "a VOTE with another digest was not refused")
        return vote

    async with group_of(t, {"on_prepare": equivocate}, {"on_prepare": later}) as members:
        await hands.verifier(t, t.own_model(), twist=pace(0.02))
        stream = await open_stream(t, quorum_session(t))
        await stream.start()
        await stream.finish()
        await _refused(members[0], "a VOTE with another digest was not refused")


@leader_case(
    "quorum-false-report",
    "A report that cannot be true is refused; the others carry the session",
    "Q-31",
    "L-7",
    **VOTING,
)
async def quorum_false_report(t: LiveTestee) -> None:
    async def lie(hand: MemberHand, enlist: Enlist, right: Enlisted) -> Enlisted:
        return Enlisted(
            view=0,
            height=0,
            committed=right.committed,
            position=right.position,
            digest=bytes(32),
            tokens=(),
            finish=None,
        )

    async with group_of(t, {"on_enlist": lie}, {}) as members:
        await hands.verifier(t, t.own_model())
        stream = await open_stream(t, quorum_session(t))
        arrival = await stream.peer.anything(stream.channel, "Q-31", "OPENED or ERROR")
        if isinstance(arrival.message, Error):
            t.trial.note(f"the session was not founded: {described(arrival.message)}")
            return
        stream.peer._inbox.insert(0, arrival)
        await stream.start()
        await stream.finish()
        t.trial.note(f"the false report was {'refused' if members[0].errors else 'not used'}")


@leader_case(
    "quorum-view-stale",
    "A voter that promised a higher view: the leader gives up, and says so",
    "Q-43",
    "Q-53",
    bracket=True,
    **VOTING,
)
async def quorum_view_stale(t: LiveTestee) -> None:
    async def stale(hand: MemberHand, channel: int, prepare: Prepare, vote: Vote) -> Any:
        if prepare.height < 2:
            return vote
        return Error(code=int(ErrorCode.VIEW_STALE), clause="Q-16", text="a higher view was promised, says the suite")

    async with group_of(t, {"on_prepare": stale}, {}) as members:
        await hands.verifier(t, t.own_model(), twist=pace(0.02))
        stream = await open_stream(t, quorum_session(t, max_tokens=500))
        await stream.start()
        error = await _error(stream)
        t.trial.expect("Q-43", "the client is told another code", int(ErrorCode.VIEW_STALE), error.code)
        other = members[1]
        await other.until(lambda: other.dismissed is not None, "Q-43", "no DISMISS to the other voters")
        t.trial.expect("Q-43", "DISMISS for another reason than RESIGNED", int(DismissReason.RESIGNED), other.dismissed)


async def _error(stream: Stream, within: float = 15.0) -> Error:
    """Read blocks until ERROR comes on the channel."""
    with trio.move_on_after(stream.peer.trial.seconds(within)):
        while (arrival := await stream.peer.next(stream.channel)) is not None:
            if isinstance(arrival.message, Error):
                return arrival.message
            if not isinstance(arrival.message, Block):
                raise Failed("Q-43", "something else than ERROR ends the stream", "ERROR", described(arrival.message))
        raise Failed("Q-43", "the connection ended", "ERROR on the channel", stream.peer.ended)
    raise Failed("Q-43", "the leader does not resign", "ERROR", "nothing")


@leader_case(
    "quorum-lost",
    "A leader that lost its majority resigns with QUORUM_LOST, and delivers nothing that was not voted for",
    "Q-43",
    "Q-34",
    "E-4",
    bracket=True,
    **VOTING,
)
async def quorum_lost(t: LiveTestee) -> None:
    async def die(hand: MemberHand, channel: int, prepare: Prepare, vote: Vote) -> Vote | None:
        if prepare.height < 3:
            return vote
        await hand.peer.hang_up()
        return None

    async with group_of(t, {"on_prepare": die}, {"on_prepare": die}):
        await hands.verifier(t, t.own_model(), twist=pace(0.02))
        stream = await open_stream(t, quorum_session(t, max_tokens=500))
        await stream.start()
        error = await _error(stream)
        t.trial.expect("Q-43", "the client is told another code", int(ErrorCode.QUORUM_LOST), error.code)


@leader_case(
    "quorum-not-founded",
    "No majority promises: QUORUM_UNAVAILABLE in time, before OPENED",
    "Q-43",
    "Q-30",
    bracket=True,
    **VOTING,
)
async def quorum_not_founded(t: LiveTestee) -> None:
    async def nothing(hand: MemberHand, enlist: Enlist, right: Enlisted) -> None:
        return None

    async with group_of(t, {"on_enlist": nothing}, {"on_enlist": nothing}):
        await hands.verifier(t, t.own_model())
        stream = await open_stream(t, quorum_session(t))
        await stream.peer.refused(stream.channel, "Q-43", ErrorCode.QUORUM_UNAVAILABLE, within=15.0)


@leader_case(
    "quorum-close",
    "CLOSE under quorum: the end is voted on, END names all blocks before it",
    "Q-38",
    "S-15",
    "S-10",
    **VOTING,
)
async def quorum_close(t: LiveTestee) -> None:
    async with group_of(t, {}, {}) as members:
        await hands.verifier(t, t.own_model(), twist=pace(0.03))
        stream = await open_stream(t, quorum_session(t, max_tokens=500))
        await stream.start()
        await stream.step()
        await stream.peer.send(Close(), stream.channel)
        end = await stream.finish()
        t.trial.expect("Q-38", "END after CLOSE says another reason", int(Finish.CLOSED), end.finish)
        for hand in members:
            await hand.until(lambda h=hand: h.dismissed is not None, "L-13", "no DISMISS after CLOSE")
        finishes = [hand.finish for hand in members if hand.dismissed == DismissReason.SESSION_ENDED]
        t.trial.expect("Q-38", "the end was not voted on", True, int(Finish.CLOSED) in finishes)


@leader_case(
    "quorum-client-gone",
    "Under quorum the stream goes on to its end without its client",
    "L-14",
    "Q-53",
    **VOTING,
)
async def quorum_client_gone(t: LiveTestee) -> None:
    async with group_of(t, {}, {}) as members:
        await hands.verifier(t, t.own_model(), twist=pace(0.02))
        stream = await open_stream(t, quorum_session(t, max_tokens=12))
        await stream.start()
        await stream.step()
        await stream.peer.hang_up()
        hand = members[0]
        await hand.until(lambda: hand.dismissed is not None, "L-14", "the session did not come to its end", 10.0)
        t.trial.expect("L-14", "the log has no end", int(Finish.LENGTH), hand.finish)


@leader_case(
    "quorum-member-away",
    "With a majority connected, a voter that was there before is named in the group as well",
    "Q-4",
    "Q-34",
    **VOTING,
)
async def quorum_member_away(t: LiveTestee) -> None:
    async with group_of(t, {}, {}) as members:
        await hands.verifier(t, t.own_model())
        gone = members[0]
        await gone.peer.leave()
        await gone.peer.over("C-13")
        await members[1].peer.alive("H-2")
        stream = await open_stream(t, quorum_session(t))
        opened = await stream.start()
        assert opened.group is not None
        ids = [opened.group[i : i + 32] for i in range(0, len(opened.group), 32)]
        t.trial.expect("Q-4", "the group does not begin with the leader", stream.peer.peer_id, ids[0])
        connected = members[1].peer.identity.node_id
        if connected not in ids:
            raise Failed("Q-4", "a voter that is connected is not named", connected, [i.hex()[:8] for i in ids])
        if len(ids) == 3 and ids[2] != gone.peer.identity.node_id:
            t.trial.note("the third member is one that was connected earlier than the one that left last")
        await stream.finish()
