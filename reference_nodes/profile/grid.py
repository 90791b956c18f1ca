"""Which cells a profile has: dense where sessions live (few rows), thin where only a trend is needed."""

from __future__ import annotations

from dataclasses import dataclass

from dsdproto.errors import DsdpError


class GridError(DsdpError):
    """A grid that nothing can be measured on."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Every combination of these that makes sense: a step has at least a row for each session."""

    rows: tuple[int, ...]
    sessions: tuple[int, ...]
    contexts: tuple[int, ...]
    positions: tuple[int, ...]
    """of prefills, each at every context and from nothing"""
    repeat: int

    def __post_init__(self) -> None:
        for name in ("rows", "sessions", "contexts", "positions"):
            values = getattr(self, name)
            if any(value < 1 for value in values) or list(values) != sorted(set(values)):
                raise GridError(f"{name} {', '.join(map(str, values))}: give ascending numbers from 1 on, each once")
        if min(self.contexts, default=0) < 2:
            raise GridError("a context of less than two tokens is no prefix that a session could have")
        if not self.steps:
            raise GridError("no cell is left: at least one number of rows must reach the least number of sessions")

    @property
    def steps(self) -> tuple[tuple[int, int, int], ...]:
        """(rows, sessions, context), ascending."""
        return tuple(
            (rows, sessions, context)
            for context in self.contexts
            for sessions in self.sessions
            for rows in self.rows
            if rows >= sessions
        )

    @property
    def prefills(self) -> tuple[tuple[int, int], ...]:
        """(positions, context), ascending. The longest context is left out: it is computed anew for each."""
        return tuple((positions, context) for context in (0, *self.contexts[:-1]) for positions in self.positions)


VERIFIER = Grid((1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32), (1, 2, 4), (64, 256, 768), (16, 64), 15)
VERIFIER_QUICK = Grid((1, 2, 3, 4, 6, 8, 16), (1, 4), (64, 192), (64,), 6)
DRAFTER = Grid((1, 2, 3, 4, 6, 8, 16), (1, 2, 4, 8), (64, 256, 768), (16, 64), 15)
DRAFTER_QUICK = Grid((1, 2, 4, 8), (1, 2, 4), (64, 192), (64,), 6)


def usual(role: str, quick: bool) -> Grid:
    """The grid of a role, ``verifier`` or ``drafter``."""
    if role == "verifier":
        return VERIFIER_QUICK if quick else VERIFIER
    return DRAFTER_QUICK if quick else DRAFTER
