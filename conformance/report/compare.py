"""Two reports beside each other: what got worse, what got better, what cannot be compared."""

from __future__ import annotations

from dataclasses import dataclass, field

from conformance.report.model import CaseReport, Report
from conformance.report.terminal import safe
from conformance.verdict import Verdict

BAD = frozenset({Verdict.FAIL, Verdict.XPASS, Verdict.ERROR})
"""What fails a run."""
GOOD = frozenset({Verdict.PASS, Verdict.INFO})


@dataclass(frozen=True)
class Change:
    case: str
    title: str
    before: str
    after: str


@dataclass(frozen=True)
class Comparison:
    new_failures: list[Change] = field(default_factory=list)
    """FAIL, XPASS or ERROR now and not before, the revision being the same."""
    fixed: list[Change] = field(default_factory=list)
    """Went wrong in any way before, passes now."""
    still_failing: list[Change] = field(default_factory=list)
    other: list[Change] = field(default_factory=list)
    """Verdicts that changed between other states."""
    added: list[Change] = field(default_factory=list)
    removed: list[Change] = field(default_factory=list)
    revised: list[Change] = field(default_factory=list)
    """Cases that demand something else now: their verdicts are not the same question's answers."""
    versions: list[str] = field(default_factory=list)
    """What else differs: suite, specification, testee."""

    @property
    def worse(self) -> bool:
        """New failures, in old cases, in new ones, and in those that were revised."""
        failing = [change for change in (*self.added, *self.revised) if _verdict(change.after) in BAD]
        return bool(self.new_failures or failing)


def compare(before: Report, after: Report) -> Comparison:
    was = {case.id: case for case in before.cases}
    now = {case.id: case for case in after.cases}
    found = Comparison(versions=_versions(before, after))
    for case in after.cases:
        if case.id not in was:
            found.added.append(Change(case.id, case.title, "", case.verdict.value))
        else:
            _judge(found, was[case.id], case)
    for case in before.cases:
        if case.id not in now:
            found.removed.append(Change(case.id, case.title, case.verdict.value, ""))
    return found


def _judge(found: Comparison, was: CaseReport, now: CaseReport) -> None:
    change = Change(now.id, now.title, was.verdict.value, now.verdict.value)
    if was.revision != now.revision:
        labels = [f"{case.verdict.value} (revision {case.revision})" for case in (was, now)]
        found.revised.append(Change(now.id, now.title, *labels))
    elif now.verdict in BAD:
        (found.still_failing if was.verdict in BAD else found.new_failures).append(change)
    elif was.verdict == now.verdict:
        return
    elif was.verdict not in GOOD and now.verdict in GOOD and was.verdict.ran:
        found.fixed.append(change)
    else:
        found.other.append(change)


def _verdict(text: str) -> Verdict:
    return Verdict(text.split(" ", 1)[0])


def _versions(before: Report, after: Report) -> list[str]:
    pairs = [
        ("suite", before.suite.version, after.suite.version),
        ("specification", before.spec.digest[:16], after.spec.digest[:16]),
        ("testee", f"{before.testee.name} {before.testee.version}", f"{after.testee.name} {after.testee.version}"),
        ("reached by", before.testee.door, after.testee.door),
    ]
    return [f"{name}: {safe(old)} -> {safe(new)}" for name, old, new in pairs if old != new]


def text(found: Comparison) -> str:
    """The comparison in lines."""
    lines = [*found.versions]
    for title, changes in (
        ("new failures", found.new_failures), ("fixed", found.fixed), ("still failing", found.still_failing),
        ("other changes", found.other), ("added", found.added), ("removed", found.removed), ("revised", found.revised),
    ):  # fmt: skip
        if changes:
            lines += ["", f"{title} ({len(changes)})"]
            lines += [f"  {_arrow(change):<28} {change.case}: {change.title}" for change in changes]
    if len(lines) == len(found.versions):
        lines += ["", "no difference in any verdict"]
    return "\n".join(lines).lstrip("\n") + "\n"


def _arrow(change: Change) -> str:
    return " -> ".join(part for part in (change.before, change.after) if part)
