"""The leader's side of a commit channel, and groups of which the testee is a member."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from conformance.door.pki import Identity
from conformance.live.peer import Peer
from conformance.live.sessions import Model, Session, make_session
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import CommitProfile, Role
from dsdproto.wire.messages import Block, Commit, Dismiss, End, Enlist, Enlisted, Opened, Prepare, Resume, Vote


@dataclass
class Group:
    """Three members: two nodes of the suite, and the testee between them.

    Views 0, 3, 6 belong to ``first``, views 1, 4 to the testee, views 2, 5 to ``last`` (clause Q-2).
    """

    t: LiveTestee
    session: Session
    first: Identity
    last: Identity
    testee: bytes

    @property
    def ids(self) -> bytes:
        return self.first.node_id + self.testee + self.last.node_id

    def enlist_of(self, view: int, committed: int | None = None, **changes: Any) -> Enlist:
        """ENLIST as the leader of ``view`` says it; ``committed`` is by default the end of the prompt."""
        model = self.session.model
        values: dict[str, Any] = {
            "session": self.session.id,
            "contract": self.session.contract,
            "group": self.ids,
            "view": view,
            "committed": len(self.session.prompt) if committed is None else committed,
            "model": model.name,
            "profile": model.profile,
            "profile_text": model.profile_text,
            "max_drafters": 0,
            **changes,
        }
        return Enlist(**values)

    def leader_of(self, view: int) -> Identity:
        return (self.first, self.first, self.last)[view % 3]

    async def link(self, view: int, *roles: Role, **hello: Any) -> Peer:
        """A link from the node that leads ``view``."""
        name = "first" if view % 3 == 0 else "last"
        return await self.t.connect(*(roles or (Role.LEADER,)), identity=self.leader_of(view), name=name, **hello)

    async def lead(
        self, view: int = 0, committed: int | None = None, peer: Peer | None = None, **changes: Any
    ) -> Leading:
        """Enlist the testee for ``view``."""
        peer = peer or await self.link(view)
        message = self.enlist_of(view, committed, **changes)
        channel = await peer.open(message)
        answer = await peer.expect(Enlisted, channel, "Q-10")
        return Leading(self, peer, channel, view, answer, height=answer.height)

    def check_report(
        self, answer: Enlisted, view: int, height: int, log: tuple[int, ...], known: int, asked: int
    ) -> None:
        """ENLISTED describes this log (clause Q-17). ``log``: the whole prefix; ``known``: what is committed of it."""
        for field_, right, got in (
            ("view", view, answer.view),
            ("height", height, answer.height),
            ("committed", known, answer.committed),
            ("position", len(log), answer.position),
            ("digest", self.session.digest_of(log), answer.digest),
            ("tokens", log[asked:], answer.tokens),
        ):
            if right != got:
                raise Failed("Q-17", f"ENLISTED does not describe the voter's log: `{field_}`", right, got)


@dataclass
class Leading:
    """One view's commit channel at the testee."""

    group: Group
    peer: Peer
    channel: int
    view: int
    answer: Enlisted
    height: int = 0
    blocks: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """height -> the whole prefix up to the end of that block"""

    def prepare_of(self, base: tuple[int, ...], tokens: tuple[int, ...], /, **changes: Any) -> Prepare:
        """PREPARE of the next block."""
        session = self.group.session
        values: dict[str, Any] = {
            "view": self.view,
            "height": self.height + 1,
            "position": len(base),
            "base": session.digest_of(base),
            "tokens": tokens,
            "digest": session.digest_of(base + tokens),
            **changes,
        }
        return Prepare(**values)

    async def prepare(self, base: tuple[int, ...], tokens: tuple[int, ...], finish: int | None = None) -> Vote:
        """Propose a block and await the vote (clause Q-24)."""
        message = self.prepare_of(base, tokens, finish=finish)
        await self.peer.send(message, self.channel)
        vote = await self.voted(message)
        self.height += 1
        self.blocks[self.height] = base + tokens
        return vote

    async def voted(self, message: Prepare) -> Vote:
        vote = await self.peer.expect(Vote, self.channel, "Q-24")
        wanted = (message.view, message.height, message.digest)
        if (vote.view, vote.height, vote.digest) != wanted:
            raise Failed("Q-24", "VOTE does not repeat the PREPARE", wanted, (vote.view, vote.height, vote.digest))
        return vote

    def commit_of(self, height: int | None = None, /, **changes: Any) -> Commit:
        height = self.height if height is None else height
        end = self.blocks[height]
        values = {
            "view": self.view,
            "height": height,
            "position": len(end),
            "digest": self.group.session.digest_of(end),
        }
        return Commit(**{**values, **changes})

    async def commit(self, height: int | None = None) -> None:
        await self.peer.send(self.commit_of(height), self.channel)

    async def dismiss(self, reason: int) -> None:
        await self.peer.send(Dismiss(reason=reason), self.channel)


