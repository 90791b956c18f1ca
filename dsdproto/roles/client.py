"""The client: opens sessions, receives committed blocks, checks that they fit together (SPEC.md, "Session plane").

One :class:`Client` is one session; :class:`Clients` holds those of a node::

    IDLE --- open() ---> OPENING --- OPENED ---> STREAMING --- END ---> ENDED
                            |                        |
                            +--- ERROR, link lost ---+--------------> FAILED

A stream that ends without END has failed; it is never reported as complete (clause E-4).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from dsdproto.effects import Deliver, Effect, Event, LinkDown, Received, Refuse, Send
from dsdproto.errors import LocalError, PeerError
from dsdproto.prefix import PrefixChain
from dsdproto.registry import ErrorCode, Finish, Scope
from dsdproto.session import chain_of
from dsdproto.wire.messages import Block, Close, Contract, DrafterEntry, End, Error, Open, Opened, Stats

TARGET = 0
"""Origin of a token that is the target's own."""


class ClientState(Enum):
    IDLE = "idle"
    OPENING = "opening"
    STREAMING = "streaming"
    ENDED = "ended"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Started:
    """The leader took the session; which model answers and with what numeric profile."""

    model: str
    profile: bytes
    profile_text: str


@dataclass(frozen=True, slots=True)
class Committed:
    """New tokens of the stream. ``origins[i]`` is 0 for the target's own, else a key of ``Client.drafters``."""

    position: int
    tokens: tuple[int, ...]
    origins: bytes | None


@dataclass(frozen=True, slots=True)
class Completed:
    finish: Finish | int
    stats: Stats | None


@dataclass(frozen=True, slots=True)
class Failed:
    """The session ended without a result: what the peer said, or that the link was lost."""

    code: int | None
    clause: str
    text: str


