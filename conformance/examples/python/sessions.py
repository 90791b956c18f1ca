"""The client of a live node: a session on every link whose peer is a leader, resumed where that is possible."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from conformance.examples.python.models import vocabulary_digest
from dsdproto.effects import LinkUp
from dsdproto.registry import CommitProfile, ErrorCode, Method, Role
from dsdproto.roles.client import Client, Clients, Committed, Completed, Failed, Interrupted, Resumed, SessionItem
from dsdproto.testmodel import TestModel
from dsdproto.wire.messages import Contract, Sampling

TARGET = "tm-1:v=4096,s=7"
SILENCE = 2.0
"""Seconds without news from a voter before the client turns to another one."""
PATIENCE = 8.0
"""Seconds after which an interrupted session is given up."""
TRY_SECONDS = 0.2


class Sessions:
    """:param node: the live node; drives the machines that this class opens and resumes."""

    def __init__(self, node: Any, config: dict[str, Any]) -> None:
        self.node, self.config = node, config
        self.open: dict[bytes, Client] = {}
        self.tokens: dict[bytes, list[int]] = {}
        self.news: dict[bytes, float] = {}
        self.since: dict[bytes, float] = {}
        self.turn: dict[bytes, int] = {}
        self.outcomes: list[dict[str, Any]] = []
        self.settled = asyncio.Event()
        """Set while a session is over and none is open."""

    @property
    def clients(self) -> Clients:
        clients = self.node.machine.roles[Role.CLIENT]
        assert isinstance(clients, Clients)
        return clients

    def contract(self, quorum: bool) -> Contract:
        wish, target = self.config.get("session", {}), TestModel.parse(self.config.get("target", TARGET))
        profile = CommitProfile.QUORUM if quorum else CommitProfile.SOLO
        return Contract(
            prompt=tuple(wish.get("prompt", (11, 22, 33))),
            sampling=Sampling(
                method=int(Method.COUPLED),
                temperature=wish.get("temperature", 52429),
                top_k=wish.get("top_k", 0),
                top_p=wish.get("top_p", 65536),
                seed=int(wish.get("seed", int.from_bytes(os.urandom(8), "big"))),
            ),
            max_tokens=wish.get("max_tokens", 24),
            stop_tokens=tuple(wish.get("stop_tokens", (0,))),
            vocabulary_size=target.vocabulary,
            vocabulary_digest=vocabulary_digest(target.vocabulary),
            model=target.name,
            commit_profile=wish.get("commit_profile", int(profile)),
        )

    def link_up(self, up: LinkUp) -> None:
        if Role.LEADER not in up.peer.roles:
            return
        wish = self.config.get("session", {})
        client = Client(
            session=os.urandom(16),
            contract=self.contract(Role.VOTER in up.peer.roles),
            max_drafters=wish.get("max_drafters", 8),
            origins=bool(wish.get("origins", 1)),
        )
        self.open[client.session], self.tokens[client.session] = client, []
        self.settled.clear()
        self.node.loop.call_soon(self._begin, client, up.link)

    def _begin(self, client: Client, link: int) -> None:
        if link in self.node.machine.links:
            self._do(self.clients.open(client, link, self.node.machine.channel(link)))

    def _do(self, effects: Any) -> None:
        self.node.perform(self.node.machine.perform(Role.CLIENT, effects, self.node.loop.time()))

    # ------------------------------------------------------------ what comes of it

    def delivered(self, item: Any) -> None:
        if not isinstance(item, SessionItem):
            return
        session, now = item.session, self.node.loop.time()
        self.news[session] = now
        match item.item:
            case Committed(_, tokens, _):
                self.tokens[session] += tokens
                self.since.pop(session, None)
            case Resumed():
                self.since.pop(session, None)
            case Interrupted():
                self.since.setdefault(session, now)
                self.node.loop.call_later(TRY_SECONDS, self._resume, session)
            case Completed(finish, _):
                self._over(session, finish=int(finish))
            case Failed(code, _, _):
                self._over(session, error="CONNECTION_LOST" if code is None else _name(code))

    def _over(self, session: bytes, **outcome: Any) -> None:
        self.open.pop(session, None)
        if not self.open:
            self.settled.set()
        self.outcomes.append({"session": session.hex(), "tokens": self.tokens[session], **outcome})

    def _resume(self, session: bytes) -> None:
        """At one member of the group after the other, as far as there are links to them (clause Q-53)."""
        client, now = self.open.get(session), self.node.loop.time()
        if client is None or session not in self.since:
            return
        if now - self.since[session] > PATIENCE:
            self._do(self.clients.give_up(session, "no voter could be reached"))
            return
        links = [link for link, up in self.node.machine.links.items() if up.peer.node_id in client.group and link > 0]
        if links and client.at is None:
            turn = self.turn[session] = self.turn.get(session, -1) + 1
            link = links[turn % len(links)]
            self._do(self.clients.resume(session, link, self.node.machine.channel(link)))
        elif client.at is not None and now - self.news[session] > SILENCE:
            self._do(self.clients.abandon(session, f"nothing came for {SILENCE} s"))
        self.node.loop.call_later(TRY_SECONDS, self._resume, session)


def _name(code: int) -> str:
    return ErrorCode(code).name if code in ErrorCode._value2member_map_ else f"0x{code:04x}"
