"""The badges of the rungs as SVG, for a project's page: one picture each, self-contained."""

from __future__ import annotations

from markupsafe import Markup

from conformance.report.junit import clean
from conformance.report.model import Badge, BadgeState, Report

COLOURS = {
    BadgeState.PASSED: "#146c3e",
    BadgeState.KNOWN_FAILURES: "#95490f",
    BadgeState.INCOMPLETE: "#5d4daa",
    BadgeState.FAILED: "#b3242a",
    BadgeState.PARTIAL: "#0a5fa5",
    BadgeState.UNSUPPORTED: "#58626b",
    BadgeState.NOT_RUN: "#58626b",
}
CHARACTER, SIDE, HEIGHT = 6.2, 8, 22
"""Pixels: of a character at 11 px, beside each text, of the whole."""
SVG = Markup("""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" aria-label="{left}: {right}">
<title>{left}: {right}. {testee}, suite {suite}, clauses {spec}</title>
<rect width="{width}" height="{height}" rx="4" fill="{colour}"/>
<path d="M4 0H{split}V{height}H4a4 4 0 0 1-4-4V4a4 4 0 0 1 4-4z" fill="#3d474f"/>
<g fill="#fff" font-family="system-ui, Verdana, DejaVu Sans, sans-serif" font-size="11" text-anchor="middle">
<text x="{middle_left}" y="15" textLength="{left_length}">{left}</text>\
<text x="{middle_right}" y="15" textLength="{right_length}">{right}</text></g>
</svg>
""")


def svg(badge: Badge, report: Report) -> str:
    """The badge of one rung. It says how many of how many cases only where that is all that there is to say."""
    left = f"DSDP {badge.title}"
    judged = sum(badge.counts.get(verdict, 0) for verdict in ("PASS", "WARN", "INFO"))
    right = f"{judged}/{badge.total} {badge.state}" if badge.state is BadgeState.PASSED else badge.state.value
    left_length, right_length = round(len(left) * CHARACTER), round(len(right) * CHARACTER)
    split, rest = left_length + 2 * SIDE, right_length + 2 * SIDE
    return str(
        SVG.format(
            width=split + rest,
            height=HEIGHT,
            split=split,
            left=left,
            right=right,
            left_length=left_length,
            right_length=right_length,
            middle_left=split / 2,
            middle_right=split + rest / 2,
            colour=COLOURS[badge.state],
            testee=clean(f"{report.testee.name} {report.testee.version}"),
            suite=report.suite.version,
            spec=report.spec.digest[:12],
        )
    )
