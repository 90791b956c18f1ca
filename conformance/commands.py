"""What the subcommands of ``dsdp-conformance`` do. Each takes the parsed options and gives the exit status."""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import shlex
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from conformance import case as cases
from conformance.case import Level, Registry, Rung
from conformance.clauses import known
from conformance.coverage import coverage
from conformance.expectations import read as read_expectations
from conformance.mutants.results import SelfTest
from conformance.report.compare import compare
from conformance.report.compare import text as comparison_text
from conformance.report.make import report
from conformance.report.model import Report, ReportError, built, plain
from conformance.report.terminal import TerminalProgress, summary
from conformance.runner import Options, Runner
from conformance.selection import Selection
from conformance.testee import Door
from dsdproto.errors import DsdpError
from dsdproto.registry import Role

PASSED, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
PROG = "dsdp-conformance"
CERTIFICATES = Path("dsdp-conformance-certificates")
"""Where `issue` puts them and `run --dial` looks for them."""


def run(options: argparse.Namespace) -> int:
    registry = _registry()
    selection = _selection(options)
    if options.dial and not selection.rungs:
        selection = replace(selection, rungs=(Rung.LIVE,))  # the others have nothing to ask a node that already runs
    chosen = selection.of(registry)
    if options.exec is None and options.dial is None:
        # Whoever has these commands alone is asked nothing else.
        chosen = [case for case in chosen if case.joining]
        if not chosen:
            raise DsdpError("none of these cases is about joining: name a node too, with --exec or --dial")
    expectations = read_expectations(options.expect, registry) if options.expect else {}
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    how = Options(seed, options.patience, options.jobs, options.fail_fast, expectations)
    progress = None
    if not options.quiet:
        print(f"seed {seed}", file=sys.stderr)
        progress = TerminalProgress(sys.stderr, colour=_colour(sys.stderr), verbose=options.verbose)
    started, begin = datetime.now(UTC), time.monotonic()
    with _door(options) as door:
        about = door.about()
        if options.dial and options.certificates != CERTIFICATES:
            about = replace(about, door=f"{about.door} --certificates {shlex.quote(str(options.certificates))}")
        runner = Runner(door, how, progress)
        results = runner.run(chosen)
    made = report(
        results,
        about,
        how,
        started=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        seconds=time.monotonic() - begin,
        command=options.command_line,
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        interrupted=runner.interrupted,
        keep=options.wire,
        suite=registry,
        roles=selection.roles,
    )
    made = _with_selftest(made, options.selftest)
    if options.json:
        made.save(options.json)
    _render(made, options)
    print(summary(made, colour=_colour(sys.stdout)), end="")
    if runner.interrupted == "interrupted":
        return INTERRUPTED
    return PASSED if made.passed else FAILED


def _door(options: argparse.Namespace) -> Door:
    from conformance.door.joining import JoinDoor

    return JoinDoor(options.token_command, options.join_command, _node_door(options))


def _node_door(options: argparse.Namespace) -> Door | None:
    """The door of the node itself; None: only joining is under test."""
    if options.exec is not None:
        from conformance.door.exec import ExecDoor

        return ExecDoor(options.exec)
    if options.dial is None:
        return None
    from conformance.door.dial import Dial, DialDoor, parse_address
    from conformance.door.pki import Authority

    dial = Dial.at(options.dial, Authority.load(options.certificates))
    roles = tuple(Role[name.upper()] for name in options.role)
    return DialDoor(dial, roles, tuple(parse_address(text) for text in options.listen))


def _registry() -> Registry:
    return cases.load()


def _selection(options: argparse.Namespace) -> Selection:
    return Selection(
        rungs=tuple(Rung(rung) for rung in options.rung),
        roles=tuple(Role[name.upper()] for name in options.role),
        ids=tuple(options.case),
        sections=tuple(options.section),
        clauses=tuple(options.clause),
        levels=tuple(Level[name] for name in options.level),
    )


def _colour(stream: object) -> bool:
    return bool(getattr(stream, "isatty", bool)()) and not os.environ.get("NO_COLOR")


# ---------------------------------------------------------------- list


def listing(options: argparse.Namespace) -> int:
    registry = _registry()
    if options.uncovered:
        return _uncovered(registry, options.json)
    if options.show_clauses:
        return _clauses(registry, options)
    chosen = _selection(options).of(registry)
    if options.json:
        keys = ("id", "title", "clauses", "revision", "bracket", "needs", "source")
        entries = [
            {key: getattr(case, key) for key in keys}
            | {"rung": int(case.rung), "level": case.level.name, "role": case.role.name.lower() if case.role else ""}
            for case in chosen
        ]
        print(json.dumps(plain(entries), indent=1))
        return PASSED
    for rung in Rung:
        here = [case for case in chosen if case.rung is rung]
        if here:
            print(f"rung {int(rung)}: {rung.title} ({len(here)} cases)")
            width = max(len(case.id) for case in here)
            for case in here:
                print(f"  {case.id:<{width}}  {case.level.name:<6}  {case.title}  [{' '.join(case.clauses)}]")
    return PASSED


