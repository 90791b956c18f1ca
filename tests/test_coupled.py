"""The coupled rule: the fast code against the reference, its edges, and the distribution that it promises."""

from __future__ import annotations

from itertools import pairwise
from struct import pack, unpack

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance import reference as ref
from dsdproto.sampling import (
    MARGIN_MAX,
    CoupledSampler,
    ParameterError,
    RowError,
    SamplingParameters,
    TreeError,
    coupled,
    fixed,
    walk,
)

GREEDY = SamplingParameters()
WARM = SamplingParameters.from_floats(0.8)


def bits(row: np.ndarray) -> dict[int, int]:
    return {n: unpack(">I", pack(">f", float(x)))[0] for n, x in enumerate(row)}


def reference_choice(row: np.ndarray, parameters: SamplingParameters, seed: int, position: int) -> tuple[int, int]:
    as_wire = {
        "temperature": parameters.temperature_q16,
        "top_k": parameters.top_k,
        "top_p": parameters.top_p_q16,
    }
    result = ref.choose(bits(row), as_wire, seed, position)
    return result["token"], result["margin"]


PARAMETERS = st.builds(
    SamplingParameters,
    st.sampled_from([0, 1, 300, 20000, 52429, 65536, 200000, 2**24, 2**32 - 1]),
    st.sampled_from([0, 0, 1, 2, 7, 60, 500]),
    st.sampled_from([65536, 65536, 62259, 45000, 6000, 1]),
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 700),
    st.sampled_from([0.0, 1e-6, 0.02, 1.0, 6.0, 60.0, 1e6, 1e30]),
    st.booleans(),
    PARAMETERS,
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)
def test_every_path_through_the_code_gives_the_tokens_of_the_text(
    data, size, scale, coarse, parameters, seed, position
):
    rng = np.random.default_rng(data)
    row = (rng.standard_normal(size) * scale).astype(np.float32)
    if coarse:
        row = np.round(row)
    row[rng.random(size) < 0.1] = -np.inf
    row[rng.integers(size)] = scale
    expected = reference_choice(row, parameters, seed, position)
    sampler = CoupledSampler(parameters, seed)
    assert tuple(sampler.choose(row, position)) == expected
    assert tuple(sampler.choose(row.tolist(), position)) == expected
    shuffled = rng.permutation(size)
    assert tuple(sampler.choose(row[shuffled], position, shuffled)) == expected
    ranked = sampler.ranked(row, position, 6)
    assert ranked == sampler.ranked(row[shuffled], position, 6, shuffled)
    assert ranked[0].token == expected[0]
    if len(ranked) > 1:
        assert min(ranked[0].score - ranked[1].score, MARGIN_MAX) == expected[1]
    else:
        assert expected[1] == MARGIN_MAX


@pytest.mark.parametrize("scale", [0.001, 1.0, 3.0])
@pytest.mark.parametrize("temperature", [20000, 52429, 300000])
def test_a_whole_vocabulary_equals_the_sum_of_its_candidates(scale, temperature):
    """Pruning never loses the winner or the runner-up: compare with noise for all 49,152 tokens."""
    rng = np.random.default_rng(11)
    row = (rng.standard_normal(49152) * scale).astype(np.float32)
    row[5] += 10 * scale
    parameters = SamplingParameters(temperature)
    for position in range(4):
        words = coupled.token_words(9, coupled.DOMAIN_COUPLED, position, np.arange(49152))
        drops = fixed.drop_q24_array(
            fixed.logit_q24(float(row.max())) - fixed.logit_q24_array(row), fixed.scale_factor(temperature)
        )
        scores = fixed.noise_q24_array(words) - drops
        best = np.lexsort((np.arange(49152), -scores))[:9]
        ranked = CoupledSampler(parameters, 9).ranked(row, position, 9)
        assert [(r.token, r.score) for r in ranked] == [(int(n), int(scores[n])) for n in best]


def test_noise_scalar_and_array_agree_and_never_fall():
    rng = np.random.default_rng(1)
    words = np.unique(
        np.concatenate(
            [
                rng.integers(0, 2**32, 20000, np.int64),
                np.arange(300),
                2**32 - 1 - np.arange(300),
                2**31 + np.arange(-300, 300),
                *(2**k + np.arange(-3, 3) for k in range(3, 32)),
                *(2**32 - 2**k + np.arange(-3, 3) for k in range(3, 32)),
            ]
        )
    )
    noise = fixed.noise_q24_array(words.astype(np.uint32))
    assert noise.tolist() == [fixed.noise_q24(int(w)) for w in words]
    assert (np.diff(noise) >= 0).all()
    assert noise[0] == fixed.NOISE_MIN and noise[-1] == fixed.NOISE_MAX


