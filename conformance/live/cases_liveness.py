"""Sections 9.1, 9.3 and 19: heartbeats, floods, status, and how connections end."""

from __future__ import annotations

import trio

from conformance.live.every_role import every_role
from conformance.live.peer import Peer
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed, Inconclusive
from dsdproto.registry import ErrorCode
from dsdproto.wire.codec import encode_message
from dsdproto.wire.messages import Error, Goodbye, Ping, Pong, Status, StatusRequest

BEAT_MS = 250
MOST_SLOW = 8.0


async def quiet(t: LiveTestee) -> tuple[Peer, float]:
    """A connection on which nothing is answered by itself, and its heartbeat interval in seconds: longer on a busy
    machine, where a node that is not run looks like one that is silent."""
    wanted = round(BEAT_MS * min(t.trial.slowness, MOST_SLOW))
    peer = await t.connect(heartbeat_ms=wanted, greet=False)
    peer.manual = True
    their = await peer.greet()
    return peer, min(wanted, their.limits.heartbeat_ms) / 1000


@every_role("ping-pong", "PING is answered at once with PONG of the same sequence", "H-2")
async def ping_pong(t: LiveTestee) -> None:
    peer = await t.connect()
    for sequence in (0, 1, (1 << 32) - 1, t.rng.randrange(1 << 32)):
        await peer.send(Ping(sequence=sequence))
        pong = await peer.expect(Pong, 0, "H-2")
        t.trial.expect("H-2", "PONG of another sequence", sequence, pong.sequence)


@every_role("pong-unasked", "A PONG that answers nothing is refused", "H-2", bracket=True)
async def pong_unasked(t: LiveTestee) -> None:
    peer = await t.connect()
    peer.closes = False
    await peer.send(Pong(sequence=77), remark="answers nothing")
    await peer.refused(0, "H-2", ErrorCode.MESSAGE_UNEXPECTED)


@every_role(
    "ping-after-interval",
    "After one interval of silence comes PING, and no second one before it is answered",
    "H-1",
    "C-8",
)
async def ping_after_interval(t: LiveTestee) -> None:
    peer, beat = await quiet(t)
    began = t.trial.elapsed
    first = await peer.expect(Ping, 0, "H-1", within=8 * beat)
    took = t.trial.elapsed - began
    if took < beat * 0.5:
        said = "PING came before one heartbeat interval of silence was over"
        raise Failed("H-1", said, f"{beat:g} s", f"{took:.2f} s")
    await peer.silent(0, "H-1", beat * 1.5)
    await peer.send(Pong(sequence=first.sequence), grease=False)
    second = await peer.expect(Ping, 0, "H-1", within=8 * beat)
    wanted = (first.sequence + 1) % (1 << 32)
    t.trial.expect("H-1", "the sequence of PING does not count up by one", wanted, second.sequence)


@every_role(
    "silence", "Four intervals of silence end the connection with HEARTBEAT_TIMEOUT", "H-3", "C-8", bracket=True
)
async def silence(t: LiveTestee) -> None:
    peer, beat = await quiet(t)
    began = t.trial.elapsed
    ping = await peer.expect(Ping, 0, "H-1", within=8 * beat)
    t.trial.note(f"PING {ping.sequence} after {t.trial.elapsed - began:.2f} s")
    await peer.refused(0, "H-3", ErrorCode.HEARTBEAT_TIMEOUT, within=30 * beat)
    took = t.trial.elapsed - began
    if took < 3.5 * beat:
        raise Failed(
            "H-3",
            "the connection was ended before four intervals of silence were over",
            f"{4 * beat:g} s",
            f"{took:.2f} s",
        )


@every_role("silence-in-a-frame", "A frame that stops in its middle is silence too", "H-3", bracket=True)
async def silence_in_a_frame(t: LiveTestee) -> None:
    peer, beat = await quiet(t)
    await peer.raw(encode_message(0, Ping(sequence=1))[:9], "stops in the middle of a frame")
    await peer.expect(Ping, 0, "H-1", within=8 * beat)
    await peer.refused(0, "H-3", ErrorCode.HEARTBEAT_TIMEOUT, within=30 * beat)


