"""Processes on the machines of a LAN: what they say in JSON lines, and how they are struck."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.lan.lan import Lan

HANG = 180.0
"""Seconds after which something counts as hung; nothing is timed against it."""
TAIL_LINES = 20
LEASH = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""One that is stopped does not see the end of its stdin."""


class Died(AssertionError):
    """A process ended though nobody told it to."""


class Watch:
    """Wakes whoever waits for something that a process says."""

    def __init__(self) -> None:
        self.changed = threading.Condition()

    def until(self, condition: Callable[[], Any], what: str, seconds: float = HANG) -> Any:
        """Wait until ``condition`` holds, looked at after each line of any process; gives what it gave."""
        with self.changed:
            found = self.changed.wait_for(condition, seconds)
        assert found, f"not within {seconds:g} s: {what}"
        return found


class Process:
    """One process on one machine. It reads commands from stdin, and ends when that ends, so also when we are killed.

    :param module: what to run, as ``python -m``; :param document: its one argument, as JSON.
    """

    def __init__(self, lan: Lan, machine: str, module: str, document: dict[str, Any], watch: Watch, log: Path) -> None:
        self.machine = machine
        self.watch = watch
        self.log = log
        self.lines: list[dict[str, Any]] = []
        """what it said so far"""
        self.ended = False
        command = [*LEASH, *lan.command(machine), sys.executable, "-m", module, json.dumps(document)]
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, bufsize=1
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def said(self, event: str, since: int = 0) -> dict[str, Any] | None:
        """The first line with this event among those from number ``since`` on."""
        return next((line for line in self.lines[since:] if line["event"] == event), None)

    def expect(self, event: str, since: int = 0) -> dict[str, Any]:
        """Wait for such a line. Raises :class:`Died` when the process ends before."""

        def look() -> dict[str, Any] | None:
            found = self.said(event, since)
            if found is None and self.ended:
                raise Died(f"{self.machine} ended without {event!r}:\n{self.tail()}")
            return found

        return self.watch.until(look, f"{self.machine} says {event!r}; the end of its log:\n{self.tail()}")

    def tell(self, **command: Any) -> None:
        """Send a command: one JSON line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self._process.kill()
        self._process.wait(HANG)
        self._reader.join(HANG)

    def leave(self) -> None:
        """Let it end in good order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(HANG)
        self._reader.join(HANG)

    def stop(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """At the end of a test, in whatever state the process is."""
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert stream is not None
                stream.close()

    def tail(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines()
        return "\n".join(f"  | {line}" for line in lines[-TAIL_LINES:])

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            line = json.loads(text)
            with self.watch.changed:
                self.lines.append(line)
                self.watch.changed.notify_all()
        with self.watch.changed:
            self.ended = True
            self.watch.changed.notify_all()


def tails(processes: Sequence[Process]) -> str:
    """The ends of all logs, for a failure's message."""
    return "\n".join(f"{process.machine} (pid {process.pid}):\n{process.tail()}" for process in processes)
