"""Every state of voter and leader under `quorum` meets every message and event: nothing but effects ever comes out.

The same idea as tests/test_roles_exhaustive.py, harvested from a run with a founding, a crash of the leader, a takeover
and a client that resumes.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
from cluster import Cluster, contract

from dsdproto.effects import LOCAL_FAR, LOCAL_NEAR, LinkDown, LinkUp, Received, Refuse, TimerFired
from dsdproto.invariants import check_node
from dsdproto.node import NodeMachine
from dsdproto.registry import CommitProfile, DismissReason, ErrorCode, Role
from dsdproto.roles.leader import Leader
from dsdproto.roles.voter import Voter
from dsdproto.session import chain_of
from dsdproto.wire.messages import (
    Assigned,
    Attached,
    Block,
    Close,
    Commit,
    Contract,
    Detach,
    Dismiss,
    End,
    Enlist,
    Enlisted,
    Error,
    Open,
    Opened,
    Prepare,
    Propose,
    Release,
    Resume,
    Verdict,
    Verify,
    Vote,
)

TERMS = contract(max_tokens=12, commit=CommitProfile.QUORUM)
NODES = ("ada", "bob", "cid")
GROUP = b"".join(name.encode().ljust(32, b"\0") for name in NODES)
FIRST = len(TERMS.prompt)
START = chain_of(TERMS).digest
NEXT = chain_of(TERMS, (7,)).digest


def enlist(view: int, terms: Contract = TERMS, group: bytes = GROUP, **more: Any) -> Enlist:
    fields: dict[str, Any] = {
        "session": bytes(16),
        "contract": terms,
        "group": group,
        "view": view,
        "committed": FIRST,
        "model": "m",
        "profile": bytes(32),
    }
    return Enlist(profile_text="", **fields | more)


SAMPLES: list[Any] = [
    enlist(0),
    enlist(1),
    enlist(2),
    enlist(2**32 - 1),
    enlist(1, committed=0),
    enlist(1, committed=2**32 - 1),
    enlist(0, contract(max_tokens=13, commit=CommitProfile.QUORUM)),
    enlist(1, group=GROUP[32:] + GROUP[:32]),
    enlist(0, group=GROUP[:32]),
    enlist(0, session=b"\x09" * 16),
    Enlisted(view=0, height=0, committed=FIRST, position=FIRST, digest=START, tokens=()),
    Enlisted(view=9, height=9, committed=FIRST, position=FIRST + 1, digest=NEXT, tokens=(7,)),
    Enlisted(view=0, height=1, committed=FIRST + 9, position=FIRST, digest=bytes(32), tokens=(7, 600), finish=77),
    Enlisted(view=2**32 - 1, height=2**32 - 1, committed=0, position=0, digest=bytes(32), tokens=()),
    Prepare(view=0, height=1, position=FIRST, base=START, tokens=(7,), digest=NEXT),
    Prepare(view=1, height=99, position=FIRST, base=START, tokens=(7,), digest=NEXT),
    Prepare(view=1, height=99, position=FIRST, base=START, tokens=(), digest=START, finish=6),
    Prepare(view=0, height=2**32 - 1, position=2**32 - 1, base=bytes(32), tokens=(600,), digest=bytes(32), finish=99),
    Prepare(view=0, height=1, position=0, base=bytes(32), tokens=(), digest=bytes(32)),
    Vote(view=0, height=1, digest=NEXT),
    Vote(view=0, height=2, digest=bytes(32)),
    Vote(view=1, height=2**32 - 1, digest=bytes(32)),
    Commit(view=0, height=1, position=FIRST, digest=START),
    Commit(view=1, height=2**32 - 1, position=2**32 - 1, digest=bytes(32)),
    Dismiss(reason=int(DismissReason.SESSION_ENDED)),
    Dismiss(reason=int(DismissReason.RESIGNED)),
    Dismiss(reason=4711),
    Resume(session=bytes(16), position=FIRST, digest=START),
    Resume(session=bytes(16), position=0, digest=bytes(32)),
    Resume(session=bytes(16), position=2**32 - 1, digest=bytes(32)),
    Resume(session=b"\x09" * 16, position=FIRST, digest=START),
    Open(session=bytes(16), contract=TERMS, max_drafters=0, origins=0),
    Open(session=b"\x07" * 16, contract=TERMS, max_drafters=2, origins=1),
    Opened(position=FIRST, model="m", profile=bytes(32), profile_text="", group=GROUP, view=1),
    Block(position=FIRST, tokens=(1, 2)),
    End(finish=0, position=FIRST, digest=bytes(32)),
    Close(),
    Attached(model="m"),
    Propose(position=FIRST, base=bytes(16), tokens=(1, 2)),
    Detach(reason=0),
    Assigned(model="m", profile=bytes(32), profile_text="", max_nodes=3, max_context=64),
    Verify(round=1, position=FIRST, base=bytes(16), tokens=()),
    Verdict(round=1, accepted=0, token=3, digest=bytes(16), margin=0),
    Release(),
    Error(code=int(ErrorCode.VIEW_STALE), clause="Q-13", text="stale"),
    Error(code=int(ErrorCode.LEADER_ALIVE), clause="Q-14", text="alive"),
    Error(code=0x7777, clause="?", text=""),
]


def shape(machine: NodeMachine) -> tuple[Any, ...]:
    """The state without its numbers: two states of one shape differ in positions and counts only."""
    parts: list[Any] = [len(machine.links), sorted(role for role in machine._owner.values())]
    leader, voter = machine.roles[Role.LEADER], machine.roles[Role.VOTER]
    assert isinstance(leader, Leader) and isinstance(voter, Voter)
    for session in leader.sessions.values():
        parts.append((session.opened, session.verifier is None, session.in_flight is None, session.finish))
        ballot = session.ballot
        if ballot is not None:
            parts += [ballot.adopted, ballot.proposed, len(ballot.pending) > 0]
            parts += [(m.key is None, m.report is None, m.waiting is None) for m in ballot.members.values()]
    for seat in voter.seats.values():
        ledger = seat.ledger
        parts.append((seat.leader is None, seat.tries, ledger.empty, ledger.finished, ledger.promised))
    parts += [len(voter.forgotten), len(voter.readers.at)]
    return tuple(map(str, parts))


def harvest() -> list[tuple[str, NodeMachine, float]]:
    """Copies of every member after the events of a run in which the first leader dies, one of each shape."""
    states: list[tuple[str, NodeMachine, float]] = []
    seen: Counter[tuple[Any, ...]] = Counter()
    cluster = Cluster()
    for name in NODES:
        cluster.target(name, votes=True)
    for one, other in (("ada", "bob"), ("ada", "cid"), ("bob", "cid")):
        cluster.world.connect(one, other, cluster.delay)

    def keep(node: Any, event: Any) -> None:
        if node.name in NODES:
            key = (node.name, *shape(node.machine))
            seen[key] += 1
            if seen[key] == 1:
                states.append((node.name, copy.deepcopy(node.machine), cluster.world.now))

    cluster.world.observe = keep
    session = cluster.open(TERMS, leader="ada")
    cluster.finish(until=lambda: len(cluster.streams[session]) >= 4)
    cluster.world.crash("ada")
    cluster.resume(session, "cid")
    cluster.finish(session)
    cluster.check(session, TERMS)
    return states


STATES = harvest()


def places(machine: NodeMachine) -> list[tuple[int, int]]:
    """Channels that are open, one on each link that is not, and both ends of the local link."""
    fresh = [(link, 1001 + (up.dialer is True)) for link, up in machine.links.items()]
    return sorted(machine._owner) + fresh + [(LOCAL_NEAR, 2002), (LOCAL_FAR, 2001)]


@pytest.mark.parametrize("name", NODES)
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
    assert met > 1000
    assert refused > met / 20, "nonsense is refused in words, not swallowed"


@pytest.mark.parametrize("name", NODES)
def test_every_state_survives_every_other_event(name):
    session = bytes(16)
    timers = [(Role.VOTER, (kind, of)) for kind in ("suspect", "forget") for of in (session, b"\x09" * 16)]
    timers += [(Role.LEADER, (kind, session)) for kind in ("commit", "verifier", "answer", "drafts")]
    for owner, state, now in STATES:
        if owner != name:
            continue
        events: list[Any] = [LinkUp(77, state.hello, frozenset(), True), LinkDown(12345, "never was")]
        events += [LinkDown(link, "gone") for link in state.links if link > 0]
        events += [TimerFired(key) for key in timers]
        for event in events:
            for late in (0.001, 1000.0):
                node = copy.deepcopy(state)
                node.handle(event, now + late)
                check_node(node)
