"""Three nodes that lead, verify and vote, two that draft, and a client here: what the benchmarks of `quorum` run on."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from dsdproto.identity import parse_node_id
from dsdproto.registry import Role
from reference_nodes.cli.local import CLIENT, check_models, members_for
from reference_nodes.cli.network import LOOPBACK
from reference_nodes.cli.processes import Child, Nursery, open_children
from reference_nodes.node import Node, NodeConfig, open_node
from reference_nodes.offers import Say
from reference_nodes.peers import Redial
from reference_nodes.trust import create_identity, init_cluster

VOTERS = 3
REDIAL = Redial(0.05, 0.5)


@dataclass(slots=True)
class VoterCluster:
    """Made by :func:`open_voters`."""

    node: Node
    """the client"""
    voters: list[Child]
    drafters: list[Child]
    children: Nursery
    _options: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def id_of(self, child: Child) -> bytes:
        """32 bytes."""
        return parse_node_id(child.node)

    async def restart(self, number: int) -> None:
        """Start a voter that has died again, at its old address."""
        dead = self.voters[number]
        await dead.process.wait()
        self.children.forget(dead)
        others = [child for child in (*self.voters, *self.drafters) if child is not dead]
        peers = [option for child in others for option in ("--peer", child.address)]
        port = ("--port", str(dead.ready["port"]))
        self.voters[number] = await self.children.start(dead.name, *self._options[dead.name], *port, *peers)
        await self.children.wait_ready(self.voters[number])

    async def gone(self, child: Child) -> None:
        """Wait until the others have noticed that a voter was silent, and ended their links with it."""
        for other in self.voters:
            if other is not child:
                await self.children.wait_unlinked(other, [child])
        while self.node.link_to(self.id_of(child)):
            await self.node.peers.wait_for_change()

    async def settled(self) -> None:
        """Wait until everybody is linked with everybody that they have to do with. Raises ChildFailed."""
        for child in self.voters:
            others = [other for other in (*self.voters, *self.drafters) if other is not child]
            await self.children.wait_linked(child, others)
        while not all(self.node.link_to(self.id_of(child)) for child in self.voters):
            await self.node.peers.wait_for_change()


@asynccontextmanager
async def open_voters(model: str, drafters: Sequence[str], say: Say, logs: Path) -> AsyncIterator[VoterCluster]:
    """Start all processes and link them. Raises ChildFailed, ModelError, NodeError."""
    check_models(model, drafters)
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dsdp-")))
        authority = await trio.to_thread.run_sync(init_cluster, home / "cluster", "local")
        members = members_for(model, drafters)
        names = [f"voter-{number}" for number in range(1, VOTERS + 1)]
        for name in (*names, *(member.name for member in members)):
            create_identity(authority, home, name)
        identity = create_identity(authority, home, CLIENT)
        children = await stack.enter_async_context(open_children(home, logs))
        here = ("--host", LOOPBACK, "--no-mdns")
        options = dict.fromkeys(names, ("--roles", "leader,verifier,voter", "--model", model, *here))
        options |= {member.name: (*member.options, *here) for member in members}
        say(f"starting {VOTERS} voters with {model} and {len(drafters)} drafter(s)")
        started: list[Child] = []
        for name, chosen in options.items():
            peers = [option for child in started for option in ("--peer", child.address)]
            started.append(await children.start(name, *chosen, *peers))
            await children.wait_ready(started[-1])
        voters = started[:VOTERS]
        config = NodeConfig(
            roles=(Role.CLIENT,),
            identity=identity,
            name=CLIENT,
            host=None,
            peers=tuple(child.address for child in voters),
            redial=REDIAL,
        )
        node = await stack.enter_async_context(open_node(config))
        cluster = VoterCluster(node, voters, started[VOTERS:], children, options)
        await cluster.settled()
        yield cluster
