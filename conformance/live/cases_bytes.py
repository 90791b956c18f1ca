"""Sections 7, 8 and 20.1: frames and CBOR as nobody may send them, and what must be passed over."""

from __future__ import annotations

from typing import Any

from conformance.live.every_role import every_role
from conformance.live.testee import LiveTestee
from conformance.verdict import Failed
from dsdproto.registry import GREASE_TYPES, PRIVATE_TYPES, RESERVED_TYPES, ErrorCode, MessageType, Role
from dsdproto.wire import cbor
from dsdproto.wire.codec import encode_message, encode_payload
from dsdproto.wire.frames import encode_frame
from dsdproto.wire.messages import Ping, Pong

MALFORMED = ErrorCode.CBOR_MALFORMED
NOT_DETERMINISTIC = ErrorCode.CBOR_NOT_DETERMINISTIC
HANDSHAKE_MAX = 65536


# ---------------------------------------------------------------- frames


@every_role(
    "frame-too-long", "A payload beyond max_payload is refused, from its header alone", "F-2", "F-3", bracket=True
)
async def frame_too_long(t: LiveTestee) -> None:
    peer = await t.connect()
    assert peer.their is not None
    length = peer.their.limits.max_payload + 1
    if length >= 1 << 24:
        t.trial.note("max_payload leaves no longer frame to send")
        return
    await peer.raw(length.to_bytes(3, "big") + b"\xe1\0\0\0\0", "the header alone; nothing follows")
    await peer.refused(0, "F-2", ErrorCode.FRAME_TOO_LONG)


@every_role("frame-longest", "A payload of max_payload bytes is taken", "F-2")
async def frame_longest(t: LiveTestee) -> None:
    peer = await t.connect()
    assert peer.their is not None
    size = peer.their.limits.max_payload
    if size > 4 << 20:
        t.trial.note(f"max_payload is {size}; 1 MiB was sent")
        size = 1 << 20
    if size - 5 < 1 << 16:  # the head of the string in its shortest form
        payload = b"\xa1\x01\x59" + (size - 5).to_bytes(2, "big") + bytes(size - 5)
    else:
        payload = b"\xa1\x01\x5a" + (size - 7).to_bytes(4, "big") + bytes(size - 7)
    await peer.raw(encode_frame(t.rng.choice(GREASE_TYPES), 0, payload), "a long frame of a grease type")
    await peer.alive("F-2")


@every_role("handshake-frame-too-long", "In the handshake 65536 bytes are the limit", "F-2", "F-3", bracket=True)
async def handshake_frame_too_long(t: LiveTestee) -> None:
    peer = await t.connect(greet=False)
    await peer.meet()
    await peer.raw((HANDSHAKE_MAX + 1).to_bytes(3, "big") + b"\x02\0\0\0\0", "the header of a HELLO that is too long")
    await peer.refused(0, "F-2", ErrorCode.FRAME_TOO_LONG)


@every_role(
    "frame-cut-off",
    "A stream that ends within a frame is a lost connection, nothing of the frame is used",
    "F-5",
    bracket=True,
)
async def frame_cut_off(t: LiveTestee) -> None:
    for cut in (1, 5, 9):
        peer = await t.connect()
        peer.manual = True  # or a PONG would fill the gap
        await peer.raw(encode_message(0, Ping(sequence=1))[:cut], "cut off")
        await peer.silent(0, "F-5", 0.1)
        await peer.hang_up()


@every_role("frames-in-pieces", "Frames come in any number of pieces, several in one", "F-4")
async def frames_in_pieces(t: LiveTestee) -> None:
    peer = await t.connect()
    numbers = [t.rng.randrange(1 << 32) for _ in range(12)]
    data = b"".join(encode_message(0, Ping(sequence=n)) for n in numbers)
    cuts = sorted(t.rng.sample(range(1, len(data)), 9))
    for start, end in zip([0, *cuts], [*cuts, len(data)]):
        await peer.raw(data[start:end], "a piece of twelve PINGs")
    for number in numbers:
        pong = await peer.expect(Pong, 0, "H-2")
        t.trial.expect("H-2", "PONG answers another PING than is due", number, pong.sequence)


# ---------------------------------------------------------------- CBOR

WRONG: tuple[tuple[str, str, ErrorCode, tuple[str, ...]], ...] = (
    ("item-cut-off", "B-1", MALFORMED, ("a101", "a10142ff", "a1", "", "a10119", "a1011c", "a1017bffffffffffffffff")),
    ("negative", "B-2", MALFORMED, ("a10120", "a1013903e7")),
    ("tag", "B-2", MALFORMED, ("a101c100", "a101d9d9f707")),
    ("float", "B-2", MALFORMED, ("a101f93c00", "a101fa3f800000", "a101fb3ff0000000000000")),
    ("null-and-booleans", "B-2", MALFORMED, ("a101f6", "a101f5", "a101f4", "a101f7", "a101e0", "a101f820")),
    ("keys-descend", "B-3", NOT_DETERMINISTIC, ("a203000100", "a2190100000500")),
    ("key-twice", "B-3", NOT_DETERMINISTIC, ("a201070107", "a201070108")),
    ("key-is-text", "B-3", MALFORMED, ("a1616100", "a14101 00".replace(" ", ""), "a18000")),
    (
        "not-shortest",
        "B-4",
        NOT_DETERMINISTIC,
        ("a1011807", "a101190007", "a1011a00000007", "a1180107", "b80101 07".replace(" ", "")),
    ),
    ("not-shortest-length", "B-4", NOT_DETERMINISTIC, ("a103580107", "a103590001 07".replace(" ", ""), "a103980107")),
    ("indefinite", "B-4", NOT_DETERMINISTIC, ("bf0107ff", "a1039f07ff", "a1035f4107ff", "a1037f6161ff")),
    ("too-deep", "B-5", MALFORMED, ("a103a103a103a103a0", "a1038181818100", "a103" + "81" * 200 + "00")),
    ("bytes-behind", "B-6", MALFORMED, ("a1010700", "a10107a0", "a10107f6")),
    ("not-utf8", "B-7", MALFORMED, ("a10362c328", "a10363eda080", "a10361ff")),
    ("no-map", "B-8", MALFORMED, ("8101", "07", "4101", "6161", "80")),
)
"""Each in a PING (whose key 1 is known), and in a frame of an unknown odd type, where nothing of it is looked at."""


