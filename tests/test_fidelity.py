"""What `dsdp bench fidelity` is made of: shared machines in the simulator, predictions, figures, and the slow road."""

import json
import socket

import pytest

from dsdproto.effects import Computed
from dsdproto.registry import Role
from dsdproto.roles.work import DraftDone
from reference_nodes.bench.delay import SlowRelay
from reference_nodes.bench.fidelity import LIVE_FILE, fidelity_text, predict_all
from reference_nodes.bench.fidelity_cells import Cell, LiveError, Request, Run, figures, load_live, save_live
from reference_nodes.bench.fidelity_plan import (
    DRAFTER_FILE,
    RECORD_FILE,
    VERIFIER_FILE,
    Setting,
    SharedMachine,
    _Job,
    predict,
)
from reference_nodes.cli.main import main
from reference_nodes.profile.document import Prefill, Profile, Step
from reference_nodes.profile.record import ABSENT, StreamRecord, write_records
from reference_nodes.profile.table import Table, at, rising
from reference_nodes.simulator.world import World

ABOUT = {"base_rtt": 0.001, "passing": 0.0002, "cores": 2}

# ---------------------------------------------------------------- a machine that two share


class Node:
    """What a shared machine needs of a node: a world, and somebody to give results to."""

    def __init__(self, world):
        self.world, self.results, self.owed = world, [], 0.0

    def _computed(self, life, done):
        self.results.append((self.world.now, done.result.seconds))


def jobs(*given):
    """Run jobs (begin, work, slowdown) on one machine; (end, seconds reported) of each."""
    world, machine, nodes = World(), SharedMachine(), []
    for begin, work, slowdown in given:
        node = Node(world)
        nodes.append(node)

        def start(node=node, work=work, slowdown=slowdown):
            done = Computed((Role.DRAFTER, 1), DraftDone((), work))
            machine.begin(_Job(node, done, 0, work, work, world.now, slowdown))

        world.at(begin, start)
    world.run()
    return [pytest.approx(node.results[0]) for node in nodes]


def test_a_job_alone_takes_what_it_takes():
    assert jobs((1.0, 2.0, 3.0)) == [(3.0, 2.0)]
    assert jobs((0.0, 1.0, 2.0), (1.0, 1.0, 2.0)) == [(1.0, 1.0), (2.0, 1.0)]


def test_two_jobs_at_once_slow_each_other_down_while_both_compute():
    # The second begins half way through the first: 1 s of work is left of it, at half its speed.
    assert jobs((0.0, 2.0, 2.0), (1.0, 1.0, 2.0)) == [(3.0, 3.0), (3.0, 2.0)]
    # The short one ends after 1 s at half speed; the long one has done 0.5 s by then and goes on at full speed.
    assert jobs((0.0, 2.0, 2.0), (0.0, 0.5, 2.0)) == [(2.5, 2.5), (1.0, 1.0)]


def test_each_has_a_slowdown_of_its_own():
    # 1 s at a quarter of its speed; meanwhile the other, hardly slowed, does 0.8 of its 2 s.
    assert jobs((0.0, 2.0, 1.25), (0.0, 0.25, 4.0)) == [(2.2, 2.2), (1.0, 1.0)]


def test_without_contention_nobody_notices_the_other():
    assert jobs((0.0, 2.0, 1.0), (0.5, 1.0, 1.0)) == [(2.0, 2.0), (1.5, 1.0)]


def test_what_a_node_owes_for_messages_comes_at_the_end_of_its_job():
    world, machine, node = World(), SharedMachine(), Node(World())
    node.world = world
    machine.begin(_Job(node, Computed((Role.DRAFTER, 1), DraftDone((), 2.0)), 0, 2.0, 2.0, 0.0, 1.0))
    world.at(1.0, lambda: setattr(node, "owed", 0.5))
    world.run()
    assert node.results == [(pytest.approx(2.5), pytest.approx(2.5))] and node.owed == 0.0


def test_who_passes_messages_on_takes_time_from_jobs_where_no_core_is_free():
    for cores, late in ((2, 0.25), (3, 0.0)):
        world, machine = World(), SharedMachine(0.5, cores)
        nodes = [Node(world), Node(world)]
        for node, work in zip(nodes, (2.0, 4.0)):
            machine.begin(_Job(node, Computed((Role.DRAFTER, 1), DraftDone((), work)), 0, work, work, 0.0, 1.0))
        world.at(1.0, machine.passed)
        world.at(3.0, machine.passed)  # one of two computes: the other core is free
        world.run()
        assert [node.results[0][0] for node in nodes] == [pytest.approx(2.0 + late), pytest.approx(4.0 + late)]


