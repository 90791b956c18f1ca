"""What the doctor finds: each way of not seeing a peer, made for real where that is possible."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import trio

from dsdproto.registry import VERSION, ErrorCode, Role
from dsdproto.wire.codec import encode_message
from dsdproto.wire.frames import encode_frame
from dsdproto.wire.messages import Error, Hello, Limits
from reference_nodes import diagnose as doctor
from reference_nodes import tls, trust
from reference_nodes.authority import NODE_LIFETIME
from reference_nodes.diagnose import Severity, check_interfaces, check_multicast, diagnose, firewall_hint, probe
from reference_nodes.discovery import announce, open_multicast
from reference_nodes.interfaces import Interface, choose_interfaces
from reference_nodes.txt import Description

HOST = "127.0.0.1"
LOOPBACK = choose_interfaces([HOST])
PATIENCE = 60
"""seconds until a test gives up; no outcome depends on it"""


BYSTANDERS = ("other-cluster", "interface-skipped")
"""findings about tests that run beside this one, and about this machine"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def cluster(home):
    return trust.init_cluster(home / "cluster", "ours")


@pytest.fixture(scope="module")
def alice(cluster, home):
    return trust.create_identity(cluster, home, "alice")


@pytest.fixture(scope="module")
def bob(cluster, home):
    return trust.create_identity(cluster, home, "bob")


def hello(identity, **changes) -> Hello:
    values = {
        "version_min": VERSION,
        "version_max": VERSION,
        "node_id": identity.node_id,
        "instance": b"instance",
        "roles": (Role.DRAFTER,),
        "cluster": identity.cluster_id,
        "features": (),
        "limits": Limits(max_payload=1 << 20, max_channels=64, heartbeat_ms=1000),
        "models": (),
        "nonce": bytes(16),
        "agent": "test/1",
    }
    return Hello(**(values | changes))


@asynccontextmanager
async def node(identity, first: bytes):
    """A node that says ``first`` to everyone who gets in; yields its port."""

    async def handler(transport):
        try:
            stream = await tls.accept(transport, tls.server_context(identity))
        except tls.ConnectError:
            return
        if first:
            await stream.send_all(first)
        try:
            await stream.receive_some(1)
        except trio.BrokenResourceError:
            return

    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE):
            listeners = await nursery.start(partial(trio.serve_tcp, handler, 0, host=HOST))
            yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


# ---------------------------------------------------------------- probing one address


@pytest.mark.trio
async def test_a_good_peer(alice, bob):
    async with node(alice, encode_frame(0xE1, 0, b"\xa0") + encode_message(0, hello(alice))) as port:
        finding = await probe(HOST, port, bob, expected=alice.node_id)
    assert (finding.code, finding.severity) == ("peer-reachable", Severity.OK)
    assert "drafter" in finding.text


@pytest.mark.parametrize(
    "changes, code",
    [({"version_min": 7, "version_max": 9}, "other-version"), ({"node_id": bytes(32)}, "wrong-node")],
)
@pytest.mark.trio
async def test_a_peer_whose_hello_does_not_fit(alice, bob, changes, code):
    async with node(alice, encode_message(0, hello(alice, **changes))) as port:
        finding = await probe(HOST, port, bob)
    assert (finding.code, finding.severity) == (code, Severity.ERROR)
    assert finding.advice


@pytest.mark.parametrize(
    "first, code",
    [
        (encode_message(0, Error(code=ErrorCode.SHUTTING_DOWN, clause="C-9", text="back soon")), "peer-error"),
        (encode_frame(2, 0, b"\xff"), "not-dsdp"),
        (b"GARBAGE " * 4, "not-dsdp"),
    ],
)
@pytest.mark.trio
async def test_a_peer_that_says_something_else(alice, bob, first, code):
    async with node(alice, first) as port:
        finding = await probe(HOST, port, bob)
    assert (finding.code, finding.severity) == (code, Severity.ERROR)


@pytest.mark.trio
async def test_a_peer_that_says_nothing(alice, bob):
    async with node(alice, b"") as port:
        finding = await probe(HOST, port, bob, timeout=0.2)
    assert finding.code == "no-hello"


@pytest.mark.trio
async def test_a_closed_port(bob):
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        finding = await probe(HOST, taken.getsockname()[1], bob)
    assert finding.code == "refused"
    assert "dsdp serve" in finding.advice


@pytest.mark.trio
async def test_a_peer_of_another_cluster(bob, home):
    _, stranger = trust.begin(home / "elsewhere", "theirs")
    async with node(stranger, encode_message(0, hello(stranger))) as port:
        finding = await probe(HOST, port, bob)
    assert finding.code == "wrong-cluster"
    assert "one cluster" in finding.advice


