"""The draft trie of one session (SPEC.md, "Leader"): every draft of every drafter, stored and verified once.

The root is the committed prefix. A proposal is grafted on the node whose digest it names; the same token
below the same node is the same node, whoever proposes it. A commit moves the root: what hangs below the new
root is the next draft, the rest is waste.

Every drafted token ends in exactly one place, and the books always balance, per source and in total:

    drafted = accepted + sum(waste by cause) + live + parked

The first source to propose a node owns it in the books; later ones count as `duplicate`, but are remembered
in the node's `sources`, and share in `confirmed` when it is accepted.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Sequence

from dsdproto.prefix import DIGEST_SIZE, SHORT_SIZE, extend_digest
from dsdproto.trie_types import (
    CommitResult,
    GraftResult,
    Node,
    Proposal,
    Source,
    Subtree,
    Tally,
    TrieError,
    Waste,
    check_proposal,
    check_token,
)

__all__ = [
    "CommitResult",
    "DraftTrie",
    "GraftResult",
    "Node",
    "Source",
    "Subtree",
    "Tally",
    "TrieError",
    "Waste",
]


class DraftTrie:
    """position, digest: the committed prefix (full 32-byte digest). Bounds:

    max_nodes: nodes kept, evicting the highest path cost first, the newest among equals; max_ahead:
    furthest position ahead of the root; history: committed positions remembered for late proposals;
    max_parked: proposals that may wait for their base, the oldest leaving first.
    """

    def __init__(
        self,
        position: int,
        digest: bytes,
        *,
        max_nodes: int = 1024,
        max_ahead: int = 64,
        history: int = 64,
        max_parked: int = 16,
    ) -> None:
        if len(digest) != DIGEST_SIZE:
            raise TrieError(f"the root needs the full {DIGEST_SIZE}-byte digest, got {len(digest)} bytes")
        for name, value in (("max_nodes", max_nodes), ("max_ahead", max_ahead)):
            if value < 1:
                raise TrieError(f"{name} = {value}: must be at least 1")
        if history < 0 or max_parked < 0:
            raise TrieError(f"history = {history}, max_parked = {max_parked}: must not be negative")
        self.max_nodes = max_nodes
        self.max_ahead = max_ahead
        self.max_parked = max_parked
        self.pinned: frozenset[int] = frozenset()
        """ids of nodes under verification: a subtree at the root that is not evicted (clause TRIE-7)"""
        self.drafted: Counter[Source] = Counter()
        self.accepted: Counter[Source] = Counter()
        self.confirmed: Counter[Source] = Counter()
        self.waste: Tally = Counter()
        self._root = Node(0, -1, position, bytes(digest), None, 0, [])
        self._by_digest: dict[bytes, Node] = {self._root.digest[:SHORT_SIZE]: self._root}
        self._by_id: dict[int, Node] = {}
        self._next_id = 1
        self._journal: Tally = Counter()
        self._parked: deque[Proposal] = deque()
        # Committed steps before the root: (short digest before the token, token), oldest first.
        self._past: deque[tuple[bytes, int]] = deque(maxlen=history)

    # -- reading --------------------------------------------------------------------------------------------

    @property
    def position(self) -> int:
        return self._root.position

    @property
    def digest(self) -> bytes:
        """d(position), 32 bytes."""
        return self._root.digest

    def __len__(self) -> int:
        """Number of live drafted tokens."""
        return len(self._by_id)

    @property
    def parked(self) -> int:
        """Number of tokens in proposals that wait for their base."""
        return sum(len(proposal.tokens) for proposal in self._parked)

    def node(self, node_id: int) -> Node | None:
        """A live node by its id, which is never reused."""
        return self._by_id.get(node_id)

    def find(self, position: int, digest: bytes) -> Node | None:
        """The live node (or root) with this name; digest short or full."""
        node = self._by_digest.get(digest[:SHORT_SIZE])
        if node is None or node.position != position or not node.digest.startswith(digest):
            return None
        return node

    def children(self, node_id: int | None) -> dict[int, Node]:
        """Children of a live node by token; None: of the root. Empty for an unknown id."""
        node = self._root if node_id is None else self._by_id.get(node_id)
        return {} if node is None else node.children

    def live_by_source(self) -> Counter[Source]:
        """Live drafted tokens per owning source."""
        return Counter(node.sources[0] for node in self._by_id.values())

    def parked_by_source(self) -> Counter[Source]:
        """Parked tokens per source."""
        count: Counter[Source] = Counter()
        for proposal in self._parked:
            count[proposal.source] += len(proposal.tokens)
        return count

    def best_subtree(self, budget: int, max_depth: int | None = None, base: int | None = None) -> Subtree:
        """The `budget` most likely nodes: those of least path cost, older first among equals.

        max_depth: levels below the base. base: id of the node to start from instead of the root, for a
        verification that runs ahead of the commit; TrieError if it isn't live.
        """
        start: Node | None = self._root
        if base is not None:
            start = self._root if base == self._root.id else self._by_id.get(base)
            if start is None:
                raise TrieError(f"node {base} is not in the trie: it was committed, evicted or never there")
        limit = start.position + (self.max_ahead if max_depth is None else max_depth)
        index = {start.id: 0}
        tokens: list[int] = []
        parents: list[int] = []
        # The id decides among equals, so nodes themselves are never compared.
        heap = [(child.cost, child.id, child) for child in start.children.values() if child.position <= limit]
        heapq.heapify(heap)
        while heap and len(tokens) < budget:
            cost, node_id, node = heapq.heappop(heap)
            assert node.parent is not None
            parents.append(index[node.parent.id])
            tokens.append(node.token)
            index[node_id] = len(tokens)
            if node.position < limit:
                for child in node.children.values():
                    heapq.heappush(heap, (cost + child.cost, child.id, child))
        return Subtree(start.position, start.digest, tuple(tokens), tuple(parents), tuple(index)[1:])

    # -- grafting -------------------------------------------------------------------------------------------

    def graft(
        self,
        position: int,
        digest: bytes,
        tokens: Sequence[int],
        parents: Sequence[int] | None,
        source: Source,
        costs: Sequence[int] | None = None,
    ) -> GraftResult:
        """Takes a proposal that extends the prefix named (position, short or full digest).

        parents[n]: 0 is the base, j the j-th token, j <= n; None: a chain. costs[n]: -16 log2 of the
        probability that tokens[n] is accepted after its parent, as the caller sees it, 0..255; None: 0.
        Raises TrieError if the proposal contradicts itself; one that is late, early, wrong or too much is never
        an error, only counted.
        """
        if parents is None:
            parents = range(len(tokens))
        if costs is None:
            costs = (0,) * len(tokens)
        check_proposal(position, digest, tokens, parents, costs)
        short = bytes(digest[:SHORT_SIZE])
        proposal = Proposal(position, short, tuple(tokens), tuple(parents), source, tuple(costs))
        self.drafted[source] += len(tokens)
        self._journal = Counter()
        placed = self._place(proposal)
        if placed is None:
            parked = self._park(proposal)
            return GraftResult(0, parked, 0, self._journal, (None,) * len(tokens))
        added, places = placed
        revived = self._revive() if added else 0
        self._evict()
        nodes = tuple([place.id if isinstance(place, Node) and place.id in self._by_id else None for place in places])
        return GraftResult(added, 0, revived, self._journal, nodes)

    def _place(self, proposal: Proposal) -> tuple[int, list[Node | int | Waste]] | None:
        """Grafts what can be grafted; None if the base is not known (yet).

        Returns the number of new nodes, and for each token where it went: node, committed position, or waste.
        """
        root = self._root.position
        start: Node | int | Waste | None = self._by_digest.get(proposal.digest)
        if isinstance(start, Node):
            if start.position != proposal.position:
                start = Waste.WRONG
        elif proposal.position > root + self.max_ahead:
            start = Waste.TOO_DEEP
        elif proposal.position > root:
            return None
        else:
            start = self._committed(proposal.position, proposal.digest)
        added = 0
        places: list[Node | int | Waste] = []
        for token, parent, cost in zip(proposal.tokens, proposal.parents, proposal.costs):
            place = places[parent - 1] if parent else start
            if isinstance(place, Node):
                nodes = self._next_id
                place = self._grow(place, token, cost, proposal.source)
                added += self._next_id - nodes
            elif isinstance(place, Waste):
                self._count(proposal.source, place)
            elif self._past[place - root][1] == token:
                self._count(proposal.source, Waste.STALE)
                place = self._root if place + 1 == root else place + 1
            else:
                self._count(proposal.source, Waste.WRONG)
                place = Waste.WRONG
            places.append(place)
        return added, places

    def _committed(self, position: int, digest: bytes) -> int | Waste:
        """A position at or before the root, checked against what was committed there."""
        behind = self._root.position - position
        if behind > len(self._past):
            return Waste.STALE
        if behind == 0 or self._past[-behind][0] != digest:
            return Waste.WRONG
        return position

    def _grow(self, parent: Node, token: int, cost: int, source: Source) -> Node | Waste:
        node = parent.children.get(token)
        if node is not None:
            self._count(source, Waste.DUPLICATE)
            node.cost = min(node.cost, cost)
            if source not in node.sources:
                node.sources.append(source)
            return node
        if parent.position >= self._root.position + self.max_ahead:
            self._count(source, Waste.TOO_DEEP)
            return Waste.TOO_DEEP
        digest = extend_digest(parent.digest, token)
        node = Node(self._next_id, token, parent.position + 1, digest, parent, cost, [source])
        self._next_id += 1
        parent.children[token] = node
        self._by_id[node.id] = node
        self._by_digest[digest[:SHORT_SIZE]] = node
        return node

    def _park(self, proposal: Proposal) -> int:
        if not self.max_parked:
            self._count(proposal.source, Waste.ORPHAN, len(proposal.tokens))
            return 0
        if len(self._parked) == self.max_parked:
            oldest = self._parked.popleft()
            self._count(oldest.source, Waste.ORPHAN, len(oldest.tokens))
        self._parked.append(proposal)
        return len(proposal.tokens)

    def _revive(self) -> int:
        """Grafts parked proposals whose fate is known by now, in order of arrival, until none moves."""
        revived = 0
        moved = 1
        while moved and self._parked:
            moved = 0
            waiting: deque[Proposal] = deque()
            for proposal in self._parked:
                placed = self._place(proposal)
                if placed is None:
                    waiting.append(proposal)
                else:
                    moved += placed[0]
            self._parked = waiting
            revived += moved
        return revived

    def _evict(self) -> None:
        excess = len(self._by_id) - self.max_nodes
        if excess <= 0:
            return
        paths = {self._root.id: 0}
        for node in self._by_id.values():  # in order of id, so parents come first
            assert node.parent is not None
            paths[node.id] = paths[node.parent.id] + node.cost
        del paths[self._root.id]
        candidates = [(cost, node_id) for node_id, cost in paths.items() if node_id not in self.pinned]
        # A child costs no less than its parent and is newer, so in this order each one is a leaf when its
        # turn comes.
        for _, node_id in heapq.nlargest(excess, candidates):
            self._drop(self._by_id[node_id], Waste.EVICTED)

    # -- committing -----------------------------------------------------------------------------------------

    def commit(self, tokens: Sequence[int], accepted: int | None = None) -> CommitResult:
        """Moves the root along these tokens and drops what does not hang below it.

        accepted: how many of the first tokens the verification took from the draft; a token beyond those
        that the trie holds by now came too late to help. None: all that the trie holds.
        """
        for token in tokens:
            check_token(token)
        if accepted is not None and not 0 <= accepted <= len(tokens):
            raise TrieError(f"accepted = {accepted} of {len(tokens)} committed tokens")
        self._journal = Counter()
        origins: list[tuple[Source, ...]] = []
        gained: Counter[Source] = Counter()
        for n, token in enumerate(tokens):
            root = self._root
            child = root.children.pop(token, None)
            for sibling in list(root.children.values()):
                self._drop(sibling, Waste.WRONG)
            del self._by_digest[root.digest[:SHORT_SIZE]]
            self._past.append((root.digest[:SHORT_SIZE], token))
            origin: tuple[Source, ...] = ()
            if child is None:
                digest = extend_digest(root.digest, token)
                child = Node(self._next_id, token, root.position + 1, digest, None, 0, [])
                self._next_id += 1
                self._by_digest[digest[:SHORT_SIZE]] = child
            else:
                del self._by_id[child.id]
                child.parent = None
                if accepted is None or n < accepted:
                    origin = tuple(child.sources)
                    gained[origin[0]] += 1
                    self.confirmed.update(origin)
                else:
                    self._count(child.sources[0], Waste.LATE)
            origins.append(origin)
            self._root = child
        self.accepted.update(gained)
        revived = self._revive()
        self._evict()
        return CommitResult(tuple(origins), gained, self._journal, revived)

    def close(self) -> Tally:
        """Ends the session: everything live or parked becomes `unverified` waste, which is returned."""
        self._journal = Counter()
        for child in list(self._root.children.values()):
            self._drop(child, Waste.UNVERIFIED)
        for proposal in self._parked:
            self._count(proposal.source, Waste.UNVERIFIED, len(proposal.tokens))
        self._parked.clear()
        return self._journal

    def _drop(self, node: Node, cause: Waste) -> None:
        """Removes a node and all below it."""
        if node.parent is not None:
            node.parent.children.pop(node.token, None)
        stack = [node]
        while stack:
            node = stack.pop()
            stack += node.children.values()
            del self._by_id[node.id]
            del self._by_digest[node.digest[:SHORT_SIZE]]
            self._count(node.sources[0], cause)

    def _count(self, source: Source, cause: Waste, tokens: int = 1) -> None:
        self.waste[source, cause] += tokens
        self._journal[source, cause] += tokens
