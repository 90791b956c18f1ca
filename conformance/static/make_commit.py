"""Vectors of section 16: turns, majorities, the log that a leader adopts, what a voter votes for and refuses."""

from __future__ import annotations

from itertools import product
from typing import Any

from conformance.static.sessions import CLOSED, LENGTH, Terms
from conformance.static.vectors import Vector, compute, numbers, vector

TERMS = Terms(commit_profile=2)
OTHER = Terms(commit_profile=2, seed=43)
PROMPT = len(TERMS.prompt)
MISMATCH = ("session", "LEDGER_MISMATCH")
A, B, C, D, E, X, Y = 100, 101, 102, 103, 104, 200, 201
Step = dict[str, Any]


# ---------------------------------------------------------------- arithmetic


def turns() -> list[Vector]:
    out = []
    for n in (1, 3, 5, 9):
        views = (0, 1, 4, 2**32 - 10) if n == 3 else (0, 7)
        for promised, number in product(views, range(n)):
            distance = next(d for d in range(1, n + 1) if (promised + d) % n == number)
            answer = {"leader": promised % n, "distance": distance, "view": promised + distance}
            title = f"view {promised} of {n} is promised: whose turn is number {number}'s"
            request = compute("turn", promised=promised, number=number, n=n)
            out.append(vector(f"commit/turn-{n}-{promised}-{number}", title, "Q-2 Q-41", request, ok=answer))
    return out


def majorities() -> list[Vector]:
    cases = {
        "alone": (1, [4]),
        "alone-without-vote": (1, []),
        "one-of-three": (3, [9]),
        "two-of-three": (3, [9, 4]),
        "all-of-three": (3, [9, 4, 7]),
        "equal": (3, [5, 5, 5]),
        "two-of-five": (5, [9, 8]),
        "three-of-five": (5, [3, 9, 8]),
        "four-of-five": (5, [1, 3, 9, 8]),
        "all-of-five": (5, [1, 2, 3, 4, 5]),
        "a-zero-is-no-vote": (3, [9, 0]),
        "five-of-nine": (9, [2, 4, 6, 8, 10]),
        "four-of-nine": (9, [2, 4, 6, 8]),
        "seven": (7, [7, 7, 7, 1, 1, 1, 1]),
        "none": (9, []),
    }
    out = []
    for name, (n, heights) in cases.items():
        majority = n // 2 + 1
        height = max((h for h in {0, *heights} if h == 0 or sum(vote >= h for vote in heights) >= majority), default=0)
        answer = {"majority": majority, "height": height}
        title = f"votes of {len(heights)} of {n}: {name.replace('-', ' ')}"
        out.append(vector(f"commit/votes-{name}", title, "Q-34", compute("committed", n=n, heights=heights), ok=answer))
    return out


# ---------------------------------------------------------------- the best log


def log(stream: list[int], view: int = 0, height: int = 0, committed: int = 0, known: int = 0, **more: Any) -> Step:
    """An ENLISTED: a log that holds ``stream``. ``committed``, and ``known`` of ENLIST, are counted from the prompt."""
    return {
        "view": view,
        "height": height,
        "committed": PROMPT + committed,
        "position": PROMPT + len(stream),
        "digest": TERMS.digest(stream),
        "tokens": stream[known:],
        **more,
    }


def prepare(view: int, height: int, base: list[int], tokens: list[int], **more: Any) -> Step:
    return {
        "view": view,
        "height": height,
        "position": PROMPT + len(base),
        "base": TERMS.digest(base),
        "tokens": tokens,
        "digest": TERMS.digest(base + tokens),
        **more,
    }


Reports = list[tuple[int, Step]]
Result = tuple[list[int], int, dict[int, list[int]], int | None]