def test_a_prefix_that_is_missing_costs_what_a_prompt_costs_where_that_is_less():
    steps = [step(rows, 1, 64, 0.010 + 0.004 * (rows - 1)) for rows in (1, 21)]
    table = Table(Profile("verifier", "m", {}, tuple(steps), (Prefill(64, 0, (0.064, 0.064, 0.064), 3),)))
    assert table.seconds(11, 1, 64, 0, luck) == pytest.approx(0.050)
    assert table.seconds(11, 1, 64, 0, luck, beyond=8) == pytest.approx(0.010 + 2 * 0.004 + 8 * 0.001)
    dear = Table(Profile("verifier", "m", {}, tuple(steps), (Prefill(64, 0, (0.64, 0.64, 0.64), 3),)))
    assert dear.seconds(11, 1, 64, 0, luck, beyond=8) == pytest.approx(0.050)


# ---------------------------------------------------------------- tables


def step(rows, sessions, context, median, n=9, low=0.9, high=1.2):
    return Step(rows, sessions, context, (median * low, median, median * high), n)


def luck():
    return 0.5


def test_a_table_is_exact_where_it_was_measured_and_linear_in_between():
    steps = [step(1, 1, 64, 0.010), step(5, 1, 64, 0.018), step(4, 4, 64, 0.030), step(8, 4, 64, 0.038)]
    table = Table(Profile("verifier", "m", {}, tuple(steps), ()))
    assert table.seconds(1, 1, 64, 0, luck) == pytest.approx(0.010)
    assert table.seconds(3, 1, 64, 0, luck) == pytest.approx(0.014)
    assert table.seconds(9, 1, 64, 0, luck) == pytest.approx(0.026), "the last slope goes on"
    assert table.seconds(8, 4, 256, 0, luck) == pytest.approx(0.038)
    # Three of four sessions: two thirds of the way from one session's 0.016 to the four's 0.030.
    assert table.seconds(4, 3, 192, 0, luck) == pytest.approx(0.016 + (0.030 - 0.016) * 2 / 3)


def test_a_table_knows_contexts_and_prompts():
    steps = (step(1, 1, 100, 0.010), step(1, 1, 300, 0.014))
    prefill = (Prefill(64, 0, (0.1, 0.1, 0.1), 3), Prefill(64, 128, (0.14, 0.14, 0.14), 3))
    verifier = Table(Profile("verifier", "m", {}, steps, prefill))
    assert verifier.seconds(1, 1, 200, 0, luck) == pytest.approx(0.012)
    assert verifier.seconds(0, 0, 64, 64, luck) == pytest.approx(0.1)
    assert verifier.seconds(0, 0, 64 + 64, 64, luck) == pytest.approx(0.12), "64 positions after 64 others"
    assert verifier.seconds(0, 0, 32, 32, luck) == pytest.approx(0.05), "in proportion"
    drafter = Table(Profile("drafter", "m", {}, steps, prefill))
    assert drafter.seconds(1, 1, 64, 64, luck) == pytest.approx(0.1), "one forward, not two"


def test_a_table_draws_from_the_measured_deciles():
    table = Table(Profile("verifier", "m", {}, (step(1, 1, 8, 0.010),), ()))
    times = [table.seconds(1, 1, 8, 0, lambda u=u: u) for u in (0.1, 0.5, 0.9)]
    assert times == pytest.approx([0.009, 0.010, 0.012])
    still = Table(Profile("verifier", "m", {}, (step(1, 1, 8, 0.010),), ()), scale=2.0, spread=False)
    assert still.seconds(1, 1, 8, 0, lambda: 0.9) == pytest.approx(0.020)


def test_the_slowdown_is_what_was_measured_beside():
    alone, beside = (step(1, 1, 8, 0.01), step(2, 1, 8, 0.02)), (step(1, 1, 8, 0.015), step(2, 1, 8, 0.03))
    assert Table(Profile("verifier", "m", {}, alone, (), {}, "d", beside)).slowdown == pytest.approx(1.5)
    assert Table(Profile("verifier", "m", {}, alone, ())).slowdown == 1.0
    assert Table(Profile("verifier", "m", {}, beside, (), {}, "d", alone)).slowdown == 1.0, "never faster"


def test_few_rows_may_suffer_more_than_many():
    alone = (step(1, 1, 8, 0.01), step(9, 1, 8, 0.05))
    beside = (step(1, 1, 8, 0.02), step(9, 1, 8, 0.05))
    table = Table(Profile("verifier", "m", {}, alone, (), {}, "d", beside))
    assert table.slowdown_of(1, 1, 8) == pytest.approx(2.0)
    assert table.slowdown_of(5, 1, 8) == pytest.approx(0.035 / 0.03)
    assert table.slowdown_of(9, 1, 8) == 1.0
    assert table.slowdown_of(0, 0, 64) == table.slowdown == pytest.approx(1.5), "a prompt: what is typical"
    assert Table(Profile("verifier", "m", {}, alone, ())).slowdown_of(1, 1, 8) == 1.0


