"""One link over streams in memory, on a virtual clock: its ends, its bounds, its counters."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from live import contract
from trio.testing import MockClock, memory_stream_pair

from dsdproto.connection import Connection, Side
from dsdproto.effects import Event, LinkDown, LinkUp, Received
from dsdproto.errors import PeerError
from dsdproto.registry import ErrorCode, Role
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import (
    Assigned,
    Attach,
    Attached,
    Goodbye,
    Hello,
    Limits,
    Ping,
    Propose,
    Status,
    StatusRequest,
)
from reference_nodes.link import Link, LinkOptions
from reference_nodes.meter import FrameMeter
from reference_nodes.transport import Opened, WireCount

HEARTBEAT = 1.0


def hello(name: str, *roles: Role) -> Hello:
    return Hello(
        version_min=1,
        version_max=1,
        node_id=name.encode().ljust(32, b"\0"),
        instance=bytes(8),
        roles=tuple(sorted(int(role) for role in roles)),
        cluster=bytes(16),
        features=(1, 3, 5),
        limits=Limits(max_payload=1 << 20, max_channels=64, heartbeat_ms=int(1000 * HEARTBEAT)),
        models=(),
        nonce=bytes(16),
        agent="test",
    )


def attach(number: int) -> Attach:
    return Attach(session=number.to_bytes(16), contract=contract(), committed=(), credit=8, window=4, width=2)


@dataclass
class FakeHost:
    """Takes what a link posts, unless its mailbox is ``full``."""

    events: list[Event] = field(default_factory=list)
    full: trio.Event | None = None
    changed: trio.Event = field(default_factory=trio.Event)

    def take(self, events: deque[Event]) -> bool:
        return False

    def gather(self, port: Link) -> bool:
        return False

    async def post(self, event: Event) -> None:
        if self.full is not None:
            await self.full.wait()
        await trio.lowlevel.checkpoint()
        self.events.append(event)
        self.changed.set()
        self.changed = trio.Event()

    async def link_up(self, port: Link, event: LinkUp) -> None:
        await self.post(event)

    async def until(self, kind: type) -> Any:
        while not any(isinstance(event, kind) for event in self.events):
            await self.changed.wait()
        return next(event for event in self.events if isinstance(event, kind))


@dataclass
class FakeOwner:
    refusal: str = ""
    up: list[Link] = field(default_factory=list)
    down: list[Link] = field(default_factory=list)

    def admit(self, link: Link) -> str:
        return self.refusal

    async def came_up(self, link: Link) -> None:
        self.up.append(link)

    async def went_down(self, link: Link) -> None:
        self.down.append(link)


class Bench:
    """A link under test as acceptor, and the far end of its stream in the test's hands."""

    def __init__(self, *, refusal: str = "", **options: Any) -> None:
        near, self.far = memory_stream_pair()
        self.near = near
        self.host = FakeHost()
        self.owner = FakeOwner(refusal)
        self.link = Link(
            1,
            Opened(near, WireCount(), None, None),
            False,
            "memory",
            self.host,  # type: ignore[arg-type]
            LinkOptions(hello("near", Role.LEADER), **options),
            lambda: '{"fine":1}',
        )
        self.peer = Connection(Side.DIALER, hello("far", Role.DRAFTER), None, bytes(32), trio.current_time())

    async def pump(self) -> list[Event]:
        """Give the far connection what arrived, send what it answers."""
        data = await self.far.receive_some(1 << 20)
        events = self.peer.receive(data, trio.current_time()) if data else self.peer.eof()
        if answer := self.peer.data_to_send():
            await self.far.send_all(answer)
        return list(events)

    async def up(self) -> None:
        while not self.peer.open:
            await self.pump()
        await self.host.until(LinkUp)

    async def attach(self, channel: int = 2) -> None:
        """Open a draft channel from the near side, and answer."""
        self.link.send(channel, attach(channel))
        while not any(isinstance(event, Received) for event in await self.pump()):
            continue


