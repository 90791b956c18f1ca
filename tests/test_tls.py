"""TLS between nodes, over real sockets on 127.0.0.1: who gets in, and what is said to whom does not."""

from __future__ import annotations

import errno
import socket
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519

from dsdproto.identity import spki_of
from dsdproto.registry import ALPN_JOIN
from reference_nodes import tls, trust
from reference_nodes.authority import NODE_LIFETIME
from reference_nodes.connect_errors import (
    ConnectError,
    Hung,
    NotTls,
    PeerExpired,
    PeerNotYetValid,
    PlainForbidden,
    Refused,
    RefusedUs,
    TimedOut,
    TlsFailure,
    Unreachable,
    Unresolved,
    WrongCluster,
    WrongNode,
    WrongProtocol,
    explain,
)
from reference_nodes.trust import NodeIdentity

HOST = "127.0.0.1"
PATIENCE = 30
"""seconds until a test gives up; no outcome depends on it"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def cluster(home):
    return trust.init_cluster(home / "cluster", "ours")


@pytest.fixture(scope="module")
def foreign(home):
    return trust.init_cluster(home / "foreign", "theirs")


@pytest.fixture(scope="module")
def alice(cluster, home):
    return trust.create_identity(cluster, home, "alice")


@pytest.fixture(scope="module")
def bob(cluster, home):
    return trust.create_identity(cluster, home, "bob")


@pytest.fixture(scope="module")
def mallory(foreign, home):
    return trust.create_identity(foreign, home, "mallory")


@pytest.fixture
def blind(monkeypatch):
    """Lets a node use an identity that it should know to be useless."""
    monkeypatch.setattr(NodeIdentity, "check_validity", lambda self, now=None: None)


@asynccontextmanager
async def serving(handler):
    """``handler(transport)`` for each connection to the port that this yields."""
    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host=HOST))
            yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


class Acceptor:
    """A node that greets whoever it lets in, and keeps what became of the others."""

    def __init__(self, context: ssl.SSLContext, alpn: str = tls.ALPN) -> None:
        self.context = context
        self.alpn = alpn
        self.outcome, self.results = trio.open_memory_channel(8)

    async def __call__(self, transport):
        try:
            stream = await tls.accept(transport, self.context, alpn=self.alpn)
        except ConnectError as fault:
            await self.outcome.send(fault)
            return
        await self.outcome.send(stream)
        await stream.send_all(b"hello")
        async for _ in stream:
            pass


async def rejection(port: int, identity: NodeIdentity) -> ConnectError:
    """Connect as ``identity``; the dialer's handshake may succeed, the first read must not."""
    where = f"{HOST}:{port}"
    stream = await tls.connect(HOST, port, identity)
    with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)) as caught:
        await stream.receive_some(100)
    await trio.aclose_forcefully(stream)
    return explain(where, caught.value)


# ---------------------------------------------------------------- who gets in


@pytest.mark.trio
async def test_two_nodes_of_a_cluster_know_each_other_by_key(alice, bob):
    acceptor = Acceptor(tls.server_context(alice))
    async with serving(acceptor) as port:
        stream = await tls.connect(HOST, port, bob, expected=alice.node_id)
        assert await stream.receive_some(100) == b"hello"
        accepted = await acceptor.results.receive()
        assert tls.peer_node_id(stream) == alice.node_id
        assert tls.peer_node_id(accepted) == bob.node_id
        assert stream.tls.selected_alpn_protocol() == accepted.tls.selected_alpn_protocol() == "dsdp/1"
        assert stream.tls.version() == "TLSv1.3"
        await stream.aclose()


@pytest.mark.trio
async def test_an_ed25519_node_gets_in(cluster, home, alice):
    key = ed25519.Ed25519PrivateKey.generate()
    leaf = trust.issue(cluster, spki_of(key.public_key()), "ed")
    identity = trust.save_identity(home, "ed", key, leaf, cluster.certificate)
    acceptor = Acceptor(tls.server_context(alice))
    async with serving(acceptor) as port:
        stream = await tls.connect(HOST, port, identity)
        assert await stream.receive_some(100) == b"hello"
        assert tls.peer_node_id(await acceptor.results.receive()) == identity.node_id
        await stream.aclose()


