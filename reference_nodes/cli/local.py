"""A whole cluster on this machine: an authority in a temporary directory, nodes as processes, a client in this one.

They find each other by multicast DNS on the loopback interface where that works, else by their addresses; either
way they speak over mutual TLS.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from dsdproto.identity import parse_node_id
from dsdproto.registry import Role
from reference_nodes.cli.asking import ask_status
from reference_nodes.cli.network import LOOPBACK, loopback_fault
from reference_nodes.cli.options import UsageError
from reference_nodes.cli.processes import Child, ChildFailed, Nursery, open_children
from reference_nodes.errors import NodeError
from reference_nodes.models_store import PULLABLE, ModelError, locate
from reference_nodes.node import Node, NodeConfig, open_node
from reference_nodes.offers import Say
from reference_nodes.trust import NodeIdentity, create_identity, init_cluster

CLIENT = "client"
TARGET = "target"
LEADER_SECONDS = 60.0
SETTLE_SECONDS = 1.0
_PARAMETER = re.compile(r"[a-z]=\d+")


@dataclass(frozen=True, slots=True)
class Member:
    """A node to start besides the target."""

    name: str
    options: tuple[str, ...]
    """of ``dsdp serve``, without what says how to find the others"""


@dataclass(slots=True, eq=False)
class LocalCluster:
    """Running nodes. Made by :func:`open_local`."""

    node: Node
    """the client"""
    identity: NodeIdentity
    target: Child
    leaders: list[Child]
    """besides the target"""
    drafters: list[Child]
    fault: str
    """why multicast DNS was not used; empty: it was"""
    logs: Path
    children: Nursery

    @property
    def leader(self) -> bytes:
        """Node id of the target's process, which leads too."""
        return self.id_of(self.target)

    def id_of(self, child: Child) -> bytes:
        """32 bytes."""
        return parse_node_id(child.node)

    async def wire(self, leader: Child | None = None) -> Wire:
        """What a leader's links to drafters and verifiers carried so far.

        Asked over a connection of its own, which is not counted. Delivery is best looked at from the client's side.
        """
        document = await ask_status((leader or self.target).address, self.identity)
        planes: dict[str, dict[int, int]] = {"draft": {}, "verify": {}}
        for link in document["links"]:
            for role, plane in (("drafter", "draft"), ("verifier", "verify")):
                if role in link["roles"]:
                    planes[plane][link["link"]] = link["wire_bytes"]["received"] + link["wire_bytes"]["sent"]
        return Wire(planes)

    @property
    def lost(self) -> list[Child]:
        """Processes that ended although nobody told them to."""
        return [child for child in (self.target, *self.leaders, *self.drafters) if child.ended]


@dataclass(frozen=True, slots=True)
class Wire:
    """Bytes on the wire at one moment, both directions, TLS records included: plane -> number of the link -> bytes."""

    planes: dict[str, dict[int, int]]

    def since(self, before: Wire, plane: str) -> int:
        """What the links that are there now carried since ``before``."""
        then = before.planes[plane]
        return sum(count - then.get(link, 0) for link, count in self.planes[plane].items())


def draft_names(text: str, model: str) -> list[str]:
    """The draft models that ``--drafters`` means: a number of the usual ones, or names separated by commas.

    >>> draft_names("smollm2-draft,tm-1:v=512,s=7,a=52429,ngram", "smollm2")
    ['smollm2-draft', 'tm-1:v=512,s=7,a=52429', 'ngram']
    """
    if text.isdigit():
        usual = [name for name in usual_drafters(model) if _is_here(name)]
        return [usual[index % len(usual)] for index in range(int(text))]
    names: list[str] = []
    for part in text.split(","):
        if names and _PARAMETER.fullmatch(part):
            names[-1] += f",{part}"
        elif part.strip():
            names.append(part.strip())
    if not names:
        raise UsageError(f"--drafters {text!r}: give a number, or names such as smollm2-draft,ngram")
    return names


def _is_here(name: str) -> bool:
    """An installation without the shipped weights still has the drafters that need none."""
    try:
        locate(name)
    except ModelError:
        return False
    return True


