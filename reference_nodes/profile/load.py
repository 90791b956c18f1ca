"""``python -m reference_nodes.profile.load``: a process that computes one model's steps without a pause.

A child of ``dsdp profile``: it says "ready" when it computes, and ends when its stdin closes, so also when its parent
is killed. It uses one thread.
"""

from __future__ import annotations

import argparse
import os
import signal
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
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **ONE_THREAD}, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            self.close()
            raise ProfileError(f"the process that was to run {model} beside ended with {self._process.returncode}")
        self.switch(False)

    def switch(self, on: bool) -> None:
        """Let it compute, or stand still. Raises :class:`ProfileError` if it has died."""
        if self._process.poll() is not None:
            raise ProfileError(f"the process that ran {self.model} beside ended with {self._process.returncode}")
        self._process.send_signal(signal.SIGCONT if on else signal.SIGSTOP)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
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
    ended = threading.Event()
    threading.Thread(target=_watch, args=(ended,), daemon=True).start()
    print("ready", flush=True)
    while not ended.is_set():
        stepper.step(ROWS[args.role], 1, CONTEXT)


def _watch(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


if __name__ == "__main__":
    main()
