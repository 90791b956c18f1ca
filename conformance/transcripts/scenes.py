"""Recorded sessions that go as they should: who takes part, what happens, and whose record is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conformance.transcripts.stage import GREEDY, Stage, alone, contract
from dsdproto.effects import Refuse
from dsdproto.errors import PeerError
from dsdproto.registry import CommitProfile, ErrorCode, Role, Scope
from dsdproto.roles.client import Client, Interrupted
from dsdproto.roles.leader import LeaderConfig


@dataclass(frozen=True)
class Scene:
    """What happened, and the streams of the sessions in it."""

    name: str
    title: str
    stage: Stage
    clients: tuple[Client, ...]
    recorders: tuple[str, ...]
    clauses: str


def four(name: str, *, drafters: int = 1, **options: object) -> Stage:
    """Client, leader, verifier and drafters, each on a node of its own; the leader was dialed by all of them."""
    stage = Stage(name)
    stage.node("leader", Role.LEADER, **options)  # type: ignore[arg-type]
    stage.node("client", Role.CLIENT)
    stage.node("verifier", Role.VERIFIER)
    for n in range(1, drafters + 1):
        stage.node(
            f"drafter{n}", Role.DRAFTER, number=n, agreement=(0.8, 0.6, 0.9)[(n - 1) % 3], expand=0.002 + 0.001 * n
        )
    stage.meet(*((other, "leader") for other in stage.nodes if other != "leader"))
    return stage


def chain_greedy() -> Scene:
    stage = four("chain-greedy", leader=LeaderConfig(credit=8, window=2, width=1))
    client = stage.open(contract(sampling=GREEDY))
    stage.finish(client)
    return Scene(
        "chain-greedy",
        "one drafter, chains, temperature 0",
        stage,
        (client,),
        ("client", "leader", "verifier", "drafter1"),
        "S-PFX-1 D-7 V-4",
    )


def trees_warm() -> Scene:
    stage = four("trees-warm", drafters=3)
    client = stage.open(contract(max_tokens=40))
    stage.finish(client)
    return Scene(
        "trees-warm",
        "three drafters, trees, temperature 0.8",
        stage,
        (client,),
        ("client", "leader", "verifier", "drafter1", "drafter2", "drafter3"),
        "TRIE-1 TRIE-8 TRIE-9 D-7 V-4",
    )


def no_drafters() -> Scene:
    stage = four("no-drafters", drafters=0)
    client = stage.open(contract(max_tokens=6), drafters=0)
    stage.finish(client)
    return Scene("no-drafters", "the target alone", stage, (client,), ("client", "leader", "verifier"), "L-6 S-8 S-10")


def two_sessions() -> Scene:
    stage = four("two-sessions", drafters=2)
    first = stage.open(contract(max_tokens=20))
    second = stage.open(contract(max_tokens=30, prompt=(7, 8, 9, 10), sampling=GREEDY), session=1, origins=False)
    stage.finish(first, second)
    return Scene(
        "two-sessions",
        "two sessions at one time over the same links",
        stage,
        (first, second),
        ("client", "leader", "verifier", "drafter1"),
        "E-3 CH-2 S-13",
    )


def closed_early() -> Scene:
    stage = four("closed-early")
    client = stage.open(contract(max_tokens=200))
    stage.run(lambda: len(client.tokens) >= 9)
    stage.close(client)
    stage.finish(client)
    return Scene(
        "closed-early",
        "the client sends CLOSE in the middle",
        stage,
        (client,),
        ("client", "leader", "verifier", "drafter1"),
        "S-15 CH-4 L-13",
    )


def stop_token() -> Scene:
    stage = four("stop-token")
    plain = Client(session=bytes(16), contract=contract(), max_drafters=0, origins=False)
    stop = alone(plain.contract, 14)[13]
    client = stage.open(contract(max_tokens=200, stop_tokens=(stop,)))
    stage.finish(client)
    return Scene(
        "stop-token",
        "the stream ends with a stop token",
        stage,
        (client,),
        ("client", "leader", "verifier"),
        "S-9 S-SAMP-14",
    )


def drafter_lost() -> Scene:
    stage = four("drafter-lost", drafters=2)
    client = stage.open(contract(max_tokens=30))
    stage.run(lambda: len(client.tokens) >= 8)
    stage.cut(stage.link("leader", "drafter1"))
    stage.finish(client)
    return Scene(
        "drafter-lost",
        "a drafter's link breaks in the middle",
        stage,
        (client,),
        ("leader", "drafter1", "client"),
        "L-6 L-7 TRIE-9",
    )


def plain_features() -> Scene:
    stage = four("plain-features", features=())
    client = stage.open(contract())
    stage.finish(client)
    return Scene(
        "plain-features",
        "a leader without optional features",
        stage,
        (client,),
        ("client", "leader", "drafter1"),
        "C-8 C-10 D-15",
    )


def leader_dials() -> Scene:
    stage = Stage("leader-dials")
    stage.node("leader", Role.LEADER)
    stage.node("client", Role.CLIENT)
    stage.node("worker", Role.VERIFIER, Role.DRAFTER, agreement=0.7)
    stage.meet(("leader", "client"), ("leader", "worker"))
    client = stage.open(contract())
    stage.finish(client)
    return Scene(
        "leader-dials",
        "the leader dialed; drafter and verifier share a node and a link",
        stage,
        (client,),
        ("client", "leader", "worker"),
        "CH-1 CH-2",
    )


def trio(name: str) -> Stage:
    stage = Stage(name)
    for each in ("ada", "bob"):
        stage.node(each, Role.LEADER, Role.VOTER, Role.VERIFIER)
    stage.node("cid", Role.VOTER)
    stage.node("client", Role.CLIENT)
    stage.meet(("ada", "bob"), ("cid", "ada"), ("cid", "bob"), ("client", "ada"), ("client", "bob"), ("client", "cid"))
    return stage


def given_up() -> Scene:
    stage = Stage("given-up")
    for name, role in (("leader", Role.LEADER), ("client", Role.CLIENT), ("verifier", Role.VERIFIER)):
        stage.node(name, role)
    stage.node("drafter1", Role.DRAFTER)
    stage.connect("client", "leader", 0.03)
    stage.meet(("verifier", "leader"), ("drafter1", "leader"))
    client = stage.open(contract(max_tokens=200))
    stage.run(lambda: len(client.tokens) >= 9)
    assert client.at is not None
    error = PeerError(ErrorCode.COMPUTE_FAILED, "S-20", "no more is wanted", scope=Scope.SESSION)
    stage.do(stage.nodes["client"], Role.CLIENT, [Refuse(*client.at, error)])
    stage.settle(0.2)
    title = "the client ends its channel with ERROR; what crosses it is dropped"
    return Scene("given-up", title, stage, (client,), ("client", "leader", "drafter1"), "S-20 CH-4 CH-8")


def heartbeats() -> Scene:
    stage = four("heartbeats", drafters=0)
    stage.idle(2.5)
    client = stage.open(contract(max_tokens=3), drafters=0)
    stage.finish(client)
    return Scene("heartbeats", "PING and PONG, then a session", stage, (client,), ("client", "leader"), "H-1 H-2")


def verifier_lost() -> Scene:
    stage = four("verifier-lost")
    stage.node("spare", Role.VERIFIER)
    stage.meet(("spare", "leader"))
    client = stage.open(contract(max_tokens=30))
    stage.run(lambda: len(client.tokens) >= 8)
    busy = next(name for name in ("verifier", "spare") if len(stage.nodes[name].log) > 10)
    stage.cut(stage.link("leader", busy))
    stage.finish(client)
    recorders = ("client", "leader", "spare" if busy == "verifier" else "verifier")
    return Scene(
        "verifier-lost",
        "the verifier's link breaks, another one goes on",
        stage,
        (client,),
        recorders,
        "L-4 L-5 TRIE-9",
    )


def context_full() -> Scene:
    stage = Stage("context-full")
    stage.node("leader", Role.LEADER)
    stage.node("client", Role.CLIENT)
    stage.node("verifier", Role.VERIFIER, max_context=14)
    stage.node("drafter", Role.DRAFTER, max_context=14)
    stage.meet(*((other, "leader") for other in ("client", "verifier", "drafter")))
    client = stage.open(contract(max_tokens=200))
    stage.finish(client)
    return Scene(
        "context-full",
        "the stream ends because the context is full",
        stage,
        (client,),
        ("client", "leader", "verifier"),
        "S-9 V-5",
    )


def refused() -> Scene:
    stage = four("refused", drafters=0)
    client = stage.open(contract(model="tm-1:v=4096,s=8"))
    stage.finish(client)
    again = stage.open(contract(max_tokens=4), session=1)
    stage.finish(again)
    return Scene(
        "refused",
        "a session that no verifier can serve, then one that goes well",
        stage,
        (client, again),
        ("client", "leader"),
        "L-3 E-3",
    )


def closed_by_vote() -> Scene:
    stage = trio("closed-by-vote")
    client = stage.open(contract(commit_profile=QUORUM, max_tokens=200), leader="ada")
    stage.run(lambda: len(client.tokens) >= 6)
    stage.close(client)
    stage.finish(client)
    return Scene(
        "closed-by-vote",
        "CLOSE under quorum is voted on",
        stage,
        (client,),
        ("client", "ada", "bob", "cid"),
        "Q-38 Q-37",
    )


QUORUM = int(CommitProfile.QUORUM)


def quorum() -> Scene:
    stage = trio("quorum")
    client = stage.open(contract(commit_profile=QUORUM, max_tokens=12), leader="ada")
    stage.finish(client)
    return Scene(
        "quorum",
        "three voters, every block voted on",
        stage,
        (client,),
        ("client", "ada", "bob", "cid"),
        "Q-20 Q-24 Q-39",
    )


def takeover() -> Scene:
    stage = trio("takeover")
    client = stage.open(contract(commit_profile=QUORUM, max_tokens=30), leader="ada")
    stage.run(lambda: len(client.tokens) >= 8)
    stage.kill("ada")
    assert any(isinstance(getattr(item, "item", None), Interrupted) for item in stage.nodes["client"].delivered)
    stage.resume(client, "cid")
    stage.finish(client)
    return Scene(
        "takeover",
        "the leader dies, another takes over, the client resumes at a voter",
        stage,
        (client,),
        ("client", "bob", "cid"),
        "Q-10 Q-17 Q-50 Q-53",
    )


SCENES: tuple[Callable[[], Scene], ...] = (
    chain_greedy,
    trees_warm,
    no_drafters,
    two_sessions,
    closed_early,
    stop_token,
    drafter_lost,
    plain_features,
    leader_dials,
    given_up,
    heartbeats,
    verifier_lost,
    context_full,
    refused,
    quorum,
    takeover,
    closed_by_vote,
)
