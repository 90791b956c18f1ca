"""Every state of every role machine meets every message and event: nothing but effects ever comes out.

States are harvested from a real run: copies of the node after events that it handled. To each copy, each sample
message is given on each channel that is open there (and on one that is not); then the node's invariants are checked.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from typing import Any

import pytest
from cluster import Cluster, contract, offer

from dsdproto.effects import Computed, LinkDown, LinkUp, Received, Refuse, TimerFired
from dsdproto.errors import LocalError
from dsdproto.invariants import check_node
from dsdproto.node import NodeMachine
from dsdproto.registry import ErrorCode, Role
from dsdproto.roles.drafter import Drafter
from dsdproto.roles.leader import Leader
from dsdproto.roles.verifier import Verifier
from dsdproto.wire.messages import (
    Advance,
    Assign,
    Assigned,
    Attach,
    Attached,
    Block,
    Close,
    Detach,
    End,
    Error,
    Open,
    Opened,
    Propose,
    Release,
    Verdict,
    Verify,
)

TERMS = contract(max_tokens=12)
SAMPLES: list[Any] = [
    Open(session=b"\x07" * 16, contract=TERMS, max_drafters=2, origins=1),
    Open(session=bytes(16), contract=TERMS, max_drafters=2, origins=1),
    Opened(position=5, model="m", profile=bytes(32), profile_text=""),
    Opened(position=4, model="m", profile=bytes(32), profile_text=""),
    Block(position=5, tokens=(1, 2)),
    Block(position=6, tokens=(511,), origins=b"\x01"),
    Block(position=9, tokens=(600,)),
    End(finish=0, position=5, digest=bytes(32)),
    Close(),
    Attach(session=bytes(16), contract=TERMS, committed=(1,), credit=4, window=2, width=2),
    Attach(session=bytes(16), contract=contract(digest=bytes(32)), committed=(), credit=0, window=1, width=1),
    Attached(model="m"),
    Propose(position=5, base=bytes(16), tokens=(1, 2, 3)),
    Propose(position=6, base=b"\x01" * 16, tokens=(1, 1), parents=b"\x00\x00", scores=b"\x00\xff"),
    Propose(position=5, base=bytes(16), tokens=(9999,)),
    Propose(position=2**32 - 1, base=bytes(16), tokens=tuple(range(255))),
    Advance(position=6, ref=0, tokens=(1,)),
    Advance(position=7, ref=1, tokens=()),
    Advance(position=5, ref=99, tokens=(), credit=0, window=1),
    Advance(position=0, ref=0, tokens=(9999,)),
    Detach(reason=4),
    Assign(session=bytes(16), contract=TERMS, committed=(1, 2)),
    Assign(session=bytes(16), contract=contract(profile=bytes(32)), committed=()),
    Assigned(model="m", profile=bytes(32), profile_text="", max_nodes=3, max_context=64),
    Verify(round=1, position=5, base=bytes(16), tokens=()),
    Verify(round=2, position=6, base=bytes(16), tokens=(1, 1), parents=b"\x00\x00"),
    Verdict(round=1, accepted=0, token=3, digest=bytes(16), margin=0),
    Verdict(round=2, accepted=255, digest=bytes(16), margin=0, finish=0, compute_us=1, rows=1, queue_us=0),
    Release(),
    Error(code=int(ErrorCode.COMPUTE_FAILED), clause="V-8", text="no"),
    Error(code=0x7777, clause="?", text=""),
]


def shape(machine: NodeMachine) -> tuple[Any, ...]:
    """The state without its numbers: two states of one shape differ only in positions and counts."""
    parts: list[Any] = [len(machine.links), sorted(machine._owner.items())]
    for role in machine.roles.values():
        for session in getattr(role, "sessions", {}).values():
            match role:
                case Leader():
                    seat = session.verifier
                    parts.append((session.opened, seat and seat.ready, session.in_flight is None, session.waited))
                    for d in session.drafters.values():
                        parts.append((bool(d.known), d.lag.since is None, d.rounds > 0))
                case Verifier():
                    parts.append((session.pending is None, session.in_job, session.ended, session.cached == 0))
                case Drafter():
                    parts.append((bool(session.tree.nodes), bool(session.tree.unsent), role._job is None))
                case _:
                    parts.append(session.state)
    return tuple(map(str, parts))


def harvest() -> list[tuple[str, NodeMachine, float]]:
    """Copies of every node after the events of a run with two drafters and a far verifier, two of each shape."""
    states: list[tuple[str, NodeMachine, float]] = []
    seen: Counter[tuple[Any, ...]] = Counter()
    cluster = Cluster()
    cluster.leader_node()
    cluster.target(leads=False)
    cluster.world.connect("leader", "target", 0.002)
    cluster.drafter("drafter1", 0.8, leader="leader")
    cluster.drafter("drafter2", 0.5, leader="leader", number=2)

    def keep(node: Any, event: Any) -> None:
        key = (node.name, *shape(node.machine))
        seen[key] += 1
        if seen[key] <= 2:
            states.append((node.name, copy.deepcopy(node.machine), cluster.world.now))

    cluster.world.observe = keep
    session = cluster.open(TERMS, leader="leader")
    cluster.finish(session)
    cluster.check(session, TERMS)
    return states


STATES = harvest()


def places(machine: NodeMachine) -> list[tuple[int, int]]:
    """Channels that are open, and one on each link that is not."""
    fresh = [(link, 1001 + (up.dialer is True)) for link, up in machine.links.items()]
    return sorted(machine._owner) + fresh


@pytest.mark.parametrize("name", ["client", "leader", "target", "drafter1"])
def test_every_state_meets_every_message(name):
    met = refused = 0
    for owner, state, now in STATES:
        if owner != name:
            continue
        for link, channel in places(state):
            for message in SAMPLES:
                node = copy.deepcopy(state)
                effects = node.handle(Received(link, channel, message), now + 0.001)
                check_node(node)
                met += 1
                refused += any(isinstance(effect, Refuse) for effect in effects)
    assert met > 400
    assert refused > met / 20  # nonsense is refused in words, not swallowed


@pytest.mark.parametrize("name", ["client", "leader", "target", "drafter1"])
def test_every_state_survives_every_other_event(name):
    role = {"client": Role.CLIENT, "leader": Role.LEADER, "target": Role.VERIFIER, "drafter1": Role.DRAFTER}[name]
    for owner, state, now in STATES:
        if owner != name:
            continue
        hello = dataclasses.replace(state.hello, models=(offer(Role.DRAFTER, "x"), offer(Role.VERIFIER, "y")))
        events: list[Any] = [LinkUp(77, hello, frozenset(), True), LinkUp(78, hello, frozenset({1, 3, 5}), False)]
        events += [LinkDown(link, "gone") for link in state.links]
        events += [LinkDown(12345, "never was")]
        events += [TimerFired((role, key)) for key in [(2, 1), ("drafts", (2, 1)), ("verifier", (2, 1)), "odd"]]
        for event in events:
            if isinstance(event, TimerFired) and not isinstance(event.key[1], tuple) and role is Role.LEADER:
                continue  # a leader's own timers are pairs; nobody else sets them
            node = copy.deepcopy(state)
            node.handle(event, now + 0.001)
            check_node(node)


@pytest.mark.parametrize("name", ["target", "drafter1"])
def test_a_result_for_no_job_is_our_own_bug_and_says_so(name):
    role = Role.VERIFIER if name == "target" else Role.DRAFTER
    state = next(machine for owner, machine, _ in STATES if owner == name)
    with pytest.raises(LocalError, match="in flight"):
        copy.deepcopy(state).handle(Computed((role, 10_000), None, "late"), 1.0)


@pytest.mark.parametrize("name", ["target", "drafter1"])
def test_a_failed_job_ends_only_the_sessions_in_it(name):
    role = Role.VERIFIER if name == "target" else Role.DRAFTER
    tried = 0
    for owner, state, now in STATES:
        job = getattr(state.roles.get(role), "_job", None) if owner == name else None
        if job is None:
            continue
        number = job[0] if isinstance(job, tuple) else job.number
        node = copy.deepcopy(state)
        effects = node.handle(Computed((role, number), None, "out of memory"), now)
        refused = [effect.error for effect in effects if isinstance(effect, Refuse)]
        assert all(error.code is ErrorCode.COMPUTE_FAILED and "out of memory" in error.text for error in refused)
        assert not node.roles[role].sessions or not refused  # type: ignore[attr-defined]
        check_node(node)
        tried += 1
    assert tried > 1
