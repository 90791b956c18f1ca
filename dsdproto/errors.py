"""Two kinds of failure, never mixed: what our caller did wrong, and what a peer did wrong.

A :class:`LocalError` is a bug or misuse on this side and is raised to the caller. A :class:`PeerError` says what a peer
sent that it should not have: it carries the error code, its scope, the clause of SPEC.md that was broken, the offset of
the offending byte where there is one, and the ERROR message to answer with. Decoders and machines raise it; one inbound
door per connection (:mod:`dsdproto.connection`) catches it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsdproto.registry import MAX_TEXT, ErrorCode, Scope, default_scope

if TYPE_CHECKING:
    from dsdproto.wire.messages import Error


class DsdpError(Exception):
    """Base of every error that this package raises on purpose."""


class LocalError(DsdpError):
    """This side asked for something that the protocol does not allow."""


class PeerError(DsdpError):
    """A peer broke a clause.

    :param code: registry code; decides the scope unless one is given.
    :param clause: id of the clause in SPEC.md, for example ``"F-2"``.
    :param text: what was wrong, with the values that show it.
    :param offset: byte offset in the payload, where the fault is in the bytes.
    :param message_type: type code of the message at fault, where known.
    """

    def __init__(
        self,
        code: ErrorCode,
        clause: str,
        text: str,
        *,
        scope: Scope | None = None,
        offset: int | None = None,
        message_type: int | None = None,
    ) -> None:
        super().__init__(f"{code.name} ({clause}): {text}")
        self.code = code
        self.clause = clause
        self.text = text
        self.scope = default_scope(code) if scope is None else scope
        self.offset = offset
        self.message_type = message_type

    @property
    def reply(self) -> Error:
        """The ERROR message that tells the peer."""
        from dsdproto.wire.messages import Error

        text = self.text.encode()[:MAX_TEXT].decode(errors="ignore")
        return Error(
            code=int(self.code), clause=self.clause, text=text, message_type=self.message_type, offset=self.offset
        )
