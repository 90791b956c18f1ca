"""The nodes of a scenario: members (leader, voter and verifier each), drafters, and the client's node."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import lru_cache

from dsdproto.node import NodeMachine
from dsdproto.registry import VERSION, CommitProfile, Feature, Method, Role
from dsdproto.roles.client import Clients
from dsdproto.roles.drafter import Drafter, DrafterConfig
from dsdproto.roles.leader import Leader, LeaderConfig
from dsdproto.roles.verifier import Verifier, VerifierConfig
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.testmodel import TestModel
from dsdproto.wire.messages import Contract, Hello, Limits, ModelOffer, Sampling
from reference_nodes.simulator.disk import Disk
from reference_nodes.simulator.host import Clock, SimNode
from reference_nodes.simulator.network import FaultyWorld
from reference_nodes.simulator.scenario import CLIENT, DRAFTERS, Numerics, Scenario
from reference_nodes.simulator.tables import TableDrafter, TableVerifier

VOCABULARY = 64
VOCABULARY_DIGEST = bytes(range(32))
MODEL_SEED = 7
MODEL = f"tm-1:v={VOCABULARY},s={MODEL_SEED}"
ROW_SECONDS = 0.0005
LIMITS = Limits(max_payload=1 << 20, max_channels=1024, heartbeat_ms=1000)


@dataclass(frozen=True, slots=True)
class Makers:
    """The role machines that members are made of; a mutant swaps one."""

    leader: type[Leader] = Leader
    voter: type[Voter] = Voter


def node_id(name: str) -> bytes:
    return name.encode().ljust(32, b"\0")


def name_of(node: bytes) -> str:
    return node.rstrip(b"\0").decode()


@lru_cache(maxsize=1 << 10)
def _hello(name: str, roles: tuple[Role, ...], models: tuple[ModelOffer, ...], life: int) -> Hello:
    return Hello(
        version_min=VERSION,
        version_max=VERSION,
        node_id=node_id(name),
        instance=life.to_bytes(8, "big"),
        roles=tuple(sorted(int(role) for role in roles)),
        cluster=bytes(16),
        features=tuple(sorted(int(feature) for feature in Feature)),
        limits=LIMITS,
        models=models,
        nonce=bytes(16),
        agent="simulator",
    )


@lru_cache(maxsize=64)
def _offer(role: Role, name: str, profile: int) -> ModelOffer:
    verifier = role is Role.VERIFIER
    return ModelOffer(
        role=int(role),
        name=name,
        vocabulary_size=VOCABULARY,
        vocabulary_digest=VOCABULARY_DIGEST,
        max_context=4096,
        profile=profile.to_bytes(32, "big") if verifier else None,
        profile_text=f"numbers {profile}" if verifier else None,
    )


@lru_cache(maxsize=256)
def model_of(variant: int) -> TestModel:
    """The target as a member with these numbers computes it; 0 is the true one."""
    return TestModel(vocabulary=VOCABULARY, seed=MODEL_SEED + 1000 * variant)


def contract_of(scenario: Scenario) -> Contract:
    """What the client asks for."""
    return Contract(
        prompt=scenario.prompt,
        sampling=Sampling(
            method=int(Method.COUPLED),
            temperature=round(scenario.temperature * 65536),
            top_k=0,
            top_p=65536,
            seed=scenario.sampling_seed,
        ),
        max_tokens=scenario.tokens,
        stop_tokens=(),
        vocabulary_size=VOCABULARY,
        vocabulary_digest=VOCABULARY_DIGEST,
        model="",
        commit_profile=int(scenario.commit),
        profile=_offer(Role.VERIFIER, MODEL, 0).profile if scenario.pinned else None,
    )


@dataclass(slots=True)
class SimCluster:
    """Builds nodes, and builds them again after a crash."""

    scenario: Scenario
    world: FaultyWorld
    makers: Makers = Makers()
    clients: Clients = field(default_factory=Clients)

    def build(self) -> None:
        """Add and connect everybody."""
        scenario, world = self.scenario, self.world
        rng = random.Random(f"clocks {scenario.seed}")
        for name in scenario.names:
            node = SimNode(name, self._member(name, 0), clock=_clock(rng, scenario), disk=self._disk(name))
            self._run_member(node)
            world.add(node)
        for number, name in enumerate(DRAFTERS[: scenario.drafters], start=1):
            world.add(self._drafter(name, number))
        client = NodeMachine(_hello(CLIENT, (Role.CLIENT,), (), 0), {Role.CLIENT: self.clients})
        world.add(SimNode(CLIENT, client, clock=_clock(rng, scenario)))
        delay, jitter = scenario.delay, scenario.jitter
        for index, name in enumerate(scenario.names):
            for other in scenario.names[:index]:
                world.join(name, other, delay, jitter)
        for name in (*DRAFTERS[: scenario.drafters], CLIENT):
            for member in scenario.names:
                world.join(name, member, delay, jitter)

    def restart(self, name: str) -> None:
        """Start a member again with what its disk holds."""
        node = self.world.nodes[name]
        machine = self._member(name, node.life, node.stored)
        self._run_member(node)
        self.world.restart(name, machine)
        voter = machine.roles.get(Role.VOTER)
        if voter is not None:
            node.perform(machine.perform(Role.VOTER, voter.wake(node.now), node.now))

    def _variant(self, name: str, life: int) -> int:
        number = self.scenario.names.index(name)
        match self.scenario.numerics:
            case Numerics.EQUAL:
                return 0
            case Numerics.PROFILES:
                return number
            case Numerics.UNSTABLE:
                return number + 10 * (life % 4)

    def _member(self, name: str, life: int, stored: list | None = None) -> NodeMachine:
        scenario = self.scenario
        quorum = scenario.commit is CommitProfile.QUORUM
        profile = self._variant(name, 0) if scenario.numerics is Numerics.PROFILES else 0
        offer = _offer(Role.VERIFIER, MODEL, profile)
        roles = (Role.LEADER, Role.VERIFIER, Role.VOTER) if quorum else (Role.LEADER, Role.VERIFIER)
        machine = NodeMachine(_hello(name, roles, (offer,), life))
        machine.roles[Role.VERIFIER] = Verifier(VerifierConfig(offer))
        leading = LeaderConfig(group_size=scenario.members, gather_for=scenario.gather)
        machine.roles[Role.LEADER] = self.makers.leader(leading, machine.channel)
        if quorum:
            voter = machine.roles[Role.VOTER] = self.makers.voter(VoterConfig(), node_id(name))
            voter.restore(record for role, record in stored or () if role is Role.VOTER)
        return machine

    def _run_member(self, node: SimNode) -> None:
        forward = self.scenario.forward
        run = TableVerifier(model_of(self._variant(node.name, node.life))).run
        node.run[Role.VERIFIER] = (
            run,
            lambda work: forward + ROW_SECONDS * sum(len(item.tokens) for item in work.score),
        )

    def _drafter(self, name: str, number: int) -> SimNode:
        model = TestModel(VOCABULARY, MODEL_SEED, agreement_q16=(52429, 26214)[number - 1], drafter=number)
        offer = _offer(Role.DRAFTER, model.name, 0)
        machine = NodeMachine(_hello(name, (Role.DRAFTER,), (offer,), 0))
        machine.roles[Role.DRAFTER] = Drafter(DrafterConfig(offer))
        expand = self.scenario.expand
        return SimNode(name, machine, run={Role.DRAFTER: (TableDrafter(model).run, lambda work: expand)})

    def _disk(self, name: str) -> Disk:
        scenario, rng = self.scenario, self.world.rng
        mean = scenario.sync * (10 if scenario.slow_disk == name else 1)
        return Disk(lambda: mean * (0.5 + rng.random()))


def _clock(rng: random.Random, scenario: Scenario) -> Clock:
    if not scenario.drift:
        return Clock(rng.random() * 1000.0)
    return Clock(rng.random() * 1000.0, 1.0 + scenario.drift * (2.0 * rng.random() - 1.0))
