"""One node of a cluster: models, machines, links, announcement, in one nursery.

::

    async with open_node(NodeConfig(roles=(Role.LEADER, Role.VERIFIER), target="smollm2", identity=identity)) as node:
        print(node.address)

``python -m reference_nodes.node --config JSON`` runs one in a process of its own (see :func:`config_of`) and says
on stdout, in one JSON line, when it is ready.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from dsdproto.effects import Effect
from dsdproto.identity import node_id_text
from dsdproto.node import LOCAL_NEAR, NodeMachine
from dsdproto.registry import MAX_PAYLOAD, VERSION, Feature, Role
from dsdproto.roles.client import Clients, SessionItem
from dsdproto.roles.drafter import Drafter, DrafterConfig
from dsdproto.roles.leader import Leader, LeaderConfig
from dsdproto.roles.leader_session import Note
from dsdproto.roles.verifier import Verifier, VerifierConfig
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.wire.messages import Hello, Limits, ModelOffer
from reference_nodes.client import NoLeader, SessionBook
from reference_nodes.discovery import announce, browse, open_multicast
from reference_nodes.errors import NodeError
from reference_nodes.host import Host, HostFailed
from reference_nodes.interfaces import choose_interfaces
from reference_nodes.journal_sqlite import SqliteJournal
from reference_nodes.link import MAX_OUTBOUND, Link, LinkOptions
from reference_nodes.offers import Say, load_drafter, load_verifier
from reference_nodes.peers import Peers, Redial
from reference_nodes.transport import Opened, PlainTransport, TlsTransport
from reference_nodes.trust import NodeIdentity, load_identity
from reference_nodes.txt import Description
from reference_nodes.votes import open_votes

log = logging.getLogger("dsdp.node")

HEARTBEAT_MS = 5000
VOTING_HEARTBEAT_MS = 1000
"""Where a session can go on without its leader, a silent one is noticed after four of these. Shorter would take every
hiccup of a wireless link for a death."""
MAX_CHANNELS = 4096


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


class Node:
    """A running node, made by :func:`open_node`."""

    def __init__(self, config: NodeConfig, hello: Hello, host: Host, book: SessionBook) -> None:
        self.config = config
        self.hello = hello
        self.host = host
        self.book = book
        self.since = trio.current_time()
        self.port: int | None = None
        self.peers: Peers
        self.announced = False
        self.votes: SqliteJournal | None = None
        """what its voter has stored"""
        self.nursery: trio.Nursery
        """for tasks that live as long as the node"""

    @property
    def node_id(self) -> bytes:
        """32 bytes."""
        return self.hello.node_id

    @property
    def address(self) -> str | None:
        """HOST:PORT that the node listens on."""
        return None if self.port is None else f"{_bracketed(self.config.host or '')}:{self.port}"

    def links_to(self, *roles: Role) -> list[Link]:
        """Live links to peers with all of ``roles``."""
        return [
            link
            for link in self.peers.links.values()
            if link.up and link.peer is not None and set(roles) <= set(link.peer.roles)
        ]

    def link_to(self, node_id: bytes) -> int | None:
        """Number of the live link to a node, or None; to this node itself, that of the local link."""
        if node_id == self.node_id:
            return LOCAL_NEAR
        return next((link.number for link in self.peers.links.values() if link.up and link.peer_id == node_id), None)

    async def wait_for(self, role: Role, count: int = 1) -> list[Link]:
        """Wait until ``count`` peers with ``role`` are connected."""
        while len(found := self.links_to(role)) < count:
            await self.peers.wait_for_change()
        return found

    async def leader_link(self, leader: bytes | None, wait: float, *, voting: bool = False) -> int:
        """Number of the link to a leader: see :func:`reference_nodes.client.open_session`. Raises NoLeader.

        :param voting: one that can lead sessions of the `quorum` profile.
        """
        roles = {Role.LEADER, Role.VOTER} if voting else {Role.LEADER}
        if roles <= self.host.machine.roles.keys() and leader in (None, self.node_id):
            return LOCAL_NEAR
        with trio.move_on_after(wait):
            while True:
                for link in self.links_to(*roles):
                    if leader in (None, link.peer_id):
                        return link.number
                await self.peers.wait_for_change()
        tried = "; ".join(f"{entry['peer']}: {entry['error'] or 'no answer yet'}" for entry in self.peers.dialing())
        raise NoLeader(
            f"no leader{' with the voter role' if voting else ''} was reached within {wait:g} s "
            f"({tried or 'no peer is known'}).",
            "Give its address with --peer HOST:PORT, or see `dsdp doctor`.",
        )


@asynccontextmanager
async def open_node(config: NodeConfig, say: Say = log.info) -> AsyncIterator[Node]:
    """Run a node for the time of the block; at its end, peers get a GOODBYE.

    :param say: takes lines about what is going on while models load.

    Raises :class:`ConfigError`, what loading models raises (ModelError, BackendError), what an identity's check of its
    validity raises, :class:`HostFailed` for a bug; never an exception group.
    """
    loaded = await _load(config, say)
    hello = _hello(config, loaded)
    book = SessionBook()
    executors = {role: item.executor for role, item in loaded.items()}
    host = Host(_machine(config, hello, loaded), executors, deliver=_sink(book))
    node = Node(config, hello, host, book)
    transport = TlsTransport(config.identity) if config.identity is not None else PlainTransport()
    options = LinkOptions(hello, config.max_outbound)

    def make_link(number: int, opened: Opened, dialer: bool, address: str) -> Link:
        return Link(number, opened, dialer, address, host, options, lambda: _status(node))

    node.peers = Peers(
        node.node_id,
        hello.roles,
        transport.dial,
        transport.accept,
        make_link,
        redial=config.redial,
        rng=random.Random(config.seed),
    )
    async with AsyncExitStack() as stack:
        if Role.VOTER in config.roles:
            node.votes = await trio.to_thread.run_sync(_restore, config, host.machine, say)
            host.journals[Role.VOTER] = node.votes
            stack.callback(node.votes.close)
        nursery = node.nursery = await stack.enter_async_context(_nursery())
        await nursery.start(host.run)
        if node.votes is not None:
            await host.call(_wake)
        await nursery.start(node.peers.run)
        if config.host is not None:
            await _listen(node, nursery)
        for peer in config.peers:
            node.peers.dial_static(*parse_address(peer))
        if config.interfaces is not None:
            await _announce(node, stack, nursery)
        try:
            yield node
        finally:
            with trio.CancelScope(shield=True):
                await node.peers.goodbye("the node is shutting down")
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that raises the first thing that went wrong, not a group of it."""
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        fault = _first(group)
        raise fault from fault.__cause__


