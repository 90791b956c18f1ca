"""How far a journal has acknowledged its writes, kept apart from it: what tells a torn write from a lost one.

Both look alike in the journal: its end is incomplete. A torn write was never acknowledged, so nobody acted on it, and
it may be dropped. A write that was acknowledged and is gone (a bad sector, a deleted file, an older copy put back) is a
broken promise (SPEC.md, clauses Q-61, Q-62). So after each sync the number of the write is noted here. The note itself
is not synced, since that would cost as much again: it outlives the process, and may lag behind after a power failure.
It says too little then, never too much.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import IO

_NUMBER = struct.Struct(">Q")
SUM_BYTES = 16


class Mark:
    """The note at ``path``, made if it is not there. Raises OSError.

    :param node_id: whose journal it is about; a note of another node counts as none.
    """

    def __init__(self, path: Path, node_id: bytes) -> None:
        self._node_id = node_id
        self._file: IO[bytes] = open(path, "r+b", buffering=0, opener=_made)  # noqa: SIM115  (lives as long as this)

    def read(self) -> int:
        """Number of the last write that is known to have been acknowledged; 0 where nothing is known."""
        self._file.seek(0)
        data = self._file.read(_NUMBER.size + SUM_BYTES)
        if len(data) < _NUMBER.size + SUM_BYTES:
            return 0
        (number,) = _NUMBER.unpack_from(data)
        return number if data == self._sealed(number) else 0

    def write(self, number: int) -> None:
        """The write with this number is on disk."""
        self._file.seek(0)
        self._file.write(self._sealed(number))

    def _sealed(self, number: int) -> bytes:
        body = _NUMBER.pack(number)
        return body + hashlib.sha256(self._node_id + body).digest()[:SUM_BYTES]

    def close(self) -> None:
        self._file.close()


def _made(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o600)
