"""What a node is to be, from code or from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsdproto.registry import Role
from dsdproto.roles.leader import LeaderConfig
from dsdproto.roles.voter import VoterConfig
from reference_nodes.errors import NodeError
from reference_nodes.link import MAX_OUTBOUND
from reference_nodes.peers import Redial
from reference_nodes.trust import NodeIdentity, load_identity

HEARTBEAT_MS = 5000
VOTING_HEARTBEAT_MS = 1000
"""Where a session can go on without its leader, a silent one is noticed after four of these. Shorter would take every
hiccup of a wireless link for a death."""


class ConfigError(NodeError):
    """A node cannot be run as configured."""

    code = "config"


@dataclass(frozen=True)
class NodeConfig:
    """What a node is to be. Only ``roles`` and ``identity`` have no useful default."""

    roles: tuple[Role, ...] = ()
    identity: NodeIdentity | None = None
    """None only with ``plain_loopback``"""
    name: str = "node"
    """for people: log lines and the announcement"""
    target: str | None = None
    """model that the verifier role runs (see :func:`reference_nodes.models_store.locate`)"""
    draft: str | None = None
    """model that the drafter role runs"""
    draft_for: str | None = None
    """target that ``draft`` is for, where it has no vocabulary of its own; default: ``target``"""
    host: str | None = "127.0.0.1"
    """address to listen on; None: do not listen"""
    port: int = 0
    """0: any free one"""
    peers: tuple[str, ...] = ()
    """HOST:PORT each, dialed for as long as the node runs"""
    interfaces: tuple[str, ...] | None = None
    """announce and look for peers by mDNS on these; (): the usual ones; None: no mDNS"""
    plain_loopback: bool = False
    """no TLS and no proof of identity: for tests on loopback only"""
    heartbeat_ms: int | None = None
    """None: :data:`VOTING_HEARTBEAT_MS` for voters and clients, else :data:`HEARTBEAT_MS`"""
    max_outbound: int = MAX_OUTBOUND
    """bytes that may wait to be sent on one link before its peer counts as too slow"""
    redial: Redial = field(default_factory=Redial)
    seed: int | None = None
    """of the jitter in redialing; None: from the system"""
    leader: LeaderConfig = field(default_factory=LeaderConfig)
    voter: VoterConfig = field(default_factory=VoterConfig)
    store: Path | None = None
    """directory of what a voter must never lose; None: where its identity lies"""
    max_nodes: int = 63
    """largest tree of one VERIFY"""
    max_rows: int = 64
    """rows of one forward of the verifier"""
    trace_jobs: Path | None = None
    """file that gets a line for each job (see :mod:`reference_nodes.job_trace`)"""

    @property
    def heartbeat(self) -> int:
        """Milliseconds, as HELLO says it."""
        if self.heartbeat_ms is not None:
            return self.heartbeat_ms
        return VOTING_HEARTBEAT_MS if {Role.CLIENT, Role.VOTER} & set(self.roles) else HEARTBEAT_MS


def config_of(document: Mapping[str, Any]) -> NodeConfig:
    """A configuration from JSON: the fields of :class:`NodeConfig` by name. Roles are names; ``home`` and ``identity``
    say in which directory which identity lies; ``leader``, ``voter`` and ``redial`` are objects, ``store`` is a path.
    Raises :class:`ConfigError`.
    """
    values = dict(document)
    home = values.pop("home", None)
    try:
        if "roles" in values:
            values["roles"] = tuple(Role[name.upper()] for name in values["roles"])
        for key in ("peers", "interfaces"):
            if values.get(key) is not None:
                values[key] = tuple(values[key])
        if "leader" in values:
            values["leader"] = LeaderConfig(**values["leader"])
        if "voter" in values:
            values["voter"] = VoterConfig(**values["voter"])
        for key in ("store", "trace_jobs"):
            if values.get(key) is not None:
                values[key] = Path(values[key])
        if "redial" in values:
            values["redial"] = Redial(**values["redial"])
        if values.get("identity") is not None:
            values["identity"] = load_identity(Path(home), values["identity"])
        return NodeConfig(**values)
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"configuration: {type(error).__name__}: {error}") from error


def parse_address(text: str) -> tuple[str, int]:
    """(host, port) from HOST:PORT or [IPV6]:PORT. Raises :class:`ConfigError`."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"{text!r} is not an address.", "Write HOST:PORT, or [ADDRESS]:PORT for IPv6.")
    return host, int(port)
