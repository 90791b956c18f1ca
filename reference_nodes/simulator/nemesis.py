"""Makes a scenario's faults happen, and ends them: each when its time is up, all of them when phase 1 is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dsdproto.registry import Role
from dsdproto.roles.leader_session import Session
from reference_nodes.simulator.cluster import SimCluster
from reference_nodes.simulator.network import FaultyWorld
from reference_nodes.simulator.scenario import CLIENT, LEADER, Fault, FaultKind

Undo = Callable[[], None]


@dataclass(slots=True)
class Nemesis:
    """Breaks what a cluster stands on."""

    cluster: SimCluster
    founded: Callable[[], bool]
    """the client has a stream that it may resume: before that, a group is made of all members or not at all"""
    _active: dict[int, Undo] = field(default_factory=dict)
    """by number of the fault"""
    _count: int = 0
    over: bool = False

    @property
    def world(self) -> FaultyWorld:
        return self.cluster.world

    def plan(self) -> None:
        """Put all faults on the heap, and the end of phase 1."""
        scenario = self.cluster.scenario
        rates = scenario.conditions
        self.world.storm = bool(rates.loss or rates.duplicate or rates.reorder)
        for fault in scenario.faults:
            self.world.at(fault.at, self._strike, fault)
        self.world.at(scenario.chaos, self.heal)

    def heal(self) -> None:
        """Phase 2: what is not left out for good is alive and connected from here on."""
        self.over = True
        for undo in list(self._active.values()):
            undo()
        self._active.clear()
        self.world.calm()
        left_out = self.cluster.scenario.left_out if self.founded() else ()
        for name in self.cluster.scenario.names:
            node = self.world.nodes[name]
            if name in left_out:
                if node.alive:
                    self.world.kill(name, 0, silent=False)
            elif not node.alive:
                self.cluster.restart(name)

    # ------------------------------------------------------------ single faults

    def _strike(self, fault: Fault) -> None:
        if self.over:
            return
        undo = self._begin(fault)
        if undo is not None:
            self._count += 1
            self._active[self._count] = undo
            self.world.at(self.world.now + fault.length, self._end, self._count)

    def _end(self, number: int) -> None:
        undo = self._active.pop(number, None)
        if undo is not None:
            undo()

    def _begin(self, fault: Fault) -> Undo | None:
        world, who, other = self.world, self._named(fault.who), self._named(fault.other)
        if who == other:  # aimed at a leader that is the other one already
            return None
        match fault.kind:
            case FaultKind.KILL | FaultKind.POWER:
                if not world.nodes[who].alive:
                    return None
                world.kill(who, fault.kept, silent=fault.kind is FaultKind.POWER)
                return lambda: None if world.nodes[who].alive else self.cluster.restart(who)
            case FaultKind.PAUSE:
                if not world.nodes[who].alive or world.nodes[who].paused:
                    return None
                world.pause(who)
                return lambda: world.resume(who)
            case FaultKind.CUT:
                for line in [line for line in world.links if {name for name, _ in line.ends} == {who, other}]:
                    world.reset(line, "connection reset")
                return None
            case FaultKind.ONE_WAY | FaultKind.CLOG:
                return self._block([(who, other)])
            case FaultKind.PAIR:
                return self._block([(who, other), (other, who)])
            case FaultKind.ISOLATE:
                return self._block(both for both in self._roads() if who in both)
            case FaultKind.SPLIT:
                return self._block(self._between_parts(fault.mask))

    def _named(self, name: str) -> str:
        if name != LEADER:
            return name
        views = [
            (session.view, -index)
            for index, member in enumerate(self.cluster.scenario.names)
            for session in self._sessions(member)
        ]
        return self.cluster.scenario.names[-max(views)[1] if views else 0]

    def _sessions(self, member: str) -> list[Session]:
        node = self.world.nodes[member]
        return list(node.machine.roles[Role.LEADER].sessions.values()) if node.alive else []

    def _roads(self) -> list[tuple[str, str]]:
        names = (*self.cluster.scenario.names, CLIENT)
        return [(a, b) for a in names for b in names if a != b]

    def _between_parts(self, mask: int) -> list[tuple[str, str]]:
        """Bit i of ``mask`` is the part of member i; the client is with member 0."""
        names = self.cluster.scenario.names
        part = {name: mask >> index & 1 for index, name in enumerate(names)}
        part[CLIENT] = part[names[0]]
        return [(a, b) for a, b in self._roads() if part[a] != part[b]]

    def _block(self, roads: Iterable[tuple[str, str]]) -> Undo:
        blocked = list(roads)
        for road in blocked:
            self.world.block(*road)

        def undo() -> None:
            for road in blocked:
                self.world.unblock(*road)

        return undo
