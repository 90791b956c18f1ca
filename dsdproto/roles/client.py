"""The client: opens sessions, receives committed blocks, checks that they fit together (SPEC.md, "Session plane").

One :class:`Client` is one session; :class:`Clients` holds those of a node::

    IDLE --- open() ---> OPENING --- OPENED ---> STREAMING --- END ---> ENDED
                            |                     |   ^
                            +--- ERROR, link lost-+   +----------------- OPENED --------------+
                            |                     |                                            |
                            v                     +---> INTERRUPTED --- resume(): RESUME ---> RESUMING
                          FAILED <-- `solo`; give_up() -- |    ^                               |
                                                               +------ ERROR, link lost -------+

A stream that ends without END has failed; it is never reported as complete (clause E-4). Under the `quorum` profile a
lost leader only interrupts it: the driver resumes it at any voter of the session's group (clause Q-53).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from dsdproto.effects import Deliver, Effect, Event, Key, LinkDown, Received, Refuse, Send
from dsdproto.errors import LocalError, PeerError
from dsdproto.prefix import PrefixChain
from dsdproto.registry import CommitProfile, ErrorCode, Finish, Scope
from dsdproto.session import chain_of
from dsdproto.wire.groups import split_group
from dsdproto.wire.messages import Block, Close, Contract, DrafterEntry, End, Error, Open, Opened, Resume, Stats

TARGET = 0
"""Origin of a token that is the target's own."""


