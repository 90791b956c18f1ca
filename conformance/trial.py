"""One run of one case: what the case may draw on, and what it leaves behind."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from conformance.case import Case
from conformance.verdict import Failed, Finding, Inconclusive
from conformance.wirelog import WireLog

STEP_SECONDS = 5.0
"""How long an awaited message may take, before patience."""


class Trial:
    """Given to the door for each case; cases reach it as ``t.trial``.

    :param seed: of the run. Everything random in a case comes from :attr:`rng`, which depends on seed and case id.
    :param again: the case is asked for the second time; what it makes up is new, as the testee remembers the first.
    :param patience: factor on every time limit.
    :param clock: monotonic seconds.
    :param stalled: how many seconds the suite itself has stood still up to now; the end of the case moves by them.
    :param slowness: how much slower than alone the machine is now: another factor on the limits of steps.
    """

    def __init__(
        self,
        case: Case,
        *,
        seed: int,
        again: bool = False,
        patience: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        stalled: Callable[[], float] = lambda: 0.0,
        slowness: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self.case = case
        self.seed = seed
        self.patience = patience
        self.rng = random.Random(f"{seed}/{case.id}/again" if again else f"{seed}/{case.id}")
        self.wire = WireLog(clock)
        self.notes: list[str] = []
        self.findings: list[Finding] = []
        self._clock = clock
        self._stalled, self._slowness = stalled, slowness
        self._start = clock()
        self.limit = case.timeout * patience * slowness()
        """Seconds for the whole case."""
        self._end = self._start - stalled() + self.limit

    def seconds(self, step: float = STEP_SECONDS) -> float:
        """How long to wait for one step: ``step`` times patience, more on a busy machine. Raises Inconclusive when the
        time of the case is over: what is awaited then would get less than its due."""
        if self.expired:
            raise Inconclusive(f"the case took longer than {self.limit:.0f} s; --patience gives more")
        return step * self.patience * self._slowness()

    @property
    def slowness(self) -> float:
        """How much slower than alone the machine is now; 1.0: it has room."""
        return self._slowness()

    @property
    def elapsed(self) -> float:
        """Seconds since the case began, in real time: what comes too *early* is measured by it."""
        return self._clock() - self._start

    @property
    def expired(self) -> bool:
        """Whether the time of the whole case is over."""
        return self._clock() - self._stalled() >= self._end

    @property
    def began(self) -> float:
        """When the case began, by the clock that it was given."""
        return self._start

    def note(self, text: str) -> None:
        """A remark that stands in the report whatever the verdict is."""
        self.notes.append(text)

    def failed(self, clause: str, said: str, wanted: object = "", got: object = "") -> None:
        """A broken clause, without ending the case: for a case that goes through many vectors."""
        self.findings.append(Failed(clause, said, wanted, got).finding)

    def expect(self, clause: str, said: str, wanted: object, got: object) -> None:
        """Ends the case with :class:`Failed` unless ``got == wanted``."""
        if got != wanted:
            raise Failed(clause, said, wanted, got)
