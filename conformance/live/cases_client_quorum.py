"""Section 16.9: a client of a quorum session resumes wherever it is interrupted. The suite is its group's voters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from conformance.live.cases_client import client_case, content
from conformance.live.peer import Peer
from conformance.live.serving import Resumed, Serving, serve
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import ErrorCode, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import Error, Resume

ADVANCE, INVALID = ErrorCode.ADVANCE_INVALID, ErrorCode.MESSAGE_INVALID


@dataclass
class Circle:
    """A session of the quorum profile: its leader, and the two other members of its group, linked as voters."""

    serving: Serving
    voters: list[Peer]

    async def anywhere(self, within: float = 12.0) -> Resumed:
        """RESUME at any of the other members."""
        found: list[Resumed] = []

        async def watch(peer: Peer, scope: trio.CancelScope) -> None:
            opened = await peer.next_opening(Resume)
            if opened is not None:
                found.append(Resumed(self.serving, peer, *opened))
                scope.cancel()

        with trio.move_on_after(self.serving.t.trial.seconds(within)):
            async with trio.open_nursery() as nursery:
                for peer in self.voters:
                    nursery.start_soon(watch, peer, nursery.cancel_scope)
        if not found:
            raise Failed(
                "Q-53", "an interrupted stream is not resumed at another member of its group", "RESUME", "nothing"
            )
        session = self.serving.session
        wanted = (session.id, session.position, session.digest)
        message = found[0].message
        if wanted != (message.session, message.position, message.digest):
            raise Failed("Q-50", "RESUME does not name the prefix that the client was sent", wanted, message)
        return found[0]

    async def go_on(self, at: Resumed, view: int = 1) -> None:
        """Serve the rest of the stream as a voter does (clauses Q-50, Q-54)."""
        serving = self.serving
        serving.peer, serving.channel = at.peer, at.channel
        await serving.say(serving.opened_of(view=view))
        await serving.send_all()
        await content(serving)


async def circle(t: LiveTestee, *, blocks: int = 2) -> Circle:
    """OPENED with a group, some blocks; then it is the case's turn."""
    if Role.LEADER in (await t.hello()).roles:
        await t.keep("voters")
    leader, others = t.identity("leader"), [t.identity("voter") for _ in range(2)]
    voters = [await t.connect(Role.VOTER, identity=identity, name="voter") for identity in others]
    group = leader.node_id + others[0].node_id + others[1].node_id
    serving = await serve(t, quorum=True, identity=leader, group=group)
    await serving.start()
    for _ in range(blocks):
        await serving.send()
    await serving.peer.alive("H-2")
    return Circle(serving, voters)


def _interrupted(name: str, title: str, how: Callable[[Serving], Awaitable[None]], *more: str) -> None:
    async def check(t: LiveTestee) -> None:
        at = await circle(t)
        await how(at.serving)
        await at.go_on(await at.anywhere())

    client_case(f"resume-after-{name}", title, "Q-53", "Q-50", *more, timeout=90.0)(check)


async def _hang_up(serving: Serving) -> None:
    await serving.peer.hang_up()


async def _goodbye(serving: Serving) -> None:
    await serving.peer.leave()


async def _quorum_lost(serving: Serving) -> None:
    await serving.say(Error(code=int(ErrorCode.QUORUM_LOST), clause="Q-43", text="resigned, says the suite"))


async def _unknown_error(serving: Serving) -> None:
    await serving.say(Error(code=0x7FFE, clause="Q-43", text="made up by the suite"))


async def _gap(serving: Serving) -> None:
    await serving.say(serving.block_of(position=serving.session.position + 1), wild=True)
    await serving.peer.refused(serving.channel, "S-8", ADVANCE)


def _false_end(**changes: Any) -> Callable[[Serving], Awaitable[None]]:
    """END has closed the channel, so that nothing more can be said on it (clause CH-8): the client goes elsewhere."""

    async def say(serving: Serving) -> None:
        session = serving.session
        values = {name: value(session) if callable(value) else value for name, value in changes.items()}
        await serving.say(serving.end_of(**values))
        await serving.peer.alive("E-3")

    return say


_interrupted(
    "lost-link",
    "The leader dies: the client reads on at another member of the group",
    _hang_up,
    "S-8",
    "S-10",
)
_interrupted("goodbye", "The leader leaves: the client reads on at another member", _goodbye, "C-13")
_interrupted("quorum-lost", "The leader resigns: the client reads on at another member", _quorum_lost)
_interrupted("unknown-error", "An ERROR that nobody knows interrupts too", _unknown_error, "E-5")
_interrupted("gap", "A block that has to be refused interrupts: nothing of it is kept", _gap, "S-8")
_interrupted(
    "end-of-another-digest",
    "An END with another digest is no end",
    _false_end(digest=bytes(32)),
    "S-10",
    "E-4",
)
_interrupted(
    "end-of-another-position",
    "An END with another position is no end",
    _false_end(position=lambda s: s.position + 1),
    "S-10",
    "E-4",
)
_interrupted(
    "end-of-the-prefix-before",
    "An END that names the prefix before the last block is no end",
    _false_end(position=lambda s: s.position - 2, digest=lambda s: s.digest_of(s.tokens[:-2])),
    "S-10",
    "E-4",
)