class ClientState(Enum):
    IDLE = "idle"
    OPENING = "opening"
    STREAMING = "streaming"
    INTERRUPTED = "interrupted"
    RESUMING = "resuming"
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
class Interrupted:
    """The stream stopped for now; :meth:`Client.resume` at a node of ``Client.group`` goes on with it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """A voter serves the rest. Model and numeric profile are those of ``view``; the profile may have changed."""

    model: str
    profile: bytes
    profile_text: str
    view: int


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
    """Machine of one session; delivers Started, Committed, and then one of Completed and Failed.

    Under `quorum` there may be any number of Interrupted, each followed by a Resumed before the next Committed.
    """

    session: bytes
    contract: Contract
    max_drafters: int
    origins: bool
    state: ClientState = ClientState.IDLE
    drafters: dict[int, DrafterEntry] = field(default_factory=dict)
    group: tuple[bytes, ...] = ()
    """node ids of the session's voters; empty under `solo`, and before OPENED"""
    chain: PrefixChain = field(init=False)
    at: Key | None = None
    """the channel that it is served on"""

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
        self.at = (link, channel)
        message = Open(
            session=self.session, contract=self.contract, max_drafters=self.max_drafters, origins=int(self.origins)
        )
        return [Send(link, channel, message)]

    def close(self) -> list[Effect]:
        """Ask for no more; the stream ends with finish CLOSED. Nothing happens if it has ended already."""
        if self.state is ClientState.INTERRUPTED:
            return self.give_up("closed while interrupted")
        if self.over or self.at is None:
            return []
        return [Send(*self.at, Close())]

    def resume(self, link: int, channel: int) -> list[Effect]:
        """Ask the voter behind ``link``, one of ``group``, for the rest of the stream (clause Q-50)."""
        if self.state is not ClientState.INTERRUPTED:
            raise LocalError(f"resume() in state {self.state.value}: only an interrupted stream is resumed")
        self.state = ClientState.RESUMING
        self.at = (link, channel)
        message = Resume(session=self.session, position=self.chain.position, digest=self.chain.digest)
        return [Send(link, channel, message)]

    def abandon(self, reason: str) -> list[Effect]:
        """Turn away from a node that keeps silent, to resume elsewhere. Nothing happens without a `quorum` stream."""
        if not self.group or self.at is None or self.over:
            return []
        error = PeerError(ErrorCode.COMPUTE_FAILED, "Q-53", reason, scope=Scope.SESSION)
        return [Refuse(*self.at, error), *self._interrupted(reason)]

    def give_up(self, reason: str) -> list[Effect]:
        """No voter could be reached for too long: the session has failed."""
        if self.state is not ClientState.INTERRUPTED:
            return []
        self.state = ClientState.FAILED
        return [Deliver(Failed(None, "Q-53", reason))]

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event. Anything that does not fit the stream is refused and fails the session."""
        match event:
            case LinkDown() if self.at and event.link == self.at[0] and not self.over:
                return self._broken(Failed(None, "E-4", f"the link to the leader was lost: {event.reason}"))
            case Received() if (event.link, event.channel) == self.at and not self.over:
                try:
                    return self._received(event.message)
                except PeerError as error:
                    failed = Failed(int(error.code), error.clause, error.text)
                    return [Refuse(event.link, event.channel, error), *self._broken(failed)]
        return []

    def _broken(self, failed: Failed) -> list[Effect]:
        """The channel is gone: the end under `solo`, an interruption under `quorum`."""
        # A voter that knows another stream under this name will not come to know ours.
        refuted = self.state is ClientState.RESUMING and failed.code == ErrorCode.PREFIX_UNKNOWN
        if self.group and not refuted:
            return self._interrupted(failed.text)
        self.state, self.at = ClientState.FAILED, None
        return [Deliver(failed)]

    def _interrupted(self, reason: str) -> list[Effect]:
        self.state, self.at = ClientState.INTERRUPTED, None
        return [Deliver(Interrupted(reason))]

    @property
    def over(self) -> bool:
        """The session ended or failed; nothing more will come."""
        return self.state in (ClientState.ENDED, ClientState.FAILED)

    def _received(self, message: object) -> list[Effect]:
        match message:
            case Opened() if self.state in (ClientState.OPENING, ClientState.RESUMING):
                if message.position != self.chain.position:
                    raise PeerError(
                        ErrorCode.PREFIX_UNKNOWN,
                        "S-7",
                        f"OPENED at position {message.position}, this client holds {self.chain.position} tokens",
                    )
                self._check_answer(message)
                return self._opened(message)
            case Block() if self.state is ClientState.STREAMING:
                return self._block(message)
            case End() if not self.over:
                return self._end(message)
            case Error():
                return self._broken(Failed(message.code, message.clause, message.text))
        raise PeerError(
            ErrorCode.MESSAGE_UNEXPECTED,
            "S-1",
            f"{type(message).__name__} while the session is {self.state.value}",
            scope=Scope.SESSION,
        )

    def _opened(self, message: Opened) -> list[Effect]:
        first = self.state is ClientState.OPENING
        self.state = ClientState.STREAMING
        if first:
            self.group = () if message.group is None else split_group(message.group)
            return [Deliver(Started(message.model, message.profile, message.profile_text))]
        return [Deliver(Resumed(message.model, message.profile, message.profile_text, message.view or 0))]

    def _check_answer(self, opened: Opened) -> None:
        """The target must be the one that the contract names, where it names one (clause S-14)."""
        wanted, profile = self.contract.model, self.contract.profile
        if (opened.group is None) != (self.contract.commit_profile == CommitProfile.SOLO):
            text = "OPENED names a group of voters under `quorum`, and only there"
            raise PeerError(ErrorCode.MESSAGE_INVALID, "Q-1", text, scope=Scope.SESSION)
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
        self._check_end(block.tokens)
        for entry in block.drafters or ():
            self.drafters[entry.number] = entry
        self.chain.extend(block.tokens)
        return [Deliver(Committed(block.position, block.tokens, block.origins))]

    def _check_end(self, tokens: tuple[int, ...]) -> None:
        """No token follows the one that ended the stream, as far as a client can tell (clause S-9): it does not know
        the context of the target."""
        stop, length = self.contract.stop_tokens, self.chain.position - len(self.contract.prompt)
        left = self.contract.max_tokens - length
        if len(tokens) > left:
            text = f"BLOCK goes {len(tokens) - left} tokens beyond max_tokens, {self.contract.max_tokens}"
            raise PeerError(ErrorCode.ADVANCE_INVALID, "S-8", text)
        before = (self.chain.last,) if length else ()
        if stop and any(token in stop for token in (*before, *tokens[:-1])):
            text = "BLOCK holds a token behind a stop token, which ended the stream"
            raise PeerError(ErrorCode.ADVANCE_INVALID, "S-8", text)

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
    item: Started | Committed | Interrupted | Resumed | Completed | Failed


@dataclass(slots=True)
class Clients:
    """The client role of a node: any number of sessions, over any number of links."""

    sessions: dict[bytes, Client] = field(default_factory=dict)
    """by session id"""

    def open(self, client: Client, link: int, channel: int) -> list[Effect]:
        """Start ``client`` in a fresh channel."""
        self.sessions[client.session] = client
        return client.open(link, channel)

    def resume(self, session: bytes, link: int, channel: int) -> list[Effect]:
        """Go on with an interrupted session in a fresh channel; nothing happens with any other."""
        client = self.sessions.get(session)
        if client is None or client.state is not ClientState.INTERRUPTED:
            return []
        return client.resume(link, channel)

    def abandon(self, session: bytes, reason: str) -> list[Effect]:
        """Turn a session away from a node that keeps silent; unknown or ended ones are fine."""
        client = self.sessions.get(session)
        return [] if client is None else self._named(client, client.abandon(reason))

    def give_up(self, session: bytes, reason: str) -> list[Effect]:
        """Fail an interrupted session; nothing happens with any other."""
        client = self.sessions.get(session)
        return [] if client is None else self._named(client, client.give_up(reason))

    def close(self, session: bytes) -> list[Effect]:
        """Ask for no more of a session; unknown or ended ones are fine."""
        client = self.sessions.get(session)
        return [] if client is None else self._named(client, client.close())

    def handle(self, event: Event, now: float) -> list[Effect]:
        effects: list[Effect] = []
        match event:
            case LinkDown(link):
                concerned = [client for client in self.sessions.values() if client.at and client.at[0] == link]
            case Received(link, channel):
                concerned = [client for client in self.sessions.values() if client.at == (link, channel)]
            case _:
                concerned = []
        for client in concerned:
            effects += self._named(client, client.handle(event, now))
        return effects

    def _named(self, client: Client, effects: list[Effect]) -> list[Effect]:
        if client.over:
            self.sessions.pop(client.session, None)
        return [
            Deliver(SessionItem(client.session, effect.item)) if isinstance(effect, Deliver) else effect
            for effect in effects
        ]
