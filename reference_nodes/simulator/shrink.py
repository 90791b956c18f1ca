"""From a scenario that breaks a rule to a smaller one that breaks the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

from reference_nodes.simulator.network import Conditions
from reference_nodes.simulator.runner import Outcome, run
from reference_nodes.simulator.scenario import Scenario

KEPT = ("seed", "commit", "members", "numerics", "faults", "conditions", "chaos", "bound", "tokens", "prompt")
"""Fields that are not simply set back to their defaults."""


def shrink(outcome: Outcome) -> Outcome:
    """Leave out faults, chances and tokens one after the other as long as the same check fails; the smallest found.

    A run without a violation is returned as it is.
    """
    if outcome.violation is None:
        return outcome
    best, check = outcome, outcome.violation.check
    improved = True
    while improved:
        improved = False
        for smaller in _smaller(best.scenario):
            tried = run(smaller)
            if tried.violation is not None and tried.violation.check == check:
                best, improved = tried, True
                break
    return best


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    plain, usual = Scenario(seed=scenario.seed), Conditions()
    for index in range(len(scenario.faults)):
        yield replace(scenario, faults=scenario.faults[:index] + scenario.faults[index + 1 :])
    for each in fields(Scenario):
        if each.name not in KEPT and getattr(scenario, each.name) != getattr(plain, each.name):
            yield replace(scenario, **{each.name: getattr(plain, each.name)})
    for each in fields(Conditions):
        if getattr(scenario.conditions, each.name) != getattr(usual, each.name):
            conditions = replace(scenario.conditions, **{each.name: getattr(usual, each.name)})
            yield replace(scenario, conditions=conditions)
    for tokens in (scenario.tokens // 2, scenario.tokens - 1):
        if 0 < tokens < scenario.tokens:
            yield replace(scenario, tokens=tokens)