def _first(group: BaseExceptionGroup) -> BaseException:
    faults = [fault for fault in _leaves(group) if not isinstance(fault, trio.Cancelled)]
    for fault in faults[1:]:
        log.error("besides", exc_info=fault)
    return faults[0] if faults else group.exceptions[0]


def _leaves(fault: BaseException) -> list[BaseException]:
    if isinstance(fault, BaseExceptionGroup):
        return [leaf for inner in fault.exceptions for leaf in _leaves(inner)]
    return [fault]


# ---------------------------------------------------------------- parts


async def _load(config: NodeConfig, say: Say) -> dict[Role, Any]:
    roles = config.roles
    if not roles:
        raise ConfigError("a node needs at least one role.", "Roles are client, leader, drafter, verifier, voter.")
    if Role.VOTER in roles and config.identity is None and config.store is None:
        raise ConfigError("a voter without an identity needs a directory for its votes.", "Set `store`.")
    if config.identity is None and not config.plain_loopback:
        raise ConfigError("a node needs an identity.", "Run `dsdp init` or `dsdp join TOKEN` first.")
    loaded: dict[Role, Any] = {}
    if Role.VERIFIER in roles:
        if config.target is None:
            raise ConfigError("the verifier role needs a model.", "Name one with --model.")
        loaded[Role.VERIFIER] = await trio.to_thread.run_sync(load_verifier, config.target, say)
    if Role.DRAFTER in roles:
        if config.draft is None:
            raise ConfigError("the drafter role needs a draft model.", "Name one with --draft-model.")
        target = config.draft_for or config.target
        loaded[Role.DRAFTER] = await trio.to_thread.run_sync(load_drafter, config.draft, target, say)
    if loaded:
        # Vocabularies are hundreds of thousands of objects that never die. Left among the living, each full collection
        # walks them: a stall of 50 to 120 ms, several times a second under load.
        gc.collect()
        gc.freeze()
    return loaded


def _hello(config: NodeConfig, loaded: Mapping[Role, Any]) -> Hello:
    identity = config.identity
    models: tuple[ModelOffer, ...] = tuple(item.offer for item in loaded.values())
    return Hello(
        version_min=VERSION,
        version_max=VERSION,
        node_id=os.urandom(32) if identity is None else identity.node_id,
        instance=os.urandom(8),
        roles=tuple(sorted(int(role) for role in set(config.roles))),
        cluster=bytes(16) if identity is None else identity.cluster_id,
        features=tuple(sorted(int(feature) for feature in Feature)),
        limits=Limits(max_payload=MAX_PAYLOAD, max_channels=MAX_CHANNELS, heartbeat_ms=_heartbeat_ms(config)),
        models=models,
        nonce=os.urandom(16),
        agent=f"dsdp-reference/{importlib.metadata.version('dsdp')}",
    )


def _heartbeat_ms(config: NodeConfig) -> int:
    if config.heartbeat_ms is not None:
        return config.heartbeat_ms
    return VOTING_HEARTBEAT_MS if {Role.CLIENT, Role.VOTER} & set(config.roles) else HEARTBEAT_MS


