"""The planning simulator against theory, where theory is exact: i.i.d. acceptance, constant times, nobody queues.

Two steps keep this quick and sharp. The simulator needs exactly the rounds (or within a small fraction the time) that
the course of luck which it draws from leaves to it; and the mean over such courses is the closed form's. The slow tests
put the simulator beside the closed forms directly.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from dsdproto.policy.windows import MOST, break_even, optimal_window, tokens_per_round
from reference_nodes.simulator.plan import Report, parse, run
from reference_nodes.simulator.plan.acceptance import process_of
from reference_nodes.simulator.plan.scenario import Iid
from reference_nodes.simulator.plan.theory import (
    ahead_time_in_blocks,
    ahead_time_per_token,
    capacity_gain,
    draft_ahead_course,
    kappa_of,
    rounds_needed,
    synchronous_time_per_token,
)

WITHIN = 0.02
LONG = 150_000
"""Positions of luck over which a closed form is averaged."""
RTT, DRAFT, VERIFY = 0.01, 0.005, 0.03


def scenario(acceptance: float, size: int, tokens: int, **over: Any) -> dict[str, Any]:
    """One client that drafts for itself, one target, constant times; answers one after the other."""
    table: dict[str, Any] = {
        "name": "theory",
        "duration": 1.0,
        "drain": 1e6,
        "device": {
            "gpu": {"kind": "affine", "base": over.get("verify", VERIFY), "per_row": over.get("per_row", 0.0)},
            "cpu": {"kind": "affine", "base": over.get("draft", DRAFT)},
        },
        "group": [
            {"name": "target", "count": 1, "roles": ["leader", "verifier"], "device": "gpu"},
            {"name": "edge", "count": 1, "roles": ["client", "drafter"], "device": "cpu"},
        ],
        "link": [{"between": ["edge", "target"], "rtt": over.get("rtt", RTT)}],
        "workload": {"kind": "closed", "clients": 1, "prompt": 32, "output": tokens},
        "acceptance": {"default": {"kind": "iid", "rates": [acceptance]}},
        "window": {"kind": "static", "size": size, "ahead": over.get("ahead", 0)},
        # A floor below every chain: the window alone decides how many tokens a round has.
        "drafting": {"width": 1, "floor": 1_000_000, "message_nodes": 1},
    }
    return table | {key: value for key, value in over.items() if key in ("duration", "drain", "warmup")}


def planned(acceptance: float, size: int, tokens: int, **over: Any) -> Report:
    return run(parse(scenario(acceptance, size, tokens, **over)))


@lru_cache(maxsize=8)
def luck(acceptance: float) -> Callable[[int], bool]:
    """Whether the drafter is right at a position, as the simulator's first session has it."""
    process = process_of(Iid((acceptance,)), "default", 1, Path())
    return [process.rank_at(0, position)[0] == 0 for position in range(LONG)].__getitem__


def mean_of(acceptance: float, size: int, tokens: int) -> float:
    """Tokens per round that the luck leaves to an answer."""
    return tokens / rounds_needed(luck(acceptance), tokens, size)


# ---------------------------------------------------------------- tokens per round

ACCEPTANCES, SIZES = (0.3, 0.6, 0.8, 0.95), (1, 2, 4, 8)


@pytest.mark.parametrize("acceptance", ACCEPTANCES)
def test_rounds_are_those_that_the_luck_leaves(acceptance: float) -> None:
    for size in SIZES:
        report = planned(acceptance, size, 400)
        assert report["speculation.rounds"] == rounds_needed(luck(acceptance), 400, size), size


@pytest.mark.parametrize("acceptance", ACCEPTANCES)
def test_luck_leaves_the_closed_form_of_tokens_per_round(acceptance: float) -> None:
    for size in SIZES:
        rounds = rounds_needed(luck(acceptance), LONG, size)
        assert LONG / rounds == pytest.approx(tokens_per_round(acceptance, size), rel=WITHIN / 2), size


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("acceptance", ACCEPTANCES)
def test_tokens_per_round_are_the_closed_form(acceptance: float, size: int) -> None:
    # One answer of 1,000 tokens after another.
    seconds = 12_000 * (RTT + size * DRAFT + VERIFY)
    report = planned(acceptance, size, 1000, duration=seconds, drain=0.0)
    assert report["speculation.rounds"] > 10_000
    assert report["speculation.tokens_per_round"] == pytest.approx(tokens_per_round(acceptance, size), rel=WITHIN)


