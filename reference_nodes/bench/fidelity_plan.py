"""What the planning simulator says of a target and a drafter that share one machine.

The nodes, the network and the workload are the simulator's own; only how long a job takes knows more here. Two models
on one machine share its memory bus, so while both compute each goes on at a fraction of its speed: a job's remaining
work is put off and brought forward as the other begins and ends (processor sharing). And where both have a processor
each and there is no third, the benchmark's own process, client and road, takes its time from the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dsdproto.effects import Compute, Computed, Event, Received
from dsdproto.node import NodeMachine
from dsdproto.registry import Role
from reference_nodes.profile.document import load_profile
from reference_nodes.profile.table import Table
from reference_nodes.simulator.plan.driver import Drive
from reference_nodes.simulator.plan.fleet import Fleet
from reference_nodes.simulator.plan.loader import parse
from reference_nodes.simulator.plan.measure import Meter
from reference_nodes.simulator.plan.scenario import Scenario
from reference_nodes.simulator.plan.workload import Request, Workload
from reference_nodes.simulator.plan.world import PlanNode

HOUR = 3600.0
PLENTY = 1 << 10
"""Cores: nobody ever waits for one."""
PAIR = "pair"
"""How the scenario calls its draft model."""
VERIFIER_FILE, DRAFTER_FILE = "fidelity-verifier.json", "fidelity-drafter.json"
RECORD_FILE = "fidelity-record.jsonl"


@dataclass(slots=True, eq=False)
class _Job:
    """What a node computes now; seconds of work with the machine to itself."""

    node: PlanNode
    done: Computed
    life: int
    work: float
    left: float
    """of ``work``"""
    began: float
    slowdown: float
    turn: int = 0
    """counts how often its end was put off"""


@dataclass(slots=True)
class SharedMachine:
    """Nodes on one machine. Whoever computes beside another does so ``slowdown`` times as slowly."""

    passing: float = 0.0
    """seconds that somebody else on this machine needs for each message that a node takes"""
    cores: int = PLENTY
    jobs: list[_Job] = field(default_factory=list)
    since: float = 0.0
    """when the set of jobs last changed"""

    def begin(self, job: _Job) -> None:
        """Raises nothing; ``job.node`` gets its result when the work is done."""
        self._advance(job.node.world.now)
        self.jobs.append(job)
        self._plan()

    def passed(self) -> None:
        """A message went through somebody else's hands: where every core computes, the jobs there wait for that."""
        if len(self.jobs) >= self.cores:
            for job in self.jobs:
                job.node.owed += self.passing / len(self.jobs)

    def _advance(self, now: float) -> None:
        shared = len(self.jobs) > 1
        for job in self.jobs:
            job.left -= (now - self.since) / (job.slowdown if shared else 1.0)
        self.since = now

    def _plan(self) -> None:
        shared = len(self.jobs) > 1
        for job in self.jobs:
            job.turn += 1
            world = job.node.world
            rest = max(job.left, 0.0) * (job.slowdown if shared else 1.0)
            world.at(world.now + rest, self._ended, job, job.turn)

    def _ended(self, job: _Job, turn: int) -> None:
        if turn != job.turn:
            return
        world = job.node.world
        self._advance(world.now)
        if job.node.owed:
            job.left, job.node.owed = job.node.owed, 0.0
            self._plan()
            return
        self.jobs.remove(job)
        self._plan()
        # What a node reports is a part of the job, stretched like the rest.
        stretch = (world.now - job.began) / job.work if job.work else 1.0
        result = replace(job.done.result, seconds=job.done.result.seconds * stretch)
        job.node._computed(job.life, replace(job.done, result=result))


@dataclass(slots=True, eq=False)
class SharingNode(PlanNode):
    """A node whose jobs take as long as its machine lets them."""

    home: SharedMachine = field(kw_only=True)
    tables: dict[Role, Table] = field(kw_only=True)
    """what jobs of a role suffer beside another"""

    def handle(self, event: Event) -> None:
        if type(event) is Received:
            self.home.passed()
        PlanNode.handle(self, event)

    def _begin(self, effect: Compute) -> None:
        self.running += 1
        role, work = effect.job[0], effect.work
        result, took = self.execute[role](work)
        if role is Role.VERIFIER:
            items, rows = work.score, result.rows
        else:
            items, rows = work.expand, sum(len(item.nodes) for item in work.expand)
        slowdown = self.tables[role].slowdown_of(rows, len(items), sum(len(item.prefix) for item in items))
        done = Computed(effect.job, result)
        self.home.begin(_Job(self, done, self.life, took, took, self.world.now, slowdown))


