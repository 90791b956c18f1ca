"""What one run of the swarm is made of. A seed draws it; after that nothing is left to chance but jitter and loss.

Swarm testing: each seed switches a random part of the faults off altogether, so that rare combinations get their turn
instead of every run being the same grey mixture.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import Enum

from dsdproto.registry import CommitProfile
from reference_nodes.simulator.network import Conditions

MEMBERS = ("a", "b", "c", "d", "e", "f", "g", "h", "i")
DRAFTERS = ("p", "q")
CLIENT = "client"
LEADER = "leader"
"""In a fault: whoever leads the highest view when it strikes; the first member if nobody does."""


class Numerics(Enum):
    """How alike the targets of the members compute."""

    EQUAL = "equal"
    """one numeric profile: the stream must be the target's own"""
    PROFILES = "profiles"
    """each member its own numeric profile, and other tokens"""
    UNSTABLE = "unstable"
    """one profile, but other tokens at each member and in each of its lives: what no profile should do"""


class FaultKind(Enum):
    KILL = "kill"
    """a process ends and starts again ``length`` seconds later"""
    POWER = "power"
    """the same, but its peers hear nothing"""
    PAUSE = "pause"
    CUT = "cut"
    """the connection of a pair is reset"""
    ONE_WAY = "one-way"
    """nothing gets from ``who`` to ``other``"""
    PAIR = "pair"
    """nothing gets through between the two"""
    ISOLATE = "isolate"
    """nothing gets to ``who`` or from it"""
    SPLIT = "split"
    """the members fall into two parts: bit i of ``mask`` says which one member i is in"""
    CLOG = "clog"
    """everything from ``who`` to ``other`` is held back, for less time than a heartbeat"""


@dataclass(frozen=True, slots=True)
class Fault:
    at: float
    """seconds since the start"""
    kind: FaultKind
    who: str
    other: str = ""
    length: float = 0.5
    mask: int = 0
    kept: int = 0
    """records in flight that a crash leaves on the disk"""


