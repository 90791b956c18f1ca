"""The draft trie against a naive model, and its books under every kind of proposal."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdproto.prefix import PrefixChain
from dsdproto.sampling import CoupledSampler, SamplingParameters, walk
from dsdproto.testmodel import TestModel, context_of
from dsdproto.trie import DraftTrie, TrieError, Waste


def chain(*tokens: int) -> PrefixChain:
    return PrefixChain.for_contract(b"contract", tokens)


def name(*tokens: int) -> tuple[int, bytes]:
    return len(tokens), chain(*tokens).short


def trie(*tokens: int, **bounds: int) -> DraftTrie:
    return DraftTrie(len(tokens), chain(*tokens).digest, **bounds)


def paths(t: DraftTrie, base: tuple[int, ...] = ()) -> dict[tuple[int, ...], int]:
    """Every live path below the root, with its node id."""
    tree = t.best_subtree(10**6, 10**6)
    out: dict[tuple[int, ...], int] = {}
    rows: list[tuple[int, ...]] = [base]
    for token, parent, node in zip(tree.tokens, tree.parents, tree.nodes):
        rows.append((*rows[parent], token))
        out[rows[-1]] = node
    return out


def causes(tally: Counter) -> dict[str, int]:
    out: Counter[str] = Counter()
    for (_, cause), n in tally.items():
        out[str(cause)] += n
    return {cause: n for cause, n in out.items() if n}


def balance(t: DraftTrie) -> None:
    """Every drafted token is in exactly one place, in total and for every source."""
    live, parked = t.live_by_source(), t.parked_by_source()
    assert sum(live.values()) == len(t) and sum(parked.values()) == t.parked
    assert len(t) <= t.max_nodes
    for source, drafted in t.drafted.items():
        wasted = sum(n for (s, _), n in t.waste.items() if s == source)
        assert drafted == t.accepted[source] + wasted + live[source] + parked[source], source
        assert t.accepted[source] <= t.confirmed[source] or not t.accepted[source]


# -- one thing at a time -------------------------------------------------------------------------------------


def test_chains_and_trees_share_their_nodes():
    t = trie()
    first = t.graft(*name(), [1, 2, 3], None, "a")
    second = t.graft(*name(), [1, 2, 4, 9], [0, 1, 2, 0], "b")
    assert (first.added, second.added) == (3, 2) and causes(second.waste) == {"duplicate": 2}
    assert set(paths(t)) == {(1,), (1, 2), (1, 2, 3), (1, 2, 4), (9,)}
    node = t.find(*name(1, 2))
    assert node.sources == ["a", "b"] and node.digest == chain(1, 2).digest and node.position == 2
    assert t.node(node.id) is node
    assert t.find(3, chain(1, 2).short) is None and t.find(2, chain(1, 2).digest) is node
    balance(t)


def test_a_drafter_may_extend_what_another_one_drafted():
    t = trie(7)
    t.graft(*name(7), [1, 2], None, "a")
    assert t.graft(*name(7, 1), [5], None, "b").added == 1
    assert set(paths(t)) == {(1,), (1, 2), (1, 5)}


def test_a_commit_keeps_what_hangs_below_and_counts_the_rest():
    t = trie()
    t.graft(*name(), [1, 2, 3, 4], None, "a")
    t.graft(*name(), [1, 8, 2, 7, 3], [0, 1, 1, 3, 3], "b")
    result = t.commit([1, 2])
    assert result.origins == (("a", "b"), ("a", "b")) and result.accepted == Counter(a=2)
    assert causes(result.waste) == {"wrong": 1}
    assert (t.position, t.digest) == (2, chain(1, 2).digest)
    assert set(paths(t)) == {(3,), (3, 4), (7,)}
    assert t.confirmed == Counter(a=2, b=2)
    balance(t)
    result = t.commit([9])
    assert result.origins == ((),) and causes(result.waste) == {"wrong": 3} and len(t) == 0
    balance(t)
    assert causes(t.waste) == {"duplicate": 3, "wrong": 4}


def test_a_token_that_the_target_made_itself_came_late():
    t = trie()
    t.graft(*name(), [1], None, "a")
    t.graft(*name(1), [2, 3], None, "b")
    result = t.commit([1, 2], accepted=1)
    assert result.origins == (("a",), ()) and result.accepted == Counter(a=1)
    assert causes(result.waste) == {"late": 1} and set(paths(t)) == {(3,)}
    balance(t)


def test_a_graft_says_which_nodes_hold_its_tokens():
    t = trie(max_nodes=3, max_ahead=3)
    assert t.graft(*name(), [1, 2], None, "a").nodes == (1, 2)
    t.commit([1])
    # behind the root, the same as a live node, new, and too deep
    assert t.graft(*name(), [1, 2, 3, 4, 5], None, "b").nodes == (None, 2, 3, 4, None)
    assert t.graft(*name(1), [7, 8], None, "c", [255, 255]).nodes == (None, None)  # evicted at once
    assert t.graft(*name(1, 9), [7], None, "c").nodes == (None,)  # parked
    assert set(t.children(None)) == {2} and set(t.children(2)) == {3} and t.children(99) == {}
    balance(t)


def test_a_late_proposal_still_serves_beyond_the_root():
    t = trie()
    t.commit([1, 2, 3])
    result = t.graft(*name(1), [2, 3, 4, 5, 9, 9], [0, 1, 2, 3, 1, 0], "a")
    assert result.added == 2 and causes(result.waste) == {"stale": 2, "wrong": 2}
    assert set(paths(t)) == {(4,), (4, 5)}
    assert causes(t.graft(*name(1, 7), [3], None, "a").waste) == {"wrong": 1}
    assert causes(t.graft(3, chain(1, 2, 4).short, [3], None, "a").waste) == {"wrong": 1}
    balance(t)


def test_what_is_older_than_the_history_is_stale():
    t = trie(history=2)
    t.commit([1, 2, 3])
    assert causes(t.graft(*name(), [1, 2, 3, 4], None, "a").waste) == {"stale": 4}
    assert t.graft(*name(1), [2, 3, 4], None, "a").added == 1
    t = trie(history=0)
    t.commit([1])
    assert causes(t.graft(*name(), [1, 2], None, "a").waste) == {"stale": 2}
    balance(t)


def test_reordered_proposals_wait_for_their_base():
    t = trie()
    early = t.graft(*name(1, 2), [3], None, "a")
    assert (early.added, early.parked, t.parked) == (0, 1, 1)
    assert t.graft(*name(1, 2, 3), [4], None, "a").parked == 1
    balance(t)
    assert t.graft(*name(), [1, 2], None, "b").revived == 2
    assert set(paths(t)) == {(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)} and t.parked == 0
    balance(t)


def test_a_commit_brings_the_base_or_shows_that_it_was_wrong():
    t = trie()
    t.graft(*name(1, 2), [3], None, "a")
    t.graft(*name(1, 9), [4, 5], None, "a")
    result = t.commit([1, 2])
    assert result.revived == 1 and causes(result.waste) == {"wrong": 2} and set(paths(t)) == {(3,)}
    balance(t)


def test_few_proposals_may_wait():
    t = trie(max_parked=2)
    for n in range(3):
        t.graft(*name(9, n), [3, 4], None, "a")
    assert t.parked == 4 and causes(t.waste) == {"orphan": 2}
    balance(t)
    t = trie(max_parked=0)
    result = t.graft(*name(9), [3], None, "a")
    assert result.parked == 0 and causes(result.waste) == {"orphan": 1}
    balance(t)


def test_nothing_grows_further_ahead_than_the_bound():
    t = trie(max_ahead=3)
    assert causes(t.graft(*name(), [1, 2, 3, 4, 5], None, "a").waste) == {"too_deep": 2}
    assert causes(t.graft(*name(1, 2, 3, 4), [5], None, "a").waste) == {"too_deep": 1}
    t.commit([1])
    assert t.graft(*name(1, 2, 3), [4, 5], None, "a").added == 1
    balance(t)


def test_the_least_likely_leaves_go_first_and_the_newest_among_equals():
    t = trie(max_nodes=4)
    t.graft(*name(), [1, 2, 3], None, "a", [10, 10, 10])
    result = t.graft(*name(), [7, 8, 9], None, "b", [15, 0, 15])
    assert result.added == 3 and causes(result.waste) == {"evicted": 2}
    assert set(paths(t)) == {(1,), (7,), (7, 8), (1, 2)}  # path costs 10, 15, 15, 20; gone: 30, 30
    balance(t)
    t.graft(*name(), [5], None, "c", [255])
    assert (5,) not in paths(t)
    balance(t)


def test_the_best_subtree_is_greedy_by_path_cost():
    t = trie()
    t.graft(*name(), [1, 2, 3], None, "a", [10, 30, 0])
    t.graft(*name(), [7, 8], None, "a", [20, 5])
    tree = t.best_subtree(3)
    assert tree.tokens == (1, 7, 8) and tree.parents == (0, 0, 2) and tree.position == 0
    assert t.best_subtree(10, 1).tokens == (1, 7) and t.best_subtree(0).tokens == ()
    assert t.best_subtree(10).tokens == (1, 7, 8, 2, 3)
    below = t.best_subtree(10, base=t.find(*name(1)).id)
    assert (below.position, below.digest, below.tokens) == (1, chain(1).digest, (2, 3))
    assert t.best_subtree(10, 1, t.find(*name(1)).id).tokens == (2,)
    node = t.find(*name(1)).id
    t.commit([1])
    assert t.best_subtree(10, base=node).tokens == (2, 3)
    t.commit([2])
    with pytest.raises(TrieError, match="not in the trie"):
        t.best_subtree(10, base=node)


def test_the_least_cost_that_any_source_gave_counts():
    t = trie()
    t.graft(*name(), [1], None, "bad", [41])
    t.graft(*name(), [2], None, "good", [30])
    assert t.best_subtree(1).tokens == (2,)
    t.graft(*name(), [1], None, "good", [2])
    assert t.best_subtree(1).tokens == (1,)
    t.graft(*name(), [1], None, "worse", [90])
    assert t.find(*name(1)).sources == ["bad", "good", "worse"] and t.find(*name(1)).cost == 2


def test_the_end_of_the_session_leaves_nothing():
    t = trie()
    t.graft(*name(), [1, 2], None, "a")
    t.graft(*name(9, 9), [1, 2, 3], None, "b")
    assert causes(t.close()) == {"unverified": 5} and len(t) == t.parked == 0
    balance(t)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((-1, bytes(16), [1], None, "a"), "position -1"),
        ((0, bytes(8), [1], None, "a"), "of 8 bytes"),
        ((0, bytes(16), [1, 2], [0], "a"), "2 tokens, 1 parents"),
        ((0, bytes(16), [1, 2], [0, 2], "a"), "token 2 has parent 2"),
        ((0, bytes(16), [1], [-1], "a"), "token 1 has parent -1"),
        ((0, bytes(16), [2**32], None, "a"), "token 4294967296"),
        ((0, bytes(16), [1], None, "a", [256]), "token 1 has cost 256"),
    ],
)
def test_malformed_proposals_are_refused_and_not_counted(arguments, why):
    t = trie()
    with pytest.raises(TrieError, match=why):
        t.graft(*arguments)
    assert not t.drafted and len(t) == 0


def test_malformed_commits_change_nothing():
    t = trie()
    t.graft(*name(), [1], None, "a")
    with pytest.raises(TrieError, match="token -1"):
        t.commit([1, -1])
    with pytest.raises(TrieError, match="accepted = 2 of 1"):
        t.commit([1], accepted=2)
    assert t.position == 0 and len(t) == 1
    for bounds in ({"max_nodes": 0}, {"max_ahead": 0}, {"history": -1}):
        with pytest.raises(TrieError, match="must"):
            trie(**bounds)
    with pytest.raises(TrieError, match="32-byte"):
        DraftTrie(0, bytes(16))


# -- against a naive model -----------------------------------------------------------------------------------


class Naive:
    """The trie without bounds, as a set of paths from position 0, and proposals as lists of whole paths."""

    def __init__(self) -> None:
        self.committed: tuple[int, ...] = ()
        self.paths: set[tuple[int, ...]] = set()
        self.waiting: list[tuple[tuple[int, ...], list[tuple[int, ...]]]] = []

    def graft(self, base, proposed) -> None:
        self.waiting.append((base, proposed))
        self.settle()

    def settle(self) -> None:
        moved = True
        while moved:
            moved = False
            for base, proposed in list(self.waiting):
                n = len(self.committed)
                if base in self.paths or base == self.committed[: len(base)]:
                    self.paths |= {p for p in proposed if len(p) > n and p[:n] == self.committed}
                elif len(base) > n:
                    continue
                self.waiting.remove((base, proposed))
                moved = True

    def commit(self, tokens) -> None:
        self.committed += tokens
        n = len(self.committed)
        self.paths = {p for p in self.paths if len(p) > n and p[:n] == self.committed}
        self.settle()


TOKEN = st.integers(0, 2)
PATH = st.lists(TOKEN, max_size=4).map(tuple)
TREE = st.lists(st.tuples(TOKEN, st.integers(0, 99), st.integers(0, 255)), min_size=1, max_size=6)
STEP = st.one_of(
    st.tuples(st.just("graft"), PATH, TREE, st.sampled_from("abc"), st.integers(0, 6)),
    st.tuples(st.just("commit"), st.lists(TOKEN, min_size=1, max_size=2).map(tuple), st.integers(0, 2)),
)


def play(t: DraftTrie, steps, naive: Naive | None = None) -> None:
    committed: tuple[int, ...] = ()
    for step in steps:
        if step[0] == "graft":
            _, tail, tree, source, back = step
            # near the root, a little behind it or ahead of it; sometimes off the committed path
            base = committed[: max(0, len(committed) - back)] + tail
            tokens = [token for token, _, _ in tree]
            parents = [pick % (n + 1) for n, (_, pick, _) in enumerate(tree)]
            result = t.graft(*name(*base), tokens, parents, source, [cost for _, _, cost in tree])
            own = sum(n for (s, _), n in result.waste.items() if s == source)
            pressed = result.revived or result.waste[source, Waste.EVICTED] or result.waste[source, Waste.ORPHAN]
            if not pressed:
                assert result.added + result.parked + own == len(tokens)
            if naive:
                rows = [base]
                for token, parent in zip(tokens, parents):
                    rows.append((*rows[parent], token))
                naive.graft(base, rows[1:])
        else:
            _, tokens, accepted = step
            result = t.commit(tokens, min(accepted, len(tokens)))
            assert len(result.origins) == len(tokens)
            assert sum(result.accepted.values()) == sum(1 for origin in result.origins if origin)
            committed += tokens
            if naive:
                naive.commit(tokens)
        assert (t.position, t.digest) == (len(committed), chain(*committed).digest)
        balance(t)
        if naive:
            assert set(paths(t, committed)) == naive.paths
            assert t.parked == sum(len(proposed) for _, proposed in naive.waiting)
        for path, node_id in paths(t, committed).items():
            node = t.find(*name(*path))
            assert node is not None and node.id == node_id and node.digest == chain(*path).digest


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(STEP, max_size=14))
def test_without_pressure_it_is_a_set_of_paths(steps):
    play(trie(max_nodes=10**6, max_ahead=10**6, history=10**6, max_parked=10**6), steps, Naive())


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(STEP, max_size=20), st.integers(1, 8), st.integers(1, 5), st.integers(0, 4), st.integers(0, 3))
def test_under_pressure_the_books_balance_and_the_bounds_hold(steps, nodes, ahead, history, parked):
    t = trie(max_nodes=nodes, max_ahead=ahead, history=history, max_parked=parked)
    play(t, steps)
    t.close()
    balance(t)
    assert sum(t.drafted.values()) == sum(t.accepted.values()) + sum(t.waste.values())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(STEP, max_size=14), st.integers(0, 8), st.integers(1, 5))
def test_the_best_subtree_is_a_best_one(steps, budget, depth):
    t = trie()
    play(t, steps)
    tree = t.best_subtree(budget, depth)
    nodes = {0: 0}
    depths = [0]
    total = [0]
    for n, (parent, node_id) in enumerate(zip(tree.parents, tree.nodes), 1):
        nodes[node_id] = n
        depths.append(depths[parent] + 1)
        total.append(total[parent] + t.node(node_id).cost)
    assert len(tree.tokens) <= budget and max(depths) <= depth
    assert total[1:] == sorted(total[1:])
    left = [path for path, node_id in paths(t).items() if node_id not in nodes and len(path) <= depth]
    if left:
        assert len(tree.tokens) == budget
        cost = {}
        for path, node_id in sorted(paths(t).items(), key=lambda item: len(item[0])):
            cost[path] = cost.get(path[:-1], 0) + t.node(node_id).cost
        assert not budget or max(total[1:]) <= min(cost[path] for path in left)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(STEP, max_size=14))
def test_the_same_inputs_make_the_same_trie(steps):
    one, two = (trie(max_nodes=6, max_ahead=4, max_parked=2) for _ in range(2))
    play(one, steps)
    play(two, steps)
    assert one.best_subtree(99) == two.best_subtree(99) and one.waste == two.waste


# -- the point of it all -------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from([SamplingParameters(), SamplingParameters.from_floats(0.8, 3, 0.95)]),
    st.sampled_from([0, 30000, 60000, 65536]),
)
def test_reordered_duplicated_lost_and_stale_proposals_change_no_token(random, parameters, agreement):
    """Three drafters whose proposals travel badly; the stream is that of the target alone, and the books balance."""
    target = TestModel.parse("tm-1:v=64,s=5")
    drafters = [TestModel.parse(f"tm-1:v=64,s=5,a={agreement},d={d}") for d in range(3)]
    sampler = CoupledSampler(parameters, 8)
    prompt = [9, 8, 7]
    length = 40

    alone = list(prompt)
    while len(alone) < length:
        logits, ids = target.candidates(context_of(alone))
        alone.append(sampler.choose(logits, len(alone), ids).token)

    committed = chain(*prompt)
    t = DraftTrie(3, committed.digest, max_nodes=24, max_ahead=12, history=8, max_parked=4)
    wire: list[tuple] = []
    rounds = 0
    while committed.position < length:
        rounds += 1
        for source, model in enumerate(drafters):
            # Draft from the end of a recent prefix, sometimes of an older one.
            base = list(committed.tokens[: committed.position - random.choice((0, 0, 0, 1, 2))])
            base = base if len(base) >= 3 else list(prompt)
            rows, tokens, parents, costs = [base], [], [], []
            for parent in range(random.randint(1, 5)):
                if parent >= len(rows):
                    break
                logits, ids = model.candidates(context_of(rows[parent]))
                for child in sampler.ranked(logits, len(rows[parent]), random.randint(1, 2), ids):
                    rows.append([*rows[parent], child.token])
                    tokens.append(child.token)
                    parents.append(parent)
                    costs.append(child.cost)
            wire.append((len(base), chain(*base).short, tokens, parents, source, costs))
        random.shuffle(wire)
        for _ in range(random.randint(0, len(wire))):
            proposal = wire.pop()
            if random.random() < 0.8:
                t.graft(*proposal)
            if random.random() < 0.2:
                wire.append(proposal)
        wire = wire[-6:]

        tree = t.best_subtree(random.randint(0, 8))
        paths_of = [list(committed.tokens)]
        for token, parent in zip(tree.tokens, tree.parents):
            paths_of.append([*paths_of[parent], token])
        result = walk(
            tree.tokens,
            tree.parents,
            lambda node, paths_of=paths_of: target.candidates(context_of(paths_of[node])),
            sampler,
            tree.position,
            length - tree.position,
        )
        commit = t.commit(result.tokens, len(result.accepted))
        drafted = len(result.accepted)
        assert [bool(origin) for origin in commit.origins] == [n < drafted for n in range(len(result.tokens))]
        committed.extend(result.tokens)
        assert committed.tokens == tuple(alone[: committed.position])
        assert t.digest == committed.digest
        balance(t)
    if agreement == 65536:
        assert rounds < length  # drafts did help
