"""Many nodes on one heap of timed events: one seed-free, deterministic run of the very machines that serve live.

Every message crosses the codec, as it would on a wire. Time is a number; nothing sleeps. Backends are called in line,
and the time that they would take is a function given by the caller.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from dsdproto.effects import (
    CancelTimer,
    CloseLink,
    Compute,
    Computed,
    Deliver,
    Effect,
    LinkDown,
    LinkUp,
    Persist,
    Received,
    Refuse,
    Send,
    SetTimer,
    TimerFired,
)
from dsdproto.node import NodeMachine
from dsdproto.registry import FRAME_HEADER_BYTES, Feature, Scope
from dsdproto.wire.codec import decode_message, encode_message
from dsdproto.wire.frames import Frame

ALL_FEATURES = frozenset(int(feature) for feature in Feature)
Duration = Callable[[Any], float]
"""Seconds that a piece of work takes."""


@dataclass(slots=True)
class SimNode:
    """One node: its machine, what runs its Compute work, and what its application was given."""

    name: str
    machine: NodeMachine
    run: dict[Any, tuple[Callable[[Any], Any], Duration]] = field(default_factory=dict)
    """by role: the executor, and how long it takes"""
    delivered: list[Any] = field(default_factory=list)
    stored: list[Any] = field(default_factory=list)
    timers: dict[Any, float] = field(default_factory=dict)
    alive: bool = True
    on_deliver: Callable[[Any], None] | None = None


@dataclass(slots=True)
class SimLink:
    """A connection between two nodes; ``delay`` is one way, in seconds."""

    ends: tuple[tuple[str, int], tuple[str, int]]
    delay: float
    up: bool = True
    bytes: int = 0
    messages: int = 0
    intercept: Callable[[str, int, Any], list[tuple[float, Any]]] | None = None
    """``(sender, channel, message) -> [(extra delay, message), ...]``: loses, delays, repeats or replaces messages"""


class World:
    """Owns the clock and the heap. Same calls in the same order give the same run."""

    def __init__(self) -> None:
        self.now = 0.0
        self.nodes: dict[str, SimNode] = {}
        self.links: list[SimLink] = []
        self.log: list[tuple[float, str, str, Any]] = []
        self.observe: Callable[[SimNode, Any], None] | None = None
        """called after each event that a node handled, for example to check invariants"""
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._next_link = 1
        self._by_end: dict[tuple[str, int], SimLink] = {}

    # ------------------------------------------------------------ building

    def add(self, node: SimNode) -> SimNode:
        """Add a node and bring up its local link."""
        self.nodes[node.name] = node
        self._perform(node, node.machine.start(self.now))
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
        self._handle(a, LinkUp(first, b.machine.hello, features, True))
        self._handle(b, LinkUp(second, a.machine.hello, features, False))
        return link

    def cut(self, link: SimLink, reason: str = "cut") -> None:
        """Break a connection; what is on its way is lost, both ends learn of it at once."""
        if not link.up:
            return
        link.up = False
        for name, number in link.ends:
            if self.nodes[name].alive:
                self._handle(self.nodes[name], LinkDown(number, reason))

    def crash(self, name: str) -> None:
        """Stop a node for good; its peers see their links break."""
        self.nodes[name].alive = False
        for link in self.links:
            if name in (link.ends[0][0], link.ends[1][0]):
                self.cut(link, f"{name} crashed")

    def perform(self, name: str, effects: list[Effect]) -> None:
        """Perform effects that the caller got from a node's machine."""
        self._perform(self.nodes[name], effects)

    # ------------------------------------------------------------ running

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Call ``action`` at a time; equal times in the order of the calls."""
        self._order += 1
        heapq.heappush(self._heap, (time, self._order, action))

    def run(self, until: Callable[[], bool] | None = None, *, max_events: int = 1_000_000) -> bool:
        """Run until ``until()`` holds (True) or nothing is left to happen (False, or True without ``until``)."""
        for _ in range(max_events):
            if until is not None and until():
                return True
            if not self._heap:
                return until is None
            self.now, _, action = heapq.heappop(self._heap)
            action()
        raise RuntimeError(f"{max_events} events and no end; time is {self.now:.3f} s")

    def _handle(self, node: SimNode, event: Any) -> None:
        if not node.alive:
            return
        effects = node.machine.handle(event, self.now)
        if self.observe is not None:
            self.observe(node, event)
        self._perform(node, effects)

    def _perform(self, node: SimNode, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(link, channel, message):
                    self._send(node, link, channel, message)
                case Refuse(link, channel, error):
                    self._send(node, link, channel if error.scope == Scope.SESSION else 0, error.reply)
                    if error.scope == Scope.CONNECTION:
                        self.cut(self._by_end[(node.name, link)], error.text)
                case SetTimer(key, at):
                    node.timers[key] = at
                    self.at(at, lambda key=key, at=at: self._fire(node, key, at))
                case CancelTimer(key):
                    node.timers.pop(key, None)
                case Persist():
                    node.stored.append(effect.record)
                    self._perform(node, node.machine.persisted(effect, self.now))
                case Compute(job, work):
                    execute, duration = node.run[job[0]]
                    took = duration(work)
                    # What the real executor took has no place in a virtual world, nor in what machines learn from it.
                    result = replace(execute(work), seconds=took)
                    self.at(self.now + took, lambda job=job, r=result: self._handle(node, Computed(job, r)))
                case Deliver(item):
                    node.delivered.append(item)
                    if node.on_deliver is not None:
                        node.on_deliver(item)
                case CloseLink(link, reason):
                    self.cut(self._by_end[(node.name, link)], reason)

    def _fire(self, node: SimNode, key: Any, at: float) -> None:
        if node.timers.get(key) == at:
            del node.timers[key]
            self._handle(node, TimerFired(key))

    def _send(self, node: SimNode, number: int, channel: int, message: Any) -> None:
        link = self._by_end[(node.name, number)]
        if not link.up:
            return
        copies = [(0.0, message)] if link.intercept is None else link.intercept(node.name, channel, message)
        for extra, copy in copies:
            wire = encode_message(channel, copy)
            link.bytes += len(wire)
            link.messages += 1
            self.log.append((self.now, node.name, type(copy).__name__, copy))
            self.at(self.now + link.delay + extra, lambda wire=wire: self._arrive(link, node.name, wire))

    def _arrive(self, link: SimLink, sender: str, wire: bytes) -> None:
        if not link.up:
            return
        name, number = link.ends[1] if link.ends[0][0] == sender else link.ends[0]
        channel = int.from_bytes(wire[4:FRAME_HEADER_BYTES], "big")
        message = decode_message(Frame(wire[3], channel, wire[FRAME_HEADER_BYTES:]))
        if message is not None:
            self._handle(self.nodes[name], Received(number, channel, message))