@dataclass(frozen=True, slots=True)
class Scenario:
    seed: int
    """of jitter, loss and what else is drawn while it runs"""
    commit: CommitProfile = CommitProfile.QUORUM
    members: int = 3
    drafters: int = 0
    tokens: int = 12
    prompt: tuple[int, ...] = (3, 1, 4, 1, 5)
    opens_at: int = 0
    """number of the member that the client tries first"""
    closes_after: int = 0
    """tokens after which the client asks for no more; 0: never"""
    temperature: float = 0.0
    sampling_seed: int = 1
    numerics: Numerics = Numerics.EQUAL
    pinned: bool = False
    """the contract names the numeric profile"""
    chaos: float = 2.0
    """seconds of phase 1"""
    bound: float = 60.0
    """seconds that phase 2 may take"""
    left_out: tuple[str, ...] = ()
    """members, a minority, that stay dead in phase 2"""
    delay: float = 0.001
    jitter: float = 0.0
    forward: float = 0.01
    """seconds of a verification"""
    gather: float = 0.1
    """seconds that verified tokens may wait for more to be voted on with them"""
    expand: float = 0.003
    sync: float = 0.002
    """seconds of a disk's sync, on average"""
    slow_disk: str = ""
    """the member whose disk takes ten times as long"""
    drift: float = 0.0
    """rates of clocks differ from 1 by up to this much"""
    conditions: Conditions = field(default_factory=Conditions)
    faults: tuple[Fault, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The members, in the order of the group."""
        return MEMBERS[: self.members]


PROMPTS = ((3, 1, 4, 1, 5), (2, 7, 1, 8, 2, 8), (1,), (9, 9, 9))
SEEDS = 4
"""Sampling seeds in use: few, so that choices of the test model are computed once a process."""
SYNCS = (0.0, 0.001, 0.01, 0.1)
LENGTHS = (0.1, 1.0, 3.0)
LONGEST = 8.0
"""Seconds that one fault lasts."""


def draw(seed: int, commit: CommitProfile = CommitProfile.QUORUM) -> Scenario:
    """The scenario of a seed."""
    rng = random.Random(f"dsdp swarm {seed}")
    members = rng.choices((1, 3, 5), (1, 6, 2))[0]
    names = MEMBERS[:members]
    numerics = rng.choices(tuple(Numerics), (3, 4, 3))[0]
    heartbeat = rng.choice((0.3, 1.0, 4.0))
    storm = rng.random() < 0.4
    conditions = Conditions(
        heartbeat=heartbeat,
        redial=rng.choice((0.05, 0.25)),
        redial_longest=rng.choice((0.5, 2.0)),
        loss=rng.choice((0.0, 0.02, 0.2)) if storm else 0.0,
        duplicate=rng.choice((0.0, 0.1, 0.5)) if storm else 0.0,
        reorder=rng.choice((0.0, 0.1, 0.5)) if storm else 0.0,
        late=rng.choice((0.01, 0.1, 1.0)),
    )
    tokens = min(60, 4 + int(rng.expovariate(1 / 5)))
    delay, forward, sync = rng.choice((0.0, 0.0002, 0.005, 0.05)), rng.choice((0.001, 0.01, 0.05)), rng.choice(SYNCS)
    undisturbed = 0.01 + 4 * delay + 2 * sync + tokens * max(forward, sync / 4)
    faults, chaos = _faults(rng, names, undisturbed, heartbeat)
    return Scenario(
        seed=seed,
        commit=commit,
        members=members,
        drafters=rng.choices((0, 1, 2), (6, 2, 1))[0],
        tokens=tokens,
        prompt=rng.choice(PROMPTS),
        opens_at=rng.randrange(members),
        closes_after=rng.randrange(1, tokens) if rng.random() < 0.1 else 0,
        temperature=rng.choice((0.0, 0.8)),
        sampling_seed=rng.randrange(SEEDS),
        numerics=numerics,
        pinned=numerics is Numerics.EQUAL and rng.random() < 0.3,
        chaos=chaos,
        left_out=tuple(sorted(rng.sample(names, rng.randint(0, members // 2)))),
        delay=delay,
        jitter=rng.choice((0.0, 0.0, 0.001, 0.05)),
        forward=forward,
        expand=rng.choice((0.001, 0.01)),
        sync=sync,
        slow_disk=rng.choice(names) if rng.random() < 0.3 else "",
        drift=rng.choice((0.0, 0.0, 0.001, 0.2)),
        conditions=conditions,
        faults=faults,
        # Mostly not at all: where each token is voted on by itself, more can go wrong in as many events.
        gather=rng.choices((0.0, 0.03, 0.1), (6, 1, 1))[0],
    )


def _faults(
    rng: random.Random, names: tuple[str, ...], undisturbed: float, heartbeat: float
) -> tuple[tuple[Fault, ...], float]:
    """Faults of a random choice of kinds, the first one while the stream is under way, and when phase 1 is over."""
    kinds = [kind for kind in FaultKind if rng.random() < 0.4]
    count = rng.choice((1, 2, 4, 8)) if kinds else 0
    pace = rng.choice((0.02, 0.2, 0.6))
    at, end, faults = rng.uniform(0.0, undisturbed), 0.1, []
    for _ in range(count):
        kind = rng.choice(kinds)
        who, other = _pair(rng, names, kind)
        length = rng.uniform(0.0, heartbeat) if kind is FaultKind.CLOG else rng.expovariate(1 / rng.choice(LENGTHS))
        length = min(length + 0.001, LONGEST)
        faults.append(
            Fault(
                at=round(at, 4),
                kind=kind,
                who=who,
                other=other,
                length=round(length, 4),
                mask=rng.randrange(1, max(2, 2 ** len(names) - 1)),
                kept=rng.choice((0, 0, 1, 99)),
            )
        )
        end = max(end, at + length * rng.random())
        at += rng.expovariate(1 / pace)
    return tuple(faults), round(end + rng.choice((0.0, 0.1, 1.0)), 4)


def _pair(rng: random.Random, names: tuple[str, ...], kind: FaultKind) -> tuple[str, str]:
    aimed = rng.random() < 0.5
    if kind in (FaultKind.KILL, FaultKind.POWER, FaultKind.PAUSE, FaultKind.ISOLATE):
        return LEADER if aimed else rng.choice(names), ""
    who, other = rng.sample((*names, CLIENT), 2)
    if not aimed:
        return who, other
    return (LEADER, other) if rng.random() < 0.5 else (other, LEADER)
