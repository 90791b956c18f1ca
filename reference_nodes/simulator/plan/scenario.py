"""What a planning run is made of. These dataclasses are the schema of scenario files; times in seconds.

A scenario file is TOML with these names as keys; see ``gallery/`` for whole ones and :mod:`.loader` for reading them.
The text below a field is its line in the guide (:mod:`.keys`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from reference_nodes.simulator.plan.parts import (
    Acceptance,
    Affine,
    Closed,
    Constant,
    Device,
    FromRecord,
    FromTrace,
    Group,
    Iid,
    Length,
    Link,
    Lognormal,
    Markov,
    Poisson,
    Recorded,
    RoleName,
    Table,
    Trace,
    Workload,
)
from reference_nodes.simulator.plan.schema import (
    Count,
    Number,
    Period,
    Positive,
    Seconds,
    Share,
)

__all__ = [
    "Acceptance",
    "Adaptive",
    "Affine",
    "Awc",
    "Batching",
    "Closed",
    "Constant",
    "Device",
    "Drafting",
    "Fault",
    "FromRecord",
    "FromTrace",
    "Group",
    "Iid",
    "Length",
    "Link",
    "Lognormal",
    "Markov",
    "Optimum",
    "Patience",
    "Poisson",
    "Recorded",
    "RoleName",
    "Routing",
    "Scenario",
    "Slo",
    "Static",
    "Table",
    "Threshold",
    "Trace",
    "Verifying",
    "Window",
    "Workload",
]

# ---------------------------------------------------------------- policies


@dataclass(frozen=True, slots=True)
class Adaptive:
    """What a live leader does by default."""

    kind: ClassVar[str] = "adaptive"


@dataclass(frozen=True, slots=True)
class Static:
    """Always the same window: synchronous speculation, or with drafts ``ahead`` of it."""

    kind: ClassVar[str] = "static"
    size: Count = 4
    """draft tokens; 0 is the target alone"""
    ahead: Count = 0
    """draft tokens that a drafter may have outstanding beyond the window"""
    patience: Period = 5.0
    """after so long a round goes on with what there is"""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A window that grows and shrinks with the recent acceptance."""

    kind: ClassVar[str] = "threshold"
    size: Count = 4
    """to begin with"""
    ahead: Count = 0
    """as of kind ``static``"""
    patience: Period = 5.0
    """as of kind ``static``"""
    low: Share = 0.5
    """acceptance below which the window shrinks"""
    high: Share = 0.8
    """acceptance above which it grows"""
    least: Count = 1
    """draft tokens"""
    most: Number = 12
    """draft tokens"""


@dataclass(frozen=True, slots=True)
class Optimum:
    """The closed-form window for the acceptance seen so far."""

    kind: ClassVar[str] = "optimum"
    draft: Period
    """of one draft token, and of a row more in the forward"""
    fixed: Seconds = 0.0
    """of a round besides queue, forward and drafting: the round trip"""
    most: Number = 12
    """draft tokens"""
    ahead: Count = 0
    """as of kind ``static``"""
    patience: Period = 5.0
    """as of kind ``static``"""


@dataclass(frozen=True, slots=True)
class Awc:
    """The DSD paper's adaptive window controller, with weights trained in the set-up of ``dsdp sim paper``."""

    kind: ClassVar[str] = "awc"
    rtt: Seconds
    """what the controller is told of the link"""
    ahead: Count = 0
    """as of kind ``static``"""
    patience: Period = 5.0
    """as of kind ``static``"""


Window = Adaptive | Static | Threshold | Optimum | Awc


@dataclass(frozen=True, slots=True)
class Routing:
    """Which leader a session goes to."""

    kind: Literal["round-robin", "random", "shortest-queue", "goodput"] = "round-robin"
    """shortest-queue: fewest sessions; goodput: where link, queue and forward let expect tokens fastest"""
    view: Literal["client", "fleet"] = "client"
    """who routes: each client node for itself, knowing its own sessions, or one balancer that knows all of them"""


@dataclass(frozen=True, slots=True)
class Batching:
    """Which sessions share a forward."""

    kind: Literal["fifo", "length-aware", "fair"] = "fifo"
    """fifo: as they came; length-aware: alike in length; fair: who has had least"""


