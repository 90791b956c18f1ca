"""Why no peer is visible: each step from a peer's cable to its HELLO, tried one by one (``dsdp doctor``).

The steps are independent: a broken one does not hide what the later ones would have found. Nothing here
changes anything, on this machine or on others; a probed peer sees a connection that ends after its HELLO.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import trio

from dsdproto.errors import PeerError
from dsdproto.identity import short_node_id
from dsdproto.registry import VERSION, Role
from dsdproto.wire.codec import decode_message
from dsdproto.wire.frames import FrameDecoder
from dsdproto.wire.messages import Error, Hello
from reference_nodes import tls
from reference_nodes.connect_errors import ConnectError, explain
from reference_nodes.discovery import (
    Found,
    Ignored,
    Lost,
    MulticastUnavailable,
    PeerAddress,
    announce,
    browse,
    open_multicast,
)
from reference_nodes.errors import NodeError
from reference_nodes.interfaces import Interface, InterfaceError, choose_interfaces, list_interfaces
from reference_nodes.trust import NodeIdentity, TrustError, load_identity
from reference_nodes.txt import Description

LISTEN_SECONDS = 3.0
PROBE_SECONDS = 5.0
MAX_PROBES = 16
SELF_TEST_PORT = 9
"""The port in the announcement of the self-test.