def test_a_window_is_full_however_unlikely_its_drafts() -> None:
    table = scenario(0.3, 4, 100)
    table["drafting"] = {"width": 1}
    report = run(parse(table))
    # All but the last rounds of an answer have four drafts, and nobody waits for drafts that never come.
    assert report["speculation.nodes_per_round"] > 3.9
    assert report["latency.itl.max"] < 2 * (RTT + 4 * DRAFT + VERIFY)


def test_time_per_token_is_a_round_over_its_tokens() -> None:
    for acceptance, size in ((0.6, 2), (0.8, 4), (0.95, 8)):
        report = planned(acceptance, size, 600, per_row=0.001)
        verify = VERIFY + (1 + size) * 0.001
        closed = synchronous_time_per_token(acceptance, size, RTT, DRAFT, verify)
        # The first round's time is that to the first token.
        rounds = rounds_needed(luck(acceptance), 600, size) - 1
        expected = closed * tokens_per_round(acceptance, size) * rounds / 599
        assert report["latency.tpot.mean"] == pytest.approx(expected, rel=WITHIN / 2), (acceptance, size)


# ---------------------------------------------------------------- the best window

SETTINGS = [
    # acceptance, round trip, draft, base of a forward, per row
    (0.6, 0.01, 0.01, 0.03, 0.0005),
    (0.8, 0.03, 0.005, 0.03, 0.001),
    (0.9, 0.0, 0.008, 0.05, 0.002),
]


def speeds(setting: tuple[float, ...], sizes: list[int], tokens: int) -> dict[int, float]:
    """Tokens per second by window. All windows meet the same luck."""
    acceptance, rtt, draft, base, per_row = setting
    out = {}
    for size in sizes:
        report = planned(acceptance, size, tokens, rtt=rtt, draft=draft, verify=base, per_row=per_row)
        out[size] = 1.0 / report["latency.tpot.mean"]
    return out


def formula(setting: tuple[float, ...], acceptance: float) -> int:
    _, rtt, draft, base, per_row = setting
    return optimal_window(acceptance, kappa_of(rtt, draft, base, per_row))


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_neighbour_is_better_than_the_closed_form_window(setting: tuple[float, ...]) -> None:
    best = formula(setting, setting[0])
    assert 0 < best < MOST
    found = speeds(setting, [max(best - 2, 1), best, best + 2], 500)
    assert found[best] >= (1 - WITHIN) * max(found.values()), found


def test_window_is_nothing_where_drafts_cost_more_than_they_bring() -> None:
    setting = (0.3, 0.0, 0.03, 0.03, 0.0)
    assert formula(setting, 0.3) == 0
    found = speeds(setting, [0, 1, 2], 300)
    assert max(found, key=found.__getitem__) == 0, found


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_sweep_over_windows_peaks_where_the_closed_form_says(setting: tuple[float, ...]) -> None:
    found = speeds(setting, list(range(MOST + 1)), 3000)
    assert found[formula(setting, setting[0])] >= (1 - WITHIN) * max(found.values()), found


# ---------------------------------------------------------------- break-even


BREAK_EVEN = [(0.8, 3), (0.9, 4), (0.95, 8)]


def crossing(acceptance: float, size: int, tokens: int, **over: Any) -> float:
    """Round trip at which a token takes as long as the target needs alone: time per token is linear in it."""
    near, far = (planned(acceptance, size, tokens, rtt=rtt, **over)["latency.tpot.mean"] for rtt in (0.0, 0.1))
    return 0.1 * (VERIFY - near) / (far - near)


def test_target_alone_takes_a_forward_a_token_however_far_the_client() -> None:
    for rtt in (0.0, 0.1):
        assert planned(0.8, 0, 60, rtt=rtt)["latency.tpot.mean"] == pytest.approx(VERIFY)


@pytest.mark.parametrize(("acceptance", "size"), BREAK_EVEN)
def test_break_even_round_trip_is_that_of_the_luck(acceptance: float, size: int) -> None:
    expected = VERIFY * mean_of(acceptance, size, 600) - VERIFY - size * DRAFT
    assert crossing(acceptance, size, 600) == pytest.approx(expected, rel=WITHIN)


def test_luck_leaves_the_closed_form_of_the_break_even() -> None:
    for acceptance, size in BREAK_EVEN:
        expected = VERIFY * mean_of(acceptance, size, LONG) - VERIFY - size * DRAFT
        assert expected == pytest.approx(break_even(acceptance, size, VERIFY, DRAFT, VERIFY), rel=WITHIN), size


