"""Sections 9.1 and 20.1: HELLO, READY, what is negotiated, and who is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.live.every_role import every_role
from conformance.live.peer import Peer, described
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import GREASE_FEATURES, GREASE_KEYS, GREASE_TYPES, ErrorCode, MessageType
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import Error, Goodbye, Ping, Pong, Ready


def hello_item(peer: Peer) -> dict[int, Any]:
    """The map of this peer's HELLO, to be spoilt."""
    return cbor.decode(peer.greased(peer.hello))


async def refused_hello(
    t: LiveTestee, clause: str, *codes: ErrorCode, payload: bytes | None = None, **changes: Any
) -> Error:
    """Dial, wait for HELLO, answer with a HELLO that must be refused. (READY goes along: a testee may judge late.)"""
    peer = await t.connect(greet=False, **changes)
    await peer.meet()
    await peer.say_hello(payload)
    await peer.say_ready()
    return await peer.refused(0, clause, *codes)


# ---------------------------------------------------------------- order


@every_role("acceptor-speaks-first", "The acceptor sends HELLO at once", "C-3")
async def acceptor_speaks_first(t: LiveTestee) -> None:
    peer = await t.connect(greet=False)
    await peer.meet()


@every_role(
    "ready-last", "The acceptor sends READY when it has both of the dialer's messages, not before", "C-3", "C-6"
)
async def ready_last(t: LiveTestee) -> None:
    peer = await t.connect(greet=False)
    await peer.meet()
    await peer.silent(0, "C-3", 0.2)
    await peer.say_hello()
    await peer.silent(0, "C-3", 0.2)
    await peer.say_ready()
    ready = await peer.expect(Ready, 0, "C-3")
    t.trial.expect(
        "C-6", "READY has another digest than the two HELLO messages give", peer.negotiated(), ready.negotiated
    )
    await peer.alive("H-2")


@every_role("hello-and-ready-together", "HELLO, READY and traffic in one piece", "F-4", "C-3")
async def together(t: LiveTestee) -> None:
    from dsdproto.wire.codec import encode_message
    from dsdproto.wire.frames import encode_frame

    peer = await t.connect(greet=False)
    await peer.meet()
    peer._hello_payload = peer.greased(peer.hello)
    hello = encode_frame(int(MessageType.HELLO), 0, peer._hello_payload)
    await peer.raw(hello + encode_message(0, Ready(negotiated=peer.negotiated())))
    await peer.expect(Ready, 0, "C-3")
    await peer.alive("H-2")


@every_role("handshake-byte-by-byte", "A handshake of single bytes, each in a record of its own", "F-4")
async def byte_by_byte(t: LiveTestee) -> None:
    peer = await t.connect(greet=False)
    await peer.greet(pieces=1)
    await peer.send(Ping(sequence=5), pieces=1)
    await peer.expect(Pong, 0, "H-2")


@every_role(
    "handshake-timeout", "Who says nothing for 10 seconds is told HANDSHAKE_TIMEOUT", "C-5", bracket=True, waits=10.0
)
async def handshake_timeout(t: LiveTestee) -> None:
    peer = await t.connect(greet=False)
    await peer.meet()
    await peer.refused(0, "C-5", ErrorCode.HANDSHAKE_TIMEOUT, within=15.0)


@every_role(
    "handshake-stalls",
    "A HELLO that stops in its middle ends with HANDSHAKE_TIMEOUT",
    "C-5",
    bracket=True,
    waits=10.0,
)
async def handshake_stalls(t: LiveTestee) -> None:
    peer = await t.connect(greet=False)
    await peer.meet()
    payload = peer.greased(peer.hello)
    await peer.raw(len(payload).to_bytes(3, "big") + b"\x02\0\0\0\0" + payload[:20], "HELLO, cut off")
    await peer.refused(0, "C-5", ErrorCode.HANDSHAKE_TIMEOUT, within=15.0)


@every_role("two-hellos", "A second HELLO is refused", "C-2", "C-4", bracket=True)
async def two_hellos(t: LiveTestee) -> None:
    peer = await t.connect(greet=False)
    await peer.meet()
    await peer.say_hello()
    await peer.say_hello(remark="once more")
    await peer.refused(0, "C-4", ErrorCode.MESSAGE_UNEXPECTED)


