"""The voter machine: whom it promises, what it votes for, when it suspects, whom it serves (SPEC.md, section 16)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from commit_cases import (
    ADA,
    CID,
    EVE,
    GROUP,
    HELLOS,
    PROMPT,
    SESSION,
    TERMS,
    Bench,
    commit,
    digest,
    enlist,
    prepare,
    refusal,
)

from dsdproto.commit.records import Accepted, Committed, Forgotten, Founded, Promised
from dsdproto.effects import LOCAL_FAR, CancelTimer, LinkDown, LinkUp, Persist, Refuse, Send, SetTimer, Tell, TimerFired
from dsdproto.errors import LocalError
from dsdproto.registry import DismissReason, ErrorCode, Finish
from dsdproto.roles.leader_session import TakeOver
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.wire.groups import join_group
from dsdproto.wire.messages import (
    Block,
    Close,
    Dismiss,
    End,
    Enlisted,
    Error,
    Opened,
    Resume,
    Vote,
)

RESIGNED = Dismiss(reason=int(DismissReason.RESIGNED))
ENDED = Dismiss(reason=int(DismissReason.SESSION_ENDED))


def following(view: int = 0, name: str = "bob", tokens: tuple[int, ...] = ()) -> Bench:
    """A voter that follows the leader of a view, on channel 1, with one block if there are tokens."""
    bench = Bench(name)
    assert isinstance(bench.say((ADA, 2, CID)[view % 3], 1, enlist(view))[-1], Enlisted)
    if tokens:
        assert isinstance(bench.say((ADA, 2, CID)[view % 3], 1, prepare(view, 1, (), tokens))[-1], Vote)
    return bench


def resume(tokens: tuple[int, ...] = (), **more: Any) -> Resume:
    return Resume(**{"session": SESSION, "position": PROMPT + len(tokens), "digest": digest(tokens)} | more)


# ---------------------------------------------------------------- promises


def test_q10_founding_and_promise_are_stored_before_enlisted_is_sent():
    bench = Bench()
    effects = bench.get(ADA, 1, enlist(0, max_drafters=3))
    assert not [effect for effect in effects if isinstance(effect, (Send, Refuse))]
    (sent,) = bench.sync()
    assert isinstance(sent, Send) and isinstance(sent.message, Enlisted) and (sent.link, sent.channel) == (ADA, 1)
    founded, promised = bench.disk
    assert founded == Founded(session=SESSION, contract=TERMS, group=join_group(GROUP))
    assert isinstance(promised, Promised) and (promised.view, promised.model, promised.max_drafters) == (0, "m", 3)


def test_q11_only_the_views_leader_may_ask_and_only_members():
    assert refusal(Bench().say(CID, 1, enlist(0))) == (ErrorCode.LEDGER_MISMATCH, "Q-11")
    assert refusal(Bench().say(EVE, 1, enlist(0))) == (ErrorCode.LEDGER_MISMATCH, "Q-11")
    assert refusal(Bench().say(ADA, 1, enlist(2))) == (ErrorCode.LEDGER_MISMATCH, "Q-11")
    assert refusal(Bench("eve").say(ADA, 1, enlist(0))) == (ErrorCode.LEDGER_MISMATCH, "Q-11")
    assert not Bench().voter.seats


def test_q1_what_is_no_group_is_refused():
    for group in (join_group(GROUP[:2]), join_group((GROUP[0], GROUP[0], GROUP[1])), b"x" * 33):
        assert refusal(Bench().say(ADA, 1, enlist(0, group=group))) == (ErrorCode.LEDGER_MISMATCH, "Q-1")


def test_q12_contract_and_group_stay():
    other = replace(TERMS, max_tokens=41)
    again = {"contract": other}, {"group": join_group((GROUP[0], GROUP[2], GROUP[1]))}
    for more in again:
        assert refusal(following().say(ADA, 3, enlist(0, **more))) == (ErrorCode.LEDGER_MISMATCH, "Q-12")


def test_q13_an_older_view_is_stale_and_the_promised_one_reconnects():
    bench = following(2)
    assert refusal(bench.say(ADA, 1, enlist(0))) == (ErrorCode.VIEW_STALE, "Q-13")
    bench.do(LinkDown(CID, "lost"))
    bench.do(LinkUp(CID, HELLOS["cid"], frozenset(), True))
    assert isinstance(bench.say(CID, 1, enlist(2))[-1], Enlisted)


def test_q14_a_leader_that_is_connected_is_not_deposed():
    bench = following(0)
    assert refusal(bench.say(CID, 1, enlist(2))) == (ErrorCode.LEADER_ALIVE, "Q-14")
    assert isinstance(bench.say(ADA, 1, prepare(0, 1, (), (5,)))[-1], Vote), "and goes on"
    bench.say(ADA, 1, RESIGNED)
    assert isinstance(bench.say(CID, 3, enlist(2))[-1], Enlisted)


def test_q15_no_view_twice_from_the_own_node():
    bench = Bench()
    assert isinstance(bench.say(LOCAL_FAR, 1, enlist(1))[-1], Enlisted), "the ledger is new"
    bench.say(LOCAL_FAR, 1, RESIGNED)
    assert refusal(bench.say(LOCAL_FAR, 3, enlist(1))) == (ErrorCode.VIEW_STALE, "Q-15")
    assert isinstance(bench.say(LOCAL_FAR, 5, enlist(4))[-1], Enlisted)


def test_q15_holds_after_a_restart_too():
    bench = Bench()
    bench.say(LOCAL_FAR, 1, enlist(1))
    again = Voter(VoterConfig(), HELLOS["bob"].node_id)
    again.restore(bench.disk)
    assert refusal(Bench(voter=again).say(LOCAL_FAR, 1, enlist(1))) == (ErrorCode.VIEW_STALE, "Q-15")


def test_q16_a_second_channel_of_the_view_ends_the_first():
    bench = following(0)
    refused, answer = bench.say(ADA, 3, enlist(0))
    assert (refused.code, refused.clause) == (ErrorCode.SESSION_EXISTS, "Q-16") and isinstance(answer, Enlisted)
    code, _ = refusal(bench.say(ADA, 1, prepare(0, 1, (), (5,))))
    assert code is ErrorCode.MESSAGE_UNEXPECTED
    assert isinstance(bench.say(ADA, 3, prepare(0, 1, (), (5,)))[-1], Vote)


def test_q17_the_report_has_what_is_still_being_stored_and_is_stored_after_it():
    bench = following(0)
    bench.get(ADA, 1, prepare(0, 1, (), (5, 6)))
    bench.do(LinkDown(ADA, "lost"))
    bench.get(CID, 1, enlist(2))
    last = bench.sync()[-1]
    assert isinstance(last, Send) and last.message.tokens == (5, 6) and last.message.height == 1
    assert [type(record) for record in bench.disk[-2:]] == [Accepted, Promised]


def test_q17_a_leader_knows_the_prompt_at_least():
    assert refusal(Bench().say(ADA, 1, enlist(0, committed=PROMPT - 1))) == (ErrorCode.LEDGER_MISMATCH, "Q-17")


# ---------------------------------------------------------------- votes


def test_q20_a_block_is_stored_before_the_vote_and_votes_are_cumulative():
    bench = following(0)
    assert all(isinstance(effect, Persist) for effect in bench.get(ADA, 1, prepare(0, 1, (), (5,))))
    assert all(isinstance(effect, Persist) for effect in bench.get(ADA, 1, prepare(0, 2, (5,), (6,))))
    votes = [effect.message for effect in bench.sync()]
    assert votes == [Vote(view=0, height=h, digest=digest(s)) for h, s in ((1, (5,)), (2, (5, 6)))]


def test_q20_the_vote_for_a_duplicate_waits_for_the_first_to_be_stored():
    bench = following(0)
    bench.get(ADA, 1, prepare(0, 1, (), (5,)))
    effects = bench.get(ADA, 1, prepare(0, 1, (), (5,)))
    assert [type(effect) for effect in effects] == [Persist]
    assert [type(effect.message) for effect in bench.sync()] == [Vote, Vote]


@pytest.mark.parametrize(
    ("message", "clause"),
    [
        (prepare(1, 1, (), (5,)), "Q-21"),
        (prepare(0, 1, (9,), (5,)), "Q-22"),
        (prepare(0, 1, (), (5,), digest=bytes(32)), "Q-25"),
        (commit(0, 7, ()), "Q-39"),
        (commit(3, 1, ()), "Q-21"),
    ],
)
def test_a_leader_that_contradicts_the_ledger_loses_its_channel_and_the_voter_suspects(message, clause):
    bench = following(0)
    effects = bench.get(ADA, 1, message)
    (refused,) = [effect for effect in effects if isinstance(effect, Refuse)]
    assert (refused.error.code, refused.error.clause) == (ErrorCode.LEDGER_MISMATCH, clause)
    assert SetTimer(("suspect", SESSION), 0.3) in effects
    assert bench.voter.seats[SESSION].leader is None


def test_what_does_not_belong_there_is_refused_in_words():
    bench = following(0)
    assert refusal(bench.say(ADA, 1, Vote(view=0, height=1, digest=bytes(32))))[0] is ErrorCode.MESSAGE_UNEXPECTED
    assert refusal(Bench().say(ADA, 1, prepare(0, 1, (), (5,))))[0] is ErrorCode.MESSAGE_UNEXPECTED


def test_q39_the_end_is_stored_once_it_is_committed():
    bench = following(0)
    bench.say(ADA, 1, prepare(0, 1, (), (5,), finish=int(Finish.STOP_TOKEN)))
    bench.say(ADA, 1, commit(0, 1, (5,)))
    assert bench.disk[-1] == Committed(session=SESSION, height=1, position=PROMPT + 1)
    effects = bench.get(ADA, 1, ENDED)
    assert not [effect for effect in effects if isinstance(effect, SetTimer)], "nothing to suspect any more"


def test_q39_commit_and_dismiss_may_come_while_the_block_is_being_stored():
    bench = following(0)
    bench.get(ADA, 1, prepare(0, 1, (), (5,), finish=int(Finish.STOP_TOKEN)))
    bench.get(ADA, 1, commit(0, 1, (5,)))
    bench.get(ADA, 1, ENDED)
    bench.sync()
    again = Voter(VoterConfig(), HELLOS["bob"].node_id)
    again.restore(bench.disk)
    assert again.seats[SESSION].ledger.finished


# ---------------------------------------------------------------- suspicion


@pytest.mark.parametrize(("name", "turn"), [("bob", 1), ("cid", 2)])
@pytest.mark.parametrize("lost", ["link", "resigned", "error"])
def test_q40_q41_a_voter_suspects_and_waits_for_its_turn(name, turn, lost):
    bench = following(0, name, (5,))
    bench.now = 10.0
    match lost:
        case "link":
            effects = bench.do(LinkDown(ADA, "lost"))
        case "resigned":
            effects = bench.get(ADA, 1, RESIGNED)
        case _:
            effects = bench.get(ADA, 1, Error(code=int(ErrorCode.COMPUTE_FAILED), clause="Q-44", text="too slow"))
    (timer,) = [effect for effect in effects if isinstance(effect, SetTimer)]
    assert timer.key == ("suspect", SESSION) and timer.at == pytest.approx(10.0 + 0.3 * turn)


def test_q41_the_own_leader_is_told_to_take_over_with_what_is_known():
    bench = following(0, "cid")
    bench.say(ADA, 1, prepare(0, 1, (), (5, 6)))
    bench.say(ADA, 1, commit(0, 1, (5, 6)))
    bench.say(ADA, 1, prepare(0, 2, (5, 6), (7,), finish=int(Finish.LENGTH)))
    bench.say(ADA, 1, RESIGNED)
    (told,) = [effect.event for effect in bench.do(TimerFired(("suspect", SESSION))) if isinstance(effect, Tell)]
    assert isinstance(told, TakeOver)
    assert (told.view, told.committed, told.finished) == (2, (5, 6), True)
    assert (told.session, told.contract, told.group, told.answers.model) == (SESSION, TERMS, GROUP, "m")


def test_q42_each_try_waits_longer_and_asks_for_a_later_view():
    bench = following(0)
    bench.say(ADA, 1, RESIGNED)
    waits, views = [], []
    for _ in range(7):
        effects = bench.do(TimerFired(("suspect", SESSION)))
        waits += [effect.at for effect in effects if isinstance(effect, SetTimer)]
        views += [effect.event.view for effect in effects if isinstance(effect, Tell)]
    assert waits == pytest.approx([0.6, 1.2, 2.4, 4.8, 5.0, 5.0, 5.0])
    assert views == [1, 4, 7, 10, 13, 16, 19]
    assert isinstance(bench.say(CID, 1, enlist(20))[-1], Enlisted)
    assert bench.voter.seats[SESSION].tries == 7, "a promise alone is no reason to be hasty again"
    bench.say(CID, 1, prepare(20, 1, (), (5,)))
    assert (bench.voter.seats[SESSION].tries, bench.voter.seats[SESSION].tried) == (0, 0)


def test_q40_a_promise_ends_the_suspicion():
    bench = following(0)
    bench.say(ADA, 1, RESIGNED)
    assert CancelTimer(("suspect", SESSION)) in bench.get(CID, 1, enlist(2))
    assert bench.do(TimerFired(("suspect", SESSION))) == [], "a late firing is harmless"


def test_q40_after_a_restart_a_voter_suspects():
    bench = following(0, tokens=(5,))
    again = Voter(VoterConfig(), HELLOS["bob"].node_id)
    again.restore(bench.disk)
    assert SetTimer(("suspect", SESSION), 100.3) in again.wake(100.0)


def test_q40_a_session_that_never_began_is_forgotten_with_its_leaders_word():
    bench = following(0)
    bench.say(ADA, 1, ENDED)
    assert bench.disk[-1] == Forgotten(session=SESSION) and not bench.voter.seats
    assert refusal(bench.say(ADA, 3, enlist(0))) == (ErrorCode.SESSION_UNKNOWN, "Q-63")


# ---------------------------------------------------------------- clients


def test_q50_a_client_gets_the_committed_rest_and_what_commits_later():
    bench = following(0)
    bench.say(ADA, 1, prepare(0, 1, (), (5, 6, 7)))
    bench.say(ADA, 1, prepare(0, 2, (5, 6, 7), (8,), finish=int(Finish.STOP_TOKEN)))
    bench.say(ADA, 1, commit(0, 1, (5, 6, 7)))
    opened, block = bench.say(EVE, 1, resume((5,)))
    assert isinstance(opened, Opened)
    assert (opened.position, opened.group, opened.view) == (PROMPT + 1, join_group(GROUP), 0)
    assert block == Block(position=PROMPT + 1, tokens=(6, 7))
    later, end = bench.say(ADA, 1, commit(0, 2, (5, 6, 7, 8)))
    assert later == Block(position=PROMPT + 3, tokens=(8,))
    assert end == End(finish=int(Finish.STOP_TOKEN), position=PROMPT + 4, digest=digest((5, 6, 7, 8)))


def test_q50_an_unknown_session():
    assert refusal(Bench().say(EVE, 1, resume())) == (ErrorCode.SESSION_UNKNOWN, "Q-50")


def test_q51_a_voter_that_is_behind_waits():
    bench = following(0, tokens=(5, 6))
    assert bench.say(EVE, 1, resume((5, 6))) == [], "accepted is not committed"
    (opened,) = bench.say(ADA, 1, commit(0, 1, (5, 6)))
    assert isinstance(opened, Opened) and opened.position == PROMPT + 2


def test_q52_another_prefix():
    bench = following(0, tokens=(5, 6))
    bench.say(ADA, 1, commit(0, 1, (5, 6)))
    for message in (resume((7,)), resume(position=PROMPT - 1), resume((5,), digest=bytes(32))):
        assert refusal(bench.say(EVE, 1, message)) == (ErrorCode.PREFIX_UNKNOWN, "Q-52")


def test_q52_found_out_only_when_the_voter_has_caught_up():
    bench = following(0, tokens=(5, 6))
    assert bench.say(EVE, 1, resume((5, 7))) == []
    assert refusal(bench.say(ADA, 1, commit(0, 1, (5, 6)))) == (ErrorCode.PREFIX_UNKNOWN, "Q-52")


def test_q54_close_ends_the_channel_and_not_the_session():
    bench = following(0, tokens=(5, 6))
    bench.say(ADA, 1, commit(0, 1, (5, 6)))
    bench.say(EVE, 1, resume((5,)))
    (end,) = bench.say(EVE, 1, Close())
    assert end == End(finish=int(Finish.CLOSED), position=PROMPT + 2, digest=digest((5, 6)))
    assert not bench.voter.readers.at and SESSION in bench.voter.seats


def test_q54_another_profile_sends_readers_away():
    bench = following(0, tokens=(5,))
    bench.say(EVE, 1, resume())
    bench.say(ADA, 1, RESIGNED)
    answers = bench.say(CID, 1, enlist(2, profile=b"\x02" * 32))
    assert refusal(answers)[0] is ErrorCode.VIEW_STALE
    assert not bench.voter.readers.at


# ---------------------------------------------------------------- keeping


def test_q61_a_restart_takes_up_where_the_records_end():
    bench = following(0)
    bench.say(ADA, 1, prepare(0, 1, (), (5, 6)))
    bench.say(ADA, 1, commit(0, 1, (5, 6)))
    bench.say(ADA, 1, prepare(0, 2, (5, 6), (7,)))
    bench.say(ADA, 1, RESIGNED)
    bench.say(CID, 1, enlist(2))
    again = Voter(VoterConfig(), HELLOS["bob"].node_id)
    again.restore(bench.disk)
    seat = again.seats[SESSION]
    assert (seat.ledger.promised, seat.ledger.view, seat.ledger.height) == (2, 0, 2)
    assert seat.ledger.chain.tokens_from(PROMPT) == (5, 6, 7)
    assert seat.ledger.committed == PROMPT + 2, "as far as it rode along with the last block"
    assert seat.leader is None and seat.number == 1


def test_q61_records_that_no_voter_stores_are_our_own_bug():
    voter = Voter(VoterConfig(), HELLOS["bob"].node_id)
    with pytest.raises(LocalError, match="never founded"):
        voter.restore([Committed(session=SESSION, height=1, position=9)])
    voter.restore([Forgotten(session=SESSION)])
    assert SESSION in voter.forgotten


def test_q63_a_session_is_forgotten_after_its_retention_but_not_its_name():
    bench = Bench(config=VoterConfig(retention=8.0))
    bench.say(ADA, 1, enlist(0))
    bench.now = 100.0
    (timer,) = bench.do(TimerFired(("forget", SESSION)))
    assert timer == SetTimer(("forget", SESSION), 101.0), "it has a leader"
    bench.say(ADA, 1, RESIGNED)
    effects = bench.do(TimerFired(("forget", SESSION)))
    assert Persist(Forgotten(session=SESSION), ()) in effects and CancelTimer(("suspect", SESSION)) in effects
    assert refusal(bench.say(CID, 1, enlist(2))) == (ErrorCode.SESSION_UNKNOWN, "Q-63")
    assert refusal(bench.say(EVE, 1, resume())) == (ErrorCode.SESSION_UNKNOWN, "Q-50")


def test_q63_no_room_for_one_more_session():
    bench = Bench(config=VoterConfig(max_sessions=1))
    bench.say(ADA, 1, enlist(0))
    assert refusal(bench.say(ADA, 3, enlist(0, session=b"\x08" * 16))) == (ErrorCode.OVERLOADED, "Q-63")


def test_q63_names_are_bounded_oldest_first():
    bench = Bench(config=VoterConfig(max_forgotten=2))
    for number in range(3):
        session = bytes([number]) * 16
        bench.say(ADA, 2 * number + 1, enlist(0, session=session))
        bench.say(ADA, 2 * number + 1, ENDED)
    assert list(bench.voter.forgotten) == [b"\x01" * 16, b"\x02" * 16]


def test_q42_two_voters_never_come_to_wait_equally_long():
    """Where the longest waits are equal, two candidates fence each other off at every try."""
    waits = []
    for name in ("bob", "cid"):
        bench = following(0, name, (5,))
        bench.say(ADA, 1, RESIGNED)
        bench.voter.seats[SESSION].tries = 40
        bench.now = 0.0
        timers = [e for e in bench.do(TimerFired(("suspect", SESSION))) if isinstance(e, SetTimer)]
        waits.append(timers[0].at)
    assert waits == pytest.approx([5.0, 10.0])
