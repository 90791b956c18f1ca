"""Cases: one idea each, under a permanent id, tied to the clauses that it tests.

    @case("verify/verdict-names-deepest", "A verdict names the deepest node on the target's path",
          clauses=("V-10",), rung=Rung.LIVE, role=Role.VERIFIER)
    async def verdict_names_deepest(t: LiveTestee) -> None:
        ...

A case function takes the testee, as the door of the run gives it. It is synchronous on rungs 1 and 2, a Trio coroutine
function on rungs 3 and 4. It returns if all is well and raises an exception of :mod:`conformance.verdict` otherwise.
``t.trial`` is the :class:`conformance.trial.Trial`: seeded randomness, patience, notes, the wire log.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from conformance import clauses as spec
from dsdproto.errors import LocalError
from dsdproto.registry import Role

CheckFunction = Callable[[Any], Awaitable[None] | None]
ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*/[a-z0-9]+(?:-[a-z0-9]+)*")

Level = spec.Level
ALONE = "alone"
TOKEN_COMMAND, JOIN_COMMAND = "token-command", "join-command"
"""What the live cases of joining need: an option of ``run``. Neither an authority nor a newcomer has a role."""


class Rung(IntEnum):
    """The four badges."""

    STATIC = 1
    """Vectors: one question, one exact answer."""
    TRANSCRIPT = 2
    """Recorded connections, replayed to the testee."""
    LIVE = 3
    """The suite is the neighbour, over TLS."""
    CHAOS = 4
    """The suite is the network between several nodes."""

    @property
    def title(self) -> str:
        return ("static vectors", "passive transcripts", "live peer", "chaos")[self - 1]


class Kind(StrEnum):
    SYNC = "sync"
    ASYNC = "async"


PACKAGES = {Rung.STATIC: "static", Rung.TRANSCRIPT: "transcripts", Rung.LIVE: "live", Rung.CHAOS: "chaos"}
"""Where the cases of a rung are: modules, or packages of modules, whose name begins with `cases`."""


@dataclass(frozen=True)
class Case:
    id: str
    title: str
    clauses: tuple[str, ...]
    rung: Rung
    check: CheckFunction
    role: Role | None = None
    """The role under test; None where it is of no account: on rungs 1 and 2, and in joining."""
    level: Level = Level.MUST
    revision: int = 1
    """Goes up when the case demands something else than before."""
    needs: tuple[str, ...] = ()
    """What the testee has to offer: names of features (`TREES`), of families of `compute`, or `replay`, `start`,
    `token-command`, `join-command`."""
    bracket: bool = False
    """A negative case: after the refusal a fresh happy path has to work (``t.happy_path()``)."""
    timeout: float = 60.0
    """Seconds, before patience; beyond it the case is INCONCLUSIVE."""
    quote: str = ""
    """The words of one of its clauses that the case is about, where the clause says several things."""
    serial: str = ""
    """Live cases of one role with the same word here run one after the other; with :data:`ALONE`, beside nothing else
    of that role."""
    waits: float = 0.0
    """Seconds that it mostly waits, by its nature. Such cases begin first."""

    @property
    def family(self) -> str:
        return self.id.partition("/")[0]

    @property
    def joining(self) -> str:
        """Which command a live case of joining is about; empty: it is none of those."""
        return next((need for need in self.needs if need in (TOKEN_COMMAND, JOIN_COMMAND)), "")

    def concerns(self, roles: Collection[Role]) -> bool:
        """Whether it belongs to a run of these roles; none: of everything."""
        return not roles or self.role in roles or (self.role is None and self.rung < Rung.LIVE)

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.check)

    @property
    def source(self) -> str:
        """`conformance/live/cases_verifier.py:41`, for whoever wants to read the case."""
        function = inspect.unwrap(self.check)
        module = getattr(function, "__module__", "?").replace(".", "/")
        code = getattr(function, "__code__", None)
        return f"{module}.py:{code.co_firstlineno}" if code else f"{module}.py"


class Registry:
    """All cases by id, in order of definition."""

    def __init__(self) -> None:
        self._cases: dict[str, Case] = {}

    def add(self, case: Case) -> Case:
        """Raises LocalError for an id in another form or in use, for unknown clauses, for a missing role."""
        if not ID.fullmatch(case.id):
            raise LocalError(f"case id {case.id!r} is not of the form family/words-with-dashes")
        if case.id in self._cases:
            raise LocalError(f"case id {case.id!r} is in use, by {self._cases[case.id].source}")
        unknown = [name for name in case.clauses if name not in spec.known()]
        if unknown or not case.clauses:
            raise LocalError(f"case {case.id}: SPEC.md has no clause {', '.join(unknown) or '(none given)'}")
        if case.rung >= Rung.LIVE and case.role is None and not case.joining:
            raise LocalError(f"case {case.id}: a case of rung {int(case.rung)} names the role under test")
        if case.is_async != (case.rung >= Rung.LIVE):
            raise LocalError(f"case {case.id}: cases of rungs 1 and 2 are plain functions, of 3 and 4 coroutines")
        self._cases[case.id] = case
        return case

    def __iter__(self) -> Iterator[Case]:
        return iter(self._cases.values())

    def __len__(self) -> int:
        return len(self._cases)

    def __contains__(self, case_id: object) -> bool:
        return case_id in self._cases

    def __getitem__(self, case_id: str) -> Case:
        return self._cases[case_id]


CASES = Registry()


def case(
    case_id: str,
    title: str,
    *,
    clauses: tuple[str, ...],
    rung: Rung,
    role: Role | None = None,
    level: Level | None = None,
    revision: int = 1,
    needs: tuple[str, ...] = (),
    bracket: bool = False,
    timeout: float = 60.0,
    quote: str = "",
    serial: str = "",
    waits: float = 0.0,
    registry: Registry = CASES,
) -> Callable[[CheckFunction], CheckFunction]:
    """Registers the decorated function as a case. ``level`` is by default the strongest level of its clauses.

    For cases made in a loop, apply it as a function: ``case(...)(check)``. Raises LocalError, see :class:`Registry`.
    """

    def register(check: CheckFunction) -> CheckFunction:
        strongest = level or max((spec.known()[name].level for name in clauses if name in spec.known()), default=None)
        registry.add(
            Case(
                id=case_id, title=title, clauses=tuple(clauses), rung=rung, check=check, role=role,
                level=strongest or Level.MUST, revision=revision, needs=tuple(needs), bracket=bracket, timeout=timeout,
                quote=quote, serial=serial, waits=waits,
            )
        )  # fmt: skip
        return check

    return register


def load() -> Registry:
    """Imports every module of cases there is and gives the registry."""
    for package in PACKAGES.values():
        name = f"conformance.{package}"
        if importlib.util.find_spec(name) is None:
            continue
        _load_cases(name)
    return CASES


def _load_cases(package: str) -> None:
    module = importlib.import_module(package)
    for found in pkgutil.iter_modules(module.__path__):
        if found.name.startswith("cases"):
            inner = f"{package}.{found.name}"
            importlib.import_module(inner)
            if found.ispkg:
                for part in pkgutil.walk_packages(importlib.import_module(inner).__path__, f"{inner}."):
                    importlib.import_module(part.name)
