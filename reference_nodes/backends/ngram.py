"""Prompt lookup: propose what followed the last few tokens the last times they occurred in this session.

No weights and almost no time; good where an answer repeats its prompt (code edits, extraction, arithmetic).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from .base import BadRequest, Candidates, Counters, ExpandRequest, check_tree

LONGEST, SHORTEST = 4, 2  # lengths of the n-grams looked up; a single token recurs too often to mean much
CHOICES = 4  # distinct continuations offered per node
_ANY_TOKEN = 1 << 31  # the lookup works for every vocabulary


class _Index:
    """Where each n-gram of one token sequence ends, latest last; grows with the sequence."""

    def __init__(self, longest: int, shortest: int) -> None:
        self.sizes = range(longest, shortest - 1, -1)
        self.tokens: list[int] = []
        self._next: dict[tuple[int, ...], list[int]] = {}

    def append(self, token: int) -> None:
        for size in self.sizes:
            if len(self.tokens) >= size:
                self._next.setdefault(tuple(self.tokens[-size:]), []).append(token)
        self.tokens.append(token)

    def lookup(self, gram: tuple[int, ...]) -> list[int]:
        """The tokens that followed `gram`, in order of occurrence."""
        return self._next.get(gram, [])


class NgramDraft:
    """A drafter by prompt lookup (see `DraftBackend`); also finds n-grams of the draft path itself."""

    name = "ngram"
    vocab_size = _ANY_TOKEN
    max_context = _ANY_TOKEN

    def __init__(self, longest: int = LONGEST, shortest: int = SHORTEST, choices: int = CHOICES) -> None:
        """Raises BadRequest unless 1 <= shortest <= longest and choices >= 1."""
        if not 1 <= shortest <= longest or choices < 1:
            raise BadRequest(f"ngram: lengths {shortest}..{longest} and {choices} choices make no lookup")
        self._longest, self._shortest, self._choices = longest, shortest, choices
        self._sessions: dict[Hashable, _Index] = {}
        self.counters = Counters()

    def expand(self, requests: Sequence[ExpandRequest]) -> list[list[Candidates]]:
        """Per node: up to `choices` ids. Longer matches score higher, then frequent, then recent ones."""
        answers = []
        self.counters.forwards += 1
        self.counters.rows += sum(len(request.nodes) for request in requests)
        for request in requests:
            check_tree(request.prefix, request.tokens, request.parents, self.vocab_size)
            index = self._index(request.key, request.prefix)
            answers.append([self._candidates(index, _path(request, node)) for node in request.nodes])
        return answers

    def release(self, key: Hashable) -> None:
        """Forget the session."""
        self._sessions.pop(key, None)

    def _index(self, key: Hashable, prefix: Sequence[int]) -> _Index:
        index = self._sessions.get(key)
        if index is None or list(prefix[: len(index.tokens)]) != index.tokens:
            index = self._sessions[key] = _Index(self._longest, self._shortest)
        for token in prefix[len(index.tokens) :]:
            index.append(int(token))
        return index

    def _candidates(self, index: _Index, path: list[int]) -> Candidates:
        scores: dict[int, float] = {}
        tail = index.tokens[-self._longest :] + path
        for size in index.sizes:
            followers = index.lookup(tuple(tail[-size:])) if len(tail) >= size else []
            for age, token in enumerate(reversed(followers)):
                # One more matching token outweighs any count; a count outweighs age.
                scores.setdefault(token, 10.0 * size + math.log(followers.count(token)) - age / (len(followers) + 1))
                if len(scores) == self._choices:
                    break
            if len(scores) == self._choices:
                break
        ids = sorted(scores)
        return Candidates(np.array(ids, np.int32), np.array([scores[token] for token in ids], np.float32))


def _path(request: ExpandRequest, node: int) -> list[int]:
    if not 0 <= node <= len(request.tokens):
        raise BadRequest(f"node {node} is not in the tree: it has nodes 0..{len(request.tokens)}")
    path: list[int] = []
    while node:
        path.append(int(request.tokens[node - 1]))
        node = request.parents[node - 1]
    return path[::-1]


def ngram_draft(options: str = "") -> NgramDraft:
    """From the options behind "ngram:": "LONGEST[-SHORTEST]", for example "3" or "4-1"."""
    if not options:
        return NgramDraft()
    longest, _, shortest = options.partition("-")
    try:
        return NgramDraft(int(longest), int(shortest) if shortest else min(SHORTEST, int(longest)))
    except ValueError as error:
        raise BadRequest(f"ngram:{options}: expected ngram:LONGEST or ngram:LONGEST-SHORTEST") from error
