"""Drafters that die, freeze, lose their link or lie in the middle of a generation: no token changes, nobody suffers.

Drafters with faults are processes of their own (or peers that speak the wire by hand). Every act happens while the
brake holds the stream at a known position, and every wait is for something observed.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from live import Brake, Stranger, Town, alone, contract, drafter, in_trio

from dsdproto.prefix import short_digest
from dsdproto.registry import Role
from dsdproto.session import chain_of
from dsdproto.wire.messages import Advance, Attach, Attached, Contract, Propose
from reference_nodes.client import Session, open_session
from reference_nodes.node import Node, open_node
from reference_nodes.offers import load_drafter
from reference_nodes.transport import TlsTransport

TOKENS = 110
QUICK = {"heartbeat_ms": 250}
"""The lower of both ends' intervals counts, so only the link of the drafter that asks for it is touchy."""
ACT = 35
"""position at which the fault happens"""
LATER = 70
"""position by which it must be over"""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    return Town.found(Path(tmp_path_factory.mktemp("town")))


@dataclass
class Scene:
    """A leader with verifier and client on board, an honest drafter, and a session that is held at position ACT."""

    leader: Node
    brake: Brake
    session: Session
    honest: bytes

    def gone(self, node_id: bytes) -> bool:
        return not self.leader.peers.linked(node_id)

    async def until_gone(self, node_id: bytes) -> None:
        while not self.gone(node_id):
            await self.leader.peers.wait_for_change()

    def honest_number(self) -> int:
        seats = next(iter(self.brake.leader.sessions.values())).drafters.values()
        return next(seat.entry.number for seat in seats if seat.entry.node_id == self.honest)

    def accepted(self) -> int:
        return next(iter(self.brake.leader.sessions.values())).accepted

    async def reach(self, position: int) -> None:
        self.brake.go(position)
        await self.brake.stopped()


@asynccontextmanager
async def scene(town: Town, asked: Contract) -> AsyncIterator[Scene]:
    async with open_node(town.config(Role.CLIENT, Role.LEADER, Role.VERIFIER)) as leader:
        brake = Brake(leader)
        honest = town.config(Role.DRAFTER, draft=drafter(1, 0.7), host=None, peers=(str(leader.address),))
        assert honest.identity is not None
        async with open_node(honest):
            await leader.wait_for(Role.DRAFTER)
            brake.stop(6)
            async with open_session(leader, asked) as session:
                await brake.stopped()
                yield Scene(leader, brake, session, honest.identity.node_id)


async def finish_equal(scene: Scene, asked: Contract) -> None:
    """The rest of the stream: right, and with help of the honest drafter."""
    before, number = scene.accepted(), scene.honest_number()
    scene.brake.go()
    result = await scene.session.finish()
    assert scene.session.tokens == alone(asked)
    assert result.stats is not None and result.stats.accepted > before
    assert number in scene.session.drafters
    assert not scene.gone(scene.honest)


@asynccontextmanager
async def process(town: Town, peers: str, **more: Any) -> AsyncIterator[tuple[trio.Process, bytes]]:
    """A drafter in a process of its own; gives it and its node id."""
    identity = town.identity()
    document = {
        "roles": ["drafter"],
        "home": str(town.home),
        "identity": identity.name,
        "draft": drafter(2, 0.9),
        "host": None,
        "peers": [peers],
        "redial": {"first": 0.02, "longest": 0.1},
        **more,
    }
    command = [sys.executable, "-m", "reference_nodes.node", "--config", json.dumps(document)]
    child = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            line += (piece := await child.stdout.receive_some(1))
            assert piece, f"the drafter process ended with {await child.wait()}"
        assert json.loads(line)["ready"]
        yield child, identity.node_id
    finally:
        with trio.CancelScope(shield=True):
            child.kill()
            await child.wait()
            if child.stdout is not None:
                await child.stdout.aclose()


