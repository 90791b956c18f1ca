"""Whole sessions in a simulated world: the stream is the target's own, whatever drafters do."""

from __future__ import annotations

import dataclasses

import pytest
from cluster import Cluster, alone, contract
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsdproto.registry import ErrorCode, Finish, Role
from dsdproto.roles.client import Completed, Failed
from dsdproto.roles.leader import LeaderConfig
from dsdproto.roles.verifier import Verifier
from dsdproto.wire.messages import Propose, Verdict

SAMPLINGS = [
    {},
    {"temperature": 0.8},
    {"temperature": 1.3, "top_k": 40, "top_p": 0.9, "seed": 2**64 - 1},
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("agreements", [(), (1.0,), (0.8,), (0.0,), (0.8, 0.5, 0.9)])
@pytest.mark.parametrize("width", [1, 3])
def test_stream_equals_target_alone(sampling, agreements, width):
    cluster = Cluster(leader=LeaderConfig(width=width))
    cluster.target()
    for number, agreement in enumerate(agreements, start=1):
        cluster.drafter(f"drafter{number}", agreement, number=number)
    terms = contract(max_tokens=50, **sampling)
    session = cluster.open(terms)
    cluster.finish(session)
    end = cluster.check(session, terms)
    assert end.finish is Finish.LENGTH
    stats = end.stats
    assert stats.drafted == stats.accepted + sum(stats.waste)
    assert stats.accepted <= stats.verified <= stats.drafted
    if not agreements:
        assert stats.rounds == 50
    if agreements and min(agreements) >= 0.8:
        assert stats.rounds < 35


def test_good_drafts_save_forwards():
    forwards = {}
    for agreement in (0.0, 0.5, 0.9, 1.0):
        cluster = Cluster()
        cluster.target()
        cluster.drafter("drafter", agreement)
        terms = contract(max_tokens=200)
        session = cluster.open(terms)
        cluster.finish(session)
        forwards[agreement] = cluster.check(session, terms).stats.rounds
    assert 200 >= forwards[0.0] > forwards[0.5] > forwards[0.9] > forwards[1.0]
    assert forwards[1.0] < 50


def test_stop_token_inside_a_draft_ends_the_stream_there():
    terms = contract(max_tokens=200)
    stream = alone(terms)
    stop = stream[37]
    first = stream.index(stop)
    terms = contract(max_tokens=200, stop=(stop,))
    cluster = Cluster()
    cluster.target()
    cluster.drafter("drafter", 1.0)
    session = cluster.open(terms)
    cluster.finish(session)
    end = cluster.check(session, terms)
    assert end.finish is Finish.STOP_TOKEN
    assert len(cluster.streams[session]) == first + 1


def test_context_full_ends_the_stream():
    cluster = Cluster()
    cluster.target()
    terms = contract(prompt=tuple(range(1, 11)), max_tokens=5000)
    session = cluster.open(terms)
    cluster.finish(session)
    end = cluster.ends[session]
    assert isinstance(end, Completed) and end.finish is Finish.CONTEXT_FULL
    assert len(cluster.streams[session]) == 4096 - 10


def test_four_sessions_share_forwards():
    cluster = Cluster()
    cluster.target()
    cluster.drafter("drafter", 0.8)
    terms = [contract((seed, 2, 3), max_tokens=60, temperature=0.8, seed=seed) for seed in range(1, 5)]
    sessions = [cluster.open(t) for t in terms]
    cluster.finish(*sessions)
    rounds = sum(cluster.check(s, t).stats.rounds for s, t in zip(sessions, terms))
    verifier = next(m for m in cluster.world.nodes["target"].machine.roles.values() if hasattr(m, "counters"))
    assert verifier.counters.verdicts == rounds
    assert verifier.counters.forwards < 0.6 * rounds


def test_sessions_of_a_leader_on_the_very_node_share_every_forward():
    cluster = Cluster()
    cluster.target()
    terms = [contract((seed, 2, 3), max_tokens=40, seed=seed) for seed in range(1, 5)]
    sessions = [cluster.open(t, drafters=0) for t in terms]
    cluster.finish(*sessions)
    verifier = cluster.world.nodes["target"].machine.roles[Role.VERIFIER]
    assert isinstance(verifier, Verifier)
    assert verifier.counters.verdicts == 160
    # The first few begin one by one.
    assert verifier.counters.forwards <= 44


def test_leader_at_the_edge_with_a_far_verifier():
    cluster = Cluster()
    cluster.target(leads=False)
    cluster.leader_node()
    cluster.drafter("drafter", 0.9, leader="leader")
    cluster.world.connect("leader", "target", delay=0.04)
    terms = contract(max_tokens=80, temperature=0.8)
    session = cluster.open(terms, leader="leader")
    cluster.finish(session)
    assert cluster.check(session, terms).stats.rounds < 40


def test_drafters_come_and_go():
    cluster = Cluster()
    cluster.target()
    cluster.drafter("first", 0.9, number=1)
    terms = contract(max_tokens=120)
    session = cluster.open(terms)
    cluster.finish(until=lambda: len(cluster.streams[session]) > 30)
    cluster.drafter("second", 0.9, number=2)
    cluster.world.crash("first")
    cluster.finish(until=lambda: len(cluster.streams[session]) > 70)
    cluster.world.crash("second")
    cluster.finish(session)
    cluster.check(session, terms)
    assert set(cluster.origins[session]) == {0, 1, 2}


def test_another_verifier_takes_over():
    cluster = Cluster()
    cluster.leader_node()
    for name in ("one", "two"):
        cluster.target(name, leads=False)
        cluster.world.connect("leader", name, 0.001)
    cluster.drafter("drafter", 0.8, leader="leader")
    terms = contract(max_tokens=100, temperature=0.8)
    session = cluster.open(terms, leader="leader")
    cluster.finish(until=lambda: len(cluster.streams[session]) > 20)
    cluster.world.crash("one")
    cluster.finish(session)
    cluster.check(session, terms)


def test_a_verifier_that_answers_nothing_is_given_up():
    """Its link is alive, so heartbeats do not help (clause L-8)."""
    cluster = Cluster(leader=LeaderConfig(answer_patience=5.0))
    cluster.leader_node()
    for name in ("one", "two"):
        cluster.target(name, leads=False)
        cluster.world.connect("leader", name, 0.001)
    cluster.world.links[0].intercept = lambda sender, channel, message: (
        [] if isinstance(message, Verdict) and message.round > 5 else [(0.0, message)]
    )
    terms = contract(max_tokens=30)
    session = cluster.open(terms, leader="leader")
    cluster.finish(session)
    cluster.check(session, terms)
    assert 5.0 < cluster.world.now < 8.0


def test_a_stream_goes_on_only_under_the_profile_that_it_began_with():
    """Another profile might say other tokens (clause L-5), so the client gets an error rather than a mixture."""
    cluster = Cluster()
    cluster.leader_node()
    cluster.target("one", leads=False)
    cluster.target("two", leads=False, profile=b"\x02" * 32)
    for name in ("one", "two"):
        cluster.world.connect("leader", name, 0.001)
    session = cluster.open(contract(max_tokens=60), leader="leader")
    cluster.finish(until=lambda: len(cluster.streams[session]) > 20)
    cluster.world.crash("one")
    cluster.finish(session)
    failed = cluster.ends[session]
    assert isinstance(failed, Failed) and failed.code == ErrorCode.VERIFIER_LOST


def test_a_verifier_without_trees_gets_chains():
    cluster = Cluster()
    cluster.leader_node()
    cluster.target("one", leads=False)
    cluster.world.connect("leader", "one", 0.001, features=frozenset({3, 5}))
    cluster.drafter("drafter", 0.8, leader="leader")
    terms = contract(max_tokens=60)
    session = cluster.open(terms, leader="leader")
    cluster.finish(session)
    assert cluster.check(session, terms).stats.rounds < 45
    asked = [message for _, _, kind, message in cluster.world.log if kind == "Verify"]
    assert all(message.parents is None for message in asked) and any(len(message.tokens) > 1 for message in asked)


def test_a_drafter_that_floods_is_cut_off_and_nobody_else():
    cluster = Cluster(leader=LeaderConfig(useless_messages=5))
    cluster.target()
    cluster.drafter("good", 0.9, number=1)
    flooder = cluster.drafter("flood", 0.9, number=2)
    cluster.world.links[-1].intercept = lambda sender, channel, message: (
        [(0.0, message)] * (20 if isinstance(message, Propose) else 1)
    )
    terms = contract(max_tokens=60)
    session = cluster.open(terms)
    cluster.finish(session)
    assert cluster.check(session, terms).stats.rounds < 40
    assert not flooder.sessions
    said = [message for _, name, kind, message in cluster.world.log if kind == "Error"]
    assert [message.clause for message in said] == ["D-19"]


def test_without_any_verifier_left_the_client_gets_an_error_not_an_end():
    cluster = Cluster(leader=LeaderConfig(verifier_patience=3.0))
    cluster.leader_node()
    cluster.target("one", leads=False)
    cluster.world.connect("leader", "one", 0.001)
    terms = contract(max_tokens=100)
    session = cluster.open(terms, leader="leader")
    cluster.finish(until=lambda: len(cluster.streams[session]) > 20)
    cluster.world.crash("one")
    cluster.finish(session)
    failed = cluster.ends[session]
    assert isinstance(failed, Failed) and failed.code == ErrorCode.VERIFIER_LOST
    seen = cluster.streams[session]
    assert tuple(seen) == alone(terms)[: len(seen)]


def test_vocabulary_mismatch_is_refused_with_both_names():
    cluster = Cluster()
    cluster.target()
    session = cluster.open(contract(digest=b"\xee" * 32))
    cluster.finish(session)
    failed = cluster.ends[session]
    assert isinstance(failed, Failed) and failed.code == ErrorCode.VOCABULARY_MISMATCH
    assert "eeeeeeeeeeeeeeee" in failed.text and "0001020304050607" in failed.text and failed.clause == "S-3"


def test_a_drafter_with_another_vocabulary_is_left_out():
    cluster = Cluster()
    cluster.target()
    drafter = cluster.drafter("other", 1.0, digest=b"\xee" * 32)
    terms = contract()
    session = cluster.open(terms)
    cluster.finish(session)
    assert cluster.check(session, terms).stats.drafted == 0
    assert not drafter.sessions


def test_max_drafters_zero_decodes_on_the_target_alone():
    cluster = Cluster()
    cluster.target()
    cluster.drafter("drafter", 1.0)
    terms = contract(max_tokens=20)
    session = cluster.open(terms, drafters=0)
    cluster.finish(session)
    stats = cluster.check(session, terms).stats
    assert (stats.rounds, stats.drafted) == (20, 0)


def test_a_hopeless_drafter_is_released():
    cluster = Cluster(leader=LeaderConfig(hopeless_after=20))
    cluster.target()
    drafter = cluster.drafter("noise", 0.0)
    terms = contract(max_tokens=120)
    session = cluster.open(terms)
    cluster.finish(until=lambda: any(kind == "Detach" for _, _, kind, _ in cluster.world.log))
    assert len(cluster.streams[session]) < 120
    cluster.finish(session)
    cluster.check(session, terms)
    assert not drafter.sessions


def test_a_drafter_whose_proposals_never_fit_is_released():
    """It names prefixes that never were, so it takes part in no round and yet holds a seat (clause D-19)."""
    cluster = Cluster(leader=LeaderConfig(hopeless_after=20))
    cluster.target()
    drafter = cluster.drafter("lost", 1.0)
    cluster.world.links[-1].intercept = lambda sender, channel, message: [
        (0.0, _replace(message, base=b"\xaa" * 16) if isinstance(message, Propose) else message)
    ]
    terms = contract(max_tokens=120)
    session = cluster.open(terms)
    cluster.finish(session)
    assert cluster.check(session, terms).stats.accepted == 0
    assert not drafter.sessions
    assert any(kind == "Detach" and len(cluster.streams[session]) == 120 for _, _, kind, _ in cluster.world.log)


def test_a_run_is_the_same_twice():
    """Nothing in a simulated world comes from outside it: not the clock, not the order of a set."""
    logs = []
    for _ in range(2):
        cluster = Cluster()
        cluster.target()
        for number in (1, 2):
            cluster.drafter(f"drafter{number}", 0.8, number=number)
        cluster.finish(*[cluster.open(contract(max_tokens=60, temperature=0.8, seed=seed)) for seed in (1, 2)])
        logs.append(cluster.world.log)
    assert logs[0] == logs[1]


def test_a_slow_drafter_is_not_waited_for():
    cluster = Cluster()
    cluster.target()
    cluster.drafter("slow", 1.0, step=2.0)
    terms = contract(max_tokens=40)
    session = cluster.open(terms)
    cluster.finish(session)
    cluster.check(session, terms)
    alone_time = 40 * 0.027
    assert cluster.world.now < 1.5 * alone_time + 2.0


def test_when_all_is_over_nobody_holds_a_session():
    cluster = Cluster()
    leader = cluster.target()
    drafter = cluster.drafter("drafter", 0.8)
    session = cluster.open(contract(max_tokens=30))
    cluster.finish(session)
    cluster.world.run()
    assert leader is not None and not leader.sessions and not drafter.sessions
    machine = cluster.world.nodes["target"].machine
    assert not any(getattr(role, "sessions", None) for role in machine.roles.values())
    assert not machine._owner and not machine.links.keys() - {-1, -2, 2, 4}


def test_a_client_that_leaves_frees_everything():
    cluster = Cluster()
    leader = cluster.target()
    drafter = cluster.drafter("drafter", 0.8)
    session = cluster.open(contract(max_tokens=2000))
    cluster.finish(until=lambda: len(cluster.streams[session]) > 20)
    cluster.world.crash("client")
    cluster.world.run()
    assert leader is not None and not leader.sessions and not drafter.sessions


def test_close_ends_the_stream_in_good_order():
    cluster = Cluster()
    cluster.target()
    terms = contract(max_tokens=2000)
    session = cluster.open(terms)
    cluster.finish(until=lambda: len(cluster.streams[session]) > 20)
    node = cluster.world.nodes["client"].machine
    cluster.world.perform("client", node.perform(Role.CLIENT, cluster.clients.close(session), cluster.world.now))
    cluster.finish(session)
    end = cluster.ends[session]
    assert isinstance(end, Completed) and end.finish is Finish.CLOSED
    seen = cluster.streams[session]
    assert tuple(seen) == alone(terms)[: len(seen)]


def test_an_advance_does_not_repeat_what_the_drafter_proposed():
    cluster = Cluster()
    cluster.target()
    cluster.drafter("drafter", 1.0)
    session = cluster.open(contract(max_tokens=200))
    cluster.finish(session)
    advances = [message for _, _, kind, message in cluster.world.log if kind == "Advance"]
    told = sum(len(message.tokens) for message in advances)
    assert sum(message.ref > 0 for message in advances) > len(advances) * 0.8
    assert told < 60


def test_the_draft_plane_reads_as_a_chart():
    """One round with a perfect drafter: who says what, in order."""
    cluster = Cluster(leader=LeaderConfig(width=1, window=4))
    cluster.leader_node()
    cluster.target(leads=False)
    cluster.world.connect("leader", "target", 0.001)
    cluster.drafter("drafter", 1.0, leader="leader")
    session = cluster.open(contract(max_tokens=8), leader="leader")
    cluster.finish(session)
    cluster.world.run()
    chart = [f"{sender}: {kind}" for _, sender, kind, message in cluster.world.log if not isinstance(message, Propose)]
    assert chart[:11] == [
        "client: Open",
        "leader: Assign",
        "leader: Attach",
        "target: Assigned",
        "drafter: Attached",
        "leader: Opened",
        "leader: Verify",
        "target: Verdict",
        "leader: Advance",
        "leader: Verify",
        "leader: Block",
    ]
    assert chart[-4:] == ["leader: Block", "leader: Release", "leader: Detach", "leader: End"]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.data(),
    sampling=st.sampled_from(SAMPLINGS),
    agreement=st.sampled_from([0.5, 0.9, 1.0]),
)
def test_output_does_not_depend_on_what_becomes_of_proposals(data, sampling, agreement):
    """Proposals lost, duplicated, delayed past others (so stale and reordered), or replaced by nonsense."""
    cluster = Cluster(leader=LeaderConfig(credit=16))
    cluster.target()
    for number in (1, 2):
        cluster.drafter(f"drafter{number}", agreement, number=number)

    fate = st.sampled_from(["pass", "pass", "lose", "twice", "late", "very late", "wrong base", "wrong tokens"])

    def intercept(sender: str, channel: int, message: object) -> list[tuple[float, object]]:
        if not isinstance(message, Propose):
            return [(0.0, message)]
        match data.draw(fate):
            case "lose":
                return []
            case "twice":
                return [(0.0, message), (0.004, message)]
            case "late":
                return [(0.02, message)]
            case "very late":
                return [(0.3, message)]
            case "wrong base":
                return [(0.0, _replace(message, base=b"\xaa" * 16))]
            case "wrong tokens":
                return [(0.0, _replace(message, tokens=tuple((t + 1) % 512 for t in message.tokens)))]
        return [(0.0, message)]

    for link in cluster.world.links:
        if link.ends[0][0].startswith("drafter"):
            link.intercept = intercept
    terms = contract(max_tokens=30, **sampling)
    session = cluster.open(terms)
    cluster.finish(session)
    cluster.check(session, terms)


def _replace(message: Propose, **changes: object) -> Propose:
    return dataclasses.replace(message, **changes)
