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

import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import combinations
from struct import Struct
from typing import Any

from dsdproto.registry import ErrorCode
from dsdproto.wire.messages import Error
from reference_nodes.simulator.chart import Entry, chart
from reference_nodes.simulator.small_node import (
    END,
    NAMES,
    NODES,
    Broken,
    Freezer,
    Makers,
    Member,
    Setting,
    contract_for,
)
from reference_nodes.simulator.small_state import name_of

PAIRS = tuple(combinations(range(NODES), 2))
ROADS = tuple((a, b) for pair in PAIRS for a, b in (pair, pair[::-1]))
ROAD = {road: number for number, road in enumerate(ROADS)}
INTO = tuple(tuple((number, a) for number, (a, b) in enumerate(ROADS) if b == node) for node in range(NODES))
"""by node: the roads that lead to it, and from whom"""
PAIR_OF = tuple(PAIRS.index((min(road), max(road))) for road in ROADS)
DOWN: tuple[int, None] = (0, None)
"""Stands in a queue for the news that the link is lost."""
State = Struct(f"<{NODES}I{len(ROADS)}IHB4B")
"""name of each node; what is on each road; what was seen to be committed; which links are up; what is left of bounds"""
Action = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far the exploration goes. Everything within is explored."""

    blocks: int = 2
    """of one token each; the last one ends the stream"""
    views: int = 2
    """views 0 to this minus 1 may be taken up"""
    crashes: int = 1
    drops: int = 1
    """links that break (those of a crashed node break for nothing)"""
    timeouts: int = 1
    """times that a leader's patience ends, in one of the ways that it can; voters' timers are not counted"""
    opens: int = 1
    """times that a client asks the first node to lead the session, the founding included"""
    verify_apart: bool = False
    """a verdict is a step of its own"""
    notice_apart: bool = False
    """each end of a broken link learns of it in a step of its own; otherwise both do at once"""


@dataclass(slots=True)
class Violation:
    check: str
    text: str
    steps: list[str]
    chart: str


@dataclass(slots=True)
class Report:
    """What an exploration found. ``violations`` is empty or holds the shortest one."""

    bounds: Bounds
    states: int = 0
    transitions: int = 0
    depth: int = 0
    """steps on the longest of the shortest ways to a state"""
    ends: int = 0
    """states in which nothing can happen any more"""
    complete: int = 0
    """of them, those in which the whole stream is committed"""
    node_states: list[int] = field(default_factory=list)
    node_steps: int = 0
    """steps of nodes that were really made; all others were remembered"""
    refusals: dict[str, int] = field(default_factory=dict)
    """by error code, node steps in which a node refused another"""
    seconds: float = 0.0
    finished: bool = False
    """all states within the bounds were visited"""
    violations: list[Violation] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; ``violations`` is their number."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "violations"}
        values["bounds"] = asdict(self.bounds)
        values["violations"] = len(self.violations)
        values["found"] = [asdict(violation) for violation in self.violations]
        return values


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
        return (*state, bounds.crashes, bounds.drops, bounds.timeouts, bounds.opens)

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
        crashes, drops, timeouts, opens = state[-4:]
        up = state[-5]
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
                new[-2] -= 1
                self._move(new, number, action[2:])
            case "crash":
                new[-4] -= 1
                self._move(new, number, ("crash",))
                for pair, ends in enumerate(PAIRS):
                    if number in ends:
                        other = sum(ends) - number
                        new[NODES + ROAD[other, number]] = 0
                        if new[-5] >> pair & 1:  # else the other end has heard of it already, or is about to
                            new[-5] &= ~(1 << pair)
                            self._lose(new, number, other)
            case "drop":
                new[-3] -= 1
                new[-5] &= ~(1 << number)
                a, b = PAIRS[number]
                self._lose(new, a, b)
                self._lose(new, b, a)
            case "connect":
                new[-5] |= 1 << number
                a, b = PAIRS[number]
                self._move(new, a, ("up", b))
                self._move(new, b, ("up", a))
            case "open":
                new[-1] -= 1
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
            if new[-5] >> PAIR_OF[road] & 1:
                at = NODES + road
                new[at] = self._queue((*self.queues[new[at]], item))
        for prefix in step.visible:
            new[-6] = self.joined.get((new[-6], prefix)) or self._join(new[-6], prefix)

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
        known = state[-6]
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
        whole = self.seen[state[-6]][-1:] == (END,)
        self.report.complete += whole
        facts = [self.facts[number][state[number]] for number in range(NODES)]
        if whole or any(fact.bounded or fact.timeouts or fact.opens for fact in facts):
            return
        raise Broken("progress", f"nothing can happen any more, committed is {_stream(self.seen[state[-6]])}")

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
        steps, picture = self.tell(way)
        if isinstance(error, Broken):
            return Violation(error.check, error.text, steps, picture)
        return Violation("exception", f"{type(error).__name__}: {error}", steps, picture)

    def _action(self, action: Action) -> int:
        known = self.action_ids.get(action)
        if known is None:
            known = self.action_ids[action] = len(self.actions)
            self.actions.append(action)
        return known

    # ------------------------------------------------------------ telling

    def tell(self, way: list[Action]) -> tuple[list[str], str]:
        """A way from the start, step by step, and its chart."""
        state = self.start
        trace: list[Entry] = []
        lines: list[str] = []
        for number, action in enumerate(way, start=1):
            entries = self._entries(state, action, float(number))
            trace += entries
            lines.append(chart(entries, NAMES).splitlines()[-1].strip() if entries else str(action))
            try:
                state = self.after(state, action)
            except Exception:  # the last step is the one that breaks a rule
                break
        return lines, chart(trace, NAMES)

    def _entries(self, state: tuple[int, ...], action: Action, at: float) -> list[Entry]:
        kind, number = action[0], action[1]
        match kind:
            case "recv":
                name, other = NAMES[number], NAMES[action[3]]
                item = self.items[self.queues[state[NODES + action[2]]][0]]
                if item is DOWN:
                    return [(at, "down", name, other, "noticed")]
                return [(at, "recv", other, name, item[1])]
            case "sync":
                member = self.freezer.load(self.blobs[number][state[number]])
                return [(at, "stored", NAMES[number], "", member.pending[0].record)]
            case "suspect":
                return [(at, "timer", NAMES[number], "", (_Voter, ("suspects: its leader is to take over",)))]
            case "timeout":
                what = {"patience": "a voter is too slow", "resign": "no majority", "ask": "asks again"}[action[2]]
                return [(at, "timer", NAMES[number], "", (_Leader, (what,)))]
            case "crash":
                return [(at, "crash", NAMES[number], "", "killed")]
            case "restart":
                return [(at, "restart", NAMES[number], "", None)]
            case "drop" | "connect":
                a, b = (NAMES[end] for end in PAIRS[number])
                return [(at, "down" if kind == "drop" else "up", a, b, "it breaks")]
            case "open":
                return [(at, "deliver", NAMES[number], "", _Text("takes OPEN of a client"))]
        return [(at, "deliver", NAMES[number], "", _Text("its verifier answers"))]


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


@dataclass(frozen=True, slots=True)
class _Owner:
    name: str


_Voter, _Leader = _Owner("voter"), _Owner("leader")


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
    if member.alive and member.jobs:
        actions.append(("verdict",))
    return tuple(actions)


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


def show_progress(report: Report) -> None:
    """One line on stderr, overwritten."""
    text = f"\r{report.states:,} states, depth {report.depth}, {report.seconds:.0f} s"
    print(text, end="", file=sys.stderr, flush=True)
