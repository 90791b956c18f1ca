"""Section 5, beyond guesses: what else a newcomer may send to an authority, and how slowly."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio

from conformance.live.cases_join_authority import GOOD, authority_case
from conformance.live.joining import MAX_JOIN_PAYLOAD
from conformance.live.newcomer import AuthorityTestee, NoService, request
from conformance.live.peer import ODD_KEYS
from conformance.verdict import Failed, Inconclusive
from dsdproto.registry import ALPN, GREASE_TYPES, PRIVATE_TYPES, ErrorCode
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_message, encode_payload, type_of
from dsdproto.wire.frames import encode_frame
from dsdproto.wire.messages import Error, Goodbye, Joined, Ping, StatusRequest

PATIENT_SECONDS = 60.0
"""Clause J-8 has no numbers: what an authority may take for a newcomer that says nothing."""
CROWD = 40


@authority_case(
    "other-messages",
    "Other messages have no place on a joining connection",
    "J-2",
    bracket=True,
    quote="other messages but ERROR not on this one",
)
async def other_messages(t: AuthorityTestee) -> None:
    token = await t.token()
    lost = Joined(certificate=b"", authority=b"", cluster=token.cluster)
    for message in (Ping(sequence=t.rng.randrange(99)), StatusRequest(), Goodbye(reason=0), lost):
        line = await t.visit(token)
        await line.send(message, "not on this connection")
        said = f"{type(message).__name__.upper()} on a joining connection is not refused"
        await t.refused(line, "J-2", said, ErrorCode.MESSAGE_UNEXPECTED)


@authority_case("other-channel", "JOIN goes on channel 0", "J-2", bracket=True)
async def other_channel(t: AuthorityTestee) -> None:
    token = await t.token()
    line = await t.visit(token)
    await line.send(request(token), "on channel 1", channel=1)
    said = "JOIN on channel 1 is not refused"
    await t.refused(line, "J-2", said, ErrorCode.MESSAGE_UNEXPECTED)


@authority_case("even-type", "An unknown even type is refused", "R-1", "J-2", bracket=True)
async def even_type(t: AuthorityTestee) -> None:
    token = await t.token()
    line = await t.visit(token)
    kind = t.rng.choice([each for each in PRIVATE_TYPES if each % 2 == 0])
    await line.raw(encode_frame(kind, 0, b"\xa0"), "an unknown even type")
    await t.refused(line, "R-1", "an unknown even type is not refused", ErrorCode.MESSAGE_UNKNOWN)


@authority_case(
    "error-first", "A newcomer that says ERROR gets none back, and the token stays good", "E-6", "J-2", bracket=True
)
async def error_first(t: AuthorityTestee) -> None:
    token = await t.token()
    line = await t.visit(token)
    await line.send(Error(code=int(ErrorCode.INTERNAL), clause="E-7", text="the newcomer has changed its mind"))
    await line.over("E-6", 15.0)


@authority_case(
    "unknown-and-in-pieces",
    "Frames of unknown odd types and unknown odd keys are ignored, and bytes come in any pieces",
    "J-10",
    "R-1",
    "F-4",
    quote="Frames of unknown odd types are ignored there as everywhere (R-1)",
)
async def unknown_and_in_pieces(t: AuthorityTestee) -> None:
    token = await t.token()
    line = await t.visit(token)
    odd = [each for each in (*GREASE_TYPES, *PRIVATE_TYPES) if each % 2]
    for channel in (0, 7):
        payload = cbor.encode({t.rng.randrange(256): t.rng.randbytes(5), 1000: [1, [2]]})
        await line.raw(encode_frame(t.rng.choice(odd), channel, payload), "an unknown odd type", pieces=3)
    extra = {t.rng.choice(ODD_KEYS): {1: b"", 2: 3}}
    await t.admitted(line, request(token), "J-10", GOOD, extra=extra, pieces=1)


@authority_case("even-key", "An unknown even key in JOIN is refused", "R-1", bracket=True)
async def even_key(t: AuthorityTestee) -> None:
    token = await t.token()
    line = await t.visit(token)
    await line.send(request(token), "an unknown even key", extra={t.rng.randrange(64, 256, 2): 1})
    await t.refused(line, "R-1", "an unknown even key is not refused", ErrorCode.MESSAGE_INVALID)


@authority_case(
    "malformed", "JOIN outside its table is refused, and the token stays good", "R-4", "R-5", "B-1", bracket=True
)
async def malformed(t: AuthorityTestee) -> None:
    token = await t.token()
    good = cbor.decode(encode_payload(request(token)))
    invalid, cut = ErrorCode.MESSAGE_INVALID, ErrorCode.CBOR_MALFORMED
    faults: tuple[tuple[str, bytes, str, ErrorCode], ...] = (
        ("no secret", cbor.encode({key: good[key] for key in good if key != 2}), "R-4", invalid),
        ("a secret id of 9 bytes", cbor.encode({**good, 1: bytes(9)}), "R-5", invalid),
        ("a secret of 15 bytes", cbor.encode({**good, 2: token.secret[:15]}), "R-5", invalid),
        ("a key of 1025 bytes", cbor.encode({**good, 3: bytes(1025)}), "R-5", invalid),
        ("a name of 65 bytes", cbor.encode({**good, 5: "n" * 65}), "R-5", invalid),
        ("a byte too few", cbor.encode(good)[:-1], "B-1", cut),
    )
    for what, payload, clause, code in faults:
        line = await t.visit(token)
        await line.raw(encode_frame(type_of(request(token)), 0, payload), what)
        await t.refused(line, clause, f"JOIN with {what} is not refused", code)


@authority_case(
    "payload-too-long",
    "A payload beyond 32768 bytes is refused, from its header alone",
    "J-10",
    "F-3",
    bracket=True,
    quote="On a joining connection a payload has at most 32768 bytes",
)
async def payload_too_long(t: AuthorityTestee) -> None:
    token = await t.token()
    for kind in (type_of(request(token)), GREASE_TYPES[0]):
        line = await t.visit(token)
        header = encode_frame(kind, 0, bytes(MAX_JOIN_PAYLOAD + 1))[:8]
        await line.raw(header, f"the header of a frame of {MAX_JOIN_PAYLOAD + 1} bytes")
        await t.refused(line, "J-10", "a payload of 32769 bytes is not refused", ErrorCode.FRAME_TOO_LONG)


@authority_case("payload-longest", "A payload of 32768 bytes is taken", "J-10")
async def payload_longest(t: AuthorityTestee) -> None:
    token = await t.token()
    line = await t.visit(token)
    payload = b"\xa1\x01\x59" + (MAX_JOIN_PAYLOAD - 5).to_bytes(2, "big") + bytes(MAX_JOIN_PAYLOAD - 5)
    await line.raw(encode_frame(t.rng.choice(GREASE_TYPES), 0, payload), "the longest frame that there may be")
    await t.admitted(line, request(token), "J-10", "behind a frame of 32768 bytes nobody is let in")


@authority_case("cut-off", "Nothing of an unfinished JOIN is used, and the token stays good", "F-5", bracket=True)
async def cut_off(t: AuthorityTestee) -> None:
    token = await t.token()
    join = encode_message(0, request(token))
    for cut in (0, 5, 40, len(join) - 1):
        line = await t.visit(token)
        await line.raw(join[:cut] or join[:1], "cut off")
        await line.hang_up()


@authority_case(
    "other-protocol",
    "Who names another protocol (ALPN), or none, does not join",
    "J-2",
    bracket=True,
    quote="Joining uses a TLS connection with ALPN dsdp-join/1",
)
async def other_protocol(t: AuthorityTestee) -> None:
    token = await t.token()
    for alpn in (ALPN, "h2", None):
        try:
            line = await t.visit(token, alpn=alpn)
        except NoService as error:
            t.trial.wire.event("stranger", str(error))
            continue
        if line.stream.selected_alpn_protocol() not in (None, alpn):
            raise Failed("J-2", "a protocol is chosen that the newcomer did not offer", alpn, "another")
        await line.send(request(token), f"ALPN {alpn}")
        with trio.move_on_after(t.trial.seconds(2.0)):
            if data := await line.receive():
                raise Failed("J-2", f"a newcomer with ALPN {alpn} is answered", "the end", data[:32])
        await line.hang_up()


# ---------------------------------------------------------------- newcomers that take their time


@authority_case(
    "silent-newcomers",
    "Newcomers that say nothing do not keep another one out",
    "J-8",
    quote="MUST bound the number of connections at one time and the time for each",
)
async def silent_newcomers(t: AuthorityTestee) -> None:
    token = await t.token()
    mute = await t.reach(token)
    try:
        try:
            await t.visit(token)
            slow = await t.visit(token)
            await slow.raw(encode_message(0, request(token))[:100], "the beginning of JOIN, and no more")
        except NoService:
            t.trial.note("the authority talks to few newcomers at a time")
        if not await t.let_in_soon(token, PATIENT_SECONDS):
            raise Inconclusive(f"behind silent newcomers nobody is let in for {PATIENT_SECONDS:g} s")
    finally:
        await trio.aclose_forcefully(mute)


@authority_case("crowd", "A crowd that says nothing does not keep a newcomer out for long", "J-8")
async def crowd(t: AuthorityTestee) -> None:
    token = await t.token()
    async with AsyncExitStack() as stack:
        for _ in range(CROWD):
            try:
                stack.push_async_callback(trio.aclose_forcefully, await t.reach(token))
            except NoService:
                break
        if not await t.let_in_soon(token, PATIENT_SECONDS):
            raise Inconclusive(f"behind {CROWD} silent connections nobody is let in for {PATIENT_SECONDS:g} s")


@authority_case("trickle", "The time for a newcomer ends though bytes go on coming", "J-8", bracket=True)
async def trickle(t: AuthorityTestee) -> None:
    token = await t.token()
    line = await t.visit(token)
    begin = trio.current_time()
    drops = encode_frame(GREASE_TYPES[0], 0, b"\xa1\x01\x59\x7f\xf0" + bytes(0x7FF0))
    async with trio.open_nursery() as nursery:

        async def drip() -> None:
            for byte in drops:
                await line.raw(bytes([byte]))
                await trio.sleep(0.5)

        nursery.start_soon(drip)
        with trio.move_on_after(t.trial.seconds(PATIENT_SECONDS)):
            answer = await line.next("J-8", PATIENT_SECONDS + 1)
            if answer is not None and not isinstance(answer, Error):
                raise Failed("J-3", "an answer without a JOIN", "the end", type(answer).__name__)
            t.trial.note(f"it ended after {trio.current_time() - begin:.0f} s")
            nursery.cancel_scope.cancel()
            return
        raise Inconclusive(f"a newcomer that sends a byte now and then is still heard after {PATIENT_SECONDS:g} s")