@dataclass(slots=True)
class Client:
    """Machine of one session; delivers Started, Committed, and then one of Completed and Failed."""

    session: bytes
    contract: Contract
    max_drafters: int
    origins: bool
    state: ClientState = ClientState.IDLE
    drafters: dict[int, DrafterEntry] = field(default_factory=dict)
    chain: PrefixChain = field(init=False)
    _at: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self.chain = chain_of(self.contract)

    @property
    def tokens(self) -> tuple[int, ...]:
        """The committed stream so far, without the prompt."""
        return self.chain.tokens_from(len(self.contract.prompt))

    def open(self, link: int, channel: int) -> list[Effect]:
        """Ask the leader behind ``link`` to run the session in a fresh ``channel``."""
        if self.state is not ClientState.IDLE:
            raise LocalError(f"open() in state {self.state.value}: a client machine runs one session, make a new one")
        self.state = ClientState.OPENING
        self._at = (link, channel)
        message = Open(
            session=self.session, contract=self.contract, max_drafters=self.max_drafters, origins=int(self.origins)
        )
        return [Send(link, channel, message)]

    def close(self) -> list[Effect]:
        """Ask for no more; the stream ends with finish CLOSED. Nothing happens if it has ended already."""
        if self.state not in (ClientState.OPENING, ClientState.STREAMING) or self._at is None:
            return []
        return [Send(*self._at, Close())]

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event. Anything that does not fit the stream is refused and fails the session."""
        match event:
            case LinkDown() if self._at and event.link == self._at[0] and not self.over:
                self.state = ClientState.FAILED
                return [Deliver(Failed(None, "E-4", f"the link to the leader was lost: {event.reason}"))]
            case Received() if (event.link, event.channel) == self._at and not self.over:
                try:
                    return self._received(event.message)
                except PeerError as error:
                    self.state = ClientState.FAILED
                    return [
                        Refuse(event.link, event.channel, error),
                        Deliver(Failed(int(error.code), error.clause, error.text)),
                    ]
        return []

    @property
    def over(self) -> bool:
        """The session ended or failed; nothing more will come."""
        return self.state in (ClientState.ENDED, ClientState.FAILED)

    def _received(self, message: object) -> list[Effect]:
        match message:
            case Opened() if self.state is ClientState.OPENING:
                if message.position != self.chain.position:
                    raise PeerError(
                        ErrorCode.PREFIX_UNKNOWN,
                        "S-7",
                        f"OPENED at position {message.position}, the prompt has {self.chain.position} tokens",
                    )
                self._check_answer(message)
                self.state = ClientState.STREAMING
                return [Deliver(Started(message.model, message.profile, message.profile_text))]
            case Block() if self.state is ClientState.STREAMING:
                return self._block(message)
            case End() if not self.over:
                return self._end(message)
            case Error():
                self.state = ClientState.FAILED
                return [Deliver(Failed(message.code, message.clause, message.text))]
        raise PeerError(
            ErrorCode.MESSAGE_UNEXPECTED,
            "S-1",
            f"{type(message).__name__} while the session is {self.state.value}",
            scope=Scope.SESSION,
        )

    def _check_answer(self, opened: Opened) -> None:
        """The target must be the one that the contract names, where it names one (clause S-14)."""
        wanted, profile = self.contract.model, self.contract.profile
        if wanted not in ("", opened.model):
            raise PeerError(
                ErrorCode.MODEL_UNAVAILABLE,
                "S-14",
                f"OPENED with model {opened.model!r}, the contract names {wanted!r}",
            )
        if profile not in (None, opened.profile):
            raise PeerError(
                ErrorCode.PROFILE_MISMATCH,
                "S-14",
                f"OPENED with profile {opened.profile.hex()[:16]}, the contract names {profile.hex()[:16]}",
            )

    def _block(self, block: Block) -> list[Effect]:
        if block.position != self.chain.position:
            raise PeerError(
                ErrorCode.ADVANCE_INVALID,
                "S-8",
                f"BLOCK at position {block.position}, the stream is at {self.chain.position}: "
                "committed tokens come in order, without gap or repetition",
            )
        if max(block.tokens) >= self.contract.vocabulary_size:
            raise PeerError(
                ErrorCode.ADVANCE_INVALID, "S-8", f"BLOCK holds id {max(block.tokens)}, outside the vocabulary"
            )
        for entry in block.drafters or ():
            self.drafters[entry.number] = entry
        self.chain.extend(block.tokens)
        return [Deliver(Committed(block.position, block.tokens, block.origins))]

    def _end(self, end: End) -> list[Effect]:
        if (end.position, end.digest) != (self.chain.position, self.chain.digest):
            raise PeerError(
                ErrorCode.ADVANCE_INVALID,
                "S-10",
                f"END names prefix {end.digest.hex()[:16]} at {end.position}, the stream received is "
                f"{self.chain.digest.hex()[:16]} at {self.chain.position}",
            )
        self.state = ClientState.ENDED
        finish = Finish(end.finish) if end.finish in Finish._value2member_map_ else end.finish
        return [Deliver(Completed(finish, end.stats))]


@dataclass(frozen=True, slots=True)
class SessionItem:
    """What one of several sessions delivers."""

    session: bytes
    item: Started | Committed | Completed | Failed


@dataclass(slots=True)
class Clients:
    """The client role of a node: any number of sessions, over any number of links."""

    sessions: dict[tuple[int, int], Client] = field(default_factory=dict)

    def open(self, client: Client, link: int, channel: int) -> list[Effect]:
        """Start ``client`` in a fresh channel."""
        self.sessions[(link, channel)] = client
        return client.open(link, channel)

    def close(self, session: bytes) -> list[Effect]:
        """Ask for no more of a session; unknown or ended ones are fine."""
        return [effect for client in self.sessions.values() if client.session == session for effect in client.close()]

    def handle(self, event: Event, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for key, client in list(self.sessions.items()):
            if (isinstance(event, LinkDown) and event.link == key[0]) or (
                isinstance(event, Received) and (event.link, event.channel) == key
            ):
                effects.extend(
                    Deliver(SessionItem(client.session, effect.item)) if isinstance(effect, Deliver) else effect
                    for effect in client.handle(event, now)
                )
                if client.over:
                    del self.sessions[key]
        return effects
