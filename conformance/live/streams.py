"""A client that just reads, for cases about a leader: each BLOCK and END is judged by all that binds a leader there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import trio

from conformance.live.peer import Peer, described
from conformance.live.sessions import Session
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import Feature, Finish, Role
from dsdproto.wire.messages import (
    Block,
    End,
    Open,
    Opened,
)


@dataclass
class Stream:
    """The client's side of one session: what it has received so far."""

    peer: Peer
    channel: int
    session: Session
    origins: bool
    opened: Opened | None = None
    end: End | None = None
    blocks: list[Block] = field(default_factory=list)
    known: dict[int, bytes] = field(default_factory=dict)
    """drafter number -> node id"""

    async def start(self) -> Opened:
        opened = await self.peer.expect(Opened, self.channel, "S-1", within=8.0)
        session, contract = self.session, self.session.contract
        if opened.position != len(session.prompt):
            raise Failed(
                "S-7",
                "the position of OPENED is not the length of the prompt",
                len(session.prompt),
                opened.position,
            )
        if contract.model and opened.model != contract.model:
            raise Failed("S-14", "OPENED names another model than the contract", contract.model, opened.model)
        if contract.profile is not None and opened.profile != contract.profile:
            raise Failed(
                "S-14", "OPENED has another numeric profile than the contract", contract.profile, opened.profile
            )
        quorum = contract.commit_profile == 2
        if (opened.group is not None) != quorum or (opened.view is not None) != quorum:
            raise Failed("Q-1", "`group` and `view` are there under `quorum`, and only then", quorum, described(opened))
        self.opened = opened
        return opened

    async def step(self, within: float | None = None) -> Block | End:
        """The next BLOCK or END."""
        with trio.move_on_after(self.peer.trial.seconds(within or 5.0)):
            arrival = await self.peer.next(self.channel)
            message = arrival.message if arrival is not None else None
            match message:
                case Block():
                    self._block(message)
                    return message
                case End():
                    self._end(message)
                    return message
            got = described(message) if message is not None else self.peer.ended
            raise Failed("S-8", "the stream breaks off", "BLOCK or END", got)
        raise Failed("S-8", "the stream stands still", "BLOCK or END", "nothing")

    async def finish(self, within: float | None = None) -> End:
        """Read to the end, and compare with the target alone."""
        while not isinstance(await self.step(within), End):
            continue
        assert self.end is not None
        if self.end.finish != Finish.CLOSED:
            twin = replace(self.session, committed=[])
            stream, finish = twin.stream()
            if tuple(self.session.committed) != stream:
                raise Failed(
                    "S-17", "the stream is not that of the target alone", stream, tuple(self.session.committed)
                )
            if self.end.finish != int(finish):
                raise Failed("S-9", "the stream ends for another reason", finish.name, self.end.finish)
        return self.end

    def _block(self, block: Block) -> None:
        session = self.session
        if block.position != session.position:
            raise Failed(
                "S-8", "a BLOCK does not begin where the one before it ended", session.position, block.position
            )
        for token in block.tokens:
            if session.finish_at(session.tokens) is not None:
                raise Failed("S-8", "a token after the one that ended the stream", "END", token)
            right = session.say(session.tokens)
            if token != right:
                raise Failed("S-17", f"the token at position {session.position} is not the target's", right, token)
            session.extend((token,))
        wanted = self.origins and Feature.ORIGINS in self.peer.features
        if (block.origins is not None) != wanted:
            raise Failed(
                "S-18", "`origins` where nobody asked for them, or none where somebody did", wanted, block.origins
            )
        for entry in block.drafters or ():
            if self.known.setdefault(entry.number, entry.node_id) != entry.node_id:
                raise Failed(
                    "S-18",
                    "a number stands for another drafter than before",
                    self.known[entry.number],
                    entry.node_id,
                )
        unknown = sorted({number for number in block.origins or b"" if number} - set(self.known))
        if unknown:
            raise Failed("S-18", "`origins` uses a number that no `drafters` announced", sorted(self.known), unknown)
        self.blocks.append(block)

    def _end(self, end: End) -> None:
        session = self.session
        if (end.position, end.digest) != (session.position, session.digest):
            said = "END does not name the prefix that the blocks add up to"
            raise Failed("S-10", said, (session.position, session.digest), (end.position, end.digest))
        if end.stats is not None:
            total = end.stats.accepted + sum(end.stats.waste)
            if end.stats.drafted != total:
                said = "drafted is not accepted plus the sum of waste"
                raise Failed("S-19", said, f"{end.stats.accepted} + {end.stats.waste}", end.stats.drafted)
        self.end = end


async def open_stream(
    t: LiveTestee,
    session: Session,
    *,
    max_drafters: int = 8,
    origins: bool = False,
    peer: Peer | None = None,
    **hello: Any,
) -> Stream:
    """OPEN, from a client of its own unless ``peer`` is one."""
    peer = peer or await t.connect(Role.CLIENT, **hello)
    message = Open(session=session.id, contract=session.contract, max_drafters=max_drafters, origins=int(origins))
    return Stream(peer, await peer.open(message), session, origins)
