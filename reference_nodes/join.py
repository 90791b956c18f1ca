"""How a machine becomes a node of a cluster (SPEC.md, section "Join").

On the authority's machine, :func:`offer` makes one token and waits for whoever holds it; on the newcomer's,
:func:`join` dials the addresses in the token, makes sure that it has the authority at the other end, and only
then shows the secret. The newcomer's private key is made there and stays there. The service exists while
somebody is expected, and no longer.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dsdproto.errors import PeerError
from dsdproto.identity import JOIN_CONTEXT, JoinToken, PrivateKey, join_payload, node_id_of, sign, spki_of, verify
from dsdproto.registry import ALPN_JOIN, ErrorCode
from dsdproto.wire.codec import decode_message, encode_message
from dsdproto.wire.frames import FrameDecoder
from dsdproto.wire.messages import Error, Join, Joined
from reference_nodes import tls
from reference_nodes.authority import Cluster, issue
from reference_nodes.certificates import UnsupportedKey, certificate_node_id, load_public_key
from reference_nodes.connect_errors import ConnectError, Hung, explain
from reference_nodes.errors import NodeError
from reference_nodes.paths import DEFAULT_NAME, AlreadyThere, BadName, check_name, node_dir
from reference_nodes.trust import NodeIdentity, NoIdentity, load_identity, new_key, renew_identity, save_identity

log = logging.getLogger("dsdp.join")

VALID_SECONDS = 600.0
EXCHANGE_SECONDS = 10.0
DIAL_SECONDS = 5.0
MAX_WRONG = 5
"""Wrong secrets until the service closes. The secret has 128 bits: this stops noise, not a lucky guess."""
MAX_CONVERSATIONS = 8
MAX_JOIN_PAYLOAD = 1 << 15
FAREWELL_SECONDS = 1.0
UNSPECIFIED = ("", "0.0.0.0", "::")


class JoinError(NodeError):
    """Base: no admission."""

    code = "join-failed"


class TokenExpired(JoinError):
    code = "token-expired"


class JoinRefused(JoinError):
    """The authority was reached and said no; ``text`` has its reason."""

    code = "join-refused"


class JoinUnreachable(JoinError):
    """None of the token's addresses led to the authority."""

    code = "join-unreachable"


class JoinBroken(JoinError):
    """What the authority answered is not an admission to the cluster of the token."""

    code = "join-broken"


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


# ---------------------------------------------------------------- on the authority's machine


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
            answer: Joined | Error = self.decide(await _receive(stream, Join), address)
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


# ---------------------------------------------------------------- on the newcomer's machine


async def join(
    token: JoinToken | str,
    base: Path,
    name: str = DEFAULT_NAME,
    *,
    clock: Callable[[], float] = time.time,
) -> NodeIdentity:
    """Redeem ``token`` and save the identity ``name`` under ``base``.

    A node that has joined this cluster already keeps its key and node id and gets a fresh certificate.

    Raises IdentityError for a mistyped token, :class:`TokenExpired`, :class:`JoinUnreachable`,
    :class:`JoinRefused`, :class:`JoinBroken`, :class:`AlreadyThere` if the name belongs to another cluster,
    :class:`BadName`.
    """
    if isinstance(token, str):
        token = JoinToken.parse(token)
    known = _known_identity(base, name, token)
    if token.expired(clock()):
        raise TokenExpired(
            f"the token expired {clock() - token.expires:.0f} s ago by this machine's clock.",
            "Make a new one with `dsdp token` on the authority's machine, or compare the clocks.",
        )
    key = known.key if known else new_key()
    stream = await _reach(token)
    try:
        with trio.fail_after(EXCHANGE_SECONDS):
            joined = await _ask(stream, token, key, name)
    except trio.TooSlowError:
        raise JoinBroken(f"the authority did not answer within {EXCHANGE_SECONDS:g} s.", "Try again.") from None
    except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
        raise JoinBroken(f"the authority hung up: {explain('it', fault).text}", "Ask for a new token.") from fault
    finally:
        await trio.aclose_forcefully(stream)
    certificate, authority = _check(joined, token, key)
    if known:
        return renew_identity(known, certificate)
    return save_identity(base, name, key, certificate, authority)


