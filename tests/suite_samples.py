"""A made-up run with every verdict in it, for the tests of the runner and of the reports.

The door hands out testees that do what the case function says; what crosses the "wire" is the worked example of
SPEC.md, with some bytes broken.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from conformance.case import Case, Registry, Rung, case
from conformance.example_session import handshake, session
from conformance.expectations import Expectation
from conformance.report.make import Keep, report
from conformance.report.model import Report
from conformance.runner import Options, Runner
from conformance.testee import About
from conformance.trial import Trial
from conformance.verdict import Conclusion, Failed, Inconclusive, Info, Skipped, Unsupported, Verdict
from dsdproto.registry import Role
from dsdproto.wire.frames import encode_frame

EVIL = "<script>alert(1)</script>\x1b[31m"
"""A name that a report must not obey."""


class Clock:
    """Seconds that go on by a millisecond with each look."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@dataclass
class Testee:
    trial: Trial
    broken: bool = False
    happy: list[str] = field(default_factory=list)

    def happy_path(self) -> None:
        self.happy.append(self.trial.case.id)
        if self.broken:
            raise Failed("E-3", "after the refusal a fresh session is not answered", "OPENED", "nothing")


class LiveTestee(Testee):
    async def happy_path(self) -> None:  # type: ignore[override]
        Testee.happy_path(self)


class FakeDoor:
    """:param broken: the happy path fails after each negative case."""

    def __init__(self, *, broken: bool = False, name: str = "rusty-dsdp", missing: dict[str, Conclusion] | None = None):
        self.broken = broken
        self.name = name
        self.missing = missing or {}
        self.happy: list[str] = []
        self.trials: list[Trial] = []

    def about(self) -> About:
        return About(self.name, "0.3.1", "--exec './testee --strict'", ("verifier",), ("philox", "replay"))

    def lacks(self, case: Case) -> Conclusion | None:
        return self.missing.get(case.id)

    @contextmanager
    def trial(self, trial: Trial) -> Iterator[Testee]:
        self.trials.append(trial)
        yield Testee(trial, self.broken, self.happy)

    @asynccontextmanager
    async def live_trial(self, trial: Trial) -> AsyncIterator[LiveTestee]:
        self.trials.append(trial)
        yield LiveTestee(trial, self.broken, self.happy)

    def __enter__(self) -> FakeDoor:
        return self

    def __exit__(self, *error: object) -> None:
        self.trials.append(None)  # type: ignore[arg-type]


# ---------------------------------------------------------------- cases, one for each verdict


def talk(trial: Trial) -> None:
    """The handshake and the first round of the worked example, as if the suite were everybody but the leader."""
    trial.wire.event("client", "connected as client, node 92c081dc")
    for step in handshake() + session()[:12]:
        other = step.receiver if step.sender == "leader" else step.sender
        (trial.wire.received if step.sender == "leader" else trial.wire.sent)(other, step.frame)


def passes(t: Any) -> None:
    t.trial.note("grease key 193")


def asks(t: Any) -> None:
    t.trial.wire.asked(b'{"id": 7, "verb": "compute", "function": "philox", "seed": "18446744073709551615"}\n')
    t.trial.wire.answered(b'{"id": 7, "ok": {"words": [1, 2, 3, 4]}}')
    t.trial.failed("S-RNG-1", "philox with counter 0 and key 0 gives other words", [0x6627E8D5, 0xE169C58D], [1, 2])
    t.trial.failed("S-RNG-1", "philox with all ones gives other words", b"\x40\x8f", b"\x00\x00")


async def fails(t: Any) -> None:
    talk(t.trial)
    wire = t.trial.wire
    wire.sent("leader-1", encode_frame(0x42, 3, bytes.fromhex("a3010102031903e8")), "a VERIFY that is cut short")
    wire.sent("leader-1", bytes.fromhex("0000"), "one byte at a time")
    wire.sent("leader-1", bytes.fromhex("0306"))
    wire.sent("leader-1", bytes.fromhex("00000000a10107"))
    wire.received("leader-1", encode_frame(0xC1, 0, bytes.fromhex("a10140")))
    wire.received("leader-1", encode_frame(0x80, 0, bytes.fromhex("bf01ff")))
    wire.event("leader-1", "nothing came for 5.0 s")
    raise Failed("V-6", "a truncated VERIFY was answered with the wrong code", "CBOR_MALFORMED, session", EVIL)


