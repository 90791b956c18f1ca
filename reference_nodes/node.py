"""One node of a cluster: models, machines, links, announcement, in one nursery.

::

    async with open_node(NodeConfig(roles=(Role.LEADER, Role.VERIFIER), target="smollm2", identity=identity)) as node:
        print(node.address)

``python -m reference_nodes.node --config JSON`` runs one in a process of its own (see :mod:`reference_nodes.config`)
and says on stdout, in one JSON line, when it is ready.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from dsdproto.identity import node_id_text
from dsdproto.node import LOCAL_NEAR
from dsdproto.registry import Role
from dsdproto.wire.messages import Hello
from reference_nodes.assembly import hello_of, load_models, machine_of, restore_votes, sink_of, wake_voter
from reference_nodes.client import NoLeader, SessionBook
from reference_nodes.config import ConfigError, NodeConfig, config_of, parse_address
from reference_nodes.discovery import announce, browse, open_multicast
from reference_nodes.errors import NodeError
from reference_nodes.host import Host, HostFailed
from reference_nodes.interfaces import choose_interfaces
from reference_nodes.job_trace import JobTrace
from reference_nodes.journal_sqlite import SqliteJournal
from reference_nodes.link import Link, LinkOptions
from reference_nodes.offers import Say
from reference_nodes.peers import Peers
from reference_nodes.transport import Opened, PlainTransport, TlsTransport
from reference_nodes.txt import Description

log = logging.getLogger("dsdp.node")


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
    validity raises, :class:`~reference_nodes.job_trace.TraceError`, :class:`HostFailed` for a bug; never an exception
    group.
    """
    loaded = await load_models(config, say)
    hello = hello_of(config, loaded)
    book = SessionBook()
    executors = {role: item.executor for role, item in loaded.items()}
    host = Host(machine_of(config, hello, loaded), executors, deliver=sink_of(book))
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
        if config.trace_jobs is not None:
            trace = JobTrace(config.trace_jobs, lambda: host.messages)
            stack.callback(trace.close)
            host.executors = {role: trace.wrap(role, executor) for role, executor in host.executors.items()}
        if Role.VOTER in config.roles:
            node.votes = await trio.to_thread.run_sync(restore_votes, config, host.machine, say)
            host.journals[Role.VOTER] = node.votes
            stack.callback(node.votes.close)
        nursery = node.nursery = await stack.enter_async_context(_nursery())
        await nursery.start(host.run)
        if node.votes is not None:
            await host.call(wake_voter)
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


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# ---------------------------------------------------------------- a process of its own


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