Nothing listens there, and nobody of another cluster dials it.
"""


class Severity(StrEnum):
    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    code: str
    """stable name of the outcome, for ``--json``"""
    severity: Severity
    text: str
    advice: str = ""
    """what to do; empty where nothing needs doing"""


async def diagnose(
    base: Path,
    name: str,
    *,
    interfaces: Sequence[str] = (),
    peers: Sequence[tuple[str, int]] = (),
    seconds: float = LISTEN_SECONDS,
) -> list[Finding]:
    """Everything in turn: identity, interfaces, multicast, who announces itself, who answers.

    :param base: see :func:`reference_nodes.paths.home`; ``name``: the node's identity there.
    :param interfaces: as for :func:`reference_nodes.interfaces.choose_interfaces`.
    :param peers: (host, port) of nodes that should be reachable, whether announced or not.
    :param seconds: how long to listen, for the self-test and for peers each.
    """
    identity, findings = check_identity(base, name)
    chosen, more = check_interfaces(interfaces)
    findings += more
    for interface in chosen:
        findings.append(await check_multicast(interface, seconds=seconds))
    found: list[PeerAddress] = []
    if identity is not None and chosen:
        found, more = await check_announcements(identity, chosen, seconds=seconds)
        findings += more
    if identity is not None:
        targets = [(host, port, None) for host, port in peers]
        targets += [(host, peer.port, peer.node_id) for peer in found[:MAX_PROBES] for host in peer.addresses]
        for host, port, expected in targets:
            findings.append(await probe(host, port, identity, expected=expected))
    return findings


def check_identity(base: Path, name: str) -> tuple[NodeIdentity | None, list[Finding]]:
    """Whether this machine has an identity that others will accept today.

    None if it cannot be used at all.
    """
    try:
        identity = load_identity(base, name, check=False)
    except NodeError as fault:
        return None, [_from_error(fault)]
    try:
        identity.check_validity()
    except TrustError as fault:
        return None, [_from_error(fault)]
    text = f"node {short_node_id(identity.node_id)} of cluster {identity.cluster_id.hex()[:8]}"
    until = f"certificate valid until {identity.expires:%Y-%m-%d}"
    if identity.expires_soon():
        advice = f"Renew it: `dsdp token` on the authority's machine, `dsdp join TOKEN --name {name}` here."
        return identity, [Finding("certificate-expires-soon", Severity.WARNING, f"{text}: {until}.", advice)]
    return identity, [Finding("identity", Severity.OK, f"{text}, {until}.")]


def check_interfaces(
    wanted: Sequence[str] = (), available: Sequence[Interface] | None = None
) -> tuple[list[Interface], list[Finding]]:
    """Which interfaces a node would use here, and why not the others."""
    available = list_interfaces() if available is None else available
    try:
        chosen = choose_interfaces(wanted, available)
    except InterfaceError as fault:
        return [], [_from_error(fault, "no-interface")]
    names = {item.name for item in chosen}
    findings = []
    for item in chosen:
        addresses = ", ".join(item.addresses) or "no address that peers could use"
        if item.loopback:
            findings.append(
                Finding(
                    "loopback-only",
                    Severity.INFO if wanted else Severity.WARNING,
                    f"{item.name} ({addresses}) reaches nodes on this machine only.",
                    "" if wanted else "Connect a network, or name its interface with --interface.",
                )
            )
        else:
            findings.append(Finding("interface", Severity.OK, f"using {item.name} ({addresses})."))
    for item in available:
        if item.name not in names and not item.loopback:
            reason = item.skip or "others were named"
            findings.append(
                Finding(
                    "interface-skipped",
                    Severity.INFO,
                    f"not using {item.name} ({', '.join(item.addresses)}): {reason}.",
                    f"If peers are there: --interface {item.name}",
                )
            )
    return chosen, findings


async def check_multicast(interface: Interface, *, seconds: float = LISTEN_SECONDS) -> Finding:
    """Announce something on ``interface`` and listen for it there.

    Success shows that this machine sends and receives multicast on it, not that the network carries it to
    others.
    """
    cluster = secrets.token_bytes(16)
    probe_ = Description(secrets.token_bytes(32), secrets.token_bytes(8), cluster, (Role.CLIENT,))
    try:
        with trio.move_on_after(seconds):
            async with (
                open_multicast([interface]) as sender,
                open_multicast([interface]) as receiver,
                browse(receiver, cluster) as events,
                announce(sender, probe_, SELF_TEST_PORT, label="doctor"),
            ):
                async for event in events:
                    if isinstance(event, Found) and event.peer.instance == probe_.instance:
                        return Finding(
                            "multicast",
                            Severity.OK,
                            f"multicast DNS goes out of {interface.name} and comes back to this machine.",
                        )
    except MulticastUnavailable as fault:
        return _from_error(fault)
    return Finding(
        "multicast-silent",
        Severity.ERROR,
        f"this machine does not hear its own multicast DNS on {interface.name} within {seconds:g} s.",
        f"{firewall_hint()} Or do without: --peer HOST:PORT.",
    )


async def check_announcements(
    identity: NodeIdentity, interfaces: Sequence[Interface], *, seconds: float = LISTEN_SECONDS
) -> tuple[list[PeerAddress], list[Finding]]:
    """Who announces itself as a DSDP node: those of our cluster, and the reasons why others do not count."""
    found: dict[str, PeerAddress] = {}
    ignored: dict[str, Ignored] = {}
    try:
        with trio.move_on_after(seconds):
            async with (
                open_multicast(interfaces) as multicast,
                browse(multicast, identity.cluster_id, report_ignored=True) as events,
            ):
                async for event in events:
                    match event:
                        case Found(peer):
                            found[peer.service] = peer
                        case Lost(peer):
                            found.pop(peer.service, None)
                        case Ignored(service):
                            ignored[service] = event
    except MulticastUnavailable as fault:
        return [], [_from_error(fault)]
    findings = [
        Finding(
            "peer-announced",
            Severity.OK,
            f"{short_node_id(peer.node_id)} announces itself at {', '.join(peer.addresses)} port {peer.port}"
            + (" (this node itself)." if peer.node_id == identity.node_id else "."),
        )
        for peer in found.values()
    ]
    advice = {
        "other-cluster": "To use it, give it a token of this cluster: `dsdp token` here, `dsdp join` there.",
        "other-version": "Upgrade the older of the two.",
        "malformed": "Another program uses the service type _dsdp._tcp, or that node's software is faulty.",
    }
    findings += [Finding(item.code, Severity.WARNING, f"{item.text}.", advice[item.code]) for item in ignored.values()]
    if not any(peer.node_id != identity.node_id for peer in found.values()):
        findings.append(
            Finding(
                "no-peer",
                Severity.WARNING,
                f"no other node of this cluster announced itself within {seconds:g} s.",
                "Is `dsdp serve` running there? If the self-test above was good, look at what lies between: "
                "guest networks and many Wi-Fi access points keep their stations apart or drop multicast, "
                f"routers and VPNs do not carry it. {firewall_hint()} Or do without: --peer HOST:PORT.",
            )
        )
    return list(found.values()), findings


async def probe(
    host: str, port: int, identity: NodeIdentity, *, expected: bytes | None = None, timeout: float = PROBE_SECONDS
) -> Finding:
    """Connect to one address as a node would, and read the HELLO.

    ``timeout`` in seconds, for each of the two.
    """
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        stream = await tls.connect(host, port, identity, timeout=timeout, expected=expected)
    except (ConnectError, TrustError) as fault:
        return _from_error(fault)
    try:
        with trio.fail_after(timeout):
            first = await _first_message(stream)
    except trio.TooSlowError:
        text = f"{where} finished the TLS handshake, but sent no HELLO within {timeout:g} s."
        return Finding("no-hello", Severity.ERROR, text, "That node is overloaded or stopped; its own log says more.")
    except PeerError as fault:
        return Finding("not-dsdp", Severity.ERROR, f"{where} does not send valid DSDP: {fault}.", "Upgrade that node.")
    except (trio.BrokenResourceError, trio.ClosedResourceError) as fault:
        return _from_error(explain(where, fault))
    finally:
        await trio.aclose_forcefully(stream)
    return _judge(where, first, tls.peer_node_id(stream))


def _judge(where: str, first: object, node_id: bytes) -> Finding:
    if isinstance(first, Error):
        return Finding("peer-error", Severity.ERROR, f"{where} refused: {first.text} (clause {first.clause}).")
    if not isinstance(first, Hello):
        text = f"{where} began with {type(first).__name__} instead of HELLO."
        return Finding("not-dsdp", Severity.ERROR, text, "Upgrade that node.")
    if not first.version_min <= VERSION <= first.version_max:
        text = f"{where} speaks DSDP versions {first.version_min} to {first.version_max}; this node speaks {VERSION}."
        return Finding("other-version", Severity.ERROR, text, "Upgrade the older of the two.")
    if first.node_id != node_id:
        text = f"{where} calls itself {short_node_id(first.node_id)} but has the key of {short_node_id(node_id)}."
        return Finding("wrong-node", Severity.ERROR, text, "Do not trust that node until this is understood.")
    roles = ", ".join(Role(role).name.lower() for role in first.roles if role in set(Role)) or "no role"
    return Finding("peer-reachable", Severity.OK, f"{where} is {short_node_id(node_id)} ({roles}), {first.agent}.")


async def _first_message(stream: tls.Stream) -> object:
    decoder = FrameDecoder()
    while data := await stream.receive_some(1 << 14):
        for frame in decoder.feed(bytes(data)):
            message = decode_message(frame)
            if message is not None:
                return message
    raise trio.BrokenResourceError  # the end of the stream in good order, but too early


def firewall_hint(root: Path = Path("/")) -> str:
    """What to tell the firewall of this machine, as far as one can be recognised."""
    need = "UDP port 5353 in and out, and the node's TCP port in"
    if sys.platform == "darwin":
        return f"Firewall: System Settings, Network, Firewall: allow incoming connections for Python ({need})."
    if sys.platform == "win32":
        return f"Firewall: allow Python on private networks ({need})."
    try:
        enabled = "ENABLED=yes" in (root / "etc/ufw/ufw.conf").read_text()
    except OSError:
        enabled = False
    if enabled:
        return f"Firewall: ufw is on; it must let through {need} (ufw allow 5353/udp; ufw allow PORT/tcp)."
    if (root / "run/firewalld").exists():
        how = "firewall-cmd --add-service=mdns --add-port=PORT/tcp"
        return f"Firewall: firewalld is on; it must let through {need} ({how})."
    return f"Firewall, on both machines: it must let through {need}."


def _from_error(fault: NodeError, code: str = "") -> Finding:
    return Finding(code or fault.code, Severity.ERROR, fault.text, fault.advice)
