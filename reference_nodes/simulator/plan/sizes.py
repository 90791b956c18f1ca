"""How long a message is on the wire, without encoding the frequent ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dsdproto.registry import FRAME_HEADER_BYTES
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


def _propose(m: Propose) -> int:
    count = len(m.tokens)
    size = 1 + 1 + _head(m.position) + 18 + 1 + _string(TOKEN_BYTES * count)
    if m.parents is not None:
        size += 1 + _string(count)
    if m.scores is not None:
        size += 1 + _string(count)
    return FRAME_HEADER_BYTES + size


def _advance(m: Advance) -> int:
    size = 1 + 3 + _head(m.position) + _head(m.ref) + _string(TOKEN_BYTES * len(m.tokens))
    if m.credit is not None:
        size += 1 + _head(m.credit)
    if m.window is not None:
        size += 1 + _head(m.window)
    return FRAME_HEADER_BYTES + size


def _verify(m: Verify) -> int:
    size = 1 + 3 + 1 + _head(m.round) + _head(m.position) + 17 + _string(TOKEN_BYTES * len(m.tokens))
    if m.parents is not None:
        size += 1 + _string(len(m.parents))
    return FRAME_HEADER_BYTES + size


def _verdict(m: Verdict) -> int:
    size = 1 + 1 + _head(m.round) + 1 + _head(m.accepted) + 18 + 1 + _head(m.margin)
    for field in (m.token, m.finish, m.compute_us, m.rows, m.queue_us):
        if field is not None:
            size += 1 + _head(field)
    return FRAME_HEADER_BYTES + size


def _block(m: Block) -> int:
    if m.drafters is not None:
        return _encoded(m)
    size = 1 + 2 + _head(m.position) + _string(TOKEN_BYTES * len(m.tokens))
    if m.origins is not None:
        size += 1 + _string(len(m.origins))
    return FRAME_HEADER_BYTES + size


def _encoded(message: Any) -> int:
    return len(encode_message(1, message))


_SIZES: dict[type, Callable[[Any], int]] = {
    Propose: _propose,
    Advance: _advance,
    Verify: _verify,
    Verdict: _verdict,
    Block: _block,
}


def size_of(message: Any) -> int:
    """Bytes of the frame that carries ``message``, header included."""
    return _SIZES.get(type(message), _encoded)(message)
