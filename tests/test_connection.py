"""Two connections on a wire made of two byte strings; then everything that can go wrong on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_samples import HELLO, hello, sample

from dsdproto.channels import PLANES, Plane
from dsdproto.connection import (
    ALLOWANCE,
    Connection,
    Side,
)
from dsdproto.effects import CloseLink, LinkDown, LinkUp, Received, Refuse, Send, SetTimer
from dsdproto.errors import LocalError, PeerError
from dsdproto.phases import FEATURE_FIELDS, TRANSITIONS, State
from dsdproto.registry import GREASE_FEATURES, GREASE_TYPES, ErrorCode, Feature, Role, Scope
from dsdproto.versions import negotiate
from dsdproto.wire import cbor
from dsdproto.wire import messages as m
from dsdproto.wire.codec import decode_message, encode_message, encode_payload, type_of
from dsdproto.wire.frames import FrameDecoder, encode_frame
from dsdproto.wire.schema import MESSAGES, SPECS

ALL = tuple(int(role) for role in Role)


def node(number: int, **changes: Any) -> m.Hello:
    return hello(**{"node_id": bytes([number]) * 32, "nonce": bytes([number]) * 16, **changes})


class Wire:
    """A dialer and an acceptor; what one sends, the other gets, when the test says so."""

    def __init__(self, dialer: m.Hello | None = None, acceptor: m.Hello | None = None, **options: Any) -> None:
        dialer, acceptor = dialer or node(1), acceptor or node(2)
        options = {"now": 0.0, **options}
        self.dialer = Connection(Side.DIALER, dialer, acceptor.node_id, b"d" * 16, link=1, **options)
        self.acceptor = Connection(Side.ACCEPTOR, acceptor, dialer.node_id, b"a" * 16, link=2, **options)
        self.events: dict[Connection, list[Any]] = {self.dialer: [], self.acceptor: []}
        self.sent: dict[Connection, bytes] = {self.dialer: b"", self.acceptor: b""}

    def other(self, end: Connection) -> Connection:
        return self.acceptor if end is self.dialer else self.dialer

    def pump(self, now: float = 0.0, step: int = 1 << 20) -> Wire:
        """Carry bytes both ways, ``step`` at a time, until nothing moves."""
        moved = True
        while moved:
            moved = False
            for end in (self.acceptor, self.dialer):
                data = end.data_to_send()
                self.sent[end] += data
                moved = moved or bool(data)
                for at in range(0, len(data), step):
                    self.events[self.other(end)] += self.other(end).receive(data[at : at + step], now)
        return self

    def up(self) -> Wire:
        self.pump()
        assert self.dialer.open and self.acceptor.open
        for end in self.events:
            self.events[end].clear()
            self.sent[end] = b""
        return self

    def replies(self, end: Connection) -> list[tuple[int, Any]]:
        """(channel, message) of all that ``end`` has ready to send, without carrying it."""
        return frames_of(end.data_to_send())


def frames_of(data: bytes) -> list[tuple[int, Any]]:
    decoder = FrameDecoder((1 << 24) - 1)
    out = [(frame.channel, decode_message(frame)) for frame in decoder.feed(data)]
    decoder.finish()
    return out


def opened(wire: Wire, plane: str | Plane, answered: bool = True, by_dialer: bool = True) -> int:
    """Open a channel of a plane (of a name: the first one); returns its number."""
    row = plane if isinstance(plane, Plane) else next(row for row in PLANES if row.name == plane)
    opener = wire.dialer if by_dialer else wire.acceptor
    number = 1 if by_dialer else 2
    opener.send(number, sample(row.opening))
    if answered:
        wire.pump()
        wire.other(opener).send(number, sample(row.answer))
    wire.pump()
    for end in wire.events:
        wire.events[end].clear()
    return number


# ---------------------------------------------------------------- handshake


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_handshake_reaches_open_with_equal_outcome(step: int) -> None:
    features = tuple(int(feature) for feature in Feature)
    limits = replace(HELLO.limits, heartbeat_ms=500)
    wire = Wire(node(1, features=features, limits=limits), node(2, features=(1, 5))).pump(step=step)
    assert wire.dialer.negotiated == wire.acceptor.negotiated
    assert wire.dialer.negotiated.features == (1, 5)
    assert wire.dialer.negotiated.heartbeat_ms == 500
    (up,) = wire.events[wire.dialer]
    assert isinstance(up, LinkUp) and up.dialer and up.features == {1, 5} and up.peer.node_id == bytes([2]) * 32
    (up,) = wire.events[wire.acceptor]
    assert isinstance(up, LinkUp) and not up.dialer and up.link == 2
    dialer_ready = dict(reversed_types(wire.sent[wire.dialer]))[m.Ready]
    acceptor_ready = dict(reversed_types(wire.sent[wire.acceptor]))[m.Ready]
    assert dialer_ready == acceptor_ready


def reversed_types(data: bytes) -> list[tuple[type, Any]]:
    return [(type(message), message) for _, message in frames_of(data)]


def test_the_acceptor_speaks_first() -> None:
    wire = Wire()
    assert wire.dialer.data_to_send() == b""
    ((channel, message),) = wire.replies(wire.acceptor)
    assert channel == 0 and isinstance(message, m.Hello)


def test_grease_is_sent_by_both_and_harms_nobody() -> None:
    wire = Wire().pump()
    for end in (wire.dialer, wire.acceptor):
        frames = list(FrameDecoder().feed(wire.sent[end]))
        assert sum(frame.type in GREASE_TYPES for frame in frames) == 1
        keys = cbor.decode(frames[0].payload)
        assert any(key in (33, 35, 37, 39) for key in keys)
        assert any(feature in GREASE_FEATURES for feature in keys[7])
        assert end.open


@settings(deadline=None, derandomize=True)
@given(st.binary(min_size=16, max_size=32), st.binary(min_size=16, max_size=32))
def test_any_entropy_gives_a_handshake(one: bytes, two: bytes) -> None:
    wire = Wire()
    wire.dialer = Connection(Side.DIALER, node(1), node(2).node_id, one, 0.0)
    wire.acceptor = Connection(Side.ACCEPTOR, node(2), node(1).node_id, two, 0.0)
    wire.events = {wire.dialer: [], wire.acceptor: []}
    wire.sent = {wire.dialer: b"", wire.acceptor: b""}
    wire.pump()
    assert wire.dialer.open and wire.acceptor.open
    assert not set(wire.dialer.negotiated.features) & set(GREASE_FEATURES)


def test_equal_entropy_gives_equal_bytes() -> None:
    assert Wire().pump().sent.values().__iter__().__next__() == Wire().pump().sent.values().__iter__().__next__()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"node_id": bytes(32)}, ErrorCode.IDENTITY_MISMATCH),
        ({"node_id": bytes([2]) * 32}, ErrorCode.IDENTITY_MISMATCH),
        ({"cluster": b"another cluster!"}, ErrorCode.CLUSTER_MISMATCH),
        ({"version_min": 2, "version_max": 9}, ErrorCode.VERSION_UNSUPPORTED),
        ({"features": (1, 2)}, ErrorCode.VERSION_UNSUPPORTED),
        ({"roles": (1, 2, 6)}, ErrorCode.VERSION_UNSUPPORTED),
    ],
)
def test_a_hello_that_does_not_fit_is_refused_in_words(change: dict, code: ErrorCode) -> None:
    acceptor = Connection(Side.ACCEPTOR, node(2), bytes([1]) * 32, b"a" * 16, 0.0)
    acceptor.data_to_send()
    (down,) = acceptor.receive(encode_message(0, node(1, **change)), 0.0)
    assert isinstance(down, LinkDown)
    ((channel, error),) = frames_of(acceptor.data_to_send())
    assert channel == 0 and error.code == code and error.message_type == 2
    assert acceptor.closed and acceptor.receive(b"more", 0.0) == [] and acceptor.next_deadline() is None


def test_a_node_that_dialed_itself() -> None:
    end = Connection(Side.DIALER, node(2), bytes([2]) * 32, b"d" * 16, 0.0)
    (down,) = end.receive(encode_message(0, node(2)), 0.0)
    assert "dialed itself" in down.reason


def test_the_dialer_learns_why_it_was_refused() -> None:
    wire = Wire(node(1, cluster=b"another cluster!")).pump()
    (down,) = wire.events[wire.dialer]
    assert "another" not in down.reason and "CLUSTER_MISMATCH" in down.reason


def test_without_authentication_the_id_is_taken_as_said() -> None:
    wire = Wire()
    wire.acceptor = Connection(Side.ACCEPTOR, node(2), None, b"a" * 16, 0.0, link=2)
    wire.events[wire.acceptor], wire.sent[wire.acceptor] = [], b""
    wire.pump()
    assert wire.acceptor.open


def test_a_changed_hello_is_noticed_in_ready() -> None:
    """Somebody in between drops a feature: both HELLOs are valid, the digests differ (clause C-6)."""
    wire = Wire(node(1, features=(1, 3)), node(2, features=(1, 3)))
    ((_, said),) = wire.replies(wire.acceptor)
    wire.dialer.receive(encode_message(0, replace(said, features=(1,))), 0.0)
    (down,) = wire.acceptor.receive(wire.dialer.data_to_send(), 0.0)
    assert "NEGOTIATION_MISMATCH" in down.reason


def test_handshake_timeout() -> None:
    wire = Wire()
    assert wire.dialer.next_deadline() == wire.acceptor.next_deadline() == 10.0
    assert wire.acceptor.tick(9.9) == []
    (down,) = wire.acceptor.tick(10.0)
    assert "HANDSHAKE_TIMEOUT" in down.reason and "HELLO" in down.reason


def test_a_long_frame_in_the_handshake_is_refused_by_its_header() -> None:
    acceptor = Wire().acceptor
    (down,) = acceptor.receive(((65537 << 40) | (2 << 32)).to_bytes(8, "big"), 0.0)
    assert "FRAME_TOO_LONG" in down.reason


@settings(deadline=None, derandomize=True)
@given(
    st.integers(1, 9), st.integers(0, 9), st.integers(1, 9), st.integers(0, 9), st.data()
)
def test_negotiation_is_symmetric(low: int, span: int, other: int, other_span: int, data: st.DataObject) -> None:
    features = st.lists(st.sampled_from([1, 3, 5, 7, *GREASE_FEATURES]), unique=True).map(sorted).map(tuple)
    one = node(1, version_min=low, version_max=low + span, features=data.draw(features))
    two = node(2, version_min=other, version_max=other + other_span, features=data.draw(features))
    overlap = max(low, other) <= min(low + span, other + other_span)
    if not overlap:
        with pytest.raises(PeerError) as caught:
            negotiate(one, two)
        assert caught.value.clause == "C-7"
        return
    outcome = negotiate(one, two)
    assert outcome == negotiate(two, one)
    assert outcome.version == min(low + span, other + other_span)
    assert outcome.features == tuple(sorted(set(one.features) & set(two.features) - set(GREASE_FEATURES)))


# ---------------------------------------------------------------- every state x every message

STATES = ("hello", "ready", "open", "done")


def acceptor_in(state: str) -> Connection:
    wire = Wire()
    if state in ("open", "done"):
        wire.up()
        if state == "done":
            wire.acceptor.close()
    elif state == "ready":
        wire.acceptor.receive(encode_message(0, node(1)), 0.0)
    wire.acceptor.data_to_send()
    return wire.acceptor


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_every_state_meets_every_message(state: str, cls: type, channel: int) -> None:
    """On a fresh channel, what the table allows passes, and all else ends in one typed ERROR and one LinkDown."""
    end = acceptor_in(state)
    message = sample(cls)
    events = end.receive(encode_message(channel, message), 1.0)
    replies = frames_of(end.data_to_send())
    spec = SPECS[cls]
    if state == "done":
        assert events == [] and replies == []
        return
    legal = cls in TRANSITIONS[State(state)]
    at_home = (channel == 0) == (spec.plane == "connection" or cls is m.Error)
    if legal and at_home and (spec.plane == "connection" or cls is m.Error or (spec.opens and channel == 1)):
        if cls is m.Error:
            assert isinstance(events[0], LinkDown) and "the peer reports" in events[0].reason
        elif cls is m.Goodbye:
            assert isinstance(events[0], LinkDown) and "left" in events[0].reason
        elif cls is m.Ready:
            assert "NEGOTIATION_MISMATCH" in events[0].reason  # the sample's digest is not the right one
        elif cls in (m.Pong, m.Status):
            assert "MESSAGE_UNEXPECTED" in events[0].reason  # nobody asked
        elif cls is m.Ping:
            assert replies == [(0, m.Pong(sequence=message.sequence))] and events == []
        elif cls is m.Hello:
            assert "IDENTITY_MISMATCH" in events[0].reason  # the sample is from nobody
        else:
            assert events == [Received(2, channel, message)] and replies == []
        return
    assert len(events) == 1 and isinstance(events[0], LinkDown)
    ((where, error),) = replies
    assert where == 0 and error.code in (ErrorCode.MESSAGE_UNEXPECTED, ErrorCode.CHANNEL_MISUSED)


@pytest.mark.parametrize("cls", MESSAGES.values(), ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("from_opener", [True, False], ids=["opener", "answerer"])
@pytest.mark.parametrize("answered", [False, True], ids=["opening", "answered"])
@pytest.mark.parametrize("plane", PLANES, ids=lambda plane: plane.opening.__name__)
def test_every_channel_phase_meets_every_message(plane, answered: bool, from_opener: bool, cls: type) -> None:
    """A wrong message on a session's channel ends that channel and nothing else; send() refuses to utter it."""
    wire = Wire().up()
    number = opened(wire, plane, answered)
    speaker = wire.dialer if from_opener else wire.acceptor
    listener = wire.other(speaker)
    spec, message = SPECS[cls], sample(cls)
    role = plane.opener if from_opener else plane.answerer
    if cls is m.Error:
        legal = True
    elif spec.plane != plane.name or role not in spec.senders or spec.opens:
        legal = False
    elif from_opener or cls is plane.closing:
        legal = True
    else:
        legal = (cls is plane.answer) != answered
    events = listener.receive(encode_message(number, message), 0.0)
    if legal:
        assert events == [Received(listener.link, number, message)]
        assert speaker.send(number, message) == []
        closing = cls in (plane.closing, m.Error)
        for end in (speaker, listener):
            assert end.channels.is_closed(number) == closing
        return
    with pytest.raises(LocalError):
        speaker.send(number, message)
    ((channel, error),) = frames_of(listener.data_to_send())
    if spec.plane in ("connection", "join") or spec.opens:
        assert channel == 0 and listener.closed
    else:
        assert channel == number and error.code == ErrorCode.MESSAGE_UNEXPECTED and error.clause in ("CH-6", "CH-7")
        assert listener.open and listener.channels.is_closed(number)
        (told,) = events
        assert told.message.code == error.code, "the role that owned the channel learns that it is gone"


