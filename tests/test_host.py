"""The core task: events in, effects out, in order; what may end it and what may not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import MockClock

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
from dsdproto.errors import LocalError, PeerError
from dsdproto.node import NodeMachine
from dsdproto.registry import ErrorCode, Role
from dsdproto.wire.messages import Hello, Limits, Propose
from reference_nodes.actor import Timers
from reference_nodes.host import Host, HostFailed
from reference_nodes.journal import MemoryJournal, Record

HELLO = Hello(
    version_min=1,
    version_max=1,
    node_id=bytes(32),
    instance=bytes(8),
    roles=(3,),
    cluster=bytes(16),
    features=(),
    limits=Limits(max_payload=1 << 20, max_channels=64, heartbeat_ms=1000),
    models=(),
    nonce=bytes(16),
    agent="test",
)
ROLE = Role.DRAFTER
GO = Received(1, 2, Propose(position=1, base=bytes(16), tokens=(1,)))


@dataclass
class Script:
    """A role machine that answers each kind of event with the effects that the test gave."""

    answers: dict[type, Callable[[Any], list[Effect]]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def handle(self, event: Event, now: float) -> list[Effect]:
        self.events.append(event)
        answer = self.answers.get(type(event))
        return answer(event) if answer else []


@dataclass
class Port:
    done: list[Any] = field(default_factory=list)

    def send(self, channel: int, message: Any) -> None:
        self.done.append(("send", channel, message))

    def refuse(self, channel: int, error: PeerError) -> None:
        self.done.append(("refuse", channel, error.code))

    def close(self, reason: str) -> None:
        self.done.append(("close", reason))


class Rig:
    """A host with one scripted role on one link."""

    def __init__(self, **options: Any) -> None:
        self.script = Script()
        self.port = Port()
        self.items: list[Any] = []
        self.got = trio.Event()
        machine = NodeMachine(HELLO, {ROLE: self.script})
        machine._owner[(1, 2)] = ROLE
        self.host = Host(machine, deliver=self._deliver, **options)

    def _deliver(self, item: Any) -> None:
        self.items.append(item)
        self.got.set()
        self.got = trio.Event()

    async def up(self) -> None:
        await self.host.link_up(self.port, LinkUp(1, HELLO, frozenset(), False))

    async def until(self, count: int) -> list[Any]:
        while len(self.items) < count:
            await self.got.wait()
        return self.items


def rigged(test: Callable[[Rig], Any], **options: Any) -> None:
    async def main() -> None:
        rig = Rig(**options)
        with trio.fail_after(1000):
            async with trio.open_nursery() as nursery:
                await nursery.start(rig.host.run)
                await rig.up()
                await test(rig)
                nursery.cancel_scope.cancel()

    trio.run(main)


def failing(test: Callable[[Rig], Any], **options: Any) -> HostFailed:
    """The test makes the host fail; gives the one exception that its caller sees."""
    caught: list[HostFailed] = []

    async def main() -> None:
        rig = Rig(**options)

        async def host() -> None:
            try:
                await rig.host.run()
            except HostFailed as error:
                caught.append(error)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(host)
                await rig.up()
                await test(rig)

    trio.run(main)
    (error,) = caught
    return error


def test_effects_are_performed_in_order_and_for_live_links_alone() -> None:
    async def test(rig: Rig) -> None:
        error = PeerError(ErrorCode.PROPOSAL_INVALID, "D-4", "no")
        message = GO.message
        rig.script.answers[Received] = lambda event: [
            Send(1, 2, message),
            Send(9, 2, message),
            Refuse(1, 4, error),
            CloseLink(1, "enough"),
            Deliver("done"),
        ]
        await rig.host.post(GO)
        await rig.until(1)
        assert rig.port.done == [("send", 2, message), ("refuse", 4, error.code), ("close", "enough")]
        await rig.host.post(LinkDown(1, "gone"))
        await rig.host.post(GO)
        rig.script.answers[LinkUp] = lambda event: [Deliver("again")]
        await rig.up()
        await rig.until(2)
        assert len(rig.port.done) == 3

    rigged(test)


def test_timers_replace_cancel_and_fire_in_order() -> None:
    async def test() -> None:
        rig = Rig()
        start = trio.current_time()

        def set_timers(event: Any) -> list[Effect]:
            return [
                SetTimer("b", start + 2),
                SetTimer("a", start + 1),
                SetTimer("c", start + 3),
                SetTimer("a", start + 4),
                CancelTimer("c"),
            ]

        rig.script.answers[LinkUp] = lambda event: set_timers(event) if event.link == 1 else []
        rig.script.answers[TimerFired] = lambda event: [Deliver((event.key, trio.current_time() - start))]
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.host.run)
            await rig.up()
            fired = await rig.until(2)
            nursery.cancel_scope.cancel()
        assert [key for key, _ in fired] == ["b", "a"]
        assert [at for _, at in fired] == [pytest.approx(2), pytest.approx(4)]

    trio.run(test, clock=MockClock(autojump_threshold=0))


def test_old_deadlines_do_not_pile_up() -> None:
    timers = Timers()
    for at in range(10_000):
        timers.set("one", 1e9 + at)
        timers.set("two", 2e9 + at)
    assert len(timers._heap) < 100 and len(timers) == 2
    assert timers.due(1e9 + 9999) == ["one"] and timers.next() == 2e9 + 9999


@dataclass
class Work:
    """An executor that does what the test says, and notes in which thread."""

    function: Callable[[Any], Any]
    inline: bool = False
    threads: list[int] = field(default_factory=list)

    def run(self, work: Any) -> Any:
        self.threads.append(threading.get_ident())
        return self.function(work)


@pytest.mark.parametrize("inline", [False, True])
def test_compute_comes_back_as_computed(inline: bool) -> None:
    work = Work(lambda number: 100 // number, inline)

    async def test(rig: Rig) -> None:
        rig.script.answers[Received] = lambda event: [Compute(7, 5), Deliver("after")]
        rig.script.answers[Computed] = lambda event: [Deliver((event.job, event.result, event.error))]
        await rig.host.post(GO)
        assert await rig.until(2) == ["after", (7, 20, None)]
        rig.script.answers[Received] = lambda event: [Compute(8, 0)]
        await rig.host.post(GO)
        (*_, (job, result, error)) = await rig.until(3)
        assert (job, result) == (8, None) and "ZeroDivisionError" in error
        assert (threading.get_ident() in work.threads) is inline

    rigged(test, executors={ROLE: work})


def test_the_core_task_runs_on_while_a_job_computes() -> None:
    release = threading.Event()

    async def test(rig: Rig) -> None:
        rig.script.answers[Received] = lambda event: [Compute(1, None)]
        rig.script.answers[Computed] = lambda event: [Deliver("computed")]
        rig.script.answers[LinkDown] = lambda event: [Deliver("meanwhile")]
        await rig.host.post(GO)
        await rig.host.post(LinkDown(1, "gone"))
        assert await rig.until(1) == ["meanwhile"]
        release.set()
        assert await rig.until(2) == ["meanwhile", "computed"]

    rigged(test, executors={ROLE: Work(lambda work: release.wait(60))})


def test_a_job_that_nobody_can_run_fails() -> None:
    async def test(rig: Rig) -> None:
        rig.script.answers[Received] = lambda event: [Compute(1, None)]
        rig.script.answers[Computed] = lambda event: [Deliver(event.error)]
        await rig.host.post(GO)
        assert "no executor" in (await rig.until(1))[0]

    rigged(test)


@dataclass
class Disk:
    """A journal that takes its time, in a thread."""

    immediate: bool = False
    batches: list[list[Record]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    fault: Exception | None = None

    def append(self, records: Sequence[Record]) -> None:
        self.gate.wait(60)
        if self.fault is not None:
            raise self.fault
        self.batches.append(list(records))


def test_nothing_that_waits_for_a_record_happens_before_it_is_stored() -> None:
    disk = Disk()

    async def test(rig: Rig) -> None:
        count = iter(range(100))
        rig.script.answers[Received] = lambda event: [
            Persist(number := next(count), (Deliver(f"stored {number}"),)),
            Deliver(f"at once {number}"),
        ]
        for _ in range(3):
            await rig.host.post(GO)
            await trio.lowlevel.checkpoint()
        assert await rig.until(3) == ["at once 0", "at once 1", "at once 2"]
        assert disk.batches == []
        disk.gate.set()
        assert (await rig.until(6))[3:] == ["stored 0", "stored 1", "stored 2"]
        assert [record for batch in disk.batches for record in batch] == [(ROLE, 0), (ROLE, 1), (ROLE, 2)]
        # The first went alone; what came while it was written went together.
        assert len(disk.batches) == 2

    rigged(test, journal=disk)


def test_a_memory_journal_stores_at_once() -> None:
    journal = MemoryJournal(keep=2)

    async def test(rig: Rig) -> None:
        rig.script.answers[Received] = lambda event: [Persist("x", (Deliver("stored"),)), Deliver("next")]
        await rig.host.post(GO)
        assert await rig.until(2) == ["stored", "next"]
        assert (journal.stored, list(journal.recent)) == (1, [(ROLE, "x")])

    rigged(test, journal=journal)


def test_a_journal_that_cannot_store_ends_the_node() -> None:
    disk = Disk(fault=OSError(28, "No space left on device"))
    disk.gate.set()

    async def test(rig: Rig) -> None:
        rig.script.answers[Received] = lambda event: [Persist("x", (Deliver("never"),))]
        await rig.host.post(GO)

    error = failing(test, journal=disk)
    assert "No space left" in str(error) and isinstance(error.__cause__, OSError)


def test_a_bug_in_a_machine_ends_the_node_loudly(caplog: pytest.LogCaptureFixture) -> None:
    def bug(event: Any) -> list[Effect]:
        raise KeyError("oops")

    async def test(rig: Rig) -> None:
        rig.script.answers[Received] = bug
        await rig.host.post(GO)

    error = failing(test)
    assert "KeyError" in str(error) and isinstance(error.__cause__, KeyError)
    assert "Propose" in caplog.text and "Traceback" in caplog.text


def test_after_the_end_nobody_hangs() -> None:
    def bug(event: Any) -> list[Effect]:
        raise KeyError("oops")

    async def test(rig: Rig) -> None:
        rig.script.answers[Received] = bug
        await rig.host.post(GO)
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(10_000):
                await rig.host.post(GO)

    failing(test, mailbox=4)


def test_a_peers_fault_that_escapes_a_machine_is_still_only_the_peers() -> None:
    def fault(event: Any) -> list[Effect]:
        raise PeerError(ErrorCode.PROPOSAL_INVALID, "D-4", "nonsense")

    async def test(rig: Rig) -> None:
        rig.script.answers[Received] = fault
        await rig.host.post(GO)
        await rig.host.call(lambda machine, now: [])
        assert rig.port.done == [("refuse", 2, ErrorCode.PROPOSAL_INVALID)]

    rigged(test)


def test_a_callers_mistake_comes_back_to_the_caller() -> None:
    def mistake(machine: NodeMachine, now: float) -> list[Effect]:
        raise LocalError("not like that")

    async def test(rig: Rig) -> None:
        with pytest.raises(LocalError, match="not like that"):
            await rig.host.call(mistake)
        await rig.host.call(lambda machine, now: [Deliver("still here")])
        assert rig.items == ["still here"]

    rigged(test)


def test_the_mailbox_is_bounded() -> None:
    """With the core task held up, putters wait at the bound; nothing is lost."""

    async def test() -> None:
        rig = Rig(mailbox=3)
        put = 0

        async def putter() -> None:
            nonlocal put
            for _ in range(10):
                await rig.host.post(GO)
                put += 1

        rig.script.answers[Received] = lambda event: [Deliver("x")]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(putter)
            await trio.testing.wait_all_tasks_blocked()
            assert (put, rig.host.waiting) == (3, 3)
            await nursery.start(rig.host.run)
            await rig.until(10)
            nursery.cancel_scope.cancel()

    trio.run(test)
