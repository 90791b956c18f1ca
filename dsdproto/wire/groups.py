"""Groups: node ids of a session's voters, one after the other in one byte string (SPEC.md, clause Q-1)."""

from __future__ import annotations

from collections.abc import Sequence

from dsdproto.registry import MAX_GROUP, NODE_ID_BYTES


def join_group(members: Sequence[bytes]) -> bytes:
    """Node ids as the wire carries them."""
    return b"".join(members)


def split_group(group: bytes) -> tuple[bytes, ...]:
    """The inverse of :func:`join_group`. Raises ValueError for what is no group (clause Q-1)."""
    members = tuple(group[at : at + NODE_ID_BYTES] for at in range(0, len(group), NODE_ID_BYTES))
    if len(group) % NODE_ID_BYTES or not 1 <= len(members) <= MAX_GROUP or len(members) % 2 == 0:
        raise ValueError(
            f"{len(group)} bytes; a group is an odd number of node ids, up to {MAX_GROUP}, of {NODE_ID_BYTES} bytes"
        )
    if len(set(members)) != len(members):
        raise ValueError("a node id is there twice; a voter counts once")
    return members
