"""A line for each job that a node computes: what it was, when it ran, and what the node's event loop did meanwhile.

::

    {"role": "verifier", "begin": 512.0501, "end": 512.0694, "rows": 4, "sessions": 1, "context": 96, "prefill": false,
     "messages_before": 1, "messages": 2, "loop_s": 0.0008}

Times are those of :func:`time.perf_counter`, which processes of one machine share. Between the end of a line and the
beginning of the next one of its role lies what the node itself needs; where messages came in between, perhaps waiting.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dsdproto.registry import Role
from dsdproto.roles.work import VerifyWork
from reference_nodes.errors import NodeError
from reference_nodes.executors import Executor

AT_ONCE = 64
"""Lines: writing takes time between two jobs, and that is what a trace is looked at for."""


class TraceError(NodeError):
    """A trace cannot be written, or read."""

    code = "trace"


@dataclass(frozen=True, slots=True)
class Job:
    """One line. Seconds."""

    role: str
    begin: float
    end: float
    rows: int
    """verifier: rows of the forward, 0 where it computed a prompt alone; drafter: nodes expanded"""
    sessions: int
    """that were scored, or drafted for"""
    context: int
    """length of their prefixes, added up"""
    prefill: bool
    """a piece of a prompt was computed too"""
    messages_before: int
    """taken from links since the last job of this role"""
    messages: int
    """taken from links meanwhile"""
    loop_s: float
    """processor time of the event loop meanwhile; 0 where the job ran in the loop itself, or the system cannot tell"""


class JobTrace:
    """Wraps executors so that each of their jobs leaves a line in ``path``. Make it in the event loop's thread.

    :param received: messages that the node took from links so far.

    Raises TraceError where the file cannot be written.
    """

    def __init__(self, path: Path, received: Callable[[], int]) -> None:
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise TraceError(f"cannot write the trace of jobs {path}: {error.strerror or error}.") from error
        self.received = received
        self._kept: list[Job] = []
        self.loop_clock = _clock_of_this_thread()

    def wrap(self, role: Role, executor: Executor) -> Traced:
        """The same executor, traced."""
        return Traced(role, executor, self)

    def write(self, job: Job) -> None:
        """Append a line, by and by; an executor's thread may call it, also one that the node did not wait for."""
        if self._file.closed:
            return
        self._kept.append(job)
        if len(self._kept) >= AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write the last lines."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        kept, self._kept = self._kept, []
        self._file.writelines(json.dumps(asdict(job)) + "\n" for job in kept)
        self._file.flush()


class Traced:
    """An executor whose jobs are written down."""

    def __init__(self, role: Role, inner: Executor, trace: JobTrace) -> None:
        self.inline = inner.inline
        self._role, self._inner, self._trace = role.name.lower(), inner, trace
        self._messages = 0

    def run(self, work: Any) -> Any:
        trace = self._trace
        clock = (lambda: 0.0) if self.inline else trace.loop_clock
        messages, loop, begin = trace.received(), clock(), time.perf_counter()
        done = self._inner.run(work)
        end, loop, after = time.perf_counter(), clock() - loop, trace.received()
        if isinstance(work, VerifyWork):
            items, rows, prefill = work.score, done.rows, work.prefill is not None
        else:
            items, rows, prefill = work.expand, sum(len(item.nodes) for item in work.expand), False
        trace.write(
            Job(
                role=self._role,
                begin=round(begin, 7),
                end=round(end, 7),
                rows=rows,
                sessions=len(items),
                context=sum(len(item.prefix) for item in items),
                prefill=prefill,
                messages_before=messages - self._messages,
                messages=after - messages,
                loop_s=round(loop, 7),
            )
        )
        self._messages = after
        return done


def _clock_of_this_thread() -> Callable[[], float]:
    """Processor time of the calling thread, for any thread to read; always 0 on systems that keep it to themselves."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return lambda: 0.0
    number = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(number)


def read_jobs(path: Path) -> list[Job]:
    """What :class:`JobTrace` wrote. Raises TraceError."""
    try:
        return [Job(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise TraceError(f"cannot read a trace of jobs from {path}: {type(error).__name__}: {error}") from error
