"""The suite's live cases of joining: the reference passes them, and commands that break a clause do not."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import trio

from conformance import cli, commands
from conformance.case import JOIN_COMMAND, TOKEN_COMMAND, Case, Rung, load
from conformance.door.dial import Dial, DialDoor
from conformance.door.joining import TOKEN, JoinDoor, filled, running
from conformance.door.pki import Authority
from conformance.runner import Options, Result, Runner
from conformance.trial import Trial
from conformance.verdict import DOOR, Failed, Skipped, Unsupported, Verdict
from conformance.wirelog import Direction
from dsdproto.errors import LocalError
from dsdproto.registry import Role
from reference_nodes.paths import cluster_dir
from reference_nodes.trust import init_cluster

SCRIPT = Path(__file__).with_name("broken_joining.py")
MAIN = "import sys; from reference_nodes.cli.main import main; sys.exit(main(sys.argv[1:]))"
PATIENCE = 4.0

SAMPLE = (
    "join-authority/certificates",
    "join-authority/renewal",
    "join-authority/other-messages",
    "join-authority/error-first",
    "join-authority/closes-behind",
    "join-newcomer/joins-again",
    "join-newcomer/answer-in-pieces",
    "join-newcomer/node-in-its-place",
    "join-newcomer/answer-by-another-authority",
)
"""A few cases of each kind; all of them run with ``-m slow``."""

BROKEN = (
    ("hears_any_number_of_guesses", "join-authority/guesses", "J-8"),
    ("takes_any_proof", "join-authority/faulty-requests", "J-5"),
    ("counts_bad_proofs_as_guesses", "join-authority/faulty-requests", "J-3"),
    ("lets_two_in", "join-authority/once", "J-6"),
    ("reads_long_payloads", "join-authority/payload-too-long", "J-10"),
    ("answers_an_error_with_an_error", "join-authority/error-first", "E-6"),
    ("numbers_no_certificates", "join-authority/renewal", "J-9"),
    ("gives_all_one_subject", "join-authority/same-name", "T-4"),
    ("speaks_first", "join-authority/says-nothing-first", "J-10"),
    ("prints_no_token", "join-authority/lets-in", DOOR),
    ("talks_to_anybody", "join-newcomer/other-authority", "J-3"),
    ("takes_any_answer", "join-newcomer/answer-with-another-cluster-id", "J-7"),
    ("keeps_what_it_discards", "join-newcomer/answer-with-another-cluster-id", "J-7"),
    ("proves_something_else", "join-newcomer/joins", "J-5"),
    ("is_always_content", "join-newcomer/refused", "J-3"),
)
"""Fault of ``broken_joining.py``, a case that finds it, the clause that it names."""
LONG = ("hears_any_number_of_guesses", "counts_bad_proofs_as_guesses", "reads_long_payloads")
"""Found only by waiting for something, or with many connections."""


def commands_of(home: Path, *program: str) -> JoinDoor:
    """``dsdp token`` and ``dsdp join``, the first for an authority in ``home``."""
    init_cluster(cluster_dir(home), "ours")
    dsdp = shlex.join([sys.executable, *(program or ("-c", MAIN))])
    token = f"{dsdp} token --home {shlex.quote(str(home))} --host 127.0.0.1"
    return JoinDoor(token, f"{dsdp} join --home {{home}} {{token}}")


def joining() -> list[Case]:
    return [case for case in load() if case.joining]


def judged(door: JoinDoor, cases: list[Case], jobs: int = 3) -> list[Result]:
    with door:
        return Runner(door, Options(seed=20, patience=PATIENCE, jobs=jobs)).run(cases)


def wrong(results: list[Result]) -> list[str]:
    return [
        f"{r.outcome.verdict} {r.case.id}: {r.outcome.reason} {r.outcome.findings} {r.outcome.trace}"
        for r in results
        if r.outcome.verdict is not Verdict.PASS
    ]


def test_a_sample(tmp_path: Path) -> None:
    results = judged(commands_of(tmp_path), [load()[name] for name in SAMPLE])
    assert wrong(results) == []
    logged = " ".join(entry.text for result in results for entry in result.wire.entries)
    assert "(a token)" in logged and not TOKEN.search(logged), "tokens are secrets, and reports are passed around"
    for result in results:
        assert any(entry.direction is Direction.RECEIVED for entry in result.wire.entries), result.case.id


@pytest.mark.slow
def test_all(tmp_path: Path) -> None:
    cases = joining()
    assert len(cases) > 40
    assert wrong(judged(commands_of(tmp_path), cases)) == []


@pytest.mark.parametrize(
    ("fault", "case_id", "clause"),
    [pytest.param(*each, id=each[0], marks=pytest.mark.slow if each[0] in LONG else ()) for each in BROKEN],
)
def test_what_is_broken_is_found(fault: str, case_id: str, clause: str, tmp_path: Path) -> None:
    (result,) = judged(commands_of(tmp_path, str(SCRIPT), fault), [load()[case_id]])
    assert result.outcome.verdict is Verdict.FAIL, result.outcome
    assert [finding.clause for finding in result.outcome.findings] == [clause], result.outcome


def test_without_a_home_newcomers_come_one_by_one(tmp_path: Path) -> None:
    """And always to one cluster, so that a machine with one place for its identity can take part."""
    dsdp = shlex.join([sys.executable, "-c", MAIN])
    door = JoinDoor(None, f"{dsdp} join --home {shlex.quote(str(tmp_path))} {{token}}")
    cases = [load()[f"join-newcomer/{name}"] for name in ("joins", "other-authority")]
    assert wrong(judged(door, cases)) == []
    assert (tmp_path / "nodes" / "default").is_dir()


# ---------------------------------------------------------------- the door


def test_what_is_asked_of_whom() -> None:
    token, join = load()["join-authority/once"], load()["join-newcomer/joins"]
    static = next(case for case in load() if case.rung is Rung.STATIC)
    live = next(case for case in load() if case.role is Role.VERIFIER)
    door = JoinDoor("dsdp token", None)
    assert door.lacks(token) is None
    assert isinstance(door.lacks(join), Unsupported)
    assert isinstance(door.lacks(static), Skipped) and isinstance(door.lacks(live), Skipped)
    assert isinstance(DialDoor(Dial("127.0.0.1", 1, Authority.new())).lacks(token), Unsupported)


@pytest.mark.parametrize(
    ("token", "join", "said"),
    [
        ("", None, "--token-command needs a command"),
        ("dsdp 'token", None, "--token-command.*No closing quotation"),
        (None, "dsdp join", r"--join-command 'dsdp join' says nowhere \{token\}"),
    ],
)
def test_a_command_of_no_use_is_said(token: str | None, join: str | None, said: str) -> None:
    with pytest.raises(LocalError, match=said):
        JoinDoor(token, join)


def test_holes_are_filled_word_by_word() -> None:
    words = filled("join --home={home} '{token}' {tokens}", token="a b", home="/x y")
    assert words == ["join", "--home=/x y", "a b", "{tokens}"]


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    async def start() -> None:
        trial = Trial(load()["join-authority/once"], seed=1)
        async with running(TOKEN_COMMAND, [str(tmp_path / "none")], trial):
            pytest.fail("it started")

    with pytest.raises(Failed, match="cannot be started") as caught:
        trio.run(start)
    assert caught.value.finding.clause == DOOR


def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """With its children, also where it does not mind SIGTERM."""
    code = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"

    async def start() -> int | None:
        trial = Trial(load()["join-authority/once"], seed=1)
        async with running(TOKEN_COMMAND, [sys.executable, "-c", code], trial) as command:
            while not command.lines:
                await trio.sleep(0.01)
        return command.process.returncode

    assert trio.run(start) == -9


# ---------------------------------------------------------------- the command line


def test_commands_alone_are_asked_for_joining_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Case] = []

    class Recorder(Runner):
        def run(self, cases) -> list[Result]:  # type: ignore[no-untyped-def]
            asked.extend(cases)
            return []

    monkeypatch.setattr(commands, "Runner", Recorder)
    cli.main(["run", "--token-command", "dsdp token", "--quiet"])
    assert {case.joining for case in asked} == {TOKEN_COMMAND, JOIN_COMMAND}


def test_joining_has_no_role(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--token-command", "dsdp token", "--quiet", "--role", "voter"]) == 2
    assert "--exec or --dial" in capsys.readouterr().err


def test_how_it_was_reached_is_in_the_report() -> None:
    about = JoinDoor("dsdp token", "dsdp join {token}").about()
    assert about.door == "--token-command 'dsdp token' --join-command 'dsdp join {token}'"


def test_a_failure_within_a_command_is_one_finding() -> None:
    (result,) = judged(JoinDoor(shlex.join([sys.executable, "-c", ""]), None), [load()["join-authority/renewal"]])
    assert [finding.clause for finding in result.outcome.findings] == [DOOR]
    assert "printed no token" in result.outcome.reason
