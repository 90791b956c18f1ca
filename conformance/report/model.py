"""The report as one tree of dataclasses, to JSON and back (`report.schema.json`).

It holds all that any rendering needs, the texts of the cited clauses included, so that a report can be rendered again
years later by another version of the suite.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, TypeVar

from conformance.case import Rung
from conformance.clauses import Clause, Level
from conformance.mutants.results import SelfTest
from conformance.verdict import FAILS_THE_RUN, Finding, Verdict
from dsdproto.errors import DsdpError
from dsdproto.registry import Role

FORMAT = 1
LATER = frozenset({"selftests"})
"""Keys that reports of format 1 did not have from the beginning."""
T = TypeVar("T")


class ReportError(DsdpError):
    """A file that is no report of this format; says where it departs from it."""


@dataclass(frozen=True)
class Suite:
    name: str
    version: str


@dataclass(frozen=True)
class Spec:
    protocol: int
    digest: str
    """Names the state of all clauses (`clauses.json`)."""
    clauses: int


@dataclass(frozen=True)
class Testee:
    name: str
    version: str
    door: str
    roles: list[str]
    supports: list[str]


@dataclass(frozen=True)
class Run:
    started: str
    """UTC, ISO 8601."""
    seconds: float
    seed: int
    patience: float
    jobs: int
    command: str
    """What was run, word for word."""
    platform: str
    interrupted: str
    """Why the run did not go through; empty when it did."""


@dataclass(frozen=True)
class WireEntry:
    t: float
    direction: str
    peer: str
    hex: str
    text: str
    door: bool
    size: int
    """In bytes, before `hex` was cut."""


@dataclass(frozen=True)
class CaseReport:
    id: str
    title: str
    rung: int
    role: str
    level: Level
    revision: int
    clauses: list[str]
    quote: str
    verdict: Verdict
    reason: str
    seconds: float
    findings: list[Finding]
    notes: list[str]
    trace: str
    source: str
    reproduce: str
    """One line for a shell."""
    wire: list[WireEntry]
    wire_dropped: int

    @property
    def family(self) -> str:
        return self.id.partition("/")[0]


class BadgeState(StrEnum):
    """What a rung's badge says. PASSED is the one to be proud of."""

    PASSED = "passed"
    KNOWN_FAILURES = "known failures"
    INCOMPLETE = "incomplete"
    """Something that should have been judged was not: skipped, too slow, or the suite's fault."""
    FAILED = "failed"
    PARTIAL = "partial"
    """Nothing went wrong, but only some of the cases were asked for."""
    UNSUPPORTED = "unsupported"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Badge:
    rung: int
    title: str
    state: BadgeState
    text: str
    counts: dict[str, int]
    total: int
    available: int
    """How many cases the suite has for this rung (and these roles)."""


