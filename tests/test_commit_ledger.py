"""The ledger: what it takes, what it refuses, what it never changes (clauses Q-20 to Q-25, Q-39, Q-60, Q-61)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from commit_cases import GROUP, PROMPT, SESSION, TERMS, commit, digest, enlist, ledger, prepare
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdproto.commit.ledger import Ledger
from dsdproto.commit.records import Accepted, Committed, Founded, Promised
from dsdproto.errors import PeerError
from dsdproto.prefix import PrefixError
from dsdproto.registry import ErrorCode, Finish, Scope
from dsdproto.wire.groups import join_group
from dsdproto.wire.messages import Commit, Prepare

Clause = str


def refused(call: Callable[[], Any], clause: Clause, ledger: Ledger) -> PeerError:
    """``call`` is refused with LEDGER_MISMATCH by this clause, and nothing has changed."""
    before = snapshot(ledger)
    with pytest.raises(PeerError) as caught:
        call()
    assert (caught.value.code, caught.value.clause) == (ErrorCode.LEDGER_MISMATCH, clause)
    assert caught.value.scope is Scope.SESSION
    assert snapshot(ledger) == before
    return caught.value


def snapshot(book: Ledger) -> tuple[Any, ...]:
    return (
        book.promised,
        book.view,
        book.height,
        book.finish,
        book.committed,
        book.committed_height,
        book.chain.tokens,
        book.chain.digest,
    )


def stream(book: Ledger) -> tuple[int, ...]:
    return book.chain.tokens_from(PROMPT)


# ---------------------------------------------------------------- blocks, one rule at a time


def test_an_empty_ledger_holds_the_prompt_and_nothing_else():
    book = ledger()
    assert book.empty and not book.finished
    assert book.committed == book.chain.position == PROMPT
    assert (book.view, book.height) == (0, 0)


def test_a_block_extends_the_log_and_says_what_to_store():
    book = ledger()
    record = book.accept(prepare(0, 1, (), (5, 6)))
    assert record == Accepted(
        session=SESSION,
        view=0,
        height=1,
        position=PROMPT,
        tokens=(5, 6),
        digest=digest((5, 6)),
        committed=PROMPT,
    )
    assert stream(book) == (5, 6) and (book.view, book.height) == (0, 1)
    assert book.committed == PROMPT, "accepted is not committed"


@pytest.mark.parametrize("view", [1, 3])
def test_q21_another_view_than_the_promised_one(view):
    book = ledger(2)
    refused(lambda: book.accept(prepare(view, 1, (), (5,))), "Q-21", book)
    book.accept(prepare(2, 1, (), (5,)))
    refused(lambda: book.commit(commit(view, 1, (5,))), "Q-21", book)


def test_q22_the_base_must_be_in_the_log():
    book = ledger()
    book.accept(prepare(0, 1, (), (5, 6)))
    refused(lambda: book.accept(prepare(0, 2, (5, 6, 7), (8,))), "Q-22", book)  # beyond its end
    refused(lambda: book.accept(prepare(0, 2, (5, 7), (8,))), "Q-22", book)  # another prefix
    refused(lambda: book.accept(prepare(0, 2, (5, 7), (8,), position=PROMPT + 1)), "Q-22", book)


def test_q22_the_base_lies_behind_the_prompt():
    book = ledger()
    early = prepare(0, 1, (), (5,), position=PROMPT - 1, base=book.chain.digest_at(PROMPT - 1))
    refused(lambda: book.accept(early), "Q-22", book)


def test_q22_committed_tokens_never_change():
    book = ledger()
    book.accept(prepare(0, 1, (), (5, 6)))
    book.commit(commit(0, 1, (5, 6)))
    book.promise(enlist(1))
    refused(lambda: book.accept(prepare(1, 2, (), (5, 7))), "Q-22", book)
    refused(lambda: book.accept(prepare(1, 2, (5,), (7, 8))), "Q-22", book)
    refused(lambda: book.accept(prepare(1, 2, (), (5,))), "Q-22", book)  # would cut (6) off
    refused(lambda: book.accept(prepare(1, 2, (), ())), "Q-22", book)
    book.accept(prepare(1, 2, (), (5, 6, 7)))  # says the same again, and goes on
    assert stream(book) == (5, 6, 7)


def test_q22_a_committed_end_never_changes():
    book = ledger()
    book.accept(prepare(0, 1, (), (5, 6), finish=int(Finish.STOP_TOKEN)))
    book.commit(commit(0, 1, (5, 6)))
    assert book.finished
    book.promise(enlist(1))
    refused(lambda: book.accept(prepare(1, 2, (5, 6), (7,))), "Q-22", book)
    refused(lambda: book.accept(prepare(1, 2, (5, 6), ())), "Q-22", book)
    refused(lambda: book.accept(prepare(1, 2, (5, 6), (), finish=int(Finish.LENGTH))), "Q-22", book)
    again = book.accept(prepare(1, 2, (5, 6), (), finish=int(Finish.STOP_TOKEN)))
    assert again is not None and again.height == 2 and stream(book) == (5, 6), "a later leader brings it to its end"


def test_q23_what_is_not_committed_is_cut_off_behind_the_base():
    book = ledger()
    book.accept(prepare(0, 1, (), (5, 6, 7)))
    book.promise(enlist(1))
    book.accept(prepare(1, 2, (5,), (8,)))
    assert stream(book) == (5, 8) and (book.view, book.height) == (1, 2)


def test_q23_an_uncommitted_end_is_cut_off_too():
    book = ledger()
    book.accept(prepare(0, 1, (), (5,), finish=int(Finish.CLOSED)))
    book.promise(enlist(1))
    book.accept(prepare(1, 2, (5,), (6,)))
    assert book.finish is None and stream(book) == (5, 6)
    book.accept(prepare(1, 3, (5, 6), (), finish=int(Finish.CLOSED)))
    assert book.finish == Finish.CLOSED and not book.finished
    book.commit(commit(1, 3, (5, 6)))
    assert book.finished, "the end is a block of its own, at a position that may be committed already"


def test_q23_a_duplicate_changes_nothing():
    book = ledger()
    first = prepare(0, 1, (), (5, 6))
    book.accept(first)
    book.accept(prepare(0, 2, (5, 6), (7,)))
    before = snapshot(book)
    assert book.accept(first) is None
    assert book.accept(prepare(0, 2, (), (5, 6, 7))) is None
    assert snapshot(book) == before


def test_q23_two_things_at_one_height_are_refused():
    book = ledger()
    book.accept(prepare(0, 1, (), (5, 6)))
    refused(lambda: book.accept(prepare(0, 1, (), (5, 7))), "Q-23", book)
    refused(lambda: book.accept(prepare(0, 1, (5, 6), (7,))), "Q-23", book)


def test_q25_digest_and_vocabulary():
    book = ledger()
    refused(lambda: book.accept(prepare(0, 1, (), (5,), digest=bytes(32))), "Q-25", book)
    refused(lambda: book.accept(prepare(0, 1, (), (TERMS.vocabulary_size,))), "Q-25", book)


def test_q39_commit_names_what_the_log_holds():
    book = ledger()
    book.accept(prepare(0, 1, (), (5, 6)))
    refused(lambda: book.commit(commit(0, 2, (5, 6))), "Q-39", book)  # a height that it does not hold
    refused(lambda: book.commit(commit(0, 1, (5, 7))), "Q-39", book)
    refused(lambda: book.commit(commit(0, 1, (5, 6, 7))), "Q-39", book)
    assert book.commit(commit(0, 1, (5, 6))) is True
    assert book.commit(commit(0, 1, (5, 6))) is False, "said twice"
    assert book.committed == PROMPT + 2


def test_q39_a_commit_of_the_new_view_needs_a_block_of_the_new_view():
    book = ledger()
    book.accept(prepare(0, 5, (), (5, 6)))
    book.promise(enlist(1))
    refused(lambda: book.commit(commit(1, 5, (5, 6))), "Q-39", book)


def test_q17_the_report_says_what_the_leader_does_not_know():
    book = ledger()
    book.accept(prepare(0, 3, (), (5, 6, 7), finish=int(Finish.LENGTH)))
    book.commit(commit(0, 3, (5, 6, 7)))
    report = book.report(PROMPT + 1)
    assert (report.view, report.height, report.tokens) == (0, 3, (6, 7))
    assert (report.position, report.digest) == (PROMPT + 3, digest((5, 6, 7)))
    assert (report.committed, report.finish) == (PROMPT + 3, Finish.LENGTH)
    assert book.report(PROMPT + 3).tokens == book.report(PROMPT + 99).tokens == ()


# ---------------------------------------------------------------- against a model that is too simple to be wrong


@dataclass
class Naive:
    """A voter's log as lists: no digests, no shortcuts. ``blocks[i]`` is the label that token i came with last."""

    promised: int = 0
    tokens: list[int] = field(default_factory=list)
    label: tuple[int, int] = (0, 0)
    finish: int | None = None
    committed: int = 0
    committed_height: int = 0
    finished: bool = False

    def accept(self, message: Prepare, base: tuple[int, ...]) -> bool:
        """Whether a PREPARE from the stream ``base`` is taken; a duplicate counts as taken."""
        if message.view != self.promised or list(base) != self.tokens[: len(base)]:
            return False
        new = [*base, *message.tokens]
        if self.label[0] == self.promised and message.height <= self.label[1]:
            return self.tokens[: len(new)] == new
        if new[: self.committed] != self.tokens[: self.committed]:
            return False
        if self.finished and (new, message.finish) != (self.tokens, self.finish):
            return False
        self.tokens, self.label, self.finish = new, (message.view, message.height), message.finish
        return True

    def commit(self, message: Commit, of: tuple[int, ...]) -> bool:
        held = message.view == self.promised and self.label >= (message.view, message.height)
        if not held or list(of) != self.tokens[: len(of)]:
            return False
        if message.height > self.committed_height and len(of) >= self.committed:
            self.committed, self.committed_height = len(of), message.height
            self.finished |= self.finish is not None and message.height >= self.label[1]
        return True


