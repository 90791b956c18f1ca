"""Prefix names: a hash chain over the tokens of a session (SPEC S-PFX).

    d(0)   = SHA-256(contract)
    d(n+1) = SHA-256(d(n) || u32be(token))

Position n is the number of tokens in the prefix, so the token *at* position n extends d(n) to d(n+1).
The draft plane carries the first 16 bytes (the short digest); votes and signatures carry all 32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from struct import Struct

from dsdproto.errors import LocalError

DIGEST_SIZE = 32
SHORT_SIZE = 16
TOKEN_MAX = 0xFFFF_FFFF

_pack_token = Struct(">I").pack


class PrefixError(LocalError, ValueError):
    """A token, digest or position that cannot belong to a prefix chain."""


def contract_digest(contract: bytes) -> bytes:
    """d(0): the 32-byte name of the empty prefix of the session with these canonical contract bytes."""
    return sha256(contract).digest()


def extend_digest(digest: bytes, token: int) -> bytes:
    """d(n+1) from the full 32-byte d(n) and the token at position n."""
    try:
        return sha256(digest + _pack_token(token)).digest()
    except Exception:
        _check_token(token)
        raise


def short_digest(digest: bytes) -> bytes:
    """The 16 bytes that name a prefix on the draft plane."""
    return digest[:SHORT_SIZE]


def _check_token(token: int) -> None:
    if not isinstance(token, int) or not 0 <= token <= TOKEN_MAX:
        raise PrefixError(f"token {token!r} is not an integer in 0..{TOKEN_MAX}")


def _check_digest(digest: bytes) -> None:
    if len(digest) != DIGEST_SIZE:
        raise PrefixError(f"a digest of {len(digest)} bytes: only a full one ({DIGEST_SIZE}) can be extended")


class PrefixChain:
    """The tokens of one session and the digest of every prefix of them.

    `digest` is d(0), 32 bytes (see `contract_digest`). All positions are absolute: 0 <= n <= `position`.
    """

    __slots__ = ("_digests", "_tokens")

    def __init__(self, digest: bytes, tokens: Iterable[int] = ()) -> None:
        _check_digest(digest)
        self._digests: list[bytes] = [bytes(digest)]
        self._tokens: list[int] = []
        self.extend(tokens)

    @classmethod
    def for_contract(cls, contract: bytes, tokens: Iterable[int] = ()) -> PrefixChain:
        return cls(contract_digest(contract), tokens)

    @property
    def position(self) -> int:
        """Number of tokens; the position that the next token will take."""
        return len(self._tokens)

    @property
    def digest(self) -> bytes:
        """d(position), 32 bytes."""
        return self._digests[-1]

    @property
    def short(self) -> bytes:
        """d(position), its first 16 bytes."""
        return self._digests[-1][:SHORT_SIZE]

    @property
    def last(self) -> int:
        """The last token. Raises PrefixError on an empty chain."""
        if not self._tokens:
            raise PrefixError("the empty prefix has no last token")
        return self._tokens[-1]

    @property
    def tokens(self) -> tuple[int, ...]:
        return tuple(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[int]:
        return iter(self._tokens)

    def append(self, token: int) -> bytes:
        """Appends one token and returns the new full digest."""
        digest = extend_digest(self._digests[-1], token)
        self._tokens.append(token)
        self._digests.append(digest)
        return digest

    def extend(self, tokens: Iterable[int]) -> bytes:
        """Appends all tokens, or none if one is no token; returns the full digest after the last."""
        digest = self._digests[-1]
        digests: list[bytes] = []
        fresh: list[int] = []
        for token in tokens:
            digest = extend_digest(digest, token)
            digests.append(digest)
            fresh.append(token)
        self._tokens += fresh
        self._digests += digests
        return digest

    def truncate(self, position: int) -> None:
        """Forgets every token at `position` and after it."""
        self._check_position(position)
        del self._tokens[position:]
        del self._digests[position + 1 :]

    def digest_at(self, position: int) -> bytes:
        """d(position), 32 bytes."""
        self._check_position(position)
        return self._digests[position]

    def short_at(self, position: int) -> bytes:
        """d(position), its first 16 bytes."""
        return self.digest_at(position)[:SHORT_SIZE]

    def tokens_from(self, position: int) -> tuple[int, ...]:
        """The tokens at `position` and after it."""
        self._check_position(position)
        return tuple(self._tokens[position:])

    def names(self, position: int, digest: bytes) -> bool:
        """True if (position, digest) names a prefix of this chain; digest: short (16) or full (32)."""
        if len(digest) not in (SHORT_SIZE, DIGEST_SIZE):
            raise PrefixError(f"a prefix digest has {SHORT_SIZE} or {DIGEST_SIZE} bytes, got {len(digest)}")
        return 0 <= position <= len(self._tokens) and self._digests[position].startswith(digest)

    def copy(self) -> PrefixChain:
        twin = PrefixChain.__new__(PrefixChain)  # what is copied was checked when it came
        twin._tokens = self._tokens.copy()
        twin._digests = self._digests.copy()
        return twin

    def _check_position(self, position: int) -> None:
        if not 0 <= position <= len(self._tokens):
            raise PrefixError(f"position {position} is outside this chain of {len(self._tokens)} tokens")