# ---------------------------------------------------------------- channels


def test_two_sessions_and_one_fault() -> None:
    wire = Wire().up()
    opened(wire, "session")
    opened(wire, "draft", by_dialer=False)
    wire.events[wire.acceptor] += wire.acceptor.receive(encode_frame(0x24, 1, b"\xa0"), 0.0)
    wire.pump()
    assert wire.acceptor.open and wire.dialer.open
    assert wire.acceptor.channels.is_closed(1) and 2 in wire.acceptor.channels.open
    (told,) = wire.events[wire.dialer]
    assert told.channel == 1 and told.message.code == ErrorCode.MESSAGE_INVALID and told.message.clause == "R-4"
    assert wire.dialer.channels.is_closed(1)


def test_messages_that_crossed_a_closing_are_dropped() -> None:
    wire = Wire().up()
    opened(wire, "draft", by_dialer=False)
    wire.acceptor.send(2, m.Detach(reason=0))
    wire.dialer.send(2, sample(m.Propose))
    wire.pump()
    assert wire.events[wire.acceptor] == []
    assert [type(event.message) for event in wire.events[wire.dialer]] == [m.Detach]
    assert wire.dialer.send(2, sample(m.Propose)) == [], "and later ones are not sent"
    wire.pump()
    assert wire.dialer.open and wire.acceptor.open