def usual_drafters(model: str) -> list[str]:
    """Drafters of different kinds for a target, the best first."""
    base, _, options = model.partition(":")
    if base == "tm-1":
        given = ",".join(part for part in options.split(",") if part[:2] in ("v=", "s=", "e="))
        lead = f"{given}," if given else ""
        # 65536 is certain agreement: these are 80 %, 60 % and none.
        return [f"tm-1:{lead}a=52429,d=1", f"tm-1:{lead}a=39322,d=2", f"tm-1:{lead}a=0,d=3"]
    if model in PULLABLE:
        return ["smollm2-draft", "ngram", "ngram:3-1"]
    return ["ngram", "ngram:3-1"]


def members_for(model: str, drafters: Sequence[str], kind: str = "drafter") -> list[Member]:
    """One member for each draft model."""
    return [
        Member(f"{kind}-{number}", ("--roles", "drafter", "--model", model, "--draft-model", name))
        for number, name in enumerate(drafters, 1)
    ]


def check_models(model: str, drafters: Sequence[str]) -> None:
    """Raise ModelError for what cannot be found, before any process is started."""
    locate(model)
    for name in drafters:
        locate(name)


@asynccontextmanager
async def open_local(
    model: str,
    drafters: Sequence[Member],
    say: Say,
    *,
    logs: Path,
    leaders: Sequence[Member] = (),
    mdns: bool = True,
    in_order: bool = False,
    target_options: Sequence[str] = (),
) -> AsyncIterator[LocalCluster]:
    """Start the target (leader and verifier in one process), the others and a client, and wait until all are linked.

    :param leaders: more leaders, which have no model and use the target's.
    :param mdns: find each other by multicast DNS if it works here.
    :param in_order: link drafters to the leaders one after another, so that sessions prefer earlier ones.

    Raises ChildFailed, ModelError, NodeError. All processes end with the block, however it ends.
    """
    fault = await loopback_fault() if mdns else "not asked for"
    if mdns and fault:
        say(f"multicast DNS does not work on this machine ({fault}); the nodes get each other's addresses instead")
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dsdp-")))
        authority = await trio.to_thread.run_sync(init_cluster, home / "cluster", "local")
        for name in (TARGET, *(member.name for member in (*leaders, *drafters))):
            create_identity(authority, home, name)
        identity = create_identity(authority, home, CLIENT)
        children = await stack.enter_async_context(open_children(home, logs))
        network = ("--no-mdns",) if fault else ("--interface", LOOPBACK)
        say(f"starting the target {model} and {len(leaders) + len(drafters)} more")
        roles = ("--roles", "leader,verifier", "--model", model)
        target = await children.start(TARGET, *roles, "--host", LOOPBACK, *target_options, *network)
        leading, drafting = [target], []

        async def start(member: Member, known: Sequence[Child]) -> Child:
            peers = [option for child in known for option in ("--peer", child.address)] if fault else []
            return await children.start(member.name, *member.options, "--host", LOOPBACK, *network, *peers)

        if fault or in_order or leaders:
            await children.wait_ready(target)
        for member in leaders:
            leading.append(await start(member, [target]))
            await children.wait_ready(leading[-1])
            await children.wait_linked(leading[-1], [target])
        for member in drafters:
            drafting.append(await start(member, leading))
            if in_order:
                await children.wait_ready(drafting[-1])
                for leader in leading:
                    await children.wait_linked(leader, drafting)
        await children.wait_ready(target, *drafting)
        for leader in leading:
            await children.wait_linked(leader, drafting)
        config = NodeConfig(
            roles=(Role.CLIENT,),
            identity=identity,
            name=CLIENT,
            host=None,
            peers=tuple(child.address for child in leading) if fault else (),
            interfaces=None if fault else (LOOPBACK,),
        )
        node = await stack.enter_async_context(open_node(config))
        for leader in leading:
            await node.leader_link(parse_node_id(leader.node), LEADER_SECONDS)
        cluster = LocalCluster(node, identity, target, leading[1:], drafting, fault, logs, children)
        try:
            yield cluster
        except NodeError as error:
            # A node that died is the better explanation of whatever its end caused here.
            ended = await children.wait_ended(SETTLE_SECONDS)
            if ended is not None and not isinstance(error, ChildFailed):
                raise ended.fault(f"ended on its own, and so: {error}") from error
            raise


def met_text(cluster: LocalCluster) -> str:
    """How the nodes met, for people."""
    return f"by their addresses ({cluster.fault})" if cluster.fault else f"by multicast DNS on {LOOPBACK}"
