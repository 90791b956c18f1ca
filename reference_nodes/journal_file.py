"""The file of a durable journal: made with care, opened by one process alone, checked before anything is believed.

Whatever is wrong with it is told as a :class:`JournalError` that names the file and says what to do.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dsdproto.identity import node_id_text
from reference_nodes.errors import NodeError
from reference_nodes.journal_mark import Mark
from reference_nodes.journal_wal import examine
from reference_nodes.paths import sync_directory

try:
    import fcntl
except ImportError:  # Windows: SQLite's own lock has to do
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("dsdp.journal")

FORMAT = 1
APPLICATION = 0x44534450
"""``DSDP``, in the file's header"""
LOG_BYTES = 4 << 20
"""size that the write-ahead log is cut back to"""

TABLES = (
    "CREATE TABLE owner (node BLOB NOT NULL)",
    "CREATE TABLE record (number INTEGER PRIMARY KEY, batch INTEGER NOT NULL, session BLOB NOT NULL, "
    "place INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL, sum BLOB NOT NULL)",
)
"""``batch`` counts the calls of append, ``place`` the records of one session."""


class JournalError(NodeError):
    """The journal cannot be used, or could not store."""

    code = "journal"


class JournalBusy(JournalError):
    """Another process has the file open."""

    code = "journal-busy"


class JournalForeign(JournalError):
    """The file belongs to another node, or is none of ours."""

    code = "journal-foreign"


class JournalDamaged(JournalError):
    """Records that were stored are gone or changed."""

    code = "journal-damaged"


def open_file(path: Path, node_id: bytes, max_bytes: int) -> tuple[sqlite3.Connection, IO[bytes], Mark]:
    """Open or make the store of the node ``node_id`` (32 bytes). Close all three to let go of it.

    Every commit is synced: write-ahead log, ``synchronous=FULL``.

    Raises :class:`JournalBusy`, :class:`JournalForeign`, :class:`JournalDamaged`, :class:`JournalError`.
    """
    with contextlib.ExitStack() as undo:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            guard = undo.enter_context(_guard(path))
            # Before SQLite: it would cut the log at a hole, and the trace would be gone.
            _check_log(path)
            _make(path)
            file = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            undo.callback(file.close)
            _set_up(file, path, node_id, max_bytes)
            mark = Mark(mark_of(path), node_id)
        undo.pop_all()
    return file, guard, mark


def _guard(path: Path) -> IO[bytes]:
    """A lock file: whoever looks at the write-ahead log must be alone before SQLite's own lock can say so."""
    guard = open(lock_of(path), "ab", opener=_private)  # noqa: SIM115  (lives as long as the journal)
    if fcntl is not None:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            guard.close()
            raise _busy(path) from None
    return guard


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _check_log(path: Path) -> None:
    found = examine(wal_of(path))
    if found.frames and not (path.exists() and path.stat().st_size):
        raise JournalDamaged(f"{path} is gone, and its write-ahead log is still there.", advice(path))
    if found.hole is not None:
        raise JournalDamaged(
            f"{wal_of(path)}, frame {found.hole}: it is damaged, and frames of later transactions stand behind it: "
            "records that were stored are lost.",
            advice(path),
        )
    if found.torn is not None:
        log.warning("%s: the last write is incomplete from frame %d on; SQLite drops it", wal_of(path), found.torn)


def _make(path: Path) -> None:
    """An empty file with mode 0600, unless it is there. SQLite gives its log the same mode."""
    # Never opened and closed where it exists: that would drop the locks that SQLite holds on it in this process.
    if path.exists():
        return
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    sync_directory(path.parent)


def _set_up(file: sqlite3.Connection, path: Path, node_id: bytes, max_bytes: int) -> None:
    # Before the first look at the log: then its index lies in our memory, and no other process gets in.
    file.execute("PRAGMA locking_mode = EXCLUSIVE")
    (application,) = file.execute("PRAGMA application_id").fetchone()
    (version,) = file.execute("PRAGMA user_version").fetchone()
    (tables,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
    fresh = tables == 0
    if not fresh and application != APPLICATION:
        raise JournalForeign(f"{path} is an SQLite file of another program.", "Move it away.")
    if not fresh and version != FORMAT:
        raise JournalForeign(f"{path} has format {version}; this program knows {FORMAT}.", "Use a newer version.")
    if fresh:
        file.execute("PRAGMA auto_vacuum = INCREMENTAL")
    file.execute("PRAGMA journal_mode = WAL")
    for name, value in (("synchronous", "FULL"), ("fullfsync", 1), ("checkpoint_fullfsync", 1)):
        file.execute(f"PRAGMA {name} = {value}")
    file.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    (page,) = file.execute("PRAGMA page_size").fetchone()
    file.execute(f"PRAGMA max_page_count = {max(max_bytes // page, 16)}")
    file.execute("BEGIN EXCLUSIVE")
    if fresh:
        for statement in TABLES:
            file.execute(statement)
        file.execute("INSERT INTO owner VALUES (?)", (node_id,))
        file.execute(f"PRAGMA application_id = {APPLICATION}")
        file.execute(f"PRAGMA user_version = {FORMAT}")
    file.execute("COMMIT")
    faults = [text for (text,) in file.execute("PRAGMA quick_check(3)")]
    if faults != ["ok"]:
        raise JournalDamaged(f"{path}: {'; '.join(faults)}.", advice(path))
    (owner,) = file.execute("SELECT node FROM owner").fetchone()
    if owner != node_id:
        raise JournalForeign(
            f"{path} holds the votes of node {node_id_text(owner)}, and this node is {node_id_text(node_id)}.",
            "Move it away if that node is gone for good.",
        )


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """What SQLite and the file system raise, as :class:`JournalError`."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise _busy(path) from error
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise JournalDamaged(f"{path}: {error}.", advice(path)) from error
        if name.startswith("SQLITE_FULL"):
            raise JournalError(f"{path} cannot grow: {error}.", "Make room on the disk.") from error
        raise JournalError(f"{path}: {error}.", "Look at the disk and the permissions of the directory.") from error
    except OSError as error:
        text = f"{path}: {error.strerror or error}."
        raise JournalError(text, "Look at the permissions of the directory.") from error


def _busy(path: Path) -> JournalBusy:
    return JournalBusy(
        f"{path} is in use: another process runs a node under this identity.",
        "End that one first, or give this one a name of its own (--name).",
    )


def advice(path: Path) -> str:
    return (
        "This node must not vote with what is left. The other voters go on without it. Give it a new identity "
        f"(`dsdp join TOKEN --name NEW`), and keep {path.parent} away from use."
    )


def lock_of(path: Path) -> Path:
    return path.with_name(path.name + "-lock")


def mark_of(path: Path) -> Path:
    """Where it stands how far the file at ``path`` has acknowledged what it stored."""
    return path.with_name(path.name + "-acked")


def wal_of(path: Path) -> Path:
    """Where SQLite keeps the write-ahead log of the file at ``path``."""
    return path.with_name(path.name + "-wal")
