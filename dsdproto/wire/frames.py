"""Frames: ``u24 payload length | u8 type | u32 channel | payload``, all big-endian (SPEC.md, "Frames").

The decoder takes the byte stream in pieces of any size and gives back whole frames. The length is checked as
soon as the header is there, before anything of the payload is waited for (clause F-3). Time is linear in the
bytes fed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dsdproto.errors import LocalError, PeerError
from dsdproto.registry import FRAME_HEADER_BYTES, MAX_PAYLOAD, ErrorCode

MAX_LENGTH = (1 << 24) - 1
MAX_CHANNEL = (1 << 32) - 1


class Frame(NamedTuple):
    type: int
    channel: int
    payload: bytes


def encode_frame(type: int, channel: int, payload: bytes) -> bytes:
    """Header and payload in one string. Raises LocalError when one of the three does not fit."""
    if not 0 <= type <= 255:
        raise LocalError(f"frame type {type} is outside 0..255")
    if not 0 <= channel <= MAX_CHANNEL:
        raise LocalError(f"channel {channel} is outside 0..{MAX_CHANNEL}")
    if len(payload) > MAX_LENGTH:
        raise LocalError(f"a payload of {len(payload)} bytes; a frame holds at most {MAX_LENGTH}")
    return ((len(payload) << 40) | (type << 32) | channel).to_bytes(FRAME_HEADER_BYTES, "big") + payload


class FrameDecoder:
    """Incremental decoder of one direction of one connection.

    :param max_payload: cap in bytes; may be changed at any time and holds from the next header on.
    """

    def __init__(self, max_payload: int = MAX_PAYLOAD) -> None:
        self.max_payload = max_payload
        self._buffer = bytearray()
        self._start = 0
        self._failed: PeerError | None = None

    @property
    def buffered(self) -> int:
        """Bytes of an unfinished frame (or of frames not yet taken from the iterator)."""
        return len(self._buffer) - self._start

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take ``data``; the iterator gives every frame that is complete now.

        The iterator raises PeerError(FRAME_TOO_LONG) at a header beyond the cap, after the frames before it;
        the stream cannot be followed from there and every later call raises the same error.
        """
        if self._failed is None:
            self._buffer += data
        return self._frames()

    def finish(self) -> None:
        """The stream ended. Raises PeerError(FRAME_MALFORMED) when that is in the middle of a frame (clause
        F-5).
        """
        if self.buffered:
            text = f"the stream ended {self.buffered} bytes into a frame"
            raise PeerError(ErrorCode.FRAME_MALFORMED, "F-5", text)

    def _frames(self) -> Iterator[Frame]:
        if self._failed is not None:
            raise self._failed
        buffer = self._buffer
        try:
            while len(buffer) - self._start >= FRAME_HEADER_BYTES:
                start = self._start
                head = int.from_bytes(buffer[start : start + FRAME_HEADER_BYTES], "big")
                length, type_ = head >> 40, head >> 32 & 0xFF
                if length > self.max_payload:
                    self._fail(length, type_)
                end = start + FRAME_HEADER_BYTES + length
                if end > len(buffer):
                    return
                self._start = end
                yield Frame(type_, head & MAX_CHANNEL, bytes(buffer[start + FRAME_HEADER_BYTES : end]))
        finally:
            # Once a call, not once a frame: dropping the front of the buffer costs its length.
            del buffer[: self._start]
            self._start = 0

    def _fail(self, length: int, type_: int) -> None:
        text = f"a payload of {length} bytes; at most {self.max_payload} are accepted"
        self._failed = PeerError(ErrorCode.FRAME_TOO_LONG, "F-2", text, offset=0, message_type=type_)
        self._buffer.clear()
        self._start = 0
        raise self._failed
