"""The report as JUnit XML, the form that continuous integration systems read: one suite for each rung."""

from __future__ import annotations

import re
from xml.etree import ElementTree as tree

from conformance.case import Rung
from conformance.report.model import CaseReport, Report
from conformance.verdict import Verdict

SKIPPED = (Verdict.SKIP, Verdict.UNSUPPORTED, Verdict.XFAIL, Verdict.INCONCLUSIVE)
FAILED = (Verdict.FAIL, Verdict.XPASS)
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def xml(report: Report) -> str:
    """The document. WARN and INFO pass with a note; UNSUPPORTED, XFAIL and INCONCLUSIVE are skipped with the reason."""
    root = tree.Element("testsuites", name=report.suite.name, time=f"{report.run.seconds:.3f}", **_counts(report.cases))
    for rung in Rung:
        cases = [case for case in report.cases if case.rung == rung]
        if cases:
            seconds = sum(case.seconds for case in cases)
            name = f"rung {int(rung)}: {rung.title}"
            suite = tree.SubElement(
                root, "testsuite", name=name, timestamp=report.run.started, time=f"{seconds:.3f}", **_counts(cases)
            )
            _properties(suite, report)
            for case in cases:
                _case(suite, case)
    tree.indent(root, " ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tree.tostring(root, "unicode") + "\n"


def _counts(cases: list[CaseReport]) -> dict[str, str]:
    return {
        "tests": str(len(cases)),
        "failures": str(sum(case.verdict in FAILED for case in cases)),
        "errors": str(sum(case.verdict is Verdict.ERROR for case in cases)),
        "skipped": str(sum(case.verdict in SKIPPED for case in cases)),
    }


def _properties(suite: tree.Element, report: Report) -> None:
    properties = tree.SubElement(suite, "properties")
    for name, value in (
        ("testee", f"{report.testee.name} {report.testee.version}"),
        ("suite", f"{report.suite.name} {report.suite.version}"),
        ("specification", f"DSDP version {report.spec.protocol}, clauses {report.spec.digest[:16]}"),
        ("seed", str(report.run.seed)),
    ):
        tree.SubElement(properties, "property", name=name, value=clean(value))


def _case(suite: tree.Element, case: CaseReport) -> None:
    name = case.id.partition("/")[2]
    element = tree.SubElement(suite, "testcase", classname=case.family, name=name, time=f"{case.seconds:.3f}")
    if case.verdict in FAILED:
        _detail(element, "failure", case)
    elif case.verdict is Verdict.ERROR:
        _detail(element, "error", case)
    elif case.verdict in SKIPPED:
        tree.SubElement(element, "skipped", message=clean(f"{case.verdict}: {case.reason}"))
    elif case.verdict is not Verdict.PASS:
        tree.SubElement(element, "system-out").text = clean(f"{case.verdict}: {text(case)}")


def _detail(element: tree.Element, tag: str, case: CaseReport) -> None:
    detail = tree.SubElement(element, tag, message=clean(case.reason), type=case.verdict.value)
    detail.text = clean(text(case))


def text(case: CaseReport) -> str:
    """What there is to say about a case, in lines."""
    lines = [case.title]
    for finding in case.findings:
        lines.append(f"{finding.clause}: {finding.said}")
        lines += [f"  wanted: {finding.wanted}", f"  got:    {finding.got}"] if finding.wanted or finding.got else []
    if not case.findings and case.reason:
        lines.append(case.reason)
    lines += [f"note: {note}" for note in case.notes]
    lines.append(f"again: {case.reproduce}")
    return "\n".join([*lines, case.trace] if case.trace else lines)


def clean(value: str) -> str:
    """Without the characters that XML cannot hold; a testee's text may have any of them."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", value)