@pytest.mark.trio
async def test_every_connection_proves_its_key_anew(alice, bob):
    context = tls.client_context(bob)
    async with serving(Acceptor(tls.server_context(alice))) as port:
        for _ in range(2):
            stream = await tls.connect(HOST, port, bob, context=context)
            await stream.receive_some(100)
            assert not stream.tls.session_reused
            assert not stream.tls.session.has_ticket
            await stream.aclose()


# ---------------------------------------------------------------- who does not


@pytest.mark.trio
async def test_a_server_of_another_cluster(alice, mallory):
    acceptor = Acceptor(tls.server_context(mallory))
    async with serving(acceptor) as port:
        with pytest.raises(WrongCluster, match="another cluster"):
            await tls.connect(HOST, port, alice)
        # Our alert reaches it, so its own log can say the same.
        fault = await acceptor.results.receive()
        assert isinstance(fault, RefusedUs)
        assert "another cluster" in str(fault)


@pytest.mark.trio
async def test_a_client_of_another_cluster_is_told_so(alice, mallory, home):
    """It trusts our authority, but its own certificate comes from elsewhere."""
    directory = home / "nodes" / "impostor"
    directory.mkdir()
    for path in (mallory.key_path, mallory.certificate_path, alice.authority_path):
        (directory / path.name).write_bytes(path.read_bytes())
    impostor = NodeIdentity(directory, mallory.key, mallory.certificate, alice.authority)
    acceptor = Acceptor(tls.server_context(alice))
    async with serving(acceptor) as port:
        fault = await rejection(port, impostor)
        assert isinstance(fault, RefusedUs)
        assert "another cluster" in str(fault)
        assert isinstance(await acceptor.results.receive(), WrongCluster)


@pytest.mark.trio
async def test_a_client_without_a_certificate(alice):
    acceptor = Acceptor(tls.server_context(alice))
    context = tls.join_client_context()
    context.set_alpn_protocols([tls.ALPN])
    async with serving(acceptor) as port:
        stream = trio.SSLStream(await trio.open_tcp_stream(HOST, port), context)
        await stream.do_handshake()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some(100)
        assert "we showed no certificate" in str(explain("x", caught.value))
        await trio.aclose_forcefully(stream)
        fault = await acceptor.results.receive()
        assert isinstance(fault, TlsFailure)
        assert "showed no certificate" in str(fault)


@pytest.mark.trio
async def test_a_self_made_certificate_with_the_right_names(alice, home):
    """Subject and issuer are copied from a good one, but it is signed by its own key."""
    key = trust.new_key()
    good = alice.certificate
    forged = x509.CertificateBuilder(
        good.issuer, good.subject, key.public_key(), 77, good.not_valid_before_utc, good.not_valid_after_utc,
        list(good.extensions),
    ).sign(key, hashes.SHA256())  # fmt: skip
    monkey = home / "nodes" / "forger"
    monkey.mkdir()
    forger = NodeIdentity(monkey, key, forged, alice.authority)
    forger.key_path.write_bytes(trust.key_file(key)[0])
    forger.certificate_path.write_bytes(trust.certificate_file(forged)[0])
    forger.authority_path.write_bytes(alice.authority_path.read_bytes())
    acceptor = Acceptor(tls.server_context(alice))
    async with serving(acceptor) as port:
        assert isinstance(await rejection(port, forger), RefusedUs)
        assert isinstance(await acceptor.results.receive(), TlsFailure)