@every_role("hello-after-ready", "HELLO and READY in an open connection are refused", "C-2", bracket=True)
async def hello_after_ready(t: LiveTestee) -> None:
    peer = await t.connect()
    await peer.say_hello(remark="once more")
    await peer.refused(0, "C-4", ErrorCode.MESSAGE_UNEXPECTED)
    other = await t.connect()
    await other.say_ready()
    await other.refused(0, "C-4", ErrorCode.MESSAGE_UNEXPECTED)


@every_role("ready-before-hello", "READY before HELLO is refused", "C-1", "C-4", bracket=True)
async def ready_before_hello(t: LiveTestee) -> None:
    peer = await t.connect(greet=False)
    await peer.meet()
    await peer.say_ready(bytes(32))
    await peer.refused(0, "C-4", ErrorCode.MESSAGE_UNEXPECTED)


@every_role(
    "traffic-before-ready",
    "Before READY nothing but the handshake is taken, unknown odd types included",
    "C-4",
    bracket=True,
)
async def traffic_before_ready(t: LiveTestee) -> None:
    for type_, payload in (
        (MessageType.PING, {1: 1}),
        (MessageType.STATUS_REQUEST, {}),
        (MessageType.GOODBYE, {1: 0}),
        (t.rng.choice(GREASE_TYPES), {1: 1}),
    ):
        for said_hello in (False, True):
            peer = await t.connect(greet=False)
            await peer.meet()
            if said_hello:
                await peer.say_hello()
            await peer.frame(int(type_), 0, cbor.encode(payload))
            await peer.refused(0, "C-4", ErrorCode.MESSAGE_UNEXPECTED)


@every_role("hello-on-a-channel", "HELLO on another channel than 0 is refused", "C-2", "CH-3", bracket=True)
async def hello_on_a_channel(t: LiveTestee) -> None:
    peer = await t.connect(greet=False)
    await peer.meet()
    await peer.frame(int(MessageType.HELLO), 1, peer.greased(peer.hello))
    await peer.refused(0, "CH-3", ErrorCode.MESSAGE_UNEXPECTED)


# ---------------------------------------------------------------- what HELLO says


@every_role(
    "hello-content", "HELLO names the role under test, ascending lists and limits that bind", "R-6", "C-5", "F-2"
)
async def hello_content(t: LiveTestee) -> None:
    peer = await t.connect()
    their = peer.their
    assert their is not None
    t.trial.expect("C-9", "HELLO does not name the role under test", True, int(t.role) in their.roles)
    if len(their.instance) == 8 and their.instance == bytes(8):
        raise Failed("C-14", "`instance` is drawn at random when the process starts", "random bytes", their.instance)


@every_role("hello-random", "Instance stays, nonce changes with each connection", "C-14", "C-6")
async def hello_random(t: LiveTestee) -> None:
    first, second = [await (await t.connect(greet=False)).meet() for _ in range(2)]
    t.trial.expect("C-14", "`instance` differs between two connections of one process", first.instance, second.instance)
    t.trial.expect("C-6", "two connections have the same nonce", False, first.nonce == second.nonce)


@every_role(
    "sends-grease",
    "Each connection has a grease feature, a grease key and a frame of a grease type, drawn anew",
    "R-10",
)
async def sends_grease(t: LiveTestee) -> None:
    drawn = set()
    for _ in range(6):
        peer = await t.connect()
        their = peer.their
        assert their is not None
        features = [f for f in their.features if f in GREASE_FEATURES]
        t.trial.expect("R-10", "HELLO has one grease feature", 1, len(features))
        item = cbor.decode(peer.arrivals[0].frame.payload)
        keys = [key for key in item if key in GREASE_KEYS]
        t.trial.expect("R-10", "HELLO has one grease key", 1, len(keys))
        await peer.alive("H-2")
        types = [a.frame.type for a in peer.arrivals if a.frame.type in GREASE_TYPES]
        t.trial.expect("R-10", "one frame of a grease type comes soon after READY", 1, len(types))
        drawn.add((features[0], keys[0], types[0]))
    if len(drawn) == 1:
        raise Failed("R-10", "six connections had the same grease", "drawn anew", sorted(drawn))


