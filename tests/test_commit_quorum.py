"""Arithmetic of views and majorities (clauses Q-1, Q-2, Q-34, Q-41)."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdproto.commit.quorum import distance, leader_of, majority, next_view, reached_by_majority
from dsdproto.wire.groups import join_group, split_group

SIZES = (1, 3, 5, 7, 9)


@pytest.mark.parametrize("n", SIZES)
def test_any_two_majorities_share_a_voter_and_smaller_sets_need_not(n):
    size = majority(n)
    assert 2 * size > n and 2 * (size - 1) <= n
    for one in combinations(range(n), size):
        for other in combinations(range(n), size):
            assert set(one) & set(other)


@pytest.mark.parametrize("n", SIZES)
def test_a_majority_survives_any_minority(n):
    assert n - (n - majority(n)) >= majority(n) and (n - 1) // 2 == n - majority(n)


@settings(deadline=None)
@given(st.sampled_from(SIZES), st.data())
def test_reached_is_the_largest_height_that_enough_voters_have(n, data):
    heights = data.draw(st.lists(st.integers(0, 9), max_size=n))
    reached = reached_by_majority(heights, n)
    full = heights + [0] * (n - len(heights))
    assert sum(height >= reached for height in full) >= majority(n)
    assert sum(height > reached for height in full) < majority(n)


@settings(deadline=None)
@given(st.sampled_from(SIZES), st.integers(0, 10_000), st.data())
def test_the_next_view_of_a_node_is_the_first_above_that_it_leads(n, promised, data):
    number = data.draw(st.integers(0, n - 1))
    view = next_view(promised, number, n)
    assert view == next(v for v in range(promised + 1, promised + n + 1) if leader_of(v, n) == number)
    assert distance(promised, number, n) == view - promised


@pytest.mark.parametrize("n", SIZES)
def test_turns_are_all_different_and_the_old_leader_comes_last(n):
    for promised in range(2 * n):
        turns = [distance(promised, number, n) for number in range(n)]
        assert sorted(turns) == list(range(1, n + 1))
        assert turns[leader_of(promised, n)] == n


@settings(deadline=None)
@given(st.sampled_from(SIZES), st.data())
def test_a_group_survives_the_wire(n, data):
    ids = data.draw(st.lists(st.binary(min_size=32, max_size=32), min_size=n, max_size=n, unique=True))
    assert split_group(join_group(ids)) == tuple(ids)


@pytest.mark.parametrize(
    ("group", "says"),
    [
        (b"", "0 bytes"),
        (bytes(31), "31 bytes"),
        (bytes(33), "33 bytes"),
        (b"".join(bytes([i]) * 32 for i in range(2)), "64 bytes"),
        (b"".join(bytes([i]) * 32 for i in range(11)), "352 bytes"),
        (bytes(96), "twice"),
    ],
)
def test_what_is_no_group_is_refused(group, says):
    with pytest.raises(ValueError, match=says):
        split_group(group)
