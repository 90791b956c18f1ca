"""The swarm: clusters in trouble, judged from outside. And that it does notice when a rule is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsdproto.errors import LocalError
from dsdproto.registry import CommitProfile
from reference_nodes.cli.main import main
from reference_nodes.cli.sim import seed_range
from reference_nodes.simulator.mutants import MUTANTS, planted
from reference_nodes.simulator.network import Conditions
from reference_nodes.simulator.report import explain
from reference_nodes.simulator.runner import run
from reference_nodes.simulator.scenario import CLIENT, LEADER, MEMBERS, Fault, FaultKind, Numerics, Scenario, draw
from reference_nodes.simulator.shrink import shrink
from reference_nodes.simulator.swarm import sweep

SEEDS = range(1, 301)
QUICK = {
    "log-is-cut-at-a-view-change": 100,
    "block-is-not-stored": 20,
    "vote-overtakes-the-disk": 20,
    "base-is-not-checked": 20,
    "readers-get-what-is-not-committed": 60,
    "minority-commits": 20,
    "adopted-log-counts-as-committed": 400,
    "client-reads-before-the-commit": 20,
}
"""Planted bugs that fall soon, and by which seed. All of them: ``dsdp sim mutants``."""


def said(outcome) -> str:
    """Of a violation, all that helps to understand it."""
    return explain(outcome.scenario.seed, outcome=outcome, last=60)


# ---------------------------------------------------------------- nothing breaks


def test_a_swarm_of_quorum_sessions() -> None:
    swarm = sweep(SEEDS)
    assert swarm.seeds == len(SEEDS)
    assert not swarm.found, explain(swarm.found[0].seed, last=60)
    # The swarm is worth its name only if streams are interrupted, leaders replaced and tokens given up.
    assert swarm.runs_with["interruptions"] > 30
    assert swarm.runs_with["takeovers"] > 30
    assert swarm.runs_with["crashes"] > 60
    assert swarm.runs_with["overwritten blocks"] > 0
    assert swarm.runs_with["foundings without all"] > 15


def test_a_swarm_of_solo_sessions() -> None:
    for seed in range(1, 61):
        outcome = run(draw(seed, CommitProfile.SOLO))
        assert outcome.violation is None, said(outcome)


def test_every_message_survives_the_codec() -> None:
    for seed in range(1, 21):
        scenario = draw(seed)
        coded = run(replace(scenario, conditions=replace(scenario.conditions, codec=True)))
        assert coded.trace == run(scenario).trace, f"seed {seed}"


# ---------------------------------------------------------------- one seed is one run


def test_a_seed_is_a_run() -> None:
    digests = set()
    for seed in range(400, 420):
        digest = run(draw(seed)).digest()
        assert digest == run(draw(seed)).digest(), f"seed {seed}"
        digests.add(digest)
    assert len(digests) == 20


def test_a_seed_is_the_same_run_in_another_process() -> None:
    code = (
        "from reference_nodes.simulator.runner import run\n"
        "from reference_nodes.simulator.scenario import draw\n"
        "print(*(run(draw(seed)).digest() for seed in range(500, 508)))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for hash_seed in ("1", "2")
    ]
    assert said[0] == said[1] == [run(draw(seed)).digest() for seed in range(500, 508)]


# ---------------------------------------------------------------- bugs are found


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_caught(name: str) -> None:
    swarm = sweep(range(1, QUICK[name] + 1), mutant=name, stop_after=1)
    assert swarm.found, f"{name}: not caught in {QUICK[name]} seeds"


@pytest.mark.campaign
@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_caught(name: str) -> None:
    swarm = sweep(range(1, 10_001), jobs=os.cpu_count() or 1, mutant=name, stop_after=1)
    assert swarm.found, f"{name}: not caught in 10,000 seeds"


def test_a_bug_leaves_when_its_context_does() -> None:
    before = {name: vars(owner)[name] for mutant in MUTANTS.values() for owner, name, _ in mutant.patches}
    for name in MUTANTS:
        with planted(name) as mutant:
            assert all(vars(owner)[attribute] is not before[attribute] for owner, attribute, _ in mutant.patches)
    assert before == {name: vars(owner)[name] for mutant in MUTANTS.values() for owner, name, _ in mutant.patches}
    with pytest.raises(LocalError, match="no mutant 'nobody'"), planted("nobody"):
        pytest.fail("planted")


def test_shrinking_keeps_the_check_and_drops_what_does_not_matter() -> None:
    with planted("minority-commits"):
        first = next(outcome for outcome in map(run, map(draw, range(1, 50))) if outcome.violation is not None)
        smaller = shrink(first)
    assert smaller.violation is not None and first.violation is not None
    assert smaller.violation.check == first.violation.check == "durability"
    assert len(smaller.scenario.faults) <= len(first.scenario.faults)
    sound = run(smaller.scenario)
    assert sound.violation is None and shrink(sound) is sound


# ---------------------------------------------------------------- scenarios of hypothesis' making


def faults(members: int) -> st.SearchStrategy[Fault]:
    names = st.sampled_from((LEADER, *MEMBERS[:members]))
    return st.builds(
        Fault,
        at=st.floats(0.0, 2.0).map(lambda at: round(at, 3)),
        kind=st.sampled_from(FaultKind),
        who=names,
        other=st.sampled_from((*MEMBERS[:members], CLIENT)),
        length=st.floats(0.01, 3.0).map(lambda length: round(length, 3)),
        mask=st.integers(1, 2**members - 1),
        kept=st.sampled_from((0, 1, 99)),
    )


@st.composite
def scenarios(draw_from: st.DrawFn) -> Scenario:
    members = draw_from(st.sampled_from((3, 1, 5)))
    return Scenario(
        seed=draw_from(st.integers(0, 100)),
        members=members,
        drafters=draw_from(st.integers(0, 2)),
        tokens=draw_from(st.integers(4, 20)),
        temperature=draw_from(st.sampled_from((0.0, 0.8))),
        numerics=draw_from(st.sampled_from(Numerics)),
        opens_at=draw_from(st.integers(0, members - 1)),
        chaos=draw_from(st.sampled_from((2.0, 0.5))),
        left_out=tuple(draw_from(st.lists(st.sampled_from(MEMBERS[:members]), max_size=members // 2, unique=True))),
        delay=draw_from(st.sampled_from((0.001, 0.0, 0.05))),
        jitter=draw_from(st.sampled_from((0.0, 0.02))),
        sync=draw_from(st.sampled_from((0.002, 0.0, 0.05))),
        drift=draw_from(st.sampled_from((0.0, 0.1))),
        conditions=Conditions(
            heartbeat=draw_from(st.sampled_from((4.0, 0.5))),
            loss=draw_from(st.sampled_from((0.0, 0.1))),
            duplicate=draw_from(st.sampled_from((0.0, 0.3))),
            reorder=draw_from(st.sampled_from((0.0, 0.3))),
        ),
        faults=tuple(draw_from(st.lists(faults(members), max_size=4))),
    )


@settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
@given(scenarios())
def test_any_scenario(scenario: Scenario) -> None:
    outcome = run(scenario)
    assert outcome.violation is None, said(outcome)


# ---------------------------------------------------------------- the command


def test_swarm_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "swarm", "--seeds", "1-8", "--jobs", "1", "--json", "--check-determinism"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["seeds"], result["violations"], result["found"]) == (8, 0, [])


def test_swarm_explains_a_violation(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["sim", "swarm", "--seeds", "1-40", "--jobs", "1", "--mutant", "minority-commits", "--stop-after", "1"]
    assert main(argv) == 1
    printed = capsys.readouterr()
    assert "durability" in printed.out and "reads tokens" in printed.out and "PREPARE" in printed.out
    assert printed.err.startswith("seed ")


def test_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "run", "--seed", "3", "--chart", "--last", "5"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("seed 3: no violation") and "the stream is complete" in text
    assert main(["sim", "run", "--seed", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["digest"] in text


def test_mutants_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "mutants", "--only", "minority-commits", "--seeds", "40", "--jobs", "1", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["mutants"], result["caught"], result["rows"][0]["check"]) == (1, 1, "durability")
    assert main(["sim", "mutants", "--only", "nobody"]) == 2
    assert "no mutant 'nobody'" in capsys.readouterr().err


def test_ranges_of_seeds() -> None:
    assert seed_range("3-5") == range(3, 6) and seed_range("7") == range(7, 8)
    for text in ("", "5-3", "-1", "a-b"):
        with pytest.raises(Exception, match="is no range of seeds"):
            seed_range(text)