TOKENS = st.lists(st.integers(0, 2), max_size=3).map(tuple)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("promise"), st.integers(1, 2)),
        st.tuples(
            st.just("prepare"),
            st.integers(0, 5),  # how much of the log its base is
            st.one_of(st.none(), TOKENS),  # or another stream altogether
            TOKENS,
            st.integers(-2, 2),  # height, relative to the log's
            st.sampled_from([0, 0, 0, 0, 1, -1]),  # view, relative to the promised one
            st.sampled_from([None, None, None, 2, 6]),
        ),
        st.tuples(st.just("commit"), st.integers(0, 5), st.one_of(st.none(), TOKENS), st.integers(-2, 1)),
        st.just(("again",)),
    ),
    max_size=24,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_leaders_against_the_naive_model(steps):
    book, naive = ledger(), Naive()
    sent: list[tuple[Prepare, tuple[int, ...]]] = []
    fixed: tuple[int, ...] = ()
    for step in steps:
        match step:
            case ("promise", more):
                naive.promised += more
                book.promise(enlist(naive.promised))
            case ("prepare", cut, other, tokens, height, view, finish):
                base = tuple(naive.tokens[:cut]) if other is None else other
                if naive.promised + view < 0:
                    continue
                message = prepare(
                    naive.promised + view, max(1, naive.label[1] + height), base, tokens, finish=finish
                )
                sent.append((message, base))
                _both(book, naive, message, base)
            case ("again",) if sent:
                _both(book, naive, *sent[len(sent) // 2])
            case ("commit", cut, other, height):
                of = tuple(naive.tokens[:cut]) if other is None else other
                message = commit(naive.promised, max(1, naive.label[1] + height), of)
                before = snapshot(book)
                try:
                    book.commit(message)
                    taken = True
                except PeerError as error:
                    assert error.code is ErrorCode.LEDGER_MISMATCH
                    assert snapshot(book) == before
                    taken = False
                assert taken == naive.commit(message, of)
        assert stream(book) == tuple(naive.tokens)
        assert (book.view, book.height, book.finish) == (*naive.label, naive.finish)
        assert (book.committed, book.finished) == (PROMPT + naive.committed, naive.finished)
        assert book.chain.digest == digest(naive.tokens), "the chain is what its tokens give"
        assert stream(book)[: len(fixed)] == fixed, "committed tokens never change"
        fixed = stream(book)[: book.committed - PROMPT]


def _both(book: Ledger, naive: Naive, message: Prepare, base: tuple[int, ...]) -> None:
    before = snapshot(book)
    try:
        record = book.accept(message)
        taken = True
        assert record is None or (record.view, record.height, record.digest) == (
            message.view,
            message.height,
            message.digest,
        )
        assert record is not None or snapshot(book) == before
    except PeerError as error:
        assert error.code is ErrorCode.LEDGER_MISMATCH
        assert snapshot(book) == before
        taken = False
    assert taken == naive.accept(message, base)


# ---------------------------------------------------------------- after a restart


FOUNDED = Founded(session=SESSION, contract=TERMS, group=join_group(GROUP))


def replay(records: list[Any]) -> Ledger:
    book = Ledger.founded(records[0], GROUP)
    for record in records[1:]:
        match record:
            case Promised():
                book.replay_promise(record)
            case Accepted():
                book.replay_accepted(record)
            case Committed():
                book.replay_committed(record)
    return book


def durable(book: Ledger) -> tuple[Any, ...]:
    """What must come back after a restart; how much is committed may come back smaller."""
    said = (book.model, book.profile, book.profile_text, book.max_drafters)
    return (book.promised, said, book.view, book.height, book.finish, book.chain.tokens, book.chain.digest)


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_each_prefix_of_the_records_gives_the_state_that_they_describe(steps):
    book, records = ledger(), [FOUNDED]
    records.append(book.promise_again())
    states = [(1, durable(ledger_unpromised()), PROMPT), (2, durable(book), book.committed)]
    for step in steps:
        record: Any = None
        match step:
            case ("promise", more):
                record = book.promise(enlist(book.promised + more, model=f"m{book.promised}", max_drafters=more))
            case ("prepare", cut, _, tokens, height, _, finish):
                message = prepare(
                    book.promised, max(1, book.height + height), stream(book)[:cut], tokens, finish=finish
                )
                try:
                    record = book.accept(message)
                except PeerError:
                    continue
            case ("commit", *_) if not book.empty and book.view == book.promised:
                book.commit(commit(book.promised, book.height, stream(book)))
                record = book.end_committed if book.finished else None
        if record is not None:
            records.append(record)
            states.append((len(records), durable(book), book.committed))
    for count, expected, committed in states:
        again = replay(records[:count])
        assert durable(again) == expected
        assert PROMPT <= again.committed <= committed, "nothing is taken for committed that is not"
    assert replay(records).finished == book.finished


def ledger_unpromised() -> Ledger:
    return Ledger.founded(FOUNDED, GROUP)


def test_a_record_that_does_not_fit_what_was_stored_before_is_found():
    book = ledger_unpromised()
    wrong = Accepted(
        session=SESSION, view=0, height=1, position=PROMPT, tokens=(5,), digest=bytes(32), committed=PROMPT
    )
    with pytest.raises(PrefixError, match="does not fit"):
        book.replay_accepted(wrong)
    with pytest.raises(PrefixError, match="outside"):
        ledger_unpromised().replay_accepted(
            Accepted(session=SESSION, view=0, height=1, position=99, tokens=(), digest=bytes(32), committed=99)
        )
