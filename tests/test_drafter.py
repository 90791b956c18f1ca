"""The drafter machine, message by message: what it computes, what it proposes, what it keeps."""

from __future__ import annotations

from typing import Any

import pytest
from cluster import contract, hello, offer

from dsdproto.effects import Compute, Computed, LinkUp, Received, Refuse, Send, SetTimer, TimerFired
from dsdproto.prefix import short_digest
from dsdproto.registry import ErrorCode, Role
from dsdproto.roles.drafter import Drafter, DrafterConfig
from dsdproto.roles.work import Child, DraftDone, DraftWork
from dsdproto.session import chain_of
from dsdproto.wire.messages import Advance, Attach, Attached, Propose

LIKELY, LESS = 2, 20
TERMS = contract((1, 2, 3), max_tokens=50)


class Script:
    """One drafter with one session; ``answer`` plays the model."""

    def __init__(self, *, credit: int, width: int = 2, window: int = 1, expansions: int = 2) -> None:
        self.drafter = Drafter(DrafterConfig(offer(Role.DRAFTER, "model"), expansions=expansions, width=width))
        self.drafter.handle(LinkUp(1, hello("leader", [Role.LEADER], []), frozenset({1, 3, 5}), False), 0.0)
        self.now = 0.0
        self.alarms: list[float] = []
        self.job: Any = None
        self.work: DraftWork | None = None
        attach = Attach(session=bytes(16), contract=TERMS, committed=(), credit=credit, window=window, width=width)
        assert Attached(model="model") in self.receive(attach)

    def receive(self, message: Any) -> list[Any]:
        """Messages and errors that the drafter answers with."""
        return self._take(self.drafter.handle(Received(1, 1, message), self.now))

    def answer(self, *children: tuple[Child, ...]) -> list[Any]:
        """Children of each node that the drafter asked about."""
        assert self.work is not None, "the drafter asked for nothing"
        assert len(children) == len(self.work.expand[0].nodes)
        job, self.work = self.job, None
        return self._take(self.drafter.handle(Computed(job, DraftDone((children,), 0.001)), self.now))

    def asked(self) -> list[tuple[int, ...]]:
        """Paths below the verified prefix of the nodes that are being expanded."""
        if self.work is None:
            return []
        item = self.work.expand[0]
        paths = []
        for node in item.nodes:
            path: tuple[int, ...] = ()
            while node:
                path = (item.tokens[node - 1], *path)
                node = item.parents[node - 1]
            paths.append(path)
        return paths

    def _take(self, effects: list[Any]) -> list[Any]:
        self.now += 0.001
        said = []
        for effect in effects:
            match effect:
                case Compute(job, work):
                    self.job, self.work = job, work
                case Send(_, _, message):
                    said.append(message)
                case Refuse(_, _, error):
                    said.append(error)
                case SetTimer(_, at):
                    self.alarms.append(at)
        return said

    def fire(self) -> list[Any]:
        """The timer."""
        return self._take(self.drafter.handle(TimerFired((1, 1)), self.now))


def test_proposals_name_their_base_and_count_on():
    script = Script(credit=8)
    assert script.asked() == [()]
    (first,) = script.answer((Child(10, LIKELY), Child(11, LESS)))
    chain = chain_of(TERMS)
    assert (first.position, first.base) == (3, chain.short)
    assert (first.tokens, first.parents, first.scores) == ((10, 11), b"\x00\x00", bytes([LIKELY, LESS]))
    assert script.asked() == [(10,), (11,)]
    below_ten, below_eleven = script.answer((Child(12, LIKELY),), (Child(13, LIKELY),))
    assert (below_ten.position, below_ten.tokens) == (4, (12,))
    assert below_ten.base == short_digest(chain_of(TERMS, (10,)).digest)
    assert below_eleven.base == short_digest(chain_of(TERMS, (11,)).digest)


def test_what_hangs_off_the_new_prefix_is_kept_and_expanded_on():
    script = Script(credit=8)
    script.answer((Child(10, LIKELY), Child(11, LESS)))
    script.answer((Child(12, LIKELY),), (Child(13, LIKELY),))
    script.receive(Advance(position=4, ref=2, tokens=()))  # node 2 is token 11
    session = script.drafter.sessions[(1, 1)]
    assert [node.token for node in session.tree.nodes] == [13]
    assert session.tokens == (1, 2, 3, 11)


