"""Vectors of section 13: where each drafted token ends. Expected by hand, prefix names from `conformance.reference`."""

from __future__ import annotations

from typing import Any

from conformance import reference as ref
from conformance.static.vectors import Vector, compute, vector

ROOT = 10
START = ref.chain(b"trie", list(range(ROOT)))[-1]
A, B, C, D, E, F, X, Y = 100, 101, 102, 103, 104, 105, 200, 201
CAUSES = ("stale", "wrong", "late", "duplicate", "too_deep", "evicted", "orphan", "unverified")
Step = dict[str, Any]


def digest(path: list[int]) -> bytes:
    out = START
    for token in path:
        out = ref.sha256(out + token.to_bytes(4, "big")).digest()
    return out


def graft(source: str, base: list[int], tokens: list[int], parents: list[int] | None = None, **more: Any) -> Step:
    """A PROPOSE; ``position`` and ``digest`` override what the base is."""
    step = {
        "source": source,
        "position": more.pop("position", ROOT + len(base)),
        "base": more.pop("digest", digest(base))[:16],
        "tokens": tokens,
        **more,
    }
    return {"graft": step if parents is None else {**step, "parents": parents}}


def advance(tokens: list[int], accepted: int) -> Step:
    return {"advance": {"tokens": tokens, "accepted": accepted}}


def verify(budget: int, **more: int) -> Step:
    return {"verify": {"budget": budget, **more}}


END: Step = {"end": {}}


def waste(**counts: int) -> list[int]:
    return [counts.pop(cause, 0) for cause in CAUSES]


def held(live: int, parked: int = 0, **counts: int) -> Step:
    return {"live": live, "parked": parked, "waste": waste(**counts)}


def moved(path: list[int], live: int, origins: list[str | None], parked: int = 0, **counts: int) -> Step:
    return {
        "position": ROOT + len(path),
        "digest": digest(path).hex(),
        **held(live, parked, **counts),
        "origins": origins,
    }


def book(drafted: int, accepted: int = 0, live: int = 0, parked: int = 0, **counts: int) -> Step:
    return {"drafted": drafted, "accepted": accepted, "waste": waste(**counts), "live": live, "parked": parked}


def paths(*each: list[int]) -> Step:
    return {"paths": list(each)}


Scenario = tuple[str, list[tuple[Step, Step]], dict[str, Step], dict[str, int]]


