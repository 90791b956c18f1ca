"""A voter under random messages, timers, links and restarts: what it says is stored first, what is committed stays."""

from __future__ import annotations

from typing import Any

from commit_cases import ADA, CID, EVE, HELLOS, PROMPT, SESSION, Bench, commit, digest, enlist, prepare
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdproto.commit.ledger import Ledger
from dsdproto.effects import LOCAL_FAR, LinkDown, LinkUp, Persist, Refuse, Send, TimerFired
from dsdproto.registry import DismissReason
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.wire.messages import Close, Dismiss, Enlisted, Error, Resume, Vote

LINK = {0: ADA, 1: LOCAL_FAR, 2: CID}
"""of the leader of view v mod 3, as bob's voter sees it"""
SAID = st.one_of(
    st.tuples(st.just("enlist"), st.integers(0, 6), st.booleans()),  # view; whether its own leader sends it
    st.tuples(
        st.just("prepare"),
        st.integers(0, 4),  # length of the base
        st.lists(st.integers(0, 1), max_size=2).map(tuple),
        st.integers(-1, 2),  # height, relative to the log's
        st.sampled_from([None, None, None, 2]),
    ),
    st.tuples(st.just("repeat")),
    st.tuples(st.just("commit"), st.integers(0, 4), st.integers(-1, 1)),
    st.tuples(st.just("dismiss"), st.sampled_from(list(DismissReason))),
    st.tuples(st.just("error")),
    st.tuples(st.just("resume"), st.integers(-1, 3)),
    st.tuples(st.just("close")),
    st.tuples(st.just("timer"), st.sampled_from(["suspect", "forget"])),
    st.tuples(st.just("link"), st.sampled_from([ADA, CID, EVE])),
    st.tuples(st.just("sync")),
    st.tuples(st.just("restart"), st.integers(0, 3)),
)


class Watched(Bench):
    """Looks at every effect: a VOTE or ENLISTED outside of what a Persist holds back is a fault."""

    def __init__(self, voter: Voter | None = None) -> None:
        super().__init__("bob", VoterConfig(retention=0.5), voter)
        self.said: list[Any] = []

    def do(self, event: Any) -> list[Any]:
        effects = super().do(event)
        for effect in effects:
            assert not isinstance(effect, Send) or not isinstance(effect.message, (Vote, Enlisted)), effect
        return effects

    def sync(self) -> list[Any]:
        """One record at a time; what is said then must be true of what is durable by then."""
        for persist in self.pending:
            self.disk.append(persist.record)
            for effect in persist.then:
                assert isinstance(effect, Send)
                self.said.append(effect.message)
                durable = restored(self.disk).seats[SESSION].ledger
                match effect.message:
                    case Vote(view=view, height=height, digest=name):
                        assert durable.promised >= view and (durable.view, durable.height) >= (view, height)
                        assert any(durable.chain.names(at, name) for at in range(durable.chain.position + 1))
                    case Enlisted():
                        assert (durable.view, durable.height) == (effect.message.view, effect.message.height)
                        assert (durable.chain.position, durable.chain.digest) == (
                            effect.message.position,
                            effect.message.digest,
                        )
        self.pending.clear()
        return []


def restored(records: list[Any]) -> Voter:
    voter = Voter(VoterConfig(retention=0.5), HELLOS["bob"].node_id)
    voter.restore(records)
    return voter


def book(bench: Bench) -> Ledger | None:
    seat = bench.voter.seats.get(SESSION)
    return None if seat is None else seat.ledger


@settings(max_examples=120, deadline=None)
@given(st.lists(SAID, max_size=30))
def test_nothing_is_said_before_it_is_stored_and_the_committed_stays(steps):
    bench, channel, fixed, promised = Watched(), 1, (), 0
    last: Any = None
    for step in steps:
        bench.now += 0.2
        ledger = book(bench)
        seat = bench.voter.seats.get(SESSION)
        at = seat.leader if seat is not None and seat.leader is not None else (ADA, 1)
        stream = () if ledger is None else ledger.chain.tokens_from(PROMPT)
        view, height = (0, 0) if ledger is None else (ledger.promised, ledger.height)
        match step:
            case ("enlist", wanted, right):
                channel += 2
                bench.get(LINK[wanted % 3] if right else EVE, channel, enlist(wanted))
            case ("prepare", cut, tokens, more, finish):
                last = prepare(view, max(1, height + more), stream[:cut], tokens, finish=finish)
                bench.get(*at, last)
            case ("repeat",) if last is not None:
                bench.get(*at, last)
            case ("commit", cut, more):
                bench.get(*at, commit(view, max(1, height + more), stream[:cut]))
            case ("dismiss", reason):
                bench.get(*at, Dismiss(reason=int(reason)))
            case ("error",):
                bench.get(*at, Error(code=0x011C, clause="Q-44", text="no"))
            case ("resume", ahead):
                held = (*stream, 0, 1, 0)[: max(0, len(fixed) + ahead)]
                position = PROMPT + len(held)
                channel += 2
                bench.get(EVE, channel, Resume(session=SESSION, position=position, digest=digest(held)))
            case ("close",):
                bench.get(EVE, channel, Close())
            case ("timer", name):
                bench.do(TimerFired((name, SESSION)))
            case ("link", link):
                bench.do(LinkDown(link, "lost"))
                name = {ADA: "ada", CID: "cid", EVE: "eve"}[link]
                bench.do(LinkUp(link, HELLOS[name], frozenset(), True))
            case ("sync",):
                bench.sync()
            case ("restart", kept):
                disk = bench.disk + [persist.record for persist in bench.pending[:kept]]
                before = restored(bench.disk).seats.get(SESSION)
                fixed, promised = (), 0
                if before is not None:
                    fixed = before.ledger.chain.tokens_from(PROMPT)[: before.ledger.committed - PROMPT]
                    promised = before.ledger.promised
                bench = Watched(restored(disk))
                bench.disk = disk
                for effect in bench.voter.wake(bench.now):
                    assert not isinstance(effect, (Send, Persist, Refuse))
        ledger = book(bench)
        if ledger is None:
            fixed, promised = (), 0
            continue
        now = ledger.chain.tokens_from(PROMPT)
        assert now[: len(fixed)] == fixed, "committed tokens never change"
        assert ledger.committed - PROMPT >= len(fixed), "nor is less of them committed"
        assert ledger.promised >= promised, "a promise never goes back"
        fixed, promised = now[: ledger.committed - PROMPT], ledger.promised
        assert ledger.chain.digest == digest(now)
