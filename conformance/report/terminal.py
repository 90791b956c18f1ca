"""The run on a terminal: progress while it goes on (stderr), a summary at its end (stdout)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from conformance.case import Case
from conformance.report.html import headline
from conformance.report.model import Badge, BadgeState, CaseReport, Report
from conformance.runner import Result
from conformance.verdict import Verdict

COLOURS = {
    Verdict.PASS: "32", Verdict.FAIL: "1;31", Verdict.WARN: "33", Verdict.INFO: "34", Verdict.UNSUPPORTED: "2",
    Verdict.SKIP: "2", Verdict.XFAIL: "33", Verdict.XPASS: "1;35", Verdict.INCONCLUSIVE: "36", Verdict.ERROR: "1;35",
}  # fmt: skip
BADGES = {BadgeState.PASSED: "32", BadgeState.FAILED: "1;31", BadgeState.KNOWN_FAILURES: "33"}
LOUD = (Verdict.FAIL, Verdict.XPASS, Verdict.ERROR, Verdict.WARN, Verdict.INCONCLUSIVE, Verdict.XFAIL)
SHOWN_VALUE = 200
SHOWN_CASES = 25
"""So many cases are shown in detail, the worst ones at the end, where one reads first."""
BAR = 24


def painted(text: str, colour: str, on: bool) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if on and colour else text


def safe(text: str) -> str:
    """A testee's text without what a terminal would obey: "control characters, terminal escapes and markup in them have
    no effect where they are shown to people" (SEC-3)."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


class TerminalProgress:
    """One line that is written over on a terminal; elsewhere one line for each case that is not PASS.

    :param verbose: a line for each case in any event.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        colour: bool,
        verbose: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._colour, self._verbose, self._clock = stream, colour, verbose, clock
        self._live = stream.isatty()
        self._total = self._done = 0
        self._start = 0.0
        self._bad = 0

    def begin(self, cases: list[Case]) -> None:
        self._total, self._start = len(cases), self._clock()

    def started(self, case: Case) -> None:
        self._show(case.id)

    def finished(self, result: Result) -> None:
        self._done += 1
        verdict = result.outcome.verdict
        self._bad += verdict in (Verdict.FAIL, Verdict.XPASS, Verdict.ERROR)
        if self._verbose or verdict in LOUD:
            self._wipe()
            reason = f"  {safe(result.outcome.reason)[:SHOWN_VALUE]}" if result.outcome.reason else ""
            mark = painted(f"{verdict:<12}", COLOURS[verdict], self._colour)
            self._stream.write(f"{mark} {result.case.id}{reason}\n")
        self._show(result.case.id)

    def end(self) -> None:
        self._wipe()
        self._stream.flush()

    def _show(self, name: str) -> None:
        if self._live and self._total:
            full = BAR * self._done // self._total
            bad = f", {self._bad} bad" if self._bad else ""
            seconds = self._clock() - self._start
            bar = "█" * full + "░" * (BAR - full)
            self._stream.write(f"\r\x1b[K{bar} {self._done}/{self._total}{bad} {seconds:.0f} s  {name[:50]}")
        self._stream.flush()

    def _wipe(self) -> None:
        if self._live:
            self._stream.write("\r\x1b[K")


def summary(report: Report, *, colour: bool) -> str:
    """What is left to read when the run is over."""
    testee, run = report.testee, report.run
    lines = [
        f"{safe(testee.name)} {safe(testee.version)} by {report.suite.name} {report.suite.version}, "
        f"DSDP version {report.spec.protocol} ({report.spec.clauses} clauses, {report.spec.digest[:12]}), "
        f"seed {run.seed}",
        "",
    ]
    loud = sorted(
        (case for case in report.cases if case.verdict in LOUD), key=lambda case: LOUD.index(case.verdict), reverse=True
    )
    brief = loud[: max(0, len(loud) - SHOWN_CASES)]
    if brief:
        lines += [f"{painted(case.verdict.value, COLOURS[case.verdict], colour)} {case.id}" for case in brief]
        lines += [f"({len(brief)} more than are shown in detail; the reports have all)", ""]
    for case in loud[len(brief) :]:
        lines += [*_detail(case, colour), ""]
    lines += [_badge(badge, colour) for badge in report.badges if badge.total]
    counts = "  ".join(
        painted(f"{count} {name}", COLOURS[Verdict(name)], colour) for name, count in report.summary.items()
    )
    result = painted(headline(report), "1;32" if report.passed else "1;31", colour)
    return "\n".join([*lines, "", f"{counts}   in {run.seconds:.1f} s", result]) + "\n"


def _badge(badge: Badge, colour: bool) -> str:
    state = painted(f"{badge.state.value:<14}", BADGES.get(badge.state, ""), colour)
    return f"  rung {badge.rung}  {badge.title:<20} {state} {badge.text}"


def _detail(case: CaseReport, colour: bool) -> list[str]:
    lines = [f"{painted(case.verdict.value, COLOURS[case.verdict], colour)} {case.id}: {case.title}"]
    for finding in case.findings:
        lines.append(f"  {finding.clause}: {safe(finding.said)}")
        if finding.wanted or finding.got:
            lines += [f"    wanted {_short(finding.wanted)}", f"    got    {_short(finding.got)}"]
    if not case.findings or case.verdict in (Verdict.XFAIL, Verdict.XPASS):
        lines.append(f"  {safe(case.reason)}")
    lines += [f"  note: {safe(note)}" for note in case.notes]
    if case.trace:
        lines += [f"  {safe(line)}" for line in case.trace.rstrip().splitlines()[-6:]]
    return [*lines, f"  again: {case.reproduce}"]


def _short(value: str) -> str:
    value = safe(value) or "nothing"
    return value if len(value) <= SHOWN_VALUE else f"{value[:SHOWN_VALUE]} ... ({len(value)} characters)"
