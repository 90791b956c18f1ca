"""One broken, odd or unchanged testee in a process of its own, and cases run against it."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conformance.case import Case, Rung, load
from conformance.door.dial import Dial, DialDoor
from conformance.door.exec import ExecDoor
from conformance.door.pki import issue
from conformance.mutants.kinds import CHAOS, EXEC
from conformance.runner import Options, Runner
from conformance.testee import Door
from conformance.verdict import Verdict
from dsdproto.errors import DsdpError
from dsdproto.registry import Role

START_SECONDS = 60.0
PROBES = {
    EXEC: "frame/one", "verifier": "verifier/greedy", "drafter": "drafter/attached-first",
    "leader": "leader/solo-greedy", "voter": "voter/promise", "client": "client/whole-stream",
    CHAOS: "chaos/verifier-killed",
}  # fmt: skip
"""A happy path for each role, which a mutant should pass that is broken somewhere else."""


class NoTestee(DsdpError):
    """A mutant or odd node that does not start; says what it printed."""


@dataclass(frozen=True)
class Order:
    """What one worker process is to do.

    :param subject: name of a mutant or odd node, or `none`.
    :param ids: of the cases; empty: all live cases of the role.
    """

    subject: str
    role: str
    besides: tuple[str, ...]
    arguments: tuple[str, ...]
    ids: tuple[str, ...]
    seed: int
    patience: float
    jobs: int


@dataclass(frozen=True)
class Answer:
    verdicts: dict[str, str]
    reasons: dict[str, str]
    trouble: str
    seconds: float


def carry_out(order: Order) -> Answer:
    """Start the testee, run the cases, end the testee. Never raises: what goes wrong is ``trouble``."""
    begin = time.monotonic()
    cases = chosen(order)
    try:
        with _door(order) as door:
            runner = Runner(door, Options(order.seed, order.patience, order.jobs))
            # The happy path by itself: what comes behind it may bring a mutant down.
            first = [case for case in cases if case.id == PROBES[order.role] and order.ids]
            results = runner.run(first) if first else []
            results += runner.run([case for case in cases if case not in first])
        trouble = runner.interrupted
    except (DsdpError, OSError) as error:
        return Answer({}, {}, str(error), time.monotonic() - begin)
    verdicts = {result.case.id: result.outcome.verdict.value for result in results}
    reasons = {result.case.id: result.outcome.reason for result in results if result.outcome.verdict != Verdict.PASS}
    if trouble and any(verdict in ("FAIL", "WARN") for verdict in verdicts.values()):
        trouble = ""  # a testee that falls over is a testee that failed
    return Answer(verdicts, reasons, trouble, time.monotonic() - begin)


def chosen(order: Order) -> list[Case]:
    """The cases of an order."""
    registry = load()
    if order.ids:
        return [registry[case_id] for case_id in dict.fromkeys(order.ids)]
    return [case for case in registry if case.rung is Rung.LIVE and case.role is Role[order.role.upper()]]


@contextmanager
def _door(order: Order) -> Iterator[Door]:
    command = [sys.executable, "-m", "conformance.mutants", order.subject]
    if order.role in (EXEC, CHAOS):
        with ExecDoor([*command, order.role] if order.subject == "none" else command) as door:
            yield door
        return
    with tempfile.TemporaryDirectory(prefix="dsdp-selftest-") as directory:
        # Each node has an identity and a vote journal of its own.
        authority, identity = issue(Path(directory))
        roles = ",".join((order.role, *order.besides))
        options = ["--roles", roles, "--identity", str(identity), *order.arguments]
        with _node([*command, *options]) as port:
            dial = Dial.at(f"127.0.0.1:{port}", authority)
            with DialDoor(dial, (Role[order.role.upper()],)) as door:
                yield door


@contextmanager
def _node(command: Sequence[str]) -> Iterator[int]:
    """Port of a live node. It ends when its input does, and is killed if it does not."""
    with tempfile.TemporaryFile() as said:
        node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said)
        try:
            yield _port(node, said)
        finally:
            assert node.stdin is not None and node.stdout is not None
            node.stdin.close()
            node.stdout.close()
            try:
                node.wait(2)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()


def _port(node: subprocess.Popen[bytes], said: object) -> int:
    assert node.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(node.stdout, selectors.EVENT_READ)
        line = node.stdout.readline() if selector.select(START_SECONDS) else b""
    if not line:
        said.seek(0)  # type: ignore[attr-defined]
        tail = said.read().decode(errors="replace").strip().splitlines()[-3:]  # type: ignore[attr-defined]
        raise NoTestee(f"it does not start: {' / '.join(tail) or 'no word from it'}")
    return int(json.loads(line)["port"])