@every_role(
    "slow-writer", "Any byte counts as life: a frame that comes byte by byte keeps the connection", "H-3", "F-4"
)
async def slow_writer(t: LiveTestee) -> None:
    """Nine bytes, one each 0.6 interval: longer than four intervals, and never silent for one."""
    peer, beat = await quiet(t)
    slowest = 0.0
    for byte in encode_message(0, Ping(sequence=9)):
        before = t.trial.elapsed
        await trio.sleep(beat * 0.6)
        await peer.raw(bytes([byte]), "one byte")
        slowest = max(slowest, t.trial.elapsed - before)
    try:
        while not any(isinstance(a.message, Pong) for a in peer.arrivals):
            arrival = await peer.anything(0, "H-3", "PONG")
            if isinstance(arrival.message, Error):
                raise Failed("H-3", "the connection was ended although bytes kept coming", "PONG", arrival.message)
    except Failed:
        if slowest > 3 * beat:
            raise Inconclusive(f"this machine took {slowest:.2f} s for one byte") from None
        raise


@every_role("status", "Each STATUS_REQUEST is answered with one STATUS", "C-12")
async def status(t: LiveTestee) -> None:
    peer = await t.connect()
    for _ in range(2):
        await peer.send(StatusRequest())
        await peer.expect(Status, 0, "C-12")
    await peer.alive("H-2")
    t.trial.expect("C-12", "more STATUS than was asked for", [], [m for m in peer.waiting(0) if isinstance(m, Status)])


@every_role("status-unasked", "STATUS that nobody asked for is refused", "C-12", bracket=True)
async def status_unasked(t: LiveTestee) -> None:
    peer = await t.connect()
    await peer.send(Status(document="{}"))
    await peer.refused(0, "C-12", ErrorCode.MESSAGE_UNEXPECTED)


@every_role("flood-within", "64 frames that make work for nothing are taken at once", "C-11")
async def flood_within(t: LiveTestee) -> None:
    peer = await t.connect()
    data = b"".join(encode_message(0, Ping(sequence=n)) for n in range(60))
    await peer.raw(data, "60 PINGs")
    for number in range(60):
        pong = await peer.expect(Pong, 0, "C-11")
        t.trial.expect("H-2", "PONG answers another PING than is due", number, pong.sequence)


@every_role("flood-beyond", "Who sends far more of them is ended with FLOODED", "C-11", bracket=True)
async def flood_beyond(t: LiveTestee) -> None:
    peer = await t.connect()
    await peer.raw(b"".join(encode_message(0, Ping(sequence=n)) for n in range(6000)), "6000 PINGs at once")
    while True:
        arrival = await peer.anything(0, "C-11", "ERROR FLOODED")
        if isinstance(arrival.message, Error):
            t.trial.expect("C-11", "another code than FLOODED", int(ErrorCode.FLOODED), arrival.message.code)
            break
        if isinstance(arrival.message, Pong) and arrival.message.sequence == 5999:
            raise Failed("C-11", "6000 PINGs at once were all answered", "ERROR FLOODED", "6000 PONGs")
    await peer.over("E-6")


@every_role("flood-leaves-others", "A flood on one link is nobody else's affair", "C-11", "E-3")
async def flood_leaves_others(t: LiveTestee) -> None:
    bystander = await t.connect(name="bystander")
    flooder = await t.connect(name="flooder")
    await flooder.raw(b"".join(encode_message(0, Ping(sequence=n)) for n in range(3000)), "3000 PINGs at once")
    await bystander.alive("C-11")
    await flooder.over("C-11")
    await bystander.alive("C-11")


@every_role("goodbye", "GOODBYE is followed by the end of the connection", "C-13", bracket=True)
async def goodbye(t: LiveTestee) -> None:
    for reason in (0, t.rng.randrange(1, 1 << 16)):
        peer = await t.connect()
        await peer.send(Goodbye(reason=reason))
        await peer.over("C-13")
        if any(isinstance(a.message, Error) for a in peer.arrivals):
            raise Failed("C-13", "GOODBYE was answered with an ERROR", "the end", peer.arrivals[-1].message)


@every_role(
    "error-not-answered",
    "ERROR on channel 0 ends the connection and is not answered with ERROR",
    "E-6",
    "E-5",
    bracket=True,
)
async def error_not_answered(t: LiveTestee) -> None:
    for code in (int(ErrorCode.INTERNAL), 0x00FE, 0xC0DE, 0x00FF):
        peer = await t.connect()
        await peer.send(Error(code=code, clause="C-1", text="made up by the suite"))
        await peer.over("E-6")
        if any(isinstance(a.message, Error) for a in peer.arrivals):
            raise Failed("E-6", "ERROR was answered with ERROR", "the end", peer.arrivals[-1].message)
