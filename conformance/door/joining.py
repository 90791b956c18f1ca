"""The door of joining: two commands, as the people of a cluster type them. The one makes a token and answers whoever
brings it; the other brings a token and becomes a node.

Neither an authority nor a newcomer has a role or says HELLO, so this door stands beside that of the node, or alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import trio

from conformance.case import JOIN_COMMAND, TOKEN_COMMAND, Case
from conformance.door.pki import Authority
from conformance.testee import About, Door
from conformance.trial import Trial
from conformance.verdict import DOOR, Conclusion, Failed, Skipped, Unsupported
from dsdproto.errors import LocalError

START_SECONDS = 20.0
"""For the first word of a command: interpreters and compilers take their time."""
END_SECONDS = 2.0
"""Between asking a command to end and ending it."""
TOKEN_HOLE, HOME_HOLE = "{token}", "{home}"
TOKEN = re.compile(r"dsdp-join-1-[a-z2-7]+(?:-[a-z2-7]+)*", re.IGNORECASE)
KEPT_LINES = 200
SHOWN_LINES = 6
MAX_LINE = 1 << 16


class Running:
    """A command that was started: what it has said, in both of its outputs, and how it ended."""

    def __init__(self, name: str, trial: Trial, process: trio.Process) -> None:
        self.name = name
        self.trial = trial
        self.process = process
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.token = ""
        """the first token that it printed"""
        self._silent = False
        self._news = trio.Event()

    async def read(self) -> None:
        """To the end of its output; runs beside the case."""
        assert self.process.stdout is not None
        rest = b""
        async for data in self.process.stdout:
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                self._take(line)
            rest = rest[-MAX_LINE:]
        self._take(rest)
        self._silent = True
        self._tell()

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if not text:
            return
        if found := TOKEN.search(text):
            self.token = self.token or found[0]
            # A token is a secret for as long as it is good, and reports are passed around.
            text = TOKEN.sub("(a token)", text)
        self.lines.append(text)
        self.trial.wire.event(self.name, text[:400])
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def printed_token(self) -> str:
        """The token. Raises Failed where none comes."""
        with trio.move_on_after(self.trial.seconds(START_SECONDS)):
            while not self.token and not self._silent:
                await self._news.wait()
        if self.token:
            return self.token
        raise self.broken("printed no token", "a line that contains dsdp-join-1-...")

    async def status(self, seconds: float = START_SECONDS) -> int | None:
        """Its exit status, of a signal below 0; None: it still runs."""
        with trio.move_on_after(self.trial.seconds(seconds)):
            return await self.process.wait()
        return None

    def broken(self, said: str, wanted: str) -> Failed:
        """The command did not keep to the rules of this door."""
        for line in list(self.lines)[-SHOWN_LINES:]:
            self.trial.note(f"{self.name} said: {line}")
        return Failed(DOOR, f"--{self.name} {said}", wanted, "\n".join(list(self.lines)[-SHOWN_LINES:]) or "nothing")

    async def end(self) -> None:
        """With whatever it started: it leads a session of its own."""
        self._signal(signal.SIGTERM)
        with trio.move_on_after(END_SECONDS):
            await self.process.wait()
        self._signal(signal.SIGKILL)
        await self.process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


@asynccontextmanager
async def running(name: str, words: list[str], trial: Trial) -> AsyncIterator[Running]:
    """The command for as long as the block lasts. Raises Failed where it cannot be started.

    :param name: of the option, for findings.
    """
    try:
        process = await trio.lowlevel.open_process(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        said = f"--{name}: {words[0]} cannot be started: {error.strerror}"
        raise Failed(DOOR, said, "a program", "none") from error
    command = Running(name, trial, process)
    trial.wire.event(name, "started")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(command.read)
        try:
            yield command
        finally:
            with trio.CancelScope(shield=True):
                await command.end()
            nursery.cancel_scope.cancel()


def filled(command: str, **values: str) -> list[str]:
    """The words of a command as a shell would split it, `{name}` replaced in each."""
    words = shlex.split(command)
    for name, value in values.items():
        words = [word.replace(f"{{{name}}}", value) for word in words]
    return words


class JoinDoor:
    """:param token_command: makes a token, prints it, and serves it until it is used or the command is ended. Several
    of them run at one time.
    :param join_command: with ``{token}`` where the token belongs; exits with 0 if the machine became a node. Where it
    has ``{home}`` too, that is a directory of the case's own; without, one such command runs at a time, always as a
    newcomer to the same cluster.
    :param node: the door of the node itself, to which all other cases go.

    Raises LocalError for a command that cannot be used.
    """

    def __init__(self, token_command: str | None, join_command: str | None, node: Door | None = None) -> None:
        self.commands = {TOKEN_COMMAND: token_command, JOIN_COMMAND: join_command}
        self.node = node
        for name, command in self.commands.items():
            if command is None:
                continue
            try:
                words = shlex.split(command)
            except ValueError as error:
                raise LocalError(f"--{name} {command!r}: {error}") from error
            if not words:
                raise LocalError(f"--{name} needs a command")
            if name == JOIN_COMMAND and not any(TOKEN_HOLE in word for word in words):
                raise LocalError(f"--{name} {command!r} says nowhere {TOKEN_HOLE}, where the token belongs")
        self._one = trio.Lock()

    @cached_property
    def authority(self) -> Authority:
        """Of the cluster to which the suite invites newcomers."""
        return Authority.new()

    def about(self) -> About:
        given = [f"--{name} {shlex.quote(command)}" for name, command in self.commands.items() if command is not None]
        if self.node is None:
            return About("joining", "", " ".join(given))
        about = self.node.about()
        return About(about.name, about.version, " ".join([about.door, *given]), about.roles, about.supports)

    def lacks(self, case: Case) -> Conclusion | None:
        if case.joining:
            return None if self.commands[case.joining] is not None else Unsupported(f"no --{case.joining} was given")
        return self.node.lacks(case) if self.node is not None else Skipped("the case needs --exec or --dial")

    def trial(self, trial: Trial) -> AbstractContextManager[Any]:
        assert self.node is not None
        return self.node.trial(trial)

    def live_trial(self, trial: Trial) -> AbstractAsyncContextManager[Any]:
        if trial.case.joining == TOKEN_COMMAND:
            return self._as_newcomer(trial)
        if trial.case.joining == JOIN_COMMAND:
            return self._as_authority(trial)
        assert self.node is not None
        return self.node.live_trial(trial)

    @asynccontextmanager
    async def _as_newcomer(self, trial: Trial) -> AsyncIterator[Any]:
        from conformance.live.newcomer import AuthorityTestee

        command = self.commands[TOKEN_COMMAND]
        assert command is not None
        async with contextlib.AsyncExitStack() as stack:
            yield AuthorityTestee(trial, lambda: running(TOKEN_COMMAND, filled(command), trial), stack)

    @asynccontextmanager
    async def _as_authority(self, trial: Trial) -> AsyncIterator[Any]:
        from conformance.live.authority import NewcomerTestee

        command = self.commands[JOIN_COMMAND]
        assert command is not None
        own_home = HOME_HOLE in command
        async with contextlib.AsyncExitStack() as stack:
            if not own_home:
                await stack.enter_async_context(self._one)
            room = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dsdp-join-")))
            home = room / "home"
            home.mkdir(mode=0o700)

            def start(token: str) -> AbstractAsyncContextManager[Running]:
                return running(JOIN_COMMAND, filled(command, token=token, home=str(home)), trial)

            yield NewcomerTestee(trial, start, self.authority, room, home if own_home else None)

    def __enter__(self) -> JoinDoor:
        if self.node is not None:
            self.node.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self.node is not None:
            self.node.__exit__(*error)
