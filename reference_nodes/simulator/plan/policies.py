"""From the names of a scenario to the policies of :mod:`dsdproto.policy`, the very objects that live nodes use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dsdproto.policy import batching, routing, windows
from reference_nodes.simulator.plan.scenario import Adaptive, Awc, Batching, Optimum, Routing, Static, Threshold, Window


class OwnWindow(Protocol):
    """A window that is not of the file format's kinds: put it into a Scenario with ``dataclasses.replace``."""

    def maker(self) -> Callable[[], windows.WindowPolicy]: ...


def window_policy(given: Window | OwnWindow) -> Callable[[], windows.WindowPolicy]:
    """Makes one for each session."""
    match given:
        case Adaptive():
            return windows.Adaptive
        case Static():
            return lambda: windows.Sized(given.size, given.ahead, given.patience)
        case Threshold():
            return lambda: windows.Threshold(
                given.size, given.ahead, given.patience, given.low, given.high, given.least, given.most
            )
        case Optimum():
            return lambda: windows.Optimum(
                ahead=given.ahead, patience=given.patience, draft=given.draft, fixed=given.fixed, most=given.most
            )
        case Awc():
            from reference_nodes.simulator.plan.paper.awc import load_net

            predict = load_net()
            return lambda: windows.Awc(ahead=given.ahead, patience=given.patience, predict=predict, rtt=given.rtt)
        case _:
            return given.maker()


def router(given: Routing) -> routing.Router:
    """One for each who routes."""
    kinds: dict[str, Callable[[], routing.Router]] = {
        "round-robin": routing.RoundRobin,
        "random": routing.RandomRouter,
        "shortest-queue": routing.ShortestQueue,
        "goodput": routing.Goodput,
    }
    return kinds[given.kind]()


def batcher(given: Batching) -> Callable[[int], batching.Batching]:
    """Makes one for each verifier, given its largest number of rows."""
    kinds = {"fifo": batching.Fifo, "length-aware": batching.LengthAware, "fair": batching.Fair}
    return kinds[given.kind]
