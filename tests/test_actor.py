"""The actor: who handles what when, and that nobody is overtaken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from reference_nodes.actor import BURST, Actor


def acting(test: Callable[[Actor[Any], list[Any]], Awaitable[None]], capacity: int = 8) -> None:
    """Run the test beside an actor that notes what it handles; a callable item is called."""
    done: list[Any] = []

    def handle(item: Any) -> None:
        if callable(item):
            item()
        else:
            done.append(item)

    async def main() -> None:
        actor = Actor[Any](handle, lambda key: done.append((key, trio.current_time())), capacity)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(actor.run)
            await wait_all_tasks_blocked()
            await test(actor, done)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_an_idle_actor_handles_an_item_on_the_spot() -> None:
    async def test(actor: Actor[Any], done: list[Any]) -> None:
        await actor.put("x")
        assert done == ["x"]
        assert actor.take("y") and done == ["x", "y"]

    acting(test)


def test_nobody_is_overtaken() -> None:
    """Items that wait in the mailbox, more of them than one burst, go before any that come while it is emptied."""
    count = 3 * BURST

    async def test(actor: Actor[Any], done: list[Any]) -> None:
        async def putter(name: str) -> None:
            for number in range(count):
                await actor.put((name, number))
                if number % 7 == 0:
                    await trio.lowlevel.checkpoint()

        # From now until its next turn the actor takes nothing on the spot.
        actor.put_own("own")
        assert not actor.take("refused")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(putter, "a")
            nursery.start_soon(putter, "b")
            await trio.lowlevel.checkpoint()
            await actor.put(lambda: actor.put_own("later"))
        await wait_all_tasks_blocked()
        for name in ("a", "b"):
            assert [item for item in done if item[0] == name] == [(name, number) for number in range(count)]
        assert done.count("own") == done.count("later") == 1 and "refused" not in done

    acting(test, capacity=4)


def test_an_item_of_its_own_is_taken_after_others_had_a_turn() -> None:
    async def test(actor: Actor[Any], done: list[Any]) -> None:
        await actor.put(lambda: actor.put_own("own"))
        assert done == []
        await actor.put("meanwhile")
        await wait_all_tasks_blocked()
        assert done == ["meanwhile", "own"]

    acting(test)


def test_a_timer_set_on_the_spot_fires_in_time() -> None:
    async def test(actor: Actor[Any], done: list[Any]) -> None:
        start = trio.current_time()
        await actor.put(lambda: actor.timers.set("late", start + 5))
        await actor.put(lambda: actor.timers.set("soon", start + 2))
        await actor.put(lambda: actor.timers.set("now", start))
        assert done == [("now", start)]
        await trio.sleep(10)
        assert done[1:] == [("soon", pytest.approx(start + 2)), ("late", pytest.approx(start + 5))]

    acting(test)


def test_a_fault_on_the_spot_ends_the_actor_and_not_the_putter() -> None:
    def fault() -> None:
        raise KeyError("oops")

    async def test(actor: Actor[Any], done: list[Any]) -> None:
        await actor.put(fault)
        assert not actor.take("x")
        with trio.CancelScope(shield=True), pytest.raises(trio.BrokenResourceError):
            while True:
                await actor.put("x")

    with pytest.raises(ExceptionGroup) as caught:
        acting(test)
    assert caught.group_contains(KeyError, match="oops")
