"""Rung 3 behind the exec door: the example testee starts nodes of every role; a testee that cannot start says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.case import CASES, Case, Rung, load
from conformance.door.exec import DRAFT, TARGET, ExecDoor
from conformance.door.pki import Authority, key_pem, pem
from conformance.examples.python.store import Store
from conformance.runner import Options, Result, Runner
from conformance.verdict import Verdict
from dsdproto.commit.records import Forgotten, Promised
from dsdproto.registry import Role

TESTEE = [sys.executable, "-m", "conformance.examples.python"]
CHOSEN = {
    "client": ("client/whole-stream", "client/byte-by-byte", "client-link/dials-and-works"),
    "drafter": ("drafter/coupled", "drafter/trees-and-scores", "drafter-link/certificate-self-signed"),
    "leader": ("leader/solo-warm", "leader/stop-token", "leader-link/tls-1-2"),
    "verifier": ("verifier/warm", "verifier/chain-right", "verifier-link/dials-an-expired-certificate"),
    "voter": ("voter/promise", "voter/resigned", "voter-link/hello-random"),
}  # fmt: skip


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    load()
    return {case.id: case for case in CASES if case.rung is Rung.LIVE}


def run(command: list[str], cases: list[Case]) -> dict[str, Result]:
    with ExecDoor(command) as door:
        results = Runner(door, Options(seed=1, jobs=4, patience=3.0)).run(cases)
    return {each.case.id: each for each in results}


def test_the_example_testee_runs_every_role(cases: dict[str, Case]) -> None:
    """A few cases of each role, side by side against one process; with ``-m slow`` all of them."""
    results = run(TESTEE, [cases[name] for names in CHOSEN.values() for name in names])
    wrong = {name: each.outcome for name, each in results.items() if each.outcome.verdict is not Verdict.PASS}
    assert not wrong


def test_a_testee_without_start_is_not_asked(cases: dict[str, Case], tmp_path: Path) -> None:
    path = tmp_path / "testee.py"
    path.write_text(
        "from conformance.examples.python import __main__\n"
        "described = __main__.describe({}) | {'supports': ['decode']}\n"
        "__main__.VERBS['describe'] = lambda request: described\n"
        "__main__.main()\n"
    )
    results = run([sys.executable, str(path)], [cases["voter/promise"]])
    assert results["voter/promise"].outcome.verdict is Verdict.UNSUPPORTED


def test_a_node_that_does_not_start_fails_its_cases(cases: dict[str, Case], tmp_path: Path) -> None:
    path = tmp_path / "testee.py"
    path.write_text(
        "from conformance.examples.python import __main__\n"
        "__main__.VERBS['start'] = lambda request: {'node': 'x'}\n"
        "__main__.main()\n"
    )
    outcome = run([sys.executable, str(path)], [cases["voter/promise"]])["voter/promise"].outcome
    assert outcome.verdict is Verdict.FAIL and "gave no address" in outcome.findings[0].said


def test_nodes_of_one_testee_serve_each_other(tmp_path: Path) -> None:
    """A client, a leader with verifier and voter, and a drafter, all started through the door."""
    authority = Authority.new(tmp_path)
    lines = iter(_talk(authority, tmp_path))
    child = subprocess.Popen(TESTEE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None

    def ask(request: dict) -> dict:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(json.dumps({"id": 1, **request}).encode() + b"\n")
        child.stdin.flush()
        answer = json.loads(child.stdout.readline())
        assert "ok" in answer, answer
        return answer["ok"]

    try:
        target = ask(next(lines))
        drafter, client = next(lines), next(lines)
        for request in (drafter, client):
            request["peers"] = [target["address"]]
        ask(drafter)
        name = ask(client)["node"]
        sessions = ask({"verb": "stop", "node": name, "wait_ms": 20000})["sessions"]
        assert [each.get("finish") for each in sessions] == [2]
        assert len(sessions[0]["tokens"]) == 6
        ask({"verb": "reset"})
    finally:
        child.stdin.close()
        assert child.wait(20) == 0
    kinds = [type(record).__name__ for record in Store(tmp_path / "store").records()]
    assert kinds[:2] == ["Founded", "Promised"] and "Accepted" in kinds


def _talk(authority: Authority, directory: Path) -> list[dict]:
    out = []
    for roles, config in (
        (["leader", "verifier", "voter"], {"target": TARGET, "group_size": 1, "store": str(directory / "store")}),
        (["drafter"], {"draft": DRAFT}),
        (["client"], {"target": TARGET, "session": {"max_tokens": 6, "seed": 42}}),
    ):
        identity = authority.identity(roles[0])
        parts = {
            "certificate": pem(identity.chain[0]).decode(),
            "key": key_pem(identity.key).decode(),
            "authority": pem(authority.certificate).decode(),
        }
        out.append({"verb": "start", "roles": roles, "listen": True, "peers": [], "identity": parts, "config": config})
    return out


def test_a_store_drops_a_record_that_was_cut_short(tmp_path: Path) -> None:
    store = Store(tmp_path)
    promised = Promised(session=bytes(16), view=3, model="m", profile=bytes(32), profile_text="", max_drafters=0)
    for record in (promised, Forgotten(session=bytes(16))):
        store.keep((Role.VOTER, record))
    store.close()
    data = (tmp_path / "votes").read_bytes()
    (tmp_path / "votes").write_bytes(data[:-1])
    assert Store(tmp_path).records() == [promised]
    assert Store(tmp_path).records() == [promised], "what was cut off is gone from the file, too"
    (tmp_path / "votes").write_bytes(data[:12] + bytes([data[12] ^ 1]) + data[13:])
    with pytest.raises(OSError, match="damaged"):
        Store(tmp_path).records()
