"""A network where everything goes wrong, and the nodes on it with it.

Between any two nodes there are two :class:`Road` s, one each way, with a delay, jitter, and a number of faults that
block it just now. A connection (:class:`SimLink`) runs over both, like TCP: what a blocked road holds back arrives
later, in order; a road silent for longer than the heartbeat allows makes the *receiving* end give the link up. The two
ends may learn of a link's death at different times, or one of them never. The dialer of a pair redials with back-off.

While :attr:`FaultyWorld.storm` is set, messages of the commit plane are also lost, repeated and overtaken one by one.
No transport of ours does that; the rules that keep a stream safe do not lean on that it does not. Such a link is
*tainted* and broken when the storm ends, as progress does need a transport that tells what was lost.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dsdproto.effects import LinkDown, LinkUp, Received
from dsdproto.node import NodeMachine
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Commit, Dismiss, Enlist, Enlisted, Prepare, Vote
from reference_nodes.simulator.host import SimNode
from reference_nodes.simulator.world import ALL_FEATURES, SimLink, World, through_codec

COMMIT_PLANE = frozenset({Enlist, Enlisted, Prepare, Vote, Commit, Dismiss})
MAX_HELD = 4096
"""Messages that wait for one road. A sender beyond it is cut off, as a node's own bounded queue would do."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Of the whole network; seconds, and chances from 0 to 1."""

    heartbeat: float = 4.0
    """silence after which an end gives a link up"""
    redial: float = 0.25
    redial_longest: float = 2.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    late: float = 0.05
    """by how much a message may be overtaken"""
    codec: bool = False
    """encode and decode every message"""


@dataclass(slots=True, eq=False)
class Road:
    """One way from a node to another."""

    sender: SimNode
    receiver: SimNode
    delay: float
    jitter: float
    blocks: int = 0
    """faults that block it now"""
    held: list[tuple[Line, int, Any]] = field(default_factory=list)
    silent_since: float | None = None

    @property
    def silent(self) -> bool:
        return self.blocks > 0 or self.sender.paused or not self.sender.alive


@dataclass(slots=True, eq=False)
class Line(SimLink):
    """A connection over two roads; index 0 is the dialer's side."""

    roads: tuple[Road, Road] = ()  # type: ignore[assignment]
    last: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """arrival of the latest message from that side"""
    life: int = 0
    """of the dialer"""
    tainted: bool = False


@dataclass(slots=True, eq=False)
class Dialing:
    """A connection that a node wants to have."""

    dialer: SimNode
    acceptor: SimNode
    line: Line | None = None
    failures: int = 0
    attempt: int = 0


