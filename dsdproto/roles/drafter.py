"""The drafter: grows a tree of guesses below each session's prefix and sends what is worth it (SPEC.md, "Draft plane").

A session lives in one channel::

              ATTACH                ADVANCE: root moves, what hangs off the new root is kept
    (none) ------------> DRAFTING <----+
                         |  |  ^       |
                         |  |  +-------+
                         |  +--> credit used up or nothing likely left: pauses until ADVANCE
                         +--> DETACH, ERROR, link lost: forgotten

The tree is grown best first: the node that the stream is most likely to pass through is expanded next, whether it lies
at the end of the longest chain or is the second choice near the root. Draft-ahead needs no rule of its own: while a
verification is in flight the likeliest nodes are simply further down. What is not sent yet waits for a full window, or
until the next ADVANCE is about due, so that one message carries many nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dsdproto.effects import (
    Compute,
    Computed,
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Received,
    Refuse,
    Send,
    SetTimer,
    TimerFired,
)
from dsdproto.errors import LocalError, PeerError
from dsdproto.policy.acceptance import AcceptanceEstimator, probability_of
from dsdproto.policy.flush import FlushPolicy
from dsdproto.prefix import short_digest
from dsdproto.registry import MAX_NODES, ErrorCode, Feature, Scope
from dsdproto.roles.draft_tree import DraftNode, DraftTree, cost_of
from dsdproto.roles.work import Child, DraftDone, DraftWork, ExpandItem
from dsdproto.session import chain_of, check_method, check_token_ids, check_vocabulary, parents_field
from dsdproto.wire.messages import Advance, Attach, Attached, Contract, Detach, Error, ModelOffer, Propose

Key = tuple[int, int]
"""(link, channel)"""


@dataclass(frozen=True, slots=True)
class DrafterConfig:
    offer: ModelOffer
    max_sessions: int = 32
    sessions_per_job: int = 8
    expansions: int = 2
    """nodes of one session that one forward expands, where that many are worth it"""
    width: int = 3
    """children per node at most; a leader may ask for fewer"""
    floor: int = 48
    """nodes whose path is less likely than 2**(-floor/16) are neither expanded nor sent"""
    sibling_floor: int = 32
    """second and later choices less likely than 2**(-sibling_floor/16) are dropped"""


@dataclass(slots=True)
class _Session:
    key: Key
    contract: Contract
    tokens: tuple[int, ...]
    """the verified prefix, prompt included"""
    tree: DraftTree
    credit: int
    window: int
    width: int
    scores: bool
    flush: FlushPolicy
    alarm: float | None = None
    """when the timer is set for"""


@dataclass(slots=True)
class DrafterCounters:
    forwards: int = 0
    expanded: int = 0
    proposed: int = 0
    messages: int = 0
    refused: int = 0


@dataclass(slots=True)
class Drafter:
    """``handle(event, now) -> effects`` for the drafter role of one node."""

    config: DrafterConfig
    counters: DrafterCounters = field(default_factory=DrafterCounters)
    sessions: dict[Key, _Session] = field(default_factory=dict)
    acceptance: AcceptanceEstimator = field(default_factory=AcceptanceEstimator)
    """what the model's scores are worth, learned from ADVANCE over all sessions"""
    _features: dict[int, frozenset[int]] = field(default_factory=dict)
    _job: tuple[int, list[tuple[_Session, list[DraftNode]]]] | None = None
    _jobs: int = 0
    _turn: int = 0
    _forget: list[Key] = field(default_factory=list)

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take one event; ``now`` in seconds. Never raises for anything that a peer did."""
        effects: list[Effect] = []
        match event:
            case LinkUp():
                self._features[event.link] = event.features
            case Received():
                try:
                    self._received(event, now, effects)
                except PeerError as error:
                    self.counters.refused += 1
                    self._drop((event.link, event.channel))
                    effects.append(Refuse(event.link, event.channel, error))
            case LinkDown():
                self._features.pop(event.link, None)
                for key in [key for key in self.sessions if key[0] == event.link]:
                    self._drop(key)
            case Computed():
                self._computed(event, now, effects)
            case TimerFired():
                session = self.sessions.get(event.key)
                if session is not None:
                    session.alarm = None
                    self._propose(session, now, effects)
        self._start(effects)
        return effects

    # ------------------------------------------------------------ messages

    def _received(self, event: Received, now: float, effects: list[Effect]) -> None:
        key = (event.link, event.channel)
        match event.message:
            case Attach() as attach:
                self._attach(key, attach, now, effects)
            case Advance() as advance if key in self.sessions:
                self._advance(self.sessions[key], advance, now, effects)
            case Detach() | Error():
                self._drop(key)
            case other:
                raise PeerError(
                    ErrorCode.MESSAGE_UNEXPECTED,
                    "D-1",
                    f"{type(other).__name__} is not for a drafter at this point",
                    scope=Scope.SESSION,
                )

    def _attach(self, key: Key, attach: Attach, now: float, effects: list[Effect]) -> None:
        contract, offer = attach.contract, self.config.offer
        check_vocabulary(contract, offer, "drafter")
        check_method(contract)
        if len(self.sessions) >= self.config.max_sessions:
            raise PeerError(
                ErrorCode.OVERLOADED, "D-2", f"{len(self.sessions)} sessions, which is this drafter's limit"
            )
        check_token_ids(attach.committed, contract, "ATTACH.committed", "D-1")
        chain = chain_of(contract, attach.committed)
        if chain.position >= offer.max_context:
            raise PeerError(
                ErrorCode.CONTEXT_TOO_LONG,
                "D-2",
                f"the prefix has {chain.position} tokens, this drafter's context holds {offer.max_context}",
            )
        features = self._features.get(key[0], frozenset())
        self.sessions[key] = _Session(
            key=key,
            contract=contract,
            tokens=chain.tokens,
            tree=DraftTree.below(
                chain, min(len(contract.prompt) + contract.max_tokens, offer.max_context), contract.stop_tokens
            ),
            credit=attach.credit,
            window=attach.window,
            width=min(attach.width, self.config.width) if Feature.TREES in features else 1,
            scores=Feature.SCORES in features,
            flush=FlushPolicy(now),
        )
        effects.append(Send(*key, Attached(model=offer.name)))

    def _advance(self, session: _Session, advance: Advance, now: float, effects: list[Effect]) -> None:
        check_token_ids(advance.tokens, session.contract, "ADVANCE.tokens", "D-7", ErrorCode.ADVANCE_INVALID)
        tree = session.tree
        node = tree.find(advance.ref)
        if node is None:
            raise PeerError(
                ErrorCode.ADVANCE_INVALID,
                "D-7",
                f"ref {advance.ref} is no node of this channel that hangs below the last announced prefix",
            )
        path = [*tree.path_to(node), *advance.tokens]
        if advance.position != tree.root.position + len(path):
            raise PeerError(
                ErrorCode.ADVANCE_INVALID,
                "D-7",
                f"position {advance.position}, but prefix {tree.root.position} grew by {len(path)} tokens",
            )
        if path:
            self._learn(tree.root, path)
            for token in advance.tokens:
                node = node.child(token)
            session.tokens += tuple(path)
            self._reroot(session, node)
            session.flush.advanced(now)
        if advance.credit is not None:
            session.credit = advance.credit
        if advance.window is not None:
            session.window = advance.window
        self._propose(session, now, effects)

    def _learn(self, node: DraftNode | None, path: list[int]) -> None:
        """ADVANCE says what the target chose after each prefix of the path, and so how much this drafter's scores are
        worth there."""
        for token in path:
            if node is None:
                return
            for rank, child in enumerate(node.children.values()):
                self.acceptance.observe(child.raw, child.token == token, rank == 0)
            node = node.children.get(token)

    def _reroot(self, session: _Session, root: DraftNode) -> None:
        session.tree.reroot(root)
        for node in (root, *session.tree.nodes):
            if node.spare:
                self._grow(session, node, node.spare)

    def _drop(self, key: Key) -> None:
        session = self.sessions.pop(key, None)
        if session is not None:
            session.tree.forget()
            self._forget.append(key)

    # ------------------------------------------------------------ proposing

    def _propose(self, session: _Session, now: float, effects: list[Effect]) -> None:
        """Send what is ready; one PROPOSE for each sent node (or the root) that unsent nodes hang below."""
        tree, waiting = session.tree, session.tree.unsent
        if not waiting:
            return
        if len(waiting) < session.window:
            base = tree.root.cost
            sent = len(tree.nodes) - len(waiting)
            gain = 0.0 if sent else sum([probability_of(node.cost - base) for node in waiting])
            due = session.flush.due(len(waiting), sent, session.window, gain, self._prospect(session), now)
            if due > now:
                if due != session.alarm:
                    session.alarm = due
                    effects.append(SetTimer(session.key, due))
                return
        for top, members in tree.groups():
            for start in range(0, len(members), MAX_NODES):
                self._send_group(session, top, members[start : start + MAX_NODES], effects)
        tree.unsent = []

    def _send_group(self, session: _Session, base: DraftNode, members: list[DraftNode], effects: list[Effect]) -> None:
        index = {id(base): 0}
        parents = []
        for i, node in enumerate(members, start=1):
            parents.append(index[id(node.parent)])
            index[id(node)] = i
            session.tree.number(node)
        effects.append(
            Send(
                *session.key,
                Propose(
                    position=base.position,
                    base=short_digest(base.digest),
                    tokens=tuple([node.token for node in members]),
                    parents=parents_field(tuple(parents)),
                    scores=bytes([node.score for node in members]) if session.scores else None,
                ),
            )
        )
        self.counters.messages += 1
        self.counters.proposed += len(members)

    # ------------------------------------------------------------ growing

    def _frontier(self, session: _Session, count: int) -> list[DraftNode]:
        """The ``count`` nodes that are most worth expanding; none while there is no credit for their children."""
        tree = session.tree
        return [] if len(tree.nodes) >= session.credit else tree.frontier(count, self.config.floor)

    def _start(self, effects: list[Effect]) -> None:
        if self._job is not None:
            return
        chosen: list[tuple[_Session, list[DraftNode]]] = []
        order = list(self.sessions.values())
        if order:
            self._turn %= len(order)
            order = order[self._turn :] + order[: self._turn]
        for session in order:
            nodes = self._frontier(session, self.config.expansions)
            if nodes:
                chosen.append((session, nodes))
            if len(chosen) == self.config.sessions_per_job:
                break
        if not chosen and not self._forget:
            return
        self._turn += len(chosen)
        self._jobs += 1
        self._job = (self._jobs, chosen)
        work = DraftWork(
            expand=tuple([self._item(session, nodes) for session, nodes in chosen]), release=tuple(self._forget)
        )
        self._forget.clear()
        effects.append(Compute(self._jobs, work))

    def _item(self, session: _Session, nodes: list[DraftNode]) -> ExpandItem:
        tree = session.tree
        for node in nodes:
            tree.expand(node)
        return ExpandItem(
            session=session.key,
            prefix=session.tokens,
            tokens=tuple(tree.tokens),
            parents=tuple(tree.parents),
            nodes=tuple([node.index for node in nodes]),
            sampling=session.contract.sampling,
            width=session.width,
        )

    def _prospect(self, session: _Session) -> float:
        """Probability that the stream passes through the likeliest node that is or will be expanded; 0: none."""
        nodes = self._frontier(session, 1)
        if self._job is not None:
            nodes += [node for member, chosen in self._job[1] if member is session for node in chosen if node.live]
        return probability_of(min(map(cost_of, nodes)) - session.tree.root.cost) if nodes else 0.0

    def _computed(self, event: Computed, now: float, effects: list[Effect]) -> None:
        if self._job is None or event.job != self._job[0]:
            raise LocalError(f"job {event.job} ended, but the one in flight is {self._job and self._job[0]}")
        chosen = self._job[1]
        self._job = None
        done: DraftDone | None = event.result
        self.counters.forwards += bool(chosen)
        for i, (session, nodes) in enumerate(chosen):
            if self.sessions.get(session.key) is not session:
                continue
            result = event.error or (done.children[i] if done else "no result")
            if isinstance(result, str):
                self._drop(session.key)
                effects.append(Refuse(*session.key, PeerError(ErrorCode.COMPUTE_FAILED, "D-8", result)))
                continue
            for node, children in zip(nodes, result, strict=True):
                self.counters.expanded += 1
                if node.live:
                    self._grow(session, node, children)
            session.flush.stepped(done.seconds)
            self._propose(session, now, effects)

    def _grow(self, session: _Session, node: DraftNode, children: tuple[Child, ...]) -> None:
        """Add what is likely enough and within credit; the best guess below the root always is likely enough."""
        tree, sibling_floor = session.tree, self.config.sibling_floor
        limit = tree.root.cost + self.config.floor
        spare: list[Child] = []
        for child in children:
            first = not node.children and not spare
            if not first and child.score > sibling_floor:
                continue
            score = self.acceptance.cost(child.score, not node.children)
            unlikely = node.cost + score > limit and not (first and node is tree.root)
            if unlikely or len(tree.nodes) >= session.credit:
                spare.append(child)
                continue
            below = DraftNode(child.token, node, None, node.position + 1, score, child.score)
            node.children[child.token] = below
            tree.add(below)
        node.spare = tuple(spare)
