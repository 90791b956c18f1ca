"""A session on TM-1 for vectors: its contract, its prefix names, what its target says. From `conformance.reference`."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from struct import pack, unpack
from typing import Any

from conformance import reference as ref
from conformance.static.sample_messages import payload
from conformance.static.vectors import numbers

SEED = 42
V = 4096
VOCABULARY = sha256(b"".join(pack(">I", len(str(n))) + str(n).encode() for n in range(V))).digest()
STOP, LENGTH, FULL, CLOSED = 0, 2, 4, 6


@dataclass
class Terms:
    """A contract and what follows from it."""

    prompt: list[int] = field(default_factory=lambda: [11, 22, 33])
    temperature: int = 52429
    top_k: int = 0
    top_p: int = 65536
    seed: int = SEED
    max_tokens: int = 40
    stop: list[int] = field(default_factory=lambda: [0])
    model_seed: int = 7
    end_q16: int = 0
    commit_profile: int = 0

    @property
    def model(self) -> str:
        return f"tm-1:v={V},s={self.model_seed}" + (f",e={self.end_q16}" if self.end_q16 else "")

    @property
    def values(self) -> dict[str, Any]:
        """The fields of the record Contract."""
        return {
            "prompt": self.prompt,
            "sampling": {
                "method": 0,
                "temperature": self.temperature,
                "top_k": self.top_k,
                "top_p": self.top_p,
                "seed": self.seed,
            },
            "max_tokens": self.max_tokens,
            "stop_tokens": self.stop,
            "vocabulary_size": V,
            "vocabulary_digest": VOCABULARY,
            "model": self.model,
            "commit_profile": self.commit_profile,
        }

    @property
    def json(self) -> dict[str, Any]:
        return numbers(self.values)

    @property
    def encoding(self) -> bytes:
        return payload("Contract", self.values)

    def digest(self, stream: list[int]) -> bytes:
        """Full digest of the prompt and these tokens."""
        return ref.chain(self.encoding, [*self.prompt, *stream])[-1]

    def short(self, stream: list[int]) -> bytes:
        return self.digest(stream)[:16]

    def says(self, stream: list[int]) -> tuple[int, int]:
        """The target's token after the prompt and these tokens, and its margin."""
        prefix = [*self.prompt, *stream]
        model = {"v": V, "s": self.model_seed, "e": self.end_q16, "a": 65536, "d": 0}
        row = ref.tm1_row(model, ref.context_of(prefix))
        bits = {token: unpack(">I", pack(">f", logit))[0] for token, logit in row.items()}
        parameters = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        choice = ref.choose(bits, parameters, self.seed, len(prefix))
        return choice["token"], choice["margin"]

    def alone(self, count: int, after: list[int] | None = None) -> list[int]:
        """What the target decodes alone, without regard to any end."""
        stream = list(after or [])
        start = len(stream)
        for _ in range(count):
            stream.append(self.says(stream)[0])
        return stream[start:]

    def finish(self, stream: list[int], max_context: int) -> int | None:
        """Clause S-9."""
        if stream and stream[-1] in self.stop:
            return STOP
        if len(stream) >= self.max_tokens:
            return LENGTH
        return FULL if len(self.prompt) + len(stream) >= max_context else None

    def walk(self, stream: list[int], tokens: list[int], parents: list[int], max_context: int) -> dict[str, Any]:
        """The VERDICT on a tree below the stream, without round (S-SAMP-12, V-10)."""
        children: dict[tuple[int, int], int] = {}
        for number, (token, parent) in enumerate(zip(tokens, parents, strict=True), 1):
            children[parent, token] = number
        path, node, margin = list(stream), 0, (1 << 32) - 1
        out: dict[str, Any] = {}
        while True:
            token, gap = self.says(path)
            margin = min(margin, gap)
            path.append(token)
            child = children.get((node, token))
            node = node if child is None else child
            finish = self.finish(path, max_context)
            if child is None:
                out["token"] = token
            if child is None or finish is not None:
                break
        out |= {"accepted": node, "digest": self.short(path), "margin": margin}
        return out if finish is None else {**out, "finish": finish}

    def verify(self, stream: list[int], tokens: list[int], parents: list[int] | None = None, round: int = 1) -> Any:
        """The fields of a VERIFY as JSON."""
        more = {} if parents is None else {"parents": bytes(parents)}
        values = {
            "round": round,
            "position": len(self.prompt) + len(stream),
            "base": self.short(stream),
            "tokens": tokens,
        }
        return numbers({**values, **more})
