"""The reference nodes pass the live rung: all of it behind the exec door, a sample through ``--dial``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from live_testees import cases_of, faults, free_places, judged, judged_exec, running

from conformance.verdict import Verdict
from dsdproto.registry import Role

LINK = (
    "acceptor-speaks-first",
    "dials-and-works",
    "sends-grease",
    "features-unknown",
    "cbor-key-twice",
    "certificate-expired",
    "goodbye",
)
SAMPLE = {
    Role.DRAFTER: ("proposals-legal", "credit-5", "advance-off-path", "advance-unknown-node", "attach-method"),
    Role.LEADER: ("solo-warm", "drafters-mixed", "verdict-digest", "verifier-dies", "drafter-token-outside", "quorum"),
}
"""A few cases of each kind."""
EXAMPLE = [sys.executable, "-m", "conformance.examples.python"]


def test_the_reference_nodes_pass_rung_3() -> None:
    results = judged_exec([*EXAMPLE, "--nodes", "reference_nodes.door"])
    assert faults(results) == []
    counts = Counter(result.outcome.verdict for result in results)
    assert counts[Verdict.PASS] > 900 and counts[Verdict.PASS] >= len(results) - 2, counts


@pytest.mark.parametrize("role", SAMPLE, ids=lambda role: role.name.lower())
def test_a_sample_through_dial(role: Role, tmp_path: Path) -> None:
    cases = cases_of(role, *LINK, *SAMPLE[role])
    assert len(cases) == len(LINK) + len(SAMPLE[role]), "a case of the sample has another name now"
    listen = free_places(1)
    with running(role, tmp_path, listen=listen) as dial:
        results = judged(dial, role, cases, listen=listen)
    assert faults(results) == []


def test_the_example_alone_passes_rung_3() -> None:
    """Its own links and store, on asyncio."""
    assert faults(judged_exec(EXAMPLE)) == []
