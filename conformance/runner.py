"""Runs cases against one testee and judges them.

Cases of rungs 1 and 2 run one after the other in the caller's thread; those of rungs 3 and 4 in one Trio run, side by
side (:mod:`conformance.lanes`). What a case raises decides its verdict (:mod:`conformance.verdict`); what is not one of
those exceptions is a defect of the suite and comes out as ERROR, with a trace.

A live case that says nothing about the testee because of time is asked once more at the end, with nothing beside it:
one that was INCONCLUSIVE, and one that failed while the suite itself stood still (:mod:`conformance.stalls`).
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import trio

from conformance.case import Case, Rung
from conformance.clauses import Level, known
from conformance.expectations import Expectation, applied
from conformance.lanes import lanes
from conformance.slowness import Slowness
from conformance.stalls import StallClock
from conformance.testee import Door
from conformance.trial import Trial
from conformance.verdict import (
    DOOR,
    Conclusion,
    Failed,
    Finding,
    Gone,
    Inconclusive,
    Info,
    Outcome,
    Skipped,
    Unsupported,
    Verdict,
    leaves,
)
from conformance.wirelog import WireLog

PRECEDENCE = (Failed, Inconclusive, Unsupported, Skipped, Info)
"""Which exception counts when the tasks of one case raised several."""


@dataclass(frozen=True)
class Options:
    seed: int
    patience: float = 1.0
    jobs: int = 1
    """live cases at one time, for each role under test"""
    fail_fast: bool = False
    expectations: Mapping[str, Expectation] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    case: Case
    outcome: Outcome
    seconds: float
    wire: WireLog


class Progress(Protocol):
    """Told while the run goes on."""

    def begin(self, cases: list[Case]) -> None: ...

    def started(self, case: Case) -> None: ...

    def finished(self, result: Result) -> None: ...

    def end(self) -> None: ...


class Silent:
    """Progress that nobody sees."""

    def begin(self, cases: list[Case]) -> None:
        """Nothing is shown."""

    def started(self, case: Case) -> None:
        """Nothing is shown."""

    def finished(self, result: Result) -> None:
        """Nothing is shown."""

    def end(self) -> None:
        """Nothing is shown."""


class Runner:
    """One run. ``interrupted`` tells whether it was cut off (by the operator, or by ``fail_fast``)."""

    def __init__(
        self,
        door: Door,
        options: Options,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.door = door
        self.options = options
        self.progress = progress or Silent()
        self.interrupted = ""
        self._clock = clock
        self._stalls = StallClock(clock)
        self._slowness = Slowness(clock)
        self._results: dict[str, Result] = {}
        self._asked: dict[str, str] = {}
        """cases of which a first try said nothing, and why"""

    def run(self, cases: Iterable[Case]) -> list[Result]:
        """Results in the order of ``cases``; what was not reached has SKIP."""
        cases = list(cases)
        self.progress.begin(cases)
        try:
            for case in cases:
                if not case.is_async and not self.interrupted:
                    self._one(case)
            live = [case for case in cases if case.is_async]
            if live and not self.interrupted:
                trio.run(self._all_live, live, clock=self._stalls, instruments=[self._stalls])
        except BaseException as error:
            # Trio puts an interrupt that came while tasks ran into a group.
            if not any(isinstance(inner, KeyboardInterrupt) for inner in leaves(error)):
                raise
            self.interrupted = "interrupted"
        finally:
            self.progress.end()
        return [self._results.get(case.id) or self._not_reached(case) for case in cases]

    # ------------------------------------------------------------ one case

    def _one(self, case: Case) -> None:
        trial = self._begin(case)
        error: BaseException | None = self._lacks(case)
        try:
            if error is None:
                with self.door.trial(trial) as testee:
                    case.check(testee)
                    if case.bracket:
                        testee.happy_path()
        except Exception as raised:
            error = raised
        self._finish(case, trial, error)

    async def _one_live(self, case: Case) -> None:
        trial = self._begin(case)
        error: BaseException | None = self._lacks(case)
        try:
            if error is None:
                await self._check(case, trial)
        except Exception as raised:
            error = raised
        self._finish(case, trial, error)

    async def _check(self, case: Case, trial: Trial) -> None:
        with trio.move_on_after(trial.limit) as scope:
            async with self.door.live_trial(trial) as testee:
                await case.check(testee)
                if case.bracket:
                    await testee.happy_path()
        if scope.cancelled_caught:
            raise Inconclusive(f"not done after {trial.limit:.0f} s; --patience gives more time")

    async def _all_live(self, cases: list[Case]) -> None:
        for rung in (Rung.LIVE, Rung.CHAOS):
            async with trio.open_nursery() as nursery:
                for lane in lanes([case for case in cases if case.rung is rung], self.options.jobs):
                    nursery.start_soon(self._one_after_the_other, lane.cases, lane.width)
        again = [case for case in cases if case.id in self._asked]
        await self._one_after_the_other(again, 1)

    async def _one_after_the_other(self, cases: Iterable[Case], width: int) -> None:
        """Up to ``width`` of them at one time."""
        limit = trio.CapacityLimiter(width)

        async def one(case: Case) -> None:
            try:
                if not self.interrupted:
                    await self._one_live(case)
            finally:
                limit.release_on_behalf_of(case)

        async with trio.open_nursery() as nursery:
            for case in cases:
                await limit.acquire_on_behalf_of(case)
                nursery.start_soon(one, case)

    def _lacks(self, case: Case) -> BaseException | None:
        try:
            return self.door.lacks(case)
        except Exception as error:
            return error

    def _begin(self, case: Case) -> Trial:
        self.progress.started(case)
        return Trial(
            case,
            seed=self.options.seed,
            again=case.id in self._asked,
            patience=self.options.patience,
            clock=self._clock,
            stalled=lambda: self._stalls.total,
            slowness=self._slowness.factor,
        )

    def _finish(self, case: Case, trial: Trial, error: BaseException | None) -> None:
        if case.id in self._asked:
            trial.note(f"asked again, with nothing beside it, because the first time {self._asked[case.id]}")
        outcome = applied(self._fair(case, trial, error), self.options.expectations.get(case.id))
        if case.is_async and outcome.verdict is Verdict.INCONCLUSIVE and case.id not in self._asked:
            self._asked[case.id] = f"it was inconclusive: {outcome.reason}"
            return
        result = Result(case, outcome, trial.elapsed, trial.wire)
        self._results[case.id] = result
        self.progress.finished(result)
        if error is not None and any(isinstance(inner, Gone) for inner in leaves(error)):
            self.interrupted = self.interrupted or f"the testee is gone since {case.id}"
        if self.options.fail_fast and outcome.verdict in (Verdict.FAIL, Verdict.XPASS, Verdict.ERROR):
            self.interrupted = f"stopped after {case.id} (--fail-fast)"

    def _fair(self, case: Case, trial: Trial, error: BaseException | None) -> Outcome:
        """The verdict; INCONCLUSIVE in place of FAIL where the suite itself was not there to listen or to answer."""
        outcome = concluded(case, trial, error)
        stall = self._stalls.worst_since(trial.began)
        if outcome.verdict in (Verdict.FAIL, Verdict.WARN) and stall:
            said = f"the suite itself stood still for {stall:.1f} s meanwhile; it failed: {outcome.reason}"
            return Outcome(Verdict.INCONCLUSIVE, said, [], trial.notes)
        return outcome

    def _not_reached(self, case: Case) -> Result:
        outcome = Outcome(Verdict.SKIP, self.interrupted or "not reached")
        if case.id in self._asked:
            outcome = Outcome(Verdict.INCONCLUSIVE, f"not asked again; the first time {self._asked[case.id]}")
        return Result(case, outcome, 0.0, WireLog(self._clock))


# ---------------------------------------------------------------- from what was raised to a verdict


def concluded(case: Case, trial: Trial, error: BaseException | None) -> Outcome:
    """The verdict on a case that left ``error`` (None: it returned) and what it put into its trial."""
    raised = list(leaves(error)) if error is not None else []
    findings = list(trial.findings)
    foreign = [inner for inner in raised if not isinstance(inner, Conclusion)]
    findings += [inner.finding for inner in raised if isinstance(inner, Failed)]
    unknown = [finding.clause for finding in findings if finding.clause != DOOR and finding.clause not in known()]
    if foreign or unknown:
        reason = _line(foreign[0]) if foreign else f"the case cites a clause that does not exist: {unknown[0]}"
        trace = "".join(traceback.format_exception(error)) if error is not None else ""
        return Outcome(Verdict.ERROR, reason, findings, trial.notes, trace)
    if findings:
        verdict = Verdict.FAIL if any(_binds(case, finding) for finding in findings) else Verdict.WARN
        return Outcome(verdict, findings[0].said, findings, trial.notes)
    for kind in PRECEDENCE:
        for inner in raised:
            if isinstance(inner, kind):
                return Outcome(inner.verdict, str(inner), [], trial.notes)
    return Outcome(Verdict.PASS, "", [], trial.notes)


def _binds(case: Case, finding: Finding) -> bool:
    """Whether a broken clause fails the testee. A case of a SHOULD may come upon a broken MUST of another clause: a
    crash, say."""
    if case.level is Level.MUST or finding.clause == DOOR:
        return True
    return finding.clause not in case.clauses and known()[finding.clause].level is Level.MUST


def _line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
