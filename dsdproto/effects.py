"""Events in, effects out: the whole surface between a role machine and the world.

A machine is driven by ``machine.handle(event, now) -> list[Effect]`` with ``now`` in seconds on any monotonic clock.
The driver performs the effects in order. It may be the Trio host, the simulator, or a test that reads like a
sequence chart. A machine never learns which.

Links are small integers that the driver gives to live, authenticated connections; a channel is one attachment of
two roles to one session within a link (SPEC.md, "Channels"). Roles on one node use a link as well, with no network in
between.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from dsdproto.errors import PeerError
from dsdproto.registry import Role
from dsdproto.wire.messages import Hello

Key = tuple[int, int]
"""(link, channel)"""
LOCAL_NEAR = -1
"""The link between the roles of one node, as its opener (client or leader) sees it."""
LOCAL_FAR = -2
"""The other end."""

# ---------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link finished its handshake; ``peer`` is what the other side said of itself."""

    link: int
    peer: Hello
    features: frozenset[int]
    dialer: bool
    """this side dialed, so it opens odd channels"""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """A link is gone, with all its channels. ``reason`` is for people."""

    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A valid message that is legal in its channel's phase."""

    link: int
    channel: int
    message: Any


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer set by this machine is due. Late and duplicate firings are harmless."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class Computed:
    """A compute job ended. Exactly one of ``result`` and ``error`` is set."""

    job: Any
    result: Any = None
    error: str | None = None


Event = LinkUp | LinkDown | Received | TimerFired | Computed

# ---------------------------------------------------------------- effects


@dataclass(frozen=True, slots=True)
class Send:
    """Queue a message on a channel of a link. On a link that is gone nothing happens: LinkDown follows or has come."""

    link: int
    channel: int
    message: Any


@dataclass(frozen=True, slots=True)
class Persist:
    """Store ``record`` durably; only once that is done perform ``then``. There is no other way to say it."""

    record: Any
    then: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire ``key`` at time ``at``; replaces an earlier timer with the same key."""

    key: Hashable
    at: float


@dataclass(frozen=True, slots=True)
class CancelTimer:
    key: Hashable


@dataclass(frozen=True, slots=True)
class Compute:
    """Run ``work`` (a value that a backend understands) away from the event loop; answer with :class:`Computed`."""

    job: Any
    work: Any


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand ``item`` to the application that owns the machine (committed tokens, the end of a stream, an error)."""

    item: Any


@dataclass(frozen=True, slots=True)
class Refuse:
    """The peer broke a rule: tell it (an ERROR from ``error``) and end what the error's scope says."""

    link: int
    channel: int
    error: PeerError


@dataclass(frozen=True, slots=True)
class CloseLink:
    """End a link in good order after what is queued was sent."""

    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Hand ``event`` to another role of the same node, at once; nothing happens if the node does not have it."""

    role: Role
    event: Any


Effect = Send | Persist | SetTimer | CancelTimer | Compute | Deliver | Refuse | CloseLink | Tell
