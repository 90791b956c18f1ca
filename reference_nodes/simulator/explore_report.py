"""What an exhaustive exploration is asked for and what it found, and the telling of a way through it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self, TextIO

from reference_nodes.simulator.chart import Entry, chart
from reference_nodes.simulator.small_setting import DOWN, NAMES, NODES, PAIRS

if TYPE_CHECKING:
    from reference_nodes.simulator.explore import Action, Exploration


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far the exploration goes. Everything within is explored."""

    blocks: int = 2
    """of one token each; the last one ends the stream"""
    views: int = 2
    """views 0 to this minus 1 may be taken up"""
    faults: int = 1
    """crashes, broken links and time-outs of leaders, all together"""
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


@dataclass(frozen=True, slots=True)
class _Text:
    text: str


@dataclass(frozen=True, slots=True)
class _Owner:
    name: str


_Voter, _Leader = _Owner("voter"), _Owner("leader")


def tell(search: Exploration, way: list[Action]) -> tuple[list[str], str]:
    """A way from the start, step by step, and its chart."""
    state = search.start
    trace: list[Entry] = []
    lines: list[str] = []
    for number, action in enumerate(way, start=1):
        entries = _entries(search, state, action, float(number))
        trace += entries
        lines.append(chart(entries, NAMES).splitlines()[-1].strip() if entries else str(action))
        try:
            state = search.after(state, action)
        except Exception:  # the last step is the one that breaks a rule
            break
    return lines, chart(trace, NAMES)


def _entries(search: Exploration, state: tuple[int, ...], action: Action, at: float) -> list[Entry]:
    kind, number = action[0], action[1]
    match kind:
        case "recv":
            name, other = NAMES[number], NAMES[action[3]]
            item = search.items[search.queues[state[NODES + action[2]]][0]]
            if item is DOWN:
                return [(at, "down", name, other, "noticed")]
            return [(at, "recv", other, name, item[1])]
        case "sync":
            member = search.freezer.load(search.blobs[number][state[number]])
            return [(at, "stored", NAMES[number], "", member.pending[0].record)]
        case "suspect":
            return [(at, "timer", NAMES[number], "", (_Voter, ("suspects: its leader is to take over",)))]
        case "tell":
            return [(at, "timer", NAMES[number], "", (_Leader, ("tells what is committed",)))]
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


class Progress:
    """One line on a terminal, rewritten; elsewhere a line every half minute. A context manager that ends the line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._every = 0.5 if stream.isatty() else 30.0
        self._next = self._every

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream.isatty():
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def __call__(self, report: Report) -> None:
        if report.seconds < self._next:
            return
        self._next = report.seconds + self._every
        text = f"{report.states:,} states, {report.depth} steps deep, {report.seconds:.0f} s"
        self._stream.write(f"\r\x1b[K{text}" if self._stream.isatty() else f"{text}\n")
        self._stream.flush()
