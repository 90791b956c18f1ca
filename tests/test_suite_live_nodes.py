"""The reference nodes pass the live rung, through the door that strangers use."""

from __future__ import annotations

from pathlib import Path

import pytest
from live_testees import cases_of, faults, free_places, judged, running

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
    Role.VERIFIER: ("tree-random", "stop-token", "batch-on-a-link", "assign-vocabulary-digest", "verify-stale-prefix"),
    Role.DRAFTER: ("proposals-legal", "credit-5", "advance-off-path", "advance-unknown-node", "attach-method"),
    Role.LEADER: ("solo-warm", "drafters-mixed", "verdict-digest", "verifier-dies", "drafter-token-outside", "quorum"),
    Role.VOTER: ("promise-again", "replaces-tail", "prepare-wrong-digest", "resume", "takeover-best-log"),
    Role.CLIENT: ("whole-stream", "block-gap", "block-beyond-length", "resume-after-lost-link"),
}
"""A few cases of each kind; all of them run with ``-m slow``."""


@pytest.mark.parametrize("role", SAMPLE, ids=lambda role: role.name.lower())
def test_a_sample(role: Role, tmp_path: Path) -> None:
    cases = cases_of(role, *LINK, *SAMPLE[role])
    assert len(cases) == len(LINK) + len(SAMPLE[role]), "a case of the sample has another name now"
    listen = free_places(1)
    with running(role, tmp_path, listen=listen) as dial:
        results = judged(dial, role, cases, listen=listen)
    assert faults(results) == []


@pytest.mark.slow
@pytest.mark.parametrize("role", SAMPLE, ids=lambda role: role.name.lower())
def test_all(role: Role, tmp_path: Path) -> None:
    listen = free_places(4)
    with running(role, tmp_path, listen=listen) as dial:
        results = judged(dial, role, cases_of(role), listen=listen)
    assert faults(results) == []
    assert sum(r.outcome.verdict is Verdict.PASS for r in results) > 130
