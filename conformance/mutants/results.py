"""What the self-test found out: who was killed, by which case, and which odd node passed."""

from __future__ import annotations

from dataclasses import dataclass

FATAL = ("FAIL", "WARN")
"""Verdicts that charge the testee. Only they kill: a case that broke, was skipped or came too late proves nothing."""


@dataclass(frozen=True)
class Kill:
    """One mutant against the cases meant for it."""

    name: str
    breaks: str
    clause: str
    role: str
    meant: dict[str, str]
    """Verdict of each case that has to kill it."""
    reasons: dict[str, str]
    """Why, for each of them."""
    probe: str
    """Verdict of a happy path: the mutant should be broken where it says, and work elsewhere."""
    hopeless: bool
    """Nothing is expected to work."""
    others: list[str]
    """Cases not meant for it that kill it as well, as far as they were run."""
    trouble: str
    """Why it could not be judged; empty: it was."""
    seconds: float

    @property
    def killed(self) -> bool:
        """By every case that is meant for it, and, where it should otherwise work, not by breaking down altogether."""
        sharp = all(verdict in FATAL for verdict in self.meant.values())
        return not self.trouble and sharp and (self.hopeless or self.probe == "PASS")

    @property
    def why_not(self) -> str:
        """What is wrong with a mutant that was not killed."""
        if self.trouble:
            return self.trouble
        alive = [f"{case} says {verdict}" for case, verdict in self.meant.items() if verdict not in FATAL]
        if alive:
            return "; ".join(alive) + (f"; killed by {', '.join(self.others[:4])}" if self.others else "")
        return "" if self.killed else f"it does not even pass the happy path ({self.probe})"


@dataclass(frozen=True)
class OddResult:
    """One odd node against all cases of its role."""

    name: str
    is_odd: str
    clauses: list[str]
    role: str
    counts: dict[str, int]
    failed: dict[str, str]
    """Reason of each case that went wrong."""
    trouble: str
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.trouble and not self.failed and self.counts.get("PASS", 0) > 0


@dataclass(frozen=True)
class Control:
    """The unchanged node against all cases that are meant for mutants of its role: they have to pass it."""

    role: str
    counts: dict[str, int]
    failed: dict[str, str]
    trouble: str
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.trouble and not self.failed


@dataclass(frozen=True)
class SelfTest:
    """One run of the self-test."""

    suite: str
    """Version of the suite."""
    spec: str
    """Names the state of all clauses."""
    seed: int
    seconds: float
    mutants: int
    mutants_killed: int
    odd: int
    odd_passed: int
    controls: list[Control]
    kills: list[Kill]
    odd_nodes: list[OddResult]

    @property
    def passed(self) -> bool:
        whole = self.mutants_killed == self.mutants and self.odd_passed == self.odd
        return whole and all(control.passed for control in self.controls)
