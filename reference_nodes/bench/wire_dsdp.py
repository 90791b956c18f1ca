"""The exchange as DSDP: both ends of a draft channel, over mutual TLS, with all that the protocol checks."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from dsdproto.connection import Connection, Side
from dsdproto.effects import LinkDown, LinkUp, Received
from dsdproto.errors import DsdpError
from dsdproto.registry import MAX_PAYLOAD, VERSION, Feature, Role
from dsdproto.session import chain_of
from dsdproto.wire.messages import Advance, Attach, Attached, Hello, Limits, ModelOffer, Propose
from reference_nodes import tls
from reference_nodes.bench.exchange import SCORE, SESSION, VOCABULARY, WINDOW, Round, contract
from reference_nodes.trust import NodeIdentity

CHANNEL = 1
SCORES = bytes([SCORE]) * WINDOW


class WireBroken(DsdpError):
    """The two ends of the benchmark do not agree: its figures would mean nothing."""


class Pipe:
    """A connection over a stream, driven in one task."""

    def __init__(self, stream: trio.abc.Stream, connection: Connection) -> None:
        self.stream = stream
        self.connection = connection

    async def flush(self) -> None:
        if data := self.connection.data_to_send():
            await self.stream.send_all(data)

    async def send(self, message: Any) -> None:
        self.connection.send(CHANNEL, message)
        await self.flush()

    async def receive(self, kind: type) -> Any:
        """The next message of this kind, past others (ATTACHED). Raises :class:`WireBroken`, EndOfChannel."""
        while True:
            for event in await self.events():
                if isinstance(event, Received) and isinstance(event.message, kind):
                    return event.message

    async def events(self) -> list[Any]:
        data = await self.stream.receive_some(1 << 16)
        if not data:
            raise trio.EndOfChannel
        events = self.connection.receive(bytes(data), trio.current_time())
        await self.flush()
        for event in events:
            if isinstance(event, LinkDown):
                raise WireBroken(f"the link ended: {event.reason}")
        return events

    async def up(self) -> None:
        await self.flush()
        while not any(isinstance(event, LinkUp) for event in await self.events()):
            await trio.lowlevel.checkpoint()


def _pipe(stream: tls.Stream, identity: NodeIdentity, side: Side, role: Role) -> Pipe:
    offer = ModelOffer(
        role=int(role), name="tm-1", vocabulary_size=VOCABULARY, vocabulary_digest=bytes(32), max_context=1 << 24
    )
    hello = Hello(
        version_min=VERSION,
        version_max=VERSION,
        node_id=identity.node_id,
        instance=os.urandom(8),
        roles=(int(role),),
        cluster=identity.cluster_id,
        # Trees are off: the benchmark is about chains.
        features=(int(Feature.SCORES), int(Feature.ORIGINS)),
        limits=Limits(max_payload=MAX_PAYLOAD, max_channels=16, heartbeat_ms=600_000),
        models=(offer,) if role is Role.DRAFTER else (),
        nonce=os.urandom(16),
        agent="dsdp-bench",
    )
    return Pipe(stream, Connection(side, hello, tls.peer_node_id(stream), os.urandom(64), trio.current_time(), link=0))


async def serve_drafter(stream: tls.Stream, identity: NodeIdentity, played: tuple[Round, ...]) -> None:
    """The drafter's end: a PROPOSE for the attached prefix, then one for each ADVANCE."""
    pipe = _pipe(stream, identity, Side.ACCEPTOR, Role.DRAFTER)
    await pipe.up()
    attach = await pipe.receive(Attach)
    chain = chain_of(attach.contract, attach.committed)
    await pipe.send(Attached(model="tm-1"))
    numbered = 0
    for item in played:
        await pipe.send(Propose(position=chain.position, base=chain.short, tokens=item.chain, scores=SCORES))
        advance = await pipe.receive(Advance)
        along = advance.ref - numbered if advance.ref else 0
        chain.extend((*item.chain[:along], *advance.tokens))
        numbered += len(item.chain)
        if chain.position != advance.position:
            raise WireBroken(f"ADVANCE to {advance.position}, the chain is at {chain.position}")


class Leader:
    """The leader's end of one session."""

    def __init__(self, pipe: Pipe, played: tuple[Round, ...]) -> None:
        self._pipe = pipe
        self._rounds = iter(played)
        self._chain = chain_of(contract())
        self._numbered = 0
        self._item: Round

    async def begin(self) -> None:
        """Attach the drafter and take its first chain."""
        await self._pipe.send(
            Attach(session=SESSION, contract=contract(), committed=(), credit=WINDOW, window=WINDOW, width=1)
        )
        await self._propose()

    async def play(self, count: int) -> int:
        """Run ``count`` rounds, each an ADVANCE and the PROPOSE that answers it; returns the tokens committed."""
        chain = self._chain
        before = chain.position
        for _ in range(count):
            item = self._item
            chain.extend(item.committed)
            ref = self._numbered - len(item.chain) + item.accepted if item.accepted else 0
            await self._pipe.send(Advance(position=chain.position, ref=ref, tokens=(item.token,)))
            await self._propose()
        return chain.position - before

    async def _propose(self) -> None:
        propose = await self._pipe.receive(Propose)
        if (propose.position, propose.base) != (self._chain.position, self._chain.short):
            raise WireBroken(f"a proposal for another prefix, at {propose.position}")
        # In place of a verifier: both ends worked out beforehand what it would say to this chain.
        self._item = next(self._rounds)
        if propose.tokens != self._item.chain:
            raise WireBroken(f"another chain than expected at {propose.position}")
        self._numbered += len(propose.tokens)


@asynccontextmanager
async def open_leader(port: int, identity: NodeIdentity, played: tuple[Round, ...]) -> AsyncIterator[Leader]:
    """Dial the drafter at ``127.0.0.1:port`` and attach it."""
    stream = await tls.connect("127.0.0.1", port, identity)
    try:
        pipe = _pipe(stream, identity, Side.DIALER, Role.LEADER)
        await pipe.up()
        leader = Leader(pipe, played)
        await leader.begin()
        yield leader
    finally:
        await trio.aclose_forcefully(stream)