def test_garbage_on_a_closed_channel_is_still_garbage() -> None:
    wire = Wire().up()
    opened(wire, "draft", by_dialer=False)
    wire.acceptor.send(2, m.Detach(reason=0))
    (down,) = wire.acceptor.receive(encode_frame(0x34, 2, b"\xff"), 0.0)
    assert "CBOR_MALFORMED" in down.reason


def test_numbers_increase_and_are_never_used_again() -> None:
    wire = Wire().up()
    wire.dialer.send(5, sample(m.Open))
    for number, clause in ((3, "closed"), (5, "CH-2"), (2, "CH-1"), (0, "CH-3")):
        if clause == "closed":
            assert wire.dialer.send(number, sample(m.Open)) == []
        else:
            with pytest.raises(LocalError, match=clause):
                wire.dialer.send(number, sample(m.Open))
    wire.pump()
    (down,) = wire.acceptor.receive(encode_message(5, sample(m.Open)), 0.0)
    assert "CH-2" in down.reason


@pytest.mark.parametrize("number", [5, 3])
def test_an_opening_message_never_crosses_a_closing(number: int) -> None:
    """Clause CH-2 holds for numbers of closed channels and of gaps as well; only other messages are dropped (CH-4)."""
    wire = Wire().up()
    opened(wire, "draft", by_dialer=False)
    wire.dialer.send(5, sample(m.Open))
    wire.pump()
    wire.acceptor.refuse(5, PeerError(ErrorCode.OVERLOADED, "L-2", "no room"))
    wire.pump()
    assert wire.acceptor.receive(encode_message(number, sample(m.Close)), 0.0) == []
    (down,) = wire.acceptor.receive(encode_message(number, sample(m.Open)), 0.0)
    assert "CHANNEL_MISUSED" in down.reason and "CH-2" in down.reason