def _wrong(name: str, clause: str, code: ErrorCode, payloads: tuple[str, ...]) -> None:
    async def check(t: LiveTestee) -> None:
        for text in payloads:
            for type_ in (int(MessageType.PING), t.rng.choice(GREASE_TYPES)):
                peer = await t.connect()
                await peer.frame(type_, 0, bytes.fromhex(text), f"wrong by {clause}")
                await peer.refused(0, clause, code)

    every_role(f"cbor-{name}", f"Wrong CBOR is refused, also where it would be ignored: {name}", clause, bracket=True)(
        check
    )


for _entry in WRONG:
    _wrong(*_entry)


@every_role(
    "cbor-wrong-behind-ignored-key",
    "Within the value of an unknown odd key the same rules hold",
    "B-1",
    "B-4",
    bracket=True,
)
async def wrong_in_ignored(t: LiveTestee) -> None:
    peer = await t.connect()
    await peer.frame(int(MessageType.PING), 0, bytes.fromhex("a20107184b1801"), "key 75 holds 1 in two bytes")
    await peer.refused(0, "B-4", NOT_DETERMINISTIC)


@every_role("cbor-deepest", "Four levels are allowed, and the largest integers", "B-5", "B-4")
async def deepest(t: LiveTestee) -> None:
    peer = await t.connect()
    item: Any = {1: [[[1]]], 2: (1 << 64) - 1, 5: {0: {0: {}}}, 300: "Grüße", 1 << 63: b""}
    await peer.raw(encode_frame(t.rng.choice(GREASE_TYPES), 0, cbor.encode(item)))
    await peer.send(Ping(sequence=(1 << 32) - 1), grease=False)
    await peer.expect(Pong, 0, "B-4")


# ---------------------------------------------------------------- code points


@every_role("types-odd", "Frames of unknown odd types are ignored, on any channel", "R-1", "K-5")
async def types_odd(t: LiveTestee) -> None:
    peer = await t.connect()
    known = set(map(int, MessageType))
    odd = [*GREASE_TYPES, *PRIVATE_TYPES[1::2], *[n for n in RESERVED_TYPES if n % 2], 0x7F, 0x03]
    for type_ in t.rng.sample([n for n in odd if n not in known], 12):
        await peer.raw(encode_frame(type_, 0, cbor.encode({2: peer.noise(), 5: 1})), "an unknown odd type")
    await peer.alive("R-1")


@every_role("types-even", "A frame of an unknown even type is refused", "R-1", "K-5", bracket=True)
async def types_even(t: LiveTestee) -> None:
    for type_ in (0x5C, t.rng.choice(PRIVATE_TYPES[0::2]), 0x7E):
        peer = await t.connect()
        await peer.frame(type_, 0, b"\xa0", "an unknown even type")
        await peer.refused(0, "R-1", ErrorCode.MESSAGE_UNKNOWN)


@every_role("keys-odd", "Unknown odd keys of a known message are ignored", "R-1")
async def keys_odd(t: LiveTestee) -> None:
    peer = await t.connect()
    for key in t.rng.sample(range(3, 256, 2), 5):
        await peer.raw(encode_frame(int(MessageType.PING), 0, encode_payload(Ping(sequence=key), {key: peer.noise()})))
        pong = await peer.expect(Pong, 0, "R-1")
        t.trial.expect("H-2", "PONG of another sequence", key, pong.sequence)


def _field(name: str, title: str, clause: str, item: dict[int, Any]) -> None:
    async def check(t: LiveTestee) -> None:
        peer = await t.connect()
        await peer.frame(int(MessageType.PING), 0, cbor.encode(item), f"wrong by {clause}")
        error = await peer.refused(0, clause, ErrorCode.MESSAGE_INVALID)
        if error.message_type not in (None, int(MessageType.PING)):
            raise Failed(
                "E-1", "ERROR names another message type than was at fault", int(MessageType.PING), error.message_type
            )

    every_role(name, title, clause, "E-1", bracket=True)(check)


_field("key-even", "An unknown even key is refused", "R-1", {1: 7, 2: 0})
_field("field-missing", "A mandatory field that is missing is refused", "R-4", {})
_field("field-kind", "A field of another kind is refused", "R-5", {1: "7"})
_field("field-bounds", "A value out of bounds is refused", "R-5", {1: 1 << 32})


@every_role("join-here", "JOIN does not occur on a dsdp/1 connection", "J-2", bracket=True)
async def join_here(t: LiveTestee) -> None:
    peer = await t.connect()
    item = {1: bytes(8), 2: bytes(16), 3: b"", 4: b"", 5: "x"}
    await peer.frame(int(MessageType.JOIN), 0, cbor.encode(item))
    await peer.refused(0, "J-2", ErrorCode.MESSAGE_UNEXPECTED)


__all__ = ["Role"]
