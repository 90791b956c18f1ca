"""Sessions on TM-1 with every answer known: what the target says, how a walk ends, how each prefix is called.

All numbers come from :mod:`conformance.reference`, which shares no code with anybody's node.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass, field, replace
from hashlib import sha256
from struct import pack
from typing import Any

from conformance import reference
from conformance.verdict import Failed
from dsdproto.registry import CommitProfile, Finish, Role
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import Contract, ModelOffer, Sampling

NO_PROFILE = bytes(32)
MAX_CONTEXT = 4096
WARM = 52429
"""Temperature 0.8."""


class NotTestModel(Exception):
    """A model name that is not one of TM-1 in its canonical form."""


@functools.cache
def vocabulary_digest(size: int) -> bytes:
    """Of TM-1 with ``size`` entries (clause S-11)."""
    return sha256(b"".join(pack(">I", len(e)) + e for e in (str(i).encode() for i in range(size)))).digest()


@dataclass(frozen=True)
class Model:
    """A TM-1 model (clause S-TM1-1)."""

    v: int
    s: int = 7
    e: int = 0
    a: int = 65536
    d: int = 0

    @classmethod
    def parse(cls, name: str) -> Model:
        """Raises :class:`NotTestModel` for anything but a canonical name."""
        head, colon, tail = name.partition(":")
        try:
            pairs = dict(pair.split("=", 1) for pair in tail.split(","))
            model = cls(**{key: int(value) for key, value in pairs.items()})
        except (ValueError, TypeError):
            raise NotTestModel(name) from None
        if head != "tm-1" or not colon or model.name != name:
            raise NotTestModel(name)
        return model

    @property
    def name(self) -> str:
        more = ((key, getattr(self, key), default) for key, default in (("e", 0), ("a", 65536), ("d", 0)))
        return f"tm-1:v={self.v},s={self.s}" + "".join(
            f",{key}={value}" for key, value, usual in more if value != usual
        )

    @property
    def digest(self) -> bytes:
        return vocabulary_digest(self.v)

    @property
    def profile_text(self) -> str:
        """Clause S-16."""
        return f"weights=none\ndtype=integers\nkernels=tm-1 {self.name}\nthreads=any\n"

    @property
    def profile(self) -> bytes:
        return sha256(self.profile_text.encode()).digest()

    @property
    def target(self) -> Model:
        """Whose drafter this is."""
        return replace(self, a=65536, d=0)

    def drafter(self, agreement: int = WARM, number: int = 1) -> Model:
        return replace(self, a=agreement, d=number)

    def offer(self, max_context: int = MAX_CONTEXT) -> ModelOffer:
        """What HELLO says of it."""
        verifier = self.a == 65536
        return ModelOffer(
            role=int(Role.VERIFIER if verifier else Role.DRAFTER),
            name=self.name,
            vocabulary_size=self.v,
            vocabulary_digest=self.digest,
            max_context=max_context,
            profile=self.profile if verifier else None,
            profile_text=self.profile_text if verifier else None,
        )

    def row(self, prefix: tuple[int, ...]) -> dict[int, int]:
        """float32 bits by token id, after ``prefix`` (clauses S-TM1-2 to S-TM1-4)."""
        row = reference.tm1_row(vars(self), context_of(prefix))
        return {token: int.from_bytes(pack(">f", logit), "big") for token, logit in row.items()}


@functools.lru_cache(maxsize=1 << 16)
def context_of(prefix: tuple[int, ...]) -> int:
    if not prefix:
        return reference.context_of([])
    c = (context_of(prefix[:-1]) ^ prefix[-1]) * 0x9E3779B97F4A7C15 % 2**64 if len(prefix) < 300 else None
    return reference.context_of(list(prefix)) if c is None else c ^ (c >> 32)


@dataclass(frozen=True)
class Walked:
    """A verdict as it has to be (clauses S-SAMP-12, V-10)."""

    accepted: int
    tokens: tuple[int, ...]
    own: int | None
    margin: int
    finish: Finish | None
    position: int
    digest: bytes


@dataclass
class Session:
    """One session: its contract, and a prefix that grows. Positions count from the prompt's first token."""

    id: bytes
    contract: Contract
    model: Model
    max_context: int = MAX_CONTEXT
    committed: list[int] = field(default_factory=list)
    """tokens after the prompt"""
    _choices: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """what was chosen already: cases ask again and again, each judge for itself"""

    @functools.cached_property
    def contract_bytes(self) -> bytes:
        return encode_payload(self.contract)

    @property
    def prompt(self) -> tuple[int, ...]:
        return self.contract.prompt

    @property
    def tokens(self) -> tuple[int, ...]:
        """The prefix, prompt included."""
        return (*self.prompt, *self.committed)

    @property
    def position(self) -> int:
        return len(self.prompt) + len(self.committed)

    @property
    def digest(self) -> bytes:
        return self.digest_of(self.tokens)

    @property
    def short(self) -> bytes:
        return self.digest[:16]

    def digest_of(self, tokens: tuple[int, ...]) -> bytes:
        """Full digest of any prefix of this contract (clause S-PFX-1)."""
        return reference.chain(self.contract_bytes, list(tokens))[-1]

    def digests(self, tokens: tuple[int, ...]) -> list[bytes]:
        """d(0) up to that of all ``tokens``."""
        return reference.chain(self.contract_bytes, list(tokens))

    def choose(self, prefix: tuple[int, ...], model: Model | None = None) -> dict[str, Any]:
        """What a model says after ``prefix``: token, margin, candidates (clause S-SAMP-7)."""
        model, s = model or self.model, self.contract.sampling
        key = (model, s, prefix)
        if key not in self._choices:
            parameters = {"temperature": s.temperature, "top_k": s.top_k, "top_p": s.top_p}
            self._choices[key] = reference.choose(model.row(prefix), parameters, s.seed, len(prefix))
        return self._choices[key]

    def say(self, prefix: tuple[int, ...]) -> int:
        """The target's token after ``prefix``."""
        return self.choose(prefix)["token"]

    def other(self, prefix: tuple[int, ...], count: int = 1) -> tuple[int, ...]:
        """Tokens that the target does not say after ``prefix``."""
        own = self.say(prefix)
        ordinary = [4 + (own + 5 + i) % (self.model.v - 4) for i in range(count + 1)]
        return tuple(token for token in ordinary if token != own)[:count]

    def ahead(self, count: int) -> tuple[int, ...]:
        """The next ``count`` tokens of the target alone, stop tokens and lengths aside."""
        out: tuple[int, ...] = ()
        for _ in range(count):
            out = (*out, self.say(self.tokens + out))
        return out

    def finish_at(self, tokens: tuple[int, ...]) -> Finish | None:
        """Why the stream ends with this prefix (clause S-9)."""
        if len(tokens) > len(self.prompt) and tokens[-1] in self.contract.stop_tokens:
            return Finish.STOP_TOKEN
        if len(tokens) - len(self.prompt) >= self.contract.max_tokens:
            return Finish.LENGTH
        return Finish.CONTEXT_FULL if len(tokens) >= self.max_context else None

    def stream(self) -> tuple[tuple[int, ...], Finish]:
        """The whole stream of the target alone, and why it ends (clause S-17)."""
        tokens = self.prompt
        while (finish := self.finish_at(tokens)) is None:
            tokens = (*tokens, self.say(tokens))
        return tokens[len(self.prompt) :], finish

    def walk(self, tokens: tuple[int, ...], parents: tuple[int, ...] | None = None) -> Walked:
        """The verdict on a tree below the prefix."""
        parents = tuple(range(len(tokens))) if parents is None else parents
        prefix, node, margin = self.tokens, 0, reference.M32
        said: tuple[int, ...] = ()
        own: int | None = None
        while True:
            choice = self.choose(prefix)
            token = choice["token"]
            margin = min(margin, choice["margin"])
            prefix, said = (*prefix, token), (*said, token)
            child = next((i + 1 for i, (t, p) in enumerate(zip(tokens, parents)) if (t, p) == (token, node)), None)
            finish = self.finish_at(prefix)
            if child is None:
                own = token
                break
            node = child
            if finish is not None:
                break
        return Walked(node, said, own, margin, self.finish_at(prefix), len(prefix), self.digest_of(prefix))

    def extend(self, tokens: tuple[int, ...]) -> None:
        self.committed.extend(tokens)


