"""Many seeds over several processes: what a swarm is for is volume."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from reference_nodes.simulator.mutants import planted
from reference_nodes.simulator.runner import Outcome, run
from reference_nodes.simulator.scenario import draw

CHUNK = 40
"""Seeds that a worker takes at once."""


@dataclass(frozen=True, slots=True)
class Found:
    """A seed that broke a rule."""

    seed: int
    check: str
    text: str


@dataclass(slots=True)
class Swarm:
    """What came of a range of seeds."""

    seeds: int = 0
    events: int = 0
    virtual_seconds: float = 0.0
    seconds: float = 0.0
    found: list[Found] = field(default_factory=list)
    runs_with: Counter[str] = field(default_factory=Counter)
    """how many runs saw what they were made for"""

    def add(self, other: Swarm) -> None:
        """Take in the results of further seeds."""
        self.seeds += other.seeds
        self.events += other.events
        self.virtual_seconds += other.virtual_seconds
        self.found = sorted([*self.found, *other.found], key=lambda found: found.seed)
        self.runs_with.update(other.runs_with)

    def as_json(self) -> dict[str, Any]:
        return {
            "seeds": self.seeds,
            "violations": len(self.found),
            "found": [{"seed": each.seed, "check": each.check, "text": each.text} for each in self.found],
            "events": self.events,
            "virtual_seconds": round(self.virtual_seconds, 1),
            "seconds": round(self.seconds, 1),
            "seeds_per_second": round(self.seeds / self.seconds, 1) if self.seconds else None,
            "runs_with": dict(sorted(self.runs_with.items())),
        }


def sweep(
    seeds: Sequence[int],
    *,
    jobs: int = 1,
    mutant: str | None = None,
    check_determinism: bool = False,
    stop_after: int | None = None,
    progress: Callable[[Swarm, int], None] | None = None,
) -> Swarm:
    """Run the scenarios of ``seeds``.

    :param mutant: plant this bug first (:data:`reference_nodes.simulator.mutants.MUTANTS`).
    :param check_determinism: run each seed twice and compare the digests of all that happened.
    :param stop_after: end once that many violations were found; seeds that others are busy with do not count.
    :param progress: called with what there is so far and the number of all seeds, often.
    """
    begin = time.monotonic()
    total = Swarm()
    chunks = [(seeds[at : at + CHUNK], mutant, check_determinism) for at in range(0, len(seeds), CHUNK)]
    for part in _results(chunks, jobs):
        total.add(part)
        total.seconds = time.monotonic() - begin
        if progress is not None:
            progress(total, len(seeds))
        if stop_after is not None and len(total.found) >= stop_after:
            break
    total.seconds = time.monotonic() - begin
    return total


def _results(chunks: list[tuple[Sequence[int], str | None, bool]], jobs: int) -> Iterator[Swarm]:
    if jobs == 1:
        yield from map(_chunk, chunks)
        return
    # Results in order: which seeds a swarm has looked at when it stops does not depend on the machine's mood.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(_chunk, chunks)


def _chunk(job: tuple[Sequence[int], str | None, bool]) -> Swarm:
    seeds, mutant, twice = job
    result = Swarm()
    # A world is one big cycle; looking for cycles in the middle of a run is time lost.
    gc.disable()
    try:
        with planted(mutant) if mutant else nullcontext():
            for seed in seeds:
                _add(result, seed, run(draw(seed)), twice)
    finally:
        gc.enable()
        gc.collect()
    return result


def _add(result: Swarm, seed: int, outcome: Outcome, twice: bool) -> None:
    result.seeds += 1
    result.events += outcome.events
    result.virtual_seconds += outcome.seconds
    runs = result.runs_with
    runs["interruptions"] += outcome.interruptions > 0
    runs["takeovers"] += outcome.views > 0
    runs["overwritten blocks"] += outcome.overwritten > 0
    runs["foundings without all"] += outcome.incomplete > 0
    runs["crashes"] += any(entry[1] == "crash" for entry in outcome.trace)
    runs["an end in phase 2"] += outcome.healed > 0
    if outcome.violation is not None:
        result.found.append(Found(seed, outcome.violation.check, outcome.violation.text))
    elif twice and (again := run(draw(seed))).digest() != outcome.digest():
        text = f"two runs of one seed differ: {outcome.events} and {again.events} events"
        result.found.append(Found(seed, "determinism", text))
