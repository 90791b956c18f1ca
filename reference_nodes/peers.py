"""Who this node is connected to: accepts, dials and redials, and keeps one link for each peer.

A static peer (``--peer``) is dialed for as long as the node runs, a discovered one for as long as it is announced, and
only where the two have something to do with each other. Two nodes that dialed each other at once notice it after
the handshake: both keep the link that the lower node id dialed, and close the other in good order.
"""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from dsdproto.identity import node_id_text
from dsdproto.registry import Role
from reference_nodes.discovery import Event as DiscoveryEvent
from reference_nodes.discovery import Found, Lost, PeerAddress
from reference_nodes.errors import NodeError
from reference_nodes.link import Link
from reference_nodes.transport import Opened, peer_name

log = logging.getLogger("dsdp.peers")

PARTNERS = (
    (Role.CLIENT, Role.LEADER),
    (Role.CLIENT, Role.VOTER),
    (Role.LEADER, Role.DRAFTER),
    (Role.LEADER, Role.VERIFIER),
    (Role.LEADER, Role.VOTER),
)
MAX_HANDSHAKES = 64
"""Accepted connections that have not said who they are yet; further ones are closed at once."""
TWINS = "a second link between the same two nodes"
GRACE = 0.5
"""Seconds that the node with the higher id leaves to the other one before it dials a discovered peer itself."""


