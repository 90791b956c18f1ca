"""TLS 1.3 between nodes: both sides prove a key that the cluster's authority signed (SPEC.md, section
"Transport").

Host names play no part: a peer *is* its key. :func:`peer_node_id` reads it off a finished handshake, and the
caller compares it with the HELLO. In TLS 1.3 a dialer's handshake ends before the acceptor has looked at its
certificate, so a stream from :func:`connect` may still be refused: its first read then fails, and
:func:`explain` says why.
"""

from __future__ import annotations

import ipaddress
import ssl

import trio
from cryptography import x509

from dsdproto.registry import ALPN, ALPN_JOIN
from reference_nodes.authority import Cluster
from reference_nodes.certificates import certificate_node_id
from reference_nodes.connect_errors import (
    ConnectError,
    PlainForbidden,
    TimedOut,
    WrongCluster,
    WrongNode,
    WrongProtocol,
    explain,
)
from reference_nodes.tls_stream import TlsStream
from reference_nodes.trust import NodeIdentity

CONNECT_SECONDS = 4.0

Stream = TlsStream


# ---------------------------------------------------------------- contexts


def server_context(identity: NodeIdentity) -> ssl.SSLContext:
    """For accepting nodes of this cluster. Raises the errors of :meth:`NodeIdentity.check_validity`."""
    context = _mutual(ssl.PROTOCOL_TLS_SERVER, identity)
    context.num_tickets = 0  # no resumption: each connection proves its key anew
    return context


def client_context(identity: NodeIdentity) -> ssl.SSLContext:
    """For dialing nodes of this cluster. Raises the errors of :meth:`NodeIdentity.check_validity`."""
    return _mutual(ssl.PROTOCOL_TLS_CLIENT, identity)


def join_server_context(cluster: Cluster) -> ssl.SSLContext:
    """For answering join requests: the authority proves itself with its own key; the newcomer has no
    certificate yet.
    """
    context = _bare(ssl.PROTOCOL_TLS_SERVER, ALPN_JOIN)
    context.load_cert_chain(cluster.certificate_path, cluster.key_path)
    context.num_tickets = 0
    return context


def join_client_context() -> ssl.SSLContext:
    """For a newcomer. Verifies nothing by itself: call :func:`require_authority` before sending anything."""
    return _bare(ssl.PROTOCOL_TLS_CLIENT, ALPN_JOIN)