def test_roles_that_were_not_declared() -> None:
    wire = Wire(node(1, roles=(1, 2)), node(2, roles=(2, 3))).up()
    wire.dialer.send(1, sample(m.Open))
    wire.dialer.send(3, sample(m.Attach))
    with pytest.raises(LocalError, match="C-9"):
        wire.dialer.send(5, sample(m.Assign))
    wire.pump()
    wire.events[wire.acceptor].clear()
    events = wire.acceptor.receive(encode_message(5, sample(m.Assign)), 0.0)
    assert events == []
    ((channel, error),) = frames_of(wire.acceptor.data_to_send())
    assert (channel, error.code, error.clause) == (5, ErrorCode.ROLE_UNSUPPORTED, "C-9")
    assert wire.acceptor.open and wire.acceptor.channels.is_closed(5)
    assert wire.acceptor.receive(encode_message(5, sample(m.Verify)), 0.0) == []


def test_the_number_of_channels_is_bounded() -> None:
    small = replace(HELLO.limits, max_channels=2)
    wire = Wire(node(1), node(2, limits=small)).up()
    for number in (1, 3):
        assert wire.dialer.send(number, sample(m.Open)) == []
    (told,) = wire.dialer.send(5, sample(m.Open))
    assert told.channel == 5 and told.message.code == ErrorCode.OVERLOADED
    wire.pump()
    assert wire.acceptor.receive(encode_message(5, sample(m.Open)), 0.0) == []
    ((channel, error),) = frames_of(wire.acceptor.data_to_send())
    assert channel == 5 and error.code == ErrorCode.OVERLOADED and error.clause == "CH-5"
    wire.acceptor.send(1, sample(m.Opened))
    wire.acceptor.send(1, sample(m.End))
    wire.pump()
    assert wire.dialer.send(7, sample(m.Open)) == []
    wire.pump()
    assert 7 in wire.acceptor.channels.open


