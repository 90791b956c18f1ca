"""The verbs `start`, `stop` and `reset`: live nodes, all in one event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
import threading
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography import x509

from conformance.examples.python.links import Link, Tls, cluster_of, context, node_id_of
from conformance.examples.python.models import draft, offer, verify
from conformance.examples.python.sessions import Sessions
from conformance.examples.python.store import Store
from dsdproto.connection import HANDSHAKE_SECONDS, Side
from dsdproto.effects import (
    CancelTimer,
    CloseLink,
    Compute,
    Computed,
    Deliver,
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Persist,
    Received,
    Refuse,
    Send,
    SetTimer,
    TimerFired,
)
from dsdproto.node import NodeMachine
from dsdproto.registry import Feature, Role
from dsdproto.roles.client import Clients
from dsdproto.roles.drafter import Drafter, DrafterConfig
from dsdproto.roles.leader import Leader, LeaderConfig
from dsdproto.roles.verifier import Verifier, VerifierConfig
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.roles.work import VerifyWork
from dsdproto.testmodel import TestModel
from dsdproto.wire.messages import Hello, Limits, Status, StatusRequest

TARGET = "tm-1:v=4096,s=7"
AGAIN_SECONDS = 0.3


class Node:
    """One live node: drives a NodeMachine, whose effects are the only thing that it does."""

    def __init__(self, given: dict[str, Any]) -> None:
        config, identity = given["config"], given["identity"]
        self.given, self.identity = given, identity
        self.node_id = node_id_of(x509.load_pem_x509_certificate(identity["certificate"].encode()))
        roles = [Role[name.upper()] for name in given["roles"]]
        self.target = TestModel.parse(config.get("target", TARGET))
        self.drafting = TestModel.parse(config.get("draft", f"{TARGET},a=52429,d=1"))
        models = {Role.VERIFIER: self.target, Role.DRAFTER: self.drafting}
        max_context = config.get("max_context", 4096)
        offers = {role: offer(model, role, max_context) for role, model in models.items() if role in roles}
        self.hello = Hello(
            version_min=1,
            version_max=1,
            node_id=self.node_id,
            instance=os.urandom(8),
            roles=tuple(sorted(int(role) for role in roles)),
            cluster=cluster_of(identity["authority"]),
            features=tuple(int(feature) for feature in Feature),
            limits=Limits(max_payload=1 << 20, max_channels=64, heartbeat_ms=config.get("heartbeat_ms", 1000)),
            models=tuple(offers.values()),
            nonce=os.urandom(16),
            agent="dsdproto example/0.1.0",
        )
        self.machine = NodeMachine(self.hello)
        self.store = Store(Path(config["store"]) if "store" in config else None)
        self.links: dict[int, Link] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.timers: dict[Any, asyncio.TimerHandle] = {}
        self.numbers = itertools.count(1)
        self.server: asyncio.Server | None = None
        self.sessions: Sessions | None = None
        self._roles(roles, config, offers)

    def _roles(self, roles: list[Role], config: dict[str, Any], offers: dict[Role, Any]) -> None:
        made = self.machine.roles
        if Role.CLIENT in roles:
            made[Role.CLIENT] = Clients()
            self.sessions = Sessions(self, config)
        if Role.LEADER in roles:
            leader = LeaderConfig(credit=32, width=2, group_size=config.get("group_size", 3))
            made[Role.LEADER] = Leader(leader, self.machine.channel)
        if Role.DRAFTER in roles:
            made[Role.DRAFTER] = Drafter(DrafterConfig(offers[Role.DRAFTER], width=2))
        if Role.VERIFIER in roles:
            bound = config.get("max_nodes", 63)
            made[Role.VERIFIER] = Verifier(VerifierConfig(offers[Role.VERIFIER], max_nodes=bound))
        if Role.VOTER in roles:
            made[Role.VOTER] = Voter(VoterConfig(), self.node_id)

    # ------------------------------------------------------------ begin and end

    async def start(self) -> dict[str, Any]:
        self.loop = asyncio.get_running_loop()
        self.perform(self.machine.start(self.loop.time()))
        voter = self.machine.roles.get(Role.VOTER)
        if isinstance(voter, Voter):
            voter.restore(self.store.records())
            self.perform(self.machine.perform(Role.VOTER, voter.wake(self.loop.time()), self.loop.time()))
        out: dict[str, Any] = {"node_id": self.node_id.hex()}
        if self.given["listen"]:
            self.server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
            out["address"] = f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        for peer in self.given["peers"]:
            self.spawn(self._dial(*peer.rsplit(":", 1)))
        return out

    async def stop(self, wait: float = 0.0) -> None:
        """``wait``: seconds that a client's sessions may still take."""
        if self.sessions is not None and wait:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.sessions.settled.wait(), wait)
        for task in list(self.tasks):
            task.cancel()
        if self.server is not None:
            self.server.close()
        for timer in self.timers.values():
            timer.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.store.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.spawn(self._linked(Side.ACCEPTOR, (reader, writer)))

    async def _dial(self, host: str, port: str) -> None:
        while True:
            with contextlib.suppress(OSError):
                streams = await asyncio.open_connection(host.strip("[]"), int(port))
                await self._linked(Side.DIALER, streams)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _linked(self, side: Side, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """One connection, from TCP to its end."""
        number = next(self.numbers)
        tls = Tls(streams, context(self.identity, server=side is Side.ACCEPTOR))
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await tls.handshake()
            hello = replace(self.hello, nonce=os.urandom(16))
            link = self.links[number] = Link(number, side, hello, tls, self.happened)
            await link.run()
        except (OSError, TimeoutError) as error:
            print(f"no link: {error}", file=sys.stderr)
        finally:
            tls.close()
            self.links.pop(number, None)

    # ------------------------------------------------------------ events and effects

    def happened(self, events: list[Event]) -> None:
        """What a link, a timer or a model reports, in order."""
        for event in events:
            match event:
                case Received(link, 0, StatusRequest()):
                    self.links[link].machine.send(0, Status(document="{}"))  # clause C-12
                    self.links[link].flush()
                case LinkUp():
                    self.perform(self.machine.handle(event, self.loop.time()))
                    self._twins(event)
                    if self.sessions is not None:
                        self.sessions.link_up(event)
                case LinkDown():
                    self.perform(self.machine.handle(event, self.loop.time()))
                case _:
                    self.perform(self.machine.handle(event, self.loop.time()))

    def _twins(self, up: LinkUp) -> None:
        """Of two links between the same two nodes one stays (clause C-14)."""
        for link, other in list(self.machine.links.items()):
            same = (other.peer.node_id, other.peer.instance) == (up.peer.node_id, up.peer.instance)
            if not same or link in (up.link, *range(-2, 0)):
                continue
            loser = link
            if other.dialer != up.dialer:
                lower = self.node_id < up.peer.node_id
                loser = up.link if other.dialer == lower else link
            if loser in self.links:
                self.links[loser].perform(CloseLink(loser, "one link between two nodes is enough"))

    def perform(self, effects: list[Effect] | tuple[Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case Send(link, _, _) | Refuse(link, _, _) | CloseLink(link, _):
                    if link in self.links:
                        self.links[link].perform(effect)
                case Persist(record, _):
                    self.store.keep(record)
                    self.perform(self.machine.persisted(effect, self.loop.time()))
                case SetTimer(key, at):
                    self._cancel(key)
                    self.timers[key] = self.loop.call_at(at, self._fired, key)
                case CancelTimer(key):
                    self._cancel(key)
                case Compute(job, work):
                    if isinstance(work, VerifyWork):
                        result: Any = verify(self.target, work, 0.0005)
                    else:
                        result = draft(self.drafting, work, 0.0005)
                    self.loop.call_soon(self.happened, [Computed(job, result=result)])
                case Deliver(item):
                    if self.sessions is not None:
                        self.sessions.delivered(item)

    def _cancel(self, key: Any) -> None:
        timer = self.timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _fired(self, key: Any) -> None:
        self.timers.pop(key, None)
        self.happened([TimerFired(key)])


class Nodes:
    """What the testee runs, by name."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self.count = itertools.count(1)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self.loop is None:
            self.loop = asyncio.new_event_loop()
            threading.Thread(target=self.loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(75)

    def start(self, request: dict[str, Any]) -> dict[str, Any]:
        node = Node(request)
        answer = self._do(node.start())
        name = f"node{next(self.count)}"
        self.nodes[name] = node
        return {"node": name, **answer}

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        node = self.nodes.pop(request["node"])
        self._do(node.stop(request.get("wait_ms", 0) / 1000))
        return {} if node.sessions is None else {"sessions": node.sessions.outcomes}

    def reset(self, request: dict[str, Any]) -> dict[str, Any]:
        for name in list(self.nodes):
            self.stop({"node": name})
        return {}
