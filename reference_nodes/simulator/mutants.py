"""Planted bugs: each takes one rule out of the commit machines, and the swarm has to notice.

A mutant wraps or replaces one or two functions while :func:`planted` is open; the machines themselves do not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from dsdproto.commit import ballot as ballot_module
from dsdproto.commit.ballot import Ballot
from dsdproto.commit.ledger import Ledger
from dsdproto.commit.quorum import leader_of
from dsdproto.commit.records import Accepted, Promised
from dsdproto.effects import Effect, Persist, Refuse, Send, SetTimer
from dsdproto.errors import LocalError, PeerError
from dsdproto.registry import ErrorCode
from dsdproto.roles import leader_commit
from dsdproto.roles import voter as voter_module
from dsdproto.roles.readers import Readers
from dsdproto.roles.voter import Voter
from dsdproto.wire.messages import Vote

Patch = tuple[Any, str, Callable[[Any], Any]]
"""(owner, attribute, what makes the replacement of the original)"""


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    breaks: str
    """the clause"""
    text: str
    patches: tuple[Patch, ...]


MUTANTS: dict[str, Mutant] = {}


def mutant(breaks: str, *places: tuple[Any, str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a bug: the decorated function makes a replacement from the original, one for all ``places``."""

    def register(make: Callable[..., Any]) -> Callable[..., Any]:
        name = make.__name__.replace("_", "-")
        text = " ".join((make.__doc__ or "").split())
        MUTANTS[name] = Mutant(name, breaks, text, tuple((owner, attribute, make) for owner, attribute in places))
        return make

    return register


@contextmanager
def planted(name: str) -> Iterator[Mutant]:
    """The machines have this bug as long as the context is open. Raises LocalError for a name that is not known."""
    if name not in MUTANTS:
        raise LocalError(f"no mutant {name!r}; there are {', '.join(MUTANTS)}")
    found = MUTANTS[name]
    originals = [(owner, attribute, vars(owner)[attribute]) for owner, attribute, _ in found.patches]
    try:
        for (owner, attribute, make), (_, _, original) in zip(found.patches, originals):
            setattr(owner, attribute, make(original))
        yield found
    finally:
        for owner, attribute, original in originals:
            setattr(owner, attribute, original)


def _unstored(effects: list[Effect], kind: type) -> list[Effect]:
    """The same effects, but what waits for a record of ``kind`` does not wait and the record is not stored."""
    out: list[Effect] = []
    for effect in effects:
        if isinstance(effect, Persist) and isinstance(effect.record, kind):
            out += effect.then
        else:
            out.append(effect)
    return out


# ---------------------------------------------------------------- the voter: promises


@mutant("Q-10", (Voter, "_enlist"))
def promise_is_not_stored(original):
    """ENLISTED is sent without storing the promise."""

    def enlist(self, key, message, now, effects):
        mine: list[Effect] = []
        original(self, key, message, now, mine)
        effects += _unstored(mine, Promised)

    return enlist


@mutant("Q-61", (Voter, "restore"))
def promise_is_forgotten_by_a_restart(original):
    """After a restart only the blocks are read back, not the promises."""

    def restore(self, records):
        original(self, records)
        for seat in self.seats.values():
            seat.ledger.promised = seat.ledger.view

    return restore


@mutant("Q-13", (Voter, "_check_promise"))
def older_view_is_promised_again(original):
    """ENLIST of a view older than the promised one is taken."""
    return _tolerant(original, ErrorCode.VIEW_STALE)


def _tolerant(original, code):
    def check(self, seat, message, group, own):
        try:
            original(self, seat, message, group, own)
        except PeerError as error:
            if error.code is not code:
                raise

    return check


@mutant("Q-14, Q-16, Q-21", (Voter, "_enlist"), (Voter, "_check_promise"), (Ledger, "accept"))
def older_leader_is_not_fenced_off(original):
    """A newer view is promised at any time; the older leader keeps its channel, and its blocks are accepted."""
    if original.__name__ == "_check_promise":
        return _tolerant(original, ErrorCode.LEADER_ALIVE)
    if original.__name__ == "accept":
        return lambda self, prepare: _of_any_view(original, self, prepare)

    def enlist(self, key, message, now, effects):
        before = dict(self._by_leader)
        mine: list[Effect] = []
        original(self, key, message, now, mine)
        seat = self.seats[message.session]
        self._by_leader.update({old: of for old, of in before.items() if of is seat})
        effects += [effect for effect in mine if not isinstance(effect, Refuse)]

    return enlist


