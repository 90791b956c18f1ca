"""What clients ask for, and when: at times of their own (Poisson, a trace) or after the last answer (closed loop).

Request n is the same in every run with the same seed: its arrival (or its think time), its lengths, its client. Nothing
is kept of requests that were handed out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from reference_nodes.simulator.plan.luck import exponential, key_of, lognormal, uniform
from reference_nodes.simulator.plan.scenario import (
    Closed,
    Constant,
    FromRecord,
    FromTrace,
    Length,
    Lognormal,
    Poisson,
    Scenario,
    Trace,
)
from reference_nodes.simulator.plan.schema import ScenarioError

_TIME, _PROMPT, _OUTPUT, _CLIENT, _DRAW = range(5)


@dataclass(frozen=True, slots=True)
class Request:
    number: int
    """also the session's number, which its luck follows from"""
    at: float
    client: int
    """which client; client nodes are taken in turn"""
    prompt: int
    """tokens"""
    output: int


@dataclass(frozen=True, slots=True)
class TraceLine:
    at: float
    prompt: int
    output: int


@lru_cache(maxsize=8)
def read_trace(path: Path) -> tuple[TraceLine, ...]:
    """The requests of a trace, by time. Raises ScenarioError with file and line."""
    lines: list[TraceLine] = []
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError("workload.file", f"cannot be read: {error.strerror or error}", str(path)) from None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            made = TraceLine(item["arrival_ms"] / 1e3, int(item["prompt_tokens"]), int(item["target_tokens"]))
        except (ValueError, KeyError, TypeError) as error:
            want = "an object with arrival_ms, prompt_tokens and target_tokens"
            raise ScenarioError(f"line {number}", f"{error!r}; each line is {want}", str(path)) from None
        if made.prompt < 1 or made.output < 1 or made.at < 0.0:
            raise ScenarioError(f"line {number}", "tokens are at least 1, times at least 0", str(path))
        lines.append(made)
    if not lines:
        raise ScenarioError("", "holds no requests", str(path))
    return tuple(sorted(lines, key=lambda each: each.at))


class Workload:
    """Hands out the requests of a scenario.

    :param recorded: (prompt tokens, output tokens) of recorded streams, for lengths of kind ``recorded``.
    """

    def __init__(self, scenario: Scenario, seed: int, recorded: tuple[tuple[int, int], ...] = ()) -> None:
        self.scenario = scenario
        self.given = scenario.workload
        self._key = key_of("workload", seed)
        self._folder = Path(scenario.folder)
        self._recorded = recorded

    @property
    def closed(self) -> bool:
        return isinstance(self.given, Closed)

    def arrivals(self) -> Iterator[Request]:
        """Requests that come by themselves, in the order of their times, up to the scenario's duration; in a closed
        loop each client's first."""
        match self.given:
            case Poisson():
                yield from self._poisson(self.given)
            case Trace():
                yield from self._trace(self.given)
            case Closed():
                for client in range(self.given.clients):
                    yield self._request(client, self.given.ramp * client / self.given.clients, client)

    def next(self, before: Request, now: float, pause: float = 0.0) -> Request | None:
        """What a client of a closed loop asks for after an answer at ``now``; None: nothing more.

        :param pause: seconds that it waits at least.
        """
        if not isinstance(self.given, Closed):
            return None
        number = before.number + self.given.clients
        think = exponential(uniform(self._key, number, _TIME), self.given.think) if self.given.think else 0.0
        at = now + max(think, pause)
        return self._request(number, at, before.client) if at < self.scenario.duration else None

    def _poisson(self, given: Poisson) -> Iterator[Request]:
        at, number = 0.0, 0
        while True:
            at += exponential(uniform(self._key, number, _TIME), 1.0 / given.rate)
            if at >= self.scenario.duration:
                return
            yield self._request(number, at, number)
            number += 1

    def _trace(self, given: Trace) -> Iterator[Request]:
        lines = read_trace(self._folder / given.file)
        # A repeated trace goes on after its usual gap.
        span = lines[-1].at * (1.0 + 1.0 / max(1, len(lines) - 1)) or 1.0
        number = 0
        while True:
            turn, index = divmod(number, len(lines))
            line = lines[index]
            at = (line.at + turn * span) / given.speed
            if at >= self.scenario.duration or (turn and not given.repeat):
                return
            yield Request(number, at, number, line.prompt, line.output)
            number += 1

    def _request(self, number: int, at: float, client: int) -> Request:
        given = self.given
        return Request(
            number, at, client, self._length(given.prompt, number, _PROMPT), self._length(given.output, number, _OUTPUT)
        )

    def _length(self, length: Length, number: int, which: int) -> int:
        match length:
            case Constant():
                return length.tokens
            case Lognormal():
                drawn = round(lognormal(uniform(self._key, number, which), length.median, length.sigma))
                return min(max(drawn, length.low), length.high)
            case FromTrace():
                lines = read_trace(self._folder / length.file)
                line = lines[int(uniform(self._key, number, _DRAW) * len(lines))]
                return line.prompt if which == _PROMPT else line.output
            case FromRecord():
                return self._recorded[number % len(self._recorded)][which == _OUTPUT]
