"""One simulated node: performs its machine's effects on a clock and a disk of its own; crashes, pauses, restarts.

Everything that reaches the machine passes :meth:`SimNode.handle`: a stopped process gets it when it goes on, a dead one
never. What belonged to an earlier life (timers, jobs, disk writes) is recognised by :attr:`SimNode.life`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from dsdproto.effects import (
    CancelTimer,
    CloseLink,
    Compute,
    Deliver,
    Effect,
    Event,
    Persist,
    Refuse,
    Send,
    SetTimer,
    TimerFired,
)
from dsdproto.errors import LocalError
from dsdproto.node import NodeMachine
from dsdproto.registry import Scope
from reference_nodes.simulator.disk import Disk

if TYPE_CHECKING:
    from reference_nodes.simulator.world import World

Duration = Callable[[Any], float]
"""Seconds that a piece of work takes."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What a node takes for the time: its own rate and offset."""

    offset: float = 0.0
    rate: float = 1.0

    def local(self, time: float) -> float:
        """The node's time at a moment of the world's."""
        return time * self.rate + self.offset

    def world(self, local: float) -> float:
        """When the node's clock shows ``local``."""
        return (local - self.offset) / self.rate


@dataclass(slots=True, eq=False)
class SimNode:
    """One node: its machine, what runs its Compute work, and what its application was given."""

    name: str
    machine: NodeMachine
    run: dict[Any, tuple[Callable[[Any], Any], Duration]] = field(default_factory=dict)
    """by role: the executor, and how long it takes"""
    delivered: list[Any] = field(default_factory=list)
    stored: list[Any] = field(default_factory=list)
    """records that are durable, oldest first"""
    timers: dict[Any, float] = field(default_factory=dict)
    """by key: when, in the node's time"""
    alive: bool = True
    on_deliver: Callable[[Any], None] | None = None
    clock: Clock = field(default_factory=Clock)
    disk: Disk | None = None
    """None: storing takes no time"""
    life: int = 0
    """counts restarts"""
    paused: bool = False
    held: list[tuple[Callable[..., None], tuple[Any, ...]]] = field(default_factory=list)
    """what a paused node gets when it goes on"""
    world: World = field(init=False)

    @property
    def now(self) -> float:
        """The node's time."""
        return self.clock.local(self.world.now)

    # ------------------------------------------------------------ life

    def boot(self) -> None:
        """Start the machine."""
        self.alive = True
        self.perform(self.machine.start(self.now))

    def die(self, kept: int) -> None:
        """Lose everything but what is durable, and ``kept`` of the records that were being written."""
        self.alive = self.paused = False
        self.life += 1
        self.timers.clear()
        self.held.clear()
        if self.disk is not None:
            self.disk.lose(self, kept)

    def resume(self) -> None:
        """A paused process goes on and finds what happened meanwhile."""
        self.paused = False
        held, self.held = self.held, []
        for action, args in held:
            action(*args)

    # ------------------------------------------------------------ in

    def handle(self, event: Event) -> None:
        """Give the machine an event and do what it says."""
        if not self.alive:
            return
        if self.paused:
            self.held.append((self.later, (self.life, event)))
            return
        effects = self.machine.handle(event, self.now)
        if self.world.observe is not None:
            self.world.observe(self, event)
        self.perform(effects)

    def later(self, life: int, event: Event) -> None:
        """Something that an earlier moment asked for; void if the node died since."""
        if life == self.life:
            self.handle(event)

    def fire(self, life: int, key: Any, at: float) -> None:
        """A timer is due, unless it was set anew, cancelled, or died with the node."""
        if life != self.life or self.timers.get(key) != at:
            return
        if self.paused:
            self.held.append((self.fire, (life, key, at)))
            return
        del self.timers[key]
        self.world.note(self, "timer", key)
        self.handle(TimerFired(key))

    def written(self, life: int, effect: Persist) -> None:
        """A record is durable: perform what waited for it."""
        if life != self.life:
            return
        if self.paused:
            self.held.append((self.written, (life, effect)))
            return
        self.perform(self.machine.persisted(effect, self.now))
        if self.world.observe is not None:
            self.world.observe(self, effect)

    # ------------------------------------------------------------ out

    def perform(self, effects: list[Effect]) -> None:
        """Do what the machine says, in order."""
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                self.world.send(self, effect.link, effect.channel, effect.message)
            else:
                try:
                    perform = _PERFORM[kind]
                except KeyError:
                    raise LocalError(f"{kind.__name__} is no effect that a driver performs") from None
                perform(self, effect)

    def _refuse(self, effect: Refuse) -> None:
        error = effect.error
        self.world.send(self, effect.link, effect.channel if error.scope == Scope.SESSION else 0, error.reply)
        if error.scope == Scope.CONNECTION:
            self.world.close(self, effect.link, error.text)

    def _set_timer(self, effect: SetTimer) -> None:
        self.timers[effect.key] = effect.at
        due = max(self.clock.world(effect.at), self.world.now)
        self.world.at(due, self.fire, self.life, effect.key, effect.at)

    def _cancel_timer(self, effect: CancelTimer) -> None:
        self.timers.pop(effect.key, None)

    def _persist(self, effect: Persist) -> None:
        if self.disk is None:
            self.stored.append(effect.record)
            self.perform(self.machine.persisted(effect, self.now))
        else:
            self.disk.write(self, effect)

    def _compute(self, effect: Compute) -> None:
        execute, duration = self.run[effect.job[0]]
        took = duration(effect.work)
        # What the real executor took has no place in a virtual world, nor in what machines learn from it.
        self.world.compute(self, effect.job, replace(execute(effect.work), seconds=took), took)

    def _deliver(self, effect: Deliver) -> None:
        self.delivered.append(effect.item)
        self.world.note(self, "deliver", effect.item)
        if self.on_deliver is not None:
            self.on_deliver(effect.item)

    def _close(self, effect: CloseLink) -> None:
        self.world.close(self, effect.link, effect.reason)


_PERFORM: dict[type, Callable[[SimNode, Any], None]] = {
    Refuse: SimNode._refuse,
    SetTimer: SimNode._set_timer,
    CancelTimer: SimNode._cancel_timer,
    Persist: SimNode._persist,
    Compute: SimNode._compute,
    Deliver: SimNode._deliver,
    CloseLink: SimNode._close,
}
