"""The leader: owns sessions, keeps their draft tries, asks for verification, drives the commit (SPEC.md, "Leader").

A session of the leader::

            OPEN                  ASSIGNED                          finish
    (none) ------> ASSIGNING -----------------> RUNNING ---------------------------> ENDED (END sent)
                    |   ^                        |    |
                    |   |  verifier lost, failed |    +-- client gone, CLOSE ------> ENDED
                    |   +------------------------+
                    +-- nobody verifies in time: ERROR to the client

A running session turns in rounds. Nothing in a round waits for a drafter, unless waiting pays (policy/window.py)::

    choose the best subtree of the trie -> VERIFY -> VERDICT -> extend the prefix, re-root the trie
      ^                                                            |-> ADVANCE to each drafter
      |                                                            |-> Persist(block) then BLOCK to the client
      +------------------------------------------------------------+

The next round starts without waiting for the block to be stored; only delivery waits for that. Under the `quorum`
profile storing is a vote of the session's group: see :mod:`dsdproto.roles.leader_commit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dsdproto.effects import (
    LOCAL_FAR,
    LOCAL_NEAR,
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
    TimerFired,
)
from dsdproto.errors import PeerError
from dsdproto.policy.cost import CostModel
from dsdproto.policy.routing import Router, ShortestQueue
from dsdproto.policy.windows import Adaptive, WindowPolicy
from dsdproto.prefix import PrefixChain
from dsdproto.registry import CommitProfile, DismissReason, ErrorCode, Feature, Finish, Scope
from dsdproto.roles import leader_commit, leader_workers
from dsdproto.roles.leader_rounds import Outcome, advance_for, ask, plan_round, take_proposal, take_verdict
from dsdproto.roles.leader_seats import choose_verifier
from dsdproto.roles.leader_session import (
    Answers,
    BlockRecord,
    DrafterSeat,
    EndRecord,
    InFlight,
    Key,
    Note,
    Session,
    TakeOver,
    VerifierSeat,
)
from dsdproto.session import chain_of, check_method
from dsdproto.trie import DraftTrie
from dsdproto.wire.messages import (
    Assigned,
    Attached,
    Close,
    Contract,
    Detach,
    End,
    Error,
    Hello,
    Open,
    Propose,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class LeaderConfig:
    max_sessions: int = 256
    max_drafters: int = 8
    credit: int = 48
    """draft nodes that one drafter may have outstanding in one session"""
    window: int = 8
    """nodes that a drafter is asked to send at once"""
    width: int = 3
    """children of a node that drafters may propose; 1 asks for chains"""
    window_policy: Callable[[], WindowPolicy] = Adaptive
    """makes one for each session: what to verify, what to wait for, how far drafters may run ahead"""
    router: Router = field(default_factory=ShortestQueue)
    """which of several verifiers gets a session"""
    trie_nodes: int = 256
    max_ahead: int = 64
    verifier_patience: float = 10.0
    """seconds that a session waits for a verifier before it fails (clause L-4)"""
    answer_patience: float = 60.0
    """seconds that a verifier may take to answer ASSIGN or VERIFY (clause L-8)"""
    useless_messages: int = 64
    """PROPOSE messages without any new node that a drafter may send between two ADVANCE messages (clause D-19)"""
    hopeless: float = 0.03
    """accepted tokens per round below which a drafter is sent away"""
    hopeless_after: int = 48
    """rounds that it gets to prove itself"""
    group_size: int = 3
    """voters of a session under the `quorum` profile; odd, this node's included (clause Q-1)"""
    pipeline: int = 16
    """blocks that may wait for votes before rounds pause (clause Q-36)"""
    vote_patience: float = 2.0
    """seconds that a voter may take to answer ENLIST or PREPARE (clause Q-44)"""
    gather_for: float = 0.1
    """seconds between two PREPAREs of a session within which verified tokens wait for more to come along (Q-36)"""
    tell_within: float = 0.25
    """seconds that the news of a commit may wait for a block to travel with (clause Q-39)"""
    resign_after: float = 2.0
    """seconds without a majority before the leader gives up (clause Q-43)"""


