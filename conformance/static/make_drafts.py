"""Vectors of section 12: how ADVANCE moves a drafter's prefix, and which of its nodes are outstanding."""

from __future__ import annotations

from typing import Any

from conformance.static.sessions import Terms, V
from conformance.static.vectors import Vector, compute, numbers, vector

TERMS = Terms()
REFUSED = ("session", "ADVANCE_INVALID")
A, B, C, D, E, X, Y, Z = 100, 101, 102, 103, 104, 200, 201, 202
Step = dict[str, Any]


def propose(base: list[int], tokens: list[int], parents: list[int] | None = None) -> Step:
    values: dict[str, Any] = {"position": 3 + len(base), "base": TERMS.short(base), "tokens": tokens}
    if parents is not None:
        values["parents"] = bytes(parents)
    return {"propose": numbers(values)}


def advance(position: int, ref: int, tokens: list[int], **more: int) -> Step:
    return {"advance": {"position": 3 + position, "ref": ref, "tokens": tokens, **more}}


def after(stream: list[int], outstanding: int) -> Step:
    return {"position": 3 + len(stream), "digest": TERMS.digest(stream).hex(), "outstanding": outstanding}


def good() -> dict[str, tuple[str, list[Step], list[Step]]]:
    """name -> clauses, steps, results."""
    chain = propose([], [A, B, C, D])
    return {
        "own-token-alone": ("D-7", [advance(1, 0, [X])], [after([X], 0)]),
        "nothing": ("D-7", [chain, advance(0, 0, [], credit=9)], [after([], 4)]),
        "example": ("D-7", [chain, propose([A], [E]), advance(3, 2, [X])], [after([A, B, X], 0)]),
        "example-else-at-once": ("D-7", [chain, propose([A], [E]), advance(1, 0, [Y])], [after([Y], 0)]),
        "example-second-choice": ("D-7 D-4", [chain, propose([A], [E]), advance(3, 5, [Y])], [after([A, E, Y], 0)]),
        "all-right": ("D-7", [chain, advance(5, 4, [X])], [after([A, B, C, D, X], 0)]),
        "ref-without-tokens": ("D-7", [chain, advance(2, 2, [])], [after([A, B], 2)]),
        "own-nodes-as-tokens": ("D-7", [chain, advance(2, 0, [A, B])], [after([A, B], 2)]),
        "ref-and-own-nodes-as-tokens": ("D-7", [chain, advance(3, 1, [B, C])], [after([A, B, C], 1)]),
        "shallower-ref": ("D-7", [chain, advance(3, 2, [X])], [after([A, B, X], 0)]),
        "what-hangs-below-stays": ("D-6 D-16", [chain, advance(1, 1, [])], [after([A], 3)]),
        "tree": (
            "D-4 D-7",
            [propose([], [A, B, C, D, E], [0, 0, 1, 1, 2]), advance(2, 4, [])],
            [after([A, D], 0)],
        ),
        "off-the-path-is-no-longer-outstanding": (
            "D-6",
            [propose([], [A, B, C, D, E], [0, 0, 1, 1, 2]), advance(1, 1, [])],
            [after([A], 2)],
        ),
        "drafting-ahead": (
            "D-10 D-4 D-7",
            [propose([], [A, B]), propose([A, B], [C, D]), advance(2, 2, []), advance(4, 4, [])],
            [after([A, B], 2), after([A, B, C, D], 0)],
        ),
        "several-steps": (
            "D-7 D-18",
            [propose([], [A, B, C]), advance(1, 1, []), advance(2, 2, []), advance(4, 3, [X])],
            [after([A], 2), after([A, B], 1), after([A, B, C, X], 0)],
        ),
        "numbers-go-on-over-the-channel": (
            "D-4",
            [propose([], [A, B]), advance(1, 0, [X]), propose([X], [C, D]), advance(3, 4, [])],
            [after([X], 0), after([X, C, D], 0)],
        ),
        "stale-nodes-have-numbers": (
            "D-4 D-9",
            [propose([], [A]), advance(2, 1, [X]), propose([A, X], [Y, Z]), advance(4, 3, [])],
            [after([A, X], 0), after([A, X, Y, Z], 0)],
        ),
        "a-prefix-twice": (
            "D-4 D-7",
            [propose([], [A, B]), propose([A], [B, C]), advance(2, 3, []), advance(3, 4, [])],
            [after([A, B], 1), after([A, B, C], 0)],
        ),
        "a-prefix-twice-the-other-number": (
            "D-4 D-7",
            [propose([], [A, B]), propose([A], [B, C]), advance(2, 2, [])],
            [after([A, B], 1)],
        ),
        "highest-token": ("D-7", [advance(1, 0, [V - 1])], [after([V - 1], 0)]),
    }


def bad() -> dict[str, tuple[str, list[Step]]]:
    chain = propose([], [A, B, C, D])
    return {
        "unknown-ref": ("D-7", [chain, advance(5, 5, [])]),
        "ref-before-any-proposal": ("D-7", [advance(1, 1, [])]),
        "position-behind": ("D-7", [chain, advance(2, 2, [X])]),
        "position-ahead": ("D-7", [chain, advance(4, 2, [X])]),
        "position-without-path": ("D-7", [advance(1, 0, [])]),
        "ref-above-the-announced-prefix": ("D-7", [chain, advance(3, 3, []), advance(3, 2, [])]),
        "ref-that-is-the-announced-prefix": ("D-7", [chain, advance(3, 3, []), advance(3, 3, [])]),
        "ref-off-the-path": ("D-7", [propose([], [A, B, C], [0, 0, 1]), advance(1, 2, []), advance(3, 3, [X])]),
        "token-outside-the-vocabulary": ("D-7", [chain, advance(3, 2, [V])]),
        "ref-counted-from-zero": ("D-7", [chain, advance(2, 1, [])]),
    }


def make() -> list[Vector]:
    given = {"contract": TERMS.json, "committed": []}
    out = []
    for name, (clauses, steps, results) in good().items():
        title = f"ADVANCE at a drafter: {name.replace('-', ' ')}"
        request = compute("drafter", **given, steps=steps)
        out.append(vector(f"drafter/{name}", title, clauses, request, ok={"results": results}))
    for name, (clauses, steps) in bad().items():
        title = f"a drafter refuses an ADVANCE: {name.replace('-', ' ')}"
        out.append(
            vector(f"drafter/refused-{name}", title, clauses, compute("drafter", **given, steps=steps), error=REFUSED)
        )
    request = compute(
        "drafter", contract=TERMS.json, committed=[A, B], steps=[propose([A, B], [C]), advance(4, 1, [X])]
    )
    out.append(
        vector(
            "drafter/attached-in-the-middle",
            "ATTACH with committed tokens",
            "D-7 L-12",
            request,
            ok={"results": [after([A, B, C, X], 0)]},
        )
    )
    return out
