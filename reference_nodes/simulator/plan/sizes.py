"""How long a message is on the wire, without encoding the frequent ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dsdproto.registry import FRAME_HEADER_BYTES, MAX_NODES
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Advance, Block, Propose, Verdict, Verify
from dsdproto.wire.tokens import TOKEN_BYTES

SEGMENT_BYTES = 62
"""IPv4, TCP and one TLS 1.3 record around a message; no part of its own length."""
SEGMENT = 1448
"""Bytes of a TCP segment's payload on Ethernet."""


def _head(n: int) -> int:
    """Bytes of a CBOR head with this argument."""
    if n < 24:
        return 1
    if n < 256:
        return 2
    if n < 65536:
        return 3
    return 5 if n < 1 << 32 else 9


def _string(n: int) -> int:
    return _head(n) + n


_TOKENS = tuple(_string(TOKEN_BYTES * count) for count in range(MAX_NODES + 2))
"""Bytes of a string of so many tokens."""


def _propose(m: Propose) -> int:
    count = len(m.tokens)
    # Map head, four keys, position, base, tokens.
    size = FRAME_HEADER_BYTES + 21 + _head(m.position) + _TOKENS[count]
    if m.parents is not None:
        size += 1 + _string(count)
    if m.scores is not None:
        size += 1 + _string(count)
    return size


def _advance(m: Advance) -> int:
    size = FRAME_HEADER_BYTES + 4 + _head(m.position) + _head(m.ref) + _TOKENS[len(m.tokens)]
    if m.credit is not None:
        size += 1 + _head(m.credit)
    if m.window is not None:
        size += 1 + _head(m.window)
    return size


def _verify(m: Verify) -> int:
    size = FRAME_HEADER_BYTES + 22 + _head(m.round) + _head(m.position) + _TOKENS[len(m.tokens)]
    if m.parents is not None:
        size += 1 + _string(len(m.parents))
    return size


def _verdict(m: Verdict) -> int:
    size = FRAME_HEADER_BYTES + 22 + _head(m.round) + _head(m.accepted) + _head(m.margin)
    for field in (m.token, m.finish, m.compute_us, m.rows, m.queue_us):
        if field is not None:
            size += 1 + _head(field)
    return size


def _block(m: Block) -> int:
    if m.drafters is not None:
        return _encoded(m)
    size = FRAME_HEADER_BYTES + 3 + _head(m.position) + _TOKENS[len(m.tokens)]
    if m.origins is not None:
        size += 1 + _string(len(m.origins))
    return size


def _encoded(message: Any) -> int:
    return len(encode_message(1, message))


SIZES: dict[type, Callable[[Any], int]] = {
    Propose: _propose,
    Advance: _advance,
    Verify: _verify,
    Verdict: _verdict,
    Block: _block,
}
"""Of the frequent messages."""


def size_of(message: Any) -> int:
    """Bytes of the frame that carries ``message``, header included."""
    return SIZES.get(type(message), _encoded)(message)
