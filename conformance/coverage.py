"""Which clauses have cases, which are excused, which still wait: ``dsdp-conformance list --uncovered``.

`excused.json` says why a clause cannot be tested from outside. `pending.json` lists MUST clauses that have neither yet;
``python -m conformance.coverage --shrink`` takes out what is covered or excused by now, and nothing can put one in.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from conformance.case import Case, load
from conformance.clauses import Clause, Level, data, excused, known

PENDING = Path(__file__).with_name("pending.json")


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

    def faults(self, pending: Iterable[str]) -> list[str]:
        """What is wrong with the tables. ``pending`` are MUST clauses that may still lack a case."""
        waiting = set(pending)
        faults = [
            f"{clause.id}: a MUST with neither case nor excuse"
            for clause in self.uncovered
            if clause.level is Level.MUST and clause.id not in waiting
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
        faults += [f"{name}: pending, but SPEC.md has no such clause" for name in sorted(waiting - self.clauses.keys())]
        return faults


def coverage(cases: Iterable[Case], excuses: Mapping[str, str] | None = None) -> Coverage:
    by_clause: dict[str, tuple[str, ...]] = {}
    for case in cases:
        for name in case.clauses:
            by_clause[name] = (*by_clause.get(name, ()), case.id)
    return Coverage(known(), by_clause, excused() if excuses is None else excuses)


def pending() -> list[str]:
    return data("pending.json")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m conformance.coverage", description="what pending.json still holds")
    parser.add_argument("--shrink", action="store_true", help="take out clauses that are covered or excused")
    options = parser.parse_args()
    table = coverage(load())
    waiting = {clause.id for clause in table.uncovered}
    left = [name for name in pending() if name in waiting]
    if options.shrink:
        PENDING.write_text(json.dumps(left, indent=1) + "\n", "utf-8")
    print(f"{len(left)} of {sum(c.level is Level.MUST for c in known().values())} MUST clauses wait for a case")
    return 0


if __name__ == "__main__":
    sys.exit(main())
