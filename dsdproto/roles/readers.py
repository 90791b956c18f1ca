"""Clients that resumed a stream at a voter, and what they have been sent (SPEC.md, clauses Q-50 to Q-54)."""

from __future__ import annotations

from dataclasses import dataclass, field

from dsdproto.commit.ledger import Ledger
from dsdproto.effects import Effect, Refuse, Send
from dsdproto.errors import PeerError
from dsdproto.registry import MAX_NODES, ErrorCode, Finish, Scope
from dsdproto.roles.leader_session import Key
from dsdproto.wire.groups import join_group
from dsdproto.wire.messages import Block, End, Opened, Resume

BLOCK_TOKENS = MAX_NODES + 1


@dataclass(slots=True)
class Reader:
    session: bytes
    position: int
    digest: bytes | None
    """as RESUME named it; None once it was checked and OPENED was sent"""


@dataclass(slots=True)
class Readers:
    """The clients that one voter serves."""

    at: dict[Key, Reader] = field(default_factory=dict)

    def has(self, session: bytes) -> bool:
        """Whether anyone reads this session."""
        return any(reader.session == session for reader in self.at.values())

    def resume(self, key: Key, message: Resume, ledger: Ledger) -> list[Effect]:
        """A client wants the rest of a stream. Raises PeerError(PREFIX_UNKNOWN)."""
        if message.position < len(ledger.contract.prompt):
            text = f"position {message.position} lies within the prompt of {len(ledger.contract.prompt)} tokens"
            raise PeerError(ErrorCode.PREFIX_UNKNOWN, "Q-52", text, scope=Scope.SESSION)
        self.at[key] = Reader(message.session, message.position, message.digest)
        return self._serve(key, ledger)

    def advance(self, ledger: Ledger) -> list[Effect]:
        """More of a stream is committed."""
        effects: list[Effect] = []
        for key in [key for key, reader in self.at.items() if reader.session == ledger.session]:
            try:
                effects += self._serve(key, ledger)
            except PeerError as error:
                self.at.pop(key, None)
                effects.append(Refuse(*key, error))
        return effects

    def _serve(self, key: Key, ledger: Ledger) -> list[Effect]:
        reader = self.at[key]
        effects: list[Effect] = []
        if reader.digest is not None:
            if ledger.committed < reader.position:
                return []  # the client knows more than this voter yet (clause Q-51)
            if not ledger.chain.names(reader.position, reader.digest):
                text = f"{reader.digest.hex()[:16]} at {reader.position} is not a prefix of the committed stream"
                raise PeerError(ErrorCode.PREFIX_UNKNOWN, "Q-52", text, scope=Scope.SESSION)
            reader.digest = None
            effects.append(Send(*key, self._opened(reader, ledger)))
        fresh = ledger.chain.tokens_from(reader.position)[: ledger.committed - reader.position]
        for start in range(0, len(fresh), BLOCK_TOKENS):
            part = fresh[start : start + BLOCK_TOKENS]
            effects.append(Send(*key, Block(position=reader.position, tokens=part)))
            reader.position += len(part)
        if ledger.finished:
            assert ledger.finish is not None
            digest = ledger.chain.digest_at(reader.position)
            effects.append(Send(*key, End(finish=ledger.finish, position=reader.position, digest=digest)))
            del self.at[key]
        return effects

    @staticmethod
    def _opened(reader: Reader, ledger: Ledger) -> Opened:
        return Opened(
            position=reader.position,
            model=ledger.model,
            profile=ledger.profile,
            profile_text=ledger.profile_text,
            group=join_group(ledger.group),
            view=ledger.promised,
        )

    def close(self, key: Key, ledger: Ledger) -> list[Effect]:
        """The client wants no more: its channel ends where it stands, the session does not (clause Q-54)."""
        reader = self.at.pop(key)
        digest = reader.digest or ledger.chain.digest_at(reader.position)
        return [Send(*key, End(finish=int(Finish.CLOSED), position=reader.position, digest=digest))]

    def leave(self, session: bytes, text: str) -> list[Effect]:
        """Send every reader of a session away; they may resume elsewhere, or here again."""
        keys = [key for key, reader in self.at.items() if reader.session == session]
        error = PeerError(ErrorCode.VIEW_STALE, "Q-53", text, scope=Scope.SESSION)
        for key in keys:
            del self.at[key]
        return [Refuse(*key, error) for key in keys]

    def link_down(self, link: int) -> None:
        """Forget the clients behind a lost link."""
        for key in [key for key in self.at if key[0] == link]:
            del self.at[key]

    def drop(self, key: Key) -> None:
        """Forget one client; nothing happens if there is none."""
        self.at.pop(key, None)
