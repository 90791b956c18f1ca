"""The verb `replay`: a passive reader of what one node received and sent. What channels mean is in `following`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from conformance.examples.python.answers import to_json
from conformance.examples.python.following import Books, Commits, Draft, Follower, Ledgers, Session, Verify
from dsdproto.channels import OPENING, Channels
from dsdproto.errors import PeerError
from dsdproto.phases import FEATURE_FIELDS, Party, State
from dsdproto.registry import ErrorCode, MessageType, Scope
from dsdproto.versions import Negotiated, negotiate
from dsdproto.wire import messages as m
from dsdproto.wire.codec import decode_message, payload_item
from dsdproto.wire.frames import Frame, FrameDecoder
from dsdproto.wire.schema import MESSAGES, SPECS

HANDSHAKE_MAX = 65536
HANDSHAKE = frozenset({MessageType.HELLO, MessageType.READY, MessageType.ERROR})
FOLLOWERS: dict[type, type[Follower]] = {
    m.Open: Session,
    m.Resume: Session,
    m.Attach: Draft,
    m.Assign: Verify,
    m.Enlist: Commits,
}


@dataclass
class Violation(Exception):
    """The recorder has to refuse this frame."""

    connection: int
    channel: int
    error: PeerError


@dataclass
class End:
    """The recorder's end of one connection."""

    number: int
    dialer: bool
    peer_id: bytes
    channels: Channels = field(init=False)
    me: Party = field(default_factory=Party)
    them: Party = field(default_factory=Party)
    hellos: dict[str, tuple[m.Hello, bytes]] = field(default_factory=dict)
    negotiated: Negotiated | None = None
    closed: bool = False
    pings: list[int] = field(default_factory=list)
    status_asked: int = 0
    decoders: dict[str, FrameDecoder] = field(default_factory=dict)
    followers: dict[int, Follower] = field(default_factory=dict)
    """by number, of the channels that were taken"""

    def __post_init__(self) -> None:
        self.channels = Channels(dialer=self.dialer)
        self.decoders = {"in": FrameDecoder(HANDSHAKE_MAX), "out": FrameDecoder((1 << 24) - 1)}

    @property
    def open(self) -> bool:
        return self.me.state is State.OPEN and self.them.state is State.OPEN

    # ------------------------------------------------------------ one frame

    def judge(self, frame: Frame, mine: bool) -> tuple[str, Any]:
        """(fate, message); raises PeerError for what the receiver refuses."""
        if not self.open and frame.type not in HANDSHAKE:
            raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "C-4", "before READY")
        if self.channels.is_closed(frame.channel):
            payload_item(frame)
            return "dropped", None
        message = decode_message(frame)
        if message is None:
            return "ignored", None
        (self.me if mine else self.them).take(message, frame.channel)
        kind, spec = type(message), SPECS[type(message)]
        if (spec.plane == "connection") != (frame.channel == 0) and kind is not m.Error:
            raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "CH-3", f"{kind.__name__} on channel {frame.channel}")
        if frame.channel == 0:
            self.connection_plane(message, frame.payload, mine)
        elif kind in OPENING:
            self.opening(kind, frame.channel, mine)
        elif frame.channel not in self.channels.open:
            raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "CH-4", f"channel {frame.channel} was never opened")
        else:
            self.channels.check_message(frame.channel, message, mine)
        for name, feature in FEATURE_FIELDS.get(kind, ()):
            if getattr(message, name) is not None and feature not in self.agreed.features:
                raise PeerError(ErrorCode.MESSAGE_INVALID, "C-10", f"{name} without {feature.name}")
        return "taken", message

    @property
    def agreed(self) -> Negotiated:
        assert self.negotiated is not None
        return self.negotiated

    def opening(self, kind: type, channel: int, mine: bool) -> None:
        self.channels.check_number(channel, mine)
        plane = OPENING[kind]
        me, peer = self.hellos["out"][0], self.hellos["in"][0]
        sender, receiver = (me, peer) if mine else (peer, me)
        if plane.opener not in sender.roles or plane.answerer not in receiver.roles:
            raise PeerError(ErrorCode.ROLE_UNSUPPORTED, "C-9", f"{kind.__name__} between these nodes")
        if not mine and self.channels.opened_by(False) >= me.limits.max_channels:
            raise PeerError(ErrorCode.OVERLOADED, "CH-5", "too many channels")

    def connection_plane(self, message: Any, payload: bytes, mine: bool) -> None:
        match message:
            case m.Hello():
                self.hellos["out" if mine else "in"] = (message, payload)
                if len(self.hellos) == 2:
                    self.meet()
            case m.Ready() if not mine:
                acceptor, dialer = ("in", "out") if self.dialer else ("out", "in")
                wanted = self.agreed.digest(self.hellos[acceptor][1], self.hellos[dialer][1])
                if message.negotiated != wanted:
                    raise PeerError(ErrorCode.NEGOTIATION_MISMATCH, "C-6", "another digest")
                self.decoders["in"].max_payload = self.hellos["out"][0].limits.max_payload
            case m.Ping() if mine:
                self.pings.append(message.sequence)
            case m.Pong() if not mine:
                if message.sequence not in self.pings:
                    raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "H-2", "PONG without PING")
                self.pings.remove(message.sequence)
            case m.StatusRequest() if mine:
                self.status_asked += 1
            case m.Status() if not mine:
                if not self.status_asked:
                    raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "C-12", "STATUS without request")
                self.status_asked -= 1
            case m.Goodbye() | m.Error():
                self.lose()

    def meet(self) -> None:
        """Both HELLO are there (clauses C-5 to C-8)."""
        me, peer = self.hellos["out"][0], self.hellos["in"][0]
        if peer.node_id != self.peer_id or peer.node_id == me.node_id:
            raise PeerError(ErrorCode.IDENTITY_MISMATCH, "C-5", "another node than TLS says, or this one")
        if peer.cluster != me.cluster:
            raise PeerError(ErrorCode.CLUSTER_MISMATCH, "C-5", "another cluster")
        self.negotiated = negotiate(me, peer)

    def lose(self) -> None:
        """The connection is over, with all its channels."""
        self.closed = True
        for channel in list(self.channels.open):
            self.channels.close(channel)

    def narrow(self, frame: Frame, error: PeerError) -> int:
        """The channel that ERROR goes to: 0 unless the fault ends no more than a session."""
        session = error.scope is Scope.SESSION or error.code is ErrorCode.MESSAGE_INVALID
        fresh = MESSAGES.get(frame.type) in OPENING and frame.channel not in self.channels.open
        return frame.channel if session and (fresh or frame.channel in self.channels.open) else 0


