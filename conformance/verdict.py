"""What a case can conclude, and the exceptions with which it says so.

A check raises :class:`Failed`, :class:`Unsupported`, :class:`Inconclusive`, :class:`Skipped` or :class:`Info`; a case
that returns has passed. Whatever else comes out of a case is ERROR: a defect of the suite, never charged to the testee.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """The verdict on one case. The order is that of reports."""

    PASS = "PASS"
    FAIL = "FAIL"
    """A check of a MUST case failed."""
    WARN = "WARN"
    """A check of a SHOULD or MAY case failed."""
    INFO = "INFO"
    """Nothing to judge: the case found something out."""
    UNSUPPORTED = "UNSUPPORTED"
    """The testee said that it does not offer this, as the protocol or the door lets it."""
    SKIP = "SKIP"
    """Not run, for a reason that is not the testee's."""
    XFAIL = "XFAIL"
    """Went wrong as the expectations file says that it would."""
    XPASS = "XPASS"
    """Passed although the expectations file says that it would not: the file is out of date."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """A bound of time was missed; on a slow machine that proves nothing."""
    ERROR = "ERROR"
    """The suite went wrong."""

    @property
    def ran(self) -> bool:
        """Whether the testee was judged at all."""
        return self not in (Verdict.UNSUPPORTED, Verdict.SKIP, Verdict.ERROR)


SHOWN = 2000
DOOR = "door"
"""In place of a clause id: the testee broke the rules of the door (:mod:`conformance.door`), not those of DSDP."""
FAILS_THE_RUN = frozenset({Verdict.FAIL, Verdict.XPASS, Verdict.ERROR})
"""With one of these a run does not exit with 0."""


class Conclusion(Exception):
    """Base of what a check raises to end its case."""

    verdict: Verdict


class Failed(Conclusion):
    """The testee broke ``clause``.

    :param clause: id of the clause, for example ``"V-7"``; :data:`DOOR` where it is the rules of the door.
    :param said: one sentence: what the testee was faced with, and what was wrong.
    :param wanted: what conforms. Any value that prints well; bytes are shown in hexadecimal.
    :param got: what the testee did instead.
    """

    verdict = Verdict.FAIL

    def __init__(self, clause: str, said: str, wanted: object = "", got: object = "") -> None:
        super().__init__(f"{clause}: {said}")
        self.finding = Finding(clause, said, shown(wanted), shown(got))


class Gone(Failed):
    """The testee, which was there when the run began, cannot be reached any more. The run stops behind it: what would
    come is not the testee's answer to it."""

    def __init__(self, text: str) -> None:
        super().__init__(DOOR, text, "a testee that is there", "none")

    def __str__(self) -> str:
        return self.finding.said


class Unsupported(Conclusion):
    """The testee declared that it does not offer what the case needs."""

    verdict = Verdict.UNSUPPORTED


class Inconclusive(Conclusion):
    """Something came too late, or too early, to judge."""

    verdict = Verdict.INCONCLUSIVE


class Skipped(Conclusion):
    """The case cannot be run here (a missing tool, a door without the ability)."""

    verdict = Verdict.SKIP


class Info(Conclusion):
    """The case has no judgement to give, only news."""

    verdict = Verdict.INFO


@dataclass(frozen=True)
class Finding:
    """One broken clause."""

    clause: str
    said: str
    wanted: str = ""
    got: str = ""


@dataclass
class Outcome:
    """The verdict on one case with its grounds."""

    verdict: Verdict
    reason: str = ""
    """One line: why not PASS."""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    trace: str = ""
    """Of ERROR: where the suite went wrong."""


def shown(value: Any) -> str:
    """A value as a report shows it: bytes in hexadecimal, containers as JSON, everything else as it prints; cut at 2000
    characters."""
    if isinstance(value, bytes | bytearray):
        text = value.hex()
    elif isinstance(value, dict | list | tuple):
        text = json.dumps(value, ensure_ascii=False, default=lambda inner: shown(inner))
    else:
        text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ... ({len(text)} characters)"


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions within nested groups; a nursery wraps what its tasks raise."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
