"""Real processes: the demo, a cluster from `init` to `run`, and nodes killed or stopped in the middle of a text.

Everything waits for events; the limits only end what hangs.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from reference_nodes.cli.generation import generate
from reference_nodes.cli.local import Member, members_for, open_local
from reference_nodes.cli.main import main
from reference_nodes.cli.network import loopback_fault
from reference_nodes.cli.processes import ChildFailed
from tests.live import TARGET, alone, contract, drafter

HANG = 240.0
DSDP = [sys.executable, "-m", "reference_nodes.cli.main"]

Start = Callable[..., subprocess.Popen[str]]


def quiet(text: str) -> None:
    """Takes what open_local says."""


@pytest.fixture
def dsdp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a command as a process; whatever still runs at the end is killed."""
    monkeypatch.setenv("DSDP_HOME", str(tmp_path / "home"))
    running: list[subprocess.Popen[str]] = []

    def start(*argv: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*DSDP, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell that runs the tests in the background lets its children ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
        process.wait()


async def limited(play: Callable[[], Awaitable[None]]) -> None:
    with trio.fail_after(HANG):
        await play()


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """stdout and stderr of a process that must succeed."""
    out, err = process.communicate(timeout=HANG)
    assert process.returncode == 0, err
    return out, err


def line(process: subprocess.Popen[str], event: str, node: object = None) -> dict[str, object]:
    """The next JSON line with this event, about ``node`` if given."""
    assert process.stdout is not None
    for text in process.stdout:
        found = json.loads(text)
        if found["event"] == event and (node is None or found["node"] == node):
            return found
    raise AssertionError(f"the process ended without {event!r}: {process.communicate()[1]}")


# ---------------------------------------------------------------- the demo


def test_the_demo_finds_its_nodes_and_gives_the_same_text(dsdp: Start) -> None:
    out, _ = finished(dsdp("demo", "--model", TARGET, "--max-tokens", "60", "--prompt", "hello", "--json"))
    found = json.loads(out)
    assert found["identical"] is True
    assert found["lost_nodes"] == []
    assert found["tokens"] == 60 and len(found["text"].split()) == 60
    assert found["model"] == TARGET
    assert [row["model"] for row in found["drafters"]] == found["draft_models"]
    assert sum(row["committed"] for row in found["drafters"]) == found["accepted"]
    assert found["draft_models"] == [drafter(1, 0.8), drafter(2, 0.6)]
    assert found["drafted"] >= found["accepted"] >= 0
    assert found["mean_acceptance_length"] == pytest.approx(1 + found["accepted"] / found["rounds"], abs=1e-3)
    assert found["target_forwards_per_token"] == pytest.approx(found["rounds"] / 60, abs=1e-3)
    assert found["bytes_per_committed_token"] == pytest.approx(
        found["draft_bytes_per_committed_token"] + found["delivery_bytes_per_committed_token"], abs=1e-3
    )
    assert found["tokens_per_s"] > 0 and found["plain_tokens_per_s"] > 0 and found["speedup"] > 0
    assert found["repetitions"] == 3
    # On a machine without multicast the demo must say so and work all the same.
    assert (found["met_by"] == "mdns") == (found["mdns_fault"] == "")
    if not trio.run(loopback_fault):
        assert found["met_by"] == "mdns"


def test_the_demo_for_people_and_several_prompts(dsdp: Start, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    asked = ["demo", "--model", TARGET, "--max-tokens", "20", "--prompts", str(prompts), "--drafters", "1"]
    logs = tmp_path / "logs"
    out, err = finished(dsdp(*asked, "--temperature", "0.8", "--seed", "5", "--no-mdns", "--logs", str(logs)))
    assert "> one" in out and "> two" in out
    assert "yes (2 of 2 prompts)" in out
    assert "starting the target" in err
    assert sorted(path.name for path in logs.iterdir()) == ["drafter-1.log", "target.log"]


def test_ctrl_c_takes_the_nodes_along(dsdp: Start) -> None:
    demo = dsdp("demo", "--model", TARGET, "--max-tokens", "1000000", "--prompt", "hello", "--no-mdns")
    ports = []
    for text in demo.stdout:
        if " at 127.0.0.1:" in text:
            ports.append(int(text.rpartition(":")[2]))
        if text == "> hello\n":
            break
    assert len(ports) == 3
    demo.send_signal(signal.SIGINT)
    assert demo.wait(HANG) == 130
    assert demo.stderr.read().strip().endswith("interrupted")
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


# ---------------------------------------------------------------- from init to run


def test_a_cluster_from_init_to_run(dsdp: Start, tmp_path: Path) -> None:
    finished(dsdp("init"))
    desk = dsdp("token", "--host", "127.0.0.1", "--json")
    token = str(line(desk, "token")["token"])
    other = str(tmp_path / "other")
    joined = json.loads(finished(dsdp("join", token, "--home", other, "--json"))[0])
    assert line(desk, "joined")["node"] == joined["node"]
    finished(desk)

    leader = dsdp("serve", "--roles", "leader,verifier", "--model", TARGET, "--no-mdns", "--json", "--until-eof")
    ready = line(leader, "ready")
    address = f"{ready['host']}:{ready['port']}"
    helper = dsdp(
        *("serve", "--roles", "drafter", "--model", TARGET, "--draft-model", drafter(1), "--home", other),
        *("--no-mdns", "--peer", address, "--json", "--until-eof"),
    )
    assert line(leader, "linked")["node"] == joined["node"]

    run = ["run", "hello", "--peer", address, "--max-tokens", "30"]
    found = json.loads(finished(dsdp(*run, "--json"))[0])
    plain = json.loads(finished(dsdp(*run, "--json", "--drafters", "0"))[0])
    assert found["token_ids"] == plain["token_ids"] and len(found["token_ids"]) == 30
    assert (found["model"], found["finish"], plain["drafted"]) == (TARGET, "length", 0)
    text, _ = finished(dsdp(*run))
    assert found["text"] in text and "30, ended by length" in text

    status = json.loads(finished(dsdp("status", "--peer", address, "--json"))[0])
    (node,) = status["nodes"]
    assert node["node"] == ready["node"]
    assert node["leader"]["finished"] == 3
    assert drafter(1) in [model for link in node["links"] for model in link["models"]]
    assert "drafter" in finished(dsdp("status", "--peer", address))[0]

    # A helper whose stdin ends leaves, as it does when whoever started it is killed.
    assert helper.stdin is not None
    helper.stdin.close()
    assert helper.wait(HANG) == 0
    assert line(leader, "unlinked", joined["node"])
    leader.send_signal(signal.SIGINT)
    assert leader.wait(HANG) == 0


def test_a_leader_that_is_not_there_is_named(dsdp: Start, capsys: pytest.CaptureFixture[str]) -> None:
    finished(dsdp("init"))
    # Port 1 on loopback: nothing listens there, so the system refuses at once.
    assert main(["run", "hello", "--peer", "127.0.0.1:1", "--model", TARGET, "--wait", "0.2"]) == 1
    error = capsys.readouterr().err
    assert "127.0.0.1:1" in error and "dsdp doctor" in error


# ---------------------------------------------------------------- faults in the middle of a text


def test_killed_and_stopped_drafters_change_no_token(tmp_path: Path) -> None:
    asked = contract(400, 0.8)

    async def play() -> None:
        members = members_for(TARGET, [drafter(1), drafter(2), drafter(3)])
        async with open_local(TARGET, members, quiet, logs=tmp_path, mdns=False) as cluster:
            killed, stopped, _ = (child.process.pid for child in cluster.drafters)
            seen = 0

            def strike(tokens: tuple[int, ...], origins: bytes) -> None:
                nonlocal seen
                before, seen = seen, seen + len(tokens)
                if before < 100 <= seen:
                    os.kill(killed, signal.SIGKILL)
                if before < 200 <= seen:
                    os.kill(stopped, signal.SIGSTOP)

            done = await generate(cluster.node, asked, leader=cluster.leader, show=strike)
            assert tuple(done.tokens) == alone(asked)
            os.kill(stopped, signal.SIGCONT)
            again = await generate(cluster.node, asked, leader=cluster.leader)
            assert again.tokens == done.tokens

    trio.run(limited, play)


# ---------------------------------------------------------------- children


def test_a_child_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    async def play() -> None:
        broken = [Member("broken", ("--roles", "drafter", "--model", TARGET, "--draft-model", "no/such/model"))]
        async with open_local(TARGET, broken, quiet, logs=tmp_path, mdns=False):
            raise AssertionError("it started")

    with pytest.raises(ChildFailed, match=r"broken ended.*(?s:.)*neither a known model nor an existing path"):
        trio.run(limited, play)