@dataclass(frozen=True)
class Report:
    format: int
    suite: Suite
    spec: Spec
    testee: Testee
    run: Run
    passed: bool
    summary: dict[str, int]
    badges: list[Badge]
    cases: list[CaseReport]
    clauses: list[Clause] = field(default_factory=list)
    selftests: list[SelfTest] = field(default_factory=list)
    """At most one: of the suite itself, so that a reader knows what a pass is worth."""

    @property
    def ok(self) -> bool:
        return self.passed

    def to_json(self) -> dict[str, Any]:
        return plain(self)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def from_json(cls, value: Any) -> Report:
        """Raises ReportError for anything that is not a whole report of this format."""
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            found = value.get("format", "none") if isinstance(value, dict) else type(value).__name__
            raise ReportError(f"no report of format {FORMAT} (found: {found}); `dsdp-conformance run --json` makes one")
        return built(cls, value, "report")

    @classmethod
    def load(cls, path: Path) -> Report:
        """Raises ReportError, with the path."""
        try:
            return cls.from_json(json.loads(path.read_text("utf-8")))
        except OSError as error:
            raise ReportError(f"{path}: {error.strerror}") from error
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ReportError(f"{path}: no JSON: {error}") from error
        except ReportError as error:
            raise ReportError(f"{path}: {error}") from error


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How often each verdict occurs, in the order of :class:`Verdict`, without zeros."""
    found = list(verdicts)
    return {verdict.value: found.count(verdict) for verdict in Verdict if verdict in found}


def badge(rung: Rung, verdicts: list[Verdict], available: int | None = None, roles: Iterable[Role] = ()) -> Badge:
    """The badge of a rung from the verdicts of its cases. A rung is passed when all its cases were asked for, all that
    the testee offers was judged, nothing went wrong, and at least one case passed.

    :param available: how many cases there are; None: those that were judged are all.
    :param roles: the badge is for these roles alone.
    """
    by = {verdict: verdicts.count(verdict) for verdict in Verdict}
    total = len(verdicts)
    available = total if available is None else available
    good = by[Verdict.PASS] + by[Verdict.INFO] + by[Verdict.WARN]
    details = [
        f"{by[verdict]} {word}"
        for verdict, word in (
            (Verdict.WARN, "with warnings"), (Verdict.UNSUPPORTED, "unsupported"), (Verdict.XFAIL, "failed as known"),
            (Verdict.XPASS, "passed unexpectedly"), (Verdict.INCONCLUSIVE, "inconclusive"), (Verdict.SKIP, "skipped"),
            (Verdict.ERROR, "broke the suite"), (Verdict.FAIL, "failed"),
        )
        if by[verdict]
    ]  # fmt: skip
    if not total or by[Verdict.SKIP] == total:
        state = BadgeState.NOT_RUN
    elif by[Verdict.FAIL] or by[Verdict.XPASS]:
        state = BadgeState.FAILED
    elif by[Verdict.ERROR] or by[Verdict.INCONCLUSIVE] or by[Verdict.SKIP]:
        state = BadgeState.INCOMPLETE
    elif by[Verdict.XFAIL]:
        state = BadgeState.KNOWN_FAILURES
    elif not by[Verdict.PASS]:
        state = BadgeState.UNSUPPORTED
    else:
        state = BadgeState.PASSED if total >= available else BadgeState.PARTIAL
    if 0 < total < available:
        details.append(f"{available - total} not asked for")
    text = (
        ", ".join([f"{good} of {total} passed", *details])
        if total
        else f"none of {available} cases asked for"
        if available
        else "no cases"
    )
    names = ", ".join(role.name.lower() for role in roles)
    title = f"{rung.title} ({names})" if names and rung >= Rung.LIVE else rung.title
    return Badge(int(rung), title, state, text, counts(verdicts), total, available)


def all_good(verdicts: Iterable[Verdict]) -> bool:
    return not any(verdict in FAILS_THE_RUN for verdict in verdicts)


# ---------------------------------------------------------------- dataclasses to plain data and back


def plain(value: Any) -> Any:
    """Dataclasses, enums, lists and dicts as JSON has them. Levels go by name."""
    if isinstance(value, Level):
        return value.name
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def built(kind: Any, value: Any, where: str) -> Any:
    """The inverse of :func:`plain` for a type. Raises ReportError with the path to what does not fit.

    Keys that are not known are left out: a later version of this format may have them.
    """
    origin = typing.get_origin(kind)
    if origin is list:
        _must(isinstance(value, list), where, "a list")
        (inner,) = typing.get_args(kind)
        return [built(inner, item, f"{where}[{index}]") for index, item in enumerate(value)]
    if origin is dict:
        _must(isinstance(value, dict), where, "an object")
        _, inner = typing.get_args(kind)
        return {key: built(inner, item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(kind, types.GenericAlias):
        raise TypeError(kind)
    if kind is Level:
        _must(value in Level.__members__, where, "MUST, SHOULD or MAY")
        return Level[value]
    if issubclass(kind, Enum):
        _must(value in [item.value for item in kind], where, f"one of {', '.join(item.value for item in kind)}")
        return kind(value)
    if dataclasses.is_dataclass(kind):
        _must(isinstance(value, dict), where, "an object")
        hints = typing.get_type_hints(kind)
        missing = [name for name in _names(kind) if name not in value and name not in LATER]
        _must(not missing, where, f"`{missing[0]}`" if missing else "")
        there = [name for name in _names(kind) if name in value]
        return kind(**{name: built(hints[name], value[name], f"{where}.{name}") for name in there})
    if kind is float:
        _must(type(value) in (int, float), where, "a number")
        return float(value)
    _must(type(value) is kind, where, {int: "an integer", str: "a text", bool: "true or false"}[kind])
    return value


def _names(kind: Any) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)]


def _must(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise ReportError(f"{where}: {what} belongs here")
