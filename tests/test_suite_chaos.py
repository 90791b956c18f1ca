"""Rung 4: the suite as the network between nodes. The network and the judge by themselves, then real nodes behind them.

The quick sample runs a case of each kind against the reference nodes; all cases, and the example testee, are slow.
"""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from conformance.case import CASES, Case, Rung, load
from conformance.chaos.network import Wire
from conformance.chaos.players import Voice, either
from conformance.chaos.reader import Reader
from conformance.chaos.schedule import one_after_the_other
from conformance.door.exec import ExecDoor
from conformance.live.sessions import Model, make_session
from conformance.runner import Options, Result, Runner
from conformance.trial import Trial
from conformance.verdict import Failed, Verdict
from dsdproto.registry import CommitProfile, ErrorCode, Finish, Role
from dsdproto.wire.messages import Block, End, Error, Opened, Stats

REFERENCE = [sys.executable, "-m", "reference_nodes.door"]
EXAMPLE = [sys.executable, "-m", "conformance.examples.python"]
QUICK = ("chaos/verifier-killed", "chaos/votes-survive", "chaos/cut-within-frames")
SEED = 20261123


def trial_of(name: str = "chaos/storm") -> Trial:
    load()
    return Trial(CASES[name], seed=SEED)


def run(command: list[str], cases: list[Case], seed: int = SEED) -> dict[str, Result]:
    with ExecDoor(command) as door:
        results = Runner(door, Options(seed=seed, jobs=8, patience=3.0)).run(cases)
    return {each.case.id: each for each in results}


def chaos_cases() -> list[Case]:
    load()
    return [case for case in CASES if case.rung is Rung.CHAOS and case.id.startswith("chaos/")]


def wrong(results: dict[str, Result]) -> dict[str, Any]:
    return {name: each.outcome for name, each in results.items() if each.outcome.verdict is not Verdict.PASS}


# ---------------------------------------------------------------- the network


class Pair:
    """A connection over a wire, from both ends."""

    def __init__(self, wire: Wire, near: trio.SocketStream, far: trio.SocketStream) -> None:
        self.wire, self.near, self.far = wire, near, far

    async def read(self, stream: trio.SocketStream, size: int) -> bytes:
        out = b""
        while len(out) < size:
            data = await stream.receive_some(size - len(out))
            if not data:
                break
            out += data
        return out


@asynccontextmanager
async def over_a_wire(bend: Callable[[Wire], object] = lambda wire: None) -> AsyncIterator[Pair]:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        wire = Wire("near->far", lambda: listener.socket.getsockname()[:2], random.Random(SEED), trial_of())
        await wire.open()
        nursery.start_soon(wire.serve)
        bend(wire)
        near = await trio.open_tcp_stream(*wire.address)
        yield Pair(wire, near, await listener.accept())
        nursery.cancel_scope.cancel()


