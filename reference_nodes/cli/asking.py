"""Asks a node for its status document, over a connection of its own that carries nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from dsdproto.connection import Connection, Side
from dsdproto.effects import LinkDown, LinkUp, Received
from dsdproto.registry import MAX_PAYLOAD, VERSION, Feature, Role
from dsdproto.wire.messages import Hello, Limits, Status, StatusRequest
from reference_nodes import tls
from reference_nodes.cli.about import agent
from reference_nodes.errors import NodeError
from reference_nodes.node import parse_address
from reference_nodes.trust import NodeIdentity

SECONDS = 10.0
HEARTBEAT_MS = 5000


class StatusFailed(NodeError):
    """The node answered with something else than its status, or not at all."""

    code = "status-failed"


class Asker:
    """An open connection to one node. Made by :func:`open_asker`."""

    def __init__(self, stream: tls.Stream, connection: Connection, where: str) -> None:
        self._stream = stream
        self._connection = connection
        self._where = where

    async def status(self) -> dict[str, Any]:
        """The node's document. Raises :class:`StatusFailed`."""
        self._connection.send(0, StatusRequest())
        while True:
            for event in await self._exchange():
                if isinstance(event, Received) and isinstance(event.message, Status):
                    try:
                        return json.loads(event.message.document)
                    except ValueError as error:
                        raise StatusFailed(f"{self._where} answered with what is no JSON: {error}.") from error

    async def _up(self) -> None:
        while not any(isinstance(event, LinkUp) for event in await self._exchange()):
            await trio.lowlevel.checkpoint()

    async def _exchange(self) -> list[Any]:
        """Send what is due, wait for bytes, and give the events in them."""
        await self._flush()
        data = await self._stream.receive_some(1 << 16)
        events = self._connection.receive(data, trio.current_time()) if data else self._connection.eof()
        await self._flush()
        for event in events:
            if isinstance(event, LinkDown):
                raise StatusFailed(f"{self._where} ended the connection: {event.reason}.")
        return events

    async def _flush(self) -> None:
        if data := self._connection.data_to_send():
            await self._stream.send_all(data)


@asynccontextmanager
async def open_asker(address: str, identity: NodeIdentity, *, seconds: float = SECONDS) -> AsyncIterator[Asker]:
    """Connect to the node at ``address`` (HOST:PORT). Raises ConnectError, ConfigError, :class:`StatusFailed`."""
    host, port = parse_address(address)
    stream = await tls.connect(host, port, identity, timeout=seconds)
    hello = Hello(
        version_min=VERSION,
        version_max=VERSION,
        node_id=identity.node_id,
        instance=os.urandom(8),
        roles=(int(Role.CLIENT),),
        cluster=identity.cluster_id,
        features=tuple(sorted(int(feature) for feature in Feature)),
        limits=Limits(max_payload=MAX_PAYLOAD, max_channels=16, heartbeat_ms=HEARTBEAT_MS),
        models=(),
        nonce=os.urandom(16),
        agent=agent(),
    )
    connection = Connection(
        Side.DIALER,
        hello,
        tls.peer_node_id(stream),
        os.urandom(64),
        trio.current_time(),
        link=0,
        handshake_seconds=seconds,
    )
    asker = Asker(stream, connection, address)
    try:
        try:
            with trio.fail_after(seconds):
                await asker._up()
        except trio.TooSlowError:
            raise StatusFailed(f"{address} did not say hello within {seconds:g} s.") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
            raise tls.explain(address, fault) from fault
        yield asker
        connection.close("asked and answered")
        with trio.move_on_after(1.0):
            await asker._flush()
    finally:
        await trio.aclose_forcefully(stream)


async def ask_status(address: str, identity: NodeIdentity, *, seconds: float = SECONDS) -> dict[str, Any]:
    """One question, one answer. Raises as :func:`open_asker`."""
    async with open_asker(address, identity, seconds=seconds) as asker:
        try:
            with trio.fail_after(seconds):
                return await asker.status()
        except trio.TooSlowError:
            raise StatusFailed(f"{address} did not answer within {seconds:g} s.") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
            raise tls.explain(address, fault) from fault
