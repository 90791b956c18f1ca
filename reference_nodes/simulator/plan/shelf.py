"""A voter's disk: the records of the sessions that it still knows, and the names of those that it let go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dsdproto.commit.records import Forgotten
from dsdproto.registry import Role

NAMES = 4096
"""Names of past sessions that are kept."""


class LedgerShelf:
    """What a voter's restart is given. Records of other roles are not kept: nobody reads them again."""

    def __init__(self) -> None:
        self._by_session: dict[bytes, list[Any]] = {}
        self._forgotten: dict[bytes, Forgotten] = {}

    def keep(self, record: tuple[Role, Any]) -> None:
        """A record is durable."""
        role, inner = record
        if role is not Role.VOTER:
            return
        if not isinstance(inner, Forgotten):
            self._by_session.setdefault(inner.session, []).append(inner)
            return
        self._by_session.pop(inner.session, None)
        self._forgotten[inner.session] = inner
        while len(self._forgotten) > NAMES:
            del self._forgotten[next(iter(self._forgotten))]

    def records(self) -> Iterator[Any]:
        """Everything, oldest first within each session."""
        yield from self._forgotten.values()
        for records in self._by_session.values():
            yield from records
