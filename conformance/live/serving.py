"""The leader's side of a client's session: what a client under test is served, right or wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from conformance.door.pki import Identity
from conformance.live.peer import Peer
from conformance.live.sessions import Model, NotTestModel, Session
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import CommitProfile, Role
from dsdproto.wire.messages import Block, Contract, End, Open, Opened, Resume


def model_of(contract: Contract) -> Model:
    """The TM-1 target that a contract is about."""
    try:
        model = Model.parse(contract.model) if contract.model else Model(contract.vocabulary_size)
    except NotTestModel:
        said = "the client asks for another model than a TM-1 one"
        raise Failed("S-TM1-5", said, "tm-1:...", contract.model) from None
    if (contract.vocabulary_size, contract.vocabulary_digest) != (model.v, model.digest):
        said = "size or digest of the contract's vocabulary are not those of TM-1"
        raise Failed("S-11", said, (model.v, model.digest), (contract.vocabulary_size, contract.vocabulary_digest))
    return model


@dataclass
class Serving:
    """One session of the client under test. ``session.committed`` is what it was sent in BLOCK messages."""

    t: LiveTestee
    peer: Peer
    channel: int
    open: Open
    session: Session
    stream: tuple[int, ...]
    finish: int
    group: bytes | None = None

    def opened_of(self, **changes: Any) -> Opened:
        model = self.session.model
        values: dict[str, Any] = {
            "position": self.session.position,
            "model": model.name,
            "profile": model.profile,
            "profile_text": model.profile_text,
            "group": self.group,
            "view": None if self.group is None else 0,
            **changes,
        }
        return Opened(**values)

    def block_of(self, count: int = 2, **changes: Any) -> Block:
        """The next tokens of the stream."""
        at = len(self.session.committed)
        asked = self.open.origins and 5 in self.peer.features and self.group is None
        tokens = self.stream[at : at + count]
        values: dict[str, Any] = {
            "position": self.session.position,
            "tokens": tokens,
            "origins": bytes(len(tokens)) if asked else None,
            **changes,
        }
        return Block(**values)

    def end_of(self, **changes: Any) -> End:
        values = {"finish": self.finish, "position": self.session.position, "digest": self.session.digest, **changes}
        return End(**values)

    async def say(self, message: Any, **how: Any) -> None:
        await self.peer.send(message, self.channel, **how)

    async def start(self, **how: Any) -> None:
        await self.say(self.opened_of(), **how)

    async def send(self, count: int = 2, **how: Any) -> None:
        """The next block."""
        block = self.block_of(count)
        await self.say(block, **how)
        self.session.extend(block.tokens)

    async def send_all(self, **how: Any) -> None:
        """The rest of the stream, and END."""
        while len(self.session.committed) < len(self.stream):
            await self.send(self.peer.rng.randint(1, 5), **how)
        await self.say(self.end_of(), **how)


async def serve(
    t: LiveTestee,
    *,
    quorum: bool = False,
    identity: Identity | None = None,
    group: bytes | None = None,
    **hello: Any,
) -> Serving:
    """As a leader, connect to the client under test and take the session that it opens."""
    roles = (Role.LEADER, Role.VOTER) if quorum else (Role.LEADER,)
    peer = await t.connect(*roles, identity=identity, name="leader", **hello)
    return await serve_over(t, peer, quorum=quorum, group=group)


async def serve_over(t: LiveTestee, peer: Peer, *, quorum: bool = False, group: bytes | None = None) -> Serving:
    """Take the session that the client under test opens on this link."""
    channel, message = await peer.opening(Open, "S-1")
    contract = message.contract
    model = model_of(contract)
    session = Session(message.session, contract, model, max_context=1 << 20)
    if (contract.commit_profile == CommitProfile.QUORUM) != quorum:
        said = "a client under test opens `quorum` where the leader is a voter, else `solo` (IMPLEMENTERS.md)"
        raise Failed("K-1", said, 2 if quorum else 0, contract.commit_profile)
    whole = replace(session, committed=[])
    stream, finish = whole.stream()
    return Serving(t, peer, channel, message, session, stream, int(finish), group)


@dataclass
class Resumed:
    """The client has come to a voter."""

    serving: Serving
    peer: Peer
    channel: int
    message: Resume
