"""A TCP relay that holds everything back for a while: a longer road, without privileges and on any system.

The delay can be changed while connections are up; what is under way keeps the one that it set out with.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time

from reference_nodes.bench.relay import Relay

LONGEST = 1 << 12
"""Pieces under way in one direction; then the sender waits, as for a full network."""


class SlowRelay(Relay):
    """A :class:`Relay` where bytes take ``rtt / 2`` seconds each way, in order, however many are under way."""

    def __init__(self, port: int, rtt: float = 0.0) -> None:
        self.rtt = rtt
        """seconds there and back, besides what a loopback connection takes"""
        super().__init__(port)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(LONGEST)
        threading.Thread(target=self._deliver, args=(under_way, sink), daemon=True).start()
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                under_way.put((time.monotonic() + self.rtt / 2, data))
                self.count += len(data)
        under_way.put((time.monotonic() + self.rtt / 2, b""))

    @staticmethod
    def _deliver(under_way: queue.Queue[tuple[float, bytes]], sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                due, data = under_way.get()
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                if not data:
                    break
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
            return
        # The far end is gone: take what still comes, so that the reader never waits for room.
        while under_way.get()[1]:
            continue
