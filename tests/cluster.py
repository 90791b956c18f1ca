"""A small cluster of TM-1 nodes in a simulated world, for tests of whole sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dsdproto.invariants import check_node, check_records, check_stream
from dsdproto.node import NodeMachine
from dsdproto.registry import VERSION, CommitProfile, Method, Role
from dsdproto.roles.client import (
    Client,
    Clients,
    Committed,
    Completed,
    Failed,
    Interrupted,
    Resumed,
    SessionItem,
)
from dsdproto.roles.drafter import Drafter, DrafterConfig
from dsdproto.roles.leader import Leader, LeaderConfig
from dsdproto.roles.verifier import Verifier, VerifierConfig
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.sampling import CoupledSampler, SamplingParameters
from dsdproto.testmodel import TestModel, advance, context_of
from dsdproto.wire.messages import Contract, Hello, Limits, ModelOffer, Sampling
from reference_nodes.backends.tm1 import tm1_draft, tm1_target
from reference_nodes.executors import DraftExecutor, VerifyExecutor
from reference_nodes.simulator.world import SimNode, World

VOCABULARY = 512
VOCABULARY_DIGEST = bytes(range(32))
TARGET = f"v={VOCABULARY},s=7"
FORWARD = 0.027
EXPAND = 0.003


def hello(name: str, roles: list[Role], models: list[ModelOffer]) -> Hello:
    return Hello(
        version_min=VERSION,
        version_max=VERSION,
        node_id=name.encode().ljust(32, b"\0"),
        instance=name.encode()[:8].ljust(8, b"\0"),
        roles=tuple(sorted(int(role) for role in roles)),
        cluster=bytes(16),
        features=(1, 3, 5),
        limits=Limits(max_payload=1 << 20, max_channels=1024, heartbeat_ms=1000),
        models=tuple(models),
        nonce=bytes(16),
        agent="test",
    )


def offer(
    role: Role,
    name: str,
    digest: bytes = VOCABULARY_DIGEST,
    max_context: int = 4096,
    profile: bytes = b"\x01" * 32,
) -> ModelOffer:
    verifier = role is Role.VERIFIER
    return ModelOffer(
        role=int(role),
        name=name,
        vocabulary_size=VOCABULARY,
        vocabulary_digest=digest,
        max_context=max_context,
        profile=profile if verifier else None,
        profile_text="tm-1" if verifier else None,
    )


def contract(
    prompt: tuple[int, ...] = (3, 1, 4, 1, 5),
    *,
    max_tokens: int = 60,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 1,
    stop: tuple[int, ...] = (),
    digest: bytes = VOCABULARY_DIGEST,
    commit: CommitProfile = CommitProfile.SOLO,
    **more: Any,
) -> Contract:
    return Contract(
        prompt=prompt,
        sampling=Sampling(
            method=int(Method.COUPLED),
            temperature=round(temperature * 65536),
            top_k=top_k,
            top_p=round(top_p * 65536),
            seed=seed,
        ),
        max_tokens=max_tokens,
        stop_tokens=stop,
        vocabulary_size=VOCABULARY,
        vocabulary_digest=digest,
        model="",
        commit_profile=int(commit),
        **more,
    )


def alone(contract: Contract, options: str = TARGET) -> tuple[int, ...]:
    """The target alone, one token at a time: what every stream must equal."""
    sampling = contract.sampling
    sampler = CoupledSampler(SamplingParameters(sampling.temperature, sampling.top_k, sampling.top_p), sampling.seed)
    model = TestModel.parse(f"tm-1:{options}").target
    context, position, out = context_of(contract.prompt), len(contract.prompt), []
    while len(out) < contract.max_tokens:
        token = sampler.choose(model.row(context), position + len(out)).token
        out.append(token)
        if token in contract.stop_tokens:
            break
        context = advance(context, token)
    return tuple(out)


class Cluster:
    """World plus shorthand: target nodes, drafter nodes, a client, and the streams that the client saw."""

    def __init__(self, *, delay: float = 0.001, leader: LeaderConfig | None = None) -> None:
        self.world = World()
        self.world.observe = lambda node, event: check_node(node.machine)
        self.delay = delay
        self.streams: dict[bytes, list[int]] = {}
        self.ends: dict[bytes, Completed | Failed] = {}
        self.origins: dict[bytes, bytes] = {}
        self.breaks: dict[bytes, list[Interrupted | Resumed]] = {}
        self.clients = Clients()
        self._leader = leader or LeaderConfig()
        node = SimNode("client", NodeMachine(hello("client", [Role.CLIENT], []), {Role.CLIENT: self.clients}))
        node.on_deliver = self._deliver
        self.world.add(node)

    def target(
        self,
        name: str = "target",
        *,
        leads: bool = True,
        votes: bool = False,
        options: str = TARGET,
        profile: bytes = b"\x01" * 32,
        **config: Any,
    ) -> Leader | None:
        """A verifier node, by default with the leader role on board."""
        models = [offer(Role.VERIFIER, f"tm-1:{options}", profile=profile)]
        roles = [Role.VERIFIER] + [Role.LEADER] * leads + [Role.VOTER] * votes
        machine = NodeMachine(hello(name, roles, models))
        machine.roles[Role.VERIFIER] = Verifier(VerifierConfig(models[0], **config))
        leader = None
        if leads:
            leader = Leader(self._leader, machine.channel)
            machine.roles[Role.LEADER] = leader
        if votes:
            machine.roles[Role.VOTER] = Voter(VoterConfig(), machine.hello.node_id)
        node = SimNode(name, machine)
        node.run[Role.VERIFIER] = (
            VerifyExecutor(tm1_target(options)).run,
            lambda work: FORWARD + 0.0007 * sum(len(item.tokens) for item in work.score),
        )
        self.world.add(node)
        return leader

    def leader_node(self, name: str = "leader") -> Leader:
        """A leader without a model."""
        machine = NodeMachine(hello(name, [Role.LEADER], []))
        leader = Leader(self._leader, machine.channel)
        machine.roles[Role.LEADER] = leader
        self.world.add(SimNode(name, machine))
        return leader

    def drafter(
        self,
        name: str,
        agreement: float,
        *,
        leader: str = "target",
        number: int = 1,
        digest: bytes | None = None,
        step: float = EXPAND,
        **config: Any,
    ) -> Drafter:
        """A TM-1 drafter that agrees with the target as often as ``agreement`` says, connected to the leader."""
        options = f"{TARGET},a={round(agreement * 65536)},d={number}"
        model = offer(Role.DRAFTER, f"tm-1:{options}", digest or VOCABULARY_DIGEST)
        drafter = Drafter(DrafterConfig(model, **config))
        node = SimNode(name, NodeMachine(hello(name, [Role.DRAFTER], [model]), {Role.DRAFTER: drafter}))
        node.run[Role.DRAFTER] = (DraftExecutor(tm1_draft(options)).run, lambda work: step)
        self.world.add(node)
        self.world.connect(name, leader, self.delay)
        return drafter

    def open(self, contract: Contract, *, leader: str = "target", drafters: int = 8, origins: bool = True) -> bytes:
        """Open a session from the client node; returns its id."""
        session = len(self.streams).to_bytes(16, "big")
        client = Client(session=session, contract=contract, max_drafters=drafters, origins=origins)
        self.streams[session] = []
        self.origins[session] = b""
        node = self.world.nodes["client"]
        link = next(
            (link for link, up in node.machine.links.items() if up.peer.node_id.rstrip(b"\0") == leader.encode()), None
        )
        if link is None:
            self.world.connect("client", leader, self.delay)
            link = max(node.machine.links)
        effects = self.clients.open(client, link, node.machine.channel(link))
        self.world.perform("client", node.machine.perform(Role.CLIENT, effects, self.world.now))
        return session

    def resume(self, session: bytes, name: str) -> None:
        """Take an interrupted session to the voter on node ``name``."""
        node = self.world.nodes["client"]
        links = [link for link, up in node.machine.links.items() if up.peer.node_id.rstrip(b"\0") == name.encode()]
        if not links:
            self.world.connect("client", name, self.delay)
            links = [max(node.machine.links)]
        effects = self.clients.resume(session, links[0], node.machine.channel(links[0]))
        self.world.perform("client", node.machine.perform(Role.CLIENT, effects, self.world.now))

    def finish(self, *sessions: bytes, until: Callable[[], bool] | None = None) -> None:
        """Run until all these sessions ended."""
        ended = self.world.run(until or (lambda: all(session in self.ends for session in sessions)))
        assert ended, f"nothing left to happen, but sessions are open: {[s for s in sessions if s not in self.ends]}"

    def check(self, session: bytes, contract: Contract) -> Completed:
        """The finished stream is the target's own, to the client and in the leader's store."""
        end = self.ends[session]
        assert isinstance(end, Completed), end
        check_stream(self.streams[session], alone(contract), complete=True)
        for node in self.world.nodes.values():
            check_records([record for role, record in node.stored if role is Role.LEADER and record.session == session])
        return end

    def _deliver(self, item: Any) -> None:
        assert isinstance(item, SessionItem)
        match item.item:
            case Committed(_, tokens, origins):
                self.streams[item.session].extend(tokens)
                self.origins[item.session] += origins or bytes(len(tokens))
            case Completed() | Failed() as end:
                self.ends[item.session] = end
            case Interrupted() | Resumed() as step:
                self.breaks.setdefault(item.session, []).append(step)
