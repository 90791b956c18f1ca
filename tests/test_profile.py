"""Profiles of backends: what a step really asks of a backend, the grid, the file and the command."""

import json
import math

import pytest
import trio
from backend_models import SMALL as SMALL_MODEL
from backend_models import write_model

from reference_nodes.backends.base import BackendError
from reference_nodes.backends.loading import load_draft, load_target
from reference_nodes.cli.main import main
from reference_nodes.executors import DraftExecutor, VerifyExecutor
from reference_nodes.models_store import locate
from reference_nodes.profile.document import Prefill, Profile, ProfileError, Step, load_profile, profile_of
from reference_nodes.profile.grid import DRAFTER, VERIFIER, Grid, GridError
from reference_nodes.profile.loading import load_stepper
from reference_nodes.profile.measure import Sampler, cpu_name, machine, measure, quantiles
from reference_nodes.profile.overhead import pair_costs
from reference_nodes.profile.steps import ACCEPTED, DraftStepper, VerifyStepper, sampling_of, shares

TARGET = "tm-1:v=512,s=7"
DRAFT = "tm-1:v=512,s=7,a=52429,d=1"
SMALL = Grid(rows=(1, 2, 5), sessions=(1, 2), contexts=(8, 24), positions=(4,), repeat=3)


class Spy:
    """An executor that notes what it was asked for."""

    def __init__(self, inner):
        self.inner, self.backend, self.works = inner, inner.backend, []

    def run(self, work):
        done = self.inner.run(work)
        self.works.append((work, done))
        return done


def spied(role):
    stepper = load_stepper(role, TARGET if role == "verifier" else DRAFT, TARGET)
    stepper.executor = Spy(stepper.executor)
    return stepper, stepper.executor


# ---------------------------------------------------------------- steps


@pytest.mark.parametrize(("rows", "sessions", "context"), VERIFIER.steps)
def test_a_verifier_step_has_the_rows_and_the_progress_of_a_session(rows, sessions, context):
    stepper, spy = spied("verifier")
    for _ in range(4):
        stepper.step(rows, sessions, context)
        work, done = spy.works[-1]
        assert len(work.score) == sessions and work.prefill is None
        assert sum(1 + len(item.tokens) for item in work.score) == rows
        for item, walk in zip(work.score, done.walks):
            # The target's own token of the round before is not computed yet, as in a live session: one row, no more.
            assert len(walk.tokens) == round(ACCEPTED * len(item.tokens)) + 1
            assert context < len(item.prefix) <= context + 50


def test_a_verifier_stream_goes_on_where_the_step_before_ended():
    stepper, spy = spied("verifier")
    stepper.step(4, 1, 16)
    (before,), (walk,) = spy.works[-1][0].score, spy.works[-1][1].walks
    stepper.step(6, 1, 16)
    assert spy.works[-1][0].score[0].prefix == before.prefix + walk.tokens


@pytest.mark.parametrize(("rows", "sessions", "context"), DRAFTER.steps)
def test_a_drafter_step_expands_as_many_nodes_as_it_says(rows, sessions, context):
    stepper, spy = spied("drafter")
    prefixes = set()
    for _ in range(4):
        stepper.step(rows, sessions, context)
        work, done = spy.works[-1]
        assert len(work.expand) == sessions
        assert sum(len(item.nodes) for item in work.expand) == rows
        assert [len(children) for children in done.children] == [len(item.nodes) for item in work.expand]
        prefixes.add(work.expand[0].prefix)
    assert len(prefixes) == 4, "a prefix that was expanded before costs nothing"


def test_steps_of_a_long_measurement_begin_anew_and_never_run_out():
    stepper, spy = spied("drafter")
    for _ in range(120):
        stepper.step(2, 1, 8)
    assert max(len(item.prefix) for work, _ in spy.works for item in work.expand) <= 8 + 48
    stepper, spy = spied("verifier")
    for _ in range(60):
        stepper.step(8, 1, 8)
    assert max(len(item.prefix) for work, _ in spy.works for item in work.score) <= 8 + 48


@pytest.mark.parametrize("role", ["verifier", "drafter"])
def test_a_step_computes_neither_more_nor_fewer_rows_than_it_says(role, tmp_path):
    """On a backend that keeps what it has computed, also what a rollback took off."""
    files = locate(str(write_model(tmp_path / "model", SMALL_MODEL)))
    backend = load_target(files) if role == "verifier" else load_draft(files)
    make, run = (VerifyStepper, VerifyExecutor) if role == "verifier" else (DraftStepper, DraftExecutor)
    stepper = make(run(backend), "small", tuple(range(3, 200)), sampling_of(0.0))
    for number in range(60):
        rows, sessions = ((5, 1), (7, 2), (1, 1))[number % 3]
        spans = []
        stepper.executor = Around(stepper.executor, backend.counters, spans)
        stepper.step(rows, sessions, 16)
        stepper.executor = stepper.executor.inner
        assert spans[-1] == rows  # those before prepared it, and were not timed


