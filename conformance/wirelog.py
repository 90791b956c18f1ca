"""What crossed the wire while a case ran, in order and byte for byte. :mod:`conformance.report` decodes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

MAX_ENTRIES = 2000
MAX_BYTES = 1 << 16


class Direction(StrEnum):
    """As the suite sees it."""

    SENT = "sent"
    RECEIVED = "received"
    EVENT = "event"
    """No bytes: connected, handshake refused, closed, waited."""


@dataclass(frozen=True)
class Entry:
    t: float
    """Seconds since the case began."""
    direction: Direction
    peer: str
    """Who of the suite's peers spoke or was spoken to: `drafter-1`, `client`, `stdio`."""
    data: bytes = b""
    text: str = ""
    """Of an event: what happened. Beside bytes: a remark, such as what is wrong with them on purpose."""
    door: bool = False
    """The bytes are a JSON line of the exec door, not frames."""
    size: int = 0
    """Length before it was cut."""


class WireLog:
    """Append-only; bounded, so that a flood does not fill the report. Cut entries keep their true ``size``."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._start = clock()
        self.entries: list[Entry] = []
        self.dropped = 0

    def sent(self, peer: str, data: bytes, remark: str = "") -> None:
        """Bytes that the suite wrote: one frame, several, or part of one."""
        self._add(Direction.SENT, peer, bytes(data), remark)

    def received(self, peer: str, data: bytes, remark: str = "") -> None:
        """Bytes that the testee wrote, best one frame at a time."""
        self._add(Direction.RECEIVED, peer, bytes(data), remark)

    def event(self, peer: str, text: str) -> None:
        self._add(Direction.EVENT, peer, b"", text)

    def asked(self, line: bytes, peer: str = "stdio") -> None:
        """A JSON line to the testee's standard input."""
        self._add(Direction.SENT, peer, line, "", door=True)

    def answered(self, line: bytes, peer: str = "stdio") -> None:
        """A line of the testee's standard output, as it came."""
        self._add(Direction.RECEIVED, peer, line, "", door=True)

    def _add(self, direction: Direction, peer: str, data: bytes, text: str, *, door: bool = False) -> None:
        if len(self.entries) >= MAX_ENTRIES:
            self.dropped += 1
            return
        t = self._clock() - self._start
        self.entries.append(Entry(t, direction, peer, data[:MAX_BYTES], text, door, len(data)))