class FaultyWorld(World):
    """A :class:`World` whose network and nodes fail on request, and otherwise by ``rng``."""

    def __init__(self, rng: random.Random, conditions: Conditions) -> None:
        super().__init__()
        self.rng = rng
        self.conditions = conditions
        self.storm = False
        self.trace: list[tuple[float, str, str, str, Any]] = []
        """(time, kind, node, other node or "", what)"""
        self.on_sent: Callable[[SimNode, Any], None] | None = None
        """called with each message that leaves a node"""
        self._roads: dict[tuple[str, str], Road] = {}
        self._dialings: dict[tuple[str, str], Dialing] = {}

    # ------------------------------------------------------------ building

    @property
    def roads(self) -> Iterable[Road]:
        return self._roads.values()

    def join(self, dialer: str, acceptor: str, delay: float, jitter: float) -> None:
        """From now on ``dialer`` keeps a connection to ``acceptor``."""
        a, b = self.nodes[dialer], self.nodes[acceptor]
        self._roads[(dialer, acceptor)] = Road(a, b, delay, jitter)
        self._roads[(acceptor, dialer)] = Road(b, a, delay, jitter)
        dialing = self._dialings[(dialer, acceptor)] = Dialing(a, b)
        self._establish(dialing, 0, a.life, b.life)

    # ------------------------------------------------------------ messages

    def send(self, node: SimNode, number: int, channel: int, message: Any) -> None:
        line = self._by_end.get((node.name, number))
        if line is None:
            return
        side = line.side(node.name)
        if not line.open[side]:
            return
        if self.on_sent is not None:
            self.on_sent(node, message)
        if not self.storm or type(message) not in COMMIT_PLANE:
            self._travel(line, side, (channel, message), 0.0)
            return
        rates, chance = self.conditions, self.rng.random
        if chance() < rates.loss:
            line.tainted = True
            self._lost(line, side, message)
            return
        # A channel is opened once: that much the link layer does guarantee, whatever a network does (clause CH-2).
        copies = 2 if chance() < rates.duplicate and type(message) is not Enlist else 1
        for _ in range(copies):
            late = rates.late * chance() if chance() < rates.reorder else 0.0
            line.tainted |= late > 0.0 or copies > 1
            self._travel(line, side, (channel, message), late)

    def _travel(self, line: Line, side: int, parcel: Any, late: float) -> None:
        road = line.roads[side]
        if road.blocks:
            road.held.append((line, side, parcel))
            if len(road.held) > MAX_HELD:
                self.hang_up(line, side, f"{MAX_HELD} messages wait for it")
            return
        at = self.now + road.delay
        if road.jitter:
            at += road.jitter * self.rng.random()
        if late:
            at += late
        else:
            at = line.last[side] = max(at, line.last[side])
        self.at(at, self._arrived, line, side, parcel)

    def _arrived(self, line: Line, side: int, parcel: Any) -> None:
        road, other = line.roads[side], 1 - side
        if not line.open[other]:
            if road.receiver.alive and line.open[side] and not isinstance(parcel, str):
                self._travel(line, other, "connection reset", 0.0)
            return
        if isinstance(parcel, str):
            self._down(line, other, parcel)
            return
        channel, message = parcel
        if self.conditions.codec:
            received = through_codec(encode_message(channel, message))
            if received is None:
                return
            channel, message = received
        self.trace.append((self.now, "recv", road.sender.name, road.receiver.name, message))
        road.receiver.handle(Received(line.ends[other][1], channel, message))

    def _lost(self, line: Line, side: int, message: Any) -> None:
        road = line.roads[side]
        self.trace.append((self.now, "lost", road.sender.name, road.receiver.name, message))

    # ------------------------------------------------------------ connections

    def close(self, node: SimNode, number: int, reason: str) -> None:
        line = self._by_end[(node.name, number)]
        self.hang_up(line, line.side(node.name), reason)

    def hang_up(self, line: Line, side: int, reason: str) -> None:
        """One end closes; the other learns of it when the word gets through, or by silence."""
        if line.open[side]:
            self._travel(line, side, reason, 0.0)
            self._down(line, side, reason)

    def reset(self, line: Line, reason: str) -> None:
        """Both ends lose the connection at once."""
        for side in (0, 1):
            self._down(line, side, reason)

    def _down(self, line: Line, side: int, reason: str) -> None:
        if not line.open[side]:
            return
        line.open[side] = False
        name, number = line.ends[side]
        node = self.nodes[name]
        if side == 0:
            self._redial(self._dialings[(name, line.ends[1][0])])
        if node.alive:
            self.trace.append((self.now, "down", name, line.ends[1 - side][0], reason))
            node.handle(LinkDown(number, reason))
        if not line.open[1 - side]:
            self._forget(line)
            for end in line.ends:
                self._by_end.pop(end, None)

    def _twins(self, dialer: str, acceptor: str) -> list[Line]:
        """Lines that were dialed between the two before."""
        return [line for line in self.links if (line.ends[0][0], line.ends[1][0]) == (dialer, acceptor)]

    def _remember(self, line: Line) -> None:
        self.links.append(line)

    def _forget(self, line: Line) -> None:
        self.links.remove(line)

    def _redial(self, dialing: Dialing) -> None:
        dialing.attempt += 1
        span = min(self.conditions.redial * 2**dialing.failures, self.conditions.redial_longest)
        at = self.now + span * (0.5 + 0.5 * self.rng.random())
        self.at(at, self._dial, dialing, dialing.attempt)

    def _dial(self, dialing: Dialing, attempt: int) -> None:
        a, b = dialing.dialer, dialing.acceptor
        if attempt != dialing.attempt or not a.alive:
            return
        if self._reachable(dialing):
            trip = 3 * self._roads[(a.name, b.name)].delay
            self.at(self.now + trip, self._establish, dialing, attempt, a.life, b.life)
            return
        dialing.failures = min(dialing.failures + 1, 8)
        self._redial(dialing)

    def _reachable(self, dialing: Dialing) -> bool:
        a, b = dialing.dialer, dialing.acceptor
        up = a.alive and b.alive and not a.paused and not b.paused
        return up and not self._roads[(a.name, b.name)].blocks and not self._roads[(b.name, a.name)].blocks

    def _establish(self, dialing: Dialing, attempt: int, *lives: int) -> None:
        a, b = dialing.dialer, dialing.acceptor
        if attempt != dialing.attempt or not a.alive:
            return
        if lives != (a.life, b.life) or not self._reachable(dialing):
            dialing.failures = min(dialing.failures + 1, 8)
            self._redial(dialing)
            return
        dialing.failures = 0
        for twin in self._twins(a.name, b.name):
            if twin.life == a.life:  # the dialer has lost it, whatever the acceptor still believes
                self._down(twin, 1, "a second link between the same two nodes")
        first, second = self._next_link, self._next_link + 1
        self._next_link += 2
        there, back = self._roads[(a.name, b.name)], self._roads[(b.name, a.name)]
        line = Line(((a.name, first), (b.name, second)), there.delay, roads=(there, back), life=a.life)
        dialing.line = line
        self._remember(line)
        self._by_end[(a.name, first)] = self._by_end[(b.name, second)] = line
        self.trace.append((self.now, "up", a.name, b.name, ""))
        a.handle(LinkUp(first, b.machine.hello, ALL_FEATURES, True))
        b.handle(LinkUp(second, a.machine.hello, ALL_FEATURES, False))

    # ------------------------------------------------------------ faults of roads

    def block(self, sender: str, receiver: str) -> None:
        """Hold back everything on a road. Each block needs its :meth:`unblock`."""
        road = self._roads[(sender, receiver)]
        road.blocks += 1
        self._listen(road)

    def unblock(self, sender: str, receiver: str) -> None:
        road = self._roads[(sender, receiver)]
        road.blocks -= 1
        self._listen(road)
        if not road.blocks:
            held, road.held = road.held, []
            for line, side, parcel in held:
                self._travel(line, side, parcel, 0.0)

    def _listen(self, road: Road) -> None:
        """Note when a road falls silent, and what comes of it."""
        if not road.silent:
            road.silent_since = None
        elif road.silent_since is None:
            road.silent_since = self.now
            self.at(self.now + self.conditions.heartbeat, self._unheard, road, self.now)

    def _unheard(self, road: Road, since: float) -> None:
        if road.silent_since == since:
            self._give_up([line for line in self.links if road in line.roads], road)

    def _give_up(self, lines: list[Line], road: Road) -> None:
        for line in lines:
            self.hang_up(line, 1 - line.roads.index(road), "nothing received")

    # ------------------------------------------------------------ faults of nodes

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        node = self.nodes[name]
        node.paused = True
        self.note(node, "pause", "")
        self._listen_to(node)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        node = self.nodes[name]
        if node.alive and node.paused:
            self.note(node, "resume", "")
            node.resume()
            self._listen_to(node)

    def kill(self, name: str, kept: int, silent: bool) -> None:
        """A process ends, and its peers see it at once; or the machine does (``silent``), and they see nothing.

        :param kept: how many of the records that were being written are on the disk all the same.
        """
        node = self.nodes[name]
        node.die(kept)
        self.note(node, "crash", "power lost" if silent else "killed")
        for line in list(self.links):
            side = next((side for side in (0, 1) if line.ends[side][0] == name), None)
            if side is None or not line.open[side]:
                continue
            self._down(line, side, "died")
            if silent:
                self.at(self.now + self.conditions.heartbeat, self.hang_up, line, 1 - side, "nothing received")
            else:
                self._travel(line, side, "connection reset", 0.0)
        self._listen_to(node)

    def restart(self, name: str, machine: NodeMachine) -> None:
        """A node comes back with what its disk holds."""
        node = self.nodes[name]
        node.machine = machine
        self.note(node, "restart", "")
        node.boot()
        self._listen_to(node)
        for dialing in self._dialings.values():
            if node is dialing.dialer:
                dialing.failures = 0
                self._redial(dialing)

    def calm(self) -> None:
        """The storm is over: links that lost or mixed up messages are broken."""
        self.storm = False
        for line in [line for line in self.links if line.tainted]:
            self.reset(line, "tainted")

    def _listen_to(self, node: SimNode) -> None:
        for road in self._roads.values():
            if road.sender is node:
                self._listen(road)

    def note(self, node: SimNode, kind: str, what: Any) -> None:
        self.trace.append((self.now, kind, node.name, "", what))