def test_noise_is_the_gumbel_function_to_within_two_units_in_ten_million():
    """Shifting every score by at most e bits moves each probability by a factor of at most 2^(2e)."""
    words = np.unique(np.concatenate([np.arange(0, 2**32, 1 << 13), 2**32 - 1 - np.arange(5000), np.arange(5000)]))
    u = (2 * words + 1) / 2.0**33
    z = (2.0**33 - 2 * words - 1) / 2.0**33
    exact = -np.log2(np.where(u < 0.5, -np.log2(u), -np.log1p(-z) / np.log(2)))
    error = fixed.noise_q24_array(words.astype(np.uint32)) / 2.0**24 - exact
    assert np.ptp(error) < 4e-7  # so e < 2e-7 about the middle, and a constant offset changes nothing


def test_probability_of_two_tokens_over_all_buckets():
    """P(token 0 wins) summed over 2^16 strata of its word, by the exact inverse of the noise for the other."""
    strata = 1 << 16
    words = (np.arange(strata, dtype=np.int64) << 16) + (1 << 15)
    noise = fixed.noise_q24_array(words.astype(np.uint32))
    for gap in (0.0, 0.1, 1.0, 3.5, 8.0):
        drop = fixed.drop_q24(fixed.logit_q24(gap), fixed.scale_factor(65536))
        # token 0 (best, drop 0) wins iff noise0 >= noise1 - drop; noise never falls, so search for the bar
        low, high = np.zeros(strata, np.int64), np.full(strata, 1 << 32, np.int64)
        while (low < high).any():
            middle = (low + high) // 2
            wins = fixed.noise_q24_array(np.minimum(middle, 2**32 - 1).astype(np.uint32)) - drop <= noise
            wins &= middle < 1 << 32
            low, high = np.where(wins & (low < high), middle + 1, low), np.where(wins, high, middle)
        p = (low / 2.0**32).mean()
        assert abs(p - 1 / (1 + np.exp(-gap))) < 1e-6, gap


def test_weights_and_drops_are_softmax_to_one_in_ten_million():
    drops = np.arange(0, 24 << 24, 1017)
    weights = fixed.weight_q40_array(drops) / 2.0**40
    assert np.abs(weights / 2.0 ** (-drops / 2.0**24) - 1).max() < 1e-7 + 2.0**-16
    gaps = np.linspace(0, 30, 5000).astype(np.float32)
    for temperature in (20000, 52429, 131072):
        exact = gaps.astype(float) * np.log2(np.e) * 65536 / temperature
        mine = fixed.drop_q24_array(fixed.logit_q24_array(gaps), fixed.scale_factor(temperature)) / 2.0**24
        ok = exact < 64
        assert np.abs(mine - exact)[ok].max() < 3e-7 * (1 + temperature / 65536) * 3


# -- statistics: fixed seeds, positions in sequence ----------------------------------------------------------


def frequencies(row: np.ndarray, parameters: SamplingParameters, n: int, seed: int) -> np.ndarray:
    sampler = CoupledSampler(parameters, seed)
    logits, ids = row.tolist(), list(range(len(row)))
    return np.bincount([sampler.choose(logits, i, ids).token for i in range(n)], minlength=len(row))


def softmax(row: np.ndarray, parameters: SamplingParameters) -> np.ndarray:
    x = row.astype(float) / parameters.temperature
    order = np.argsort(-x, kind="stable")
    p = np.exp(x - x.max())
    if parameters.top_k:
        p[order[parameters.top_k :]] = 0
    p /= p.sum()
    kept = int(np.searchsorted(np.cumsum(p[order]), parameters.top_p)) + 1
    if parameters.top_p < 1:
        p[order[kept:]] = 0
    return p / p.sum()


