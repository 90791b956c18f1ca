"""``dsdp bench commit``: what a vote on every block costs when nothing goes wrong.

Both profiles run on the same leader with the same drafters, one right after the other and in changing order, so that
whatever else the machine does hits both. The ratio is taken pair by pair.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dsdproto.wire.messages import Contract
from reference_nodes.bench.cluster import contracts, shortened
from reference_nodes.bench.failover import with_quorum
from reference_nodes.bench.spread import spread, spread_text
from reference_nodes.bench.voters import VOTERS, VoterCluster, open_voters
from reference_nodes.cli.generation import Generation, generate
from reference_nodes.cli.local import draft_names
from reference_nodes.cli.options import Prompt
from reference_nodes.cli.output import Progress, figures, say
from reference_nodes.cli.texts import Vocabulary

WARM_UP_TOKENS = 8


async def bench_commit(args: argparse.Namespace, prompts: list[Prompt], logs: Path) -> dict[str, Any]:
    """The whole benchmark. Keys as printed by ``--json``."""
    vocabulary = Vocabulary(args.model)
    drafters = draft_names(args.drafters, args.model) if args.drafters != "0" else []
    asked = contracts(vocabulary, prompts, args.max_tokens, args.temperature, args.seed)
    progress = Progress()
    pairs: list[tuple[Generation, Generation]] = []
    total = args.repeat * len(asked)
    async with open_voters(args.model, drafters, say, logs) as cluster:
        for contract in (asked[0], with_quorum(asked[0])):
            await _stream(cluster, shortened(contract, WARM_UP_TOKENS))
        for repeat in range(args.repeat):
            for contract in asked:
                progress("pairs", len(pairs), total)
                both = [contract, with_quorum(contract)]
                if (len(pairs) + repeat) % 2:
                    both.reverse()
                done = [await _stream(cluster, one) for one in both]
                if both[0] is not contract:
                    done.reverse()
                pairs.append((done[0], done[1]))
        progress("pairs", total, total)
        progress.finish()
    return {
        "model": vocabulary.name,
        "draft_models": drafters,
        "voters": VOTERS,
        "pairs": len(pairs),
        "max_tokens": args.max_tokens,
        "solo_tokens_per_s": spread([solo.rate for solo, _ in pairs]),
        "quorum_tokens_per_s": spread([quorum.rate for _, quorum in pairs]),
        "ratio": spread([quorum.rate / solo.rate for solo, quorum in pairs]),
        "first_token_s": {
            "solo": spread([solo.first for solo, _ in pairs], 4),
            "quorum": spread([quorum.first for _, quorum in pairs], 4),
        },
        "same_text": sum(solo.tokens == quorum.tokens for solo, quorum in pairs),
    }


async def _stream(cluster: VoterCluster, contract: Contract) -> Generation:
    return await generate(cluster.node, contract, leader=cluster.id_of(cluster.voters[0]))


def commit_text(found: dict[str, Any]) -> str:
    """For people."""
    first = {name: f"{item['median']:.3f} s {name}" for name, item in found["first_token_s"].items()}
    rows = {
        "solo": f"{spread_text(found['solo_tokens_per_s'])} tokens/s",
        "quorum": f"{spread_text(found['quorum_tokens_per_s'])} tokens/s",
        "quorum / solo": spread_text(found["ratio"]),
        "first token": ", ".join(first.values()),
        "same text": f"{found['same_text']} of {found['pairs']}",
    }
    return f"{found['pairs']} pairs with {found['model']}, {found['voters']} voters on loopback\n\n{figures(rows)}"
