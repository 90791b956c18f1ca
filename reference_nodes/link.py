"""One link: one stream, the sans-IO connection on it, and three tasks that own both.

::

    stream --> reader --> Connection --> events, in order --> host's mailbox
    stream <-- writer <-- queue <------ Connection <-- host's core task (send, refuse, close: they only queue)
                                        Connection <-- clock (heartbeats, handshake timeout)

What a link's reader and the core task have queued by the time they are through goes out in one write, that is in one
TLS record where it fits: at once if the kernel takes it, else by the writer.
The queue is bounded: a peer that lets it grow beyond ``max_outbound`` bytes is too slow, and is cut off with that
reason rather than held against the others. A fault of the stream or of the peer ends this link and nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import trio

from dsdproto.connection import Connection, Side
from dsdproto.effects import Event, LinkDown, LinkUp, Received
from dsdproto.errors import PeerError
from dsdproto.wire.messages import Hello, Status, StatusRequest
from reference_nodes.host import Host
from reference_nodes.meter import Traffic
from reference_nodes.transport import Opened

log = logging.getLogger("dsdp.link")

MAX_OUTBOUND = 4 << 20
CHUNK = 1 << 16
FAREWELL = 1.0
"""Seconds for the last words to leave and for the peer to hang up."""

StreamFault = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@dataclass(frozen=True, slots=True)
class LinkOptions:
    hello: Hello
    """what this node says of itself; each link gets a nonce of its own"""
    max_outbound: int = MAX_OUTBOUND
    handshake_seconds: float = 10.0


class Owner(Protocol):
    """Decides which links stay (:class:`reference_nodes.peers.Peers`)."""

    def admit(self, link: Link) -> str:
        """Empty: the link stays. Else why it must close."""
        ...

    async def came_up(self, link: Link) -> None: ...

    async def went_down(self, link: Link) -> None: ...


class Link:
    """The owner of one stream. :meth:`run` is its life; ``send``, ``refuse`` and ``close`` are for the core task.

    :param document: makes the document that answers a STATUS_REQUEST.
    """

    def __init__(
        self,
        number: int,
        opened: Opened,
        dialer: bool,
        address: str,
        host: Host,
        options: LinkOptions,
        document: Callable[[], str],
    ) -> None:
        self.number = number
        self.dialer = dialer
        self.address = address
        self.since = trio.current_time()
        self.peer: Hello | None = None
        self.expected: bytes | None = None
        """node id that the peer must have; None: any of the cluster"""
        self.up = False
        """the machines know of it"""
        self.lived = False
        """the machines have known of it"""
        self.reason = ""
        """why it ended"""
        self.traffic = Traffic(opened.count, opened.handshake)
        self._stream = opened.stream
        self._send_nowait: Callable[[bytes], bool] | None = getattr(opened.stream, "send_nowait", None)
        self._host = host
        self._max_outbound = options.max_outbound
        self._document = document
        self._connection = Connection(
            Side.DIALER if dialer else Side.ACCEPTOR,
            replace(options.hello, nonce=os.urandom(16)),
            opened.node_id,
            os.urandom(64),
            self.since,
            link=number,
            handshake_seconds=options.handshake_seconds,
        )
        self._queue = bytearray()
        self._in_flight = 0
        self._writer = trio.lowlevel.ParkingLot()
        self._idle = trio.lowlevel.ParkingLot()
        self._events: deque[Event] = deque()
        self._turn = trio.Lock()
        self._kick = trio.Event()
        self._alarm = math.inf
        self._over = trio.Event()
        self._hung_up = trio.Event()
        self._abandoned = False
        # No more answers come than were asked for: the connection sees to it.
        self._statuses, self._answers = trio.open_memory_channel[str](math.inf)

    # ------------------------------------------------------------ for the core task and status

    @property
    def peer_id(self) -> bytes:
        """Node id of the peer, 32 bytes; only after the handshake."""
        assert self.peer is not None
        return self.peer.node_id

    @property
    def rtt(self) -> float | None:
        """Seconds of the last PING."""
        return self.traffic.rtt

    @property
    def queued(self) -> int:
        """Bytes that wait to be sent."""
        return len(self._queue) + self._in_flight

    def send(self, channel: int, message: Any) -> None:
        """Queue a message. Raises LocalError for one that is not legal now: a bug of ours."""
        self._after(self._connection.send(channel, message))

    def refuse(self, channel: int, error: PeerError) -> None:
        """Tell the peer what it did wrong; ends what the error's scope says."""
        self._after(self._connection.refuse(channel, error))

    def close(self, reason: str) -> None:
        """End the link behind what is queued."""
        self._after(self._connection.close(reason))

    async def ask_status(self) -> str:
        """The peer's status document, JSON. Raises :class:`trio.EndOfChannel` when the link ends first."""
        self.send(0, StatusRequest())
        return await self._answers.receive()

    def flush(self) -> None:
        """Send what is queued without waiting, as far as that goes; the writer does the rest."""
        if self._send_nowait is None or self._in_flight or not self._queue:
            self._writer.unpark()
            return
        data = bytes(self._queue)
        self._queue.clear()
        try:
            if not self._send_nowait(data):
                self._in_flight = len(data)
                self._writer.unpark()
        except StreamFault as fault:
            log.debug("link %d: %r", self.number, fault)
            self._abandon(self._connection.eof())
        self._idle.unpark_all()

    def _after(self, events: list[Event]) -> None:
        """Outside the link's own tasks: their clock delivers what came back."""
        self._flush()
        if events:
            self._events.extend(events)
            self._kick.set()

    # ------------------------------------------------------------ life

    async def run(self, owner: Owner) -> None:
        """Handshake, traffic, end. Returns when the stream is closed; never raises for anything but cancellation."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, owner)
                nursery.start_soon(self._write)
                nursery.start_soon(self._tick, owner)
                self._flush()
                await self._over.wait()
                await self._part()
                nursery.cancel_scope.cancel()
            if not self._abandoned:
                with trio.move_on_after(FAREWELL), contextlib.suppress(*StreamFault):
                    await self._stream.aclose()
        finally:
            self._statuses.close()
            await trio.aclose_forcefully(self._stream)
            log.info("link %d with %s ended: %s", self.number, self.address, self.reason)

    async def _part(self) -> None:
        """Who has the last word waits until the other side hung up, or the words could be lost with the connection."""
        if self._abandoned:
            return
        last_word = bool(self.queued)
        with trio.move_on_after(FAREWELL):
            while self.queued and not self._hung_up.is_set():
                await self._idle.park()
            if last_word:
                await self._hung_up.wait()

    async def _read(self, owner: Owner) -> None:
        try:
            while True:
                data = await self._stream.receive_some(CHUNK)
                if not data:
                    break
                now = trio.current_time()
                self.traffic.saw_received(data, now)
                self._events.extend(self._connection.receive(data, now))
                self._flush()
                await self._deliver(owner)
                deadline = self._connection.next_deadline()
                if deadline is not None and deadline < self._alarm:
                    self._kick.set()
        except StreamFault as fault:
            log.debug("link %d: %r", self.number, fault)
        except Exception as error:
            self._bug(error)
        self._hung_up.set()
        self._idle.unpark_all()
        self._events.extend(self._connection.eof())
        await self._deliver(owner)

    async def _write(self) -> None:
        try:
            while True:
                if self._in_flight:
                    await self._stream.flush()  # type: ignore[attr-defined]
                    self._in_flight = 0
                if not self._queue:
                    self._idle.unpark_all()
                    await self._writer.park()
                    continue
                data = bytes(self._queue)
                self._queue.clear()
                self._in_flight = len(data)
                await self._stream.send_all(data)
                self._in_flight = 0
        except StreamFault as fault:
            # The reader notices as well, but may be waiting for the mailbox.
            log.debug("link %d: %r", self.number, fault)
            self._abandon(self._connection.eof())

    async def _tick(self, owner: Owner) -> None:
        try:
            while (deadline := self._connection.next_deadline()) is not None or self._events:
                # What arrives mostly puts the deadline off: then this wakes up early and sleeps again.
                self._alarm = deadline if deadline is not None else -math.inf
                with trio.move_on_at(self._alarm):
                    await self._kick.wait()
                self._kick = trio.Event()
                self._events.extend(self._connection.tick(trio.current_time()))
                self._flush()
                await self._deliver(owner)
        except Exception as error:
            self._bug(error)

    # ------------------------------------------------------------ queue and events

    def _flush(self) -> None:
        data = self._connection.data_to_send()
        if not data:
            return
        self.traffic.saw_sent(data, trio.current_time())
        self._queue += data
        if not self._host.gather(self):
            self._writer.unpark()
        if self.queued > self._max_outbound and not self._abandoned:
            reason = f"the peer reads too slowly: {self.queued} bytes wait for it, the limit is {self._max_outbound}"
            self._abandon(self._connection.close(reason))

    def _abandon(self, events: list[Event]) -> None:
        """End without last words: they could not be sent."""
        self._abandoned = True
        self._queue.clear()
        self._events.extend(events)
        self._kick.set()

    def _bug(self, error: Exception) -> None:
        log.error("link %d with %s: a bug of this node ends the link", self.number, self.address, exc_info=error)
        self._abandon(self._connection.close(f"internal error: {type(error).__name__}"))

    async def _deliver(self, owner: Owner) -> None:
        """Hand over what is waiting, in order, whoever put it there: one task at a time, mostly without waiting."""
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            # Whoever has the turn goes on until nothing is left; the reader must not get ahead of it.
            await self._turn.acquire()
        try:
            while self._events:
                try:
                    if self.up and self._host.take(self._events):
                        if self._events:
                            await trio.lowlevel.checkpoint()
                    else:
                        await self._hand_over(self._events.popleft(), owner)
                except trio.BrokenResourceError:
                    self.reason = self.reason or "the node has ended"
                    self._over.set()
                except Exception as error:
                    self._bug(error)
                    self._over.set()
        finally:
            self._turn.release()

    async def _hand_over(self, event: Event, owner: Owner) -> None:
        match event:
            case LinkUp():
                self.peer = event.peer
                refusal = owner.admit(self)
                if refusal:
                    self.close(refusal)
                    return
                await self._host.link_up(self, event)
                self.up = self.lived = True
                await owner.came_up(self)
            case LinkDown():
                self.reason = event.reason
                await owner.went_down(self)
                if self.up:
                    self.up = False
                    await self._host.post(event)
                self._over.set()
            case Received(channel=0, message=StatusRequest()):
                self.send(0, Status(document=self._document()))
            case Received(channel=0, message=Status(document=document)):
                self._statuses.send_nowait(document)
            case _ if self.up:
                await self._host.post(event)
