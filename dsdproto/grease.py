"""Grease: what peers must ignore, sent in every connection so that they really do (SPEC.md, clause R-10).

All of it is a function of the connection's entropy.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from dsdproto.registry import GREASE_FEATURES, GREASE_KEYS, GREASE_TYPES
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import Hello


def _noise(label: bytes, entropy: bytes) -> bytes:
    return hashlib.sha256(b"DSDP grease " + label + entropy).digest()


def greased_hello(hello: Hello, entropy: bytes) -> bytes:
    """The payload of HELLO with one grease feature and one grease key."""
    noise = _noise(b"hello", entropy)
    feature = GREASE_FEATURES[noise[0] % len(GREASE_FEATURES)]
    key = GREASE_KEYS[noise[1] % len(GREASE_KEYS)]
    greased = replace(hello, features=tuple(sorted({*hello.features, feature})))
    return encode_payload(greased, extra={key: noise[3 : 3 + noise[2] % 16]})


def grease_frame(entropy: bytes) -> tuple[int, int, bytes]:
    """Type, channel and payload of a frame of a grease type: a map with keys of both parities and some nesting."""
    noise = _noise(b"frame", entropy)
    item = {noise[1]: noise[3 : 3 + noise[2] % 24], 256 + noise[1]: [noise[2], {noise[3]: "grease"}]}
    return GREASE_TYPES[noise[0] % len(GREASE_TYPES)], 0, cbor.encode(item)
