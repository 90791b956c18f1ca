"""A few nodes of pure machines on a virtual clock, joined by byte streams that are written down.

Everything is a function of the script: no wall clock, no threads, no sockets. TM-1 models answer after a fixed time,
what is to be stored is stored at once, and each frame takes the delay of its link.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from typing import Any

from conformance.examples.python.models import draft, verify
from dsdproto.connection import Connection, Side
from dsdproto.effects import (
    CancelTimer,
    CloseLink,
    Compute,
    Computed,
    Deliver,
    Effect,
    Event,
    Persist,
    Refuse,
    Send,
    SetTimer,
    TimerFired,
)
from dsdproto.node import NodeMachine
from dsdproto.registry import FRAME_HEADER_BYTES, Role
from dsdproto.roles.work import DraftWork, VerifyWork
from dsdproto.testmodel import TestModel

DELAY = 0.002
FORWARD = 0.010
EXPAND = 0.003


@dataclass
class Node:
    """One node: its machine, its models, and what came and went on its links, in its own order."""

    name: str
    machine: NodeMachine
    target: TestModel | None = None
    draft: TestModel | None = None
    forward: float = FORWARD
    expand: float = EXPAND
    log: list[tuple[int, str, bytes]] = field(default_factory=list)
    """(link, "in", "out" or "lost", one frame)"""
    ends: dict[int, Connection] = field(default_factory=dict)
    sides: dict[int, tuple[Side, bytes]] = field(default_factory=dict)
    """side and the peer's node id, of all links that there ever were"""
    delivered: list[Any] = field(default_factory=list)
    timers: dict[Any, int] = field(default_factory=dict)
    dead: bool = False


class World:
    """:param seed: decides the grease."""

    def __init__(self, seed: str) -> None:
        self.now = 0.0
        self.seed = seed
        self.nodes: dict[str, Node] = {}
        self.wires: dict[int, tuple[str, int, str, float]] = {}
        """link -> own node, the peer's link, the peer's node, delay"""
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._links = count(1)

    # ------------------------------------------------------------ building

    def add(self, node: Node) -> Node:
        self.nodes[node.name] = node
        self.perform(node, node.machine.start(self.now))
        return node

    def connect(self, dialer: str, acceptor: str, delay: float = DELAY) -> tuple[int, int]:
        """A link; returns its number at both ends. Frames flow as the clock goes on."""
        one, other = next(self._links), next(self._links)
        for link, name, peer, side in ((one, dialer, acceptor, Side.DIALER), (other, acceptor, dialer, Side.ACCEPTOR)):
            node, far = self.nodes[name], self.nodes[peer]
            entropy = sha256(f"{self.seed}/{name}/{link}".encode()).digest()
            hello = node.machine.hello
            peer_id = far.machine.hello.node_id
            node.ends[link] = Connection(side, hello, peer_id, entropy, self.now, link=link)
            node.sides[link] = (side, peer_id)
        self.wires[one] = (dialer, other, acceptor, delay)
        self.wires[other] = (acceptor, one, dialer, delay)
        self.flush(self.nodes[acceptor], other)
        return one, other

    def cut(self, link: int) -> None:
        """A link is lost, at both ends at once."""
        name, far, peer, _ = self.wires[link]
        for each, number in ((self.nodes[name], link), (self.nodes[peer], far)):
            self.lose(each, number)

    def kill(self, name: str) -> None:
        node = self.nodes[name]
        node.dead = True
        for link in list(node.ends):
            self.lose(self.nodes[self.wires[link][2]], self.wires[link][1])

    def lose(self, node: Node, link: int) -> None:
        end = node.ends.pop(link, None)
        if end is None or node.dead:
            return
        node.log.append((link, "lost", b""))
        for event in end.eof():
            self.event(node, event)

    # ------------------------------------------------------------ running

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), action))

    def run(self, until: Callable[[], bool], limit: float = 60.0) -> None:
        """Let things happen until it is so. Raises ValueError when nothing is left to happen, or it takes too long."""
        while not until():
            if not self._heap or self.now > limit:
                raise ValueError(f"at {self.now:.3f} s: what the script waits for does not come")
            self.now, _, action = heapq.heappop(self._heap)
            action()

    def event(self, node: Node, event: Event) -> None:
        if not node.dead:
            self.perform(node, node.machine.handle(event, self.now))

    def do(self, node: Node, role: Role, effects: list[Effect]) -> None:
        """Effects that a role's machine gave outside of an event (a client that opens a session, say)."""
        self.perform(node, node.machine.perform(role, effects, self.now))

    def perform(self, node: Node, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(link, _, _) | Refuse(link, _, _) | CloseLink(link, _):
                    if link in node.ends:
                        events = node.ends[link].perform(effect)
                        self.flush(node, link)
                        for event in events:
                            self.event(node, event)
                case Persist():
                    self.perform(node, node.machine.persisted(effect, self.now))
                case SetTimer(key, at):
                    self.timer(node, key, at)
                case CancelTimer(key):
                    node.timers.pop(key, None)
                case Compute(job, work):
                    self.compute(node, job, work)
                case Deliver(item):
                    node.delivered.append(item)

    def timer(self, node: Node, key: Any, at: float) -> None:
        number = node.timers[key] = next(self._order)

        def fire() -> None:
            if node.timers.get(key) == number:
                del node.timers[key]
                self.event(node, TimerFired(key))

        self.later(max(0.0, at - self.now), fire)

    def compute(self, node: Node, job: Any, work: VerifyWork | DraftWork) -> None:
        if isinstance(work, VerifyWork):
            assert node.target is not None
            result: Any = verify(node.target, work, FORWARD)
            seconds = node.forward if work.score else 0.0
        else:
            assert node.draft is not None
            result = draft(node.draft, work, EXPAND)
            seconds = node.expand if work.expand else 0.0
        self.later(seconds, lambda: self.event(node, Computed(job, result=result)))

    # ------------------------------------------------------------ bytes

    def flush(self, node: Node, link: int) -> None:
        """Take what a connection has to say, frame by frame, and send it on its way."""
        data = node.ends[link].data_to_send()
        _, far, peer, delay = self.wires[link]
        while data:
            end = FRAME_HEADER_BYTES + int.from_bytes(data[:3], "big")
            frame, data = data[:end], data[end:]
            node.log.append((link, "out", frame))
            self.later(delay, lambda frame=frame: self.arrive(self.nodes[peer], far, frame))

    def beat(self, node: Node) -> None:
        """Let a node's connections see what time it is."""
        for link, end in list(node.ends.items()):
            for event in end.tick(self.now):
                self.event(node, event)
            self.flush(node, link)

    def arrive(self, node: Node, link: int, frame: bytes) -> None:
        end = node.ends.get(link)
        if end is None or node.dead:
            return
        node.log.append((link, "in", frame))
        events = end.receive(frame, self.now)
        self.flush(node, link)
        for event in events:
            self.event(node, event)
        if end.closed:
            node.ends.pop(link, None)