def _of_any_view(original, ledger, prepare):
    promised, ledger.promised = ledger.promised, prepare.view
    try:
        return original(ledger, prepare)
    finally:
        ledger.promised = promised


@mutant("Q-15", (voter_module, "next_view"), (Voter, "_check_promise"), (Voter, "wake"))
def view_is_used_twice(original):
    """A leader that starts again goes on at once, in the view that it led before."""
    if original.__name__ == "wake":

        def wake(self, now):
            effects = original(self, now)
            return [
                replace(effect, at=now) if isinstance(effect, SetTimer) and effect.key[0] == "suspect" else effect
                for effect in effects
            ]

        return wake
    if original.__name__ == "_check_promise":

        def check(self, seat, message, group, own):
            original(self, seat, message, group, own and message.view != seat.ledger.promised)

        return check

    def next_view(promised, number, n):
        return promised if promised and leader_of(promised, n) == number else original(promised, number, n)

    return next_view


@mutant("Q-17", (Voter, "_enlist"))
def log_is_cut_at_a_view_change(original):
    """A voter drops what it accepted and does not know to be committed when it promises a newer view."""

    def enlist(self, key, message, now, effects):
        seat = self.seats.get(message.session)
        if seat is not None and message.view > seat.ledger.promised:
            seat.ledger.chain.truncate(seat.ledger.committed)
        original(self, key, message, now, effects)

    return enlist


@mutant("Q-61", (Voter, "restore"))
def label_is_forgotten_by_a_restart(original):
    """After a restart the log is there, but not the view and height of its last block."""

    def restore(self, records):
        original(self, records)
        for seat in self.seats.values():
            seat.ledger.view = seat.ledger.height = 0

    return restore


# ---------------------------------------------------------------- the voter: blocks


@mutant("Q-20", (Voter, "_prepare"))
def block_is_not_stored(original):
    """VOTE is sent and the block kept in memory only."""

    def prepare(self, key, seat, message, now, effects):
        mine: list[Effect] = []
        original(self, key, seat, message, now, mine)
        effects += _unstored(mine, Accepted)

    return prepare


@mutant("Q-20", (Voter, "_prepare"))
def vote_overtakes_the_disk(original):
    """VOTE leaves at once; the block is stored when the disk gets to it."""

    def prepare(self, key, seat, message, now, effects):
        mine: list[Effect] = []
        original(self, key, seat, message, now, mine)
        for effect in mine:
            effects += [replace(effect, then=()), *effect.then] if isinstance(effect, Persist) else [effect]

    return prepare


@mutant("Q-22", (Voter, "_prepare"))
def base_is_not_checked(original):
    """A block whose base is not in the log is voted for."""

    def prepare(self, key, seat, message, now, effects):
        try:
            original(self, key, seat, message, now, effects)
        except PeerError:
            effects.append(Send(*key, Vote(view=message.view, height=message.height, digest=message.digest)))

    return prepare


@mutant("Q-23", (Ledger, "_repeated"))
def repetition_cuts_the_log(original):
    """A PREPARE that repeats an older block cuts off what came after it."""

    def repeated(self, prepare, end):
        original(self, prepare, end)
        record = Accepted(
            session=self.session,
            view=prepare.view,
            height=prepare.height,
            position=prepare.position,
            tokens=prepare.tokens,
            digest=prepare.digest,
            committed=min(self.committed, end),
            finish=prepare.finish,
        )
        self.replay_accepted(record)
        return record

    return repeated


@mutant("Q-39", (Ledger, "commit"))
def commit_is_believed_blindly(original):
    """COMMIT is taken for whatever the log holds at that position."""

    def commit(self, commit):
        position = min(commit.position, self.chain.position)
        if position <= self.committed:
            return False
        self.committed, self.committed_height = position, min(commit.height, self.height)
        return True

    return commit


@mutant("Q-50", (Readers, "_serve"))
def readers_get_what_is_not_committed(original):
    """A client that resumes is served the whole log of the voter."""

    def serve(self, key, ledger):
        committed, ledger.committed = ledger.committed, ledger.chain.position
        try:
            return original(self, key, ledger)
        finally:
            ledger.committed = committed

    return serve


