"""What is verified may wait for more to be voted on with it (clause Q-36): when it does, and when not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from dsdproto.wire.messages import Block, Enlist, Enlisted, Prepare, Verdict
from reference_nodes.simulator.network import Conditions
from reference_nodes.simulator.runner import Outcome, run
from reference_nodes.simulator.scenario import Fault, FaultKind, Scenario

FORWARD = 0.01
TOKENS = 30


def outcome(**changed: object) -> Outcome:
    """A run of three members where a round gives one token, as nobody drafts."""
    calm = Conditions(heartbeat=4.0)
    found = run(Scenario(**{"seed": 1, "tokens": TOKENS, "forward": FORWARD, "conditions": calm} | changed))
    assert found.violation is None, found.violation
    return found


def sent(found: Outcome, kind: type, receiver: str) -> Iterator[tuple[float, object]]:
    """Messages of one kind that arrived at ``receiver``, with their times."""
    came = ((at, to, what) for at, how, _, to, what in found.trace if how == "recv")
    return ((at, what) for at, to, what in came if to == receiver and type(what) is kind)


def tokens(found: Outcome, kind: type, receiver: str) -> list[int]:
    return [token for _, message in sent(found, kind, receiver) for token in message.tokens]  # type: ignore[attr-defined]


def test_q36_the_stream_is_the_same_with_a_fraction_of_the_votes():
    alone, together = outcome(gather=0.0), outcome(gather=0.1)
    assert tokens(alone, Block, "client") == tokens(together, Block, "client")
    for found, prepares in ((alone, TOKENS), (together, 5)):
        asked = [prepare for _, prepare in sent(found, Prepare, "b")]
        assert tokens(found, Prepare, "b") == tokens(found, Block, "client")
        assert [prepare.height for prepare in asked] == list(range(1, len(asked) + 1)), "heights have no gap"
        assert len(asked) <= prepares
    assert len(list(sent(alone, Prepare, "b"))) == TOKENS


def test_q36_no_token_waits_longer_than_that():
    found = outcome(gather=0.1)
    reads = [at for at, _ in sent(found, Block, "client")]
    assert max(after - before for before, after in itertools.pairwise(reads)) < 0.1 + FORWARD


def test_q36_nothing_waits_for_a_round_that_will_be_too_late():
    """Rounds of 60 ms: the second one after a PREPARE is expected after 100 ms, so the first one waits in vain."""
    found = outcome(gather=0.1, forward=0.06, tokens=10)
    verdicts = [at for at, _ in sent(found, Verdict, "a")]
    prepares = [at for at, _ in sent(found, Prepare, "b")]
    assert not verdicts, "leader and verifier are one node: what they say does not travel"
    assert len(prepares) == 10


@pytest.mark.parametrize("gather", [0.1, 60.0])
def test_q36_neither_the_first_token_nor_the_end_waits(gather):
    eager, patient = outcome(gather=0.0), outcome(gather=gather)
    for which in (0, -1):
        at = [[at for at, _ in sent(found, Block, "client")][which] for found in (eager, patient)]
        assert at[1] == pytest.approx(at[0], abs=FORWARD / 2), "first" if which == 0 else "last"


def test_q36_what_waits_is_proposed_to_one_who_comes_meanwhile():
    """Member c dies and comes back while tokens wait: its first PREPARE reaches to the end of the leader's chain."""
    fault = Fault(at=0.1, kind=FaultKind.KILL, who="c", length=0.05)
    found = outcome(gather=60.0, faults=(fault,), chaos=0.5, tokens=60)
    enlisted = [at for at, _ in sent(found, Enlist, "c")]
    assert len(enlisted) == 2, "once at the start, once after its return"
    at, first = next((at, prepare) for at, prepare in sent(found, Prepare, "c") if at > enlisted[1])
    verified = int((at - 0.02) / FORWARD)
    assert len(first.tokens) > verified / 2, "not only what had been voted on before"
    (report,) = [report for when, report in sent(found, Enlisted, "a") if enlisted[1] <= when <= at]
    assert first.position == report.committed, "caught up from its own commit position (Q-33)"
    assert tokens(found, Block, "client") == tokens(outcome(gather=0.0, tokens=60), Block, "client")


def test_q38_what_waits_is_proposed_before_a_close():
    found = outcome(gather=60.0, closes_after=1)
    asked = [prepare for _, prepare in sent(found, Prepare, "b")]
    assert asked[-1].finish is not None and not asked[-1].tokens
    assert tokens(found, Prepare, "b") == tokens(found, Block, "client")
