"""Whole sessions of the `quorum` profile in a simulated world: founding, takeover, resuming, refusals."""

from __future__ import annotations

import pytest

from dsdproto.registry import CommitProfile, ErrorCode, Finish, Role
from dsdproto.roles.client import Completed, Failed, Interrupted, Resumed
from dsdproto.roles.leader import LeaderConfig
from dsdproto.roles.voter import Voter
from tests.cluster import Cluster, alone, contract

NODES = ("ada", "bob", "cid")


def trio(**options: object) -> Cluster:
    """Three nodes that lead, vote and verify, all connected."""
    cluster = Cluster(**options)  # type: ignore[arg-type]
    for name in NODES:
        cluster.target(name, votes=True)
    for one, other in (("ada", "bob"), ("ada", "cid"), ("bob", "cid")):
        cluster.world.connect(one, other, cluster.delay)
    return cluster


def quorum(**more: object):  # type: ignore[no-untyped-def]
    return contract(commit=CommitProfile.QUORUM, **more)  # type: ignore[arg-type]


def voter(cluster: Cluster, name: str) -> Voter:
    machine = cluster.world.nodes[name].machine.roles[Role.VOTER]
    assert isinstance(machine, Voter)
    return machine


def test_a_session_is_voted_on_and_every_voter_holds_all_of_it() -> None:
    cluster, terms = trio(), quorum()
    session = cluster.open(terms, leader="ada")
    cluster.finish(session)
    cluster.check(session, terms)
    for name in NODES:
        ledger = voter(cluster, name).seats[session].ledger
        assert ledger.chain.tokens_from(5) == alone(terms) and ledger.finished, name


@pytest.mark.parametrize("after", [0, 1, 7, 30, 59])
def test_the_stream_goes_on_when_its_leader_dies(after: int) -> None:
    cluster, terms = trio(), quorum()
    cluster.drafter("dot", 0.8, leader="ada")
    cluster.world.connect("dot", "bob", cluster.delay)
    session = cluster.open(terms, leader="ada")
    client = cluster.clients.sessions[session]
    cluster.finish(until=lambda: bool(client.group) and len(cluster.streams[session]) >= after)
    cluster.world.crash("ada")
    assert isinstance(cluster.breaks[session][-1], Interrupted)
    cluster.resume(session, "cid")
    cluster.finish(session)
    cluster.check(session, terms)
    resumed = cluster.breaks[session][-1]
    assert isinstance(resumed, Resumed)
    assert voter(cluster, "bob").seats[session].ledger.promised == 1, "bob leads the next view"


def test_a_dead_follower_is_not_noticed_by_the_client() -> None:
    cluster, terms = trio(), quorum()
    session = cluster.open(terms, leader="ada")
    cluster.finish(until=lambda: len(cluster.streams[session]) >= 10)
    cluster.world.crash("cid")
    cluster.finish(session)
    cluster.check(session, terms)
    assert session not in cluster.breaks


def test_without_a_majority_nothing_commits_and_the_leader_resigns() -> None:
    cluster, terms = trio(), quorum()
    session = cluster.open(terms, leader="ada")
    cluster.finish(until=lambda: len(cluster.streams[session]) >= 10)
    cluster.world.crash("bob")
    cluster.world.crash("cid")
    seen = len(cluster.streams[session])
    cluster.finish(until=lambda: bool(cluster.breaks.get(session)))
    assert len(cluster.streams[session]) == seen
    assert "voters follow" in cluster.breaks[session][0].reason  # type: ignore[union-attr]


def test_too_few_voters_are_refused_at_once() -> None:
    cluster, terms = Cluster(), quorum()
    cluster.target("ada", votes=True)
    session = cluster.open(terms, leader="ada")
    cluster.finish(session)
    end = cluster.ends[session]
    assert isinstance(end, Failed) and end.code == ErrorCode.QUORUM_UNAVAILABLE, end


@pytest.mark.parametrize("comes_back", ["never", "while it runs", "after its leader died"])
def test_two_of_three_found_a_session_that_names_the_third(comes_back: str) -> None:
    cluster, terms = trio(), quorum()
    cluster.finish(until=lambda: len(cluster.world.nodes["ada"].machine.links) >= 3)
    cluster.world.crash("cid")
    session = cluster.open(terms, leader="ada")
    cluster.finish(until=lambda: len(cluster.streams[session]) >= 10)
    ada, bob, cid = (cluster.world.nodes[name].machine.hello.node_id for name in NODES)
    assert cluster.clients.sessions[session].group == (ada, bob, cid)
    if comes_back == "never":
        cluster.finish(session)
        cluster.check(session, terms)
        return
    cluster.target("cid", votes=True)
    cluster.world.connect("bob", "cid", cluster.delay)
    if comes_back == "while it runs":
        cluster.world.connect("ada", "cid", cluster.delay)
    else:
        cluster.world.crash("ada")
        cluster.resume(session, "bob")
    cluster.finish(session)
    cluster.check(session, terms)
    assert voter(cluster, "cid").seats[session].ledger.chain.tokens_from(5) == alone(terms)


def test_a_group_of_one_commits_alone() -> None:
    cluster, terms = Cluster(leader=LeaderConfig(group_size=1)), quorum()
    cluster.target("ada", votes=True)
    session = cluster.open(terms, leader="ada")
    cluster.finish(session)
    cluster.check(session, terms)


def test_close_is_voted_on_like_any_other_end() -> None:
    cluster, terms = trio(), quorum()
    session = cluster.open(terms, leader="ada")
    cluster.finish(until=lambda: len(cluster.streams[session]) >= 10)
    node = cluster.world.nodes["client"]
    effects = node.machine.perform(Role.CLIENT, cluster.clients.close(session), cluster.world.now)
    cluster.world.perform("client", effects)
    cluster.finish(session)
    end = cluster.ends[session]
    assert isinstance(end, Completed) and end.finish is Finish.CLOSED
    cluster.world.run(until=lambda: all(voter(cluster, name).seats[session].ledger.finished for name in NODES))
