"""What a voter keeps on disk (SPEC.md, 16.10): one file, records in their order, synced before anything is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from dsdproto.commit.records import RECORDS
from dsdproto.registry import Role
from dsdproto.wire.codec import decode_payload, encode_payload

HEAD = 9
"""Bytes before a record: its kind, its length, its checksum."""


class Store:
    """:param directory: None keeps nothing: good enough for a node that is never started again."""

    def __init__(self, directory: Path | None) -> None:
        self.path = None if directory is None else directory / "votes"
        self._file: BinaryIO | None = None
        self._kinds = {cls: number for number, cls in RECORDS.items()}

    def records(self) -> list[Any]:
        """What was kept, oldest first. A record that was cut short at the end was not acted upon (clause Q-61)."""
        if self.path is None or not self.path.exists():
            return []
        data, at, out = self.path.read_bytes(), 0, []
        while at + HEAD <= len(data):
            kind, size = data[at], int.from_bytes(data[at + 1 : at + 5], "big")
            payload = data[at + HEAD : at + HEAD + size]
            if len(payload) < size:
                break
            if crc32(payload) != int.from_bytes(data[at + 5 : at + HEAD], "big"):
                raise OSError(f"{self.path}: damaged at byte {at}; this voter needs a new key (clause Q-62)")
            out.append(decode_payload(RECORDS[kind], payload))
            at += HEAD + size
        os.truncate(self.path, at)
        return out

    def keep(self, record: Any) -> None:
        """Returns when the record is on disk. ``record`` is (role, record); only a voter's are kept."""
        role, inner = record
        if role is not Role.VOTER or self.path is None:
            return
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
        payload = encode_payload(inner)
        head = bytes([self._kinds[type(inner)]]) + len(payload).to_bytes(4, "big") + crc32(payload).to_bytes(4, "big")
        self._file.write(head + payload)
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
