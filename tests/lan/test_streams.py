"""Streams under the `quorum` profile on a network whose parts fail: the client gets all of it, once, unchanged.

Each fault strikes in the middle of a stream and stays until its effect was seen and the stream has gone on under it;
then it ends, and the stream goes on to its end. Every token is compared with the target alone as it comes. Most
scenarios run on the best network that there is, a few on each; the rest with ``-m slow``.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import pytest

from tests.lan.cluster import DRAFTERS, NODES, READER, Cluster, Stream, open_cluster
from tests.lan.lan import Delay, kinds

LEADER, FOLLOWER, OTHER = NODES
BEFORE = 30
"""tokens before a fault"""
UNDER = 40
"""tokens under it, once its effect was seen"""
TOKENS = 160
BEST = kinds()[0]


def everywhere(test: Callable[..., None]) -> Callable[..., None]:
    """On each kind of network."""
    return pytest.mark.parametrize("kind", kinds())(test)


def mostly(test: Callable[..., None]) -> Callable[..., None]:
    """On the best kind of network; on the others among the slow tests."""
    marks = [pytest.param(kind, marks=() if kind == BEST else pytest.mark.slow) for kind in kinds()]
    return pytest.mark.parametrize("kind", marks)(test)


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Cluster]]:
    """One cluster of each kind that is asked for, for all tests."""
    with contextlib.ExitStack() as stack:
        made: dict[str, Cluster] = {}

        def get(kind: str) -> Cluster:
            if kind not in made:
                made[kind] = stack.enter_context(open_cluster(kind, tmp_path_factory.mktemp(kind)))
            return made[kind]

        yield get


@pytest.fixture
def cluster(clusters: Callable[[str], Cluster], kind: str) -> Cluster:
    """Up, linked, without faults, whatever the test before has left."""
    found = clusters(kind)
    found.mend()
    return found


def begin(cluster: Cluster, tokens: int = TOKENS) -> Stream:
    """A stream of LEADER that is under way."""
    stream = cluster.open(LEADER, tokens=tokens)
    stream.until(BEFORE)
    return stream


def finish(cluster: Cluster, stream: Stream) -> None:
    """Without the fault, to the end; then the cluster is whole again."""
    stream.finish()
    cluster.all_linked()


# ---------------------------------------------------------------- nodes


@everywhere
def test_nothing_fails(cluster: Cluster) -> None:
    stream = begin(cluster)
    finish(cluster, stream)


@everywhere
def test_the_leader_is_killed(cluster: Cluster) -> None:
    stream = begin(cluster)
    cluster.kill(LEADER)
    stream.until_event("Resumed")
    stream.more(UNDER)
    cluster.restart(LEADER)
    finish(cluster, stream)


@mostly
def test_a_follower_is_killed(cluster: Cluster) -> None:
    stream = begin(cluster)
    cluster.kill(FOLLOWER)
    stream.more(UNDER)
    with cluster.slow():
        cluster.restart(FOLLOWER)
    finish(cluster, stream)


@mostly
def test_the_leader_hangs(cluster: Cluster) -> None:
    stream = begin(cluster)
    cluster.processes[LEADER].stop()
    stream.until_event("Resumed")
    stream.more(UNDER)
    cluster.processes[LEADER].go_on()
    finish(cluster, stream)


@mostly
def test_a_follower_hangs(cluster: Cluster) -> None:
    stream = begin(cluster)
    with cluster.slow():
        cluster.processes[FOLLOWER].stop()
        cluster.until_apart(LEADER, FOLLOWER)
    stream.more(UNDER)
    cluster.processes[FOLLOWER].go_on()
    finish(cluster, stream)


@mostly
def test_both_followers_hang(cluster: Cluster) -> None:
    """Without a majority nobody goes on; with one again, somebody does."""
    stream = begin(cluster)
    for machine in (FOLLOWER, OTHER):
        cluster.processes[machine].stop()
    stream.until_event("Interrupted")
    for machine in (FOLLOWER, OTHER):
        cluster.processes[machine].go_on()
    stream.more(UNDER)
    finish(cluster, stream)


@mostly
def test_rolling_restarts(cluster: Cluster) -> None:
    """Each node leaves in good order and comes back; one of them led, so somebody else does now."""
    stream = begin(cluster, 2 * TOKENS)
    for machine in NODES:
        with cluster.slow():
            cluster.processes[machine].leave()
            cluster.restart(machine)
        stream.more(UNDER)
    stream.until_event("Resumed")
    finish(cluster, stream)


@pytest.mark.slow
@everywhere
def test_rolling_kills(cluster: Cluster) -> None:
    stream = begin(cluster, 5 * TOKENS)
    for machine in (*NODES, *NODES):
        with cluster.slow():
            cluster.kill(machine)
            cluster.restart(machine)
        stream.more(UNDER)
    finish(cluster, stream)


@pytest.mark.slow
@everywhere
def test_all_drafters_are_killed(cluster: Cluster) -> None:
    stream = begin(cluster)
    for machine in DRAFTERS:
        cluster.kill(machine)
    stream.more(UNDER)
    cluster.mend()
    finish(cluster, stream)


# ---------------------------------------------------------------- cables


@mostly
def test_the_leader_is_unplugged(cluster: Cluster) -> None:
    stream = begin(cluster)
    cluster.lan.unplug(LEADER)
    stream.until_event("Resumed")
    stream.more(UNDER)
    cluster.lan.plug(LEADER)
    finish(cluster, stream)


@mostly
def test_a_follower_is_unplugged(cluster: Cluster) -> None:
    stream = begin(cluster)
    with cluster.slow():
        cluster.lan.unplug(FOLLOWER)
        cluster.until_apart(LEADER, FOLLOWER)
    stream.more(UNDER)
    cluster.lan.plug(FOLLOWER)
    finish(cluster, stream)


# ---------------------------------------------------------------- partitions


@everywhere
@pytest.mark.parametrize("source, target", [(LEADER, FOLLOWER), (FOLLOWER, LEADER)])
def test_one_way_between_leader_and_follower(cluster: Cluster, source: str, target: str) -> None:
    stream = begin(cluster)
    with cluster.slow():
        cluster.lan.cut(source, target)
        cluster.until_apart(target, source)
    stream.more(UNDER)
    cluster.lan.heal()
    finish(cluster, stream)


@mostly
def test_leader_and_follower_are_parted(cluster: Cluster) -> None:
    stream = begin(cluster)
    with cluster.slow():
        cluster.lan.part(LEADER, FOLLOWER)
        cluster.until_apart(LEADER, FOLLOWER)
    stream.more(UNDER)
    cluster.lan.heal()
    finish(cluster, stream)


@pytest.mark.slow
@everywhere
def test_the_leader_is_parted_from_both_followers(cluster: Cluster) -> None:
    """The client still hears it, but it may not commit (clause Q-43)."""
    stream = begin(cluster)
    cluster.lan.part(LEADER, FOLLOWER)
    cluster.lan.part(LEADER, OTHER)
    stream.until_event("Resumed")
    stream.more(UNDER)
    cluster.lan.heal()
    finish(cluster, stream)


@mostly
def test_nothing_gets_from_the_leader_to_the_client(cluster: Cluster) -> None:
    """Another voter serves the client."""
    stream = begin(cluster)
    with cluster.slow():
        cluster.lan.cut(LEADER, READER)
        stream.until_event("Resumed")
    stream.more(UNDER)
    cluster.lan.heal()
    finish(cluster, stream)


# ---------------------------------------------------------------- bad networks


@mostly
def test_one_packet_of_a_hundred_is_lost(cluster: Cluster) -> None:
    cluster.lan.lose(0.01)
    stream = begin(cluster)
    stream.finish()
    assert cluster.lan.lost()


@pytest.mark.slow
@everywhere
def test_one_packet_of_ten_is_lost(cluster: Cluster) -> None:
    cluster.lan.lose(0.1)
    stream = begin(cluster)
    stream.finish()
    assert cluster.lan.lost()


@mostly
def test_a_delay_and_the_leader_is_killed(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """40 +- 10 ms in each direction between any two machines."""
    with open_cluster(kind, tmp_path_factory.mktemp("delay"), delay=Delay(0.04, 0.01)) as cluster:
        stream = begin(cluster)
        cluster.kill(LEADER)
        stream.until_event("Resumed")
        stream.more(UNDER)
        cluster.restart(LEADER)
        finish(cluster, stream)


# ---------------------------------------------------------------- one fault after another


def strike(cluster: Cluster, rng: random.Random) -> str:
    """Some fault that leaves a majority of nodes; says which."""
    machine, other = rng.sample(NODES, 2)
    end = rng.choice((other, READER))
    match rng.choice(("kill", "stop", "unplug", "cut to", "cut from", "part")):
        case "kill":
            cluster.kill(machine)
            return f"{machine} is killed"
        case "stop":
            cluster.processes[machine].stop()
            return f"{machine} is stopped"
        case "unplug":
            cluster.lan.unplug(machine)
            return f"{machine} is unplugged"
        case "cut to":
            cluster.lan.cut(machine, end)
            return f"nothing from {machine} to {end}"
        case "cut from":
            cluster.lan.cut(end, machine)
            return f"nothing from {end} to {machine}"
    cluster.lan.part(machine, end)
    return f"nothing between {machine} and {end}"


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize("seed", range(3))
def test_storm(cluster: Cluster, seed: int) -> None:
    """Ten faults, drawn by a seed, strike one stream; during the last, 3 % of all packets are lost as well."""
    rng = random.Random(seed)
    stream = begin(cluster, 8 * TOKENS)
    for number in range(10):
        if number == 9:
            cluster.lan.lose(0.03)
        # A creeping stream gives nodes the time to notice; a quick one catches them before they do.
        with cluster.slow() if rng.random() < 0.5 else contextlib.nullcontext():
            print(f"seed {seed}, after {len(stream.tokens)} tokens: {strike(cluster, rng)}")
            stream.more(rng.randrange(10, UNDER // 2))
        cluster.mend()
    finish(cluster, stream)