async def attached(scene: Scene, node_id: bytes) -> None:
    """Until the drafter of this node works for the session and has proposed something."""

    def works() -> bool:
        return any(
            seat.entry.node_id == node_id and seat.sent
            for session in scene.brake.leader.sessions.values()
            for seat in session.drafters.values()
        )

    await scene.brake.until(works)


# ---------------------------------------------------------------- processes


@in_trio
async def test_kill_9(town: Town) -> None:
    asked = contract(TOKENS, 0.8)
    async with scene(town, asked) as here, process(town, str(here.leader.address)) as (child, node_id):
        await attached(here, node_id)
        await here.reach(ACT)
        child.send_signal(signal.SIGKILL)
        await here.until_gone(node_id)
        await finish_equal(here, asked)


@in_trio
async def test_sigstop(town: Town) -> None:
    """A frozen process keeps its connection: the heartbeat finds out, and meanwhile the stream goes on."""
    asked = contract(TOKENS)
    async with scene(town, asked) as here, process(town, str(here.leader.address), **QUICK) as (child, node_id):
        await attached(here, node_id)
        await here.reach(ACT)
        child.send_signal(signal.SIGSTOP)
        await here.reach(LATER)
        await here.until_gone(node_id)
        await finish_equal(here, asked)


@in_trio
async def test_a_drafter_that_wakes_up_is_used_again(town: Town) -> None:
    asked = contract(TOKENS)
    async with scene(town, asked) as here, process(town, str(here.leader.address), **QUICK) as (child, node_id):
        await attached(here, node_id)
        await here.reach(ACT)
        child.send_signal(signal.SIGSTOP)
        await here.until_gone(node_id)
        child.send_signal(signal.SIGCONT)
        await here.leader.wait_for(Role.DRAFTER, 2)
        await attached(here, node_id)
        await finish_equal(here, asked)


@in_trio
async def test_sigterm_is_a_goodbye(town: Town) -> None:
    asked = contract(TOKENS)
    async with scene(town, asked) as here, process(town, str(here.leader.address)) as (child, node_id):
        await attached(here, node_id)
        await here.reach(ACT)
        child.terminate()
        assert await child.wait() == 0
        await here.until_gone(node_id)
        await finish_equal(here, asked)


# ---------------------------------------------------------------- the network


@dataclass
class Wire:
    """A TCP proxy whose connections can be cut."""

    target: int
    port: int = 0
    _links: list[trio.SocketStream] = field(default_factory=list)

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._pass_on, [listener])

    async def _pass_on(self, near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", self.target)
        self._links += (near, far)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, near, far, nursery.cancel_scope)
            nursery.start_soon(self._copy, far, near, nursery.cancel_scope)

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            async for data in source:
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            scope.cancel()

    async def cut(self) -> None:
        for stream in self._links:
            await trio.aclose_forcefully(stream)
        self._links.clear()


@in_trio
async def test_a_cut_link_is_dialed_again(town: Town) -> None:
    asked = contract(TOKENS, 0.8)
    async with trio.open_nursery() as nursery:
        async with scene(town, asked) as here:
            assert here.leader.port is not None
            wire = Wire(here.leader.port)
            await nursery.start(wire.serve)
            async with process(town, f"127.0.0.1:{wire.port}") as (_, node_id):
                await attached(here, node_id)
                await here.reach(ACT)
                await wire.cut()
                await here.until_gone(node_id)
                await here.reach(LATER)
                await here.leader.wait_for(Role.DRAFTER, 2)
                await attached(here, node_id)
                await finish_equal(here, asked)
        nursery.cancel_scope.cancel()


# ---------------------------------------------------------------- lies


@in_trio
async def test_garbage_instead_of_hello(town: Town) -> None:
    asked = contract(TOKENS)
    async with scene(town, asked) as here:
        await here.reach(ACT)
        links = len(here.leader.peers.links)
        opened = await TlsTransport(town.identity()).dial("127.0.0.1", here.leader.port or 0)
        await opened.stream.send_all(random.Random(1).randbytes(4096))
        while await opened.stream.receive_some(4096):
            continue
        assert len(here.leader.peers.links) == links
        await finish_equal(here, asked)


