"""Real nodes on loopback for tests: identities, configurations, the target alone, and a brake on the verifier."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from dsdproto.connection import Connection, Side
from dsdproto.effects import Effect, Event, LinkDown, LinkUp, Received
from dsdproto.registry import Role
from dsdproto.roles.leader import Leader
from dsdproto.roles.work import VerifyDone, VerifyWork
from dsdproto.sampling import CoupledSampler, SamplingParameters
from dsdproto.testmodel import TestModel, advance, context_of
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Contract, Hello, Limits, ModelOffer
from reference_nodes.backends.tokens import vocabulary_of
from reference_nodes.client import make_contract
from reference_nodes.executors import VerifyExecutor
from reference_nodes.models_store import locate
from reference_nodes.node import Node, NodeConfig, open_node
from reference_nodes.peers import Redial
from reference_nodes.transport import Opened, TlsTransport
from reference_nodes.trust import Cluster, NodeIdentity, create_identity, init_cluster

TARGET = "tm-1:v=512,s=7"
PROMPT = (3, 1, 4, 1, 5)
HANG = 60.0
"""Seconds after which a test counts as hung; nothing is timed against it."""
GRACE = 0.5
"""Seconds that a verdict waits for drafts."""


def drafter(number: int, agreement: float = 0.8) -> str:
    """Name of a TM-1 drafter of :data:`TARGET`."""
    return f"{TARGET},a={round(agreement * 65536)},d={number}"


@functools.cache
def vocabulary(name: str = TARGET) -> tuple[int, bytes]:
    return vocabulary_of(locate(name))


def contract(
    max_tokens: int = 40, temperature: float = 0.0, seed: int = 11, prompt: tuple[int, ...] = PROMPT
) -> Contract:
    sampling = SamplingParameters.from_floats(temperature)
    return make_contract(vocabulary(), prompt, max_tokens=max_tokens, sampling=sampling, seed=seed)


def alone(contract: Contract, name: str = TARGET) -> tuple[int, ...]:
    """The target alone, one token at a time: what every stream must equal."""
    sampling = contract.sampling
    sampler = CoupledSampler(SamplingParameters(sampling.temperature, sampling.top_k, sampling.top_p), sampling.seed)
    model = TestModel.parse(name).target
    context, tokens = context_of(contract.prompt), []
    for position in range(len(contract.prompt), len(contract.prompt) + contract.max_tokens):
        tokens.append(sampler.choose(model.row(context), position).token)
        if tokens[-1] in contract.stop_tokens:
            break
        context = advance(context, tokens[-1])
    return tuple(tokens)


def in_trio(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an asynchronous test, and end it where it hangs."""

    @functools.wraps(test)
    def run(**values: Any) -> None:
        async def main() -> None:
            with trio.fail_after(HANG):
                await test(**values)

        trio.run(main)

    return run


@dataclass
class Town:
    """A cluster of its own in a temporary directory."""

    home: Path
    cluster: Cluster
    made: int = 0

    @classmethod
    def found(cls, home: Path) -> Town:
        return cls(home, init_cluster(home / "cluster", "test"))

    def identity(self) -> NodeIdentity:
        self.made += 1
        return create_identity(self.cluster, self.home, f"node{self.made}")

    def config(self, *roles: Role, **more: Any) -> NodeConfig:
        values: dict[str, Any] = {
            "roles": roles,
            "identity": self.identity(),
            "redial": Redial(0.02, 0.1),
            "seed": 1,
            **more,
        }
        if Role.VERIFIER in roles:
            values.setdefault("target", TARGET)
        return NodeConfig(**values)


