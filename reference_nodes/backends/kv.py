"""Which cache slot holds which token: per session a committed chain and the tree of computed nodes
below its end.

Slots are interchangeable (a row names the slots of its path), so a commit that keeps one branch, a
rollback, or the end of a session moves no data: slots are only relabelled or given back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np


class Slots:
    """The free slots of a pool, lowest first, so that a young pool touches little memory."""

    def __init__(self, count: int) -> None:
        self._free = list(range(count - 1, -1, -1))

    def __len__(self) -> int:
        return len(self._free)

    def take(self) -> int:
        return self._free.pop()

    def give(self, slot: int) -> None:
        self._free.append(slot)


class Node:
    """One computed token below the chain's end."""

    __slots__ = ("children", "slot", "token")

    def __init__(self, token: int, slot: int) -> None:
        self.token, self.slot = token, slot
        self.children: dict[int, Node] = {}

    def subtree(self) -> Iterator[Node]:
        """This node and all below it."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())


class SessionCache:
    """One session's computed tokens. `root` stands for the chain's end; its slot is the last of `chain`."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.tokens: list[int] = []
        self._chain = np.empty(256, np.int32)
        self.root = Node(-1, -1)

    @property
    def chain(self) -> np.ndarray:
        """int32 [len(tokens)]: the slots of the chain by position."""
        return self._chain[: len(self.tokens)]

    @property
    def size(self) -> int:
        """Slots in use."""
        return len(self.tokens) + sum(1 for _ in self.root.subtree()) - 1

    def match(self, prefix: Sequence[int]) -> int:
        """How many leading positions of `prefix` are computed, along the chain and then down the tree."""
        common = self._common(prefix)
        if common == len(self.tokens):
            node = self.root
            while common < len(prefix) and (child := node.children.get(prefix[common])) is not None:
                node, common = child, common + 1
        return common

    def _common(self, prefix: Sequence[int]) -> int:
        length = min(len(prefix), len(self.tokens))
        if list(prefix[:length]) == self.tokens[:length]:
            return length
        return next(i for i in range(length) if prefix[i] != self.tokens[i])

    def follow(self, prefix: Sequence[int]) -> int:
        """Make the chain a leading part of `prefix`, as long as computed tokens allow; returns its length.

        What leaves the path is given back; what a rollback takes off the chain stays as a branch.
        """
        common = self._common(prefix)
        if common < len(self.tokens):
            self._roll_back(common)
        node = self.root
        while len(self.tokens) < len(prefix) and (child := node.children.pop(prefix[len(self.tokens)], None)):
            self._free(node.children.values())
            self._append(child.token, child.slot)
            node = child
        self.root = node
        return len(self.tokens)

    def _roll_back(self, length: int) -> None:
        if length == 0:
            self._free(self.root.children.values())
            for slot in self.chain:
                self._slots.give(int(slot))
            self.tokens, self.root = [], Node(-1, -1)
            return
        node = self.root
        for position in range(len(self.tokens) - 1, length - 1, -1):
            node.token = self.tokens[position]
            node.slot = int(self._chain[position])
            parent = Node(-1, -1)
            parent.children[node.token] = node
            node = parent
        self.root, self.tokens = node, self.tokens[:length]
        node.token, node.slot = self.tokens[-1], int(self._chain[length - 1])

    def extend(self, token: int) -> int:
        """Append a token to the chain; returns its new slot. Only where the root has no children."""
        assert not self.root.children
        slot = self._slots.take()
        self._append(token, slot)
        self.root = Node(token, slot)
        return slot

    def _append(self, token: int, slot: int) -> None:
        length = len(self.tokens)
        if length == len(self._chain):
            self._chain = np.concatenate([self._chain, np.empty(length, np.int32)])
        self._chain[length] = slot
        self.tokens.append(token)

    def add(self, parent: Node, token: int) -> Node:
        """A new node below `parent` (the root or any node below it)."""
        node = parent.children[token] = Node(token, self._slots.take())
        return node

    def keep_only(self, wanted: Sequence[Node]) -> None:
        """Give back every node below the root but `wanted` (which holds its own ancestors)."""
        kept = {id(node) for node in wanted}
        stack = [self.root]
        while stack:
            node = stack.pop()
            for token, child in list(node.children.items()):
                if id(child) in kept:
                    stack.append(child)
                else:
                    self._free([node.children.pop(token)])

    def clear(self) -> None:
        """Give every slot back."""
        self._roll_back(0)

    def _free(self, tops: Iterable[Node]) -> None:
        for top in list(tops):
            for node in top.subtree():
                self._slots.give(node.slot)
