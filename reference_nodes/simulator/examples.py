"""The charts that stand in the specification: a normal case, the crash of a leader, a partition.

They are runs like any other, so they show what the machines do, not what somebody thinks that they do. To make them
again: ``dsdp sim chart NAME``, or ``dsdp sim chart all > docs/charts.md`` for the page with all of them.
"""

from __future__ import annotations

from dsdproto.registry import Role
from dsdproto.wire import messages as m
from reference_nodes.simulator.chart import Entry, chart
from reference_nodes.simulator.network import Conditions
from reference_nodes.simulator.report import lanes_of
from reference_nodes.simulator.runner import run
from reference_nodes.simulator.scenario import CLIENT, Fault, FaultKind, Numerics, Scenario

CALM = Conditions(heartbeat=4.0, redial=0.25, redial_longest=2.0)
EXAMPLES: dict[str, tuple[str, Scenario]] = {
    "normal": (
        "Three members, a leads; a round gives one token, as nobody drafts. The first one is voted on at once; the "
        "next two come within a tenth of a second and go to the vote together (clause Q-36). The votes of a's own "
        "voter do not travel: its disk shows them.",
        Scenario(seed=1, tokens=3, delay=0.001, forward=0.01, sync=0.002, conditions=CALM),
    ),
    "leader-crash": (
        "The leader's process is killed with a block under way (here each token is voted on alone). 0.3 s later the "
        "next member in turn takes over with what a majority holds; the client has resumed there and reads on.",
        Scenario(
            seed=1,
            tokens=4,
            delay=0.001,
            forward=0.01,
            sync=0.002,
            gather=0.0,
            conditions=CALM,
            faults=(Fault(at=0.0355, kind=FaultKind.KILL, who="a", length=100.0),),
            chaos=1.0,
            left_out=("a",),
        ),
    ),
    "partition": (
        "The leader and the client are cut off from the other two members. These find a leader of view 1 between "
        "them; a commits nothing any more, resigns, and later gives up its own block for theirs.",
        Scenario(
            seed=1,
            tokens=4,
            delay=0.001,
            forward=0.01,
            sync=0.002,
            gather=0.0,
            numerics=Numerics.PROFILES,
            conditions=Conditions(heartbeat=1.0, redial=0.25, redial_longest=0.5),
            faults=(Fault(at=0.029, kind=FaultKind.SPLIT, who="a", mask=0b110, length=3.0),),
            chaos=3.03,
        ),
    ),
}

_SHOWN = (
    m.Open,
    m.Opened,
    m.Resume,
    m.Block,
    m.End,
    m.Error,
    m.Enlist,
    m.Enlisted,
    m.Prepare,
    m.Vote,
    m.Commit,
    m.Dismiss,
)


def _keep(entry: Entry) -> bool:
    time, kind, node, _, what = entry
    match kind:
        case "recv" | "lost":
            return isinstance(what, _SHOWN)
        case "timer":
            return what[0] is Role.VOTER
        case "deliver":
            return node == CLIENT
        case "up":
            return time > 0.0
        case "stored":
            return what[0] is Role.VOTER
    return True


def example_chart(name: str) -> str:
    """One of :data:`EXAMPLES`, with a line feed at its end."""
    _, scenario = EXAMPLES[name]
    outcome = run(scenario)
    if outcome.violation is not None:
        raise outcome.violation
    return chart(outcome.trace, lanes_of(scenario), keep=_keep)


def page() -> str:
    """All charts with what they show, in Markdown: docs/charts.md."""
    parts = [
        "# Sequence charts of the `quorum` profile\n",
        "Printed by the simulator from runs of the reference machines; a test makes them again and compares. "
        "`dsdp sim chart all > docs/charts.md` replaces this page.\n",
        "`o---->` is a message when it arrives, `#` a record that is durable, `*` what the client is given, `t` a "
        "timer, `X` a crash, `/` a link that is gone, `+` one that came up. `5+1` is one token at position 5. What "
        "roles of one node tell each other is not shown.\n",
    ]
    for name, (text, _) in EXAMPLES.items():
        parts.append(f"## {name}\n\n{text}\n\n```\n{example_chart(name)}```\n")
    return "\n".join(parts)
