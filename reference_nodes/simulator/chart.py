"""Sequence charts in plain text: a lane for each node, time going down, one line for each thing that happened.

::

        time  client  a       b       c
      0.0020  o------>|       |       |       OPEN
      0.0050  |       o------>|       |       ENLIST view 0, committed 3
      0.0071  |       |       #       |       stores the promise of view 0
      0.3000  |       X       |       |       killed

``o---->`` a message arrives, ``o---x`` it is lost, ``#`` a record is durable, ``*`` the application is given
something, ``t`` a timer, ``X`` a crash, ``^`` a start, ``=`` a process stopped, ``~`` going on, ``+`` a link that came
up (or ``/`` broke) between the node and another one. A lane is empty while its node is dead, dotted while it is
stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from reference_nodes.simulator.describe import describe

LANE = 8
TIME = 10
Entry = tuple[float, str, str, str, Any]
"""(time, kind, node, other node or "", what): a line of :attr:`FaultyWorld.trace`"""

MARKS = {
    "stored": "#",
    "deliver": "*",
    "timer": "t",
    "crash": "X",
    "restart": "^",
    "pause": "=",
    "resume": "~",
    "up": "+",
    "down": "/",
}
AFTER = {"crash": " ", "restart": "|", "pause": ":", "resume": "|"}


def chart(
    trace: Iterable[Entry],
    lanes: Sequence[str],
    *,
    keep: Callable[[Entry], bool] | None = None,
    last: int | None = None,
) -> str:
    """The chart of a run, with a line feed at its end.

    :param keep: which entries to show; all by default. Deaths are followed in any case.
    :param last: show that many lines at most, the latest ones.
    """
    state = dict.fromkeys(lanes, "|")
    lines = []
    for entry in trace:
        time, kind, node, other, what = entry
        if node not in state:
            continue
        if keep is None or keep(entry):
            if kind in ("recv", "lost"):
                if other not in state:
                    continue
                row = _arrow(lanes, state, node, other, lost=kind == "lost")
            else:
                row = "".join((MARKS[kind] if name == node else state[name]).ljust(LANE) for name in lanes)
            lines.append(f"{time:{TIME}.4f}  {row}{describe(kind, what, other)}".rstrip())
        state[node] = AFTER.get(kind, state[node])
    left_out = 0 if last is None else max(0, len(lines) - last)
    if left_out:
        lines = [f"{'...':>{TIME}}  {left_out} lines before", *lines[left_out:]]
    head = f"{'time':>{TIME}}  " + "".join(name.ljust(LANE) for name in lanes)
    return "\n".join([head.rstrip(), *lines]) + "\n"


def _arrow(lanes: Sequence[str], state: dict[str, str], sender: str, receiver: str, *, lost: bool) -> str:
    cells = list("".join(state[name].ljust(LANE) for name in lanes))
    start, end = lanes.index(sender) * LANE, lanes.index(receiver) * LANE
    step = 1 if end > start else -1
    for column in range(start + step, end, step):
        cells[column] = "-"
    cells[start] = "o"
    cells[end - step] = "x" if lost else ">" if step > 0 else "<"
    return "".join(cells)
