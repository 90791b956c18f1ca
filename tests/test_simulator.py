"""The simulator's own parts: disks, clocks, roads, connections, charts. What they promise is what a run stands on."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dsdproto.effects import Deliver, LinkDown, LinkUp, Persist, Received, Send, SetTimer
from dsdproto.errors import LocalError
from dsdproto.node import NodeMachine
from dsdproto.registry import Role
from dsdproto.roles.work import DraftWork, ExpandItem, ScoreItem, VerifyWork
from dsdproto.testmodel import TestModel
from dsdproto.wire.messages import Commit, Release, Sampling
from reference_nodes.backends.tm1 import tm1_draft, tm1_target
from reference_nodes.executors import DraftExecutor, VerifyExecutor
from reference_nodes.simulator.chart import chart
from reference_nodes.simulator.cluster import _hello
from reference_nodes.simulator.disk import Disk
from reference_nodes.simulator.examples import EXAMPLES, example_chart, page
from reference_nodes.simulator.host import Clock, SimNode
from reference_nodes.simulator.network import Conditions, FaultyWorld
from reference_nodes.simulator.scenario import MEMBERS, FaultKind, draw
from reference_nodes.simulator.tables import LONGEST, TableDrafter, TableVerifier, alone
from tests.cluster import alone as alone_elsewhere
from tests.cluster import contract

DELAY = 0.01


@dataclass
class Recorder:
    """A role machine that notes what it is given, and does what a test says."""

    seen: list[Any] = field(default_factory=list)
    links: dict[bytes, int] = field(default_factory=dict)
    answers: dict[type, list[Any]] = field(default_factory=dict)

    def handle(self, event: Any, now: float) -> list[Any]:
        if isinstance(event, LinkUp) and event.link < 0:
            return []
        if isinstance(event, LinkUp):
            self.links[event.peer.node_id.rstrip(b"\0")] = event.link
        self.seen.append((round(now, 6), event))
        return self.answers.get(type(event), [])

    def got(self, kind: type) -> list[Any]:
        return [event for _, event in self.seen if isinstance(event, kind)]


@pytest.fixture
def world() -> FaultyWorld:
    return FaultyWorld(random.Random(1), Conditions(heartbeat=1.0, redial=0.25, redial_longest=0.5))


def add(world: FaultyWorld, name: str, **options: Any) -> Recorder:
    recorder = Recorder()
    machine = NodeMachine(_hello(name, (Role.VOTER, Role.LEADER), (), 0), {Role.VOTER: recorder})
    world.add(SimNode(name, machine, **options))
    return recorder


def pair(world: FaultyWorld, jitter: float = 0.0) -> tuple[Recorder, Recorder]:
    a, b = add(world, "a"), add(world, "b")
    world.join("b", "a", DELAY, jitter)
    return a, b


def say(world: FaultyWorld, sender: str, recorder: Recorder, receiver: bytes, height: int) -> None:
    """A message in a channel that exists for both ends."""
    node = world.nodes[sender]
    link = recorder.links[receiver]
    for each in world.nodes.values():
        for number in each.machine.links:
            each.machine._owner[(number, 1)] = Role.VOTER
    world.send(node, link, 1, Commit(view=0, height=height, position=9, digest=bytes(32)))


def until(world: FaultyWorld, time: float) -> None:
    while world._heap and world._heap[0][0] <= time:
        world.step()
    world.now = time


def heights(recorder: Recorder) -> list[int]:
    return [event.message.height for event in recorder.got(Received)]


# ---------------------------------------------------------------- roads and connections


def test_jitter_does_not_reorder_within_a_connection(world: FaultyWorld) -> None:
    a, b = pair(world, jitter=0.5)
    for height in range(1, 21):
        say(world, "b", b, b"a", height)
    until(world, 2.0)
    assert heights(a) == list(range(1, 21))


def test_a_blocked_road_holds_back_and_releases_in_order(world: FaultyWorld) -> None:
    a, b = pair(world)
    world.block("b", "a")
    say(world, "b", b, b"a", 1)
    say(world, "b", b, b"a", 2)
    until(world, 0.5)
    assert heights(a) == []
    world.unblock("b", "a")
    say(world, "b", b, b"a", 3)
    until(world, 0.6)
    assert heights(a) == [1, 2, 3]
    assert not a.got(LinkDown)


def test_silence_breaks_the_receiving_end_and_the_word_goes_the_other_way(world: FaultyWorld) -> None:
    a, b = pair(world)
    world.block("b", "a")
    until(world, 0.99)
    assert not a.got(LinkDown) and not b.got(LinkDown)
    until(world, 1.0 + DELAY / 2)
    assert a.got(LinkDown)[0].reason == "nothing received" and not b.got(LinkDown)
    until(world, 1.0 + DELAY)
    assert b.got(LinkDown)
    # The dialer tries again and again, and gets through once the road is free.
    until(world, 5.0)
    assert len(a.got(LinkUp)) == 1
    world.unblock("b", "a")
    until(world, 6.0)
    assert len(a.got(LinkUp)) == len(b.got(LinkUp)) == 2


def test_messages_of_a_broken_connection_do_not_arrive_in_the_next_one(world: FaultyWorld) -> None:
    a, b = pair(world)
    say(world, "b", b, b"a", 1)
    world.reset(world.links[0], "cut")
    until(world, 2.0)
    assert heights(a) == [] and len(a.got(LinkUp)) == 2


def test_a_storm_loses_repeats_and_reorders_only_the_commit_plane(world: FaultyWorld) -> None:
    world.conditions = Conditions(loss=0.3, duplicate=0.3, reorder=0.5, late=0.1)
    a, b = pair(world)
    world.storm = True
    for height in range(1, 201):
        say(world, "b", b, b"a", height)
        world.send(world.nodes["b"], b.links[b"a"], 1, Release())
    until(world, 2.0)
    arrived = [what for _, kind, _, _, what in world.trace if kind == "recv"]
    commits = [message.height for message in arrived if isinstance(message, Commit)]
    assert len(set(commits)) < 180, "some are lost"
    assert len(commits) > len(set(commits)), "some are repeated"
    assert commits != sorted(commits), "some are late"
    assert sum(entry[1] == "lost" for entry in world.trace) == 200 - len(set(commits))
    assert sum(isinstance(message, Release) for message in arrived) == 200
    assert world.links[0].tainted
    world.calm()
    assert a.got(LinkDown) and b.got(LinkDown)


# ---------------------------------------------------------------- nodes


def test_a_paused_node_finds_what_happened_when_it_goes_on(world: FaultyWorld) -> None:
    a, b = pair(world)
    world.nodes["a"].perform([SetTimer((Role.VOTER, "late"), 0.1)])
    world.pause("a")
    say(world, "b", b, b"a", 1)
    until(world, 0.5)
    assert heights(a) == []
    world.resume("a")
    assert heights(a) == [1]
    assert [type(event).__name__ for _, event in a.seen][-2:] == ["Received", "TimerFired"]
    assert not b.got(LinkDown), "0.5 s are less than a heartbeat"


def test_a_long_pause_costs_the_connection(world: FaultyWorld) -> None:
    a, b = pair(world)
    world.pause("a")
    until(world, 1.5)
    assert b.got(LinkDown) and not a.got(LinkDown)
    world.resume("a")
    until(world, 3.0)
    assert a.got(LinkDown) and len(a.got(LinkUp)) == 2


@pytest.mark.parametrize(("silent", "notice"), [(False, DELAY), (True, 1.0)])
def test_peers_of_a_dead_node(world: FaultyWorld, silent: bool, notice: float) -> None:
    _, b = pair(world)
    world.kill("a", 0, silent)
    until(world, notice - 0.001)
    assert not b.got(LinkDown)
    until(world, notice + 0.001)
    assert b.got(LinkDown)


def test_a_restarted_node_is_another_life(world: FaultyWorld) -> None:
    _, b = pair(world)
    world.nodes["a"].perform([SetTimer((Role.VOTER, "old"), 0.5)])
    world.kill("a", 0, silent=False)
    again = Recorder()
    world.restart("a", NodeMachine(_hello("a", (Role.VOTER,), (), 1), {Role.VOTER: again}))
    until(world, 2.0)
    assert [type(event) for _, event in again.seen] == [LinkUp], "no timer of the life before"
    assert b.got(LinkUp)[-1].peer.instance == (1).to_bytes(8, "big")


def test_records_become_durable_in_order_and_a_crash_loses_the_last_ones(world: FaultyWorld) -> None:
    disk = Disk(lambda: 0.1)
    a = add(world, "a", disk=disk)
    node = world.nodes["a"]

    def persist(*names: str) -> None:
        node.perform([Persist((Role.VOTER, name), (Deliver(name),)) for name in names])

    persist("one")
    persist("two", "three")
    assert node.stored == [] and node.delivered == []
    until(world, 0.1)
    assert [name for _, name in node.stored] == node.delivered == ["one"]
    until(world, 0.2)
    assert node.delivered == ["one", "two", "three"], "two records with one sync"
    persist("four")
    persist("five", "six")
    world.kill("a", 2, silent=False)
    assert [name for _, name in node.stored] == ["one", "two", "three", "four", "five"]
    until(world, 1.0)
    assert node.delivered == ["one", "two", "three"], "what waited for a record died with the node"
    assert a.got(Received) == []


def test_clocks_run_at_their_own_rate(world: FaultyWorld) -> None:
    a = add(world, "a", clock=Clock(offset=100.0, rate=2.0))
    world.nodes["a"].perform([SetTimer((Role.VOTER, "t"), 103.0)])
    until(world, 5.0)
    assert [now for now, _ in a.seen] == [103.0]
    clock = Clock(7.0, 0.5)
    assert clock.world(clock.local(3.25)) == pytest.approx(3.25)


def test_an_effect_that_nobody_performs_is_an_error(world: FaultyWorld) -> None:
    add(world, "a")
    with pytest.raises(LocalError, match="no effect that a driver performs"):
        world.nodes["a"].perform(["not an effect"])  # type: ignore[list-item]
    world.nodes["a"].perform([Send(99, 1, Release())])  # a link that is gone: nothing happens


# ---------------------------------------------------------------- the test model, remembered


def sampling(rng: random.Random) -> Sampling:
    return Sampling(method=0, temperature=rng.choice((0, 52429)), top_k=0, top_p=65536, seed=rng.randrange(100))


def tree(rng: random.Random, model: TestModel, prefix: tuple[int, ...], nodes: int) -> tuple[list[int], list[int]]:
    """Half of the nodes are the candidates that a model may choose."""
    tokens: list[int] = []
    parents: list[int] = []
    for node in range(nodes):
        parent = rng.randint(0, node)
        token = rng.choice((rng.randrange(model.vocabulary), 4 + rng.randrange(8)))
        if (token, parent) not in zip(tokens, parents):
            tokens.append(token)
            parents.append(parent)
        else:
            tokens.append((token + 1 + node * 31) % model.vocabulary)
            parents.append(node)
    return tokens, parents


@pytest.mark.parametrize("seed", range(5))
def test_remembered_choices_are_those_of_the_executors(seed: int) -> None:
    rng = random.Random(seed)
    target = TestModel(vocabulary=16, seed=seed)
    drafter = TestModel(vocabulary=16, seed=seed, agreement_q16=40000, drafter=1)
    verify, table = VerifyExecutor(tm1_target(target.name[5:])), TableVerifier(target)
    expand, rows = DraftExecutor(tm1_draft(drafter.name[5:])), TableDrafter(drafter)
    for number in range(20):
        prefix = tuple(rng.randrange(16) for _ in range(rng.randint(1, 6)))
        tokens, parents = tree(rng, target, prefix, rng.randint(0, 6))
        terms = sampling(rng)
        score = ScoreItem(number, prefix, tuple(tokens), tuple(parents), terms, (), rng.randint(1, 4))
        assert table.run(VerifyWork((score,), None, ())).walks == verify.run(VerifyWork((score,), None, ())).walks
        nodes = tuple(sorted({rng.randint(0, len(tokens)) for _ in range(2)}))
        item = ExpandItem(number, prefix, tuple(tokens), tuple(parents), nodes, terms, rng.randint(1, 3))
        assert rows.run(DraftWork((item,), ())).children == expand.run(DraftWork((item,), ())).children


def test_the_target_alone() -> None:
    terms = contract(max_tokens=25, temperature=0.8, seed=3)
    assert alone(terms, TestModel(vocabulary=512, seed=7)) == alone_elsewhere(terms)
    with pytest.raises(LocalError, match="only streams of up to"):
        alone(contract(max_tokens=LONGEST + 1), TestModel())


# ---------------------------------------------------------------- scenarios and charts


def test_seeds_draw_all_that_there_is() -> None:
    drawn = [draw(seed) for seed in range(400)]
    assert {scenario.members for scenario in drawn} == {1, 3, 5}
    assert {scenario.drafters for scenario in drawn} == {0, 1, 2}
    assert {fault.kind for scenario in drawn for fault in scenario.faults} == set(FaultKind)
    assert all(len(scenario.left_out) <= scenario.members // 2 for scenario in drawn)
    assert all(4 <= scenario.tokens <= 60 for scenario in drawn)
    assert any(not scenario.faults for scenario in drawn), "some seeds break nothing"
    assert draw(7) == draw(7) != draw(8)


def test_a_chart(world: FaultyWorld) -> None:
    _, b = pair(world)
    add(world, "c")
    world.trace.clear()
    say(world, "b", b, b"a", 3)
    until(world, 0.25)
    world.pause("b")
    world.kill("a", 0, silent=True)
    world.note(world.nodes["c"], "restart", "")
    world._lost(world.links[0], 1, Release())
    assert chart(world.trace, MEMBERS[:3]) == (
        "      time  a       b       c\n"
        "    0.0100  |<------o       |       COMMIT view 0 height 3: to 9\n"
        "    0.2500  |       =       |       stopped\n"
        "    0.2500  X       :       |       power lost\n"
        "    0.2500          :       ^       starts again\n"
        "    0.2500  o------x:       |       RELEASE: lost\n"
    )
    lines = chart(world.trace, MEMBERS[:3], last=2).splitlines()
    assert lines[1] == "       ...  3 lines before" and len(lines) == 4
    assert "COMMIT" not in chart(world.trace, ("a", "c")), "an arrow needs both of its lanes"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_charts_of_the_specification_show_what_they_say(name: str) -> None:
    text = example_chart(name)
    assert text.rstrip().endswith("the stream is complete")
    assert ("killed" in text) == (name == "leader-crash")
    assert ("ENLIST view 1" in text) == (name != "normal")
    assert ("VIEW_STALE" in text) == (name == "partition")


def test_the_page_of_charts_is_what_the_machines_do() -> None:
    """If this fails, the protocol's course has changed: look whether it should have, then make the page again."""
    written = Path(__file__).resolve().parents[1] / "docs" / "charts.md"
    assert written.read_text() == page(), "dsdp sim chart all > docs/charts.md"
