"""The exhaustive exploration: what it visits, and that it finds what is wrong (reference_nodes/simulator/explore.py).

The whole of the small case is visited by ``dsdp sim explore`` or ``make campaign``; here stand the cases that take
seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dsdproto.commit import ballot as ballot_module
from dsdproto.commit.ballot import Ballot
from dsdproto.effects import Effect, Persist, Send
from dsdproto.roles.voter import Seat, Voter
from dsdproto.wire.messages import Enlist, Enlisted, Vote
from reference_nodes.simulator.explore import Exploration, explore
from reference_nodes.simulator.explore_report import Bounds
from reference_nodes.simulator.small_setting import END, Makers
from reference_nodes.simulator.small_state import Freezer, name_of

QUIET = Bounds(crashes=0, drops=0, timeouts=0)


def test_without_faults_every_order_of_events_leads_to_the_end():
    report = explore(QUIET)
    assert report.finished and not report.violations
    assert report.ends and report.complete == report.ends
    assert report.states > 1000


@pytest.mark.parametrize("fault", ["crashes", "drops", "timeouts"])
def test_one_fault_of_a_kind(fault):
    report = explore(replace(QUIET, blocks=1, **{fault: 1}), max_states=12_000)
    assert not report.violations, report.violations[0].chart
    assert report.states >= 12_000 or report.finished


def test_each_life_of_each_node_says_other_tokens():
    """Or two leaders might agree by chance, and no violation would be seen."""
    search = Exploration(replace(QUIET, crashes=1))
    search.run(max_states=12_000)
    streams = {prefix for prefix in search.seen if prefix}
    assert {prefix[0] for prefix in streams} == {1, 2, 4, 5}, "two nodes led, each in either of its lives"
    assert any(prefix[-1] == END for prefix in streams)


def test_a_copy_of_a_node_has_its_name_and_a_life_of_its_own():
    search = Exploration(QUIET)
    search.run(max_states=500)
    freezer: Freezer = search.freezer
    for blobs, names in zip(search.blobs, search.names):
        for blob, name in zip(blobs, names):
            one, other = freezer.load(blob), freezer.load(blob)
            assert name_of(one) == name_of(other) == name
            if one.pending:
                one.step(("sync",))
                assert name_of(one) != name_of(other) == name


def test_a_report_is_plain_data():
    report = explore(QUIET, max_states=300)
    values = report.as_json()
    assert values["violations"] == 0 and values["states"] == report.states and values["bounds"]["views"] == 2


# ---------------------------------------------------------------- it can fail


class PromisesTwice(Voter):
    """Gives its own leader the same view again (against Q-15)."""

    def _check_promise(self, seat: Seat, message: Enlist, group: tuple[bytes, ...], own: bool) -> None:
        super()._check_promise(seat, message, group, False)


class GoesBack(Voter):
    """Does not look at the view of an ENLIST (against Q-13)."""

    def _check_promise(self, seat: Seat, message: Enlist, group: tuple[bytes, ...], own: bool) -> None:
        if message.view >= seat.ledger.promised:
            super()._check_promise(seat, message, group, own)


class SpeaksFirst(Voter):
    """Sends what it should have stored first (against Q-10 or Q-20)."""

    said: type = Vote

    def handle(self, event: Any, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for effect in super().handle(event, now):
            if isinstance(effect, Persist):
                early = [e for e in effect.then if isinstance(e, Send) and type(e.message) is self.said]
                effects += early
                effect = Persist(effect.record, tuple(e for e in effect.then if e not in early))
            effects.append(effect)
        return effects


class VotesFirst(SpeaksFirst):
    said = Vote


class PromisesFirst(SpeaksFirst):
    said = Enlisted


def adopt_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader goes on from the worst log (against Q-31)."""
    adopt = Ballot.adopt

    def worst(self: Ballot, chain: Any) -> int | None:
        reports = {member.node_id: member.report for member in self.enlisted}
        least = min(reports.values(), key=lambda report: (report.view, report.height))
        for member in self.enlisted:
            member.report = least
        try:
            return adopt(self, chain)
        finally:
            for member in self.members.values():
                member.report = reports.get(member.node_id, member.report)

    monkeypatch.setattr(Ballot, "adopt", worst)


def count_one_vote(monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader commits what one voter holds (against Q-34)."""
    monkeypatch.setattr(ballot_module, "reached_by_majority", lambda heights, n: max(heights))


Plant = type[Voter] | Callable[[pytest.MonkeyPatch], None]
BUGS: list[tuple[Plant, Bounds, set[str]]] = [
    (VotesFirst, QUIET, {"stored-first"}),
    (PromisesFirst, QUIET, {"stored-first"}),
    (count_one_vote, QUIET, {"durability"}),
    (GoesBack, replace(QUIET, drops=1), {"promise"}),
    (adopt_the_worst, replace(QUIET, blocks=1, crashes=1), {"durability", "agreement", "honest"}),
    (PromisesTwice, replace(QUIET, blocks=1, crashes=1, opens=2), {"agreement", "durability", "honest"}),
]


@pytest.mark.parametrize(("plant", "bounds", "checks"), BUGS, ids=[bug[0].__name__ for bug in BUGS])
def test_a_planted_bug_is_found_with_a_shortest_way_to_it(plant, bounds, checks, monkeypatch):
    makers = Makers()
    if isinstance(plant, type):
        makers = Makers(voter=plant)
    else:
        plant(monkeypatch)
    report = explore(bounds, makers=makers)
    (violation,) = report.violations
    assert violation.check in checks, violation
    assert len(violation.steps) == report.depth
    assert "takes OPEN of a client" in violation.steps[0]
    assert len(violation.chart.splitlines()) >= report.depth


@pytest.mark.campaign
def test_two_blocks_two_views_and_one_fault_of_any_kind():
    report = explore(Bounds())
    assert report.finished and not report.violations, report.violations
