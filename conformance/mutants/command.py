"""``dsdp-conformance selftest``: does the suite find what is wrong, and nothing else?"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from conformance.mutants.results import Kill, SelfTest
from conformance.mutants.table import MUTANTS, ODD
from conformance.report.make import version
from conformance.report.model import plain

PASSED, FAILED = 0, 1
JOBS = max(1, min(8, os.cpu_count() or 1))
ABOUT = """\
The suite against itself: nodes that are broken on purpose, each of which has to be found out by the cases that are
meant for it, and nodes that are odd but legal, which have to pass. The unchanged node has to pass all of these cases,
or a kill would prove nothing. `python -m conformance.mutants NAME` runs one of them by itself.
"""
EXAMPLES = """\
exit status: 0 every mutant was killed and every odd node passed; 1 otherwise.

examples:
  dsdp-conformance selftest
  dsdp-conformance selftest --only verifier-leaks-errors voter-votes-twice
  dsdp-conformance selftest --json > selftest.json
  dsdp-conformance run --exec ./testee --html report.html --selftest selftest.json
"""


def add(verbs: Any) -> None:
    """Puts the command among the others."""
    form = argparse.RawDescriptionHelpFormatter
    parser = verbs.add_parser(
        "selftest",
        help="the suite against broken and odd nodes",
        description=ABOUT,
        epilog=EXAMPLES,
        formatter_class=form,
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these mutants and odd nodes")
    parser.add_argument("--list", action="store_true", dest="show", help="what there is, and what it is meant to show")
    parser.add_argument("--seed", type=int, default=1, help="for all randomness (default: %(default)s)")
    parser.add_argument("--patience", type=float, default=1.0, metavar="X", help="factor on every time limit")
    many = "nodes at one time (default: one for each core, here %(default)s)"
    parser.add_argument("--jobs", type=int, default=JOBS, metavar="N", help=many)
    parser.add_argument("--json", action="store_true", help="the result on standard output, for programs")
    parser.add_argument("--html", type=Path, metavar="FILE", help="the kill matrix as a page of its own")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress")
    parser.set_defaults(act=run)


def run(options: argparse.Namespace) -> int:
    """The command. Raises UnknownName."""
    from conformance.mutants.selftest import selftest

    if options.show:
        print(listing(), end="")
        return PASSED
    found = selftest(
        options.only,
        version=version(),
        seed=options.seed,
        jobs=max(1, options.jobs),
        patience=options.patience,
        tell=(lambda line: None) if options.quiet else (lambda line: print(line, file=sys.stderr, flush=True)),
    )
    if options.html:
        from conformance.report.html import selftest_page

        options.html.write_text(selftest_page(found), "utf-8")
    print(json.dumps(as_json(found), indent=1, ensure_ascii=False) if options.json else text(found))
    return PASSED if found.passed else FAILED


def as_json(found: SelfTest) -> dict[str, Any]:
    """As `$defs/selftest` of report.schema.json has it."""
    return plain(found) | {"passed": found.passed}


def listing() -> str:
    """All mutants and odd nodes."""
    lines = [f"{len(MUTANTS)} mutants, each with the cases that have to kill it:"]
    for mutant in MUTANTS.values():
        lines.append(f"  {mutant.name:<34} {mutant.clause:<9} {mutant.breaks}  [{' '.join(mutant.killers)}]")
    lines.append(f"{len(ODD)} odd nodes, which have to pass all live cases of their role, or those named:")
    for odd in ODD.values():
        named = f"  [{' '.join(odd.cases)}]" if odd.cases else ""
        lines.append(f"  {odd.name:<34} {' '.join(odd.clauses):<9} {odd.is_odd}{named}")
    return "\n".join(lines) + "\n"


def text(found: SelfTest) -> str:
    """The kill matrix for a terminal."""
    lines = [f"{'mutant':<34} {'breaks':<9} {'killed by'}"]
    for kill in found.kills:
        lines.append(f"{kill.name:<34} {kill.clause:<9} {_cells(kill)}")
    if found.odd_nodes:
        lines += ["", f"{'odd node':<34} {'passed':<9} cases"]
    for odd in found.odd_nodes:
        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(odd.counts.items()))
        lines.append(f"{odd.name:<34} {'yes' if odd.passed else 'NO':<9} {counts or odd.trouble}")
        lines += [f"    {case}: {reason}" for case, reason in odd.failed.items()]
    lines.append("")
    for control in found.controls:
        if not control.passed:
            lines.append(f"the unchanged node ({control.role}) does not pass: {control.trouble}")
            lines += [f"    {case}: {reason}" for case, reason in control.failed.items()]
    asked = sum(sum(control.counts.values()) for control in found.controls)
    passed = sum(control.counts.get("PASS", 0) for control in found.controls)
    lines += [
        f"{found.mutants_killed} of {found.mutants} mutants killed by the cases meant for them; "
        f"{found.odd_passed} of {found.odd} odd nodes passed; "
        f"the unchanged nodes passed {passed} of {asked} cases",
        f"seed {found.seed}, {found.seconds:.0f} s",
    ]
    return "\n".join(lines)


def _cells(kill: Kill) -> str:
    if kill.killed:
        return "  ".join(kill.meant)
    return f"LIVES: {kill.why_not}"