class Reader:
    """Follows a transcript up to its end or the first violation."""

    def __init__(self, transcript: dict[str, Any]) -> None:
        self.recorder = bytes.fromhex(transcript["recorder"])
        self.ends = [
            End(number, each["side"] == "dialer", bytes.fromhex(each["peer"]))
            for number, each in enumerate(transcript["connections"])
        ]
        self.frames: list[list[Any]] = []
        self.channels: list[tuple[End, int, str, Follower]] = []
        self.contracts: dict[bytes, m.Contract] = {}
        self.books: dict[bytes, Books] = {}
        self.ledgers = Ledgers(self.recorder)
        self.violation: Violation | None = None

    def read(self, steps: list[list[Any]]) -> None:
        try:
            for connection, way, data in steps:
                self.step(self.ends[connection], way, bytes.fromhex(data))
        except Violation as violation:
            self.violation = violation

    def step(self, end: End, way: str, data: bytes) -> None:
        if way == "lost":
            end.lose()
            self.ledgers.lost(end.number)
            return
        frames = end.decoders[way].feed(data)
        while True:
            try:
                frame = next(frames, None)
            except PeerError as error:
                raise Violation(end.number, 0, error) from error
            if frame is None:
                return
            try:
                self.frame(end, way, frame)
            except PeerError as error:
                if way == "out":
                    raise ValueError(f"what the recorder sent is not in order: {error}") from error
                raise Violation(end.number, end.narrow(frame, error), error) from error

    def frame(self, end: End, way: str, frame: Frame) -> None:
        mine = way == "out"
        fate, message = end.judge(frame, mine)
        if frame.channel and message is not None:
            self.follow(end, frame.channel, message, mine)
        elif end.closed:
            self.ledgers.lost(end.number)
        name = MessageType(frame.type).name if frame.type in MESSAGES else f"0x{frame.type:02x}"
        self.frames.append([end.number, way, frame.channel, name, fate])

    def follow(self, end: End, channel: int, message: Any, mine: bool) -> None:
        opening = type(message) in OPENING
        if opening:
            follower = FOLLOWERS[type(message)](self, end.number, channel, message, mine)
        else:
            follower = end.followers[channel]
            follower.take(message, mine)
        if opening:
            end.channels.add(channel, type(message), mine)
            end.followers[channel] = follower
            self.channels.append((end, channel, "out" if mine else "in", follower))
        else:
            end.channels.note(channel, message)

    # ------------------------------------------------------------ conclusions

    def conclusions(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "frames": self.frames,
            "connections": [self.connection(end) for end in self.ends],
            "channels": [self.channel(*each) for each in self.channels],
            "books": [books.conclusion for books in self.books.values()],
        }
        if self.violation is not None:
            error, channel = self.violation.error, self.violation.channel
            out["violation"] = {
                "frame": len(self.frames),
                "connection": self.violation.connection,
                "channel": channel,
                "code": error.code.name,
                "scope": "session" if channel else "connection",
                "clause": error.clause,
            }
        return out

    @staticmethod
    def connection(end: End) -> dict[str, Any]:
        out: dict[str, Any] = {"state": "closed" if end.closed else "open" if end.open else "handshake"}
        if end.negotiated is not None:
            out |= {
                "version": end.negotiated.version,
                "features": to_json(end.negotiated.features),
                "heartbeat_ms": end.negotiated.heartbeat_ms,
                "roles": to_json(end.hellos["in"][0].roles),
            }
        return out

    @staticmethod
    def channel(end: End, number: int, opened_by: str, follower: Follower) -> dict[str, Any]:
        there = end.followers[number] is follower and end.channels.open.get(number)
        state = "closed" if not there else "answered" if there.answered else "opening"
        first = {"connection": end.number, "channel": number, "opened_by": opened_by, "state": state}
        return first | {"plane": follower.plane, **follower.conclusion}


def replay(transcript: dict[str, Any]) -> dict[str, Any]:
    reader = Reader(transcript)
    reader.read(transcript["steps"])
    return reader.conclusions()