def adoptions() -> dict[str, tuple[str, list[int], Reports, Result | None]]:
    """name -> clauses, tokens known to be committed, reports, what is adopted: log, height, bases, finish."""
    one = [A, B, C]
    return {
        "founding": ("Q-30 Q-33", [], [(1, log([])), (0, log([]))], ([], 0, {}, None)),
        "a-report-that-contradicts-itself": ("Q-31 Q-30", [], [(0, log([])), (1, log([], 0, 0, 2))], None),
        "one-that-contradicts-itself-among-three": (
            "Q-31",
            [],
            [(0, log([A], 0, 1)), (1, log([A, B], 1, 9, 5)), (2, log([]))],
            ([A], 2, {0: [], 2: []}, None),
        ),
        "no-majority": ("Q-30", [], [(0, log([]))], None),
        "own-voter-missing": ("Q-30", [], [(1, log([])), (2, log([]))], None),
        "longer-log-of-a-lower-view": (
            "Q-31",
            [],
            [(1, log([A, B, C, D], 0, 9)), (0, log([A, X], 1, 2))],
            ([A, X], 3, {1: [], 0: []}, None),
        ),
        "higher-height-of-the-same-view": (
            "Q-31",
            [],
            [(1, log([A, B], 1, 5)), (0, log([A], 1, 4))],
            ([A, B], 6, {1: [], 0: []}, None),
        ),
        "example-of-the-text": (
            "Q-31 Q-32 Q-33",
            [A],
            [(2, log([A, B, C, D], 0, 7, 2, 1)), (0, log([A, B], 0, 6, 1, 1))],
            ([A, B, C, D], 8, {2: [A, B], 0: [A]}, None),
        ),
        "all-three": (
            "Q-31 Q-33",
            [],
            [(0, log(one, 2, 4, 1)), (1, log([A], 2, 2, 0)), (2, log([A, B], 2, 3, 2))],
            (one, 5, {0: [A], 1: [], 2: [A, B]}, None),
        ),
        "nothing-beyond-what-is-committed": (
            "Q-32 Q-33",
            [A, B],
            [(0, log([A, B], 1, 4, 2, 2)), (1, log([A, B], 1, 4, 1, 2))],
            ([A, B], 4, {}, None),
        ),
        "a-log-that-ends-before-what-is-known": (
            "Q-31 Q-33",
            [A, B],
            [(0, log([A, B, C], 1, 4, 2, 2)), (1, log([A], 1, 2, 0, 2, tokens=[]))],
            ([A, B, C], 5, {0: [A, B], 1: []}, None),
        ),
        "finish": (
            "Q-31 Q-32",
            [],
            [(0, log([A], 0, 1)), (1, log([A, B], 0, 2, finish=LENGTH))],
            ([A, B], 3, {0: [], 1: []}, LENGTH),
        ),
        "finish-alone": (
            "Q-32 Q-38",
            [A],
            [(0, log([A], 0, 2, 1, 1, finish=CLOSED)), (1, log([A], 0, 1, 1, 1))],
            ([A], 3, {0: [A], 1: [A]}, CLOSED),
        ),
        "an-old-finish-is-left": (
            "Q-31",
            [],
            [(0, log([A], 0, 1, finish=CLOSED)), (1, log([A, B], 1, 2))],
            ([A, B], 3, {0: [], 1: []}, None),
        ),
    }


def adopted() -> list[Vector]:
    out = []
    for name, (clauses, known, reports, result) in adoptions().items():
        given = {"contract": TERMS.json, "committed": known, "view": 3, "n": 3, "own": 0}
        request = compute("adopt", **given, reports=[{"member": n, "enlisted": report} for n, report in reports])
        if result is None:
            answer: dict[str, Any] = {"ready": False}
        else:
            stream, height, bases, finish = result
            tail = {} if finish is None else {"finish": finish}
            order = [n for n in range(3) if n in bases]
            answer = {
                "ready": True,
                "position": PROMPT + len(stream),
                "digest": TERMS.digest(stream).hex(),
                "height": height,
                "prepares": [
                    {"member": n, "prepare": numbers(prepare(3, height, bases[n], stream[len(bases[n]) :], **tail))}
                    for n in order
                ],
                **tail,
            }
        out.append(
            vector(
                f"commit/adopt-{name}",
                f"the log that a leader goes on from: {name.replace('-', ' ')}",
                clauses,
                request,
                ok=answer,
            )
        )
    bad = {
        "position-that-does-not-follow": [(0, log([])), (1, log([A, B], 0, 2, position=PROMPT + 3))],
        "digest-that-does-not-follow": [(0, log([])), (1, log([A, B], 0, 2, digest=TERMS.digest([A, X])))],
        "commit-beyond-the-best-log": [(0, log([A], 1, 2)), (1, log([A, B], 0, 2, 2))],
        "of-another-contract": [(0, log([])), (1, log([A], 0, 2, digest=OTHER.digest([A])))],
    }
    for name, reports in bad.items():
        request = compute(
            "adopt",
            contract=TERMS.json,
            committed=[],
            view=3,
            n=3,
            own=0,
            reports=[{"member": n, "enlisted": report} for n, report in reports],
        )
        title = f"a leader refuses to go on: {name.replace('-', ' ')}"
        out.append(vector(f"commit/adopt-refused-{name}", title, "Q-31", request, error=MISMATCH))
    return out


def make() -> list[Vector]:
    return turns() + majorities() + adopted()
