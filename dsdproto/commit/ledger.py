"""The ledger of one session at one voter: what it promised, accepted and knows committed (SPEC.md, section 16.3).

A ledger is pure state. It judges ENLIST, PREPARE and COMMIT, applies what is right and says what has to be stored
before anyone is told; :mod:`dsdproto.roles.voter` does the telling. The log is the token chain after the prompt; of
its blocks only the last one's (view, height) is kept, for that decides which log is best (clause Q-31).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dsdproto.commit.records import Accepted, Committed, Founded, Promised
from dsdproto.errors import PeerError
from dsdproto.prefix import PrefixChain, PrefixError
from dsdproto.registry import ErrorCode, Scope
from dsdproto.session import chain_of
from dsdproto.wire.messages import Commit, Contract, Enlist, Enlisted, Prepare


def mismatch(clause: str, text: str) -> PeerError:
    """What contradicts the ledger ends the channel on which it came."""
    return PeerError(ErrorCode.LEDGER_MISMATCH, clause, text, scope=Scope.SESSION)


@dataclass(slots=True)
class Ledger:
    session: bytes
    contract: Contract
    group: tuple[bytes, ...]
    chain: PrefixChain = field(init=False)
    """prompt and log"""
    promised: int = 0
    model: str = ""
    profile: bytes = bytes(32)
    profile_text: str = ""
    max_drafters: int = 0
    """as the latest leader said it; a leader that takes over keeps to it (clause ROLE-1)"""
    view: int = 0
    """of the last block"""
    height: int = 0
    """of the last block; 0 without blocks"""
    finish: int | None = None
    """the last block ends the stream"""
    committed: int = field(init=False)
    """position, prompt included"""
    committed_height: int = 0
    finished: bool = False
    """the end of the stream is committed, and stays so when a later leader has it voted on once more"""

    def __post_init__(self) -> None:
        self.chain = chain_of(self.contract)
        self.committed = self.chain.position

    @classmethod
    def founded(cls, record: Founded, group: tuple[bytes, ...]) -> Ledger:
        """An empty ledger."""
        return cls(record.session, record.contract, group)

    @property
    def empty(self) -> bool:
        """No block was ever accepted."""
        return self.height == 0

    # ------------------------------------------------------------ promises

    def promise(self, enlist: Enlist) -> Promised:
        """Take part in the view of ``enlist``; the caller has checked that it may be promised."""
        record = Promised(
            session=self.session,
            view=enlist.view,
            model=enlist.model,
            profile=enlist.profile,
            profile_text=enlist.profile_text,
            max_drafters=enlist.max_drafters or 0,
        )
        self.replay_promise(record)
        return record

    def promise_again(self) -> Promised:
        """The promise as it stands, to be stored once more: what waits for it waits for all that is stored before."""
        return Promised(
            session=self.session,
            view=self.promised,
            model=self.model,
            profile=self.profile,
            profile_text=self.profile_text,
            max_drafters=self.max_drafters,
        )

    def report(self, committed: int) -> Enlisted:
        """The answer to an ENLIST whose leader knows ``committed`` (clause Q-17)."""
        return Enlisted(
            view=self.view,
            height=self.height,
            committed=self.committed,
            position=self.chain.position,
            digest=self.chain.digest,
            tokens=self.chain.tokens_from(committed) if committed < self.chain.position else (),
            finish=self.finish,
        )

    # ------------------------------------------------------------ blocks

    def accept(self, prepare: Prepare) -> Accepted | None:
        """Take a PREPARE of the promised view; None: it is in the log already (clause Q-23).

        Raises PeerError(LEDGER_MISMATCH); then nothing has changed.
        """
        end = prepare.position + len(prepare.tokens)
        if prepare.view != self.promised:
            raise mismatch("Q-21", f"PREPARE of view {prepare.view} on a channel of view {self.promised}")
        if prepare.tokens and max(prepare.tokens) >= self.contract.vocabulary_size:
            raise mismatch("Q-25", f"PREPARE holds id {max(prepare.tokens)}, outside the vocabulary")
        if prepare.position < len(self.contract.prompt) or not self.chain.names(prepare.position, prepare.base):
            raise mismatch(
                "Q-22",
                f"PREPARE extends {prepare.base.hex()[:16]} at {prepare.position}, which is not in this log; "
                f"it ends at {self.chain.position}, {self.committed} are committed",
            )
        if PrefixChain(prepare.base, prepare.tokens).digest != prepare.digest:
            raise mismatch("Q-25", f"PREPARE at {prepare.position}: its tokens do not lead to its digest")
        if self.view == self.promised and prepare.height <= self.height:
            return self._repeated(prepare, end)
        self._check_committed(prepare, end)
        record = Accepted(
            session=self.session,
            view=prepare.view,
            height=prepare.height,
            position=prepare.position,
            tokens=prepare.tokens,
            digest=prepare.digest,
            committed=self.committed,
            finish=prepare.finish,
        )
        self.replay_accepted(record)
        return record

    def _repeated(self, prepare: Prepare, end: int) -> None:
        if end > self.chain.position or self.chain.digest_at(end) != prepare.digest:
            raise mismatch(
                "Q-23",
                f"PREPARE of height {prepare.height}, but this log holds other tokens up to {self.height} "
                f"of view {self.view}: a leader never says two things at one height",
            )

    def _check_committed(self, prepare: Prepare, end: int) -> None:
        overlap = min(end, self.committed)
        same = end >= self.committed and (
            overlap <= prepare.position
            or PrefixChain(prepare.base, prepare.tokens[: overlap - prepare.position]).digest
            == self.chain.digest_at(overlap)
        )
        if same and self.finished:
            same = (end, prepare.digest, prepare.finish) == (self.chain.position, self.chain.digest, self.finish)
        if not same:
            text = f"PREPARE from {prepare.position} to {end} would change what is committed up to {self.committed}"
            raise mismatch("Q-22", text)

    def commit(self, commit: Commit) -> bool:
        """Learn how far the stream is committed; returns whether that is news. Raises PeerError(LEDGER_MISMATCH)."""
        if commit.view != self.promised:
            raise mismatch("Q-21", f"COMMIT of view {commit.view} on a channel of view {self.promised}")
        held = (self.view, self.height) >= (commit.view, commit.height)
        if not held or not self.chain.names(commit.position, commit.digest):
            raise mismatch(
                "Q-39", f"COMMIT of height {commit.height} at {commit.position}, which this log does not hold"
            )
        if commit.height <= self.committed_height or commit.position < self.committed:
            return False
        self.committed, self.committed_height = commit.position, commit.height
        self.finished |= self.finish is not None and commit.height >= self.height
        return True

    # ------------------------------------------------------------ after a restart

    def replay_promise(self, record: Promised) -> None:
        """Apply a stored promise."""
        self.promised = record.view
        self.model, self.profile, self.profile_text = record.model, record.profile, record.profile_text
        self.max_drafters = record.max_drafters

    def replay_accepted(self, record: Accepted) -> None:
        """Apply a stored block. Raises PrefixError when it does not fit what was stored before."""
        common = 0
        for token in self.chain.tokens_from(record.position):
            if common == len(record.tokens) or token != record.tokens[common]:
                break
            common += 1
        self.chain.truncate(record.position + common)
        self.chain.extend(record.tokens[common:])
        if self.chain.digest != record.digest:
            raise PrefixError(f"the stored block {record.height} of view {record.view} does not fit the log before it")
        self.view, self.height, self.finish = record.view, record.height, record.finish
        # A commit position that was not stored is learned again from the next leader.
        self.committed = max(self.committed, record.committed)

    def replay_committed(self, record: Committed) -> None:
        """Apply the stored knowledge that the end of the stream is committed."""
        self.committed, self.committed_height, self.finished = record.position, record.height, True

    @property
    def end_committed(self) -> Committed:
        """What is stored once the stream is :attr:`finished`."""
        return Committed(session=self.session, height=self.committed_height, position=self.committed)
