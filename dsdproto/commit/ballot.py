"""A leader's books of one session in one view: who promised, what they hold, what a majority voted for.

::

    majority promised, own voter last      best log adopted        PREPARE, VOTE, COMMIT ...
    ASKING ------------------------------> ADOPTED -------------------------------------> finish committed

Pure state over the messages of the commit plane (SPEC.md, clauses Q-30 to Q-39);
:mod:`dsdproto.roles.leader_commit` sends what follows from it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

from dsdproto.commit.ledger import mismatch
from dsdproto.commit.quorum import majority, reached_by_majority
from dsdproto.effects import Key
from dsdproto.prefix import PrefixChain
from dsdproto.wire.messages import Block, Commit, Enlisted, Prepare, Vote


@dataclass(slots=True)
class Member:
    """One voter of the group, as this leader sees it."""

    node_id: bytes
    key: Key | None = None
    """its open channel"""
    report: Enlisted | None = None
    """what it answered on that channel; None: it has not"""
    sent: int = 0
    """height of the last block sent to it"""
    voted: int = 0
    """highest height that it voted for in this view; survives its channel, for what is stored stays stored"""
    waiting: float | None = None
    """since when it owes an answer"""
    untold: bool = False
    """more is committed than it was told on this channel"""

    @property
    def enlisted(self) -> bool:
        return self.report is not None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A block that is being voted on."""

    height: int
    position: int
    """of its end"""
    digest: bytes
    finish: int | None
    blocks: tuple[Block, ...]
    """what the client gets when it commits"""


