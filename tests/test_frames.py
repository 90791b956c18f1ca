"""Frames: cut anywhere, capped by the header, in linear time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdproto.errors import LocalError, PeerError
from dsdproto.registry import ErrorCode
from dsdproto.wire.frames import Frame, FrameDecoder, encode_frame

FRAMES = st.lists(
    st.builds(Frame, st.integers(0, 255), st.integers(0, (1 << 32) - 1), st.binary(max_size=70)), max_size=8
)


def test_known_bytes() -> None:
    assert encode_frame(0x34, 0x01020304, b"\xa0").hex() == "0000013401020304a0"


@settings(deadline=None, derandomize=True)
@given(FRAMES, st.data())
def test_cut_anywhere(frames: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(encode_frame(*frame) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    decoder, got = FrameDecoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)]):
        got += decoder.feed(stream[start:end])
    assert got == frames
    assert decoder.buffered == 0
    decoder.finish()


@settings(deadline=None, derandomize=True)
@given(FRAMES)
def test_byte_by_byte(frames: list[Frame]) -> None:
    decoder, got = FrameDecoder(), []
    for byte in b"".join(encode_frame(*frame) for frame in frames):
        got += decoder.feed(bytes([byte]))
    assert got == frames


def test_frames_before_a_bad_header_are_delivered() -> None:
    decoder, got = FrameDecoder(max_payload=10), []
    with pytest.raises(PeerError, match="11 bytes; at most 10") as caught:
        for frame in decoder.feed(encode_frame(2, 0, b"good") + encode_frame(4, 7, bytes(11))[:8]):
            got.append(frame)
    assert got == [Frame(2, 0, b"good")]
    assert (caught.value.code, caught.value.clause, caught.value.message_type) == (ErrorCode.FRAME_TOO_LONG, "F-2", 4)
    with pytest.raises(PeerError, match="11 bytes"):
        list(decoder.feed(b"anything"))
    assert decoder.buffered == 0, "nothing is kept of a stream that cannot be followed"


def test_the_cap_holds_from_the_next_header_on() -> None:
    decoder = FrameDecoder(max_payload=4)
    stream = decoder.feed(encode_frame(2, 0, b"four") + encode_frame(2, 0, b"eight by"))
    assert next(stream).payload == b"four"
    decoder.max_payload = 8
    assert next(stream).payload == b"eight by"


def test_an_iterator_left_early_loses_nothing() -> None:
    decoder = FrameDecoder()
    stream = decoder.feed(encode_frame(1, 0, b"a") + encode_frame(3, 0, b"b"))
    next(stream)
    stream.close()
    assert [frame.payload for frame in decoder.feed(encode_frame(5, 0, b"c"))] == [b"b", b"c"]


def test_an_end_within_a_frame() -> None:
    decoder = FrameDecoder()
    assert list(decoder.feed(encode_frame(2, 0, b"payload")[:-1])) == []
    with pytest.raises(PeerError, match="14 bytes into a frame") as caught:
        decoder.finish()
    assert caught.value.clause == "F-5"


def test_many_small_pieces_of_a_large_frame_take_linear_time() -> None:
    """Counted, not timed: the bytes that the decoder moves stay within a few times those fed."""

    class Counting(bytearray):
        moved = 0

        def __delitem__(self, key) -> None:
            Counting.moved += len(self) if key.stop else 0
            super().__delitem__(key)

    decoder = FrameDecoder(1 << 24)
    decoder._buffer = Counting()
    stream = encode_frame(2, 0, bytes(200_000)) + encode_frame(2, 0, b"") * 5000
    got = 0
    for at in range(0, len(stream), 64):
        got += sum(1 for _ in decoder.feed(stream[at : at + 64]))
    assert got == 5001
    assert Counting.moved < 4 * len(stream)


@pytest.mark.parametrize(
    ("type_", "channel", "size", "says"),
    [
        (256, 0, 0, "type"),
        (-1, 0, 0, "type"),
        (0, 1 << 32, 0, "channel"),
        (0, -1, 0, "channel"),
        (0, 0, 1 << 24, "at most"),
    ],
)
def test_what_does_not_fit(type_: int, channel: int, size: int, says: str) -> None:
    with pytest.raises(LocalError, match=says):
        encode_frame(type_, channel, bytes(size))
