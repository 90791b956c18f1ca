"""A leader and what its voters tell it: whom it names and asks, whom it refuses (clauses Q-1, Q-4, Q-30, Q-31)."""

from __future__ import annotations

from typing import Any

import pytest
from cluster import contract, hello, offer
from commit_cases import GROUP, HELLOS, PROMPT, SESSION, TERMS, digest

from dsdproto.effects import LOCAL_FAR, LOCAL_NEAR, Effect, LinkDown, LinkUp, Received, Refuse, Send
from dsdproto.errors import PeerError
from dsdproto.registry import DismissReason, ErrorCode, Role
from dsdproto.roles.leader import Leader, LeaderConfig
from dsdproto.roles.leader_commit import MAX_MET
from dsdproto.roles.leader_session import Answers, TakeOver
from dsdproto.wire.messages import (
    Assign,
    Assigned,
    Attach,
    Dismiss,
    Enlist,
    Enlisted,
    Error,
    Open,
    Opened,
    Prepare,
    Release,
    Verify,
    Vote,
)

OWN = hello("ada", [Role.LEADER, Role.VOTER, Role.VERIFIER], [offer(Role.VERIFIER, "m")])
BOB, CID, DAN, CLIENT = 2, 3, 4, 9
"""links of the leader ``ada`` to others"""
Key = tuple[int, int]


def report(tokens: tuple[int, ...] = (), view: int = 0, height: int = 0, **more: Any) -> Enlisted:
    """ENLISTED of a voter whose log, behind the prompt, is ``tokens``."""
    fields: dict[str, Any] = {
        "view": view,
        "height": height,
        "committed": PROMPT,
        "position": PROMPT + len(tokens),
        "digest": digest(tokens),
        "tokens": tokens,
    }
    return Enlisted(**fields | more)


class Ada:
    """A leader with a verifier and a voter on its own node, and what it has sent."""

    def __init__(self, **config: Any) -> None:
        self.channels = 0
        self.sent: list[tuple[Key, Any]] = []
        self.refused: list[tuple[Key, PeerError]] = []
        self.leader = Leader(LeaderConfig(**config), self._channel)
        self.do(LinkUp(LOCAL_NEAR, OWN, frozenset(), True))
        self.do(LinkUp(LOCAL_FAR, OWN, frozenset(), False))

    def _channel(self, link: int) -> int:
        self.channels += 1
        return self.channels

    def do(self, event: Any) -> list[Effect]:
        effects = self.leader.handle(event, 0.0)
        self.sent += [((effect.link, effect.channel), effect.message) for effect in effects if isinstance(effect, Send)]
        self.refused += [
            ((effect.link, effect.channel), effect.error) for effect in effects if isinstance(effect, Refuse)
        ]
        return effects

    def link(self, link: int, name: str, *roles: Role) -> None:
        self.do(LinkUp(link, hello(name, list(roles or (Role.LEADER, Role.VOTER)), []), frozenset(), True))

    def take_over(self) -> None:
        """View 3 of the group of ada, bob and cid."""
        for link, name in ((BOB, "bob"), (CID, "cid")):
            self.do(LinkUp(link, HELLOS[name], frozenset(), True))
        answers = Answers("m", b"\x01" * 32, "tm-1")
        self.do(TakeOver(SESSION, TERMS, GROUP, 3, (), False, answers, 8))

    def asked(self, link: int) -> Key:
        """The channel on which the voter behind ``link`` got its last ENLIST."""
        return [key for key, message in self.sent if key[0] == link and isinstance(message, Enlist)][-1]

    def answer(self, link: int, message: Any) -> None:
        """What the voter behind ``link`` says on that channel."""
        self.do(Received(*self.asked(link), message))

    def all(self, kind: type) -> list[tuple[int, Any]]:
        """Messages of one kind: to which link, and what."""
        return [(key[0], message) for key, message in self.sent if isinstance(message, kind)]


# ---------------------------------------------------------------- what cannot be true (clause Q-31)


