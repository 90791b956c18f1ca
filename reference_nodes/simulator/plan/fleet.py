"""Builds the nodes of a scenario and connects them: role machines of :mod:`dsdproto`, models in place of backends."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsdproto.node import NodeMachine
from dsdproto.registry import VERSION, Feature, Role
from dsdproto.roles.client import Clients
from dsdproto.roles.drafter import Drafter, DrafterConfig
from dsdproto.roles.leader import Leader, LeaderConfig
from dsdproto.roles.verifier import Verifier, VerifierConfig
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.wire.messages import Hello, ModelOffer
from reference_nodes.simulator.cluster import LIMITS, VOCABULARY_DIGEST, node_id
from reference_nodes.simulator.network import Conditions
from reference_nodes.simulator.plan.acceptance import process_of
from reference_nodes.simulator.plan.devices import device_model
from reference_nodes.simulator.plan.executors import DraftExecutor, VerifyExecutor
from reference_nodes.simulator.plan.luck import stream
from reference_nodes.simulator.plan.measure import Meter
from reference_nodes.simulator.plan.oracle import VOCABULARY, DraftOracle
from reference_nodes.simulator.plan.policies import batcher, window_policy
from reference_nodes.simulator.plan.scenario import Awc, Group, Optimum, Scenario, Static, Threshold
from reference_nodes.simulator.plan.shelf import LedgerShelf
from reference_nodes.simulator.plan.world import Execute, PlanNode, PlanWorld

ROLES = {role.name.lower(): role for role in Role}
TARGET = "target"
USUAL_FLOOR = 48
NO_FLOOR = 1 << 20


@dataclass(slots=True)
class Fleet:
    """All nodes of a run."""

    scenario: Scenario
    seed: int
    meter: Meter
    world: PlanWorld = field(init=False)
    clients: dict[str, Clients] = field(default_factory=dict)
    """of the client nodes, by name, in the order in which clients are spread over them"""
    leaders: list[str] = field(default_factory=list)
    recorded: tuple[tuple[int, int], ...] = ()
    """(prompt tokens, output tokens) of the streams that acceptance was recorded on"""
    shelves: dict[str, LedgerShelf] = field(default_factory=dict)
    """what the disks of voters hold"""
    _oracles: dict[str, DraftOracle] = field(default_factory=dict)

    def build(self) -> None:
        """Add and connect everybody. Raises ScenarioError for a file that cannot be used."""
        scenario = self.scenario
        self.world = PlanWorld(self.seed, Conditions())
        for number, (name, given) in enumerate(scenario.acceptance.items()):
            process = process_of(given, name, self.seed, Path(scenario.folder))
            self._oracles[name] = DraftOracle(process, number)
            self.recorded = self.recorded or getattr(process, "lengths", ())
        for group in scenario.group:
            for index in range(group.count):
                self._add(group, f"{group.name}-{index}")
        for link in scenario.link:
            near, far = link.between
            if near != far and self._dials(far) and not self._dials(near):
                near, far = far, near
            for a in self._names(near):
                for b in self._names(far):
                    if near != far or a < b:
                        self.world.link(a, b, link)

    def slots(self) -> dict[str, int]:
        """Jobs that all verifiers, and all drafters, can run at the same time."""
        groups = self.scenario.group
        return {
            role: sum(group.count * group.slots for group in groups if role in group.roles)
            for role in ("verifier", "drafter")
        }

    def group_of(self, name: str) -> Group:
        """The group of a node."""
        stem = name.rpartition("-")[0]
        return next(group for group in self.scenario.group if group.name == stem)

    def restart(self, name: str) -> None:
        """Start a node again after a crash, with what its disk holds."""
        group, node = self.group_of(name), self.world.nodes[name]
        machine = self._machine(group, name, node.life)
        node.execute, node.message = self._executors(group, name, node.life)
        self.world.restart(name, machine)
        voter = machine.roles.get(Role.VOTER)
        if voter is not None:
            node.perform(machine.perform(Role.VOTER, voter.wake(node.now), node.now))

    # ------------------------------------------------------------ nodes

    def _names(self, group: str) -> list[str]:
        count = next(each.count for each in self.scenario.group if each.name == group)
        return [f"{group}-{index}" for index in range(count)]

    def _dials(self, group: str) -> bool:
        """Clients and drafters dial leaders, as they do behind a home router."""
        roles = next(each.roles for each in self.scenario.group if each.name == group)
        return "leader" not in roles and "verifier" not in roles

    def _add(self, group: Group, name: str) -> None:
        if "voter" in group.roles:
            self.shelves[name] = LedgerShelf()
        execute, message = self._executors(group, name, 0)
        machine = self._machine(group, name, 0)
        node = self._node(name, machine, slots=group.slots, sync=group.sync, execute=execute, message=message)
        if name in self.shelves:
            node.keep = self.shelves[name].keep
        if "leader" in group.roles:
            self.leaders.append(name)
        self.world.add(node)

    def _node(self, name: str, machine: NodeMachine, **what: Any) -> PlanNode:
        return PlanNode(name, machine, **what)

    def _machine(self, group: Group, name: str, life: int) -> NodeMachine:
        roles = tuple(sorted(ROLES[role] for role in group.roles))
        offers = []
        if Role.VERIFIER in roles:
            offers.append(self._offer(Role.VERIFIER, TARGET))
        if Role.DRAFTER in roles:
            offers.append(self._offer(Role.DRAFTER, group.draft_model))
        machine = NodeMachine(_hello(name, roles, tuple(offers), life))
        for role in roles:
            machine.roles[role] = self._role(role, machine, group, name)
        if Role.CLIENT in roles:
            self.clients[name] = machine.roles[Role.CLIENT]
        if Role.VOTER in roles and life:
            machine.roles[Role.VOTER].restore(self.shelves[name].records())
        return machine

    def _role(self, role: Role, machine: NodeMachine, group: Group, name: str) -> Any:
        drafting, verifying = self.scenario.drafting, self.scenario.verifying
        match role:
            case Role.CLIENT:
                return Clients()
            case Role.VERIFIER:
                return Verifier(
                    VerifierConfig(
                        self._offer(Role.VERIFIER, TARGET),
                        max_nodes=verifying.max_nodes,
                        max_rows=verifying.max_rows,
                        max_sessions=verifying.max_sessions,
                        batching=batcher(self.scenario.batching),
                    )
                )
            case Role.DRAFTER:
                return Drafter(
                    DrafterConfig(
                        self._offer(Role.DRAFTER, group.draft_model),
                        sessions_per_job=drafting.sessions_per_job,
                        expansions=drafting.expansions,
                        width=drafting.width,
                        floor=drafting.floor or _floor(self.scenario.window),
                        sibling_floor=drafting.sibling_floor,
                        max_sessions=drafting.max_sessions,
                    )
                )
            case Role.VOTER:
                return Voter(VoterConfig(retention=60.0), node_id(name))
            case Role.LEADER:
                return Leader(
                    LeaderConfig(
                        max_sessions=verifying.leader_sessions,
                        max_drafters=drafting.drafters,
                        credit=drafting.credit,
                        window=drafting.message_nodes,
                        width=drafting.width,
                        max_ahead=drafting.max_ahead,
                        window_policy=window_policy(self.scenario.window),
                        group_size=self._group_size(),
                    ),
                    machine.channel,
                )

    def _group_size(self) -> int:
        voters = sum(group.count for group in self.scenario.group if "voter" in group.roles)
        return max(1, min(3, voters - 1 + voters % 2))

    def _offer(self, role: Role, name: str) -> ModelOffer:
        verifier = role is Role.VERIFIER
        return ModelOffer(
            role=int(role),
            name=name,
            vocabulary_size=VOCABULARY,
            vocabulary_digest=VOCABULARY_DIGEST,
            max_context=self.scenario.verifying.max_context,
            profile=bytes(32) if verifier else None,
            profile_text="planned" if verifier else None,
        )

    def _executors(self, group: Group, name: str, life: int) -> tuple[dict[Role, Execute], float]:
        """What computes for each role, and the seconds that the node takes for a message."""
        folder, meter, devices = Path(self.scenario.folder), self.meter, self.scenario.device
        out: dict[Role, Execute] = {}
        message = 0.0
        if "verifier" in group.roles:
            model = device_model(devices[group.device], folder, "verifier", f"device.{group.device}")
            luck = stream("verifier", self.seed, name, life)
            out[Role.VERIFIER] = VerifyExecutor(model, luck, meter, self.scenario.verifying.kv_tokens).run
            message = model.message
        if "drafter" in group.roles:
            device = group.drafter_device or group.device
            model = device_model(devices[device], folder, "drafter", f"device.{device}")
            luck = stream("drafter", self.seed, name, life)
            out[Role.DRAFTER] = DraftExecutor(model, self._oracles[group.draft_model], luck, meter).run
            message = max(message, model.message)
        return out, message


def _floor(window: object) -> int:
    """A window that waits for a number of drafts waits in vain for those that its drafter finds too unlikely."""
    return NO_FLOOR if isinstance(window, Static | Threshold | Optimum | Awc) else USUAL_FLOOR


def _hello(name: str, roles: tuple[Role, ...], models: tuple[ModelOffer, ...], life: int) -> Hello:
    return Hello(
        version_min=VERSION,
        version_max=VERSION,
        node_id=node_id(name),
        instance=life.to_bytes(8, "big"),
        roles=tuple(int(role) for role in roles),
        cluster=bytes(16),
        features=tuple(sorted(int(feature) for feature in Feature)),
        limits=LIMITS,
        models=models,
        nonce=bytes(16),
        agent="plan",
    )