@pytest.mark.parametrize(
    "parameters",
    [
        SamplingParameters.from_floats(1.0),
        SamplingParameters.from_floats(0.7),
        SamplingParameters.from_floats(1.5, top_k=6),
        SamplingParameters.from_floats(1.0, top_p=0.8),
        SamplingParameters.from_floats(0.9, top_k=8, top_p=0.9),
    ],
)
def test_frequencies_follow_the_softmax(parameters):
    row = np.array([1.0, 0.5, -0.3, 2.0, 0.1, -1.0, 1.2, 0.0, 0.7, -2.0], np.float32)
    n = 10000
    counts, p = frequencies(row, parameters, n, 2024), softmax(row, parameters)
    assert (counts[p == 0] == 0).all()
    live = p > 0
    chi2 = ((counts[live] - n * p[live]) ** 2 / (n * p[live])).sum()
    freedom = int(live.sum()) - 1
    assert chi2 < freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize(
    ("p", "q"),
    [
        ((0.5, 0.5), (0.75, 0.25)),
        ((0.7, 0.2, 0.1), (0.1, 0.2, 0.7)),
        ((0.25, 0.25, 0.25, 0.25), (0.4, 0.3, 0.2, 0.1)),
    ],
)
def test_two_models_match_as_often_as_the_coupling_theorem_says(p, q):
    """P(match) = sum_j 1 / sum_i max(p_i/p_j, q_i/q_j) >= (1 - TV)/(1 + TV) (Daliri et al. 2024)."""
    p, q = np.array(p), np.array(q)
    formula = sum(1 / np.maximum(p / p[j], q / q[j]).sum() for j in range(len(p)))
    tv = np.abs(p - q).sum() / 2
    assert formula >= (1 - tv) / (1 + tv) - 1e-12
    sampler = CoupledSampler(SamplingParameters.from_floats(1.0), 77)
    target, draft = np.log(p).astype(np.float32).tolist(), np.log(q).astype(np.float32).tolist()
    n = 10000
    match = sum(sampler.choose(target, i).token == sampler.choose(draft, i).token for i in range(n)) / n
    assert abs(match - formula) < 4 * (formula * (1 - formula) / n) ** 0.5


def test_positions_and_seeds_are_independent_draws():
    row = [0.0] * 8
    sampler, other = CoupledSampler(SamplingParameters(65536), 1), CoupledSampler(SamplingParameters(65536), 2)
    n = 8000
    a = [sampler.choose(row, i).token for i in range(n + 1)]
    b = [other.choose(row, i).token for i in range(n)]
    bound = n / 8 + 4 * (n * 7 / 64) ** 0.5
    assert sum(x == y for x, y in pairwise(a)) < bound
    assert sum(x == y for x, y in zip(a, b)) < bound


# -- edges ---------------------------------------------------------------------------------------------------