def _bare(protocol: int, alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    return context


def _mutual(protocol: int, identity: NodeIdentity) -> ssl.SSLContext:
    identity.check_validity()
    context = _bare(protocol, ALPN)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(identity.authority_path)  # and nothing else: the system's authorities do not count
    context.load_cert_chain(identity.certificate_path, identity.key_path)
    return context


# ---------------------------------------------------------------- what a finished handshake says


def peer_node_id(stream: Stream) -> bytes:
    """32 bytes: the id of the node at the other end.

    Raises :class:`WrongNode` if it showed no certificate.
    """
    return certificate_node_id(_peer_certificate(stream))


def require_authority(stream: Stream, pin: bytes) -> None:
    """Check that a join server holds the authority's key whose SHA-256 the token pins; raises
    :class:`WrongCluster`.
    """
    found = certificate_node_id(_peer_certificate(stream))
    if found != pin:
        raise WrongCluster(
            f"the join service proved the key {found.hex()[:16]}..., but the token pins {pin.hex()[:16]}... .",
            "Nothing was sent to it. Check that the token comes from the machine that you meant to reach.",
        )


def _peer_certificate(stream: Stream) -> x509.Certificate:
    der = stream.tls.getpeercert(binary_form=True)
    if der is None:
        raise WrongNode("the peer showed no certificate.")
    return x509.load_der_x509_certificate(der)


# ---------------------------------------------------------------- connections


async def connect(
    host: str,
    port: int,
    identity: NodeIdentity,
    *,
    timeout: float = CONNECT_SECONDS,
    context: ssl.SSLContext | None = None,
    expected: bytes | None = None,
) -> Stream:
    """Dial a node of our cluster. ``timeout`` in seconds covers name, TCP and TLS; ``expected`` is its node
    id if known.

    :param context: from :func:`client_context`, to make it once for many connections.

    Raises a :class:`ConnectError` that says which step failed, or an error of
    :meth:`NodeIdentity.check_validity`.
    """
    context = context or client_context(identity)
    where = f"{_bracketed(host)}:{port}"
    stream = await _dial(host, port, where, context, ALPN, timeout)
    found = peer_node_id(stream)
    if expected is not None and found != expected:
        await trio.aclose_forcefully(stream)
        raise WrongNode(
            f"{where} is node {found.hex()[:16]}..., not {expected.hex()[:16]}... as expected.",
            "The address now belongs to another node of this cluster.",
        )
    return stream


async def connect_join(host: str, port: int, pin: bytes, *, timeout: float = CONNECT_SECONDS) -> Stream:
    """Dial a join service and make sure that it is the pinned authority. Raises :class:`ConnectError`."""
    stream = await _dial(host, port, f"{_bracketed(host)}:{port}", join_client_context(), ALPN_JOIN, timeout)
    try:
        require_authority(stream, pin)
    except ConnectError:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def accept(
    transport: trio.SocketStream,
    context: ssl.SSLContext,
    *,
    alpn: str = ALPN,
    timeout: float = CONNECT_SECONDS,
    where: str = "",
) -> Stream:
    """Server side of the handshake on an accepted TCP stream.

    Closes it and raises :class:`ConnectError` on failure.
    """
    stream = TlsStream(transport, context, server_side=True)
    where = where or _peer_text(transport)
    try:
        with trio.fail_after(timeout):
            await _handshake(stream, where, alpn)
    except trio.TooSlowError:
        raise TimedOut(f"{where} did not finish the TLS handshake within {timeout:g} s.") from None
    return stream


async def connect_plain(host: str, port: int, *, allow_plain_loopback: bool = False) -> trio.SocketStream:
    """TCP without TLS, for tests: only to this machine, and only when asked for.

    Raises :class:`PlainForbidden`.
    """
    require_loopback(host, allow_plain_loopback=allow_plain_loopback)
    try:
        return await trio.open_tcp_stream(host, port)
    except OSError as fault:
        raise explain(f"{_bracketed(host)}:{port}", fault) from fault


def require_loopback(host: str, *, allow_plain_loopback: bool) -> None:
    """Refuse plain TCP unless it was asked for and ``host`` is a loopback address.

    Raises :class:`PlainForbidden`.
    """
    if not allow_plain_loopback:
        raise PlainForbidden(f"plain TCP with {host} was not asked for.", "Use TLS, or allow_plain_loopback in a test.")
    try:
        # Names are not resolved: what "localhost" means could change between this check and the connection.
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise PlainForbidden(f"plain TCP is for loopback addresses only, and {host} is none.", "Use TLS.")


async def _dial(host: str, port: int, where: str, context: ssl.SSLContext, alpn: str, timeout: float) -> Stream:
    step = "answer the TCP connection"
    try:
        with trio.fail_after(timeout):
            transport = await trio.open_tcp_stream(host, port)
            step = "finish the TLS handshake"
            stream = TlsStream(transport, context)
            await _handshake(stream, where, alpn)
    except trio.TooSlowError:
        raise TimedOut(
            f"{where} did not {step} within {timeout:g} s.",
            "A firewall that drops packets, a wrong address or a sleeping machine looks like this.",
        ) from None
    except OSError as fault:
        raise explain(where, fault) from fault
    return stream


async def _handshake(stream: Stream, where: str, alpn: str) -> None:
    """Finish the handshake and check the protocol name; whatever goes wrong, the transport is closed."""
    try:
        await stream.do_handshake()
        chosen = stream.tls.selected_alpn_protocol()
        if chosen != alpn:
            raise WrongProtocol(
                f"{where} speaks TLS, but not the protocol {alpn!r} (it chose {chosen!r}).",
                "Check the port: join services and other programs have ports of their own.",
            )
    except trio.BrokenResourceError as fault:
        await trio.aclose_forcefully(stream)
        raise explain(where, fault) from fault
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


def _peer_text(transport: trio.SocketStream) -> str:
    try:
        host, port = transport.socket.getpeername()[:2]
    except OSError:
        return "a peer that has gone"
    return f"{_bracketed(host)}:{port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
