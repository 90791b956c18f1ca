"""Counts what crosses a link: messages by type, bytes of frames, and beneath them bytes on the wire."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dsdproto.registry import FRAME_HEADER_BYTES, MessageType
from reference_nodes.transport import WireCount

_NAMES = {int(type_): type_.name for type_ in MessageType}


class FrameMeter:
    """Follows the frames of one direction by their headers alone."""

    def __init__(self) -> None:
        self.bytes = 0
        self.messages: Counter[int] = Counter()
        """by type code"""
        self._head = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> list[int]:
        """Take bytes in pieces of any size; returns the types of the frames whose headers ended in this piece."""
        self.bytes += len(data)
        types: list[int] = []
        at = 0
        if not self._skip and not self._head:
            # Mostly a piece is made of whole frames.
            while at + FRAME_HEADER_BYTES <= len(data):
                after = at + FRAME_HEADER_BYTES + int.from_bytes(data[at : at + 3], "big")
                if after > len(data):
                    break
                types.append(data[at + 3])
                at = after
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
            else:
                step = FRAME_HEADER_BYTES - len(self._head)
                self._head += data[at : at + step]
                if len(self._head) == FRAME_HEADER_BYTES:
                    types.append(self._head[3])
                    self._skip = int.from_bytes(self._head[:3], "big")
                    self._head.clear()
            at += step
        for code in types:
            self.messages[code] += 1
        return types


@dataclass(slots=True)
class Traffic:
    """Both directions of one link. Bytes on the wire hold TLS records and the TLS handshake, frames neither."""

    wire: WireCount = field(default_factory=WireCount)
    handshake: WireCount | None = None
    """the part of ``wire`` before the first frame; None: not seen"""
    received: FrameMeter = field(default_factory=FrameMeter)
    sent: FrameMeter = field(default_factory=FrameMeter)
    rtt: float | None = None
    """seconds from the last PING to its PONG"""
    _pinged: float | None = None

    def saw_sent(self, data: bytes, now: float) -> None:
        """Frames that were queued."""
        if MessageType.PING in self.sent.feed(data):
            self._pinged = now

    def saw_received(self, data: bytes, now: float) -> None:
        """Frames that arrived."""
        if MessageType.PONG in self.received.feed(data) and self._pinged is not None:
            self.rtt = now - self._pinged
            self._pinged = None

    def document(self) -> dict[str, Any]:
        """For the status document."""
        handshake = self.handshake
        return {
            "frame_bytes": {"received": self.received.bytes, "sent": self.sent.bytes},
            "wire_bytes": {"received": self.wire.received, "sent": self.wire.sent, "writes": self.wire.writes},
            "tls_handshake_bytes": None
            if handshake is None
            else {"received": handshake.received, "sent": handshake.sent},
            "messages": {"received": _by_name(self.received.messages), "sent": _by_name(self.sent.messages)},
        }


def _by_name(messages: Counter[int]) -> dict[str, int]:
    return {_NAMES.get(code, f"{code:#04x}"): count for code, count in sorted(messages.items())}
