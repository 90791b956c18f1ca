"""What two nodes agree on when they meet (SPEC.md, clauses C-6 to C-8): pure functions of their two HELLO messages."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from dsdproto.errors import PeerError
from dsdproto.registry import GREASE_FEATURES, VERSION, ErrorCode, Feature, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.messages import Hello

VERSION_MIN = VERSION
VERSION_MAX = VERSION
KNOWN_FEATURES = frozenset(int(feature) for feature in Feature)
KNOWN_ROLES = frozenset(int(role) for role in Role)


@dataclass(frozen=True, slots=True)
class Negotiated:
    """Equal on both sides, whatever they offered."""

    version: int
    features: tuple[int, ...]
    """ascending"""
    heartbeat_ms: int

    def digest(self, acceptor_hello: bytes, dialer_hello: bytes) -> bytes:
        """What both put into READY: SHA-256 over both HELLO payloads, as they were on the wire, and the outcome."""
        outcome = cbor.encode({1: self.version, 2: list(self.features)})
        return hashlib.sha256(acceptor_hello + dialer_hello + outcome).digest()


def negotiate(mine: Hello, peer: Hello) -> Negotiated:
    """The outcome of two HELLO messages; symmetric in its arguments where it succeeds.

    Raises PeerError(VERSION_UNSUPPORTED): no common version, or ``peer`` needs a feature or role unknown here.
    """
    version = min(mine.version_max, peer.version_max)
    if version < max(mine.version_min, peer.version_min):
        raise _unsupported(
            "C-7",
            f"you speak versions {peer.version_min} to {peer.version_max}, this node speaks {mine.version_min} to"
            f" {mine.version_max}; upgrade the older of the two",
        )
    for feature in peer.features:
        if feature % 2 == 0 and feature not in KNOWN_FEATURES:
            raise _unsupported("R-1", f"unknown even feature {feature:#06x} in your HELLO")
    for role in peer.roles:
        if role % 2 == 0 and role not in KNOWN_ROLES:
            raise _unsupported("R-1", f"unknown even role {role} in your HELLO")
    theirs = frozenset(peer.features)
    features = tuple(feature for feature in mine.features if feature in theirs and feature not in GREASE_FEATURES)
    return Negotiated(version, features, min(mine.limits.heartbeat_ms, peer.limits.heartbeat_ms))


def _unsupported(clause: str, text: str) -> PeerError:
    return PeerError(ErrorCode.VERSION_UNSUPPORTED, clause, text, message_type=MessageType.HELLO)
