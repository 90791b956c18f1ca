"""Token strings: token ids as three big-endian bytes each (SPEC.md, clause B-9)."""

from __future__ import annotations

import struct
from collections.abc import Collection

from dsdproto.registry import MAX_VOCABULARY

TOKEN_BYTES = 3
SMALL = 16
"""Up to so many tokens, one at a time is quicker than all at once."""


def pack_tokens(tokens: Collection[int]) -> bytes:
    """Three big-endian bytes a token. Raises ValueError on an id outside 0..2^24-1, TypeError on what is no
    integer.
    """
    try:
        if len(tokens) <= SMALL:
            return b"".join([token.to_bytes(TOKEN_BYTES, "big") for token in tokens])
        # All ids in one piece: four-byte words, then every byte but the first of each word.
        count = len(tokens)
        words = struct.pack(f">{count}I", *tokens)
        if not any(words[0::4]):
            out = bytearray(TOKEN_BYTES * count)
            out[0::3] = words[1::4]
            out[1::3] = words[2::4]
            out[2::3] = words[3::4]
            return bytes(out)
    except (struct.error, OverflowError, AttributeError):
        pass  # said below
    for token in tokens:
        if not isinstance(token, int):
            raise TypeError(f"token {token!r} is not an integer")
        if not 0 <= token < MAX_VOCABULARY:
            raise ValueError(f"token {token} is outside 0..{MAX_VOCABULARY - 1}")
    raise TypeError("token ids must be plain integers")


def unpack_tokens(data: bytes) -> tuple[int, ...]:
    """Inverse of :func:`pack_tokens`. Raises ValueError when the length is no multiple of three."""
    count, rest = divmod(len(data), TOKEN_BYTES)
    if rest:
        raise ValueError(f"a token string of {len(data)} bytes; {TOKEN_BYTES} for each token are needed")
    if count <= SMALL:
        return tuple([a << 16 | b << 8 | c for a, b, c in zip(data[0::3], data[1::3], data[2::3])])
    words = bytearray(4 * count)
    words[1::4] = data[0::3]
    words[2::4] = data[1::3]
    words[3::4] = data[2::3]
    return struct.unpack(f">{count}I", words)
