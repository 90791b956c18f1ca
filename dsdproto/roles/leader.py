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

The next round starts without waiting for the block to be stored; only delivery waits for that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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
    TimerFired,
)
from dsdproto.errors import PeerError
from dsdproto.policy.cost import CostModel
from dsdproto.policy.window import best_count, worth_waiting
from dsdproto.prefix import short_digest
from dsdproto.registry import CommitProfile, DetachReason, ErrorCode, Feature, Finish, Method, Role, Scope
from dsdproto.roles.leader_session import (
    BlockRecord,
    DrafterSeat,
    InFlight,
    Key,
    Session,
    VerifierSeat,
    advance_for,
    first_nodes,
    nodes_along,
    observe_trials,
    reach_of,
    score_of,
)
from dsdproto.session import (
    chain_of,
    check_siblings,
    check_token_ids,
    check_vocabulary,
    finish_of,
    parents_field,
    parents_of,
    path_to,
)
from dsdproto.trie import DraftTrie, Subtree
from dsdproto.wire.messages import (
    Assign,
    Assigned,
    Attach,
    Attached,
    Block,
    Close,
    Contract,
    Detach,
    DrafterEntry,
    End,
    Error,
    Hello,
    ModelOffer,
    Open,
    Opened,
    Propose,
    Release,
    Verdict,
    Verify,
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
    trie_nodes: int = 256
    max_ahead: int = 64
    verifier_patience: float = 10.0
    """seconds that a session waits for a verifier before it fails"""
    hopeless: float = 0.03
    """accepted tokens per round below which a drafter is sent away"""
    hopeless_after: int = 48
    """rounds that it gets to prove itself"""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that an operator may want to know; delivered to the application, never to peers."""

    text: str
    session: bytes | None = None


@dataclass(slots=True)
class Leader:
    """``handle(event, now) -> effects`` for the leader role of one node.

    :param open_channel: gives a fresh channel number on a link (``NodeMachine.channel``).
    """

    config: LeaderConfig
    open_channel: Callable[[int], int]
    sessions: dict[Key, Session] = field(default_factory=dict)
    """by the client's channel"""
    peers: dict[int, LinkUp] = field(default_factory=dict)
    costs: dict[int, CostModel] = field(default_factory=dict)
    """by the verifier's link"""
    finished: int = 0
    refused: int = 0
    _by_verifier: dict[Key, Session] = field(default_factory=dict)
    _by_drafter: dict[Key, Session] = field(default_factory=dict)

    def handle(self, event: Event, now: float) -> list[Effect]:
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
        return effects

    # ------------------------------------------------------------ links

    def _link_up(self, event: LinkUp, now: float, effects: list[Effect]) -> None:
        self.peers[event.link] = event
        for session in list(self.sessions.values()):
            if session.verifier is None:
                self._assign(session, now, effects)
            self._attach_drafters(session, effects)

    def _link_down(self, event: LinkDown, now: float, effects: list[Effect]) -> None:
        self.peers.pop(event.link, None)
        self.costs.pop(event.link, None)
        for session in list(self.sessions.values()):
            session.excluded.discard(event.link)
            if session.key[0] == event.link:
                self._drop(session, effects, DetachReason.SESSION_ENDED)
                continue
            for key in [key for key in session.drafters if key[0] == event.link]:
                self._unseat_drafter(session, key)
            if session.verifier is not None and session.verifier.key[0] == event.link:
                self._verifier_lost(session, f"the link to the verifier was lost: {event.reason}", now, effects)
            else:
                self._advance_round(session, now, effects)

    def _timer(self, event: TimerFired, now: float, effects: list[Effect]) -> None:
        kind, key = event.key
        session = self.sessions.get(key)
        if session is None:
            return
        if kind == "drafts":
            for seat in session.drafters.values():
                if seat.lag.since is not None:
                    seat.lag.gave_up()
            session.waited = True
            self._advance_round(session, now, effects)
        elif kind == "verifier" and session.verifier is None:
            error = PeerError(
                ErrorCode.VERIFIER_LOST,
                "L-4",
                f"no verifier for {session.contract.model or 'this vocabulary'!r} within "
                f"{self.config.verifier_patience:g} s; the stream stands at position {session.chain.position}",
            )
            self._drop(session, effects, DetachReason.SESSION_ENDED)
            effects.append(Refuse(*key, error))

    # ------------------------------------------------------------ messages

    def _received(self, event: Received, now: float, effects: list[Effect]) -> None:
        key = (event.link, event.channel)
        message = event.message
        if isinstance(message, Open):
            self._open(key, message, now, effects)
        elif key in self.sessions:
            self._from_client(self.sessions[key], message, effects)
        elif key in self._by_verifier:
            self._from_verifier(self._by_verifier[key], message, now, effects)
        elif key in self._by_drafter:
            session = self._by_drafter[key]
            self._from_drafter(session, session.drafters[key], message, now, effects)

    def _from_client(self, session: Session, message: object, effects: list[Effect]) -> None:
        match message:
            case Close():
                self._end(session, Finish.CLOSED, (), effects)
            case Error():
                self._drop(session, effects, DetachReason.SESSION_ENDED)
            case _:
                raise _unexpected(message, "S-1", "a client")

    def _from_verifier(self, session: Session, message: object, now: float, effects: list[Effect]) -> None:
        seat = session.verifier
        assert seat is not None
        match message:
            case Assigned() if not seat.ready:
                self._assigned(session, seat, message, now, effects)
            case Verdict() if session.in_flight is not None:
                self._verdict(session, seat, session.in_flight, message, now, effects)
            case Error():
                session.excluded.add(seat.key[0])
                self._verifier_lost(session, message.text, now, effects, message)
            case _:
                raise _unexpected(message, "V-1", "a verifier")

    def _from_drafter(
        self, session: Session, seat: DrafterSeat, message: object, now: float, effects: list[Effect]
    ) -> None:
        match message:
            case Propose():
                self._propose(session, seat, message, now)
            case Attached():
                return
            case Detach() | Error():
                text = message.text if isinstance(message, Error) else f"reason {message.reason}"
                effects.append(Deliver(Note(f"drafter {seat.entry.number} left: {text}", session.id)))
                session.excluded.add(seat.key[0])
                self._unseat_drafter(session, seat.key)
            case _:
                raise _unexpected(message, "D-1", "a drafter")
        self._advance_round(session, now, effects)

    def _refuse(self, key: Key, error: PeerError, now: float, effects: list[Effect]) -> None:
        """A peer broke a rule: its channel ends, the session goes on without it where it can."""
        self.refused += 1
        effects.append(Refuse(*key, error))
        effects.append(Deliver(Note(f"refused on channel {key[1]} of link {key[0]}: {error}")))
        if key in self.sessions:
            self._drop(self.sessions[key], effects, DetachReason.SESSION_ENDED)
        elif key in self._by_verifier:
            session = self._by_verifier[key]
            session.excluded.add(key[0])
            self._verifier_lost(session, error.text, now, effects)
        elif key in self._by_drafter:
            session = self._by_drafter[key]
            session.excluded.add(key[0])
            self._unseat_drafter(session, key)
            self._advance_round(session, now, effects)

    # ------------------------------------------------------------ opening

    def _open(self, key: Key, message: Open, now: float, effects: list[Effect]) -> None:
        contract = message.contract
        if key in self.sessions:
            raise PeerError(ErrorCode.SESSION_EXISTS, "S-1", "this channel holds a session already")
        if len(self.sessions) >= self.config.max_sessions:
            raise PeerError(ErrorCode.OVERLOADED, "L-2", f"{len(self.sessions)} sessions, which is this leader's limit")
        if any(session.id == message.session for session in self.sessions.values()):
            raise PeerError(ErrorCode.SESSION_EXISTS, "S-1", f"session {message.session.hex()} is open already")
        if contract.sampling.method != Method.COUPLED:
            raise PeerError(
                ErrorCode.METHOD_UNSUPPORTED,
                "S-4",
                f"verification method {contract.sampling.method} is not supported; supported: 0 (coupled)",
            )
        if contract.commit_profile != CommitProfile.SOLO:
            raise PeerError(
                ErrorCode.COMMIT_PROFILE_UNSUPPORTED,
                "K-1",
                f"commit profile {contract.commit_profile} is not supported; supported: 0 (solo)",
            )
        self._choose_verifier(contract, set())
        chain = chain_of(contract)
        session = Session(
            key=key,
            id=message.session,
            contract=contract,
            chain=chain,
            trie=DraftTrie(
                chain.position,
                chain.digest,
                max_nodes=self.config.trie_nodes,
                max_ahead=self.config.max_ahead,
                max_parked=0,
            ),
            max_drafters=min(message.max_drafters, self.config.max_drafters),
            origins=bool(message.origins),
        )
        self.sessions[key] = session
        self._assign(session, now, effects)
        self._attach_drafters(session, effects)

    def _choose_verifier(self, contract: Contract, excluded: set[int]) -> tuple[int, ModelOffer]:
        """The least loaded verifier that can serve ``contract``; says precisely why there is none."""
        refusal = PeerError(ErrorCode.MODEL_UNAVAILABLE, "L-3", "no verifier is connected to this leader")
        found: list[tuple[int, int, ModelOffer]] = []
        names: list[str] = []
        for link, peer in self.peers.items():
            for offer in peer.peer.models:
                if offer.role != Role.VERIFIER or link in excluded:
                    continue
                names.append(offer.name)
                if contract.model not in ("", offer.name):
                    refusal = PeerError(
                        ErrorCode.MODEL_UNAVAILABLE, "L-3", f"no verifier for {contract.model!r}; there is {names}"
                    )
                    continue
                try:
                    check_vocabulary(contract, offer, "verifier")
                except PeerError as error:
                    refusal = error
                    continue
                load = sum(seat.key[0] == link for s in self.sessions.values() if (seat := s.verifier))
                found.append((load, link, offer))
        if not found:
            raise refusal
        _, link, offer = min(found, key=lambda item: item[:2])
        return link, offer

    def _assign(self, session: Session, now: float, effects: list[Effect], last: Error | None = None) -> None:
        try:
            link, _ = self._choose_verifier(session.contract, session.excluded)
        except PeerError as error:
            if session.opened:
                effects.append(SetTimer(("verifier", session.key), now + self.config.verifier_patience))
                return
            if last is not None:  # what a verifier said tells the client more than that there is no other
                error = PeerError(_code(last.code), last.clause, last.text, scope=Scope.SESSION)
            self._drop(session, effects, DetachReason.SESSION_ENDED)
            effects.append(Refuse(*session.key, error))
            return
        key = (link, self.open_channel(link))
        session.verifier = VerifierSeat(key)
        self._by_verifier[key] = session
        effects.append(CancelTimer(("verifier", session.key)))
        committed = session.chain.tokens_from(len(session.contract.prompt))
        effects.append(Send(*key, Assign(session=session.id, contract=session.contract, committed=committed)))

    def _assigned(
        self, session: Session, seat: VerifierSeat, message: Assigned, now: float, effects: list[Effect]
    ) -> None:
        wanted = session.contract.profile
        if wanted is not None and message.profile != wanted:
            raise PeerError(
                ErrorCode.PROFILE_MISMATCH,
                "S-6",
                f"profile {message.profile.hex()[:16]} answered, the contract asks for {wanted.hex()[:16]}",
            )
        seat.ready = True
        seat.max_nodes = message.max_nodes
        seat.max_context = message.max_context
        if not session.opened:
            session.opened = True
            opened = Opened(
                position=session.chain.position,
                model=message.model,
                profile=message.profile,
                profile_text=message.profile_text,
            )
            effects.append(Send(*session.key, opened))
        self._advance_round(session, now, effects)

    def _attach_drafters(self, session: Session, effects: list[Effect]) -> None:
        taken = {key[0] for key in session.drafters} | session.excluded
        for link, peer in self.peers.items():
            if len(session.drafters) >= session.max_drafters or session.next_number > 255:
                return
            offer = _drafter_offer(peer.peer, session.contract)
            if link in taken or offer is None:
                continue
            key = (link, self.open_channel(link))
            entry = DrafterEntry(number=session.next_number, node_id=peer.peer.node_id, model=offer.name)
            session.next_number += 1
            session.drafters[key] = DrafterSeat(key, entry, self.config.credit)
            self._by_drafter[key] = session
            effects.append(
                Send(
                    *key,
                    Attach(
                        session=session.id,
                        contract=session.contract,
                        committed=session.chain.tokens_from(len(session.contract.prompt)),
                        credit=self.config.credit,
                        window=self.config.window,
                        width=self.config.width if Feature.TREES in peer.features else 1,
                    ),
                )
            )

    # ------------------------------------------------------------ drafting

    def _propose(self, session: Session, seat: DrafterSeat, message: Propose, now: float) -> None:
        check_token_ids(message.tokens, session.contract, "PROPOSE.tokens", "D-4")
        parents = parents_of(message.tokens, message.parents)
        check_siblings(message.tokens, parents, "PROPOSE", "D-3")
        scores = [score_of(message.scores, index) for index in range(len(message.tokens))]
        result = session.trie.graft(
            message.position,
            message.base,
            message.tokens,
            parents,
            seat.entry.number,
            [seat.cost(score) for score in scores],
        )
        useful = False
        for index, node_id in enumerate(result.nodes):
            if node_id is not None:
                useful = True
                seat.known.setdefault(node_id, (seat.sent + index + 1, scores[index]))
        seat.sent += len(message.tokens)
        if len(seat.known) > seat.credit:
            raise PeerError(
                ErrorCode.CREDIT_EXCEEDED,
                "D-6",
                f"{len(seat.known)} nodes outstanding, the credit is {seat.credit}",
            )
        if useful:
            seat.lag.answered(now)

    def _unseat_drafter(self, session: Session, key: Key) -> None:
        session.drafters.pop(key, None)
        self._by_drafter.pop(key, None)

    # ------------------------------------------------------------ rounds

    def _advance_round(self, session: Session, now: float, effects: list[Effect]) -> None:
        """Ask for the next verification, if it is time."""
        seat = session.verifier
        if session.key not in self.sessions or seat is None or not seat.ready or session.in_flight is not None:
            return
        contract, position = session.contract, session.chain.position
        room = min(len(contract.prompt) + contract.max_tokens, seat.max_context) - position
        subtree = session.trie.best_subtree(seat.max_nodes, max_depth=room)
        reach = reach_of(session.trie, subtree)
        cost = self.costs.setdefault(seat.key[0], CostModel())
        count = best_count(reach, cost.seconds, session.overhead)
        gain = sum(reach[:count])
        if session.rounds and not session.waited:
            until = self._wait_until(session, gain, cost.seconds(1 + count) + session.overhead, now)
            if until is not None:
                effects.append(SetTimer(("drafts", session.key), until))
                return
        subtree = first_nodes(subtree, count)
        seat.round += 1
        session.in_flight = InFlight(subtree, now)
        session.verified += count
        verify = Verify(
            round=seat.round,
            position=subtree.position,
            base=short_digest(subtree.digest),
            tokens=subtree.tokens,
            parents=parents_field(subtree.parents),
        )
        effects.append(CancelTimer(("drafts", session.key)))
        effects.append(Send(*seat.key, verify))

    def _wait_until(self, session: Session, gain: float, round_time: float, now: float) -> float | None:
        """When to stop waiting for a proposal that is worth waiting for; None: do not wait."""
        until = None
        for seat in session.drafters.values():
            remaining = seat.lag.remaining(now)
            if remaining is not None and worth_waiting(gain, max(gain, seat.lag.tokens), remaining, round_time):
                deadline = now + seat.lag.patience(now)
                until = deadline if until is None else max(until, deadline)
        return until

    def _verdict(
        self,
        session: Session,
        seat: VerifierSeat,
        flight: InFlight,
        verdict: Verdict,
        now: float,
        effects: list[Effect],
    ) -> None:
        subtree = flight.subtree
        path, tokens = _check_verdict(session, seat, subtree, verdict)
        session.in_flight = None
        session.waited = False
        session.rounds += 1
        session.accepted += len(path)
        if verdict.compute_us is not None and verdict.rows is not None:
            self.costs.setdefault(seat.key[0], CostModel()).observe(verdict.rows, verdict.compute_us / 1e6)
            extra = max(0.0, now - flight.since - verdict.compute_us / 1e6)
            session.overhead += 0.2 * (extra - session.overhead)
        observe_trials(session, subtree, path)
        origins = self._origins(session, subtree, path, len(tokens))
        base, position = session.chain.digest, session.chain.position
        along = nodes_along(session.trie, tokens)
        session.trie.commit(tokens, len(path))
        session.chain.extend(tokens)
        finish = finish_of(session.contract, session.chain, seat.max_context)
        record = BlockRecord(session.id, 0, session.height, position, base, tokens, session.chain.digest)
        session.height += 1
        block = self._block(session, position, tokens, origins)
        if finish is not None:
            self._end(session, finish, (block,), effects, record)
            return
        # The next round is on its way before the disk is asked: only delivery waits for storage.
        self._advance_drafters(session, tokens, along, now, effects)
        self._advance_round(session, now, effects)
        effects.append(Persist(record, (Send(*session.key, block),)))

    def _advance_drafters(
        self, session: Session, tokens: tuple[int, ...], along: list[int], now: float, effects: list[Effect]
    ) -> None:
        for seat in list(session.drafters.values()):
            if seat.rounds >= self.config.hopeless_after and seat.lag.tokens < self.config.hopeless:
                effects.append(Send(*seat.key, Detach(reason=DetachReason.UNHELPFUL)))
                effects.append(Deliver(Note(f"drafter {seat.entry.number} was of no help and is released", session.id)))
                session.excluded.add(seat.key[0])
                self._unseat_drafter(session, seat.key)
                continue
            effects.append(Send(*seat.key, advance_for(seat, session.chain.position, tokens, along)))
            seat.known = {node: known for node, known in seat.known.items() if session.trie.node(node) is not None}
            seat.lag.asked(now if not seat.known else None)

    def _origins(self, session: Session, subtree: Subtree, path: list[int], count: int) -> bytes | None:
        if not session.origins:
            return None
        origins = bytearray(count)
        for i, number in enumerate(path):
            node = session.trie.node(subtree.nodes[number - 1])
            if node is not None:
                origins[i] = int(node.sources[0])
        return bytes(origins)

    def _block(self, session: Session, position: int, tokens: tuple[int, ...], origins: bytes | None) -> Block:
        fresh = [
            seat for seat in session.drafters.values() if not seat.announced and seat.entry.number in (origins or b"")
        ]
        for seat in fresh:
            seat.announced = True
        return Block(
            position=position,
            tokens=tokens,
            origins=origins,
            drafters=tuple(seat.entry for seat in fresh) or None,
        )

    # ------------------------------------------------------------ ending

    def _end(
        self,
        session: Session,
        finish: Finish,
        blocks: tuple[Block, ...],
        effects: list[Effect],
        record: BlockRecord | None = None,
    ) -> None:
        self._drop(session, effects, DetachReason.SESSION_ENDED)
        end = End(
            finish=int(finish),
            position=session.chain.position,
            digest=session.chain.digest,
            stats=session.stats(),
        )
        sends = tuple(Send(*session.key, message) for message in (*blocks, end))
        if record is None:
            effects.extend(sends)
        else:
            effects.append(Persist(record, sends))

    def _drop(self, session: Session, effects: list[Effect], reason: DetachReason) -> None:
        """Forget a session and let go of all who work for it."""
        self.sessions.pop(session.key, None)
        self.finished += 1
        session.trie.close()
        if session.verifier is not None:
            self._by_verifier.pop(session.verifier.key, None)
            if session.verifier.key[0] in self.peers:
                effects.append(Send(*session.verifier.key, Release()))
        for key in list(session.drafters):
            if key[0] in self.peers:
                effects.append(Send(*key, Detach(reason=int(reason))))
            self._unseat_drafter(session, key)
        effects.append(CancelTimer(("drafts", session.key)))
        effects.append(CancelTimer(("verifier", session.key)))

    def _verifier_lost(
        self, session: Session, text: str, now: float, effects: list[Effect], error: Error | None = None
    ) -> None:
        seat = session.verifier
        if seat is not None:
            self._by_verifier.pop(seat.key, None)
        session.verifier = None
        session.in_flight = None
        effects.append(CancelTimer(("drafts", session.key)))
        effects.append(Deliver(Note(f"verifier lost: {text}", session.id)))
        self._assign(session, now, effects, error)


# ---------------------------------------------------------------- helpers


def _drafter_offer(peer: Hello, contract: Contract) -> ModelOffer | None:
    """What a peer can draft for ``contract`` with: the vocabularies must be the same (clause S-3)."""
    for offer in peer.models:
        if offer.role == Role.DRAFTER and (offer.vocabulary_size, offer.vocabulary_digest) == (
            contract.vocabulary_size,
            contract.vocabulary_digest,
        ):
            return offer
    return None


def _check_verdict(
    session: Session, seat: VerifierSeat, subtree: Subtree, verdict: Verdict
) -> tuple[list[int], tuple[int, ...]]:
    """The accepted path (node numbers) and all new tokens; PeerError if the verdict contradicts itself."""
    nodes = subtree.tokens
    if verdict.round != seat.round:
        raise PeerError(ErrorCode.VERDICT_INVALID, "V-2", f"verdict for round {verdict.round}, asked was {seat.round}")
    if verdict.accepted > len(nodes):
        raise PeerError(ErrorCode.VERDICT_INVALID, "V-6", f"accepted node {verdict.accepted} of a tree of {len(nodes)}")
    path = path_to(verdict.accepted, subtree.parents)
    tokens = tuple(nodes[number - 1] for number in path)
    if verdict.token is not None:
        tokens += (verdict.token,)
    check_token_ids(tokens, session.contract, "VERDICT", "V-6")
    if not tokens:
        raise PeerError(ErrorCode.VERDICT_INVALID, "V-6", "a verdict without any token")
    after = session.chain.copy()
    for index, token in enumerate(tokens):
        if index and finish_of(session.contract, after, seat.max_context) is not None:
            raise PeerError(ErrorCode.VERDICT_INVALID, "V-6", "the verdict goes on after the end of the stream")
        after.append(token)
    if after.short != verdict.digest:
        raise PeerError(
            ErrorCode.VERDICT_INVALID,
            "V-6",
            f"digest {verdict.digest.hex()[:16]}, but path and token give {after.short.hex()[:16]}",
        )
    finish = finish_of(session.contract, after, seat.max_context)
    if (None if finish is None else int(finish)) != verdict.finish:
        raise PeerError(
            ErrorCode.VERDICT_INVALID, "V-6", f"finish {verdict.finish}, but by the contract it is {finish}"
        )
    return path, tokens


def _unexpected(message: object, clause: str, who: str) -> PeerError:
    return PeerError(
        ErrorCode.MESSAGE_UNEXPECTED,
        clause,
        f"{type(message).__name__} is not what {who} sends at this point",
        scope=Scope.SESSION,
    )


def _code(code: int) -> ErrorCode:
    return ErrorCode(code) if code in ErrorCode._value2member_map_ else ErrorCode.COMPUTE_FAILED
