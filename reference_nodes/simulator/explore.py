"""All interleavings of a small case of the `quorum` profile: three nodes, a few blocks, a few views, a few faults.

From the founding of one session on, breadth first: every message at the head of every link may be delivered, every
record at the head of every disk may become durable, every timer that runs may fire, every node may crash (and start
again with what is durable), every link may break (and come up again once both ends have noticed), as often as the
:class:`Bounds` allow. States are compared by name (:mod:`reference_nodes.simulator.small_state`), so each is gone on
from once. In each of them is checked:

- *agreement*: all prefixes that anyone ever saw to be committed (voters, the client, a client that resumes) are
  prefixes of one stream, the end of the stream included;
- *durability*: what was seen to be committed is in the durable logs of a majority, then and ever after;
- *stored-first*, *promise*, *stream*, *honest*: see :mod:`reference_nodes.simulator.small_node`;
- *progress*: a state from which nothing can happen any more, although everybody is alive and connected and no bound
  was in the way, is one in which the stream has ended.

A step changes one node and what it sends, so steps of nodes are remembered: a global step is then a few look-ups.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Any

from dsdproto.registry import ErrorCode
from dsdproto.wire.messages import Error
from reference_nodes.simulator.explore_report import Bounds, Report, Violation, tell
from reference_nodes.simulator.small_node import Member
from reference_nodes.simulator.small_setting import (
    DOWN,
    END,
    INTO,
    NAMES,
    NODES,
    PAIR_OF,
    PAIRS,
    ROAD,
    ROADS,
    Broken,
    Makers,
    Setting,
    contract_for,
)
from reference_nodes.simulator.small_state import Freezer, name_of

State = Struct(f"<{NODES}I{len(ROADS)}IHB5B")
"""name of each node; what is on each road; what was seen to be committed; which links are up; what is left of bounds"""
SEEN, UP, FAULTS, CRASHES, DROPS, TIMEOUTS, OPENS = range(NODES + len(ROADS), NODES + len(ROADS) + 7)
Action = tuple[Any, ...]


class Exploration:
    """One breadth-first search. All tables grow only."""

    def __init__(self, bounds: Bounds, makers: Makers | None = None) -> None:
        self.bounds = bounds
        self.report = Report(bounds)
        setting = Setting(contract_for(bounds.blocks), makers or Makers(), bounds.verify_apart)
        self.freezer = Freezer()
        self.blobs: list[list[bytes]] = [[] for _ in range(NODES)]
        self.names: list[dict[Any, int]] = [{} for _ in range(NODES)]
        self.facts: list[list[_Facts]] = [[] for _ in range(NODES)]
        self.steps: list[dict[tuple[int, Action], _Step]] = [{} for _ in range(NODES)]
        self.items: list[Any] = [DOWN]
        self.item_ids: dict[Any, int] = {DOWN: 0}
        self.queues: list[tuple[int, ...]] = [()]
        self.queue_ids: dict[tuple[int, ...], int] = {(): 0}
        self.seen: list[tuple[int, ...]] = [()]
        """what may have been seen to be committed"""
        self.seen_ids: dict[tuple[int, ...], int] = {(): 0}
        self.joined: dict[tuple[int, tuple[int, ...]], int] = {}
        self.held: dict[tuple[int, tuple[tuple[int, ...], ...]], bool] = {}
        self.readers: set[Any] = set()
        self.refusals: Counter[str] = Counter()
        self.actions: list[Action] = []
        self.action_ids: dict[Action, int] = {}
        self.start = self._start(setting)

    # ------------------------------------------------------------ tables

    def _start(self, setting: Setting) -> tuple[int, ...]:
        nodes = []
        for number in range(NODES):
            member = Member.new(setting, number)
            for peer in range(NODES):
                if peer != number:
                    member.step(("up", peer))
            nodes.append(self._keep(number, member))
        state = [*nodes, *(0 for _ in ROADS), 0, (1 << len(PAIRS)) - 1]
        bounds = self.bounds
        faults = (min(bounds.faults, bound) for bound in (bounds.crashes, bounds.drops, bounds.timeouts))
        return (*state, bounds.faults, *faults, bounds.opens)

    def _keep(self, number: int, member: Member) -> int:
        """The number of a node's state; new ones are stored and looked at."""
        name = name_of(member)
        known = self.names[number].get(name)
        if known is not None:
            return known
        self.names[number][name] = index = len(self.blobs[number])
        self.blobs[number].append(self.freezer.dump(member))
        view = member.next_view()
        self.facts[number].append(
            _Facts(
                alive=member.alive,
                local=_local_actions(member, view is not None and view < self.bounds.views),
                timeouts=tuple(member.timeouts()),
                opens=number == 0 and member.alive and member.session is None,
                log=member.log(),
                bounded=view is not None and view >= self.bounds.views,
            )
        )
        if member.alive and (seats := name_of(member.voter.seats)) not in self.readers:
            self.readers.add(seats)
            member.check_readers()
        return index

    def _step(self, number: int, state: int, action: Action) -> _Step:
        """What a node does in a state, and what it sends; asked for the first time."""
        event = action
        if action[0] == "recv":
            event = ("recv", action[1], *self.items[action[2]])
        member = self.freezer.load(self.blobs[number][state])
        sent = member.step(event)
        visible = tuple(member.visible())
        sends = tuple((ROAD[number, peer], self._item((channel, message))) for peer, channel, message in sent)
        for _, _, message in sent:
            if type(message) is Error:
                self.refusals[ErrorCode(message.code).name] += 1
        step = self.steps[number][state, action] = _Step(self._keep(number, member), sends, visible)
        return step

    def _item(self, item: Any) -> int:
        known = self.item_ids.get(item)
        if known is None:
            known = self.item_ids[item] = len(self.items)
            self.items.append(item)
        return known

    def _queue(self, queue: tuple[int, ...]) -> int:
        known = self.queue_ids.get(queue)
        if known is None:
            known = self.queue_ids[queue] = len(self.queues)
            self.queues.append(queue)
        return known

    # ------------------------------------------------------------ one step of everything

    def actions_of(self, state: tuple[int, ...]) -> list[Action]:
        """All that may happen next."""
        actions: list[Action] = []
        up, _, crashes, drops, timeouts, opens = state[UP:]
        for number in range(NODES):
            facts = self.facts[number][state[number]]
            if not facts.alive:
                actions.append(("restart", number))
                continue
            for road, peer in INTO[number]:
                if state[NODES + road]:
                    actions.append(("recv", number, road, peer))
            for action in facts.local:
                actions.append((action[0], number, *action[1:]))
            if timeouts:
                actions += [("timeout", number, *action) for action in facts.timeouts]
            if crashes:
                actions.append(("crash", number))
            if opens and facts.opens:
                actions.append(("open", number))
        for number, (a, b) in enumerate(PAIRS):
            if up >> number & 1:
                if drops:
                    actions.append(("drop", number))
            elif (
                not state[NODES + 2 * number]
                and not state[NODES + 2 * number + 1]
                and self.facts[a][state[a]].alive
                and self.facts[b][state[b]].alive
            ):
                actions.append(("connect", number))
        return actions

    def after(self, state: tuple[int, ...], action: Action) -> tuple[int, ...]:
        """The state that an action leads to. Raises :class:`Broken`."""
        new = list(state)
        kind, number = action[0], action[1]
        match kind:
            case "recv":
                at = NODES + action[2]
                first, *rest = self.queues[state[at]]
                new[at] = self._queue(tuple(rest))
                if first == 0:
                    self._move(new, number, ("down", action[3]))
                else:
                    self._move(new, number, ("recv", action[3], first))
            case "timeout":
                _spend(new, TIMEOUTS)
                self._move(new, number, action[2:])
            case "crash":
                _spend(new, CRASHES)
                self._move(new, number, ("crash",))
                for pair, ends in enumerate(PAIRS):
                    if number in ends:
                        other = sum(ends) - number
                        new[NODES + ROAD[other, number]] = 0
                        if new[UP] >> pair & 1:  # else the other end has heard of it already, or is about to
                            new[UP] &= ~(1 << pair)
                            self._lose(new, number, other)
            case "drop":
                _spend(new, DROPS)
                new[UP] &= ~(1 << number)
                a, b = PAIRS[number]
                self._lose(new, a, b)
                self._lose(new, b, a)
            case "connect":
                new[UP] |= 1 << number
                a, b = PAIRS[number]
                self._move(new, a, ("up", b))
                self._move(new, b, ("up", a))
            case "open":
                new[OPENS] -= 1
                self._move(new, number, ("open",))
            case _:
                self._move(new, number, (kind,))
        return tuple(new)

    def _lose(self, new: list[int], number: int, other: int) -> None:
        """What ``number`` sent to ``other`` is lost with their link, and ``other`` learns of it."""
        at = NODES + ROAD[number, other]
        new[at] = 0
        if self.bounds.notice_apart:
            new[at] = self._queue((0,))
        else:
            self._move(new, other, ("down", number))

    def _move(self, new: list[int], number: int, event: Action) -> None:
        step = self.steps[number].get((new[number], event)) or self._step(number, new[number], event)
        new[number] = step.after
        for road, item in step.sends:
            if new[UP] >> PAIR_OF[road] & 1:
                at = NODES + road
                new[at] = self._queue((*self.queues[new[at]], item))
        for prefix in step.visible:
            new[SEEN] = self.joined.get((new[SEEN], prefix)) or self._join(new[SEEN], prefix)

    def _join(self, known: int, prefix: tuple[int, ...]) -> int:
        """What is known to be committed once ``prefix`` was seen to be, too."""
        old = self.seen[known]
        common = min(len(old), len(prefix))
        if old[:common] != prefix[:common]:
            raise Broken("agreement", f"{_stream(prefix)} is seen to be committed, and so was {_stream(old)}")
        longer = max(old, prefix, key=len)
        joined = self.seen_ids.setdefault(longer, len(self.seen))
        if joined == len(self.seen):
            self.seen.append(longer)
        self.joined[known, prefix] = joined
        return joined

    def check(self, state: tuple[int, ...]) -> None:
        """What holds between nodes. Raises :class:`Broken`."""
        known = state[SEEN]
        if not known:
            return
        logs = tuple(self.facts[number][state[number]].log for number in range(NODES))
        key = (known, logs)
        held = self.held.get(key)
        if held is None:
            seen = self.seen[known]
            held = self.held[key] = sum(log[: len(seen)] == seen for log in logs) > NODES // 2
        if not held:
            shown = ", ".join(f"{name} {_stream(log)}" for name, log in zip(NAMES, logs))
            raise Broken("durability", f"{_stream(self.seen[known])} is committed; durable logs: {shown}")

    def check_end(self, state: tuple[int, ...]) -> None:
        """Nothing can happen any more: is that the end of the stream? Raises :class:`Broken`."""
        self.report.ends += 1
        whole = self.seen[state[SEEN]][-1:] == (END,)
        self.report.complete += whole
        facts = [self.facts[number][state[number]] for number in range(NODES)]
        if whole or any(fact.bounded or fact.timeouts or fact.opens for fact in facts):
            return
        raise Broken("progress", f"nothing can happen any more, committed is {_stream(self.seen[state[SEEN]])}")

    # ------------------------------------------------------------ the search

    def run(self, *, max_states: int | None = None, progress: Callable[[Report], None] | None = None) -> Report:
        """Visit everything within the bounds, or until a rule is broken, or ``max_states`` were seen."""
        report, began = self.report, time.monotonic()
        start = State.pack(*self.start)
        known, frontier = {start}, [start]
        parents, by = array("I", [0]), array("I", [0])
        base = at = 0  # numbers of the frontier's first state, and of the one that is looked at
        action: Action | None = None
        try:
            while frontier:
                fresh: list[bytes] = []
                for at, packed in enumerate(frontier, start=base):
                    state, action = State.unpack(packed), None
                    actions = self.actions_of(state)
                    if not actions:
                        self.check_end(state)
                    for action in actions:
                        following = self.after(state, action)
                        name = State.pack(*following)
                        if name not in known:
                            known.add(name)
                            fresh.append(name)
                            parents.append(at)
                            by.append(self._action(action))
                            self.check(following)
                    report.transitions += len(actions)
                    if progress is not None and not at & 0xFFF:
                        report.states, report.seconds = len(known), time.monotonic() - began
                        progress(report)
                    if max_states is not None and len(known) >= max_states:
                        return report
                base += len(frontier)
                frontier = fresh
                report.depth += bool(fresh)
            report.finished = True
        except (Broken, AssertionError, LookupError, ValueError, TypeError) as error:
            report.depth += action is not None
            report.violations.append(self._violation(error, parents, by, at, action))
        finally:
            report.states, report.seconds = len(known), time.monotonic() - began
            report.node_states = [len(blobs) for blobs in self.blobs]
            report.node_steps = sum(len(steps) for steps in self.steps)
            report.refusals = dict(sorted(self.refusals.items()))
        return report

    def _violation(self, error: Exception, parents: array, by: array, at: int, action: Action | None) -> Violation:
        """The way to the state that was looked at, and the step that broke a rule."""
        way = [] if action is None else [action]
        while at:
            way.append(self.actions[by[at]])
            at = parents[at]
        way.reverse()
        steps, picture = tell(self, way)
        if isinstance(error, Broken):
            return Violation(error.check, error.text, steps, picture)
        return Violation("exception", f"{type(error).__name__}: {error}", steps, picture)

    def _action(self, action: Action) -> int:
        known = self.action_ids.get(action)
        if known is None:
            known = self.action_ids[action] = len(self.actions)
            self.actions.append(action)
        return known


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the search has to know of a node's state."""

    alive: bool
    local: tuple[Action, ...]
    timeouts: tuple[Action, ...]
    opens: bool
    log: tuple[int, ...]
    bounded: bool


