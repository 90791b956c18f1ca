"""A report out of the results of a run."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable
from enum import StrEnum
from importlib import metadata

from conformance.case import Case, Rung
from conformance.clauses import document, known
from conformance.report import model
from conformance.runner import Options, Result
from conformance.testee import About
from conformance.verdict import Verdict
from conformance.wirelog import Entry
from dsdproto.registry import Role

WIRE_BYTES = 4096
"""Of one entry, in a report."""


class Keep(StrEnum):
    """Whose wire logs go into the report."""

    TROUBLE = "trouble"
    """Of cases that neither passed nor judged nothing."""
    ALL = "all"
    NONE = "none"


QUIET = frozenset({Verdict.PASS, Verdict.UNSUPPORTED, Verdict.SKIP})


def version() -> str:
    """Of the installed distribution that the suite is part of."""
    try:
        return metadata.version("dsdp")
    except metadata.PackageNotFoundError:
        return "unknown"


def report(
    results: Iterable[Result],
    about: About,
    options: Options,
    *,
    started: str,
    seconds: float,
    command: str,
    platform: str,
    interrupted: str = "",
    keep: Keep = Keep.TROUBLE,
    suite: Iterable[Case] | None = None,
    roles: Collection[Role] = (),
) -> model.Report:
    """:param started: UTC, ISO 8601.

    :param suite: all cases there are; a rung of which fewer were run is at best partial. None: these are all.
    :param roles: those under test; empty: all.

    :param command: the command line of the run.
    """
    results = list(results)
    cases = [_case(result, about, options, keep) for result in results]
    verdicts = [case.verdict for case in cases]
    everything = [result.case for result in results] if suite is None else list(suite)
    available = Counter(case.rung for case in everything if case.concerns(roles))
    cited = {name for case in cases for name in [*case.clauses, *(finding.clause for finding in case.findings)]}
    return model.Report(
        format=model.FORMAT,
        suite=model.Suite("dsdp-conformance", version()),
        spec=model.Spec(document()["protocol"], document()["digest"], len(known())),
        testee=model.Testee(about.name, about.version, about.door, list(about.roles), list(about.supports)),
        run=model.Run(
            started, round(seconds, 3), options.seed, options.patience, options.jobs, command, platform, interrupted
        ),
        passed=model.all_good(verdicts) and not interrupted,
        summary=model.counts(verdicts),
        badges=[
            model.badge(rung, [case.verdict for case in cases if case.rung == rung], available[rung], roles)
            for rung in Rung
        ],
        cases=cases,
        clauses=[clause for name, clause in known().items() if name in cited],
    )


def _case(result: Result, about: About, options: Options, keep: Keep) -> model.CaseReport:
    case, outcome = result.case, result.outcome
    kept = keep is Keep.ALL or (keep is Keep.TROUBLE and outcome.verdict not in QUIET)
    entries = result.wire.entries if kept else []
    return model.CaseReport(
        id=case.id,
        title=case.title,
        rung=int(case.rung),
        role=case.role.name.lower() if case.role else "",
        level=case.level,
        revision=case.revision,
        clauses=list(case.clauses),
        quote=case.quote,
        verdict=outcome.verdict,
        reason=outcome.reason,
        seconds=round(result.seconds, 3),
        findings=list(outcome.findings),
        notes=list(outcome.notes),
        trace=outcome.trace,
        source=case.source,
        reproduce=reproduce(about, options, case.id),
        wire=[_entry(entry) for entry in entries],
        wire_dropped=result.wire.dropped if kept else 0,
    )


def _entry(entry: Entry) -> model.WireEntry:
    return model.WireEntry(
        round(entry.t, 6),
        entry.direction.value,
        entry.peer,
        entry.data[:WIRE_BYTES].hex(),
        entry.text,
        entry.door,
        entry.size,
    )


def reproduce(about: About, options: Options, case_id: str) -> str:
    """The command line that runs one case again with the same randomness."""
    patience = [] if options.patience == 1.0 else ["--patience", f"{options.patience:g}"]
    rest = ["--seed", str(options.seed), *patience, "--case", case_id]
    return f"dsdp-conformance run {about.door} {shlex.join(rest)}"
