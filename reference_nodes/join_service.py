"""The authority's side of joining: one token, one service, one newcomer (SPEC.md, section "Join").

The service exists while somebody is expected, and no longer.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dsdproto.errors import PeerError
from dsdproto.identity import JOIN_CONTEXT, JoinToken, join_payload, verify
from dsdproto.registry import ALPN_JOIN, ErrorCode
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Error, Join, Joined
from reference_nodes import tls
from reference_nodes.authority import Cluster, issue
from reference_nodes.certificates import UnsupportedKey, certificate_node_id, load_public_key
from reference_nodes.connect_errors import ConnectError
from reference_nodes.join_wire import EXCHANGE_SECONDS, JoinError, receive_message
from reference_nodes.paths import BadName, check_name

log = logging.getLogger("dsdp.join")

VALID_SECONDS = 600.0
MAX_WRONG = 5
"""Wrong secrets until the service closes. The secret has 128 bits: this stops noise, not a lucky guess."""
MAX_CONVERSATIONS = 8
FAREWELL_SECONDS = 1.0
UNSPECIFIED = ("", "0.0.0.0", "::")


class OfferEnded(JoinError):
    """Nobody came with the token: it expired, or the service closed after too many wrong secrets."""

    code = "offer-ended"


@dataclass(frozen=True)
class Admitted:
    """Who was let in."""

    name: str
    node_id: bytes
    """32 bytes"""
    certificate: x509.Certificate
    address: str


async def offer(
    cluster: Cluster,
    hosts: Sequence[str],
    *,
    port: int = 0,
    valid_for: float = VALID_SECONDS,
    on_token: Callable[[JoinToken], None],
    clock: Callable[[], float] = time.time,
) -> Admitted:
    """Listen on ``hosts``, hand a fresh token to ``on_token``, and wait up to ``valid_for`` seconds for its
    holder.

    :param hosts: addresses of this machine that the newcomer can reach, best first.
    :param port: 0 takes a free one.
    :param clock: seconds since 1970 UTC.

    Raises :class:`OfferEnded`, or :class:`JoinError` if none of ``hosts`` can be listened on.
    """
    listeners = await _listen(hosts, port)
    addresses = [_address_text(listener) for listener in listeners]
    desk = JoinDesk(cluster, addresses, valid_for=valid_for, clock=clock)
    on_token(desk.token)
    with trio.move_on_after(valid_for):
        await _serve_until(desk, listeners)
    if desk.admitted is None:
        raise OfferEnded(
            f"the join service closed after {MAX_WRONG} wrong secrets."
            if desk.closed
            else f"nobody joined within {valid_for:g} s; the token is void now.",
            "Make a new token with `dsdp token`.",
        )
    return desk.admitted


class JoinDesk:
    """Judges join requests for one token. Without sockets: :meth:`decide` is where all rules are."""

    def __init__(
        self,
        cluster: Cluster,
        addresses: Sequence[str],
        *,
        valid_for: float = VALID_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.cluster = cluster
        self.clock = clock
        self.token = JoinToken(
            cluster=cluster.cluster_id,
            authority=cluster.pin,
            secret_id=secrets.token_bytes(8),
            secret=secrets.token_bytes(16),
            expires=int(clock() + valid_for),
            addresses=tuple(addresses),
        )
        self.admitted: Admitted | None = None
        self.wrong = 0
        self.over = trio.Event()
        """set once somebody was admitted or the desk closed, and the answer is on its way"""
        self._conversations = 0

    @property
    def closed(self) -> bool:
        """Whether too many wrong secrets came."""
        return self.wrong >= MAX_WRONG

    def decide(self, request: Join, address: str = "") -> Joined:
        """Admit or refuse. Raises PeerError(JOIN_REFUSED) with the clause and a text for the newcomer."""
        if self.closed:
            raise _refusal("J-8", "the join service has closed after too many wrong secrets; ask for a new token")
        known = hmac.compare_digest(request.secret_id, self.token.secret_id)
        if not (hmac.compare_digest(request.secret, self.token.secret) and known):
            self.wrong += 1
            raise _refusal("J-4", "this token is not known here, or was replaced by a newer one; ask for a new token")
        if self.token.expired(self.clock()):
            raise _refusal("J-6", "the token has expired; ask for a new one")
        if self.admitted is not None:
            raise _refusal("J-6", "the token was used already, and lets one node in; ask for a new one")
        # What fails from here on is a faulty request by the token's rightful holder: the token stays good.
        try:
            key = load_public_key(request.public_key)
            proven = verify(
                key,
                JOIN_CONTEXT,
                join_payload(request.secret_id, request.secret, request.public_key),
                request.proof,
            )
            if not proven:
                raise _refusal("J-5", "the proof is not a signature by the key that asks to join")
            certificate = issue(self.cluster, request.public_key, check_name(request.name))
        except (UnsupportedKey, BadName) as fault:
            raise _refusal("J-5", str(fault)) from None
        self.admitted = Admitted(request.name, certificate_node_id(certificate), certificate, address)
        return Joined(
            certificate=certificate.public_bytes(Encoding.DER),
            authority=self.cluster.certificate.public_bytes(Encoding.DER),
            cluster=self.cluster.cluster_id,
        )

    async def converse(self, transport: trio.SocketStream) -> None:
        """One connection, from accept to close. Whatever a visitor does ends here."""
        if self._conversations >= MAX_CONVERSATIONS:
            await trio.aclose_forcefully(transport)
            return
        self._conversations += 1
        try:
            with trio.move_on_after(EXCHANGE_SECONDS):
                await self._converse(transport)
        except (ConnectError, trio.BrokenResourceError, trio.ClosedResourceError, OSError) as fault:
            log.info("a visitor of the join service left: %s", fault)
        finally:
            self._conversations -= 1
            await trio.aclose_forcefully(transport)
            if self.admitted is not None or self.closed:
                self.over.set()

    async def _converse(self, transport: trio.SocketStream) -> None:
        address = "{}:{}".format(*transport.socket.getpeername()[:2])
        stream = await tls.accept(transport, tls.join_server_context(self.cluster), alpn=ALPN_JOIN)
        try:
            request = await receive_message(stream, Join, Error)
            if isinstance(request, Error):
                log.info("a newcomer at %s gave up: %s", address, request.text)
                return  # ERROR is not answered with ERROR (clause E-6)
            answer: Joined | Error = self.decide(request, address)
        except PeerError as fault:
            log.warning("refused a request to join from %s: %s", address, fault)
            answer = fault.reply
        await stream.send_all(encode_message(0, answer))
        # Closing while the newcomer's bytes are unread would reset the connection and could swallow the answer.
        with trio.move_on_after(FAREWELL_SECONDS):
            await stream.receive_some(1)
        await stream.aclose()


async def _serve_until(desk: JoinDesk, listeners: Sequence[trio.SocketListener]) -> None:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, desk.converse, list(listeners))
            await desk.over.wait()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0]  # noqa: B904  (its own cause stays its cause)
        raise


async def _listen(hosts: Sequence[str], port: int) -> list[trio.SocketListener]:
    listeners: list[trio.SocketListener] = []
    faults = []
    for host in hosts:
        if host in UNSPECIFIED:
            faults.append(f"{host}: means every address, and a newcomer needs one that leads here")
            continue
        try:
            listeners += await trio.open_tcp_listeners(port, host=host)
        except OSError as fault:
            faults.append(f"{host}: {fault.strerror or fault}")
            continue
        # One port for all addresses is easier to let through a firewall.
        port = port or listeners[0].socket.getsockname()[1]
    if not listeners:
        raise JoinError(f"cannot listen for newcomers ({'; '.join(faults) or 'no address'}).", "Choose with --host.")
    for fault in faults:
        log.warning("not listening on %s", fault)
    return listeners


def _address_text(listener: trio.SocketListener) -> str:
    host, port = listener.socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refusal(clause: str, text: str) -> PeerError:
    return PeerError(ErrorCode.JOIN_REFUSED, clause, text)
