"""Keeps a session of the `quorum` profile going: finds it another voter whenever the one that serves it is lost.

::

    Interrupted --> a live link to a member of the group? --> RESUME --> Resumed, Committed ...
        ^               | none: wait for one                   |
        +---------------+--------- refused, silent ------------+      patience over: Failed

The machine (:class:`dsdproto.roles.client.Client`) knows what may be resumed and checks that what comes fits; here are
the clock and the links (SPEC.md, clause Q-53).
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from dsdproto.effects import Effect
from dsdproto.errors import LocalError
from dsdproto.identity import short_node_id
from dsdproto.node import NodeMachine
from dsdproto.registry import Role
from dsdproto.roles.client import Clients, ClientState

if TYPE_CHECKING:
    from reference_nodes.client import Session
    from reference_nodes.node import Node

log = logging.getLogger("dsdp.resume")

FIRST_SILENCE = 3.0
"""Seconds that a voter may bring nothing before another one is asked; twice as long after each round of the group."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
"""Seconds between two rounds of the group."""


async def keep_going(node: Node, session: Session, patience: float) -> None:
    """From the first interruption of ``session`` on: resume it wherever it is interrupted, until it is over.

    A leader without a majority says so, a voter just waits: from here on silence means something.
    """
    # BrokenResourceError: the node has ended, which is told by whoever ended it.
    with contextlib.suppress(trio.BrokenResourceError):
        await _Keeper(node, session, patience).run()


class _Keeper:
    """From the first interruption of a session to its end."""

    def __init__(self, node: Node, session: Session, patience: float) -> None:
        self._node = node
        self._session = session
        self._client = client = session.client
        self._patience = patience
        self._deadline = trio.CancelScope()
        self._position = client.chain.position
        # The founder, who is the one that was lost, comes last; the first in turn is the one who takes over.
        self._order = (*client.group[1:], client.group[0])
        self._tries = 0
        self._in_vain = 0
        """tries since the last new token"""

    async def run(self) -> None:
        """Returns when the session is over."""
        self._deadline.deadline = trio.current_time() + self._patience
        paused = 0
        with self._deadline:
            while not self._client.over:
                link = self._choose()
                if link is None:
                    await self._wait_for_link()
                elif await self._ask(link):
                    await self._watch()
                if self._rounds > paused and not self._client.over:
                    paused = self._rounds
                    await trio.sleep(min(FIRST_PAUSE * 2 ** min(paused, 10), LONGEST_PAUSE))
                paused = min(paused, self._rounds)
        if not self._client.over:
            text = self._explain()
            await self._call(lambda clients: clients.abandon(self._client.session, text))
            await self._call(lambda clients: clients.give_up(self._client.session, text))

    @property
    def _rounds(self) -> int:
        """How often the whole group was asked in vain."""
        return self._in_vain // len(self._order)

    def _progress(self) -> bool:
        """Whether tokens have come since the last look."""
        if self._client.chain.position == self._position:
            return False
        self._position = self._client.chain.position
        self._in_vain = 0
        self._deadline.deadline = trio.current_time() + self._patience
        return True

    def _choose(self) -> int | None:
        """A link to the next member in turn that is connected."""
        for step in range(len(self._order)):
            member = self._order[(self._tries + step) % len(self._order)]
            if (link := self._node.link_to(member)) is not None:
                self._tries += step + 1
                self._in_vain += step + 1
                log.info("session %s: resuming at %s", self._client.session.hex()[:8], short_node_id(member))
                return link
        return None

    async def _wait_for_link(self) -> None:
        # A link that came up while we looked would not be told again, so nobody waits for ever.
        with trio.move_on_after(LONGEST_PAUSE):
            await self._node.peers.wait_for_change()

    async def _ask(self, link: int) -> bool:
        """RESUME over ``link``; False if it was lost meanwhile."""
        lost = False

        def resume(machine: NodeMachine, now: float) -> list[Effect]:
            nonlocal lost
            try:
                channel = machine.channel(link)
            except LocalError:
                lost = True
                return []
            clients = machine.roles[Role.CLIENT]
            assert isinstance(clients, Clients)
            return machine.perform(Role.CLIENT, clients.resume(self._client.session, link, channel), now)

        await self._node.host.call(resume)
        return not lost

    async def _watch(self) -> None:
        """Until the voter refuses, is lost, or has been silent for too long."""
        with trio.CancelScope() as patience:
            while not self._client.over and self._client.state is not ClientState.INTERRUPTED:
                if self._progress() or patience.deadline == math.inf:
                    silence = FIRST_SILENCE * 2**self._rounds
                    patience.deadline = trio.current_time() + silence
                await self._session.change()
            return
        text = f"nothing came from this voter for {silence:g} s"
        await self._call(lambda clients: clients.abandon(self._client.session, text))

    async def _call(self, function: Callable[[Clients], list[Effect]]) -> None:
        def perform(machine: NodeMachine, now: float) -> list[Effect]:
            clients = machine.roles[Role.CLIENT]
            assert isinstance(clients, Clients)
            return machine.perform(Role.CLIENT, function(clients), now)

        await self._node.host.call(perform)

    def _explain(self) -> str:
        connected = [member for member in self._order if self._node.link_to(member) is not None]
        text = (
            f"the stream was interrupted at position {self._position} and did not go on within {self._patience:g} s: "
            f"{len(connected)} of its {len(self._order)} voters can be reached from here"
        )
        if 2 * len(connected) > len(self._order):
            return f"{text}, but they do not agree on a leader that has the model"
        if len(connected) == 0:
            return f"{text}; give the addresses of all of them with --peer"
        return f"{text}; a majority of them must be alive and see each other"