def test_q31_who_contradicts_itself_is_refused_at_once_and_the_others_go_on():
    ada = Ada()
    ada.take_over()
    ada.answer(BOB, report(committed=PROMPT + 4))
    ((key, error),) = ada.refused
    assert key == ada.asked(BOB) and (error.code, error.clause) == (ErrorCode.LEDGER_MISMATCH, "Q-31")
    ada.answer(CID, report((5, 6), 0, 2))
    ada.answer(LOCAL_NEAR, report((5,), 0, 1))
    assert {link for link, _ in ada.all(Prepare)} == {CID, LOCAL_NEAR}


CLAIM = report((5, 6, 7, 8), 0, 4, committed=PROMPT + 4)
BEST = report((5,), 1, 2)
LIES = {
    "more committed than the best log holds": (CLAIM, BEST),
    "a log that is none": (report((5, 6), 2, 9, digest=digest((5, 7))), BEST),
    "a log with a gap": (report((5, 6), 2, 9, position=PROMPT + 3), BEST),
}


@pytest.mark.parametrize(("lie", "own"), LIES.values(), ids=LIES)
def test_q31_the_voter_that_cannot_be_right_is_refused_and_nothing_is_proposed(lie, own):
    ada = Ada()
    ada.take_over()
    ada.answer(BOB, lie)
    ada.answer(LOCAL_NEAR, own)
    ((key, error),) = ada.refused
    assert key == ada.asked(BOB), "the error is for the one who said it"
    assert (error.code, error.clause) == (ErrorCode.LEDGER_MISMATCH, "Q-31")
    assert not ada.all(Prepare) and not ada.leader.sessions
    resigned = Dismiss(reason=int(DismissReason.RESIGNED))
    assert sorted(ada.all(Dismiss)) == sorted([(LOCAL_NEAR, resigned), (CID, resigned)], key=lambda pair: pair[0])
    assert not ada.leader.by_voter


def test_q31_a_late_voter_that_cannot_be_right_ends_nothing_but_its_channel():
    ada = Ada()
    ada.take_over()
    ada.answer(CID, report((5, 6), 0, 2))
    ada.answer(LOCAL_NEAR, report())
    ada.answer(BOB, CLAIM)
    ((key, error),) = ada.refused
    assert key == ada.asked(BOB) and error.clause == "Q-31"
    assert {link for link, _ in ada.all(Prepare)} == {CID, LOCAL_NEAR}
    for link in (CID, LOCAL_NEAR):
        ada.answer(link, Vote(view=3, height=3, digest=digest((5, 6))))
    ballot = ada.leader.sessions[SESSION].ballot
    assert ballot is not None and ballot.committed == PROMPT + 2


# ---------------------------------------------------------------- founding (clauses)


def opened(ada: Ada) -> tuple[str, ...] | PeerError:
    """The group by name that ada makes for a client, or why not."""
    ada.link(CLIENT, "client", Role.CLIENT)
    before = len(ada.refused)
    ada.do(Received(CLIENT, 1, Open(session=SESSION, contract=TERMS, max_drafters=0, origins=0)))
    if len(ada.refused) > before:
        assert ada.refused[-1][0] == (CLIENT, 1) and not ada.leader.sessions
        return ada.refused[-1][1]
    ballot = ada.leader.sessions[SESSION].ballot
    assert ballot is not None
    return tuple(node_id.rstrip(b"\0").decode() for node_id in ballot.members)


def test_q4_connected_voters_come_first_and_leaders_among_them():
    ada = Ada(group_size=5)
    ada.link(BOB, "bob", Role.VOTER)
    ada.link(CID, "cid")
    ada.link(DAN, "dan", Role.VERIFIER)
    ada.link(5, "eve", Role.VOTER)
    ada.link(6, "fay")
    ada.do(LinkDown(CID, "gone"))
    ada.do(LinkDown(5, "gone"))
    assert opened(ada) == ("ada", "fay", "bob", "cid", "eve")


def test_q4_nobody_who_is_away_is_named_where_enough_are_there():
    ada = Ada()
    for link, name in ((BOB, "bob"), (CID, "cid"), (DAN, "dan")):
        ada.link(link, name, *([Role.VOTER] if name == "dan" else []))
    ada.do(LinkDown(BOB, "gone"))
    assert opened(ada) == ("ada", "cid", "dan")


