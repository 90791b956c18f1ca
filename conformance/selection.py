"""Which cases a run takes: by rung, role, id, section of SPEC.md, clause, level."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from conformance.case import Case, Level, Rung
from conformance.clauses import known
from dsdproto.errors import DsdpError
from dsdproto.registry import Role


class SelectionError(DsdpError):
    """What was asked for selects nothing; says what there is."""


@dataclass(frozen=True)
class Selection:
    """Empty means: no restriction. Several values of one kind add up, the kinds narrow each other."""

    rungs: tuple[Rung, ...] = ()
    roles: tuple[Role, ...] = ()
    ids: tuple[str, ...] = ()
    """Case ids; `*` and `?` stand for any characters. A family name alone stands for all of it."""
    sections: tuple[str, ...] = ()
    """`9` takes 9.1 and 9.2 too."""
    clauses: tuple[str, ...] = ()
    levels: tuple[Level, ...] = ()

    def takes(self, case: Case) -> bool:
        return (
            (not self.rungs or case.rung in self.rungs)
            and case.concerns(self.roles)
            and (not self.ids or any(_matches(case, pattern) for pattern in self.ids))
            and (not self.sections or any(_within(case, section) for section in self.sections))
            and (not self.clauses or any(name in case.clauses for name in self.clauses))
            and (not self.levels or case.level in self.levels)
        )

    def of(self, cases: Iterable[Case]) -> list[Case]:
        """The cases taken, by rung. Raises SelectionError where a pattern, clause or section fits no case."""
        everything = list(cases)
        for pattern in self.ids:
            if not any(_matches(case, pattern) for case in everything):
                families = ", ".join(sorted({case.family for case in everything})) or "none yet"
                raise SelectionError(f"no case matches {pattern!r}; the families are: {families}")
        for name in self.clauses:
            if name not in known():
                raise SelectionError(f"SPEC.md has no clause {name!r}; `dsdp-conformance list --clauses` shows them")
        for section in self.sections:
            if not any(_inside(clause.section, section) for clause in known().values()):
                raise SelectionError(f"no clause stands in section {section!r} of SPEC.md; write it as in `9` or `9.2`")
        taken = [case for case in everything if self.takes(case)]
        if not taken:
            raise SelectionError("no case is left after all these restrictions; `dsdp-conformance list` takes the same")
        return sorted(taken, key=lambda case: case.rung)


def _matches(case: Case, pattern: str) -> bool:
    return fnmatchcase(case.id, pattern) or case.family == pattern


def _inside(section: str, asked: str) -> bool:
    return section == asked or section.startswith(f"{asked}.")


def _within(case: Case, asked: str) -> bool:
    return any(_inside(known()[name].section, asked) for name in case.clauses)