class Around:
    def __init__(self, inner, counters, spans):
        self.inner, self.counters, self.spans, self.backend = inner, counters, spans, inner.backend

    def run(self, work):
        before = self.counters.rows
        done = self.inner.run(work)
        self.spans.append(self.counters.rows - before)
        return done


def test_a_prefill_computes_only_what_is_said():
    stepper, spy = spied("verifier")
    assert stepper.prefill(16, 32) >= 0
    first, second, release = spy.works
    assert first[1].prefilled == 32 and second[1].prefilled == 48
    assert second[0].prefill.budget == 16 and release[0].release == ("prefill",)
    stepper, spy = spied("drafter")
    stepper.prefill(16, 0)
    assert len(spy.works[0][0].expand[0].prefix) == 16 and spy.works[1][0].release == ("prefill",)


def test_what_a_backend_refuses_is_raised():
    stepper, _ = spied("drafter")
    stepper.text = (10**6,)
    with pytest.raises(BackendError, match="1000000"):
        stepper.step(1, 1, 8)


def test_shares():
    assert shares(0, 2) == [0, 0]
    assert shares(9, 4) == [3, 2, 2, 2]


# ---------------------------------------------------------------- grid, samples


def test_a_grid_has_no_step_with_less_rows_than_sessions():
    assert (1, 2, 8) not in SMALL.steps and (2, 2, 8) in SMALL.steps
    assert SMALL.prefills == ((4, 0), (4, 8))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rows": (2, 1)}, "rows 2, 1: give ascending"),
        ({"rows": (0, 1)}, "from 1 on"),
        ({"contexts": (1,)}, "less than two tokens"),
        ({"rows": (1,), "sessions": (2,)}, "no cell is left"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(change, text):
    given = {"rows": (1,), "sessions": (1,), "contexts": (8,), "positions": (4,), "repeat": 1} | change
    with pytest.raises(GridError, match=text):
        Grid(**given)


class Counting:
    """A stepper whose times are made up: 10 ms for a row, twice that beside the other."""

    role, model = "verifier", "made-up"

    def __init__(self):
        self.busy = False
        self.asked = []
        self.prefilled = 0

    def step(self, rows, sessions, context):
        self.asked.append((rows, sessions, context, self.busy))
        return 0.01 * rows * (2 if self.busy else 1)

    def prefill(self, positions, context):
        self.prefilled += 1
        return 0.001 * positions * (2 if self.busy else 1)

    def switch(self, on):
        self.busy = on


def test_every_cell_is_measured_alone_and_beside_in_turn():
    stepper = Counting()
    sampler = Sampler(stepper, SMALL, stepper)
    stages = []
    measure(sampler, lambda stage, done, total: stages.append((stage, done, total)))
    assert stages[-1] == ("verifier made-up", 3 * sampler.cells, 3 * sampler.cells)
    assert not stepper.busy, "the neighbour stands still in the end"
    profile = sampler.profile({"verify_overhead_s": 0.0005})
    assert [(step.rows, step.sessions, step.context) for step in profile.steps] == list(SMALL.steps)
    assert all(step.n == 3 and step.seconds == (pytest.approx(0.01 * step.rows),) * 3 for step in profile.steps)
    assert all(step.seconds[1] == pytest.approx(0.02 * step.rows) for step in profile.beside_steps)
    assert [part.seconds[1] for part in profile.prefill] == [0.004, 0.004]
    assert [part.seconds[1] for part in profile.beside_prefill] == [0.008, 0.008]
    assert (profile.own("overhead"), profile.own("session")) == (0.0005, 0.0)
    # Interleaved: no cell is taken twice before every other has been, and one step after each switch does not count.
    size = len(SMALL.steps)
    rounds = stepper.asked[size:]
    assert [each[3] for each in rounds] == ([False] * size + [True] * size) * 3
    for begin in range(0, len(rounds), size):
        assert len({each[:3] for each in rounds[begin : begin + size]}) == size
    assert stepper.prefilled == len(SMALL.prefills) * 7 + 6


def test_quantiles():
    assert quantiles([0.5]) == (0.5, 0.5, 0.5)
    assert quantiles([0.3, 0.1, 0.2]) == (0.12, 0.2, 0.28)


def test_the_machine_is_named(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Abacus 2000\nmodel name\t: other\n")
    assert cpu_name(info) == "Abacus 2000"
    assert cpu_name(tmp_path / "none")
    assert machine(1)["threads"] == 1 and machine(1)["cores"] >= 1


@pytest.mark.parametrize("draft", [DRAFT, "ngram"])
def test_the_node_itself_takes_some_time(draft):
    # How much depends on what else the machine does; how it is told apart is tested with made-up traces.
    said = []
    costs = trio.run(pair_costs, TARGET, draft, said.append)
    assert set(costs.verifier) == {"verify_overhead_s", "verify_session_s", "verify_message_s"}
    assert set(costs.drafter) == {"draft_overhead_s", "draft_message_s"}
    assert all(value >= 0.0 for node in (costs.verifier, costs.drafter) for value in node.values())
    assert costs.verifier["verify_overhead_s"] + costs.verifier["verify_session_s"] > 0.0
    assert costs.drafter["draft_overhead_s"] > 0.0
    assert costs.passing > 0.0 and said


# ---------------------------------------------------------------- the file

PROFILE = Profile(
    role="drafter",
    model="m",
    machine={"cpu": "c", "cores": 2, "threads": 1},
    steps=(Step(1, 1, 64, (0.001, 0.002, 0.003), 5), Step(4, 2, 64, (0.004, 0.005, 0.009), 5)),
    prefill=(Prefill(64, 0, (0.1, 0.1, 0.2), 3),),
    node={"draft_overhead_s": 0.0002},
    beside_model="t",
    beside_steps=(Step(1, 1, 64, (0.002, 0.003, 0.004), 5),),
)


def test_a_profile_comes_back_as_it_was_saved(tmp_path):
    path = tmp_path / "p.json"
    PROFILE.save(path)
    assert load_profile(path) == PROFILE
    assert json.loads(path.read_text())["steps"][0] == {
        "rows": 1,
        "sessions": 1,
        "context": 64,
        "seconds": [0.001, 0.002, 0.003],
        "n": 5,
    }
    with pytest.raises(ProfileError, match="cannot write the profile"):
        PROFILE.save(tmp_path / "nowhere" / "p.json")


def _broken(**changes):
    return PROFILE.document() | changes


STEP = {"rows": 1, "sessions": 1, "context": 1, "seconds": [1, 1, 1], "n": 1}


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ([], "expected one JSON object, found list"),
        (_broken(v=9), "v is 9"),
        (_broken(role="judge"), "role is 'judge'"),
        (_broken(steps=[]), "steps is empty"),
        (_broken(steps={}), "steps is dict"),
        (_broken(steps=[3]), r"steps\[0\]: expected an object"),
        (_broken(steps=[STEP | {"rows": 0}]), r"steps\[0\]: a step has at least one row"),
        (_broken(steps=[STEP | {"rows": True}]), "rows is True"),
        (_broken(steps=[STEP, STEP | {"seconds": [1, 1]}]), r"steps\[1\]: seconds is \[1, 1\]"),
        (_broken(steps=[STEP | {"seconds": [1, 1, math.inf]}]), "seconds is"),
        (_broken(steps=[STEP | {"seconds": [2, 1, 1]}]), "do not ascend"),
        (_broken(prefill=[{"positions": 0, "context": 0, "seconds": [1, 1, 1], "n": 1}]), "positions is 0"),
        (_broken(node={"draft_overhead_s": -1}), "none below 0"),
        (_broken(beside=[1]), "beside is list"),
        (_broken(beside={"model": "t", "steps": [3]}), r"beside: steps\[0\]"),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused_by_name_and_place(found, text):
    with pytest.raises(ProfileError, match=text):
        profile_of(found)


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "p.json").write_text("{")
    for name in ("p.json", "none.json"):
        with pytest.raises(ProfileError, match=f"cannot read the profile .*{name}.*dsdp profile"):
            load_profile(tmp_path / name)


# ---------------------------------------------------------------- the command


def test_the_command_writes_a_profile(tmp_path, capsys):
    out = tmp_path / "t.json"
    options = ["--rows", "1,3", "--sessions", "1", "--contexts", "8", "--repeat", "2"]
    assert main(["profile", "verifier", "--model", TARGET, "-o", str(out), *options]) == 0
    profile = load_profile(out)
    assert (profile.role, profile.model) == ("verifier", TARGET)
    assert [(step.rows, step.n) for step in profile.steps] == [(1, 2), (3, 2)]
    assert "verify_overhead_s" in profile.node
    assert "1 x 1 x 8" in capsys.readouterr().out


def test_the_command_measures_beside_another_process(tmp_path, capsys):
    out = tmp_path / "d.json"
    options = ["--rows", "1", "--sessions", "1", "--contexts", "8", "--repeat", "2", "--beside", TARGET, "--json"]
    assert main(["profile", "drafter", "--model", TARGET, "--draft-model", DRAFT, "-o", str(out), *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == load_profile(out).document()
    assert found["beside"]["model"] == TARGET and found["beside"]["steps"][0]["n"] == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--rows", "1,1"], "rows 1, 1: give ascending"),
        (["-o", "/nowhere/at/all.json"], "/nowhere/at does not exist"),
        (["--temperature", "-1"], "temperature"),
    ],
)
def test_the_command_says_what_is_wrong(tmp_path, capsys, options, text):
    assert main(["profile", "verifier", "--model", TARGET, "-o", str(tmp_path / "x.json"), *options]) == 2
    assert text in capsys.readouterr().err
