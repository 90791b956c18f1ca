"""``dsdp bench fidelity``: does the planning simulator say what the nodes then do?

A target and a drafter run as processes of this machine, first next to each other, then at the ends of longer and longer
roads, with one session and with several at a time. The simulator predicts the same runs from four things that were
measured before or in between, and none of which knows the runs: profiles of both models (each alone, and while the
other computes), what nodes and this process need besides the models (sessions of another text), a record of what the
drafter gets right, and a PING over the idle link. Nothing is fitted.

Profiles and live runs take turns, so that whatever else the machine does hits both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trio

from dsdproto.wire.messages import Contract
from reference_nodes.bench.cluster import contracts, shortened
from reference_nodes.bench.distant import Distant, open_distant
from reference_nodes.bench.fidelity_cells import Cell, Request, Run, load_live, save_live
from reference_nodes.bench.fidelity_plan import DRAFTER_FILE, RECORD_FILE, VERIFIER_FILE, Setting, predict
from reference_nodes.cli.generation import generate
from reference_nodes.cli.options import Prompt
from reference_nodes.cli.output import Progress, say, table
from reference_nodes.cli.texts import Vocabulary
from reference_nodes.offers import LoadedDraft, LoadedTarget, load_drafter, load_verifier
from reference_nodes.profile.grid import Grid
from reference_nodes.profile.load import Neighbour
from reference_nodes.profile.loading import ids_of
from reference_nodes.profile.measure import Sampler
from reference_nodes.profile.overhead import costs_of, middle, serve
from reference_nodes.profile.record import StreamRecord, read_records, record_stream, write_records
from reference_nodes.profile.steps import DraftStepper, VerifyStepper, sampling_of

LIVE_FILE = "fidelity-live.json"
VERIFIER_GRID = Grid((1, 2, 3, 4, 6, 9, 14, 40), (1, 2, 4), (64, 160), (32, 64), 1)
DRAFTER_GRID = Grid((1, 2, 4, 8), (1, 2, 4), (64, 160), (32, 64, 128), 1)
WIDTH = 3
WARM_UP_TOKENS = 8
PREDICTIONS = 9
"""Runs of the simulator for each cell, each with luck of its own in how long steps take."""
CELL_AIM, MEAN_AIM = 0.10, 0.05


async def bench_fidelity(args: argparse.Namespace, prompts: list[Prompt], logs: Path) -> dict[str, Any]:
    """The whole benchmark. Keys as printed by ``--json``."""
    if args.again is not None:
        return await trio.to_thread.run_sync(predict_all, args.again)
    folder: Path = args.keep or logs
    await measure_all(args, prompts, folder, logs)
    say("predicting the same runs")
    return await trio.to_thread.run_sync(predict_all, folder)


async def measure_all(args: argparse.Namespace, prompts: list[Prompt], folder: Path, logs: Path) -> None:
    """Profiles, record and live runs, left in ``folder``."""
    asked = contracts(Vocabulary(args.model), prompts, args.max_tokens, args.temperature, args.seed)
    cells = [Cell(rtt / 1e3, sessions) for sessions in args.sessions for rtt in args.rtt]
    progress = Progress()
    target = await trio.to_thread.run_sync(load_verifier, args.model, say)
    drafter = await trio.to_thread.run_sync(load_drafter, args.draft_model, args.model, say)
    names = (args.model, args.draft_model)
    write_records(folder / RECORD_FILE, await trio.to_thread.run_sync(_record, target, drafter, asked, names, progress))
    with ExitStack() as stack:
        samplers = _samplers(target, drafter, names, args.temperature, stack)
        for sampler in samplers:
            await trio.to_thread.run_sync(sampler.warm_up)
        total = args.repeat * len(cells)
        bases, costs = [], []
        for repeat in range(args.repeat):
            # Where a process finds its memory decides some per cent of what it does: each repeat has nodes of its own.
            traces = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dsdp-")))
            async with open_distant(*names, say, logs, traces=traces) as distant:
                bases.append(await distant.ping())
                await _warm_up(distant, asked, cells)
                served = await serve(distant, args.model, times=1)
                for number in range(len(cells)):
                    done, cell = repeat * len(cells) + number, cells[(repeat + number) % len(cells)]
                    what = f"{cell.sessions} session{'s' if cell.sessions > 1 else ''}, {1e3 * cell.rtt:g} ms"
                    progress(what, done, total)
                    if done % args.profile_every == 0:
                        for sampler in samplers:
                            await trio.to_thread.run_sync(sampler.round)
                    cell.live.append(await _live(distant, asked, cell))
            costs.append(costs_of(distant, traces, served))
        progress("done", total, total)
        progress.finish()
    node = middle(costs)
    for sampler, own, name in zip(samplers, (node.verifier, node.drafter), (VERIFIER_FILE, DRAFTER_FILE)):
        sampler.profile(own).save(folder / name)
    asked_for = {"max_tokens": args.max_tokens, "temperature": args.temperature, "repeat": args.repeat}
    about = {"base_rtt": statistics.median(bases), "passing": node.passing, "cores": os.cpu_count() or 1} | asked_for
    save_live(folder / LIVE_FILE, about | {"load_average": round(os.getloadavg()[2], 2)}, cells)


def predict_all(folder: Path) -> dict[str, Any]:
    """Predict the runs whose measurements lie in ``folder``, and compare. The same files give the same report.

    Raises LiveError, ProfileError, RecordError, ScenarioError.
    """
    about, cells = load_live(folder / LIVE_FILE)
    records = read_records(folder / RECORD_FILE)
    setting = Setting(folder, about["base_rtt"], about["passing"], about["cores"])
    for cell in cells:
        cell.predicted = [_predicted(setting, cell, len(records), seed) for seed in range(PREDICTIONS)]
    return report(about, cells, records, setting)


def _record(
    target: LoadedTarget,
    drafter: LoadedDraft,
    asked: Sequence[Contract],
    names: tuple[str, str],
    progress: Callable[[str, int, int], None],
) -> list[StreamRecord]:
    records = []
    for number, contract in enumerate(asked):
        progress("recording", number, len(asked))
        records.append(record_stream(target.executor, drafter.executor, contract, WIDTH, names))
    return records


def _samplers(
    target: LoadedTarget, drafter: LoadedDraft, names: tuple[str, str], temperature: float, stack: ExitStack
) -> list[Sampler]:
    model, draft = names
    text, sampling = ids_of(model), sampling_of(temperature)
    verifying = VerifyStepper(target.executor, model, text, sampling)
    drafting = DraftStepper(drafter.executor, draft, text, sampling)
    beside = stack.enter_context(Neighbour("drafter", draft, model))
    other = stack.enter_context(Neighbour("verifier", model, model))
    return [Sampler(verifying, VERIFIER_GRID, beside), Sampler(drafting, DRAFTER_GRID, other)]


# ---------------------------------------------------------------- live


async def _warm_up(distant: Distant, asked: Sequence[Contract], cells: Sequence[Cell]) -> None:
    short = [shortened(contract, WARM_UP_TOKENS) for contract in asked]
    most = max(cell.sessions for cell in cells)
    await _live(distant, short, Cell(0.0, most))


async def _live(distant: Distant, asked: Sequence[Contract], cell: Cell) -> Run:
    """All of ``asked`` once: of k clients, the first takes requests 0, k, 2k, ..."""
    distant.relay.rtt = cell.rtt
    done: list[Request] = []

    async def client(number: int) -> None:
        for index in range(number, len(asked), cell.sessions):
            each = await generate(distant.node, asked[index], max_drafters=1, leader=distant.leader)
            done.append(Request(index, len(each.tokens), each.first, each.seconds - each.first, each.rounds))

    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(min(cell.sessions, len(asked))):
            nursery.start_soon(client, number)
    seconds = trio.current_time() - begin
    for child in (distant.target, distant.drafter):
        if child.ended:
            raise child.fault("ended during the benchmark")
    return Run(tuple(sorted(done, key=lambda request: request.number)), seconds)


# ---------------------------------------------------------------- predicted


def _predicted(setting: Setting, cell: Cell, requests: int, seed: int) -> Run:
    done: list[Request] = []

    def take(row: Any) -> None:
        if row.status != "done":
            raise RuntimeError(f"request {row.number} ended as {row.status}: {row.reason}")
        done.append(Request(row.number, row.tokens, row.ttft, row.e2e - row.ttft, row.rounds))

    seconds = predict(setting, cell.rtt, cell.sessions, requests, seed, take)
    return Run(tuple(sorted(done, key=lambda request: request.number)), seconds)


# ---------------------------------------------------------------- report


def report(
    about: dict[str, Any], cells: Sequence[Cell], records: Sequence[StreamRecord], setting: Setting
) -> dict[str, Any]:
    """For ``--json``."""
    documents = [cell.document() for cell in cells]
    errors = {name: [abs(document[f"{name}_error"]) for document in documents] for name in ("tpot", "throughput")}
    every = errors["tpot"] + errors["throughput"]
    return {
        "model": records[0].target,
        "draft_model": records[0].drafter,
        "prompts": len(records),
        "tokens": sum(record.tokens for record in records),
        "max_tokens": about.get("max_tokens"),
        "temperature": records[0].temperature,
        "repeat": about.get("repeat"),
        "base_rtt_ms": round(1e3 * setting.base_rtt, 3),
        "slowdown_beside": {role.name.lower(): round(each.slowdown, 3) for role, each in setting.tables.items()},
        "load_average": about.get("load_average"),
        "cells": documents,
        "mean_error": {name: round(statistics.mean(values), 4) for name, values in errors.items()},
        "worst_error": {name: round(max(values), 4) for name, values in errors.items()},
        "cells_within_10_percent": sum(value <= CELL_AIM for value in every),
        "of": len(every),
        "aims_met": max(every) <= CELL_AIM and statistics.mean(every) <= MEAN_AIM,
    }


def fidelity_text(found: dict[str, Any]) -> str:
    """For people."""
    rows = []
    for cell in found["cells"]:
        live, predicted = cell["live"], cell["predicted"]
        low, high = live["tpot_ms_range"]
        rows.append(
            (
                f"{cell['sessions']} x {cell['added_rtt_ms']:g} ms",
                f"{live['tpot_ms']:.1f} ({low:.1f} to {high:.1f})",
                f"{predicted['tpot_ms']:.1f}",
                f"{100 * cell['tpot_error']:+.1f} %",
                f"{live['tokens_per_s']:.1f}",
                f"{predicted['tokens_per_s']:.1f}",
                f"{100 * cell['throughput_error']:+.1f} %",
                f"{live['tokens_per_round']:.2f} / {predicted['tokens_per_round']:.2f}",
            )
        )
    head = ("sessions x delay", "TPOT, ms", "predicted", "error", "tokens/s", "predicted", "error", "tokens/round")
    mean, worst = found["mean_error"], found["worst_error"]
    slow = found["slowdown_beside"]
    lines = [
        f"{found['model']} and {found['draft_model']}, {found['prompts']} prompts of at most {found['max_tokens']} "
        f"tokens, {found['repeat']} times each; delay is added round trip, live / predicted",
        "",
        table(head, rows),
        "",
        f"mean error: TPOT {100 * mean['tpot']:.1f} %, throughput {100 * mean['throughput']:.1f} %; "
        f"worst {100 * worst['tpot']:.1f} % and {100 * worst['throughput']:.1f} %",
        f"{found['cells_within_10_percent']} of {found['of']} figures within 10 %; "
        f"the aims (each within 10 %, 5 % in the mean) are {'met' if found['aims_met'] else 'not met'}",
        f"beside each other the target takes {slow['verifier']:.2f}x and the drafter {slow['drafter']:.2f}x as long; "
        f"load average {found['load_average']}",
    ]
    return "\n".join(lines)
