"""What a leader knows of one session: the verified prefix, the draft trie, who drafts, who verifies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from dsdproto.policy.acceptance import AcceptanceEstimator
from dsdproto.policy.lag import LagEstimator
from dsdproto.prefix import PrefixChain
from dsdproto.trie import DraftTrie, Subtree, Waste
from dsdproto.wire.messages import Contract, DrafterEntry, Stats

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


@dataclass(frozen=True, slots=True)
class EndRecord:
    """What is stored before END is sent; as records are stored in order, no BLOCK can come after it (clause K-3)."""

    session: bytes
    finish: int
    position: int
    digest: bytes


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
    """rounds in which it proposed, or in which nodes of its were verified"""
    help: float = 1.0
    """accepted nodes per such round, smoothed"""
    spoke: bool = False
    """it proposed since the last ADVANCE"""
    useless: int = 0
    """messages since the last ADVANCE that brought no node (clause D-19)"""


@dataclass(slots=True)
class VerifierSeat:
    """The verifier that a session is assigned to."""

    key: Key
    since: float
    """when ASSIGN was sent"""
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
    drafters: dict[Key, DrafterSeat] = field(default_factory=dict)
    left_drafters: set[int] = field(default_factory=set)
    """links whose drafter left this session or was put aside (clause D-13)"""
    failed_verifiers: set[int] = field(default_factory=set)
    """links whose verifier failed this session or refused it (clause L-9)"""
    answers: tuple[str, bytes] | None = None
    """model and numeric profile that OPENED named; only such a verifier may go on (clause L-5)"""
    orphan_since: float | None = None
    """since when it has no verifier (clause L-4)"""
    entries: dict[int, DrafterEntry] = field(default_factory=dict)
    """every drafter that was ever attached, by its number"""
    announced: set[int] = field(default_factory=set)
    """numbers that the client knows"""
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

    @property
    def opened(self) -> bool:
        """OPENED was sent."""
        return self.answers is not None

    @property
    def committed(self) -> tuple[int, ...]:
        """Verified tokens after the prompt, as ATTACH and ASSIGN carry them."""
        return self.chain.tokens_from(len(self.contract.prompt))

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