def dense(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_greedy_ties_go_to_the_lowest_id_and_zeros_are_equal():
    for row in (dense(1, 3, 3, 2), dense(1, 3, 3, 2).tolist()):
        assert CoupledSampler(GREEDY, 0).choose(row, 0) == (1, 0)
    for row in (dense(-0.0, 0.0), dense(0.0, -0.0)):
        assert CoupledSampler(GREEDY, 0).choose(row, 0) == (0, 0)
    assert CoupledSampler(GREEDY, 0).choose([3.0, 3.0], 0, [9, 4]) == (4, 0)


def test_greedy_margin_is_the_gap_in_fixed_point():
    assert CoupledSampler(GREEDY, 0).choose(dense(1.5, 1.0, -7), 0).margin == 1 << 23
    assert CoupledSampler(GREEDY, 0).choose(dense(1000, 0), 0).margin == MARGIN_MAX
    assert CoupledSampler(GREEDY, 0).choose(dense(1000), 0).margin == MARGIN_MAX
    assert CoupledSampler(GREEDY, 0).choose(dense(1000, -np.inf), 0).margin == MARGIN_MAX


@pytest.mark.parametrize("parameters", [GREEDY, WARM, SamplingParameters(52429, 3, 60000)])
@pytest.mark.parametrize(
    ("row", "why"),
    [
        (dense(1, np.nan, 2), "NaN"),
        (dense(*[0.0] * 100, np.nan), "NaN"),
        (dense(-np.inf, -np.inf), "masked out"),
        (dense(*[-np.inf] * 100), "masked out"),
        (np.zeros((2, 2), np.float32), "shape"),
        (np.zeros(0, np.float32), "shape"),
        (np.zeros(5), "float64"),
        ([1.0, float("nan")], "NaN"),
        ([], "no token"),
    ],
)
def test_rows_without_an_answer_are_refused(parameters, row, why):
    for call in (lambda s: s.choose(row, 0), lambda s: s.ranked(row, 0, 3)):
        with pytest.raises(RowError, match=why):
            call(CoupledSampler(parameters, 0))


@pytest.mark.parametrize("n", [3, 100])
def test_ids_are_checked(n):
    sampler = CoupledSampler(WARM, 0)
    row = np.zeros(n, np.float32)
    for logits in (row, row.tolist()):
        with pytest.raises(RowError, match=r"ids|twice"):
            sampler.choose(logits, 0, [1] * n)
        with pytest.raises(RowError, match="ids"):
            sampler.choose(logits, 0, range(n - 1))
    for position in (-1, 2**64):
        with pytest.raises(RowError, match="64-bit"):
            sampler.choose(row, position)


def test_infinity_wins_and_huge_logits_saturate_alike():
    assert CoupledSampler(GREEDY, 0).choose(dense(3e38, np.inf), 0).token == 1
    rows = [dense(3e38, 2.0**28, 0.0), dense(np.inf, 1e30, 0.0)]
    for position in range(20):
        assert CoupledSampler(WARM, 0).choose(rows[0], position) == CoupledSampler(WARM, 0).choose(rows[1], position)


def test_top_k_prefers_the_lower_id_among_equals():
    row = dense(1, 5, 5, 5, 5)
    sampler = CoupledSampler(SamplingParameters(65536, 2), 3)
    assert {sampler.choose(row, i).token for i in range(200)} == {1, 2}


def test_top_p_keeps_the_smallest_sufficient_set():
    row = np.log(dense(0.5, 0.3, 0.15, 0.05))
    for p, kept in ((0.4, 1), (0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.94, 3), (0.96, 4), (1.0, 4)):
        sampler = CoupledSampler(SamplingParameters.from_floats(1.0, top_p=p), 5)
        assert {sampler.choose(row, i).token for i in range(400)} == set(range(kept)), p


@pytest.mark.parametrize("size", [4, 64])
def test_top_p_stops_where_the_mass_is_reached_exactly(size):
    sampler = CoupledSampler(SamplingParameters(65536, 0, 32768), 5)
    row = dense(*[1.0] * size)
    assert {sampler.choose(row, i).token for i in range(20 * size)} == set(range(size // 2))


def test_equal_scores_go_to_the_lowest_id():
    scores, tokens = np.array([5, 7, 7, 7, 6]), np.array([1, 40, 2, 3, 0])
    assert coupled._best(scores, tokens, 4) == [(7, 2), (7, 3), (7, 40), (6, 0)]


def test_top_p_works_on_what_top_k_left():
    row = np.log(dense(0.4, 0.3, 0.2, 0.1))
    # of (0.4, 0.3) renormalised, the first has 0.571: enough for 0.55, though it has only 0.4 of the whole
    sampler = CoupledSampler(SamplingParameters.from_floats(1.0, top_k=2, top_p=0.55), 5)
    assert {sampler.choose(row, i).token for i in range(200)} == {0}


def test_half_precision_rows_are_widened_exactly():
    row = np.random.default_rng(3).standard_normal(300).astype(np.float16)
    for position in range(5):
        sampler = CoupledSampler(WARM, 4)
        assert sampler.choose(row, position) == sampler.choose(row.astype(np.float32), position)


@pytest.mark.parametrize(
    "arguments",
    [(-1,), (2**32,), (1.0,), (True,), (0, -1), (0, 0, 0), (0, 0, 65537)],
)
def test_parameters_are_checked(arguments):
    with pytest.raises(ParameterError, match="sampling parameter"):
        SamplingParameters(*arguments)


@pytest.mark.parametrize("arguments", [(-0.1,), (float("nan"),), (float("inf"),), (1, 0, 0.0), (1, 0, 1.01)])
def test_typed_parameters_are_checked(arguments):
    with pytest.raises(ParameterError):
        SamplingParameters.from_floats(*arguments)
    with pytest.raises(ParameterError, match="seed"):
        CoupledSampler(GREEDY, -1)


def test_a_small_temperature_never_becomes_greedy():
    assert SamplingParameters.from_floats(1e-9).temperature_q16 == 1
    assert SamplingParameters.from_floats(0.8, 40, 0.95) == SamplingParameters(52429, 40, 62259)
    assert GREEDY.greedy and not WARM.greedy


def test_costs_tell_how_likely_a_sibling_is():
    costs = [r.cost for r in CoupledSampler(GREEDY, 0).ranked(np.log(dense(0.5, 0.25, 0.125, 0.125)), 0, 4)]
    assert costs == [16, 32, 48, 48]
    assert CoupledSampler(GREEDY, 0).ranked(dense(0.0, -100.0), 0, 2)[1].cost == 255
    for position in range(30):
        costs = [r.cost for r in CoupledSampler(WARM, 0).ranked(dense(*[1.0] * 60), position, 12)]
        assert costs == sorted(costs) and costs[0] >= 0 and costs[-1] <= 255


# -- the walk ------------------------------------------------------------------------------------------------

TABLE = {0: 5, 5: 6, 6: 7, 7: 8, 8: 9}  # greedy successor of the last token; 0 stands for the base


def rows(tokens):
    def row_of(node):
        last = tokens[node - 1] if node else 0
        return [0.0, 4.0 + last], [99, TABLE[last]]

    return row_of


def run(tokens, parents, limit=10, stop=()):
    return walk(tokens, parents, rows(tokens), CoupledSampler(GREEDY, 0), 100, limit, stop)


def test_the_walk_follows_the_target_and_ends_with_its_own_token():
    tokens, parents = [4, 5, 6, 6, 1, 7], [0, 0, 2, 1, 2, 3]
    result = run(tokens, parents)
    assert result.accepted == (2, 3, 6) and result.tokens == (5, 6, 7, 8) and not result.stopped
    assert result.margin == 4 << 24  # the smallest of 4, 9, 10, 11 logits
    assert run([], []).tokens == (5,)
    assert run([4], [0]) == ((), (5,), 4 << 24, False)


def test_the_walk_stops_at_stop_tokens_and_at_the_limit():
    chain, parents = [5, 6, 7], [0, 1, 2]
    assert run(chain, parents, stop=(6,))[:2] == ((1, 2), (5, 6)) and run(chain, parents, stop=(6,)).stopped
    assert run(chain, parents, limit=2) == ((1, 2), (5, 6), 4 << 24, False)
    assert run(chain, parents, limit=3).tokens == (5, 6, 7)
    assert run([1], [0], stop=(5,)) == ((), (5,), 4 << 24, True)
    with pytest.raises(TreeError, match="at least one"):
        run(chain, parents, limit=0)


@pytest.mark.parametrize(
    ("tokens", "parents", "why"),
    [
        ([1, 2], [0], "2 tokens but 1 parents"),
        ([1], [1], "parent 1"),
        ([1], [-1], "parent -1"),
        ([1, 2, 1], [0, 1, 0], "nodes 1 and 3 are siblings"),
    ],
)
def test_trees_that_are_none_are_refused(tokens, parents, why):
    with pytest.raises(TreeError, match=why):
        run(tokens, parents)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.sampled_from([GREEDY, WARM]), st.integers(0, 12))
def test_whatever_the_draft_the_stream_is_the_target_alone(data, parameters, size):
    """Lossless: random trees, biased to be often right, never change a token."""
    from dsdproto.testmodel import TestModel, context_of

    rng = np.random.default_rng(data)
    model, sampler = TestModel.parse("tm-1:v=64,s=3"), CoupledSampler(parameters, 21)
    alone, prefix = [1, 2, 3], [1, 2, 3]
    while len(alone) < 40:
        logits, ids = model.candidates(context_of(alone))
        alone.append(sampler.choose(logits, len(alone), ids).token)
    while len(prefix) < 30:
        tokens, parents, paths = [], [], [list(prefix)]
        for node in range(size):
            parent = int(rng.integers(max(0, node - 2), node + 1))
            path = paths[parent]
            right = alone[len(path)] if path == alone[: len(path)] and rng.random() < 0.7 else int(rng.integers(64))
            if all((p, t) != (parent, right) for p, t in zip(parents, tokens)):
                tokens.append(right)
                parents.append(parent)
                paths.append([*path, right])
            else:
                tokens.append(64 + node)
                parents.append(parent)
                paths.append([*path, 64 + node])
        result = walk(
            tokens,
            parents,
            lambda node, paths=paths: model.candidates(context_of(paths[node])),
            sampler,
            len(prefix),
            40 - len(prefix),
        )
        assert len(result.tokens) == len(result.accepted) + 1
        prefix += result.tokens
        assert prefix == alone[: len(prefix)]