@mutant("Q-50", (Readers, "resume"))
def resume_starts_at_the_commit_position(original):
    """A client that resumes is served from the voter's commit position on, not from its own position."""

    def resume(self, key, message, ledger):
        effects = original(self, key, message, ledger)
        reader = self.at.get(key)
        if reader is None or reader.digest is None:
            return effects[:1]
        reader.position = ledger.committed
        return effects

    return resume


# ---------------------------------------------------------------- the leader


@mutant("Q-34", (ballot_module, "reached_by_majority"))
def minority_commits(original):
    """One vote less than a majority commits a block."""

    def reached(heights, n):
        ordered = sorted(heights, reverse=True)
        return ordered[max(0, n // 2 - 1)]

    return reached


@mutant("Q-30", (Ballot, "majority"))
def minority_elects(original):
    """A leader begins with one promise less than a majority."""
    return property(lambda self: max(1, len(self.members) // 2))


@mutant("Q-34", (Ballot, "vote"))
def votes_are_counted_not_voters(original):
    """A voter that votes twice for a block counts as two."""

    def vote(self, member, vote):
        if member.voted >= vote.height:
            for other in self.members.values():
                if other.voted < vote.height:
                    other.voted = vote.height
                    break
        return original(self, member, vote)

    return vote


def _adopting(choose: Callable[[list[Any]], Any]) -> Callable[[Ballot, Any], int | None]:
    def adopt(self, chain):
        best = choose([member.report for member in self.enlisted])
        chain.extend(best.tokens)
        self.adopted, self.height = True, max(member.report.height for member in self.enlisted)
        return best.finish

    return adopt


@mutant("Q-31", (Ballot, "adopt"))
def shortest_log_is_adopted(original):
    """A new leader adopts the log that ends first."""
    return _adopting(lambda reports: min(reports, key=lambda report: len(report.tokens)))


@mutant("Q-31", (Ballot, "adopt"))
def longest_log_is_adopted(original):
    """A new leader adopts the log with the most tokens, whatever view its last block is of."""
    return _adopting(lambda reports: max(reports, key=lambda report: len(report.tokens)))


@mutant("Q-31", (Ballot, "adopt"))
def own_log_is_adopted(original):
    """A new leader goes on with the log of its own voter."""

    def adopt(self, chain):
        best = self.members[self.own].report
        chain.extend(best.tokens)
        self.adopted, self.height = True, max(member.report.height for member in self.enlisted)
        return best.finish

    return adopt


@mutant("Q-32", (Ballot, "adopt"))
def adopted_log_counts_as_committed(original):
    """What the best log holds is taken to be committed, without a vote in the new view."""

    def adopt(self, chain):
        finish = original(self, chain)
        self.committed, self.committed_height = chain.position, self.height
        return finish

    return adopt


@mutant("Q-32", (Ballot, "adopt"))
def adopted_log_is_not_proposed(original):
    """The rest of the best log is kept, but not proposed anew: the next block extends it."""

    def adopt(self, chain):
        position = chain.position
        finish = original(self, chain)
        self.committed += chain.position - position
        return None if chain.position > position else finish

    return adopt


@mutant("Q-35", (leader_commit, "propose"))
def client_reads_before_the_commit(original):
    """A block goes to the client when it is proposed."""

    def propose(session, now, effects):
        if session.client is not None:
            effects += [Send(*session.client, block) for block in session.gathered]
        session.gathered = []
        original(session, now, effects)

    return propose


@mutant("Q-23, Q-34", (Ballot, "propose"), (Ledger, "_repeated"))
def two_blocks_have_one_height(original):
    """Every second block of a leader has the height of the one before; voters vote for a height that they know."""
    if original.__name__ == "_repeated":
        return lambda self, prepare, end: None

    def propose(self, chain, finish, blocks, now):
        if self.height % 2 and self.pending:
            self.height -= 1
        original(self, chain, finish, blocks, now)

    return propose


@mutant("Q-34", (Ballot, "adopt"))
def heights_begin_anew_after_a_takeover(original):
    """A new leader counts its blocks from 1 again."""

    def adopt(self, chain):
        finish = original(self, chain)
        self.height = 0
        return finish

    return adopt
