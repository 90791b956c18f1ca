"""What a person sees: colours by origin, a progress bar, aligned figures. Colours only where they are wanted."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

RESET = "\x1b[0m"
DIM = "\x1b[2m"
BOLD = "\x1b[1m"
DRAFTER_COLOURS = ("\x1b[32m", "\x1b[36m", "\x1b[35m", "\x1b[33m", "\x1b[34m", "\x1b[31m")
"""Drafter number k has colour k - 1, round about; the target's own tokens have none."""
BAR = 24
REDRAW_SECONDS = 0.1


def colours_wanted(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """NO_COLOR (any value that is not empty) forbids, FORCE_COLOR demands; otherwise a terminal gets colours."""
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environment.get("TERM") != "dumb"


class Painter:
    """Paints text for one stream, or leaves it as it is."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.on = colours_wanted(self.stream)

    def paint(self, text: str, code: str) -> str:
        return f"{code}{text}{RESET}" if self.on and text else text

    def origin(self, text: str, number: int) -> str:
        """In the colour of drafter ``number``; 0 is the target."""
        return text if number == 0 else self.paint(text, DRAFTER_COLOURS[(number - 1) % len(DRAFTER_COLOURS)])

    def bold(self, text: str) -> str:
        return self.paint(text, BOLD)

    def dim(self, text: str) -> str:
        return self.paint(text, DIM)

    def write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


class Progress:
    """``bar(stage, done, total)`` on stderr: a bar on a terminal, one line per stage elsewhere."""

    def __init__(self, unit: str = "", stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._unit = unit
        self._stage = ""
        self._drawn = 0.0
        self._open = False

    def __call__(self, stage: str, done: int, total: int) -> None:
        new, self._stage = stage != self._stage, stage
        if not self._stream.isatty():
            if new:
                print(f"{stage} ...", file=self._stream, flush=True)
            return
        now = time.monotonic()
        if not new and done < total and now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        if new and self._open:
            self._stream.write("\n")
        share = min(done / total, 1.0) if total > 0 else 0.0
        filled = round(BAR * share)
        count = f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if total > 10_000_000 else f"{done} of {total}{self._unit}"
        self._stream.write(f"\r{stage:<12} [{'#' * filled}{'.' * (BAR - filled)}] {100 * share:3.0f} % {count}   ")
        self._stream.flush()
        self._open = True

    def finish(self) -> None:
        """End the line that the bar is on."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
        self._open = False
        self._stage = ""


def say(text: str) -> None:
    """One line about what goes on, for people: on stderr, so that it never mixes with results."""
    print(text, file=sys.stderr, flush=True)


def figures(rows: Mapping[str, Any]) -> str:
    """Aligned ``name  value`` lines."""
    width = max(map(len, rows), default=0)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Columns as wide as they need to be; the first is left-aligned, the others right-aligned."""
    cells = [tuple(map(str, row)) for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))
        )
        for row in cells
    )