def test_noise_never_makes_more_rows_cheaper():
    assert rising([(1, 3.0), (2, 1.0), (3, 2.0), (4, 5.0)]) == [(1, 2.0), (2, 2.0), (3, 2.0), (4, 5.0)]
    assert at([(0.0, 1.0), (1.0, 3.0)], -5.0) == 1.0
    assert at([(0.0, 3.0), (1.0, 1.0)], 9.0) == 1.0, "no falling slope goes on"


# ---------------------------------------------------------------- predictions


@pytest.fixture
def folder(tmp_path):
    """Measurements of a made-up pair: 20 ms and 2 ms a row, 4 ms a guess, right three times of four."""
    verify = [step(r, s, c, 0.018 + 0.002 * r, low=1.0, high=1.0) for s in (1, 4) for c in (64, 192) for r in (4, 8)]
    draft = [step(r, 1, 64, 0.004 * r, low=1.0, high=1.0) for r in (1, 4)]
    beside = tuple(step(each.rows, each.sessions, each.context, 1.5 * each.seconds[1]) for each in draft)
    prefill = (Prefill(64, 0, (0.1, 0.1, 0.1), 3),)
    Profile("verifier", "t", {"cpu": "c", "cores": 2}, tuple(verify), prefill).save(tmp_path / VERIFIER_FILE)
    Profile("drafter", "d", {"cpu": "c", "cores": 2}, tuple(draft), prefill, {}, "t", beside).save(
        tmp_path / DRAFTER_FILE
    )
    ranks = tuple(ABSENT if index % 4 == 3 else 0 for index in range(40))
    line = StreamRecord(1, "t", "d", 0.0, 30, 40, 3, ranks, ((5, 60, 80),) * 40)
    write_records(tmp_path / RECORD_FILE, [line] * 4)
    return tmp_path


def rows_of(folder, rtt, sessions, requests=4, base=0.001):
    rows = []
    seconds = predict(Setting(folder, base), rtt, sessions, requests, 1, rows.append)
    return seconds, rows


def test_a_prediction_serves_every_request_once(folder):
    seconds, rows = rows_of(folder, 0.0, 2)
    assert sorted(row.number for row in rows) == [0, 1, 2, 3]
    assert all((row.status, row.tokens, row.prompt) == ("done", 40, 30) for row in rows)
    begin = min(row.arrived for row in rows)
    assert begin > 0.0, "all of them were served once before, to learn from"
    assert begin + seconds == pytest.approx(max(row.arrived + row.e2e for row in rows))
    assert rows_of(folder, 0.0, 2) == (seconds, rows), "the same files and seed give the same run"


def test_no_more_clients_ask_than_there_are_requests(folder):
    _, rows = rows_of(folder, 0.0, 8, requests=3)
    assert sorted(row.number for row in rows) == [0, 1, 2]
    assert len({row.arrived for row in rows}) == 1


def test_distance_and_company_cost_time(folder):
    near, far = rows_of(folder, 0.0, 1)[0], rows_of(folder, 0.08, 1)[0]
    assert far > 1.1 * near
    together = rows_of(folder, 0.0, 4)[0]
    assert together < near, "four at a time are done before four in a row"


def test_contention_costs_time(folder):
    fast = rows_of(folder, 0.0, 1)[0]
    profile = json.loads((folder / VERIFIER_FILE).read_text())
    beside = [each | {"seconds": [2 * value for value in each["seconds"]]} for each in profile["steps"]]
    profile["beside"] = {"model": "d", "steps": beside, "prefill": []}
    (folder / VERIFIER_FILE).write_text(json.dumps(profile))
    assert Setting(folder, 0.0).tables[Role.VERIFIER].slowdown == 2.0
    assert rows_of(folder, 0.0, 1)[0] > 1.1 * fast


# ---------------------------------------------------------------- figures, files, report


def run_of(*decodes, seconds=2.0):
    return Run(tuple(Request(n, 11, 0.5, decode, 4) for n, decode in enumerate(decodes)), seconds)


def test_figures_are_medians_request_by_request():
    found = figures([run_of(1.0, 2.0), run_of(1.0, 9.0, seconds=5.0), run_of(1.2, 2.2)])
    assert found["tpot_ms"] == pytest.approx(1e3 * (1.0 + 2.2) / 20)
    assert found["tokens_per_s"] == 11.0 and found["tokens_per_s_range"] == [4.4, 11.0]
    assert found["tokens_per_round"] == 22 / 8 and found["ttft_ms"] == 500.0


