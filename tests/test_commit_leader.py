"""A leader and what its voters tell it: whom it names and asks, whose word it refuses (clauses Q-1, Q-4, Q-30, Q-31)."""

from __future__ import annotations

from typing import Any

import pytest
from cluster import hello, offer
from commit_cases import GROUP, HELLOS, PROMPT, SESSION, TERMS, digest

from dsdproto.effects import LOCAL_NEAR, Effect, LinkDown, LinkUp, Received, Refuse, Send
from dsdproto.errors import PeerError
from dsdproto.registry import DismissReason, ErrorCode, Role
from dsdproto.roles.leader import Leader, LeaderConfig
from dsdproto.roles.leader_session import Answers, TakeOver
from dsdproto.wire.messages import Dismiss, Enlist, Enlisted, Error, Opened, Prepare, Vote

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
