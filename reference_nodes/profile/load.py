"""``python -m reference_nodes.profile.load``: a process that computes one model's steps, on and off.

A child of ``dsdp profile``. It reads "on" and "off" from stdin, a line each, and says so itself once it does. It ends
when its stdin closes, so also when its parent is killed. It uses one thread, and runs in a session of its own as nodes
do: where a system shares processors out by session, the two then get what a node each would get.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import subprocess
import sys
import threading
from types import TracebackType

from reference_nodes.cli.processes import ONE_THREAD
from reference_nodes.profile.document import ProfileError
from reference_nodes.profile.loading import load_stepper

CONTEXT = 128
ROWS = {"verifier": 3, "drafter": 1}
"""What sessions mostly ask for where one machine does both."""


class Neighbour:
    """A model that computes beside us, on and off. A context manager; begins switched off."""

    def __init__(self, role: str, model: str, target: str) -> None:
        command = [sys.executable, "-m", "reference_nodes.profile.load", role, model, target]
        self.model = model
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ONE_THREAD},
            text=True,
            start_new_session=True,
        )
        self._hear("ready")

    def switch(self, on: bool) -> None:
        """Let it compute, or stand still; returns when it does. Raises :class:`ProfileError` if it has died."""
        word = "on" if on else "off"
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(word, file=self._process.stdin, flush=True)
        self._hear(word)

    def _hear(self, word: str) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != word:
            self.close()
            code = self._process.returncode
            raise ProfileError(f"the process that was to compute {self.model} beside ended (exit code {code})")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.communicate()

    def __enter__(self) -> Neighbour:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=tuple(ROWS))
    parser.add_argument("model")
    parser.add_argument("target")
    args = parser.parse_args()
    stepper = load_stepper(args.role, args.model, args.target)
    stepper.step(ROWS[args.role], 1, CONTEXT)
    print("ready", flush=True)
    words: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(words,), daemon=True).start()
    on = False
    while True:
        while not on or not words.empty():
            word = words.get()
            if not word:
                return
            on = word == "on"
            print(word, flush=True)
        stepper.step(ROWS[args.role], 1, CONTEXT)


def _read(words: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        words.put(line.strip())
    words.put("")


if __name__ == "__main__":
    main()
