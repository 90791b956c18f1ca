"""What the runner asks of a door, the thing through which a testee is reached. Doors are in :mod:`conformance.door`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from conformance.case import Case
from conformance.trial import Trial
from conformance.verdict import Conclusion


@dataclass(frozen=True)
class About:
    """The testee as reports name it. ``name`` and ``version`` are untrusted text."""

    name: str
    version: str
    door: str
    """How it was reached, as in the command: `--exec 'node testee.js'`, `--dial 127.0.0.1:7051 --role voter`."""
    roles: tuple[str, ...] = ()
    supports: tuple[str, ...] = ()


class Door(Protocol):
    """One testee for the length of a run. Used as a context manager: leaving it ends what it started."""

    def about(self) -> About: ...

    def lacks(self, case: Case) -> Conclusion | None:
        """Why a case cannot be asked here, without running it: ``Unsupported`` where the testee declared that it does
        not offer what the case needs, ``Skipped`` where this door has no way to ask. None: run it."""
        ...

    def trial(self, trial: Trial) -> AbstractContextManager[Any]:
        """What a case of rung 1 or 2 is given. It has ``trial`` and, for negative cases, ``happy_path()``, which
        raises ``Failed`` unless the testee still works: "the other channels of the connection go on as if nothing had
        been" (E-3)."""
        ...

    def live_trial(self, trial: Trial) -> AbstractAsyncContextManager[Any]:
        """What a case of rung 3 or 4 is given: the same with ``async def happy_path()``, on a fresh connection."""
        ...

    def __enter__(self) -> Door: ...

    def __exit__(self, *error: object) -> None: ...
