"""One run: phase 1, in which everything may go wrong; phase 2, in which a majority is well and the stream must end."""

from __future__ import annotations

import random
import traceback
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from reference_nodes.simulator.checks import Checker, Violation
from reference_nodes.simulator.cluster import Makers, SimCluster, contract_of, model_of
from reference_nodes.simulator.driver import ClientDriver
from reference_nodes.simulator.nemesis import Nemesis
from reference_nodes.simulator.network import FaultyWorld
from reference_nodes.simulator.scenario import Numerics, Scenario
from reference_nodes.simulator.tables import alone

MAX_EVENTS = 200_000


@dataclass(slots=True)
class Outcome:
    """What a run came to."""

    scenario: Scenario
    violation: Violation | None
    trace: list[tuple[float, str, str, str, Any]] = field(repr=False)
    events: int
    seconds: float
    """virtual"""
    healed: float
    """seconds from the end of phase 1 to the end of the stream; 0 if it ended before"""
    interruptions: int
    sessions: int
    views: int
    """highest view in which a block was accepted"""
    overwritten: int
    """blocks that took the place of other tokens at a voter"""
    incomplete: int
    """sessions that were founded while some of their voters were away"""

    def digest(self) -> str:
        """SHA-256 over all that happened: equal for equal runs, in whichever process."""
        log = sha256()
        for time, kind, node, other, what in self.trace:
            log.update(f"{time!r} {kind} {node} {other} {what!r}\n".encode())
        log.update(f"{self.events} {self.violation}".encode())
        return log.hexdigest()


def run(scenario: Scenario, makers: Makers | None = None) -> Outcome:
    """Run a scenario to its end or to the first violation. Raises nothing that a machine raises."""
    world = FaultyWorld(random.Random(f"run {scenario.seed}"), scenario.conditions)
    cluster = SimCluster(scenario, world, makers or Makers())
    contract = contract_of(scenario)
    expected = alone(contract, model_of(0)) if scenario.numerics is Numerics.EQUAL else None
    checker = Checker(world, contract, expected)
    world.observe, world.on_sent = checker.observed, checker.sent
    driver = None
    violation = None
    try:
        cluster.build()
        for name in scenario.names:
            disk = world.nodes[name].disk
            assert disk is not None
            disk.on_durable = checker.durable
        driver = ClientDriver(cluster, checker, random.Random(f"client {scenario.seed}"))
        Nemesis(cluster, driver.founded).plan()
        driver.attempt()
        _drive(world, driver, scenario)
        checker.machines()
    except Violation as found:
        violation = found
    except Exception as error:
        where = traceback.format_exc(limit=-3)
        violation = Violation("exception", f"{type(error).__name__}: {error}\n{where}")
    return Outcome(
        scenario=scenario,
        violation=violation,
        trace=world.trace,
        events=world.events,
        seconds=world.now,
        healed=max(0.0, world.now - scenario.chaos),
        interruptions=driver.interruptions if driver else 0,
        sessions=driver.sessions if driver else 0,
        views=checker.views,
        overwritten=checker.overwritten,
        incomplete=len(checker.incomplete),
    )


def _drive(world: FaultyWorld, driver: ClientDriver, scenario: Scenario) -> None:
    deadline = scenario.chaos + scenario.bound
    while not driver.done:
        if world.events > MAX_EVENTS:
            raise Violation("progress", f"{MAX_EVENTS} events, and the stream has not ended")
        world.step()
        if world.now > deadline:
            client = driver.client
            state = "no session" if client is None else f"{client.state.value} at {client.chain.position}"
            raise Violation("progress", f"{scenario.bound:g} s after the network healed the client is {state}")