@client_case(
    "resume-twice",
    "A voter dies too: the client goes on at the next one",
    "Q-53",
    "Q-50",
    "S-8",
    timeout=90.0,
)
async def resume_twice(t: LiveTestee) -> None:
    at = await circle(t)
    await at.serving.peer.hang_up()
    first = await at.anywhere()
    at.serving.peer, at.serving.channel = first.peer, first.channel
    await at.serving.say(at.serving.opened_of(view=1))
    await at.serving.send(3)
    await first.peer.alive("H-2")
    await first.peer.hang_up()
    at.voters.remove(first.peer)
    await at.go_on(await at.anywhere(), view=2)


@client_case(
    "resume-refused",
    "A voter that does not know the session: the client asks another one",
    "Q-53",
    timeout=90.0,
)
async def resume_refused(t: LiveTestee) -> None:
    at = await circle(t)
    await at.serving.peer.hang_up()
    first = await at.anywhere()
    error = Error(code=int(ErrorCode.SESSION_UNKNOWN), clause="Q-50", text="not known here, says the suite")
    await first.peer.send(error, first.channel)
    at.voters.remove(first.peer)
    await at.go_on(await at.anywhere())


@client_case(
    "resume-silent",
    "A voter that keeps silent: the client turns away and asks another one",
    "Q-53",
    timeout=90.0,
)
async def resume_silent(t: LiveTestee) -> None:
    at = await circle(t)
    await at.serving.peer.hang_up()
    first = await at.anywhere()
    at.voters.remove(first.peer)
    await at.go_on(await at.anywhere(within=20.0))
    if not any(isinstance(a.message, Error) and a.frame.channel == first.channel for a in first.peer.arrivals):
        raise Failed("Q-53", "the client turns away from a silent voter without an ERROR", "COMPUTE_FAILED", "nothing")


@client_case(
    "resume-other-stream",
    "PREFIX_UNKNOWN in answer to RESUME is the end: that voter knows another stream",
    "Q-53",
    "Q-52",
    bracket=True,
    timeout=90.0,
)
async def resume_other_stream(t: LiveTestee) -> None:
    at = await circle(t)
    await at.serving.peer.hang_up()
    first = await at.anywhere()
    error = Error(code=int(ErrorCode.PREFIX_UNKNOWN), clause="Q-52", text="another prefix, says the suite")
    await first.peer.send(error, first.channel)
    await trio.sleep(t.trial.seconds(2.0))
    again = [a.message for peer in at.voters for a in peer.arrivals if isinstance(a.message, Resume)]
    t.trial.expect("Q-53", "the client resumes although its stream is another one", 1, len(again))


@client_case(
    "resume-answered-elsewhere",
    "OPENED at another position than RESUME named is refused",
    "S-7",
    "Q-50",
    "Q-53",
    timeout=90.0,
)
async def resume_answered_elsewhere(t: LiveTestee) -> None:
    at = await circle(t)
    await at.serving.peer.hang_up()
    first = await at.anywhere()
    wrong = at.serving.opened_of(position=at.serving.session.position - 1, view=1)
    await first.peer.send(wrong, first.channel, wild=True)
    await first.peer.refused(first.channel, "S-7", ErrorCode.PREFIX_UNKNOWN)


@client_case(
    "resume-duplicates",
    "A voter that begins too early: what the client has is not taken twice",
    "S-8",
    "Q-50",
    "Q-53",
    timeout=90.0,
)
async def resume_duplicates(t: LiveTestee) -> None:
    at = await circle(t)
    await at.serving.peer.hang_up()
    first = await at.anywhere()
    await first.peer.send(at.serving.opened_of(view=1), first.channel)
    early = at.serving.block_of(
        position=at.serving.session.position - 1, tokens=at.serving.session.tokens[-1:], origins=None
    )
    await first.peer.send(early, first.channel, wild=True)
    await first.peer.refused(first.channel, "S-8", ADVANCE)


@client_case("group-missing", "OPENED without a group under `quorum` is refused", "Q-1", "E-3", bracket=True)
async def group_missing(t: LiveTestee) -> None:
    serving = await serve(t, quorum=True)
    await serving.say(serving.opened_of(), wild=True)
    await serving.peer.refused(serving.channel, "Q-1", INVALID)


@client_case("group-even", "A group that is no odd number of different ids is refused", "Q-1", "E-3", bracket=True)
async def group_even(t: LiveTestee) -> None:
    for ids in (bytes(32) + bytes(31) + b"\1", bytes(96)):
        serving = await serve(t, quorum=True)
        item = cbor.decode(encode_payload(serving.opened_of(group=bytes(32), view=0)))
        payload = cbor.encode({**item, 5: ids})
        await serving.peer.frame(
            int(MessageType.OPENED), serving.channel, payload, "not an odd number of different ids"
        )
        await serving.peer.refused(serving.channel, "Q-1", INVALID)