def _clauses(registry: Registry, options: argparse.Namespace) -> int:
    table = coverage(registry)
    chosen = [
        clause
        for clause in known().values()
        if (not options.level or clause.level.name in options.level)
        and (not options.clause or clause.id in options.clause)
        and (not options.section or any(f"{clause.section}.".startswith(f"{section}.") for section in options.section))
    ]
    if options.json:
        entries = [
            clause.to_json() | {"cases": table.cases.get(clause.id, ()), "excused": table.excused.get(clause.id, "")}
            for clause in chosen
        ]
        print(json.dumps(entries, indent=1, ensure_ascii=False))
        return PASSED
    for clause in chosen:
        count = len(table.cases.get(clause.id, ()))
        tested = f"{count} case{'s' * (count != 1)}" if count else "excused" if clause.id in table.excused else "-"
        words = clause.title or clause.text.partition(". ")[0][:80]
        print(f"{clause.id:<10} r{clause.revision} {clause.level.name:<6} {clause.section:<5} {tested:<9} {words}")
    return PASSED


def _uncovered(registry: Registry, as_json: bool) -> int:
    table = coverage(registry)
    musts = [clause for clause in table.uncovered if clause.level is Level.MUST]
    if as_json:
        print(json.dumps([clause.to_json() for clause in table.uncovered], indent=1, ensure_ascii=False))
    else:
        for clause in table.uncovered:
            print(f"{clause.id:<10} {clause.level.name:<6} {clause.section:<5} {clause.title or clause.text[:80]}")
        total = sum(clause.level is Level.MUST for clause in known().values())
        print(f"{len(musts)} of {total} MUST clauses have neither case nor excuse")
    return FAILED if musts else PASSED


# ---------------------------------------------------------------- vectors


def vectors(options: argparse.Namespace) -> int:
    from conformance.static.vectors import files, load

    families = options.family or files()
    if unknown := [name for name in families if name not in files()]:
        raise DsdpError(f"there are no vectors {unknown[0]!r}; there are {', '.join(files())}")
    if options.write:
        options.write.mkdir(parents=True, exist_ok=True)
        for name in families:
            lines = ",\n".join(json.dumps(each) for each in load(name))
            (options.write / f"{name}.json").write_text(f'{{"vectors": [\n{lines}\n]}}\n', "utf-8")
        print(f"{sum(len(load(name)) for name in families)} vectors in {len(families)} files: {options.write}")
    elif options.family:
        print(json.dumps([each for name in families for each in load(name)], indent=1))
    else:
        for name in families:
            cited = dict.fromkeys(clause for each in load(name) for clause in each["clauses"])
            print(f"{name:<12} {len(load(name)):>5}  {' '.join(cited)}")
        print(f"{'all':<12} {sum(len(load(name)) for name in families):>5}")
    return PASSED


# ---------------------------------------------------------------- report, compare, issue


def _with_selftest(made: Report, path: Path | None) -> Report:
    """Raises ReportError for a file that is none."""
    if path is None:
        return made
    try:
        found = built(SelfTest, json.loads(path.read_text("utf-8")), str(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{path}: no JSON: {error}") from error
    return replace(made, selftests=[found])


def _render(made: Report, options: argparse.Namespace) -> None:
    if options.html:
        from conformance.report.html import page

        options.html.write_text(page(made), "utf-8")
    if options.junit:
        from conformance.report.junit import xml

        options.junit.write_text(xml(made), "utf-8")
    if options.badges:
        from conformance.report.badges import svg

        options.badges.mkdir(parents=True, exist_ok=True)
        for badge in made.badges:
            (options.badges / f"rung-{badge.rung}.svg").write_text(svg(badge, made), "utf-8")


def render(options: argparse.Namespace) -> int:
    made = _with_selftest(Report.load(options.report), options.selftest)
    _render(made, options)
    print(summary(made, colour=_colour(sys.stdout)), end="")
    return PASSED if made.passed else FAILED


def beside(options: argparse.Namespace) -> int:
    found = compare(Report.load(options.before), Report.load(options.after))
    if options.json:
        print(json.dumps(plain(found) | {"worse": found.worse}, indent=1, ensure_ascii=False))
    else:
        print(comparison_text(found), end="")
    return FAILED if found.worse else PASSED


def certificates(options: argparse.Namespace) -> int:
    from conformance.door.pki import issue

    _, node = issue(options.directory)
    print(f"for the node: {node}  (node.key, node.pem, authority.pem)")
    print(
        f"for the suite: {PROG} run --dial HOST:PORT --role ROLE --certificates {shlex.quote(str(options.directory))}"
    )
    return PASSED
