"""Links that can be bent: each is a TCP address of the suite behind which one node finds another.

Nodes speak TLS end to end through them, so nothing in between can be read or changed: what the network can do to them
is to be late, slow, silent, one-sided or gone, anywhere, also in the middle of a frame.
"""

from __future__ import annotations

import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from conformance.trial import Trial

CHUNK = 1 << 14
QUEUED = 64
"""Pieces under way in one direction; the sender waits beyond that, as it does where the path is full."""
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: a close becomes a reset."""
Pieces = trio.MemorySendChannel[tuple[float, bytes]]
"""(when it is due, bytes)"""
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@dataclass
class Way:
    """One direction of a link, of all connections over it.

    :param delay: seconds that each piece is under way; ``jitter`` more, at most. The order stays.
    :param piece: bytes that arrive at a time; 0: as they were sent.
    :param pace: seconds between two such pieces.
    :param allowance: bytes that still pass before the connection that carries them is cut; None: no such end.
    """

    delay: float = 0.0
    jitter: float = 0.0
    piece: int = 0
    pace: float = 0.0
    allowance: int | None = None
    passed: int = 0
    """bytes that came through so far"""
    held: bool = False
    """nothing passes: what is under way waits"""
    changed: trio.Event = field(default_factory=trio.Event)

    def set(self, **values: float | int | bool | None) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        self.changed.set()
        self.changed = trio.Event()

    async def open(self) -> None:
        """Until something may pass."""
        while self.held:
            await self.changed.wait()


class Wire:
    """How ``near`` reaches ``far``: it dials :attr:`address`.

    :param target: where ``far`` listens now; None: nowhere.
    """

    def __init__(
        self, name: str, target: Callable[[], tuple[str, int] | None], rng: random.Random, trial: Trial
    ) -> None:
        self.name = name
        self.target = target
        self.rng = rng
        self.trial = trial
        self.there = Way()
        """from who dials to who is dialed"""
        self.back = Way()
        self.shut = False
        """new connections are refused"""
        self.faults = 0
        """how often it was bent so far, in a way that a connection may not survive"""
        self.opened = 0
        """connections so far"""
        self._lines: list[_Line] = []
        self._listener: trio.SocketListener | None = None

    # ------------------------------------------------------------ what the network does

    @property
    def ways(self) -> tuple[Way, Way]:
        return self.there, self.back

    @property
    def bent(self) -> bool:
        """Whether it is out of order now."""
        return self.shut or self.there.held or self.back.held or self.target() is None

    def tell(self, text: str) -> None:
        self.trial.wire.event(f"network {self.name}", text)

    def slow(self, delay: float = 0.0, jitter: float = 0.0, piece: int = 0, pace: float = 0.0) -> None:
        """Both ways from now on; without arguments as fast as it goes."""
        for way in self.ways:
            way.set(delay=delay, jitter=jitter, piece=piece, pace=pace)

    def hold(self, *ways: Way) -> None:
        """Nothing passes on these ways (default: both): connections stay up and silent, new ones come about no more."""
        self._bend("held" + ("" if len(ways) != 1 else " one way"))
        for way in ways or self.ways:
            way.set(held=True)

    def free(self) -> None:
        """All is well again; what was held arrives."""
        self.tell("free")
        self.shut = False
        for way in self.ways:
            way.set(held=False, allowance=None)

    def cut(self, *, reset: bool = True) -> int:
        """End all connections, by a reset or in good order (as TCP sees it). Gives their number."""
        self._bend("cut" if reset else "closed")
        lines, self._lines = self._lines, []
        for line in lines:
            line.end(reset)
        return len(lines)

    def part(self) -> None:
        """No connection lives, and none comes about until :meth:`free`."""
        self.shut = True
        self.cut()

    def half_close(self, way: Way) -> None:
        """What goes on ``way`` ends in good order, the other way goes on."""
        self._bend("half closed")
        for line in self._lines:
            line.half_close(way)

    def truncate(self, way: Way, size: int) -> None:
        """Cut once ``size`` more bytes have passed on ``way``, wherever in a frame that is."""
        self._bend(f"cut after {size} bytes")
        way.set(allowance=size)

    def _bend(self, text: str) -> None:
        self.faults += 1
        self.tell(text)

    @property
    def traffic(self) -> int:
        """Bytes both ways so far."""
        return self.there.passed + self.back.passed

    # ------------------------------------------------------------ the connections

    @property
    def address(self) -> tuple[str, int]:
        assert self._listener is not None
        host, port = self._listener.socket.getsockname()[:2]
        return host, port

    async def open(self) -> None:
        """Begin to listen. :meth:`serve` has to follow."""
        (self._listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve(self) -> None:
        assert self._listener is not None
        async with trio.open_nursery() as nursery:
            await trio.serve_listeners(self._accepted, [self._listener], handler_nursery=nursery)

    async def _accepted(self, near: trio.SocketStream) -> None:
        for way in self.ways:
            await way.open()
        target = self.target()
        if self.shut or target is None:
            _end(near, True)
            return
        try:
            far = await trio.open_tcp_stream(*target)
        except OSError:
            _end(near, True)
            return
        self.opened += 1
        line = _Line(self, near, far)
        self._lines.append(line)
        try:
            await line.run()
        finally:
            if line in self._lines:
                self._lines.remove(line)


class _Line:
    """One connection over a wire."""

    def __init__(self, wire: Wire, near: trio.SocketStream, far: trio.SocketStream) -> None:
        self.wire = wire
        self.near, self.far = near, far
        self._scope = trio.CancelScope()
        self._reset = False
        self._stopped: dict[int, trio.CancelScope] = {}
        for stream in (near, far):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._flow, self.wire.there, self.near, self.far)
                nursery.start_soon(self._flow, self.wire.back, self.far, self.near)
        for stream in (self.near, self.far):
            _end(stream, self._reset)

    def end(self, reset: bool) -> None:
        self._reset = reset
        self._scope.cancel()

    def half_close(self, way: Way) -> None:
        if (scope := self._stopped.get(id(way))) is not None:
            scope.cancel()

    async def _flow(self, way: Way, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        """One direction, to its end; a broken connection ends both."""
        send, receive = trio.open_memory_channel[tuple[float, bytes]](QUEUED)
        try:
            with trio.CancelScope() as self._stopped[id(way)]:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._take, way, source, send)
                    async with receive:
                        async for due, data in receive:
                            await trio.sleep_until(due)
                            await self._pass(way, data, sink)
            await sink.send_eof()
        except* BROKEN:
            self.end(True)

    async def _take(self, way: Way, source: trio.SocketStream, send: Pieces) -> None:
        last = 0.0
        async with send:
            while data := await source.receive_some(CHUNK):
                due = trio.current_time() + way.delay + way.jitter * self.wire.rng.random()
                last = max(last, due)
                await send.send((last, data))

    async def _pass(self, way: Way, data: bytes, sink: trio.SocketStream) -> None:
        waiting = deque([data])
        while waiting:
            await way.open()
            piece = waiting.popleft()
            if way.piece and len(piece) > way.piece:
                waiting.appendleft(piece[way.piece :])
                piece = piece[: way.piece]
            if way.allowance is not None and len(piece) >= way.allowance:
                piece = piece[: way.allowance]
                way.set(allowance=None)
                with suppress(*BROKEN):
                    await sink.send_all(piece)
                self.wire.tell("the bytes are used up: cut")
                self.end(False)
                await trio.sleep_forever()
            elif way.allowance is not None:
                way.allowance -= len(piece)
            await sink.send_all(piece)
            way.passed += len(piece)
            if way.pace:
                await trio.sleep(way.pace)


def _end(stream: trio.SocketStream, reset: bool) -> None:
    with suppress(OSError):
        if reset:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        stream.socket.close()
