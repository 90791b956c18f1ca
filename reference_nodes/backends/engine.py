"""From trees to rows: finds what is computed already, computes the rest in one forward, answers with
hidden states.

Target and drafter are both this engine; they differ in the nodes they ask for and in the head they apply.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .base import BadRequest, CacheFull, ContextFull, Counters, check_tree
from .kv import Node, SessionCache, Slots
from .llama import Llama


@dataclass
class _Plan:
    """Rows of one forward, in an order where a parent precedes its children."""

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    chains: list[np.ndarray] = field(default_factory=list)  # slots of the committed part of the row's path
    tails: list[list[int]] = field(default_factory=list)  # slots of its draft part

    def add(self, token: int, slot: int, chain: np.ndarray, tail: list[int]) -> None:
        self.tokens.append(token)
        self.positions.append(len(chain) + len(tail) - 1)
        self.slots.append(slot)
        self.chains.append(chain)
        self.tails.append(tail)


@dataclass(frozen=True)
class Tree:
    """What `Engine.hidden_states` needs of a request; `wanted` are the nodes asked for, ascending."""

    key: Hashable
    prefix: Sequence[int]
    tokens: Sequence[int]
    parents: Sequence[int]
    wanted: Sequence[int]


class Engine:
    """Session caches over one `Llama`. Synchronous; one call at a time."""

    def __init__(self, model: Llama, vocab_size: int, max_rows: int) -> None:
        self.model, self.vocab_size, self.max_rows = model, vocab_size, max_rows
        self.counters = Counters()
        self._slots = Slots(model.slots)
        self._hidden = np.empty((model.slots, model.config.hidden), np.float32)
        self._sessions: dict[Hashable, SessionCache] = {}  # least recently used first

    @property
    def free_slots(self) -> int:
        """Cache slots that no session holds."""
        return len(self._slots)

    def cached(self, key: Hashable, prefix: Sequence[int]) -> int:
        """How many leading positions of `prefix` are computed."""
        cache = self._sessions.get(key)
        return 0 if cache is None else cache.match(prefix)

    def release(self, key: Hashable) -> None:
        """Forget a session."""
        cache = self._sessions.pop(key, None)
        if cache is not None:
            cache.clear()

    def prefill(self, key: Hashable, prefix: Sequence[int], budget: int) -> int:
        """Compute at most `budget` more positions of `prefix`; returns how many are computed."""
        check_tree(prefix, (), (), self.vocab_size)
        if budget < 0:
            raise BadRequest(f"negative budget {budget}")
        self._check_length(len(prefix))
        cache = self._touch(key)
        have = cache.follow(prefix)
        count = min(budget, len(prefix) - have)
        if count:
            cache.keep_only(())
            self._reserve(count, {key})
            plan = _Plan()
            self._extend(cache, prefix[have : have + count], plan)
            self._run(plan, {key})
        return have + count

    def hidden_states(self, trees: Sequence[Tree]) -> list[np.ndarray]:
        """One forward for all: result i is float32 [len(wanted), hidden], a copy."""
        keys = {tree.key for tree in trees}
        if len(keys) != len(trees):
            raise BadRequest("two requests of one call have the same session key")
        work = [(tree, self._closure(tree)) for tree in trees]
        caches = []
        missing = 0
        for tree, needed in work:
            cache = self._touch(tree.key)
            if cache.follow(tree.prefix) < len(tree.prefix):
                cache.keep_only(())
            caches.append(cache)
            missing += len(tree.prefix) - len(cache.tokens) + len(needed) - 1
        self._reserve(missing, keys, work, caches)
        plan = _Plan()
        picked = []
        for (tree, needed), cache in zip(work, caches):
            self._extend(cache, tree.prefix[len(cache.tokens) :], plan)
            nodes = self._grow(cache, tree, needed, plan)
            picked.append([nodes[node].slot for node in tree.wanted])
        self._run(plan, keys)
        return [self._hidden[slots] for slots in picked]

    def _closure(self, tree: Tree) -> list[int]:
        """Check the tree; the wanted nodes and all their ancestors, ascending (node 0 first)."""
        check_tree(tree.prefix, tree.tokens, tree.parents, self.vocab_size)
        needed, depth = {0}, {0: 0}
        for node in tree.wanted:
            if not 0 <= node <= len(tree.tokens):
                raise BadRequest(f"node {node} is not in the tree: it has nodes 0..{len(tree.tokens)}")
            while node not in needed:
                needed.add(node)
                node = tree.parents[node - 1]
        order = sorted(needed)
        for node in order[1:]:
            depth[node] = depth[tree.parents[node - 1]] + 1
        self._check_length(len(tree.prefix) + max(depth.values()))
        return order

    def _check_length(self, length: int) -> None:
        if length > self.model.max_context:
            raise ContextFull(f"a path of {length} positions exceeds max_context {self.model.max_context}")

    def _touch(self, key: Hashable) -> SessionCache:
        cache = self._sessions.pop(key, None) or SessionCache(self._slots)
        self._sessions[key] = cache
        return cache

    def _reserve(
        self,
        count: int,
        keys: Collection[Hashable],
        work: Sequence[tuple[Tree, list[int]]] = (),
        caches: Sequence[SessionCache] = (),
    ) -> None:
        """Make room for `count` slots: first drop drafts that nobody asks for now, then the stalest
        sessions.
        """
        if count > len(self._slots):
            for (tree, needed), cache in zip(work, caches):
                found = self._find(cache, tree, needed) if len(cache.tokens) == len(tree.prefix) else {}
                cache.keep_only([node for node in found.values() if node is not cache.root])
        for key in list(self._sessions):
            if count <= len(self._slots):
                return
            if key not in keys:
                self.release(key)
                self.counters.evictions += 1
        if count > len(self._slots):
            raise CacheFull(
                f"this call needs {count} cache slots, {len(self._slots)} of {self.model.slots} are free; "
                "split the batch, or start the node with more slots"
            )

    def _extend(self, cache: SessionCache, tokens: Sequence[int], plan: _Plan) -> None:
        start = len(cache.tokens)
        slots = [cache.extend(int(token)) for token in tokens]
        chain = cache.chain
        for i, (token, slot) in enumerate(zip(tokens, slots)):
            plan.add(int(token), slot, chain[: start + i + 1], [])

    @staticmethod
    def _find(cache: SessionCache, tree: Tree, needed: Sequence[int]) -> dict[int, Node]:
        """Those of the needed nodes that are computed."""
        found = {0: cache.root}
        for node in needed[1:]:
            parent = found.get(tree.parents[node - 1])
            child = None if parent is None else parent.children.get(tree.tokens[node - 1])
            if child is not None:
                found[node] = child
        return found

    def _grow(self, cache: SessionCache, tree: Tree, needed: Sequence[int], plan: _Plan) -> dict[int, Node]:
        nodes, chain = {0: cache.root}, cache.chain
        tails: dict[int, list[int]] = {0: []}
        for node in needed[1:]:
            above, token = tree.parents[node - 1], int(tree.tokens[node - 1])
            child = nodes[above].children.get(token)
            fresh = child is None
            if child is None:
                child = cache.add(nodes[above], token)
            nodes[node], tails[node] = child, [*tails[above], child.slot]
            if fresh:
                plan.add(token, child.slot, chain, tails[node])
        return nodes

    def _run(self, plan: _Plan, keys: Collection[Hashable]) -> None:
        try:
            self._compute(plan)
        except BaseException:
            # The caches list rows that were never computed: forget them rather than answer from them.
            for key in keys:
                self.release(key)
            raise

    def _compute(self, plan: _Plan) -> None:
        for start in range(0, len(plan.tokens), self.max_rows):
            part = slice(start, start + self.max_rows)
            positions = np.array(plan.positions[part], np.int32)
            paths = np.zeros((len(positions), int(positions.max()) + 1), np.int32)
            for path, chain, tail in zip(paths, plan.chains[part], plan.tails[part]):
                path[: len(chain)] = chain
                path[len(chain) : len(chain) + len(tail)] = tail
            slots = np.array(plan.slots[part], np.int32)
            self._hidden[slots] = self.model.forward(np.array(plan.tokens[part]), positions, slots, paths)
            self.counters.forwards += 1
            self.counters.rows += len(positions)
