"""The world of a planning run: the fault network's nodes and links, without a trace, with bandwidth, loss and counts.

Whatever happens is as in :mod:`reference_nodes.simulator.network`; only how long a message is under way, and what is
remembered of it, differ. Nothing here grows with simulated time.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Any

from dsdproto.effects import (
    CancelTimer,
    CloseLink,
    Compute,
    Computed,
    Deliver,
    Effect,
    Event,
    Persist,
    Received,
    Refuse,
    Send,
    SetTimer,
)
from dsdproto.errors import LocalError
from dsdproto.registry import Role
from reference_nodes.simulator.host import SimNode
from reference_nodes.simulator.network import Conditions, Dialing, FaultyWorld, Line, Road
from reference_nodes.simulator.plan.luck import stream
from reference_nodes.simulator.plan.scenario import Link
from reference_nodes.simulator.plan.sizes import SEGMENT, SEGMENT_BYTES, SIZES, size_of

FASTEST_RETRANSMIT = 0.01
BETWEEN_PROGRESS = 4096
"""Events."""


class Nowhere(list):
    """A trace that keeps nothing."""

    def append(self, item: Any) -> None:
        return None


@dataclass(slots=True, eq=False)
class PlanRoad(Road):
    """One way from a node to another, with room for so many bits a second."""

    luck: Callable[[], float] = field(kw_only=True)
    bandwidth: float = 0.0
    loss: float = 0.0
    retransmit: float = 0.0
    free_at: float = 0.0
    """when the last bit of what was sent so far has left"""

    def transit(self, now: float, size: int) -> float:
        """When a message that is sent now arrives, if nothing else holds it up."""
        at = now
        if self.bandwidth:
            at = self.free_at = max(now, self.free_at) + 8.0 * (size + SEGMENT_BYTES) / self.bandwidth
        at += self.delay
        if self.jitter:
            at += self.jitter * self.luck()
        if self.loss:
            # A lost segment is sent again, after twice as long each time; what is behind it waits in the receiver.
            for _ in range(1 + size // SEGMENT):
                wait = self.retransmit
                while self.luck() < self.loss:
                    at += wait
                    wait *= 2.0
        return at


@dataclass(slots=True)
class Traffic:
    """What went over links since it was last reset."""

    messages: int = 0
    bytes: int = 0


class PlanWorld(FaultyWorld):
    """A :class:`FaultyWorld` that forgets."""

    def __init__(self, seed: int, conditions: Conditions) -> None:
        super().__init__(random.Random(f"dsdp plan {seed}"), conditions)
        self.seed = seed
        self.trace = Nowhere()
        self.links: dict[Line, None] = {}
        """in the order in which they came up"""
        self._sides: dict[int, tuple[Line, int]] = {}
        """by number of the link, which no other end of any line has"""
        self._between: dict[tuple[str, str], dict[Line, None]] = {}
        """by dialer and acceptor"""
        self.traffic = Traffic()
        self.stopped = False
        """nothing more is of interest"""
        self._luck: dict[str, Callable[[], float]] = {}
        """by sender"""
        self.all_messages = 0
        """since the beginning, the warm-up included"""

    def pairs(self) -> list[tuple[str, str]]:
        """Every road, (from, to)."""
        return list(self._roads)

    @property
    def heap(self) -> list[tuple[float, int, Callable[..., None], tuple[Any, ...]]]:
        """What is to come, the next first."""
        return self._heap

    def go(self, horizon: float, progress: Callable[[float], None] | None = None) -> None:
        """Let things happen until ``horizon``, until :attr:`stopped`, or until there is nothing left."""
        heap, pop = self._heap, heappop
        while heap and not self.stopped:
            for _ in range(BETWEEN_PROGRESS):
                if not heap or self.stopped:
                    break
                if heap[0][0] > horizon:
                    return
                self.now, _, action, args = pop(heap)
                self.events += 1
                action(*args)
            if progress is not None:
                progress(self.now)

    def begin_counting(self) -> None:
        """Traffic so far does not count."""
        self.traffic = Traffic()

    def round_trip(self, near: str, far: str) -> float:
        """Seconds there and back without jitter, as the road is."""
        return self._roads[(near, far)].delay + self._roads[(far, near)].delay

    def link(self, dialer: str, acceptor: str, link: Link) -> None:
        """From now on ``dialer`` keeps a connection to ``acceptor``."""
        a, b = self.nodes[dialer], self.nodes[acceptor]
        for one, other in ((a, b), (b, a)):
            if one.name not in self._luck:
                self._luck[one.name] = stream("parcels", self.seed, one.name)
            self._roads[(one.name, other.name)] = PlanRoad(
                one,
                other,
                link.rtt / 2,
                link.jitter,
                luck=self._luck[one.name],
                bandwidth=link.bandwidth,
                loss=link.loss,
                retransmit=link.retransmit or 2 * link.rtt + FASTEST_RETRANSMIT,
            )
        dialing = self._dialings[(dialer, acceptor)] = Dialing(a, b)
        self._establish(dialing, 0, a.life, b.life)

    def send(self, node: SimNode, number: int, channel: int, message: Any) -> None:
        found = self._sides.get(number)
        if found is None:
            return
        line, side = found
        if not line.open[side]:
            return
        measure = SIZES.get(type(message))
        size = size_of(message) if measure is None else measure(message)
        traffic = self.traffic
        traffic.messages += 1
        traffic.bytes += size
        self.all_messages += 1
        road = line.roads[side]
        if road.blocks:
            super()._travel(line, side, (channel, message), 0.0)
            return
        at = road.transit(self.now, size)
        last = line.last
        if at < last[side]:
            at = last[side]
        else:
            last[side] = at
        self._order = order = self._order + 1
        heappush(self._heap, (at, order, self._received, (line, side, channel, message)))

    def _received(self, line: Line, side: int, channel: int, message: Any) -> None:
        other = 1 - side
        if line.open[other]:
            line.roads[side].receiver.handle(Received(line.ends[other][1], channel, message))
        else:
            super()._arrived(line, side, (channel, message))

    def at(self, time: float, action: Callable[..., None], *args: Any) -> None:
        self._order = order = self._order + 1
        heappush(self._heap, (time, order, action, args))

    def _travel(self, line: Line, side: int, parcel: Any, late: float) -> None:
        road = line.roads[side]
        if road.blocks or isinstance(parcel, str):
            super()._travel(line, side, parcel, late)
            return
        at = max(road.transit(self.now, size_of(parcel[1])), line.last[side])
        line.last[side] = at
        self.at(at, self._received, line, side, *parcel)

    # Of thousands of lines each is found by its ends.

    def _twins(self, dialer: str, acceptor: str) -> list[Line]:
        return list(self._between.get((dialer, acceptor), ()))

    def _remember(self, line: Line) -> None:
        self.links[line] = None
        self._sides[line.ends[0][1]], self._sides[line.ends[1][1]] = (line, 0), (line, 1)
        self._between.setdefault((line.ends[0][0], line.ends[1][0]), {})[line] = None

    def _forget(self, line: Line) -> None:
        del self.links[line]
        for _, number in line.ends:
            del self._sides[number]
        del self._between[(line.ends[0][0], line.ends[1][0])][line]

    def note(self, node: SimNode, kind: str, what: Any) -> None:
        return None


Execute = Callable[[Any], tuple[Any, float]]
"""A role's work -> (result, seconds until the node has it)."""


