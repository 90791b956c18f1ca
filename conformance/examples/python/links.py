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
HANDSHAKE_SECONDS = 10.0


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


class Link:
    """One connection from its handshake to its end.

    :param told: takes what happened; called in the loop's thread.
    """

    def __init__(
        self,
        number: int,
        side: Side,
        hello: Hello,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        told: Callable[[list[Event]], None],
    ) -> None:
        self.reader, self.writer = streams
        self.told = told
        self.loop = asyncio.get_running_loop()
        tls = self.writer.get_extra_info("ssl_object")
        if tls.selected_alpn_protocol() != ALPN:
            raise ConnectionError("another ALPN protocol")  # clause T-2
        self.peer_id = node_id_of(x509.load_der_x509_certificate(tls.getpeercert(True)))
        self.machine = Connection(side, hello, self.peer_id, os.urandom(32), self.loop.time(), link=number)
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Until it ends."""
        try:
            self.flush()
            while not self.machine.closed:
                data = await self.reader.read(PIECE)
                events = self.machine.receive(data, self.loop.time()) if data else self.machine.eof()
                self.happened(events)
                await self.writer.drain()
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError):
            self.happened(self.machine.eof())
        finally:
            if self._timer is not None:
                self._timer.cancel()
            with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
                self.writer.close()
                await asyncio.wait_for(self.writer.wait_closed(), 1.0)

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
            self.writer.write(data)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self.machine.next_deadline()
        if deadline is not None:
            self._timer = self.loop.call_at(deadline, self._tick)
        elif not self.writer.is_closing():
            self.writer.close()

    def _tick(self) -> None:
        self.happened(self.machine.tick(self.loop.time()))
