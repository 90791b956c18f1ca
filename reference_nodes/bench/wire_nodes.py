"""The same exchange between two whole reference nodes: mailboxes, link tasks and routing, only without models.

The role machines are replaced by ones that know the answers; everything around them is what `dsdp serve` runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from dsdproto.effects import Effect, Event, Received, Send
from dsdproto.node import NodeMachine
from dsdproto.prefix import PrefixChain
from dsdproto.registry import Role
from dsdproto.session import chain_of
from dsdproto.wire.messages import Advance, Attach, Attached, Propose
from reference_nodes.bench.exchange import SCORE, SESSION, WINDOW, Round, contract
from reference_nodes.bench.wire_dsdp import WireBroken
from reference_nodes.node import Node, NodeConfig, open_node
from reference_nodes.trust import NodeIdentity

MODEL = "tm-1:v=4096,s=7"
SCORES = bytes([SCORE]) * WINDOW
LINK_SECONDS = 30.0


@dataclass(slots=True)
class KnowingDrafter:
    """A drafter role that proposes what was worked out beforehand."""

    played: tuple[Round, ...]
    _chain: PrefixChain = field(default_factory=lambda: chain_of(contract()))
    _round: int = 0

    def handle(self, event: Event, now: float) -> list[Effect]:
        match event:
            case Received(link, channel, Attach() as attach):
                self._chain = chain_of(attach.contract, attach.committed)
                self._round = 0
                return [Send(link, channel, Attached(model="tm-1")), Send(link, channel, self._propose())]
            case Received(link, channel, Advance() as advance):
                item = self.played[self._round]
                along = advance.ref - self._round * WINDOW if advance.ref else 0
                self._chain.extend((*item.chain[:along], *advance.tokens))
                self._round += 1
                return [Send(link, channel, self._propose())]
        return []

    def _propose(self) -> Propose:
        chain = self._chain
        return Propose(position=chain.position, base=chain.short, tokens=self.played[self._round].chain, scores=SCORES)


@dataclass(slots=True)
class KnowingLeader:
    """A leader role that commits what was worked out beforehand, as many rounds as it was asked for."""

    played: tuple[Round, ...]
    left: int = 0
    waiting: trio.Event | None = None
    _at: tuple[int, int] | None = None
    _chain: PrefixChain = field(default_factory=lambda: chain_of(contract()))
    _round: int = -1
    """whose chain is at hand"""

    def attach(self, link: int, channel: int) -> list[Effect]:
        self._at = (link, channel)
        message = Attach(session=SESSION, contract=contract(), committed=(), credit=WINDOW, window=WINDOW, width=1)
        return [Send(link, channel, message)]

    def go_on(self) -> list[Effect]:
        """The ADVANCE that answers the chain at hand."""
        assert self._at is not None
        item = self.played[self._round]
        self._chain.extend(item.committed)
        ref = self._round * WINDOW + item.accepted if item.accepted else 0
        return [Send(*self._at, Advance(position=self._chain.position, ref=ref, tokens=(item.token,)))]

    def handle(self, event: Event, now: float) -> list[Effect]:
        if not (isinstance(event, Received) and isinstance(event.message, Propose)):
            return []
        self._round += 1
        propose = event.message
        expected = (self._chain.position, self._chain.short, self.played[self._round].chain)
        if (propose.position, propose.base, propose.tokens) != expected:
            raise WireBroken(f"another chain than expected at {propose.position}")
        if self.left:
            self.left -= 1
            return self.go_on()
        if self.waiting is not None:
            self.waiting.set()
        return []


class NodeLeader:
    """The leader's end: a node whose leader role is a :class:`KnowingLeader`."""

    def __init__(self, node: Node, machine: KnowingLeader) -> None:
        self._node = node
        self._machine = machine

    async def begin(self) -> None:
        """Attach the drafter and take its first chain."""
        (link,) = await self._node.wait_for(Role.DRAFTER)

        def attach(machine: NodeMachine, now: float) -> list[Effect]:
            effects = self._machine.attach(link.number, machine.channel(link.number))
            return machine.perform(Role.LEADER, effects, now)

        await self._run(attach)

    async def play(self, count: int) -> None:
        """Run ``count`` rounds, each an ADVANCE and the PROPOSE that answers it."""
        self._machine.left = count - 1
        await self._run(lambda machine, now: machine.perform(Role.LEADER, self._machine.go_on(), now))

    async def _run(self, function: object) -> None:
        self._machine.waiting = trio.Event()
        await self._node.host.call(function)  # type: ignore[arg-type]
        await self._machine.waiting.wait()


@asynccontextmanager
async def open_node_leader(port: int, identity: NodeIdentity, played: tuple[Round, ...]) -> AsyncIterator[NodeLeader]:
    """Run the leader's node and connect it to the drafter's at ``127.0.0.1:port``."""
    config = NodeConfig(roles=(Role.LEADER,), identity=identity, name="leader", host=None)
    async with open_node(config) as node:
        machine = KnowingLeader(played)
        node.host.machine.roles[Role.LEADER] = machine
        node.peers.dial_static("127.0.0.1", port)
        leader = NodeLeader(node, machine)
        with trio.fail_after(LINK_SECONDS):
            await leader.begin()
        yield leader


@asynccontextmanager
async def open_node_drafter(identity: NodeIdentity, played: tuple[Round, ...]) -> AsyncIterator[Node]:
    """Run the drafter's node."""
    config = NodeConfig(roles=(Role.DRAFTER,), identity=identity, name="drafter", draft=MODEL, draft_for=MODEL)
    async with open_node(config) as node:
        node.host.machine.roles[Role.DRAFTER] = KnowingDrafter(played)
        yield node
