"""Section 5, the testee brings a token and becomes a node: ``--join-command``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import trio

from conformance.case import JOIN_COMMAND, CheckFunction
from conformance.door.pki import NODE_FILES, Authority
from conformance.live.authority import NewcomerTestee, der
from conformance.live.joining import MAX_JOIN_PAYLOAD, join_case
from conformance.live.newcomer import new_key
from conformance.live.peer import ODD_KEYS
from conformance.verdict import Failed, Info
from dsdproto.identity import load_spki, node_id_of
from dsdproto.registry import GREASE_TYPES, PRIVATE_TYPES, ErrorCode
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_message, encode_payload, type_of
from dsdproto.wire.frames import encode_frame
from dsdproto.wire.messages import Error, Join, Joined, Ping

QUIET_SECONDS = 0.3
WATCH_SECONDS = 10.0
"""How long a newcomer is watched that should hang up."""


def newcomer_case(name: str, title: str, *clauses: str, **more: Any) -> Callable[[CheckFunction], CheckFunction]:
    return join_case(JOIN_COMMAND, "join-newcomer", name, title, *clauses, **more)


@newcomer_case(
    "joins",
    "A newcomer says JOIN, takes JOINED, and is a node",
    "J-2",
    "J-3",
    "J-5",
    "J-10",
    quote="It then sends one JOIN",
)
async def joins(t: NewcomerTestee) -> None:
    async with t.invited() as guest:
        line, join = await guest.asks()
        with trio.move_on_after(QUIET_SECONDS):
            data = await line.receive()
            raise Failed("J-3", "something follows JOIN", "nothing", data[:32] or line.ended)
        await line.send(t.answer(join))
        await line.close()
        await guest.joined("J-7", "a newcomer that was let in does not say so")


@newcomer_case(
    "answer-in-pieces",
    "What it does not know and is odd a newcomer ignores, and bytes come in any pieces",
    "J-10",
    "R-1",
    "F-4",
    quote="Frames of unknown odd types are ignored there as everywhere (R-1)",
)
async def answer_in_pieces(t: NewcomerTestee) -> None:
    async with t.invited() as guest:
        line, join = await guest.asks()
        longest = b"\xa1\x01\x59" + (MAX_JOIN_PAYLOAD - 5).to_bytes(2, "big") + bytes(MAX_JOIN_PAYLOAD - 5)
        await line.raw(encode_frame(t.rng.choice(GREASE_TYPES), 0, longest), "the longest frame that there may be")
        odd = t.rng.choice([each for each in PRIVATE_TYPES if each % 2])
        payload = cbor.encode({t.rng.randrange(256): t.rng.randbytes(5)})
        await line.raw(encode_frame(odd, 0, payload), "an unknown odd type", pieces=2)
        await line.send(t.answer(join), extra={t.rng.choice(ODD_KEYS): [1, [2]]}, pieces=7)
        await line.close()
        await guest.joined("J-10", "frames and keys that have to be ignored keep a newcomer out")


@newcomer_case("joins-again", "A node that joins again with the key it has takes its new certificate", "J-9")
async def joins_again(t: NewcomerTestee) -> None:
    asked: list[Join] = []
    for _ in range(2):
        async with t.invited() as guest:
            line, join = await guest.asks()
            asked.append(join)
            await line.send(t.answer(join))
            await line.close()
            await guest.joined("J-9", "a newcomer that was let in does not say so")
    if asked[0].public_key != asked[1].public_key:
        raise Info("it joins again with a new key: it is another node then")


# ---------------------------------------------------------------- who is not the authority


async def told_nothing(t: NewcomerTestee, host: Any, clause: str, what: str) -> None:
    """The newcomer leaves without a byte behind its handshake, and did not become a node."""
    async with t.invited() as guest:
        line = await guest.arrives(host)
        if line is not None:
            with trio.move_on_after(t.trial.seconds(WATCH_SECONDS)):
                if data := await line.receive():
                    t.trial.wire.received(line.name, data)
                    raise Failed(clause, f"the newcomer talks to {what}", "not one byte", data[:64])
            await line.hang_up()
        await guest.stayed_out(clause, f"the newcomer met {what}, and says that it became a node")


@newcomer_case(
    "other-authority",
    "Who has another key than the token pins is told nothing",
    "J-3",
    bracket=True,
    quote="The client MUST check, before it sends anything,",
)
async def other_authority(t: NewcomerTestee) -> None:
    await told_nothing(t, t.shows(Authority.new()), "J-3", "another authority than its token pins")


@newcomer_case("false-authority", "Who has the authority's name and another key is told nothing", "J-3", bracket=True)
async def false_authority(t: NewcomerTestee) -> None:
    false = Authority.new(subject=t.authority.certificate.subject)
    await told_nothing(t, t.shows(false), "J-3", "an authority of the same name with another key")


@newcomer_case(
    "node-in-its-place", "A node of the very cluster in its authority's place is told nothing", "J-3", bracket=True
)
async def node_in_its_place(t: NewcomerTestee) -> None:
    node = t.authority.identity("node")
    node.write()
    host = t.serves(node.directory / NODE_FILES[1], node.directory / NODE_FILES[0])
    await told_nothing(t, host, "J-3", "a node that its token's authority certified")


@newcomer_case(
    "no-protocol", "A server that does not choose the protocol dsdp-join/1 is told nothing", "J-2", bracket=True
)
async def no_protocol(t: NewcomerTestee) -> None:
    await told_nothing(t, t.shows(t.authority, alpn=None), "J-2", "a server that chooses no protocol (ALPN)")


# ---------------------------------------------------------------- answers that are none


def _discarded(name: str, what: str, change: Callable[[NewcomerTestee, Join, Joined], dict[str, Any]]) -> None:
    async def check(t: NewcomerTestee) -> None:
        async with t.invited() as guest:
            line, join = await guest.asks()
            answer = t.answer(join)
            changed = dataclasses.replace(answer, **change(t, join, answer))
            await line.send(changed, f"JOINED with {what}")
            await line.close()
            await guest.stayed_out("J-7", f"after JOINED with {what} the newcomer says that it became a node")
        own = [each for each in (changed.certificate, changed.authority) if each != der(t.authority.certificate)]
        if found := t.stored(*own):
            raise Failed("J-7", f"JOINED with {what} is stored", "nothing", found)

    title = f"An answer with {what} is discarded"
    quote = "else it MUST discard the answer"
    newcomer_case(name, title, "J-7", bracket=True, quote=quote)(check)


def _foreign(t: NewcomerTestee, join: Join, _: Joined) -> dict[str, Any]:
    foreign = Authority.new()
    return {
        "certificate": der(foreign.certify(join.name, load_spki(join.public_key))),
        "authority": der(foreign.certificate),
        "cluster": node_id_of(foreign.key.public_key())[:16],
    }


def _foreign_certificate(t: NewcomerTestee, join: Join, _: Joined) -> dict[str, Any]:
    false = Authority.new(subject=t.authority.certificate.subject)
    return {"certificate": der(false.certify(join.name, load_spki(join.public_key)))}


_discarded("answer-of-another-cluster", "another authority, all of a piece", _foreign)
_discarded("answer-by-another-authority", "a certificate that the authority did not issue", _foreign_certificate)
_discarded(
    "answer-for-another-key",
    "a certificate for another key",
    lambda t, join, _: {"certificate": der(t.authority.certify(join.name, new_key().public_key()))},
)
_discarded("answer-with-another-cluster-id", "another cluster id", lambda t, join, _: {"cluster": t.rng.randbytes(16)})
_discarded(
    "answer-with-a-broken-signature",
    "a certificate whose signature is broken",
    lambda t, join, answer: {"certificate": answer.certificate[:-1] + bytes([answer.certificate[-1] ^ 1])},
)
_discarded("answer-without-certificate", "no certificate", lambda t, join, _: {"certificate": b""})


def _no_node(
    name: str, title: str, clause: str, data: Callable[[NewcomerTestee, Join], bytes], remark: str, **more: Any
) -> None:
    async def check(t: NewcomerTestee) -> None:
        async with t.invited() as guest:
            line, join = await guest.asks()
            await line.raw(data(t, join), remark)
            await line.close()
            await guest.stayed_out(clause, f"the newcomer says that it became a node, after {remark}")

    newcomer_case(name, title, clause, bracket=True, **more)(check)


_no_node(
    "refused",
    "ERROR is not an admission, and the command says so",
    "J-3",
    lambda t, join: encode_message(
        0, Error(code=int(ErrorCode.JOIN_REFUSED), clause="J-6", text="the token was used already")
    ),
    "ERROR JOIN_REFUSED",
    quote="the server answers with JOINED or ERROR and closes",
)
_no_node(
    "hung-up-on",
    "A connection that ends within the answer is no admission",
    "F-5",
    lambda t, join: encode_message(0, t.answer(join))[:-1],
    "JOINED but for its last byte",
)
_no_node(
    "other-message",
    "Another message in place of the answer is refused, whatever follows",
    "J-2",
    lambda t, join: encode_message(0, Ping(sequence=1)) + encode_message(0, t.answer(join)),
    "PING, and JOINED behind it",
    quote="other messages but ERROR not on this one",
)
_no_node(
    "other-channel",
    "JOINED on another channel than 0 is no answer",
    "J-2",
    lambda t, join: encode_message(1, t.answer(join)),
    "JOINED on channel 1",
)
_no_node(
    "payload-too-long",
    "A payload beyond 32768 bytes is refused, whatever follows",
    "J-10",
    lambda t, join: (
        encode_frame(GREASE_TYPES[0], 0, b"\xa1\x01\x59" + (MAX_JOIN_PAYLOAD - 4).to_bytes(2, "big") + bytes(32764))
        + encode_message(0, t.answer(join))
    ),
    "a frame of 32769 bytes, and JOINED behind it",
    quote="On a joining connection a payload has at most 32768 bytes",
)


def _with_even_key(t: NewcomerTestee, join: Join) -> bytes:
    answer = t.answer(join)
    return encode_frame(type_of(answer), 0, encode_payload(answer, {t.rng.randrange(64, 256, 2): 1}))


_no_node(
    "even-key",
    "JOINED with an unknown even key is refused",
    "R-1",
    _with_even_key,
    "JOINED with an unknown even key",
)
