"""Finding nodes on the local network by DNS-SD over multicast DNS (SPEC.md, section "Discovery").

It finds addresses and nothing more: whether a peer is one of us is decided by its key
(:mod:`reference_nodes.tls`), whether it is alive by the protocol's heartbeats. A killed node's records live
on in every cache for about 19 minutes, so no :class:`Lost` is no sign of life. A network without multicast is
an ordinary network: there, addresses are given by hand (``--peer``).

::

    async with open_multicast(interfaces) as multicast:
        async with announce(multicast, description, port=7171), browse(multicast, cluster, own) as events:
            async for event in events: ...

zeroconf keeps its own threads. What they report crosses into Trio through one table of bounded size, keyed by
service: a later report about a service replaces an earlier one that nobody has looked at yet, so a flood
costs memory once per name.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio
import zeroconf
from zeroconf import ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from dsdproto.registry import SERVICE_TYPE, VERSION
from reference_nodes.errors import NodeError
from reference_nodes.interfaces import Interface
from reference_nodes.txt import Description, TxtError, decode_txt, encode_txt

log = logging.getLogger("dsdp.discovery")

MAX_SERVICES = 1024
"""Services that one browser keeps in mind; further ones are ignored until others leave."""
MAX_RESOLVING = 32
MAX_ADDRESSES = 16
RESOLVE_MS = 3000
CLOSE_SECONDS = 3.0
LABEL_BYTES = 40


class MulticastUnavailable(NodeError):
    """The multicast DNS sockets could not be opened."""

    code = "multicast-unavailable"


@dataclass(frozen=True)
class PeerAddress:
    """Where a node says it can be reached.

    Unproven until a TLS handshake shows the key behind ``node_id``.
    """

    service: str
    """full DNS-SD name"""
    description: Description
    addresses: tuple[str, ...]
    """IPv4 first; link-local IPv6 with its zone"""
    port: int

    @property
    def node_id(self) -> bytes:
        return self.description.node_id

    @property
    def instance(self) -> bytes:
        return self.description.instance


@dataclass(frozen=True)
class Found:
    """A node of our cluster, new or with other data than before."""

    peer: PeerAddress


@dataclass(frozen=True)
class Lost:
    """A node took its announcement back, or its records expired."""

    peer: PeerAddress


@dataclass(frozen=True)
class Ignored:
    """A service of our type that is of no use to us. ``code``: other-cluster, other-version, malformed."""

    service: str
    code: str
    text: str
    addresses: tuple[str, ...] = ()


Event = Found | Lost | Ignored


class Multicast:
    """Open multicast DNS sockets on named interfaces. Made by :func:`open_multicast`."""

    def __init__(self, zc: Zeroconf, interfaces: tuple[Interface, ...]) -> None:
        self.zc = zc
        self.interfaces = interfaces


@asynccontextmanager
async def open_multicast(interfaces: Sequence[Interface]) -> AsyncIterator[Multicast]:
    """Join the multicast group on ``interfaces``. Raises :class:`MulticastUnavailable`."""
    addresses = [item.multicast_address for item in interfaces if item.multicast_address]
    names = ", ".join(item.name for item in interfaces) or "no interface"
    if not addresses:
        raise _unavailable(names, "no interface with an address was named")
    try:
        # zeroconf leaves a socket open when one of several addresses cannot be bound, so that is tried before.
        for address in addresses:
            _check_bindable(address)
        zc = await trio.to_thread.run_sync(partial(Zeroconf, interfaces=addresses, use_asyncio=False))
    except (OSError, RuntimeError) as fault:
        raise _unavailable(names, str(fault)) from fault
    try:
        if not zc.engine.senders:
            raise _unavailable(names, "the interface does not take part in multicast")
        yield Multicast(zc, tuple(interfaces))
    finally:
        await _finish(zc.close)


def service_name(label: str, instance: bytes) -> str:
    """DNS-SD name of a node (clause DI-2): what people call it, then its instance id, which makes the name
    unique.
    """
    text = "".join(char if char.isprintable() and char != "." else "-" for char in label)
    text = text.encode()[:LABEL_BYTES].decode(errors="ignore").strip() or "node"
    return f"{text}-{instance.hex()}.{SERVICE_TYPE}"


@asynccontextmanager
async def announce(
    multicast: Multicast,
    description: Description,
    port: int,
    *,
    label: str = "node",
    addresses: Sequence[str] | None = None,
) -> AsyncIterator[PeerAddress]:
    """Announce this node until the block ends; then take the announcement back.

    :param port: TCP port that it listens on.
    :param addresses: where; by default all addresses of the interfaces that ``multicast`` was opened on.

    Raises :class:`MulticastUnavailable` if the announcement cannot be sent.
    """
    if addresses is None:
        addresses = [address for item in multicast.interfaces for address in item.addresses]
    name = service_name(label, description.instance)
    host = f"dsdp-{description.instance.hex()}.local."
    info = ServiceInfo(
        SERVICE_TYPE,
        name,
        port=port,
        properties=encode_txt(description),
        server=host,
        parsed_addresses=list(addresses),
    )
    # The instance id is random and fresh, so the name is unique without the probing that would cost 1.2 s.
    register = partial(multicast.zc.register_service, info, cooperating_responders=True)
    try:
        await trio.to_thread.run_sync(register)
    except (OSError, zeroconf.Error) as fault:
        raise _unavailable(", ".join(item.name for item in multicast.interfaces), repr(fault)) from fault
    try:
        yield PeerAddress(name, description, tuple(addresses), port)
    finally:
        await _finish(partial(multicast.zc.unregister_service, info))


@asynccontextmanager
async def browse(
    multicast: Multicast, cluster: bytes, own_instance: bytes = b"", *, report_ignored: bool = False
) -> AsyncIterator[Browser]:
    """Watch for nodes of ``cluster`` other than ``own_instance``; iterate over what it yields for
    :data:`Event` s.

    :param report_ignored: give :class:`Ignored` events too, for diagnosis. They are logged in any case.
    """
    browser = Browser(multicast.zc, cluster, own_instance, report_ignored)
    watcher = await trio.to_thread.run_sync(
        partial(ServiceBrowser, multicast.zc, SERVICE_TYPE, handlers=[browser.on_change])
    )
    try:
        yield browser
    finally:
        browser.close()
        await _finish(watcher.cancel)


class Browser:
    """Asynchronous iterator of :data:`Event`. One reader at a time."""

    def __init__(self, zc: Zeroconf, cluster: bytes, own_instance: bytes, report_ignored: bool) -> None:
        self._zc = zc
        self._cluster = cluster
        self._own = own_instance
        self._report_ignored = report_ignored
        self._token = trio.lowlevel.current_trio_token()
        self._wake_up, self._woken = trio.open_memory_channel[None](1)
        self._changed: dict[str, ServiceStateChange] = {}
        self._resolving: set[str] = set()
        self._known: dict[str, PeerAddress] = {}
        self._ignored: dict[str, Ignored] = {}
        self._ready: deque[Event] = deque()

    # ---- on zeroconf's threads

    def on_change(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """Called by zeroconf for each change, on its own thread."""
        self._hand_over(self._note, name, state_change)

    def _hand_over(self, function: Any, *values: Any) -> None:
        try:
            self._token.run_sync_soon(function, *values)
        except trio.RunFinishedError:
            log.debug("a report came after the program's end")

    # ---- on Trio's thread

    def _note(self, name: str, change: ServiceStateChange) -> None:
        if name not in self._changed and len(self._changed) >= MAX_SERVICES:
            log.warning("more than %d services changed at once; ignoring %s", MAX_SERVICES, name)
            return
        self._changed[name] = change
        try:
            self._wake_up.send_nowait(None)
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            return  # a wake-up is waiting already, or nobody listens any more

    def close(self) -> None:
        """End the iteration."""
        self._wake_up.close()

    def __aiter__(self) -> Browser:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            try:
                await self._woken.receive()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
            changed, self._changed = self._changed, {}
            for name, change in changed.items():
                event = self._removed(name) if change is ServiceStateChange.Removed else self._present(name)
                if event is not None:
                    self._ready.append(event)
        return self._ready.popleft()

    def _removed(self, name: str) -> Event | None:
        self._ignored.pop(name, None)
        peer = self._known.pop(name, None)
        return None if peer is None else Lost(peer)

    def _present(self, name: str) -> Event | None:
        info = ServiceInfo(SERVICE_TYPE, name)
        if not info.load_from_cache(self._zc):
            self._resolve(info)
            return None
        addresses = tuple(info.parsed_scoped_addresses()[:MAX_ADDRESSES])
        try:
            description = decode_txt(info.properties)
        except TxtError as fault:
            return self._ignore(Ignored(name, "malformed", f"malformed announcement {name!r}: {fault}", addresses))
        if description.instance == self._own:
            return None
        low, high = description.versions
        if description.cluster != self._cluster:
            text = f"{name!r} belongs to cluster {description.cluster.hex()}, not to ours, {self._cluster.hex()}"
            return self._ignore(Ignored(name, "other-cluster", text, addresses))
        if not low <= VERSION <= high:
            text = f"{name!r} speaks DSDP versions {low} to {high}; this node speaks {VERSION}"
            return self._ignore(Ignored(name, "other-version", text, addresses))
        if not addresses or not info.port:
            return self._ignore(Ignored(name, "malformed", f"{name!r} announces no address or port", addresses))
        peer = PeerAddress(name, description, addresses, info.port)
        if self._known.get(name) == peer:
            return None
        if name not in self._known and len(self._known) >= MAX_SERVICES:
            log.warning("more than %d nodes announce themselves; ignoring %s", MAX_SERVICES, name)
            return None
        self._known[name] = peer
        self._ignored.pop(name, None)
        return Found(peer)

    def _ignore(self, event: Ignored) -> Event | None:
        """Say it once, not at each refresh."""
        if self._ignored.get(event.service) == event or len(self._ignored) >= MAX_SERVICES:
            return None
        self._ignored[event.service] = event
        log.info("ignored: %s", event.text)
        return event if self._report_ignored else None

    def _resolve(self, info: ServiceInfo) -> None:
        """Ask the network for records that did not come along, on zeroconf's own loop; then look again."""
        if info.name in self._resolving or len(self._resolving) >= MAX_RESOLVING or self._zc.loop is None:
            return
        self._resolving.add(info.name)
        question = info.async_request(self._zc, RESOLVE_MS)
        future = asyncio.run_coroutine_threadsafe(question, self._zc.loop)
        future.add_done_callback(lambda done: self._hand_over(self._resolved, info.name, done))

    def _resolved(self, name: str, done: Any) -> None:
        self._resolving.discard(name)
        if done.cancelled() or done.exception() is not None or not done.result():
            log.info("ignored: %r does not say where it is", name)
        elif name not in self._changed:
            self._note(name, ServiceStateChange.Updated)


def _check_bindable(address: str) -> None:
    """Raises OSError if ``address`` is not one of this machine's."""
    target = socket.getaddrinfo(address, 0, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0]
    with socket.socket(target[0], socket.SOCK_DGRAM) as trial:
        trial.bind(target[4])


async def _finish(close: Any) -> None:
    """Run a blocking farewell of zeroconf even when we are being cancelled, but not for ever."""
    with trio.move_on_after(CLOSE_SECONDS, shield=True):
        try:
            await trio.to_thread.run_sync(close, abandon_on_cancel=True)
        except (OSError, RuntimeError, zeroconf.Error, TimeoutError) as fault:
            log.debug("leaving the multicast group: %r", fault)


def _unavailable(names: str, reason: str) -> MulticastUnavailable:
    return MulticastUnavailable(
        f"multicast DNS does not work on {names}: {reason}.",
        'Nodes can be reached by address all the same: --peer HOST:PORT (docs/lan.md, "Without multicast").',
    )
