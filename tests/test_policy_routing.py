"""Routers and batches: who gets the next session, which sessions share a forward."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdproto.policy.batching import Fair, Fifo, LengthAware
from dsdproto.policy.routing import Candidate, Goodput, RandomRouter, RoundRobin, ShortestQueue

DRAWS = [index / 100 for index in range(100)]


@dataclass(frozen=True)
class Item:
    key: int
    rows: int = 5
    context: int = 100


def test_any_router_draws_evenly():
    chosen = Counter(RandomRouter().choose([Candidate()] * 4, draw) for draw in DRAWS)
    assert chosen == dict.fromkeys(range(4), 25)
    assert RandomRouter().choose([Candidate()], 0.999) == 0


def test_round_robin_takes_turns_and_callers_do_not_herd():
    router = RoundRobin()
    chosen = [router.choose([Candidate()] * 3, 0.5) for _ in range(6)]
    assert chosen == [1, 2, 0, 1, 2, 0]
    first = Counter(RoundRobin().choose([Candidate()] * 4, draw) for draw in DRAWS)
    assert min(first.values()) == 25


def test_the_shortest_queue_is_joined():
    assert ShortestQueue().choose([Candidate(3), Candidate(1), Candidate(1)], 0.9) == 1


def test_goodput_weighs_distance_against_load():
    near, far = Candidate(sessions=0, forward=0.03, rtt=0.001), Candidate(sessions=0, forward=0.03, rtt=0.05)
    assert Goodput().choose([far, near], 0.0) == 1
    crowded = Candidate(sessions=60, forward=0.03, queue=0.05, rtt=0.001)
    assert Goodput().choose([crowded, far], 0.0) == 1
    assert Goodput().choose([Candidate(2), Candidate(1)], 0.0) == 1, "nothing is known but the number of sessions"


@pytest.mark.parametrize("batching", [Fifo(32), LengthAware(32), Fair(32)])
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 4000)), max_size=20))
def test_a_batch_fits_and_something_always_goes(batching, shapes):
    waiting = [Item(key, rows, context) for key, (rows, context) in enumerate(shapes)]
    batch = batching.form(waiting)
    assert bool(batch) == bool(waiting)
    assert len(batch) <= 1 or sum(item.rows for item in batch) <= 32
    assert len({item.key for item in batch}) == len(batch)


def test_like_lengths_go_together_and_the_oldest_says_which():
    waiting = [Item(0, context=100), Item(1, context=900), Item(2, context=150), Item(3, context=40)]
    assert [item.key for item in LengthAware(32).form(waiting)] == [0, 2]
    assert [item.key for item in LengthAware(32).form(waiting[1:])] == [1]


def test_fairness_is_counted_in_rows():
    batching, rows = Fair(10), Counter()
    for _ in range(300):
        for item in batching.form([Item(0, rows=9), Item(1, rows=3), Item(2, rows=3)]):
            rows[item.key] += item.rows
    assert max(rows.values()) - min(rows.values()) <= 12
    assert batching.form([Item(0, rows=9), Item(7, rows=9)])[0].key in (0, 7)


def test_a_newcomer_neither_pays_nor_takes_all():
    batching = Fair(5)
    for _ in range(100):
        batching.form([Item(0), Item(1)])
    turns = [batching.form([Item(0), Item(1), Item(2)])[0].key for _ in range(9)]
    assert Counter(turns) == {0: 3, 1: 3, 2: 3}


def test_fairness_forgets_whom_it_has_not_seen_for_long():
    batching = Fair(5, remembered=3)
    for key in range(50):
        batching.form([Item(key)])
    assert len(batching.served) == 3
