from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdproto import testmodel as tm
from dsdproto.sampling import CoupledSampler, SamplingParameters

MODELS = st.builds(
    tm.TestModel,
    vocabulary=st.integers(2, 1 << 18).map(lambda n: 4 * n),
    seed=st.integers(0, 2**64 - 1),
    eos_q16=st.integers(0, 65536),
    agreement_q16=st.integers(0, 65536),
    drafter=st.integers(0, 2**32 - 1),
)
CONTEXTS = st.integers(0, 2**64 - 1)


def contexts(n: int) -> list[int]:
    out, context = [], tm.CONTEXT_START
    for token in range(n):
        out.append(context)
        context = tm.advance(context, token % 64)
    return out


@settings(deadline=None, derandomize=True)
@given(MODELS)
def test_names_round_trip(model):
    assert tm.TestModel.parse(model.name) == model


@settings(deadline=None, derandomize=True)
@given(MODELS, CONTEXTS)
def test_rows_are_well_formed(model, context):
    logits, ids = model.candidates(context)
    assert len(logits) == len(ids) in (4, 5)
    assert list(ids) == sorted(set(ids)) and ids[-1] < model.vocabulary
    assert (len(ids) == 5) == (ids[0] == tm.EOS)
    assert all(logit == np.float16(logit) for logit in logits)


@settings(deadline=None, derandomize=True)
@given(MODELS.map(lambda m: tm.TestModel.parse(f"tm-1:v=64,s={m.seed},e={m.eos_q16}")), CONTEXTS)
def test_the_dense_row_is_the_sparse_one(model, context):
    logits, ids = model.candidates(context)
    dense = model.row(context)
    assert dense.dtype == np.float32 and dense.shape == (model.vocabulary,)
    assert {int(n): float(dense[n]) for n in np.flatnonzero(dense > -np.inf)} == dict(zip(ids, logits))
    for parameters in (SamplingParameters(), SamplingParameters.from_floats(0.8, 3, 0.9)):
        sampler = CoupledSampler(parameters, 3)
        assert sampler.choose(dense, 10) == sampler.choose(logits, 10, ids)
        assert sampler.ranked(dense, 10, 5) == sampler.ranked(logits, 10, 5, ids)


@pytest.mark.parametrize("agreement", [0, 16384, 52429, 65536])
def test_a_drafter_agrees_as_often_as_its_name_says(agreement):
    drafter = tm.TestModel.parse(f"tm-1:v=4096,s=7,a={agreement},d=3")
    n = 4000
    hits = sum(drafter.candidates(c) == drafter.target.candidates(c) for c in contexts(n))
    p = agreement / 65536
    assert abs(hits - n * p) <= 4 * (n * p * (1 - p)) ** 0.5 + 3


def test_drafters_err_independently():
    one, two = (tm.TestModel.parse(f"tm-1:s=7,a=32768,d={d}") for d in (1, 2))
    target = one.target
    n = 4000
    both = 0
    for c in contexts(n):
        row = target.candidates(c)
        both += one.candidates(c) == row and two.candidates(c) == row
    assert abs(both - n / 4) < 4 * (n * 3 / 16) ** 0.5


def test_the_end_of_stream_comes_as_often_as_the_name_says():
    model = tm.TestModel.parse("tm-1:s=7,e=2048")
    n = 8000
    ends = sum(model.candidates(c)[1][0] == tm.EOS for c in contexts(n))
    assert abs(ends - n / 32) < 4 * (n / 32) ** 0.5
    greedy = CoupledSampler(SamplingParameters(), 0)
    for c in contexts(500):
        logits, ids = model.candidates(c)
        assert (greedy.choose(logits, 0, ids).token == tm.EOS) == (tm.EOS in ids)


def test_every_token_of_the_prefix_counts():
    base = [5, 6, 7, 8, 9, 10]
    seen = {tm.context_of(base)}
    for n in range(len(base)):
        seen.add(tm.context_of([*base[:n], base[n] + 1, *base[n + 1:]]))
        seen.add(tm.context_of(base[:n] + base[n + 1 :]))
        seen.add(tm.context_of([*base[:n], 0, *base[n:]]))
    assert len(seen) == 1 + 3 * len(base)


def test_candidate_places_are_spread_over_the_vocabulary():
    model = tm.TestModel.parse("tm-1:v=64,s=1")
    firsts = [model.candidates(c)[1][0] for c in contexts(3000)]
    counts = np.bincount(np.array(firsts) // 4, minlength=16)
    assert counts[0] == 0  # ids 0 to 3 are special
    assert (np.abs(counts[1:] - 200) < 6 * 200**0.5).all()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gpt-2", "is not a TM-1 name"),
        ("tm-1:q=3", "unknown key 'q'"),
        ("tm-1:s=1,s=2", "gives 's' twice"),
        ("tm-1:v=10", "must be a multiple of 4"),
        ("tm-1:v=4", "must be in 8..1048576"),
        ("tm-1:s=123456789012345678901", "has 21 digits"),
        ("tm-1:a=70000", "must be in 0..65536"),
    ],
)
def test_bad_names_say_what_is_wrong(name, why):
    with pytest.raises(tm.ModelNameError, match=why):
        tm.TestModel.parse(name)
