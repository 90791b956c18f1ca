"""``dsdp bench speed``: tokens per second, every way in turn on every prompt.

One thread in each node; how many transformers gets is an option. Rates are tokens over the whole request, prompt
included. Ratios are taken prompt by prompt, where all ways ran within seconds of each other, and then their median.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from dsdproto.wire.messages import Contract
from reference_nodes.backends.loading import load_target
from reference_nodes.bench.alone import decode_alone
from reference_nodes.bench.cluster import contracts, open_bench, require_whole, shortened, stream
from reference_nodes.bench.hf_modes import PLAIN, HfModel
from reference_nodes.bench.spread import spread, spread_text
from reference_nodes.cli.generation import Generation, ratio, summary
from reference_nodes.cli.local import LocalCluster, draft_names
from reference_nodes.cli.options import Prompt
from reference_nodes.cli.output import Progress, table
from reference_nodes.cli.texts import Vocabulary
from reference_nodes.models_store import locate

ALONE = "target alone"
WARM_UP_TOKENS = 8


@dataclass(slots=True)
class Mode:
    """One way of decoding; ``run(contract)`` gives tokens and seconds."""

    name: str
    run: Callable[[Contract], Awaitable[tuple[tuple[int, ...], float]]]
    rates: list[float] = field(default_factory=list)
    streams: list[tuple[int, ...]] = field(default_factory=list)
    generations: list[Generation] = field(default_factory=list)
    draft_bytes: list[int] = field(default_factory=list)

    def document(self, plain: Mode, hf_plain: Mode | None) -> dict[str, Any]:
        ratios = [one / other for one, other in zip(self.rates, plain.rates)]
        found: dict[str, Any] = {
            "mode": self.name,
            "tokens_per_s": spread(self.rates),
            "ratio_to_plain": spread(ratios),
            "slower_than_plain": sum(value < 1 for value in ratios),
            "prompts": len(self.rates),
            "tokens": sum(map(len, self.streams)),
            "same_text_as_plain": sum(one == other for one, other in zip(self.streams, plain.streams)),
        }
        if hf_plain is not None:
            found["ratio_to_transformers"] = spread([one / other for one, other in zip(self.rates, hf_plain.rates)])
        if self.generations:
            counts = summary(self.generations)
            found |= {key: value for key, value in counts.items() if key not in ("tokens", "waste")}
            found["draft_bytes_per_committed_token"] = ratio(sum(self.draft_bytes), counts["tokens"])
        return found


def dsdp_name(drafters: list[str]) -> str:
    return f"DSDP, {len(drafters)} drafter{'' if len(drafters) == 1 else 's'}"


async def bench_speed(args: argparse.Namespace, prompts: list[Prompt], logs: Path) -> dict[str, Any]:
    """The whole benchmark. Keys as printed by ``--json``."""
    vocabulary = Vocabulary(args.model)
    drafters = draft_names(args.drafters, args.model)
    asked = contracts(vocabulary, prompts, args.max_tokens, 0.0, 0)
    missing = ""
    hf: HfModel | None = None
    backend = await trio.to_thread.run_sync(load_target, locate(args.model))
    if vocabulary.files.kind == "llama" and not args.no_transformers:
        hf = await trio.to_thread.run_sync(
            HfModel, vocabulary.files, drafters[0] if drafters else None, args.transformers_threads
        )
        missing = hf.missing
    async with open_bench(args.model, drafters, logs) as cluster:
        modes = [Mode(ALONE, _alone(backend)), *_dsdp_modes(cluster, drafters), *_hf_modes(hf)]
        for mode in modes:
            await mode.run(shortened(asked[0], WARM_UP_TOKENS))
            mode.generations.clear()
            mode.draft_bytes.clear()
        progress = Progress()
        for index, contract in enumerate(asked):
            start = index % len(modes)
            for mode in modes[start:] + modes[:start]:
                progress(f"prompt {index + 1}: {mode.name}", index, len(asked))
                tokens, seconds = await mode.run(contract)
                mode.streams.append(tokens)
                mode.rates.append(len(tokens) / seconds)
        progress("done", len(asked), len(asked))
        progress.finish()
        require_whole(cluster)
    hf_plain = next((mode for mode in modes if mode.name == PLAIN), None)
    return {
        "model": vocabulary.name,
        "draft_models": drafters,
        "prompts": len(prompts),
        "max_tokens": args.max_tokens,
        "plain": ALONE,
        "threads": {"node": 1, "transformers": args.transformers_threads},
        "modes": [mode.document(modes[0], hf_plain) for mode in modes],
        "missing": missing,
    }


def _alone(backend: Any) -> Callable[[Contract], Awaitable[tuple[tuple[int, ...], float]]]:
    async def run(contract: Contract) -> tuple[tuple[int, ...], float]:
        done = await trio.to_thread.run_sync(decode_alone, backend, contract)
        return done.tokens, done.seconds

    return run


def _dsdp_modes(cluster: LocalCluster, drafters: list[str]) -> list[Mode]:
    modes = []
    for number in range(len(drafters) + 1):
        generations: list[Generation] = []
        moved: list[int] = []

        async def run(
            contract: Contract, number: int = number, into: list[Generation] = generations, moved: list[int] = moved
        ) -> tuple[tuple[int, ...], float]:
            before = await cluster.wire()
            into.append(await stream(cluster, contract, number))
            moved.append((await cluster.wire()).since(before, "draft"))
            return tuple(into[-1].tokens), into[-1].seconds

        modes.append(Mode(dsdp_name(drafters[:number]), run, generations=generations, draft_bytes=moved))
    return modes


def _hf_modes(hf: HfModel | None) -> list[Mode]:
    if hf is None:
        return []

    def mode_of(name: str) -> Mode:
        async def run(contract: Contract) -> tuple[tuple[int, ...], float]:
            done = await trio.to_thread.run_sync(
                hf.generate, name, contract.prompt, contract.max_tokens, contract.stop_tokens
            )
            return done.tokens, done.seconds

        return Mode(name, run)

    return [mode_of(name) for name in hf.modes]


def speed_text(found: dict[str, Any]) -> str:
    """For people."""
    rows = [
        (
            item["mode"],
            spread_text(item["tokens_per_s"]),
            spread_text(item["ratio_to_plain"], "x"),
            f"{item['slower_than_plain']} of {item['prompts']}",
            item.get("mean_acceptance_length", "-"),
            item.get("draft_bytes_per_committed_token", "-"),
            f"{item['same_text_as_plain']} of {item['prompts']}",
        )
        for item in found["modes"]
    ]
    head = ("", "tokens/s (quartiles)", "ratio to plain", "slower on", "tokens/forward", "bytes/token", "same text")
    note = f"\nnote: {found['missing']}" if found["missing"] else ""
    title = (
        f"{found['prompts']} prompts, at most {found['max_tokens']} tokens; plain is {found['plain']}; "
        f"one thread in each DSDP process, {found['threads']['transformers']} in transformers"
    )
    return f"{title}\n\n{table(head, rows)}{note}"