@dataclass(frozen=True, slots=True)
class _Step:
    after: int
    sends: tuple[tuple[int, int], ...]
    """(road, item)"""
    visible: tuple[tuple[int, ...], ...]


def _local_actions(member: Member, may_suspect: bool) -> tuple[Action, ...]:
    actions: list[Action] = []
    if member.alive and member.pending:
        actions.append(("sync",))
    if may_suspect:
        actions.append(("suspect",))
    if member.tells:
        actions.append(("tell",))
    if member.alive and member.jobs:
        actions.append(("verdict",))
    return tuple(actions)


def _spend(new: list[int], fault: int) -> None:
    """One fault less; what the bound on all of them forbids is not left of any kind."""
    new[fault] -= 1
    new[FAULTS] -= 1
    for kind in (CRASHES, DROPS, TIMEOUTS):
        new[kind] = min(new[kind], new[FAULTS])


def _stream(prefix: tuple[int, ...]) -> str:
    return "[" + " ".join("end" if token == END else str(token) for token in prefix) + "]"


def explore(
    bounds: Bounds | None = None,
    *,
    makers: Makers | None = None,
    max_states: int | None = None,
    progress: Callable[[Report], None] | None = None,
) -> Report:
    """Visit all states within ``bounds``; stops at the first that breaks a rule, which is one of the nearest."""
    return Exploration(bounds or Bounds(), makers).run(max_states=max_states, progress=progress)