def test_a_message_too_long_for_the_peer_ends_its_channel_alone() -> None:
    small = replace(HELLO.limits, max_payload=1 << 16)
    wire = Wire(node(1), node(2, limits=small)).up()
    contract = replace(sample(m.Open).contract, prompt=(0,) * 30_000)
    (told,) = wire.dialer.send(1, replace(sample(m.Open), contract=contract))
    assert told.channel == 1 and told.message.code == ErrorCode.CONTEXT_TOO_LONG
    assert wire.dialer.data_to_send() == b""
    assert wire.dialer.send(3, sample(m.Open)) == []
    wire.pump()
    assert wire.acceptor.open and 3 in wire.acceptor.channels.open


@pytest.mark.parametrize("cls", FEATURE_FIELDS, ids=lambda cls: cls.__name__)
def test_fields_of_features_that_were_not_negotiated(cls: type) -> None:
    wire = Wire(node(1, features=()), node(2)).up()
    plane = SPECS[cls].plane
    number = opened(wire, plane)
    from_opener = cls is m.Verify
    speaker = wire.dialer if from_opener else wire.acceptor
    with pytest.raises(LocalError, match="C-10"):
        speaker.send(number, sample(cls, full=True))
    wire.other(speaker).receive(encode_message(number, sample(cls, full=True)), 0.0)
    ((channel, error),) = frames_of(wire.other(speaker).data_to_send())
    assert channel == number and error.clause == "C-10" and error.code == ErrorCode.MESSAGE_INVALID