# ---------------------------------------------------------------- negotiation


@every_role("features-none", "With no features offered none are used, and READY says so", "C-8", "C-6", "C-10")
async def features_none(t: LiveTestee) -> None:
    peer = await t.connect(features=())
    await peer.alive("H-2")


@every_role("features-unknown", "A capability that nobody knows is ignored and not negotiated", "R-1", "C-8", "C-6")
async def features_unknown(t: LiveTestee) -> None:
    """The probe for honest answers: the number is random and private, so nobody can have it."""
    probe = t.rng.randrange(0xC001, 0x10000, 2)
    peer = await t.connect(features=(1, 3, 5, probe))
    await peer.alive("H-2")
    assert peer.their is not None
    if probe in peer.their.features:
        raise Failed("C-8", "the testee claims a feature that was made up a moment ago", "unknown", probe)


@every_role("features-even", "An unknown even feature is refused", "R-1", bracket=True)
async def features_even(t: LiveTestee) -> None:
    probe = t.rng.randrange(0xC000, 0x10000, 2)
    await refused_hello(t, "R-1", ErrorCode.VERSION_UNSUPPORTED, features=(1, 3, 5, probe))


@every_role("roles-unknown", "An unknown odd role is ignored, an unknown even one refused", "R-1", bracket=True)
async def roles_unknown(t: LiveTestee) -> None:
    usual = t.usual_role
    peer = await t.connect(roles=(int(usual), 0xC001))
    await peer.alive("H-2")
    await refused_hello(t, "R-1", ErrorCode.VERSION_UNSUPPORTED, roles=(int(usual), 0xC002))


@every_role("version-future", "A node of the future that still speaks version 1 is met with version 1", "C-7")
async def version_future(t: LiveTestee) -> None:
    peer = await t.connect(version_max=t.rng.randrange(2, 1 << 16))
    await peer.alive("H-2")


@every_role("version-too-new", "A node that does not speak version 1 is told VERSION_UNSUPPORTED", "C-7", bracket=True)
async def version_too_new(t: LiveTestee) -> None:
    error = await refused_hello(t, "C-7", ErrorCode.VERSION_UNSUPPORTED, version_min=0xFFF0, version_max=0xFFFF)
    if "1" not in error.text:
        raise Failed("C-7", "the text does not say which versions the testee speaks", "... 1 ...", error.text)


@every_role(
    "ready-of-another",
    "READY with another digest is refused: a HELLO was changed, or READY replayed",
    "C-6",
    bracket=True,
)
async def ready_of_another(t: LiveTestee) -> None:
    before = await t.connect()
    replayed = before.negotiated()
    peer = await t.connect(greet=False)
    await peer.meet()
    await peer.say_hello()
    await peer.say_ready(replayed)
    await peer.refused(0, "C-6", ErrorCode.NEGOTIATION_MISMATCH)


@every_role(
    "ready-with-grease",
    "READY that counts a grease feature as negotiated is refused",
    "C-6",
    "C-8",
    "R-10",
    bracket=True,
)
async def ready_with_grease(t: LiveTestee) -> None:
    import hashlib

    peer = await t.connect(greet=False)
    their = await peer.meet()
    grease = next((f for f in their.features if f in GREASE_FEATURES), None)
    if grease is None:
        raise Failed("R-10", "HELLO has no grease feature", "one", their.features)
    features = tuple(sorted({1, 3, 5, grease}))
    payload = encode_payload(replace(peer.hello, features=features))
    await peer.say_hello(payload)
    agreed = sorted(set(features) & set(their.features))
    theirs = peer.arrivals[0].frame.payload
    await peer.say_ready(hashlib.sha256(theirs + payload + cbor.encode({1: 1, 2: agreed})).digest())
    await peer.refused(0, "C-6", ErrorCode.NEGOTIATION_MISMATCH)


# ---------------------------------------------------------------- who is there


@every_role(
    "other-node-id", "A HELLO with another node id than the certificate's is refused", "C-5", "T-6", bracket=True
)
async def other_node_id(t: LiveTestee) -> None:
    await refused_hello(t, "C-5", ErrorCode.IDENTITY_MISMATCH, node_id=t.rng.randbytes(32))


