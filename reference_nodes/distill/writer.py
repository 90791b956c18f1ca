"""Text in bulk from the serving engine: many rows at once, and a new prompt enters as soon as a row is free.

A row's bits depend on its own path alone (see `backends.llama`), and its noise on its own seed, so a row comes out the
same whatever is written beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reference_nodes.backends.llama import Head

from .tapped import Tapped


@dataclass(frozen=True)
class Job:
    """One prompt to continue. ``turn``: the prompt ends where a user's turn begins, which is to be written too."""

    key: int
    ids: Sequence[int]
    temperature: float = 0.0
    seed: int = 0
    turn: bool = False


@dataclass(frozen=True)
class Row:
    """A finished row of n tokens, of which the first ``prompt`` were the prompt.

    ``hidden`` [n, hidden] and ``taps`` [taps, n, hidden] are float16: index j was computed from tokens 0..j, so it
    predicts token j + 1. The last token is never fed to the target, so its states are zero.
    """

    tokens: np.ndarray
    hidden: np.ndarray
    taps: np.ndarray
    prompt: int


@dataclass(frozen=True)
class Limits:
    """How long rows may get (in tokens), and how sampled turns are drawn."""

    answer: int = 160
    turn: int = 72
    prompt: int = 400
    turn_temperature: float = 1.0

    @property
    def total(self) -> int:
        """Tokens of the longest row."""
        return self.prompt + self.answer


class _Lane:
    """One row under way."""

    def __init__(self, job: Job, slots: np.ndarray, states: np.ndarray, shared: int, limits: Limits) -> None:
        self.job, self.path, self.states, self.limits = job, slots, states, limits
        self.tokens, self.fed = list(job.ids), shared
        self.turn, self.prompt = job.turn, len(job.ids)
        self.random = np.random.default_rng([job.seed, job.key])

    def choose(self, logits: np.ndarray) -> int:
        temperature = self.limits.turn_temperature if self.turn else self.job.temperature
        if temperature > 0:
            logits = logits / temperature + self.random.gumbel(size=len(logits)).astype(np.float32)
        return int(logits.argmax())

    def row(self) -> Row:
        n = len(self.tokens)
        self.states[:, self.fed : n] = 0
        return Row(np.array(self.tokens, np.int32), self.states[0, :n].copy(), self.states[1:, :n].copy(), self.prompt)


