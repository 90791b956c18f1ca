"""One cell of the paper's grid as a scenario of the planner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from reference_nodes.simulator.plan.loader import parse
from reference_nodes.simulator.plan.paper import inputs
from reference_nodes.simulator.plan.paper.awc import AwcWindow
from reference_nodes.simulator.plan.scenario import Scenario

POLICIES = {
    "alone": "target alone",
    "static4": "window 4",
    "threshold": "dynamic (threshold)",
    "awc": "AWC",
    "ours": "ours (adaptive, drafting ahead)",
}
ROUTERS = {"random": "random", "round-robin": "round robin", "shortest-queue": "shortest queue"}
BATCHERS = {"fifo": "first in, first out", "length-aware": "length-aware"}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of the paper's fleet is simulated, and for how long; the ratio of drafters to targets stays."""

    targets: int
    seconds: float
    warmup: float

    def drafters(self, of_the_paper: int) -> int:
        return of_the_paper * self.targets // inputs.TARGETS


FULL = Scale(inputs.TARGETS, 20.0, 6.0)
QUICK = Scale(2, 10.0, 3.0)


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. ``drafters`` counts the paper's, before scaling."""

    drafters: int
    rtt: float
    policy: str
    router: str = "shortest-queue"
    batcher: str = "fifo"

    @property
    def label(self) -> str:
        return f"{self.drafters} drafters, {self.rtt * 1e3:g} ms, {POLICIES[self.policy]}"


def window_of(policy: str, rtt: float) -> Any:
    """The scenario's ``window``: a table, or an object for AWC, which the file format does not know."""
    match policy:
        case "alone":
            return {"kind": "static", "size": 0}
        case "static4":
            return {"kind": "static", "size": 4}
        case "threshold":
            return {"kind": "threshold"}
        case "awc":
            return AwcWindow(rtt)
        case "ours":
            return {"kind": "adaptive"}
    raise ValueError(f"no policy {policy!r}; there are {', '.join(POLICIES)}")


def drafting_of(policy: str) -> dict[str, Any]:
    """Ours is the live leader's default. The others wait for a chain of a fixed length, so their drafters must deliver
    it however unlikely it is."""
    return {} if policy == "ours" else {"width": 1, "floor": 255}


def scenario_of(cell: Cell, scale: Scale, seed: int) -> Scenario:
    """The scenario of a cell. Raises ScenarioError."""
    drafters = scale.drafters(cell.drafters)
    window = window_of(cell.policy, cell.rtt)
    table = {
        "name": f"paper: {cell.label}",
        "seed": seed,
        "duration": scale.seconds,
        "warmup": scale.warmup,
        "device": {"target": inputs.TARGET_DEVICE, "drafter": inputs.DRAFT_DEVICE},
        "group": [
            {"name": "target", "count": scale.targets, "roles": ["leader", "verifier"], "device": "target"},
            {"name": "edge", "count": drafters, "roles": ["client", "drafter"], "device": "drafter"},
        ],
        "link": [{"between": ["edge", "target"], "rtt": cell.rtt, "jitter": inputs.JITTER * cell.rtt / 2}],
        "workload": {
            "kind": "closed",
            "clients": drafters,
            "think": inputs.THINK,
            "ramp": scale.warmup / 2,
            "prompt": inputs.PROMPT,
            "output": inputs.OUTPUT,
        },
        "acceptance": {"default": inputs.ACCEPTANCE},
        "slo": inputs.SLO,
        "routing": {"kind": cell.router, "view": "fleet"},
        "batching": {"kind": cell.batcher},
        "drafting": drafting_of(cell.policy),
        "verifying": {"max_rows": inputs.MAX_ROWS, "max_sessions": 256},
    }
    if isinstance(window, dict):
        return parse(table | {"window": window})
    return replace(parse(table), window=window)
