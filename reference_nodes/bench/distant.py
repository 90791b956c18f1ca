"""A target and one drafter as processes of this machine, with a road between them that is as long as one likes."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from dsdproto.identity import parse_node_id
from dsdproto.registry import Role
from reference_nodes.bench.delay import SlowRelay
from reference_nodes.cli.asking import ask_status
from reference_nodes.cli.local import CLIENT, LEADER_SECONDS, TARGET, check_models, members_for
from reference_nodes.cli.network import LOOPBACK
from reference_nodes.cli.processes import Child, Nursery, open_children
from reference_nodes.node import Node, NodeConfig, open_node
from reference_nodes.offers import Say
from reference_nodes.trust import NodeIdentity, create_identity, init_cluster

PINGS = 3
PING_SECONDS = 1.1


@dataclass(slots=True)
class Distant:
    """Made by :func:`open_distant`."""

    node: Node
    """the client"""
    identity: NodeIdentity
    target: Child
    drafter: Child
    relay: SlowRelay
    """between the two; the client is close to the target"""
    children: Nursery

    @property
    def leader(self) -> bytes:
        """Node id of the target's process."""
        return parse_node_id(self.target.node)

    async def ping(self) -> float:
        """Seconds of a PING to the drafter and back, whole nodes included: the median of some, while nothing runs.

        Raises NodeError where the target does not answer.
        """
        seen = []
        while len(seen) < PINGS:
            await trio.sleep(PING_SECONDS)
            document = await ask_status(self.target.address, self.identity)
            seen += [
                link["rtt_ms"] / 1e3
                for link in document["links"]
                if "drafter" in link["roles"] and link["rtt_ms"] is not None
            ]
        return statistics.median(seen)


@asynccontextmanager
async def open_distant(
    model: str, draft: str, say: Say, logs: Path, traces: Path | None = None
) -> AsyncIterator[Distant]:
    """Start both and link them over the relay. Raises ChildFailed, ModelError, NodeError.

    :param traces: directory for a trace of each one's jobs, by its name; None: they leave none.
    """
    check_models(model, [draft])
    (member,) = members_for(model, [draft])
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dsdp-")))
        authority = await trio.to_thread.run_sync(init_cluster, home / "cluster", "local")
        for name in (TARGET, member.name):
            create_identity(authority, home, name)
        identity = create_identity(authority, home, CLIENT)
        children = await stack.enter_async_context(open_children(home, logs))
        say(f"starting {model} and {draft}, with a road of any length between them")
        here = ("--host", LOOPBACK, "--no-mdns")

        def trace(name: str) -> tuple[str, ...]:
            return () if traces is None else ("--trace-jobs", str(traces / f"{name}.jsonl"))

        verifying = ("--roles", "leader,verifier", "--model", model)
        target = await children.start(TARGET, *verifying, *here, *trace(TARGET))
        await children.wait_ready(target)
        relay = stack.enter_context(SlowRelay(target.ready["port"]))
        to_target = ("--peer", f"{LOOPBACK}:{relay.port}")
        drafter = await children.start(member.name, *member.options, *here, *to_target, *trace(member.name))
        await children.wait_ready(drafter)
        await children.wait_linked(target, [drafter])
        config = NodeConfig(roles=(Role.CLIENT,), identity=identity, name=CLIENT, host=None, peers=(target.address,))
        node = await stack.enter_async_context(open_node(config))
        await node.leader_link(parse_node_id(target.node), LEADER_SECONDS)
        yield Distant(node, identity, target, drafter, relay, children)
