"""TM-1, the test model: a pseudo language model in integers over Philox (SPEC S-TM1).

Its row depends on every token of the prefix, so a peer that lost step is seen at the next token. A drafter
named with an agreement `a` sees the target's own row with probability a/65536, and an unrelated one
otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dsdproto.errors import LocalError
from dsdproto.sampling.parameters import Q16, SEED_MAX
from dsdproto.sampling.philox import DOMAIN_TM1_DRAFT, DOMAIN_TM1_TARGET, words

EOS = 0
EOS_LOGIT = 24.0
CONTEXT_START = 0x243F_6A88_85A3_08D3
CONTEXT_FACTOR = 0x9E37_79B9_7F4A_7C15
_MASK64 = (1 << 64) - 1

# Logits are the bytes of a word in sixteenths: 0 to 15.9375, exact in every float format.
_LOGIT = [byte / 16 for byte in range(256)]

SparseRow = tuple[tuple[float, ...], tuple[int, ...]]

# key: attribute, least, most, default; in canonical order
_KEYS = {
    "v": ("vocabulary", 8, 1 << 20, 4096),
    "s": ("seed", 0, SEED_MAX, 0),
    "e": ("eos_q16", 0, Q16, 0),
    "a": ("agreement_q16", 0, Q16, Q16),
    "d": ("drafter", 0, (1 << 32) - 1, 0),
}
_NAME = re.compile(r"tm-1(?::([a-z]=(?:0|[1-9][0-9]*)(?:,[a-z]=(?:0|[1-9][0-9]*))*))?\Z")


class ModelNameError(LocalError, ValueError):
    """A name that is not a TM-1 model name, or a parameter outside its range."""


def advance(context: int, token: int) -> int:
    """The context (u64) after one more token."""
    mixed = ((context ^ token) * CONTEXT_FACTOR) & _MASK64
    return mixed ^ (mixed >> 32)


def context_of(tokens: Iterable[int]) -> int:
    """The context (u64) of a whole prefix, prompt included."""
    context = CONTEXT_START
    for token in tokens:
        context = advance(context, token)
    return context


@dataclass(frozen=True, slots=True)
class TestModel:
    """One TM-1 model. With agreement 65536 it is the target (whatever `drafter` says), below that one of
    its drafters.

    vocabulary: size, a multiple of 4; seed: u64; eos_q16: chance per row that the end of stream leads, in
    1/65536; agreement_q16: chance that a drafter's row is the target's; drafter: tells drafters of equal
    agreement apart.
    """

    __test__ = False  # for pytest: not a test class

    vocabulary: int = 4096
    seed: int = 0
    eos_q16: int = 0
    agreement_q16: int = Q16
    drafter: int = 0

    def __post_init__(self) -> None:
        for key, (attribute, low, high, _) in _KEYS.items():
            value = getattr(self, attribute)
            if not isinstance(value, int) or not low <= value <= high:
                raise ModelNameError(f"tm-1: {key} ({attribute}) = {value!r}, but must be in {low}..{high}")
        if self.vocabulary % 4:
            raise ModelNameError(f"tm-1: v (vocabulary) = {self.vocabulary}, but must be a multiple of 4")

    @classmethod
    def parse(cls, name: str) -> TestModel:
        """From a name such as `tm-1:v=4096,s=7,a=52429,d=1`; keys in any order, each at most once."""
        match = _NAME.match(name)
        if match is None:
            raise ModelNameError(f"{name!r} is not a TM-1 name; one is tm-1:v=4096,s=7,a=52429,d=1")
        values: dict[str, int] = {}
        for part in match[1].split(",") if match[1] else ():
            key, _, digits = part.partition("=")
            if key not in _KEYS:
                raise ModelNameError(f"{name!r} has an unknown key {key!r}; known are {', '.join(_KEYS)}")
            attribute = _KEYS[key][0]
            if attribute in values:
                raise ModelNameError(f"{name!r} gives {key!r} twice")
            if len(digits) > 20:
                raise ModelNameError(f"{name!r}: parameter {key!r} has {len(digits)} digits")
            values[attribute] = int(digits)
        return cls(**values)

    @property
    def name(self) -> str:
        """The canonical name: v and s always, the others where they differ from their defaults."""
        parts = [
            f"{key}={getattr(self, attribute)}"
            for key, (attribute, _, _, default) in _KEYS.items()
            if key in "vs" or getattr(self, attribute) != default
        ]
        return "tm-1:" + ",".join(parts)

    @property
    def target(self) -> TestModel:
        """The model that this one drafts for (itself, if it is a target)."""
        return TestModel(self.vocabulary, self.seed, self.eos_q16)

    def candidates(self, context: int) -> SparseRow:
        """The row after a prefix as (logits, token ids), ids ascending; all other tokens are masked out."""
        row = None
        if self.agreement_q16 < Q16:
            row = words(self.seed, DOMAIN_TM1_DRAFT, context, self.drafter)
            if row[3] & 0xFFFF < self.agreement_q16:
                row = None
        if row is None:
            row = words(self.seed, DOMAIN_TM1_TARGET, context, 0)
        place, bits, ending, _ = row
        first = 4 + 4 * ((place * (self.vocabulary // 4 - 1)) >> 32)
        a, b, c, d = bits.to_bytes(4, "little")
        logits = (_LOGIT[a], _LOGIT[b], _LOGIT[c], _LOGIT[d])
        ids = (first, first + 1, first + 2, first + 3)
        if ending & 0xFFFF < self.eos_q16:
            return (EOS_LOGIT, *logits), (EOS, *ids)
        return logits, ids

    def row(self, context: int) -> np.ndarray:
        """The dense row after a prefix: float32, shape (vocabulary,)."""
        logits, ids = self.candidates(context)
        dense = np.full(self.vocabulary, -np.inf, np.float32)
        dense[list(ids)] = logits
        return dense
