"""What the live rung is made of: certificates, expected answers, and the judge that sits in each peer."""

from __future__ import annotations

import random
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from live_testees import cases_of

from conformance.case import Case, Rung
from conformance.door.dial import AddressError, Dial, DialDoor, Refused, Unreachable, parse_address
from conformance.door.pki import NODE_FILES, Authority, Flaw, PkiError, issue
from conformance.live.hello import hello_of
from conformance.live.peer import Peer
from conformance.live.sessions import Model, NotTestModel, make_session
from conformance.live.testee import Gate, Site, live_trial
from conformance.runner import Options, Runner
from conformance.trial import Trial
from conformance.verdict import Failed, Inconclusive, Skipped, Verdict
from dsdproto.registry import ErrorCode, Role
from dsdproto.sampling import CoupledSampler, SamplingParameters, walk
from dsdproto.testmodel import TestModel, context_of
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_message, encode_payload
from dsdproto.wire.frames import encode_frame
from dsdproto.wire.messages import Block, Error, Goodbye, Open, Ping, Pong, Ready
from dsdproto.wire.messages import Verdict as VerdictMessage

HANG = 30.0

# ---------------------------------------------------------------- certificates


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A whole TLS handshake in memory. Raises ssl.SSLError where one side refuses the other."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (server.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up, server_hostname="dsdp.internal"))
    for _ in range(4):
        for end in (ends[1], ends[0]):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


def test_good_certificates_meet() -> None:
    authority = Authority.new()
    one, other = authority.identity("one"), authority.identity("other")
    server, client = handshake(one.context(True), other.context(False))
    assert server.getpeercert() and client.getpeercert()
    assert client.selected_alpn_protocol() == "dsdp/1" and client.version() == "TLSv1.3"
    assert one.node_id != other.node_id and one.cluster == other.cluster


@pytest.mark.parametrize("flaw", Flaw)
def test_each_flaw_is_one(flaw: Flaw) -> None:
    authority = Authority.new()
    good, bad = authority.identity("good"), authority.identity("bad", flaw)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(good.context(True), bad.context(False))


def test_issue_writes_once_and_reads_back(tmp_path: Path) -> None:
    first, directory = issue(tmp_path / "pki")
    assert sorted(path.name for path in directory.iterdir()) == sorted(NODE_FILES)
    assert (directory / "node.key").stat().st_mode & 0o077 == 0
    assert (tmp_path / "pki" / "authority.key").stat().st_mode & 0o077 == 0
    before = {path: path.read_bytes() for path in (tmp_path / "pki").rglob("*.pem")}
    second, again = issue(tmp_path / "pki")
    assert again == directory and second.certificate == first.certificate
    assert before == {path: path.read_bytes() for path in (tmp_path / "pki").rglob("*.pem")}
    peer = second.identity("peer")
    assert tmp_path not in peer.directory.parents, "peers' keys do not stay behind"


def test_what_is_no_authority_is_said(tmp_path: Path) -> None:
    with pytest.raises(PkiError, match="dsdp-conformance issue"):
        Authority.load(tmp_path)
    issue(tmp_path / "one")
    issue(tmp_path / "two")
    (tmp_path / "one" / "authority.pem").write_bytes((tmp_path / "two" / "authority.pem").read_bytes())
    with pytest.raises(PkiError, match="is not the key of"):
        Authority.load(tmp_path / "one")


