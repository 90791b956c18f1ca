"""Three nodes that lead, vote and verify, two drafters and a client on a LAN, all as real processes with real TLS."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsdproto.registry import CommitProfile
from reference_nodes.trust import create_identity, init_cluster
from tests.lan.lan import Delay, Lan, open_lan
from tests.lan.processes import Process, Watch, tails
from tests.lan.reader import contract_of
from tests.live import PROMPT, TARGET, alone, drafter, vocabulary

NODES = ("a", "b", "c")
DRAFTERS = ("d", "e")
READER = "r"
MACHINES = (*NODES, *DRAFTERS, READER)
REDIAL = {"first": 0.05, "longest": 0.5}
HEARTBEAT_MS = 500
"""of the nodes and the client: a silent peer is given up after four of these"""
AGREEMENT = 0.7
"""of the drafters with the target, token by token"""
FORWARD = 0.02
"""Seconds of a forward of the target, which is what SmolLM2 takes on a processor: drafts have time to arrive."""
SLOW = 1.5
"""The same while a test waits for something else than tokens."""


@functools.cache
def plain(seed: int, tokens: int, temperature: float) -> tuple[int, ...]:
    """What the target alone says."""
    return alone(contract_of(contract(seed, tokens, temperature)))


def contract(seed: int, tokens: int, temperature: float) -> dict[str, Any]:
    size, digest = vocabulary()
    return {
        "vocabulary": [size, digest.hex()],
        "prompt": list(PROMPT),
        "max_tokens": tokens,
        "seed": seed,
        "temperature": temperature,
        "commit_profile": int(CommitProfile.QUORUM),
    }


class Stream:
    """One session as the client sees it: each reading checks that what came is a prefix of the right stream."""

    def __init__(self, cluster: Cluster, name: str, expected: tuple[int, ...]) -> None:
        self._cluster = cluster
        self._since = len(cluster.reader.lines)
        self.name = name
        self.expected = expected
        self.tokens: list[int] = []
        self.events: list[dict[str, Any]] = []
        """what came besides tokens"""

    def look(self) -> None:
        """Take what has come. Raises AssertionError for a gap, a repetition, another token, or a failed session."""
        lines = self._cluster.reader.lines
        new, self._since = lines[self._since :], len(lines)
        for line in new:
            if line.get("name") != self.name:
                continue
            if line["event"] == "Committed":
                assert line["position"] == len(PROMPT) + len(self.tokens), "a gap or a repetition"
                self.tokens += line["tokens"]
                begin = line["position"] - len(PROMPT)
                assert tuple(line["tokens"]) == self.expected[begin : len(self.tokens)], "another token"
            else:
                assert line["event"] != "Failed", line["text"]
                self.events.append(line)

    def count(self, event: str) -> int:
        return sum(line["event"] == event for line in self.events)

    @property
    def view(self) -> int:
        """The last that the client was told of."""
        return next((line["view"] for line in reversed(self.events) if line["event"] == "Resumed"), 0)

    def until(self, tokens: int) -> None:
        """Until this many have come in all."""
        assert tokens <= len(self.expected), "the stream is too short for this"
        self._until(lambda: len(self.tokens) >= tokens, f"{tokens} tokens have come")

    def more(self, tokens: int) -> None:
        """Until this many more have come."""
        self.look()
        self.until(len(self.tokens) + tokens)

    def until_event(self, event: str) -> None:
        """Until the first of these events."""
        self._until(lambda: self.count(event), f"{event} comes")

    def finish(self) -> None:
        """Until its end; all of it must be there."""
        self._until(lambda: self.count("Completed"), "the stream ends")
        assert tuple(self.tokens) == self.expected

    @property
    def over(self) -> bool:
        self.look()
        return self.count("Completed") > 0

    def _until(self, condition: Any, what: str) -> None:
        def look() -> Any:
            self.look()
            return condition()

        try:
            self._cluster.watch.until(look, what)
        except AssertionError as error:
            said = [(line["event"], line.get("view"), line.get("reason")) for line in self.events]
            here = f"{len(self.tokens)} tokens came, and {said}"
            raise AssertionError(f"{error}; {here}\n{self._cluster.tails()}") from None


@dataclass
class Cluster:
    """Made by :func:`open_cluster`."""

    lan: Lan
    home: Path
    watch: Watch
    processes: dict[str, Process]
    ids: dict[str, str]
    _names: Iterator[int]

    @property
    def reader(self) -> Process:
        return self.processes[READER]

    def tails(self) -> str:
        return tails(list(self.processes.values()))

    # ------------------------------------------------------------ life

    def start(self, machine: str) -> None:
        """Start the node of a machine, with what it stored before."""
        self.processes[machine] = Process(
            self.lan,
            machine,
            "tests.lan.reader" if machine == READER else "tests.lan.member",
            {"config": self._config(machine), "forward": FORWARD},
            self.watch,
            self.home / f"{machine}.log",
        )

    def ready(self, machine: str) -> None:
        """Until it runs, and can be reached."""
        line = self.processes[machine].expect("ready")
        self.ids[machine] = line["node"]
        if machine in NODES:
            self.lan.listening(machine, line["port"])

    def _config(self, machine: str) -> dict[str, Any]:
        peers = [self.lan.address(machine, node) for node in NODES if node != machine]
        shared = {"home": str(self.home), "identity": machine, "name": machine, "peers": peers, "redial": REDIAL}
        if machine == READER:
            return {**shared, "roles": ["client"], "host": None, "heartbeat_ms": HEARTBEAT_MS}
        if machine in DRAFTERS:
            draft = drafter(DRAFTERS.index(machine) + 1, AGREEMENT)
            return {**shared, "roles": ["drafter"], "host": None, "draft": draft}
        host, port = self.lan.listen(machine)
        return {
            **shared,
            "roles": ["leader", "voter", "verifier"],
            "target": TARGET,
            "host": host,
            "port": port,
            "heartbeat_ms": HEARTBEAT_MS,
        }

    def kill(self, machine: str) -> None:
        self.processes[machine].kill()

    def restart(self, machine: str) -> None:
        """Start a node that was killed or has left, and wait until all are linked to it again."""
        old = self.processes[machine]
        assert old.ended, "only what has ended is started again"
        old.close()
        self.start(machine)
        self.ready(machine)
        self.all_linked()

    def mend(self) -> None:
        """End all faults, restart what is dead, and wait until all are linked."""
        self.lan.heal()
        dead = [machine for machine in MACHINES if self.processes[machine].ended]
        for machine in MACHINES:
            if machine in dead:
                self.processes[machine].close()
                self.start(machine)
            else:
                self.processes[machine].go_on()
        for machine in dead:
            self.ready(machine)
        self.all_linked()

    @contextmanager
    def slow(self) -> Iterator[None]:
        """A stream creeps for the time of the block, so that it is not over before a fault was noticed."""
        for seconds in (SLOW, FORWARD):
            for machine in NODES:
                if not self.processes[machine].ended:
                    self.processes[machine].tell(do="forward", seconds=seconds)
            if seconds == SLOW:
                yield

    # ------------------------------------------------------------ links

    def links(self, machine: str) -> set[str]:
        """Machines that a machine has links to, by its own report."""
        known = {node: name for name, node in self.ids.items()}
        lines = self.processes[machine].lines
        last = next((line for line in reversed(lines) if line["event"] == "links"), {"nodes": []})
        return {known[node] for node in last["nodes"]}

    def all_linked(self) -> None:
        """Until every node is linked to all others, and they to it."""

        def whole() -> bool:
            for process in self.processes.values():
                assert not process.ended, f"{process.machine} has ended:\n{process.tail()}"
            return all(
                self.links(machine) >= (set(MACHINES) if machine in NODES else set(NODES)) - {machine}
                for machine in MACHINES
            )

        try:
            self.watch.until(whole, "all are linked")
        except AssertionError as error:
            missing = {machine: sorted(self.links(machine)) for machine in MACHINES}
            raise AssertionError(f"{error}: {missing}\n{self.tails()}") from None

    def until_apart(self, one: str, other: str) -> None:
        """Until ``one`` has noticed that it has no link to ``other``."""
        self.watch.until(lambda: other not in self.links(one), f"{one} notices that {other} is gone")

    # ------------------------------------------------------------ sessions

    def open(self, leader: str, *, tokens: int, temperature: float = 0.8) -> Stream:
        """Open a session with this leader."""
        number = next(self._names)
        asked = contract(number, tokens, temperature)
        stream = Stream(self, f"s{number}", plain(number, tokens, temperature))
        self.reader.tell(do="open", name=stream.name, contract=asked, leader=self.ids[leader])
        return stream

    def status(self) -> dict[str, Any]:
        """The status document of each machine that the client is linked to."""
        name = f"q{next(self._names)}"
        since = len(self.reader.lines)
        self.reader.tell(do="status", name=name)

        def answer() -> dict[str, Any] | None:
            lines = self.reader.lines[since:]
            return next((line for line in lines if line["event"] == "status" and line["name"] == name), None)

        names = {node: machine for machine, node in self.ids.items()}
        found = self.watch.until(answer, "the nodes answer a STATUS_REQUEST")["nodes"]
        return {names[node]: document for node, document in found.items()}

    def close(self) -> None:
        for process in self.processes.values():
            process.close()


@contextmanager
def open_cluster(kind: str, home: Path, *, delay: Delay | None = None) -> Iterator[Cluster]:
    """A cluster that is up and linked, of an authority of its own; all of it ends with the block."""
    authority = init_cluster(home / "cluster", "lan")
    for machine in MACHINES:
        create_identity(authority, home, machine)
    with open_lan(kind, MACHINES, delay=delay) as lan:
        cluster = Cluster(lan, home, Watch(), {}, {}, itertools.count(1))
        try:
            for machine in MACHINES:
                cluster.start(machine)
            for machine in MACHINES:
                cluster.ready(machine)
            cluster.all_linked()
            yield cluster
        finally:
            cluster.close()
