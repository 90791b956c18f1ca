"""Section 9.2: channels, their numbers, and who may say what on them."""

from __future__ import annotations

from typing import Any

from conformance.live.drafting import attach
from conformance.live.every_role import every_role
from conformance.live.peer import Peer
from conformance.live.sessions import make_session
from conformance.live.testee import LiveTestee
from conformance.live.verifying import assign
from conformance.verdict import Skipped
from dsdproto.registry import ErrorCode, MessageType, Role
from dsdproto.wire.codec import encode_payload, type_of
from dsdproto.wire.messages import (
    Advance,
    Assign,
    Assigned,
    Attach,
    Attached,
    Block,
    Close,
    Commit,
    Open,
    Opened,
    Ping,
    Prepare,
    Propose,
    Release,
    Resume,
    Verdict,
    Verify,
    Vote,
)

UNEXPECTED, MISUSED = ErrorCode.MESSAGE_UNEXPECTED, ErrorCode.CHANNEL_MISUSED
CLIENT = (Role.CLIENT,)
"""Nobody opens a channel to a client."""

ORPHANS: dict[Role, tuple[Any, ...]] = {
    Role.CLIENT: (Opened(position=3, model="", profile=bytes(32), profile_text=""), Block(position=3, tokens=(4,))),
    Role.LEADER: (Close(), Propose(position=3, base=bytes(16), tokens=(4,))),
    Role.DRAFTER: (Advance(position=3, ref=0, tokens=()),),
    Role.VERIFIER: (Verify(round=1, position=3, base=bytes(16), tokens=()), Release()),
    Role.VOTER: (Commit(view=0, height=1, position=3, digest=bytes(32)), Close()),
}
"""Messages that the role under test takes, in a channel that was opened."""


async def opening(t: LiveTestee) -> tuple[Role, Any]:
    """A message that opens a channel at the role under test, and the role that sends it."""
    match t.role:
        case Role.VERIFIER:
            session = await t.session()
            return Role.LEADER, Assign(session=session.id, contract=session.contract, committed=())
        case Role.DRAFTER:
            session = await t.session()
            values: dict[str, Any] = {"committed": (), "credit": 4, "window": 2, "width": 1}
            return Role.LEADER, Attach(session=session.id, contract=session.contract, **values)
        case Role.LEADER:
            session = make_session(t.rng, t.own_model())
            return Role.CLIENT, Open(session=session.id, contract=session.contract, max_drafters=0, origins=0)
        case Role.VOTER:
            return Role.CLIENT, Resume(session=t.rng.randbytes(16), position=3, digest=t.rng.randbytes(32))
    raise Skipped("nobody opens channels to a client")


async def opener(t: LiveTestee) -> Peer:
    return await t.connect((await opening(t))[0])


@every_role("channel-parity", "A channel number of the wrong parity is refused", "CH-1", bracket=True, but=CLIENT)
async def parity(t: LiveTestee) -> None:
    peer = await opener(t)
    await peer.send((await opening(t))[1], 2, "the dialer opens odd numbers", wild=True)
    await peer.refused(0, "CH-1", MISUSED)


@every_role("channel-again", "A channel number that was used is never used again", "CH-2", bracket=True, but=CLIENT)
async def again(t: LiveTestee) -> None:
    peer = await opener(t)
    await peer.send((await opening(t))[1], 5, wild=True)
    await peer.anything(5, "CH-7", "an answer")
    await peer.send((await opening(t))[1], 5, "the same number once more", wild=True)
    await peer.refused(0, "CH-2", MISUSED)


@every_role("channel-lower", "Channel numbers increase", "CH-2", bracket=True, but=CLIENT)
async def lower(t: LiveTestee) -> None:
    peer = await opener(t)
    await peer.send((await opening(t))[1], 1001, "a gap is allowed", wild=True)
    await peer.anything(1001, "CH-7", "an answer")
    await peer.send((await opening(t))[1], 999, "below the last one", wild=True)
    await peer.refused(0, "CH-2", MISUSED)


@every_role("channel-gaps", "Gaps between channel numbers are allowed, up to the largest number", "CH-2", but=CLIENT)
async def gaps(t: LiveTestee) -> None:
    peer = await opener(t)
    for number in (1, 3, 1001, (1 << 31) + 1, (1 << 32) - 1):
        await peer.send((await opening(t))[1], number)
        await peer.anything(number, "CH-2", "an answer")
    await peer.alive("CH-2")


@every_role("channel-zero", "A channel message on channel 0 is refused", "CH-3", bracket=True, but=CLIENT)
async def zero(t: LiveTestee) -> None:
    peer = await opener(t)
    await peer.send((await opening(t))[1], 0, "on channel 0", wild=True)
    await peer.refused(0, "CH-3", UNEXPECTED)


@every_role(
    "channel-ping", "A message of the connection plane on another channel than 0 is refused", "CH-3", bracket=True
)
async def ping_on_a_channel(t: LiveTestee) -> None:
    peer = await t.connect()
    await peer.send(Ping(sequence=1), 1, "on channel 1", wild=True)
    await peer.refused(0, "CH-3", UNEXPECTED)


@every_role(
    "channel-never-opened", "A message on a channel that was never opened ends the connection", "CH-4", bracket=True
)
async def never_opened(t: LiveTestee) -> None:
    for message in ORPHANS[t.role]:
        for number in (4001, 4002):  # far from what the testee may open on its own
            peer = await t.connect()
            await peer.send(message, number, "never opened", wild=True)
            await peer.refused(0, "CH-4", UNEXPECTED)