@dataclass(frozen=True, slots=True)
class Redial:
    """When to try again: after ``first`` seconds, twice as long after each failure, at most ``longest``.

    Each time, chance takes up to half of it off, so that nodes do not dial in step.
    """

    first: float = 0.25
    longest: float = 5.0

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds before the next attempt, after ``failures`` in a row."""
        span = min(self.first * 2 ** min(failures, 30), self.longest)
        return span * rng.uniform(0.5, 1.0)


def useful(mine: Iterable[int], theirs: Iterable[int]) -> bool:
    """Whether nodes with these roles have anything to do with each other."""
    mine, theirs = set(mine), set(theirs)
    return any((a in mine and b in theirs) or (b in mine and a in theirs) for a, b in PARTNERS)


@dataclass(slots=True)
class _Dialed:
    """Something that is dialed again and again."""

    label: str
    addresses: list[tuple[str, int]]
    node_id: bytes | None
    """whom to expect; for a static peer: who answered last"""
    static: bool
    failures: int = 0
    error: str = ""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


Dial = Callable[[str, int], Awaitable[Opened]]
"""Opens a stream to (host, port), TLS done. Raises :class:`NodeError`."""
Accept = Callable[[trio.SocketStream], Awaitable[Opened]]
"""Does the server side of TLS. Raises :class:`NodeError`."""
MakeLink = Callable[[int, Opened, bool, str], Link]
"""(number, stream, dialer, address) -> a link that was not started yet"""


class Peers:
    """All links of a node.

    :param rng: for the jitter of redialing; seeded in tests.
    """

    def __init__(
        self,
        node_id: bytes,
        roles: Sequence[int],
        dial: Dial,
        accept: Accept,
        make_link: MakeLink,
        *,
        redial: Redial | None = None,
        rng: random.Random | None = None,
        max_links: int = 256,
    ) -> None:
        self.node_id = node_id
        self.roles = tuple(roles)
        self.links: dict[int, Link] = {}
        """by number, from the end of the HELLO exchange to the end of the link"""
        self.changed = trio.Condition()
        """notified when ``links`` changes"""
        self._dial = dial
        self._accept = accept
        self._make_link = make_link
        self._redial = redial or Redial()
        self._rng = rng or random.Random()
        self._max_links = max_links
        self._numbers = itertools.count(1)
        self._handshakes = 0
        self._open: set[Link] = set()
        self._dialed: dict[str, _Dialed] = {}
        self._closing = False
        self._nursery: trio.Nursery | None = None

    # ------------------------------------------------------------ life

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns the tasks of all links. Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    async def serve(self, listener: trio.SocketListener) -> None:
        """Accept connections until cancelled."""
        assert self._nursery is not None
        await trio.serve_listeners(self._accepted, [listener], handler_nursery=self._nursery)

    def dial_static(self, host: str, port: int) -> None:
        """Keep a link to this address."""
        self._start(f"{host}:{port}", [(host, port)], None, True)

    def discovered(self, event: DiscoveryEvent) -> None:
        """Take what mDNS found or lost."""
        match event:
            case Found(peer):
                self._found(peer)
            case Lost(peer):
                # Not a sign of death: a live link stays. Only the redialing ends.
                if (entry := self._dialed.pop(_label(peer), None)) is not None and not self.linked(peer.node_id):
                    entry.scope.cancel()

    async def goodbye(self, reason: str, patience: float = 1.0) -> None:
        """Close all links in good order; whoever does not answer in time is cut off."""
        self._closing = True
        for entry in self._dialed.values():
            if not self._has(entry):
                entry.scope.cancel()
        for link in self._open:
            link.close(reason)
        with trio.move_on_after(patience):
            while self._open:
                await self.wait_for_change()

    # ------------------------------------------------------------ questions

    def linked(self, node_id: bytes) -> bool:
        """Whether there is a link to this node."""
        return any(link.peer is not None and link.peer.node_id == node_id for link in self.links.values())

    def dialing(self) -> list[dict[str, Any]]:
        """For status: what is dialed and has no link now."""
        return [
            {"peer": entry.label, "failures": entry.failures, "error": entry.error}
            for entry in self._dialed.values()
            if not self._has(entry)
        ]

    async def wait_for_change(self) -> None:
        """Until a link came up or went."""
        async with self.changed:
            await self.changed.wait()

    def _has(self, entry: _Dialed) -> bool:
        return entry.node_id is not None and self.linked(entry.node_id)

    # ------------------------------------------------------------ accepting

    async def _accepted(self, transport: trio.SocketStream) -> None:
        if self._closing or self._handshakes >= MAX_HANDSHAKES or len(self._open) >= self._max_links:
            log.warning("turned away a connection: %d handshakes, %d links", self._handshakes, len(self._open))
            await trio.aclose_forcefully(transport)
            return
        self._handshakes += 1
        try:
            opened = await self._accept(transport)
        except NodeError as error:
            log.info("refused a connection: %s", error)
            return
        finally:
            self._handshakes -= 1
        await self._run(opened, False, peer_name(transport))

    # ------------------------------------------------------------ dialing

    def _found(self, peer: PeerAddress) -> None:
        if peer.node_id == self.node_id or not useful(self.roles, peer.description.roles):
            return
        addresses = [(address, peer.port) for address in peer.addresses]
        entry = self._dialed.get(_label(peer))
        if entry is not None:
            entry.addresses = addresses
            return
        log.info("found %s at %s", node_id_text(peer.node_id), ", ".join(peer.addresses))
        delay = GRACE if self.node_id > peer.node_id and peer.description.roles != (int(Role.CLIENT),) else 0.0
        self._start(_label(peer), addresses, peer.node_id, False, delay)

    def _start(
        self, label: str, addresses: list[tuple[str, int]], node_id: bytes | None, static: bool, delay: float = 0.0
    ) -> None:
        assert self._nursery is not None
        if label in self._dialed or self._closing:
            return
        entry = self._dialed[label] = _Dialed(label, addresses, node_id, static)
        self._nursery.start_soon(self._keep, entry, delay)

    async def _keep(self, entry: _Dialed, delay: float) -> None:
        with entry.scope:
            await trio.sleep(delay)
            while not self._closing and self._dialed.get(entry.label) is entry:
                if self._has(entry):
                    await self.wait_for_change()
                    continue
                lasted = await self._attempt(entry)
                entry.failures = 0 if lasted else entry.failures + 1
                await trio.sleep(self._redial.delay(entry.failures, self._rng))

    async def _attempt(self, entry: _Dialed) -> bool:
        """Dial once and run the link to its end. Whether it came up."""
        for host, port in entry.addresses:
            try:
                opened = await self._dial(host, port)
            except NodeError as error:
                if str(error) != entry.error:
                    log.info("dialing %s: %s", entry.label, error)
                entry.error = str(error)
                continue
            node_id = opened.node_id
            if node_id is not None:
                if entry.static:
                    entry.node_id = node_id
                if node_id == self.node_id or self.linked(node_id):
                    await trio.aclose_forcefully(opened.stream)
                    return self._needless(entry, node_id)
            link = await self._run(opened, True, f"{host}:{port}", None if entry.static else entry.node_id)
            entry.error = link.reason
            if link.peer is not None and entry.static:
                entry.node_id = link.peer.node_id
            if entry.node_id == self.node_id:
                return self._needless(entry, self.node_id)
            if link.lived:
                return True
        return False

    def _needless(self, entry: _Dialed, node_id: bytes) -> bool:
        if node_id == self.node_id:
            log.warning("%s is this node itself; not dialing it again", entry.label)
            self._dialed.pop(entry.label, None)
        return True

    # ------------------------------------------------------------ links

    async def _run(self, opened: Opened, dialer: bool, address: str, expected: bytes | None = None) -> Link:
        link = self._make_link(next(self._numbers), opened, dialer, address)
        link.expected = expected
        self._open.add(link)
        try:
            await link.run(self)
        finally:
            self._open.discard(link)
            self.links.pop(link.number, None)
            await self._notify()
        return link

    def admit(self, link: Link) -> str:
        """Called by a link after its handshake. Empty: go on. Else: why it must close."""
        peer = link.peer
        assert peer is not None
        if self._closing:
            return "this node is shutting down"
        if peer.node_id == self.node_id:
            return "this is the node itself"
        if link.expected is not None and peer.node_id != link.expected:
            return f"{link.address} is {node_id_text(peer.node_id)}, announced was {node_id_text(link.expected)}"
        twin = next((other for other in self.links.values() if _same(other, link)), None)
        if twin is not None:
            # Both dialed: the link dialed by the lower node id stays; both sides decide alike. One dialed twice: it has
            # lost the first link, whatever this side still believes.
            if twin.dialer != link.dialer and (self.node_id < peer.node_id) != link.dialer:
                return TWINS
            twin.close(TWINS)
            self.links.pop(twin.number, None)
        self.links[link.number] = link
        return ""

    async def came_up(self, link: Link) -> None:
        """Called by a link once the machines know of it."""
        log.info("link %d with %s at %s", link.number, node_id_text(link.peer_id), link.address)
        await self._notify()

    async def went_down(self, link: Link) -> None:
        """Called by a link that has ended, before its last words are out."""
        self.links.pop(link.number, None)
        await self._notify()

    async def _notify(self) -> None:
        with trio.CancelScope(shield=True):
            async with self.changed:
                self.changed.notify_all()


def _same(one: Link, other: Link) -> bool:
    return (
        one.peer is not None
        and other.peer is not None
        and (one.peer.node_id, one.peer.instance) == (other.peer.node_id, other.peer.instance)
    )


def _label(peer: PeerAddress) -> str:
    return peer.service