async def too_slow(t: Any) -> None:
    talk(t.trial)
    raise Inconclusive("PONG came after 1.4 s, expected within 1 s")


def warns(t: Any) -> None:
    raise Failed("D-17", "half-full proposals although the window was open", "5 tokens", "1 token")


def informs(t: Any) -> None:
    raise Info("the testee keeps 3 sessions in one batch")


def goes_wrong(t: Any) -> None:
    raise ZeroDivisionError("division by zero")


def not_offered(t: Any) -> None:
    raise Unsupported("no Ed25519")


def not_here(t: Any) -> None:
    raise Skipped("no network namespaces")


def fails_as_known(t: Any) -> None:
    raise Failed("S-SAMP-3", "ties go to the highest id", 3, 9)


EXPECTED = {
    "coupled/ties": Expectation(Verdict.FAIL, "issue 12: ties go to the highest id"),
    "coupled/greedy": Expectation(Verdict.FAIL, "issue 9"),
}
VERDICTS = {
    "prefix/empty": Verdict.PASS,
    "philox/known-answers": Verdict.FAIL,
    "coupled/ties": Verdict.XFAIL,
    "coupled/greedy": Verdict.XPASS,
    "identity/ed25519": Verdict.UNSUPPORTED,
    "drafter/fills-the-window": Verdict.WARN,
    "replay/whole-session": Verdict.INFO,
    "replay/broken-suite": Verdict.ERROR,
    "verify/truncated": Verdict.FAIL,
    "heartbeat/pong-at-once": Verdict.INCONCLUSIVE,
    "chaos/partition": Verdict.SKIP,
}


def registry() -> Registry:
    cases = Registry()
    static, replay, live = Rung.STATIC, Rung.TRANSCRIPT, Rung.LIVE
    for case_id, title, clauses, rung, check in (
        ("prefix/empty", "The empty prefix is named by the contract", ("S-2", "S-PFX-1"), static, passes),
        ("philox/known-answers", "Philox4x32-10 gives the known answers", ("S-RNG-1",), static, asks),
        ("coupled/ties", "Equal scores go to the lowest id", ("S-SAMP-3",), static, fails_as_known),
        ("coupled/greedy", "Temperature 0 takes the first in rank", ("S-SAMP-3",), static, passes),
        ("identity/ed25519", "Ed25519 statements verify", ("N-7",), static, not_offered),
        ("drafter/fills-the-window", "A drafter fills the window", ("D-17",), replay, warns),
        ("replay/whole-session", "A recorded session is read to its end", ("S-10",), replay, informs),
        ("replay/broken-suite", "A recorded connection with a defect of the suite", ("C-1",), replay, goes_wrong),
        ("verify/truncated", "A truncated VERIFY is refused", ("V-6", "B-1"), live, fails),
        ("heartbeat/pong-at-once", "PING is answered at once", ("H-2",), live, too_slow),
    ):
        role = Role.VERIFIER if rung is live else None
        quote = "A VERDICT holds together" if case_id == "verify/truncated" else ""
        case(case_id, title, clauses=clauses, rung=rung, role=role, quote=quote, registry=cases)(check)
    partition = case(
        "chaos/partition", "No two histories after a partition", clauses=("Q-34", "K-3"), rung=Rung.CHAOS,
        role=Role.VOTER, registry=cases,
    )  # fmt: skip
    partition(chaos)
    return cases


async def chaos(t: Any) -> None:
    raise Skipped("needs three foreign nodes")


def sample(keep: Keep = Keep.TROUBLE, name: str = "rusty-dsdp") -> Report:
    """The report of a run over all of them, always the same."""
    door = FakeDoor(name=name)
    options = Options(seed=4711, expectations=EXPECTED)
    clock = Clock()
    results = Runner(door, options, clock=clock).run(registry())
    return report(
        results,
        door.about(),
        options,
        started="2026-11-23T05:40:00Z",
        seconds=12.5,
        command="dsdp-conformance run --exec './testee --strict' --html report.html",
        platform="Linux x86_64, Python 3.12",
        keep=keep,
    )
