"""``dsdp-conformance``: does a node speak DSDP?"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from conformance import commands
from conformance.case import Level, Rung
from conformance.commands import CERTIFICATES, INTERRUPTED, PROG, USAGE
from conformance.mutants import command as selftest
from conformance.report.make import Keep, version
from dsdproto.errors import DsdpError
from dsdproto.registry import Role

ABOUT = """\
Finds out whether a node, in any language, speaks DSDP, and says so in a report.

Four rungs, each a badge of its own:
  1  static vectors       one question, one exact answer                --exec
  2  passive transcripts  recorded connections, replayed                --exec
  3  live peer            the suite is the neighbour, over TLS          --exec or --dial
  4  chaos                the suite is the network between nodes        --exec
"""
EXAMPLES = """\
begin here:
  dsdp-conformance list --rung 1                        what the first rung asks
  dsdp-conformance run --exec 'node testee.js' --rung 1
                                                        your code behind eight verbs on stdin and stdout
a node that runs already:
  dsdp-conformance issue                                certificates for it and for the suite
  dsdp-conformance run --dial 127.0.0.1:7051 --role verifier
a report for your project's page:
  dsdp-conformance run --exec 'node testee.js' --html report.html --badges badges/
the vectors alone, for tests of your own:
  dsdp-conformance vectors --write vectors/
one case again, with the same randomness (every failure prints its own line):
  dsdp-conformance run --exec 'node testee.js' --seed 4711 --case verify/verdict-names-deepest

conformance/IMPLEMENTERS.md takes you from nothing to the first rung in ten minutes.
"""
TESTEES = ("exec", "dial", "token_command", "join_command")
"""Options of `run`, one of which has to be there."""
RUN_EXAMPLES = """\
exit status: 0 nothing failed; 1 FAIL, XPASS or ERROR; 2 the run could not begin; 130 interrupted.

examples:
  dsdp-conformance run --exec 'python testee.py' --rung 1 --rung 2
  dsdp-conformance run --exec 'node testee.js' --case 'verify/*' --patience 3
  dsdp-conformance run --dial 10.0.0.7:7051 --role leader --role voter --html report.html
  dsdp-conformance run --exec ./testee --expect known-failures.toml --junit junit.xml
  dsdp-conformance run --token-command 'dsdp token' --join-command 'dsdp join --home {home} {token}'

An expectations file lists known failures (TOML):
  ["verify/verdict-names-deepest"]
  verdict = "FAIL"
  reason = "issue 12: ties go to the highest id"
