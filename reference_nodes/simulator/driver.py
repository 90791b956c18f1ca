"""What a real client does around its machine: opens a session, resumes an interrupted one elsewhere, turns away from a
node that keeps silent. Tells the checker everything that it is given."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from dsdproto.effects import Effect
from dsdproto.registry import Role
from dsdproto.roles.client import (
    Client,
    ClientState,
    Committed,
    Completed,
    Failed,
    Interrupted,
    Resumed,
    SessionItem,
)
from reference_nodes.simulator.checks import Checker, Violation
from reference_nodes.simulator.cluster import SimCluster, node_id
from reference_nodes.simulator.host import SimNode
from reference_nodes.simulator.scenario import CLIENT

FIRST_WAIT = 0.05
LONGEST_WAIT = 1.0
PATIENCE = 3.0
"""Seconds of silence after which a client looks for another voter."""


@dataclass(slots=True)
class ClientDriver:
    cluster: SimCluster
    checker: Checker
    rng: random.Random
    done: bool = False
    sessions: int = 0
    """opened so far"""
    interruptions: int = 0
    client: Client | None = None
    closing: bool = False
    """it has asked for no more at least once"""
    _turn: int = field(init=False)
    _closed_at: tuple[int, int] | None = None
    _failures: int = 0
    _attempt: int = 0
    _heard: float = 0.0

    def __post_init__(self) -> None:
        self._turn = self.cluster.scenario.opens_at
        self.node.on_deliver = self._deliver

    @property
    def node(self) -> SimNode:
        return self.cluster.world.nodes[CLIENT]

    def founded(self) -> bool:
        """Its stream has a group of voters that go on with it whoever dies."""
        return self.client is not None and bool(self.client.group) and not self.client.over

    # ------------------------------------------------------------ reaching a member

    def attempt(self, number: int = 0) -> None:
        """Open or resume at the next member that there is a link to."""
        if number != self._attempt or self.done:
            return
        found = self._next_link()
        if found is None:
            self._retry()
            return
        now, channel = self.node.now, self.node.machine.channel(found)
        self._heard = self.cluster.world.now
        client = self.client
        if client is not None and client.state is ClientState.INTERRUPTED:
            effects = self.cluster.clients.resume(client.session, found, channel)
        else:
            self.sessions += 1
            session = self.sessions.to_bytes(16, "big")
            client = self.client = Client(session, self.checker.contract, max_drafters=2, origins=False)
            effects = self.cluster.clients.open(client, found, channel)
        self._attempt += 1
        self.cluster.world.at(self._heard + PATIENCE, self._patience, self._attempt)
        self._perform(effects, now)

    def _next_link(self) -> int | None:
        links = {up.peer.node_id: link for link, up in self.node.machine.links.items()}
        names = self.cluster.scenario.names
        for step in range(len(names)):
            link = links.get(node_id(names[(self._turn + step) % len(names)]))
            if link is not None:
                self._turn += step + 1
                return link
        return None

    def _retry(self) -> None:
        self._failures += 1
        wait = min(FIRST_WAIT * 2**self._failures, LONGEST_WAIT) * (0.5 + 0.5 * self.rng.random())
        self._attempt += 1
        self.cluster.world.at(self.cluster.world.now + wait, self.attempt, self._attempt)

    def _patience(self, number: int) -> None:
        if number != self._attempt or self.done:
            return
        world = self.cluster.world
        if world.now < self._heard + PATIENCE:
            world.at(self._heard + PATIENCE, self._patience, number)
            return
        assert self.client is not None
        effects = self.cluster.clients.abandon(self.client.session, "nothing came")
        if effects:
            self._perform(effects, self.node.now)
        else:  # nothing that could be resumed yet
            world.at(world.now + PATIENCE, self._patience, number)

    def _perform(self, effects: list[Effect], now: float) -> None:
        self.node.perform(self.node.machine.perform(Role.CLIENT, effects, now))

    def _close_if_enough(self) -> None:
        """Ask for no more, again on each channel: the word may have been lost with the last one."""
        enough, client = self.cluster.scenario.closes_after, self.client
        if not enough or client is None or len(client.tokens) < enough or client.at == self._closed_at:
            return
        self.closing, self._closed_at = True, client.at
        self._perform(self.cluster.clients.close(client.session), self.node.now)

    # ------------------------------------------------------------ what it is given

    def _deliver(self, item: SessionItem) -> None:
        self._heard = self.cluster.world.now
        match item.item:
            case Committed(position, tokens, _):
                self._failures = 0
                self.checker.delivered(item.session, position, tokens)
                self._close_if_enough()
            case Resumed():
                self._close_if_enough()
            case Completed(finish):
                self.checker.completed(item.session, finish, self.closing)
                self.done = True
            case Interrupted():
                self.interruptions += 1
                self._retry()
            case Failed(_, clause, text):
                if self.client is not None and self.client.group:
                    raise Violation("stream", f"a stream that could be resumed failed ({clause}): {text}")
                self._retry()