class Guest:
    """A node that a test can end out of turn: it lives in a task of its own."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._leave = trio.Event()
        self._left = trio.Event()

    @classmethod
    async def arrive(cls, nursery: trio.Nursery, config: NodeConfig) -> Guest:
        return await nursery.start(cls._stay, config)

    @classmethod
    async def _stay(cls, config: NodeConfig, task_status: trio.TaskStatus[Guest]) -> None:
        async with open_node(config) as node:
            guest = cls(node)
            task_status.started(guest)
            await guest._leave.wait()
        guest._left.set()

    async def leave(self) -> None:
        """End the node in good order."""
        self._leave.set()
        await self._left.wait()


class Stranger:
    """A peer that speaks the wire by hand: proper TLS and HELLO, and after that whatever a test wants.

    A connection checks what *it* sends, so nonsense goes out through :meth:`frame` or :meth:`raw`.
    """

    def __init__(self, identity: NodeIdentity, opened: Opened, hello: Hello) -> None:
        self.identity = identity
        self.stream = opened.stream
        self.connection = Connection(Side.DIALER, hello, opened.node_id, bytes(32), trio.current_time())
        self._events: deque[Event] = deque()

    @classmethod
    async def connect(
        cls, identity: NodeIdentity, node: Node, role: Role, models: tuple[ModelOffer, ...] = ()
    ) -> Stranger:
        """Dial ``node`` and get as far as LinkUp."""
        hello = Hello(
            version_min=1,
            version_max=1,
            node_id=identity.node_id,
            instance=bytes(8),
            roles=(int(role),),
            cluster=identity.cluster_id,
            features=(1, 3, 5),
            limits=Limits(max_payload=1 << 20, max_channels=64, heartbeat_ms=60_000),
            models=models,
            nonce=bytes(16),
            agent="stranger",
        )
        stranger = cls(identity, await TlsTransport(identity).dial("127.0.0.1", node.port or 0), hello)
        assert isinstance(await stranger.event(), LinkUp)
        return stranger

    async def event(self) -> Event:
        """The next event of the connection."""
        while not self._events:
            data = await self.stream.receive_some(1 << 16)
            self._events.extend(
                self.connection.receive(data, trio.current_time()) if data else self.connection.eof()
            )
            await self.flush()
        return self._events.popleft()

    async def message(self, kind: type) -> Received:
        """The next message of a kind; others are skipped."""
        while not (isinstance(event := await self.event(), Received) and isinstance(event.message, kind)):
            assert not isinstance(event, LinkDown), event.reason
        return event

    async def end(self) -> str:
        """Wait for the end of the link; why it came."""
        while not isinstance(event := await self.event(), LinkDown):
            continue
        return event.reason

    async def send(self, channel: int, message: Any) -> None:
        self.connection.send(channel, message)
        await self.flush()

    async def frame(self, channel: int, message: Any) -> None:
        """A well-formed message, legal or not."""
        await self.raw(encode_message(channel, message))

    async def raw(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def flush(self) -> None:
        if data := self.connection.data_to_send():
            await self.stream.send_all(data)


class Brake:
    """Between the verifier's executor and its host: gives a verdict back only when the test's conditions hold.

    With ``wait_for_drafts`` some attached drafter gets to have its say about each prefix, whoever is faster: a forward
    of TM-1 takes microseconds, and no drafter across a network would ever be of use otherwise. :meth:`stop` holds all
    verdicts at or beyond a position, so that a test can act in the middle of a stream.
    """

    inline = False

    def __init__(self, verifier: Node, leader: Node | None = None, *, wait_for_drafts: bool = True) -> None:
        executor = verifier.host.executors[Role.VERIFIER]
        assert isinstance(executor, VerifyExecutor)
        self._executor = executor
        self._wait_for_drafts = wait_for_drafts
        verifier.host.executors[Role.VERIFIER] = self
        host = (leader or verifier).host
        leading = host.machine.roles[Role.LEADER]
        assert isinstance(leading, Leader)
        self.leader = leading
        self._handle = host._handle
        host._handle = self._watch  # type: ignore[method-assign]
        self.seen: list[Received] = []
        """what the leader's node received over its links"""
        self._token = trio.lowlevel.current_trio_token()
        self._changed = trio.Event()
        self._stop: int | None = None
        self._stopped = trio.Event()
        self._resume = trio.Event()

    def run(self, work: VerifyWork) -> VerifyDone:
        done = self._executor.run(work)
        if work.score:
            trio.from_thread.run(self._hold, max(len(item.prefix) for item in work.score), trio_token=self._token)
        return done

    def stop(self, position: int) -> None:
        """Hold the verdicts of prefixes at least this long."""
        self._stop, self._stopped, self._resume = position, trio.Event(), trio.Event()

    async def stopped(self) -> None:
        """Until a verdict is held at the position of :meth:`stop`."""
        await self._stopped.wait()

    def go(self, stop: int | None = None) -> None:
        """Let go of what is held; hold again at position ``stop``."""
        resume = self._resume
        if stop is None:
            self._stop = None
        else:
            self.stop(stop)
        resume.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until ``condition`` holds; looked at after each event of the leader's node."""
        while not condition():
            await self._changed.wait()

    async def _hold(self, position: int) -> None:
        if self._stop is not None and position >= self._stop:
            self._stopped.set()
            await self._resume.wait()
        if self._wait_for_drafts:
            # A drafter may have nothing to say for good: its drafts crossed a verdict, say, and were dropped.
            with trio.move_on_after(GRACE):
                await self.until(self._drafts_at_hand)

    def _drafts_at_hand(self) -> bool:
        return all(
            not session.drafters or any(seat.known for seat in session.drafters.values())
            for session in self.leader.sessions.values()
            if session.in_flight is not None
        )

    def _watch(self, event: Event, now: float) -> list[Effect]:
        effects = self._handle(event, now)
        if isinstance(event, Received):
            self.seen.append(event)
        self._changed.set()
        self._changed = trio.Event()
        return effects
