"""Nodes of a `quorum` session that die or freeze in mid-stream, as processes of their own: no token changes.

The fault strikes when the client has read a chosen token. Nothing here is timed; every wait is for something observed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from live import PROMPT, TARGET, alone, in_trio, vocabulary

from dsdproto.registry import CommitProfile
from dsdproto.sampling import SamplingParameters
from dsdproto.wire.messages import Contract
from reference_nodes.bench.failover import Run, one_run, recover
from reference_nodes.bench.voters import VoterCluster, open_voters
from reference_nodes.cli.asking import ask_status
from reference_nodes.client import make_contract

TOKENS = 400
STRIKE = 60
PATIENCE = 45.0


def asked(seed: int) -> Contract:
    return make_contract(
        vocabulary(),
        PROMPT,
        max_tokens=TOKENS,
        sampling=SamplingParameters.from_floats(0.8),
        seed=seed,
        commit_profile=CommitProfile.QUORUM,
    )


async def struck(cluster: VoterCluster, fault: str, leader: int, seed: int) -> Run:
    """One stream with one fault; it must be the target's own."""
    contract = asked(seed)
    run = await one_run(cluster, contract, fault, leader, STRIKE, PATIENCE)
    assert run.failure == ""
    assert run.compare(alone(contract)) == {"lost": 0, "repeated": 0, "changed": 0}
    assert tuple(token for _, tokens in run.blocks for token in tokens) == alone(contract)
    return run


async def with_voters(tmp_path: Path, drafters: int, test: Callable[[VoterCluster], Awaitable[None]]) -> None:
    names = [f"{TARGET},a=52429,d={number}" for number in range(1, drafters + 1)]
    async with open_voters(TARGET, names, lambda text: None, tmp_path) as cluster:
        await test(cluster)


async def only_session(cluster: VoterCluster, number: int) -> dict[str, Any]:
    """What a voter tells of the one session that it knows."""
    identity = cluster.node.config.identity
    assert identity is not None
    (known,) = (await ask_status(cluster.voters[number].address, identity))["voter"]["sessions"]
    return known


@in_trio
async def test_kill_9_of_leader_and_follower_with_a_restart_in_between(tmp_path: Path) -> None:
    async def test(cluster: VoterCluster) -> None:
        run = await struck(cluster, "kill-leader", 0, 1)
        assert run.reasons
        assert (await only_session(cluster, 1))["view"] >= 1
        await recover(cluster, "kill-leader", 0)
        # What it had stored before it was killed.
        assert (await only_session(cluster, 0))["height"] > 0
        run = await struck(cluster, "kill-follower", 0, 2)
        assert run.reasons == []

    await with_voters(tmp_path, 0, test)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill-leader", "stop-leader", "kill-follower", "stop-follower"])
def test_every_node_in_turn_with_drafters(tmp_path: Path, fault: str) -> None:
    async def test(cluster: VoterCluster) -> None:
        for leader in range(3):
            run = await struck(cluster, fault, leader, leader)
            assert bool(run.reasons) == fault.endswith("leader")
            await recover(cluster, fault, leader)

    async def main() -> None:
        with trio.fail_after(300):
            await with_voters(tmp_path, 2, test)

    trio.run(main)