# ---------------------------------------------------------------- unknown types, floods, garbage


@pytest.mark.parametrize("code", sorted(set(range(256)) - set(MESSAGES)))
def test_unknown_types_follow_parity(code: int) -> None:
    end = acceptor_in("open")
    events = end.receive(encode_frame(code, 0, b"\xa1\x02\x03"), 0.0)
    if code % 2:
        assert events == [] and end.open
    else:
        assert "MESSAGE_UNKNOWN (R-1)" in events[0].reason


def test_unknown_types_must_be_well_formed() -> None:
    for payload in (b"", b"\xf6", b"\x01", b"\xa1\x01"):
        end = acceptor_in("open")
        (down,) = end.receive(encode_frame(0xE1, 0, payload), 0.0)
        assert "CBOR_MALFORMED" in down.reason


@pytest.mark.parametrize("kind", ["grease", "ping", "status"])
def test_floods_of_cheap_frames_are_bounded(kind: str) -> None:
    frame = {
        "grease": encode_frame(0xE1, 0, b"\xa0"),
        "ping": encode_message(0, m.Ping(sequence=1)),
        "status": encode_message(0, m.StatusRequest()),
    }[kind]
    slow = acceptor_in("open")
    for second in range(3000):
        slow.receive(frame, second / 10)
    assert slow.open
    fast = acceptor_in("open")
    fast.receive(frame * (ALLOWANCE - 1), 1.0)
    assert fast.open
    events = fast.receive(frame * 2, 1.0)
    assert "FLOODED (C-11)" in events[-1].reason


def test_a_flood_of_refused_openings_is_bounded() -> None:
    end = acceptor_in("open")
    for number in range(1, 1001, 2):
        events = end.receive(encode_frame(0x20, number, b"\xa0"), 1.0)
        if end.closed:
            break
    assert "FLOODED" in events[-1].reason
    assert not end.channels.open


@settings(deadline=None, derandomize=True)
@given(st.sampled_from(STATES), st.binary(max_size=200))
def test_garbage_only_makes_events(state: str, data: bytes) -> None:
    end = acceptor_in(state)
    events = end.receive(data, 1.0)
    assert all(isinstance(event, (Received, LinkDown)) for event in events)
    frames_of(end.data_to_send())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(sorted(MESSAGES)), st.integers(0, 5), st.binary(max_size=30)), max_size=8))
def test_garbage_in_frames_only_makes_events(items: list[tuple[int, int, bytes]]) -> None:
    end = acceptor_in("open")
    for code, channel, payload in items:
        for event in end.receive(encode_frame(code, channel, payload), 1.0):
            assert isinstance(event, (Received, LinkDown))
    frames_of(end.data_to_send())


# ---------------------------------------------------------------- heartbeats and endings


def test_heartbeats() -> None:
    limits = replace(HELLO.limits, heartbeat_ms=1000)
    wire = Wire(node(1, limits=limits)).up()
    end = wire.dialer
    assert end.next_deadline() == 1.0
    assert end.tick(0.99) == [] and end.data_to_send() == b""
    assert end.tick(1.0) == []
    assert frames_of(end.data_to_send()) == [(0, m.Ping(sequence=1))]
    assert end.next_deadline() == 4.0
    assert end.tick(2.0) == [] and end.data_to_send() == b"", "one PING at a time is enough on a reliable stream"
    end.receive(encode_message(0, m.Pong(sequence=1)), 2.0)
    assert end.next_deadline() == 3.0
    end.tick(3.0)
    assert frames_of(end.data_to_send()) == [(0, m.Ping(sequence=2))]
    (down,) = end.tick(6.0)
    assert "HEARTBEAT_TIMEOUT (H-3)" in down.reason
    ((_, error),) = frames_of(end.data_to_send())
    assert error.code == ErrorCode.HEARTBEAT_TIMEOUT
    assert end.tick(9.0) == []


def test_a_pong_that_answers_nothing() -> None:
    end = acceptor_in("open")
    (down,) = end.receive(encode_message(0, m.Pong(sequence=0)), 0.0)
    assert "H-2" in down.reason


