"""One generation from a client's side: the stream, who proposed what, and how long it took."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dsdproto.identity import short_node_id
from dsdproto.registry import Finish
from dsdproto.roles.client import Committed, Completed, Interrupted, Resumed, Started
from dsdproto.roles.leader_session import WASTE_CAUSES
from dsdproto.wire.messages import Contract, DrafterEntry, Stats
from reference_nodes.client import PATIENCE, open_session
from reference_nodes.node import Node

Show = Callable[[tuple[int, ...], bytes], None]
"""Takes committed tokens and, for each, the number of the drafter that proposed it (0: the target's own)."""


@dataclass(slots=True)
class Stall:
    """An interruption of a `quorum` stream. Times in seconds."""

    position: int
    """tokens that had come, without the prompt"""
    reason: str
    begin: float
    """since OPEN, when the last token before it had come"""
    resumed: float | None = None
    """from the last token before it until a voter took over; the last time, if several did"""
    view: int = 0
    """that the stream went on in"""
    seconds: float | None = None
    """from the last token before it to the next one"""

    def document(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "at_token": self.position,
            "reason": self.reason,
            "view": self.view,
            "resumed_after_s": None if self.resumed is None else round(self.resumed, 4),
            "stall_s": None if self.seconds is None else round(self.seconds, 4),
        }


Watch = Callable[[Stall], None]
"""Takes a stall when it begins, when a voter serves the rest, and when tokens come again."""


@dataclass(slots=True)
class Generation:
    """What a session gave. Times in seconds from OPEN."""

    model: str = ""
    profile: str = ""
    tokens: list[int] = field(default_factory=list)
    origins: bytearray = field(default_factory=bytearray)
    drafters: Mapping[int, DrafterEntry] = field(default_factory=dict)
    finish: Finish | int = Finish.CLOSED
    stats: Stats | None = None
    first: float = 0.0
    """until the first committed token"""
    seconds: float = 0.0
    """until the end of the stream"""
    last: float = 0.0
    """until the last token so far"""
    stalls: list[Stall] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Tokens per second over the whole request, prompt included."""
        return len(self.tokens) / self.seconds if self.seconds else 0.0

    @property
    def rounds(self) -> int:
        return self.stats.rounds if self.stats else 0

    @property
    def drafted(self) -> int:
        return self.stats.drafted if self.stats else 0

    @property
    def accepted(self) -> int:
        return self.stats.accepted if self.stats else 0

    @property
    def waste(self) -> dict[str, int]:
        """Drafted tokens that were of no use, by cause."""
        counts = self.stats.waste if self.stats else ()
        return {cause.value: count for cause, count in zip(WASTE_CAUSES, counts) if count}

    @property
    def by_drafter(self) -> dict[int, int]:
        """Committed tokens by who proposed them; 0 is the target."""
        return dict(sorted(Counter(self.origins).items()))


async def generate(
    node: Node,
    contract: Contract,
    *,
    max_drafters: int = 8,
    leader: bytes | None = None,
    show: Show | None = None,
    watch: Watch | None = None,
    wait: float = 10.0,
    patience: float = PATIENCE,
) -> Generation:
    """Run one session to its end. Raises NoLeader, SessionFailed."""
    done = Generation()
    begin = time.perf_counter()
    async with open_session(
        node, contract, max_drafters=max_drafters, leader=leader, wait=wait, patience=patience
    ) as session:
        async for item in session:
            match item:
                case Started(model, _, profile):
                    done.model, done.profile = model, profile
                case Committed(_, tokens, origins):
                    now = time.perf_counter() - begin
                    if not done.tokens:
                        done.first = now
                    if done.stalls and done.stalls[-1].seconds is None:
                        done.stalls[-1].seconds = now - done.stalls[-1].begin
                        _tell(watch, done.stalls[-1])
                    done.last = now
                    who = origins or bytes(len(tokens))
                    done.tokens += tokens
                    done.origins += who
                    if show is not None:
                        show(tokens, who)
                case Interrupted(reason):
                    if not done.stalls or done.stalls[-1].seconds is not None:
                        done.stalls.append(Stall(len(done.tokens), reason, done.last))
                        _tell(watch, done.stalls[-1])
                case Resumed(view=view):
                    stall = done.stalls[-1]
                    stall.resumed, stall.view = time.perf_counter() - begin - stall.begin, view
                    _tell(watch, stall)
                case Completed(finish, stats):
                    done.seconds = time.perf_counter() - begin
                    done.finish, done.stats = finish, stats
        done.drafters = dict(session.drafters)
    return done


def _tell(watch: Watch | None, stall: Stall) -> None:
    if watch is not None:
        watch(stall)


def finish_name(finish: Finish | int) -> str:
    return finish.name.lower() if isinstance(finish, Finish) else str(finish)


def summary(generations: list[Generation]) -> dict[str, Any]:
    """Counts over all of ``generations``, with the names that the field uses (REFERENCES.md, section 5)."""
    tokens = sum(len(item.tokens) for item in generations)
    rounds = sum(item.rounds for item in generations)
    drafted = sum(item.drafted for item in generations)
    accepted = sum(item.accepted for item in generations)
    waste: Counter[str] = Counter()
    for item in generations:
        waste.update(item.waste)
    return {
        "tokens": tokens,
        "rounds": rounds,
        "drafted": drafted,
        "verified": sum(item.stats.verified for item in generations if item.stats),
        "accepted": accepted,
        "acceptance_rate": ratio(accepted, drafted),
        "mean_acceptance_length": round(1 + accepted / rounds, 4) if rounds else None,
        "target_forwards_per_token": ratio(rounds, tokens),
        "waste": dict(sorted(waste.items())),
    }


def drafter_list(generations: list[Generation]) -> list[dict[str, Any]]:
    """Each drafter that a token came from, with its share."""
    found: dict[bytes, dict[str, Any]] = {}
    for item in generations:
        for number, entry in sorted(item.drafters.items()):
            row = found.setdefault(
                entry.node_id, {"node": short_node_id(entry.node_id), "model": entry.model, "committed": 0}
            )
            row["committed"] += item.by_drafter.get(number, 0)
    return sorted(found.values(), key=lambda row: (row["model"], row["node"]))


def ratio(part: float, whole: float) -> float | None:
    """``part / whole`` to four places; None where there is nothing to divide by."""
    return round(part / whole, 4) if whole else None
