"""The networks themselves: each fault does what its name says, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lan.lan import Delay, Lan, kinds, open_lan
from tests.lan.processes import Process, Watch

MACHINES = ("a", "b", "c")


class Talk:
    """A probe on each machine."""

    def __init__(self, lan: Lan, logs: Path) -> None:
        self.lan = lan
        self.watch = Watch()
        self.probes = {machine: self._start(machine, logs) for machine in MACHINES}
        self._count = 0
        for machine, probe in self.probes.items():
            lan.listening(machine, probe.expect("ready")["port"])

    def _start(self, machine: str, logs: Path) -> Process:
        host, port = self.lan.listen(machine)
        peers = {other: self.lan.address(machine, other) for other in MACHINES if other != machine}
        document = {"host": host, "port": port, "peers": peers}
        return Process(self.lan, machine, "tests.lan.probe", document, self.watch, logs / f"{machine}.log")

    def send(self, source: str, target: str) -> str:
        """Send a new word; gives it."""
        self._count += 1
        word = f"{source}{target}{self._count}"
        self.probes[source].tell(to=target, text=word)
        return word

    def heard(self, target: str, word: str) -> float | None:
        """Seconds that the word took, or None if it has not come."""
        return next((line["seconds"] for line in self.probes[target].lines if line.get("text") == word), None)

    def arrives(self, source: str, target: str) -> float:
        """Seconds that a new word takes; fails if it does not come at all."""
        word = self.send(source, target)
        self.watch.until(lambda: self.heard(target, word) is not None, f"{word} gets from {source} to {target}")
        return self.heard(target, word)

    def everybody(self) -> None:
        """Each gets through to each."""
        for source in MACHINES:
            for target in MACHINES:
                if source != target:
                    self.arrives(source, target)

    def close(self) -> None:
        for probe in self.probes.values():
            probe.close()


@pytest.fixture(scope="module", params=kinds())
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    with open_lan(request.param, MACHINES) as lan:
        talk = Talk(lan, tmp_path_factory.mktemp("probes"))
        yield talk
        talk.close()


@pytest.fixture
def talk(shared: Talk) -> Iterator[Talk]:
    shared.everybody()
    yield shared
    shared.lan.heal()


def test_a_cut_is_one_way_and_for_one_pair(talk: Talk) -> None:
    talk.lan.cut("a", "b")
    word = talk.send("a", "b")
    # Whoever gets through a round later, got through while the word did not.
    for source, target in (("b", "c"), ("c", "b"), ("a", "c"), ("c", "a")):
        talk.arrives(source, target)
    if talk.lan.kind == "loopback":
        talk.arrives("b", "a")  # in a namespace it arrives as well, but TCP may want an answer first
    assert talk.heard("b", word) is None
    talk.lan.heal()
    talk.watch.until(lambda: talk.heard("b", word), "the word arrives after the heal")


def test_a_partition_of_two_leaves_the_third(talk: Talk) -> None:
    talk.lan.part("a", "b")
    words = [talk.send("a", "b"), talk.send("b", "a")]
    for source, target in (("b", "c"), ("c", "b"), ("a", "c"), ("c", "a")):
        talk.arrives(source, target)
    assert [talk.heard("b", words[0]), talk.heard("a", words[1])] == [None, None]
    talk.lan.heal()
    talk.watch.until(lambda: talk.heard("b", words[0]) and talk.heard("a", words[1]), "both arrive after the heal")


def test_an_unplugged_machine_is_alone(talk: Talk) -> None:
    talk.lan.unplug("c")
    words = [("a", talk.send("c", "a")), ("c", talk.send("b", "c"))]
    talk.arrives("a", "b")
    talk.arrives("b", "a")
    assert not any(talk.heard(target, word) for target, word in words)
    talk.lan.plug("c")
    talk.watch.until(lambda: all(talk.heard(target, word) for target, word in words), "all arrives once plugged in")


def test_what_is_lost_arrives_all_the_same(talk: Talk) -> None:
    talk.lan.lose(0.2)
    while talk.lan.lost() < 3:
        talk.arrives("a", "b")
    talk.everybody()


@pytest.mark.parametrize("kind", kinds())
def test_a_delay_holds_in_each_direction(kind: str, tmp_path: Path) -> None:
    with open_lan(kind, MACHINES, delay=Delay(0.04, 0.01)) as lan:
        talk = Talk(lan, tmp_path)
        try:
            talk.everybody()
            assert min(talk.arrives(*pair) for pair in (("a", "b"), ("b", "a")) for _ in range(5)) >= 0.03
            lan.cut("a", "c")
            word = talk.send("a", "c")
            talk.arrives("a", "b")
            talk.arrives("b", "c")
            assert talk.heard("c", word) is None
        finally:
            talk.close()