class Writer:
    """Continues jobs to the stop token or the limit."""

    def __init__(
        self,
        model: Tapped,
        head: Head,
        stop: int,
        answer_header: Sequence[int],
        headers: Sequence[Sequence[int]],
        limits: Limits,
        lanes: int = 32,
        rows: int = 48,
        keep_turn: Callable[[Sequence[int]], bool] = lambda ids: True,
    ) -> None:
        """``answer_header``: what follows a user's turn. ``headers``: beginnings that prompts share, computed once.

        A forward holds up to ``rows`` rows. ``keep_turn`` judges a written turn by its ids. The model's pool must
        have ``Writer.slots`` slots at least.
        """
        self._model, self._head, self._stop, self._limits = model, head, stop, limits
        self._answer_header, self._keep_turn, self._rows = list(answer_header), keep_turn, max(rows, lanes)
        hidden, first = model.model.config.hidden, sum(map(len, headers))
        needed = self.slots(headers, limits, lanes)
        if model.model.slots < needed:
            raise ValueError(f"{lanes} lanes need {needed} cache slots, the model has {model.model.slots}")
        self._stripes = np.arange(first, needed, dtype=np.int32).reshape(lanes, limits.total)
        self._states = np.zeros((lanes, 1 + len(model.taps), limits.total, hidden), np.float16)
        self._shared: list[tuple[list[int], np.ndarray, np.ndarray]] = []
        at = 0
        for ids in headers:
            path = np.arange(at, at + len(ids), dtype=np.int32)
            out, taps = model.forward(
                np.array(ids), np.arange(len(ids), dtype=np.int32), path, np.tile(path, (len(ids), 1))
            )
            self._shared.append((list(ids), path, np.concatenate([out[None], taps]).astype(np.float16)))
            at += len(ids)

    @staticmethod
    def slots(headers: Sequence[Sequence[int]], limits: Limits, lanes: int) -> int:
        """Cache slots that a writer needs."""
        return sum(map(len, headers)) + lanes * limits.total

    def _begin(self, job: Job, n: int) -> _Lane:
        if not 0 < len(job.ids) <= self._limits.prompt:
            raise ValueError(f"job {job.key} has {len(job.ids)} tokens; 1 to {self._limits.prompt} fit")
        path, shared = self._stripes[n].copy(), 0
        for ids, slots, states in self._shared:
            # The last token is always fed: its state chooses the first new one.
            if shared < len(ids) < len(job.ids) and list(job.ids[: len(ids)]) == ids:
                shared = len(ids)
                path[:shared], self._states[n][:, :shared] = slots, states
        return _Lane(job, path, self._states[n], shared, self._limits)

    def write(self, jobs: Iterator[Job]) -> Iterator[tuple[Job, Row | None]]:
        """Every job with its row, as they finish; None for a turn that was not kept or did not end."""
        lanes: list[_Lane | None] = [None] * len(self._stripes)
        while True:
            for n, lane in enumerate(lanes):
                if lane is None and (job := next(jobs, None)) is not None:
                    lanes[n] = self._begin(job, n)
            active = [lane for lane in lanes if lane is not None]
            if not active:
                return
            ready, states = self._feed(active)
            if not ready:
                continue
            for lane, logits in zip(ready, self._head.logits(states)):
                if (done := self._advance(lane, lane.choose(logits))) is not None:
                    yield lane.job, done[0]
                    lanes[lanes.index(lane)] = None

    def _feed(self, active: list[_Lane]) -> tuple[list[_Lane], np.ndarray]:
        """One forward: a token of every row that is being written, then prompts. Lanes fed whole and their states."""
        left = self._rows
        plan: list[tuple[_Lane, int]] = []
        for lane in sorted(active, key=lambda lane: len(lane.tokens) - lane.fed):
            count = min(left, len(lane.tokens) - lane.fed)
            if count:
                plan.append((lane, count))
                left -= count
        tokens = np.array([t for lane, n in plan for t in lane.tokens[lane.fed : lane.fed + n]])
        positions = np.array([p for lane, n in plan for p in range(lane.fed, lane.fed + n)], np.int32)
        paths = np.zeros((len(tokens), int(positions.max()) + 1), np.int32)
        at = 0
        for lane, n in plan:
            paths[at : at + n, : lane.fed + n] = lane.path[: lane.fed + n]
            at += n
        slots = paths[np.arange(len(tokens)), positions]
        out, taps = self._model.forward(tokens, positions, slots, paths)
        every, at, ready, last = np.concatenate([out[None], taps]).astype(np.float16), 0, [], []
        for lane, n in plan:
            lane.states[:, lane.fed : lane.fed + n] = every[:, at : at + n]
            lane.fed, at = lane.fed + n, at + n
            if lane.fed == len(lane.tokens):
                ready.append(lane)
                last.append(at - 1)
        return ready, out[last]

    def _advance(self, lane: _Lane, token: int) -> tuple[Row | None] | None:
        """Append a token; a 1-tuple once the lane has ended."""
        lane.tokens.append(token)
        if lane.turn:
            written = len(lane.tokens) - len(lane.job.ids)
            if token == self._stop and self._keep_turn(lane.tokens[len(lane.job.ids) : -1]):
                lane.tokens += self._answer_header
                lane.turn, lane.prompt = False, len(lane.tokens)
                return None
            return (None,) if token == self._stop or written >= self._limits.turn else None
        if token == self._stop or len(lane.tokens) - lane.prompt >= self._limits.answer:
            return (lane.row(),)
        return None
