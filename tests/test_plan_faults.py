"""What breaks in a planning run, what it costs, and what memory that is too small costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reference_nodes.simulator.plan import ScenarioError, parse, run
from reference_nodes.simulator.plan.rows import COLUMNS, RowWriter
from tests.test_plan_run import small


def quorum(**changes: Any) -> dict[str, Any]:
    """Three members that vote, one client that drafts."""
    table = small(commit="quorum", duration=30.0)
    table["group"][0] |= {"count": 3, "roles": ["leader", "verifier", "voter"], "sync": 0.002}
    table["link"].append({"between": ["target", "target"], "rtt": 0.002})
    table["workload"] = {"kind": "closed", "clients": 1, "prompt": 32, "output": 300}
    return table | changes


def test_killed_leader_costs_a_solo_stream_and_not_one_of_a_quorum() -> None:
    fault = [{"kind": "kill", "who": "target-0", "at": 2.0, "length": 3.0}]
    in_turn = [fault[0] | {"who": f"target-{index}", "at": 2.0 + 5.0 * index} for index in range(3)]
    kept = run(parse(quorum(fault=in_turn)), paired=False)
    assert kept["requests.failed"] == 0 and kept["requests.resumed"] >= 1
    assert kept["requests.done"] > 5
    alone = run(parse(small(fault=fault, workload={"kind": "closed", "clients": 1, "output": 300})))
    assert alone["requests.failed"] >= 1
    assert alone["faults.cost.failed"] == alone["requests.failed"]
    assert alone["faults.strikes"] == {"kill": 1}


@pytest.mark.parametrize(
    "kind", ["kill", "power", "pause", "cut", "one-way", "pair", "isolate", "split", "clog", "slow"]
)
def test_every_kind_of_fault_strikes_ends_and_costs(kind: str) -> None:
    fault: dict[str, Any] = {"kind": kind, "who": "target-0", "at": 3.0, "length": 3.0, "factor": 5.0}
    workload = {"kind": "closed", "clients": 1, "prompt": 32, "output": 60}
    report = run(parse(small(fault=[fault], duration=16.0, workload=workload, patience={"retries": 3})))
    assert report["faults.strikes"][kind] >= 1
    assert report["faults.cost"]["throughput.tokens_per_second"] < 0.0
    counts = report["requests"]
    assert counts["arrived"] == counts["done"] + counts["refused"] + counts["failed"] + counts["unfinished"]
    # It is over in good time: requests are served after it as before.
    late = report["faults.without"]["requests"]["done"] * 0.5
    assert counts["done"] > late


def test_faults_come_back_at_their_rate_and_strike_the_same_in_every_run() -> None:
    fault = [{"kind": "slow", "who": "edge", "every": 1.0, "length": 0.1}]
    one, two = (run(parse(small(fault=fault, duration=30.0, window=window)), paired=False) for window in WINDOWS)
    assert one["faults.strikes"] == two["faults.strikes"]
    assert 18 < one["faults.strikes"]["slow"] < 42
    assert "cost" not in one["faults"]


WINDOWS = ({"kind": "adaptive"}, {"kind": "static", "size": 2})


def test_client_that_dies_loses_its_requests_and_asks_again() -> None:
    fault = [{"kind": "kill", "who": "edge-0", "at": 5.0, "length": 2.0}]
    rows: list[Any] = []
    report = run(parse(small(fault=fault)), on_row=rows.append, paired=False)
    assert report["requests.reasons"]["CLIENT_DIED"] == 1
    assert max(row.arrived for row in rows if row.status == "done") > 8.0


def test_memory_too_small_is_computed_again_and_ends_nothing() -> None:
    workload = {"kind": "closed", "clients": 4, "prompt": 200, "output": 100}
    device = {"gpu": {"kind": "affine", "base": 0.03, "per_row": 1e-4}, "cpu": {"kind": "affine", "base": 0.005}}
    ample, tight = (
        run(parse(small(workload=workload, device=device, verifying={"kv_tokens": tokens}))) for tokens in (0, 600)
    )
    assert ample["verifiers.evictions"] == 0 < tight["verifiers.evictions"]
    assert tight["verifiers.prefix_positions_in_scores"] > 100 * ample["verifiers.prefix_positions_in_scores"]
    assert tight["requests.failed"] == tight["requests.refused"] == 0 < tight["requests.done"]
    assert tight["latency.tpot.mean"] > ample["latency.tpot.mean"]


def test_lossy_and_narrow_links_are_slower_and_lose_nothing() -> None:
    window = {"kind": "static", "size": 4}
    good = run(parse(small(window=window)))
    lossy = run(parse(small(window=window), ["link.loss=0.05"]))
    narrow = run(parse(small(window=window), ["link.bandwidth=50e3"]))
    # 5 % of three messages a round come a retransmission, 30 ms, later.
    assert lossy["latency.itl.mean"] - good["latency.itl.mean"] == pytest.approx(2 * 0.05 * 0.03, rel=0.5)
    # About 110 bytes each way, 16 ms each at 50 kbit/s.
    assert 0.02 < narrow["latency.itl.mean"] - good["latency.itl.mean"] < 0.06
    for report in (lossy, narrow):
        assert report["requests.failed"] == 0 < report["requests.done"]


def test_series_adds_up_to_the_whole() -> None:
    report = run(parse(small(series=2.0)))
    body = report["series"]
    assert len({len(values) for name, values in body.items() if name != "width"}) == 1
    assert sum(body["done"]) == report["requests.done"]
    tokens = sum(body["tokens_per_second"]) * body["width"]
    assert tokens == pytest.approx(report["throughput.tokens_per_second"] * report["counted.seconds"])


def test_profile_and_record_make_a_scenario(tmp_path: Path) -> None:
    profile = {
        "v": 1,
        "role": "verifier",
        "model": "m",
        "machine": {},
        "steps": [
            {"rows": rows, "sessions": 1, "context": 64, "seconds": [took, took, took], "n": 9}
            for rows, took in ((1, 0.03), (9, 0.038))
        ],
        "prefill": [{"positions": 64, "context": 0, "seconds": [0.05, 0.05, 0.05], "n": 5}],
        "node": {"verify_overhead_s": 0.0015, "verify_session_s": 0.0005},
    }
    (tmp_path / "v.json").write_text(json.dumps(profile))
    stream = {"v": 1, "target": "t", "drafter": "d", "temperature": 0.0, "prompt_tokens": 40, "tokens": 64, "width": 1}
    (tmp_path / "pair.jsonl").write_text(json.dumps(stream | {"ranks": [0, 0, 0, 255] * 16, "scores": [[5]] * 64}))
    table = small(
        acceptance={"default": {"kind": "recorded", "file": "pair.jsonl"}},
        workload={
            "kind": "closed",
            "clients": 1,
            "prompt": {"kind": "recorded"},
            "output": {"kind": "recorded"},
        },
        window={"kind": "static", "size": 3},
    )
    table["device"]["gpu"] = {"kind": "table", "profile": "v.json"}
    rows: list[Any] = []
    report = run(parse(table, folder=str(tmp_path)), on_row=rows.append)
    assert {(row.prompt, row.output, row.tokens) for row in rows if row.status == "done"} == {(40, 64, 64)}
    # Rounds of three right guesses and the target's own token; 4 rows take 33 ms, the node 2 ms around them.
    assert report["speculation.tokens_per_round"] == pytest.approx(4.0, rel=0.07)
    assert report["latency.itl.p50"] == pytest.approx(0.01 + 3 * 0.005 + 0.033 + 0.002, rel=0.02)
    table["device"]["cpu"] = {"kind": "table", "profile": "v.json"}
    with pytest.raises(ScenarioError, match=r"device\.cpu\.profile: v\.json was measured on a verifier"):
        run(parse(table, folder=str(tmp_path)))


def test_rows_go_to_csv_and_parquet_says_what_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with RowWriter(path) as writer:
        run(parse(small()), on_row=writer.write)
    lines = path.read_text().splitlines()
    assert lines[0].split(",") == list(COLUMNS) and len(lines) > 3
    try:
        import pyarrow.parquet
    except ImportError:
        with pytest.raises(ScenarioError, match="needs pyarrow"), RowWriter(tmp_path / "rows.parquet"):
            pass
        return
    with RowWriter(tmp_path / "rows.parquet") as writer:
        run(parse(small()), on_row=writer.write)
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    assert table.num_rows == len(lines) - 1 and table.column_names == list(COLUMNS)
