"""How far a swarm is, on stderr: one line that is rewritten on a terminal, a line every ten seconds elsewhere.

What it found is said at once: a long campaign may never come to its end.
"""

from __future__ import annotations

import time
from typing import Self, TextIO

from reference_nodes.simulator.swarm import Swarm

EVERY = {True: 0.2, False: 10.0}
"""Seconds between two updates, by whether the stream is a terminal."""


class SwarmProgress:
    """``progress(swarm, all seeds)``; a context manager that ends the line."""

    def __init__(self, stream: TextIO, label: str = "swarm") -> None:
        self._stream = stream
        self._label = label
        self._terminal = stream.isatty()
        self._last = time.monotonic()
        self._shown = False
        self._told: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __call__(self, swarm: Swarm, seeds: int) -> None:
        for found in swarm.found:
            if found.seed not in self._told:
                self._told.add(found.seed)
                self._write(f"seed {found.seed}: {found.check}: {found.text.splitlines()[0]}", keep=True)
        now = time.monotonic()
        if now - self._last < EVERY[self._terminal]:
            return
        self._last, self._shown = now, True
        left = swarm.seconds / swarm.seeds * (seeds - swarm.seeds)
        text = (
            f"{self._label}: {swarm.seeds} of {seeds} seeds, {len(swarm.found)} violations, "
            f"{swarm.seeds / swarm.seconds:.0f} seeds/s, {duration(left)} left"
        )
        self._write(text)

    def _write(self, text: str, *, keep: bool = False) -> None:
        start = "\r\x1b[K" if self._terminal else ""
        self._stream.write(f"{start}{text}" + ("\n" if keep or not self._terminal else ""))
        self._stream.flush()


def duration(seconds: float) -> str:
    """For people: 45 s, 3 min 20 s, 1 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
