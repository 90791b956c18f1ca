"""A leader's books: when it adopts, what it counts, what it sends whom (clauses Q-30 to Q-35, Q-39)."""

from __future__ import annotations

from typing import Any

import pytest
from commit_cases import GROUP, PROMPT, TERMS, digest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdproto.commit.ballot import Ballot
from dsdproto.commit.quorum import majority
from dsdproto.errors import PeerError
from dsdproto.registry import ErrorCode
from dsdproto.session import chain_of
from dsdproto.wire.messages import Enlisted, Vote

OWN, SECOND, THIRD = GROUP


def report(
    tokens: tuple[int, ...] = (), view: int = 0, height: int = 0, committed: int = PROMPT, **more: Any
) -> Enlisted:
    """ENLISTED of a voter whose log, behind the prompt, is ``tokens``."""
    fields: dict[str, Any] = {
        "view": view,
        "height": height,
        "committed": committed,
        "position": PROMPT + len(tokens),
        "digest": digest(tokens),
        "tokens": tokens,
    }
    return Enlisted(**fields | more)


def ballot(view: int = 0, group: tuple[bytes, ...] = GROUP) -> Ballot:
    return Ballot.open(view, group[0], group, PROMPT, 0.0)


def enlisted(made: Ballot, **reports: Enlisted) -> Ballot:
    """Members (by their place: ``own``, ``second``, ``third``) with open channels and what they reported."""
    for place, said in reports.items():
        node = {"own": OWN, "second": SECOND, "third": THIRD}[place]
        member = made.members[node]
        member.key, member.report = (GROUP.index(node), 1), said
    return made


def refused(call: Any, clause: str) -> None:
    with pytest.raises(PeerError) as caught:
        call()
    assert (caught.value.code, caught.value.clause) == (ErrorCode.LEDGER_MISMATCH, clause)


# ---------------------------------------------------------------- asking


@pytest.mark.parametrize("n", [1, 3, 5, 7])
def test_q30_the_own_voter_is_asked_once_it_decides(n):
    group = tuple(bytes([i]) * 32 for i in range(n))
    made = ballot(group=group)
    for promised in range(n):
        asked = [member.node_id for member in made.to_ask()]
        assert (group[0] in asked) == (promised >= majority(n) - 1)
        assert not made.ready_to_adopt
        others = [node for node in asked if node != group[0]]
        if not others:
            break
        made.members[others[0]].key, made.members[others[0]].report = (promised, 1), report()


def test_q30_nothing_is_adopted_without_the_own_voter():
    made = enlisted(ballot(), second=report(), third=report())
    assert not made.ready_to_adopt
    assert enlisted(made, own=report()).ready_to_adopt


def test_a_lost_member_is_asked_again_and_its_votes_stay():
    made = enlisted(ballot(), own=report(), second=report())
    made.members[SECOND].voted = 4
    made.lost((1, 1))
    assert SECOND in [member.node_id for member in made.to_ask()]
    assert made.members[SECOND].voted == 4, "what is stored stays stored (clause Q-34)"
    made.lost((77, 1))  # of nobody


# ---------------------------------------------------------------- adopting

LOGS = [
    ("higher view wins, though shorter", report((5, 6, 7), 0, 9), report((5,), 1, 2), (5,)),
    ("higher height wins in one view", report((5, 6, 7), 1, 3), report((5, 6), 1, 2), (5, 6, 7)),
    ("an empty log loses to any", report(), report((8,), 0, 1), (8,)),
    ("both empty", report(), report(), ()),
]


@pytest.mark.parametrize(("one", "other", "adopted"), [case[1:] for case in LOGS], ids=[case[0] for case in LOGS])
@pytest.mark.parametrize("swapped", [False, True])
def test_q31_the_best_log_is_adopted(one, other, adopted, swapped):
    made = enlisted(ballot(2), own=other if swapped else one, second=one if swapped else other)
    chain = chain_of(TERMS)
    assert made.adopt(chain) is None
    assert chain.tokens_from(PROMPT) == adopted
    assert made.height == max((one.view, one.height), (other.view, other.height))[1]


def test_q31_the_end_is_adopted_with_its_log_even_without_tokens():
    made = enlisted(ballot(1), own=report((5,), 0, 1), second=report((5,), 0, 2, finish=6))
    assert made.adopt(chain_of(TERMS)) == 6


