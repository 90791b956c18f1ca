"""What a run writes: each request as a row, figures over time, and that both add up to the report."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from reference_nodes.cli.main import main
from reference_nodes.simulator.plan import parse, run
from reference_nodes.simulator.plan.row import Row
from reference_nodes.simulator.plan.rows import COLUMNS, RowWriter
from reference_nodes.simulator.plan.schema import ScenarioError

SMALL = """
duration = 6.0
warmup = 1.1
slo = {ttft = 0.12, tpot = 0.03}
series = 0.5
device.gpu = {kind = "affine", base = 0.03}
device.cpu = {kind = "affine", base = 0.005, spread = 0.2}
group = [
    {name = "target", count = 1, roles = ["leader", "verifier"], device = "gpu"},
    {name = "edge", count = 2, roles = ["client", "drafter"], device = "cpu"},
]
link = [{between = ["edge", "target"], rtt = 0.01}]
workload = {kind = "closed", clients = 2, prompt = 8, output = {kind = "lognormal", median = 20, sigma = 0.5}}
acceptance.default = {kind = "iid", rates = [0.7, 0.1]}
"""
WASTE = ("stale", "wrong", "late", "duplicate", "too_deep", "evicted", "orphan", "unverified")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def small() -> dict:
    import tomllib

    return tomllib.loads(SMALL)


def test_rows_add_up_to_the_report() -> None:
    rows: list[Row] = []
    report = run(parse(small() | {"warmup": 0.0}, name="small"), on_row=rows.append)
    done = [row for row in rows if row.status == "done"]
    assert len(rows) == report["requests.arrived"] and len(done) == report["requests.done"] > 5
    assert len([row for row in rows if row.status == "unfinished"]) == report["requests.unfinished"]
    for row in done:
        assert row.drafted == row.accepted + sum(getattr(row, cause) for cause in WASTE)
        assert row.within_slo == (row.ttft <= 0.12 and row.tpot <= 0.03)
    for row in done:
        assert 0.0 < row.itl <= row.itl_max and row.itl_p95 <= row.itl_max
        # From the first token to the end lie the gaps and nothing else.
        assert round((row.e2e - row.ttft) / row.itl, 6) == round((row.e2e - row.ttft) / row.itl) < row.tokens
    assert report["latency.itl.max"] == max(row.itl_max for row in rows if row.itl_max is not None)
    drafted = sum(row.drafted for row in done)
    assert report["speculation.drafted"] == drafted
    assert report["speculation.waste"]["wrong"] == pytest.approx(sum(row.wrong for row in done) / drafted)
    good = sum(row.within_slo for row in done)
    assert 0 < good < len(done)
    assert report["throughput.within_slo"] == pytest.approx(good / len(done))
    assert all(row.drafted is None and row.within_slo is None for row in rows if row.status != "done")


def test_windows_add_up_to_the_report() -> None:
    report = run(parse(small() | {"warmup": 0.0}, name="small"))
    series, figures = report["series"], report.figures
    assert len(series["done"]) == 12
    assert sum(series["bytes"]) == figures["network"]["bytes"]
    assert sum(series["messages"]) == figures["network"]["messages"]
    assert sum(series["done"]) == figures["requests"]["done"]
    assert sum(series["good"]) / sum(series["done"]) == pytest.approx(figures["throughput"]["within_slo"])
    assert series["open"][-1] == figures["requests"]["unfinished"]
    mean = sum(series["verifier_utilisation"]) / len(series["done"])
    assert mean == pytest.approx(figures["verifiers"]["utilisation"], rel=0.05)
    assert set(map(len, (values for values in series.values() if isinstance(values, list)))) == {12}


def test_warm_up_changes_no_window() -> None:
    cold, warm = (run(parse(small() | {"warmup": warmup}, name="small")) for warmup in (0.0, 1.1))
    assert cold["network.bytes"] > warm["network.bytes"]
    for name, values in cold["series"].items():
        assert warm["series"][name] == pytest.approx(values), name


def test_command_writes_rows_and_windows(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, time = tmp_path / "rows.csv", tmp_path / "time.csv"
    assert main(["sim", "run", str(file), "--rows", str(rows), "--over-time", str(time), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    read = list(csv.DictReader(rows.open()))
    assert tuple(read[0]) == COLUMNS and len(read) == report["requests"]["arrived"]
    windows = list(csv.DictReader(time.open()))
    assert [float(line["from"]) for line in windows] == [0.5 * number for number in range(12)]
    assert sum(int(line["bytes"]) for line in windows) == sum(report["series"]["bytes"])
    # Without a width in the file there are a hundred windows.
    assert main(["sim", "run", str(file), "--set", "series=0", "--over-time", str(time)]) == 0
    assert len(list(csv.DictReader(time.open()))) == 100
    assert main(["sim", "run", str(file), "--rows", str(tmp_path / "no" / "rows.csv")]) == 2
    assert "there is no directory" in capsys.readouterr().err


def test_parquet_has_the_same_rows_or_says_what_it_needs(tmp_path: Path) -> None:
    row = Row(1, "n", "l", 0.0, "done", 3, 4, 4, 0.5, None, 0.1, 0.1, 0.1, 0.6, 1, 2, 3, "", True, 5)
    path = tmp_path / "rows.parquet"
    try:
        from pyarrow.parquet import read_table
    except ImportError:
        with pytest.raises(ScenarioError, match=r"pip install 'dsdp\[parquet\]'"), RowWriter(path):
            pytest.fail("there is no pyarrow")
        return
    with RowWriter(path) as writer:
        writer.write(row)
    (read,) = read_table(path).to_pylist()
    assert read == {name: getattr(row, name) for name in COLUMNS}