@pytest.mark.trio
async def test_a_peer_that_does_not_accept_us(alice, cluster, home, monkeypatch):
    """Our certificate has expired, and only the peer's clock knows."""
    old = trust.create_identity(cluster, home, "old", now=datetime.now(UTC) - NODE_LIFETIME - timedelta(days=1))
    monkeypatch.setattr(trust.NodeIdentity, "check_validity", lambda self, now=None: None)
    async with node(alice, encode_message(0, hello(alice))) as port:
        finding = await probe(HOST, port, old)
    assert finding.code == "refused-us"
    assert "expired" in finding.text


# ---------------------------------------------------------------- multicast and interfaces


@pytest.mark.trio
async def test_loopback_hears_itself():
    finding = await check_multicast(LOOPBACK[0], seconds=PATIENCE)
    assert (finding.code, finding.severity) == ("multicast", Severity.OK)


@pytest.mark.trio
async def test_multicast_that_goes_nowhere(monkeypatch):
    """As behind a firewall that drops it: the sockets open, but nothing is announced."""

    @asynccontextmanager
    async def muted(*_, **__):
        yield None

    monkeypatch.setattr(doctor, "announce", muted)
    finding = await check_multicast(LOOPBACK[0], seconds=0.3)
    assert (finding.code, finding.severity) == ("multicast-silent", Severity.ERROR)
    assert "5353" in finding.advice
    assert "--peer" in finding.advice


@pytest.mark.trio
async def test_an_interface_that_is_not_there():
    finding = await check_multicast(Interface("gone0", 99, ("192.0.2.77",), ()), seconds=5)
    assert finding.code == "multicast-unavailable"
    assert "--peer" in finding.advice


def test_interfaces_are_explained():
    wlan = Interface("wlan0", 2, ("192.168.1.5",), ())
    docker = Interface("docker0", 3, ("172.17.0.1",), (), "container bridge")
    lo = Interface("lo", 1, (HOST,), (), "loopback")
    chosen, findings = check_interfaces((), [wlan, docker, lo])
    assert chosen == [wlan]
    assert [finding.code for finding in findings] == ["interface", "interface-skipped"]
    assert "--interface docker0" in findings[1].advice
    chosen, findings = check_interfaces((), [lo])
    assert [(finding.code, finding.severity) for finding in findings] == [("loopback-only", Severity.WARNING)]
    chosen, findings = check_interfaces(("eth7",), [wlan])
    assert (chosen, findings[0].code) == ([], "no-interface")


def test_the_hint_names_the_firewall_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    assert "both machines" in firewall_hint(tmp_path)
    (tmp_path / "run/firewalld").mkdir(parents=True)
    assert "firewall-cmd" in firewall_hint(tmp_path)
    (tmp_path / "etc/ufw").mkdir(parents=True)
    (tmp_path / "etc/ufw/ufw.conf").write_text("ENABLED=yes\n")
    assert "ufw allow 5353/udp" in firewall_hint(tmp_path)


# ---------------------------------------------------------------- all of it


@pytest.mark.trio
async def test_a_healthy_pair(alice, bob, home):
    async with node(alice, encode_message(0, hello(alice))) as port, open_multicast(LOOPBACK) as multicast:
        me = Description(alice.node_id, b"instance", alice.cluster_id, (Role.DRAFTER,))
        async with announce(multicast, me, port):
            codes: list[str] = []
            while not {"multicast", "peer-reachable"} <= set(codes):  # again, should this machine be very busy
                findings = await diagnose(home, "bob", interfaces=[HOST], seconds=2)
                codes = [finding.code for finding in findings if finding.code not in BYSTANDERS]
    assert codes == ["identity", "loopback-only", "multicast", "peer-announced", "peer-reachable"]
    assert all(finding.severity in (Severity.OK, Severity.INFO, Severity.WARNING) for finding in findings)


@pytest.mark.trio
async def test_alone(bob, home):
    findings = await diagnose(home, "bob", interfaces=[HOST], seconds=0.5, peers=[])
    last = findings[-1]
    assert (last.code, last.severity) == ("no-peer", Severity.WARNING)
    assert "Wi-Fi" in last.advice


@pytest.mark.trio
async def test_a_machine_that_never_joined(tmp_path):
    findings = await diagnose(tmp_path, "default", interfaces=[HOST], seconds=0.5)
    assert findings[0].code == "no-identity"
    assert "dsdp join" in findings[0].advice


def test_a_certificate_near_its_end(cluster, home):
    trust.create_identity(cluster, home, "late", now=datetime.now(UTC) - NODE_LIFETIME + timedelta(days=3))
    identity, findings = doctor.check_identity(home, "late")
    assert identity is not None
    assert findings[0].code == "certificate-expires-soon"
    trust.create_identity(cluster, home, "dead", now=datetime.now(UTC) - NODE_LIFETIME - timedelta(days=3))
    identity, findings = doctor.check_identity(home, "dead")
    assert identity is None
    assert findings[0].code == "certificate-expired"
