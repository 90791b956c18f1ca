"""Coupled sampling: the token is a function of logits, seed and position (SPEC S-SAMP; Daliri et al. 2024).

    token(i) = argmax over v of (logit_v / T + g(i, v)),   ties to the lowest id,   T = 0 without the noise

in the integer arithmetic of `fixed`, so that every implementation picks the same token from the same float32
logits. Rows come as numpy float32 arrays or as short sequences of float32-valued floats, to the same effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dsdproto.errors import LocalError
from dsdproto.sampling import fixed
from dsdproto.sampling.parameters import Q16, SEED_MAX, SamplingParameters, check_range
from dsdproto.sampling.philox import DOMAIN_COUPLED, token_words, words, words_array

MARGIN_MAX = 0xFFFF_FFFF
COST_MAX = 255
_INF = float("inf")
# Rows up to this size go through plain Python, which is faster there than a chain of numpy calls.
_SMALL = 48
# A sibling's confidence is relative to this many best candidates.
_FIELD = 8
# Enough candidates to bound the winner's score from below.
_SAMPLE = 1024

# A score of n or more whole bits of noise takes a word of at least _WORD_FLOOR[n].
_WORD_FLOOR = np.array([0, *((1 << 32) - (1 << (32 - n)) for n in range(1, 33))], np.uint32)

Row = np.ndarray | Sequence[float]
Candidate = tuple[float, int]  # logit, token id


class RowError(LocalError, ValueError):
    """A logits row that no token may be chosen from."""


class Choice(NamedTuple):
    """token: id; margin: score gap to the runner-up, u32 in 2^-24 bits (T = 0: 2^-24 of a logit)."""

    token: int
    margin: int


class Ranked(NamedTuple):
    """token: id; score: Q24; cost: -16 log2 of the chance to be the target's choice, estimated, 0..255."""

    token: int
    score: int
    cost: int


