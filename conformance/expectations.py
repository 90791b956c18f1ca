"""Known failures: a TOML file that says which cases are expected to go wrong, how, and why.

    ["verify/verdict-names-deepest"]
    verdict = "FAIL"          # or "WARN" or "INCONCLUSIVE"; FAIL where it is left out
    reason = "issue 12: ties are broken by the highest id"
    revision = 1              # optional: of the case; the entry is refused when the case has another one by now

A case that goes wrong as its entry says is XFAIL. One that passes is XPASS and fails the run: the entry has to go.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from conformance.case import Case
from conformance.verdict import Outcome, Verdict
from dsdproto.errors import DsdpError

EXPECTABLE = (Verdict.FAIL, Verdict.WARN, Verdict.INCONCLUSIVE)
KEYS = {"verdict", "reason", "revision"}


class ExpectationsError(DsdpError):
    """The file cannot be used; the text says where it is wrong and what to write instead."""


@dataclass(frozen=True)
class Expectation:
    verdict: Verdict
    reason: str


def read(path: Path, cases: Iterable[Case]) -> dict[str, Expectation]:
    """Expectations by case id. Raises ExpectationsError."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ExpectationsError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExpectationsError(f"{path}: {error}") from error
    known = {case.id: case for case in cases}
    return {case_id: _entry(f"{path}: [{case_id!r}]", known.get(case_id), entry) for case_id, entry in content.items()}


def _entry(where: str, case: Case | None, entry: Any) -> Expectation:
    if case is None:
        raise ExpectationsError(f"{where}: there is no such case; `dsdp-conformance list` shows them")
    if not isinstance(entry, Mapping):
        raise ExpectationsError(f"{where}: a table belongs here, with `verdict` and `reason`")
    if unknown := sorted(entry.keys() - KEYS):
        raise ExpectationsError(f"{where}: unknown key {', '.join(unknown)}; there are {', '.join(sorted(KEYS))}")
    reason = entry.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        raise ExpectationsError(f"{where}: `reason` is missing: say why this is expected, in words")
    verdict = entry.get("verdict", "FAIL")
    if verdict not in EXPECTABLE:
        raise ExpectationsError(f"{where}: verdict {verdict!r} cannot be expected; {', '.join(EXPECTABLE)} can")
    if (revision := entry.get("revision", case.revision)) != case.revision:
        raise ExpectationsError(
            f"{where}: written for revision {revision}, the case has revision {case.revision} now: see whether it "
            f"still goes wrong, then write `revision = {case.revision}` or take the entry out"
        )
    return Expectation(Verdict(verdict), reason.strip())


def applied(outcome: Outcome, expectation: Expectation | None) -> Outcome:
    """The outcome in the light of what was expected. Verdicts that judge nothing stay as they are."""
    if expectation is None:
        return outcome
    if outcome.verdict == expectation.verdict:
        return replace(outcome, verdict=Verdict.XFAIL, reason=f"expected: {expectation.reason}")
    if outcome.verdict in (Verdict.PASS, Verdict.INFO):
        reason = f"passes, though {expectation.verdict} is expected ({expectation.reason}): take out the entry"
        return replace(outcome, verdict=Verdict.XPASS, reason=reason)
    return outcome
