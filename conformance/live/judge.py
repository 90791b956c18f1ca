"""What holds for every frame of every testee, whatever the case is about: order, channels, roles, features."""

from __future__ import annotations

from typing import Any

from conformance.verdict import Failed
from dsdproto.channels import OPENING, Channels
from dsdproto.errors import PeerError
from dsdproto.phases import FEATURE_FIELDS
from dsdproto.registry import GREASE_TYPES, PRIVATE_TYPES, Role
from dsdproto.wire.codec import decode_message, payload_item
from dsdproto.wire.frames import Frame, encode_frame
from dsdproto.wire.messages import Error, Goodbye, Hello, Ready
from dsdproto.wire.schema import MESSAGES, SPECS


def name_of(kind: type) -> str:
    return kind.__name__.upper()


class Judge:
    """Follows one connection to the testee and keeps the first rule that it broke there.

    :param name: of this end, for what is said about the other.
    :param hello: what this end says of itself.
    :param dialer: the suite dialed (it then opens odd channels).
    """

    def __init__(self, name: str, hello: Hello, *, dialer: bool) -> None:
        self.name = name
        self.hello = hello
        self.their: Hello | None = None
        """the testee's HELLO, once it is here"""
        self.features: tuple[int, ...] = ()
        """agreed on"""
        self.channels = Channels(dialer=dialer)
        self.violation: Failed | None = None
        self.left = False
        """the testee said GOODBYE, or ERROR on channel 0"""
        self.wild: set[int] = set()
        """channels on which this side said something illegal, or may have: only decoding is judged there"""
        self._shut: set[int] = set()
        """channels that the testee closed"""
        self._opened_up = False

    def taken(self, frame: Frame) -> Any:
        """The message of a frame from the testee; None: it has to be passed over."""
        try:
            message = decode_message(frame)
            self._judge(frame, message)
        except PeerError as error:
            name = name_of(MESSAGES[frame.type]) if frame.type in MESSAGES else f"type {frame.type:#04x}"
            self._violated(error.clause, f"the testee sends a {name} that must be refused: {error.text}", frame)
            raise
        return message

    def said(self, channel: int, message: Any) -> None:
        """This side sends something legal."""
        self._follow(channel, message, mine=True)

    def _violated(self, clause: str, said: str, frame: Frame) -> None:
        if self.violation is None:
            got = encode_frame(*frame)[:64]
            self.violation = Failed(clause, f"{self.name}: {said}", "", got)

    def _judge(self, frame: Frame, message: Any) -> None:
        channel, kind = frame.channel, type(message)
        if self.left:
            self._violated("C-1", "something follows GOODBYE or the ERROR that ended the connection", frame)
            return
        if message is None:
            legal = frame.type in GREASE_TYPES or frame.type in PRIVATE_TYPES
            if not legal:
                self._violated("R-2", f"frame type {frame.type:#04x} is neither assigned, private nor grease", frame)
            elif frame.type in GREASE_TYPES and channel != 0:
                self._violated("R-10", "grease on another channel than 0", frame)
            if not self._opened_up:
                self._violated("C-4", "an unknown type before READY", frame)
            payload_item(frame)
            return
        handshake = kind in (Hello, Ready)
        if handshake == self._opened_up and not isinstance(message, Error):
            self._violated("C-4" if not handshake else "C-2", f"{name_of(kind)} is out of order", frame)
        self._opened_up |= kind is Ready
        if kind in (Goodbye, Error) and channel == 0:
            self.left = True
            return
        if kind is Error:
            self._shut.add(channel)
            self.channels.close(channel)
            return
        if (SPECS[kind].plane == "connection") != (channel == 0):
            self._violated("CH-3", f"{name_of(kind)} on channel {channel}", frame)
            return
        if channel == 0 or channel in self.wild:
            return
        if channel in self._shut:
            self._violated("CH-8", f"{name_of(kind)} on a channel that the testee has closed", frame)
            return
        if kind in OPENING:
            self.channels.check_number(channel, sender_is_me=False)
            self._judge_roles(kind, frame)
            self._follow(channel, message, mine=False)
        elif channel in self.channels.open:
            self.channels.check_message(channel, message, sender_is_me=False)
            closing = kind is self.channels.open[channel].plane.closing
            self._follow(channel, message, mine=False)
            if closing:
                self._shut.add(channel)
        elif not self.channels.is_closed(channel):
            self._violated("CH-4", f"{name_of(kind)} on channel {channel}, which was never opened", frame)
            return
        for field, feature in FEATURE_FIELDS.get(kind, ()):
            if getattr(message, field) is not None and int(feature) not in self.features:
                self._violated("C-10", f"{name_of(kind)}.{field} without the feature {feature.name}", frame)

    def _judge_roles(self, kind: type, frame: Frame) -> None:
        plane = OPENING[kind]
        for role, hello in ((plane.opener, self.their), (plane.answerer, self.hello)):
            if hello is not None and role not in hello.roles:
                self._violated(
                    "C-9", f"{name_of(kind)} where one end has not the role {Role(role).name.lower()}", frame
                )
        if self.channels.opened_by(False) >= self.hello.limits.max_channels:
            self._violated("CH-5", f"{name_of(kind)} beyond this peer's max_channels", frame)

    def _follow(self, channel: int, message: Any, *, mine: bool) -> None:
        kind = type(message)
        if kind in OPENING:
            if channel not in self.channels.open:
                self.channels.add(channel, kind, mine)
        elif channel in self.channels.open:
            self.channels.note(channel, message)