def test_q4_of_those_who_are_away_the_last_one_lost_is_named():
    ada = Ada()
    for link, name in ((BOB, "bob"), (CID, "cid"), (DAN, "dan")):
        ada.link(link, name)
    ada.do(LinkDown(CID, "gone"))
    ada.do(LinkDown(BOB, "gone"))
    assert opened(ada) == ("ada", "dan", "bob")


def test_q4_who_came_back_without_votes_is_not_named():
    ada = Ada()
    ada.link(BOB, "bob")
    ada.link(CID, "cid")
    ada.do(LinkDown(CID, "gone"))
    ada.link(CID, "cid", Role.LEADER)
    ada.do(LinkDown(CID, "gone"))
    refused = opened(ada)
    assert isinstance(refused, PeerError)
    assert (refused.code, refused.clause) == (ErrorCode.QUORUM_UNAVAILABLE, "Q-4")


@pytest.mark.parametrize(("size", "here", "founds"), [(3, 0, False), (3, 1, True), (5, 1, False), (5, 2, True)])
def test_q4_a_majority_must_be_there(size, here, founds):
    ada = Ada(group_size=size)
    for number in range(size - 1):
        ada.link(BOB + number, f"node{number}")
    for number in range(here, size - 1):
        ada.do(LinkDown(BOB + number, "gone"))
    group = opened(ada)
    if founds:
        assert len(group) == size  # type: ignore[arg-type]
    else:
        assert isinstance(group, PeerError) and group.code == ErrorCode.QUORUM_UNAVAILABLE
        assert f"{1 + here} voters are connected" in group.text and f"{size - 1 - here} more" in group.text


def test_q4_nobody_is_named_who_was_never_met():
    ada = Ada()
    ada.link(BOB, "bob")
    refused = opened(ada)
    assert isinstance(refused, PeerError) and "a group has 3, and 2 of them must be connected" in refused.text


def test_q4_one_who_was_away_is_enlisted_when_it_comes_and_counts_from_then_on():
    ada = Ada()
    ada.link(BOB, "bob")
    ada.link(CID, "cid")
    ada.do(LinkDown(CID, "gone"))
    assert opened(ada) == ("ada", "bob", "cid")
    assert {link for link, _ in ada.all(Enlist)} == {BOB}
    ada.answer(BOB, report())
    ada.answer(LOCAL_NEAR, report())
    ada.link(DAN, "cid")  # on another link
    assert ada.asked(DAN)
    ada.answer(DAN, report())
    ballot = ada.leader.sessions[SESSION].ballot
    assert ballot is not None and [member.enlisted for member in ballot.members.values()] == [True] * 3


def test_q4_memory_has_a_bound_and_the_oldest_goes_first():
    ada = Ada(group_size=9)
    for number in range(MAX_MET + 5):
        ada.link(100, f"node{number}")
        ada.do(LinkDown(100, "gone"))
    assert [hello.node_id.rstrip(b"\0").decode() for hello in ada.leader.met.values()] == [
        f"node{number}" for number in range(5, MAX_MET + 5)
    ]


# ---------------------------------------------------------------- founding and its workers (clause Q-30)

READY = Assigned(model="m", profile=b"\x01" * 32, profile_text="tm-1", max_nodes=16, max_context=4096)


def founding(ada: Ada) -> Key:
    """ada is asked for a session of three; the channel on which she asked her verifier."""
    ada.link(BOB, "bob")
    ada.link(CID, "cid")
    assert opened(ada) == ("ada", "bob", "cid")
    return next(key for key, message in ada.sent if isinstance(message, Assign))


def promised(ada: Ada) -> None:
    ada.answer(BOB, report())
    ada.answer(LOCAL_NEAR, report())


