"""Starts nodes as processes of their own on this machine, listens to what they report, and always cleans up.

A child ends when it is told to, and by itself when its stdin closes: so also when we are killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from reference_nodes.errors import NodeError

READY_SECONDS = 180.0
STOP_SECONDS = 5.0
TAIL_LINES = 12
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Several processes with several threads each on few cores wait for one another most of the time."""


class ChildFailed(NodeError):
    """A child process ended, or did not do in time what it was started for. The text ends with its log."""

    code = "child-failed"


@dataclass(slots=True, eq=False)
class Child:
    """One running ``dsdp serve``."""

    name: str
    process: trio.Process
    log: Path
    ready: dict[str, Any] = field(default_factory=dict)
    """its "ready" line, once it came"""
    links: dict[str, dict[str, Any]] = field(default_factory=dict)
    """its live links by the peer's node id text"""
    ended: bool = False

    @property
    def address(self) -> str:
        return f"{self.ready['host']}:{self.ready['port']}"

    @property
    def node(self) -> str:
        """Node id as text."""
        return self.ready["node"]

    def take(self, line: dict[str, Any]) -> None:
        match line.get("event"):
            case "ready":
                self.ready = line
            case "linked":
                self.links[line["node"]] = line
            case "unlinked":
                self.links.pop(line["node"], None)

    def fault(self, text: str) -> ChildFailed:
        return ChildFailed(f"{self.name} {text}. The end of its log ({self.log}):\n{tail(self.log)}")


class Nursery:
    """The children of one command. Made by :func:`open_children`."""

    def __init__(self, home: Path, logs: Path, readers: trio.Nursery) -> None:
        self.home = home
        self.logs = logs
        self.children: list[Child] = []
        self._readers = readers
        self._changed = trio.Condition()

    async def start(self, name: str, *options: str) -> Child:
        """Start ``dsdp serve`` for the identity ``name`` with more ``options``; returns at once."""
        command = [sys.executable, "-m", "reference_nodes.cli.main", "serve", "--name", name, "--home", str(self.home)]
        command += ["--json", "--until-eof", "--log", "info", *options]
        log = self.logs / f"{name}.log"
        with log.open("ab") as file:
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={**os.environ, **ONE_THREAD},
                # Ctrl-C is for us; we tell the children.
                start_new_session=True,
            )
        child = Child(name, process, log)
        self.children.append(child)
        self._readers.start_soon(self._read, child)
        return child

    def forget(self, child: Child) -> None:
        """Its process has ended, as it was meant to."""
        self.children.remove(child)

    async def wait_unlinked(self, child: Child, others: Sequence[Child], seconds: float = READY_SECONDS) -> None:
        """Wait until ``child`` has a link to none of ``others``. Raises :class:`ChildFailed`."""
        gone = {other.node for other in others}
        await self._wait_until(lambda one: not gone & set(one.links), [child], "keeps its links", seconds)

    async def wait_ready(self, *children: Child, seconds: float = READY_SECONDS) -> None:
        """Wait until all of them serve. Raises :class:`ChildFailed`."""
        await self._wait_until(lambda child: bool(child.ready), children, "is not ready", seconds)

    async def wait_linked(self, child: Child, others: Sequence[Child], seconds: float = READY_SECONDS) -> None:
        """Wait until ``child`` has a link to each of ``others``. Raises :class:`ChildFailed`."""
        wanted = {other.node for other in others}
        missing = ", ".join(other.name for other in others)
        await self._wait_until(
            lambda one: wanted <= set(one.links), [child], f"has no link to all of {missing}", seconds
        )

    async def wait_ended(self, seconds: float) -> Child | None:
        """A child that ended, if one does so within ``seconds``."""
        with trio.move_on_after(seconds):
            async with self._changed:
                while not any(child.ended for child in self.children):
                    await self._changed.wait()
        return next((child for child in self.children if child.ended), None)

    async def _wait_until(self, done: Any, children: Sequence[Child], what: str, seconds: float) -> None:
        with trio.move_on_after(seconds):
            async with self._changed:
                while not all(map(done, children)):
                    for child in children:
                        if child.ended:
                            raise child.fault("ended")
                    await self._changed.wait()
            return
        raise next(child for child in children if not done(child)).fault(f"{what} after {seconds:g} s")

    async def _read(self, child: Child) -> None:
        """Follow a child's JSON lines until it closes its stdout."""
        assert child.process.stdout is not None
        rest = b""
        async for data in child.process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):
                    child.take(json.loads(line))
            await self._notify()
        child.ended = True
        await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def stop(self) -> None:
        """End all children: politely, then by force."""
        for child in self.children:
            if child.process.poll() is None:
                child.process.terminate()
        with trio.move_on_after(STOP_SECONDS):
            for child in self.children:
                await child.process.wait()
        for child in self.children:
            if child.process.poll() is None:
                child.process.kill()
                await child.process.wait()


@asynccontextmanager
async def open_children(home: Path, logs: Path) -> AsyncIterator[Nursery]:
    """A set of children that all end with the block.

    :param home: where their identities are; ``logs``: directory for one log file each.
    """
    fault: BaseException | None = None
    async with trio.open_nursery() as readers:
        nursery = Nursery(home, logs, readers)
        try:
            yield nursery
        except BaseException as error:
            # Raised below, outside of the readers' nursery, which would wrap it in a group.
            fault = error
        finally:
            with trio.CancelScope(shield=True):
                await nursery.stop()
            readers.cancel_scope.cancel()
    if fault is not None:
        raise fault


def tail(log: Path) -> str:
    """The last lines of a log, for an error message."""
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        return f"(cannot be read: {error})"
    return "\n".join(f"  | {line}" for line in lines[-TAIL_LINES:]) or "  (empty)"