def make_session(rng: random.Random, tm1: Model, /, **changes: Any) -> Session:
    """A session with a random prompt. ``changes`` are fields of the contract or of its sampling; ``max_context`` is
    the testee's. By default temperature 0.8, twelve tokens, no stop token."""
    max_context = changes.pop("max_context", MAX_CONTEXT)
    sampling = {
        name: changes.pop(name, usual)
        for name, usual in (("method", 0), ("temperature", WARM), ("top_k", 0), ("top_p", 65536), ("seed", None))
    }
    if sampling["seed"] is None:
        sampling["seed"] = rng.randrange(1 << 64)
    values: dict[str, Any] = {
        "prompt": tuple(rng.randrange(4, tm1.v) for _ in range(rng.randint(2, 9))),
        "sampling": Sampling(**sampling),
        "max_tokens": 12,
        "stop_tokens": (),
        "vocabulary_size": tm1.v,
        "vocabulary_digest": tm1.digest,
        "model": tm1.target.name,
        "commit_profile": int(CommitProfile.SOLO),
        **changes,
    }
    return Session(rng.randbytes(16), Contract(**values), tm1.target, max_context)


def of_contract(session: bytes, contract: Contract, model: Model, max_context: int = MAX_CONTEXT) -> Session:
    """A session that the testee asked for. Raises :class:`Failed` where its contract is not one of this model."""
    if (contract.vocabulary_size, contract.vocabulary_digest) != (model.v, model.digest):
        raise Failed("S-3", "the contract has another vocabulary than was offered", model.v, contract.vocabulary_size)
    return Session(session, contract, model, max_context)
