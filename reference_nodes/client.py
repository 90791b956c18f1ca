"""Sessions for applications: open one on a node, read its stream.

::

    async with open_session(node, contract) as session:
        async for item in session:
            if isinstance(item, Committed): show(item.tokens)
    print(session.result.finish, session.tokens)

The node may be the leader itself (nothing touches the network then), or a node whose only role is client. Any number of
sessions run at once, also over one link. A session of the `quorum` profile survives the loss of its leader: the
iterator says Interrupted, then Resumed, and goes on where it was (:mod:`reference_nodes.resume`).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from dsdproto.effects import Effect
from dsdproto.errors import LocalError
from dsdproto.node import NodeMachine
from dsdproto.registry import SESSION_ID_BYTES, CommitProfile, Method, Role
from dsdproto.roles.client import (
    Client,
    Clients,
    ClientState,
    Committed,
    Completed,
    Failed,
    Interrupted,
    Resumed,
    SessionItem,
    Started,
)
from dsdproto.sampling import SamplingParameters
from dsdproto.wire.messages import Contract, DrafterEntry, Sampling
from reference_nodes.errors import NodeError
from reference_nodes.resume import keep_going

if TYPE_CHECKING:
    from reference_nodes.node import Node

log = logging.getLogger("dsdp.client")

Item = Started | Committed | Interrupted | Resumed | Completed
LEADER_WAIT = 10.0
PATIENCE = 30.0


class NoLeader(NodeError):
    """No leader is connected."""

    code = "no-leader"


class SessionFailed(NodeError):
    """The session ended without a result. ``failure`` holds code and clause as the peer gave them."""

    code = "session-failed"

    def __init__(self, failure: Failed) -> None:
        clause = f" (clause {failure.clause})" if failure.clause else ""
        super().__init__(f"the session failed: {failure.text}{clause}")
        self.failure = failure


def make_contract(
    vocabulary: tuple[int, bytes],
    prompt: Sequence[int],
    *,
    max_tokens: int,
    sampling: SamplingParameters | None = None,
    seed: int = 0,
    stop_tokens: Sequence[int] = (),
    model: str = "",
    profile: bytes | None = None,
    commit_profile: CommitProfile = CommitProfile.SOLO,
) -> Contract:
    """A contract for coupled sampling.

    :param vocabulary: (size, digest), from :func:`reference_nodes.backends.tokens.vocabulary_of`.
    :param sampling: greedy if left out.
    :param seed: u64, of the noise; without effect in greedy sampling.
    :param model: name of the target; empty: any with this vocabulary.
    :param profile: numeric profile that the stream must come from; None: any.
    :param commit_profile: QUORUM: the stream survives any minority of its leader's group of voters.
    """
    parameters = sampling or SamplingParameters()
    return Contract(
        prompt=tuple(prompt),
        sampling=Sampling(
            method=int(Method.COUPLED),
            temperature=parameters.temperature_q16,
            top_k=parameters.top_k,
            top_p=parameters.top_p_q16,
            seed=seed,
        ),
        max_tokens=max_tokens,
        stop_tokens=tuple(sorted(set(stop_tokens))),
        vocabulary_size=vocabulary[0],
        vocabulary_digest=vocabulary[1],
        model=model,
        commit_profile=int(commit_profile),
        profile=profile,
    )


class Session:
    """One open session: an asynchronous iterator of Started, Committed and, last, Completed.

    Under `quorum` there may be Interrupted in between, each followed by Resumed. What was received and not read yet
    waits in memory: at most the ``contract.max_tokens`` that the caller asked for.

    :param elsewhere: whether somebody opens it at another leader if its own is lost before it answers; see
        :attr:`unheard`.
    """

    def __init__(self, client: Client, elsewhere: bool = False) -> None:
        self.client = client
        self.unheard: Failed | None = None
        """its leader was lost before OPENED, and the caller was not told so yet"""
        self._elsewhere = elsewhere
        self._items, self._ready = trio.open_memory_channel[Item | Failed](math.inf)
        self._pulse = trio.Event()
        self.started: Started | None = None
        self.result: Completed | None = None

    @property
    def id(self) -> bytes:
        """16 bytes; another one after it was opened at another leader, which can only be before Started."""
        return self.client.session

    @property
    def contract(self) -> Contract:
        return self.client.contract

    @property
    def tokens(self) -> tuple[int, ...]:
        """What is committed so far, without the prompt, read from the iterator or not."""
        return self.client.tokens

    @property
    def drafters(self) -> dict[int, DrafterEntry]:
        """Whose the numbers in ``Committed.origins`` are; 0 is the target."""
        return self.client.drafters

    @property
    def group(self) -> tuple[bytes, ...]:
        """Node ids of its voters; empty under `solo`, and before it has started."""
        return self.client.group

    @property
    def over(self) -> bool:
        return self.client.over

    async def change(self) -> None:
        """Until something more has come, read from the iterator or not."""
        await self._pulse.wait()

    def __aiter__(self) -> Session:
        return self

    async def __anext__(self) -> Item:
        """Raises :class:`SessionFailed` where the stream breaks off; that is never mistaken for its end."""
        if self.result is not None:
            raise StopAsyncIteration
        item = await self._ready.receive()
        match item:
            case Failed():
                raise SessionFailed(item)
            case Started():
                self.started = item
            case Completed():
                self.result = item
        return item

    async def finish(self) -> Completed:
        """Read to the end. Raises :class:`SessionFailed`."""
        async for _ in self:
            await trio.lowlevel.checkpoint()
        assert self.result is not None
        return self.result

    def push(self, item: Item | Failed) -> None:
        """Something came from the machine."""
        # E-4: a lost link. What a leader says, it has a reason to say, and another one would say it too.
        if self._elsewhere and isinstance(item, Failed) and item.clause == "E-4" and not self.client.group:
            self.unheard = item
        else:
            self._items.send_nowait(item)
        self._pulse.set()
        self._pulse = trio.Event()

    def fail(self, failure: Failed) -> None:
        """There is no other leader: tell the caller what happened."""
        self._elsewhere, self.unheard = False, None
        self.push(failure)


class SessionBook:
    """Which application reads what the client role of a node delivers."""

    def __init__(self) -> None:
        self.sessions: dict[bytes, Session] = {}

    def deliver(self, item: SessionItem) -> None:
        """Called in the core task."""
        session = self.sessions.get(item.session)
        if session is not None:
            session.push(item.item)


@asynccontextmanager
async def open_session(
    node: Node,
    contract: Contract,
    *,
    max_drafters: int = 8,
    origins: bool = True,
    leader: bytes | None = None,
    wait: float = LEADER_WAIT,
    patience: float = PATIENCE,
) -> AsyncIterator[Session]:
    """Open a session through ``node``, which must have the client role. Leaving the block early closes the session.

    :param max_drafters: 0 decodes on the target alone.
    :param origins: say who proposed each token.
    :param leader: node id to open it on; None: this node itself if it leads, else any leader that it is connected to.
        Under `quorum` another leader takes its place if it is lost before it answers.
    :param wait: seconds to wait for a leader.
    :param patience: seconds without a new token after which an interrupted session of the `quorum` profile fails.

    Raises :class:`NoLeader`, and LocalError for a contract that the protocol does not allow.
    """
    if Role.CLIENT not in node.host.machine.roles:
        raise LocalError("open_session() needs a node with the client role")
    quorum = contract.commit_profile == CommitProfile.QUORUM
    link = await node.leader_link(leader, wait, voting=quorum)
    session = Session(_client(contract, max_drafters, origins), elsewhere=quorum)
    node.book.sessions[session.id] = session
    keeper = trio.CancelScope()
    try:
        await _open_at(node, session, link)
        if quorum:
            node.nursery.start_soon(_keep, node, session, patience, keeper)
        yield session
    finally:
        keeper.cancel()
        del node.book.sessions[session.id]
        if not session.over:
            with trio.CancelScope(shield=True), trio.move_on_after(1.0):
                await _close(node, session.id)


def _client(contract: Contract, max_drafters: int, origins: bool) -> Client:
    return Client(os.urandom(SESSION_ID_BYTES), contract, max_drafters, origins)


async def _keep(node: Node, session: Session, patience: float, scope: trio.CancelScope) -> None:
    """As long as the session lasts: another leader before OPENED, another voter after it."""
    with scope:
        while not session.over or session.unheard is not None:
            if session.unheard is not None:
                await _open_elsewhere(node, session, patience)
            elif session.client.state is ClientState.INTERRUPTED:
                await keep_going(node, session, patience)
            else:
                await session.change()


async def _open_elsewhere(node: Node, session: Session, patience: float) -> None:
    """The leader was lost before it answered. Nothing was delivered, so a session of a new name says the same (S-20).

    Not under the old name: voters may hold it, and one of them may lead it by now.
    """
    failure, old = session.unheard, session.client
    assert failure is not None
    log.info("session %s: %s before it was opened; opening another", old.session.hex()[:8], failure.text)
    try:
        link = await node.leader_link(None, patience, voting=True)
        del node.book.sessions[old.session]
        session.client, session.unheard = _client(old.contract, old.max_drafters, old.origins), None
        node.book.sessions[session.id] = session
        await _open_at(node, session, link)
    except NoLeader:
        session.fail(failure)
    except trio.BrokenResourceError:
        return  # the node has ended, which is told by whoever ended it


async def _open_at(node: Node, session: Session, link: int) -> None:
    await node.host.call(lambda machine, now: _open(machine, session.client, link, now))


def _open(machine: NodeMachine, client: Client, link: int, now: float) -> list[Effect]:
    clients = machine.roles[Role.CLIENT]
    assert isinstance(clients, Clients)
    try:
        channel = machine.channel(link)
    except LocalError as error:
        raise NoLeader("the link to the leader was lost before the session could be opened.") from error
    return machine.perform(Role.CLIENT, clients.open(client, link, channel), now)


async def _close(node: Node, session: bytes) -> None:
    def close(machine: NodeMachine, now: float) -> list[Effect]:
        clients = machine.roles[Role.CLIENT]
        assert isinstance(clients, Clients)
        return machine.perform(Role.CLIENT, clients.close(session), now)

    try:
        await node.host.call(close)
    except trio.BrokenResourceError:
        return  # the node has ended, and the session with it
