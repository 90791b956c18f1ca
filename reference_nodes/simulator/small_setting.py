"""What all nodes of an exhaustive exploration have in common: who they are, what they are asked for, who verifies."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Any

from dsdproto.effects import Compute, Computed, Effect, Received, Send
from dsdproto.prefix import PrefixChain
from dsdproto.registry import VERSION, CommitProfile, Method, Role
from dsdproto.roles.leader import Leader, LeaderConfig
from dsdproto.roles.voter import Voter, VoterConfig
from dsdproto.session import chain_of, finish_of
from dsdproto.wire.messages import Assign, Assigned, Contract, Hello, Limits, ModelOffer, Sampling, Verdict, Verify

NODES = 3
NAMES = ("ada", "bob", "cid")
SESSION = bytes(16)
PROMPT = (63,)
END = -1
"""Stands behind the last token of a stream that has ended."""


PAIRS = tuple(combinations(range(NODES), 2))
ROADS = tuple((a, b) for pair in PAIRS for a, b in (pair, pair[::-1]))
ROAD = {road: number for number, road in enumerate(ROADS)}
INTO = tuple(tuple((number, a) for number, (a, b) in enumerate(ROADS) if b == node) for node in range(NODES))
"""by node: the roads that lead to it, and from whom"""
PAIR_OF = tuple(PAIRS.index((min(road), max(road))) for road in ROADS)
DOWN: tuple[int, None] = (0, None)
"""Stands in a queue for the news that the link is lost."""


class Broken(Exception):
    """A state that must not be; ``check`` names the rule."""

    def __init__(self, check: str, text: str) -> None:
        super().__init__(f"{check}: {text}")
        self.check = check
        self.text = text


@dataclass(frozen=True, slots=True)
class Makers:
    """The machines that nodes are made of; a test of the exploration plants a bug in one."""

    leader: type[Leader] = Leader
    voter: type[Voter] = Voter


@dataclass(frozen=True, slots=True)
class Setting:
    """What all nodes of one exploration have in common."""

    contract: Contract
    makers: Makers
    verify_apart: bool
    """a verdict is a step of its own; otherwise it is there at once"""


def contract_for(blocks: int) -> Contract:
    """A stream that ends after this many blocks of one token."""
    return Contract(
        prompt=PROMPT,
        sampling=Sampling(method=int(Method.COUPLED), temperature=0, top_k=0, top_p=65536, seed=0),
        max_tokens=blocks,
        stop_tokens=(),
        vocabulary_size=64,
        vocabulary_digest=bytes(32),
        model="",
        commit_profile=int(CommitProfile.QUORUM),
    )


OFFER = ModelOffer(
    role=int(Role.VERIFIER),
    name="scripted",
    vocabulary_size=64,
    vocabulary_digest=bytes(32),
    max_context=64,
    profile=bytes(32),
    profile_text="",
)


@lru_cache
def hello_of(number: int, models: tuple[ModelOffer, ...] = ()) -> Hello:
    """What a node says of itself; to others it does not show its verifier, so that each leader uses its own."""
    name = NAMES[number] if number < NODES else "client"
    roles = (Role.LEADER, Role.VERIFIER, Role.VOTER) if number < NODES else (Role.CLIENT,)
    return Hello(
        version_min=VERSION,
        version_max=VERSION,
        node_id=name.encode().ljust(32, b"\0"),
        instance=bytes(8),
        roles=tuple(sorted(map(int, roles))),
        cluster=bytes(16),
        features=(),
        limits=Limits(max_payload=1 << 20, max_channels=1024, heartbeat_ms=1000),
        models=models,
        nonce=bytes(16),
        agent="exploration",
    )


GROUP = tuple(hello_of(number).node_id for number in range(NODES))
LEADER_CONFIG = LeaderConfig(group_size=NODES)
VOTER_CONFIG = VoterConfig()


@dataclass(slots=True)
class OnBoard:
    """A verifier that says ``token`` whatever the prefix: at once, or when its work is said to be done."""

    token: int
    apart: bool
    chains: dict[tuple[int, int], PrefixChain] = field(default_factory=dict)
    contract: Contract | None = None

    def handle(self, event: Any, now: float) -> list[Effect]:
        match event:
            case Received(link, channel, Assign() as assign):
                self.contract = assign.contract
                self.chains[(link, channel)] = chain_of(assign.contract, assign.committed)
                answer = Assigned(model="scripted", profile=bytes(32), profile_text="", max_nodes=0, max_context=64)
                return [Send(link, channel, answer)]
            case Received(link, channel, Verify() as verify):
                if self.apart:
                    return [Compute((link, channel, verify.round), None)]
                return self._verdict((link, channel), verify.round)
            case Computed((link, channel, number)):
                return self._verdict((link, channel), number) if (link, channel) in self.chains else []
            case Received(link, channel):  # RELEASE, ERROR
                self.chains.pop((link, channel), None)
        return []

    def _verdict(self, key: tuple[int, int], number: int) -> list[Effect]:
        assert self.contract is not None
        chain = self.chains[key]
        chain.append(self.token)
        finish = finish_of(self.contract, chain, 64)
        verdict = Verdict(
            round=number, accepted=0, token=self.token, digest=chain.short, margin=0, finish=finish and int(finish)
        )
        return [Send(*key, verdict)]
