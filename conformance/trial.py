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
    :param patience: factor on every time limit.
    :param clock: monotonic seconds.
    """

    def __init__(
        self,
        case: Case,
        *,
        seed: int,
        patience: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.case = case
        self.seed = seed
        self.patience = patience
        self.rng = random.Random(f"{seed}/{case.id}")
        self.wire = WireLog(clock)
        self.notes: list[str] = []
        self.findings: list[Finding] = []
        self._clock = clock
        self._start = clock()
        self._end = self._start + case.timeout * patience

    def seconds(self, step: float = STEP_SECONDS) -> float:
        """How long to wait for one step: ``step`` times patience. Raises Inconclusive when the time of the case is
        over: what is awaited then would get less than its due."""
        if self.expired:
            raise Inconclusive(f"the case took longer than {self._end - self._start:.0f} s; --patience gives more")
        return step * self.patience

    @property
    def elapsed(self) -> float:
        """Seconds since the case began."""
        return self._clock() - self._start

    @property
    def expired(self) -> bool:
        """Whether the time of the whole case is over."""
        return self._clock() >= self._end

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
