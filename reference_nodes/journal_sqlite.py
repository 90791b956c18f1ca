"""A durable journal: records in one SQLite file, synced before they count as stored (SPEC.md, clauses Q-60 to Q-62).

::

    append(records) --> one transaction --> write-ahead log, fsync --> mark --> safe     (one call, one sync)
    load()          <-- rows in order, each with its checksum

One file for one node identity. Only one process has it open: SQLite's exclusive lock lives as long as the process.
What a crash may leave behind is the last write, incomplete and never acknowledged: SQLite does not show it, and it is
dropped, with a word about it. Anything else that is missing or wrong is :class:`JournalDamaged`, since a voter that
forgets a promise endangers what its cluster has committed: then it must not vote. That holds for the last row as for
any other, since SQLite shows only what was written whole, and for a last write that is gone although it was
acknowledged (:mod:`reference_nodes.journal_mark`).

The record classes are those of the wire's schema language, with a field ``session``; their bytes are their
deterministic CBOR. A record of the class ``forgotten`` takes the place of all others of its session (clause Q-63).
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsdproto.errors import LocalError, PeerError
from dsdproto.wire.codec import decode_payload, encode_payload
from reference_nodes.journal import Record
from reference_nodes.journal_file import JournalDamaged, JournalForeign, advice, explained, open_file, wal_of

SUM_BYTES = 16
MAX_BYTES = 1 << 30
COMPACT_AFTER = 512
MAX_FORGOTTEN = 1 << 16
SPARE_PAGES = 64
"""free pages that stay in the file for what comes next"""
Compact = Callable[[Sequence[Any]], Sequence[Any]]
"""Records of one session, in order -> fewer ones that mean the same."""


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    batch: int
    session: bytes
    place: int
    kind: str
    body: bytes
    sum: bytes

    @property
    def whole(self) -> bool:
        return self.sum == _sum(self.batch, self.session, self.place, self.kind, self.body)


def _sum(batch: int, session: bytes, place: int, kind: str, body: bytes) -> bytes:
    head = struct.pack(">QQHH", batch, place, len(session), len(kind))
    return hashlib.sha256(head + session + kind.encode() + body).digest()[:SUM_BYTES]


class SqliteJournal:
    """Opens or makes the file at ``path``. Call :meth:`load` once, then :meth:`append`.

    :param node_id: 32 bytes, whose file it is.
    :param kinds: record classes that are kept.
    :param forgotten: record class that takes the place of a session's other records.
    :param compact: makes fewer records of those of one session: when it is loaded, and when it has grown.
    :param compact_after: records of one session that make it worth while.
    :param max_forgotten: names of forgotten sessions that are kept; the oldest go first.
    :param max_bytes: how large the file may grow.

    Raises :class:`JournalBusy`, :class:`JournalForeign`, :class:`JournalDamaged`, :class:`JournalError`.
    """

    immediate = False

    def __init__(
        self,
        path: Path,
        node_id: bytes,
        kinds: Iterable[type],
        forgotten: type,
        *,
        compact: Compact | None = None,
        compact_after: int = COMPACT_AFTER,
        max_forgotten: int = MAX_FORGOTTEN,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.path = path
        self.stored = 0
        """records since it was opened"""
        self.syncs = 0
        """calls of :meth:`append`, each of which was synced once"""
        self._kinds = {kind.__name__: kind for kind in (*kinds, forgotten)}
        self._forgotten = forgotten
        self._max_forgotten = max_forgotten
        self._names: dict[bytes, None] = {}
        """forgotten sessions, oldest first"""
        self._compact = compact
        self._compact_after = compact_after
        self._places: dict[bytes, int] = {}
        self._first: dict[bytes, int] = {}
        """number of each session's first row; an index would be one page more to write with every record"""
        self._grown: dict[bytes, None] = {}
        """sessions to be compacted before the next append"""
        self._batch = 0
        self._number = 0
        self._loaded = False
        self._file, self._guard, self._mark = open_file(path, node_id, max_bytes)

    # ------------------------------------------------------------ reading

    def load(self) -> list[Any]:
        """All records that are kept, in the order in which they were stored. Raises :class:`JournalDamaged`."""
        rows = self._rows()
        records: dict[bytes, list[Any]] = {}
        ordered = []
        for row in rows:
            expected = self._places.setdefault(row.session, 0)
            self._first.setdefault(row.session, row.number)
            if row.place != expected:
                raise self._damaged(row, f"record {expected} of session {row.session.hex()} is missing before it")
            self._places[row.session] = expected + 1
            record = self._decode(row)
            if type(record) is self._forgotten:
                self._names[row.session] = None
            records.setdefault(row.session, []).append(record)
            ordered.append(record)
        last, acknowledged = max((row.batch for row in rows), default=0), self._acknowledged()
        if acknowledged > last:
            text = f"{self.path}: write {acknowledged} was acknowledged and is gone, the last one there is {last}."
            raise JournalDamaged(text, advice(self.path))
        self._batch = 1 + last
        self._number = 1 + max((row.number for row in rows), default=0)
        self._loaded = True
        fewer = self._fewer(records)
        self._rewrite(fewer)
        # The order between sessions means nothing.
        return [one for session, known in records.items() for one in fewer.get(session, known)] if fewer else ordered

    def _rows(self, which: str = "", *values: object) -> list[_Row]:
        """Rows, all with good checksums. Raises :class:`JournalDamaged`."""
        question = f"SELECT number, batch, session, place, kind, body, sum FROM record {which} ORDER BY number"
        with self._explained():
            rows = [_Row(*row) for row in self._file.execute(question, values)]
        bad = next((row for row in rows if not row.whole), None)
        if bad is not None:
            raise self._damaged(bad, "its checksum is wrong, and it was whole when it was written")
        return rows

    def _decode(self, row: _Row) -> Any:
        kind = self._kinds.get(row.kind)
        if kind is None:
            raise JournalForeign(
                f"{self.path}, row {row.number}: a record of the unknown kind {row.kind!r}.",
                "A newer version of this program has written it; use that version.",
            )
        try:
            return decode_payload(kind, row.body)
        except PeerError as error:
            raise self._damaged(row, f"its checksum is right, but it cannot be read: {error.text}") from error

    def _damaged(self, row: _Row, what: str) -> JournalDamaged:
        return JournalDamaged(f"{self.path}, row {row.number}: {what}.", advice(self.path))

    # ------------------------------------------------------------ writing

    def append(self, records: Sequence[Record]) -> None:
        """Store all of ``records`` and sync, once. From any thread, one call at a time.

        Raises :class:`JournalError`; the journal is of no use after that.
        """
        if not self._loaded:
            raise LocalError("append() before load(): the journal does not know what it holds yet")
        self._compact_grown()
        with self._explained(), self._transaction():
            for _, record in records:
                if type(record) is self._forgotten:
                    self._delete(record.session)
                    self._names[record.session] = None
                self._insert(record)
            while len(self._names) > self._max_forgotten:
                self._delete(next(iter(self._names)))
            self._batch += 1
        if records:
            with self._explained():
                self._mark.write(self._batch - 1)
        self.stored += len(records)
        self.syncs += 1
        if any(type(record) is self._forgotten for _, record in records):
            self._shrink()

    def _delete(self, session: bytes) -> None:
        first = self._first.pop(session, self._number)
        for known in (self._places, self._grown, self._names):
            known.pop(session, None)
        self._file.execute("DELETE FROM record WHERE number >= ? AND session = ?", (first, session))

    def _insert(self, record: Any) -> None:
        session, kind, body = record.session, type(record).__name__, encode_payload(record)
        if kind not in self._kinds:
            raise LocalError(f"{kind} is none of the records that this journal keeps: {', '.join(self._kinds)}")
        place = self._places.get(session, 0)
        self._places[session] = place + 1
        self._first.setdefault(session, self._number)
        if self._compact is not None and (place + 1) % self._compact_after == 0:
            self._grown[session] = None
        self._file.execute(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self._number, self._batch, session, place, kind, body, _sum(self._batch, session, place, kind, body)),
        )
        self._number += 1

    def _fewer(self, records: dict[bytes, list[Any]]) -> dict[bytes, Sequence[Any]]:
        """The sessions that need fewer records than they have, with those."""
        if self._compact is None:
            return {}
        fewer = {session: self._compact(known) for session, known in records.items()}
        # Never none: the number of the last write is that of a row.
        return {session: kept for session, kept in fewer.items() if 0 < len(kept) < len(records[session])}

    def _rewrite(self, fewer: dict[bytes, Sequence[Any]]) -> None:
        """Put other records in the place of all those of some sessions, in one transaction."""
        if not fewer:
            return
        with self._explained(), self._transaction():
            for session, kept in fewer.items():
                self._delete(session)
                for record in kept:
                    self._insert(record)
            self._batch += 1
        self._shrink()

    def _compact_grown(self) -> None:
        grown, self._grown = self._grown, {}
        for session in grown:
            rows = self._rows("WHERE number >= ? AND session = ?", self._first[session], session)
            self._rewrite(self._fewer({session: [self._decode(row) for row in rows]}))

    def _shrink(self) -> None:
        """Give free pages back to the file system."""
        with self._explained():
            (free,) = self._file.execute("PRAGMA freelist_count").fetchone()
            if free > SPARE_PAGES:
                # Each step of this statement frees one page, and execute() would take a single step.
                self._file.executescript(f"PRAGMA incremental_vacuum({free - SPARE_PAGES})")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._file.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained(self.path)

    # ------------------------------------------------------------ the rest

    @property
    def sessions(self) -> int:
        """How many sessions it holds more of than the name."""
        return len(self._places) - len(self._names)

    @property
    def size(self) -> int:
        """Bytes on disk, the write-ahead log included."""
        return sum(path.stat().st_size for path in (self.path, wal_of(self.path)) if path.exists())

    def setting(self, name: str) -> Any:
        """A pragma's value, as SQLite tells it."""
        return self._file.execute(f"PRAGMA {name}").fetchone()[0]

    def close(self) -> None:
        """Let go of the file; the write-ahead log is worked into it first."""
        self._file.close()
        self._guard.close()
        self._mark.close()

    def _acknowledged(self) -> int:
        with self._explained():
            return self._mark.read()