@dataclass(slots=True)
class Ballot:
    view: int
    own: bytes
    """node id of the leader, whose own voter is a member too"""
    members: dict[bytes, Member]
    """in the order of the group"""
    committed: int
    """position known to be committed"""
    since: float
    """when it began, or when it last had a majority enlisted"""
    adopted: bool = False
    height: int = 0
    """of the last block of the leader's log"""
    proposed: bool = False
    """a block of this view exists"""
    committed_height: int = 0
    """of the last block committed in this view"""
    proposed_to: int = 0
    """position of the end of the leader's log, as far as it was adopted or proposed"""
    proposed_at: float = -inf
    """when it proposed last"""
    pending: deque[Proposal] = field(default_factory=deque)

    @classmethod
    def open(cls, view: int, own: bytes, group: tuple[bytes, ...], committed: int, now: float) -> Ballot:
        """A ballot that nobody has answered yet."""
        members = {node_id: Member(node_id) for node_id in group}
        return cls(view, own, members, committed, now, proposed_to=committed)

    @property
    def majority(self) -> int:
        return majority(len(self.members))

    @property
    def enlisted(self) -> list[Member]:
        """Members with an open channel that promised this view."""
        return [member for member in self.members.values() if member.enlisted]

    def to_ask(self) -> list[Member]:
        """Members without a channel that may be asked now: the own voter only once it decides (clause Q-30)."""
        others = [member for member in self.members.values() if member.key is None and member.node_id != self.own]
        own = self.members[self.own]
        if own.key is None and len(self.enlisted) >= self.majority - 1:
            others.append(own)
        return others

    def lost(self, key: Key) -> None:
        """A channel is gone."""
        for member in self.members.values():
            if member.key == key:
                member.key = member.report = member.waiting = None
                member.untold = False
                member.sent = 0  # on its next channel it is caught up first (clause Q-33)

    def by_key(self, key: Key) -> Member:
        """The member behind an open channel."""
        return next(member for member in self.members.values() if member.key == key)

    # ------------------------------------------------------------ the start of a view

    def enlist(self, member: Member, report: Enlisted, chain: PrefixChain) -> None:
        """Take a member's report. ``chain`` is the leader's, which is final only once a log is adopted.

        Raises PeerError(LEDGER_MISMATCH) for one that contradicts itself, or what was adopted (clause Q-31).
        """
        if report.committed > report.position:
            raise mismatch("Q-31", f"{report.committed} tokens committed in a log that ends at {report.position}")
        if self.adopted:
            self.check_known(report, chain)
        member.report, member.waiting = report, None

    @staticmethod
    def check_known(report: Enlisted, chain: PrefixChain) -> None:
        """Raises PeerError(LEDGER_MISMATCH) for commits that this leader does not have (clause Q-31)."""
        if report.committed > chain.position:
            raise mismatch("Q-31", f"{report.committed} tokens committed there, this log has {chain.position}")

    @property
    def ready_to_adopt(self) -> bool:
        """A majority has promised, the own voter among it."""
        return not self.adopted and len(self.enlisted) >= self.majority and self.members[self.own].enlisted

    @property
    def best(self) -> Member:
        """The member with the best log (clause Q-31); somebody is enlisted."""
        reports = [(member, member.report) for member in self.members.values() if member.report is not None]
        return max(reports, key=lambda pair: (pair[1].view, pair[1].height))[0]

    def adopt(self, chain: PrefixChain) -> int | None:
        """Extend ``chain``, which ends at the commit position, by the best log's rest; returns that log's finish.

        Raises PeerError(LEDGER_MISMATCH) for a best log that does not extend what is committed (clause Q-31).
        """
        best = self.best.report
        assert best is not None
        if chain.position + len(best.tokens) != best.position:
            raise mismatch("Q-31", f"the best log ends at {best.position}, but its rest has {len(best.tokens)} tokens")
        if PrefixChain(chain.digest, best.tokens).digest != best.digest:
            raise mismatch("Q-31", f"the best log's rest from {chain.position} does not lead to its digest")
        chain.extend(best.tokens)
        self.adopted, self.height = True, best.height
        return best.finish

    # ------------------------------------------------------------ blocks

    def propose(self, chain: PrefixChain, finish: int | None, blocks: tuple[Block, ...], now: float) -> None:
        """One more block of the leader's log: from the end of the last one to the end of ``chain``."""
        self.height, self.proposed = self.height + 1, True
        self.proposed_to, self.proposed_at = chain.position, now
        self.pending.append(Proposal(self.height, chain.position, chain.digest, finish, blocks))

    def catch_up(self, member: Member, chain: PrefixChain, finish: int | None) -> Prepare | None:
        """What brings a voter from its own commit position to the end of the leader's log (clause Q-33).

        None as long as no block of this view exists: a log that ended before it would be taken for a better one.
        """
        report = member.report
        assert report is not None
        if not self.proposed:
            return None
        member.sent = self.height
        return Prepare(
            view=self.view,
            height=self.height,
            position=report.committed,
            base=chain.digest_at(report.committed),
            tokens=chain.tokens_from(report.committed),
            digest=chain.digest,
            finish=finish,
        )

    def vote(self, member: Member, vote: Vote) -> list[Proposal]:
        """Count a vote; returns the blocks that it commits, in order.

        Raises PeerError(LEDGER_MISMATCH) for a vote on something that was not proposed.
        """
        if vote.view != self.view or vote.height > member.sent:
            raise mismatch(
                "Q-24", f"VOTE of view {vote.view} for height {vote.height}; view {self.view}, {member.sent} sent"
            )
        named = next((proposal for proposal in self.pending if proposal.height == vote.height), None)
        if named is not None and named.digest != vote.digest:
            raise mismatch("Q-24", f"VOTE for {vote.digest.hex()[:16]} at height {vote.height}, which was not proposed")
        member.voted = max(member.voted, vote.height)
        reached = reached_by_majority((each.voted for each in self.members.values()), len(self.members))
        committed = []
        while self.pending and self.pending[0].height <= reached:
            proposal = self.pending.popleft()
            self.committed, self.committed_height = proposal.position, proposal.height
            committed.append(proposal)
        return committed

    def commit(self, chain: PrefixChain) -> Commit | None:
        """How far the stream is committed, as voters are told (clause Q-39); None: nothing in this view yet."""
        if self.committed_height == 0:
            return None
        return Commit(
            view=self.view,
            height=self.committed_height,
            position=self.committed,
            digest=chain.digest_at(self.committed),
        )
