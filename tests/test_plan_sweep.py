"""Sweeps of the planning simulator: axes, the cache, results on disk, the command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from reference_nodes.cli.main import main
from reference_nodes.simulator.plan import ScenarioError, cache, load, run
from reference_nodes.simulator.plan.axes import Axis, axis_of, grid
from reference_nodes.simulator.plan.cache import Cache, key_of
from reference_nodes.simulator.plan.results import Point, Results, Run, figure, read_results, student, table
from reference_nodes.simulator.plan.sweep import sweep

SCENARIO = """
duration = 3.0
device.gpu = {kind = "affine", base = 0.03}
device.cpu = {kind = "affine", base = 0.005, spread = 0.2}
group = [
    {name = "target", count = 1, roles = ["leader", "verifier"], device = "gpu"},
    {name = "edge", count = 1, roles = ["client", "drafter"], device = "cpu"},
]
link = [{between = ["edge", "target"], rtt = 0.01}]
workload = {kind = "closed", clients = 1, prompt = 8, output = 20}
acceptance.default = {kind = "iid", rates = [0.8]}
"""
SPEED = "throughput.tokens_per_second"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO)
    return str(path)


# ---------------------------------------------------------------- axes


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("link.rtt=0.01,0.03", ("0.01", "0.03")),
        ("window.size=0:3", ("0", "1", "2", "3")),
        ("link.rtt=0:0.1:0.025", ("0.000", "0.025", "0.050", "0.075", "0.100")),
        ("n=1:4:2, 10", ("1", "3", "10")),
        ('window={kind="static", size=4},{kind="adaptive"}', ('{kind="static", size=4}', '{kind="adaptive"}')),
        ("x=[1,2],'a,b'", ("[1,2]", "'a,b'")),
        ("routing.kind=random", ("random",)),
    ],
)
def test_axis(text: str, values: tuple[str, ...]) -> None:
    assert axis_of(text).values == values


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("link.rtt", "is no axis"),
        ("link.rtt=", "is no axis"),
        ("=1,2", "is no axis"),
        ("a=1,,2", "empty value"),
        ("a=1,1", "takes the value 1 twice"),
        ("a=5:1", "upwards"),
        ("a=1:2:0", "upwards"),
        ("a=0:inf", "upwards"),
        ("a=0:1:0.00001", "more than 10000"),
    ],
)
def test_axis_that_is_none_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ScenarioError, match=complaint):
        axis_of(text)


def test_grid_is_every_combination_once() -> None:
    found = grid([Axis("a", ("1", "2")), Axis("b", ("x", "y"))])
    assert [tuple(point.values()) for point in found] == [("1", "x"), ("1", "y"), ("2", "x"), ("2", "y")]
    with pytest.raises(ScenarioError, match="a is swept twice"):
        grid([Axis("a", ("1",)), Axis("a", ("2",))])


# ---------------------------------------------------------------- running


def test_every_point_is_the_run_that_it_says(file: str) -> None:
    results = sweep(file, [axis_of("link.rtt=0.0,0.05")], ["window.kind=static"], repeat=2)
    assert [point.at for point in results.points] == [{"link.rtt": "0.0"}, {"link.rtt": "0.05"}]
    for point in results.points:
        assert [each.seed for each in point.runs] == [1, 2]
        for each in point.runs:
            alone = run(load(file, ["window.kind=static", f"link.rtt={point.at['link.rtt']}"]), seed=each.seed)
            assert each.digest == alone.digest and each.figures == alone.figures
    near, far = (results.spread(point, SPEED) for point in results.points)
    assert near is not None and far is not None and near.mean > far.mean


def test_processes_change_nothing(file: str) -> None:
    axes = [axis_of("link.rtt=0.0,0.05")]
    assert sweep(file, axes, jobs=2).as_json() == sweep(file, axes).as_json()


def test_what_is_known_is_not_run_again(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes, kept = [axis_of("link.rtt=0.0,0.05")], Cache(tmp_path / "kept")
    seen: list[tuple[int, int, int]] = []
    first = sweep(file, axes, cache=kept, progress=lambda *at: seen.append(at))
    assert seen == [(1, 2, 0), (2, 2, 0)]
    seen.clear()
    more = [axis_of("link.rtt=0.0,0.02,0.05")]
    again = sweep(file, more, cache=kept, progress=lambda *at: seen.append(at))
    assert seen[-1] == (3, 3, 2)
    assert [again.points[0].runs, again.points[2].runs] == [point.runs for point in first.points]
    # Another program may find something else.
    monkeypatch.setattr(cache, "source_digest", lambda: "changed")
    seen.clear()
    sweep(file, axes, cache=kept, progress=lambda *at: seen.append(at))
    assert seen[-1] == (2, 2, 0)


def test_damaged_cache_file_is_run_again(file: str, tmp_path: Path) -> None:
    kept = Cache(tmp_path / "kept")
    first = sweep(file, [], repeat=1, cache=kept)
    (path,) = (tmp_path / "kept").rglob("*.json")
    path.write_text("{")
    assert sweep(file, [], cache=kept).as_json() == first.as_json()
    assert json.loads(path.read_text())["digest"] == first.points[0].runs[0].digest


def test_key_depends_on_the_files_that_a_scenario_names(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(SCENARIO.replace('kind = "closed", clients = 1, prompt = 8, output = 20',
                                                      'kind = "trace", file = "t.jsonl"'))  # fmt: skip
    keys = []
    for arrival in (1, 2):
        line = {"arrival_ms": arrival, "prompt_tokens": 3, "target_tokens": 4}
        (tmp_path / "t.jsonl").write_text(json.dumps(line))
        keys.append(key_of(load(tmp_path / "a.toml"), 1))
    assert keys[0] != keys[1]
    (tmp_path / "t.jsonl").unlink()
    with pytest.raises(ScenarioError, match=r"t\.jsonl: cannot be read"):
        key_of(load(tmp_path / "a.toml"), 1)


def test_every_point_is_checked_before_the_first_run(file: str) -> None:
    with pytest.raises(ScenarioError, match="link"):
        sweep(file, [axis_of("link.rtt=0.01,-1")], progress=lambda *at: pytest.fail("ran"))


# ---------------------------------------------------------------- results


def made() -> Results:
    runs = [Run(seed, "d", {"a": {"b": value, "none": None}, "list": [1]}) for seed, value in ((1, 2.0), (2, 4.0))]
    return Results("name", (), (Axis("k", ("v",)),), (Point({"k": "v"}, runs),), "source")


def test_spread_is_mean_extremes_and_the_interval_of_student() -> None:
    results = made()
    spread = results.spread(results.points[0], "a.b")
    assert spread is not None
    assert (spread.mean, spread.low, spread.high, spread.count) == (3.0, 2.0, 4.0, 2)
    # sd = sqrt(2), over sqrt(2) runs, times t(1).
    assert spread.half == pytest.approx(12.706)
    assert results.spread(results.points[0], "a.none") is None
    assert "3 ±13" in table(results, ["a.b"])


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (15, 2.131), (16, 2.120), (30, 2.042), (120, 1.980)])
def test_student_quantiles(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, rel=0.003)


def test_unknown_figure_is_refused_with_the_closest() -> None:
    figures = made().points[0].runs[0].figures
    with pytest.raises(ScenarioError, match=r"did you mean 'a\.none'"):
        figure(figures, "a.non")
    with pytest.raises(ScenarioError, match="below it are b, none"):
        figure(figures, "a")


def test_results_survive_the_way_to_disk_and_back(tmp_path: Path) -> None:
    results = made()
    results.write(tmp_path / "r.json")
    assert read_results(tmp_path / "r.json") == results
    results.write(tmp_path / "r.csv")
    lines = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert lines[1] == {"k": "v", "seed": "2", "digest": "d", "a.b": "4.0", "a.none": ""}
    for text, complaint in (("{}", "no result of a sweep"), ("{", "is no JSON"), ('{"format": "dsdp-sweep"}', "None")):
        (tmp_path / "r.json").write_text(text)
        with pytest.raises(ScenarioError, match=complaint):
            read_results(tmp_path / "r.json")


# ---------------------------------------------------------------- the command


def test_command_prints_a_table_and_writes_files(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["sim", "sweep", file, "--over", "link.rtt=0.01,0.05", "--repeat", "2", "--jobs", "1"]
    assert main([*argv, "--out", str(tmp_path / "out.json"), "--show", SPEED]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["link.rtt", "tokens/s"] and "±" in lines[1] and len(lines) == 3
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "out.json").read_text())
    assert list((tmp_path / "cache" / "plans").rglob("*.json"))


def test_command_refuses_what_makes_no_sense(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    for rest, complaint in (
        ([], "nothing to sweep over"),
        (["--over", "link.rtt=1", "--out", "x.txt"], "ends in .csv or .json"),
        (["--over", "link.rtt=1", "--out", "no/where.csv"], "there is no directory"),
    ):
        assert main(["sim", "sweep", file, *rest]) == 2
        assert complaint in capsys.readouterr().err
    assert main(["sim", "sweep", file, "--over", "link.rt=1,2"]) == 1
    assert "did you mean 'rtt'" in capsys.readouterr().err
