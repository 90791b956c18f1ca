"""A drafter's tree against a naive model: a set of paths, each a tuple of tokens from the first root on."""

from hypothesis import given
from hypothesis import strategies as st

from dsdproto.prefix import PrefixChain, extend_digest
from dsdproto.roles.draft_tree import DraftNode, DraftTree

PROMPT = (1, 2, 3)
STOP = 9
END = len(PROMPT) + 3
TOKENS = st.sampled_from([4, 5, 6, STOP])


class Pair:
    """The tree, and what it should hold."""

    def __init__(self):
        self.chain = PrefixChain.for_contract(b"contract", PROMPT)
        self.tree = DraftTree.below(self.chain, END, (STOP,))
        self.root = ()
        self.live = {(): self.tree.root}
        self.scores = {(): 0}
        self.expanded = set()
        self.unsent = []
        self.numbers = {}

    def grow(self, place, token, score):
        path = sorted(self.live)[place % len(self.live)]
        if (*path, token) in self.live:
            return
        above = self.live[path]
        node = DraftNode(token, above, None, above.position + 1, score)
        above.children[token] = node
        self.tree.add(node)
        self.live[(*path, token)] = node
        self.scores[(*path, token)] = self.scores[path] + score
        self.unsent.append((*path, token))

    def expand(self, count, floor):
        base = self.scores[self.root]
        may = [
            path
            for path, node in self.live.items()
            if path not in self.expanded
            and node.position < END
            and (path == self.root or (path[-1] != STOP and self.scores[path] <= base + floor))
        ]
        # The root first, then the likeliest; among equals the one that came first, as a dictionary keeps them.
        may.sort(key=lambda path: (path != self.root, self.scores[path]))
        found = self.tree.frontier(count, floor)
        assert found == [self.live[path] for path in may[:count]]
        for path, node in zip(may, found):
            self.tree.expand(node)
            self.expanded.add(path)

    def send(self):
        groups = self.tree.groups()
        members = [node for _, group in groups for node in group]
        assert sorted(map(id, members)) == sorted(id(self.live[path]) for path in self.unsent)
        unsent = {id(self.live[path]) for path in self.unsent}
        for top, group in groups:
            assert id(top) not in unsent
            seen = {id(top)}
            for node in group:
                assert id(node.parent) in seen, "a parent comes before its children"
                seen.add(id(node))
                self.tree.number(node)
                self.numbers[self.tree.sent] = node
        self.tree.unsent, self.unsent = [], []

    def move(self, place, tokens):
        path = (*sorted(self.live)[place % len(self.live)], *tokens)
        node = self.live[path[: len(path) - len(tokens)]]
        for token in tokens:
            node = node.child(token)
        assert node is self.live.get(path, node)
        if path == self.root:
            return
        self.tree.reroot(node)
        gone = [below for known, below in self.live.items() if known[: len(path)] != path]
        assert not any(below.live for below in gone)
        self.root = path
        self.live = {known: below for known, below in self.live.items() if known[: len(path)] == path} | {path: node}
        self.scores.setdefault(path, 0)
        self.unsent = [known for known in self.unsent if known in self.live and known != path]

    def check(self):
        tree, root = self.tree, self.live[self.root]
        below = [node for path, node in self.live.items() if path != self.root]
        assert tree.root is root and sorted(map(id, tree.nodes)) == sorted(map(id, below))
        assert tree.tokens == [node.token for node in tree.nodes]
        places = [root, *tree.nodes]
        assert [places[index] for index in tree.parents] == [node.parent for node in tree.nodes]
        assert [node.index for node in places] == list(range(len(places)))
        for path, node in self.live.items():
            assert node.position == len(PROMPT) + len(path) and node.live
            digest = self.chain.digest
            for token in path:
                digest = extend_digest(digest, token)
            assert node.digest == digest
            assert tree.path_to(node) == list(path[len(self.root) :])
        assert tree.find(0) is root
        for number, node in self.numbers.items():
            assert tree.find(number) is (node if node in below else None)


STEPS = st.one_of(
    st.tuples(st.just("grow"), st.integers(0, 40), TOKENS, st.integers(0, 60)),
    st.tuples(st.just("expand"), st.integers(1, 3), st.integers(0, 80)),
    st.tuples(st.just("send")),
    st.tuples(st.just("move"), st.integers(0, 40), st.lists(TOKENS, max_size=3)),
)


@given(st.lists(STEPS, max_size=40))
def test_the_tree_is_what_a_set_of_paths_says(steps):
    pair = Pair()
    for name, *details in steps:
        getattr(pair, name)(*details)
        pair.check()
    pair.tree.forget()
    assert not any(node.live for node in pair.live.values())
