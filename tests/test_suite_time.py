"""Time that is not the testee's: the suite's own stalls, a busy machine, cases side by side, and a second try."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from suite_samples import FakeDoor

from conformance.case import ALONE, Case, Registry, Rung, case
from conformance.lanes import lanes
from conformance.runner import Options, Runner
from conformance.slowness import MOST, WINDOW, Slowness
from conformance.stalls import NOTABLE, TOLERATED, StallClock
from conformance.trial import Trial
from conformance.verdict import Failed, Inconclusive, Verdict
from dsdproto.registry import Role


class Now:
    """Real time, as the test has it."""

    def __init__(self) -> None:
        self.value = 100.0

    def __call__(self) -> float:
        return self.value


def registered(check: Any, name: str = "made/up", **how: Any) -> Case:
    cases = Registry()
    how = {"rung": Rung.LIVE, "role": Role.VERIFIER, **how}
    case(name, "made up", clauses=("V-6",), registry=cases, **how)(check)
    return cases[name]


# ---------------------------------------------------------------- stalls


def test_a_loop_that_wakes_up_late_loses_no_time() -> None:
    now = Now()
    clock = StallClock(now)
    clock.start_clock()
    begin = clock.current_time()
    clock.before_io_wait(2.0)
    now.value += 7.0
    clock.after_io_wait(2.0)
    assert clock.current_time() - begin == pytest.approx(2.0 + TOLERATED)
    assert clock.total == pytest.approx(5.0 - TOLERATED)


def test_a_long_turn_counts_as_a_short_one_and_time_never_goes_back() -> None:
    now = Now()
    clock = StallClock(now)
    clock.start_clock()
    begin, seen = clock.current_time(), []
    for _ in range(5):
        now.value += 1.0
        seen.append(clock.current_time() - begin)
    clock.before_io_wait(0.0)
    seen.append(clock.current_time() - begin)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(TOLERATED)
    assert clock.worst_since(100.0) >= NOTABLE and clock.worst_since(106.0) == 0.0


def test_what_is_on_time_is_no_stall() -> None:
    now = Now()
    clock = StallClock(now)
    clock.start_clock()
    for _ in range(100):
        now.value += TOLERATED / 2
        clock.before_io_wait(1.0)
        now.value += 1.0
        clock.after_io_wait(1.0)
    assert clock.total == 0.0


# ---------------------------------------------------------------- a busy machine


def test_the_factor_is_what_a_thread_waits_beside_what_it_runs() -> None:
    now, read = Now(), [0.0, 0.0]
    slowness = Slowness(now, lambda: (read[0], read[1]))
    assert slowness.factor() == 1.0

    def later(seconds: float, ran: float, waited: float) -> float:
        now.value += seconds
        read[0] += ran
        read[1] += waited
        return slowness.factor()

    assert later(1.0, 0.5, 0.0) == 1.0
    assert later(1.0, 0.25, 0.75) == 4.0
    assert later(1.0, 0.0, 0.0) == 4.0, "who does nothing learns nothing"
    assert later(1.0, 0.01, 0.99) == MOST
    assert later(WINDOW + 1, 0.5, 0.0) == 1.0, "what was long ago does not count"


def test_a_system_that_does_not_say_is_taken_to_have_room() -> None:
    now = Now()
    slowness = Slowness(now, lambda: None)
    now.value += 10
    assert slowness.factor() == 1.0


def test_limits_grow_with_slowness_and_stalls() -> None:
    now, stalled = Now(), [0.0]
    made = registered(_nothing, timeout=10.0)
    trial = Trial(made, seed=1, clock=now, stalled=lambda: stalled[0], slowness=lambda: 3.0)
    assert trial.seconds(2.0) == 6.0
    assert trial.limit == 30.0
    now.value += 31.0
    stalled[0] = 5.0
    assert not trial.expired
    now.value += 5.0
    assert trial.expired


# ---------------------------------------------------------------- side by side


async def _nothing(t: Any) -> None:
    t.trial.note("nothing to see")


def test_lanes_keep_apart_what_must_not_meet() -> None:
    cases = [
        registered(_nothing, "made/a"),
        registered(_nothing, "made/b", waits=10.0),
        registered(_nothing, "made/c", serial="voters"),
        registered(_nothing, "made/d", serial=ALONE),
        registered(_nothing, "made/e", role=Role.LEADER),
        registered(_nothing, "made/f", serial="voters"),
        registered(_nothing, "made/g", rung=Rung.CHAOS),
    ]
    found = [(lane.width, [each.id[-1] for each in lane.cases]) for lane in lanes(cases, 4)]
    assert found == [(4, ["d", "b", "a"]), (1, ["c", "f"]), (4, ["e"]), (4, ["g"])]


# ---------------------------------------------------------------- a second try


def tried(*raised: BaseException | None) -> tuple[Verdict, list[str], int]:
    """Verdict, notes and tries of a case that raises these one after the other."""
    tries = 0

    async def check(t: Any) -> None:
        nonlocal tries
        tries += 1
        if (error := raised[tries - 1]) is not None:
            raise error

    (result,) = Runner(FakeDoor(), Options(seed=1, jobs=4)).run([registered(check)])
    return result.outcome.verdict, result.outcome.notes, tries


def test_what_is_inconclusive_is_asked_once_more() -> None:
    verdict, notes, tries = tried(Inconclusive("late"), None)
    assert (verdict, tries) == (Verdict.PASS, 2)
    assert "late" in notes[0]
    assert tried(Inconclusive("late"), Inconclusive("late again"))[::2] == (Verdict.INCONCLUSIVE, 2)
    assert tried(Failed("V-6", "wrong"))[::2] == (Verdict.FAIL, 1)


def test_the_second_time_it_makes_up_other_sessions() -> None:
    """The testee remembers those of the first: the same id with another group is refused (clause Q-12)."""
    ids: list[bytes] = []

    async def check(t: Any) -> None:
        ids.append(t.trial.rng.randbytes(16))
        if len(ids) == 1:
            raise Inconclusive("late")

    Runner(FakeDoor(), Options(seed=1, jobs=4)).run([registered(check)])
    assert len(set(ids)) == 2


def test_a_failure_while_the_suite_stood_still_is_asked_again() -> None:
    now = Now()
    tries = 0

    async def check(t: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            now.value += 3.0  # this process does not run
            await trio.sleep(0)
            await trio.lowlevel.checkpoint()
            raise Failed("V-6", "the testee gave up on the suite")

    (result,) = Runner(FakeDoor(), Options(seed=1), clock=now).run([registered(check)])
    assert (result.outcome.verdict, tries) == (Verdict.PASS, 2)
    assert "stood still for 3" in result.outcome.notes[0] or "stood still for 2.9" in result.outcome.notes[0]