@pytest.mark.parametrize(
    "age, server_side, client_side",
    [
        (NODE_LIFETIME + timedelta(days=1), PeerExpired, "expired"),
        (-timedelta(days=2), PeerNotYetValid, "not valid yet"),
    ],
    ids=["expired", "future"],
)
@pytest.mark.trio
async def test_certificates_out_of_their_time(cluster, home, alice, blind, age, server_side, client_side):
    odd = trust.create_identity(cluster, home, f"odd{age.days}", now=datetime.now(UTC) - age)
    acceptor = Acceptor(tls.server_context(odd))
    async with serving(acceptor) as port:
        with pytest.raises(server_side, match="clock"):
            await tls.connect(HOST, port, alice)
    acceptor = Acceptor(tls.server_context(alice))
    async with serving(acceptor) as port:
        fault = await rejection(port, odd)
        assert isinstance(fault, RefusedUs)
        assert client_side in str(fault)
        assert isinstance(await acceptor.results.receive(), server_side)


def test_contexts_refuse_an_identity_that_has_expired(cluster, home):
    old = trust.create_identity(cluster, home, "old", now=datetime.now(UTC) - NODE_LIFETIME - timedelta(days=1))
    for make in (tls.server_context, tls.client_context):
        with pytest.raises(trust.Expired, match="dsdp join"):
            make(old)


@pytest.mark.trio
async def test_another_node_than_expected(alice, bob):
    async with serving(Acceptor(tls.server_context(alice))) as port:
        with pytest.raises(WrongNode, match=alice.node_id.hex()[:16]):
            await tls.connect(HOST, port, bob, expected=bob.node_id)


@pytest.mark.trio
async def test_another_protocol_over_tls(alice, bob):
    context = tls.server_context(alice)
    context.set_alpn_protocols(["http/1.1"])
    async with serving(Acceptor(context)) as port:
        with pytest.raises(WrongProtocol, match="'dsdp/1'"):
            await tls.connect(HOST, port, bob)


@pytest.mark.trio
async def test_a_client_that_names_no_protocol(alice, bob):
    acceptor = Acceptor(tls.server_context(alice))
    context = tls.client_context(bob)
    context.set_alpn_protocols(["http/1.1"])
    async with serving(acceptor) as port:
        with pytest.raises(WrongProtocol):
            await tls.connect(HOST, port, bob, context=context)
        assert isinstance(await acceptor.results.receive(), WrongProtocol)


@pytest.mark.trio
async def test_tls_1_2_is_refused(alice, bob):
    context = tls.server_context(alice)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serving(Acceptor(context)) as port:
        with pytest.raises(TlsFailure, match=r"TLS 1\.3"):
            await tls.connect(HOST, port, bob)


# ---------------------------------------------------------------- no TLS at all


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 64])
@pytest.mark.trio
async def test_something_else_listens_there(bob, banner):
    async def handler(transport):
        await transport.send_all(banner)
        await transport.receive_some(1000)

    async with serving(handler) as port:
        with pytest.raises(NotTls, match="does not speak TLS"):
            await tls.connect(HOST, port, bob)


@pytest.mark.trio
async def test_a_client_without_tls(alice):
    acceptor = Acceptor(tls.server_context(alice))
    async with serving(acceptor) as port:
        transport = await trio.open_tcp_stream(HOST, port)
        await transport.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert isinstance(await acceptor.results.receive(), NotTls)
        await transport.aclose()


@pytest.mark.trio
async def test_a_server_that_hangs_up(bob):
    async def handler(transport):
        await transport.aclose()

    async with serving(handler) as port:
        with pytest.raises(Hung):
            await tls.connect(HOST, port, bob)


@pytest.mark.trio
async def test_a_server_that_says_nothing(bob):
    async def handler(transport):
        await trio.sleep_forever()

    async with serving(handler) as port:
        with pytest.raises(TimedOut, match=r"TLS handshake within 0\.05 s"):
            await tls.connect(HOST, port, bob, timeout=0.05)


