"""One link between two nodes, from the first byte to the last, with no socket in sight (SPEC.md, "Connection").

The driver owns a byte stream and a clock. It calls :meth:`Connection.receive` with what arrived,
:meth:`Connection.tick` when :meth:`Connection.next_deadline` is due, performs the role machines' effects
through :meth:`Connection.perform`, and after each call writes :meth:`Connection.data_to_send`. Events come
back: one LinkUp at most, Received for every legal message, one LinkDown at the end. Nothing that a peer
sends raises; what this side does wrong raises LocalError.

**The handshake.** Each side's stream begins with HELLO, then READY; then anything goes. One table says so for both
sides, :data:`~dsdproto.phases.TRANSITIONS`; a :class:`~dsdproto.phases.Party` walks it for what we send and another
for what we receive, and neither knows who dialed. What does depend on that is only whose turn it is. The acceptor
speaks first (C-3): in TLS 1.3 a refused dialer learns nothing from the handshake, but an acceptor's ERROR reaches it::

    dialer                      acceptor
      |  <------------- HELLO      |
      |  HELLO, READY ---------->  |     negotiated: version, features, heartbeat
      |  <------------- READY      |     READY carries the digest of both HELLOs and the outcome
      |  <--- everything else ---> |     also grease, from both

**What may be said.** On channel 0 the connection plane; on other channels what :mod:`dsdproto.channels` allows to that
end of that plane in that phase. Role machines are only shown messages that passed.

**What is wrong.** A PeerError of session scope is answered with ERROR on its channel, which is then closed;
the connection goes on. One of connection scope is answered with ERROR on channel 0, and the connection is
over. MESSAGE_INVALID and MESSAGE_UNEXPECTED on a session's channel are narrowed to that session: framing is
intact, so nobody else need suffer. Messages on a channel that is closed here crossed our closing on the
wire and are dropped.

**What costs.** Frames that make us work for nothing (PING, unknown types, status requests, faults that we
answer) draw on an allowance that refills with time; a peer that exhausts it is FLOODED out (C-11).
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from dsdproto.channels import OPENING, Channels
from dsdproto.effects import CloseLink, Effect, Event, LinkDown, LinkUp, Received, Refuse, Send
from dsdproto.errors import LocalError, PeerError
from dsdproto.grease import grease_frame, greased_hello
from dsdproto.phases import FEATURE_FIELDS, Party, State
from dsdproto.registry import (
    MAX_TEXT,
    ErrorCode,
    Scope,
    default_scope,
)
from dsdproto.versions import Negotiated, negotiate
from dsdproto.wire import messages as m
from dsdproto.wire.codec import decode_message, encode_payload, payload_item, type_of
from dsdproto.wire.frames import Frame, FrameDecoder, encode_frame
from dsdproto.wire.schema import MESSAGES, SPECS

HANDSHAKE_SECONDS = 10.0
HANDSHAKE_MAX_PAYLOAD = 1 << 16
SILENT_HEARTBEATS = 4
ALLOWANCE = 128
"""frames that make work for nothing, at once"""
REFILL_PER_SECOND = 16


class Side(Enum):
    DIALER = "dialer"
    ACCEPTOR = "acceptor"


class Connection:
    """The machine of one link.

    :param side: who dialed.
    :param hello: what this node says of itself; grease is added here.
    :param peer_id: node id of the certificate that TLS authenticated; None on plain transport, which only tests on
        loopback use: then the id in HELLO is taken as it is.
    :param entropy: at least 16 random bytes, new for every connection; decides the grease.
    :param now: seconds on any monotonic clock, as in every later call.
    :param link: the number that events carry.
    :param handshake_seconds: how long the peer may take to get to READY.
    """

    def __init__(
        self,
        side: Side,
        hello: m.Hello,
        peer_id: bytes | None,
        entropy: bytes,
        now: float,
        *,
        link: int = 0,
        handshake_seconds: float = HANDSHAKE_SECONDS,
    ) -> None:
        if len(entropy) < 16:
            raise LocalError(f"{len(entropy)} bytes of entropy; a connection needs 16 or more")
        self.side = side
        self.link = link
        self.peer: m.Hello | None = None
        self.negotiated: Negotiated | None = None
        self.channels = Channels(dialer=side is Side.DIALER)
        self.closed = False
        self._entropy = entropy
        self._peer_id = peer_id
        self._hello = hello
        self._me = Party()
        self._them = Party()
        self._out = bytearray()
        self._decoder = FrameDecoder(HANDSHAKE_MAX_PAYLOAD)
        self._deadline = now + handshake_seconds
        self._heard = now
        self._ping: int | None = None
        self._pings = 0
        self._status_asked = 0
        self._allowance = float(ALLOWANCE)
        self._refilled = now
        self._hello_payload = greased_hello(hello, entropy)
        self._peer_payload = b""
        if side is Side.ACCEPTOR:
            self._send_hello()

    # ------------------------------------------------------------ the driver's side

    @property
    def open(self) -> bool:
        """Between LinkUp and LinkDown."""
        return self.negotiated is not None and self._both(State.OPEN) and not self.closed

    def data_to_send(self) -> bytes:
        """Take the bytes that are ready to be written."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Bytes from the peer, in pieces of any size."""
        events: list[Event] = []
        if self.closed:
            return events
        if data:
            self._heard = now
        try:
            for frame in self._decoder.feed(data):
                self._frame(frame, now, events)
                if self.closed:
                    break
        except PeerError as error:
            self._fail(error, events)
        return events

    def eof(self) -> list[Event]:
        """The peer's byte stream ended. That is a lost link, never the end of a session's stream (clause E-4)."""
        if self.closed:
            return []
        if self._decoder.buffered:
            reason = f"connection lost, {self._decoder.buffered} bytes into a frame"
        else:
            reason = "connection lost" if self.open else "connection closed during the handshake"
        return self._down(reason)

    def next_deadline(self) -> float | None:
        """When :meth:`tick` is due; None when the connection is closed."""
        if self.closed:
            return None
        if not self.open:
            return self._deadline
        step = self._heartbeat()
        return self._heard + (step if self._ping is None else SILENT_HEARTBEATS * step)

    def tick(self, now: float) -> list[Event]:
        """Time passed. Early and repeated calls are harmless."""
        events: list[Event] = []
        if self.closed:
            return events
        if not self.open:
            if now >= self._deadline:
                text = f"no {self._them.expected()} within the time for the handshake"
                self._fail(PeerError(ErrorCode.HANDSHAKE_TIMEOUT, "C-5", text), events)
            return events
        silence = now - self._heard
        if silence >= SILENT_HEARTBEATS * self._heartbeat():
            text = f"nothing received for {silence:.1f} s"
            self._fail(PeerError(ErrorCode.HEARTBEAT_TIMEOUT, "H-3", text), events)
        elif silence >= self._heartbeat() and self._ping is None:
            self._pings += 1
            self._ping = self._pings & 0xFFFFFFFF
            self._emit(0, m.Ping(sequence=self._ping))
        return events

    def perform(self, effect: Effect) -> list[Event]:
        """Carry out a Send, Refuse or CloseLink effect. Raises LocalError for the others."""
        match effect:
            case Send(_, channel, message):
                return self.send(channel, message)
            case Refuse(_, channel, error):
                return self.refuse(channel, error)
            case CloseLink(_, reason):
                return self.close(reason)
        raise LocalError(f"a connection performs Send, Refuse and CloseLink, not {type(effect).__name__}")

    def send(self, channel: int, message: Any) -> list[Event]:
        """Queue a message. On a channel or connection that is closed by now nothing happens.

        Where the peer's limits forbid it, the channel ends and the returned Received(ERROR) says so, as if the peer had
        refused. Raises LocalError when the message is illegal here and now.
        """
        if self.closed or self.channels.is_closed(channel):
            return []
        if not self.open:
            raise LocalError(f"{type(message).__name__} before the handshake is over")
        kind = type(message)
        if kind in (m.Hello, m.Ready, m.Ping, m.Pong, m.Goodbye) or (kind is m.Error and channel == 0):
            raise LocalError(f"{kind.__name__} is sent by the connection itself")
        try:
            self._judge(channel, message, sender_is_me=True)
        except PeerError as error:
            raise LocalError(f"not legal on channel {channel} now: {error.text} (clause {error.clause})") from None
        assert self.peer is not None
        payload = encode_payload(message)
        if kind in OPENING and self.channels.opened_by(True) >= self.peer.limits.max_channels:
            limit = self.peer.limits.max_channels
            self.channels.use_number(channel, True)
            return self._unsendable(channel, ErrorCode.OVERLOADED, "CH-5", f"the peer takes {limit} channels at most")
        if len(payload) > self.peer.limits.max_payload:
            limit = self.peer.limits.max_payload
            text = f"{kind.__name__.upper()} of {len(payload)} bytes, the peer takes {limit} at most"
            if kind in OPENING:
                self.channels.use_number(channel, True)
            elif channel in self.channels.open:
                self._emit(channel, PeerError(ErrorCode.CONTEXT_TOO_LONG, "F-2", text).reply)
                self.channels.close(channel)
            return self._unsendable(channel, ErrorCode.CONTEXT_TOO_LONG, "F-2", text)
        self._out += encode_frame(type_of(message), channel, payload)
        self._follow(channel, message, sender_is_me=True)
        return []

    def refuse(self, channel: int, error: PeerError) -> list[Event]:
        """Tell the peer what it did wrong and end what the error's scope says."""
        events: list[Event] = []
        if self.closed:
            return events
        if error.scope is Scope.SESSION and channel != 0:
            if channel in self.channels.open:
                self._emit(channel, error.reply)
                self.channels.close(channel)
        else:
            self._fail(error, events)
        return events

    def close(self, reason: str = "closed by this side") -> list[Event]:
        """Leave in good order: GOODBYE goes out behind what is queued."""
        if self.closed:
            return []
        if self.open:
            self._emit(0, m.Goodbye(reason=0))
        return self._down(reason)

    # ------------------------------------------------------------ the inbound door

    def _frame(self, frame: Frame, now: float, events: list[Event]) -> None:
        """Everything that a peer sends passes here. Raises the PeerErrors that end the connection."""
        try:
            if not self.open and frame.type not in _HANDSHAKE_TYPES:
                text = f"frame type {frame.type:#04x} where {self._them.expected()} belongs"
                raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "C-4", text)
            if self.channels.is_closed(frame.channel):
                payload_item(frame)  # garbage stays garbage
                if MESSAGES.get(frame.type) in OPENING:
                    self.channels.check_number(frame.channel, sender_is_me=False)
                return  # crossed our closing: dropped
            message = decode_message(frame)
            if message is None:
                self._charge(now)
                return
            self._judge(frame.channel, message, sender_is_me=False)
            self._message(frame, message, now, events)
        except PeerError as error:
            if error.message_type is None:
                error.message_type = frame.type
            if not self._ends_session(frame, error):
                raise
            self._charge(now)
            self._end_session(frame.channel, error, events)

    def _ends_session(self, frame: Frame, error: PeerError) -> bool:
        """Whether an error ends no more than the session on the frame's channel.

        Raises PeerError(CHANNEL_MISUSED) when a faulty opening message also has a number that it may not have.
        """
        narrowed = error.scope is Scope.SESSION or error.code is ErrorCode.MESSAGE_INVALID
        if frame.channel in self.channels.open:
            return narrowed
        if MESSAGES.get(frame.type) not in OPENING or not narrowed:
            return False
        self.channels.check_number(frame.channel, sender_is_me=False)
        return True

    def _end_session(self, channel: int, error: PeerError, events: list[Event]) -> None:
        self._emit(channel, error.reply)
        if channel in self.channels.open:
            self.channels.close(channel)
            events.append(Received(self.link, channel, error.reply))
        else:
            self.channels.use_number(channel, sender_is_me=False)

    def _judge(self, channel: int, message: Any, *, sender_is_me: bool) -> None:
        """Whether a message is legal here and now: one rule for both directions. Raises PeerError."""
        (self._me if sender_is_me else self._them).take(message, channel)
        kind = type(message)
        spec = SPECS[kind]
        if (spec.plane == "connection") != (channel == 0) and kind is not m.Error:
            text = f"{kind.__name__.upper()} ({spec.plane} plane) on channel {channel}"
            raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "CH-3", text, message_type=spec.type)
        if channel == 0:
            return
        if kind in OPENING:
            self.channels.check_number(channel, sender_is_me)
            self._judge_opening(kind, sender_is_me)
        elif channel not in self.channels.open:
            text = f"{kind.__name__.upper()} on channel {channel}, which was never opened"
            raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "CH-4", text, message_type=spec.type)
        else:
            self.channels.check_message(channel, message, sender_is_me)
        for name, feature in FEATURE_FIELDS.get(kind, ()):
            if getattr(message, name) is not None and feature not in self._agreed().features:
                text = f"{kind.__name__}.{name} needs the feature {feature.name}, which was not negotiated"
                raise PeerError(ErrorCode.MESSAGE_INVALID, "C-10", text, message_type=spec.type)

    def _judge_opening(self, kind: type, sender_is_me: bool) -> None:
        """Roles of both ends (C-9) and, from the peer, our limit of channels (CH-5)."""
        assert self.peer is not None
        plane = OPENING[kind]
        sender, receiver = (self._hello, self.peer) if sender_is_me else (self.peer, self._hello)
        for role, hello, end in ((plane.opener, sender, "sender"), (plane.answerer, receiver, "receiver")):
            if role not in hello.roles:
                text = f"{kind.__name__.upper()}, but its {end} did not declare the role {role.name.lower()}"
                raise PeerError(ErrorCode.ROLE_UNSUPPORTED, "C-9", text)
        limit = self._hello.limits.max_channels
        if not sender_is_me and self.channels.opened_by(False) >= limit:
            raise PeerError(ErrorCode.OVERLOADED, "CH-5", f"{limit} channels are open, more are not accepted")

    def _message(self, frame: Frame, message: Any, now: float, events: list[Event]) -> None:
        if frame.channel != 0:
            self._follow(frame.channel, message, sender_is_me=False)
            events.append(Received(self.link, frame.channel, message))
            return
        match message:
            case m.Hello():
                self._peer_payload = frame.payload
                self._meet(message)
            case m.Ready():
                self._agree(message, now, events)
            case m.Ping():
                self._charge(now)
                self._emit(0, m.Pong(sequence=message.sequence))
            case m.Pong():
                if message.sequence != self._ping:
                    text = f"PONG {message.sequence} answers no PING of this side"
                    raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "H-2", text)
                self._ping = None
            case m.Goodbye():
                events += self._down(f"the peer left (reason {message.reason})")
            case m.Error():
                events += self._down(f"the peer reports {_describe(message)}")
            case m.Status():
                if not self._status_asked:
                    raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "C-12", "STATUS without STATUS_REQUEST")
                self._status_asked -= 1
                events.append(Received(self.link, 0, message))
            case m.StatusRequest():
                self._charge(now)
                events.append(Received(self.link, 0, message))

    # ------------------------------------------------------------ the handshake

    def _meet(self, peer: m.Hello) -> None:
        """HELLO came: is it who TLS says, of our cluster, and can we talk? (C-5 to C-8)"""
        if self._peer_id is not None and peer.node_id != self._peer_id:
            text = "the node id in HELLO is not that of the certificate's key"
            raise PeerError(ErrorCode.IDENTITY_MISMATCH, "C-5", text)
        if peer.node_id == self._hello.node_id:
            raise PeerError(ErrorCode.IDENTITY_MISMATCH, "C-5", "the peer has this node's own id; it dialed itself")
        if peer.cluster != self._hello.cluster:
            text = f"the peer is of cluster {peer.cluster.hex()}, this node of {self._hello.cluster.hex()}"
            raise PeerError(ErrorCode.CLUSTER_MISMATCH, "C-5", text)
        self.negotiated = negotiate(self._hello, peer)
        self.peer = peer
        if self.side is Side.DIALER:
            self._send_hello()
            self._send_ready()

    def _agree(self, ready: m.Ready, now: float, events: list[Event]) -> None:
        """READY came: both HELLOs arrived as they were sent, or somebody changed them (C-6)."""
        if ready.negotiated != self._digest():
            text = "the digests of the negotiation differ: a HELLO was changed on its way, or one side errs"
            raise PeerError(ErrorCode.NEGOTIATION_MISMATCH, "C-6", text)
        if self.side is Side.ACCEPTOR:
            self._send_ready()
        assert self.peer is not None
        self._decoder.max_payload = self._hello.limits.max_payload
        self._heard = now
        self._out += encode_frame(*grease_frame(self._entropy))
        features = frozenset(self._agreed().features)
        events.append(LinkUp(self.link, self.peer, features, self.side is Side.DIALER))

    def _send_hello(self) -> None:
        self._me.take(self._hello, 0)
        self._out += encode_frame(type_of(self._hello), 0, self._hello_payload)

    def _send_ready(self) -> None:
        ready = m.Ready(negotiated=self._digest())
        self._me.take(ready, 0)
        self._emit(0, ready)

    def _digest(self) -> bytes:
        hellos = (self._hello_payload, self._peer_payload)
        acceptor, dialer = hellos if self.side is Side.ACCEPTOR else hellos[::-1]
        return self._agreed().digest(acceptor, dialer)

    def _agreed(self) -> Negotiated:
        assert self.negotiated is not None
        return self.negotiated

    # ------------------------------------------------------------ small things

    def _both(self, state: State) -> bool:
        return self._me.state is state and self._them.state is state

    def _heartbeat(self) -> float:
        return self._agreed().heartbeat_ms / 1000

    def _emit(self, channel: int, message: Any) -> None:
        self._out += encode_frame(type_of(message), channel, encode_payload(message))

    def _follow(self, channel: int, message: Any, *, sender_is_me: bool) -> None:
        """A legal message passed: keep track of what it opens, answers and closes."""
        if type(message) in OPENING:
            self.channels.add(channel, type(message), sender_is_me)
        elif channel != 0:
            self.channels.note(channel, message)
        elif type(message) is m.StatusRequest:
            self._status_asked += 1

    def _charge(self, now: float) -> None:
        """One frame of work for nothing. Raises PeerError(FLOODED) when there were too many (C-11)."""
        gained = max(0.0, now - self._refilled) * REFILL_PER_SECOND
        self._allowance = min(float(ALLOWANCE), self._allowance + gained)
        self._refilled = now
        if self._allowance < 1:
            text = f"more than {ALLOWANCE} PING, unknown, status or faulty frames, beyond {REFILL_PER_SECOND} a second"
            raise PeerError(ErrorCode.FLOODED, "C-11", text)
        self._allowance -= 1

    def _unsendable(self, channel: int, code: ErrorCode, clause: str, text: str) -> list[Event]:
        return [Received(self.link, channel, m.Error(code=code, clause=clause, text=text[:MAX_TEXT]))]

    def _fail(self, error: PeerError, events: list[Event]) -> None:
        """The peer broke a rule that ends the connection: tell it and hang up."""
        if self._me.state is not State.DONE:
            self._emit(0, error.reply)
        events += self._down(f"this side refused the peer: {error}")

    def _down(self, reason: str) -> list[Event]:
        self.closed = True
        self._me.state = self._them.state = State.DONE
        return [LinkDown(self.link, reason)]


_HANDSHAKE_TYPES = frozenset(type_code for type_code, cls in MESSAGES.items() if cls in (m.Hello, m.Ready, m.Error))


def _describe(error: m.Error) -> str:
    try:
        name = ErrorCode(error.code).name
    except ValueError:
        name = f"error {error.code:#06x} ({default_scope(error.code).name.lower()} scope)"
    return f"{name} ({error.clause}): {error.text}"
