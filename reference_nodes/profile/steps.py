"""Steps as nodes take them, on a real backend: a stream that grows, with a tree of drafts below its end.

A step that repeats the last one costs next to nothing, as backends keep what they computed. So each step goes on where
the one before stopped, as a session does: its prefix ends in a token that is not computed yet (the target's own), and
part of its drafts are right.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dsdproto.registry import Method
from dsdproto.roles.work import DraftWork, ExpandItem, PrefillItem, ScoreItem, VerifyDone, VerifyWork, Walked
from dsdproto.sampling import SamplingParameters
from dsdproto.wire.messages import Sampling
from reference_nodes.backends.base import BackendError
from reference_nodes.executors import DraftExecutor, VerifyExecutor

AHEAD = 48
"""Tokens of the stream that are known beyond a prefix; a prefix grows by no more than these."""
ACCEPTED = 0.65
"""Share of a verified chain that is right: a walk pays for each token that it takes."""
WIDTH = 3


class Stepper(Protocol):
    """A backend that can be asked for one step of a kind. Both methods return seconds."""

    role: str
    model: str

    def step(self, rows: int, sessions: int, context: int) -> float: ...

    def prefill(self, positions: int, context: int) -> float: ...


def sampling_of(temperature: float, seed: int = 0) -> Sampling:
    """The `coupled` method at a temperature. Raises LocalError for an impossible one."""
    found = SamplingParameters.from_floats(temperature)
    return Sampling(
        method=int(Method.COUPLED), temperature=found.temperature_q16, top_k=0, top_p=found.top_p_q16, seed=seed
    )


@dataclass(slots=True)
class _Stream:
    """One session: where its prefix ends now."""

    key: Hashable
    base: tuple[int, ...]
    ahead: tuple[int, ...]
    at: int = 0
    """tokens of ``ahead`` that are committed"""

    @property
    def prefix(self) -> tuple[int, ...]:
        return self.base + self.ahead[: self.at]

    @property
    def fork(self) -> tuple[int, ...]:
        """A prefix like ``base`` but for its last token: what was computed beyond that is forgotten on the way."""
        return (*self.base[:-1], other(self.base[-1]))


def other(token: int) -> int:
    """A different id of the same vocabulary."""
    return token - 1 if token else 1


def tiled(ids: Sequence[int], count: int) -> tuple[int, ...]:
    """``count`` ids, ``ids`` over and over."""
    return tuple(ids[index % len(ids)] for index in range(count))


@dataclass(slots=True)
class VerifyStepper:
    """Verifications: chains of drafts of which :data:`ACCEPTED` are the target's own tokens.

    :param text: ids that prefixes are made of.
    """

    executor: VerifyExecutor
    model: str
    text: Sequence[int]
    sampling: Sampling
    role: str = "verifier"
    _ahead: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _streams: dict[tuple[int, int], _Stream] = field(default_factory=dict)

    def step(self, rows: int, sessions: int, context: int) -> float:
        """Seconds of one forward over ``sessions`` sessions with ``rows`` rows in all. Raises BackendError."""
        items = [
            self._item(self._stream(context, number), nodes)
            for number, nodes in enumerate(shares(rows - sessions, sessions))
        ]
        begin = time.perf_counter()
        done = self.executor.run(VerifyWork(tuple(items), None, ()))
        took = time.perf_counter() - begin
        for number, walk in enumerate(done.walks):
            stream = self._streams[context, number]
            stream.at += len(_walked(walk).tokens)
        return took

    def prefill(self, positions: int, context: int) -> float:
        """Seconds for ``positions`` of a prompt after ``context`` others. Raises BackendError."""
        whole = tiled(self.text, context + positions)
        if context:
            self._compute("prefill", whole, context)
        begin = time.perf_counter()
        done = self.executor.run(VerifyWork((), PrefillItem("prefill", whole, positions), ()))
        took = time.perf_counter() - begin
        _prefilled(done)
        self.executor.run(VerifyWork((), None, ("prefill",)))
        return took

    def _item(self, stream: _Stream, nodes: int) -> ScoreItem:
        right = round(ACCEPTED * nodes)
        if stream.at + right + 1 > len(stream.ahead):
            self._rewind(stream)
        follows = stream.ahead[stream.at : stream.at + right]
        wrong = [other(token) for token in tiled(stream.ahead[stream.at + right :], nodes - right)]
        return self._score(stream.key, stream.prefix, (*follows, *wrong), right + 1)

    def _score(self, key: Hashable, prefix: tuple[int, ...], tokens: Sequence[int], limit: int) -> ScoreItem:
        return ScoreItem(key, prefix, tuple(tokens), tuple(range(len(tokens))), self.sampling, (), limit)

    def _stream(self, context: int, number: int) -> _Stream:
        stream = self._streams.get((context, number))
        if stream is None:
            base = tiled(self.text, context)
            stream = self._streams[context, number] = _Stream((context, number), base, self._known(context, base))
            self._compute(stream.key, base, context)
            self._rewind(stream)
        return stream

    def _known(self, context: int, base: tuple[int, ...]) -> tuple[int, ...]:
        """What the target says after ``base``."""
        found = self._ahead.get(context)
        if found is None:
            key = ("ahead", context)
            self._compute(key, base, context)
            said: list[int] = []
            while len(said) < AHEAD:
                done = self.executor.run(VerifyWork((self._score(key, (*base, *said), (), 1),), None, ()))
                said += _walked(done.walks[0]).tokens
            self.executor.run(VerifyWork((), None, (key,)))
            found = self._ahead[context] = tuple(said)
        return found

    def _rewind(self, stream: _Stream) -> None:
        for prefix in (stream.fork, stream.base):
            self.executor.run(VerifyWork((self._score(stream.key, prefix, (), 1),), None, ()))
        stream.at = 1

    def _compute(self, key: Hashable, prefix: tuple[int, ...], count: int) -> None:
        _prefilled(self.executor.run(VerifyWork((), PrefillItem(key, prefix, count), ())))


@dataclass(slots=True)
class DraftStepper:
    """Expansions: the prefix's new end, and below it as many fresh nodes as are asked for."""

    executor: DraftExecutor
    model: str
    text: Sequence[int]
    sampling: Sampling
    role: str = "drafter"
    _streams: dict[tuple[int, int], _Stream] = field(default_factory=dict)

    def step(self, rows: int, sessions: int, context: int) -> float:
        """Seconds to expand ``rows`` nodes of ``sessions`` sessions in all. Raises BackendError."""
        items = [
            self._item(self._stream(context, number), nodes) for number, nodes in enumerate(shares(rows, sessions))
        ]
        return self._expand(items)

    def prefill(self, positions: int, context: int) -> float:
        """Seconds to expand the end of a prompt of which ``positions`` are new. Raises BackendError."""
        whole = tiled(self.text, context + positions)
        if context:
            self._expand([self._at("prefill", whole[:context], 1)])
        took = self._expand([self._at("prefill", whole, 1)])
        self.executor.run(DraftWork((), ("prefill",)))
        return took

    def _item(self, stream: _Stream, nodes: int) -> ExpandItem:
        if stream.at == len(stream.ahead):
            self._rewind(stream)
        stream.at += 1
        return self._at(stream.key, stream.prefix, nodes)

    def _at(self, key: Hashable, prefix: tuple[int, ...], nodes: int) -> ExpandItem:
        """``nodes`` nodes: the prefix itself, and children of it that are wrong."""
        below = tuple(range(nodes - 1))
        return ExpandItem(key, prefix, below, (0,) * len(below), tuple(range(nodes)), self.sampling, WIDTH)

    def _stream(self, context: int, number: int) -> _Stream:
        stream = self._streams.get((context, number))
        if stream is None:
            text = tiled(self.text, context + AHEAD)
            stream = self._streams[context, number] = _Stream((context, number), text[:context], text[context:])
            self._rewind(stream)
        return stream

    def _rewind(self, stream: _Stream) -> None:
        for prefix in (stream.fork, stream.base):
            self._expand([self._at(stream.key, prefix, 1)])
        stream.at = 0

    def _expand(self, items: Sequence[ExpandItem]) -> float:
        begin = time.perf_counter()
        done = self.executor.run(DraftWork(tuple(items), ()))
        took = time.perf_counter() - begin
        for result in done.children:
            if isinstance(result, str):
                raise BackendError(result)
        return took


def shares(whole: int, parts: int) -> list[int]:
    """``whole`` split into ``parts`` numbers that differ by one at most.

    >>> shares(7, 3)
    [3, 2, 2]
    """
    return [whole // parts + (index < whole % parts) for index in range(parts)]


def _walked(walk: Walked | str) -> Walked:
    if isinstance(walk, str):
        raise BackendError(walk)
    return walk


def _prefilled(done: VerifyDone) -> None:
    if isinstance(done.prefilled, str):
        raise BackendError(done.prefilled)