def _known_identity(base: Path, name: str, token: JoinToken) -> NodeIdentity | None:
    """The identity that this name has already, if the token can renew it.

    All that can be wrong on this machine is found here, before the token is spent.
    """
    directory = node_dir(base, name)
    try:
        known = load_identity(base, name, check=False)
    except NoIdentity:
        if directory.exists() and any(directory.iterdir()):
            raise AlreadyThere(f"{directory} is in the way.", "Move it away, or choose another --name.") from None
        return None
    if known.cluster_id != token.cluster:
        raise AlreadyThere(
            f"node {name!r} on this machine belongs to cluster {known.cluster_id.hex()}, "
            f"and the token is for {token.cluster.hex()}.",
            f"Join under another --name, or move {directory} away first.",
        )
    return known


async def _reach(token: JoinToken) -> tls.Stream:
    failures = []
    for address in token.addresses:
        host, _, port = address.rpartition(":")
        try:
            return await tls.connect_join(host.strip("[]"), int(port), token.authority, timeout=DIAL_SECONDS)
        except ConnectError as fault:
            # Also when somebody else answers: private addresses mean other machines on other networks.
            failures.append(fault)
    reasons = " ".join(fault.text for fault in failures)
    raise JoinUnreachable(
        f"none of the token's addresses led to the authority. {reasons}",
        "Is `dsdp token` still waiting there, are both machines on one network, does a firewall drop the port?",
    )


async def _ask(stream: tls.Stream, token: JoinToken, key: PrivateKey, name: str) -> Joined:
    public = spki_of(key.public_key())
    request = Join(
        secret_id=token.secret_id,
        secret=token.secret,
        public_key=public,
        proof=sign(key, JOIN_CONTEXT, join_payload(token.secret_id, token.secret, public)),
        name=name,
    )
    await stream.send_all(encode_message(0, request))
    try:
        answer = await _receive(stream, Joined, Error)
    except PeerError as fault:
        raise JoinBroken(f"the authority's answer is not valid: {fault}") from fault
    if isinstance(answer, Error):
        raise JoinRefused(f"the authority refused: {answer.text}")
    return answer


def _check(joined: Joined, token: JoinToken, key: PrivateKey) -> tuple[x509.Certificate, x509.Certificate]:
    """Both certificates of the answer, if they are what the token promised."""
    try:
        certificate = x509.load_der_x509_certificate(joined.certificate)
        authority = x509.load_der_x509_certificate(joined.authority)
        found, mine = certificate_node_id(authority), certificate_node_id(certificate)
    except (ValueError, UnsupportedKey) as fault:
        raise JoinBroken(f"the authority's answer holds no usable certificate: {fault}") from fault
    if found != token.authority or joined.cluster != token.cluster or found[:16] != token.cluster:
        raise JoinBroken("the authority's answer is about another cluster than the token's.")
    if mine != node_id_of(key.public_key()):
        raise JoinBroken("the authority's certificate is for another key than ours.")
    return certificate, authority


# ---------------------------------------------------------------- both


async def _receive(stream: tls.Stream, *kinds: type) -> object:
    """The one message that is due.

    Raises PeerError if it is another, ConnectError if the stream ends first.
    """
    decoder = FrameDecoder(MAX_JOIN_PAYLOAD)
    while True:
        data = await stream.receive_some(1 << 14)
        if not data:
            raise Hung("the connection ended before the message was complete.")
        for frame in decoder.feed(bytes(data)):
            message = decode_message(frame)
            if message is None:
                continue  # an odd type that nobody knows: ignored everywhere
            if not isinstance(message, kinds) or frame.channel != 0:
                expected = " or ".join(kind.__name__ for kind in kinds)
                text = f"{type(message).__name__} on channel {frame.channel}, where {expected} on channel 0 was due"
                raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "J-2", text, message_type=frame.type)
            return message
