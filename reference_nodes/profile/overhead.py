"""What a node itself costs a step: the time between two jobs that follow one another.

The verifier's share is one whole round of a session without drafters: verdict, leader, block, next VERIFY. The
drafter's is what lies between two expansions of a drafter that has something to expand. Both are measured around the
model itself: what runs after a forward finds its caches filled with weights, and takes twice as long as between two
steps of a model that takes microseconds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import trio

from dsdproto.effects import LinkUp, Received
from dsdproto.node import NodeMachine
from dsdproto.registry import SESSION_ID_BYTES, Feature, Role
from dsdproto.roles.drafter import Drafter, DrafterConfig
from dsdproto.wire.messages import Attach, Contract
from reference_nodes.assembly import hello_of
from reference_nodes.cli.options import Prompt
from reference_nodes.cli.texts import Vocabulary
from reference_nodes.client import make_contract, open_session
from reference_nodes.config import NodeConfig
from reference_nodes.executors import Executor
from reference_nodes.host import Host
from reference_nodes.node import open_node
from reference_nodes.offers import load_drafter
from reference_nodes.profile.document import ProfileError
from reference_nodes.profile.steps import WIDTH

TEXT = Prompt("one two three four, one two three four, one two three four, one two")
"""Any drafter has something to say to that, also one that looks things up in the prompt."""
STEPS = 48
TIMES = 3
NO_FLOOR = 1 << 20
"""Also what is unlikely is expanded."""
PAUSE = 0.5
"""Seconds without a step after which a drafter that has begun has nothing left to do."""
PATIENCE = 60.0
"""Seconds after which it is to have begun and ended."""


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
        """Median seconds from the end of a job to the beginning of the next; forgets them.

        Raises ProfileError for fewer than two jobs.
        """
        spans, self.spans = self.spans, []
        if len(spans) < 2:
            raise ProfileError(
                f"{len(spans)} steps of a session of {STEPS} tokens: nothing to measure; is the machine too busy?"
            )
        return statistics.median(late[0] - early[1] for early, late in pairwise(spans))


def _contract(target: str, tokens: int) -> Contract:
    vocabulary = Vocabulary(target)
    return make_contract((vocabulary.size, vocabulary.digest), vocabulary.encode(TEXT), max_tokens=tokens)


async def verify_overhead(target: str, times: int = TIMES) -> list[float]:
    """Seconds of a round without drafters besides the forward, measured ``times`` times.

    Raises ModelError, BackendError, ProfileError.
    """
    contract = _contract(target, STEPS)
    config = NodeConfig(roles=(Role.CLIENT, Role.LEADER, Role.VERIFIER), target=target, plain_loopback=True, host=None)
    measured = []
    async with open_node(config) as node:
        timed = Timed(node.host.executors[Role.VERIFIER])
        node.host.executors[Role.VERIFIER] = timed
        for _ in range(times):
            async with open_session(node, contract, max_drafters=0) as session:
                await session.finish()
            measured.append(timed.between())
    return measured


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


async def draft_overhead(draft: str, target: str, times: int = TIMES) -> list[float]:
    """Seconds between two expansions, measured ``times`` times.

    Raises ModelError, BackendError, ProfileError.
    """
    loaded = load_drafter(draft, target)
    contract = _contract(target, 2 * STEPS)
    hello = hello_of(NodeConfig(roles=(Role.DRAFTER,), plain_loopback=True), {Role.DRAFTER: loaded})
    leader = hello_of(NodeConfig(roles=(Role.LEADER,), plain_loopback=True), {})
    timed = Timed(loaded.executor)
    measured = []
    for _ in range(times):
        drafter = Drafter(DrafterConfig(loaded.offer, floor=NO_FLOOR))
        host = Host(NodeMachine(hello, {Role.DRAFTER: drafter}), {Role.DRAFTER: timed})
        attach = Attach(
            session=bytes(SESSION_ID_BYTES), contract=contract, committed=(), credit=STEPS, window=8, width=WIDTH
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(host.run)
            await host.link_up(_Sink(), LinkUp(2, leader, frozenset(int(feature) for feature in Feature), False))
            await host.post(Received(2, 2, attach))
            seen = 0
            with trio.move_on_after(PATIENCE):
                while not timed.spans or len(timed.spans) > seen:  # until it has used its credit up
                    seen = len(timed.spans)
                    await trio.sleep(PAUSE)
            nursery.cancel_scope.cancel()
        measured.append(timed.between())
    return measured


def node_overhead(role: str, model: str, target: str) -> dict[str, float]:
    """``node`` of a profile: blocks until measured. Must not be called from a Trio task.

    Raises ModelError, BackendError, ProfileError.
    """
    if role == "verifier":
        return overhead_of(role, trio.run(verify_overhead, model))
    return overhead_of(role, trio.run(draft_overhead, model, target))


def overhead_of(role: str, measured: Sequence[float]) -> dict[str, float]:
    """``node`` of a profile from several measurements, in seconds. The least: a node costs at least that, and what
    comes on top is somebody else's work on the same machine.
    """
    return {"verify_overhead_s" if role == "verifier" else "draft_overhead_s": round(min(measured), 6)}
