"""What each side's stream may hold next, as one table for both sides (SPEC.md, clauses C-1 and C-2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from dsdproto.errors import PeerError
from dsdproto.registry import ErrorCode, Feature
from dsdproto.wire import messages as m
from dsdproto.wire.schema import MESSAGES, SPECS


class State(Enum):
    """What one party's stream holds next."""

    HELLO = "hello"
    READY = "ready"
    OPEN = "open"
    DONE = "done"


_TRAFFIC = tuple(
    cls for cls in MESSAGES.values() if cls not in (m.Hello, m.Ready, m.Error, m.Goodbye) and SPECS[cls].plane != "join"
)
TRANSITIONS: dict[State, dict[type, State]] = {
    State.HELLO: {m.Hello: State.READY, m.Error: State.DONE},
    State.READY: {m.Ready: State.OPEN, m.Error: State.DONE},
    # An ERROR on a session's channel leaves the party OPEN: see Party.take.
    State.OPEN: {m.Error: State.DONE, m.Goodbye: State.DONE, **dict.fromkeys(_TRAFFIC, State.OPEN)},
    State.DONE: {},
}
"""State of a party x class of a message that it sends -> its next state. What is not here is not allowed."""

FEATURE_FIELDS: dict[type, tuple[tuple[str, Feature], ...]] = {
    m.Propose: (("parents", Feature.TREES), ("scores", Feature.SCORES)),
    m.Verify: (("parents", Feature.TREES),),
    m.Block: (("origins", Feature.ORIGINS), ("drafters", Feature.ORIGINS)),
}


@dataclass(slots=True)
class Party:
    """One side's stream so far, judged by the table."""

    state: State = State.HELLO

    def take(self, message: Any, channel: int) -> None:
        """Raises PeerError(MESSAGE_UNEXPECTED) when the table has no such step."""
        kind = type(message)
        after = TRANSITIONS[self.state].get(kind)
        if after is None:
            if SPECS[kind].plane == "join":
                clause, text = "J-2", f"{kind.__name__.upper()} belongs to dsdp-join/1 connections"
            else:
                clause = "C-4"
                text = f"{kind.__name__.upper()} where {self.expected()} belongs"
            raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, clause, text, message_type=SPECS[kind].type)
        if not (kind is m.Error and channel != 0):
            self.state = after

    def expected(self) -> str:
        return {
            State.HELLO: "HELLO",
            State.READY: "READY",
            State.OPEN: "no message of the handshake",
            State.DONE: "nothing more",
        }[self.state]