"""


def parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog=PROG, description=ABOUT, epilog=EXAMPLES, formatter_class=form)
    top.add_argument("--version", action="version", version=f"{PROG} {version()}")
    verbs = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = verbs.add_parser("run", help="test a node", epilog=RUN_EXAMPLES, formatter_class=form)
    _door_options(run)
    _selection_options(run)
    _run_options(run)
    run.set_defaults(act=commands.run)

    listing = verbs.add_parser("list", help="cases, clauses, and what no case covers")
    _selection_options(listing)
    listing.add_argument("--clauses", dest="show_clauses", action="store_true", help="clauses with their cases")
    listing.add_argument("--uncovered", action="store_true", help="clauses without case or excuse; 1 if any is a MUST")
    listing.add_argument("--json", action="store_true", help="for programs")
    listing.set_defaults(act=commands.listing)

    plain = verbs.add_parser("vectors", help="the static vectors, to use in tests of your own")
    plain.add_argument("family", nargs="*", metavar="FAMILY", help="print these as JSON (default: what there is)")
    plain.add_argument("--write", type=Path, metavar="DIR", help="write them in full, one file for each family")
    plain.set_defaults(act=commands.vectors)

    selftest.add(verbs)

    again = verbs.add_parser("report", help="render a JSON report again")
    again.add_argument("report", type=Path, metavar="REPORT.json")
    _outputs(again)
    again.set_defaults(act=commands.render)

    beside = verbs.add_parser("compare", help="two reports: what got worse, what got better; 1 if anything got worse")
    beside.add_argument("before", type=Path, metavar="BEFORE.json")
    beside.add_argument("after", type=Path, metavar="AFTER.json")
    beside.add_argument("--json", action="store_true", help="for programs")
    beside.set_defaults(act=commands.beside)

    issue = verbs.add_parser("issue", help="make an authority, and the certificate of a node that is to be dialed")
    issue.add_argument(
        "directory", type=Path, nargs="?", default=CERTIFICATES, help=f"where to (default: {CERTIFICATES})"
    )
    issue.set_defaults(act=commands.certificates)
    return top


def _door_options(run: argparse.ArgumentParser) -> None:
    door = run.add_argument_group("the testee").add_mutually_exclusive_group()
    door.add_argument(
        "--exec", metavar="CMD", help="a program that answers JSON lines on its standard input and output"
    )
    door.add_argument("--dial", metavar="HOST:PORT", help="a node that runs already, with certificates from `issue`")
    dial = run.add_argument_group("with --dial")
    dial.add_argument(
        "--certificates",
        type=Path,
        default=CERTIFICATES,
        metavar="DIR",
        help="what `issue` made (default: %(default)s)",
    )
    dial.add_argument(
        "--listen",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="where the suite listens in the cases about a node that dials; the node must have been told to dial it. "
        "Several of them save time",
    )
    joining = run.add_argument_group("joining a cluster (beside --exec or --dial, or alone)")
    joining.add_argument(
        "--token-command",
        metavar="CMD",
        help="prints a join token and serves it until it is used; the suite brings it",
    )
    joining.add_argument(
        "--join-command",
        metavar="CMD",
        help="uses the token that stands in it as {token}, keeps what it has in the directory {home}, and exits with 0 "
        "if it became a node; the suite is the authority",
    )


def _selection_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("which cases (each may be given several times)")
    group.add_argument("--rung", type=int, action="append", choices=[*Rung], default=[], help="1, 2, 3 or 4")
    roles = [role.name.lower() for role in Role]
    group.add_argument("--role", action="append", choices=roles, default=[], help="cases that test this role")
    group.add_argument("--case", action="append", default=[], metavar="ID", help="by id; * and ? are wild; or a family")
    group.add_argument("--section", action="append", default=[], metavar="N", help="of SPEC.md, such as 9 or 9.2")
    group.add_argument("--clause", action="append", default=[], metavar="ID", help="such as V-7")
    group.add_argument("--level", action="append", choices=[level.name for level in Level], default=[])


def _run_options(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group("how")
    group.add_argument(
        "--seed", type=_natural, help="for all randomness, grease included (default: drawn, and printed)"
    )
    group.add_argument(
        "--patience", type=_factor, default=1.0, metavar="X", help="factor on every time limit (default 1)"
    )
    many = "live cases at one time, for each role (default 8)"
    group.add_argument("--jobs", type=_count, default=8, metavar="N", help=many)
    group.add_argument("--expect", type=Path, metavar="FILE", help="known failures (TOML); see below")
    group.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    group.add_argument("--verbose", "-v", action="store_true", help="a line for each case")
    group.add_argument("--quiet", "-q", action="store_true", help="no progress")
    _outputs(run)
    run.add_argument(
        "--wire", choices=[*Keep], default=Keep.TROUBLE, type=Keep, help="whose wire logs go into the reports"
    )


def _outputs(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("reports")
    if command.prog.endswith("run"):
        group.add_argument("--json", type=Path, metavar="FILE", help="all of it (report.schema.json)")
    group.add_argument("--html", type=Path, metavar="FILE", help="one page for people, self-contained")
    group.add_argument(
        "--selftest",
        type=Path,
        metavar="FILE",
        help="what `selftest --json` printed: the kill matrix goes into the page",
    )
    group.add_argument("--badges", type=Path, metavar="DIR", help="one SVG for each rung, for your project's page")
    group.add_argument("--junit", type=Path, metavar="FILE", help="JUnit XML for continuous integration")


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def _factor(text: str) -> float:
    value = float(text)
    if not 0 < value < 1000:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 and 1000")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(words)
    options.command_line = shlex.join([PROG, *words])
    if options.command == "run" and not any(getattr(options, name) is not None for name in TESTEES):
        parser().error("run: name the testee: --exec, --dial, --token-command or --join-command")
    try:
        return options.act(options)
    except DsdpError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        # Whoever read the output has had enough; what is buffered must not be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return USAGE
    except OSError as error:
        print(f"{PROG}: {error.filename or 'system error'}: {error.strerror or error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
