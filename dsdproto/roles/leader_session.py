"""What a leader knows of one session: the verified prefix, the draft trie, who drafts, who verifies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dsdproto.policy.acceptance import UNSCORED, AcceptanceEstimator, probability_of
from dsdproto.policy.lag import LagEstimator
from dsdproto.prefix import PrefixChain
from dsdproto.trie import DraftTrie, Subtree, Waste
from dsdproto.wire.messages import Advance, Contract, DrafterEntry, Stats

Key = tuple[int, int]
"""(link, channel)"""

WASTE_CAUSES = tuple(Waste)
"""Order of ``Stats.waste`` (SPEC.md, registry "waste causes")."""


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """What is stored before a block is delivered: a step of the stream, by name (clause K-2)."""

    session: bytes
    view: int
    height: int
    position: int
    """length of the prefix that the block extends"""
    base: bytes
    """its full digest"""
    tokens: tuple[int, ...]
    digest: bytes
    """full digest after the block"""


@dataclass(slots=True)
class DrafterSeat:
    """One drafter attached to one session."""

    key: Key
    entry: DrafterEntry
    """``number`` is also its source in the trie"""
    credit: int
    sent: int = 0
    """nodes received over the life of the channel; the next one has this number plus 1"""
    known: dict[int, tuple[int, int]] = field(default_factory=dict)
    """trie node id -> (the drafter's number for it, its score), live nodes only"""
    acceptance: AcceptanceEstimator = field(default_factory=AcceptanceEstimator)
    lag: LagEstimator = field(default_factory=LagEstimator)
    rounds: int = 0
    """verifications that held nodes of this drafter"""
    announced: bool = False
    """the client knows the entry"""

    def cost(self, score: int) -> int:
        """Path cost that the trie uses: -16 log2 of the calibrated acceptance probability, u8."""
        return self.acceptance.cost(score)


@dataclass(slots=True)
class VerifierSeat:
    """The verifier that a session is assigned to."""

    key: Key
    max_nodes: int = 0
    max_context: int = 0
    ready: bool = False
    """ASSIGNED has come"""
    round: int = 0


@dataclass(slots=True)
class InFlight:
    """A VERIFY that waits for its verdict."""

    subtree: Subtree
    since: float


@dataclass(slots=True)
class Session:
    key: Key
    """the client's channel"""
    id: bytes
    contract: Contract
    chain: PrefixChain
    trie: DraftTrie
    max_drafters: int
    origins: bool
    opened: bool = False
    drafters: dict[Key, DrafterSeat] = field(default_factory=dict)
    excluded: set[int] = field(default_factory=set)
    """links whose drafter or verifier failed this session"""
    next_number: int = 1
    verifier: VerifierSeat | None = None
    in_flight: InFlight | None = None
    waited: bool = False
    """waiting for drafts was in vain in this round"""
    height: int = 0
    rounds: int = 0
    verified: int = 0
    accepted: int = 0
    overhead: float = 0.0
    """seconds of a round besides the forward, smoothed"""

    def seat_of(self, number: int) -> DrafterSeat | None:
        """The attached drafter with this number."""
        for seat in self.drafters.values():
            if seat.entry.number == number:
                return seat
        return None

    def stats(self) -> Stats:
        """Counts so far, in the form that END carries."""
        waste: Counter[Waste] = Counter()
        for (_, cause), count in self.trie.waste.items():
            waste[cause] += count
        return Stats(
            rounds=self.rounds,
            drafted=self.trie.drafted.total(),
            verified=self.verified,
            accepted=self.accepted,
            waste=tuple(waste[cause] for cause in WASTE_CAUSES),
        )


def reach_of(trie: DraftTrie, subtree: Subtree) -> list[float]:
    """Estimated probability of each node of ``subtree`` to be on the target's path."""
    reach: list[float] = []
    for node_id, parent in zip(subtree.nodes, subtree.parents):
        node = trie.node(node_id)
        assert node is not None
        above = reach[parent - 1] if parent else 1.0
        reach.append(above * probability_of(node.cost))
    return reach


def first_nodes(subtree: Subtree, count: int) -> Subtree:
    """The likeliest ``count`` nodes; a best-first order can be cut anywhere."""
    return Subtree(
        subtree.position,
        subtree.digest,
        subtree.tokens[:count],
        subtree.parents[:count],
        subtree.nodes[:count],
    )


def observe_trials(session: Session, subtree: Subtree, path: list[int]) -> None:
    """Feed what a verdict showed to the estimators of those who drafted.

    :param path: numbers of the accepted nodes, root side first.
    """
    visited = {0, *path}
    hits = set(path)
    brought: Counter[int] = Counter()
    took_part: set[int] = set()
    for number, (node_id, parent) in enumerate(zip(subtree.nodes, subtree.parents), start=1):
        for seat in session.drafters.values():
            known = seat.known.get(node_id)
            if known is None:
                continue
            took_part.add(seat.entry.number)
            brought[seat.entry.number] += number in hits
            if parent in visited:
                seat.acceptance.observe(known[1], number in hits)
    for seat in session.drafters.values():
        if seat.entry.number in took_part:
            seat.rounds += 1
            seat.lag.brought(brought[seat.entry.number])


def nodes_along(trie: DraftTrie, tokens: tuple[int, ...]) -> list[int]:
    """Ids of the trie's nodes along ``tokens`` from the root, as far as there are any."""
    ids: list[int] = []
    children = trie.children(None)
    for token in tokens:
        node = children.get(token)
        if node is None:
            break
        ids.append(node.id)
        children = node.children
    return ids


def advance_for(seat: DrafterSeat, position: int, tokens: tuple[int, ...], path: list[int]) -> Advance:
    """Tell one drafter about the new prefix without repeating what it proposed itself (clause D-7).

    :param position: length of the prefix after ``tokens``.
    :param path: trie node ids along ``tokens``, from :func:`nodes_along`.
    """
    for depth in range(len(path), 0, -1):
        known = seat.known.get(path[depth - 1])
        if known is not None:
            return Advance(position=position, ref=known[0], tokens=tokens[depth:])
    return Advance(position=position, ref=0, tokens=tokens)


def score_of(scores: bytes | None, index: int) -> int:
    """The score that a PROPOSE gives its node, or the neutral one."""
    return UNSCORED if scores is None else scores[index]