@dataclass(slots=True)
class SharingFleet(Fleet):
    """The nodes of a scenario, all on one machine."""

    tables: dict[Role, Table] = field(kw_only=True)
    shared: SharedMachine = field(kw_only=True)

    def _node(self, name: str, machine: NodeMachine, **what: Any) -> PlanNode:
        return SharingNode(name, machine, **what, home=self.shared, tables=self.tables)


class Batch(Workload):
    """So many requests and no more, over clients that each ask again when they have an answer.

    :param first: number of the first request; a multiple of the recorded streams keeps them in step.
    :param at: when it is asked.
    """

    def __init__(
        self, scenario: Scenario, recorded: tuple[tuple[int, int], ...], requests: int, first: int, at: float
    ) -> None:
        super().__init__(scenario, scenario.seed, recorded)
        self._first, self._end, self._at = first, first + requests, at

    def arrivals(self) -> Iterator[Request]:
        for request in super().arrivals():
            yield self._from(request)

    def next(self, before: Request, now: float, pause: float = 0.0) -> Request | None:
        after = super().next(before, now, pause)
        return after if after is not None and after.number < self._end else None

    def _from(self, request: Request) -> Request:
        return replace(request, number=request.number + self._first, at=request.at + self._at)


@dataclass(frozen=True, slots=True)
class Setting:
    """What runs are predicted from: a folder with two profiles and a record, an idle link, and the machine."""

    folder: Path
    base_rtt: float
    """seconds of a PING over the link while nothing runs and nothing is added"""
    passing: float = 0.0
    """seconds of the benchmark's own process for each message that a node takes"""
    cores: int = PLENTY

    @property
    def tables(self) -> dict[Role, Table]:
        """The profiles as functions. Raises ProfileError."""
        files = {Role.VERIFIER: VERIFIER_FILE, Role.DRAFTER: DRAFTER_FILE}
        return {role: Table(load_profile(self.folder / name)) for role, name in files.items()}


def scenario_of(setting: Setting, added_rtt: float, sessions: int, seed: int) -> Scenario:
    """The scenario of one cell: a target, a drafter that far away, a client next to the target."""
    recorded = {"kind": "recorded"}
    table: dict[str, Any] = {
        "name": "fidelity",
        "duration": 4 * HOUR,
        "seed": seed,
        "group": [
            {"name": "target", "count": 1, "roles": ["leader", "verifier"], "device": "target"},
            {"name": "drafter", "count": 1, "roles": ["drafter"], "device": "drafter", "draft_model": PAIR},
            {"name": "client", "count": 1, "roles": ["client"]},
        ],
        "link": [
            {"between": ["target", "drafter"], "rtt": setting.base_rtt + added_rtt},
            {"between": ["target", "client"], "rtt": setting.base_rtt},
        ],
        "device": {
            "target": {"kind": "table", "profile": VERIFIER_FILE},
            "drafter": {"kind": "table", "profile": DRAFTER_FILE},
        },
        "acceptance": {PAIR: {**recorded, "file": RECORD_FILE}},
        "workload": {"kind": "closed", "clients": sessions, "prompt": recorded, "output": recorded},
    }
    return parse(table, folder=str(setting.folder))


def predict(
    setting: Setting, added_rtt: float, sessions: int, requests: int, seed: int, on_row: Callable[[Any], None]
) -> float:
    """Simulate a cell; ``on_row`` gets each request, numbered from 0. Returns the seconds from the first to the end of
    the last.

    All requests are served once before, uncounted: a leader learns what verifications cost and a drafter what its
    scores are worth, and the live ones have been at work for a while too.

    Raises ScenarioError, and RuntimeError where a request has no end.
    """
    scenario = scenario_of(setting, added_rtt, min(sessions, requests), seed)
    meter = Meter(scenario.slo)
    shared = SharedMachine(setting.passing, setting.cores)
    fleet = SharingFleet(scenario, seed, meter, tables=setting.tables, shared=shared)
    fleet.build()
    _serve(fleet, meter, requests, 0, lambda row: None)
    return _serve(fleet, meter, requests, requests, lambda row: on_row(replace(row, number=row.number - requests)))


def _serve(fleet: Fleet, meter: Meter, requests: int, first: int, on_row: Callable[[Any], None]) -> float:
    world = fleet.world
    begin = world.now
    drive = Drive(fleet, Batch(fleet.scenario, fleet.recorded, requests, first, begin), meter, on_row)
    while not drive.idle:
        if world.now > begin + HOUR:
            raise RuntimeError(f"{len(drive.live)} of {requests} requests have no end after {HOUR:.0f} s")
        world.step()
    return meter.last_end - begin
