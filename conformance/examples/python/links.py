"""TLS links of a live node on asyncio: one reader each; what the connection's machine has to say is written at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dsdproto.connection import Connection, Side
from dsdproto.effects import Event
from dsdproto.registry import ALPN
from dsdproto.wire.messages import Hello

PIECE = 1 << 16


def context(identity: dict[str, str], server: bool) -> ssl.SSLContext:
    """Clauses T-1 to T-3, T-7. ``identity`` has certificate, key and authority as PEM."""
    out = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    out.minimum_version = ssl.TLSVersion.TLSv1_3
    out.check_hostname = False
    out.verify_mode = ssl.CERT_REQUIRED
    out.load_verify_locations(cadata=identity["authority"])
    with tempfile.TemporaryDirectory() as room:  # the library takes files alone
        path = Path(room, "node.pem")
        path.touch(mode=0o600)
        path.write_text(identity["key"] + identity["certificate"])
        out.load_cert_chain(path)
    out.set_alpn_protocols([ALPN])
    if server:
        out.num_tickets = 0
    return out


def node_id_of(certificate: x509.Certificate) -> bytes:
    """Clause N-1."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(spki).digest()


def cluster_of(authority: str) -> bytes:
    """Clause T-3, from the authority's PEM."""
    return node_id_of(x509.load_pem_x509_certificate(authority.encode()))[:16]


class Tls:
    """TLS over a TCP stream, by hand: asyncio's own closes without the alert when it refuses a peer (clause T-8)."""

    def __init__(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], secure: ssl.SSLContext) -> None:
        self.reader, self.writer = streams
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = secure.protocol == ssl.PROTOCOL_TLS_SERVER
        self.tls = secure.wrap_bio(self._in, self._out, server_side=server)

    async def handshake(self) -> None:
        """Raises OSError (of which SSLError is one) when it does not come about; the alert is sent then."""
        while True:
            try:
                self.tls.do_handshake()
                self._flush()
                break
            except ssl.SSLWantReadError:
                self._flush()
                if not await self._more():
                    raise ConnectionError("the peer hung up during the TLS handshake") from None
            except ssl.SSLError:
                self._flush()
                await self.writer.drain()
                raise
        if self.tls.selected_alpn_protocol() != ALPN:
            raise ConnectionError("another ALPN protocol")  # clause T-2

    async def read(self) -> bytes:
        """What came; empty at the end. Raises OSError."""
        while True:
            try:
                return self.tls.read(PIECE)
            except ssl.SSLWantReadError:
                if not await self._more():
                    return b""
            except ssl.SSLZeroReturnError:
                return b""

    def write(self, data: bytes) -> None:
        self.tls.write(data)
        self._flush()

    def close(self) -> None:
        """Say that nothing more comes, and hang up behind it."""
        if self.writer.is_closing():
            return
        with contextlib.suppress(OSError, ssl.SSLError):
            self.tls.unwrap()
        self._flush()
        self.writer.close()

    async def _more(self) -> bool:
        data = await self.reader.read(PIECE)
        self._in.write(data)
        return bool(data)

    def _flush(self) -> None:
        if self._out.pending:
            self.writer.write(self._out.read())


class Link:
    """One connection from its handshake to its end.

    :param told: takes what happened; called in the loop's thread.
    """

    def __init__(self, number: int, side: Side, hello: Hello, tls: Tls, told: Callable[[list[Event]], None]) -> None:
        self.tls = tls
        self.told = told
        self.loop = asyncio.get_running_loop()
        certificate = tls.tls.getpeercert(True)
        assert certificate is not None
        self.peer_id = node_id_of(x509.load_der_x509_certificate(certificate))
        self.machine = Connection(side, hello, self.peer_id, os.urandom(32), self.loop.time(), link=number)
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Until it ends."""
        try:
            self.flush()
            while not self.machine.closed:
                data = await self.tls.read()
                events = self.machine.receive(data, self.loop.time()) if data else self.machine.eof()
                self.happened(events)
                await self.tls.writer.drain()
        except OSError:
            self.happened(self.machine.eof())
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self.tls.close()

    def happened(self, events: list[Event]) -> None:
        self.flush()
        self.told(events)
        self.flush()

    def perform(self, effect: Any) -> None:
        events = self.machine.perform(effect)
        self.flush()
        self.told(events)

    def flush(self) -> None:
        """Write what is due, set the timer anew, and hang up behind the last byte."""
        if data := self.machine.data_to_send():
            self.tls.write(data)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.machine.next_deadline()
        if deadline is not None:
            self._timer = self.loop.call_at(deadline, self._tick)
        else:
            self.tls.close()

    def _tick(self) -> None:
        self.happened(self.machine.tick(self.loop.time()))
