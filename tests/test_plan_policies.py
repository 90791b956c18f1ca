"""Every policy and knob can be set in a scenario file, and is heard: it changes what happens in a busy cluster."""

from __future__ import annotations

import tomllib
from functools import lru_cache

import pytest

from reference_nodes.simulator.plan import parse, run
from reference_nodes.simulator.plan.report import Report

BUSY = """
duration = 2.5
device.gpu = {kind = "affine", base = 0.03, per_row = 0.0005, spread = 0.05}
device.cpu = {kind = "affine", base = 0.008, spread = 0.1}
group = [
    {name = "target", count = 2, roles = ["leader", "verifier"], device = "gpu"},
    {name = "edge", count = 3, roles = ["client", "drafter"], device = "cpu"},
]
link = [{between = ["edge", "target"], rtt = 0.02}]
acceptance.default = {kind = "iid", rates = [0.7, 0.15, 0.05]}
verifying.max_rows = 12
[workload]
kind = "poisson"
rate = 4.0
prompt = {kind = "lognormal", median = 40, sigma = 1.2, high = 400}
output = {kind = "lognormal", median = 20, sigma = 0.6}
"""


@lru_cache
def outcome(*settings: str) -> Report:
    return run(parse(tomllib.loads(BUSY), settings, name="busy"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("routing.kind=round-robin", "routing.kind=random"),
        ("routing.kind=round-robin", "routing.kind=shortest-queue"),
        ("routing.kind=shortest-queue", "routing.kind=goodput"),
        ("routing.kind=shortest-queue", "routing.kind=shortest-queue routing.view=fleet"),
        ("batching.kind=fifo", "batching.kind=length-aware"),
        ("batching.kind=fifo", "batching.kind=fair"),
        ("window.kind=adaptive", "window.kind=static window.size=4"),
        ("window.kind=static window.size=4", "window.kind=static window.size=2"),
        ("window.kind=static window.size=4", "window.kind=static window.size=4 window.ahead=8"),
        ("window.kind=static window.size=4", "window.kind=threshold window.size=4"),
        ("window.kind=threshold", "window.kind=threshold window.high=0.6"),
        ("window.kind=threshold", "window.kind=optimum window.draft=0.008"),
        ("window.kind=optimum window.draft=0.008", "window.kind=optimum window.draft=0.008 window.fixed=0.1"),
        ("window.kind=static window.size=4", "window.kind=awc window.rtt=0.02"),
        # Trees: second choices are drafted where their floor lets them.
        ("drafting.sibling_floor=32", "drafting.sibling_floor=255"),
        ("drafting.sibling_floor=255 drafting.width=1", "drafting.sibling_floor=255 drafting.width=3"),
        ("drafting.sibling_floor=255 drafting.expansions=1", "drafting.sibling_floor=255 drafting.expansions=4"),
        ("drafting.floor=48", "drafting.floor=8"),
        ("verifying.max_nodes=63", "verifying.max_nodes=2"),
        ("drafting.drafters=1", "drafting.drafters=2"),
        ("drafting.max_ahead=64", "drafting.max_ahead=4"),
        ("drafting.credit=48", "drafting.credit=4"),
        ("drafting.message_nodes=8", "drafting.message_nodes=1"),
        ("verifying.kv_tokens=0", "verifying.kv_tokens=300"),
    ],
)
def test_setting_is_heard(one: str, other: str) -> None:
    first, second = (outcome(*settings.split()) for settings in (one, other))
    assert first.figures != second.figures


def test_no_drafter_and_no_window_are_the_target_alone() -> None:
    for setting in (("drafting.drafters=0",), ("window.kind=static", "window.size=0")):
        assert outcome(*setting)["speculation.tokens_per_round"] == 1.0


@pytest.mark.parametrize("limit", ["verifying.leader_sessions=1", "verifying.max_sessions=1"])
def test_admission_refuses_what_is_too_much_and_clients_may_ask_again(limit: str) -> None:
    open_to_all, limited = outcome(), outcome(limit)
    assert open_to_all["requests.refused"] == 0
    assert limited["requests.refused"] == limited["requests.reasons"]["OVERLOADED"] > 0
    assert limited["latency.tpot.mean"] < open_to_all["latency.tpot.mean"]
    patient = outcome(limit, "patience.retries=4")
    assert patient["requests.retried"] > 0 and patient["requests.done"] > limited["requests.done"]
