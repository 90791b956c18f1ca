"""``dsdp profile``: how long a model's steps take on this machine, for the planning simulator."""

from __future__ import annotations

import argparse
import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reference_nodes.cli.options import UsageError, add_command, add_json, count
from reference_nodes.cli.output import Progress, say, table

if TYPE_CHECKING:
    from reference_nodes.profile.document import Profile
    from reference_nodes.profile.grid import Grid


def add(parsers: Any) -> None:
    parser = add_command(
        parsers,
        "profile",
        run,
        "how long a model's steps take on this machine, as a file for the simulator",
        "Time a verifier's or a drafter's steps by rows, sessions and length of the context, on one thread, every kind "
        "in turn, and write medians and deciles. With --beside, time them also while another model computes on this "
        "machine: two that share one memory bus slow each other down. A scenario names the file as a device "
        '(kind = "table").',
        "dsdp profile verifier -o target.json\n"
        "dsdp profile drafter --draft-model smollm2-draft --beside smollm2 -o draft.json\n"
        "dsdp profile verifier --beside smollm2-draft --quick --json -o target.json",
    )
    parser.add_argument("role", choices=("verifier", "drafter"), help="what the model is to do")
    parser.add_argument("--model", "-m", default="smollm2", metavar="MODEL", help="target (default: %(default)s)")
    parser.add_argument(
        "--draft-model", default="smollm2-draft", metavar="MODEL", help="of a drafter (default: %(default)s)"
    )
    parser.add_argument(
        "--beside", metavar="MODEL", help="measure also while this computes: a draft model for a verifier, or a target"
    )
    parser.add_argument("--out", "-o", type=Path, required=True, metavar="FILE.json", help="where to write")
    parser.add_argument("--quick", action="store_true", help="fewer cells, and each fewer times: some ten seconds")
    for name, what in (("rows", "rows"), ("sessions", "sessions in a step"), ("contexts", "prefix lengths")):
        parser.add_argument(f"--{name}", type=numbers, metavar="N,N,...", help=f"{what} to measure")
    parser.add_argument("--repeat", type=count(1), metavar="N", help="samples of each cell")
    parser.add_argument(
        "--temperature", "-t", type=float, default=0.0, metavar="T", help="0 is greedy (default: %(default)s)"
    )
    add_json(parser, "print the profile as JSON instead of a table")


def numbers(text: str) -> tuple[int, ...]:
    """An argparse type: whole numbers from 1 on, with commas between them."""
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers with commas between them, as 1,2,4") from None
    return values


def grid_of(args: argparse.Namespace) -> Grid:
    """The usual grid of the role with what the options say instead. Raises :class:`UsageError`."""
    from reference_nodes.profile.grid import GridError, usual

    given = {name: getattr(args, name) for name in ("rows", "sessions", "contexts", "repeat")}
    try:
        chosen = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(usual(args.role, args.quick), **chosen)
    except GridError as error:
        raise UsageError(str(error)) from error


def run(args: argparse.Namespace) -> int:
    from dsdproto.errors import LocalError
    from reference_nodes.cli.demo_command import ensure_model
    from reference_nodes.profile.load import Neighbour
    from reference_nodes.profile.loading import load_stepper
    from reference_nodes.profile.measure import Sampler, measure
    from reference_nodes.profile.overhead import node_costs

    grid = grid_of(args)
    if not args.out.absolute().parent.is_dir():
        raise UsageError(f"--out {args.out}: the directory {args.out.absolute().parent} does not exist")
    ensure_model(args.model)
    own, other = (args.model, "drafter") if args.role == "verifier" else (args.draft_model, "verifier")
    say(f"loading {own}{f', and {args.beside} beside it' if args.beside else ''}")
    try:
        stepper = load_stepper(args.role, own, args.model, args.temperature)
    except LocalError as error:
        raise UsageError(str(error)) from error
    # For a verifier any drafter does: what it says costs the leader the same.
    draft = args.draft_model if args.role == "drafter" else args.beside or "ngram"
    node = node_costs(args.role, args.model, draft, say)
    progress = Progress()
    with Neighbour(other, args.beside, args.model) if args.beside else nullcontext() as neighbour:
        sampler = Sampler(stepper, grid, neighbour)
        measure(sampler, progress)
    progress.finish()
    profile = sampler.profile(node)
    profile.save(args.out)
    print(json.dumps(profile.document()) if args.json else text(profile, args.out))
    return 0


def text(profile: Profile, out: Path) -> str:
    """For people."""
    beside = {(step.rows, step.sessions, step.context): step for step in profile.beside_steps}
    rows = []
    for step in profile.steps:
        low, middle, high = (f"{1e3 * value:.1f}" for value in step.seconds)
        row: tuple[Any, ...] = (f"{step.rows} x {step.sessions} x {step.context}", middle, f"{low} to {high}")
        other = beside.get((step.rows, step.sessions, step.context))
        if other is not None:
            row += (f"{1e3 * other.seconds[1]:.1f}", f"{other.seconds[1] / step.seconds[1]:.2f}x")
        rows.append(row)
    head: tuple[str, ...] = ("rows x sessions x context", "ms", "q10 to q90")
    if beside:
        head += (f"beside {profile.beside_model}", "slower")
    prefill = "\n".join(
        f"prefill of {part.positions} after {part.context}: {1e3 * part.seconds[1]:.0f} ms" for part in profile.prefill
    )
    cpu, cores = profile.machine["cpu"], profile.machine["cores"]
    title = f"{profile.role} {profile.model} on {cpu} ({cores} cores), one thread"
    own, per, each = (f"{1e3 * profile.own(what):.2f}" for what in ("overhead", "session", "message"))
    overhead = f"the node itself: {own} ms a step, {per} for each session in it, {each} for a message meanwhile"
    return f"{title}\n\n{table(head, rows)}\n{prefill}\n{overhead}\nwritten to {out}"
