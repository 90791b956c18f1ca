"""The voter: keeps the ledgers of its sessions, votes, watches leaders, serves resuming clients (SPEC.md, section 16).

A session of the voter::

              ENLIST, promise stored: ENLISTED                 DISMISS resigned, link lost, error
    (none) -----------------------------------> FOLLOWING ----------------------------------------> SUSPECTING
                                                 |  ^   ^                                             |     |
             PREPARE, block stored: VOTE --------+  |   +------- ENLIST of this view or a later one --+     |
             COMMIT: blocks to its readers ---------+                  TAKE OVER told to the own leader, <--+
                                                                          again after a back-off

    finish committed, or nothing for the retention time -----> (none): FORGOTTEN is stored

Nothing that a voter says of its log leaves before the log is stored: promises and votes are in the ``then`` of a
Persist.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dsdproto.commit.ledger import Ledger, mismatch
from dsdproto.commit.quorum import distance, leader_of, next_view
from dsdproto.commit.records import Accepted, Committed, Forgotten, Founded, Promised, VoterRecord
from dsdproto.effects import (
    CancelTimer,
    Deliver,
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Persist,
    Received,
    Refuse,
    Send,
    SetTimer,
    Tell,
    TimerFired,
)
from dsdproto.errors import LocalError, PeerError
from dsdproto.registry import DismissReason, ErrorCode, Role, Scope
from dsdproto.roles.leader_session import Answers, Key, Note, TakeOver
from dsdproto.roles.readers import Readers
from dsdproto.wire.groups import split_group
from dsdproto.wire.messages import Close, Commit, Dismiss, Enlist, Error, Prepare, Resume, Vote


@dataclass(frozen=True, slots=True)
class VoterConfig:
    suspect_after: float = 0.3
    """seconds without a leader before the next node in turn takes over; the one after it waits twice as long (Q-41)"""
    max_back_off: float = 5.0
    """longest time between two tries of the next in turn; the one after it waits twice as long (clause Q-42)"""
    retention: float = 600.0
    """seconds that a session is kept after the last that happened to it (clause Q-63)"""
    max_sessions: int = 1024
    max_forgotten: int = 1 << 16
    """names of sessions that are kept after their ledgers (clause Q-63)"""


@dataclass(slots=True)
class Seat:
    """One session at this voter."""

    ledger: Ledger
    number: int
    """of this node in the group"""
    leader: Key | None = None
    """open channel of the promised view's leader"""
    tries: int = 0
    """times that it asked its own leader to take over since it last accepted a block: a promise alone is no reason to
    be hasty again, or two candidates could depose each other in step for ever (clause Q-42)"""
    tried: int = 0
    """the last view that it asked for: another voter may have promised a later one meanwhile (clause Q-42)"""
    active: float = 0.0
    """when something happened last"""