class CoupledSampler:
    """Chooses tokens for one session. seed: u64 from the session contract."""

    def __init__(self, parameters: SamplingParameters, seed: int) -> None:
        check_range("seed", seed, 0, SEED_MAX)
        self.parameters = parameters
        self.seed = seed
        # Greedy rows are ranked at T = 1 for their confidence.
        self._factor = fixed.scale_factor(parameters.temperature_q16 or Q16)

    def choose(self, logits: Row, position: int, ids: Row | None = None) -> Choice:
        """The token at `position` (u64: the number of tokens before it).

        logits: shape (V,), entry v for token v; or, with `ids`, entry n for token ids[n] and every other
        token masked out. -inf masks a token out. Raises RowError on NaN, on a row without candidates and on a
        bad shape or dtype.
        """
        best = self._top(logits, position, 2, ids)
        if len(best) == 1:
            return Choice(best[0][1], MARGIN_MAX)
        return Choice(best[0][1], min(best[0][0] - best[1][0], MARGIN_MAX))

    def ranked(self, logits: Row, position: int, width: int, ids: Row | None = None) -> list[Ranked]:
        """The `width` best tokens in the order in which they would be chosen: a drafter's tree siblings.

        Takes and raises what `choose` does. Returns fewer where fewer candidates exist.
        """
        if width < 1:
            raise RowError(f"width {width}: ask for at least one token")
        best = self._top(logits, position, max(width, _FIELD), ids)
        return [Ranked(token, score, cost) for (score, token), cost in zip(best, self._costs(best))][:width]

    def _costs(self, best: list[tuple[int, int]]) -> list[int]:
        peak = best[0][0]
        field = best[:_FIELD]
        if self.parameters.greedy:
            gaps = [fixed.drop_q24(peak - score, self._factor) for score, _ in best]
        else:
            gaps = [min(peak - score, fixed.DROP_MAX) for score, _ in best]
        weights = [fixed.weight_q40(gap) >> 8 for gap in gaps]
        total = fixed.log2_q24(sum(weights[: len(field)]))
        half = 1 << 19
        costs = [(total - fixed.log2_q24(weight) + half) >> 20 if weight else COST_MAX for weight in weights]
        return [min(cost, COST_MAX) for cost in costs]

    def _top(self, logits: Row, position: int, width: int, ids: Row | None) -> list[tuple[int, int]]:
        """(score, token) of the best `width` candidates, best first."""
        if not 0 <= position <= SEED_MAX:
            raise RowError(f"position {position} is not an unsigned 64-bit integer")
        if not isinstance(logits, np.ndarray):
            if len(logits) <= _SMALL:
                return self._top_small(_pairs(logits, ids), position, width)
            logits = np.array(logits, np.float32)
        logits, ids = _arrays(logits, ids)
        peak = float(logits.max())
        if peak != peak:
            raise RowError(f"logit {int(np.isnan(logits).argmax())} of the row at position {position} is NaN")
        if peak == -_INF:
            raise RowError(f"every token of the row at position {position} is masked out (-inf)")
        p = self.parameters
        if p.greedy:
            return _top_greedy(logits, ids, width)
        if p.top_k and p.top_k < len(logits):
            keep = _top_k(logits, p.top_k)
            logits, ids = logits[keep], keep if ids is None else ids[keep]
        if len(logits) <= _SMALL:
            row = _pairs(logits.tolist(), None if ids is None else ids.tolist())
            return self._top_small(row, position, width)
        if p.top_p_q16 < Q16:
            keep = self._top_p(logits, peak)
            logits, ids = logits[keep], keep if ids is None else ids[keep]
        return self._top_noisy(logits, ids, peak, position, width)

    # -- short rows --------------------------------------------------------------------------------------

    def _top_small(self, row: list[Candidate], position: int, width: int) -> list[tuple[int, int]]:
        row.sort(key=_rank)
        p = self.parameters
        if p.greedy:
            return [(fixed.logit_q24(logit), token) for logit, token in row[:width]]
        if p.top_k:
            del row[p.top_k :]
        factor = self._factor
        peak = fixed.logit_q24(row[0][0])
        drops = [fixed.drop_q24(peak - fixed.logit_q24(logit), factor) for logit, _ in row]
        if p.top_p_q16 < Q16:
            weights = [fixed.weight_q40(drop) for drop in drops]
            need = nucleus(sum(weights), p.top_p_q16)
            mass = 0
            for kept, weight in enumerate(weights, 1):
                mass += weight
                if mass >= need:
                    del row[kept:]
                    break
        scored = []
        block, noise = -1, (0, 0, 0, 0)
        for (_, token), drop in zip(row, drops):
            if token >> 2 != block:
                block = token >> 2
                noise = words(self.seed, DOMAIN_COUPLED, position, block)
            scored.append((drop - fixed.noise_q24(noise[token & 3]), token))
        scored.sort()
        return [(-score, token) for score, token in scored[:width]]

    # -- whole vocabularies ------------------------------------------------------------------------------

    def _reach(self, peak: float, bits: float) -> np.float32:
        """A logit at or below every one whose drop is at most `bits`: a coarse filter before the exact."""
        top = min(peak, fixed.LOGIT_MAX)
        low = top - ((bits + 1) * 2.0**56 / self._factor + 2) / fixed.ONE
        # A drop of 64 bits is the cap, whatever lies below.
        if bits >= 64 or low <= -fixed.LOGIT_MAX:
            return np.float32(np.finfo(np.float32).min)
        return np.nextafter(np.float32(low), np.float32(-_INF))

    def _drops(self, logits: np.ndarray, peak: float) -> np.ndarray:
        return fixed.drop_q24_array(fixed.logit_q24(peak) - fixed.logit_q24_array(logits), self._factor)

    def _top_p(self, logits: np.ndarray, peak: float) -> np.ndarray:
        """Indices (ascending) of the nucleus."""
        # Weights are 0 from 41 bits on, and the masked-out have none.
        index = np.flatnonzero(logits >= self._reach(peak, 41))
        logits = logits[index]
        drops = self._drops(logits, peak)
        weights = fixed.weight_q40_array(drops)
        need = nucleus(int(weights.sum()), self.parameters.top_p_q16)
        bits = 4
        while int(weights[drops <= bits << 24].sum()) < need:
            bits *= 2
        head = np.flatnonzero(drops <= bits << 24)
        head = head[np.argsort(-logits[head], kind="stable")]
        kept = int(np.searchsorted(np.cumsum(weights[head]), need)) + 1
        return np.sort(index[head[:kept]])

    def _top_noisy(
        self, logits: np.ndarray, ids: np.ndarray | None, peak: float, position: int, width: int
    ) -> list[tuple[int, int]]:
        bits = 4
        near = np.flatnonzero(logits >= self._reach(peak, bits))
        while len(near) < width and bits < 64:
            bits *= 4
            near = np.flatnonzero(logits >= self._reach(peak, bits))
        if len(near) < width:
            near = np.flatnonzero(logits != -_INF)
        near = near[: max(_SAMPLE, width)]
        tokens = near if ids is None else ids[near]
        noise = fixed.noise_q24_array(token_words(self.seed, DOMAIN_COUPLED, position, tokens))
        scores = noise - self._drops(logits[near], peak)
        if len(near) < width:
            return _best(scores, tokens, width)
        floor = int(np.partition(scores, len(scores) - width)[len(scores) - width])

        # Whoever may still score at least `floor` with the largest noise there is, then with its own noise.
        reached = logits >= self._reach(peak, (fixed.NOISE_MAX - floor) / fixed.ONE)
        near = np.flatnonzero(reached)
        if ids is None and 4 * len(near) > len(logits):
            # Most blocks are wanted anyway: take them all and spare the gathering.
            blocks = words_array(self.seed, DOMAIN_COUPLED, position, np.arange((len(logits) + 3) // 4))
            noise_words = blocks.reshape(-1)[: len(logits)]
            near = np.flatnonzero(reached & (noise_words >= self._least_words(logits, peak, floor)))
            tokens, noise_words = near, noise_words[near]
        else:
            tokens = near if ids is None else ids[near]
            noise_words = token_words(self.seed, DOMAIN_COUPLED, position, tokens)
        drops = self._drops(logits[near], peak)
        alive = np.flatnonzero(noise_words >= _WORD_FLOOR[np.clip((drops + floor) >> 24, 0, 32)])
        return _best(fixed.noise_q24_array(noise_words[alive]) - drops[alive], tokens[alive], width)

    def _least_words(self, logits: np.ndarray, peak: float, floor: int) -> np.ndarray:
        """For every token a bound at or below each word that lets it score `floor`, in coarse float32 arithmetic."""
        bits_per_logit = self._factor / 2.0**32
        top = np.float32(min(peak, fixed.LOGIT_MAX))
        # float32 is good to 2^-18 of a bit where the table still counts; the slack is far more than that.
        bits = (top - np.maximum(logits, np.float32(-fixed.LOGIT_MAX))) * np.float32(bits_per_logit)
        np.minimum(bits, np.float32(fixed.DROP_MAX >> 24), out=bits)
        bits += np.float32(floor / fixed.ONE - 0.01)
        np.clip(bits, 0, 32, out=bits)
        return _WORD_FLOOR.take(bits.astype(np.intp))


def nucleus(total: int, top_p_q16: int) -> int:
    """The weight that a nucleus must reach: floor(total * p), at least 1, without leaving 64 bits."""
    return max((total >> 16) * top_p_q16 + (((total & 0xFFFF) * top_p_q16) >> 16), 1)


def _rank(candidate: Candidate) -> tuple[float, int]:
    return -candidate[0], candidate[1]


def _pairs(logits: Sequence[float], ids: Sequence[int] | None) -> list[Candidate]:
    if ids is None:
        ids = range(len(logits))
    elif len(ids) != len(logits) or len(set(ids)) != len(ids):
        raise RowError(f"{len(logits)} logits for {len(ids)} token ids: give distinct ids, one each")
    row = [(float(logit), int(token)) for logit, token in zip(logits, ids) if logit != -_INF]
    for logit, token in row:
        if logit != logit:
            raise RowError(f"the logit of token {token} is NaN")
    if not row:
        raise RowError("no token to choose from: the row is empty or wholly masked out (-inf)")
    return row


def _arrays(logits: np.ndarray, ids: Row | None) -> tuple[np.ndarray, np.ndarray | None]:
    if logits.dtype != np.float32 and logits.dtype != np.float16:
        raise RowError(f"logits of dtype {logits.dtype}: the rule is for float32; cast them at their source")
    if logits.ndim != 1 or not len(logits):
        raise RowError(f"logits of shape {logits.shape}: expected one row of shape (V,), V > 0")
    logits = logits.astype(np.float32, copy=False)
    if ids is None:
        return logits, None
    ids = np.asarray(ids, np.int64)
    if ids.shape != logits.shape:
        raise RowError(f"{len(logits)} logits for token ids of shape {ids.shape}: give one logit for each")
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    if (ids[1:] == ids[:-1]).any():
        raise RowError("a token id appears twice in the row")
    return logits[order], ids


def _top_greedy(logits: np.ndarray, ids: np.ndarray | None, width: int) -> list[tuple[int, int]]:
    if width == 2:  # the hot path: the winner and its margin, without a sort
        first = int(logits.argmax())
        index = [first]
        rest = [part for part in ((0, logits[:first]), (first + 1, logits[first + 1 :])) if len(part[1])]
        seconds = [start + int(part.argmax()) for start, part in rest]
        if seconds:
            index.append(max(seconds, key=lambda n: (logits[n], -n)))
    else:
        keep = _top_k(logits, width) if width < len(logits) else np.arange(len(logits))
        index = keep[np.argsort(-logits[keep], kind="stable")].tolist()
    index = [n for n in index if logits[n] != -_INF]
    return [(fixed.logit_q24(float(logits[n])), n if ids is None else int(ids[n])) for n in index]


def _top_k(logits: np.ndarray, k: int) -> np.ndarray:
    """Indices (ascending) of the k highest logits; the lower id goes first among equals."""
    bar = np.partition(logits, len(logits) - k)[len(logits) - k]
    above = np.flatnonzero(logits > bar)
    equal = np.flatnonzero(logits == bar)[: k - len(above)]
    return np.sort(np.concatenate((above, equal)))


def _best(scores: np.ndarray, tokens: np.ndarray, width: int) -> list[tuple[int, int]]:
    order = np.lexsort((tokens, -scores))[:width]
    return list(zip(scores[order].tolist(), tokens[order].tolist()))