# ---------------------------------------------------------------- draft-ahead

AHEAD = [
    # window, round trip, draft, verify: the drafter is slower, the verifier is, both alike; near and far
    (1, 0.023, 0.005, 0.006),
    (2, 0.084, 0.01, 0.022),
    (4, 0.081, 0.005, 0.031),
    (4, 0.021, 0.01, 0.032),
    (8, 0.043, 0.005, 0.031),
]


@pytest.mark.parametrize("acceptance", [0.8, 0.95])
def test_draft_ahead_takes_the_time_that_the_luck_leaves(acceptance: float) -> None:
    for size, rtt, draft, verify in AHEAD:
        report = planned(acceptance, size, 600, rtt=rtt, draft=draft, verify=verify, ahead=64)
        course = draft_ahead_course(luck(acceptance), 600, size, rtt, draft, verify)
        assert report["speculation.rounds"] == course.rounds, size
        expected = (course.seconds - (rtt + size * draft + verify)) / 599
        assert report["latency.tpot.mean"] == pytest.approx(expected, rel=WITHIN / 4), size


def test_luck_leaves_the_closed_form_of_draft_ahead_in_blocks() -> None:
    for acceptance in (0.6, 0.8, 0.95):
        for size, rtt, draft, verify in AHEAD:
            course = draft_ahead_course(luck(acceptance), LONG, size, rtt, draft, verify)
            expected = ahead_time_in_blocks(acceptance, size, rtt, draft, verify)
            assert course.seconds / LONG == pytest.approx(expected, rel=WITHIN / 2), (acceptance, size)


def test_usual_estimate_of_draft_ahead_holds_where_blocks_are_soon_full() -> None:
    """What is left out of max(t_d, t_v/g) + (1 - a)(RTT + t_v) pulls in opposite directions."""
    near = ahead_time_in_blocks(0.95, 4, 0.08, 0.005, 0.02)
    assert near == pytest.approx(ahead_time_per_token(0.95, 4, 0.08, 0.005, 0.02), rel=0.03)
    # A large window is seldom full in time: the wrong draft waits for the rest of its block.
    assert ahead_time_in_blocks(0.8, 8, 0.02, 0.01, 0.03) > 1.4 * ahead_time_per_token(0.8, 8, 0.02, 0.01, 0.03)
    # A verdict on one draft brings two tokens.
    assert ahead_time_in_blocks(0.95, 1, 0.02, 0.01, 0.03) < 0.6 * ahead_time_per_token(0.95, 1, 0.02, 0.01, 0.03)


# ---------------------------------------------------------------- capacity


def saturated(acceptance: float, size: int, draft: float, verify: float, *, alone: bool) -> Report:
    """More clients than one verifier can serve; a forward is for one session. ``alone``: it drafts for them too."""
    clients = round(2 * capacity_gain(size, draft, verify)) + 3
    target, edge = ["leader", "verifier"], ["client"]
    (target if alone else edge).append("drafter")
    table = scenario(acceptance, size, 150, draft=draft, verify=verify, rtt=0.0, drain=0.0)
    table["duration"], table["warmup"] = 500 * (verify + size * draft), 50 * (verify + size * draft)
    table["group"] = [
        {"name": "target", "count": 1, "roles": target, "device": "gpu", "drafter_device": "cpu"},
        {"name": "edge", "count": clients, "roles": edge, "device": "cpu"},
    ]
    table["workload"] = {"kind": "closed", "clients": clients, "prompt": 1, "output": 150}
    table["verifying"] = {"max_rows": 1 + size, "max_nodes": size}
    table["drafting"]["sessions_per_job"] = 1
    return run(parse(table))


@pytest.mark.parametrize(("size", "draft", "verify"), [(4, 0.005, 0.02), (2, 0.01, 0.01), (4, 0.01, 0.02)])
def test_saturated_verifier_serves_so_many_more_clients(size: int, draft: float, verify: float) -> None:
    """One slot and one session a forward, so that nobody saves by batching: the bound is met."""
    apart, alone = (saturated(0.8, size, draft, verify, alone=alone) for alone in (False, True))
    assert apart["verifiers.utilisation"] > 0.99
    # Rounds, not tokens: the two do not come to the same places of the same answers in their time.
    rounds = [report["speculation.rounds"] / report["counted.seconds"] for report in (apart, alone)]
    assert rounds[0] / rounds[1] == pytest.approx(capacity_gain(size, draft, verify), rel=WITHIN)