def test_q31_a_report_must_hold_together():
    short = enlisted(ballot(1), own=report(), second=report((5, 6), 0, 2, position=PROMPT + 3))
    refused(lambda: short.adopt(chain_of(TERMS)), "Q-31")
    other = enlisted(ballot(1), own=report(), second=report((5, 6), 0, 2, digest=digest((5, 7))))
    chain = chain_of(TERMS)
    refused(lambda: other.adopt(chain), "Q-31")
    assert chain.position == PROMPT and not other.adopted


def test_q31_nobody_has_committed_more_than_the_best_log_holds():
    made = enlisted(ballot(1), own=report(), second=report())
    chain = chain_of(TERMS)
    made.adopt(chain)
    claim = report((5, 6, 7, 8), 0, 4, committed=PROMPT + 4)
    refused(lambda: made.enlist(made.members[THIRD], claim, chain), "Q-31")
    assert not made.members[THIRD].enlisted


def test_q31_nobody_has_committed_more_than_its_own_log_holds():
    made = enlisted(ballot(1), own=report())
    refused(lambda: made.enlist(made.members[SECOND], report(committed=PROMPT + 4), chain_of(TERMS)), "Q-31")
    assert not made.members[SECOND].enlisted


# ---------------------------------------------------------------- catching up


def test_q33_each_voter_gets_all_from_its_own_commit_position_on():
    made = enlisted(ballot(), own=report(), second=report((5, 6), 0, 2), third=report((5,), 0, 1, committed=PROMPT + 1))
    chain = chain_of(TERMS)
    made.adopt(chain)
    made.propose(chain, None, (), 0.0)
    for node, tokens in ((OWN, (5, 6)), (SECOND, (5, 6)), (THIRD, (6,))):
        said = made.catch_up(made.members[node], chain, None)
        assert said is not None
        assert (said.tokens, said.height, said.digest) == (tokens, 3, digest((5, 6)))
        assert said.base == chain.digest_at(said.position)


def test_q33_nothing_is_sent_before_a_block_of_this_view_exists():
    made = enlisted(ballot(1), own=report(), second=report())
    chain = chain_of(TERMS)
    made.adopt(chain)
    assert made.catch_up(made.members[SECOND], chain, None) is None
    assert made.members[SECOND].sent == 0


# ---------------------------------------------------------------- counting


def leading(blocks: int, n: int = 3) -> tuple[Ballot, tuple[bytes, ...]]:
    """A ballot in view 0 with this many blocks of one token sent to everybody."""
    group = tuple(bytes([i]) * 32 for i in range(n))
    made = ballot(group=group)
    for number, node in enumerate(group):
        made.members[node].key, made.members[node].report = (number, 1), report()
    made.adopt(chain_of(TERMS))
    for height in range(1, blocks + 1):
        made.propose(chain_of(TERMS, tuple(range(height))), None, (), 0.0)
    for member in made.members.values():
        member.sent = blocks
    return made, group


def test_q24_a_vote_for_what_was_not_sent_is_refused():
    made, group = leading(2)
    member = made.members[group[1]]
    member.sent = 1
    for view, height, named in ((0, 2, digest((0, 1))), (1, 1, digest((0,))), (0, 1, digest((7,)))):
        refused(lambda v=view, h=height, d=named: made.vote(member, Vote(view=v, height=h, digest=d)), "Q-24")
    assert all(each.voted == 0 for each in made.members.values())


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([1, 3, 5]), st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), max_size=30))
def test_q34_committed_is_what_a_majority_voted_for_in_order(n, votes):
    made, group = leading(4, n)
    best, committed = dict.fromkeys(group, 0), []
    for who, height in votes:
        node = group[who % n]
        fresh = made.vote(made.members[node], Vote(view=0, height=height, digest=digest(range(height))))
        best[node] = max(best[node], height)
        committed += [each.height for each in fresh]
        reached = max(h for h in range(5) if sum(voted >= h for voted in best.values()) >= majority(n))
        assert committed == list(range(1, reached + 1))
        assert (made.committed_height, made.committed) == (reached, PROMPT + reached)
        assert [each.height for each in made.pending] == list(range(reached + 1, 5))


def test_q39_commit_says_what_is_committed_in_this_view():
    made, group = leading(2)
    chain = chain_of(TERMS, (0, 1))
    assert made.commit(chain) is None
    for node in group[:2]:
        made.vote(made.members[node], Vote(view=0, height=1, digest=digest((0,))))
    said = made.commit(chain)
    assert said is not None
    assert (said.view, said.height, said.position, said.digest) == (0, 1, PROMPT + 1, digest((0,)))
