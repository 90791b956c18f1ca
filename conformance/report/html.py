"""The report as one HTML page that needs nothing else: styles and script are in it, and it fetches nothing.

Whatever the testee said (its name, texts in its errors) is untrusted: the template escapes everything, and the page
forbids itself all loading by its content security policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from conformance.case import Rung
from conformance.clauses import Clause, known
from conformance.mutants.results import SelfTest
from conformance.report.annotate import Row, rows
from conformance.report.model import CaseReport, Report
from conformance.report.prose import html as prose
from conformance.verdict import Verdict

TROUBLE = (Verdict.FAIL, Verdict.XPASS, Verdict.ERROR, Verdict.WARN, Verdict.INCONCLUSIVE, Verdict.XFAIL, Verdict.INFO)
"""Verdicts whose cases are shown in detail, worst first."""
MEANING = {
    Verdict.PASS: "conforms",
    Verdict.FAIL: "breaks a MUST",
    Verdict.WARN: "departs from a SHOULD",
    Verdict.INFO: "nothing to judge, something to know",
    Verdict.UNSUPPORTED: "declared as not offered",
    Verdict.SKIP: "not run",
    Verdict.XFAIL: "goes wrong, as expected",
    Verdict.XPASS: "passes, though expected to go wrong",
    Verdict.INCONCLUSIVE: "too slow to judge",
    Verdict.ERROR: "the suite went wrong",
}
ROWS_AT_START, ROWS_AT_END = 40, 260
"""How much of a long wire log the page shows; all of it is in the JSON."""


@dataclass(frozen=True)
class Line:
    """One section of SPEC.md in the matrix."""

    section: str
    place: str
    counts: dict[str, int]
    total: int
    judged: int
    """How many of the section's clauses at least one judged case cites."""
    clauses: int


@dataclass(frozen=True)
class Log:
    first: list[Row]
    left_out: int
    last: list[Row]


def page(report: Report) -> str:
    """The whole page."""
    clauses = {**known(), **{clause.id: clause for clause in report.clauses}}
    trouble = sorted(
        (case for case in report.cases if case.verdict in TROUBLE), key=lambda case: TROUBLE.index(case.verdict)
    )
    logs = {case.id: _log(rows(case.wire)) for case in trouble}
    cited = _cited(report, logs)
    return (
        _template()
        .render(
            report=report,
            trouble=trouble,
            logs=logs,
            matrix=_matrix(report.cases, clauses),
            verdicts=[verdict for verdict in Verdict if report.summary.get(verdict)],
            meaning=MEANING,
            rungs=list(Rung),
            clauses=[clause for name, clause in clauses.items() if name in cited],
            known=clauses,
            tested=Counter(name for case in report.cases for name in case.clauses),
            prose=lambda clause: prose(clause.text, lambda word: _link(word, clauses if word in cited else {})),
            link=lambda word: _link(word, clauses) or word,
            css=Markup(_read("page.css")),
            script=Markup(_read("page.js")),
            headline=headline(report),
            selftests=[_selftest(found) for found in report.selftests],
        )
        .strip()
        + "\n"
    )


def selftest_page(found: SelfTest) -> str:
    """The kill matrix as a page of its own."""
    template = _template("page.alone.html.j2")
    return template.render(tested=found, section=_selftest(found), css=Markup(_read("page.css"))).strip() + "\n"


def _selftest(found: SelfTest) -> Markup:
    def pill(verdict: str, text: str) -> Markup:
        return Markup('<span class="pill v-{}">{}</span>').format(verdict, text)

    return Markup(_template("page.selftest.html.j2").render(tested=found, pill=pill))


def headline(report: Report) -> str:
    """One sentence that says how it went."""
    judged = sum(count for verdict, count in report.summary.items() if Verdict(verdict).ran)
    bad = [f"{report.summary[v]} {word}" for v, word in (
        ("FAIL", "failed"), ("XPASS", "passed against expectation"), ("ERROR", "broke the suite"),
    ) if report.summary.get(v)]  # fmt: skip
    if report.run.interrupted:
        return f"Not finished: {report.run.interrupted}" + (f"; {', '.join(bad)}" if bad else "")
    if bad:
        return f"{', '.join(bad)}; {judged} cases judged"
    known_failures = report.summary.get("XFAIL", 0)
    if known_failures:
        return f"{judged} cases judged, nothing new went wrong, {known_failures} known failures"
    return f"All {judged} judged cases are in order" if judged else "No case was judged"


def _link(name: str, clauses: dict[str, Clause]) -> Markup | None:
    clause = clauses.get(name)
    if clause is None:
        return None
    title = f"{clause.level.name}, section {clause.section}: {clause.title or clause.text[:160]}"
    return Markup('<a class="clause" href="#clause-{}" title="{}">{}</a>').format(name, title, name)


def _cited(report: Report, logs: dict[str, Log]) -> set[str]:
    cited = {name for case in report.cases for name in case.clauses}
    cited |= {finding.clause for case in report.cases for finding in case.findings}
    for log in logs.values():
        for row in [*log.first, *log.last]:
            for frame in row.frames:
                cited |= {*frame.clauses, frame.fault_clause}
                cited |= {name for part in frame.parts for name in part.clauses}
    return cited


def _log(found: list[Row]) -> Log:
    left_out = len(found) - ROWS_AT_START - ROWS_AT_END
    if left_out <= 0:
        return Log([], 0, found)
    return Log(found[:ROWS_AT_START], left_out, found[-ROWS_AT_END:])


def _matrix(cases: Iterable[CaseReport], clauses: dict[str, Clause]) -> list[Line]:
    """One line for each section that has cases; a case counts once in each section that it cites."""
    places: dict[str, str] = {}
    for clause in clauses.values():
        places.setdefault(clause.section, clause.place)
    found: dict[str, list[Verdict]] = {section: [] for section in places}
    judged: set[str] = set()
    for case in cases:
        cited = [clauses[name] for name in case.clauses if name in clauses]
        for section in dict.fromkeys(clause.section for clause in cited):
            found[section].append(case.verdict)
        if case.verdict.ran:
            judged |= {clause.id for clause in cited}
    lines = []
    for section, verdicts in found.items():
        here = [name for name, clause in clauses.items() if clause.section == section]
        counts = {verdict.value: verdicts.count(verdict) for verdict in Verdict if verdict in verdicts}
        if verdicts:
            reached = sum(name in judged for name in here)
            lines.append(Line(section, places[section], counts, len(verdicts), reached, len(here)))
    return lines


def _read(name: str) -> str:
    return resources.files("conformance.report").joinpath(name).read_text("utf-8")


@cache
def _template(name: str = "page.html.j2") -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(_read(name))
