"""Window policies: sizes, waiting, limits; the closed form against a search (REFERENCES: Leviathan et al. 2023)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdproto.policy.windows import (
    Adaptive,
    Arrival,
    Awc,
    AwcState,
    Choice,
    Optimum,
    Outlook,
    Round,
    Sized,
    Threshold,
    break_even,
    optimal_window,
    tokens_per_round,
)


def outlook(nodes: int = 0, **changed: object) -> Outlook:
    fields: dict[str, object] = {
        "reach": [0.8**n for n in range(1, nodes + 1)],
        "seconds": [0.02 + 0.001 * rows for rows in range(nodes + 2)],
        "overhead": 0.0,
        "price": 0.0,
        "crowd": 0.0,
        "arrivals": (),
        "drafters": 1,
        "room": 100,
        "elapsed": 0.0,
        "rounds": 3,
        "waited": False,
    }
    return Outlook(**fields | changed)  # type: ignore[arg-type]


def round_of(verified: int, accepted: int, **changed: object) -> Round:
    return Round(**{"verified": verified, "accepted": accepted, "compute": 0.03, "queue": 0.0, "took": 0.05} | changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kappa", "size"), [(5, 4), (10, 6), (20, 8), (50, 11), (100, 14)])
def test_the_closed_form_gives_the_known_sizes(kappa, size):
    assert optimal_window(0.8, kappa, 100) == size


@given(st.floats(0.05, 0.98), st.floats(0.1, 200.0))
def test_the_closed_form_is_the_best_of_all_sizes(acceptance, kappa):
    def rate(size: int) -> float:
        return tokens_per_round(acceptance, size) / (kappa + size)

    assert rate(optimal_window(acceptance, kappa, 400)) == pytest.approx(max(map(rate, range(400))), rel=1e-12)


@pytest.mark.parametrize("acceptance", [-0.1, 0.0, 1.0, 1.1])
def test_the_closed_form_at_its_ends(acceptance):
    assert optimal_window(acceptance, 10.0, 12) == (0 if acceptance <= 0.0 else 12)
    assert optimal_window(0.8, 0.0, 12) == 0, "a round costs nothing: the target alone is as fast as it gets"


def test_tokens_per_round():
    assert tokens_per_round(1.0, 4) == 5.0
    assert tokens_per_round(0.0, 4) == 1.0
    assert tokens_per_round(0.8, 4) == pytest.approx(3.3616)


def test_break_even_is_where_a_round_takes_what_its_tokens_take_alone():
    rtt = break_even(0.8, 4, verify=0.05, draft=0.01, alone=0.045)
    assert (rtt + 0.05 + 4 * 0.01) / tokens_per_round(0.8, 4) == pytest.approx(0.045)


def test_a_fixed_size_waits_for_its_tokens_and_no_longer_than_it_says():
    policy = Sized(4, patience=2.0)
    assert policy.choose(outlook(2, elapsed=0.5)) == Choice(2, 1.5)
    assert policy.choose(outlook(4)) == policy.choose(outlook(9)) == Choice(4)
    for reason in ({"elapsed": 2.0}, {"waited": True}, {"drafters": 0}):
        assert policy.choose(outlook(2, **reason)) == Choice(2), reason
    assert policy.choose(outlook(2, room=2)) == Choice(2), "no more fits"
    assert policy.limits(48, 8) == (4, 4)
    assert policy.limits(48, 1) == (4, 4)
    assert Sized(4, ahead=8).limits(48, 8) == (12, 4)
    assert Sized(4, ahead=8).limits(48, 1) == (12, 1)
    assert Sized(0).choose(outlook(3)) == Choice(0)


@pytest.mark.parametrize("wrong", [{"size": -1}, {"ahead": -1}, {"patience": 0.0}])
def test_a_size_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="window of"):
        Sized(**wrong)


def test_the_threshold_moves_the_size_by_one_within_its_bounds():
    policy = Threshold(4, most=6)
    sizes = []
    for accepted in (1.0,) * 30 + (0.0,) * 40:
        policy.observe(round_of(policy.size, round(accepted * policy.size)))
        sizes.append(policy.size)
    assert max(sizes) == sizes[29] == 6 and sizes[-1] == 1
    assert all(abs(after - before) <= 1 for before, after in itertools.pairwise(sizes))
    before = policy.recent
    policy.observe(round_of(0, 0))
    assert policy.recent == before, "a round without drafts says nothing about them"


def test_the_optimum_follows_what_it_sees():
    good, bad = Optimum(draft=0.005, fixed=0.02), Optimum(draft=0.005, fixed=0.02)
    for _ in range(200):
        good.observe(round_of(good.size, good.size))
        bad.observe(round_of(bad.size, 0))
    assert good.size > 6 and bad.size <= 1


def test_awc_is_clamped_and_smoothed_and_lets_the_target_go_on_alone():
    wanted = [30.0]
    seen: list[AwcState] = []

    def predict(state: AwcState) -> float:
        seen.append(state)
        return wanted[0]

    policy = Awc(predict=predict, rtt=0.03, rest=3)
    policy.observe(round_of(4, 4))
    assert policy.raw == pytest.approx(4.0 + 0.4 * 8.0) and policy.size == 7
    assert seen[0].rtt == 0.03 and seen[0].size == 4.0
    for _ in range(20):
        policy.observe(round_of(4, 4))
    assert policy.size == 12
    wanted[0] = 0.5
    policy.observe(round_of(4, 0))
    assert policy.size > 1, "one such prediction may be noise"
    policy.observe(round_of(4, 0))
    assert policy.size == 0
    sizes = []
    for _ in range(3):
        policy.observe(round_of(0, 0))
        sizes.append(policy.size)
    assert sizes[:2] == [0, 0] and sizes[2] >= 1, "and then it tries again"


def test_the_adaptive_policy_verifies_what_pays_and_may_verify_nothing():
    policy = Adaptive()
    free = outlook(6, seconds=[0.02] * 8)
    assert policy.choose(free).count == 6
    dear = outlook(6, seconds=[0.02 * rows for rows in range(8)])
    assert policy.choose(dear).count == 0
    assert policy.limits(48, 8) == (48, 8)


def test_the_adaptive_policy_waits_only_where_that_pays():
    policy = Adaptive()
    soon, late = Arrival(0.001, 0.01, 3.0), Arrival(0.5, 1.0, 3.0)
    assert policy.choose(outlook(0, arrivals=(soon,))) == Choice(0, 0.01)
    assert policy.choose(outlook(0, arrivals=(late,))) == Choice(0)
    assert policy.choose(outlook(0, arrivals=(soon,), waited=True)) == Choice(0)
    assert policy.choose(outlook(0, arrivals=(soon,), rounds=0)) == Choice(0)
    assert policy.choose(outlook(0, arrivals=(soon,), crowd=0.9)) == Choice(0)


def test_the_adaptive_policy_takes_less_where_rows_are_dear_to_others():
    policy = Adaptive()
    counts = [policy.choose(outlook(8, price=price)).count for price in (0.0, 0.002, 0.01, 0.1)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 8 and counts[-1] == 0
