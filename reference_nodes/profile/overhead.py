"""What a node itself costs a step: the time between two jobs that follow one another, without the model.

Measured on TM-1, whose steps take microseconds, in worker threads as a real model's are. The verifier's share is one
whole round of a session without drafters: verdict, leader, block, next VERIFY. The drafter's is what lies between two
expansions of a drafter that always has something to expand.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import trio

from dsdproto.effects import LinkUp, Received
from dsdproto.node import NodeMachine
from dsdproto.registry import SESSION_ID_BYTES, Feature, Role
from dsdproto.roles.drafter import Drafter, DrafterConfig
from dsdproto.wire.messages import Attach
from reference_nodes.assembly import hello_of
from reference_nodes.cli.options import Prompt
from reference_nodes.cli.texts import Vocabulary
from reference_nodes.client import make_contract, open_session
from reference_nodes.config import NodeConfig
from reference_nodes.executors import Executor
from reference_nodes.host import Host
from reference_nodes.node import open_node
from reference_nodes.offers import load_drafter
from reference_nodes.profile.steps import WIDTH

TARGET = "tm-1:v=512,s=7"
CERTAIN = "tm-1:v=512,s=7,a=65536,d=1"
TOKENS = 200
CREDIT = 400
TIMES = 3


class Timed:
    """An executor that remembers when each job began and ended."""

    inline = False

    def __init__(self, inner: Executor) -> None:
        self._inner = inner
        self.spans: list[tuple[float, float]] = []

    def run(self, work: Any) -> Any:
        begin = time.perf_counter()
        done = self._inner.run(work)
        self.spans.append((begin, time.perf_counter()))
        return done

    def between(self) -> float:
        """Median seconds from the end of a job to the beginning of the next. Raises ValueError for fewer than two."""
        return statistics.median(late[0] - early[1] for early, late in zip(self.spans, self.spans[1:]))


async def verify_overhead(tokens: int = TOKENS) -> float:
    """Seconds of a round without drafters besides the forward."""
    vocabulary = Vocabulary(TARGET)
    contract = make_contract(
        (vocabulary.size, vocabulary.digest), vocabulary.encode(Prompt("overhead")), max_tokens=tokens
    )
    config = NodeConfig(roles=(Role.CLIENT, Role.LEADER, Role.VERIFIER), target=TARGET, plain_loopback=True, host=None)
    async with open_node(config) as node:
        timed = Timed(node.host.executors[Role.VERIFIER])
        node.host.executors[Role.VERIFIER] = timed
        async with open_session(node, contract, max_drafters=0) as session:
            await session.finish()
    return timed.between()


class _Sink:
    """The far end of a link where nobody listens."""

    def send(self, channel: int, message: Any) -> None:
        """Dropped: a drafter waits for no answer."""

    def refuse(self, channel: int, error: Exception) -> None:
        raise error

    def close(self, reason: str) -> None:
        """Nothing is open."""

    def flush(self) -> None:
        """Nothing is kept."""


async def draft_overhead(credit: int = CREDIT) -> float:
    """Seconds between two expansions."""
    drafter = load_drafter(CERTAIN, TARGET)
    vocabulary = Vocabulary(TARGET)
    contract = make_contract(
        (vocabulary.size, vocabulary.digest), vocabulary.encode(Prompt("overhead")), max_tokens=2 * credit
    )
    config = NodeConfig(roles=(Role.DRAFTER,), plain_loopback=True)
    hello = hello_of(config, {Role.DRAFTER: drafter})
    machine = NodeMachine(hello, {Role.DRAFTER: Drafter(DrafterConfig(drafter.offer))})
    timed = Timed(drafter.executor)
    host = Host(machine, {Role.DRAFTER: timed})
    leader = hello_of(NodeConfig(roles=(Role.LEADER,), plain_loopback=True), {})
    attach = Attach(
        session=bytes(SESSION_ID_BYTES), contract=contract, committed=(), credit=credit, window=8, width=WIDTH
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(host.run)
        await host.link_up(_Sink(), LinkUp(2, leader, frozenset(int(feature) for feature in Feature), False))
        await host.post(Received(2, 2, attach))
        seen = -1
        while len(timed.spans) > seen:  # until it has used its credit up
            seen = len(timed.spans)
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    return timed.between()


def node_overhead(role: str) -> dict[str, float]:
    """``node`` of a profile: blocks until measured. Must not be called from a Trio task."""
    measure = verify_overhead if role == "verifier" else draft_overhead
    return overhead_of(role, [trio.run(measure) for _ in range(TIMES)])


def overhead_of(role: str, measured: Sequence[float]) -> dict[str, float]:
    """``node`` of a profile from several measurements, in seconds. The least: a node costs at least that, and what
    comes on top is somebody else's work on the same machine.
    """
    return {"verify_overhead_s" if role == "verifier" else "draft_overhead_s": round(min(measured), 6)}
