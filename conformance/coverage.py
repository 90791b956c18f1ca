"""Which clauses have cases, which are excused, which have neither: ``dsdp-conformance list --uncovered``.

`excused.json` says why a clause cannot be tested from outside. A MUST has a case or an excuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from conformance.case import Case
from conformance.clauses import Clause, Level, excused, known


@dataclass(frozen=True)
class Coverage:
    clauses: Mapping[str, Clause]
    cases: Mapping[str, tuple[str, ...]]
    """Ids of the cases of each clause."""
    excused: Mapping[str, str]

    @property
    def uncovered(self) -> list[Clause]:
        """Without case and without excuse, of every level, in the order of SPEC.md."""
        return [clause for name, clause in self.clauses.items() if name not in self.cases and name not in self.excused]

    def faults(self) -> list[str]:
        """What is wrong with the tables."""
        faults = [
            f"{clause.id}: a MUST with neither case nor excuse"
            for clause in self.uncovered
            if clause.level is Level.MUST
        ]
        for name, reason in self.excused.items():
            if name not in self.clauses:
                faults.append(f"{name}: excused, but SPEC.md has no such clause")
            elif name in self.cases:
                faults.append(f"{name}: excused, but tested by {', '.join(self.cases[name])}")
            if len(reason.split()) < 5:
                faults.append(f"{name}: excused without a reason that one can follow")
        unknown = sorted(self.cases.keys() - self.clauses.keys())
        faults += [f"{name}: has cases, but SPEC.md has no such clause" for name in unknown]
        return faults


def coverage(cases: Iterable[Case], excuses: Mapping[str, str] | None = None) -> Coverage:
    by_clause: dict[str, tuple[str, ...]] = {}
    for case in cases:
        for name in case.clauses:
            by_clause[name] = (*by_clause.get(name, ()), case.id)
    return Coverage(known(), by_clause, excused() if excuses is None else excuses)