def scenarios() -> dict[str, Scenario]:
    """name -> clauses, (step, result) pairs, books, bounds."""
    return {
        "chain": ("TRIE-1 TRIE-2", [(graft("p", [], [A, B, C]), held(3))], {"p": book(3, live=3)}, {}),
        "tree": (
            "TRIE-1",
            [(graft("p", [], [A, B, C, D], [0, 0, 1, 2]), held(4)), (verify(9), paths([A], [B], [A, C], [B, D]))],
            {"p": book(4, live=4)},
            {},
        ),
        "below-a-node": (
            "TRIE-2",
            [
                (graft("p", [], [A, B]), held(2)),
                (graft("p", [A, B], [C]), held(3)),
                (verify(9), paths([A], [A, B], [A, B, C])),
            ],
            {"p": book(3, live=3)},
            {},
        ),
        "two-agree": (
            "TRIE-1 TRIE-12",
            [
                (graft("p", [], [A, B]), held(2)),
                (graft("q", [], [A, C]), held(3, duplicate=1)),
                (verify(9), paths([A], [A, B], [A, C])),
            ],
            {"p": book(2, live=2), "q": book(2, live=1, duplicate=1)},
            {},
        ),
        "the-same-again": (
            "TRIE-1",
            [(graft("p", [], [A, B]), held(2)), (graft("p", [], [A, B]), held(2, duplicate=2))],
            {"p": book(4, live=2, duplicate=2)},
            {},
        ),
        "duplicate-with-more-below": (
            "TRIE-1",
            [
                (graft("p", [], [A]), held(1)),
                (graft("q", [], [A, B]), held(2, duplicate=1)),
                (advance([A, B, X], 2), moved([A, B, X], 0, ["p", "q", None])),
            ],
            {"p": book(1, 1), "q": book(2, 1, duplicate=1)},
            {},
        ),
        "accepted": (
            "TRIE-8 TRIE-9",
            [
                (graft("p", [], [A, B, C]), held(3)),
                (verify(9), paths([A], [A, B], [A, B, C])),
                (advance([A, B, X], 2), moved([A, B, X], 0, ["p", "p", None], wrong=1)),
            ],
            {"p": book(3, 2, wrong=1)},
            {},
        ),
        "what-hangs-below-stays": (
            "TRIE-8",
            [
                (graft("p", [], [A, B, C, D]), held(4)),
                (verify(2), paths([A], [A, B])),
                (advance([A, B, C], 2), moved([A, B, C], 1, ["p", "p", None], late=1)),
                (verify(9), paths([D])),
            ],
            {"p": book(4, 2, live=1, late=1)},
            {},
        ),
        "late": (
            "TRIE-8",
            [(verify(9), paths()), (graft("p", [], [A, B]), held(2)), (advance([A], 0), moved([A], 1, [None], late=1))],
            {"p": book(2, live=1, late=1)},
            {},
        ),
        "siblings-are-wrong": (
            "TRIE-8",
            [
                (graft("p", [], [A, B, C, D], [0, 0, 1, 2]), held(4)),
                (verify(9), paths([A], [B], [A, C], [B, D])),
                (advance([B, X], 1), moved([B, X], 0, ["p", None], wrong=3)),
            ],
            {"p": book(4, 1, wrong=3)},
            {},
        ),
        "all-wrong": (
            "TRIE-8",
            [(graft("p", [], [A, B]), held(2)), (advance([X], 0), moved([X], 0, [None], wrong=2))],
            {"p": book(2, wrong=2)},
            {},
        ),
        "end": (
            "TRIE-9",
            [(graft("p", [], [A, B]), held(2)), (END, held(0, unverified=2))],
            {"p": book(2, unverified=2)},
            {},
        ),
        "stale": (
            "TRIE-3",
            [(advance([A, B], 0), moved([A, B], 0, [None, None])), (graft("p", [], [A]), held(0, stale=1))],
            {"p": book(1, stale=1)},
            {},
        ),
        "stale-then-live": (
            "TRIE-3",
            [
                (advance([A, B], 0), moved([A, B], 0, [None, None])),
                (graft("p", [], [A, B, C]), held(1, stale=2)),
                (verify(9), paths([C])),
            ],
            {"p": book(3, live=1, stale=2)},
            {},
        ),
        "stale-then-wrong": (
            "TRIE-3",
            [
                (advance([A, B], 0), moved([A, B], 0, [None, None])),
                (graft("p", [], [A, X, C]), held(0, stale=1, wrong=2)),
            ],
            {"p": book(3, stale=1, wrong=2)},
            {},
        ),
        "stale-branches": (
            "TRIE-3",
            [
                (advance([A, B], 0), moved([A, B], 0, [None, None])),
                (graft("p", [], [A, X, B, C, D], [0, 0, 1, 3, 2]), held(1, stale=2, wrong=2)),
            ],
            {"p": book(5, live=1, stale=2, wrong=2)},
            {},
        ),
        "base-between": (
            "TRIE-3",
            [(advance([A, B, C], 0), moved([A, B, C], 0, [None] * 3)), (graft("p", [A], [B, C, D]), held(1, stale=2))],
            {"p": book(3, live=1, stale=2)},
            {},
        ),
        "base-on-another-path": (
            "TRIE-3",
            [(advance([A, B], 0), moved([A, B], 0, [None, None])), (graft("p", [X], [B, C]), held(0, wrong=2))],
            {"p": book(2, wrong=2)},
            {},
        ),
        "wrong-position-of-a-node": (
            "TRIE-2 S-PFX-3",
            [(graft("p", [], [A]), held(1)), (graft("p", [A], [B, C], position=ROOT + 2), held(1, wrong=2))],
            {"p": book(3, live=1, wrong=2)},
            {},
        ),
        "wrong-position-of-the-root": (
            "TRIE-2 S-PFX-3",
            [(graft("p", [], [B], position=ROOT + 1), held(0, wrong=1))],
            {"p": book(1, wrong=1)},
            {},
        ),
        "unknown-digest-at-the-root": (
            "TRIE-3",
            [(graft("p", [], [B], digest=bytes(32)), held(0, wrong=1))],
            {"p": book(1, wrong=1)},
            {},
        ),
        "orphan": ("TRIE-4", [(graft("p", [A], [B, C]), held(0, orphan=2))], {"p": book(2, orphan=2)}, {}),
        "too-deep": (
            "TRIE-5",
            [(graft("p", [], [A, B, C, D]), held(2, too_deep=2))],
            {"p": book(4, live=2, too_deep=2)},
            {"max_ahead": 2},
        ),
        "too-deep-below-a-node": (
            "TRIE-5",
            [(graft("p", [], [A, B]), held(2)), (graft("q", [A, B], [C]), held(2, too_deep=1))],
            {"p": book(2, live=2), "q": book(1, too_deep=1)},
            {"max_ahead": 2},
        ),
        "depth-counts-from-the-root": (
            "TRIE-5",
            [
                (graft("p", [], [A, B]), held(2)),
                (verify(1), paths([A])),
                (advance([A], 1), moved([A], 1, ["p"])),
                (graft("p", [A, B], [C]), held(2)),
            ],
            {"p": book(3, 1, live=2)},
            {"max_ahead": 2},
        ),
        "budget": (
            "TRIE-11 TRIE-6",
            [
                (graft("p", [], [A, B, C, D], [0, 0, 1, 2], scores=[10, 20, 30, 5]), held(4)),
                (verify(3), paths([A], [B], [B, D])),
            ],
            {"p": book(4, live=4)},
            {},
        ),
        "depth-of-a-tree": (
            "TRIE-11",
            [(graft("p", [], [A, B, C, D], [0, 1, 2, 0]), held(4)), (verify(9, depth=1), paths([A], [D]))],
            {"p": book(4, live=4)},
            {},
        ),
        "evicted": (
            "TRIE-6",
            [
                (graft("p", [], [A, B, C], [0, 0, 1], scores=[10, 50, 30]), held(2, evicted=1)),
                (verify(9), paths([A], [A, C])),
            ],
            {"p": book(3, live=2, evicted=1)},
            {"max_nodes": 2},
        ),
        "newest-of-equals-leaves": (
            "TRIE-6",
            [
                (graft("p", [], [A, B, C], [0, 0, 0], scores=[9, 9, 9]), held(2, evicted=1)),
                (verify(9), paths([A], [B])),
            ],
            {"p": book(3, live=2, evicted=1)},
            {"max_nodes": 2},
        ),
        "least-score-of-several": (
            "TRIE-6",
            [
                (graft("p", [], [A, B], [0, 0], scores=[90, 20]), held(2)),
                (graft("q", [], [A], scores=[5]), held(2, duplicate=1)),
                (verify(1), paths([A])),
            ],
            {"p": book(2, live=2), "q": book(1, duplicate=1)},
            {},
        ),
        "neutral-score": (
            "D-5 TRIE-6",
            [
                (graft("p", [], [A]), held(1)),
                (graft("q", [], [B, C], [0, 0], scores=[15, 17]), held(3)),
                (verify(2), paths([A], [B])),
            ],
            {"p": book(1, live=1), "q": book(2, live=2)},
            {},
        ),
        "in-flight-is-not-evicted": (
            "TRIE-7",
            [
                (graft("p", [], [A, B], [0, 0], scores=[200, 210]), held(2)),
                (verify(9), paths([A], [B])),
                (graft("q", [], [C], scores=[1]), held(2, evicted=1)),
            ],
            {"p": book(2, live=2), "q": book(1, evicted=1)},
            {"max_nodes": 2},
        ),
        "parked": (
            "TRIE-4",
            [
                (graft("p", [A], [B, C]), held(0, 2)),
                (graft("q", [], [A]), held(3)),
                (verify(9), paths([A], [A, B], [A, B, C])),
            ],
            {"p": book(2, live=2), "q": book(1, live=1)},
            {"max_parked": 4},
        ),
        "parked-then-pushed-out": (
            "TRIE-4",
            [(graft("p", [A], [B]), held(0, 1)), (graft("q", [C], [D, E]), held(0, 2, orphan=1))],
            {"p": book(1, orphan=1), "q": book(2, parked=2)},
            {"max_parked": 1},
        ),
        "parked-until-the-root-passes": (
            "TRIE-4 TRIE-3",
            [(graft("p", [A], [B, C]), held(0, 2)), (advance([A, B], 0), moved([A, B], 1, [None, None], stale=1))],
            {"p": book(2, live=1, stale=1)},
            {"max_parked": 4},
        ),
        "parked-at-the-end": (
            "TRIE-4 TRIE-9",
            [(graft("p", [A], [B, C]), held(0, 2)), (END, held(0, unverified=2))],
            {"p": book(2, unverified=2)},
            {"max_parked": 4},
        ),
        "three-drafters": (
            "TRIE-9 TRIE-10 TRIE-12",
            [
                (graft("p", [], [A, B, C]), held(3)),
                (graft("q", [], [A, X]), held(4, duplicate=1)),
                (graft("r", [A, B], [D, E]), held(6)),
                (verify(3), paths([A], [A, B], [A, X])),
                (advance([A, B, D], 2), moved([A, B, D], 1, ["p", "p", None], late=1, wrong=2)),
                (graft("q", [A, B], [D, E, F]), held(2, stale=1, duplicate=1)),
                (END, held(0, unverified=2)),
            ],
            {
                "p": book(3, 2, wrong=1),
                "q": book(5, duplicate=2, wrong=1, stale=1, unverified=1),
                "r": book(2, late=1, unverified=1),
            },
            {},
        ),
    }


def make() -> list[Vector]:
    out = []
    for name, (clauses, steps, books, bounds) in scenarios().items():
        limits = {"max_nodes": 1024, "max_ahead": 64, "max_parked": 0, **bounds}
        request = compute("trie", position=ROOT, digest=START, **limits, steps=[step for step, _ in steps])
        for source, each in books.items():
            if each["drafted"] != each["accepted"] + sum(each["waste"]) + each["live"] + each["parked"]:
                raise ValueError(f"{name}: the books of {source} do not balance (TRIE-9)")
        level = "MAY" if "TRIE-4" in clauses and "max_parked" in bounds else "SHOULD" if "TRIE-6" in clauses else ""
        title = f"the trie: {name.replace('-', ' ')}"
        answer = {"results": [result for _, result in steps], "books": books}
        out.append(vector(f"trie/{name}", title, clauses, request, ok=answer, level=level))
    return out
