"""Many nodes on one heap of timed events: one seed-free, deterministic run of the very machines that serve live.

Here the network is kind: messages arrive after the link's delay, in order, through the codec, as they would on a wire.
:mod:`reference_nodes.simulator.network` makes it unkind. Time is a number; nothing sleeps. Backends are called in line,
and the time that they would take is a function given by the caller.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dsdproto.effects import Computed, Effect, LinkDown, LinkUp, Received
from dsdproto.registry import FRAME_HEADER_BYTES, Feature
from dsdproto.wire.codec import decode_message, encode_message
from dsdproto.wire.frames import Frame
from reference_nodes.simulator.host import SimNode

__all__ = ["ALL_FEATURES", "SimLink", "SimNode", "World"]

ALL_FEATURES = frozenset(int(feature) for feature in Feature)


@dataclass(slots=True, eq=False)
class SimLink:
    """A connection between two nodes; ``delay`` is one way, in seconds."""

    ends: tuple[tuple[str, int], tuple[str, int]]
    delay: float
    open: list[bool] = field(default_factory=lambda: [True, True])
    """by end: it has not learned of the link's death"""
    bytes: int = 0
    messages: int = 0
    intercept: Callable[[str, int, Any], list[tuple[float, Any]]] | None = None
    """``(sender, channel, message) -> [(extra delay, message), ...]``: loses, delays, repeats or replaces messages"""

    @property
    def up(self) -> bool:
        return self.open[0] and self.open[1]

    def side(self, name: str) -> int:
        """0 for the dialer, 1 for the acceptor."""
        return 0 if self.ends[0][0] == name else 1


class World:
    """Owns the clock and the heap. Same calls in the same order give the same run."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes: dict[str, SimNode] = {}
        self.links: list[SimLink] = []
        self.log: list[tuple[float, str, str, Any]] = []
        self.observe: Callable[[SimNode, Any], None] | None = None
        """called after each event that a node handled, for example to check invariants"""
        self.events = 0
        """taken off the heap so far"""
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._next_link = 1
        self._by_end: dict[tuple[str, int], SimLink] = {}

    # ------------------------------------------------------------ building

    def add(self, node: SimNode) -> SimNode:
        """Add a node and bring up its local link."""
        self.nodes[node.name] = node
        node.world = self
        node.boot()
        return node

    def connect(
        self, dialer: str, acceptor: str, delay: float = 0.0, features: frozenset[int] = ALL_FEATURES
    ) -> SimLink:
        """Connect two nodes, as after a finished handshake that agreed on ``features``."""
        a, b = self.nodes[dialer], self.nodes[acceptor]
        first, second = self._next_link, self._next_link + 1
        self._next_link += 2
        link = SimLink(((dialer, first), (acceptor, second)), delay)
        self.links.append(link)
        self._by_end[(dialer, first)] = self._by_end[(acceptor, second)] = link
        a.handle(LinkUp(first, b.machine.hello, features, True))
        b.handle(LinkUp(second, a.machine.hello, features, False))
        return link

    def cut(self, link: SimLink, reason: str = "cut") -> None:
        """Break a connection; what is on its way is lost, both ends learn of it at once."""
        was, link.open = link.open, [False, False]
        for (name, number), opened in zip(link.ends, was):
            if opened:
                self.nodes[name].handle(LinkDown(number, reason))

    def crash(self, name: str) -> None:
        """Stop a node for good; its peers see their links break."""
        self.nodes[name].alive = False
        for link in list(self.links):
            if link.up and name in (link.ends[0][0], link.ends[1][0]):
                self.cut(link, f"{name} crashed")

    def perform(self, name: str, effects: list[Effect]) -> None:
        """Perform effects that the caller got from a node's machine."""
        self.nodes[name].perform(effects)

    # ------------------------------------------------------------ running

    def at(self, time: float, action: Callable[..., None], *args: Any) -> None:
        """Call ``action`` at a time; equal times in the order of the calls."""
        self._order += 1
        heapq.heappush(self._heap, (time, self._order, action, args))

    def run(self, until: Callable[[], bool] | None = None, *, max_events: int = 1_000_000) -> bool:
        """Run until ``until()`` holds (True) or nothing is left to happen (False, or True without ``until``)."""
        for _ in range(max_events):
            if until is not None and until():
                return True
            if not self._heap:
                return until is None
            self.step()
        raise RuntimeError(f"{max_events} events and no end; time is {self.now:.3f} s")

    def step(self) -> None:
        """Let the next thing happen."""
        self.now, _, action, args = heapq.heappop(self._heap)
        self.events += 1
        action(*args)

    # ------------------------------------------------------------ what nodes do

    def close(self, node: SimNode, number: int, reason: str) -> None:
        """A node hangs up."""
        self.cut(self._by_end[(node.name, number)], reason)

    def send(self, node: SimNode, number: int, channel: int, message: Any) -> None:
        """A node's message sets out."""
        link = self._by_end[(node.name, number)]
        if not link.up:
            return
        copies = [(0.0, message)] if link.intercept is None else link.intercept(node.name, channel, message)
        for extra, copy in copies:
            wire = encode_message(channel, copy)
            link.bytes += len(wire)
            link.messages += 1
            self.log.append((self.now, node.name, type(copy).__name__, copy))
            self.at(self.now + link.delay + extra, self._arrive, link, node.name, wire)

    def _arrive(self, link: SimLink, sender: str, wire: bytes) -> None:
        if not link.up:
            return
        name, number = link.ends[1 - link.side(sender)]
        received = through_codec(wire)
        if received is not None:
            self.nodes[name].handle(Received(number, *received))

    def compute(self, node: SimNode, job: Any, result: Any, took: float) -> None:
        """A node's backend is busy for ``took`` seconds."""
        self.at(self.now + took, node.later, node.life, Computed(job, result))

    def note(self, node: SimNode, kind: str, what: Any) -> None:
        """Something worth a line in a chart happened on a node."""


def through_codec(wire: bytes) -> tuple[int, Any] | None:
    """(channel, message) of an encoded frame; None for a type that is to be ignored. Raises PeerError."""
    channel = int.from_bytes(wire[4:FRAME_HEADER_BYTES], "big")
    message = decode_message(Frame(wire[3], channel, wire[FRAME_HEADER_BYTES:]))
    return None if message is None else (channel, message)
