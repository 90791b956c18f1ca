"""What a voter stores, in this order of events, and replays after a restart (SPEC.md, clauses Q-60, Q-61).

The encoding is that of any record of the message table, but these never travel: how a store frames and checks them is
its own business.
"""

from __future__ import annotations

from dsdproto.registry import DIGEST_BYTES, MAX_GROUP, MAX_TEXT, NODE_ID_BYTES, SESSION_ID_BYTES
from dsdproto.wire.messages import MAX_PROMPT, U16, U32, Contract
from dsdproto.wire.schema import bstr, record, sub, tokens, tstr, uint


@record
class Founded:
    """A session came into being at this voter."""

    session: bytes = bstr(1, size=SESSION_ID_BYTES)
    contract: Contract = sub(2, Contract)
    group: bytes = bstr(3, min=NODE_ID_BYTES, max=MAX_GROUP * NODE_ID_BYTES)


@record
class Promised:
    """No older view counts any more. Model and profile are those of the view's leader."""

    session: bytes = bstr(1, size=SESSION_ID_BYTES)
    view: int = uint(2, max=U32)
    model: str = tstr(3, max=128)
    profile: bytes = bstr(4, size=DIGEST_BYTES)
    profile_text: str = tstr(5, max=MAX_TEXT)
    max_drafters: int = uint(6, max=U16)


@record
class Accepted:
    """The log was cut at ``position`` and went on with ``tokens``."""

    session: bytes = bstr(1, size=SESSION_ID_BYTES)
    view: int = uint(2, max=U32)
    height: int = uint(3, min=1, max=U32)
    position: int = uint(4, max=U32)
    tokens: tuple[int, ...] = tokens(5, max_items=MAX_PROMPT)
    digest: bytes = bstr(6, size=DIGEST_BYTES)
    """after the tokens"""
    committed: int = uint(7, max=U32)
    """position known to be committed when this was stored"""
    finish: int | None = uint(8, max=U16, default=None)


@record
class Committed:
    """The end of the stream is committed. (Other commit positions ride along with the next Accepted.)"""

    session: bytes = bstr(1, size=SESSION_ID_BYTES)
    height: int = uint(2, min=1, max=U32)
    position: int = uint(3, max=U32)


@record
class Forgotten:
    """The voter let go of the session: what was stored of it may be deleted, its name may not (clause Q-63)."""

    session: bytes = bstr(1, size=SESSION_ID_BYTES)


VoterRecord = Founded | Promised | Accepted | Committed | Forgotten
RECORDS: dict[int, type] = {1: Founded, 2: Promised, 3: Accepted, 4: Committed, 5: Forgotten}
"""Record classes by the number that a store may tag them with."""
