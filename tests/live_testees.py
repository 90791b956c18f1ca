"""Reference nodes in processes of their own, and the suite run against them through ``--dial``."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance.case import Case, Rung, load
from conformance.door.dial import Dial, DialDoor
from conformance.door.exec import ExecDoor
from conformance.door.pki import issue
from conformance.runner import Options, Result, Runner
from conformance.verdict import Verdict
from dsdproto.registry import Role

ROLES = {Role.LEADER: "leader,voter", Role.VOTER: "leader,voter"}
"""What a node runs when a role is under test; by default that role alone."""


def free_places(count: int) -> tuple[tuple[str, int], ...]:
    """Addresses that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    places = tuple(found.getsockname() for found in sockets)
    for found in sockets:
        found.close()
    return places


@contextmanager
def running(role: Role, directory: Path, *, listen: tuple[tuple[str, int], ...] = ()) -> Iterator[Dial]:
    """A reference node for the suite to dial, and that dials ``listen``. It ends with the block, however that ends."""
    authority, identity = issue(directory)
    more = [part for host, port in listen for part in ("--peer", f"{host}:{port}")]
    roles = ROLES.get(role, role.name.lower())
    command = [sys.executable, "-m", "reference_nodes.testee", "--roles", roles, "--identity", str(identity), *more]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            port = json.loads(process.stdout.readline())["port"]
            # A pipe that nobody reads would hold the node up.
            reader = threading.Thread(target=process.stdout.read, daemon=True)
            reader.start()
            yield Dial("127.0.0.1", port, authority)
        finally:
            process.stdin.close()
            process.wait(20)
            reader.join()


def cases_of(role: Role, *names: str) -> list[Case]:
    """Cases of rung 3 for a role under test, all of them unless some are named (without their family)."""
    found = [case for case in load() if case.rung is Rung.LIVE and case.role is role]
    return [case for case in found if not names or case.id.partition("/")[2] in names]


def judged(
    dial: Dial,
    role: Role,
    cases: Iterable[Case],
    *,
    seed: int = 1,
    jobs: int = 8,
    listen: tuple[tuple[str, int], ...] = (),
) -> list[Result]:
    with DialDoor(dial, (role,), listen) as door:
        return Runner(door, Options(seed=seed, jobs=jobs, patience=3.0)).run(cases)


def judged_exec(command: list[str], *, seed: int = 1, patience: float = 3.0) -> list[Result]:
    """All of rung 3, every role, against one testee that starts its nodes itself."""
    cases = [case for role in Role for case in cases_of(role)]
    with ExecDoor(command) as door:
        return Runner(door, Options(seed=seed, jobs=8, patience=patience)).run(cases)


def faults(results: Iterable[Result]) -> list[str]:
    """Whatever is neither passed nor, for a named reason, not to be asked here."""
    fine = (Verdict.PASS, Verdict.SKIP, Verdict.INFO)
    return [
        f"{r.outcome.verdict} {r.case.id}: {r.outcome.reason} {r.outcome.findings} {r.outcome.trace}"
        for r in results
        if r.outcome.verdict not in fine
    ]