@dataclass(frozen=True, slots=True)
class Drafting:
    """Knobs of leader and drafter, as in ``LeaderConfig`` and ``DrafterConfig``."""

    drafters: Count = 1
    """for each session at most"""
    width: Number = 3
    """children of a node of the draft tree at most; 1 is a chain"""
    credit: Count = 48
    """draft tokens of a session that a drafter may have outstanding"""
    message_nodes: Number = 8
    """nodes that a drafter is asked to send at once"""
    max_ahead: Number = 64
    """draft-ahead depth: how far beyond the last verdict a draft may reach"""
    expansions: Number = 2
    """nodes of a session's tree that are expanded in one forward"""
    sessions_per_job: Number = 8
    """sessions in one forward of a drafter"""
    max_sessions: Number = 32
    """of one drafter"""
    floor: Count = 0
    """paths less likely than 2^(-floor/16) are not drafted; 0: what suits the window, 48 or, where it waits until it is
    full (all but adaptive), none"""
    sibling_floor: Count = 32
    """the same for a node's choices after the first: 32 is a chance of 1/4, 255 lets all pass that ``width`` does"""


@dataclass(frozen=True, slots=True)
class Verifying:
    """Limits of verifiers and leaders, as in ``VerifierConfig`` and ``LeaderConfig``."""

    max_nodes: Number = 63
    """draft tokens of one session in one forward"""
    max_rows: Number = 64
    """of one forward, all sessions together"""
    max_sessions: Number = 64
    """of one verifier; a request beyond is refused"""
    max_context: Number = 1 << 17
    """tokens of prompt and answer; a request beyond is refused"""
    leader_sessions: Number = 256
    """of one leader; a request beyond is refused"""
    kv_tokens: Count = 0
    """tokens that a verifier holds; who was not served for longest is thrown out and computed again; 0: no limit"""


@dataclass(frozen=True, slots=True)
class Slo:
    """What a user is content with; 0: no limit."""

    ttft: Seconds = 0.0
    """from a request's arrival to its first token"""
    tpot: Seconds = 0.0
    """for each further token, mean of the request"""


@dataclass(frozen=True, slots=True)
class Patience:
    """What a client does when it is refused."""

    retries: Count = 0
    """how often it asks again"""
    wait: Period = 0.25
    """before the first time; then twice as long each time"""
    silence: Period = 10.0
    """without news after which a stream under `quorum` is resumed elsewhere"""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something breaks, once or again and again. Kinds as in the fault network, and ``slow``."""

    kind: Literal["kill", "power", "pause", "cut", "one-way", "pair", "isolate", "split", "clog", "slow"]
    """kill: the process ends, its peers see it; power: they see nothing; pause: it stands still; isolate: nothing gets
    to it or from it; split: ``who`` and all others are apart; cut: connections between ``who`` and ``other`` are reset;
    pair, one-way, clog: nothing gets through between them, or only one way; slow: forwards take ``factor`` times as
    long"""
    who: str
    """a node (``target-0``), or a group: then each strike picks ``count`` of its nodes"""
    other: str = ""
    """the same, for kinds between two; empty: everybody who is linked"""
    at: Seconds = 0.0
    """when it strikes, or may first"""
    every: Seconds = 0.0
    """mean time between strikes, exponentially distributed, from ``at`` on; 0: strikes once"""
    length: Period = 5.0
    """until it is over"""
    count: Number = 1
    """nodes of a group that each strike picks"""
    factor: Positive = 3.0
    """of ``slow``"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole scenario."""

    name: str
    """what reports call it"""
    duration: Period
    """requests arrive for so long"""
    group: tuple[Group, ...]
    """the nodes"""
    link: tuple[Link, ...]
    """groups without one do not reach each other"""
    workload: Workload
    """what clients ask for, and when"""
    device: dict[str, Device]
    """what nodes compute on, by name"""
    acceptance: dict[str, Acceptance] = field(default_factory=dict)
    """how often drafts are right, by draft model"""
    about: str = ""
    """a sentence for `dsdp sim list`"""
    seed: Count = 1
    """of everything that is drawn at random"""
    warmup: Seconds = 0.0
    """what ends before is not counted"""
    drain: Seconds = 0.0
    """time after ``duration`` in which what has arrived may end"""
    commit: Literal["solo", "quorum"] = "solo"
    """commit profile; ``quorum`` needs three nodes that are leader and voter"""
    window: Window = Adaptive()
    """how many drafts a round verifies, and whether it waits for them"""
    routing: Routing = Routing()
    """which leader a request goes to"""
    batching: Batching = Batching()
    """which sessions a verifier serves together"""
    drafting: Drafting = Drafting()
    """number of drafters, trees, draft-ahead"""
    verifying: Verifying = Verifying()
    """limits, admission, memory"""
    patience: Patience = Patience()
    """of clients"""
    slo: Slo = Slo()
    """goodput counts what keeps it"""
    fault: tuple[Fault, ...] = ()
    """what breaks"""
    series: Seconds = 0.0
    """width of the windows of figures over time; 0: none"""
    folder: str = ""
    """what file names are relative to; set by the loader"""
