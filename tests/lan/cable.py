"""Slow cables in user space, for kernels without netem: ``python -m tests.lan.cable JSON`` in the switch's namespace.

For each port P two TAP devices, ``P`` and ``P-far``; a frame that goes in at one comes out at the other after
``seconds`` +- ``jitter``, in order. The devices may be moved to other namespaces. Ends when stdin ends.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import selectors
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
MAX_FRAME = 1 << 16


def open_tap(name: str) -> int:
    """File descriptor of a new TAP device in this process's namespace."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return device


def main() -> None:
    options = json.loads(sys.argv[1])
    rng = random.Random(1)
    ready = selectors.DefaultSelector()
    ready.register(sys.stdin, selectors.EVENT_READ, None)
    last: dict[int, float] = {}
    for port in options["ports"]:
        near, far = open_tap(port), open_tap(f"{port}-far")
        for one, other in ((near, far), (far, near)):
            ready.register(one, selectors.EVENT_READ, other)
            last[other] = 0.0
    print("ready", flush=True)
    waiting: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        pause = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for key, _ in ready.select(pause):
            if key.data is None:
                return
            due = time.monotonic() + options["seconds"] + rng.uniform(-1, 1) * options["jitter"]
            due = last[key.data] = max(due, last[key.data])
            count += 1
            try:
                heapq.heappush(waiting, (due, count, key.data, os.read(key.fd, MAX_FRAME)))
            except OSError:
                continue  # the device is down
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, sink, frame = heapq.heappop(waiting)
            try:
                os.write(sink, frame)
            except OSError:
                continue  # the device is down: the frame is lost, as it would be on a wire


if __name__ == "__main__":
    main()