def test_what_did_not_fit_is_proposed_once_there_is_room():
    """Two nodes are expanded at once, and the first one's children use up the credit."""
    script = Script(credit=4)
    script.answer((Child(10, LIKELY), Child(11, LESS)))
    (proposal,) = script.answer((Child(12, LIKELY), Child(14, LIKELY)), (Child(13, LIKELY),))
    assert proposal.tokens == (12, 14)
    assert script.asked() == []  # credit is used up
    said = script.receive(Advance(position=4, ref=2, tokens=()))
    assert [message.tokens for message in said] == [(13,)]


def test_a_result_for_a_prefix_that_was_left_changes_nothing():
    """The job was about the old prefix; the stream took another way meanwhile."""
    script = Script(credit=8)
    script.receive(Advance(position=4, ref=0, tokens=(99,)))
    assert script.answer((Child(10, LIKELY),)) == []
    assert script.asked() == [()]
    (proposal,) = script.answer((Child(20, LIKELY),))
    assert (proposal.position, proposal.tokens) == (4, (20,))


def test_the_best_guess_is_proposed_however_unlikely_and_others_are_not():
    script = Script(credit=8)
    (proposal,) = script.answer((Child(10, 200), Child(11, 210)))
    assert proposal.tokens == (10,)


def test_nothing_is_proposed_beyond_a_stop_token_or_the_end():
    terms = contract((1, 2, 3), max_tokens=2, stop=(10,))
    script = Script.__new__(Script)
    script.drafter = Drafter(DrafterConfig(offer(Role.DRAFTER, "model")))
    script.drafter.handle(LinkUp(1, hello("leader", [Role.LEADER], []), frozenset({1, 3, 5}), False), 0.0)
    script.now, script.job, script.work = 0.0, None, None
    script.receive(Attach(session=bytes(16), contract=terms, committed=(), credit=9, window=1, width=2))
    script.answer((Child(10, LIKELY), Child(11, LESS)))
    assert script.asked() == [(11,)]
    script.answer((Child(12, LIKELY),))
    assert script.asked() == []


@pytest.mark.parametrize(
    ("advance", "why"),
    [
        (Advance(position=4, ref=7, tokens=()), "no node of this channel"),
        (Advance(position=9, ref=0, tokens=(5,)), "grew by 1 tokens"),
        (Advance(position=4, ref=0, tokens=(100_000,)), "vocabulary"),
    ],
)
def test_an_advance_that_does_not_fit_ends_the_session_alone(advance, why):
    script = Script(credit=8)
    (error,) = script.receive(advance)
    assert error.code is ErrorCode.ADVANCE_INVALID and error.clause == "D-7" and why in error.text
    assert not script.drafter.sessions


def test_credit_zero_pauses():
    script = Script(credit=0)
    assert script.asked() == []
    script.receive(Advance(position=3, ref=0, tokens=(), credit=4))
    assert script.asked() == [()]
    assert isinstance(script.answer((Child(10, LIKELY),))[0], Propose)


def test_what_waits_for_the_next_advance_sets_one_timer_and_another_if_that_came_too_early():
    script = Script(credit=8, width=1, window=4, expansions=1)
    (proposal,) = script.answer((Child(10, LIKELY),))
    assert proposal.tokens == (10,)
    script.now = 1.0
    script.receive(Advance(position=4, ref=0, tokens=(10,)))
    script.answer((Child(11, LIKELY),))
    script.now = 2.0  # a round takes a second; and the guess was wrong
    script.receive(Advance(position=5, ref=0, tokens=(20,)))
    script.answer((Child(12, LIKELY),))
    for token in (30, 31):
        assert script.answer((Child(token, LIKELY),)) == []
    assert script.alarms == [2.75]
    script.now = 2.5
    assert script.fire() == [] and script.alarms == [2.75, 2.75]
    script.now = 2.8
    (proposal,) = script.fire()
    assert proposal.tokens == (30, 31)