def test_a_request_of_one_token_has_no_time_per_token():
    run = Run((Request(0, 1, 0.5, 0.0, 1), Request(1, 11, 0.5, 1.0, 4)), 1.0)
    assert run.tpot == pytest.approx(0.1)
    assert figures([run])["tpot_ms"] == 100.0


def test_live_runs_come_back_as_they_were_saved(tmp_path):
    path = tmp_path / LIVE_FILE
    cells = [Cell(0.04, 4, [run_of(1.0), run_of(2.0)])]
    save_live(path, {**ABOUT, "repeat": 2}, cells)
    about, loaded = load_live(path)
    assert about["base_rtt"] == 0.001 and about["repeat"] == 2
    assert (loaded[0].rtt, loaded[0].sessions, loaded[0].live) == (0.04, 4, cells[0].live)


@pytest.mark.parametrize("text", ["{", "[]", '{"v": 1}', '{"v": 2, "about": {}, "cells": []}', '{"v": 9}'])
def test_a_file_of_live_runs_that_cannot_be_used_is_refused(tmp_path, text):
    path = tmp_path / LIVE_FILE
    path.write_text(text)
    with pytest.raises(LiveError, match=LIVE_FILE):
        load_live(path)


def test_the_report_compares_cell_by_cell(folder):
    seconds, rows = rows_of(folder, 0.04, 1)
    live = tuple(Request(row.number, row.tokens, row.ttft, (row.e2e - row.ttft) * 1.25, row.rounds) for row in rows)
    save_live(folder / LIVE_FILE, {**ABOUT, "passing": 0.0, "max_tokens": 40}, [Cell(0.04, 1, [Run(live, seconds)])])
    found = predict_all(folder)
    (cell,) = found["cells"]
    assert cell["tpot_error"] == pytest.approx(-0.2, abs=0.001)
    assert cell["throughput_error"] == pytest.approx(0.0, abs=0.001)
    assert cell["live"]["tokens_per_round"] == cell["predicted"]["tokens_per_round"]
    assert found["mean_error"]["tpot"] == pytest.approx(0.2, abs=0.001)
    assert found["cells_within_10_percent"] == 1 and found["of"] == 2 and not found["aims_met"]
    assert found["slowdown_beside"] == {"verifier": 1.0, "drafter": 1.5}
    text = fidelity_text(found)
    assert "-20.0 %" in text and "1 of 2 figures within 10 %" in text and "not met" in text
    assert predict_all(folder) == found


def test_the_command_predicts_again(folder, capsys):
    save_live(folder / LIVE_FILE, ABOUT, [Cell(0.0, 2, [run_of(1.0, 1.0, 1.0, 1.0)])])
    assert main(["bench", "fidelity", "--again", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"][0]["sessions"] == 2
    assert main(["bench", "fidelity", "--again", str(folder / "none")]) == 1
    assert "--keep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--rtt", "0,x"], "give milliseconds"),
        (["--rtt", "-1"], "milliseconds"),
        (["--sessions", "0"], "at least 1"),
        (["--keep", "/nowhere"], "no such directory"),
        (["--quick", "--sessions", "1,9"], "4 prompts are not enough for 9 sessions"),
    ],
)
def test_the_command_says_what_is_wrong(capsys, options, text):
    try:
        assert main(["bench", "fidelity", *options]) == 2
    except SystemExit as stop:
        assert stop.code == 2
    assert text in capsys.readouterr().err


# ---------------------------------------------------------------- the road


@pytest.fixture
def road():
    """(near socket, relay, far socket)."""
    with socket.create_server(("127.0.0.1", 0)) as server, SlowRelay(server.getsockname()[1]) as relay:
        near = socket.create_connection(("127.0.0.1", relay.port), timeout=10)
        far, _ = server.accept()
        far.settimeout(10)
        with near, far:
            yield near, relay, far


def test_the_slow_road_carries_everything_in_order_both_ways(road):
    near, relay, far = road
    sent = bytes(range(256)) * 40
    for begin in range(0, len(sent), 256):
        near.sendall(sent[begin : begin + 256])
    relay.rtt = 0.002  # while much is under way
    near.sendall(b"end")
    got = b""
    while not got.endswith(b"end"):
        got += far.recv(1 << 16)
    assert got == sent + b"end"
    far.sendall(b"answer")
    assert near.recv(16) == b"answer"
    assert relay.count == len(sent) + 3 + 6
    far.shutdown(socket.SHUT_WR)
    assert near.recv(16) == b"", "an end travels too"
