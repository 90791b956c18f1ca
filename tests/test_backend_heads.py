"""A drafter's heads: which ids are candidates, and how exactly they are scored."""

from __future__ import annotations

import numpy as np
import pytest

from reference_nodes.backends.heads import SAMPLED, Met, ShortHead, best_ids, common_ids
from reference_nodes.backends.hf_files import bf16_bits, from_bf16

IDS = np.arange(0, 5000, 2, dtype=np.int32)
MET = np.array([7, 4999, 12, 301], np.int32)  # 12 is listed


class Rough:
    """Logits of the shortlist with an error."""

    def __init__(self, exact: np.ndarray) -> None:
        rng = np.random.default_rng(1)
        self._rows = (exact[:, IDS] + 0.1 * rng.standard_normal((len(exact), len(IDS)))).astype(np.float32)

    def logits(self, hidden: np.ndarray) -> np.ndarray:
        return self._rows


def test_a_short_head_scores_the_best_and_what_was_met_exactly() -> None:
    rng = np.random.default_rng(0)
    weight = bf16_bits(rng.standard_normal((5000, 16)))
    hidden = rng.standard_normal((2, 16)).astype(np.float32)
    exact = hidden @ from_bf16(weight).T
    head = ShortHead(Rough(exact), weight, IDS)  # type: ignore[arg-type]
    for row, candidates in enumerate(head(hidden, [MET, MET[:0]])):
        assert candidates.ids is not None and (np.diff(candidates.ids) > 0).all()
        missed = {7, 301, 4999} if row == 0 else set()
        assert {int(i) for i in candidates.ids if i % 2} == missed
        assert len(candidates.ids) == ShortHead.CANDIDATES + len(missed)
        best = IDS[np.argsort(-exact[row][IDS])[:12]]
        sure = np.array([*best, *sorted(missed)], np.int32)
        place = np.searchsorted(candidates.ids, sure)
        assert np.array_equal(candidates.ids[place], sure)
        np.testing.assert_allclose(candidates.logits[place], exact[row][sure], rtol=1e-5, atol=1e-6)


def test_a_list_shorter_than_the_candidates_is_taken_whole() -> None:
    weight = bf16_bits(np.random.default_rng(0).standard_normal((40, 16)))
    hidden = np.ones((1, 16), np.float32)
    exact = hidden @ from_bf16(weight).T

    class Few:
        def logits(self, states: np.ndarray) -> np.ndarray:
            return exact[:, [3, 5]]

    (found,) = ShortHead(Few(), weight, np.array([3, 5], np.int32))(hidden, [np.array([4], np.int32)])  # type: ignore[arg-type]
    assert found.ids is not None and found.ids.tolist() == [3, 4, 5]
    np.testing.assert_allclose(found.logits, exact[0, 3:6], rtol=1e-5)


def test_met_holds_the_newest_distinct_ids() -> None:
    met = Met()
    assert sorted(met.follow([5, 9, 5])) == [5, 9]
    assert sorted(met.follow([5, 9, 5, 11])) == [5, 9, 11]
    assert sorted(met.follow([5, 9])) == [5, 9, 11]  # rolled back: nothing is lost, nothing breaks
    assert sorted(met.follow([5, 9, 2])) == [2, 5, 9, 11]
    long = [5, 9, 2, *range(100, 100 + Met.MOST)]
    assert sorted(met.follow(long)) == list(range(100, 100 + Met.MOST))
    assert sorted(met.follow([*long, 5])) == [5, *range(101, 100 + Met.MOST)]


def test_common_ids_are_a_quarter_of_a_large_vocabulary() -> None:
    assert len(common_ids(49152)) == 12288 and len(common_ids(5000)) == 4096
    assert common_ids(512).tolist() == list(range(512))


@pytest.mark.parametrize("size", [1, 20, 1024, 1025, 5000, 49152])
@pytest.mark.parametrize("shape", ["random", "all equal", "ascending", "the sample misleads"])
def test_best_ids_are_those_of_a_sort(size: int, shape: str) -> None:
    rng = np.random.default_rng(size)
    row = rng.standard_normal(size).astype(np.float32)
    if shape == "all equal":
        row[:] = 1
    elif shape == "ascending":
        row.sort()
    elif shape == "the sample misleads":
        row[::SAMPLED] += 10
    for count in {1, min(size, 30), min(size, 1024), size}:
        ids = best_ids(row, count)
        assert ids.dtype == np.int32 and len(ids) == count and (np.diff(ids) > 0).all()
        assert np.array_equal(np.sort(row[ids]), np.sort(row)[-count:])
