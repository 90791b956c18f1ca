"""What the types of a scenario cannot say: names that must exist, roles that must be there, values that go together."""

from __future__ import annotations

from reference_nodes.simulator.plan.scenario import FromRecord, FromTrace, Group, Markov, Poisson, Recorded, Scenario
from reference_nodes.simulator.plan.schema import ScenarioError, nearest

COMPUTING = ("verifier", "drafter")


def check(scenario: Scenario) -> None:
    """Raises ScenarioError for a scenario that makes no sense."""
    if not scenario.group:
        raise ScenarioError("group", "no nodes: at least one [[group]] is needed")
    names = [group.name for group in scenario.group]
    for name in names:
        if names.count(name) > 1:
            raise ScenarioError(f"group.{name}", "two groups have this name")
    for group in scenario.group:
        _check_group(scenario, group)
    for role in ("client", "leader", "verifier"):
        if not any(role in group.roles for group in scenario.group):
            raise ScenarioError("group", f"no group has the role {role!r}; nothing can be answered without one")
    _check_links(scenario, names)
    _check_workload(scenario)
    _check_acceptance(scenario)
    _check_faults(scenario)
    if scenario.warmup >= scenario.duration + scenario.drain:
        text = f"{scenario.warmup:g} s leave nothing of the {scenario.duration + scenario.drain:g} s to count"
        raise ScenarioError("warmup", text)


def _check_group(scenario: Scenario, group: Group) -> None:
    path = f"group.{group.name}"
    if not group.name or "\0" in group.name or len(group.name.encode()) > 20:
        raise ScenarioError(path, "a name has 1 to 20 bytes")
    if not group.roles:
        raise ScenarioError(f"{path}.roles", "nodes without a role do nothing")
    for role in COMPUTING:
        if role not in group.roles:
            continue
        key = "drafter_device" if role == "drafter" and group.drafter_device else "device"
        name = getattr(group, key)
        if name not in scenario.device:
            known = list(scenario.device)
            text = f"no device {name!r}; there are {', '.join(known) or 'none'}{nearest(name, known)}"
            raise ScenarioError(f"{path}.{key}", text)
    if "drafter" in group.roles and group.draft_model not in scenario.acceptance:
        known = list(scenario.acceptance)
        text = f"acceptance has no entry {group.draft_model!r}; there are {', '.join(known) or 'none'}"
        raise ScenarioError(f"{path}.draft_model", text + nearest(group.draft_model, known))
    if "voter" in group.roles and "leader" not in group.roles:
        raise ScenarioError(f"{path}.roles", "a voter takes over as a leader: give the group both roles")
    if scenario.commit == "quorum" and "leader" in group.roles and "voter" not in group.roles:
        raise ScenarioError(f"{path}.roles", "under commit = 'quorum' a leader is a voter as well")


def _check_links(scenario: Scenario, names: list[str]) -> None:
    seen: set[frozenset[str]] = set()
    for index, link in enumerate(scenario.link):
        for name in link.between:
            if name not in names:
                text = f"no group {name!r}; there are {', '.join(names)}{nearest(name, names)}"
                raise ScenarioError(f"link.{index}.between", text)
        pair = frozenset(link.between)
        if pair in seen:
            raise ScenarioError(f"link.{index}.between", f"a second link between {' and '.join(sorted(pair))}")
        seen.add(pair)
    roles = {group.name: group.roles for group in scenario.group}

    def together(one: str, other: str, name: str) -> bool:
        if other in roles[name]:
            return True
        partners = [second for pair in seen if name in pair for second in pair if second != name]
        return any(other in roles[second] for second in partners)

    for name, held in roles.items():
        if "client" in held and not together("client", "leader", name):
            raise ScenarioError(f"group.{name}", "its clients have no link to a leader: add a [[link]] between them")
        if "leader" in held and not together("leader", "verifier", name):
            raise ScenarioError(f"group.{name}", "its leaders have no verifier, on board or over a [[link]]")


def _check_faults(scenario: Scenario) -> None:
    groups = {group.name: group for group in scenario.group}
    for index, fault in enumerate(scenario.fault):
        for key, name in (("who", fault.who), ("other", fault.other)):
            stem, _, number = name.rpartition("-")
            node = stem in groups and number.isdecimal() and int(number) < groups[stem].count
            if (name or key == "who") and name not in groups and not node:
                known = [*groups, *(f"{name}-0" for name in groups)]
                text = f"no node or group {name!r}; there are {', '.join(known)} and so on{nearest(name, known)}"
                raise ScenarioError(f"fault.{index}.{key}", text)
        if fault.other and fault.kind not in ("cut", "one-way", "pair", "clog"):
            raise ScenarioError(f"fault.{index}.other", f"a fault of kind {fault.kind!r} has only a 'who'")


def _check_workload(scenario: Scenario) -> None:
    work = scenario.workload
    lengths = {name: getattr(work, name) for name in ("prompt", "output") if hasattr(work, name)}
    for name, length in lengths.items():
        if isinstance(length, FromTrace) and isinstance(work, Poisson) and not length.file:
            raise ScenarioError(f"workload.{name}.file", "is empty")
        if isinstance(length, FromRecord) and not any(
            isinstance(each, Recorded) for each in scenario.acceptance.values()
        ):
            raise ScenarioError(f"workload.{name}", "kind 'recorded' needs recorded acceptance")


def _check_acceptance(scenario: Scenario) -> None:
    for name, model in scenario.acceptance.items():
        rows = {"rates": model.rates} if hasattr(model, "rates") else {}
        if isinstance(model, Markov):
            rows = {"good": model.good, "bad": model.bad}
            if model.worsens + model.improves > 1.0:
                text = f"worsens + improves = {model.worsens + model.improves:g}; at most 1 (else use 'iid')"
                raise ScenarioError(f"acceptance.{name}", text)
            if model.worsens + model.improves == 0.0:
                raise ScenarioError(f"acceptance.{name}", "worsens and improves are both 0: no state is ever left")
        for key, rates in rows.items():
            if not rates:
                raise ScenarioError(f"acceptance.{name}.{key}", "is empty; at least the first choice's rate")
            if sum(rates) > 1.0 + 1e-9:
                text = f"adds up to {sum(rates):g}; at most one choice is the target's token, so at most 1"
                raise ScenarioError(f"acceptance.{name}.{key}", text)
