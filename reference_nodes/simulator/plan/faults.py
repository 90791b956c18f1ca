"""Makes a scenario's faults happen, and ends each when its time is up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from reference_nodes.simulator.plan.driver import Drive
from reference_nodes.simulator.plan.fleet import Fleet
from reference_nodes.simulator.plan.luck import exponential, stream
from reference_nodes.simulator.plan.scenario import Fault
from reference_nodes.simulator.plan.world import PlanNode, PlanWorld

Undo = Callable[[], None]
Luck = Callable[[], float]
BETWEEN = ("cut", "one-way", "pair", "clog")


@dataclass(slots=True)
class Faults:
    """Breaks nodes and roads of a fleet."""

    fleet: Fleet
    drive: Drive
    strikes: Counter[str] = field(default_factory=Counter)

    @property
    def world(self) -> PlanWorld:
        return self.fleet.world

    def plan(self) -> None:
        """Put the faults on the heap."""
        for number, fault in enumerate(self.fleet.scenario.fault):
            luck = stream("fault", self.fleet.seed, number)
            first = fault.at + (exponential(luck(), fault.every) if fault.every else 0.0)
            self.world.at(first, self._strike, fault, luck)

    def _strike(self, fault: Fault, luck: Luck) -> None:
        if fault.every:
            self.world.at(self.world.now + exponential(luck(), fault.every), self._strike, fault, luck)
        victims = self._pick(fault.who, fault.count, luck)
        if fault.kind == "split":
            undo = self._block((a, b) for a, b in self.world.pairs() if (a in victims) != (b in victims))
            self._until(fault, undo)
            return
        for who in victims:
            others = self._others(who, fault, luck) if fault.kind in BETWEEN else []
            undo = self._begin(fault, who, others)
            if undo is not None:
                self._until(fault, undo)

    def _until(self, fault: Fault, undo: Undo) -> None:
        self.strikes[fault.kind] += 1
        self.world.at(self.world.now + fault.length, undo)

    def _pick(self, name: str, count: int, luck: Luck) -> list[str]:
        if name in self.world.nodes:
            return [name]
        names = [node for node in self.world.nodes if node.rpartition("-")[0] == name]
        chosen = []
        for _ in range(min(count, len(names))):
            chosen.append(names.pop(int(luck() * len(names))))
        return chosen

    def _others(self, who: str, fault: Fault, luck: Luck) -> list[str]:
        linked = [b for a, b in self.world.pairs() if a == who]
        if not fault.other:
            return linked
        return [name for name in self._pick(fault.other, fault.count, luck) if name in linked]

    # ------------------------------------------------------------ single faults

    def _begin(self, fault: Fault, who: str, others: list[str]) -> Undo | None:
        """Start one; returns what ends it, or None if it can not strike just now."""
        world, node = self.world, self.world.nodes[who]
        assert isinstance(node, PlanNode)
        match fault.kind:
            case "kill" | "power":
                if not node.alive:
                    return None
                world.kill(who, 0, silent=fault.kind == "power")
                self.drive.node_died(who)
                return lambda: None if node.alive else self.fleet.restart(who)
            case "pause":
                if not node.alive or node.paused:
                    return None
                world.pause(who)
                return lambda: world.resume(who)
            case "slow":
                node.slow *= fault.factor
                return lambda: self._faster(node, fault.factor)
            case "cut":
                for line in [
                    line for line in world.links if {name for name, _ in line.ends} in [{who, b} for b in others]
                ]:
                    world.reset(line, "connection reset")
                return lambda: None
            case "one-way" | "clog":
                return self._block((who, other) for other in others)
            case "pair":
                return self._block(pair for other in others for pair in ((who, other), (other, who)))
            case _:
                return self._block(pair for pair in world.pairs() if who in pair)

    def _faster(self, node: PlanNode, factor: float) -> None:
        node.slow /= factor

    def _block(self, roads: Iterable[tuple[str, str]]) -> Undo:
        blocked = list(roads)
        for road in blocked:
            self.world.block(*road)

        def undo() -> None:
            for road in blocked:
                self.world.unblock(*road)

        return undo
