"""A testee as a subprocess: lines of JSON in, lines of JSON out, each with a time limit; started anew when it is gone.

Nothing here knows what the lines mean beyond `id`, `ok`, `error` and `unsupported`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conformance.wirelog import WireLog
from dsdproto.errors import DsdpError

MAX_LINE = 64 << 20
STDERR_LINES = 200
EXIT_SECONDS = 2.0


class DoorBroken(DsdpError):
    """The testee did not keep to the rules of the door: it ended, kept silent, or answered what is no answer."""


@dataclass(frozen=True)
class Refusal:
    """The testee refused what it was given."""

    layer: str
    code: str = ""
    clause: str = ""
    text: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.layer, self.code) if part)


@dataclass(frozen=True)
class Answer:
    """Exactly one of the three is set."""

    ok: dict[str, Any] | None = None
    refusal: Refusal | None = None
    unsupported: str | None = None


class Process:
    """One running testee at a time.

    :param command: program and arguments.
    """

    def __init__(self, command: Sequence[str], cwd: str | None = None) -> None:
        self.command = list(command)
        self.cwd = cwd
        self.starts = 0
        self.stderr: deque[str] = deque(maxlen=STDERR_LINES)
        """What the testee wrote for people, its latest lines."""
        self._child: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._number = 0
        self._lock = threading.Lock()

    def ask(self, request: dict[str, Any], seconds: float, wire: WireLog | None = None) -> Answer:
        """Send one request and wait for its answer. Starts the testee if it is not running.

        :param wire: takes both lines as they are.

        Raises :class:`DoorBroken`; the testee is ended then, and started anew by the next request.
        """
        with self._lock:
            if self._child is None:
                self._start()
            self._number += 1
            line = json.dumps({"id": self._number, **request}, separators=(",", ":")).encode() + b"\n"
            self._requests.put(line)
            if wire is not None:
                wire.asked(line)
            try:
                answer = self._answers.get(timeout=max(seconds, 0.001))
            except queue.Empty:
                self._end()
                raise DoorBroken(f"no answer to {request.get('verb')} within {seconds:.1f} s") from None
            if wire is not None and answer is not None:
                wire.answered(answer)
            try:
                if answer is None:
                    raise DoorBroken(f"the testee ended{self._how()} instead of answering {request.get('verb')}")
                return read_answer(answer, self._number)
            except DoorBroken:
                self._end()
                raise

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended since."""
        return self._child is not None and self._child.poll() is None

    def close(self) -> None:
        """End the testee: its input ends, and if it does not follow, it is killed."""
        with self._lock:
            self._end()

    # ------------------------------------------------------------ the subprocess

    def _start(self) -> None:
        try:
            child = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise DoorBroken(f"{self.command[0]} cannot be started: {error.strerror}") from error
        self._child = child
        self.starts += 1
        # Fresh queues: a thread of an earlier child can put nothing into them.
        self._answers, self._requests = queue.SimpleQueue(), queue.SimpleQueue()
        threads = (
            (self._write, (child.stdin, self._requests)),
            (self._read, (child.stdout, self._answers)),
            (self._listen, (child.stderr,)),
        )
        for target, arguments in threads:
            threading.Thread(target=target, args=arguments, daemon=True).start()

    def _write(self, pipe: Any, requests: queue.SimpleQueue[bytes | None]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while (line := requests.get()) is not None:
                pipe.write(line)
                pipe.flush()
        with contextlib.suppress(OSError):
            pipe.close()

    def _read(self, pipe: Any, answers: queue.SimpleQueue[bytes | None]) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := pipe.readline(MAX_LINE):
                answers.put(line)
        answers.put(None)

    def _listen(self, pipe: Any) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := pipe.readline(1 << 16):
                self.stderr.append(line.decode(errors="replace").rstrip("\n"))

    def _how(self) -> str:
        assert self._child is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._child.wait(EXIT_SECONDS)
            return f" with signal {-status}" if status < 0 else f" with status {status}"
        return ""

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        self._requests.put(None)
        try:
            child.wait(EXIT_SECONDS if child.poll() is None else 0)
        except subprocess.TimeoutExpired:
            # It leads a session of its own, so that whatever it started ends with it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def read_answer(line: bytes, number: int) -> Answer:
    """What a line says. Raises :class:`DoorBroken` when it is no answer to request ``number``."""
    try:
        answer = json.loads(line)
    except ValueError:
        raise DoorBroken(f"a line that is no JSON: {line[:200]!r}") from None
    if not line.endswith(b"\n"):
        raise DoorBroken("a line without an end")
    if not isinstance(answer, dict) or type(answer.get("id")) is not int:
        raise DoorBroken(f"an answer is an object with an integer `id`, not {line[:200]!r}")
    if answer["id"] != number:
        raise DoorBroken(f"an answer to request {answer['id']}, asked was {number}: answers come in order, one each")
    given = [key for key in ("ok", "error", "unsupported") if key in answer]
    if len(given) != 1 or len(answer) != 2:
        raise DoorBroken(f"an answer has `id` and exactly one of ok, error, unsupported, not {sorted(answer)}")
    body = answer[given[0]]
    if given[0] == "unsupported":
        return Answer(unsupported=str(body))
    if not isinstance(body, dict):
        raise DoorBroken(f"`{given[0]}` is an object, not {str(body)[:100]}")
    if given[0] == "ok":
        return Answer(ok=body)
    if not isinstance(body.get("layer"), str):
        raise DoorBroken(f"an error names its `layer`: {str(body)[:200]}")
    return Answer(refusal=Refusal(*(str(body.get(key, "")) for key in ("layer", "code", "clause", "text"))))
