"""A mixed, deterministic pool of training prompts that shares nothing with the prompts used for measuring."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from .chat import SYSTEMS
from .library_stubs import stdlib_stubs
from .questions import question
from .stubs import spec_stub
from .word_problems import word_problem

SHINGLE = 8
Record = dict[str, str]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def shingles(text: str) -> set[tuple[str, ...]]:
    """All runs of eight words, case and punctuation ignored (the whole text where it is shorter)."""
    words = _words(text)
    if len(words) < SHINGLE:
        return {tuple(words)}
    return {tuple(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}


class Overlap:
    """Says whether a text shares a run of eight words, or a whole short text, with a list of evaluation prompts."""

    def __init__(self, evaluation: Iterable[str]) -> None:
        self._seen = {s for text in evaluation for s in shingles(text)}

    def __call__(self, text: str) -> bool:
        return not self._seen.isdisjoint(shingles(text))


def load_prompts(path: Path) -> list[str]:
    """The ``prompt`` fields of a JSON-lines file. Raises ValueError naming the line that has none."""
    found = []
    for n, line in enumerate(path.read_text().splitlines(), 1):
        record = json.loads(line)
        if not isinstance(record.get("prompt"), str):
            raise ValueError(f"{path}:{n}: no text field 'prompt'; each line must be {{\"prompt\": ...}}")
        found.append(record["prompt"])
    return found


def _maths(rng: random.Random) -> str:
    tail = rng.choice(["", "", "", "", " Think step by step.", " Explain your answer.", " Show your work."])
    return word_problem(rng) + tail


def _code(library: Sequence[str]) -> Callable[[random.Random], str]:
    def make(rng: random.Random) -> str:
        stub = rng.choice(library) if rng.random() < 0.3 else spec_stub(rng)
        lead = rng.choice(
            [
                "",
                "",
                "",
                "Complete this function:\n\n",
                "Write the body of this Python function.\n",
                "Complete the code:\n```python\n",
            ]
        )
        return lead + stub + ("```" if "```" in lead else "")

    return make


def pool(count: int, seed: int, evaluation: Sequence[str]) -> list[Record]:
    """Draw ``count`` prompts: 40 % word problems, 33 % code, the rest questions; repeats are dropped.

    Each record has ``prompt``, ``kind`` and ``system``. Prompts that overlap with ``evaluation`` are left out.
    The result depends on the arguments and the interpreter's version only.
    """
    rng, overlaps = random.Random(seed), Overlap(evaluation)
    makers = {"maths": (_maths, 0.40), "code": (_code(stdlib_stubs()), 0.33), "chat": (question, 0.27)}
    records: dict[str, Record] = {}
    for kind, (make, share) in makers.items():
        own = {"maths": "maths", "code": "python"}.get(kind, "plain")
        for _ in range(round(count * share)):
            text = make(rng)
            system = SYSTEMS[rng.choice(["default"] * 9 + [own, "plain", "writer"])]
            records.setdefault(text, {"prompt": text, "kind": kind, "system": system})
    kept = [r for text, r in records.items() if not overlaps(text)]
    rng.shuffle(kept)
    return kept
