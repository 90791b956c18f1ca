"""Figures of the planning simulator: what is in them, which files are written, what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from reference_nodes.cli.main import main
from reference_nodes.simulator.plan import ScenarioError
from reference_nodes.simulator.plan.axes import Axis
from reference_nodes.simulator.plan.plots import over
from reference_nodes.simulator.plan.plots_runs import courses, curve_of, distributions, mean_of, pooled, waste
from reference_nodes.simulator.plan.results import Point, Results, Run
from reference_nodes.simulator.plan.sketch import Sketch
from reference_nodes.simulator.plan.sources import joined, of_results, only, read_source
from reference_nodes.simulator.plan.style import add_legend, save, styled

pytest.importorskip("matplotlib", reason="figures need matplotlib (extra `plots`)")

WINDOWS = ('{kind="static", size=4}', '{kind="adaptive"}')
SMALL = """
duration = 2.0
device.gpu = {kind = "affine", base = 0.03}
device.cpu = {kind = "affine", base = 0.005}
group = [
    {name = "target", count = 1, roles = ["leader", "verifier"], device = "gpu"},
    {name = "edge", count = 1, roles = ["client", "drafter"], device = "cpu"},
]
link = [{between = ["edge", "target"], rtt = 0.01}]
workload = {kind = "closed", clients = 1, prompt = 8, output = 9}
acceptance.default = {kind = "iid", rates = [0.8]}
slo = {ttft = 0.5, tpot = 0.2}
"""


def sketch(*values: float) -> dict[str, Any]:
    made = Sketch()
    for value in values:
        made.add(value)
    return made.as_json()


def figures(speed: float = 50.0, late: float = 0.1, series: list[float] | None = None) -> dict[str, Any]:
    made = {
        "throughput": {"tokens_per_second": speed},
        "latency": {name: sketch(0.1, 0.2, 0.3, 0.4) for name in ("ttft", "tpot", "itl", "e2e")},
        "speculation": {"acceptance_of_drafted": 0.6, "waste": {"wrong": 0.4 - late, "late": late, "stale": 0.0}},
    }
    if series is not None:
        names = ("tokens_per_second", "open", "ttft", "tpot", "done")
        made["series"] = {"width": 2.0} | {name: [1.0, None, *series] for name in names}
    return made


def swept(rtts: tuple[str, ...] = ("0.0", "0.05", "0.1"), windows: tuple[str, ...] = WINDOWS) -> Results:
    """Two seeds at each point; speed 100 + 10 n at the n-th round-trip time, plus 1 for the second seed."""
    points = tuple(
        Point(
            {"link.rtt": rtt, "window": window}, [Run(seed, "d", figures(100.0 + 10.0 * n + seed)) for seed in (0, 1)]
        )
        for n, rtt in enumerate(rtts)
        for window in windows
    )
    return Results("made", (), (Axis("link.rtt", rtts), Axis("window", windows)), points, "source")


@pytest.fixture(autouse=True)
def style() -> Any:
    with styled():
        yield


def names_of(figure: Any) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


# ---------------------------------------------------------------- over a parameter


def test_over_has_a_line_for_each_combination_and_a_band_over_seeds() -> None:
    figure = over(swept())
    left, right = figure.axes
    assert [line.get_label() for line in left.lines] == ["static, size=4", "adaptive"] == names_of(figure)
    assert list(left.lines[0].get_xdata()) == [0.0, 0.05, 0.1]
    assert list(left.lines[0].get_ydata()) == pytest.approx([100.5, 110.5, 120.5])
    assert (left.get_xlabel(), left.get_ylabel()) == ("link.rtt (s)", "tokens/s")
    assert right.get_ylabel() == "TPOT mean (ms)"
    # sd of two seeds one apart is sqrt(1/2), over sqrt(2), times Student's t(1).
    band = left.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(120.5 + 12.706 / 2) and band.min() == pytest.approx(100.5 - 12.706 / 2)
    assert left.get_ylim()[0] == 0.0 and left.get_ylim()[1] > band.max()
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in left.lines}) == 2


def test_over_names_draws_points_and_not_lines() -> None:
    (axis,) = over(swept(), ["throughput.tokens_per_second"], "window").axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["static,\nsize=4", "adaptive"]
    assert len(axis.containers) == 3 and all(line.get_linestyle() == "None" for line in axis.lines)


def test_wide_parameters_get_a_logarithmic_axis() -> None:
    assert over(swept(("0.001", "0.01", "0.1"))).axes[0].get_xscale() == "log"
    assert over(swept()).axes[0].get_xscale() == "linear"


def test_over_refuses_what_it_cannot_draw() -> None:
    with pytest.raises(ScenarioError, match=r"window\.size was not swept; there are link\.rtt, window"):
        over(swept(), x="window.size")
    with pytest.raises(ScenarioError, match=r"did you mean 'latency\.tpot\.p99'"):
        over(swept(), ["latency.tpot.p9"])
    many = tuple(f"{n}" for n in range(9))
    with pytest.raises(ScenarioError, match="9 lines are too many, at most 8"):
        over(swept(many), x="window")
    with pytest.raises(ScenarioError, match="nothing was swept"):
        over(only(swept(), ["link.rtt=0", "window=adaptive"]))


def test_only_picks_points_by_value_or_short_name() -> None:
    found = only(swept(), ["link.rtt=0.050"])
    assert [axis.key for axis in found.axes] == ["window"]
    assert [point.at for point in found.points] == [{"window": window} for window in WINDOWS]
    assert list(of_results(only(swept(), ["window=static, size=4"])).runs) == ["rtt 0.0", "rtt 0.05", "rtt 0.1"]
    with pytest.raises(ScenarioError, match=r"link\.rtt took 0\.0, 0\.05, 0\.1"):
        only(swept(), ["link.rtt=0.2"])
    with pytest.raises(ScenarioError, match=r"swept was link\.rtt, window"):
        only(swept(), ["link.loss=0"])


# ---------------------------------------------------------------- waste


def test_waste_is_a_stack_of_shares_that_fills_the_bar() -> None:
    (axis,) = waste({"one": figures(late=0.1), "two": figures(late=0.3)}).axes
    stacks = {bars.get_label().partition(":")[0]: bars for bars in axis.containers}
    assert list(stacks) == ["accepted", "wrong", "late"]  # nothing was stale
    assert [bar.get_width() for bar in stacks["late"]] == pytest.approx([10.0, 30.0])
    assert [bar.get_x() for bar in stacks["late"]] == pytest.approx([90.0, 70.0])
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["one", "two"]
    nothing = figures() | {"speculation": {"acceptance_of_drafted": None, "waste": {"late": None}}}
    with pytest.raises(ScenarioError, match="no draft token"):
        waste({"none": nothing})


def test_every_cause_of_the_protocol_has_a_name_in_the_figure() -> None:
    from dsdproto.roles.leader_session import WASTE_CAUSES
    from reference_nodes.simulator.plan.plots_runs import CAUSES

    assert set(CAUSES) == {cause.value for cause in WASTE_CAUSES}


def test_seeds_of_a_point_are_taken_together() -> None:
    mean = mean_of([figures(late=0.1, series=[3.0]), figures(late=0.3, series=[5.0, 7.0])])
    assert mean["speculation"]["waste"]["late"] == pytest.approx(0.2)
    assert mean["series"]["tokens_per_second"] == [1.0, None, 4.0, 7.0]
    alone = figures()
    assert mean_of([alone]) is alone


# ---------------------------------------------------------------- distributions


def test_percentiles_of_a_sketch_are_its_quantiles() -> None:
    made = Sketch()
    for value in range(1, 1001):
        made.add(value / 1e3)
    found = made.quantiles()
    assert len(found) == 101 and found[0] == 0.001 and found[-1] == 1.0
    assert found == sorted(found)
    assert all(found[n] == made.quantile(n / 100) for n in range(1, 100))
    assert Sketch().quantiles() == []


def test_curves_are_distribution_functions() -> None:
    assert curve_of([(3.0, 1.0), (1.0, 1.0), (2.0, 2.0)]) == [(1.0, 0.25), (2.0, 0.75), (3.0, 1.0)]
    # A run of three values counts three times as much as one of one.
    both = pooled([sketch(0.1, 0.1, 0.1), sketch(0.9)])
    assert max(share for value, share in both if value < 0.5) == pytest.approx(0.75)


def test_distributions_have_a_panel_for_each_latency_and_the_slo() -> None:
    curves = {name: {"ttft": [(0.1, 0.5), (0.3, 1.0)], "e2e": [(20.0, 1.0)]} for name in ("a", "b")}
    figure = distributions(curves, ["ttft", "e2e"], {"ttft": 0.2})
    left, right = figure.axes
    line = left.lines[0]
    assert list(line.get_xdata()) == [100.0, 100.0, 300.0] and list(line.get_ydata()) == [0.0, 0.5, 1.0]
    assert left.get_xlabel() == "TTFT (ms)" and right.get_xlabel() == "end-to-end latency (s)"
    assert list(left.lines[2].get_xdata()) == [200.0, 200.0] and left.texts[0].get_text() == "SLO"
    assert names_of(figure) == ["a", "b"] and not right.texts
    with pytest.raises(ScenarioError, match="ttfb has no distribution; there are ttft, tpot, itl, e2e"):
        distributions(curves, ["ttfb"])
    with pytest.raises(ScenarioError, match="tpot: there is no value"):
        distributions(curves)
    with pytest.raises(ScenarioError, match="9 lines are too many"):
        distributions({str(n): curves["a"] for n in range(9)})


# ---------------------------------------------------------------- over time


def test_courses_stand_in_the_middle_of_their_windows() -> None:
    figure = courses({"run": figures(series=[3.0])})
    speed, _, ttft, tpot = figure.axes
    # The second window has no value.
    assert list(speed.lines[0].get_xdata()) == [1.0, 5.0] and list(speed.lines[0].get_ydata()) == [1.0, 3.0]
    assert list(ttft.lines[0].get_ydata()) == [1e3, 3e3]
    assert speed.get_xlim() == (0.0, 6.0)
    assert (speed.get_xlabel(), tpot.get_xlabel()) == ("", "simulated time (s)")
    with pytest.raises(ScenarioError, match="run it with --set series=1"):
        courses({"run": figures()})
    with pytest.raises(ScenarioError, match="speed is not known over time"):
        courses({"run": figures(series=[])}, ["speed"])


# ---------------------------------------------------------------- files


def test_files_are_of_their_kinds_and_the_same_each_time(tmp_path: Path) -> None:
    for turn in ("a", "b"):
        written = save(waste({"one": figures()}, "column"), tmp_path / turn, ("pdf", "svg", "png"))
        assert [path.name for path in written] == [f"{turn}.pdf", f"{turn}.svg", f"{turn}.png"]
    for kind, magic in (("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")):
        body = (tmp_path / f"a.{kind}").read_bytes()
        assert body.startswith(magic) and body == (tmp_path / f"b.{kind}").read_bytes()


def test_legend_breaks_where_names_are_long() -> None:
    figure = over(swept())
    figure.legends.clear()
    figure.axes[0].lines[0].set_label("x" * 80)
    add_legend(figure, figure.axes[0])
    assert figure.legends[0]._ncols == 1


def test_sources_are_told_apart(tmp_path: Path) -> None:
    report = figures() | {"settings": {"slo": {"ttft": 0.5, "tpot": 0.0}}}
    (tmp_path / "r.json").write_text(json.dumps(report))
    (tmp_path / "r.csv").write_text("status,ttft,tpot,e2e\ndone,0.2,0.1,1\nfailed,,,\ndone,0.1,,1\n")
    run, rows = (read_source(tmp_path / name) for name in ("r.json", "r.csv"))
    assert list(run.runs) == ["r"] and run.limits == {"ttft": 0.5, "tpot": 0.0}
    assert rows.curves["r"]["ttft"] == [(0.1, 0.5), (0.2, 1.0)] and rows.curves["r"]["tpot"] == [(0.1, 1.0)]
    both = joined([("r.json", run), ("r.csv", rows)])
    assert list(both.curves) == ["r.json", "r.csv"] and list(both.runs) == ["r.json"] and both.limits == {}
    faulty = report | {"faults": {"without": figures(late=0.0)}}
    (tmp_path / "f.json").write_text(json.dumps(faulty))
    assert list(read_source(tmp_path / "f.json").runs) == ["with faults", "without"]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.json", "{", "is no JSON"),
        ("a.json", "[]", "neither a report"),
        ("a.json", '{"format": "dsdp-sweep", "v": 9}', "version 9 is not known"),
        ("a.json", '{"latency": {"ttft": {}}, "speculation": {}}', "of an earlier version"),
        ("a.csv", "x,y\n1,2\n", "has no columns status"),
        ("a.csv", "status,ttft,tpot,e2e\ndone,1\n", "line 2"),
        ("a.csv", "status,ttft,tpot,e2e\ndone,x,1,1\n", "could not convert"),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ScenarioError, match=complaint):
        read_source(tmp_path / name)


# ---------------------------------------------------------------- the command


def test_command_draws_all_that_a_sweep_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swept().write(tmp_path / "s.json")
    assert main(["sim", "plot", str(tmp_path / "s.json"), "-o", str(tmp_path / "f"), "--format", "svg"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / f"f-{name}.svg") for name in ("over", "latency", "waste")]
    text = (tmp_path / "f-over.svg").read_text()
    assert "tokens/s" in text and "link.rtt (s)" in text


def test_command_runs_a_scenario_and_draws_one_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.toml").write_text(SMALL)
    argv = ["sim", "plot", str(tmp_path / "small.toml"), "--figure", "course", "--out", str(tmp_path / "c.png")]
    assert main([*argv, "--json", "--set", "workload.output=5"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": [str(tmp_path / "c.png")]}
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_command_refuses_what_makes_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    swept().write(tmp_path / "s.json")
    (tmp_path / "rows.csv").write_text("status,ttft,tpot,e2e\ndone,1,1,1\n")
    sweep, rows = str(tmp_path / "s.json"), str(tmp_path / "rows.csv")
    for argv, status, complaint in (
        ([sweep, "--show", "ttft"], 2, "--show belongs to one figure"),
        ([sweep, "--figure", "waste", "--x", "window"], 2, "--x belongs to --figure over"),
        ([sweep, "--set", "seed=2"], 2, "holds results"),
        ([sweep, "-o", "a.pdf", "--format", "png"], 2, "give one of them"),
        ([sweep, "-o", "no/where"], 2, "there is no directory"),
        ([sweep, rows], 1, "drawn by themselves"),
        ([sweep, "--figure", "course"], 1, "no figures over time"),
        ([rows, "--figure", "over"], 1, "it needs a sweep"),
        ([rows, "--figure", "waste"], 1, "have latencies only"),
        ([str(tmp_path / "none.json")], 1, "cannot be read"),
        (["lan-laptop"], 1, "did you mean 'lan-laptops'"),
        (["lan-laptops", "--where", "a=b"], 2, "picks points of a sweep"),
    ):
        assert main(["sim", "plot", *argv]) == status, argv
        assert complaint in capsys.readouterr().err, argv


def test_without_matplotlib_the_command_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    swept().write(tmp_path / "s.json")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["sim", "plot", str(tmp_path / "s.json"), "--json"]) == 1
    said = capsys.readouterr()
    assert "pip install 'dsdp[plots]'" in said.err
    assert json.loads(said.out)["error"]["code"] == "scenario"


def test_matplotlib_is_not_loaded_unless_it_is_needed() -> None:
    import subprocess

    code = "import sys, reference_nodes.cli.main as m, reference_nodes.simulator.plan.sources; m.make_parser(); "
    found = subprocess.run(
        [sys.executable, "-c", code + "print('matplotlib' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"
