"""Clients that a leader has to refuse, and what they offer in vain: each costs its own session and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import trio

from conformance.case import ALONE
from conformance.live import hands
from conformance.live.cases_leader import leader_case, pace, solo, whole
from conformance.live.sessions import Session
from conformance.live.streams import open_stream
from conformance.live.testee import LiveTestee
from dsdproto.registry import ErrorCode, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_payload
from dsdproto.wire.messages import (
    Block,
    Close,
    Error,
    Open,
    Opened,
    Propose,
)

INVALID = ErrorCode.MESSAGE_INVALID
UNEXPECTED = ErrorCode.MESSAGE_UNEXPECTED


def _open_refused(name: str, title: str, clause: str, *codes: ErrorCode, serve: bool = True, **contract: Any) -> None:
    async def check(t: LiveTestee) -> None:
        model = t.own_model()
        if serve:
            await hands.verifier(t, model)
        changes = {key: value(model) if callable(value) else value for key, value in contract.items()}
        stream = await open_stream(t, solo(t, **changes))
        await stream.peer.refused(stream.channel, clause, *codes)
        await stream.peer.alive("E-3")
        if serve:
            await whole(t, solo(t, max_tokens=3), peer=stream.peer)

    leader_case(f"open-{name}", title, clause, "E-3", bracket=True)(check)


_open_refused("method", "A method that is reserved is refused", "S-4", ErrorCode.METHOD_UNSUPPORTED, method=2)
_open_refused(
    "method-odd",
    "An unknown odd method is refused as well",
    "S-4",
    ErrorCode.METHOD_UNSUPPORTED,
    method=0xC001,
)
_open_refused(
    "commit-profile",
    "A commit profile that is set aside is refused",
    "K-1",
    ErrorCode.COMMIT_PROFILE_UNSUPPORTED,
    commit_profile=4,
)
_open_refused(
    "commit-profile-odd",
    "An unknown odd commit profile is refused as well",
    "K-1",
    ErrorCode.COMMIT_PROFILE_UNSUPPORTED,
    commit_profile=0xC001,
)
_open_refused(
    "no-such-model",
    "A model that no verifier has is refused",
    "L-3",
    ErrorCode.MODEL_UNAVAILABLE,
    model="tm-1:v=8,s=9",
)
_open_refused(
    "vocabulary",
    "A vocabulary that no verifier has is refused",
    "S-3",
    ErrorCode.VOCABULARY_MISMATCH,
    ErrorCode.MODEL_UNAVAILABLE,
    vocabulary_digest=bytes(32),
)
_open_refused(
    "no-verifier",
    "Without a verifier that fits, OPEN is refused at once",
    "L-3",
    ErrorCode.MODEL_UNAVAILABLE,
    ErrorCode.VOCABULARY_MISMATCH,
    serve=False,
)


def _open_spoilt(name: str, title: str, clause: str, spoil: Callable[[dict[int, Any], Session], Any]) -> None:
    async def check(t: LiveTestee) -> None:
        await hands.verifier(t, t.own_model())
        session = solo(t)
        peer = await t.connect(Role.CLIENT)
        item = cbor.decode(
            encode_payload(Open(session=session.id, contract=session.contract, max_drafters=0, origins=0))
        )
        spoil(item, session)
        channel = peer.channel()
        await peer.frame(int(MessageType.OPEN), channel, cbor.encode(dict(sorted(item.items()))), f"wrong by {clause}")
        await peer.refused(channel, clause, INVALID)
        await whole(t, solo(t, max_tokens=3), peer=peer)

    leader_case(f"open-{name}", title, clause, "E-2", "E-3", bracket=True)(check)


def _contract(item: dict[int, Any], key: int, value: Any) -> None:
    item[2] = dict(sorted({**item[2], key: value}.items()))


def _outside(session: Session) -> bytes:
    return session.contract.vocabulary_size.to_bytes(3, "big")


_open_spoilt(
    "contract-odd-key",
    "A contract with an unknown odd key is refused",
    "S-12",
    lambda i, s: _contract(i, 63, 0),
)
_open_spoilt(
    "contract-even-key",
    "A contract with an unknown even key is refused",
    "S-12",
    lambda i, s: _contract(i, 64, 0),
)
_open_spoilt(
    "prompt-outside",
    "A prompt outside the vocabulary is refused",
    "R-7",
    lambda i, s: _contract(i, 1, _outside(s)),
)
_open_spoilt("prompt-empty", "An empty prompt is refused", "R-5", lambda i, s: _contract(i, 1, b""))
_open_spoilt("no-max-drafters", "OPEN without max_drafters is refused", "R-4", lambda i, s: i.pop(3))
_open_spoilt("origins-two", "`origins` is 0 or 1", "R-5", lambda i, s: i.update({4: 2}))
_open_spoilt("even-key", "An unknown even key in OPEN is refused", "R-1", lambda i, s: i.update({66: b""}))


@leader_case(
    "open-twice",
    "A session that is running already is refused, whoever opens it; it runs on",
    "S-1",
    "L-7",
    bracket=True,
)
async def open_twice(t: LiveTestee) -> None:
    await hands.verifier(t, t.own_model(), twist=pace(0.03))
    session = solo(t, max_tokens=12)
    stream = await open_stream(t, session)
    await stream.start()
    for peer in (await t.connect(Role.CLIENT), stream.peer):
        again = await open_stream(t, replace(session, committed=[]), peer=peer)
        await peer.refused(again.channel, "S-1", ErrorCode.SESSION_EXISTS)
    await stream.finish()


@leader_case(
    "client-says-wrong",
    "A client that says what only a leader says loses its session alone",
    "CH-6",
    "S-1",
    "E-3",
    bracket=True,
)
async def client_says_wrong(t: LiveTestee) -> None:
    await hands.verifier(t, t.own_model(), twist=pace(0.02))
    peer = await t.connect(Role.CLIENT)
    kept = await open_stream(t, solo(t, max_tokens=40), peer=peer)
    await kept.start()
    for message in (
        Block(position=3, tokens=(4,)),
        Opened(position=3, model="", profile=bytes(32), profile_text=""),
        Propose(position=3, base=bytes(16), tokens=(4,)),
    ):
        stream = await open_stream(t, solo(t, max_tokens=2000), peer=peer)
        await stream.start()
        await peer.send(message, stream.channel, "is not a client's to say", wild=True)
        while not isinstance((arrival := await peer.anything(stream.channel, "E-3", "ERROR")).message, Error):
            pass
        t.trial.expect("CH-6", "refused with another code", int(UNEXPECTED), arrival.message.code)
    await kept.finish()


@leader_case(
    "offer-without-role",
    "Models that a node offers without the role for them are not used, and end nothing",
    "C-9",
    "L-1",
    "L-7",
    bracket=True,
)
async def offer_without_role(t: LiveTestee) -> None:
    model = t.own_model()
    offers = (model.offer(), model.drafter().offer())
    pretender = await t.connect(Role.CLIENT, models=offers, name="pretender")
    await pretender.alive("H-2")
    stream = await open_stream(t, solo(t))
    await stream.peer.refused(stream.channel, "L-3", ErrorCode.MODEL_UNAVAILABLE, ErrorCode.VOCABULARY_MISMATCH)
    await hands.verifier(t, model)
    await whole(t, solo(t))
    await pretender.alive("C-9")


MANY = 1200
"""Sessions that are tried before a testee counts as one that is never full."""


@leader_case(
    "overloaded",
    "A leader that is full refuses with OVERLOADED; when a session ends there is room again",
    "L-2",
    "E-3",
    timeout=120.0,
    serial=ALONE,
)
async def overloaded(t: LiveTestee) -> None:
    """The verifier never answers, so that sessions stay where they are."""

    async def take(_: object) -> None:
        await trio.sleep_forever()

    await hands.verifier(t, t.own_model(), take=take, connect={"max_channels": 65535})
    peer = await t.connect(Role.CLIENT)
    streams = []
    for count in range(MANY):
        stream = await open_stream(t, solo(t), max_drafters=0, peer=peer)
        streams.append(stream)
        if count % 16 == 15:
            await peer.alive("H-2")
        refusals = [a for a in peer.arrivals if isinstance(a.message, Error)]
        if refusals:
            t.trial.expect("L-2", "refused with another code", int(ErrorCode.OVERLOADED), refusals[0].message.code)
            t.trial.note(f"full with about {count} sessions")
            break
    else:
        t.trial.note(f"{MANY} sessions were taken")
    for stream in streams:
        if stream.channel in peer.channels.open:
            await peer.send(Close(), stream.channel)
    await peer.alive("L-2")