def on_bench(**options: Any) -> Callable[..., Callable[[], None]]:
    """Run the test beside the link's :meth:`Link.run` on a virtual clock that jumps when all are idle."""

    def decorate(test: Callable[[Bench], Awaitable[None]]) -> Callable[[], None]:
        def run() -> None:
            async def main() -> None:
                bench = Bench(**options)
                with trio.fail_after(10_000):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(bench.link.run, bench.owner)
                        await test(bench)
                        nursery.cancel_scope.cancel()

            trio.run(main, clock=MockClock(autojump_threshold=0))

        run.__name__ = test.__name__
        run.__doc__ = test.__doc__
        return run

    return decorate


@on_bench()
async def test_a_link_comes_up_and_carries_messages(bench: Bench) -> None:
    await bench.up()
    assert bench.owner.up == [bench.link] and bench.link.peer_id == b"far".ljust(32, b"\0")
    await bench.attach()
    bench.peer.send(2, Attached(model="m"))
    await bench.far.send_all(bench.peer.data_to_send())
    received = await bench.host.until(Received)
    assert (received.link, received.channel, received.message) == (1, 2, Attached(model="m"))


@on_bench()
async def test_what_is_queued_together_is_written_together(bench: Bench) -> None:
    await bench.up()
    writes: list[int] = []
    send_all = bench.near.send_all

    async def counted(data: bytes) -> None:
        writes.append(len(data))
        await send_all(data)

    bench.near.send_all = counted  # type: ignore[method-assign]
    for channel in (2, 4, 6, 8):
        bench.link.send(channel, attach(channel))
    await trio.testing.wait_all_tasks_blocked()
    assert len(writes) == 1 and writes[0] > 300
    assert bench.link.queued == 0


@on_bench(max_outbound=2000)
async def test_a_peer_that_does_not_read_is_cut_off(bench: Bench) -> None:
    await bench.up()
    stuck = trio.Event()

    async def never(data: bytes) -> None:
        stuck.set()
        await trio.sleep_forever()

    bench.near.send_all = never  # type: ignore[method-assign]
    number = 2
    while not bench.link._abandoned:
        assert bench.link.queued <= 2000
        bench.link.send(number, attach(number))
        number += 2
        await trio.testing.wait_all_tasks_blocked()
    down = await bench.host.until(LinkDown)
    assert "reads too slowly" in down.reason and "2000" in down.reason
    assert bench.owner.down == [bench.link]
    # What comes after is dropped, not an error: the machines have not heard yet.
    bench.link.send(number, attach(number))


@pytest.mark.parametrize("seed", range(8))
def test_garbage_ends_the_link_with_a_reason(seed: int) -> None:
    @on_bench()
    async def run(bench: Bench) -> None:
        await bench.up()
        await bench.far.send_all(b"\0\0\5\6\0\0\0\0" + random.Random(seed).randbytes(500))
        down = await bench.host.until(LinkDown)
        assert down.reason.startswith("this side refused the peer: ")
        last = await bench.pump()
        assert isinstance(last[-1], LinkDown) and "the peer reports" in last[-1].reason

    run()


@on_bench()
async def test_a_lost_stream_is_a_link_down(bench: Bench) -> None:
    await bench.up()
    await bench.far.aclose()
    assert (await bench.host.until(LinkDown)).reason == "connection lost"


@on_bench()
async def test_goodbye_goes_out_behind_what_is_queued(bench: Bench) -> None:
    await bench.up()
    bench.link.send(2, attach(2))
    bench.link.close("enough")
    events: list[Event] = []
    while not any(isinstance(event, LinkDown) for event in events):
        events += await bench.pump()
    assert [type(event) for event in events] == [Received, LinkDown]
    assert "left" in events[-1].reason
    assert (await bench.host.until(LinkDown)).reason == "enough"


