"""Parts of the planning simulator, each against something known: the codec, closed forms, counting."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest

from dsdproto.roles.work import ExpandItem, ScoreItem
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Advance, Block, Propose, Sampling, Verdict, Verify
from reference_nodes.simulator.plan import ScenarioError, parse
from reference_nodes.simulator.plan.acceptance import NONE, IidProcess, MarkovProcess, process_of, scores_of
from reference_nodes.simulator.plan.luck import exponential, key_of, lognormal, stream, uniform
from reference_nodes.simulator.plan.memory import KvMemory
from reference_nodes.simulator.plan.oracle import DraftOracle, prompt_of, seed_of, token_at, walk
from reference_nodes.simulator.plan.row import Row
from reference_nodes.simulator.plan.scenario import Markov, Recorded
from reference_nodes.simulator.plan.series import MOST, Series
from reference_nodes.simulator.plan.sizes import size_of
from reference_nodes.simulator.plan.sketch import Sketch
from reference_nodes.simulator.plan.workload import Workload, read_trace
from tests.test_plan_run import small

# ---------------------------------------------------------------- luck


def test_luck_is_even_and_independent_of_order() -> None:
    key = key_of("test", 1)
    drawn = [uniform(key, session, position) for session in range(50) for position in range(200)]
    assert min(drawn) >= 0.0 and max(drawn) < 1.0
    assert sum(drawn) / len(drawn) == pytest.approx(0.5, abs=0.01)
    neighbours = sum(a < 0.5 and b < 0.5 for a, b in itertools.pairwise(drawn)) / len(drawn)
    assert neighbours == pytest.approx(0.25, abs=0.015)
    assert uniform(key, 7, 3) == drawn[7 * 200 + 3]
    assert uniform(key_of("test", 2), 7, 3) != drawn[7 * 200 + 3]


def test_streams_of_one_name_are_equal_and_have_the_right_means() -> None:
    a, b = stream("x", 1), stream("x", 1)
    assert [a() for _ in range(10)] == [b() for _ in range(10)]
    times = [exponential(a(), 2.0) for _ in range(20_000)]
    assert sum(times) / len(times) == pytest.approx(2.0, rel=0.02)
    sizes = sorted(lognormal(a(), 5.0, 0.5) for _ in range(20_001))
    assert sizes[10_000] == pytest.approx(5.0, rel=0.03)


# ---------------------------------------------------------------- sizes


def test_sizes_are_those_of_the_codec() -> None:
    rng = random.Random(3)

    def number() -> int:
        return rng.choice((rng.randrange(24), rng.randrange(256), rng.randrange(65536), rng.randrange(1 << 32)))

    def maybe(value: object) -> object:
        return rng.choice((None, value))

    for _ in range(300):
        count = rng.choice((1, 2, 8, 24, 60, 200))
        tokens = tuple(rng.randrange(1 << 16) for _ in range(count))
        position = number()
        some = bytes(rng.randrange(1, 200) for _ in range(count))
        parents = bytes(rng.randrange(index + 1) for index in range(count))
        token = maybe(rng.randrange(1 << 24))
        messages = [
            Propose(position=position, base=bytes(16), tokens=tokens, parents=maybe(parents), scores=maybe(some)),
            Advance(
                position=position,
                ref=number(),
                tokens=tokens,
                credit=maybe(rng.randrange(65536)),
                window=maybe(rng.randrange(1, 256)),
            ),
            Verify(round=number(), position=position, base=bytes(16), tokens=tokens, parents=maybe(parents)),
            Block(position=position, tokens=tokens, origins=maybe(some)),
            Verdict(
                round=number(),
                accepted=rng.randrange(256),
                token=token,
                digest=bytes(16),
                margin=number(),
                finish=2 if token is None else maybe(2),
                compute_us=maybe(number()),
                rows=maybe(number()),
                queue_us=maybe(number()),
            ),
        ]
        for message in messages:
            assert size_of(message) == len(encode_message(3, message)), message


# ---------------------------------------------------------------- sketch and series


def test_quantiles_are_within_one_percent_of_the_sorted_values() -> None:
    rng = random.Random(5)
    values = sorted(rng.lognormvariate(-3.0, 1.5) for _ in range(5000))
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    for share in (0.01, 0.25, 0.5, 0.95, 0.99):
        exact = values[max(0, -(-int(share * 100) * len(values) // 100) - 1)]
        assert sketch.quantile(share) == pytest.approx(exact, rel=0.01)
    assert sketch.mean == pytest.approx(sum(values) / len(values))
    assert (sketch.smallest, sketch.largest) == (values[0], values[-1])
    assert sketch.quantile(1.0) == pytest.approx(values[-1], rel=0.01)


def test_empty_sketch_says_nothing_and_zero_is_a_value() -> None:
    sketch = Sketch()
    assert sketch.mean is None and sketch.quantile(0.5) is None
    sketch.add(0.0)
    assert sketch.quantile(0.99) == 0.0


def row(status: str = "done", **changes: object) -> Row:
    values = {
        "number": 1,
        "node": "n",
        "leader": "l",
        "arrived": 0.0,
        "status": status,
        "prompt": 1,
        "output": 2,
        "tokens": 2,
        "ttft": 0.5,
        "tpot": 0.1,
        "itl": 0.1,
        "itl_p95": 0.1,
        "itl_max": 0.1,
        "e2e": 0.6,
        "attempts": 1,
        "rounds": 1,
        "accepted": 0,
        "reason": "",
    }
    return Row(**(values | changes))


def test_series_keeps_its_sums_when_windows_become_wider() -> None:
    series = Series(1.0)
    for second in range(3 * MOST):
        span = series.at(float(second))
        span.tokens += 2
        span.ended(row())
    body = series.as_json()
    assert body["width"] == 4.0 and len(series.spans) <= MOST
    assert sum(body["tokens_per_second"]) * 4.0 == 2 * 3 * MOST
    assert sum(body["done"]) == 3 * MOST
    assert body["ttft"][0] == pytest.approx(0.5)


# ---------------------------------------------------------------- acceptance and oracles


def share(process: object, rank: int, sessions: int = 50, length: int = 400) -> float:
    return sum(
        process.rank_at(session, position)[0] == rank for session in range(sessions) for position in range(length)
    ) / (sessions * length)


def test_iid_acceptance_has_its_rates() -> None:
    process = IidProcess((0.7, 0.2), 17)
    assert share(process, 0) == pytest.approx(0.7, abs=0.01)
    assert share(process, 1) == pytest.approx(0.2, abs=0.01)
    assert share(process, NONE) == pytest.approx(0.1, abs=0.01)
    assert process.rank_at(3, 5)[1] == scores_of((0.7, 0.2)) == (8, 37, 255)


def test_markov_acceptance_has_its_shares_and_stretches() -> None:
    process = MarkovProcess(Markov(good=(1.0,), bad=(0.0,), worsens=0.1, improves=0.3), 17)
    states = [[process.is_good(session, position) for position in range(300)] for session in range(60)]
    flat = [state for each in states for state in each]
    assert sum(flat) / len(flat) == pytest.approx(0.75, abs=0.02)
    left = [after for each in states for before, after in itertools.pairwise(each) if before]
    assert 1 - sum(left) / len(left) == pytest.approx(0.1, abs=0.01)
    # Asked the other way round it says the same.
    assert [process.is_good(7, position) for position in reversed(range(300))] == states[7][::-1]


def write_records(path: Path) -> None:
    streams = [
        {"ranks": [0, 1, 255], "scores": [[1, 40], [9, 20], [30, 31]], "prompt_tokens": 5},
        {"ranks": [0, 0], "scores": [[2, 50], [3, 60]], "prompt_tokens": 9},
    ]
    common = {"v": 1, "target": "t", "drafter": "d", "temperature": 0.0, "width": 2}
    lines = [json.dumps(common | stream | {"tokens": len(stream["ranks"])}) for stream in streams]
    path.write_text("\n".join(lines) + "\n")


def test_recorded_acceptance_follows_its_streams(tmp_path: Path) -> None:
    write_records(tmp_path / "pair.jsonl")
    process = process_of(Recorded("pair.jsonl"), "m", 1, tmp_path)
    assert process.lengths == ((5, 3), (9, 2))
    assert [process.rank_at(0, position)[0] for position in range(7)] == [0, 1, NONE, 0, 0, 0, 1]
    assert process.rank_at(3, 1) == (0, (3, 60))
    drawn = process_of(Recorded("pair.jsonl", order="random"), "m", 1, tmp_path)
    assert {drawn.stream_of(session) for session in range(20)} == {0, 1}
    with pytest.raises(ScenarioError, match=r"acceptance\.m\.file.*none\.jsonl"):
        process_of(Recorded("none.jsonl"), "m", 1, tmp_path)


SAMPLING = Sampling(method=0, temperature=0, top_k=0, top_p=65536, seed=seed_of(3, 4))


def expand(oracle: DraftOracle, tokens: tuple[int, ...], parents: tuple[int, ...], node: int) -> list[int]:
    item = ExpandItem("s", prompt_of(6), tokens, parents, (node,), SAMPLING, 3)
    return [child.token for child in oracle.expand(item)[0]]


def test_drafter_guesses_right_where_the_process_says_so_and_never_below_a_wrong_guess() -> None:
    process = IidProcess((0.0, 1.0), 1)  # always its second choice
    oracle = DraftOracle(process, 2)
    first = expand(oracle, (), (), 0)
    assert first[1] == token_at(6) and len(set(first)) == 3
    assert [token % 2 for token in first] == [1, 0, 1]
    assert expand(oracle, (first[1],), (0,), 1)[1] == token_at(7)
    assert all(token % 2 for token in expand(oracle, (first[0],), (0,), 1))


def test_walk_takes_the_true_path_and_the_targets_own_token() -> None:
    prefix = prompt_of(6)
    right = [token_at(position) for position in range(6, 12)]
    tokens, parents = (1, right[0], 3, right[1], right[1]), (0, 0, 2, 2, 1)
    item = ScoreItem("s", prefix, tokens, parents, SAMPLING, (), 10)
    walked, accepted = walk(item)
    assert (walked.accepted, walked.tokens, accepted) == (4, tuple(right[:3]), 2)
    short, accepted = walk(ScoreItem("s", prefix, tokens, parents, SAMPLING, (), 2))
    assert (short.accepted, short.tokens, accepted) == (4, tuple(right[:2]), 2)
    alone, accepted = walk(ScoreItem("s", prefix, (), (), SAMPLING, (), 10))
    assert (alone.accepted, alone.tokens, accepted) == (0, (right[0],), 0)


# ---------------------------------------------------------------- memory


def test_memory_throws_out_who_was_served_longest_ago() -> None:
    memory = KvMemory(100)
    memory.keep("a", 40)
    memory.keep("b", 40)
    memory.keep("a", 45)
    memory.keep("c", 30)
    assert [memory.held(name) for name in "abc"] == [45, 0, 30]
    assert (memory.used, memory.evictions, memory.evicted, memory.highest) == (75, 1, 40, 115)
    memory.keep("d", 500)
    assert memory.held("d") == memory.used == 500
    memory.forget("d")
    assert memory.used == 0


# ---------------------------------------------------------------- workload


def workload_of(**given: object) -> Workload:
    scenario = parse(small(workload=given, duration=1000.0))
    return Workload(scenario, 1)


def test_poisson_arrivals_have_their_rate() -> None:
    requests = list(workload_of(kind="poisson", rate=5.0, prompt=3, output=4).arrivals())
    assert len(requests) == pytest.approx(5000, rel=0.04)
    assert all(a.at < b.at for a, b in itertools.pairwise(requests))
    assert [request.number for request in requests] == list(range(len(requests)))
    gaps = [b.at - a.at for a, b in itertools.pairwise(requests)]
    mean = sum(gaps) / len(gaps)
    # Exponential gaps have a standard deviation as large as their mean.
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.1)


def test_closed_loop_asks_again_after_thinking() -> None:
    workload = workload_of(kind="closed", clients=3, think=2.0, ramp=3.0, prompt=3, output=4)
    first = list(workload.arrivals())
    assert [(request.number, request.at) for request in first] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    again = workload.next(first[1], 10.0)
    assert again is not None and again.number == 4 and again.client == 1 and again.at > 10.0
    assert workload.next(first[1], 1e6) is None
    waited = workload.next(first[1], 10.0, pause=100.0)
    assert waited is not None and waited.at == 110.0


def test_trace_is_read_scaled_and_repeated(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    lines = [{"arrival_ms": at, "prompt_tokens": 7, "target_tokens": 9 + at} for at in (0, 1000, 2000)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = {"kind": "trace", "file": str(path), "speed": 2.0}
    once = list(workload_of(**given).arrivals())
    assert [(request.at, request.output) for request in once] == [(0.0, 9), (0.5, 1009), (1.0, 2009)]
    twice = [request.at for request, _ in zip(workload_of(**given, repeat=True).arrivals(), range(5))]
    assert twice == [0.0, 0.5, 1.0, 1.5, 2.0]
    path.write_text('{"arrival_ms": 1}\n')
    read_trace.cache_clear()
    with pytest.raises(ScenarioError, match="line 1"):
        list(workload_of(**given).arrivals())


def test_lengths_of_a_trace_and_log_normal_ones(tmp_path: Path) -> None:
    path = tmp_path / "lengths.jsonl"
    path.write_text(json.dumps({"arrival_ms": 0, "prompt_tokens": 7, "target_tokens": 9}) + "\n")
    lengths = {"kind": "trace", "file": str(path)}
    drawn = next(workload_of(kind="poisson", rate=1.0, prompt=lengths, output=lengths).arrivals())
    assert (drawn.prompt, drawn.output) == (7, 9)
    normal = {"kind": "lognormal", "median": 100, "sigma": 0.5, "low": 50, "high": 200}
    many = [request.output for request in workload_of(kind="poisson", rate=5.0, output=normal).arrivals()]
    assert min(many) == 50 and max(many) == 200
    assert sorted(many)[len(many) // 2] == pytest.approx(100, rel=0.05)
