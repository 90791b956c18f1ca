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

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter

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
from dsdproto.prefix import extend_digest, short_digest
from dsdproto.registry import MAX_NODES, ErrorCode, Feature, Scope
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


class _Node:
    """A prefix that may come to be. The root is the verified prefix itself."""

    __slots__ = (
        "_digest",
        "children",
        "cost",
        "expanded",
        "index",
        "live",
        "number",
        "parent",
        "position",
        "raw",
        "score",
        "spare",
        "token",
    )

    def __init__(
        self, token: int, parent: _Node | None, digest: bytes | None, position: int, score: int = 0, raw: int = 0
    ) -> None:
        self.token = token
        self.parent = parent
        self._digest = digest
        self.position = position
        self.score = score
        """what this drafter has come to think of it"""
        self.raw = raw
        """what the model thought of it"""
        self.cost: int = score + (parent.cost if parent else 0)
        self.children: dict[int, _Node] = {}
        self.spare: tuple[Child, ...] = ()
        """children that did not fit yet: the credit was used up, or they were too unlikely from where the root was"""
        self.number: int | None = None
        self.expanded = False
        self.index = 0
        """among the nodes of the live tree, from 1 on; the root has 0"""
        self.live = True

    @property
    def digest(self) -> bytes:
        """Of the prefix that ends here, 32 bytes: computed when it is asked for, as few nodes have anything sent below
        them."""
        unnamed: list[_Node] = []
        node = self
        while node._digest is None:
            assert node.parent is not None  # a root has a digest
            unnamed.append(node)
            node = node.parent
        digest = node._digest
        for below in reversed(unnamed):
            digest = below._digest = extend_digest(digest, below.token)
        return digest

    def become_root(self) -> None:
        """Part from what is above."""
        self._digest = self.digest
        self.parent, self.index, self.live = None, 0, True


