"""One node: its role machines, and who among them owns which channel.

The driver of a node (Trio host, simulator, test) talks to a :class:`NodeMachine` alone. It reports links, messages,
timers and finished jobs, and performs the effects that come back. Links between roles of this very node never leave: a
message sent on one end of the *local link* is handed to the other end at once, with no codec in between, so that a
leader with its verifier on board follows the same protocol as one with the verifier across the room.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from dsdproto.effects import (
    LOCAL_FAR,
    LOCAL_NEAR,
    CancelTimer,
    Compute,
    Computed,
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Persist,
    Received,
    Refuse,
    Send,
    SetTimer,
    Tell,
    TimerFired,
)
from dsdproto.errors import LocalError, PeerError
from dsdproto.registry import ErrorCode, Feature, Role
from dsdproto.wire.messages import (
    Assign,
    Attach,
    Detach,
    Dismiss,
    End,
    Enlist,
    Error,
    Hello,
    Open,
    Release,
    Resume,
)

OPENERS: dict[type, Role] = {
    Open: Role.LEADER,
    Resume: Role.VOTER,
    Attach: Role.DRAFTER,
    Assign: Role.VERIFIER,
    Enlist: Role.VOTER,
}
"""Which role a channel belongs to, by the message that opens it."""
CLOSERS = frozenset((End, Detach, Release, Dismiss, Error))
OTHER_END = {LOCAL_NEAR: LOCAL_FAR, LOCAL_FAR: LOCAL_NEAR}


class RoleMachine(Protocol):
    def handle(self, event: Event, now: float) -> list[Effect]: ...


@dataclass(slots=True)
class NodeMachine:
    """Routes events to the roles of one node and their effects to the driver.

    Timer keys, job numbers and records that leave are ``(role, inner)``: give them back as they are.
    """

    hello: Hello
    """what this node says of itself; the local link shows it to the node's own roles"""
    roles: dict[Role, RoleMachine] = field(default_factory=dict)
    links: dict[int, LinkUp] = field(default_factory=dict)
    _owner: dict[tuple[int, int], Role] = field(default_factory=dict)
    _next: dict[int, int] = field(default_factory=dict)

    def start(self, now: float) -> list[Effect]:
        """Bring up the local link. Call once, before any other event."""
        features = frozenset(int(feature) for feature in Feature)
        self._next[LOCAL_NEAR] = 1
        self._next[LOCAL_FAR] = 2
        # Only the near end shows what is on offer, or this node would count as two.
        far = replace(self.hello, models=())
        ends = (LinkUp(LOCAL_NEAR, self.hello, features, True), LinkUp(LOCAL_FAR, far, features, False))
        return self._drain(deque(ends), now)

    def channel(self, link: int) -> int:
        """A fresh channel number on ``link`` (clause CH-1): odd for the dialer, even for the acceptor."""
        if link not in self._next:
            raise LocalError(f"link {link} is not up")
        number = self._next[link]
        self._next[link] = number + 2
        return number

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event from the driver; returns what the driver has to do, in order."""
        return self._drain(deque((event,)), now)

    def perform(self, role: Role, effects: list[Effect], now: float) -> list[Effect]:
        """Route effects that a role's machine gave outside :meth:`handle` (a client that opens a session, say)."""
        out: list[Effect] = []
        queue: deque[Event | _Told] = deque()
        self._route(role, effects, queue, out)
        return out + self._drain(queue, now)

    def persisted(self, effect: Persist, now: float) -> list[Effect]:
        """The record of ``effect`` is stored: perform what waited for it."""
        role, _ = effect.record
        return self.perform(role, list(effect.then), now)

    # ------------------------------------------------------------ routing

    def _drain(self, queue: deque[Event | _Told], now: float) -> list[Effect]:
        out: list[Effect] = []
        roles = self.roles
        while queue:
            event = queue.popleft()
            role: Role | None = None
            if isinstance(event, Received):  # by far the most frequent
                role = self._receiver(event, out)
            elif isinstance(event, Computed):
                role, number = event.job
                event = Computed(number, event.result, event.error)
            elif isinstance(event, TimerFired):
                role, inner = event.key
                event = TimerFired(inner)
            elif isinstance(event, _Told):
                if event.role in roles:
                    role, event = event.role, event.event
            else:
                self._follow(event)
                for each, machine in roles.items():
                    self._route(each, machine.handle(event, now), queue, out)
            if role is not None:
                self._route(role, roles[role].handle(event, now), queue, out)
        return out

    def _follow(self, event: LinkUp | LinkDown) -> None:
        """Keep the books of a link that came or went."""
        if isinstance(event, LinkUp):
            self.links[event.link] = event
            self._next.setdefault(event.link, 1 if event.dialer else 2)
            return
        self.links.pop(event.link, None)
        self._next.pop(event.link, None)
        for key in [key for key in self._owner if key[0] == event.link]:
            del self._owner[key]

    def _receiver(self, event: Received, out: list[Effect]) -> Role | None:
        """Whose channel it is; None: a channel that was closed from this side while the message was on its way (CH-4),
        or one that nobody here can serve."""
        key, kind = (event.link, event.channel), type(event.message)
        owner = self._owner.get(key)
        if owner is None:
            owner = OPENERS.get(kind)
            if owner is None:
                return None
            if owner not in self.roles:
                error = PeerError(ErrorCode.ROLE_UNSUPPORTED, "C-9", f"this node has no {owner.name.lower()} role")
                out.append(Refuse(event.link, event.channel, error))
                return None
            self._owner[key] = owner
        elif kind in CLOSERS:
            del self._owner[key]
        return owner

    def _route(self, role: Role, effects: list[Effect], queue: deque[Event | _Told], out: list[Effect]) -> None:
        for effect in effects:
            # Most effects are sends: a match would try one class after the other, and take each apart.
            if type(effect) is Send:
                link, kind = effect.link, type(effect.message)
                if kind in OPENERS:
                    self._owner[(link, effect.channel)] = role
                elif kind in CLOSERS:
                    self._owner.pop((link, effect.channel), None)
                other_end = OTHER_END.get(link)
                if other_end is not None:
                    queue.append(Received(other_end, effect.channel, effect.message))
                elif link in self.links:
                    out.append(effect)
                continue
            match effect:
                case Refuse(link, channel, error):
                    self._owner.pop((link, channel), None)
                    if link in OTHER_END:
                        queue.append(Received(OTHER_END[link], channel, error.reply))
                    elif link in self.links:
                        out.append(effect)
                case SetTimer(key, at):
                    out.append(SetTimer((role, key), at))
                case CancelTimer(key):
                    out.append(CancelTimer((role, key)))
                case Compute(job, work):
                    out.append(Compute((role, job), work))
                case Persist(record, then):
                    out.append(Persist((role, record), then))
                case Tell(role, event):
                    queue.append(_Told(role, event))
                case _:
                    out.append(effect)


@dataclass(frozen=True, slots=True)
class _Told:
    """What one role tells another, waiting for its turn."""

    role: Role
    event: Any
