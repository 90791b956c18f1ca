"""Another member of a group, for cases about a leader of the `quorum` profile: it promises, stores, votes.

It judges what the leader says by section 16.7: views, bases, heights, digests, what is committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from conformance.live.hands import VerifierHand
from conformance.live.peer import Peer, described
from conformance.live.sessions import Model, Session, of_contract
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import Role
from dsdproto.wire.messages import Commit, Dismiss, Enlist, Enlisted, Error, Prepare, Vote

Prefix = tuple[int, ...]
OnEnlist = Callable[["MemberHand", Enlist, Enlisted], Awaitable[Any]]
"""(hand, request, right answer) -> what to say; None: nothing."""
OnPrepare = Callable[["MemberHand", int, Prepare, Vote], Awaitable[Any]]
"""(hand, channel, request, right answer) -> what to say; None: nothing."""


@dataclass
class MemberHand:
    """A voter of the suite. ``log``, ``label`` and ``known`` are what it holds when ENLIST comes (None: the prompt)."""

    t: LiveTestee
    peer: Peer
    model: Model
    log: Prefix | None = None
    label: tuple[int, int] = (0, 0)
    known: int | None = None
    finish: int | None = None
    on_enlist: OnEnlist | None = None
    on_prepare: OnPrepare | None = None
    enlists: list[Enlist] = field(default_factory=list)
    prepares: list[Prepare] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    dismissed: int | None = None
    errors: list[Error] = field(default_factory=list)
    session: Session | None = None
    current: int = 0
    """the channel of the last ENLIST"""
    change: trio.Event = field(default_factory=trio.Event)

    until = VerifierHand.until
    note = VerifierHand.note

    async def serve(self) -> None:
        async with trio.open_nursery() as nursery:
            while (opened := await self.peer.next_opening(Enlist)) is not None:
                nursery.start_soon(self._session, *opened)

    async def _session(self, channel: int, enlist: Enlist) -> None:
        session = self.session = of_contract(enlist.session, enlist.contract, self.model)
        self._judge_enlist(enlist)
        self.enlists.append(enlist)
        self.note()
        log = self.log or session.prompt
        known = len(session.prompt) if self.known is None else self.known
        right = Enlisted(
            view=self.label[0],
            height=self.label[1],
            committed=known,
            position=len(log),
            digest=session.digest_of(log),
            tokens=log[enlist.committed :],
            finish=self.finish,
        )
        answer = await self.on_enlist(self, enlist, right) if self.on_enlist else right
        if answer is None:
            return
        await self.peer.send(answer, channel)
        if isinstance(answer, Error):
            return
        base = log[:known]
        height = self.label[1]
        first = True
        self.current = channel
        while (arrival := await self.peer.next(channel)) is not None:
            if self.current != channel and not isinstance(arrival.message, Error):
                continue  # the leader has enlisted this voter again meanwhile
            match arrival.message:
                case Prepare() as prepare:
                    # The first one may repeat what the voter holds, for the vote (clause Q-33).
                    if prepare.view == enlist.view and (prepare.height, first) >= (height, True):
                        base = self._judge_prepare(session, enlist, prepare, base, log, first)
                        height, first = prepare.height, False
                        self.log, self.label, self.finish = base, (prepare.view, height), prepare.finish
                    else:
                        said = "view or height of PREPARE do not go on from the best log"
                        raise Failed("Q-32", said, (enlist.view, height + 1), (prepare.view, prepare.height))
                    self.prepares.append(prepare)
                    vote = Vote(view=prepare.view, height=prepare.height, digest=prepare.digest)
                    said = await self.on_prepare(self, channel, prepare, vote) if self.on_prepare else vote
                    if said is not None and channel in self.peer.channels.open:
                        await self.peer.send(said, channel, wild=self.on_prepare is not None)
                    self.note()
                case Commit() as commit:
                    self._judge_commit(session, enlist, commit)
                    self.commits.append(commit)
                    self.known = max(known, commit.position)
                    self.note()
                case Dismiss(reason=reason):
                    self.dismissed = reason
                    self.note()
                    return
                case Error() as error:
                    self.errors.append(error)
                    self.note()
                    return
                case other:
                    said = "a leader says something else on a commit channel"
                    raise Failed("Q-10", said, "PREPARE, COMMIT or DISMISS", described(other))

    def _judge_enlist(self, enlist: Enlist) -> None:
        ids = [enlist.group[i : i + 32] for i in range(0, len(enlist.group), 32)]
        if len(ids) % 2 == 0 or len(set(ids)) != len(ids):
            raise Failed(
                "Q-1", "the group is no odd number of different ids", "odd, different", [i.hex()[:8] for i in ids]
            )
        if ids[enlist.view % len(ids)] != self.peer.peer_id:
            raise Failed("Q-2", "the testee asks for a view that is not its own", self.peer.peer_id, enlist.view)
        if self.peer.identity.node_id not in ids:
            raise Failed("Q-11", "ENLIST to a node that is not in the group", "a member", self.peer.identity.node_id)
        if enlist.committed < len(enlist.contract.prompt):
            raise Failed(
                "Q-17", "`committed` is below the length of the prompt", len(enlist.contract.prompt), enlist.committed
            )

    def _judge_prepare(
        self, session: Session, enlist: Enlist, prepare: Prepare, base: Prefix, log: Prefix, first: bool
    ) -> Prefix:
        """The whole prefix after the block."""
        if (prepare.position, prepare.base) != (len(base), session.digest_of(base)):
            said = (
                "the base of PREPARE is not the end of the one before (the first one's: what was reported as committed)"
            )
            raise Failed("Q-33", said, (len(base), session.digest_of(base)), (prepare.position, prepare.base))
        end = base + prepare.tokens
        if prepare.digest != session.digest_of(end):
            raise Failed(
                "Q-25", "base and tokens do not give the digest of PREPARE", session.digest_of(end), prepare.digest
            )
        for position in range(len(log) if first else len(base), len(end)):
            right = session.say(end[:position])
            if end[position] != right:
                raise Failed("S-17", f"the token at position {position} is not the target's", right, end[position])
        return end

    def _judge_commit(self, session: Session, enlist: Enlist, commit: Commit) -> None:
        """It names a prefix of what was proposed on this channel, and no later block than that (clause Q-39)."""
        log, height = self.log or session.prompt, self.label[1]
        if commit.view != enlist.view or commit.height > height or commit.position > len(log):
            wanted = f"view {enlist.view}, height and position up to ({height}, {len(log)})"
            raise Failed("Q-39", "COMMIT names a block that was not proposed", wanted, described(commit))
        right = session.digest_of(log[: commit.position])
        if commit.digest != right:
            raise Failed("Q-39", "COMMIT names another prefix than was proposed", right, commit.digest)


async def member(t: LiveTestee, model: Model, *, connect: dict[str, Any] | None = None, **options: Any) -> MemberHand:
    """A voter, connected and at work."""
    peer = await t.connect(Role.VOTER, **(connect or {}))
    hand = MemberHand(t, peer, model, **options)
    t.nursery.start_soon(hand.serve)
    await peer.alive("H-2")
    return hand