@every_role(
    "channel-other-role",
    "An opening message for a role that the testee has not is refused, and the link goes on",
    "C-9",
    "E-3",
    bracket=True,
)
async def other_role(t: LiveTestee) -> None:
    roles = (await t.hello()).roles
    model = t.own_model()
    session = make_session(t.rng, model)
    contract = session.contract
    openings: list[tuple[Role, Any]] = [
        (Role.VERIFIER, Assign(session=session.id, contract=contract, committed=())),
        (Role.DRAFTER, Attach(session=session.id, contract=contract, committed=(), credit=4, window=2, width=1)),
        (Role.LEADER, Open(session=session.id, contract=contract, max_drafters=0, origins=0)),
        (Role.VOTER, Resume(session=session.id, position=3, digest=bytes(32))),
    ]
    peer = await t.connect(Role.CLIENT, Role.LEADER)
    for role, message in openings:
        if role in roles:
            continue
        channel = await peer.open(message)
        await peer.refused(channel, "C-9", ErrorCode.ROLE_UNSUPPORTED)
        await peer.alive("E-3")


@every_role(
    "channel-undeclared-role",
    "An opening message from a node that has not the role for it is refused",
    "C-9",
    "E-3",
    bracket=True,
    but=CLIENT,
)
async def undeclared_role(t: LiveTestee) -> None:
    role, message = await opening(t)
    peer = await t.connect(*(r for r in Role if r not in (role, Role.VOTER)))
    channel = await peer.open(message)
    await peer.refused(channel, "C-9", ErrorCode.ROLE_UNSUPPORTED)
    await peer.alive("E-3")


@every_role(
    "channel-refused-then-dropped",
    "What comes on a channel that was refused is dropped, but it still has to be CBOR",
    "CH-4",
    bracket=True,
    but=CLIENT,
)
async def refused_then_dropped(t: LiveTestee) -> None:
    role, message = await opening(t)
    peer = await t.connect(*(r for r in Role if r not in (role, Role.VOTER)))
    channel = await peer.open(message)
    await peer.refused(channel, "C-9", ErrorCode.ROLE_UNSUPPORTED)
    for orphan in ORPHANS[t.role]:
        await peer.frame(type_of(orphan), channel, encode_payload(orphan), "crosses the refusal")
    await peer.alive("CH-4")
    await peer.silent(channel, "CH-4", 0.1)
    await peer.frame(int(MessageType.CLOSE), channel, b"\xa0\xff", "no CBOR")
    await peer.refused(0, "B-6", ErrorCode.CBOR_MALFORMED)


@every_role(
    "channel-faults",
    "Fifty refused openings on one link cost fifty channels, not the link",
    "C-11",
    "E-3",
    bracket=True,
    but=CLIENT,
)
async def faults(t: LiveTestee) -> None:
    role, message = await opening(t)
    peer = await t.connect(*(r for r in Role if r not in (role, Role.VOTER)))
    for _ in range(50):
        channel = await peer.open(message)
        await peer.refused(channel, "C-9", ErrorCode.ROLE_UNSUPPORTED)
    await peer.alive("C-11")


# ---------------------------------------------------------------- on an open channel


async def _open_channel(t: LiveTestee, peer: Peer) -> int:
    """A channel that is open and answered."""
    match t.role:
        case Role.VERIFIER:
            return (await assign(peer, await t.session())).channel
        case Role.DRAFTER:
            work = await attach(peer, await t.session(), await t.model(), credit=0)
            return work.channel
    raise Skipped("has cases of its own")


NEIGHBOURS_ONLY = (Role.CLIENT, Role.LEADER, Role.VOTER)


@every_role(
    "channel-second-opening",
    "A second opening message on an open channel is refused",
    "CH-6",
    "CH-2",
    bracket=True,
    but=NEIGHBOURS_ONLY,
)
async def second_opening(t: LiveTestee) -> None:
    peer = await opener(t)
    channel = await _open_channel(t, peer)
    await peer.send((await opening(t))[1], channel, "the channel is open already", wild=True)
    await peer.refused(0, "CH-2", MISUSED)


@every_role(
    "channel-other-plane",
    "Messages of another plane, or of the other end, end the session alone",
    "CH-6",
    "E-3",
    "D-1",
    "V-1",
    bracket=True,
    but=NEIGHBOURS_ONLY,
)
async def other_plane(t: LiveTestee) -> None:
    messages = (
        Verdict(round=1, accepted=0, token=5, digest=bytes(16), margin=1),
        Propose(position=3, base=bytes(16), tokens=(4,)),
        Close(),
        Prepare(view=0, height=1, position=3, base=bytes(32), tokens=(), digest=bytes(32)),
        Vote(view=0, height=1, digest=bytes(32)),
        Advance(position=3, ref=0, tokens=()) if t.role is Role.VERIFIER else Release(),
        Assigned(model="x", profile=bytes(32), profile_text="", max_nodes=1, max_context=9)
        if t.role is Role.VERIFIER
        else Attached(model="x"),
        Block(position=3, tokens=(4,)),
    )
    peer = await opener(t)
    kept = await _open_channel(t, peer)
    for message in messages:
        channel = await _open_channel(t, peer)
        await peer.send(message, channel, "is not this end's to say", wild=True)
        await peer.refused(channel, "CH-6", UNEXPECTED)
    await peer.alive("E-3")
    t.trial.expect("E-3", "the session beside was ended", [], peer.waiting(kept))
