"""``dsdp bench identity``: every stream against the target alone, in many settings, over real processes and TLS."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from dsdproto.wire.messages import Contract
from reference_nodes.backends.loading import load_target
from reference_nodes.bench.alone import decode_alone
from reference_nodes.bench.cluster import contracts, open_bench, require_whole, stream
from reference_nodes.bench.hf_modes import PLAIN, HfModel
from reference_nodes.bench.truncate import write_truncated
from reference_nodes.cli.generation import Generation, ratio, summary
from reference_nodes.cli.local import LocalCluster, Member, draft_names
from reference_nodes.cli.options import Prompt
from reference_nodes.cli.output import Progress, say, table
from reference_nodes.cli.texts import Vocabulary
from reference_nodes.models_store import locate

TEMPERATURES = (0.0, 0.8)
CHAINS = "leader-chains"
SHARING = 4
"""sessions at once on one verifier"""


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    drafters: int
    chains: bool = False
    sessions: int = 1


@dataclass(slots=True)
class Tally:
    """What one setting gave at one temperature."""

    setting: Setting
    temperature: float
    done: list[Generation] = field(default_factory=list)
    differing: list[dict[str, int]] = field(default_factory=list)

    def add(self, prompt: int, wanted: tuple[int, ...], got: Generation) -> None:
        self.done.append(got)
        if tuple(got.tokens) != wanted:
            self.differing.append({"prompt": prompt, "token": first_difference(wanted, got.tokens)})

    @property
    def identical(self) -> int:
        return len(self.done) - len(self.differing)

    def document(self) -> dict[str, Any]:
        counts = summary(self.done)
        return {
            "setting": self.setting.name,
            "temperature": self.temperature,
            "streams": len(self.done),
            "identical": self.identical,
            "identical_fraction": ratio(self.identical, len(self.done)),
            "tokens": counts["tokens"],
            "drafted": counts["drafted"],
            "accepted": counts["accepted"],
            "mean_acceptance_length": counts["mean_acceptance_length"],
            "differing": self.differing,
        }


def settings(drafters: int) -> list[Setting]:
    """What is tried with this many draft nodes."""
    found = [Setting("no drafter", 0)]
    if drafters:
        found += [Setting("1 drafter, chains", 1, chains=True), Setting("1 drafter, trees", 1)]
    if drafters > 1:
        found += [
            Setting(f"{drafters} drafters, chains", drafters, chains=True),
            Setting(f"{drafters} drafters, trees", drafters),
        ]
    return [*found, Setting(f"{drafters} drafters, trees, {SHARING} sessions at once", drafters, sessions=SHARING)]


def first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    """Index of the first token in which two different streams differ."""
    return next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


async def bench_identity(args: argparse.Namespace, prompts: list[Prompt], logs: Path) -> dict[str, Any]:
    """The whole benchmark. Keys as printed by ``--json``."""
    vocabulary = Vocabulary(args.model)
    with tempfile.TemporaryDirectory(prefix="dsdp-bench-") as scratch:
        drafters = draft_names(args.drafters, args.model)
        if vocabulary.files.kind == "llama" and args.drafters == "3":
            # Two ways of guessing well, and one of guessing badly.
            assert vocabulary.files.path is not None
            drafters[2] = str(write_truncated(vocabulary.files.path, Path(scratch) / "truncated"))
        asked = {t: contracts(vocabulary, prompts, args.max_tokens, t, args.seed) for t in TEMPERATURES}
        wanted = await trio.to_thread.run_sync(_references, args.model, asked)
        leaders = [Member(CHAINS, ("--roles", "leader", "--width", "1"))]
        async with open_bench(args.model, drafters, logs, leaders) as cluster:
            tallies = await _streams(cluster, asked, wanted, settings(len(drafters)))
            require_whole(cluster)
    beside: dict[str, Any] = {"not_run": "--no-transformers"}
    if vocabulary.files.kind != "llama":
        beside = {"not_run": f"{args.model} is not for transformers"}
    elif not args.no_transformers:
        beside = await trio.to_thread.run_sync(_transformers, vocabulary, drafters[:1], asked[0.0])
    streams = sum(len(tally.done) for tally in tallies)
    return {
        "model": vocabulary.name,
        "draft_models": [Path(name).name if "/" in name else name for name in drafters],
        "prompts": len(prompts),
        "max_tokens": args.max_tokens,
        "streams": streams,
        "identical_fraction": ratio(sum(tally.identical for tally in tallies), streams),
        "settings": [tally.document() for tally in tallies],
        "transformers": beside,
    }


def _references(model: str, asked: dict[float, list[Contract]]) -> dict[float, list[tuple[int, ...]]]:
    """The target alone, for every contract."""
    backend = load_target(locate(model))
    progress = Progress()
    total = sum(map(len, asked.values()))
    done = 0
    wanted: dict[float, list[tuple[int, ...]]] = {}
    for temperature, some in asked.items():
        wanted[temperature] = []
        for contract in some:
            progress("target alone", done, total)
            wanted[temperature].append(decode_alone(backend, contract).tokens)
            done += 1
    progress("target alone", done, total)
    progress.finish()
    return wanted


async def _streams(
    cluster: LocalCluster,
    asked: dict[float, list[Contract]],
    wanted: dict[float, list[tuple[int, ...]]],
    tried: list[Setting],
) -> list[Tally]:
    progress = Progress()
    tallies = []
    chains = next(child for child in cluster.leaders if child.name == CHAINS)
    for temperature, some in asked.items():
        for setting in tried:
            tally = Tally(setting, temperature)
            leader = chains if setting.chains else None

            async def one(index: int, tally: Tally = tally, leader: Any = leader) -> None:
                contract = asked[tally.temperature][index]
                got = await stream(cluster, contract, tally.setting.drafters, leader)
                tally.add(index, wanted[tally.temperature][index], got)

            for start in range(0, len(some), setting.sessions):
                progress(f"T = {temperature:g}, {setting.name}", start, len(some))
                async with trio.open_nursery() as nursery:
                    for index in range(start, min(start + setting.sessions, len(some))):
                        nursery.start_soon(one, index)
            progress(f"T = {temperature:g}, {setting.name}", len(some), len(some))
            tallies.append(tally)
    progress.finish()
    return tallies


def _transformers(vocabulary: Vocabulary, drafts: list[str], asked: list[Contract]) -> dict[str, Any]:
    """Its assisted generation against its own plain greedy decoding, bfloat16, on the same prompts."""
    say("transformers, for comparison")
    model = HfModel(vocabulary.files, drafts[0] if drafts else None)
    progress = Progress()
    same: dict[str, int] = {mode: 0 for mode in model.modes if mode != PLAIN}
    for index, contract in enumerate(asked):
        progress("transformers", index, len(asked))
        answers = {
            mode: model.generate(mode, contract.prompt, contract.max_tokens, contract.stop_tokens).tokens
            for mode in model.modes
        }
        for mode in same:
            same[mode] += answers[mode] == answers[PLAIN]
    progress("transformers", len(asked), len(asked))
    progress.finish()
    return {
        "against": "its own plain greedy decoding, bfloat16",
        "streams": len(asked),
        "identical_fraction": {mode: ratio(count, len(asked)) for mode, count in same.items()},
        "missing": model.missing,
    }


def identity_text(found: dict[str, Any]) -> str:
    """For people."""
    rows = [
        (
            f"T = {item['temperature']:g}, {item['setting']}",
            f"{item['identical']} of {item['streams']}",
            item["accepted"],
            item["drafted"],
            item["mean_acceptance_length"],
        )
        for item in found["settings"]
    ]
    head = ("setting", "identical", "accepted", "drafted", "tokens/forward")
    lines = [table(head, rows), "", f"identical to the target alone: {100 * found['identical_fraction']:g} %"]
    beside = found["transformers"]
    for mode, share in beside.get("identical_fraction", {}).items():
        lines.append(f"{mode} equals its own plain greedy decoding: {100 * share:g} % of {beside['streams']}")
    return "\n".join(lines)