@dataclass(slots=True, eq=False)
class PlanNode(SimNode):
    """A node that computes on a device of so many slots, and keeps of its records what a restart needs."""

    execute: dict[Role, Execute] = field(default_factory=dict)
    slots: int = 1
    running: int = 0
    waiting: deque[Compute] = field(default_factory=deque)
    sync: float = 0.0
    slow: float = 1.0
    """how many times as long its forwards take just now"""
    keep: Callable[[Any], None] | None = None
    """given each record; None: nobody will want it"""
    message: float = 0.0
    """seconds that its event loop takes for a message, at the expense of the job that runs meanwhile"""
    owed: float = 0.0
    """by which the job that runs will end later"""
    _late: int = 0
    """events that its event loop has not come to yet, while no job runs"""
    _free_at: float = 0.0

    def handle(self, event: Event) -> None:
        if not self.alive or self.paused:
            SimNode.handle(self, event)
            return
        if self.message and self._comes_late(event):
            return
        self.perform(self.machine.handle(event, self.world.now))

    @property
    def now(self) -> float:
        """All clocks are right here."""
        return self.world.now

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                self.world.send(self, effect.link, effect.channel, effect.message)
            elif kind is Compute:
                if self.running < self.slots:
                    self._begin(effect)
                else:
                    self.waiting.append(effect)
            elif kind is Deliver:
                if self.on_deliver is not None:
                    self.on_deliver(effect.item)
            elif kind is SetTimer:
                key, at = effect.key, effect.at
                self.timers[key] = at
                world = self.world
                world.at(at if at > world.now else world.now, self.fire, self.life, key, at)
            elif kind is CancelTimer:
                self.timers.pop(effect.key, None)
            elif kind is Persist:
                self._store(effect)
            elif kind is Refuse:
                self._refuse(effect)
            elif kind is CloseLink:
                self._close(effect)
            else:
                raise LocalError(f"{kind.__name__} is no effect that a driver performs")

    def die(self, kept: int) -> None:
        SimNode.die(self, kept)
        self.running = 0
        self.waiting.clear()
        self.owed, self._late = 0.0, 0

    # ------------------------------------------------------------ the event loop's own time

    def _comes_late(self, event: Event) -> bool:
        """Charge a message to the job that runs, or have an idle node handle it later, in order."""
        received, now = type(event) is Received, self.world.now
        if not self._late:
            if self.running:
                self.owed += self.message * received
            if self.running or not received:
                return False
        self._free_at = max(self._free_at, now) + self.message * received
        self._late += 1
        self.world.at(self._free_at, self._handle_late, self.life, event)
        return True

    def _handle_late(self, life: int, event: Event) -> None:
        if life != self.life:
            return
        if self.paused:
            self.held.append((self._handle_late, (life, event)))
            return
        self._late -= 1
        self.perform(self.machine.handle(event, self.world.now))

    # ------------------------------------------------------------ computing

    def _begin(self, effect: Compute) -> None:
        self.running += 1
        result, took = self.execute[effect.job[0]](effect.work)
        if self.slow != 1.0:
            took *= self.slow
            result = replace(result, seconds=result.seconds * self.slow)
        world = self.world
        world.at(world.now + took, self._computed, self.life, Computed(effect.job, result))

    def _computed(self, life: int, done: Computed) -> None:
        if life != self.life:
            return
        if self.paused:
            self.held.append((self._computed, (life, done)))
            return
        if self.owed:
            owed, self.owed = self.owed, 0.0
            done = replace(done, result=replace(done.result, seconds=done.result.seconds + owed))
            self.world.at(self.world.now + owed, self._computed, life, done)
            return
        self.running -= 1
        if self.waiting:
            self._begin(self.waiting.popleft())
        self.handle(done)

    # ------------------------------------------------------------ storing

    def _store(self, effect: Persist) -> None:
        if self.sync:
            self.world.at(self.world.now + self.sync, self._stored, self.life, effect)
        else:
            self._stored(self.life, effect)

    def _stored(self, life: int, effect: Persist) -> None:
        if life != self.life:
            return
        if self.paused:
            self.held.append((self._stored, (life, effect)))
            return
        if self.keep is not None:
            self.keep(effect.record)
        self.perform(self.machine.persisted(effect, self.now))