async def make_group(t: LiveTestee, model: Model | None = None, **changes: Any) -> Group:
    """A new session of a new group."""
    session = make_session(t.rng, model or t.own_model(), commit_profile=int(CommitProfile.QUORUM), **changes)
    testee = (await t.hello()).node_id
    return Group(t, session, t.identity("first"), t.identity("last"), testee)


@dataclass
class Reading:
    """A client that resumed at the testee."""

    peer: Peer
    channel: int
    group: Group
    tokens: tuple[int, ...]
    """the whole prefix that it holds"""
    opened: Opened | None = None
    end: End | None = None

    async def started(self, view: int | None = None) -> Opened:
        opened = await self.peer.expect(Opened, self.channel, "Q-50")
        for said, right, got in (
            ("the position of OPENED is not that of RESUME", len(self.tokens), opened.position),
            ("OPENED has another group", self.group.ids, opened.group),
            ("OPENED names another view than was promised", opened.view if view is None else view, opened.view),
            ("OPENED names another model", self.group.session.model.name, opened.model),
        ):
            if right != got:
                raise Failed("Q-50", said, right, got)
        if opened.view is None:
            raise Failed("Q-50", "OPENED has no view", "a view", "none")
        self.opened = opened
        return opened

    async def read_to(self, wanted: tuple[int, ...]) -> None:
        """BLOCKs up to the prefix ``wanted``, not a token more or less."""
        while len(self.tokens) < len(wanted):
            block = await self.peer.expect(Block, self.channel, "Q-50")
            if block.position != len(self.tokens):
                raise Failed(
                    "S-8", "a BLOCK does not begin where the one before it ended", len(self.tokens), block.position
                )
            if block.origins is not None or block.drafters is not None:
                raise Failed("Q-54", "a BLOCK of a voter has origins", "none", block.origins)
            self.tokens += block.tokens
            if self.tokens != wanted[: len(self.tokens)]:
                said = "a voter delivers what is not committed, or something else than was committed"
                raise Failed("Q-51", said, wanted, self.tokens)

    async def ends(self, finish: int) -> End:
        end = await self.peer.expect(End, self.channel, "Q-50")
        wanted = (finish, len(self.tokens), self.group.session.digest_of(self.tokens))
        if (end.finish, end.position, end.digest) != wanted:
            raise Failed("S-10", "END does not name what was delivered", wanted, (end.finish, end.position, end.digest))
        if end.stats is not None:
            raise Failed("Q-54", "END of a voter has stats", "none", end.stats)
        self.end = end
        return end


async def resume(
    t: LiveTestee, group: Group, tokens: tuple[int, ...], *, digest: bytes | None = None, peer: Peer | None = None
) -> Reading:
    """RESUME with the prefix ``tokens``."""
    peer = peer or await t.connect(Role.CLIENT)
    name = group.session.digest_of(tokens) if digest is None else digest
    message = Resume(session=group.session.id, position=len(tokens), digest=name)
    return Reading(peer, await peer.open(message), group, tokens)