def in_trio(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    async def bounded() -> None:
        with trio.fail_after(30):
            await test()

    def run_it() -> None:
        trio.run(bounded)

    run_it.__name__ = test.__name__
    return run_it


@in_trio
async def test_bytes_pass_both_ways_and_in_order() -> None:
    async with over_a_wire(lambda wire: wire.slow(delay=0.001, jitter=0.002, piece=7)) as pair:
        text = random.Random(SEED).randbytes(5000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.near.send_all, text)
            nursery.start_soon(pair.far.send_all, text[::-1])
            assert await pair.read(pair.far, 5000) == text
            assert await pair.read(pair.near, 5000) == text[::-1]
        assert pair.wire.traffic == 10000


@in_trio
async def test_a_truncated_way_ends_after_exactly_so_many_bytes() -> None:
    async with over_a_wire() as pair:
        pair.wire.truncate(pair.wire.there, 100)
        await pair.near.send_all(bytes(300))
        assert await pair.read(pair.far, 300) == bytes(100)
        assert await pair.near.receive_some() == b""


@in_trio
async def test_what_is_held_arrives_when_the_wire_is_free_and_the_other_way_goes_on() -> None:
    async with over_a_wire() as pair:
        pair.wire.hold(pair.wire.there)
        await pair.near.send_all(b"later")
        await pair.far.send_all(b"now")
        assert await pair.read(pair.near, 3) == b"now"
        assert pair.wire.there.passed == 0 and pair.wire.bent
        pair.wire.free()
        assert await pair.read(pair.far, 5) == b"later"


@in_trio
async def test_a_half_closed_way_ends_and_the_other_goes_on() -> None:
    async with over_a_wire() as pair:
        await pair.near.send_all(b"x")
        assert await pair.read(pair.far, 1) == b"x"
        pair.wire.half_close(pair.wire.there)
        assert await pair.far.receive_some() == b""
        await pair.far.send_all(b"still here")
        assert await pair.read(pair.near, 10) == b"still here"


@in_trio
async def test_a_reset_reaches_both_ends_and_a_shut_wire_takes_nobody() -> None:
    async with over_a_wire() as pair:
        await pair.near.send_all(b"x")
        assert await pair.read(pair.far, 1) == b"x"
        pair.wire.part()
        for stream in (pair.near, pair.far):
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        again = await trio.open_tcp_stream(*pair.wire.address)
        with pytest.raises(trio.BrokenResourceError):
            await again.receive_some()


def test_the_seed_decides_what_goes_wrong() -> None:
    def story(seed: int) -> list[str]:
        trial = Trial(CASES["chaos/storm"], seed=seed)
        wire = Wire("near->far", lambda: None, random.Random(1), trial)
        town = SimpleNamespace(rng=random.Random(seed), trial=trial, tell=trial.wire.event, all_is_well=wire.free)
        tell = partial(one_after_the_other, town, (), until=lambda: False, wires=(wire,), most=12)  # type: ignore[arg-type]
        told = trio.run(tell, clock=trio.testing.MockClock(autojump_threshold=0))
        assert trial.notes == [f"seed {seed}: {', '.join(told)}"] and not wire.shut
        return told

    trial_of()
    assert story(1) == story(1) != story(2)


# ---------------------------------------------------------------- the judge


def reader_of(*, quorum: bool = False, **changes: Any) -> Reader:
    """A client that has had OPENED and nothing else."""
    trial = trial_of()
    profile = CommitProfile.QUORUM if quorum else CommitProfile.SOLO
    session = make_session(trial.rng, Model(64), commit_profile=int(profile), max_tokens=8)
    authority = SimpleNamespace(identity=lambda name: SimpleNamespace(name=name, node_id=bytes(32)))
    town: Any = SimpleNamespace(
        trial=trial, readers=[], pool=SimpleNamespace(authority=authority), tell=trial.wire.event, nodes={}
    )
    reader = Reader(town, session, **{"origins": False, **changes})
    model = session.model
    opened = Opened(
        position=len(session.prompt),
        model=model.name,
        profile=model.profile,
        profile_text=model.profile_text,
        group=bytes(32) + bytes([1]) * 32 + bytes([2]) * 32 if quorum else None,
        view=0 if quorum else None,
    )
    reader._begin(SimpleNamespace(features=(), arrivals=[], name="client at a"), 1, opened, first=True)  # type: ignore[arg-type]
    return reader


def block(reader: Reader, count: int, **changes: Any) -> Block:
    """The right one."""
    tokens: tuple[int, ...] = ()
    for _ in range(count):
        tokens = (*tokens, reader.session.say(reader.tokens + tokens))
    return Block(**{"position": len(reader.tokens), "tokens": tokens, **changes})


def end(reader: Reader, **changes: Any) -> End:
    digest = reader.session.digest_of(reader.tokens)
    values = {"finish": int(Finish.LENGTH), "position": len(reader.tokens), "digest": digest, **changes}
    return End(**values)


def test_a_right_history_is_right() -> None:
    reader = reader_of()
    reader._block(block(reader, 3), first=True)
    reader._block(block(reader, 5), first=True)
    stats = Stats(rounds=4, drafted=9, verified=7, accepted=4, waste=(0, 3, 1, 1, 0, 0, 0, 0))
    reader._end(end(reader, stats=stats), first=True)
    assert reader.count == 8 and reader.over and not reader.failure
    assert trio.run(reader.finished).finish == Finish.LENGTH


@pytest.mark.parametrize(
    ("clause", "change"),
    [
        ("S-8", lambda r: {"position": len(r.tokens) - 1}),
        ("S-8", lambda r: {"position": len(r.tokens) + 1}),
        ("S-17", lambda r: {"tokens": r.session.other(r.tokens)}),
        ("S-18", lambda r: {"origins": bytes(2)}),
        ("S-8", lambda r: {"tokens": (*block(r, 6).tokens, 5)}),
    ],
)
def test_a_wrong_block_is_found(clause: str, change: Callable[[Reader], dict[str, Any]]) -> None:
    reader = reader_of()
    reader._block(block(reader, 2), first=True)
    with pytest.raises(Failed) as caught:
        reader._block(block(reader, 2, **change(reader)), first=True)
    assert caught.value.finding.clause == clause


@pytest.mark.parametrize(
    ("clause", "change"),
    [
        ("S-10", {"position": 3}),
        ("S-10", {"digest": bytes(32)}),
        ("S-19", {"stats": Stats(rounds=8, drafted=9, verified=9, accepted=4, waste=(1,))}),
        ("S-19", {"stats": Stats(rounds=2, drafted=4, verified=4, accepted=4, waste=())}),
        ("S-19", {"stats": Stats(rounds=9, drafted=4, verified=4, accepted=4, waste=())}),
        ("S-19", {"stats": Stats(rounds=8, drafted=4, verified=3, accepted=4, waste=())}),
    ],
)
def test_a_wrong_end_is_found(clause: str, change: dict[str, Any]) -> None:
    reader = reader_of()
    reader._block(block(reader, 8), first=True)
    with pytest.raises(Failed) as caught:
        reader._end(end(reader, **change), first=True)
    assert caught.value.finding.clause == clause


def test_an_end_before_its_time_is_found() -> None:
    reader = reader_of()
    reader._block(block(reader, 4), first=True)
    reader._end(end(reader), first=True)
    with pytest.raises(Failed, match="S-9"):
        trio.run(reader.finished)


def test_errors_have_a_scope_and_a_code_that_fits() -> None:
    reader, peer = reader_of(quorum=True), SimpleNamespace(name="client at a")
    fits = Error(code=ErrorCode.QUORUM_LOST, clause="Q-43", text="")
    reader._judge_error(peer, fits, (ErrorCode.QUORUM_LOST,))  # type: ignore[arg-type]
    for code, clause in ((ErrorCode.INTERNAL, "E-2"), (ErrorCode.CREDIT_EXCEEDED, "E-1")):
        with pytest.raises(Failed, match=clause):
            error = Error(code=code, clause="", text="")
            reader._judge_error(peer, error, (ErrorCode.QUORUM_LOST,))  # type: ignore[arg-type]


def test_a_voice_says_something_else_under_the_same_name() -> None:
    public = Model(64)
    session = make_session(random.Random(SEED), public)
    spoken = [Voice(64, s=seed, public=public) for seed in (1000, 1001)]
    assert {voice.name for voice in spoken} == {public.name} and spoken[0].profile != spoken[1].profile
    said = [either(session, spoken)(session.prompt + (5,) * n) for n in range(20)]
    assert sum(first != second for first, second in said) > 10


# ---------------------------------------------------------------- cases


def test_there_are_cases_for_every_role() -> None:
    cases = chaos_cases()
    assert len(cases) >= 15
    assert {case.role for case in cases} == set(Role)


def test_a_dialed_testee_is_not_asked(tmp_path: Any) -> None:
    from conformance.door.dial import Dial, DialDoor
    from conformance.door.pki import Authority

    door = DialDoor(Dial("127.0.0.1", 1, Authority.new()))
    lacks = door.lacks(chaos_cases()[0])
    assert lacks is not None and lacks.verdict is Verdict.SKIP


def test_the_reference_nodes_pass_a_sample() -> None:
    cases = [case for case in chaos_cases() if case.id in QUICK]
    assert len(cases) == len(QUICK)
    assert not wrong(run(REFERENCE, cases))


@pytest.mark.slow
@pytest.mark.parametrize("command", [REFERENCE, EXAMPLE], ids=["reference", "example"])
def test_every_case_passes(command: list[str]) -> None:
    assert not wrong(run(command, chaos_cases()))