def test_the_nodes_read_what_the_suite_issues(tmp_path: Path) -> None:
    from reference_nodes.trust import NoIdentity, read_identity

    authority, directory = issue(tmp_path)
    identity = read_identity(directory)
    assert identity.cluster_id == authority.identity("x").cluster
    with pytest.raises(NoIdentity, match=r"node\.key is missing"):
        read_identity(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":7", "host:0", "host:65536", "::1:7", "[::1:7", "[host]:7", "h:x"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(AddressError, match="HOST:PORT"):
        parse_address(text)


def test_addresses() -> None:
    assert parse_address("host:7") == ("host", 7) and parse_address("[::1]:7") == ("::1", 7)


# ---------------------------------------------------------------- expected answers


@pytest.mark.parametrize(
    "name", ["tm-1", "tm-1:s=7,v=4096", "tm-1:v=8,s=1,e=0", "tm-1:v=8", "x", "tm-1:v=08,s=1", "tm-1:v=8,s=1,q=2"]
)
def test_names_that_are_not_canonical(name: str) -> None:
    with pytest.raises(NotTestModel):
        Model.parse(name)


@pytest.mark.parametrize("name", ["tm-1:v=4096,s=7", "tm-1:v=8,s=0,e=9", "tm-1:v=4096,s=7,a=52429,d=1"])
def test_names_and_back(name: str) -> None:
    assert Model.parse(name).name == name


@pytest.mark.parametrize("seed", range(12))
def test_walks_are_those_of_the_protocol(seed: int) -> None:
    """The suite's answers come from the reference arithmetic; the nodes' own walk has to agree."""
    rng = random.Random(seed)
    session = make_session(
        rng, Model(512), temperature=rng.choice((0, 30_000, 90_000)), max_tokens=6, top_k=rng.choice((0, 2))
    )
    session.extend(session.ahead(rng.randrange(3)))
    tokens: list[int] = []
    parents: list[int] = []
    paths: list[tuple[int, ...]] = [()]
    for _ in range(12):
        parent = rng.randrange(len(paths))
        prefix = session.tokens + paths[parent]
        token = session.say(prefix) if rng.random() < 0.7 else rng.randrange(4, 512)
        if (token, parent) not in zip(tokens, parents):
            tokens.append(token)
            parents.append(parent)
            paths.append((*paths[parent], token))
    right = session.walk(tuple(tokens), tuple(parents))
    s = session.contract.sampling
    model = TestModel.parse(session.model.name)
    done = walk(
        tuple(tokens),
        tuple(parents),
        lambda node: model.candidates(context_of(session.tokens + paths[node])),
        CoupledSampler(SamplingParameters(s.temperature, s.top_k, s.top_p), s.seed),
        session.position,
        len(session.prompt) + 6 - session.position,
        (),
    )
    assert (right.tokens, right.margin) == (done.tokens, done.margin)
    assert right.accepted == (done.accepted[-1] if done.accepted else 0)


# ---------------------------------------------------------------- the judge in each peer


def trial_of(name: str = "verifier-link/ping-pong", **how: Any) -> Trial:
    case = next(case for case in cases_of(Role.VERIFIER) if case.id == name)
    return Trial(case, seed=3, **how)


Script = Callable[[trio.SSLStream[Any], Authority], Awaitable[None]]


async def against(script: Script, act: Callable[[Peer], Awaitable[None]], **how: Any) -> None:
    """A peer of the suite, connected to a made-up testee that does ``script`` once TLS is done. ``how``: its trial."""
    authority = Authority.new()
    testee = authority.identity("testee")

    async def serve(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, testee.context(True), server_side=True, https_compatible=True)
        await tls.do_handshake()
        rng = random.Random(5)
        hello = hello_of(testee, rng, (int(Role.VERIFIER), int(Role.LEADER)))
        mirror = Peer("testee", trial, tls, testee, hello, dialer=False)
        mirror.manual = True
        nursery.start_soon(mirror.read)
        await mirror.greet()
        await script(tls, authority)
        await trio.sleep_forever()

    trial = trial_of(**how)
    with trio.fail_after(HANG):
        async with trio.open_nursery() as nursery:
            listener = (await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1")))[0]
            dial = Dial("127.0.0.1", listener.socket.getsockname()[1], authority)
            async with live_trial(trial, Site(dial)) as t:
                t.role = Role.VERIFIER
                await act(await t.connect(Role.LEADER, Role.CLIENT, Role.VERIFIER))
            nursery.cancel_scope.cancel()


def wire(message: Any, channel: int = 0) -> bytes:
    return encode_message(channel, message)


BLOCK = Block(position=3, tokens=(4,))
WRONG = {
    "C-1": wire(Goodbye(reason=0)) + wire(Ping(sequence=1)),
    "C-2": wire(Ready(negotiated=bytes(32))),
    "R-1": encode_frame(0x7E, 0, b"\xa0"),
    "R-2": encode_frame(0x7F, 0, b"\xa0"),
    "R-4": encode_frame(6, 0, b"\xa0"),
    "R-10": encode_frame(0xE1, 3, b"\xa0"),
    "B-3": encode_frame(6, 0, bytes.fromhex("a201010101")),
    "B-4": encode_frame(0xE1, 0, bytes.fromhex("a1011801")),
    "CH-1": wire(
        Open(session=bytes(16), contract=make_session(random.Random(1), Model(8)).contract, max_drafters=0, origins=0),
        3,
    ),
    "CH-3": wire(Ping(sequence=1), 2),
    "CH-4": wire(BLOCK, 4),
    "CH-8": wire(Error(code=0x11C, clause="V-8", text=""), 8)
    + wire(VerdictMessage(round=1, accepted=0, token=1, digest=bytes(16), margin=0), 8),
}


@pytest.mark.parametrize("clause", WRONG)
def test_what_no_testee_may_send_is_noticed(clause: str) -> None:
    async def script(stream: trio.SSLStream[Any], _: Authority) -> None:
        await stream.send_all(WRONG[clause])

    async def act(peer: Peer) -> None:
        with pytest.raises(Failed) as caught:
            await peer.next(99)
        assert caught.value.finding.clause == clause
        peer.judge.violation = None

    trio.run(against, script, act)


def test_grease_pings_and_questions_pass_behind_the_back_of_a_case() -> None:
    async def script(stream: trio.SSLStream[Any], _: Authority) -> None:
        grease = encode_frame(0xE1, 0, cbor.encode({2: 1}))
        await stream.send_all(grease + wire(Ping(sequence=5)) + wire(Pong(sequence=77)))

    async def act(peer: Peer) -> None:
        assert (await peer.expect(Pong, 0, "H-2")).sequence == 77
        assert peer.waiting(0) == []

    trio.run(against, script, act)


def test_what_does_not_come_is_a_failure_of_the_clause() -> None:
    async def script(stream: trio.SSLStream[Any], _: Authority) -> None:
        await stream.send_all(wire(Ping(sequence=5)))

    async def act(peer: Peer) -> None:
        with pytest.raises(Failed, match="nothing came"):
            await peer.expect(Pong, 0, "H-2", within=0.05)
        with pytest.raises(Failed, match="left the connection open"):
            await peer.over("E-6", within=0.05)

    trio.run(against, script, act)


WAITS: dict[str, Callable[[Peer], Awaitable[Any]]] = {
    "for something else": lambda peer: peer.expect(Pong, 0, "H-2"),
    "for nothing": lambda peer: peer.silent(0, "H-1", HANG),
    "on another channel": lambda peer: peer.expect(Pong, 3, "H-2"),
    "for anything at all": lambda peer: peer.anything(3, "V-1", "something"),
    "for a channel": lambda peer: peer.opening(Open, "L-1"),
}


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("wait", WAITS)
def test_a_testee_that_was_kept_waiting_may_hang_up(wait: str, late: bool) -> None:
    """And one that was not may not: the difference is how long the suite said nothing, in real time."""
    now = [0.0]
    waits = trio.Event()

    async def script(stream: trio.SSLStream[Any], _: Authority) -> None:
        await waits.wait()
        now[0] += 40.0 if late else 1.0
        text = "nothing came for four intervals"
        await stream.send_all(wire(Error(code=int(ErrorCode.HEARTBEAT_TIMEOUT), clause="H-3", text=text)))
        await stream.transport_stream.send_eof()

    async def act(peer: Peer) -> None:
        async def wait_for_it() -> None:
            with pytest.raises(Inconclusive if late else Failed) as caught:
                await WAITS[wait](peer)
            assert ("the suite itself said nothing for 40.0 s" in str(caught.value)) is late

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_it)
            await trio.testing.wait_all_tasks_blocked()
            waits.set()

    trio.run(partial(against, clock=lambda: now[0]), script, act)


def test_who_is_alone_is_alone() -> None:
    log: list[str] = []

    async def one(gate: Gate, name: str, alone: bool) -> None:
        async with gate.enter(alone):
            log.append(f"+{name}")
            await trio.testing.wait_all_tasks_blocked(0.01)
            log.append(f"-{name}")

    async def main() -> None:
        gate = Gate()
        async with trio.open_nursery() as nursery:
            for name in "ab":
                nursery.start_soon(one, gate, name, False)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(one, gate, "X", True)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(one, gate, "c", False)

    trio.run(main)
    at = log.index("+X")
    assert log[at + 1] == "-X" and "+c" in log[at:] and {"-a", "-b"} <= set(log[:at])


# ---------------------------------------------------------------- testees that are of no use


@contextmanager
def listening(handler: Callable[[Any, Authority], None]) -> Iterator[Dial]:
    """A made-up testee in a thread: ``handler(connection, authority)`` for each TCP connection."""
    import socket
    import threading

    authority = Authority.new()
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                handler(connection, authority)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield Dial("127.0.0.1", server.getsockname()[1], authority)
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


def test_who_hangs_up_on_everybody_is_no_testee() -> None:
    with listening(lambda connection, _: None) as dial, pytest.raises((Refused, Unreachable)), DialDoor(dial):
        pytest.fail("a door that leads nowhere")


def test_who_hangs_up_after_hello_fails_all_but_nothing() -> None:
    """A node that refuses everybody would pass every test of refusals, were it not for the brackets."""
    authority = Authority.new()
    identity = authority.identity("testee")
    context = identity.context(True)
    rng = random.Random(1)
    payload = encode_payload(hello_of(identity, rng, (int(Role.VERIFIER),), (Model(4096).offer(),)), {33: 0})

    def hang_up(connection: Any, _: Authority) -> None:
        try:
            with context.wrap_socket(connection, server_side=True) as tls:
                tls.sendall(encode_frame(2, 0, payload))
        except OSError:
            return

    names = (
        "frame-too-long",
        "features-even",
        "own-node-id",
        "cbor-tag",
        "certificate-expired",
        "plain-tcp",
        "no-protocol",
    )
    with listening(hang_up) as dial:
        door = DialDoor(Dial(dial.host, dial.port, authority), (Role.VERIFIER,))
        with door:
            cases: list[Case] = cases_of(Role.VERIFIER, *names, "greedy", "verify-round-zero")
            assert len(cases) == len(names) + 2
            results = Runner(door, Options(seed=1, jobs=4)).run(cases)
    assert {r.case.id: r.outcome.verdict for r in results if r.outcome.verdict is not Verdict.FAIL} == {}


def test_a_door_asks_only_what_fits() -> None:
    door = DialDoor(Dial("127.0.0.1", 1, Authority.new()), (Role.VERIFIER,))
    rng = random.Random(1)
    door._site = Site(door.dial, hello_of(Authority.new().identity(), rng, (3, 4), features=(3,)))
    static = Case("x/y", "", ("C-3",), Rung.STATIC, lambda t: None)
    assert isinstance(door.lacks(static), Skipped)
    by_id = {case.id: case for role in Role for case in cases_of(role)}
    assert door.lacks(by_id["verifier/greedy"]) is None
    assert isinstance(door.lacks(by_id["drafter/coupled"]), Skipped), "another role is under test"
    assert "TREES" in str(door.lacks(by_id["verifier/tree"]))
    door.roles = ()
    assert door.lacks(by_id["drafter/coupled"]) is None
    assert "leader" in str(door.lacks(by_id["leader/close"]))
