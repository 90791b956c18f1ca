"""The channels of one connection: which are open, and what each end may say on them (SPEC.md, section "Channels").

A channel has one plane, fixed by the message that opened it, and two ends, the opener and the answerer, each of
which speaks for one role. One table judges both directions::

    plane     opened by   opener    answerer   answered by   closed by (besides ERROR)
    session   OPEN        client    leader     OPENED        END
    session   RESUME      client    voter      OPENED        END
    draft     ATTACH      leader    drafter    ATTACHED      DETACH
    verify    ASSIGN      leader    verifier   ASSIGNED      RELEASE
    commit    ENLIST      leader    voter      ENLISTED      DISMISS

    never opened --opening--> OPENING --answer--> OPEN --closing--> closed
                                 `------ closing, ERROR -----------^

Closed channels are not kept: a number that is not above the highest one opened on its side, and not open, is closed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dsdproto.errors import PeerError
from dsdproto.registry import ErrorCode, Role, Scope
from dsdproto.wire import messages as m
from dsdproto.wire.schema import SPECS


@dataclass(frozen=True, slots=True)
class Plane:
    name: str
    opener: Role
    answerer: Role
    opening: type
    answer: type
    closing: type


PLANES = (
    Plane("session", Role.CLIENT, Role.LEADER, m.Open, m.Opened, m.End),
    Plane("session", Role.CLIENT, Role.VOTER, m.Resume, m.Opened, m.End),
    Plane("draft", Role.LEADER, Role.DRAFTER, m.Attach, m.Attached, m.Detach),
    Plane("verify", Role.LEADER, Role.VERIFIER, m.Assign, m.Assigned, m.Release),
    Plane("commit", Role.LEADER, Role.VOTER, m.Enlist, m.Enlisted, m.Dismiss),
)
OPENING = {plane.opening: plane for plane in PLANES}


@dataclass(slots=True)
class Channel:
    plane: Plane
    mine: bool
    """opened by this side"""
    answered: bool = False


@dataclass(slots=True)
class Channels:
    """Channels of one connection, as this side sees them.

    :param dialer: this side dialed, so that it opens odd numbers and its peer even ones (clause CH-1).
    """

    dialer: bool
    open: dict[int, Channel] = field(default_factory=dict)
    _highest: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})
    """highest number opened so far: by this side, by the peer"""
    _count: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def opened_by(self, mine: bool) -> int:
        """How many channels that side opened and that are open still."""
        return self._count[mine]

    def is_mine(self, number: int) -> bool:
        """Whether the number's parity belongs to this side."""
        return (number % 2 == 1) == self.dialer

    def is_closed(self, number: int) -> bool:
        """Opened once (or skipped), and no longer open. False for channel 0."""
        return number != 0 and number not in self.open and number <= self._highest[self.is_mine(number)]

    def check_number(self, number: int, sender_is_me: bool) -> None:
        """Raises PeerError(CHANNEL_MISUSED) unless ``number`` may be opened by that side (clauses CH-1, CH-2)."""
        if number == 0:
            raise PeerError(ErrorCode.CHANNEL_MISUSED, "CH-1", "channel 0 cannot be opened")
        if self.is_mine(number) != sender_is_me:
            text = f"channel {number} opened by the wrong side: the dialer opens odd numbers, the acceptor even ones"
            raise PeerError(ErrorCode.CHANNEL_MISUSED, "CH-1", text)
        highest = self._highest[sender_is_me]
        if number <= highest:
            text = f"channel {number} opened after {highest}: numbers must increase and are never used again"
            raise PeerError(ErrorCode.CHANNEL_MISUSED, "CH-2", text)

    def use_number(self, number: int, sender_is_me: bool) -> None:
        """Mark ``number`` as used, open or not."""
        self._highest[sender_is_me] = max(number, self._highest[sender_is_me])

    def add(self, number: int, opening: type, sender_is_me: bool) -> None:
        self.use_number(number, sender_is_me)
        self.open[number] = Channel(OPENING[opening], sender_is_me)
        self._count[sender_is_me] += 1

    def check_message(self, number: int, message: Any, sender_is_me: bool) -> None:
        """Whether ``message`` is legal now on the open channel ``number``.

        Raises PeerError(MESSAGE_UNEXPECTED, session scope): wrong plane, wrong end or wrong phase (CH-6, CH-7).
        """
        channel = self.open[number]
        kind = type(message)
        if kind is m.Error:
            return
        plane = channel.plane
        spec = SPECS[kind]
        by_opener = channel.mine == sender_is_me
        speaker = plane.opener if by_opener else plane.answerer
        if spec.plane != plane.name or speaker not in spec.senders:
            end = "opener" if by_opener else "answerer"
            text = f"{kind.__name__.upper()} from the {end} of a {plane.name} channel, who is a {speaker.name.lower()}"
            raise _unexpected("CH-6", text, spec.type)
        if by_opener or kind is plane.closing:
            return
        if (kind is plane.answer) == channel.answered:
            answer = plane.answer.__name__.upper()
            text = f"a second {answer}" if channel.answered else f"{kind.__name__.upper()} before {answer}"
            raise _unexpected("CH-7", text, spec.type)

    def note(self, number: int, message: Any) -> None:
        """Follow a legal message: the channel may be answered or closed by it."""
        channel = self.open[number]
        kind = type(message)
        if kind is channel.plane.answer:
            channel.answered = True
        elif kind is channel.plane.closing or kind is m.Error:
            self.close(number)

    def close(self, number: int) -> None:
        channel = self.open.pop(number, None)
        if channel is not None:
            self._count[channel.mine] -= 1


def _unexpected(clause: str, text: str, message_type: int | None) -> PeerError:
    return PeerError(
        ErrorCode.MESSAGE_UNEXPECTED, clause, text, scope=Scope.SESSION, message_type=message_type
    )
