"""The testee is a newcomer: the suite makes the token and is the authority at the other end, or somebody who is not."""

from __future__ import annotations

import base64
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from conformance.door.dial import why, written
from conformance.door.joining import START_SECONDS, Running
from conformance.door.pki import Authority, key_pem, pem
from conformance.live.joining import NAMES, Line
from conformance.trial import Trial
from conformance.verdict import Failed
from dsdproto.identity import JOIN_CONTEXT, IdentityError, JoinToken, join_payload, load_spki, node_id_of, verify
from dsdproto.registry import ALPN_JOIN
from dsdproto.wire.messages import Join, Joined

HOST = "127.0.0.1"
VALID_SECONDS = 3600
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}")


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


class Guest:
    """The command with a token, on its way to the suite."""

    def __init__(self, t: NewcomerTestee, token: JoinToken, listener: trio.SocketListener, command: Running) -> None:
        self.t = t
        self.token = token
        self.command = command
        self._listener = listener

    async def arrives(self, host: ssl.SSLContext | None = None) -> Line | None:
        """Its TLS connection; None: it broke off the handshake.

        :param host: whom the suite shows; None: the authority.
        """
        trial = self.t.trial
        with trio.move_on_after(trial.seconds(START_SECONDS)):
            transport = await self._listener.accept()
            stream = trio.SSLStream(
                transport, host or self.t.shows(self.t.authority), server_side=True, https_compatible=True
            )
            trial.wire.event("authority", "was dialed")
            try:
                await stream.do_handshake()
            except (trio.BrokenResourceError, OSError) as error:
                trial.wire.event("authority", f"no TLS handshake: {why(error)[0]}")
                await trio.aclose_forcefully(stream)
                return None
            return Line("authority", trial, stream, Join)
        raise self.command.broken("did not dial the address in its token", "a connection")

    async def asks(self) -> tuple[Line, Join]:
        """It arrives at the authority and says JOIN, as clauses J-2, J-3 and J-5 have it."""
        trial = self.t.trial
        line = await self.arrives()
        if line is None:
            raise Failed(
                "J-3", "the newcomer does not talk to the authority that its token pins", "a connection", "none"
            )
        chosen = line.stream.selected_alpn_protocol()
        trial.expect("J-2", "the newcomer offers another protocol", ALPN_JOIN, chosen)
        join = await line.expect("J-3", "the newcomer does not ask to join")
        trial.expect("J-3", "JOIN names another secret id", self.token.secret_id, join.secret_id)
        trial.expect("J-3", "JOIN names another secret", self.token.secret, join.secret)
        try:
            key = load_spki(join.public_key)
        except IdentityError as error:
            raise Failed("J-5", f"the newcomer's key is of no use: {error}", "P-256", join.public_key) from error
        payload = join_payload(join.secret_id, join.secret, join.public_key)
        if not verify(key, JOIN_CONTEXT, payload, join.proof):
            raise Failed("J-5", "the proof is no signature by the newcomer's key", payload, join.proof)
        if not NAME.fullmatch(join.name):
            raise Failed("J-5", "the newcomer's name is none", f"1 to 48 of {NAMES}", join.name)
        return line, join

    async def no_more(self) -> None:
        """Nobody answers at the token's address any more."""
        await self._listener.aclose()

    async def joined(self, clause: str, said: str) -> None:
        """The command says that it became a node."""
        await self._left(clause, said, True)

    async def stayed_out(self, clause: str, said: str) -> None:
        """The command says that it did not."""
        await self.no_more()
        await self._left(clause, said, False)

    async def _left(self, clause: str, said: str, good: bool) -> None:
        status = await self.command.status()
        if status is None:
            raise self.command.broken("does not end", "its end")
        if (status == 0) is not good:
            for line in list(self.command.lines)[-6:]:
                self.t.trial.note(f"it said: {line}")
            raise Failed(clause, said, "status 0" if good else "another status than 0", f"status {status}")


class NewcomerTestee:
    """What a case about a newcomer is given.

    :param start: runs the command with this token.
    :param room: for files of the suite's own.
    :param home: the directory that the command was told to keep its things in; None: it was told none.
    """

    def __init__(
        self,
        trial: Trial,
        start: Callable[[str], AbstractAsyncContextManager[Running]],
        authority: Authority,
        room: Path,
        home: Path | None,
    ) -> None:
        self.trial = trial
        self.rng = trial.rng
        self.authority = authority
        self.home = home
        self._start = start
        self._room = room
        self._count = 0

    @asynccontextmanager
    async def invited(self) -> AsyncIterator[Guest]:
        """Run the command with a new token of the suite's cluster, which leads to the suite."""
        (listener,) = await trio.open_tcp_listeners(0, host=HOST)
        async with listener:
            token = JoinToken(
                cluster=node_id_of(self.authority.key.public_key())[:16],
                authority=node_id_of(self.authority.key.public_key()),
                secret_id=self.rng.randbytes(8),
                secret=self.rng.randbytes(16),
                expires=int(time.time()) + VALID_SECONDS,
                addresses=(written(*listener.socket.getsockname()[:2]),),
            )
            async with self._start(token.encode()) as command:
                yield Guest(self, token, listener, command)

    def shows(self, authority: Authority, *, alpn: str | None = ALPN_JOIN) -> ssl.SSLContext:
        """TLS of a join service with this authority's key and certificate."""
        self._count += 1
        path = self._room / f"{self._count}.pem"
        path.touch(0o600)
        path.write_bytes(key_pem(authority.key) + pem(authority.certificate))
        return self.serves(path, alpn=alpn)

    def serves(self, path: Path, key: Path | None = None, *, alpn: str | None = ALPN_JOIN) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.load_cert_chain(path, key)
        if alpn is not None:
            context.set_alpn_protocols([alpn])
        return context

    def answer(self, join: Join) -> Joined:
        """What this newcomer has to be given."""
        certificate = self.authority.certify(join.name, load_spki(join.public_key))
        cluster = node_id_of(self.authority.key.public_key())[:16]
        return Joined(certificate=der(certificate), authority=der(self.authority.certificate), cluster=cluster)

    def stored(self, *certificates: bytes) -> list[str]:
        """Files of the home that hold one of these certificates, as DER or as PEM."""
        if self.home is None:
            self.trial.note("what the newcomer stores is not looked at: --join-command has no {home}")
            return []
        found = []
        for path in sorted(self.home.rglob("*")):
            content = path.read_bytes() if path.is_file() else b""
            bare = b"".join(content.split())
            if any(each in content or base64.b64encode(each) in bare for each in certificates if each):
                found.append(str(path.relative_to(self.home)))
        return found

    async def happy_path(self) -> None:
        """A newcomer with a new token, in the same home, becomes a node."""
        async with self.invited() as guest:
            line, join = await guest.asks()
            await line.send(self.answer(join))
            await line.close()
            await guest.joined("J-7", "a newcomer that was let in does not say so")
