"""The policies: pure decisions against closed forms, brute force and simple worlds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdproto.policy.acceptance import AcceptanceEstimator, probability_of
from dsdproto.policy.batching import Fifo, next_prefill
from dsdproto.policy.cost import CostModel
from dsdproto.policy.flush import FlushPolicy
from dsdproto.policy.lag import GIVE_UP, LagEstimator
from dsdproto.policy.window import best_count, worth_waiting


@pytest.mark.parametrize(("kappa", "window"), [(5, 4), (10, 6), (20, 8), (50, 11), (100, 14)])
def test_best_chain_is_the_closed_form(kappa, window):
    """a = 0.8; kappa = fixed cost of a round over the cost of one more token (Leviathan et al.; W is Lambert's)."""
    reach = [0.8**i for i in range(1, 40)]
    seconds = [kappa + n for n in range(-1, 41)]  # rows: the prefix end and n nodes, of which n + kappa is the cost
    assert abs(best_count(reach, seconds) - window) <= 1


@given(
    reach=st.lists(st.floats(0, 1), max_size=12).map(lambda r: sorted(r, reverse=True)),
    steps=st.lists(st.floats(0.0, 1.0), min_size=14, max_size=14),
    overhead=st.floats(0, 2),
)
def test_best_count_is_the_best(reach, steps, overhead):
    seconds = [0.5 + sum(steps[:rows]) for rows in range(14)]
    rates = [(1 + sum(reach[:n])) / (seconds[1 + n] + overhead) for n in range(len(reach) + 1)]
    assert rates[best_count(reach, seconds, overhead)] == pytest.approx(max(rates))


def test_waiting_pays_when_much_comes_soon():
    assert worth_waiting(gain_now=0.0, gain_later=2.0, wait=0.01, round_time=0.03)
    assert not worth_waiting(gain_now=0.0, gain_later=2.0, wait=0.07, round_time=0.03)
    assert not worth_waiting(gain_now=2.0, gain_later=2.0, wait=0.001, round_time=0.03)


@pytest.mark.parametrize("bend", [False, True])
def test_cost_model_learns_the_machine(bend):
    def truth(rows: int) -> float:
        return 0.018 + 0.003 * max(rows - (4 if bend else 0), 0)

    model = CostModel()
    for i in range(300):
        rows = 1 + i % 9
        model.observe(rows, truth(rows) * (1 + 0.05 * math.sin(i)))
    curve = model.curve(16)
    for rows in range(1, 10):
        assert curve[rows] == pytest.approx(truth(rows), rel=0.08)
    assert curve[1:] == sorted(curve[1:])
    # In the flat part nodes are free, so even unlikely ones are worth taking there.
    assert best_count([0.3, 0.12, 0.09, 0.01, 0.01], model.curve(6)) == (3 if bend else 1)


def test_cost_model_is_defined_from_the_start_and_follows_a_change():
    model = CostModel()
    assert model.curve(8)[1] > 0 and len(model.curve(8)) == 9
    for _ in range(50):
        model.observe(4, 0.02)
    for _ in range(200):
        model.observe(4, 0.08)
    assert model.curve(8)[4] == pytest.approx(0.08, rel=0.1)


def test_rows_get_a_price_while_requests_queue_and_lose_it_when_none_does():
    model = CostModel()
    for _ in range(400):
        model.shared(4, 16, 0.02, 0.02)
    dear = model.price
    assert 0.02 < dear <= 2 * 0.02
    assert model.crowd == pytest.approx(7 / 8, abs=0.01), "a quarter of the rows of half of the time is its own"
    for _ in range(8000):
        model.shared(4, 4, 0.0, 0.02)
    assert model.price == 0.0 and model.crowd < 0.01


def test_a_verdict_without_times_teaches_no_price():
    model = CostModel()
    model.shared(4, 0, 0.5, 0.0)
    assert model.price == model.crowd == 0.0


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.95])
def test_acceptance_is_learned_whatever_the_drafter_claims(rate):
    estimator = AcceptanceEstimator()
    for i in range(400):
        estimator.observe(8, (i * 7919) % 1000 < 1000 * rate, first=True)
    assert estimator.probability(8, first=True) == pytest.approx(rate, abs=0.07)
    for score in (8, 60):  # nothing learned of second choices
        assert estimator.probability(score, first=False) == pytest.approx(probability_of(score), abs=0.01)
    assert 0 <= estimator.cost(8, first=True) <= 255


