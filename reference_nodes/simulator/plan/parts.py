"""The parts of a scenario that stand for the world: devices, nodes, links, what is asked, how often drafts are right.

Times in seconds. The text below a field is its line in the guide (:mod:`.keys`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from reference_nodes.simulator.plan.schema import (
    Amount,
    Bandwidth,
    Number,
    Positive,
    Rate,
    Seconds,
    Share,
)

# ---------------------------------------------------------------- devices


@dataclass(frozen=True, slots=True)
class Affine:
    """A device whose step time is a sum of constants."""

    kind: ClassVar[str] = "affine"
    base: Seconds
    """of any forward"""
    per_row: Seconds = 0.0
    """verifier: one row for the prefix end and one for each draft node; drafter: one for each expanded node"""
    per_session: Seconds = 0.0
    """for each session in the forward"""
    per_context: Seconds = 0.0
    """for each token of the prefixes of the sessions in the forward"""
    per_prefill: Seconds = 0.0
    """for each prompt position that is computed"""
    fused: bool = True
    """a chunk of a prompt is part of the forward that scores others; otherwise it is a forward of its own, before it"""
    spread: Amount = 0.0
    """standard deviation of the step time's logarithm; the constants are the median"""
    overhead: Seconds = 0.0
    """of the node around each job; not part of the forward that it reports"""
    per_message: Seconds = 0.0
    """for each message that comes in while a job runs: its node handles it at the job's expense"""


@dataclass(frozen=True, slots=True)
class Table:
    """A device as ``dsdp profile`` measured it."""

    kind: ClassVar[str] = "table"
    profile: str
    """file, relative to the scenario's"""
    scale: Positive = 1.0
    """of all its times"""
    spread: Literal["measured", "none"] = "measured"
    """whether times vary as they did when they were measured, or are the medians"""


Device = Affine | Table


# ---------------------------------------------------------------- nodes and links

RoleName = Literal["client", "leader", "verifier", "drafter", "voter"]


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that are alike: ``name-0`` to ``name-(count-1)``."""

    name: str
    """at most 20 bytes"""
    count: Number
    """of nodes"""
    roles: tuple[RoleName, ...]
    """of each of them"""
    device: str = ""
    """what its verifier or drafter computes on"""
    drafter_device: str = ""
    """the same for the drafter alone, where a node is both; empty: ``device``"""
    draft_model: str = "default"
    """names the entry of ``acceptance``"""
    slots: Number = 1
    """jobs of a node at the same time; its roles share them"""
    sync: Seconds = 0.0
    """of a write to its disk"""


@dataclass(frozen=True, slots=True)
class Link:
    """How nodes of two groups are connected, each with each."""

    between: tuple[str, str]
    """names of two groups, or twice the same"""
    rtt: Seconds = 0.0
    """there and back, without jitter"""
    jitter: Seconds = 0.0
    """each way takes up to this much longer, evenly distributed"""
    bandwidth: Bandwidth = 0.0
    """each way and each pair of nodes; 0: no limit"""
    loss: Share = 0.0
    """chance of a segment to be lost: it comes a retransmission later, and all behind it wait"""
    retransmit: Seconds = 0.0
    """until a lost segment is sent again; 0: twice the round trip plus 10 ms, as a tail-loss probe takes"""


# ---------------------------------------------------------------- workload


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same."""

    kind: ClassVar[str] = "constant"
    SHORTHAND: ClassVar[str] = "tokens"
    tokens: Number
    """a number alone means the same: ``output = 128``"""


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Many short and few long ones."""

    kind: ClassVar[str] = "lognormal"
    median: Positive
    """tokens"""
    sigma: Amount
    """standard deviation of the logarithm"""
    low: Number = 1
    """what is less becomes this"""
    high: Number = 1 << 16
    """what is more becomes this"""


@dataclass(frozen=True, slots=True)
class FromTrace:
    """As the requests of a trace, drawn at random where arrivals are not the trace's own."""

    kind: ClassVar[str] = "trace"
    file: str
    """as of a workload of kind ``trace``; relative to the scenario's"""


@dataclass(frozen=True, slots=True)
class FromRecord:
    """As the streams that acceptance was recorded on."""

    kind: ClassVar[str] = "recorded"


Length = Constant | Lognormal | FromTrace | FromRecord


@dataclass(frozen=True, slots=True)
class Poisson:
    """Requests come independently of each other, at a rate, over all clients."""

    kind: ClassVar[str] = "poisson"
    rate: Rate
    """requests per second, all clients together"""
    prompt: Length = Constant(64)
    """its length, tokens"""
    output: Length = Constant(128)
    """length of the answer, tokens"""


@dataclass(frozen=True, slots=True)
class Closed:
    """Each client asks again when it has its answer, after thinking."""

    kind: ClassVar[str] = "closed"
    clients: Number
    """spread over the client nodes in turn"""
    think: Seconds = 0.0
    """mean; exponentially distributed"""
    ramp: Seconds = 0.0
    """the first requests come evenly within this time"""
    prompt: Length = Constant(64)
    """its length, tokens"""
    output: Length = Constant(128)
    """length of the answer, tokens"""


@dataclass(frozen=True, slots=True)
class Trace:
    """The requests of a file, one JSON object a line: ``arrival_ms``, ``prompt_tokens``, ``target_tokens``."""

    kind: ClassVar[str] = "trace"
    file: str
    """relative to the scenario's"""
    speed: Positive = 1.0
    """2: arrivals twice as fast"""
    repeat: bool = False
    """begin again at its end, until the scenario's"""


Workload = Poisson | Closed | Trace


# ---------------------------------------------------------------- acceptance


@dataclass(frozen=True, slots=True)
class Iid:
    """Each position by itself."""

    kind: ClassVar[str] = "iid"
    rates: tuple[Share, ...]
    """chance that the target's token is the drafter's first choice, its second, and so on; together at most 1"""


@dataclass(frozen=True, slots=True)
class Markov:
    """Two kinds of text, easy and hard, that come in stretches."""

    kind: ClassVar[str] = "markov"
    good: tuple[Share, ...]
    """rates, as of kind ``iid``, in an easy stretch"""
    bad: tuple[Share, ...]
    """the same in a hard one"""
    worsens: Share
    """chance to go from good to bad at a position"""
    improves: Share
    """chance to go from bad to good"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a real pair did (``dsdp record``)."""

    kind: ClassVar[str] = "recorded"
    file: str
    """relative to the scenario's"""
    order: Literal["cycle", "random"] = "cycle"
    """which stream a session follows: session n the n-th, or any"""


Acceptance = Iid | Markov | Recorded
