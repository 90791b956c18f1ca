"""``dsdp bench failover``: what a client sees when a machine dies in the middle of its stream.

Each run is one session of the `quorum` profile on one of three nodes. At a chosen token a node is killed or stopped;
the client keeps reading. Then the stream is compared with that of the target alone, and the node comes back with its
journal. The *stall* is the longest time between two blocks from the fault on.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import random
import signal
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from dsdproto.registry import CommitProfile
from dsdproto.roles.client import Committed, Interrupted, Resumed
from dsdproto.wire.messages import Contract
from reference_nodes.backends.loading import load_target
from reference_nodes.bench.alone import decode_alone
from reference_nodes.bench.cluster import contracts
from reference_nodes.bench.voters import VOTERS, VoterCluster, open_voters
from reference_nodes.cli.local import draft_names
from reference_nodes.cli.options import Prompt
from reference_nodes.cli.output import Progress, figures, say
from reference_nodes.cli.processes import Child
from reference_nodes.cli.texts import Vocabulary
from reference_nodes.client import SessionFailed, open_session
from reference_nodes.models_store import locate

FAULTS = ("kill-leader", "stop-leader", "kill-follower", "stop-follower")
PROMPTS = (
    Prompt("A train leaves at 3 pm at 60 km/h. When has it gone 150 km?"),
    Prompt("Explain in a few sentences why the sky is blue and the evening sun is red."),
    Prompt("Write a short story about a lighthouse keeper who finds a letter in a bottle."),
)


@dataclass(slots=True)
class Run:
    """One stream with one fault in it. Times in seconds."""

    fault: str
    at_token: int
    blocks: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """(position after the prompt, tokens) as they were delivered"""
    times: list[float] = field(default_factory=list)
    """when each came"""
    struck: float | None = None
    views: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    failure: str = ""

    @property
    def stall(self) -> float:
        """The longest time without a block, from the last one before the fault on."""
        assert self.struck is not None
        before = [at for at in self.times if at <= self.struck]
        after = [*before[-1:], *(at for at in self.times if at > self.struck)]
        return max((late - early for early, late in itertools.pairwise(after)), default=0.0)

    def compare(self, expected: tuple[int, ...]) -> dict[str, int]:
        """Tokens that are missing, came twice, or are others than the target alone would have said."""
        seen: dict[int, int] = {}
        repeated = changed = 0
        for position, tokens in self.blocks:
            for place, token in enumerate(tokens, position):
                repeated += place in seen
                changed += seen.setdefault(place, token) != token or place >= len(expected) or expected[place] != token
        lost = sum(place not in seen for place in range(len(expected)))
        return {"lost": lost, "repeated": repeated, "changed": changed}


async def bench_failover(args: argparse.Namespace, prompts: list[Prompt], logs: Path) -> dict[str, Any]:
    """The whole benchmark. Keys as printed by ``--json``."""
    vocabulary = Vocabulary(args.model)
    drafters = draft_names(args.drafters, args.model) if args.drafters != "0" else []
    backend = await trio.to_thread.run_sync(load_target, locate(args.model))
    solo = contracts(vocabulary, prompts, args.max_tokens, args.temperature, args.seed)
    expected = [await trio.to_thread.run_sync(decode_alone, backend, contract) for contract in solo]
    asked = [with_quorum(contract) for contract in solo]
    chance = random.Random(args.seed)
    progress = Progress()
    runs: list[Run] = []
    compared: list[dict[str, int]] = []
    async with open_voters(args.model, drafters, say, logs) as cluster:
        for number in range(args.runs):
            which = number % len(asked)
            whole = expected[which].tokens
            at = chance.randrange(len(whole) // 8, max(len(whole) * 3 // 4, len(whole) // 8 + 1))
            so_far = f", stalls so far {statistics.median(each.stall for each in runs):.2f} s" if runs else ""
            progress(f"run {number + 1}: {args.fault}{so_far}", number, args.runs)
            run = await one_run(cluster, asked[which], args.fault, number % VOTERS, at, args.patience)
            runs.append(run)
            compared.append(run.compare(whole))
            await recover(cluster, args.fault, number % VOTERS)
        progress("done", args.runs, args.runs)
        progress.finish()
    return report(args, drafters, runs, compared)


def with_quorum(contract: Contract) -> Contract:
    """The same stream, under the `quorum` profile."""
    return dataclasses.replace(contract, commit_profile=int(CommitProfile.QUORUM))


def victim(fault: str, leader: int) -> int:
    """Number of the node that the fault strikes."""
    return leader if fault.endswith("leader") else (leader + 1) % VOTERS


async def one_run(
    cluster: VoterCluster, contract: Contract, fault: str, leader: int, at: int, patience: float
) -> Run:
    """One session led by node ``leader``; the fault strikes when ``at`` tokens have come."""
    run = Run(fault, at)
    struck = cluster.voters[victim(fault, leader)]
    where = cluster.id_of(cluster.voters[leader])
    try:
        async with open_session(cluster.node, contract, leader=where, patience=patience) as session:
            async for item in session:
                match item:
                    case Committed(position, tokens):
                        run.times.append(time.perf_counter())
                        run.blocks.append((position - len(contract.prompt), tokens))
                        if run.struck is None and position + len(tokens) - len(contract.prompt) >= at:
                            strike(struck, fault)
                            run.struck = time.perf_counter()
                    case Interrupted(reason):
                        run.reasons.append(reason)
                    case Resumed(view=view):
                        run.views.append(view)
    except SessionFailed as error:
        run.failure = str(error)
    if run.struck is None:
        strike(struck, fault)
        run.struck = time.perf_counter()
    return run


def strike(child: Child, fault: str) -> None:
    """Kill the process, or stop it: it keeps its connections and says nothing any more."""
    child.process.send_signal(signal.SIGKILL if fault.startswith("kill") else signal.SIGSTOP)


async def recover(cluster: VoterCluster, fault: str, leader: int) -> None:
    """The node comes back: started again with its journal, or let go on."""
    number = victim(fault, leader)
    if fault.startswith("kill"):
        await cluster.restart(number)
    else:
        # Going on before anybody has noticed would make it no fault at all.
        child = cluster.voters[number]
        await cluster.gone(child)
        child.process.send_signal(signal.SIGCONT)
    await cluster.settled()


def report(
    args: argparse.Namespace, drafters: list[str], runs: list[Run], compared: list[dict[str, int]]
) -> dict[str, Any]:
    stalls = [run.stall for run in runs]
    return {
        "model": args.model,
        "draft_models": drafters,
        "fault": args.fault,
        "runs": len(runs),
        "max_tokens": args.max_tokens,
        "stall_median_s": round(statistics.median(stalls), 4),
        "stall_worst_s": round(max(stalls), 4),
        "lost": sum(item["lost"] for item in compared),
        "repeated": sum(item["repeated"] for item in compared),
        "changed": sum(item["changed"] for item in compared),
        "failed": sum(bool(run.failure) for run in runs),
        "interrupted": sum(bool(run.reasons) for run in runs),
        "each": [
            {
                "stall_s": round(run.stall, 4),
                "at_token": run.at_token,
                "tokens": sum(len(tokens) for _, tokens in run.blocks),
                "interruptions": len(run.reasons),
                "views": run.views,
                "failure": run.failure,
                **found,
            }
            for run, found in zip(runs, compared)
        ],
    }


def failover_text(found: dict[str, Any]) -> str:
    """For people."""
    rows = {
        "stall": f"{found['stall_median_s']:.2f} s in the median, {found['stall_worst_s']:.2f} s at worst",
        "tokens": f"{found['lost']} lost, {found['repeated']} repeated, {found['changed']} changed",
        "interrupted": f"{found['interrupted']} of {found['runs']} streams, {found['failed']} failed",
    }
    return f"{found['runs']} runs with {found['model']}, fault: {found['fault']}\n\n{figures(rows)}"