@pytest.mark.parametrize("power", [0.06, 0.5, 1.0, 4.0])
def test_what_one_score_teaches_is_believed_of_others(power):
    """A drafter whose opinion is too modest or too bold is so at every score, not only where it was caught."""
    estimator = AcceptanceEstimator()
    for i in range(300):
        score = (4, 10, 16)[i % 3]
        estimator.observe(score, (i * 7919) % 1000 < 1000 * probability_of(score * power), first=True)
    assert estimator.probability(32, first=True) == pytest.approx(probability_of(32 * power), abs=0.12)


def test_a_lagging_drafter_is_not_waited_for_after_three_vain_waits():
    lag = LagEstimator()
    for _ in range(GIVE_UP):
        lag.asked(10.0)
        assert lag.remaining(10.001) is not None
        lag.gave_up()
    lag.asked(20.0)
    assert lag.remaining(20.0) is None
    lag.answered(20.1)
    lag.asked(30.0)
    assert lag.remaining(30.0) is not None


def test_nothing_is_waited_for_while_drafts_are_at_hand():
    lag = LagEstimator()
    lag.asked(None)
    assert lag.remaining(1.0) is None


def test_flush_at_once_when_the_leader_has_nothing_else_in_bulk():
    policy = FlushPolicy(last=-3.0)
    policy.advanced(0.0)  # what the prompt took is not the length of a round
    policy.advanced(0.1)
    policy.stepped(0.005)  # a twentieth of a round
    soon = pytest.approx(0.1 + 0.75 * 0.1)
    for unsent, sent, gain, prospect, due in [
        (1, 0, 0.9, 0.8, soon),  # the leader waits, but one more likely node is worth it
        (4, 0, 3.2, 0.6, 0.11),  # by now it is not: time is worth more, the more there is to verify
        (1, 0, 0.4, 0.2, 0.11),  # the next node is unlikely
        (4, 5, 3.2, 0.8, soon),  # the leader is busy with what was sent
        (8, 5, 3.2, 0.8, 0.11),  # the window is full
        (1, 5, 0.3, 0.0, 0.11),  # no more will come
    ]:
        assert policy.due(unsent, sent, 8, gain, prospect, 0.11) == due


def test_a_shorter_round_is_believed_sooner_than_a_longer_one():
    shorter, longer = FlushPolicy(last=-1.0), FlushPolicy(last=-1.0)
    for policy, now in ((shorter, 1.05), (longer, 1.2)):
        policy.advanced(0.0)
        policy.advanced(0.1)
        policy.advanced(1.0)
        policy.round = 0.1
        policy.advanced(now)
    assert shorter.round is not None and longer.round is not None
    assert 0.1 - shorter.round > longer.round - 0.1


@dataclass
class Item:
    key: int
    rows: int


@given(st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_batches_are_in_order_bounded_and_never_empty(rows):
    waiting = [Item(i, r) for i, r in enumerate(rows)]
    batch = Fifo(32).form(waiting)
    assert batch == waiting[: len(batch)] and batch
    assert len(batch) == 1 or sum(item.rows for item in batch) <= 32
    left = waiting[len(batch) :]
    assert not left or sum(item.rows for item in batch) + left[0].rows > 32


def test_prefill_takes_turns():
    order, last = [], None
    for _ in range(6):
        last = next_prefill(["a", "b", "c"], last)
        order.append(last)
    assert order == ["a", "b", "c", "a", "b", "c"]
    assert next_prefill([], "a") is None
    assert next_prefill(["b"], "gone") == "b"