@pytest.mark.parametrize("verifier_first", [True, False])
def test_q30_a_founder_s_verifier_reads_the_prompt_while_the_voters_promise(verifier_first):
    ada = Ada()
    seat = founding(ada)
    steps = [lambda: ada.do(Received(*seat, READY)), lambda: promised(ada)]
    for step in steps if verifier_first else reversed(steps):
        assert not ada.all(Opened) and not ada.all(Verify)
        step()
    assert [link for link, _ in ada.all(Opened)] == [CLIENT]
    assert len(ada.all(Verify)) == 1 and len(ada.all(Assign)) == 1


def test_q30_a_founder_whose_voters_know_more_gives_its_workers_what_they_know():
    ada = Ada()
    seat = founding(ada)
    ada.do(Received(*seat, READY))
    ada.answer(BOB, report((5, 6), 0, 2))
    ada.answer(LOCAL_NEAR, report())
    assert [key for key, message in ada.sent if isinstance(message, Release)] == [seat]
    (_, first), (_, second) = ada.all(Assign)
    assert (first.committed, second.committed) == ((), (5, 6))
    assert not ada.all(Verify)


def test_q30_a_founder_without_a_verifier_lets_its_voters_go():
    ada = Ada()
    founding(ada)
    text = "out of memory"
    for _ in (LOCAL_NEAR, LOCAL_FAR):  # both ends of the local link say that there is a verifier
        seat = [key for key, message in ada.sent if isinstance(message, Assign)][-1]
        ada.do(Received(*seat, Error(code=int(ErrorCode.COMPUTE_FAILED), clause="V-9", text=text)))
    ((key, error),) = ada.refused
    assert key == (CLIENT, 1) and text in error.text
    assert {link for link, _ in ada.all(Dismiss)} == {BOB, CID} and not ada.leader.sessions


@pytest.mark.parametrize("founds", [True, False])
def test_q30_who_joins_while_voters_promise_is_attached_to_a_founder_s_session_alone(founds):
    """A leader that takes over does not know yet where the stream ends."""
    ada = Ada()
    if founds:
        ada.link(BOB, "bob")
        ada.link(CID, "cid")
        ada.link(CLIENT, "client", Role.CLIENT)
        ada.do(Received(CLIENT, 1, Open(session=SESSION, contract=TERMS, max_drafters=2, origins=0)))
    else:
        ada.take_over()
    ada.do(LinkUp(DAN, hello("dan", [Role.DRAFTER], [offer(Role.DRAFTER, "d")]), frozenset(), True))
    assert [link for link, _ in ada.all(Attach)] == ([DAN] if founds else [])


# ---------------------------------------------------------------- roles that were not declared (clause C-9)


def test_c9_a_member_that_is_no_voter_is_not_enlisted():
    ada = Ada()
    ada.link(BOB, "bob", Role.LEADER)
    ada.link(CID, "cid", Role.VOTER)
    ada.do(TakeOver(SESSION, TERMS, GROUP, 3, (), False, Answers("m", b"\x01" * 32, "tm-1"), 8))
    assert {link for link, _ in ada.all(Enlist)} == {CID}


@pytest.mark.parametrize("role", [Role.VERIFIER, Role.DRAFTER])
def test_c9_models_of_a_node_that_has_not_the_role_for_them_are_not_used(role):
    leader = Leader(LeaderConfig(), lambda link: 7)
    for link, name, roles, models in (
        (1, "client", [Role.CLIENT], []),
        (2, "bob", [Role.VOTER], [offer(role, "m")]),
        (3, "cid", [Role.VERIFIER], [offer(Role.VERIFIER, "m")] if role is Role.DRAFTER else []),
    ):
        leader.handle(LinkUp(link, hello(name, roles, models), frozenset(), True), 0.0)
    opening = Open(session=SESSION, contract=contract((3, 1, 4), max_tokens=4), max_drafters=8, origins=0)
    effects = leader.handle(Received(1, 1, opening), 0.0)
    sent = {effect.link for effect in effects if isinstance(effect, Send)}
    if role is Role.DRAFTER:
        assert sent == {3}, "the session begins, without that drafter"
    else:
        (refusal,) = [effect.error for effect in effects if isinstance(effect, Refuse)]
        assert refusal.code is ErrorCode.MODEL_UNAVAILABLE and not sent