@dataclass(slots=True)
class Leader:
    """``handle(event, now) -> effects`` for the leader role of one node.

    :param open_channel: gives a fresh channel number on a link (``NodeMachine.channel``).
    """

    config: LeaderConfig
    open_channel: Callable[[int], int]
    sessions: dict[bytes, Session] = field(default_factory=dict)
    """by session id"""
    peers: dict[int, LinkUp] = field(default_factory=dict)
    met: dict[bytes, Hello] = field(default_factory=dict)
    """voters that it has or had a link to, by node id, the one that came or went last at the end (clause Q-4)"""
    costs: dict[int, CostModel] = field(default_factory=dict)
    """by the verifier's link"""
    finished: int = 0
    refused: int = 0
    by_voter: dict[Key, Session] = field(default_factory=dict)
    _by_client: dict[Key, Session] = field(default_factory=dict)
    by_verifier: dict[Key, Session] = field(default_factory=dict)
    by_drafter: dict[Key, Session] = field(default_factory=dict)

    def handle(self, event: Event | TakeOver, now: float) -> list[Effect]:
        """Take one event; ``now`` in seconds. Never raises for anything that a peer did."""
        effects: list[Effect] = []
        match event:
            case LinkUp():
                self._link_up(event, now, effects)
            case LinkDown():
                self._link_down(event, now, effects)
            case Received():
                try:
                    self._received(event, now, effects)
                except PeerError as error:
                    self._refuse((event.link, event.channel), error, now, effects)
            case TimerFired():
                self._timer(event, now, effects)
            case TakeOver():
                self._take_over(event, now, effects)
        return effects

    # ------------------------------------------------------------ links

    def _link_up(self, event: LinkUp, now: float, effects: list[Effect]) -> None:
        self.peers[event.link] = event
        if event.link not in (LOCAL_NEAR, LOCAL_FAR):
            leader_commit.meet(self.met, event.peer)
        for session in list(self.sessions.values()):
            if session.ballot is not None:
                leader_commit.ask_members(self, session, session.ballot, now, effects)
            if session.wants_workers:
                if session.verifier is None:
                    leader_workers.assign(self, session, now, effects)
                leader_workers.attach_drafters(self, session, effects)

    def _link_down(self, event: LinkDown, now: float, effects: list[Effect]) -> None:
        lost = self.peers.pop(event.link, None)
        if lost is not None and lost.peer.node_id in self.met:
            leader_commit.meet(self.met, self.met[lost.peer.node_id])
        self.costs.pop(event.link, None)
        for session in list(self.sessions.values()):
            session.left_drafters.discard(event.link)
            session.failed_verifiers.discard(event.link)
            if session.client is not None and session.client[0] == event.link:
                self._client_gone(session, effects)
                if session.id not in self.sessions:
                    continue
            for key in [key for key, of in self.by_voter.items() if key[0] == event.link and of is session]:
                leader_commit.member_gone(self, session, key, now, effects)
            for key in [key for key in session.drafters if key[0] == event.link]:
                leader_workers.unseat_drafter(self, session, key)
            if session.verifier is not None and session.verifier.key[0] == event.link:
                leader_workers.verifier_lost(
                    self, session, f"the link to the verifier was lost: {event.reason}", now, effects
                )
            else:
                self.next_round(session, now, effects)

    def _timer(self, event: TimerFired, now: float, effects: list[Effect]) -> None:
        kind, session_id = event.key
        session = self.sessions.get(session_id)
        if session is None:
            return
        if kind == "drafts":
            for seat in session.drafters.values():
                if seat.lag.since is not None:
                    seat.lag.gave_up()
            session.waited = True
            self.next_round(session, now, effects)
        elif kind == "commit":
            leader_commit.tick(self, session, now, effects)
        elif kind == "gather":
            leader_commit.propose_gathered(session, now, effects)
        elif kind == "tell":
            leader_commit.tell_all(session, effects)
        elif kind == "answer":
            leader_workers.answer_due(self, session, now, effects)
        elif kind == "verifier" and session.orphan_since is not None:
            error = PeerError(
                ErrorCode.VERIFIER_LOST,
                "L-4",
                f"no verifier for {session.contract.model or 'this vocabulary'!r} within "
                f"{self.config.verifier_patience:g} s; the stream stands at position {session.chain.position}",
            )
            if session.ballot is not None:
                leader_commit.resign(self, session, error, now, effects)
            elif session.client is not None:
                self.drop(session, effects)
                effects.append(Refuse(*session.client, error))

    # ------------------------------------------------------------ messages

    def _received(self, event: Received, now: float, effects: list[Effect]) -> None:
        key = (event.link, event.channel)
        message = event.message
        if isinstance(message, Open):
            self._open(key, message, now, effects)
        elif key in self._by_client:
            self._from_client(self._by_client[key], message, now, effects)
        elif key in self.by_voter:
            leader_commit.from_voter(self, self.by_voter[key], key, message, now, effects)
        elif key in self.by_verifier:
            self._from_verifier(self.by_verifier[key], message, now, effects)
        elif key in self.by_drafter:
            session = self.by_drafter[key]
            self._from_drafter(session, session.drafters[key], message, now, effects)

    def _from_client(self, session: Session, message: object, now: float, effects: list[Effect]) -> None:
        match message:
            case Close():
                self._close(session, now, effects)
            case Error():
                self._client_gone(session, effects)
            case _:
                raise _unexpected(message, "S-1", "a client")

    def _from_verifier(self, session: Session, message: object, now: float, effects: list[Effect]) -> None:
        seat = session.verifier
        assert seat is not None
        match message:
            case Assigned() if not seat.ready:
                leader_workers.assigned(self, session, seat, message, now, effects)
            case Verdict() if session.in_flight is not None:
                self._verdict(session, seat, session.in_flight, message, now, effects)
            case Error():
                session.failed_verifiers.add(seat.key[0])
                leader_workers.verifier_lost(self, session, message.text, now, effects, message)
            case _:
                raise _unexpected(message, "V-1", "a verifier")

    def _from_drafter(
        self, session: Session, seat: DrafterSeat, message: object, now: float, effects: list[Effect]
    ) -> None:
        match message:
            case Propose():
                take_proposal(session, seat, message, self.config.useless_messages, now)
            case Attached():
                return
            case Detach() | Error():
                text = message.text if isinstance(message, Error) else f"reason {message.reason}"
                effects.append(Deliver(Note(f"drafter {seat.entry.number} left: {text}", session.id)))
                session.left_drafters.add(seat.key[0])
                leader_workers.unseat_drafter(self, session, seat.key)
            case _:
                raise _unexpected(message, "D-1", "a drafter")
        self.next_round(session, now, effects)

    def _refuse(self, key: Key, error: PeerError, now: float, effects: list[Effect]) -> None:
        """A peer broke a rule: its channel ends, the session goes on without it where it can."""
        self.refused += 1
        effects.append(Refuse(*key, error))
        effects.append(Deliver(Note(f"refused on channel {key[1]} of link {key[0]}: {error}")))
        if key in self._by_client:
            self._client_gone(self._by_client[key], effects)
        elif key in self.by_voter:
            leader_commit.member_gone(self, self.by_voter[key], key, now, effects)
        elif key in self.by_verifier:
            session = self.by_verifier[key]
            session.failed_verifiers.add(key[0])
            leader_workers.verifier_lost(self, session, error.text, now, effects, error.reply)
        elif key in self.by_drafter:
            session = self.by_drafter[key]
            session.left_drafters.add(key[0])
            leader_workers.unseat_drafter(self, session, key)
            self.next_round(session, now, effects)

    # ------------------------------------------------------------ opening

    def _open(self, key: Key, message: Open, now: float, effects: list[Effect]) -> None:
        contract = message.contract
        if key in self._by_client:
            raise PeerError(ErrorCode.SESSION_EXISTS, "S-1", "this channel holds a session already")
        if len(self.sessions) >= self.config.max_sessions:
            raise PeerError(ErrorCode.OVERLOADED, "L-2", f"{len(self.sessions)} sessions, which is this leader's limit")
        if message.session in self.sessions:
            raise PeerError(ErrorCode.SESSION_EXISTS, "S-1", f"session {message.session.hex()} is open already")
        check_method(contract)
        if contract.commit_profile not in (CommitProfile.SOLO, CommitProfile.QUORUM):
            raise PeerError(
                ErrorCode.COMMIT_PROFILE_UNSUPPORTED,
                "K-1",
                f"commit profile {contract.commit_profile} is not supported; supported: 0 (solo), 2 (quorum)",
            )
        session = self._session(message.session, key, contract, (), message.max_drafters)
        session.origins = bool(message.origins) and Feature.ORIGINS in self.peers[key[0]].features
        # Who cannot be served is refused at once.
        _, answers = self.choose_verifier(session)
        if contract.commit_profile == CommitProfile.QUORUM:
            group = leader_commit.form_group(self.peers, self.met, self.config.group_size)
            session.answers = answers
            self._keep(session)
            effects += leader_commit.begin(self, session, 0, group, now)
        else:
            self._keep(session)
        leader_workers.assign(self, session, now, effects)
        leader_workers.attach_drafters(self, session, effects)

    def _take_over(self, event: TakeOver, now: float, effects: list[Effect]) -> None:
        """The voter of this node has missed the leader of a session for too long (clauses Q-41, Q-45)."""
        if event.session in self.sessions or len(self.sessions) >= self.config.max_sessions:
            return
        session = self._session(event.session, None, event.contract, event.committed, event.max_drafters)
        # A voter that crashed before it stored its first promise does not know what the founder answered with.
        session.answers, session.opened = event.answers if event.answers.model else None, True
        if not event.finished:
            try:
                _, session.answers = self.choose_verifier(session, any_profile=True)
            except PeerError as nobody:
                effects.append(Deliver(Note(f"not taking over: {nobody.text}", event.session)))
                return
            if event.contract.profile not in (None, session.answers.profile):
                text = "not taking over: no verifier here has the numeric profile of the contract"
                effects.append(Deliver(Note(text, event.session)))
                return
        self._keep(session)
        effects += leader_commit.begin(self, session, event.view, event.group, now)

    def _session(
        self, session: bytes, client: Key | None, contract: Contract, committed: tuple[int, ...], max_drafters: int
    ) -> Session:
        chain = chain_of(contract, committed)
        return Session(
            id=session,
            client=client,
            contract=contract,
            chain=chain,
            trie=self.new_trie(chain),
            max_drafters=min(max_drafters, self.config.max_drafters),
            origins=False,
            window=self.config.window_policy(),
        )

    def choose_verifier(self, session: Session, any_profile: bool = False) -> tuple[int, Answers]:
        """See :func:`~dsdproto.roles.leader_seats.choose_verifier`."""
        return choose_verifier(session, self.peers, self.sessions.values(), self.config.router, self.costs, any_profile)

    def new_trie(self, chain: PrefixChain) -> DraftTrie:
        """An empty one, below the end of ``chain``."""
        return DraftTrie(
            chain.position,
            chain.digest,
            max_nodes=self.config.trie_nodes,
            max_ahead=self.config.max_ahead,
            max_parked=0,
        )

    def _keep(self, session: Session) -> None:
        self.sessions[session.id] = session
        if session.client is not None:
            self._by_client[session.client] = session

    # ------------------------------------------------------------ rounds

    def next_round(self, session: Session, now: float, effects: list[Effect]) -> None:
        """Ask for the next verification, if it is time."""
        seat = session.verifier
        if session.id not in self.sessions or seat is None or not seat.ready or session.in_flight is not None:
            return
        if session.finish is not None or not session.may_commit:
            return
        if session.ballot is not None and len(session.ballot.pending) >= self.config.pipeline:
            return
        link = seat.key[0]
        cost = self.costs.setdefault(link, CostModel())
        plan = plan_round(session, seat, cost, Feature.TREES in self.peers[link].features, now)
        if plan.wait_until is not None:
            effects.append(SetTimer(("drafts", session.id), plan.wait_until))
            return
        effects.append(CancelTimer(("drafts", session.id)))
        effects.append(Send(*seat.key, ask(session, seat, plan.subtree, now)))

    def _verdict(
        self,
        session: Session,
        seat: VerifierSeat,
        flight: InFlight,
        verdict: Verdict,
        now: float,
        effects: list[Effect],
    ) -> None:
        cost = self.costs.setdefault(seat.key[0], CostModel())
        outcome = take_verdict(session, seat, flight, verdict, cost, now)
        if outcome.finish is not None:
            self._commit(session, outcome, now, effects)
            return
        # The next round is on its way before the disk is asked: only delivery waits for storage.
        limits = session.window.limits(self.config.credit, self.config.window)
        for drafter in list(session.drafters.values()):
            if drafter.rounds >= self.config.hopeless_after and drafter.help < self.config.hopeless:
                leader_workers.release_drafter(self, session, drafter, effects)
            else:
                effects.append(Send(*drafter.key, advance_for(drafter, session, outcome, limits, now)))
        self.next_round(session, now, effects)
        self._commit(session, outcome, now, effects)

    def _commit(self, session: Session, outcome: Outcome, now: float, effects: list[Effect]) -> None:
        """Store the block, or have it voted on; then the client gets it."""
        if session.ballot is not None:
            if outcome.finish is not None:
                session.finish = outcome.finish
                leader_workers.let_go(self, session, effects)
            leader_commit.gather(session, outcome.block, self.config.gather_for, now, effects)
        elif session.client is not None:
            record = BlockRecord(
                session=session.id,
                view=session.view,
                height=session.height,
                position=outcome.position,
                base=outcome.base,
                tokens=outcome.block.tokens,
                digest=session.chain.digest,
            )
            session.height += 1
            effects.append(Persist(record, (Send(*session.client, outcome.block),)))
            if outcome.finish is not None:
                self._end(session, outcome.finish, effects)

    # ------------------------------------------------------------ ending

    def _close(self, session: Session, now: float, effects: list[Effect]) -> None:
        """The client wants no more (clauses S-15, Q-38)."""
        if session.ballot is None or not session.opened:
            self._end(session, Finish.CLOSED, effects)
        elif session.finish is None:
            leader_commit.propose_gathered(session, now, effects)
            session.finish = Finish.CLOSED
            leader_workers.let_go(self, session, effects)
            leader_commit.propose(session, now, effects)

    def ended(self, session: Session, effects: list[Effect]) -> None:
        """The end of a stream of the `quorum` profile is committed (clause Q-37)."""
        assert session.finish is not None
        self.drop(session, effects, DismissReason.SESSION_ENDED)
        if session.client is not None:
            effects.append(Send(*session.client, _end_of(session, session.finish)))

    def _end(self, session: Session, finish: Finish, effects: list[Effect]) -> None:
        self.drop(session, effects, DismissReason.SESSION_ENDED)
        assert session.client is not None
        record = EndRecord(session.id, int(finish), session.chain.position, session.chain.digest)
        effects.append(Persist(record, (Send(*session.client, _end_of(session, finish)),)))

    def _client_gone(self, session: Session, effects: list[Effect]) -> None:
        """Under `quorum` the stream goes on without a reader: its client may resume at any voter (clause Q-53)."""
        if session.ballot is None or not session.opened:
            self.drop(session, effects, DismissReason.SESSION_ENDED)
            return
        if session.client is not None:
            self._by_client.pop(session.client, None)
        session.client = None

    def drop(self, session: Session, effects: list[Effect], reason: DismissReason = DismissReason.RESIGNED) -> None:
        """Forget a session and let go of all who work for it."""
        self.sessions.pop(session.id, None)
        if session.client is not None:
            self._by_client.pop(session.client, None)
        self.finished += 1
        if session.ballot is not None:
            leader_commit.dismiss(self, session, reason, effects)
            effects += [CancelTimer((kind, session.id)) for kind in ("commit", "gather", "tell")]
        leader_workers.let_go(self, session, effects)


# ---------------------------------------------------------------- helpers


def _unexpected(message: object, clause: str, who: str) -> PeerError:
    return PeerError(
        ErrorCode.MESSAGE_UNEXPECTED,
        clause,
        f"{type(message).__name__} is not what {who} sends at this point",
        scope=Scope.SESSION,
    )


def _end_of(session: Session, finish: Finish) -> End:
    return End(finish=int(finish), position=session.chain.position, digest=session.chain.digest, stats=session.stats())
