"""The LAN where nothing is permitted: machines are processes on loopback, and each connection passes through a proxy.

A proxy cannot drop packets, so faults look as TCP shows them to a program: what is cut stalls and arrives after the
heal, unless somebody hung up before; what is lost arrives one retransmission later. One listener for each pair of
machines, on a port that it keeps; servers may come back on another.
"""

from __future__ import annotations

import math
import random
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import trio

from tests.lan.lan import Delay, Lan

HOST = "127.0.0.1"
CHUNK = 1 << 16
BUFFER = 64
"""chunks on their way in one direction"""
PACKET = 1448
"""bytes, of those that are lost"""
RETRANSMISSION = 0.2
"""Seconds until a lost packet is sent again: Linux' least."""


class _Road:
    """What happens to bytes from one machine to another."""

    def __init__(self, delay: Delay, rng: random.Random) -> None:
        self._delay = delay
        self._rng = rng
        self.loss = 0.0
        self.lost = 0
        self.open = trio.Event()
        self.open.set()

    def set_open(self, now_open: bool) -> None:
        if now_open:
            self.open.set()
        elif self.open.is_set():
            self.open = trio.Event()

    def seconds(self, size: int) -> float:
        """That a chunk of this many bytes takes, this time."""
        late = self._delay.seconds + self._rng.uniform(-1, 1) * self._delay.jitter
        lost = self.loss and any(self._rng.random() < self.loss for _ in range(math.ceil(size / PACKET)))
        self.lost += bool(lost)
        return late + RETRANSMISSION if lost else late


class LoopbackLan(Lan):
    kind = "loopback"

    def __init__(self, machines: Sequence[str], delay: Delay | None) -> None:
        super().__init__(machines)
        rng = random.Random(1)
        self._roads = {
            (one, other): _Road(delay or Delay(0.0), rng) for one in machines for other in machines if one != other
        }
        self._listeners: dict[tuple[str, str], socket.socket] = {}
        self._ports: dict[tuple[str, str], int] = {}
        self._servers: dict[str, int] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._unplugged: set[str] = set()
        for pair in self._roads:
            listener = self._listeners[pair] = socket.create_server((HOST, 0))
            self._ports[pair] = listener.getsockname()[1]
        self._token: trio.lowlevel.TrioToken
        self._ready = threading.Event()
        self._end: trio.Event

    # ------------------------------------------------------------ processes

    def command(self, machine: str) -> list[str]:
        return []

    def listen(self, machine: str) -> tuple[str, int]:
        return HOST, 0

    def listening(self, machine: str, port: int) -> None:
        self._servers[machine] = port

    def address(self, source: str, target: str) -> str:
        return f"{HOST}:{self._ports[source, target]}"

    # ------------------------------------------------------------ faults

    def cut(self, source: str, target: str) -> None:
        self._cuts.add((source, target))
        self._apply()

    def unplug(self, machine: str) -> None:
        self._unplugged.add(machine)
        self._apply()

    def plug(self, machine: str) -> None:
        self._unplugged.discard(machine)
        self._apply()

    def lose(self, share: float) -> None:
        for road in self._roads.values():
            road.loss, road.lost = share, 0

    def lost(self) -> int:
        return sum(road.lost for road in self._roads.values())

    def heal(self) -> None:
        self._cuts.clear()
        self._unplugged.clear()
        self.lose(0.0)
        self._apply()

    def _apply(self) -> None:
        def change() -> None:
            for pair, road in self._roads.items():
                road.set_open(pair not in self._cuts and not self._unplugged & set(pair))

        self._in_loop(change)

    # ------------------------------------------------------------ the proxy, a Trio loop in a thread of its own

    def _in_loop(self, function: Callable[[], Any]) -> None:
        trio.from_thread.run_sync(function, trio_token=self._token)

    def start(self) -> None:
        threading.Thread(target=trio.run, args=(self._main,), daemon=True).start()
        self._ready.wait()

    def stop(self) -> None:
        self._in_loop(self._end.set)
        self._finished.wait()

    async def _main(self) -> None:
        self._token, self._end, self._finished = trio.lowlevel.current_trio_token(), trio.Event(), threading.Event()
        async with trio.open_nursery() as nursery:
            for pair, listener in self._listeners.items():
                stream = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
                nursery.start_soon(self._accept, stream, pair, nursery)
            self._ready.set()
            await self._end.wait()
            nursery.cancel_scope.cancel()
        self._finished.set()

    async def _accept(self, listener: trio.SocketListener, pair: tuple[str, str], nursery: trio.Nursery) -> None:
        async with listener:
            while True:
                nursery.start_soon(self._connection, await listener.accept(), *pair)

    async def _connection(self, near: trio.SocketStream, source: str, target: str) -> None:
        there, back = self._roads[source, target], self._roads[target, source]
        async with near:
            # The system has accepted already; a handshake through a cut would not have ended.
            await _passable(there, back)
            try:
                far = await trio.open_tcp_stream(HOST, self._servers.get(target, 0))
            except OSError:
                near.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an end
                return
            async with far, trio.open_nursery() as nursery:
                nursery.start_soon(_carry, near, far, there, nursery.cancel_scope)
                nursery.start_soon(_carry, far, near, back, nursery.cancel_scope)


async def _passable(*roads: _Road) -> None:
    while not all(road.open.is_set() for road in roads):
        for road in roads:
            await road.open.wait()


async def _carry(source: trio.SocketStream, sink: trio.SocketStream, road: _Road, both: trio.CancelScope) -> None:
    """One direction of one connection, up to its end; a broken connection takes the other direction along."""
    send, receive = trio.open_memory_channel[tuple[float, bytes | None]](BUFFER)

    async def read() -> None:
        last = 0.0
        data: bytes | None = b"?"
        while data:
            try:
                data = await source.receive_some(CHUNK)
            except trio.BrokenResourceError:
                data = None
            last = max(last, trio.current_time() + road.seconds(len(data or b"")))
            await send.send((last, data))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        async for due, data in receive:
            await trio.sleep_until(due)
            await _passable(road)
            try:
                if data:
                    await sink.send_all(data)
                elif data is None:
                    both.cancel()
                else:
                    await sink.send_eof()
                    return
            except trio.BrokenResourceError:
                both.cancel()


@contextmanager
def open_loopback(machines: Sequence[str], delay: Delay | None) -> Iterator[LoopbackLan]:
    lan = LoopbackLan(machines, delay)
    lan.start()
    try:
        yield lan
    finally:
        lan.stop()