async def join(town: Town, here: Scene) -> tuple[Stranger, int, Attach]:
    """A hand-made drafter up to ATTACHED; gives it, its channel and what it was attached to."""
    offer = load_drafter(drafter(9)).offer
    liar = await Stranger.connect(town.identity(), here.leader, Role.DRAFTER, (offer,))
    attach = await liar.message(Attach)
    await liar.send(attach.channel, Attached(model="liar"))
    return liar, attach.channel, attach.message


@pytest.mark.parametrize("seed", range(4))
@in_trio
async def test_garbage_after_the_handshake(town: Town, seed: int) -> None:
    asked = contract(TOKENS)
    async with scene(town, asked) as here:
        liar, _, _ = await join(town, here)
        await here.reach(ACT)
        await liar.raw(random.Random(seed).randbytes(20_000))
        reason = await liar.end()
        assert "peer reports" in reason or "lost" in reason
        await here.until_gone(liar.identity.node_id)
        await finish_equal(here, asked)
        await trio.aclose_forcefully(liar.stream)


Lie = Callable[[Stranger, int, Attach, random.Random], Awaitable[None]]


async def wrong_tokens(liar: Stranger, channel: int, attach: Attach, rng: random.Random) -> None:
    chain = chain_of(attach.contract, attach.committed)
    tokens = tuple(rng.randrange(512) for _ in range(8))
    await liar.frame(channel, Propose(position=chain.position, base=chain.short, tokens=tokens))


async def unknown_prefixes(liar: Stranger, channel: int, attach: Attach, rng: random.Random) -> None:
    for _ in range(20):
        base = short_digest(rng.randbytes(32))
        await liar.frame(channel, Propose(position=rng.randrange(1 << 20), base=base, tokens=(1, 2, 3)))


async def ids_outside_the_vocabulary(liar: Stranger, channel: int, attach: Attach, rng: random.Random) -> None:
    chain = chain_of(attach.contract, attach.committed)
    await liar.frame(channel, Propose(position=chain.position, base=chain.short, tokens=(512,)))


async def equal_siblings(liar: Stranger, channel: int, attach: Attach, rng: random.Random) -> None:
    chain = chain_of(attach.contract, attach.committed)
    twins = Propose(position=chain.position, base=chain.short, tokens=(5, 5), parents=b"\0\0")
    await liar.frame(channel, twins)


async def more_than_the_credit(liar: Stranger, channel: int, attach: Attach, rng: random.Random) -> None:
    chain = chain_of(attach.contract, attach.committed)
    for first in range(0, 240, 8):
        tokens = tuple(range(first, first + 8))
        await liar.frame(channel, Propose(position=chain.position, base=chain.short, tokens=tokens, parents=bytes(8)))


async def a_leaders_message(liar: Stranger, channel: int, attach: Attach, rng: random.Random) -> None:
    await liar.frame(channel, Advance(position=1 << 20, ref=0, tokens=(1, 2)))


@pytest.mark.parametrize(
    "lie",
    [
        wrong_tokens,
        unknown_prefixes,
        ids_outside_the_vocabulary,
        equal_siblings,
        more_than_the_credit,
        a_leaders_message,
    ],
)
@in_trio
async def test_well_formed_lies(town: Town, lie: Lie) -> None:
    asked = contract(TOKENS, 0.8)
    async with scene(town, asked) as here:
        liar, channel, attach = await join(town, here)
        await here.reach(ACT)
        known = len(here.brake.seen)
        committed = here.session.tokens
        now = Attach(**{**{f: getattr(attach, f) for f in attach.__slots__}, "committed": committed})
        await lie(liar, channel, now, random.Random(3))
        await here.brake.until(lambda: any(seen.channel == channel for seen in here.brake.seen[known:]))
        await finish_equal(here, asked)
        await trio.aclose_forcefully(liar.stream)