def test_status_is_answered_once_for_each_request() -> None:
    wire = Wire().up()
    wire.dialer.send(0, m.StatusRequest())
    wire.pump()
    assert wire.events[wire.acceptor] == [Received(2, 0, m.StatusRequest())]
    wire.acceptor.send(0, m.Status(document="{}"))
    wire.acceptor.send(0, m.Status(document="{}"))
    wire.pump()
    first, second = wire.events[wire.dialer]
    assert first == Received(1, 0, m.Status(document="{}"))
    assert "C-12" in second.reason


def test_closing_in_good_order() -> None:
    wire = Wire().up()
    wire.dialer.send(1, sample(m.Open))
    (down,) = wire.dialer.perform(CloseLink(1, "going home"))
    assert down == LinkDown(1, "going home")
    assert wire.dialer.send(1, sample(m.Close)) == [] and wire.dialer.close() == []
    wire.pump()
    received, left = wire.events[wire.acceptor]
    assert isinstance(received.message, m.Open) and isinstance(left, LinkDown)
    assert wire.acceptor.data_to_send() == b""


def test_a_lost_link_is_said_to_be_lost() -> None:
    wire = Wire().up()
    wire.acceptor.receive(b"\x00\x00\x05", 0.0)
    (down,) = wire.acceptor.eof()
    assert "3 bytes into a frame" in down.reason
    assert wire.acceptor.eof() == []
    (down,) = Wire().dialer.eof()
    assert "handshake" in down.reason


def test_effects_are_performed() -> None:
    wire = Wire().up()
    assert wire.dialer.perform(Send(1, 1, sample(m.Open))) == []
    wire.pump()
    fault = PeerError(ErrorCode.SESSION_EXISTS, "S-1", "seen before")
    assert wire.acceptor.perform(Refuse(2, 1, fault)) == []
    assert wire.acceptor.perform(Refuse(2, 1, fault)) == []
    wire.pump()
    (told,) = wire.events[wire.dialer]
    assert told.message == fault.reply and wire.dialer.channels.is_closed(1)
    fatal = PeerError(ErrorCode.FLOODED, "C-11", "enough", scope=Scope.CONNECTION)
    (down,) = wire.acceptor.perform(Refuse(2, 1, fatal))
    wire.pump()
    assert isinstance(down, LinkDown) and "FLOODED" in wire.events[wire.dialer][-1].reason
    assert wire.acceptor.perform(Refuse(2, 1, fatal)) == []
    with pytest.raises(LocalError):
        wire.acceptor.perform(SetTimer("key", 1.0))


@pytest.mark.parametrize("message", [m.Ping(sequence=1), m.Pong(sequence=1), m.Goodbye(reason=0), HELLO], ids=repr)
def test_some_messages_are_the_connections_own(message: Any) -> None:
    wire = Wire().up()
    with pytest.raises(LocalError, match="by the connection itself"):
        wire.dialer.send(0, message)


def test_sending_before_the_handshake_is_a_local_error() -> None:
    with pytest.raises(LocalError, match="handshake"):
        Wire().dialer.send(1, sample(m.Open))
    with pytest.raises(LocalError, match="entropy"):
        Connection(Side.DIALER, HELLO, None, b"short", 0.0)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.data())
def test_split_anywhere(data: st.DataObject) -> None:
    """The events do not depend on how the bytes were cut."""
    wire = Wire().up()
    stream = b"".join(
        [
            encode_message(1, sample(m.Open)),
            encode_frame(0xE3, 77, b"\xa0"),
            encode_message(3, sample(m.Attach)),
            encode_message(0, m.Ping(sequence=5)),
            encode_message(1, m.Close()),
            encode_message(3, m.Detach(reason=0)),
        ]
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    events = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)]):
        events += wire.acceptor.receive(stream[start:end], 0.0)
    assert [(event.channel, type(event.message)) for event in events] == [
        (1, m.Open),
        (3, m.Attach),
        (1, m.Close),
        (3, m.Detach),
    ]


def test_every_message_has_a_place_in_the_table() -> None:
    placed = {kind for row in TRANSITIONS.values() for kind in row}
    join = {cls for cls in MESSAGES.values() if SPECS[cls].plane == "join"}
    assert placed | join == set(MESSAGES.values()) and not placed & join
    assert type_of(sample(m.Join)) == 0x70
    assert len(encode_payload(HELLO)) < 65536
    assert set(ALL) == set(HELLO.roles)