@pytest.mark.trio
async def test_a_client_that_says_nothing(alice):
    outcome, results = trio.open_memory_channel(1)

    async def handler(transport):
        with pytest.raises(TimedOut) as caught:
            await tls.accept(transport, tls.server_context(alice), timeout=0.05)
        await outcome.send(caught.value)

    async with serving(handler) as port:
        transport = await trio.open_tcp_stream(HOST, port)
        await results.receive()
        assert await transport.receive_some(1) == b""  # and the connection is closed
        await transport.aclose()


@pytest.mark.trio
async def test_nobody_listens(bob):
    with socket.socket() as taken:
        taken.bind((HOST, 0))  # bound but not listening: nobody else gets this port meanwhile
        with pytest.raises(Refused, match="dsdp serve"):
            await tls.connect(HOST, taken.getsockname()[1], bob)


@pytest.mark.parametrize(
    "fault, kind",
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Unresolved),
        (OSError(errno.EHOSTUNREACH, "x"), Unreachable),
        (OSError(errno.ETIMEDOUT, "x"), TimedOut),
        (OSError(errno.ECONNRESET, "x"), Hung),
        (ExceptionGroup("all failed", [OSError(errno.ENETUNREACH, "x"), OSError(errno.ENETUNREACH, "x")]), Unreachable),
        (ValueError("odd"), ConnectError),
    ],
)
def test_what_the_system_says_is_explained(fault, kind):
    outer = OSError("all attempts to connect failed")
    outer.__cause__ = fault
    explained = explain("host:1", outer)
    assert type(explained) is kind
    assert "host:1" in str(explained)


# ---------------------------------------------------------------- plain TCP


@pytest.mark.trio
async def test_plain_tcp_has_to_be_asked_for():
    async def handler(transport):
        await transport.send_all(b"plain")

    async with serving(handler) as port:
        with pytest.raises(PlainForbidden, match="not asked for"):
            await tls.connect_plain(HOST, port)
        stream = await tls.connect_plain(HOST, port, allow_plain_loopback=True)
        assert await stream.receive_some(10) == b"plain"
        await stream.aclose()


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "0.0.0.0", "::", "localhost", "example.org", "", "127.0.0.1.example.org"]
)
def test_plain_tcp_only_to_loopback_addresses(host):
    with pytest.raises(PlainForbidden, match="loopback addresses only"):
        tls.require_loopback(host, allow_plain_loopback=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_addresses(host):
    tls.require_loopback(host, allow_plain_loopback=True)


# ---------------------------------------------------------------- join service


@pytest.mark.trio
async def test_a_newcomer_recognises_the_authority(cluster):
    acceptor = Acceptor(tls.join_server_context(cluster), ALPN_JOIN)
    async with serving(acceptor) as port:
        stream = await tls.connect_join(HOST, port, cluster.pin)
        assert await stream.receive_some(10) == b"hello"
        await stream.aclose()


@pytest.mark.trio
async def test_a_newcomer_tells_an_impostor_nothing(cluster, foreign, alice):
    """Neither another authority nor a plain node of the right cluster passes for the join service."""
    ordinary = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ordinary.load_cert_chain(alice.certificate_path, alice.key_path)
    ordinary.set_alpn_protocols([ALPN_JOIN])
    for context in (tls.join_server_context(foreign), ordinary):
        received = []

        async def handler(transport, context=context, received=received):
            stream = await tls.accept(transport, context, alpn=ALPN_JOIN)
            try:
                received.append(await stream.receive_some(100))
            except trio.BrokenResourceError:
                received.append("gone")

        async with serving(handler) as port:
            with pytest.raises(WrongCluster, match="Nothing was sent"):
                await tls.connect_join(HOST, port, cluster.pin)
            while not received:
                await trio.testing.wait_all_tasks_blocked(0.001)
        assert received in (["gone"], [b""])


@pytest.mark.trio
async def test_a_node_does_not_mistake_the_join_service_for_a_node(cluster, bob):
    async with serving(Acceptor(tls.join_server_context(cluster), ALPN_JOIN)) as port:
        with pytest.raises(WrongProtocol):
            await tls.connect(HOST, port, bob)
