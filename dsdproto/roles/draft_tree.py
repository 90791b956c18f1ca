"""What a drafter guesses for one session: a tree below the verified prefix (SPEC.md, "Draft plane").

A node is *live* while it hangs below the root or is the root; what is left behind when the root moves on is not. Of the
live ones below the root, which are what credit counts, some were sent, and have a number, and some may still be
expanded; both are kept in order, so that a step need not walk the tree to find them.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from dsdproto.prefix import PrefixChain, extend_digest
from dsdproto.roles.work import Child

cost_of = attrgetter("cost")


class DraftNode:
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
        self, token: int, parent: DraftNode | None, digest: bytes | None, position: int, score: int = 0, raw: int = 0
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
        self.children: dict[int, DraftNode] = {}
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
        unnamed: list[DraftNode] = []
        node = self
        while node._digest is None:
            assert node.parent is not None  # a root has a digest
            unnamed.append(node)
            node = node.parent
        digest = node._digest
        for below in reversed(unnamed):
            digest = below._digest = extend_digest(digest, below.token)
        return digest

    def child(self, token: int) -> DraftNode:
        """The prefix with ``token`` behind it: the node for it, or else a new one, which hangs nowhere yet."""
        return self.children.get(token) or DraftNode(token, None, extend_digest(self.digest, token), self.position + 1)

    def become_root(self) -> None:
        """Part from what is above."""
        self._digest = self.digest
        self.parent, self.index, self.live = None, 0, True


@dataclass(slots=True)
class DraftTree:
    """The live tree of one session."""

    root: DraftNode
    end: int
    """position at which the stream ends: nothing is drafted from there on"""
    stop_tokens: tuple[int, ...]
    nodes: list[DraftNode] = field(default_factory=list)
    """the live tree without its root; parents come first"""
    tokens: list[int] = field(default_factory=list)
    """their tokens"""
    parents: list[int] = field(default_factory=list)
    """the index of each one's parent"""
    unsent: list[DraftNode] = field(default_factory=list)
    """those of them that were not sent yet, in the same order"""
    open: list[DraftNode] = field(default_factory=list)
    """those of them that may be expanded, likeliest first, the older one among equals"""
    numbered: dict[int, DraftNode] = field(default_factory=dict)
    """those of them that were sent, by number"""
    sent: int = 0
    """nodes sent over the life of the channel"""

    @classmethod
    def below(cls, chain: PrefixChain, end: int, stop_tokens: tuple[int, ...]) -> DraftTree:
        """Nothing but the verified prefix yet."""
        return cls(DraftNode(chain.tokens[-1], None, chain.digest, chain.position), end, stop_tokens)

    def add(self, node: DraftNode) -> None:
        """A new node, whose parent is the root or a live node."""
        self._append(node)
        self.unsent.append(node)
        if node.position < self.end and node.token not in self.stop_tokens:
            insort(self.open, node, key=cost_of)

    def _append(self, node: DraftNode) -> None:
        assert node.parent is not None
        self.nodes.append(node)
        self.tokens.append(node.token)
        self.parents.append(node.parent.index)
        node.index = len(self.nodes)

    def frontier(self, count: int, floor: int) -> list[DraftNode]:
        """The ``count`` nodes that are most worth expanding, likeliest first; none costs more than ``floor`` from the
        root."""
        root = self.root
        found = [] if root.expanded or root.position >= self.end else [root]
        limit = root.cost + floor
        for node in self.open:
            if len(found) == count or node.cost > limit:
                break
            found.append(node)
        return found

    def expand(self, node: DraftNode) -> None:
        """Its children are being computed: it is not asked for again."""
        node.expanded = True
        if node is not self.root:
            self.open.remove(node)

    def groups(self) -> list[tuple[DraftNode, list[DraftNode]]]:
        """What was not sent yet, below each sent node (or the root) that it hangs from; parents come first."""
        groups: dict[int, tuple[DraftNode, list[DraftNode]]] = {}
        group_of: dict[int, int] = {}
        for node in self.unsent:
            parent = node.parent
            assert parent is not None
            top = group_of.get(id(parent), id(parent))
            group_of[id(node)] = top
            groups.setdefault(top, (parent, []))[1].append(node)
        return list(groups.values())

    def number(self, node: DraftNode) -> None:
        """It is sent now (clause D-4)."""
        self.sent += 1
        node.number = self.sent
        self.numbered[self.sent] = node

    def find(self, number: int) -> DraftNode | None:
        """The root (0) or the live node that was sent with this number."""
        return self.root if number == 0 else self.numbered.get(number)

    def path_to(self, node: DraftNode) -> list[int]:
        """Tokens from the root, without its own, to ``node``."""
        return [below.token for below in self._up(node)][::-1]

    def _up(self, node: DraftNode) -> Iterator[DraftNode]:
        while node is not self.root:
            yield node
            assert node.parent is not None
            node = node.parent

    def reroot(self, root: DraftNode) -> None:
        """Keep what hangs below ``root``, a live node or a new one."""
        self.root.live = False
        root.become_root()
        self.root = root
        before, self.nodes, self.tokens, self.parents = self.nodes, [], [], []
        for node in before:  # parents come first, so theirs is decided
            if node is root:
                continue
            node.live = node.parent.live  # type: ignore[union-attr]
            if node.live:
                self._append(node)
        self.unsent = [node for node in self.unsent if node.live and node is not root]
        self.open = [node for node in self.open if node.live and node is not root]
        self.numbered = {node.number: node for node in self.nodes if node.number is not None}

    def forget(self) -> None:
        """Nobody wants it any more: what is being computed for it has no place to go."""
        self.root.live = False
        for node in self.nodes:
            node.live = False