@dataclass(slots=True)
class Voter:
    """``handle(event, now) -> effects`` for the voter role of one node.

    :param node_id: this node's, as it stands in groups.
    """

    config: VoterConfig
    node_id: bytes
    seats: dict[bytes, Seat] = field(default_factory=dict)
    """by session"""
    forgotten: dict[bytes, None] = field(default_factory=dict)
    """names of sessions that it let go, oldest first"""
    readers: Readers = field(default_factory=Readers)
    _by_leader: dict[Key, Seat] = field(default_factory=dict)
    _peers: dict[int, bytes] = field(default_factory=dict)
    """node id behind each link"""

    # ------------------------------------------------------------ after a restart

    def restore(self, records: Iterable[VoterRecord]) -> None:
        """Replay what was stored, oldest first. Call once, before any event; then :meth:`wake`.

        Raises LocalError for records that no voter of this node id stores in this order.
        """
        for record in records:
            if isinstance(record, Founded):
                group = split_group(record.group)
                self.seats[record.session] = Seat(Ledger.founded(record, group), group.index(self.node_id))
                continue
            seat = self.seats.get(record.session)
            if seat is None and isinstance(record, Forgotten):
                self._let_go(record.session)  # a store may keep no more of a session than this
                continue
            if seat is None:
                raise LocalError(f"a stored {type(record).__name__} of session {record.session.hex()}, never founded")
            match record:
                case Promised():
                    seat.ledger.replay_promise(record)
                case Accepted():
                    seat.ledger.replay_accepted(record)
                case Committed():
                    seat.ledger.replay_committed(record)
                case Forgotten():
                    self._let_go(record.session)

    def wake(self, now: float) -> list[Effect]:
        """Start the timers of restored sessions."""
        effects: list[Effect] = []
        for session, seat in self.seats.items():
            seat.active = now
            effects.append(SetTimer(("forget", session), now + self.config.retention))
            self._suspect(seat, now, effects)
        return effects

    # ------------------------------------------------------------ events

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event; ``now`` in seconds. Never raises for anything that a peer did."""
        effects: list[Effect] = []
        match event:
            case LinkUp():
                self._peers[event.link] = event.peer.node_id
            case LinkDown():
                self._peers.pop(event.link, None)
                self.readers.link_down(event.link)
                for key in [key for key in self._by_leader if key[0] == event.link]:
                    self._leader_gone(key, now, effects)
            case Received():
                try:
                    self._received((event.link, event.channel), event.message, now, effects)
                except PeerError as error:
                    effects.append(Refuse(event.link, event.channel, error))
                    self.readers.drop((event.link, event.channel))
                    self._leader_gone((event.link, event.channel), now, effects)
            case TimerFired():
                self._timer(event.key, now, effects)
        return effects

    def _received(self, key: Key, message: object, now: float, effects: list[Effect]) -> None:
        match message:
            case Enlist():
                self._enlist(key, message, now, effects)
            case Resume():
                self._resume(key, message, now, effects)
            case Close() if key in self.readers.at:
                seat = self.seats[self.readers.at[key].session]
                effects += self.readers.close(key, seat.ledger)
            case Error() if key in self.readers.at:
                self.readers.drop(key)
            case Prepare() if key in self._by_leader:
                self._prepare(key, self._by_leader[key], message, now, effects)
            case Commit() if key in self._by_leader:
                self._commit(self._by_leader[key], message, now, effects)
            case Dismiss() if key in self._by_leader:
                self._dismissed(key, message, now, effects)
            case Error() if key in self._by_leader:
                session = self._by_leader[key].ledger.session
                effects.append(Deliver(Note(f"the leader gave up: {message.text}", session)))
                self._leader_gone(key, now, effects)
            case _:
                text = f"{type(message).__name__} is not what a voter takes at this point"
                raise PeerError(ErrorCode.MESSAGE_UNEXPECTED, "Q-10", text, scope=Scope.SESSION)

    # ------------------------------------------------------------ promises

    def _enlist(self, key: Key, message: Enlist, now: float, effects: list[Effect]) -> None:
        sender = self._peers.get(key[0])
        group = self._group_of(message)
        if sender != group[leader_of(message.view, len(group))]:
            raise mismatch("Q-11", f"ENLIST of view {message.view} from a node that does not lead it")
        if message.committed < len(message.contract.prompt):
            raise mismatch("Q-17", f"ENLIST knows {message.committed} tokens, the prompt has more")
        seat = self.seats.get(message.session)
        if message.session in self.forgotten:
            raise self._unknown(message.session, "Q-63")
        if seat is None:
            seat = self._found(message, group, now, effects)
        else:
            self._check_promise(seat, message, group, sender == self.node_id)
        ledger = seat.ledger
        if seat.leader is not None:  # of the same view, or this one would have been refused (clause Q-14)
            self._by_leader.pop(seat.leader, None)
            text = f"the leader of view {message.view} opened another channel"
            effects.append(Refuse(*seat.leader, PeerError(ErrorCode.SESSION_EXISTS, "Q-16", text)))
        if (message.model, message.profile) != (ledger.model, ledger.profile):
            effects += self.readers.leave(message.session, "the stream goes on with another numeric profile: resume")
        seat.leader, seat.active = key, now
        self._by_leader[key] = seat
        promised = ledger.promise(message)
        effects.append(CancelTimer(("suspect", message.session)))
        effects.append(Persist(promised, (Send(*key, ledger.report(message.committed)),)))

    def _group_of(self, message: Enlist) -> tuple[bytes, ...]:
        try:
            group = split_group(message.group)
        except ValueError as error:
            raise mismatch("Q-1", f"group: {error}") from error
        if self.node_id not in group:
            raise mismatch("Q-11", "ENLIST for a group that this node is not in")
        return group

    def _found(self, message: Enlist, group: tuple[bytes, ...], now: float, effects: list[Effect]) -> Seat:
        if len(self.seats) >= self.config.max_sessions:
            text = f"{len(self.seats)} sessions, which is this voter's limit"
            raise PeerError(ErrorCode.OVERLOADED, "Q-63", text, scope=Scope.SESSION)
        record = Founded(session=message.session, contract=message.contract, group=message.group)
        seat = self.seats[message.session] = Seat(Ledger.founded(record, group), group.index(self.node_id))
        effects.append(Persist(record, ()))
        effects.append(SetTimer(("forget", message.session), now + self.config.retention))
        return seat

    def _check_promise(self, seat: Seat, message: Enlist, group: tuple[bytes, ...], own: bool) -> None:
        ledger = seat.ledger
        if (message.contract, group) != (ledger.contract, ledger.group):
            raise mismatch("Q-12", "ENLIST with another contract or group than this session was founded with")
        if message.view < ledger.promised or (own and message.view == ledger.promised):
            clause = "Q-13" if message.view < ledger.promised else "Q-15"
            text = f"view {message.view}, but view {ledger.promised} was promised"
            raise PeerError(ErrorCode.VIEW_STALE, clause, text, scope=Scope.SESSION)
        if message.view > ledger.promised and seat.leader is not None:
            text = f"view {message.view}, but the leader of view {ledger.promised} is connected"
            raise PeerError(ErrorCode.LEADER_ALIVE, "Q-14", text, scope=Scope.SESSION)

    # ------------------------------------------------------------ blocks

    def _prepare(self, key: Key, seat: Seat, message: Prepare, now: float, effects: list[Effect]) -> None:
        seat.active = now
        accepted = seat.ledger.accept(message)
        seat.tries = seat.tried = 0
        vote = Send(*key, Vote(view=message.view, height=message.height, digest=message.digest))
        # A repeated block may still be on its way to the disk, so this vote queues behind it like any other.
        effects.append(Persist(accepted or seat.ledger.promise_again(), (vote,)))

    def _commit(self, seat: Seat, message: Commit, now: float, effects: list[Effect]) -> None:
        seat.active = now
        if seat.ledger.commit(message):
            effects += self.readers.advance(seat.ledger)
            if seat.ledger.finished:
                effects.append(Persist(seat.ledger.end_committed, ()))

    def _dismissed(self, key: Key, message: Dismiss, now: float, effects: list[Effect]) -> None:
        seat = self._by_leader[key]
        if message.reason == DismissReason.SESSION_ENDED and seat.ledger.empty:
            self._by_leader.pop(key)
            self._forget(seat, effects)  # it never began
        else:
            self._leader_gone(key, now, effects)

    # ------------------------------------------------------------ leaders that are gone

    def _leader_gone(self, key: Key, now: float, effects: list[Effect]) -> None:
        seat = self._by_leader.pop(key, None)
        if seat is not None:
            seat.leader = None
            self._suspect(seat, now, effects)

    def _suspect(self, seat: Seat, now: float, effects: list[Effect]) -> None:
        """Wait for another leader, then ask the own one (clauses Q-40 to Q-42)."""
        ledger = seat.ledger
        if ledger.finished:
            return
        turn = self.config.suspect_after * distance(ledger.promised, seat.number, len(ledger.group))
        # The factor has a bound and not the wait: where all wait equally long, two candidates collide for ever.
        longest = max(1.0, self.config.max_back_off / self.config.suspect_after)
        effects.append(SetTimer(("suspect", ledger.session), now + turn * min(2.0**seat.tries, longest)))

    def _timer(self, key: tuple[str, bytes], now: float, effects: list[Effect]) -> None:
        kind, session = key
        seat = self.seats.get(session)
        if seat is None:
            return
        if kind == "forget":
            due = seat.active + self.config.retention
            if now < due or self.readers.has(session) or (seat.leader is not None and not seat.ledger.finished):
                effects.append(SetTimer(key, max(due, now + self.config.retention / 8)))
            else:
                self._forget(seat, effects)
        elif seat.leader is None and not seat.ledger.finished:
            ledger = seat.ledger
            seat.tries += 1
            seat.tried = next_view(max(ledger.promised, seat.tried), seat.number, len(ledger.group))
            take_over = TakeOver(
                session=session,
                contract=ledger.contract,
                group=ledger.group,
                view=seat.tried,
                committed=ledger.chain.tokens_from(len(ledger.contract.prompt))[
                    : ledger.committed - len(ledger.contract.prompt)
                ],
                finished=ledger.finish is not None,
                answers=Answers(ledger.model, ledger.profile, ledger.profile_text),
                max_drafters=ledger.max_drafters,
            )
            self._suspect(seat, now, effects)
            effects.append(Tell(Role.LEADER, take_over))

    def _forget(self, seat: Seat, effects: list[Effect]) -> None:
        session = seat.ledger.session
        self._let_go(session)
        if seat.leader is not None:
            self._by_leader.pop(seat.leader, None)
        effects += self.readers.leave(session, "this voter let go of the session")
        effects += [CancelTimer(("suspect", session)), CancelTimer(("forget", session))]
        effects.append(Persist(Forgotten(session=session), ()))

    def _let_go(self, session: bytes) -> None:
        """Drop a ledger but not its name: an empty ledger of that name would lose what was committed (clause Q-63)."""
        self.seats.pop(session, None)
        self.forgotten[session] = None
        while len(self.forgotten) > self.config.max_forgotten:
            del self.forgotten[next(iter(self.forgotten))]

    # ------------------------------------------------------------ clients

    def _resume(self, key: Key, message: Resume, now: float, effects: list[Effect]) -> None:
        seat = self.seats.get(message.session)
        if seat is None:
            raise self._unknown(message.session, "Q-50")
        seat.active = now
        effects += self.readers.resume(key, message, seat.ledger)

    @staticmethod
    def _unknown(session: bytes, clause: str) -> PeerError:
        text = f"session {session.hex()} is not known here"
        return PeerError(ErrorCode.SESSION_UNKNOWN, clause, text, scope=Scope.SESSION)
