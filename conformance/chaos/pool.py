"""Processes of the testee for rung 4. A node that is to crash has one of its own, which is killed with SIGKILL."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from conformance.door.pki import Authority
from conformance.door.process import DoorBroken, Process
from conformance.testee import About

RESET_SECONDS = 5.0


class Mortal(Process):
    """A process that can be killed; the next request starts it anew."""

    def kill(self) -> None:
        with self._lock:
            child, self._child = self._child, None
            if child is None:
                return
            self._requests.put(None)
            # It leads a session of its own: whatever it started dies with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@dataclass
class Pool:
    """What all cases of a run share: processes that nobody uses, and the authority of all nodes."""

    command: Sequence[str]
    cwd: str | None
    about: About
    authority: Authority = field(default_factory=Authority.new)
    idle: list[Mortal] = field(default_factory=list)
    everything: list[Mortal] = field(default_factory=list)
    _room: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix="dsdp-chaos-")
    )
    _stores: int = 0

    def take(self) -> Mortal:
        """A process without nodes; it starts with its first request."""
        # One that runs already costs nothing more.
        self.idle.sort(key=lambda process: process.running)
        if self.idle:
            return self.idle.pop()
        process = Mortal(self.command, self.cwd)
        self.everything.append(process)
        return process

    async def give(self, process: Mortal) -> None:
        """Back, to be used again: its nodes end."""
        if process.running:
            # A broken one was ended, and starts anew when it is taken.
            with contextlib.suppress(DoorBroken):
                await trio.to_thread.run_sync(process.ask, {"verb": "reset"}, RESET_SECONDS)
        self.idle.append(process)

    def store(self) -> Path:
        """A new directory for a voter."""
        self._stores += 1
        path = Path(self._room.name) / str(self._stores)
        path.mkdir()
        return path

    def close(self) -> None:
        for process in self.everything:
            process.kill()
        self._room.cleanup()