def _machine(config: NodeConfig, hello: Hello, loaded: Mapping[Role, Any]) -> NodeMachine:
    machine = NodeMachine(hello)
    if Role.CLIENT in config.roles:
        machine.roles[Role.CLIENT] = Clients()
    if Role.LEADER in config.roles:
        machine.roles[Role.LEADER] = Leader(config.leader, machine.channel)
    if Role.VOTER in config.roles:
        machine.roles[Role.VOTER] = Voter(config.voter, hello.node_id)
    if Role.DRAFTER in loaded:
        machine.roles[Role.DRAFTER] = Drafter(DrafterConfig(loaded[Role.DRAFTER].offer))
    if Role.VERIFIER in loaded:
        target = loaded[Role.VERIFIER]
        rows = min(config.max_rows, target.backend.max_rows)
        machine.roles[Role.VERIFIER] = Verifier(
            VerifierConfig(target.offer, max_nodes=min(config.max_nodes, rows - 1), max_rows=rows)
        )
    return machine


def _restore(config: NodeConfig, machine: NodeMachine, say: Say) -> SqliteJournal:
    """Open the voter's journal and replay it. Raises JournalError."""
    directory = config.store or (config.identity and config.identity.directory)
    assert directory is not None
    votes = open_votes(directory, machine.hello.node_id)
    try:
        voter = machine.roles[Role.VOTER]
        assert isinstance(voter, Voter)
        voter.restore(votes.load())
        if voter.seats:
            say(f"{len(voter.seats)} sessions are known from before")
    except BaseException:
        votes.close()
        raise
    return votes


def _wake(machine: NodeMachine, now: float) -> list[Effect]:
    voter = machine.roles[Role.VOTER]
    assert isinstance(voter, Voter)
    return machine.perform(Role.VOTER, voter.wake(now), now)


def _sink(book: SessionBook) -> Any:
    def deliver(item: Any) -> None:
        match item:
            case SessionItem():
                book.deliver(item)
            case Note(text, session):
                log.info("%s%s", "" if session is None else f"session {session.hex()[:8]}: ", text)
            case _:
                log.info("%s", item)

    return deliver


async def _listen(node: Node, nursery: trio.Nursery) -> None:
    config = node.config
    try:
        (listener,) = await trio.open_tcp_listeners(config.port, host=config.host)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {config.host} port {config.port}: {error.strerror or error}.",
            "Choose another --port (0: any free one), or an address of this machine with --host.",
        ) from error
    except ValueError as error:
        raise ConfigError(f"{config.host!r} stands for several addresses.", "Name one of them with --host.") from error
    node.port = listener.socket.getsockname()[1]
    nursery.start_soon(node.peers.serve, listener)


async def _announce(node: Node, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
    config = node.config
    multicast = await stack.enter_async_context(open_multicast(choose_interfaces(config.interfaces or ())))
    description = Description(
        node_id=node.node_id,
        instance=node.hello.instance,
        cluster=node.hello.cluster,
        roles=node.hello.roles,
        models=tuple(offer.name for offer in node.hello.models),
    )
    browser = await stack.enter_async_context(browse(multicast, node.hello.cluster, node.hello.instance))
    if node.port is not None:
        addresses = None if config.host in ("0.0.0.0", "::") else (config.host,)
        await stack.enter_async_context(
            announce(multicast, description, node.port, label=config.name, addresses=addresses)
        )
        node.announced = True

    async def watch() -> None:
        async for event in browser:
            node.peers.discovered(event)

    nursery.start_soon(watch)


def _status(node: Node) -> str:
    from reference_nodes.status import status_text

    return status_text(node)


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


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# ---------------------------------------------------------------- a process of its own


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
        if values.get("store") is not None:
            values["store"] = Path(values["store"])
        if "redial" in values:
            values["redial"] = Redial(**values["redial"])
        if values.get("identity") is not None:
            values["identity"] = load_identity(Path(home), values["identity"])
        return NodeConfig(**values)
    except (TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"configuration: {type(error).__name__}: {error}") from error


async def run_node(config: NodeConfig, ready: Any = None) -> int:
    """Run a node until SIGINT or SIGTERM; returns the exit code.

    :param ready: called with the :class:`Node` once it listens.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            async with open_node(config, log.info) as node:
                if ready is not None:
                    ready(node)
                async for number in signals:
                    log.info("%s: leaving", signal.Signals(number).name)
                    break
        except HostFailed as error:
            log.critical("the node ends: %s", error)
            return 70
        except (NodeError, OSError) as error:
            log.error("%s", error)
            return 1
    return 0


def _print_ready(node: Node) -> None:
    line = {"ready": True, "port": node.port, "node": node_id_text(node.node_id), "pid": os.getpid()}
    print(json.dumps(line), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m reference_nodes.node", description="Run one node from a JSON document.")
    parser.add_argument("--config", required=True, help="JSON object with the fields of NodeConfig")
    parser.add_argument("--log", default="WARNING", help="log level (default: WARNING)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log.upper(), format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    try:
        config = config_of(json.loads(options.config))
    except (NodeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return trio.run(run_node, config, _print_ready)


if __name__ == "__main__":
    sys.exit(main())
