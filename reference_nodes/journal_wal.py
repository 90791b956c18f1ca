"""Looks at SQLite's write-ahead log before SQLite does: was the last write torn, or is there a hole in the middle?

SQLite reads its log up to the first frame whose checksum is wrong and forgets what follows. After a crash that is
right: with ``synchronous=FULL`` each transaction is synced before the next one begins, so only the last one can be
incomplete. (Whether it was acknowledged nevertheless, :mod:`reference_nodes.journal_mark` knows.) But a frame that rots
in the middle would take acknowledged records with it, without a word; for a voter that means promises broken. The two
cases differ in one thing: behind a hole there are frames of a later transaction, still in good order.

Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

HEADER = struct.Struct(">8I")
"""magic, format, page size, checkpoint number, two salts, two sums"""
FRAME = struct.Struct(">6I")
"""page number, pages after commit (0: not the last frame of its transaction), two salts, two sums"""
MAGIC_LITTLE, MAGIC_BIG = 0x377F0682, 0x377F0683
MASK = 0xFFFFFFFF

Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Findings:
    """What the log looks like. Frames are counted from 1, as in SQLite's own tools."""

    frames: int
    """in good order, from the start"""
    torn: int | None = None
    """first frame of a last transaction that is incomplete: as after a crash"""
    hole: int | None = None
    """a bad frame with good ones of later transactions behind it"""


class _Log:
    def __init__(self, data: bytes) -> None:
        self.data = data
        magic, _, size, _, *rest = HEADER.unpack_from(data)
        self.readable = magic in (MAGIC_LITTLE, MAGIC_BIG)
        self.order = ">" if magic == MAGIC_BIG else "<"
        self.salts = tuple(rest[:2])
        self.first: Sums = (rest[2], rest[3])
        # 1 stands for 65536, which does not fit.
        self.page = 65536 if size == 1 else size
        self.readable = self.readable and 512 <= self.page <= 65536 and self.sum((0, 0), 0, 24) == self.first
        self.step = FRAME.size + self.page
        self.count = (len(data) - HEADER.size) // self.step if self.readable else 0

    def sum(self, seed: Sums, begin: int, length: int) -> Sums:
        one, other = seed
        words = struct.unpack_from(f"{self.order}{length // 4}I", self.data, begin)
        for first, second in zip(words[::2], words[1::2]):
            one = (one + first + other) & MASK
            other = (other + second + one) & MASK
        return one, other

    def frame(self, number: int) -> tuple[int, tuple[int, int], Sums]:
        """(pages after commit, salts, sums) as they are written."""
        _, commit, *rest = FRAME.unpack_from(self.data, HEADER.size + number * self.step)
        return commit, (rest[0], rest[1]), (rest[2], rest[3])

    def current(self, number: int) -> bool:
        """The frame's salts are the header's: it is no leftover of an earlier round of the log."""
        return self.frame(number)[1] == self.salts

    def good(self, number: int) -> bool:
        """The frame follows from what the one before it says of itself."""
        begin = HEADER.size + number * self.step
        seed = self.first if number == 0 else self.frame(number - 1)[2]
        found = self.sum(self.sum(seed, begin, 8), begin + FRAME.size, self.page)
        return self.current(number) and found == self.frame(number)[2]


def examine(path: Path) -> Findings:
    """Read the log at ``path``; one that is not there, or empty, is in order. Raises OSError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Findings(0)
    if len(data) < HEADER.size:
        return Findings(0)
    log = _Log(data)
    bad = next((number for number in range(log.count) if not log.good(number)), log.count)
    if bad == log.count:
        done = max((number + 1 for number in range(log.count) if log.frame(number)[0]), default=0)
        partial = log.readable and len(data) > HEADER.size + done * log.step
        return Findings(bad, torn=done + 1 if partial else None)
    end = next((number for number in range(bad, log.count) if log.current(number) and log.frame(number)[0]), log.count)
    if any(log.good(number) for number in range(end + 1, log.count)):
        return Findings(bad, hole=bad + 1)
    return Findings(bad, torn=bad + 1 if any(log.current(n) for n in range(bad, log.count)) else None)
