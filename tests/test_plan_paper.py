"""The set-up of the DSD paper: its cells, ratios, learned controller and command, on short runs of a small fleet."""

from __future__ import annotations

import json
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from dsdproto.policy.windows import AwcState
from reference_nodes.cli import sim_paper
from reference_nodes.cli.main import main
from reference_nodes.simulator.plan import ScenarioError, run
from reference_nodes.simulator.plan.paper import awc, compare, inputs, paper, setting, table, train_awc
from reference_nodes.simulator.plan.paper.paper import Result
from reference_nodes.simulator.plan.paper.setting import Cell, Scale

TINY = Scale(targets=1, seconds=5.0, warmup=0.5)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four drafters for each target, short answers."""
    monkeypatch.setattr(inputs, "DRAFTERS", (80,))
    monkeypatch.setattr(inputs, "OUTPUT", {"kind": "lognormal", "median": 30, "sigma": 0.1})
    monkeypatch.setattr(setting, "QUICK", TINY)


def made(throughput: float, tpot: float = 0.05, goodput: float = 100.0) -> Result:
    return Result(throughput, goodput, tpot, 0.1, 0.6, 3.0, 4.0, 8.0, 1.0, 0.5, 50, "d", 1.0)


# ---------------------------------------------------------------- the grid


def test_grid_has_what_the_paper_has() -> None:
    cells = paper.grid(quick=False)
    assert len(cells) == len(set(cells))
    for drafters in (600, 1000):
        for rtt in (0.01, 0.03):
            for policy in ("static4", "threshold", "awc", "ours"):
                assert Cell(drafters, rtt, policy) in cells
    for policy in ("alone", "static4", "ours"):
        assert Cell(600, 0.08, policy) in cells
    assert {(cell.router, cell.batcher) for cell in cells if cell.policy == "ours"} == {
        (router, batcher) for router in setting.ROUTERS for batcher in setting.BATCHERS
    }
    quick = paper.grid(quick=True)
    assert set(quick) < set(cells) and len(quick) <= 20


def test_scenario_of_a_cell_is_the_papers_fleet() -> None:
    scenario = setting.scenario_of(Cell(1000, 0.03, "awc", "random", "length-aware"), setting.FULL, seed=3)
    assert {group.name: group.count for group in scenario.group} == {"target": 20, "edge": 1000}
    assert scenario.link[0].rtt == 0.03 and scenario.seed == 3
    assert scenario.window == awc.AwcWindow(0.03)
    assert (scenario.routing.kind, scenario.batching.kind) == ("random", "length-aware")
    quick = setting.scenario_of(Cell(1000, 0.03, "ours"), setting.QUICK, seed=3)
    assert {group.count for group in quick.group} == {2, 100}
    with pytest.raises(ValueError, match="no policy 'theirs'"):
        setting.window_of("theirs", 0.01)


# ---------------------------------------------------------------- running


def test_same_cell_twice_is_the_same_and_policies_differ(small: None) -> None:
    cells = [Cell(80, 0.01, policy) for policy in ("alone", "static4", "awc", "ours")]
    first = paper.run_cells(cells, TINY, seed=1)
    again = paper.run_cells(cells[1:2], TINY, seed=1)
    assert again[cells[1]].digest == first[cells[1]].digest
    assert len({result.digest for result in first.values()}) == 4
    assert all(result.done > 0 for result in first.values())
    assert first[cells[0]].tokens_per_round == 1.0
    # Window 4 was verified in full: its drafters deliver, and nobody waited for the patience to end.
    assert first[cells[1]].nodes_per_round > 3.4
    assert first[cells[1]].acceptance == pytest.approx(0.59, abs=0.06)


def test_run_without_an_answer_is_no_result() -> None:
    scenario = setting.scenario_of(Cell(80, 0.01, "static4"), Scale(1, 1.0, 0.5), seed=1)
    with pytest.raises(paper.PaperError, match="simulate longer"):
        paper.result_of(run(scenario), "too short")


# ---------------------------------------------------------------- comparing


def test_ratios_by_hand() -> None:
    cell, four, awc_cell = (Cell(600, 0.01, policy) for policy in ("ours", "static4", "awc"))
    results = {cell: made(150, 0.04, 90), four: made(100, 0.05, 0.0), awc_cell: made(120, 0.05, 60)}
    found = compare.ratios(results, cell)
    assert found["throughput_over_static4"] == 1.5
    assert found["throughput_over_awc"] == 1.25
    assert found["tpot_over_static4"] == pytest.approx(0.8)
    assert found["speed_over_static4"] == pytest.approx(1.25)
    assert found["goodput_over_static4"] is None  # there was none to compare with
    assert found["goodput_over_awc"] == 1.5
    assert "throughput_over_alone" not in found
    alone = Cell(600, 0.01, "alone")
    further = Cell(600, 0.03, "ours")
    assert compare.ratios({further: made(90), alone: made(100)}, further)["throughput_over_alone"] == 0.9


@pytest.mark.parametrize(
    ("awc_over_four", "agrees"), [((1.05, 1.09), "yes"), ((1.05, 1.30), "in part"), ((0.8, 0.7), "no")]
)
def test_claims_are_judged_cell_by_cell(awc_over_four: tuple[float, float], agrees: str) -> None:
    results = {}
    for rtt, value in zip(inputs.RTTS, awc_over_four):
        results[Cell(600, rtt, "static4")] = made(100)
        results[Cell(600, rtt, "awc")] = made(100 * value)
    verdict = compare.judged(results, quick=False)[0]
    assert verdict.agrees == agrees
    assert (verdict.lowest, verdict.highest) == (pytest.approx(min(awc_over_four)), pytest.approx(max(awc_over_four)))
    page = table.page(results, quick=False, seed=1)
    assert verdict.text in page and agrees in page


def test_page_says_what_was_put_in() -> None:
    cells = {Cell(600, 0.01, "static4"): made(100), Cell(600, 0.01, "ours"): made(130)}
    page = table.page(cells, quick=True, seed=7)
    assert "forward 30 ms + 0.22 ms a row" in page and "draft token 21 ms" in page and "seed 7" in page
    assert "1.30" in page and "2 targets" in page


# ---------------------------------------------------------------- the controller


def state(**changes: float) -> AwcState:
    return replace(AwcState(queue=0.2, acceptance=0.7, rtt=0.02, tpot=0.04, size=4.0), **changes)


def test_weights_that_are_shipped_give_windows_and_say_where_they_are_from() -> None:
    net = awc.load_net()
    body = json.loads(awc.WEIGHTS.read_text())
    assert body["figures"]["settings"] >= 20 and "train_awc" in body["recipe"]
    sizes = [net(state(acceptance=a / 10, rtt=r / 100)) for a in range(3, 10) for r in range(1, 12)]
    assert all(-2.0 < size < 16.0 for size in sizes)
    # What it was trained for: longer windows where more is accepted, short ones where waiting costs more than it gives.
    near = [(queue, rtt) for queue in (0.0, 0.05, 0.2, 0.5) for rtt in (0.005, 0.01)]
    few, many = ([net(state(acceptance=a, queue=queue, rtt=rtt)) for queue, rtt in near] for a in (0.3, 0.9))
    assert fmean(many) > fmean(few) + 1.0
    assert net(state(acceptance=0.3, rtt=0.08)) < 1.5


def test_network_is_what_it_says() -> None:
    one = {"weight": [[1.0]], "bias": [0.5]}
    layers = dict.fromkeys(("first0", "second0", "first1", "second1", "out"), one)
    layers["in"] = {"weight": [[1.0], [0.0], [0.0], [0.0], [0.0]], "bias": [0.0]}
    net = awc.net_of({"mean": [0.0] * 5, "scale": [1.0] * 5, "layers": layers})
    # x = 2; x + (x + 0.5) + 0.5 = 5; then 11; then 11.5.
    assert net.forward(np.array([[2.0, 9.0, 9.0, 9.0, 9.0]]))[0] == pytest.approx(11.5)
    with pytest.raises(ScenarioError, match="do not fit together"):
        awc.net_of({"mean": [0.0], "scale": [1.0], "layers": {}})


def test_training_finds_what_its_labels_say() -> None:
    """Labels that follow from acceptance alone: the network learns the rule, and the file it writes can be read."""
    pytest.importorskip("torch")
    labelled = []
    for number in range(20):
        best = 2 + number % 5 * 2
        rates = {size: 100.0 - abs(size - best) for size in train_awc.SIZES}
        states = [state(acceptance=best / 12, size=float(size)) for size in range(1, 13)]
        labelled.append(train_awc.Labelled(train_awc.drawn(number), rates, states))
    assert labelled[3].best == 8
    body = json.loads(json.dumps(train_awc.train(labelled, epochs=250)))
    figures = train_awc.judged(labelled, labelled, body)
    assert figures["held_out_mean_error"] < 0.5
    assert figures["held_out_share_of_best_throughput"] > figures["held_out_share_with_window_4"]


def test_sweep_of_one_setting_prefers_windows_where_they_pay() -> None:
    easy = train_awc.Setting(acceptance=0.95, rtt=0.01, sessions=2, base=0.06, per_row=1e-4, draft=0.003)
    alone, nothing = train_awc.throughput(easy, train_awc.ALONE, 3.0)
    eight, seen = train_awc.throughput(easy, 8, 3.0)
    assert eight > 2 * alone
    assert not nothing and seen
    assert seen[-1].acceptance > 0.8 and seen[-1].rtt == 0.01
    assert train_awc.drawn(3) == train_awc.drawn(3) != train_awc.drawn(4)


# ---------------------------------------------------------------- the command


def test_command_prints_the_ratios(
    small: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [Cell(80, 0.01, policy) for policy in ("alone", "static4", "awc", "ours")]
    monkeypatch.setattr(paper, "grid", lambda quick: cells)
    assert main(["sim", "paper", "--quick", "--jobs", "1", "--json"]) == 0
    out, err = capsys.readouterr()
    body: dict[str, Any] = json.loads(out)
    assert set(body["throughput_over_static4"]) == {"alone", "awc", "ours"}
    assert set(body["tpot_over_awc"]) == {"alone", "static4", "ours"}
    assert body["goodput_over_static4"].keys() <= {"alone", "awc", "ours"}
    ours = next(cell for cell in body["cells"] if cell["policy"] == "ours")
    assert ours["throughput_over_static4"] == pytest.approx(body["throughput_over_static4"]["ours"])
    assert "4 of 4 cells" in err
    assert {claim["agrees"] for claim in body["claims"]} <= {"yes", "no", "in part"}
    assert main(["sim", "paper", "--quick", "--jobs", "1"]) == 0
    assert "claim or aim" in capsys.readouterr().out
    assert sim_paper.__doc__
