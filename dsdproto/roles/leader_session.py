"""What a leader knows of one session: the verified prefix, the draft trie, who drafts, who verifies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from dsdproto.effects import Key
from dsdproto.policy.acceptance import AcceptanceEstimator
from dsdproto.policy.lag import LagEstimator
from dsdproto.policy.windows import Adaptive, WindowPolicy
from dsdproto.prefix import PrefixChain
from dsdproto.registry import Finish
from dsdproto.trie import DraftTrie, Subtree, Waste
from dsdproto.wire.messages import Block, Contract, DrafterEntry, Stats

if TYPE_CHECKING:
    from dsdproto.commit.ballot import Ballot


@dataclass(frozen=True, slots=True)
class Answers:
    """The target that a stream comes from: what OPENED says (clause S-14)."""

    model: str
    profile: bytes
    profile_text: str


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


@dataclass(frozen=True, slots=True)
class Note:
    """Something that an operator may want to know; delivered to the application, never to peers."""

    text: str
    session: bytes | None = None


@dataclass(frozen=True, slots=True)
class TakeOver:
    """A voter asks the leader of its own node to lead a session from here on (clause Q-41)."""

    session: bytes
    contract: Contract
    group: tuple[bytes, ...]
    view: int
    committed: tuple[int, ...]
    """known to be committed, after the prompt"""
    finished: bool
    """the log ends the stream: no verifier is needed to bring it to its end"""
    answers: Answers
    """of the view before"""
    max_drafters: int


@dataclass(slots=True)
class DrafterSeat:
    """One drafter attached to one session."""

    key: Key
    entry: DrafterEntry
    """``number`` is also its source in the trie"""
    credit: int
    """the greatest that it was told (clause D-6)"""
    sent: int = 0
    """nodes received over the life of the channel; the next one has this number plus 1"""
    known: dict[int, tuple[int, int, bool]] = field(default_factory=dict)
    """trie node id -> (the drafter's number for it, its score, its first choice there), live nodes only"""
    acceptance: AcceptanceEstimator = field(default_factory=AcceptanceEstimator)
    lag: LagEstimator = field(default_factory=LagEstimator)
    rounds: int = 0
    """rounds in which it proposed, or in which nodes of its were verified"""
    help: float = 1.0
    """accepted nodes per such round, smoothed"""
    told: tuple[int, int] = (0, 0)
    """credit and window as it was told last"""
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
    id: bytes
    client: Key | None
    """the channel of the client that opened it; None: nobody reads here"""
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
    answers: Answers | None = None
    """once known, only such a verifier may go on (clause L-5)"""
    opened: bool = False
    """OPENED was sent, now or in an earlier view"""
    ballot: Ballot | None = None
    """of the `quorum` profile"""
    gathered: list[Block] = field(default_factory=list)
    """verified, and not proposed yet (clause Q-36)"""
    window: WindowPolicy = field(default_factory=Adaptive)
    verified_at: float = -inf
    """when the last verdict came, or the verifier was ready for the first round"""
    pace: float = 0.0
    """seconds between the last two"""
    finish: Finish | None = None
    """the end of the stream is proposed; no more rounds"""
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
    view: int = 0
    height: int = 0
    """of the next block"""
    rounds: int = 0
    verified: int = 0
    accepted: int = 0
    overhead: float = 0.0
    """seconds of a round besides the forward, smoothed"""

    @property
    def may_commit(self) -> bool:
        """Blocks may be proposed: not before a majority follows the view."""
        return self.ballot is None or self.ballot.adopted

    @property
    def wants_workers(self) -> bool:
        """Rounds are to be run, or will be. A founder's stream begins at the prompt, so its workers may read that
        while the voters promise; where another leader takes over, the voters know where the stream ends.
        """
        return self.finish is None and (self.may_commit or self.view == 0)

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