@every_role("own-node-id", "A HELLO with the testee's own node id is refused", "C-5", bracket=True)
async def own_node_id(t: LiveTestee) -> None:
    await refused_hello(t, "C-5", ErrorCode.IDENTITY_MISMATCH, node_id=(await t.hello()).node_id)


@every_role("other-cluster", "A HELLO of another cluster is refused", "C-5", bracket=True)
async def other_cluster(t: LiveTestee) -> None:
    await refused_hello(t, "C-5", ErrorCode.CLUSTER_MISMATCH, cluster=t.rng.randbytes(16))


@every_role("twins", "Of two links that the same side dialed the newer one stays", "C-14")
async def twins(t: LiveTestee) -> None:
    identity, instance = t.identity("twin"), t.rng.randbytes(8)
    first = await t.connect(identity=identity, instance=instance, name="twin")
    first.closes = False
    second = await t.connect(identity=identity, instance=instance, name="twin")
    await first.expect(Goodbye, 0, "C-14")
    await first.over("C-14")
    await second.alive("C-14")


@every_role("not-twins", "Another process under the same key is no twin", "C-14")
async def not_twins(t: LiveTestee) -> None:
    identity = t.identity("twin")
    first = await t.connect(identity=identity, name="first")
    second = await t.connect(identity=identity, name="second")
    await second.alive("C-14")
    await first.alive("C-14")


# ---------------------------------------------------------------- fields of HELLO


@every_role("hello-odd-keys", "Unknown odd keys in HELLO and its records are ignored", "R-1")
async def hello_odd_keys(t: LiveTestee) -> None:
    peer = await t.connect(greet=False)
    await peer.meet()
    item = hello_item(peer)
    item.update({key: peer.noise() for key in sorted(t.rng.sample(range(65, 200, 2), 3))})
    item[8] = {**item[8], 99: "limits of another kind"}
    await peer.say_hello(cbor.encode(dict(sorted(item.items()))))
    await peer.say_ready()
    await peer.expect(Ready, 0, "R-1")
    await peer.alive("H-2")


def _spoilt(name: str, title: str, clause: str, spoil: Any) -> None:
    async def check(t: LiveTestee) -> None:
        peer = await t.connect(greet=False)
        await peer.meet()
        item = hello_item(peer)
        spoil(item)
        await peer.say_hello(cbor.encode(dict(sorted(item.items()))))
        error = await peer.refused(0, clause, ErrorCode.MESSAGE_INVALID)
        if error.message_type not in (None, int(MessageType.HELLO)):
            raise Failed(
                "E-1", "ERROR names another message type than HELLO's", int(MessageType.HELLO), described(error)
            )

    every_role(name, title, clause, "E-1", bracket=True)(check)


_spoilt(
    "version-range-empty", "version_min above version_max is refused", "C-7", lambda item: item.update({1: 2, 2: 1})
)
_spoilt("hello-even-key", "An unknown even key in HELLO is refused", "R-1", lambda item: item.update({64: 0}))
_spoilt(
    "hello-even-key-inside",
    "An unknown even key in a record of HELLO is refused",
    "R-1",
    lambda item: item[8].update({66: 0}),
)
_spoilt("hello-without-nonce", "HELLO without a mandatory field is refused", "R-4", lambda item: item.pop(10))
_spoilt(
    "hello-short-id", "HELLO with a node id of 31 bytes is refused", "R-5", lambda item: item.update({3: bytes(31)})
)
_spoilt("hello-roles-descend", "Roles that do not ascend are refused", "R-6", lambda item: item.update({5: [4, 2]}))
_spoilt("hello-roles-twice", "A role that is named twice is refused", "R-6", lambda item: item.update({5: [2, 2]}))
_spoilt(
    "hello-features-descend", "Features that do not ascend are refused", "R-6", lambda item: item.update({7: [5, 1]})
)
_spoilt("hello-small-payload", "A max_payload below 65536 is refused", "R-5", lambda item: item[8].update({1: 65535}))
_spoilt("hello-text-for-number", "A field of another kind is refused", "R-5", lambda item: item.update({1: "1"}))
