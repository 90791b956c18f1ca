"""TLS 1.3 over a byte stream, with as few task switches as it takes.

``trio.SSLStream`` knows every version and mode of TLS; for that it takes a lock, and a turn of Trio's loop, around each
access to the transport. TLS 1.3 needs none of this once the handshake is done: writing never waits for reading (there
is no renegotiation), and reading makes bytes to send only when the peer changes its keys. So here one call is one write
or one read of the transport, and what the kernel takes at once is sent without a task switch.
"""

from __future__ import annotations

import contextlib
import operator
import ssl
from collections.abc import Callable
from typing import Any

import trio

CHUNK = 1 << 16
RECORD = 1 << 14


class TlsStream(trio.abc.Stream):
    """One end of a TLS connection over ``transport_stream``. At most one task reads and one writes.

    Faults of either layer are :class:`trio.BrokenResourceError` with the cause; the stream is of no use after that.

    :param context: takes TLS 1.3 and nothing else.
    """

    def __init__(
        self, transport_stream: trio.abc.Stream, context: ssl.SSLContext, *, server_side: bool = False
    ) -> None:
        self.transport_stream = transport_stream
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side)
        """version, certificates and protocol of the connection"""
        self._unsent = b""
        """records of which the transport did not take all at once"""
        self._sending = self._receiving = False
        self._pushing = False
        self._broken = False
        self._closed = False

    async def do_handshake(self) -> None:
        """Once, before anything else. On failure the alert that says why has been sent."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._push()
                await self._pull()
            except ssl.SSLError as fault:
                self._broken = True
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._push()
                raise trio.BrokenResourceError from fault
            else:
                await self._push()
                return

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Up to ``max_bytes`` as soon as there are any; empty when the peer said that it has no more to say."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes = {max_bytes}: must be 1 or more")
        self._receiving = True
        try:
            return await self._receive(max_bytes or RECORD)
        finally:
            self._receiving = False

    async def _receive(self, max_bytes: int) -> bytes:
        self._check()
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while True:
            # Asking TLS for what it cannot have costs an exception.
            data = None
            if self._incoming.pending or self._incoming.eof or self.tls.pending():
                data = self._call(self.tls.read, max_bytes)
                if self._outgoing.pending:
                    # The answer to a change of keys. Whoever is sending takes it along.
                    await self._push()
            if data is not None:
                break
            await self._pull()
            waited = True
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data``, in one record where it fits. If it is cancelled, the stream is broken."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._check()
        self._sending = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._encrypt(data)
            if data:
                await self._push()
            else:
                await trio.lowlevel.checkpoint()
        finally:
            self._sending = False

    def send_nowait(self, data: bytes) -> bool:
        """Send ``data`` without waiting; returns whether all of it has left. If not, :meth:`flush` sends the rest.

        The transport must have a method ``send_nowait(data)`` that returns how many bytes it sent; it leaves faults to
        the next ``send_all``.
        """
        self._encrypt(data)
        if self._pushing:
            return False
        records = self._unsent + self._outgoing.read()
        sent = self.transport_stream.send_nowait(records)  # type: ignore[attr-defined]
        self._unsent = records[sent:]
        return not self._unsent

    async def flush(self) -> None:
        """Send what :meth:`send_nowait` could not, unless another task is at it."""
        await self._push()

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport_stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Tell the peer that no more will come, and close the transport without waiting for its answer."""
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        try:
            if not self._broken:
                with contextlib.suppress(ssl.SSLError):
                    self.tls.unwrap()
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await self._push()
        finally:
            await self.transport_stream.aclose()

    # ------------------------------------------------------------ between TLS and the transport

    def _encrypt(self, data: bytes | bytearray | memoryview) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._call(self.tls.write, rest) :]

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if self._broken:
            raise trio.BrokenResourceError

    def _call(self, function: Callable[..., Any], argument: Any) -> Any:
        """What TLS answers; None: it needs to read first."""
        self._check()
        try:
            return function(argument)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as fault:
            self._broken = True
            raise trio.BrokenResourceError from fault

    async def _pull(self) -> None:
        data = await self.transport_stream.receive_some(CHUNK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _push(self) -> None:
        """Send what TLS has ready, unless somebody is at it already and will take it along."""
        if self._pushing:
            return
        self._pushing = True
        try:
            while records := self._unsent + self._outgoing.read():
                self._unsent = b""
                await self.transport_stream.send_all(records)
        except BaseException:
            self._broken = True
            raise
        finally:
            self._pushing = False