@on_bench()
async def test_silence_is_noticed_and_pings_measure(bench: Bench) -> None:
    await bench.up()
    start = trio.current_time()
    await bench.pump()  # a PING, answered
    assert trio.current_time() - start == pytest.approx(HEARTBEAT)
    await trio.testing.wait_all_tasks_blocked()
    assert bench.link.rtt == pytest.approx(0.0)
    answered = trio.current_time()
    down = await bench.host.until(LinkDown)
    assert "HEARTBEAT_TIMEOUT" in down.reason
    assert trio.current_time() - answered == pytest.approx(4 * HEARTBEAT)


@on_bench(handshake_seconds=3.0)
async def test_a_peer_that_says_nothing_is_hung_up_on(bench: Bench) -> None:
    while await bench.far.receive_some(1 << 16):
        continue
    assert trio.current_time() >= 3.0 and "HANDSHAKE_TIMEOUT" in bench.link.reason
    assert bench.host.events == []


@on_bench(refusal="not wanted here")
async def test_a_refused_link_never_reaches_the_machines(bench: Bench) -> None:
    while not bench.peer.closed:
        await bench.pump()
    assert bench.link.reason == "not wanted here" and bench.host.events == []


@on_bench()
async def test_a_refusal_of_one_channel_leaves_the_link(bench: Bench) -> None:
    await bench.up()
    await bench.attach()
    bench.link.refuse(2, PeerError(ErrorCode.PROPOSAL_INVALID, "D-4", "no"))
    (event,) = await bench.pump()
    assert isinstance(event, Received) and event.message.code == ErrorCode.PROPOSAL_INVALID
    assert bench.peer.open and bench.link.up


@on_bench()
async def test_status_is_asked_and_answered(bench: Bench) -> None:
    await bench.up()
    bench.peer.send(0, StatusRequest())
    await bench.far.send_all(bench.peer.data_to_send())
    (event,) = await bench.pump()
    assert isinstance(event, Received) and event.message == Status(document='{"fine":1}')
    answers: list[str] = []

    async def ask() -> None:
        answers.append(await bench.link.ask_status())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        (event,) = await bench.pump()
        bench.peer.send(0, Status(document="{}"))
        await bench.far.send_all(bench.peer.data_to_send())
    assert answers == ["{}"]


@on_bench()
async def test_a_full_mailbox_stops_the_reader(bench: Bench) -> None:
    """Back pressure: nothing more is read while the node cannot take it; the peer's bytes wait in the network."""
    await bench.up()
    await bench.attach()
    bench.host.full = trio.Event()
    bench.peer.send(2, Attached(model="m"))
    for position in range(5, 9):
        bench.peer.send(2, Propose(position=position, base=bytes(16), tokens=(1,)))
        await bench.far.send_all(bench.peer.data_to_send())
        await trio.testing.wait_all_tasks_blocked()
    assert bench.link.traffic.received.messages[0x34] == 1
    assert not any(isinstance(event, Received) for event in bench.host.events)
    bench.host.full.set()
    while len(got := [event.message for event in bench.host.events if isinstance(event, Received)]) < 5:
        await bench.host.changed.wait()
    assert [message.position for message in got[1:]] == [5, 6, 7, 8]


def test_the_meter_follows_frames_split_anywhere() -> None:
    assigned = Assigned(model="t", profile=bytes(32), profile_text="", max_nodes=9, max_context=99)
    frames = [(0, Ping(sequence=7)), (2, Attached(model="m" * 40)), (0, Goodbye(reason=0)), (4, assigned)]
    data = b"".join(encode_message(channel, message) for channel, message in frames)
    for size in (1, 2, 3, 7, 8, 9, 50, len(data)):
        meter = FrameMeter()
        types = [code for at in range(0, len(data), size) for code in meter.feed(data[at : at + size])]
        assert types == [0x06, 0x32, 0x0A, 0x42] and meter.bytes == len(data)
        assert meter.messages == {0x06: 1, 0x32: 1, 0x0A: 1, 0x42: 1}
