"""Runs mutants, odd nodes and controls, several at a time, and puts together what came out."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace

from conformance.clauses import document
from conformance.mutants.kinds import CHAOS, EXEC, Mutant, Odd
from conformance.mutants.results import FATAL, Control, Kill, OddResult, SelfTest
from conformance.mutants.table import MUTANTS, ODD
from conformance.mutants.trial_runs import PROBES, Answer, Order, carry_out
from dsdproto.errors import DsdpError

WRONG = ("FAIL", "XPASS", "ERROR", "INCONCLUSIVE")
"""With one of these an odd node did not pass. It may depart from a SHOULD: that is what makes some of them odd."""
MUTANT_PATIENCE = 0.5
"""Most mutants are killed by what does not come, and it is waited for in full. A case that passes waits for little."""
CASES_AT_ONCE = 8

Tell = Callable[[str], None]


class UnknownName(DsdpError):
    """A mutant or odd node that there is none of; says which come near."""


def select(names: Sequence[str]) -> tuple[list[Mutant], list[Odd]]:
    """By name; none: all of them. Raises UnknownName."""
    if not names:
        return list(MUTANTS.values()), list(ODD.values())
    for name in names:
        if name not in MUTANTS and name not in ODD:
            alike = [other for other in (*MUTANTS, *ODD) if other.partition("-")[0] == name.partition("-")[0]]
            there = ", ".join(alike) or "see `dsdp-conformance selftest --list`"
            raise UnknownName(f"there is no mutant or odd node {name!r}; there is {there}")
    return [MUTANTS[name] for name in names if name in MUTANTS], [ODD[name] for name in names if name in ODD]


def selftest(
    names: Sequence[str] = (),
    *,
    version: str,
    seed: int,
    jobs: int,
    patience: float = 1.0,
    tell: Tell = lambda line: None,
) -> SelfTest:
    """Every mutant against its cases, every odd node against its role's, the unchanged nodes against all of them.

    :param jobs: testees at one time.
    :param tell: takes a line for each that is done.

    Raises UnknownName.
    """
    begin = time.monotonic()
    mutants, odd = select(names)
    orders: dict[tuple[str, str], Order] = {}
    for each in odd:  # these take longest, so they begin first
        orders["odd", each.name] = Order(
            each.name, each.role, each.besides, each.arguments, each.cases, seed, patience, CASES_AT_ONCE
        )
    for kind, order in controls(mutants, seed, patience):
        orders["control", kind] = order
    for each in mutants:
        orders["mutant", each.name] = _order(each, seed, patience)
    answers: dict[tuple[str, str], Answer] = {}
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(carry_out, order): key for key, order in orders.items()}
        for done in as_completed(waiting):
            key = waiting[done]
            answers[key] = done.result()
            tell(_line(key, answers[key], len(answers), len(orders)))
        again = {
            pool.submit(carry_out, replace(orders["mutant", each.name], ids=(), patience=patience)): each.name
            for each in mutants
            if each.role not in (EXEC, CHAOS) and _survives(each, answers["mutant", each.name])
        }
        for done in as_completed(again):
            answers["all", again[done]] = done.result()
            tell(f"{again[done]} lives: the whole suite of its role was asked")
    kills = [_kill(each, answers["mutant", each.name], answers.get(("all", each.name))) for each in mutants]
    odd_nodes = [_odd(each, answers["odd", each.name]) for each in odd]
    return SelfTest(
        suite=version,
        spec=document()["digest"],
        seed=seed,
        seconds=round(time.monotonic() - begin, 1),
        mutants=len(kills),
        mutants_killed=sum(kill.killed for kill in kills),
        odd=len(odd_nodes),
        odd_passed=sum(each.passed for each in odd_nodes),
        controls=[_control(kind, answer) for (what, kind), answer in answers.items() if what == "control"],
        kills=kills,
        odd_nodes=odd_nodes,
    )


def controls(mutants: Iterable[Mutant], seed: int, patience: float) -> list[tuple[str, Order]]:
    """One unchanged node for each role and the roles besides it, against all that is meant for its mutants."""
    wanted: dict[tuple[str, tuple[str, ...]], dict[str, None]] = {}
    for mutant in mutants:
        ids = wanted.setdefault((mutant.role, mutant.besides), {PROBES[mutant.role]: None})
        ids.update(dict.fromkeys(mutant.killers))
    return [
        ("+".join((role, *besides)), Order("none", role, besides, (), tuple(ids), seed, patience, CASES_AT_ONCE))
        for (role, besides), ids in wanted.items()
    ]


def _order(mutant: Mutant, seed: int, patience: float) -> Order:
    ids = (PROBES[mutant.role], *mutant.killers)
    return Order(mutant.name, mutant.role, mutant.besides, (), ids, seed, patience * MUTANT_PATIENCE, CASES_AT_ONCE)


def _survives(mutant: Mutant, answer: Answer) -> bool:
    return any(answer.verdicts.get(case) not in FATAL for case in mutant.killers)


def _kill(mutant: Mutant, answer: Answer, whole: Answer | None) -> Kill:
    meant = {case: answer.verdicts.get(case, "SKIP") for case in mutant.killers}
    asked = whole.verdicts if whole else {}
    others = [case for case, verdict in asked.items() if verdict in FATAL and case not in meant]
    return Kill(
        name=mutant.name,
        breaks=mutant.breaks,
        clause=mutant.clause,
        role=mutant.role,
        meant=meant,
        reasons={case: answer.reasons[case] for case in mutant.killers if case in answer.reasons},
        probe=answer.verdicts.get(PROBES[mutant.role], "SKIP"),
        hopeless=mutant.hopeless,
        others=others,
        trouble=answer.trouble,
        seconds=round(answer.seconds, 2),
    )


def _wrong(answer: Answer) -> dict[str, str]:
    return _said(answer, lambda verdict: verdict in WRONG)


def _said(answer: Answer, of: Callable[[str], bool]) -> dict[str, str]:
    return {
        case: f"{verdict}: {answer.reasons.get(case, '')}" for case, verdict in answer.verdicts.items() if of(verdict)
    }


def _odd(odd: Odd, answer: Answer) -> OddResult:
    counts = dict(Counter(answer.verdicts.values()))
    seconds = round(answer.seconds, 2)
    return OddResult(odd.name, odd.is_odd, list(odd.clauses), odd.role, counts, _wrong(answer), answer.trouble, seconds)


def _control(kind: str, answer: Answer) -> Control:
    failed = _said(answer, lambda verdict: verdict != "PASS")
    return Control(kind, dict(Counter(answer.verdicts.values())), failed, answer.trouble, round(answer.seconds, 2))


def _line(key: tuple[str, str], answer: Answer, done: int, total: int) -> str:
    what, name = key
    counts = Counter(answer.verdicts.values())
    said = answer.trouble or ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    return f"{done}/{total} {what} {name}: {said} ({answer.seconds:.1f} s)"


__all__ = ["UnknownName", "controls", "select", "selftest"]
