"""Opens the streams that links run on, and counts every byte that crosses them.

The counter sits below TLS, so it sees records as they are on the wire, handshake and all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import trio

from reference_nodes import tls
from reference_nodes.connect_errors import ConnectError, PlainForbidden, explain
from reference_nodes.errors import NodeError
from reference_nodes.trust import NodeIdentity


@dataclass(slots=True)
class WireCount:
    """Bytes of a TCP stream."""

    received: int = 0
    sent: int = 0
    writes: int = 0


class CountingStream(trio.abc.Stream):
    """A stream that counts what passes through it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.count = WireCount()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)
        self.count.sent += len(data)
        self.count.writes += 1

    def send_nowait(self, data: bytes) -> int:
        """Send as much as the kernel takes at once; returns how many bytes that is. Faults are left to ``send_all``."""
        try:
            sent = os.write(self.stream.socket.fileno(), data)
        except OSError:
            return 0
        self.count.sent += sent
        self.count.writes += 1
        return sent

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await self.stream.receive_some(max_bytes)
        self.count.received += len(data)
        return data

    async def aclose(self) -> None:
        await self.stream.aclose()


@dataclass(slots=True)
class Opened:
    """A stream that is ready for HELLO."""

    stream: trio.abc.Stream
    """one with ``send_nowait`` and ``flush``, as :class:`~reference_nodes.tls_stream.TlsStream`, saves task switches"""
    count: WireCount
    handshake: WireCount | None
    """what TLS cost before the first frame; None where it could not be seen"""
    node_id: bytes | None
    """what the peer's certificate proves; None without TLS"""


class TlsTransport:
    """Mutual TLS with nodes of one cluster. Raises what :meth:`NodeIdentity.check_validity` raises."""

    def __init__(self, identity: NodeIdentity) -> None:
        self.identity = identity
        self._client = tls.client_context(identity)
        self._server = tls.server_context(identity)

    async def dial(self, host: str, port: int) -> Opened:
        """Raises :class:`ConnectError`."""
        stream = await tls.connect(host, port, self.identity, context=self._client)
        counting = CountingStream(stream.transport_stream)
        stream.transport_stream = counting
        return Opened(stream, counting.count, None, await _proved(stream))

    async def accept(self, transport: trio.SocketStream) -> Opened:
        """Raises :class:`ConnectError`; the transport is closed then."""
        counting = CountingStream(transport)
        try:
            stream = await tls.accept(counting, self._server, where=peer_name(transport))  # type: ignore[arg-type]
        except OSError as fault:
            await trio.aclose_forcefully(transport)
            raise explain(peer_name(transport), fault) from fault
        count = counting.count
        return Opened(stream, count, WireCount(count.received, count.sent, count.writes), await _proved(stream))


class PlainTransport:
    """TCP on loopback, for tests. Nobody proves anything."""

    async def dial(self, host: str, port: int) -> Opened:
        """Raises :class:`ConnectError`."""
        return _plain(await tls.connect_plain(host, port, allow_plain_loopback=True))

    async def accept(self, transport: trio.SocketStream) -> Opened:
        """Raises :class:`ConnectError` for a peer that is not on this machine."""
        try:
            tls.require_loopback(transport.socket.getpeername()[0], allow_plain_loopback=True)
        except (PlainForbidden, OSError) as fault:
            await trio.aclose_forcefully(transport)
            raise fault if isinstance(fault, ConnectError) else explain(peer_name(transport), fault) from fault
        return _plain(transport)


def peer_name(transport: trio.SocketStream) -> str:
    """HOST:PORT of the other end, for people."""
    try:
        host, port = transport.socket.getpeername()[:2]
    except OSError:
        return "a peer that has gone"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _plain(transport: trio.SocketStream) -> Opened:
    counting = CountingStream(transport)
    return Opened(counting, counting.count, WireCount(), None)


async def _proved(stream: Any) -> bytes:
    try:
        return tls.peer_node_id(stream)
    except NodeError:
        await trio.aclose_forcefully(stream)
        raise