@dataclass(slots=True)
class _Session:
    key: Key
    contract: Contract
    tokens: tuple[int, ...]
    """the verified prefix, prompt included"""
    root: _Node
    credit: int
    window: int
    width: int
    scores: bool
    end: int
    """position at which the stream ends: nothing is drafted from there on"""
    flush: FlushPolicy
    nodes: list[_Node] = field(default_factory=list)
    """the live tree without its root; parents come first"""
    drafted: list[int] = field(default_factory=list)
    """their tokens"""
    parents: list[int] = field(default_factory=list)
    """the index of each one's parent"""
    unsent: list[_Node] = field(default_factory=list)
    """those of them that were not sent yet, in the same order"""
    open: list[_Node] = field(default_factory=list)
    """those of them that may be expanded, likeliest first, the older one among equals"""
    numbered: dict[int, _Node] = field(default_factory=dict)
    sent: int = 0
    """nodes sent over the life of the channel"""
    alarm: float | None = None
    """when the timer is set for"""

    def add(self, node: _Node) -> None:
        """A new node of the live tree."""
        self._append(node)
        self.unsent.append(node)
        if node.position < self.end and node.token not in self.contract.stop_tokens:
            insort(self.open, node, key=_cost_of)

    def _append(self, node: _Node) -> None:
        assert node.parent is not None
        self.nodes.append(node)
        self.drafted.append(node.token)
        self.parents.append(node.parent.index)
        node.index = len(self.nodes)

    def reroot(self, root: _Node) -> None:
        """Keep what hangs below ``root``, a live node or a new one."""
        self.root.live = False
        root.become_root()
        self.root = root
        before, self.nodes, self.drafted, self.parents = self.nodes, [], [], []
        for node in before:  # parents come first, so theirs is decided
            if node is root:
                continue
            node.live = node.parent.live  # type: ignore[union-attr]
            if node.live:
                self._append(node)
        self.unsent = [node for node in self.unsent if node.live and node is not root]
        self.open = [node for node in self.open if node.live and node is not root]
        self.numbered = {node.number: node for node in self.nodes if node.number is not None}


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
    _job: tuple[int, list[tuple[_Session, list[_Node]]]] | None = None
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
            root=_Node(chain.tokens[-1], None, chain.digest, chain.position),
            credit=attach.credit,
            window=attach.window,
            width=min(attach.width, self.config.width) if Feature.TREES in features else 1,
            scores=Feature.SCORES in features,
            end=min(len(contract.prompt) + contract.max_tokens, offer.max_context),
            flush=FlushPolicy(now),
        )
        effects.append(Send(*key, Attached(model=offer.name)))

    def _advance(self, session: _Session, advance: Advance, now: float, effects: list[Effect]) -> None:
        check_token_ids(advance.tokens, session.contract, "ADVANCE.tokens", "D-7", ErrorCode.ADVANCE_INVALID)
        node = session.root if advance.ref == 0 else session.numbered.get(advance.ref)
        if node is None:
            raise PeerError(
                ErrorCode.ADVANCE_INVALID,
                "D-7",
                f"ref {advance.ref} is no node of this channel that hangs below the last announced prefix",
            )
        path = [below.token for below in _up(node, session.root)][::-1]
        path.extend(advance.tokens)
        if advance.position != session.root.position + len(path):
            raise PeerError(
                ErrorCode.ADVANCE_INVALID,
                "D-7",
                f"position {advance.position}, but prefix {session.root.position} grew by {len(path)} tokens",
            )
        if path:
            self._learn(session.root, path)
        for token in advance.tokens:
            below = node.children.get(token)
            if below is None:
                below = _Node(token, None, extend_digest(node.digest, token), node.position + 1)
            node = below
        if path:
            session.tokens += tuple(path)
            self._reroot(session, node)
            session.flush.advanced(now)
        if advance.credit is not None:
            session.credit = advance.credit
        if advance.window is not None:
            session.window = advance.window
        self._propose(session, now, effects)

    def _learn(self, node: _Node | None, path: list[int]) -> None:
        """ADVANCE says what the target chose after each prefix of the path, and so how much this drafter's scores are
        worth there."""
        for token in path:
            if node is None:
                return
            for rank, child in enumerate(node.children.values()):
                self.acceptance.observe(child.raw, child.token == token, rank == 0)
            node = node.children.get(token)

    def _reroot(self, session: _Session, root: _Node) -> None:
        session.reroot(root)
        for node in (root, *session.nodes):
            if node.spare:
                self._grow(session, node, node.spare)

    def _drop(self, key: Key) -> None:
        session = self.sessions.pop(key, None)
        if session is None:
            return
        session.root.live = False
        for node in session.nodes:
            node.live = False
        self._forget.append(key)

    # ------------------------------------------------------------ proposing

    def _propose(self, session: _Session, now: float, effects: list[Effect]) -> None:
        """Send what is ready; one PROPOSE for each sent node (or the root) that unsent nodes hang below."""
        waiting = session.unsent
        if not waiting:
            return
        if len(waiting) < session.window:
            base = session.root.cost
            sent = len(session.nodes) - len(waiting)
            gain = 0.0 if sent else sum([probability_of(node.cost - base) for node in waiting])
            due = session.flush.due(len(waiting), sent, session.window, gain, self._prospect(session), now)
            if due > now:
                if due != session.alarm:
                    session.alarm = due
                    effects.append(SetTimer(session.key, due))
                return
        groups: dict[int, tuple[_Node, list[_Node]]] = {}
        group_of: dict[int, int] = {}
        for node in waiting:
            parent = node.parent
            assert parent is not None
            top = group_of.get(id(parent), id(parent))
            group_of[id(node)] = top
            groups.setdefault(top, (parent, []))[1].append(node)
        for base, members in groups.values():
            for start in range(0, len(members), MAX_NODES):
                self._send_group(session, base, members[start : start + MAX_NODES], effects)
        session.unsent = []

    def _send_group(self, session: _Session, base: _Node, members: list[_Node], effects: list[Effect]) -> None:
        index = {id(base): 0}
        parents = []
        for i, node in enumerate(members, start=1):
            parents.append(index[id(node.parent)])
            index[id(node)] = i
            session.sent += 1
            node.number = session.sent
            session.numbered[session.sent] = node
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

    def _frontier(self, session: _Session, count: int) -> list[_Node]:
        """The ``count`` nodes that are most worth expanding, likeliest first."""
        if len(session.nodes) >= session.credit:
            return []
        root = session.root
        found = [] if root.expanded or root.position >= session.end else [root]
        limit = root.cost + self.config.floor
        for node in session.open:
            if len(found) == count or node.cost > limit:
                break
            found.append(node)
        return found

    def _start(self, effects: list[Effect]) -> None:
        if self._job is not None:
            return
        chosen: list[tuple[_Session, list[_Node]]] = []
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

    def _item(self, session: _Session, nodes: list[_Node]) -> ExpandItem:
        for node in nodes:
            node.expanded = True
            if node is not session.root:
                session.open.remove(node)
        return ExpandItem(
            session=session.key,
            prefix=session.tokens,
            tokens=tuple(session.drafted),
            parents=tuple(session.parents),
            nodes=tuple([node.index for node in nodes]),
            sampling=session.contract.sampling,
            width=session.width,
        )

    def _prospect(self, session: _Session) -> float:
        """Probability that the stream passes through the likeliest node that is or will be expanded; 0: none."""
        nodes = self._frontier(session, 1)
        if self._job is not None:
            nodes += [node for member, chosen in self._job[1] if member is session for node in chosen if node.live]
        return probability_of(min(map(_cost_of, nodes)) - session.root.cost) if nodes else 0.0

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

    def _grow(self, session: _Session, node: _Node, children: tuple[Child, ...]) -> None:
        """Add what is likely enough and within credit; the best guess below the root always is likely enough."""
        limit, sibling_floor = session.root.cost + self.config.floor, self.config.sibling_floor
        spare: list[Child] = []
        for child in children:
            first = not node.children and not spare
            if not first and child.score > sibling_floor:
                continue
            score = self.acceptance.cost(child.score, not node.children)
            unlikely = node.cost + score > limit and not (first and node is session.root)
            if unlikely or len(session.nodes) >= session.credit:
                spare.append(child)
                continue
            below = _Node(child.token, node, None, node.position + 1, score, child.score)
            node.children[child.token] = below
            session.add(below)
        node.spare = tuple(spare)


_cost_of = attrgetter("cost")


def _up(node: _Node, root: _Node) -> Iterator[_Node]:
    """``node`` and its ancestors, up to but without ``root``."""
    while node is not root:
        yield node
        assert node.parent is not None
        node = node.parent
