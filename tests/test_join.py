"""Joining a cluster: the desk's rules without sockets, and the whole exchange over TLS on 127.0.0.1."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import socket
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric import ed25519

from dsdproto.errors import PeerError
from dsdproto.identity import IdentityError, JoinToken, join_payload, node_id_of, sign, spki_of
from dsdproto.registry import ErrorCode
from dsdproto.wire.codec import encode_message
from dsdproto.wire.frames import encode_frame
from dsdproto.wire.messages import Error, Join, Joined, Ping
from reference_nodes import join_service, tls, trust
from reference_nodes.join import (
    Admitted,
    JoinBroken,
    JoinDesk,
    JoinError,
    JoinRefused,
    JoinUnreachable,
    OfferEnded,
    TokenExpired,
    join,
    offer,
)
from reference_nodes.join_service import MAX_WRONG
from reference_nodes.join_wire import receive_message
from reference_nodes.paths import AlreadyThere, BadName, cluster_dir, node_dir

HOST = "127.0.0.1"
PATIENCE = 30
"""seconds until a test gives up; no outcome depends on it"""


@pytest.fixture
def cluster(tmp_path):
    return trust.init_cluster(cluster_dir(tmp_path / "authority"), "ours")


@pytest.fixture
def foreign(tmp_path):
    return trust.init_cluster(cluster_dir(tmp_path / "foreign"), "theirs")


@pytest.fixture
def home(tmp_path):
    return tmp_path / "newcomer"


class Clock:
    def __init__(self) -> None:
        self.now = 1_900_000_000.0

    def __call__(self) -> float:
        return self.now


def request(token: JoinToken, key=None, **changes) -> Join:
    key = key or trust.new_key()
    public = spki_of(key.public_key())
    fields = {
        "secret_id": token.secret_id,
        "secret": token.secret,
        "public_key": public,
        "proof": sign(key, "dsdp-join/1", join_payload(token.secret_id, token.secret, public)),
        "name": "new",
    }
    return Join(**(fields | changes))


@asynccontextmanager
async def offering(cluster, **options):
    """A running :func:`offer`; yields its token and a box in which the outcome appears."""
    outcome: list = []
    send, receive = trio.open_memory_channel(1)

    async def run():
        try:
            outcome.append(await offer(cluster, [HOST], on_token=send.send_nowait, **options))
        except JoinError as fault:
            outcome.append(fault)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            yield await receive.receive(), outcome
            # Without an admission or a refusal for good, the offer would stay open.
            if not outcome:
                with trio.move_on_after(5):
                    while not outcome:
                        await trio.testing.wait_all_tasks_blocked(0.001)
            nursery.cancel_scope.cancel()


# ---------------------------------------------------------------- the desk


def refused(desk: JoinDesk, message: Join, text: str) -> str:
    with pytest.raises(PeerError, match=text) as caught:
        desk.decide(message)
    assert caught.value.code is ErrorCode.JOIN_REFUSED
    assert caught.value.reply.text == caught.value.text
    return caught.value.clause


def test_the_token_names_the_cluster_and_pins_its_authority(cluster):
    clock = Clock()
    token = JoinDesk(cluster, ["192.0.2.1:7", "[2001:db8::1]:7"], valid_for=60, clock=clock).token
    assert JoinToken.parse(token.encode()) == token
    assert (token.cluster, token.authority) == (cluster.cluster_id, cluster.pin)
    assert token.expires == clock.now + 60


@pytest.mark.parametrize("make", [trust.new_key, ed25519.Ed25519PrivateKey.generate])
def test_the_holder_of_the_token_is_let_in_once(cluster, make):
    desk = JoinDesk(cluster, ["h:1"])
    key = make()
    message = request(desk.token, key)
    joined = desk.decide(message, "h:2")
    assert isinstance(joined, Joined)
    assert (desk.admitted.name, desk.admitted.address) == ("new", "h:2")
    assert desk.admitted.node_id == node_id_of(key.public_key())
    assert refused(desk, message, "used already") == "J-6"
    assert refused(desk, request(desk.token), "used already") == "J-6"


def test_wrong_secrets_are_counted_and_end_the_service(cluster):
    desk = JoinDesk(cluster, ["h:1"])
    wrong = [
        request(desk.token, secret=secrets.token_bytes(16)),
        request(desk.token, secret_id=secrets.token_bytes(8)),
        request(dataclasses.replace(desk.token, secret=bytes(16))),
    ]
    for number in range(MAX_WRONG):
        assert not desk.closed
        assert refused(desk, wrong[number % 3], "not known here") == "J-4"
    assert desk.closed
    assert refused(desk, request(desk.token), "too many wrong") == "J-8"
    assert desk.admitted is None


def test_an_expired_token(cluster):
    clock = Clock()
    desk = JoinDesk(cluster, ["h:1"], valid_for=60, clock=clock)
    clock.now += 60
    assert refused(desk, request(desk.token), "expired") == "J-6"


def test_a_faulty_request_does_not_spend_the_token(cluster):
    desk = JoinDesk(cluster, ["h:1"])
    key = trust.new_key()
    other = spki_of(trust.new_key().public_key())
    token = desk.token
    stolen = sign(key, "dsdp-join/1", join_payload(token.secret_id, token.secret, other))
    for message, text in (
        (request(token, key, public_key=other), "not a signature by the key"),
        (request(token, key, proof=stolen), "not a signature by the key"),
        (request(token, key, proof=b""), "not a signature by the key"),
        (request(token, key, public_key=b"junk"), "SubjectPublicKeyInfo"),
        (request(token, key, name="../up"), "cannot name a node"),
    ):
        assert refused(desk, message, text) == "J-5"
    assert desk.wrong == 0
    assert isinstance(desk.decide(request(token, key)), Joined)


def test_a_proof_for_another_token_is_no_proof(cluster):
    """Replaying a proof seen by an earlier service gives nothing: it covers the secret."""
    desk = JoinDesk(cluster, ["h:1"])
    key = trust.new_key()
    earlier = request(JoinDesk(cluster, ["h:1"]).token, key)
    assert refused(desk, request(desk.token, key, proof=earlier.proof), "not a signature by the key") == "J-5"


# ---------------------------------------------------------------- the whole exchange


@pytest.mark.trio
async def test_a_newcomer_becomes_a_node_that_others_accept(cluster, home):
    resident = trust.create_identity(cluster, home.parent, "resident")
    async with offering(cluster) as (token, outcome):
        identity = await join(token.encode(), home, "gpu-box")
    admitted = outcome[0]
    assert isinstance(admitted, Admitted)
    assert (admitted.name, admitted.node_id) == ("gpu-box", identity.node_id)
    loaded = trust.load_identity(home, "gpu-box")
    assert loaded.node_id == identity.node_id
    assert loaded.cluster_id == cluster.cluster_id
    # and it can really connect
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        context = tls.server_context(resident)
        seen = []

        async def greet(transport):
            seen.append(tls.peer_node_id(await tls.accept(transport, context)))
            nursery.cancel_scope.cancel()

        nursery.start_soon(trio.serve_listeners, greet, listeners)
        stream = await tls.connect(HOST, listeners[0].socket.getsockname()[1], loaded)
        assert tls.peer_node_id(stream) == resident.node_id
        try:
            await stream.receive_some(1)
        except trio.BrokenResourceError:
            pass
        finally:
            await trio.aclose_forcefully(stream)
    assert seen == [loaded.node_id]


@pytest.mark.trio
async def test_joining_again_renews_and_keeps_the_node_id(cluster, home):
    async with offering(cluster) as (token, _):
        first = await join(token, home)
    async with offering(cluster) as (token, _):
        second = await join(token, home)
    assert second.node_id == first.node_id
    assert second.certificate.serial_number != first.certificate.serial_number
    assert trust.load_identity(home).certificate == second.certificate


@pytest.mark.trio
async def test_a_token_works_once(cluster, home):
    """The service has closed behind the first; the second finds nobody."""
    async with offering(cluster) as (token, _):
        await join(token, home, "one")
    with pytest.raises(JoinUnreachable, match="dsdp token"):
        await join(token, home, "two")
    assert not node_dir(home, "two").exists()


@pytest.mark.trio
async def test_of_two_at_once_one_gets_in(cluster, home):
    results = []

    async def attempt(name):
        try:
            results.append(await join(token, home, name))
        except JoinError as fault:
            results.append(fault)

    async with offering(cluster) as (token, outcome), trio.open_nursery() as nursery:
        for name in ("one", "two"):
            nursery.start_soon(attempt, name)
    winners = [result for result in results if isinstance(result, trust.NodeIdentity)]
    assert len(winners) == 1
    assert outcome[0].node_id == winners[0].node_id


@pytest.mark.trio
async def test_a_token_that_expired_is_refused_on_both_sides(cluster, home):
    server, client = Clock(), Clock()
    async with offering(cluster, valid_for=60, clock=server) as (token, outcome):
        client.now += 61
        with pytest.raises(TokenExpired, match=r"expired 1 s ago.*clocks"):
            await join(token, home, clock=client)
        server.now += 61
        client.now -= 61
        with pytest.raises(JoinRefused, match="expired"):
            await join(token, home, clock=client)
        assert outcome == []
        # The rightful end of an expired offer is its own timer; here the test ends it with wrong secrets.
        wrong = dataclasses.replace(token, secret=bytes(16))
        for _ in range(MAX_WRONG):
            with pytest.raises(JoinRefused, match="not known here"):
                await join(wrong, home, clock=client)
    assert isinstance(outcome[0], OfferEnded)
    assert "wrong secrets" in str(outcome[0])
    assert not node_dir(home).exists()


@pytest.mark.trio
async def test_an_offer_ends_by_itself(cluster):
    with pytest.raises(OfferEnded, match="nobody joined"):
        await offer(cluster, [HOST], valid_for=0, on_token=lambda token: None)


@pytest.mark.trio
async def test_another_authority_at_the_address_learns_nothing(cluster, foreign, home):
    async with offering(foreign) as (theirs, outcome):
        token = dataclasses.replace(theirs, authority=cluster.pin, cluster=cluster.cluster_id)
        with pytest.raises(JoinUnreachable, match="the token pins"):
            await join(token, home)
        assert outcome == []
        await join(theirs, home, "other")
    assert not node_dir(home).exists()


@pytest.mark.trio
async def test_addresses_are_tried_in_turn(cluster, home):
    with socket.socket() as dead:
        dead.bind((HOST, 0))
        nobody = f"{HOST}:{dead.getsockname()[1]}"
        async with offering(cluster) as (token, _):
            token = dataclasses.replace(token, addresses=(nobody, *token.addresses))
            await join(token, home)
        with pytest.raises(JoinUnreachable) as caught:
            await join(dataclasses.replace(token, addresses=(nobody, nobody)), home, "late")
        assert str(caught.value).count(f"{nobody} refused") == 2


@pytest.mark.trio
async def test_what_is_wrong_here_is_found_before_the_token_is_spent(cluster, foreign, home):
    trust.create_identity(foreign, home, "taken")
    node_dir(home, "debris").mkdir(parents=True)
    (node_dir(home, "debris") / "note").write_text("mine")
    async with offering(cluster) as (token, outcome):
        with pytest.raises(AlreadyThere, match=foreign.cluster_id.hex()):
            await join(token, home, "taken")
        with pytest.raises(AlreadyThere, match="in the way"):
            await join(token, home, "debris")
        with pytest.raises(BadName):
            await join(token, home, "a/b")
        with pytest.raises(IdentityError, match="dsdp-join-1-"):
            await join("hello", home)
        assert outcome == []
        await join(token, home, "fine")


@pytest.mark.parametrize(
    "garbage, code",
    [
        (b"\xff" * 64, ErrorCode.FRAME_TOO_LONG),
        (encode_frame(0x70, 0, b"\x00"), ErrorCode.CBOR_MALFORMED),
        (encode_frame(0x70, 0, b"\xa0"), ErrorCode.MESSAGE_INVALID),
        (encode_message(0, Ping(sequence=1)), ErrorCode.MESSAGE_UNEXPECTED),
        (encode_frame(0xC2, 0, b"\xa0"), ErrorCode.MESSAGE_UNKNOWN),
        (b"", None),
    ],
    ids=["length", "cbor", "fields", "message", "unknown", "nothing"],
)
@pytest.mark.trio
async def test_garbage_gets_an_answer_and_disturbs_nobody(cluster, home, garbage, code):
    async with offering(cluster) as (token, _):
        host, port = token.addresses[0].split(":")
        stream = await tls.connect_join(host, int(port), token.authority)
        if garbage:
            await stream.send_all(garbage)
            answer = await receive_message(stream, Error)
            assert (answer.code, bool(answer.clause), bool(answer.text)) == (code, True, True)
        await stream.aclose()
        await join(token, home)


@pytest.mark.trio
async def test_only_so_many_conversations_at_once(cluster, home, monkeypatch):
    monkeypatch.setattr(join_service, "MAX_CONVERSATIONS", 1)
    async with offering(cluster) as (token, _):
        host, port = token.addresses[0].split(":")
        idle = await tls.connect_join(host, int(port), token.authority)
        with pytest.raises(JoinUnreachable, match="closed the connection"):
            await join(token, home)
        await idle.aclose()
        identity = None
        while identity is None:  # until the service has noticed that the other one left
            with contextlib.suppress(JoinUnreachable):
                identity = await join(token, home)


@pytest.mark.parametrize("lie", ["cluster", "authority", "certificate", "junk"])
@pytest.mark.trio
async def test_an_authority_that_answers_nonsense(cluster, foreign, home, lie, monkeypatch):
    def decide(desk, message, address=""):
        honest = honestly(desk, message, address)
        other = foreign.certificate.public_bytes(join_service.Encoding.DER)
        changes = {
            "cluster": {"cluster": bytes(16)},
            "authority": {"authority": other},
            "certificate": {"certificate": honest.authority},
            "junk": {"certificate": b"junk"},
        }
        return dataclasses.replace(honest, **changes[lie])

    honestly = JoinDesk.decide
    monkeypatch.setattr(JoinDesk, "decide", decide)
    async with offering(cluster) as (token, _):
        with pytest.raises(JoinBroken):
            await join(token, home)
    assert not node_dir(home).exists()


@pytest.mark.trio
async def test_no_address_to_listen_on(cluster):
    with pytest.raises(JoinError, match=r"cannot listen.*192\.0\.2\.77"):
        await offer(cluster, ["192.0.2.77"], on_token=lambda token: None)
    with pytest.raises(JoinError, match="means every address"):
        await offer(cluster, ["0.0.0.0", "::"], on_token=lambda token: None)
