"""What the benchmarks of identity and speed share: the nodes, the contracts, one stream."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from dsdproto.sampling import SamplingParameters
from dsdproto.wire.messages import Contract
from reference_nodes.cli.generation import Generation, generate
from reference_nodes.cli.local import LocalCluster, Member, check_models, members_for, open_local
from reference_nodes.cli.options import Prompt
from reference_nodes.cli.output import say
from reference_nodes.cli.processes import Child
from reference_nodes.cli.texts import Vocabulary
from reference_nodes.client import make_contract


def contracts(
    vocabulary: Vocabulary, prompts: Sequence[Prompt], max_tokens: int, temperature: float, seed: int
) -> list[Contract]:
    """One for each prompt. Prompts get seeds of their own, or equal noise would make them alike."""
    sampling = SamplingParameters.from_floats(temperature)
    return [
        make_contract(
            (vocabulary.size, vocabulary.digest),
            vocabulary.encode(prompt),
            max_tokens=max_tokens,
            sampling=sampling,
            seed=seed + index if temperature else 0,
            stop_tokens=vocabulary.stop_tokens,
        )
        for index, prompt in enumerate(prompts)
    ]


@asynccontextmanager
async def open_bench(
    model: str, drafters: Sequence[str], logs: Path, leaders: Sequence[Member] = ()
) -> AsyncIterator[LocalCluster]:
    """A cluster by addresses, drafters in order: a session that takes k drafters takes the first k."""
    check_models(model, drafters)
    members = members_for(model, drafters)
    async with open_local(model, members, say, logs=logs, leaders=leaders, mdns=False, in_order=True) as cluster:
        yield cluster


async def stream(cluster: LocalCluster, contract: Contract, drafters: int, leader: Child | None = None) -> Generation:
    """One session on ``leader``, by default the target's own."""
    where = cluster.leader if leader is None else cluster.id_of(leader)
    return await generate(cluster.node, contract, max_drafters=drafters, leader=where)


def require_whole(cluster: LocalCluster) -> None:
    """Raise ChildFailed if a node ended by itself: what was measured then is not what was meant."""
    for child in cluster.lost:
        raise child.fault("ended during the benchmark")


def shortened(contract: Contract, max_tokens: int) -> Contract:
    """The same session, shorter: for warming up."""
    return dataclasses.replace(contract, max_tokens=max_tokens)
